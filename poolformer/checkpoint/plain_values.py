"""What a checkpoint may hold: values that are read back without running code, and that are as many as they look.

Both ways: `made_plain` before it is written, so that nothing in it makes it unreadable, and `check_extent` after it was
read, so that a few bytes do not stand for billions of values.
"""

import io
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_DEPTH = 100
"""Of nested containers: Python, Lightning and PyTorch walk them by recursion."""
_FREE_VALUES, _REPEATS = 2_000_000, 10
_LEAVES = {bool, float, complex, str, bytes, bytearray, type(None), torch.Size, torch.dtype, torch.device}
_SIMPLE = _LEAVES | {int, Tensor, torch.nn.Parameter} - {torch.Size}  # hold no other values; asked first, for speed
_TENSORS = (Tensor, torch.nn.Parameter)
_CONTAINERS = (Mapping, list, tuple, set, frozenset, deque)
_EXACT: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__int__, float: float.__float__, bytes: bytes}
_MAX_BITS = 2000  # of a whole number: a longer one is written in a way that PyTorch does not read as data


class NotPlainError(Exception):
    """A value that could not be read back as data.

    Attributes:
        place: The keys and indices that lead to it.
        what: What it is, in words.
    """

    def __init__(self, place: tuple[Any, ...], what: str):
        super().__init__(f"{what} at {place}")
        self.place, self.what = place, what


def made_plain(value: Any, place: tuple[Any, ...] = (), *, replaced: dict[tuple[Any, ...], str] | None = None) -> Any:
    """Return a value with everything in it that only Python code could restore replaced by its data.

    Numbers of NumPy become Python's, its arrays tensors, paths texts, subclasses what they are made of: a defaultdict a
    dict, a deque a list, a named tuple a tuple. What is plain already is returned as it is, not copied.

    Args:
        value: Whatever a checkpoint is to hold.
        place: The keys that lead to it, for the message.
        replaced: Where to note what was replaced, by place.

    Raises:
        NotPlainError: A value has no such data, such as a date, a function or an object of a class; or it holds itself.
    """
    return _Plain({} if replaced is None else replaced).of(value, place)


def without_weights(value: Any) -> Any:
    """Return a plain value with an empty tensor in place of each: what is left takes no time to write."""
    empty = torch.empty(0)
    return _Plain({}, tensor=lambda tensor: empty).of(value, ())


class _Plain:
    def __init__(
        self, replaced: dict[tuple[Any, ...], str], tensor: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ):
        self.replaced, self.tensor = replaced, tensor
        self._done: dict[int, tuple[Any, Any]] = {}  # with what they were made of, so that its id stays its own
        self._open: set[int] = set()

    def of(self, value: Any, place: tuple[Any, ...]) -> Any:
        kind = type(value)
        if kind in _LEAVES or (kind is int and value.bit_length() <= _MAX_BITS):
            return value
        if kind in _TENSORS:
            return self.tensor(value)
        if id(value) not in self._done:
            if id(value) in self._open or len(self._open) > MAX_DEPTH:
                raise NotPlainError(
                    place, f"{_with_article(kind.__name__)} that holds itself, or too many within each other"
                )
            self._open.add(id(value))
            self._done[id(value)] = value, self._container_or_leaf(value, place)
            self._open.discard(id(value))
        return self._done[id(value)][1]

    def _container_or_leaf(self, value: Any, place: tuple[Any, ...]) -> Any:
        if not isinstance(value, _CONTAINERS):
            plain = self._leaf(value, place)
        elif isinstance(value, Mapping):
            plain = self._mapping(value, place)
        else:
            items = [
                each if type(each) in _LEAVES else self.of(each, (*place, index)) for index, each in enumerate(value)
            ]
            plain = _sequence_type(value)(items)
            if type(plain) is type(value) and all(one is other for one, other in zip(items, value, strict=True)):
                return value
        if type(plain) is not type(value):
            self.replaced[place] = _name(type(value))
        return plain

    def _mapping(self, value: Mapping[Any, Any], place: tuple[Any, ...]) -> Any:
        items = [(self.of(key, (*place, key)), self.of(each, (*place, key))) for key, each in value.items()]
        pairs = zip(items, value.items(), strict=True)
        plain: dict[Any, Any]
        if isinstance(value, dict) and type(value) in (dict, OrderedDict, Counter):
            if all(one[0] is other[0] and one[1] is other[1] for one, other in pairs):
                return value
            plain = type(value)(dict(items))
        else:
            plain = dict(items)
        if len(plain) < len(items):
            raise NotPlainError(place, "a mapping with keys that become one: a path and its string, or the like")
        return plain

    def _leaf(self, value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
            return self.of(value.item(), place)
        if isinstance(value, np.ndarray):
            return self._array(value, place)
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, Tensor):  # PyTorch's own kinds, as of sharded weights, are its own affair
            known = type(value).__module__.startswith("torch.")
            return self.tensor(value if known else value.as_subclass(Tensor))
        for base, exact in _EXACT.items():
            if isinstance(value, base) and type(value) is not base:  # of a subclass; an Enum of texts is one
                return exact(value)
        if not _reads_back(value):
            raise NotPlainError(place, _in_words(value))
        return value

    def _array(self, value: np.ndarray, place: tuple[Any, ...]) -> Any:
        if value.dtype.kind not in "biufc":
            return self.of(value.tolist(), place)
        try:
            native = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
            return self.tensor(torch.from_numpy(native.reshape(value.shape).copy()))
        except TypeError:
            raise NotPlainError(place, f"an array of {value.dtype}") from None


def _sequence_type(value: Any) -> type:
    if isinstance(value, tuple):
        return tuple
    return set if isinstance(value, set | frozenset) else list


def _reads_back(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # classes of strangers make errors of any kind
        return False
    return True


def _in_words(value: Any) -> str:
    if isinstance(value, int):
        return "an integer of more than 600 digits"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{'the class' if isinstance(value, type) else 'the function'} {value.__qualname__}"
    return _with_article(_name(type(value)))


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def extent(value: Any) -> tuple[int, int]:
    """Return how many values nested containers stand for, and how many they hold.

    The two differ where one object is met in several places, each time with all that is in it: a list of twice the list
    before it, forty times over, holds eighty and stands for a billion. Each object is looked into once.

    Raises:
        RecursionError: They hold themselves, or are nested too deeply.
    """
    stands_for: dict[int, int] = {}
    depths: dict[int, int] = {}
    todo, begun, holds = [value], set(), 0
    while todo:
        one = todo[-1]
        if id(one) in stands_for:
            todo.pop()
            continue
        count, nested = _inside(one)
        if id(one) in begun:  # what is in it has been counted meanwhile
            begun.discard(id(one))
            stands_for[id(one)] = 1 + count + sum(stands_for[id(each)] for each in nested)
            depths[id(one)] = 1 + max((depths[id(each)] for each in nested), default=0)
            holds += 1 + count + len(nested)
            if depths[id(one)] > MAX_DEPTH:
                raise RecursionError
            continue
        begun.add(id(one))
        if any(id(each) in begun for each in nested):
            raise RecursionError
        todo += nested
    return stands_for[id(value)], holds


def _inside(one: Any) -> tuple[int, list[Any]]:
    """Return how many values a container holds that hold nothing, and the containers in it."""
    if not isinstance(one, _CONTAINERS):
        return 0, []
    values = [*one.keys(), *one.values()] if isinstance(one, Mapping) else list(one)
    nested = [each for each in values if type(each) not in _SIMPLE and isinstance(each, _CONTAINERS)]
    return len(values) - len(nested), nested


def is_bounded(value: Any) -> bool:
    """Return whether a value that was read may be walked: it is finite, and about as much as its file holds.

    However long its lists are, data that a run gathered is bounded.
    """
    try:
        stands_for, holds = extent(value)
    except RecursionError:
        return False
    return stands_for <= _FREE_VALUES + _REPEATS * holds


def said_of(error: NotPlainError, adder: str = "") -> str:
    """Say who put a value into a checkpoint that could not be read back from there, and under which key.

    Args:
        error: With the place in a checkpoint of Lightning's.
        adder: Who adds that entry in ``on_save_checkpoint``, where it is known.
    """
    part, *keys = error.place
    holder = f"the checkpoint's entry {str(part)[:80]!r}{f', of {adder},' if adder else ''} holds"
    if part == "callbacks" and keys:
        holder, keys = f"callback {_class_of(keys[0])} keeps", keys[1:]
    elif part in _HOLDERS:
        holder = _HOLDERS[part]
    place = f" as {keys[0]!r}{''.join(f'[{key!r}]' for key in keys[1:])}"[:200] if keys else ""
    return (
        f"{holder} {error.what}{place}, which could not be read back from a checkpoint: "
        "keep a number, a string, a list or a tensor in its place"
    )


_HOLDERS = {
    "hyper_parameters": "the model's hyper-parameters hold",
    "datamodule_hyper_parameters": "the data module's hyper-parameters hold",
    "loops": "the state of the loops and loaders holds",
    "state_dict": "the model's state_dict holds",
    "optimizer_states": "the state of the optimisers holds",
    "lr_schedulers": "the state of the learning rate's schedulers holds",
}
OF_LIGHTNING = {"callbacks", *_HOLDERS}
"""Entries of a checkpoint whose holder is known by their name."""


def _class_of(state_key: Any) -> str:
    return str(state_key).partition("{")[0][:80]
