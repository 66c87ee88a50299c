"""Predictions as files: formats, true classes, accuracy; nothing is replaced."""

import csv
import json
import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from PIL import Image

from poolformer.classifier import ImageClassifier
from poolformer.commands.pack import main as pack
from poolformer.data import FFCVData, FolderData
from poolformer.errors import ConfigError, DataError
from poolformer.run import predictions
from poolformer.run.predictions import PredictionWriter

NAMES = ["ant", "bee"]
OPTIONS = {"batch_size": 2, "image_size": 8, "num_workers": 1}


@pytest.fixture
def photos(tmp_path):
    for name in ("ant/0.png", "bee/0.png", "bee/1.png", "other/0.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * len(name), 9, 9)).save(path)
    return tmp_path / "photos"


def predict(folder, data, *, names=NAMES, from_checkpoint=False, **options):
    torch.manual_seed(0)
    model = ImageClassifier("poolformer_tiny", len(NAMES), image_size=8)
    model.class_names = names
    writer = PredictionWriter(**options)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = False
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[writer], **quiet)
    checkpoint = None
    if from_checkpoint:
        trainer.strategy.connect(model)
        checkpoint = folder / "own.ckpt"
        trainer.save_checkpoint(checkpoint)
    trainer.predict(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return writer.path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_true_class_is_the_folder_s_where_the_network_knows_it(photos, tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    found = rows(predict(tmp_path, FolderData(predict=str(photos), **OPTIONS)))
    assert [row["true"] for row in found] == ["ant", "bee", "bee", ""]
    right = sum(row["true"] == row["class_1"] for row in found)
    assert f"Accuracy: {right / 3:.1%} of 3 images whose class is known\n" in caplog.text


@pytest.mark.parametrize(("given", "seen"), [("", True), ("bee", True), ("bee/1.png", True), ("../photos-2", False)])
def test_an_accuracy_on_images_that_were_trained_on_says_so(photos, tmp_path, caplog, given, seen):
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    shutil.copytree(photos, tmp_path / "photos-2")
    path = str(photos / given)
    predict(tmp_path, FolderData(train=[str(photos)], predict=path, **OPTIONS))
    assert "was trained on" not in caplog.text  # as no checkpoint says so
    predict(tmp_path, FolderData(train=[str(photos)], predict=path, **OPTIONS), from_checkpoint=True)
    assert (f"; '{photos}', on which the network was trained, has some of them" in caplog.text) == seen


def test_the_true_class_is_the_label_s_of_a_packed_file_by_name(photos, tmp_path):
    pack([str(photos), str(tmp_path / "all.beton"), "--raw"])
    data = FFCVData(predict=str(tmp_path / "all.beton"), **OPTIONS)
    found = rows(predict(tmp_path, data, names=["bee", "ant"]))
    assert [row["true"] for row in found] == ["ant", "bee", "bee", ""]


def test_files_folders_and_patterns_are_one_list(photos, tmp_path):
    given = [f"{photos}/bee/1.png", f"{photos}/ant", f"{photos}/*/0.png"]
    found = rows(predict(tmp_path, FolderData(predict=given, **OPTIONS)))
    assert [row["image"][len(str(photos)) + 1 :] for row in found] == [
        *("bee/1.png", "ant/0.png", "bee/0.png", "other/0.png")
    ]
    alone = rows(predict(tmp_path, FolderData(predict=f"{photos}/bee/1.png", **OPTIONS)))
    assert [row["image"] for row in alone] == [f"{photos}/bee/1.png"]


def test_images_that_are_not_there_are_named(photos):
    for given, message in (
        ("nowhere.png", "there is no image 'nowhere.png'"),
        ([f"{photos}/ant", "nowhere"], "there is no folder 'nowhere'"),
        ("*.none", "nothing matches"),
    ):
        with pytest.raises(DataError, match=message.replace("*", r"\*")):
            FolderData(predict=given, **OPTIONS).setup("predict")


def test_json_lines_hold_the_same(photos, tmp_path):
    data = FolderData(predict=str(photos), **OPTIONS)
    expected = rows(predict(tmp_path, data))
    lines = predict(tmp_path, data, out=str(tmp_path / "p.jsonl"), top_k=1).read_text().splitlines()
    for line, row in zip(map(json.loads, lines), expected, strict=True):
        assert line["image"] == row["image"]
        assert line["true"] == (row["true"] or None)
        assert [len(line["classes"]), line["classes"][0]["name"]] == [1, row["class_1"]]
        assert 0 < line["classes"][0]["probability"] <= 1


def test_a_second_prediction_replaces_nothing(photos, tmp_path):
    data = FolderData(predict=str(photos), **OPTIONS)
    names = [predict(tmp_path, data).name for _ in range(3)]
    assert names == ["predictions.csv", "predictions.2.csv", "predictions.3.csv"]


@pytest.mark.parametrize("top_k", [0, 3])
def test_there_are_not_so_many_classes(photos, tmp_path, top_k):
    with pytest.raises(ConfigError, match=f"--top_k {top_k}: the network knows 2 classes: from 1 to 2"):
        predict(tmp_path, FolderData(predict=str(photos), **OPTIONS), top_k=top_k)
    assert not list(tmp_path.glob("*.csv"))


def test_a_network_without_names_is_said(photos, tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    found = rows(predict(tmp_path, FolderData(predict=str(photos), **OPTIONS), names=None))
    assert "does not say what its classes are called" in caplog.text
    assert {row["class_1"] for row in found} <= {"0", "1"}
    assert "true" not in found[0]


def test_a_sheet_shows_the_least_and_the_most_certain(photos, tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch.utilities.rank_zero")
    sheet = tmp_path / "sheet.png"
    predict(tmp_path, FolderData(predict=str(photos), **OPTIONS), sheet=str(sheet))
    assert f"Contact sheet: {sheet}" in caplog.text
    with Image.open(sheet) as picture:
        assert picture.width == 4 * 120 + 8  # all four, in a row


@pytest.mark.parametrize(
    ("image", "given", "expected"),
    [
        ("a/ant/1.png", [], "ant"),  # a file
        ("ant/2024/1.png", [], None),
        ("ant/2024/1.png", ["ant"], "ant"),
        ("val/ant/2024/may/1.png", ["val"], "ant"),
        ("val/pets/bee/1.png", ["val"], "bee"),
        ("val/bee/ant/1.png", ["val"], "bee"),  # as in training
        ("bee/new/ant/1.png", ["bee"], "ant"),
        ("ant/val/1.png", ["ant/val"], None),
        ("ant/val/bee/1.png", ["ant/val", "ant/val/bee"], "bee"),
        ("antics/1.png", ["ant"], None),
    ],
)
def test_the_true_class_of_nested_folders_is_that_of_training(image, given, expected):
    folders = [Path(folder).absolute() for folder in given]
    assert predictions._class_of(image, folders, NAMES) == expected


def test_folders_in_a_class_folder_are_of_its_class(photos, tmp_path):
    (photos / "bee" / "2024").mkdir()
    (photos / "bee" / "1.png").rename(photos / "bee" / "2024" / "1.png")
    for given in (str(photos), [str(photos / name) for name in ("ant", "bee", "other")]):
        found = rows(predict(tmp_path, FolderData(predict=given, **OPTIONS)))
        assert [row["true"] for row in found] == ["ant", "bee", "bee", ""]


def test_the_true_class_has_its_words_too(photos, tmp_path):
    names = ["n02099601", "n01440764"]
    (photos / "ant").rename(photos / names[0])
    given = [str(photos / names[0]), str(photos / "bee")]
    data = {"predict": given, **OPTIONS}
    assert [row["true_words"] for row in rows(predict(tmp_path, FolderData(**data), names=names))] == [
        *("golden retriever", "", "")
    ]
    lines = predict(tmp_path, FolderData(**data), names=names, out=str(tmp_path / "of.jsonl")).read_text()
    assert [json.loads(line)["true_words"] for line in lines.splitlines()] == ["golden retriever", None, None]


@pytest.mark.parametrize(("option", "name"), [("sheet", "some.png"), ("out", "some.csv")])
def test_what_is_there_is_not_replaced_by_any_process(photos, tmp_path, monkeypatch, option, name):
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    there = tmp_path / f"some-1.{name.rpartition('.')[2]}"
    there.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=f"--{option} '.*{there.name}' is already there"):
        predict(tmp_path, FolderData(predict=str(photos), **OPTIONS), **{option: str(tmp_path / name)})
    assert there.read_bytes() == b"mine"


def test_synsets_have_their_words_beside_them(photos, tmp_path):
    names, words = ["n02099601", "n01440764"], {"n02099601": "golden retriever", "n01440764": "tench, Tinca tinca"}
    data = {"predict": str(photos), **OPTIONS}
    for row in rows(predict(tmp_path, FolderData(**data), names=names)):
        assert [row["words_1"], row["words_2"]] == [words[row["class_1"]], words[row["class_2"]]]
    lines = predict(tmp_path, FolderData(**data), names=names, out=str(tmp_path / "of.jsonl")).read_text()
    for line in lines.splitlines():
        assert all(one["words"] == words[one["name"]] for one in json.loads(line)["classes"])
