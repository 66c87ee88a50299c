"""A cell of the profile is repeatable, and a mixer that does not work is told before it is trained."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from poolformer.errors import PoolformerError
from poolformer.judging.probe import ProbeNetwork, ProbeSettings, _score, check_mixer_works, run_cell
from poolformer.judging.tasks import TASKS
from poolformer.network.mixer_spec import resolve

TINY = ProbeSettings(steps=4, batch_size=8, dim=8, depth=2, test_maps=64, evaluations=2)


def test_a_cell_is_the_same_each_time_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    one, other = (run_cell("random_matrix", "order", 6, 1, TINY) for _ in range(2))
    assert [point[::2] for point in one.curve] == [point[::2] for point in other.curve]
    assert [point[0] for point in one.curve] == [16, 32]
    assert one.score == one.curve[-1][2]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_an_unknown_task_is_told_with_those_there_are():
    with pytest.raises(PoolformerError, match=r"there is no task 'ordr'\. Did you mean 'order'"):
        run_cell("pooling", "ordr", 6, 0, TINY)


@pytest.mark.parametrize(("mixer", "sees_places"), [("identity", False), ("attention", False), ("depthwise", True)])
def test_rows_that_answer_by_counts_of_symbols_alone_do_not_see_where_they_stand(mixer, sees_places):
    torch.manual_seed(0)
    network = ProbeNetwork(resolve(mixer), 6, 7, TINY, TASKS["copy near"].asked_of).eval()
    symbols = torch.from_numpy(TASKS["copy near"].draw(np.random.default_rng(0), 16, 6)[0]).long()
    elsewhere = symbols.flatten(1)[:, torch.randperm(36)].unflatten(1, (6, 6))
    assert torch.allclose(network(symbols), network(elsewhere), atol=1e-5) != sees_places


def test_a_dense_task_is_scored_by_place():
    network = ProbeNetwork(resolve("identity"), 6, 2, TINY, dense=True)
    symbols, labels = (torch.from_numpy(each) for each in TASKS["find"].draw(np.random.default_rng(0), 8, 6))
    assert network(symbols.int()).shape == (8, 2, 6, 6)
    by_place = torch.nn.functional.one_hot(labels.clamp(min=0), 2).permute(0, 3, 1, 2).double()
    half = by_place.clone()
    half[:4] = 1 - half[:4]
    for logits, score in ((by_place, 1.0), (1 - by_place, 0.0), (half, 0.5)):
        assert _score(Fixed(logits), symbols, labels) == score
    assert 0.3 < run_cell("identity", "find", 6, 0, TINY).score < 0.7


class Fixed(nn.Module):
    """Network that answers one batch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, symbols):
        return self.logits


@pytest.mark.parametrize(("mixer", "reach"), [("identity", 0), ("pooling", 2), ("depthwise", 2), ("attention", 7)])
def test_what_asks_for_a_letter_is_seen_as_far_as_two_blocks_reach(mixer, reach):
    torch.manual_seed(0)
    network = ProbeNetwork(resolve(mixer), 8, 2, TINY, dense=True).eval().double()
    symbols = torch.randint(1, 3, (1, 8, 8))
    symbols[0, 0, 0] = 3
    other = symbols.clone()
    other[0, 0, 0] = 4
    _, rows, columns = (network(symbols) - network(other)).abs().amax(1).nonzero(as_tuple=True)
    assert max(rows.max(), columns.max()) == reach


class Wrong(nn.Module):
    """Token mixer with a fault of the test's choice."""

    def __init__(self, dim, fault="shape", resolution=(6, 6)):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, 1, 1))
        self.fault, self.resolution = fault, resolution

    def forward(self, x):
        if self.fault == "shape":
            return x[..., :1]
        if self.fault == "raises" and self.training:
            raise RuntimeError("no such kernel")
        if self.fault == "exits" and self.training:
            sys.exit(0)
        if self.fault == "one number a channel" and self.training:
            return (x * self.weight).mean((2, 3), keepdim=True)
        if self.fault == "other type when evaluated" and not self.training and len(x) > 1:
            return (x * self.weight).double()
        if self.fault == "gradient":
            return x * self.weight.detach()
        if self.fault == "nan gradient":
            return x * (self.weight - 1).sqrt()
        if self.fault == "side" and self.resolution == (8, 8):
            raise RuntimeError("too many tokens")
        return x * self.weight * (float("nan") if self.fault == "nan" else 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("shape", "must keep the shape"),
        ("raises", "fails on 6 x 6 tokens: .*no such kernel"),
        ("exits", "fails on 6 x 6 tokens: SystemExit: 0"),
        ("one number a channel", r"but in training made \(\(4, \d+, 1, 1\), torch.float32\) of \(\(4, \d+, 6, 6\)"),
        ("other type when evaluated", r"but in evaluation made .*float64"),
        ("nan", "values that are not finite"),
        ("gradient", "no gradient reaches '0.token_mixer.weight'"),
        ("nan gradient", "not finite"),
    ],
)
def test_a_mixer_that_does_not_work_is_told_before_it_is_trained(fault, told):
    with pytest.raises(PoolformerError, match=told):
        check_mixer_works(lambda dim, resolution: Wrong(dim, fault, resolution), TINY)


def test_a_mixer_that_fails_at_one_side_is_told_of_that_side_alone():
    def sided(dim, resolution):
        return Wrong(dim, "side", resolution)

    failures = check_mixer_works(sided, TINY)
    assert list(failures) == [8]
    assert "too many tokens" in failures[8]
    assert run_cell(sided, "order", 6, 0, TINY).parameters > 0
    with pytest.raises(PoolformerError, match="too many tokens"):
        run_cell(sided, "order", 8, 0, TINY)


def test_sides_that_are_not_asked_for_are_not_tried():
    def sided(dim, resolution):
        return Wrong(dim, "side", resolution)

    assert check_mixer_works(sided, TINY, [6, 12]) == {}
    with pytest.raises(PoolformerError, match="too many tokens"):
        check_mixer_works(sided, TINY, [8])


def test_a_factory_that_takes_another_dim_is_told_with_the_dim_it_got():
    with pytest.raises(PoolformerError, match=r"dim=8.*64 channels alone"):
        check_mixer_works(for_64_channels, TINY)


def for_64_channels(dim):
    if dim != 64:
        raise ValueError("made for 64 channels alone")
    return nn.Identity()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["order", "find", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("copy near", "same"))]
)
def test_a_task_is_solved_by_the_row_that_it_names_and_by_no_row_that_it_excludes(name):
    task = TASKS[name]
    assert run_cell(task.solved_by[0], name, task.sides[-1], 7).score >= task.solved
    for row in task.unsolved_by[::2]:
        assert run_cell(row, name, task.sides[-1], 7).score <= (task.chance + task.solved) / 2
