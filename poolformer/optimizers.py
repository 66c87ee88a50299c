"""The optimiser of a run by its name: the paper's AdamW, or any other of timm, with options of its own.

One spelling for the command line, YAML, checkpoints and Python, as for a token mixer: a name, or a mapping
``{name: muon, momentum: 0.95}``. Learning rate and weight decay are the recipe's, whichever optimiser it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from .errors import OptionsError, UnknownNameError, describe, suggestion
from .factory_options import check_names, convert

OptimizerSpec = str | Mapping[str, Any]

ADAMW = "adamw"
"""The paper's, by PyTorch."""
# What the recipe, or where it runs, decides; or what would make no training.
_FROM_RECIPE = ("params", "lr", "weight_decay", "fused", "capturable", "differentiable", "maximize", "adamw_lr")


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimiser that was looked up, with its options checked; call `build` for a network's own.

    Attributes:
        name: As timm calls it.
        options: By name, converted to the types of its signature.
    """

    name: str
    options: dict[str, Any]

    def build(self, groups: Sequence[dict[str, Any]], *, lr: float, fused: bool | None = None) -> Optimizer:
        """Build it for parameters.

        Args:
            groups: Of parameters, as `parameter_groups` makes them, each with its weight decay.
            lr: Learning rate at its peak.
            fused: Whether AdamW runs in one kernel; None is PyTorch's default. Others decide by themselves.

        Raises:
            OptionsError: It cannot be built with its options.
        """
        with self.mistakes_told():
            if self.name == ADAMW:
                return torch.optim.AdamW(groups, lr=lr, fused=fused, **self.options)
            from timm.optim import create_optimizer_v2  # 4 s

            return create_optimizer_v2(groups, opt=self.name, lr=lr, **self.options)

    @contextmanager
    def mistakes_told(self) -> Iterator[None]:
        """Raise what it does not take as an `OptionsError` that says what it was given."""
        try:
            yield
        except Exception as error:  # timm's check little, and in their own ways
            raise OptionsError(
                f"optimizer {self.name!r} does not work with {self.options or 'its defaults'}: {describe(error)[:300]}"
            ) from error


def name_of(spec: OptimizerSpec) -> str:
    """Return the name in a specification.

    Raises:
        OptionsError: It has none.
    """
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if isinstance(name, str) and not name.strip():
        raise OptionsError("--model.optimizer is empty: write the name of one, or leave it out for adamw")
    if not isinstance(name, str):
        raise OptionsError(
            f"an optimizer's mapping needs its name, got {dict(spec) if isinstance(spec, Mapping) else spec!r}; "
            "write --model.optimizer.name NAME beside the options, or {name: NAME, ...} in YAML"
        )
    return name.lower()


def resolve(spec: OptimizerSpec) -> OptimizerChoice:
    """Look up an optimiser and check its options.

    Example:
        >>> resolve({"name": "adamw", "betas": [0.9, 0.95]})
        OptimizerChoice(name='adamw', options={'betas': (0.9, 0.95)})

    Raises:
        OptionsError: The spelling is off, or an option does not fit its signature.
        UnknownNameError: timm has no such optimiser, or it does not work here.
    """
    name = name_of(spec)
    options = {key: value for key, value in spec.items() if key != "name"} if isinstance(spec, Mapping) else {}
    factory = torch.optim.AdamW if name == ADAMW else _of_timm(name)
    if options:
        label = f"optimizer {name!r}"
        decided = {key: f"--model.{key}" for key in ("lr", "weight_decay") if key in options}
        if decided:
            raise OptionsError(
                f"{label} has the recipe's {' and '.join(decided)}: write {' and '.join(decided.values())}"
            )
        hint = " To drop the options of another optimizer, write --model.optimizer NAME."
        check_names(label, factory, options, hidden=_FROM_RECIPE, hint=hint)
        options = convert(label, factory, options, hidden=_FROM_RECIPE)
    choice = OptimizerChoice(name, options)
    if options or name != ADAMW:
        _try_out(choice)
    return choice


def _try_out(choice: OptimizerChoice) -> None:
    """Take a step with the weights of a 1x1 convolution: what it refuses is said before anything is trained."""
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((4, 4, 1, 1), (4,))]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = choice.build([{"params": weights, "weight_decay": 0.0}], lr=1.0)
    with torch.random.fork_rng(devices=[]), choice.mistakes_told():
        optimizer.step()


def _of_timm(name: str) -> Callable[..., Optimizer]:
    """Return the class of one of timm's optimisers.

    Raises:
        UnknownNameError: There is none, or it does not work here.
    """
    from timm import __version__  # 4 s
    from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers

    names = [each for each in list_optimizers() if isinstance(each, str)]
    if name not in names:
        near = suggestion(name, names)
        raise UnknownNameError(
            f"timm {__version__} has no optimizer {name!r}.{near} timm.optim.list_optimizers() lists all {len(names)}."
        )
    if get_optimizer_info(name).second_order:
        raise UnknownNameError(
            f"optimizer {name!r} needs gradients of gradients, which training here does not keep: choose another"
        )
    try:
        return get_optimizer_class(name, bind_defaults=False)
    except (AssertionError, ImportError) as error:  # of NVIDIA's apex and of bitsandbytes
        raise UnknownNameError(f"optimizer {name!r} is not available here: {describe(error)}") from error


def described(optimizer: Optimizer, name: str) -> str:
    """Say in a line what was built.

    Args:
        optimizer: As `OptimizerChoice.build` made it.
        name: That it was asked for by.
    """
    listed = [f"{key} {value}" for key, value in optimizer.defaults.items() if _tells(key, value)]
    return f"Optimizer {name}: {type(optimizer).__name__}{' with ' * bool(listed)}{', '.join(listed)}"


def _tells(key: str, value: Any) -> bool:
    return key not in (*_FROM_RECIPE, "foreach") and isinstance(value, bool | int | float | str | tuple)
