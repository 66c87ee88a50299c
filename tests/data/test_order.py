"""Which samples a process sees in which batch: none twice, none missed, the same after a restart."""

import itertools

import pytest

from poolformer.data.order import Order
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


def test_an_iteration_goes_on_after_the_last_batch_once():
    order = Order(20, batch_size=4, shuffle=True)
    whole = batches(order)
    order.load_state_dict({"epoch": 0, "batch": 2})
    assert order.state_dict() == {"epoch": 0, "batch": 2}
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
