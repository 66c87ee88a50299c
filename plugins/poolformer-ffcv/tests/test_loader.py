"""ffcv's loader behind our batches: nothing hangs, nothing is lost, nothing stays behind."""

import gc
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ffcv.fields import decoders
from ffcv.loader import Loader, OrderOption
from ffcv.memory_managers.process_cache.page_reader import PageReader
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import Squeeze, ToTensor, ToTorchImage
from poolformer_ffcv.data import FFCVLoaderData
from poolformer_ffcv.file import BetonFile
from poolformer_ffcv.loader import FFCVLoader

from poolformer.errors import DataError


class Failing(Operation):
    """Raises at the second batch, in ffcv's thread."""

    error: BaseException = ValueError("boom")

    def __init__(self):
        super().__init__()
        self.batches = 0

    def generate_code(self):
        def fail(images, _):
            self.batches += 1
            if self.batches > 1:
                raise self.error
            return images

        return fail

    def declare_state_and_memory(self, previous_state):
        return previous_state, None


class Ending(Failing):
    error = StopIteration()


class Leaving(Failing):
    error = SystemExit(3)


def data_of(path, **options):
    module = FFCVLoaderData(train=path, val=path, image_size=16, num_workers=1, seed=5, **{"batch_size": 4} | options)
    module.setup("fit")
    return module


def shared(path, *, rank, world, training, batch_size=4):
    def pipelines():
        image = [decoders.CenterCropRGBImageDecoder((16, 16), ratio=1), ToTensor(), ToTorchImage()]
        return {"image": image, "label": [decoders.IntDecoder(), ToTensor(), Squeeze(1)]}

    return FFCVLoader(
        BetonFile(path), pipelines, order="random", indices=None, workers=1, os_cache=True, batches_ahead=3,
        batch_size=batch_size, shuffle=training, seed=5, rank=rank, world=world,
    )  # fmt: skip


def flat(batches):
    return [each for batch in batches for each in batch]


def labels(loader):
    return [each.tolist() for _, each in loader]


def test_batches_are_uint8_images_and_int64_labels(beton):
    images, targets = zip(*data_of(beton).train_dataloader(), strict=True)
    assert [tuple(each.shape) for each in images] == [(4, 3, 16, 16)] * 2
    assert {each.dtype for each in images} == {torch.uint8}
    assert [(each.dtype, each.shape) for each in targets] == [(torch.int64, (4,))] * 2


def test_batches_are_copied_out_of_the_ring(numbered):
    loader = data_of(numbered, batch_size=1).val_dataloader()
    kept = list(loader)
    assert [each.tolist() for _, each in kept] == [[n] for n in range(24)]
    again = [images.clone() for images, _ in loader]
    assert all(torch.equal(one, two) for (one, _), two in zip(kept, again, strict=True))


def test_the_last_batch_of_one_keeps_its_shape(beton):
    squeeze = {"label": ["IntDecoder", "ToTensor", "Squeeze"]}
    loader = data_of(beton, batch_size=5, val_pipelines=squeeze).val_dataloader()
    assert [tuple(each.shape) for _, each in loader] == [(5,), (5,), (1,)]


@pytest.mark.parametrize("kind", [Failing, Ending, Leaving])
@pytest.mark.parametrize("os_cache", [True, False])
def test_an_exception_of_the_thread_is_raised_within_seconds(beton, kind, os_cache):
    image = ["SimpleRGBImageDecoder", "ToTensor", "ToTorchImage", kind()]
    image[0] = {"class_path": "CenterCropRGBImageDecoder", "init_args": {"output_size": [16, 16], "ratio": 1}}
    loader, start = data_of(beton, val_pipelines={"image": image}, os_cache=os_cache).val_dataloader(), time.monotonic()
    with pytest.raises(DataError, match=r"x\.beton' failed: .*(boom|StopIteration|SystemExit: 3) \(test_loader\.py, l"):
        list(loader)
    assert time.monotonic() - start < 10


def test_epochs_have_ffcv_s_order_of_seed_and_epoch(numbered):
    loader = data_of(numbered).train_dataloader()
    epochs = []
    for epoch in (0, 1):
        iterator = iter(loader)  # which Lightning calls before it says which epoch it is
        loader.set_epoch(epoch)
        epochs.append(labels(iterator))
    assert epochs[0] != epochs[1]
    assert sorted(flat(epochs[1])) == list(range(24))

    stock = Loader(numbered, batch_size=4, num_workers=1, order=OrderOption.RANDOM, seed=5, pipelines={
        "image": [decoders.CenterCropRGBImageDecoder((16, 16), ratio=1), ToTensor()],
        "label": [decoders.IntDecoder(), ToTensor(), Squeeze(1)],
    })  # fmt: skip
    assert [[each.clone().tolist() for _, each in stock] for _ in range(2)] == epochs

    fresh = data_of(numbered).train_dataloader()
    fresh.set_epoch(1)
    assert labels(fresh) == epochs[1]


def test_an_epoch_is_resumed_behind_its_last_batch(numbered):
    loader = data_of(numbered).train_dataloader()
    loader.set_epoch(3)
    whole = labels(loader)
    iterator = iter(loader)
    begun = [next(iterator)[1].tolist() for _ in range(2)]
    resumed = data_of(numbered).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert begun + labels(resumed) == whole


@pytest.mark.parametrize("order", ["quasi_random", "sequential"])
def test_other_orders_are_ffcv_s_too(numbered, order):
    loader = data_of(numbered, order=order, os_cache=False).train_dataloader()
    found = flat(labels(loader))
    assert sorted(found) == list(range(24))
    assert (found == list(range(24))) == (order == "sequential")


def test_indices_choose_the_samples(numbered):
    module = data_of(numbered, indices=[3, 5, 7, 11, 13], val_indices=[2, 4], batch_size=2)
    assert set(flat(labels(module.train_dataloader()))) < {3, 5, 7, 11, 13}
    assert labels(module.val_dataloader()) == [[2, 4]]
    assert module.val_dataloader().batch_indices(0) == [2, 4]
    with pytest.raises(DataError, match="indices should be numbers of samples from 0 to 23"):
        data_of(numbered, indices=[24]).train_dataloader()


@pytest.mark.parametrize("samples", [24, 23])
def test_two_processes_evaluate_each_sample_once(tmp_path, samples):
    from conftest import write

    path = write(tmp_path / "y.beton", samples, label=int)
    ranks = [labels(shared(path, rank=rank, world=2, training=False)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])  # or one would wait for the other
    assert sorted(flat(ranks[0] + ranks[1])) == list(range(samples))


def test_two_processes_train_on_samples_of_their_own(numbered):
    ranks = [labels(shared(numbered, rank=rank, world=2, training=True, batch_size=5)) for rank in (0, 1)]
    assert [len(each) for each in ranks] == [2, 2]
    assert not set(flat(ranks[0])) & set(flat(ranks[1]))


@pytest.mark.parametrize("os_cache", [True, False])
def test_a_file_that_is_gone_is_a_line(beton, os_cache):
    loader = data_of(beton, os_cache=os_cache).val_dataloader()
    Path(beton).unlink()
    with pytest.raises(DataError, match=r"x\.beton', epoch 0: FileNotFoundError"):
        next(iter(loader))


def test_a_thread_that_reads_the_file_and_ends_is_a_line(beton, monkeypatch):
    monkeypatch.setattr(PageReader, "run", lambda self: None)
    loader, before = data_of(beton, os_cache=False).val_dataloader(), threading.active_count()
    with pytest.raises(DataError, match="failed: a thread that reads the file has ended"):
        next(iter(loader))
    assert threading.active_count() == before


@pytest.mark.parametrize("os_cache", [True, False])
def test_abandoned_epochs_leave_no_threads(beton, os_cache):
    loader, before = data_of(beton, batch_size=1, os_cache=os_cache).train_dataloader(), threading.active_count()
    for _ in range(10):
        next(iter(loader))
    loader.close()
    assert threading.active_count() == before


def test_the_number_of_torch_s_threads_stays(beton):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        module = data_of(beton)
        for _ in module.train_dataloader():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_more_workers_than_cores_are_clamped(beton):
    module = data_of(beton)
    module.hparams.num_workers = 999
    with pytest.warns(UserWarning, match="num_workers=999, but there are"):
        loader = module.val_dataloader()
    assert loader.loader.num_workers < 999


def test_loaders_do_not_share_the_user_s_list(beton):
    image = [decoders.CenterCropRGBImageDecoder((16, 16), ratio=1), ToTensor(), ToTorchImage()]
    module = data_of(beton, pipelines={"image": image}, val_pipelines={"image": image})
    assert len(list(module.train_dataloader())) == 2
    assert len(list(module.val_dataloader())) == 3
    assert len(image) == 3


def test_fewer_samples_than_a_batch_are_a_line(beton):
    with pytest.raises(DataError, match=r"has 11 images, fewer than one batch of 64: lower --data\.batch_size"):
        data_of(beton, batch_size=64).train_dataloader()


def test_compiled_pipelines_make_the_same_batches_and_go_without_noise(numbered, monkeypatch):
    noise = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    plain = [images for images, _ in data_of(numbered).val_dataloader()]
    Compiler.set_enabled(True)
    module = data_of(numbered)
    compiled = [images for images, _ in module.val_dataloader()]
    assert all(torch.equal(one, two) for one, two in zip(plain, compiled, strict=True))
    assert len(list(module.train_dataloader())) == 6
    assert np.concatenate([each.numpy() for each in compiled]).std() > 10
    del module
    gc.collect()
    assert noise == []
