"""ffcv leaves the types of numba alone, which all that is compiled in a process shares."""

import numba
import numpy as np
import pytest

from poolformer.data.ffcv_types import leave_types_alone


@numba.njit
def first(data):
    return data[0]


@numba.njit
def twice(data):
    return first(data) + first(data)


@pytest.mark.slow
@pytest.mark.ffcv
def test_what_is_compiled_before_ffcv_makes_its_types_is_found_after_that():
    ffcv = pytest.importorskip("ffcv.memory_managers.os_cache")
    manager = pytest.importorskip("ffcv.memory_managers.process_cache.manager")
    leave_types_alone()
    data = np.ones(3, np.uint8)
    assert first(data) == 1
    for each in (ffcv.OSCacheManager, manager.ProcessCacheManager):
        types = each.state_type.fget(None)
        assert not types[0].mutable
    assert numba.uint8[::1].mutable
    assert numba.uint64[::1].mutable
    assert twice(data) == 2  # for which numba goes through what `first` is compiled for
