"""Pipelines as a configuration writes them: operations of ffcv or of anybody by class path, with their options."""

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from poolformer.errors import DataError, suggestion
from poolformer.registry import make_current_directory_importable

from .guards import reason, threads_kept, told

with threads_kept():
    from ffcv import transforms
    from ffcv.fields import decoders
    from ffcv.pipeline.operation import Operation

EVAL_RATIO = 224 / 256
"""Share of the short side that ffcv-imagenet's evaluation keeps."""

_OF_FFCV = (transforms, decoders)
_DECODERS = tuple(getattr(decoders, name) for name in decoders.__all__)


def stock_image(image_size: int, *, training: bool) -> list[Operation]:
    """Return the pipeline of images that ffcv-imagenet has, up to where the model goes on: uint8 (B, 3, H, W)."""
    size = (image_size, image_size)
    if training:
        start = [decoders.RandomResizedCropRGBImageDecoder(size), transforms.RandomHorizontalFlip()]
    else:
        start = [decoders.CenterCropRGBImageDecoder(size, ratio=EVAL_RATIO)]
    return [*start, transforms.ToTensor(), transforms.ToTorchImage()]


def stock_label() -> list[Operation]:
    """Return the pipeline of labels that ffcv-imagenet has; a last batch of one keeps its shape (1,)."""
    return [decoders.IntDecoder(), transforms.ToTensor(), transforms.Squeeze(1)]


def built(written: Any, place: str) -> list[Operation | torch.nn.Module]:
    """Build the operations of a pipeline, new ones each time: ffcv changes those that it is given.

    Args:
        written: A list of class paths, mappings of ``class_path`` and ``init_args``, or operations.
        place: The option, for messages.

    Raises:
        DataError: One is not found, is no operation, or does not take its options.
    """
    if not isinstance(written, Sequence) or isinstance(written, str):
        raise DataError(f"{place} is {written!r}, and should be a list of operations, or null to leave the field out")
    if not written:
        raise DataError(f"{place} is empty: name its operations, or leave it out to have those of ffcv-imagenet")
    operations = [_operation(each, f"{place}, operation {number}") for number, each in enumerate(written, start=1)]
    for operation in operations:
        _check_device(operation, place)
    return operations


def check_decoders(operations: Sequence[Any], decoder: type[Operation], place: str) -> None:
    """Refuse decoders of other fields, and such as do not stand first: ffcv would put the stock one before them.

    Args:
        operations: Of one field.
        decoder: The class of operations that decodes it.
        place: The option, for messages.

    Raises:
        DataError: There is one.
    """
    for number, operation in enumerate(operations, start=1):
        is_its_own = isinstance(operation, decoder)
        if isinstance(operation, (*_DECODERS, decoder)) and not (is_its_own and number == 1):
            other = f"does not decode this field, which takes {decoder.__name__}"
            why = "is a decoder, which stands first" if is_its_own else other
            raise DataError(f"{place}, operation {number}: {type(operation).__name__} {why}")


def _operation(written: Any, place: str) -> Any:
    if isinstance(written, Operation | torch.nn.Module):
        return copy.deepcopy(written)
    entry = {"class_path": written} if isinstance(written, str) else written
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
        raise DataError(f"{place} is {written!r}, and should be a class path, or class_path and init_args")
    if unknown := sorted(set(entry) - {"class_path", "init_args"}):
        raise DataError(f"{place} has {unknown[0]!r} beside class_path: options stand in init_args")
    return _build(_found(entry["class_path"], place), entry.get("init_args") or {}, place)


def _found(path: str, place: str) -> Callable[..., Any]:
    module_name, _, name = path.rpartition(".")
    make_current_directory_importable()
    try:
        homes = [importlib.import_module(module_name)] if module_name else list(_OF_FFCV)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may do anything when imported, even exit
        raise DataError(f"{place}: '{path}' cannot be imported: {reason(error)}") from error
    found = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
    if found is None:
        known = [each for home in homes for each, value in vars(home).items() if _is_operation(value)]
        where = f"'{module_name}'" if module_name else "ffcv; others are written module.Class"
        raise DataError(f"{place}: there is no operation '{name}' in {where}.{suggestion(name, known)}")
    if not _is_operation(found):
        raise DataError(f"{place}: '{path}' is no operation, a class of ffcv's Operation or torch's Module")
    return found


def _is_operation(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Operation | torch.nn.Module)


def _build(kind: Callable[..., Any], options: Any, place: str) -> Any:
    name = kind.__name__
    if not isinstance(options, Mapping):
        raise DataError(f"{place}: init_args of {name} are {options!r}, and should be options by name")
    with told(f"{place}: {name}"):
        parameters = inspect.signature(kind).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        for option in options:
            if option not in parameters:
                takes = f"It takes {', '.join(parameters)}." if parameters else "It takes none."
                near = suggestion(str(option), list(parameters))
                raise DataError(f"{place}: {name} has no option '{option}'.{near} {takes}")
    missing = [
        option
        for option, each in parameters.items()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if left_out := [option for option in missing if option not in options]:
        raise DataError(f"{place}: {name} needs {', '.join(left_out)}: add them to its init_args")
    with told(f"{place}: {name} cannot be built"):
        named = {option: _value(value, parameters.get(option), place) for option, value in options.items()}
        several = [each.name for each in parameters.values() if each.kind is each.VAR_POSITIONAL]
        positional = [named.pop(option) for option in several if option in named]
        # Squeeze(*dims), written as dims: [1]
        return kind(*(positional[0] if positional and isinstance(positional[0], tuple) else positional), **named)


def _value(value: Any, parameter: inspect.Parameter | None, place: str) -> Any:
    """Return an option as the operation expects it: YAML has no tuples, arrays, types and devices."""
    kind = parameter.annotation if parameter else None
    if isinstance(value, Mapping) and "class_path" in value:
        return _operation(value, place)
    if kind is np.ndarray:
        return np.array(value)
    if kind is torch.device or (parameter and parameter.name == "device"):
        return torch.device(value)
    if kind is np.dtype:
        return np.dtype(value)
    if isinstance(value, str) and value.partition(".")[0] in ("torch", "np", "numpy"):
        home, _, name = value.partition(".")
        found = getattr(torch if home == "torch" else np, name)
        return found if isinstance(found, torch.dtype) else np.dtype(found)
    return tuple(_value(each, None, place) for each in value) if isinstance(value, list | tuple) else value


def _check_device(operation: Any, place: str) -> None:
    if not isinstance(operation, transforms.ToDevice):
        return
    device = torch.device(operation.device)
    operation.device = device  # of a text ffcv asks for its type
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DataError(f"{place}: ToDevice('{device}'), but there is no GPU: leave it out, batches are moved anyway")
