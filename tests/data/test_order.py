"""Which samples a process sees in which batch: none twice, none missed, the same after a restart."""

import itertools

import pytest

from poolformer.data.order import Order
from poolformer.data.pixels.keyed import shuffled
from poolformer.draws import StepPart
from poolformer.errors import DataError


def batches(order: Order) -> list[list[int]]:
    return [order.batch_indices(batch) for batch in range(order.begin(), len(order))]


@pytest.mark.parametrize(("samples", "size", "world"), [(21, 4, 1), (21, 4, 2), (22, 5, 3), (3, 8, 3)])
def test_evaluation_gives_each_sample_to_one_rank_and_all_ranks_equally_many_batches(samples, size, world):
    ranks = [Order(samples, batch_size=size, rank=rank, world=world) for rank in range(world)]
    assert sorted(n for rank in ranks for batch in batches(rank) for n in batch) == list(range(samples))
    assert len({len(batches(rank)) for rank in ranks}) == 1
    assert max(len(batch) for rank in ranks for batch in batches(rank)) <= size + 1


@pytest.mark.parametrize("world", [1, 2])
def test_training_has_whole_batches_in_an_order_of_its_epoch(world):
    ranks = [Order(21, batch_size=4, shuffle=True, seed=3, rank=rank, world=world) for rank in range(world)]
    seen = []
    for epoch in (0, 1):
        for rank in ranks:
            rank.set_epoch(epoch)
        shown = [n for rank in ranks for batch in batches(rank) for n in batch]
        assert len(shown) == len({*shown}) == 21 // world // 4 * 4 * world
        seen.append(shown)
    assert seen[0] != seen[1]


def test_a_seed_is_an_order_and_every_epoch_may_have_the_first_one():
    first, again, other = (Order(50, batch_size=5, shuffle=True, seed=seed) for seed in (1, 1, 2))
    assert batches(first) == batches(again) != batches(other)
    again.repeats = True
    again.set_epoch(7)
    assert batches(again) == batches(first)


def test_an_order_is_made_once_an_epoch(monkeypatch):
    made = []
    monkeypatch.setattr(
        "poolformer.data.order.shuffled", lambda count, **key: made.append(key) or shuffled(count, **key)
    )
    order = Order(20, batch_size=4, shuffle=True)
    for epoch in (0, 1):
        order.set_epoch(epoch)
        assert len(batches(order)) == 5
    assert made == [{"seed": 0, "epoch": 0}, {"seed": 0, "epoch": 1}]
    order.load_state_dict({"epoch": 1, "batch": 2, "samples": 12})
    assert sum(map(len, batches(order))) == 8


def test_an_iteration_goes_on_after_the_last_batch_once():
    order = Order(20, batch_size=4, shuffle=True)
    whole = batches(order)
    order.load_state_dict({"epoch": 0, "batch": 2})
    assert order.state_dict() == {"epoch": 0, "batch": 2, "samples": 8}
    assert batches(order) == whole[2:]
    assert batches(order) == whole


@pytest.mark.parametrize("state", [{"epoch": 0, "batch": 5}, {"epoch": 1, "batch": 2}])
def test_a_finished_or_another_epoch_begins_with_its_first_batch(state):
    order = Order(20, batch_size=4)
    order.load_state_dict(state)
    order.set_epoch(state["epoch"] + (state["batch"] == 2))
    assert order.begin() == 0


def test_fewer_samples_than_devices_are_refused():
    for shuffle, purpose in itertools.product((True,), ("train on",)):
        with pytest.raises(DataError, match=f"3 images to {purpose} for 4 devices"):
            Order(3, batch_size=1, shuffle=shuffle, world=4)
    with pytest.raises(DataError, match="3 images to evaluate for 4 devices"):
        Order(3, batch_size=1, world=4)


def _stopped(samples: int, *, world: int, batch_size: int, steps: int) -> tuple[list[int], dict[str, int]]:
    """Samples that all ranks have seen in an epoch after some steps, and what a checkpoint keeps of it."""
    ranks = [Order(samples, batch_size=batch_size, shuffle=True, seed=3, rank=r, world=world) for r in range(world)]
    for order in ranks:
        order.set_epoch(2)
        order.begin()
        order._done = steps
    return [sample for order in ranks for batch in range(steps) for sample in order.batch_indices(batch)], ranks[
        0
    ].state_dict()


def _rest(
    samples: int, state: dict[str, int], *, world: int, batch_size: int, steps: int | None = None
) -> tuple[list[int], dict]:
    seen, states = [], []
    for rank in range(world):
        order = Order(samples, batch_size=batch_size, shuffle=True, seed=3, rank=rank, world=world)
        order.load_state_dict(state)
        order.set_epoch(2)
        first = order.begin()
        last = len(order) if steps is None else first + steps
        assert first == state["batch"]
        seen += [sample for batch in range(first, last) for sample in order.batch_indices(batch)]
        order._done = last
        states.append(order.state_dict())
        order.set_epoch(3)
        assert len(order) == samples // (world * batch_size)  # the next epoch is a whole one
    assert all(each == states[0] for each in states)
    return seen, states[0]


@pytest.mark.parametrize(("world", "batch_size"), [(4, 16), (2, 16), (8, 16), (1, 64), (3, 7), (1, 1000)])
def test_an_epoch_is_resumed_by_other_processes_with_each_sample_once(world, batch_size):
    before, state = _stopped(1000, world=4, batch_size=16, steps=5)
    after, _ = _rest(1000, state, world=world, batch_size=batch_size)
    together = before + after
    assert len(set(together)) == len(together)
    assert 1000 - len(together) < world * batch_size


def test_an_epoch_may_change_hands_more_than_once():
    before, state = _stopped(1000, world=4, batch_size=16, steps=5)
    between, state = _rest(1000, state, world=1, batch_size=32, steps=3)
    after, _ = _rest(1000, state, world=4, batch_size=16)
    together = before + between + after
    assert len(before) + len(between) == 5 * 64 + 3 * 32
    assert len(set(together)) == len(together) > 1000 - 64


@pytest.mark.parametrize(("world", "accumulated"), [(1, 1), (2, 1), (1, 2), (4, 2), (2, 4)])
def test_a_step_has_the_same_images_however_it_is_dealt(world, accumulated):
    """And the images that mixup would mix, a batch and its reverse, are the same."""

    def steps(world: int, accumulated: int) -> list[set[frozenset[int]]]:
        size, pairs = 512 // world // accumulated, []
        ranks = [Order(2500, batch_size=size, shuffle=True, rank=rank, world=world) for rank in range(world)]
        for order in ranks:
            order.accumulated = accumulated
            assert len(order) == 2500 // 512 * accumulated
        for step in range(2500 // 512):
            pairs.append(set())
            for order, batch in itertools.product(ranks, range(step * accumulated, (step + 1) * accumulated)):
                images = order.batch_indices(batch)
                for _, rows in StepPart(
                    size, order.rank + world * (batch % accumulated), world * accumulated
                ).mixed_together:
                    pairs[-1] |= {frozenset(pair) for pair in zip(images[rows], images[rows][::-1], strict=True)}
        return pairs

    assert steps(world, accumulated) == steps(1, 1)


def test_an_epoch_that_is_less_than_a_step_has_what_batches_there_are():
    order = Order(100, batch_size=16, shuffle=True)
    order.accumulated = 8
    assert sorted(n for batch in batches(order) for n in batch) == sorted(order.order(0).tolist())
    assert len(order) == 6


def test_a_state_of_before_samples_were_counted_is_one_of_the_same_batches():
    _, state = _stopped(1000, world=4, batch_size=16, steps=5)
    del state["samples"]
    after, _ = _rest(1000, state, world=4, batch_size=16)
    whole, _ = _stopped(1000, world=4, batch_size=16, steps=15)
    assert len(after) == 10 * 64
    assert {*after} < {*whole}
