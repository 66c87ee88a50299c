"""The loader: the same batches for any threads, ranks and restarts; nothing lost, nothing left behind."""

import gc
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from data_images import encoded, loading_threads, photo, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.data import FFCVData, FolderData
from poolformer.data.beton import FIELD, HEADER, MAGIC, ROW, Beton
from poolformer.draws import StepPart
from poolformer.errors import ConfigError, DataError

OPTIONS = {"batch_size": 5, "image_size": 24, "num_workers": 2}
SAMPLES = 21


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = write_class_folders(tmp_path_factory.mktemp("data") / "folder", classes=3, images=7)
    (root / "class_1" / "odd.png").write_bytes(encoded(photo(0).convert("RGBA"), "PNG"))
    (root / "class_1" / "0.JPEG").unlink()
    return root


@pytest.fixture(scope="module")
def beton(folder) -> Path:
    path = folder.parent / "x.beton"
    pack([str(folder), str(path)])
    return path


def module(path, **options):
    kind = FolderData if Path(path).is_dir() else FFCVData
    data = kind(train=str(path), val=str(path), **OPTIONS | options)
    data.setup("fit")
    return data


def at_rank(loader, rank, world):
    loader.rank, loader.world = rank, world
    return loader


def batches(loader, epoch=0):
    loader.set_epoch(epoch)
    return list(loader)


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_batches_are_uint8_images_and_int64_labels(beton):
    images, labels = next(iter(module(beton).train_dataloader()))
    assert (images.shape, images.dtype) == ((5, 3, 24, 24), torch.uint8)
    assert (labels.shape, labels.dtype) == ((5,), torch.int64)


def test_folder_and_beton_give_identical_batches(folder, beton):
    """An RGBA PNG is among the images."""
    by_folder, by_beton = module(folder), module(beton)
    assert by_folder.class_names == by_beton.class_names
    for epoch in range(3):
        assert_same(batches(by_folder.train_dataloader(), epoch), batches(by_beton.train_dataloader(), epoch))
    assert_same(batches(by_folder.val_dataloader()), batches(by_beton.val_dataloader()))


def test_thread_count_makes_no_difference(beton):
    assert_same(
        batches(module(beton, num_workers=1).train_dataloader(), 2),
        batches(module(beton, num_workers=2).train_dataloader(), 2),
    )


def test_seed_and_epoch_change_order_and_pixels(beton):
    base = batches(module(beton).train_dataloader(), 0)
    for other in (batches(module(beton).train_dataloader(), 1), batches(module(beton, seed=1).train_dataloader(), 0)):
        assert any(not torch.equal(a[1], b[1]) for a, b in zip(base, other, strict=True))
        assert all(not torch.equal(a[0], b[0]) for a, b in zip(base, other, strict=True))


def test_an_epoch_trains_on_each_sample_at_most_once(beton):
    loader = module(beton).train_dataloader()
    orders = [loader.order(epoch) for epoch in range(40)]
    assert all(len(set(order.tolist())) == len(order) == 20 for order in orders)
    assert set(np.concatenate(orders).tolist()) == set(range(SAMPLES))


def test_two_ranks_see_what_one_process_sees(beton):
    """The same images a step, in the same state, whoever loads them."""
    one = batches(module(beton, batch_size=4).train_dataloader(), 1)
    ranks = [batches(at_rank(module(beton, batch_size=2).train_dataloader(), rank, 2), 1) for rank in (0, 1)]
    places = np.concatenate([StepPart(2, rank, 2).places for rank in (0, 1)])
    both = [
        tuple(torch.cat(parts)[np.argsort(places)] for parts in zip(*of_ranks, strict=True))
        for of_ranks in zip(*ranks, strict=True)
    ]
    assert_same(one, both)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_each_validation_image_counts_once(beton, world, batch_size):
    whole = torch.cat([images for images, _ in module(beton).val_dataloader()])
    seen, lengths = {}, set()
    for rank in range(world):
        loader = at_rank(module(beton, batch_size=batch_size).val_dataloader(), rank, world)
        order, made = loader.order(0).tolist(), list(loader)
        lengths.add(len(made))
        assert [len(labels) for _, labels in made] == [len(loader.batch_indices(n)) for n in range(len(loader))]
        images = [image for batch, _ in made for image in batch]
        assert len(images) == len(order)
        seen |= dict(zip(order, images, strict=True))
    assert sorted(seen) == list(range(SAMPLES))
    assert len(lengths) == 1  # DDP would wait for a batch that never comes
    assert all(torch.equal(seen[n], whole[n]) for n in seen)


@pytest.mark.parametrize("batch", [0, 1, 3, 4])
def test_resume_goes_on_after_the_last_batch(beton, batch):
    whole = batches(module(beton).train_dataloader(), 2)
    loader = module(beton).train_dataloader()
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(batch):
        next(iterator)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (2, batch)

    resumed = module(beton).train_dataloader()
    resumed.load_state_dict(state)
    iter(resumed)  # Lightning asks once before it begins
    resumed.set_epoch(2)
    rest = list(resumed)
    if batch < len(whole):
        assert_same(rest, whole[batch:])
        assert resumed.state_dict() == {"epoch": 2, "batch": 4, "samples": 20}
    assert_same(batches(resumed, 3), batches(module(beton).train_dataloader(), 3))


def test_a_resumed_run_at_an_epochs_end_begins_the_next_one(beton):
    resumed = module(beton).train_dataloader()
    resumed.load_state_dict({"epoch": 2, "batch": 4})
    assert_same(batches(resumed, 3), batches(module(beton).train_dataloader(), 3))


def test_the_epoch_counts_at_the_first_batch(beton):
    """Lightning calls iter() before set_epoch."""
    loader = module(beton).train_dataloader()
    iterator = iter(loader)
    loader.set_epoch(3)
    assert_same(list(iterator), batches(module(beton).train_dataloader(), 3))


def test_kept_batches_are_not_overwritten(beton):
    kept = batches(module(beton, batch_size=2).train_dataloader())
    copies = [(images.clone(), labels.clone()) for images, labels in kept]
    batches(module(beton, batch_size=2).train_dataloader(), 1)
    assert_same(kept, copies)


@pytest.mark.slow
def test_forty_abandoned_epochs_leave_nothing(beton):
    gc.collect()  # trainers of other tests hold their loaders in cycles
    loader = module(beton, batch_size=8, image_size=160).train_dataloader()
    for _ in range(5):
        next(iter(loader))
    assert not loading_threads()
    memory = psutil.Process().memory_info().rss
    for epoch in range(40):
        loader.set_epoch(epoch)
        for _ in loader:
            break
    assert not loading_threads()
    assert psutil.Process().memory_info().rss - memory < 50e6


def test_torchs_threads_are_left_alone(beton):
    before = torch.get_num_threads()
    batches(module(beton, num_workers=2).train_dataloader())
    assert torch.get_num_threads() == before


def test_more_workers_than_cores_are_clamped_with_a_line(beton):
    data = module(beton, num_workers=10_000)
    with pytest.warns(UserWarning, match=r"num_workers=10000 is more than \d+ cores?"):
        loader = data.train_dataloader()
    assert loader.workers < 10_000


def test_default_workers_do_not_warn(beton):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module(beton, num_workers=None).train_dataloader().workers >= 1


@pytest.fixture
def as_ffcv_writes(beton, tmp_path):
    """The file without the marks that lead to checksums and class names."""
    content = bytearray(beton.read_bytes())
    assert content.count(MAGIC) == 1
    place = content.index(MAGIC)
    content[place : place + 8] = bytes(8)
    path = tmp_path / "plain.beton"
    path.write_bytes(content)
    return path


def test_files_without_checksums_give_the_same_batches(beton, as_ffcv_writes):
    data = module(as_ffcv_writes)
    assert data.class_names is None
    assert data.num_classes == 3
    assert_same(batches(data.train_dataloader()), batches(module(beton).train_dataloader()))


def test_damage_that_breaks_a_jpeg_is_found_without_checksums(as_ffcv_writes):
    content, beton = bytearray(as_ffcv_writes.read_bytes()), Beton(as_ffcv_writes)
    entries = beton.entries(np.array([9]))
    place, size = int(entries.place[0]), int(entries.size[0])
    content[place + size // 2 : place + size] = bytes(size - size // 2)
    as_ffcv_writes.write_bytes(content)
    with pytest.raises(DataError, match=r"plain\.beton', sample 9: damaged JPEG"):
        batches(module(as_ffcv_writes).val_dataloader())


def test_a_size_that_is_not_the_jpegs_is_found_without_checksums(as_ffcv_writes):
    content = bytearray(as_ffcv_writes.read_bytes())
    row = HEADER.itemsize + 2 * FIELD.itemsize + 9 * ROW.itemsize
    content[row + 1] ^= 1  # the width
    as_ffcv_writes.write_bytes(content)
    with pytest.raises(DataError, match=r"plain\.beton', sample 9: its size is not what the index says"):
        batches(module(as_ffcv_writes).val_dataloader())


@pytest.mark.parametrize("where", ["train", "val"])
def test_a_damaged_sample_ends_the_epoch_with_its_name(beton, tmp_path, where):
    content = bytearray(beton.read_bytes())
    content[int(Beton(beton).entries(np.array([9])).place[0]) + 500] ^= 1
    path = tmp_path / "damaged.beton"
    path.write_bytes(content)
    data, start = module(path, batch_size=7), time.monotonic()
    with pytest.raises(DataError, match=r"damaged\.beton', sample 9: its bytes are not those that were packed"):
        batches(data.train_dataloader() if where == "train" else data.val_dataloader())
    assert time.monotonic() - start < 10
    assert not loading_threads()


def test_a_damaged_file_ends_the_epoch_with_its_name(folder, tmp_path):
    root = write_class_folders(tmp_path / "folder")
    (root / "class_2" / "3.JPEG").write_bytes(encoded(photo(0))[:700])
    with pytest.raises(DataError, match=r"class_2/3\.JPEG': damaged JPEG"):
        batches(module(root).val_dataloader())
    (root / "class_2" / "3.JPEG").unlink()
    data = FolderData(val=str(folder))
    data.setup("validate")
    data._sources["val"].paths[0] = str(root / "class_2" / "3.JPEG")
    with pytest.raises(DataError, match=r"class_2/3\.JPEG': cannot be read \(No such file"):
        batches(data.val_dataloader())


def test_fewer_images_than_a_batch_are_refused(beton):
    with pytest.raises(
        DataError,
        match=r"x\.beton' has 21 images, fewer than one batch of 64: lower --data\.batch_size, for example to 5$",
    ):
        module(beton, batch_size=64).train_dataloader()
    assert sum(len(labels) for _, labels in module(beton, batch_size=64).val_dataloader()) == SAMPLES


def test_labels_beyond_the_classes_are_refused(beton, tmp_path):
    few = write_class_folders(tmp_path / "few", classes=2)
    pack([str(few), str(tmp_path / "few.beton")])
    data = FFCVData(train=str(tmp_path / "few.beton"), val=str(beton), **OPTIONS)
    with pytest.raises(
        DataError, match=r"few\.beton' and '.*x\.beton' do not hold the same classes; 1 are .*: class_2"
    ):
        data.setup("fit")


def test_splits_that_are_not_given_are_named():
    with pytest.raises(DataError, match=r"FFCVData has no train images: pass --data\.train PATH"):
        FFCVData().setup("fit")
    with pytest.raises(DataError, match=r"FolderData has no test images: pass --data\.test PATH"):
        FolderData().setup("test")


def test_testing_and_predicting_fall_back_to_the_validation_images(folder, beton):
    data = module(beton)
    data.setup("test")
    data.setup("predict")
    assert_same(batches(data.test_dataloader()), batches(data.val_dataloader()))
    predicted = module(folder)
    predicted.setup("predict")
    assert len(predicted.predict_names) == SAMPLES
    assert_same(
        [(images, torch.full_like(labels, -1)) for images, labels in batches(data.val_dataloader())],
        batches(predicted.predict_dataloader()),
    )


def test_images_to_predict_need_no_classes(tmp_path):
    (tmp_path / "b.png").write_bytes(encoded(photo(1), "PNG"))
    (tmp_path / "a.jpg").write_bytes(encoded(photo(2)))
    data = FolderData(predict=str(tmp_path), **OPTIONS)
    data.setup("predict")
    assert [Path(name).name for name in data.predict_names] == ["a.jpg", "b.png"]
    assert data.num_classes is None
    ((images, labels),) = data.predict_dataloader()
    assert images.shape == (2, 3, 24, 24)
    assert labels.tolist() == [-1, -1]


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"image_size": -1}, {"num_workers": -1}], ids=str)
def test_impossible_options_are_refused_by_name(option):
    with pytest.raises(ConfigError, match=f"--data.{next(iter(option))} got"):
        FFCVData(**option)


def test_a_folder_in_a_file_s_place_gives_the_same_batches(folder):
    packed, plain = (kind(val=str(folder), image_size=32, batch_size=4) for kind in (FFCVData, FolderData))
    for data in (packed, plain):
        data.setup("validate")
    assert packed.class_names == plain.class_names
    for ours, theirs in zip(packed.val_dataloader(), plain.val_dataloader(), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
