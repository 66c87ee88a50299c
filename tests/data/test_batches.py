"""What data modules of others yield: taken where it is images and labels, refused in a line where it is not."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.functional import normalize

from poolformer.classifier import IMAGENET_MEAN, IMAGENET_STD, ImageClassifier
from poolformer.data.batches import Batch, BatchCheck
from poolformer.errors import DataError, one_line
from poolformer.run.predictions import PredictionWriter

UINT8 = (torch.arange(4 * 3 * 8 * 8) * 73 % 256).to(torch.uint8).reshape(4, 3, 8, 8)  # every level, mixed
UNIT, LABELS = UINT8 / 255, torch.tensor([0, 1, 2, 3])


class Loader:
    """The simplest loader there is."""

    def __init__(self, *batches: Any):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class OwnData(pl.LightningDataModule):
    """Yields the batches it is given, whatever they are, in every stage."""

    batch_size = 4

    def __init__(self, *batches: Any, **attributes: Any):
        super().__init__()
        self.batches = batches
        vars(self).update(attributes)

    def train_dataloader(self) -> "Loader":
        return Loader(*self.batches)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class DeviceTransforms(OwnData):
    """Does its transforms on the device, in the hook that the model has too."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images.flip(3), labels


def tiny(num_classes: int = 4) -> ImageClassifier:
    plain = {"mixup": 0.0, "cutmix": 0.0, "erase_prob": 0.0, "label_smoothing": 0.0}
    return ImageClassifier("poolformer_tiny", num_classes, image_size=8, warmup_epochs=0, cooldown_epochs=0, **plain)


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    return pl.Trainer(**{"accelerator": "cpu", "enable_checkpointing": False, **quiet, **options})


def refusal(verb: str, data: pl.LightningDataModule) -> str:
    with pytest.raises(DataError) as refused:
        getattr(trainer(), verb)(tiny(), datamodule=data)
    assert len(one_line(refused.value)) < 400
    return one_line(refused.value)


# A batch, what is said of it, and the way out.
REFUSED = [
    ((UNIT, LABELS), "images are float32 (4, 3, 8, 8) from ", "(255 * images).round().to(torch.uint8)"),
    ((UINT8.float(), LABELS), "images are float32 (4, 3, 8, 8) from ", "yield images.to(torch.uint8)"),
    ((UNIT.half(), LABELS), "images are float16", "set images_are_normalised = True in OwnData"),
    ((UINT8.int(), LABELS), "images are int32 (4, 3, 8, 8) from ", "images.to(torch.uint8)"),
    ((UINT8 > 9, LABELS), "images are bool", "expected are uint8 (B, 3, H, W)"),
    ((UINT8.permute(0, 2, 3, 1), LABELS), "images are uint8 (4, 8, 8, 3)", "images.permute(0, 3, 1, 2)"),
    ((UINT8[:, :1], LABELS), "images are uint8 (4, 1, 8, 8)", "images.expand(-1, 3, -1, -1)"),
    ((UINT8[:, 0], LABELS), "images are uint8 (4, 8, 8)", "images[:, None].expand(-1, 3, -1, -1)"),
    ((UINT8[:, [0, 1, 2, 2]], LABELS), "images are uint8 (4, 4, 8, 8)", "images[:, :3]"),
    ((UINT8.flatten(1), LABELS), "images are uint8 (4, 192)", "expected are uint8 (B, 3, H, W)"),
    ((UINT8, LABELS.float()), "labels are float32 (4,)", "labels.long()"),
    ((UINT8, LABELS[:, None]), "labels are int64 (4, 1)", "labels.squeeze(1)"),
    ((UINT8, nn.functional.one_hot(LABELS, 4)), "labels are int64 (4, 4)", "labels.argmax(1)"),
    ((UINT8, torch.eye(4)), "labels are float32 (4, 4)", "labels.argmax(1)"),
    ((UINT8, LABELS > 1), "labels are bool (4,)", "labels.long()"),
    ((UINT8, LABELS[0]), "labels are int64 ()", "expected are int64 (B,)"),
    ((UINT8, LABELS[:3]), "there are 4 images and 3 labels", "as many of both"),
    ((UINT8, LABELS + 1), "labels go from 1 to 4", "0 to 3, as there are 4 classes"),
    ((UINT8, LABELS - 1), "labels go from -1 to 2", "0 to 3"),
    ((UINT8, [0, 1, 2, 3]), "a batch is a tuple of 2 (uint8 (4, 3, 8, 8), a list)", "torch.tensor(labels)"),
    ({"image": UINT8, "label": LABELS}, "a batch is a dict of image, label", "batch['image'], batch['label']"),
    ([UINT8, LABELS, LABELS], "a batch is a list of 3", "expected are (images, labels), two tensors"),
    (UINT8, "a batch is uint8 (4, 3, 8, 8)", "expected are (images, labels), two tensors"),
    (UINT8[:2], "a batch is uint8 (2, 3, 8, 8)", "expected are (images, labels), two tensors"),
]


@pytest.mark.parametrize(("batch", "came", "remedy"), REFUSED, ids=[row[1][:40] for row in REFUSED])
def test_what_is_no_batch_is_refused_with_what_came_and_what_to_change(batch, came, remedy):
    check = BatchCheck("OwnData", channels=3, classes=4, normalised=False, labelled=True)
    with pytest.raises(DataError) as refused:
        check(batch)
    message = one_line(refused.value)
    assert message.startswith(f"OwnData: {came}")
    assert remedy in message
    assert len(message) < 400


@pytest.mark.parametrize("batch", [REFUSED[0][0], REFUSED[6][0], REFUSED[20][0], REFUSED[-1][0]])
@pytest.mark.parametrize("verb", ["fit", "validate"])
def test_the_trainer_ends_in_that_line(verb, batch):
    assert refusal(verb, OwnData(batch)).startswith("OwnData: ")


def test_batches_of_training_are_checked_as_those_of_validation_are():
    data = OwnData((UINT8, LABELS))
    data.train_dataloader = lambda: Loader((UNIT, LABELS))
    assert refusal("fit", data).startswith("OwnData: images are float32")


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_a_label_out_of_range_is_found_in_any_batch_on_a_cpu(verb):
    assert "labels go from 1 to 9" in refusal(verb, OwnData((UINT8, LABELS), (UINT8, torch.tensor([1, 9, 1, 1]))))


def test_values_are_looked_at_once_where_that_would_wait_for_the_device():
    check = BatchCheck("Data", channels=3, classes=4, normalised=False, labelled=True)
    on_meta = UINT8.to("meta"), LABELS.to("meta")  # has no values: looking at them raises
    with pytest.raises(RuntimeError, match="meta"):
        check(on_meta)
    check((UINT8, LABELS))
    check(on_meta)
    check((UINT8, LABELS), 1)  # of another loader


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_other_integers_are_taken_as_they_are(dtype):
    check = BatchCheck("Data", channels=3, classes=4, normalised=False, labelled=True)
    _, labels = check((UINT8, LABELS.to(dtype)))
    assert (labels.dtype, labels.tolist()) == (torch.int64, [0, 1, 2, 3])


class Seen(pl.Callback):
    """Keeps the images that reach the network."""

    def __init__(self):
        self.images: list[Tensor] = []

    def setup(self, trainer, pl_module, stage):
        pl_module.backbone.register_forward_pre_hook(lambda module, inputs: self.images.append(inputs[0].clone()))


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalised_images_reach_the_network_as_they_are_where_the_data_module_says_so(verb, dtype):
    seen, normalised = Seen(), normalize(UNIT, IMAGENET_MEAN, IMAGENET_STD).to(dtype)
    data = OwnData((normalised, LABELS), images_are_normalised=True)
    getattr(trainer(callbacks=[seen]), verb)(tiny(), datamodule=data)
    assert all(torch.equal(images, normalised.float()) for images in seen.images)
    assert seen.images


def test_training_leaves_the_data_s_own_normalised_images_alone():
    normalised = normalize(UNIT, IMAGENET_MEAN, IMAGENET_STD)
    before = normalised.clone()
    model = ImageClassifier("poolformer_tiny", 4, image_size=8, warmup_epochs=0, cooldown_epochs=0, erase_prob=1.0)
    trainer().fit(model, datamodule=OwnData((normalised, LABELS), images_are_normalised=True))
    assert torch.equal(normalised, before)


def test_levels_that_are_called_normalised_are_refused():
    message = refusal("validate", OwnData((UINT8.float(), LABELS), images_are_normalised=True))
    assert "images_are_normalised is True and images are float32 (4, 3, 8, 8) from 0 to 255" in message


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_a_data_module_with_device_transforms_gets_its_images_normalised_all_the_same(verb):
    """Lightning asks its on_after_batch_transfer instead of the model's."""
    seen = Seen()
    getattr(trainer(callbacks=[seen]), verb)(tiny(), datamodule=DeviceTransforms((UINT8, LABELS)))
    expected = normalize(UNIT, IMAGENET_MEAN, IMAGENET_STD).flip(3)
    assert seen.images
    for images in seen.images:
        torch.testing.assert_close(images, expected)


def test_device_transforms_that_leave_floats_are_refused():
    class ToFloat(DeviceTransforms):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] / 255, batch[1]

    assert refusal("fit", ToFloat((UINT8, LABELS))).startswith("ToFloat: images are float32")


# ---- to predict


@pytest.mark.parametrize("batch", [UINT8, [UINT8], (UINT8, ["a", "b", "c", "d"]), (UINT8, torch.full((4,), -1))])
def test_images_to_predict_need_no_labels(batch):
    (probabilities,) = trainer().predict(tiny(), datamodule=OwnData(batch))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))


def test_floats_to_predict_are_refused_too():
    assert refusal("predict", OwnData(UNIT)).startswith("OwnData: images are float32 (4, 3, 8, 8)")


LOADERS = [
    Loader(UINT8, UINT8),
    [Loader(UINT8, UINT8)],
    DataLoader(TensorDataset(torch.cat([UINT8, UINT8])), batch_size=4),
]


@pytest.mark.parametrize("loader", LOADERS, ids=["own", "a list of one", "PyTorch's"])
def test_predictions_of_any_loader_are_numbered(tmp_path, loader):
    data = OwnData()
    data.predict_dataloader = lambda: loader
    trainer(callbacks=[PredictionWriter()], default_root_dir=tmp_path).predict(tiny(), datamodule=data)
    with Path(tmp_path, "predictions.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [str(number) for number in range(8)]


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_several_loaders_are_refused_in_a_line(verb):
    data = OwnData((UINT8, LABELS))
    several = lambda: [Loader((UINT8, LABELS)), Loader((UINT8, LABELS))]  # noqa: E731
    data.val_dataloader = data.test_dataloader = data.predict_dataloader = several
    assert refusal(verb, data) == (
        f"OwnData: there are 2 {'val' if verb in ('fit', 'validate') else verb} dataloaders, and one is taken: "
        "concatenate them, as by torch.utils.data.ConcatDataset"
    )


# ---- without a data module


def test_a_dataloader_is_named_by_its_stage():
    loader = DataLoader(TensorDataset(UNIT, LABELS), batch_size=4)
    with pytest.raises(DataError, match=r"^the val dataloader: images are float32"):
        trainer().validate(tiny(), loader)


def test_a_prepared_batch_is_not_prepared_again():
    batch = Batch(UNIT, LABELS)
    assert tiny().on_after_batch_transfer(batch) is batch
