"""Which rows the verdict of a page is about."""

from pathlib import Path

import pytest

from poolformer.judging.outcomes import Outcome
from poolformer.judging.page import Page
from poolformer.judging.protocols import Protocol
from poolformer.judging.rows import Judged


def page(*names: str) -> Page:
    outcomes = [
        Outcome(name, "order 8x8", seed, 0.9 - 0.1 * place + 1e-3 * place * seed, (), 1.0, 10, 100, 50.0)
        for place, name in enumerate(names)
        for seed in (0, 1)
    ]
    return Page(Protocol("own", "probes", Path("own.yaml")), [Judged(name) for name in names], (0, 1), outcomes, {})


@pytest.mark.parametrize(
    ("names", "bases"),
    [
        (("mine", "depthwise", "identity", "pooling"), ["pooling", "identity"]),
        (("pooling", "depthwise", "identity"), ["identity"]),
        (("pooling", "shift", "fourier"), ["shift"]),
        (("mine",), []),
    ],
)
def test_a_verdict_is_about_pooling_and_identity_or_else_the_first_other_row(names, bases):
    assert page(*names).bases == bases
    sentence = page(*names).sentence()
    assert [name for name in names[1:] if f"better than {name} by" in sentence] == [
        name for name in names[1:] if name in bases
    ]
    assert bases or sentence == "Nothing can be said of mine: the protocol has no other row."


def test_every_other_row_is_compared_once():
    assert [one.base for one in page("mine", "depthwise", "identity", "pooling").comparisons()] == [
        "pooling",
        "identity",
        "depthwise",
    ]
