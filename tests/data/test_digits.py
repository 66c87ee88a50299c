"""The digits against scikit-learn's own: which, how many, in what order, and pixel by pixel."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from poolformer.classifier import ImageClassifier
from poolformer.data import DigitsData
from poolformer.data.digits import Digits, DigitsLoader


def ready(**options) -> DigitsData:
    data = DigitsData(**options)
    data.setup("fit")
    return data


def everything(loader) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def training_set(**options) -> tuple[Tensor, Tensor]:
    """All training digits: one a batch, so that no last batch is dropped."""
    return everything(ready(batch_size=1, **options).train_dataloader())


def rows(images: Tensor, labels: Tensor) -> list[tuple[int, ...]]:
    """Digits as sorted rows of their label and pixels, to be compared as bags."""
    return sorted(map(tuple, torch.cat([labels[:, None], images[:, 0].flatten(1).long()], 1).tolist()))


@pytest.fixture(scope="module")
def sklearns() -> tuple[Tensor, Tensor]:
    """Its 1797 digits, with 0 to 16 spread over 0 to 255."""
    digits = load_digits()
    images = torch.tensor(digits.images * 255 / 16).round().to(torch.uint8)
    return images[:, None].expand(-1, 3, -1, -1), torch.tensor(digits.target)


def test_the_two_parts_together_are_scikit_learns_digits(sklearns):
    train, val = training_set(shift=0), everything(ready(shift=0).val_dataloader())
    assert (len(train[1]), len(val[1])) == (1437, 360)
    assert sorted(rows(*train) + rows(*val)) == rows(*sklearns)


def test_validation_has_a_fifth_of_each_class(sklearns):
    _, labels = everything(ready().val_dataloader())
    expected = sklearns[1].bincount() / 5
    assert (labels.bincount() - expected).abs().max() < 1


def test_the_split_and_its_order_are_the_same_every_time():
    (images, labels), (again, labels_again) = (everything(ready(batch_size=b).val_dataloader()) for b in (64, 7))
    torch.manual_seed(1)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_evaluation_shows_each_digit_once_as_it_is(sklearns):
    """In evaluation no shift, and at 8 pixels no resampling; the last batch is ragged."""
    loader = ready(batch_size=100, shift=0.125).val_dataloader()
    assert [len(labels) for _, labels in loader] == [100, 100, 100, 60]
    known = rows(*sklearns)
    assert all(row in known for row in rows(*everything(loader)))
    assert torch.equal(everything(loader)[0], everything(loader)[0])


@pytest.mark.parametrize("image_size", [8, 32, 224])
@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_a_batch_has_the_size_that_is_asked_for(image_size, split):
    data = ready(batch_size=5, image_size=image_size)
    images, labels = next(iter(getattr(data, f"{split}_dataloader")()))
    assert (images.shape, images.dtype) == ((5, 3, image_size, image_size), torch.uint8)
    assert (labels.shape, labels.dtype) == ((5,), torch.int64)
    assert images.is_contiguous()
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert images.float().std() > 50  # black and white, not grey


@pytest.mark.parametrize("image_size", [16, 32, 224])
def test_digits_are_enlarged_bilinearly(image_size):
    """PyTorch's F.interpolate; at the rim it repeats pixels, where ours fades to black."""
    small, _ = next(iter(ready(batch_size=5).val_dataloader()))
    large, _ = next(iter(ready(batch_size=5, image_size=image_size).val_dataloader()))
    expected = F.interpolate(small.float(), size=image_size, mode="bilinear", align_corners=False)
    rim = image_size // 8
    difference = (large.float() - expected)[:, :, rim:-rim, rim:-rim].abs().max()
    assert difference <= 0.51  # rounding to integers


@pytest.mark.slow
def test_without_a_shift_training_digits_are_as_they_are(sklearns):
    known = set(rows(*sklearns))
    assert set(rows(*training_set(shift=0))) <= known
    assert len(known & set(rows(*training_set(shift=0.125)))) < 20


@pytest.mark.parametrize("image_size", [8, 32])
@pytest.mark.parametrize("shift", [0.125, 0.25])
def test_a_training_digit_moves_by_up_to_the_shift_along_each_axis(image_size, shift):
    """A dot of 2 x 2 pixels in the middle; its centre of mass says how far it went, in shares of the side."""
    dots = torch.zeros(500, 8, 8, dtype=torch.uint8)
    dots[:, 3:5, 3:5] = 255
    digits = Digits(dots, torch.zeros(500, dtype=torch.int64), image_size=image_size, shift=shift)
    images, _ = digits.batch(np.arange(500), seed=0, epoch=0)
    mass = images[:, 0].float()
    position = (torch.arange(image_size) + 0.5) / image_size - 0.5
    for axis in (1, 2):
        moves = (mass.sum(axis) * position).sum(1) / mass.sum((1, 2))
        assert moves.abs().max() < shift + 0.005
        assert moves.max() > 0.9 * shift
        assert moves.min() < -0.9 * shift
        assert moves.mean().abs() < 0.1 * shift


def test_training_is_shuffled_and_has_full_batches_only():
    loader = ready(batch_size=64, shift=0).train_dataloader()
    assert {len(labels) for _, labels in loader} == {64}
    assert len(loader) == 1437 // 64
    first = everything(loader)[1]
    loader.set_epoch(1)
    assert not torch.equal(first, everything(loader)[1])


def test_the_classes_are_the_ten_digits():
    data = DigitsData()
    assert data.num_classes == 10
    assert data.class_names == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]


def test_threads_load_the_same():
    here, there = (everything(ready(num_workers=workers).train_dataloader()) for workers in (0, 2))
    assert torch.equal(here[0], there[0])
    assert torch.equal(here[1], there[1])


def test_order_and_moves_are_those_of_seed_and_epoch():
    first, again, other = (ready(batch_size=64, seed=seed).train_dataloader() for seed in (1, 1, 2))
    torch.rand(3)
    assert torch.equal(everything(first)[0], everything(again)[0])
    assert not torch.equal(everything(first)[0], everything(other)[0])


def test_the_seed_is_that_of_the_run_until_another_is_given(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    of_the_run, its_own = DigitsData(), DigitsData(seed=7)
    assert (of_the_run.seed, its_own.seed) == (5, 7)
    saved = of_the_run.state_dict()
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    goes_on = DigitsData()
    goes_on.load_state_dict(saved)
    its_own.load_state_dict(saved)
    assert (goes_on.seed, its_own.seed) == (5, 7)
    assert goes_on.hparams.seed is None


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 64, 359])
def test_every_validation_digit_is_on_one_rank_once_and_ranks_have_equally_many_batches(world, batch_size):
    digits = Digits(torch.zeros(361, 8, 8, dtype=torch.uint8), torch.arange(361), image_size=8, shift=0)
    options = {"workers": 0, "batch_size": batch_size, "shuffle": False, "seed": 0, "world": world}
    loaders = [DigitsLoader(digits, rank=rank, **options) for rank in range(world)]
    labels = torch.cat([everything(loader)[1] for loader in loaders])
    assert labels.sort().values.tolist() == list(range(361))
    assert len({len(loader) for loader in loaders}) == 1


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_takes_the_same_digits_in_every_epoch():
    seen = []

    class Labels(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(batch.targets.argmax(1).tolist())

    model = ImageClassifier("poolformer_tiny", 10, image_size=8, mixup=0, cutmix=0, warmup_epochs=0, cooldown_epochs=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    pl.Trainer(max_epochs=2, overfit_batches=2, enable_checkpointing=False, callbacks=[Labels()], **quiet).fit(
        model, datamodule=DigitsData(batch_size=16)
    )
    first, second, *again = seen
    assert again == [first, second]
    assert first != second
