"""The order of an epoch that goes through a file window by window."""

import numpy as np
import pytest
from data_betons import write_beton
from data_images import write_class_folders

from poolformer.data import FFCVData
from poolformer.data.beton import Beton
from poolformer.data.loader import Loader
from poolformer.data.page_order import page_wise
from poolformer.data.pages import Pages, runs_of
from poolformer.data.sources import BetonSource
from poolformer.errors import ConfigError

PAGES = 512
EACH = 10


@pytest.fixture(scope="module")
def pages() -> Pages:
    return runs_of(np.split(np.repeat(np.arange(PAGES), EACH), [7, 1000, 1003]))


def test_each_sample_comes_once_in_an_order_of_seed_and_epoch(pages):
    orders = [page_wise(pages, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(PAGES * EACH))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert [(orders[0] != other).mean() > 0.9 for other in orders[2:]] == [True, True]


def test_a_window_has_all_images_of_its_pages_mixed(pages):
    windows = page_wise(pages, seed=3, epoch=5).reshape(8, -1)  # of 64 pages
    assert sorted(len({*(window // EACH).tolist()}) for window in windows) == [PAGES // 8] * 8
    for window in windows:
        assert np.abs(np.corrcoef(window, np.arange(len(window)))[0, 1]) < 0.2
        assert len({*(window[:64] // EACH).tolist()}) > 30  # one batch is of many pages


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (65, [7, 8]), (1025, [113, 114])])
def test_windows_are_equal_and_the_last_is_no_rest_of_one_page(count, sizes):
    order = page_wise(runs_of([np.repeat(np.arange(count), EACH)]), seed=0, epoch=0)
    seen, ends = np.zeros(count, int), [0]
    for sample in order.tolist():
        seen[sample // EACH] += 1
        if not (seen % EACH).any():  # of all pages that have begun, nothing is left
            ends.append(int(seen.sum()) // EACH)
    assert sorted({*np.diff(ends).tolist()}) == sizes


def test_pages_that_are_written_by_turns_are_runs_of_their_own():
    pages = runs_of([np.array([4, 4, 9]), np.array([9, 4, 4])])
    assert (pages.starts.tolist(), pages.pages.tolist(), pages.samples) == ([0, 2, 4], [4, 9, 4], 6)
    assert sorted(page_wise(pages, seed=0, epoch=0).tolist()) == [*range(6)]


def test_pages_of_a_part_and_of_files_one_behind_another_are_counted_anew():
    pages = runs_of([np.array([2, 2, 3, 3, 5])])
    part = pages.of(np.array([1, 4]))
    assert np.repeat(part.pages, np.diff([*part.starts, part.samples])).tolist() == [2, 5]
    both = part.behind(pages)
    assert sorted(page_wise(both, seed=0, epoch=0).tolist()) == [*range(7)]
    assert len({*both.pages.tolist()}) == 6


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_loader_hands_out_page_after_page_also_to_others_than_before(tmp_path, world):
    size = 1 << 20
    beton = Beton(write_beton(tmp_path / "data.beton", [0] * 96, sizes=[size] * 96))
    pages = beton.pages()
    assert np.diff([*pages.starts, 96]).max() == 8  # of 1 MiB in 8

    def loader(rank: int, world: int) -> Loader:
        options = {"batch_size": 24 // world, "workers": 1, "shuffle": True, "rank": rank, "world": world}
        return Loader(BetonSource(beton), lambda epoch: None, pages=pages, **options)

    whole = [sample for batch in range(4) for sample in loader(0, 1).batch_indices(batch)]
    assert sorted(whole) == [*range(96)]
    rest = []
    for rank in range(world):
        resumed = loader(rank, world)
        resumed.load_state_dict({"epoch": 0, "batch": 2, "samples": 48})
        rest += [n for batch in range(resumed.begin(), len(resumed)) for n in resumed.batch_indices(batch)]
    assert sorted(rest) == sorted(whole[48:])


def test_pages_are_for_files_alone(tmp_path):
    data = FFCVData(train=str(write_class_folders(tmp_path / "photos")), val_share=0.5, batch_size=2, order="pages")
    data.setup("fit")
    with pytest.raises(ConfigError, match=r"'.*photos' is a folder, and only a \.beton has pages"):
        data.train_dataloader()
