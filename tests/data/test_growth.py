"""The side of training images follows the epoch alone, whatever is resumed."""

import json

import pytest
from data_images import write_class_folders

from poolformer.cli.dispatch import main
from poolformer.data import FolderData
from poolformer.data.growth import Growth, side_at
from poolformer.errors import ConfigError

SHORT = Growth(first=32, last=96, start_epoch=1, end_epoch=5)


@pytest.mark.parametrize(
    ("growth", "sides"),
    [
        (SHORT, [32, 32, 64, 64, 64, 96, 96]),  # 32, 32, 48, 64, 80, 96, 96, halves to the even multiple
        (Growth(first=160, last=192, start_epoch=11, end_epoch=13), [160] * 12 + [192] * 4),
        (Growth(first=96, last=32, start_epoch=0, end_epoch=2), [96, 64, 32]),
    ],
)
def test_sides_follow_a_straight_line_in_steps(growth, sides):
    assert [side_at(growth, epoch) for epoch in range(len(sides))] == sides


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = str(write_class_folders(tmp_path_factory.mktemp("data") / "folder"))
    data = FolderData(train=root, val=root, batch_size=4, image_size=48, num_workers=1, growth=SHORT)
    data.setup("fit")
    return data


def test_training_grows_and_evaluation_does_not(data):
    loader = data.train_dataloader()
    for epoch, side in enumerate([32, 32, 64, 64, 64, 96]):
        loader.set_epoch(epoch)
        assert {tuple(images.shape) for images, _ in loader} == {(4, 3, side, side)}
    assert {tuple(images.shape[1:]) for images, _ in data.val_dataloader()} == {(3, 48, 48)}


def test_a_resumed_epoch_has_its_own_side(data):
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 4, "batch": 1})
    assert [tuple(images.shape) for images, _ in loader] == [(4, 3, 64, 64)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 100}, "first=100: sides are multiples of 32"),
        ({"last": 0}, "last=0: sides are multiples of 32"),
        ({"start_epoch": 5}, "start_epoch=5 and end_epoch=5"),
        ({"start_epoch": -1}, "start_epoch=-1"),
    ],
)
def test_impossible_schedules_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        FolderData(growth=SHORT | change)


# A plugin, timm's, one by its mixer, one whose mixer is no option, and one whose fixed part is no mixer.
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["pvt_tiny"],
        ["timm/deit_tiny_patch16_224"],
        ["poolformer_s12", "--model.mixer=[pooling, pooling, pooling, spatial_fc]"],
        ["randformer_s12"],
        ["poolformer_s12", "--model.position_embedding=3"],
    ],
    ids=" ".join,
)
def test_backbones_of_a_fixed_size_refuse_to_grow(shipped_plugin, tmp_path, monkeypatch, capsys, words):
    shipped_plugin("poolformer-pvt")
    monkeypatch.chdir(tmp_path)
    root = str(write_class_folders(tmp_path / "folder"))
    data = ["--data=FolderData", f"--data.train={root}", f"--data.val={root}", f"--data.growth={json.dumps(SHORT)}"]
    run = ["--trainer.accelerator=cpu", "--trainer.max_epochs=30", "--data.batch_size=2", "--data.num_workers=0"]
    assert main(["fit", *data, *run, "--model.backbone", *words]) == 2
    refusal = "pixels and does not take 32, so progressive resizing is not possible: leave out --data.growth ("
    assert refusal in capsys.readouterr().err
