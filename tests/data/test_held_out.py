"""A part of the training images held out to validate on: which, of what trees, and what never changes it."""

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_images import write_class_folders

from poolformer.data import DigitsData, FFCVData, FolderData
from poolformer.data.class_folders import FolderFiles
from poolformer.data.held_out import Part, hold_out
from poolformer.data.pack import Storage, pack
from poolformer.data.sources import FileSource
from poolformer.errors import ConfigError, DataError

SMALL: dict[str, Any] = {"image_size": 8, "batch_size": 2, "num_workers": 1}


def touch(root: Path, **classes: list[str]) -> Path:
    for name, files in classes.items():
        for file in files:
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def held_out(root: Path, share: float = 0.2) -> set[str]:
    files = FolderFiles(root)
    source = FileSource(files.names, files.labels, class_prefix=files.class_prefix)
    parts = hold_out(source, share, path=str(root), class_names=files.class_names)
    both = [*parts.train.samples, *parts.val.samples]
    assert sorted(both) == list(range(len(files.names)))
    return {path[files.class_prefix :] for path in parts.val.paths}


def names(count: int) -> list[str]:
    return [f"{n}.jpg" for n in range(count)]


def test_of_each_class_the_share_is_held_out_and_an_image_stays_to_train_on(tmp_path):
    touch(tmp_path, many=names(50), few=names(5), two=names(2), three=[f"deep/er/{name}" for name in names(3)])
    found = held_out(tmp_path)
    assert {name: sum(path.startswith(f"{name}/") for path in found) for name in ("many", "few", "two", "three")} == {
        "many": 10,
        "few": 1,
        "two": 1,
        "three": 1,
    }
    assert held_out(tmp_path, 0.1) < found < held_out(tmp_path, 0.9)
    assert sum(path.startswith("two/") for path in held_out(tmp_path, 0.99)) == 1


def test_a_moved_tree_and_another_class_change_nothing(tmp_path):
    tree = touch(tmp_path / "here", a=names(30), b=[f"{n}/x.png" for n in range(10)])
    found = held_out(tree)
    touch(tree, aa=names(7))
    assert {path for path in held_out(tree) if not path.startswith("aa/")} == found
    shutil.rmtree(tree / "aa")
    (tmp_path / "there" / "photos").mkdir(parents=True)
    moved = Path(shutil.move(tree, tmp_path / "there" / "photos" / "mine"))
    assert held_out(moved) == found == held_out(moved.parent)  # the one folder in it


def test_a_file_that_is_added_moves_at_most_one_other(tmp_path):
    touch(tmp_path, a=names(20))
    before = held_out(tmp_path)
    for n in range(20, 40):
        touch(tmp_path, a=[f"{n}.jpg"])
        now = held_out(tmp_path)
        assert len((before ^ now) - {f"a/{n}.jpg"}) <= 1
        before = now


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path):
    written = [f"été {n}.jpg" for n in range(20)]
    composed = held_out(touch(tmp_path / "nfc", a=[unicodedata.normalize("NFC", name) for name in written]))
    apart = held_out(touch(tmp_path / "nfd", a=[unicodedata.normalize("NFD", name) for name in written]))
    assert {unicodedata.normalize("NFC", name) for name in apart} == composed
    touch(tmp_path / "bytes", a=["caf\udce9.jpg", "b.jpg"])
    assert len(held_out(tmp_path / "bytes")) == 1


def test_classes_of_one_image_are_trained_on_only_and_named(tmp_path):
    source = FileSource([f"{n}" for n in range(6)], [0, 0, 1, 2, 2, 3])
    parts = hold_out(source, 0.2, path="photos", class_names=["a", "b", "c", "d"])
    assert parts.remark == (
        "val: 2 of 6 images of photos (val_share 0.2); 2 classes of one image are trained on only (b, d)"
    )
    assert parts.train.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"no class in 'photos' has two images.*--data\.val PATH"):
        hold_out(FileSource(["0", "1"], [0, 1]), 0.2, path="photos")


def test_samples_without_names_are_chosen_by_their_numbers_in_their_classes(tmp_path):
    labels = np.repeat([3, 10**12], 50)
    val = hold_out(FileSource([str(n) for n in range(100)], labels), 0.2, path="x").val
    assert np.bincount(val.labels == 3).tolist() == [10, 10]
    assert (val.samples[:10] + 50).tolist() == val.samples[10:].tolist()


@pytest.fixture
def folders(tmp_path) -> Path:
    return write_class_folders(tmp_path / "photos", classes=2, images=6)


def whole(loader) -> tuple[list[bytes], list[int]]:
    batches = list(loader)
    return [image.numpy().tobytes() for batch in batches for image in batch[0]], [
        label for batch in batches for label in batch[1].tolist()
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_every_verb_evaluates_the_part_that_was_not_trained_on(folders, packed, tmp_path):
    path, kind = folders, FolderData
    if packed:
        path, kind = tmp_path / "photos.beton", FFCVData
        pack(FolderFiles(folders), path, storage=Storage(), workers=1)
    options = {**SMALL, "train": str(path), "val_share": 1 / 3}
    module = kind(**options, seed=1)
    module.setup("fit")
    held, labels = whole(module.val_dataloader())
    assert labels == [0, 0, 1, 1]
    assert len(module.train_dataloader().labels) == 8
    everything, _ = whole(_ready(kind, "validate", **SMALL, val=str(path)).val_dataloader())
    assert set(held) < set(everything)
    for stage in ("validate", "test", "predict"):
        again = _ready(kind, stage, **options, seed=2)
        loader = getattr(again, f"{'val' if stage == 'validate' else stage}_dataloader")()
        assert whole(loader)[0] == held
    assert list(again.predict_names) == module.val_dataloader().source.paths
    assert again.predict_names[0] == (
        str(module.val_dataloader().source.samples[0])
        if packed
        else FolderFiles(folders).names[module.val_dataloader().source.samples[0]]
    )


def _ready(kind: type, stage: str, **options: Any) -> Any:
    module = kind(**options)
    module.setup(stage)
    return module


def test_a_training_image_is_augmented_as_it_is_in_the_whole(folders):
    part = _ready(FolderData, "fit", **SMALL, train=str(folders), val_share=0.3, seed=1)._sources["train"]
    assert isinstance(part, Part)
    transform = FolderData(**SMALL, seed=1)._train_transform(0)
    ours, theirs = np.zeros((2, 3, 8, 8), np.uint8)
    part.load(3, transform, 5, ours)
    part.whole.load(int(part.samples[3]), transform, 5, theirs)
    assert (ours == theirs).all()
    assert ours.any()
    assert part.fingerprint != part.whole.fingerprint


def test_what_contradicts_is_a_line(folders):
    with pytest.raises(ConfigError, match=r"val_share got '1.5', but expects a number above 0 and below 1"):
        FolderData(**SMALL, val_share=1.5)
    with pytest.raises(ConfigError, match=r"both say what to validate on"):
        _ready(FolderData, "fit", **SMALL, train=str(folders), val=str(folders), val_share=0.2)
    with pytest.raises(DataError, match=r"--data\.val_share holds out a part of the training images: pass --data\.tr"):
        _ready(FolderData, "validate", **SMALL, val_share=0.2)
    with pytest.raises(DataError, match=r"no val images: pass --data.val PATH, or --data.val_share 0.2 to hold out"):
        _ready(FolderData, "fit", **SMALL, train=str(folders))
    other = _ready(FolderData, "validate", **SMALL, train="gone", val=str(folders), val_share=0.2)  # of a checkpoint
    assert len(other.val_dataloader().labels) == 12


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reported", ["val", "val_share"])
def test_what_is_tuned_by_is_apart_from_what_is_reported_on(folders, packed, reported, tmp_path):
    path, kind = folders, FolderData
    if packed:
        path, kind = tmp_path / "photos.beton", FFCVData
        pack(FolderFiles(folders), path, storage=Storage(), workers=1)
    options = {**SMALL, "train": str(path), "seed": 1}
    options |= {"val": "never opened"} if reported == "val" else {"val_share": 1 / 3}
    module = _ready(kind, "fit", **options, tune_share=0.25)
    train, tune = ({*part.samples.tolist()} for part in (module._sources["train"], module._sources["val"]))
    assert whole(module.val_dataloader())[1] == ([0, 0, 1, 1] if reported == "val" else [0, 1])
    assert module.given() == {"train": str(path)}
    if reported == "val":
        assert train | tune == set(range(12))
    else:
        parts = hold_out(module._sources["train"].whole, 1 / 3, path="x")
        assert train | tune == {*parts.train.samples.tolist()}
        assert tune == {*(hold_out(parts.train, 0.25, path="x").val.samples.tolist())}
    assert not train & tune
    assert len(module.train_dataloader().labels) == len(train)


def test_digits_are_tuned_by_a_part_of_those_to_train_on():
    whole_set, tuned = _ready(DigitsData, "fit"), _ready(DigitsData, "fit", tune_share=0.1)
    assert [len(part.labels) for part in (tuned._train, tuned._val)] == [1293, 144]
    before, after = (
        sorted(map(bytes, torch.cat([part.images for part in parts]).numpy()))
        for parts in ([whole_set._train], [tuned._train, tuned._val])
    )
    assert before == after
    with pytest.raises(ConfigError, match=r"tune_share got '1.0', but expects a number above 0 and below 1"):
        DigitsData(tune_share=1.0)
