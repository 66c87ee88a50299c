"""Ratios of what ran in the same round, and the figures beside them."""

import math
import random

import pytest
import torch
from torch import nn

from poolformer.bench import measure
from poolformer.bench.measure import Limits

CPU = torch.device("cpu")


def test_every_round_starts_with_another_step(monkeypatch):
    monkeypatch.setattr(measure, "_TURN_S", 0.0)
    calls: list[str] = []
    steps = [lambda name=name: calls.append(name) for name in "abc"]
    times = measure.interleaved(steps, rounds=4, device=CPU)
    assert "".join(calls[-12:]) == "abc" + "bca" + "cab" + "abc"
    assert [len(own) for own in times] == [4, 4, 4]
    assert all(one >= 0 for own in times for one in own)


def test_a_ratio_is_that_of_the_same_round():
    """A machine that became three times slower in the middle of it changes nothing."""
    baseline = [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]
    assert measure.speed_up([one / 2 for one in baseline], baseline) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    # Of the sign test's tables, two-sided, 5 %: the rank that a 95 % interval of the median reaches to from both ends.
    ("rounds", "rank"),
    [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (17, 5), (20, 6), (25, 8)],
)
def test_the_interval_is_that_of_the_sign_test(rounds, rank):
    ratios = [float(one) for one in range(1, rounds + 1)]
    random.Random(0).shuffle(ratios)
    ratio = measure.speed_up([1.0] * rounds, ratios)
    assert ratio == ((rounds + 1) / 2, rank, rounds + 1 - rank)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [6, 7, 9, 16])
def test_95_of_100_intervals_hold_the_true_ratio(rounds):
    draw = random.Random(0)
    held = 0
    for _ in range(1000):
        ratio = measure.speed_up([1.0] * rounds, [draw.lognormvariate(0.0, 0.1) for _ in range(rounds)])
        held += ratio.low <= 1.0 <= ratio.high
    assert held / 1000 > 0.94  # a standard error is 0.006


@pytest.mark.parametrize("rounds", range(1, 6))
def test_few_rounds_have_no_interval(rounds):
    """All of five lie on one side of the true median once in 16 times."""
    assert measure.speed_up([0.5] * rounds, [1.0] * rounds) == (2.0, None, None)


def test_what_a_forward_pass_keeps_is_counted_once_and_without_weights():
    network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.zeros(5, 8)
    # The input of the first layer, and the output of the activation, which both the activation and the second keep.
    assert measure.saved_bytes(lambda: network(images), network) == 4 * (5 * 8 + 5 * 4)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(flops=1e3, bytes=math.inf), 2 * 64 * (3 * 9) * 6 / 1e3 + 2 * 6 * 7 / 1e3),
        (Limits(flops=math.inf, bytes=1e3), 4 * (64 * 3 + 27 * 6 + 64 * 6 + 6 + 42 + 7) / 1e3),
    ],
    ids=["operations", "bytes"],
)
def test_the_limit_is_that_of_convolutions_and_linear_layers(limits, expected):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7)
    )
    assert measure.shortest_s(network, torch.zeros(1, 3, 8, 8), limits) == pytest.approx(expected)
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.slow
def test_limits_are_measured_where_they_are_asked_for():
    found = measure.limits(CPU, torch.float32)
    assert 1e8 < found.flops < 1e14
    assert 1e7 < found.bytes < 1e13
