"""A module of a run, rebuilt from a checkpoint for whoever evaluates, exports or looks at it."""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from .checkpoint.outline import Outline
from .checkpoint.reading import read_run
from .checkpoint.record import check_imports, hyper_parameters
from .claims import check_claims
from .errors import CheckpointError, PoolformerError, describe
from .files.shell import quoted

_Module = TypeVar("_Module")


def rebuild(build: Callable[..., _Module], path: str | Path, *, trusted: Collection[str] = ()) -> tuple[_Module, Any]:
    """Build the module that a checkpoint is of, without its weights; return it with what the checkpoint holds.

    Args:
        build: Class of the module.
        path: A checkpoint that a run wrote.
        trusted: Modules outside the registry, ``module:name``, that the checkpoint may have imported.

    Raises:
        CheckpointError: It cannot be read, or its options do not make a module.
        RegistryError: Its backbone or mixer is not available.
    """
    saved = read_run(path)
    options = hyper_parameters(saved)
    check_imports(
        options,
        path=path,
        vouched=trusted,
        remedy=lambda foreign: " ".join(f"--trust {quoted(name)}" for name in foreign),
    )
    known = inspect.signature(build).parameters
    try:
        check_claims(Outline(saved["state_dict"]), options)
        return build(**{name: value for name, value in options.items() if name in known}), saved
    except PoolformerError:
        raise
    except Exception as error:  # a checkpoint is data from anywhere
        raise CheckpointError(f"'{path}': its hyper-parameters do not make a model: {describe(error)[:200]}") from error
