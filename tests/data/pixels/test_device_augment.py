"""RandAugment on the device gives the pixels of the host's kernels, which are Pillow's, bit for bit."""

import forked
import numpy as np
import pytest
import torch
from data_images import photo, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.data import FFCVData, FolderData
from poolformer.data.loader import UnaugmentedBatch
from poolformer.data.pixels.device_augment import augment, check_device
from poolformer.data.pixels.jpeg import to_pixels, to_words
from poolformer.data.pixels.keyed import stream, word
from poolformer.data.pixels.randaugment import BICUBIC, EITHER, NONE, OPERATIONS, apply, argument, draws, parse_policy
from poolformer.errors import ConfigError

GEOMETRIC = ("Rotate", "Shear", "Translate")
POLICY = parse_policy("rand-m9-mstd0.5-inc1")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def device(request):
    return torch.device(request.param)


def planes(pixels: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Images uint8 (H, W, 3) as a batch."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous().to(device)


def by_host(pixels: np.ndarray, operation: int, value: float, cubic: bool) -> np.ndarray:
    words = to_words(pixels)
    apply(words, operation, value, cubic)
    return to_pixels(words).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(64, 64), (50, 71)], ids=["square", "tall"])
@pytest.mark.parametrize(
    ("name", "cubic"),
    [(name, False) for name in OPERATIONS] + [(name, True) for name in OPERATIONS if name.startswith(GEOMETRIC)],
)
def test_an_operation_gives_the_hosts_pixels(name, cubic, size, device):
    operation = OPERATIONS.index(name)
    strengths = [(magnitude, sign) for magnitude in (0.0, 3.1, 8.3, 9.0, 9.7, 10.0) for sign in (1.0, -1.0)]
    values = [argument(operation, *strength) for strength in strengths]
    pixels = [np.asarray(photo(n, width=size[0], height=size[1])) for n in range(len(values))]
    got = augment(planes(pixels, device), np.array([[[operation, value, cubic]] for value in values])).cpu().numpy()
    assert got.dtype == np.uint8
    for image, value, result in zip(pixels, values, got, strict=True):
        np.testing.assert_array_equal(result, by_host(image, operation, value, cubic), err_msg=str(value))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(16, 16), (2, 2), (1, 5)], ids=str)
def test_images_of_one_colour_and_of_few_pixels_are_no_exception(name, shape, device):
    operation = OPERATIONS.index(name)
    pixels = [np.full((*shape, 3), 77, np.uint8), np.asarray(photo(1))[: shape[0], : shape[1]]]
    value = argument(operation, 9.0, 1.0)
    got = augment(planes(pixels, device), np.full((2, 1, 3), (operation, value, 0))).cpu().numpy()
    for image, result in zip(pixels, got, strict=True):
        np.testing.assert_array_equal(result, by_host(image, operation, value, False))


def test_each_image_has_its_own_operations_in_their_order(device):
    pixels = [np.asarray(photo(n, width=40, height=40)) for n in range(64)]
    drawn = np.stack([draws(POLICY, EITHER, stream(word(0), 0, n)) for n in range(64)])
    batch = planes(pixels, device)
    before = batch.clone()
    got = augment(batch, drawn).cpu().numpy()
    assert torch.equal(batch, before)
    for image, steps, result in zip(pixels, drawn, got, strict=True):
        for operation, value, cubic in steps:
            if operation != NONE:
                image = by_host(image, int(operation), value, bool(cubic)).transpose(1, 2, 0)
        np.testing.assert_array_equal(result, image.transpose(2, 0, 1))


def test_draws_follow_the_policy():
    """Fifteen operations alike, half of them left out, half of the geometric ones bicubic; 9 +- 0.5 of 10."""
    drawn = np.concatenate([draws(POLICY, EITHER, stream(word(0), 0, n)) for n in range(30_000)])
    operation, value, cubic = drawn.T
    counts = np.array([(operation == n).sum() for n in range(-1, 15)]) / len(drawn)
    assert counts == pytest.approx([1 / 2] + [1 / 30] * 15, abs=0.006)
    geometric = np.isin(operation, [n for n, name in enumerate(OPERATIONS) if name.startswith(GEOMETRIC)])
    assert cubic[geometric].mean() == pytest.approx(0.5, abs=0.02)
    assert not cubic[~geometric & (operation != NONE)].any()
    slopes = value[operation == OPERATIONS.index("ShearX")]
    assert (slopes > 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (np.abs(slopes).mean(), np.abs(slopes).std()) == pytest.approx((0.27, 0.015), abs=0.002)
    assert np.abs(slopes).max() <= 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_class_folders(tmp_path_factory.mktemp("data") / "folder", images=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FolderData, FFCVData])
@pytest.mark.parametrize("interpolation", ["random", "bicubic"])
def test_a_batch_is_the_same_wherever_it_is_augmented(folder, tmp_path, kind, interpolation):
    path = str(folder)
    if kind is FFCVData:
        path = str(tmp_path / "x.beton")
        pack([str(folder), path])
    options = {"train": path, "val": path, "batch_size": 7, "image_size": 32, "interpolation": interpolation}
    loaders = {}
    for where in ("host", "device"):
        data = kind(**options, num_workers=1, augment_on=where)
        data.setup("fit")
        loaders[where] = data.train_dataloader()
        assert all(type(batch) is tuple for batch in data.val_dataloader())
    for epoch in range(3):
        for loader in loaders.values():
            loader.set_epoch(epoch)
        for (images, labels), left in zip(loaders["host"], loaders["device"], strict=True):
            assert isinstance(left, UnaugmentedBatch)
            assert not torch.equal(left.images, images)
            moved, moved_labels = data.transfer_batch_to_device(left, torch.device("cpu"), 0)
            assert torch.equal(moved, images)
            assert torch.equal(moved_labels, labels)


def test_what_is_not_to_be_augmented_stays_as_it_is(folder):
    data = FolderData(train=str(folder), val=str(folder), batch_size=4, auto_augment=None, augment_on="device")
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(data.transfer_batch_to_device(batch, torch.device("cpu"), 0)[0], batch.images)


def test_one_interpolation_counts_for_all_geometric_operations():
    drawn = np.concatenate([draws(POLICY, BICUBIC, stream(word(0), 0, n)) for n in range(2000)])
    geometric = np.isin(drawn[:, 0], [n for n, name in enumerate(OPERATIONS) if name.startswith(GEOMETRIC)])
    assert drawn[geometric, 2].all()


def test_another_place_is_refused_by_name():
    with pytest.raises(ConfigError, match="augment_on='gpu': host or device"):
        FolderData(augment_on="gpu")


def test_a_device_without_double_precision_is_refused_with_the_remedy():
    check_device(torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"Apple's GPUs do not have: use --data\.augment_on host"):
        check_device(torch.device("mps"))


@pytest.mark.exhaustive
def test_a_run_augments_on_the_device(folder, tmp_path):
    command = [
        *("-m", "poolformer", "fit", "--model.backbone", "poolformer_tiny", "--model.num_classes", "3"),
        *("--data", "FolderData", "--data.train", str(folder), "--data.val", str(folder), "--data.batch_size", "8"),
        *("--data.image_size", "32", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
    ]
    done = forked.run(*command, "--data.augment_on", "device")
    assert done.returncode == 0, done.stderr
    assert "augment_on: device" in (tmp_path / "run" / "config.yaml").read_text()
    done = forked.run(*command, "--data.augment_on", "gpu")
    assert done.returncode == 2
    assert "augment_on" in done.stderr
    assert "Traceback" not in done.stderr
