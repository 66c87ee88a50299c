"""Which images of a step a batch has, and what its draws are keyed by."""

import numpy as np
import pytest

from poolformer.draws import StepPart


@pytest.mark.parametrize("size", [7, 8, 64])
@pytest.mark.parametrize("micro_batches", [1, 3, 8])
def test_the_batches_of_a_step_share_its_images(size, micro_batches):
    parts = [StepPart(size, number, micro_batches) for number in range(micro_batches)]
    assert sorted(np.concatenate([part.places for part in parts]).tolist()) == list(range(size * micro_batches))


@pytest.mark.parametrize("micro_batches", [1, 2, 3, 4, 6, 12])
def test_who_is_mixed_with_whom_by_which_draw_does_not_depend_on_who_has_them(micro_batches):
    """Mixup mixes rows with those rows in reverse."""

    def mixed(micro_batches: int) -> dict[int, tuple[int, int]]:
        found = {}
        for number in range(micro_batches):
            part = StepPart(1536 // micro_batches, number, micro_batches)
            for draw, rows in part.mixed_together:
                places = part.places[rows].tolist()
                found |= {one: (other, draw) for one, other in zip(places, places[::-1], strict=True)}
        return found

    assert mixed(micro_batches) == mixed(1)
    assert len(mixed(micro_batches)) == 1536


def test_a_process_of_the_authors_has_one_draw_and_a_small_step_keeps_its_order():
    assert len(StepPart(128, 3, 8).mixed_together) == 1
    assert StepPart(64).places.tolist() == list(range(64))


def test_a_key_is_of_its_seed_step_and_purpose():
    keys = [StepPart(8, seed=seed, step=step).key(*purpose) for seed in (0, 1) for step in (0, 1) for purpose in "ab"]
    assert len({*keys}) == 8
    assert StepPart(2, 1, 4, seed=3, step=5).key("a") == StepPart(8, seed=3, step=5).key("a")
