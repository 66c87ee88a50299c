"""ffcv beside other users of numba in one process: its types are made for it, not changed for everybody.

ffcv 1.0.2 marks ``numba.uint8[::1]`` as read-only by an attribute. numba has one such object in a process: its hash
changes, and whatever was compiled for arrays of bytes before, our kernels too, is from then on looked for in vain
(`KeyError` out of numba's dispatcher).
"""

from typing import Any


class _ReadOnlyArrays:
    """Stands for a scalar type of numba in ``uint8[::1]``, whose arrays are then read-only from the start."""

    def __init__(self, scalar: Any):
        self._scalar = scalar

    def __getitem__(self, layout: Any) -> Any:
        return self._scalar[layout].copy(readonly=True)


class _Numba:
    """Stands for the module numba in one of ffcv's."""

    def __init__(self, read_only: tuple[str, ...]):
        self._read_only = read_only

    def __getattr__(self, name: str) -> Any:
        import numba

        value = getattr(numba, name)
        return _ReadOnlyArrays(value) if name in self._read_only else value


def leave_types_alone() -> None:
    """Have ffcv, which is imported here, make read-only types of its own; call it before its `Loader` is used."""
    from ffcv.memory_managers import os_cache
    from ffcv.memory_managers.process_cache import manager

    os_cache.nb = _Numba(("uint8",))
    manager.nb = _Numba(("uint8", "uint32", "uint64"))
