"""Options of a factory: those that it names, those that it passes on, and what no type says."""

import functools
import inspect
from typing import Any

import numpy as np
import pytest

from poolformer.errors import OptionsError
from poolformer.factory_options import check_names, convert, is_comparable, parameters


class Base:
    def __init__(self, dim: int, size: int = 3, *, resolution: tuple[int, int] = (7, 7)):
        self.said = (dim, size, resolution)


class Inherits(Base):
    def __init__(self, dim: int, mean: Any = np.zeros(3), **kwargs: Any):  # noqa: B008
        super().__init__(dim, **kwargs)


def passes_on(dim: int, **kwargs: Any) -> Base:
    return Inherits(dim, **kwargs)


def says_it_itself(dim: int, **kwargs: Any) -> Base:
    return Base(dim, size=5, **kwargs)


def takes_one_out(dim: int, **kwargs: Any) -> Base:
    return Base(dim, 2 * kwargs.pop("half", 2))


class Other:
    def __init__(self, dim: int, size: int = 5):
        self.said = (dim, size)


def of_two(dim: int, deep: bool = False, **kwargs: Any) -> Base | Other:
    if deep:
        return Base(dim, **kwargs)
    return Other(dim, **kwargs)


def drops(dim: int, **kwargs: Any) -> Base:
    return Base(dim)


PASSED_ON = [
    (Base, ["dim", "size", "resolution"]),
    (Inherits, ["dim", "mean", "size", "resolution"]),
    (passes_on, ["dim", "mean", "size", "resolution"]),
    (of_two, ["dim", "deep", "size"]),  # and no resolution, which one does not take
    (says_it_itself, ["dim", "resolution"]),
    (takes_one_out, ["dim", "half"]),
    (drops, ["dim"]),
    (functools.partial(Inherits, mean=None), ["dim", "mean", "size", "resolution"]),
    (functools.partial(Inherits, 8), ["mean", "size", "resolution"]),
    (dict, []),
]


@pytest.mark.parametrize(("factory", "names"), PASSED_ON, ids=range(len(PASSED_ON)))
def test_what_a_factory_passes_on_is_among_its_options(factory, names):
    assert list(parameters(factory)) == names


def test_an_option_that_is_passed_on_has_its_default_and_its_type():
    size = parameters(Inherits)["size"]
    assert (size.default, size.annotation) == (3, int)
    assert convert("it", Inherits, {"size": "5"}) == {"size": 5}
    assert parameters(functools.partial(Inherits, size=9))["size"].default == 9
    with pytest.raises(OptionsError, match=r"^it got \{'size': 'large'\}; .* It takes: dim: int, mean: .*, size: int"):
        convert("it", Inherits, {"size": "large"})
    with pytest.raises(OptionsError, match=r"^it has no option 'sise'\. Did you mean 'size'\?"):
        check_names("it", Inherits, {"sise": 5})
    with pytest.raises(OptionsError, match=r"^it has no option 'size'\."):
        check_names("it", says_it_itself, {"size": 5})


def test_a_default_that_depends_on_what_is_called_is_not_said():
    assert parameters(of_two)["size"].default is inspect.Parameter.empty
    assert convert("it", of_two, {"size": "9"}) == {"size": 9}


def test_an_object_that_is_called_has_what_its_call_names():
    class Called:
        def __call__(self, dim: int, size: int = 3, **kwargs: Any) -> None: ...

    assert list(parameters(Called())) == ["dim", "size"]


def test_an_option_whose_default_is_an_array_takes_any_value():
    assert not is_comparable(np.zeros(3))
    assert convert("it", Inherits, {"mean": [1, 2], "size": "5"}) == {"mean": [1, 2], "size": 5}
