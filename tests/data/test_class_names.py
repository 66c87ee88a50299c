"""A label means the class of its name: in data of fewer classes, in another order, and in a run that is resumed."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from data_images import photo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from poolformer.classifier import ImageClassifier
from poolformer.commands.export import main as export
from poolformer.commands.pack import main as pack
from poolformer.data import FFCVData, FolderData
from poolformer.data.class_names import check_resumed, imagenet_names, names_of, positions, words_of
from poolformer.errors import CheckpointError, ConfigError, DataError, PoolformerError
from poolformer.run.predictions import PredictionWriter

ANIMALS = ["ant", "bee", "cat", "dog"]


def tiny(num_classes: int = 4, **options: Any) -> ImageClassifier:
    plain = {"mixup": 0.0, "cutmix": 0.0, "warmup_epochs": 0, "cooldown_epochs": 0}
    return ImageClassifier("poolformer_tiny", num_classes, **{"image_size": 8, **plain, **options})


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
    quiet |= {"num_sanity_val_steps": 0, "enable_checkpointing": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, **options})


def folder(root: Path, names: Sequence[str]) -> Path:
    """Two images of each class, of a colour of its own."""
    for name in names:
        (root / name).mkdir(parents=True)
        for n in range(2):
            photo(10 * ANIMALS.index(name) + n if name in ANIMALS else 99, width=12, height=12).save(
                root / name / f"{n}.png"
            )
    return root


def data(path: Path, **options: Any) -> FolderData:
    given = {"train": str(path), "val": str(path), "batch_size": 2, "image_size": 8, "num_workers": 1}
    return FolderData(**given | {"auto_augment": None, **options})


class OwnData(pl.LightningDataModule):
    """Images and labels in an order of its own."""

    batch_size = 4

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, **attributes: Any):
        super().__init__()
        self.rows = TensorDataset(images, labels)
        vars(self).update(attributes)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("classes")


@pytest.fixture(scope="module")
def checkpoint(root) -> Path:
    """Of a network that knows the four animals, and is far from even."""
    model = tiny()
    nn.init.normal_(model.backbone.head.fc.weight, std=2)
    fit = trainer(limit_train_batches=1)
    fit.fit(model, datamodule=data(folder(root / "all", ANIMALS)))
    fit.save_checkpoint(root / "animals.ckpt")
    return root / "animals.ckpt"


def loss(checkpoint: Path, module: pl.LightningDataModule, verb: str = "validate") -> float:
    (found,) = getattr(trainer(), verb)(tiny(), datamodule=module, ckpt_path=checkpoint, verbose=False)
    return found["val/loss" if verb == "validate" else "test/loss"]


def by_hand(checkpoint: Path, images: torch.Tensor, names: Sequence[str]) -> float:
    """Of images of classes by name, with the weights of the checkpoint and nothing of the trainer."""
    model = tiny()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    with torch.no_grad():
        logits = model.eval()((images - model.mean) / model.std)
    return nn.functional.cross_entropy(logits, torch.tensor([ANIMALS.index(name) for name in names])).item()


@pytest.mark.parametrize("verb", ["validate", "test"])
@pytest.mark.parametrize("names", [["cat"], ["bee", "dog"], ["bee", "cat", "dog"]])
def test_data_of_fewer_classes_is_compared_by_name(root, checkpoint, tmp_path, verb, names):
    module = data(folder(tmp_path / "some", names))
    module.setup("validate")
    images = torch.cat([batch for batch, _ in module.val_dataloader()])
    expected = by_hand(checkpoint, images, [name for name in names for _ in range(2)])
    assert loss(checkpoint, data(tmp_path / "some"), verb) == pytest.approx(expected, rel=1e-4)


def test_a_packed_file_of_fewer_classes_is_compared_by_name_too(checkpoint, tmp_path):
    pack([str(folder(tmp_path / "some", ["bee", "dog"])), str(tmp_path / "some.beton"), "--raw"])
    packed = FFCVData(val=str(tmp_path / "some.beton"), batch_size=2, image_size=8, num_workers=1)
    assert loss(checkpoint, packed) == pytest.approx(loss(checkpoint, data(tmp_path / "some")), rel=1e-5)


@pytest.mark.slow
def test_another_order_gives_the_same_accuracy(checkpoint):
    images, labels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.arange(4)
    other = [ANIMALS[place] for place in (2, 0, 3, 1)]
    same = OwnData(images, labels, class_names=tuple(ANIMALS))
    turned = OwnData(images, torch.tensor([other.index(name) for name in ANIMALS]), class_names=other)
    assert loss(checkpoint, turned) == pytest.approx(loss(checkpoint, same), rel=1e-6)
    assert loss(checkpoint, OwnData(images, labels, class_names=other)) != pytest.approx(loss(checkpoint, same))


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_classes_that_the_network_does_not_know_are_refused(checkpoint, tmp_path, verb):
    with pytest.raises(ConfigError) as refused:
        loss(checkpoint, data(folder(tmp_path / "new", ["bee", "Cat", "eel"])), verb)
    assert str(refused.value) == (
        "2 of the data's 3 classes are none of the 4 that the network was trained on: 'Cat', 'eel'. Did you mean "
        "'cat' or 'ant'? It knows 'ant', 'bee', 'cat', 'dog'"
    )


@pytest.mark.slow
def test_in_python_a_model_that_was_loaded_is_compared_by_name_as_well(checkpoint, tmp_path):
    module = data(folder(tmp_path / "some", ["dog"]))
    model = ImageClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    (found,) = trainer().validate(model, datamodule=module, verbose=False)
    assert found["val/loss"] == pytest.approx(loss(checkpoint, module), rel=1e-6)
    assert model.class_names == ANIMALS
    whole = data(checkpoint.parent / "all")
    (again,) = trainer().validate(model, datamodule=whole, verbose=False)
    assert again["val/loss"] == pytest.approx(loss(checkpoint, whole), rel=1e-6)  # nothing is left of the first


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_weights_of_a_run_know_their_classes(checkpoint, tmp_path, ending):
    weights = checkpoint
    if ending == ".safetensors":
        export([str(checkpoint), str(tmp_path / "animals.safetensors")])
        weights = tmp_path / "animals.safetensors"
    module = data(folder(tmp_path / "some", ["bee", "dog"]), predict=str(checkpoint.parent / "all"))
    model = tiny(pretrained=str(weights))
    assert model.class_names == ANIMALS
    (found,) = trainer().validate(model, datamodule=module, verbose=False)
    assert found["val/loss"] == pytest.approx(loss(checkpoint, module), rel=1e-6)
    with pytest.warns(UserWarning, match="head is fresh"):
        assert tiny(3, pretrained=str(weights)).class_names is None


# ---- names that are not known


def test_without_names_labels_are_positions(checkpoint):
    images, labels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.arange(4)
    assert loss(checkpoint, OwnData(images, labels)) == loss(checkpoint, OwnData(images, labels, class_names=ANIMALS))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"num_classes": 5}, "the data has 5 classes and the model 4"),
        ({"num_classes": lambda: 4}, "num_classes of OwnData is a function, not an integer"),
        ({"class_names": "antbee"}, "class_names of OwnData is a str, not a list of names"),
        ({"class_names": {0: "ant"}}, "class_names of OwnData is a dict, not a list of names"),
        ({"class_names": ["ant", "bee"], "num_classes": 4}, "OwnData has 2 class_names and num_classes 4"),
    ],
)
def test_classes_that_contradict_themselves_are_refused(checkpoint, attributes, message):
    with pytest.raises(PoolformerError, match=message):
        loss(checkpoint, OwnData(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4), **attributes))


def test_fewer_classes_without_names_are_said_to_be_taken_by_position(checkpoint):
    module = OwnData(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2), num_classes=2)
    with pytest.warns(UserWarning, match="the data does not say what they are called: labels are taken by position"):
        loss(checkpoint, module)


@pytest.mark.filterwarnings("ignore:.*its names are timm's")
def test_published_weights_are_not_evaluated_on_a_part_of_their_classes_by_position(tmp_path):
    torch.save(tiny().backbone.state_dict(), tmp_path / "poolformer_tiny.pth")
    module = data(folder(tmp_path / "some", ["bee", "dog"]))
    with pytest.raises(ConfigError, match="the data has 2 classes and the model 4, and the network does not say"):
        trainer().validate(tiny(pretrained=str(tmp_path / "poolformer_tiny.pth")), datamodule=module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*its names are timm's")
def test_published_weights_of_imagenet_know_its_classes_by_their_synsets(tmp_path):
    torch.save(tiny(1000).backbone.state_dict(), tmp_path / "poolformer_tiny.pth")
    model = tiny(1000, pretrained=str(tmp_path / "poolformer_tiny.pth"))
    images, synsets = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), ["n01443537", "n15075141"]
    some = OwnData(images, torch.tensor([0, 1, 1, 0]), class_names=synsets, num_classes=2)
    every = OwnData(images, torch.tensor([1, 999, 999, 1]), num_classes=1000)
    ours, theirs = (trainer().validate(model, datamodule=module, verbose=False) for module in (some, every))
    assert ours[0]["val/loss"] == theirs[0]["val/loss"]
    assert imagenet_names(["n00000000", "dog"], logits=1000) is None
    assert imagenet_names(synsets, logits=100) is None


def test_names_may_be_of_any_kind_and_are_recorded_as_text(tmp_path):
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
    fit = trainer()
    fit.fit(tiny(), datamodule=OwnData(images, labels, class_names=(1, 2, 30, 4), num_classes=4))
    fit.save_checkpoint(tmp_path / "numbers.ckpt")
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "numbers.ckpt", weights_only=True)
    assert loaded.class_names == ["1", "2", "30", "4"]


# ---- resuming


def test_a_run_is_not_resumed_on_other_classes(checkpoint, tmp_path):
    module = data(folder(tmp_path / "other", ["ant", "bee", "cat", "eel"]))
    with pytest.raises(CheckpointError, match="it was trained on 'dog' too, and the data has 'eel' too"):
        trainer(max_epochs=2).fit(tiny(), datamodule=module, ckpt_path=checkpoint, weights_only=True)


def test_a_run_is_not_resumed_on_the_same_classes_in_another_order():
    with pytest.raises(CheckpointError, match="they come in another order than it was trained on"):
        check_resumed(ANIMALS, ANIMALS[::-1])
    check_resumed(ANIMALS, ANIMALS)
    check_resumed(None, ANIMALS)
    check_resumed(ANIMALS, None)


def test_weights_of_other_classes_are_trained_on_the_data_s(checkpoint, tmp_path):
    model = tiny(pretrained=str(checkpoint))
    trainer(limit_train_batches=1).fit(model, datamodule=data(folder(tmp_path / "o", ["bee", "cat", "dog", "eel"])))
    assert model.class_names == ["bee", "cat", "dog", "eel"]


# ---- prediction


def predicted(folder: Path, module: pl.LightningDataModule, checkpoint: Path) -> list[list[str]]:
    writer = trainer(callbacks=[PredictionWriter()], default_root_dir=folder)
    writer.predict(tiny(), datamodule=module, ckpt_path=checkpoint, return_predictions=False)
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_predictions_have_the_names_of_the_network_whatever_the_data_s_are(checkpoint, tmp_path):
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    other = OwnData(images, torch.arange(4), class_names=["one", "two", "three"])
    rows = predicted(tmp_path, other, checkpoint)
    assert all(sorted(row[1::2]) == ANIMALS for row in rows)


@pytest.mark.parametrize("names", [["bee"], [*ANIMALS, "eel", "fox"]])
def test_a_labelled_file_is_predicted_as_the_folder_that_it_was_packed_of(checkpoint, tmp_path, names):
    pack([str(folder(tmp_path / "some", names)), str(tmp_path / "some.beton"), "--raw"])
    options = {"batch_size": 2, "image_size": 8, "num_workers": 1}
    packed = predicted(tmp_path / "a", FFCVData(predict=str(tmp_path / "some.beton"), **options), checkpoint)
    loose = predicted(tmp_path / "b", FolderData(predict=str(tmp_path / "some"), **options), checkpoint)
    assert [row[1:] for row in packed] == [row[1:] for row in loose]
    assert [row[0] for row in packed] == [str(n) for n in range(2 * len(names))]


# ---- the functions


def test_the_same_names_need_not_differ_from_one_another():
    assert positions(["a", "a"], ["a", "a"]) == [0, 1]
    with pytest.raises(ConfigError, match=re.escape("the network has more than one class called 'a'")):
        positions(["a"], ["a", "a"])


def test_a_data_module_without_names_has_none():
    assert names_of(None) is None
    assert names_of(OwnData(torch.zeros(1), torch.zeros(1), class_names=[])) is None
    with pytest.raises(DataError, match="is a int, not a list"):
        names_of(OwnData(torch.zeros(1), torch.zeros(1), class_names=4))


def test_synsets_have_words_and_other_names_have_none():
    assert words_of(["n02099601", "n01440764"]) == {"n02099601": "golden retriever", "n01440764": "tench, Tinca tinca"}
    assert words_of(["n02099601", "my dog"]) == words_of(["n99999999"]) == words_of([]) == {}
