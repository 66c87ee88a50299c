"""Several .beton files as one data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_betons import without_notes, write_beton
from data_images import write_class_folders

from poolformer.data import FFCVData, FolderData
from poolformer.data.beton import Beton
from poolformer.data.beton_rows import ReadRows
from poolformer.data.beton_set import BetonSet, expand, open_betons
from poolformer.data.class_folders import FolderFiles
from poolformer.data.pack import Storage, pack
from poolformer.errors import ConfigError, DataError


class _Every:
    """Each n-th image of a folder, from one on."""

    remarks = ""

    def __init__(self, files: FolderFiles, first: int, step: int) -> None:
        self._files, self._numbers = files, range(first, len(files.names), step)
        self.names, self.labels = files.names[first::step], files.labels[first::step]
        self.class_names = files.class_names

    def read(self, n: int) -> bytes:
        return self._files.read(self._numbers[n])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """whole.beton, and its images by turns in part-0.beton to part-2.beton."""
    folder = tmp_path_factory.mktemp("files")
    images = FolderFiles(str(write_class_folders(folder / "images", classes=3, images=4)))
    pack(images, folder / "whole.beton", storage=Storage(), workers=1)
    for part in range(3):
        pack(_Every(images, part, 3), folder / f"part-{part}.beton", storage=Storage(), workers=1)
    return folder


def in_turns(files: Path) -> np.ndarray:
    """Which sample of the whole each of the set is."""
    return np.concatenate([np.arange(12)[part::3] for part in range(3)])


@pytest.mark.parametrize("held", [True, False])
def test_a_set_has_the_samples_of_its_files_one_behind_another(files, monkeypatch, held):
    if not held:
        monkeypatch.setattr("poolformer.data.beton_index.MOST_HELD", 0)
    whole, parts = Beton(files / "whole.beton"), open_betons(f"{files}/part-*.beton", fetched=Path)
    assert isinstance(parts, BetonSet)
    assert isinstance(parts.betons[0].rows, ReadRows) is not held
    order = in_turns(files)
    assert parts.labels.tolist() == whole.labels[order].tolist()
    assert parts.class_names == whole.class_names
    mixed = np.array([11, 0, 5, 4, 0])
    found, expected = parts.entries(mixed), whole.entries(order[mixed])
    for column in ("mode", "height", "width", "size", "crc"):  # the place is one in its own file
        assert getattr(found, column).tolist() == getattr(expected, column).tolist()
    assert parts.descriptors(mixed).tolist() == [parts.betons[n].descriptor for n in (2, 0, 1, 1, 0)]
    for sample in range(12):
        np.testing.assert_array_equal(parts.read(sample).data, whole.read(int(order[sample])).data)
    assert parts.name(5) == f"'{files / 'part-1.beton'}', sample 1"
    assert parts.pages().samples == len(parts) == 12


@pytest.mark.parametrize("form", ["pattern", "list", "paths"])
def test_a_loader_gives_what_it_gives_of_one_file(files, form):
    paths = sorted(files.glob("part-*.beton"))
    given = {"pattern": f"{files}/part-?.beton", "list": [*map(str, paths)], "paths": paths}[form]
    options = {"batch_size": 12, "image_size": 16, "num_workers": 1}
    data = FFCVData(train=given, val=given, **options)
    data.setup("fit")
    whole = FFCVData(val=str(files / "whole.beton"), **options)
    whole.setup("validate")
    [(images, labels)], [(expected, expected_labels)] = data.val_dataloader(), whole.val_dataloader()
    assert torch.equal(images, expected[in_turns(files)])
    assert torch.equal(labels, expected_labels[in_turns(files)])
    assert (data.num_classes, data.class_names) == (3, whole.class_names)
    [(_, seen)] = data.train_dataloader()
    assert sorted(seen.tolist()) == sorted(labels.tolist())


def test_a_held_out_part_and_an_order_by_pages_are_of_all_files(files):
    data = FFCVData(train=f"{files}/part-*.beton", val_share=0.25, order="pages", batch_size=3, image_size=16)
    data.setup("fit")
    train = [n for batch in range(3) for n in data.train_dataloader().batch_indices(batch)]
    assert sorted(train) == [*range(9)]
    assert len(data.val_dataloader().labels) == 3


def test_one_file_in_a_list_is_that_file(files):
    assert isinstance(open_betons([str(files / "whole.beton")], fetched=Path), Beton)


def test_parts_of_other_data_sets_are_refused_by_both_names(files, tmp_path):
    other = write_beton(tmp_path / "other.beton", [0, 1])
    with pytest.raises(DataError, match=r"part-0.beton' and '.*other.beton' are no parts of one data set: their cl"):
        open_betons([str(files / "part-0.beton"), str(other)], fetched=Path)
    bare = without_notes(write_beton(tmp_path / "bare.beton", [0, 1]))
    with pytest.raises(DataError, match="only one of them names its classes"):
        open_betons([str(other), str(bare)], fetched=Path)


def test_a_pattern_that_matches_nothing_and_a_list_of_nothing_are_refused(files):
    with pytest.raises(DataError, match=r"nothing matches '.*/x-\*\.beton'"):
        expand(f"{files}/x-*.beton")
    with pytest.raises(ConfigError, match="the list is empty"):
        expand([])
    with pytest.raises(ConfigError, match="is given twice"):
        expand(["a.beton", "a.beton"])
    with pytest.raises(ConfigError, match="nothing looks URLs up by a pattern"):
        expand("s3://bucket/in21k-*.beton")


def test_a_file_with_the_letters_of_a_pattern_is_itself(tmp_path):
    write_beton(tmp_path / "data[1].beton", [0])
    assert len(open_betons(str(tmp_path / "data[1].beton"), fetched=Path)) == 1


def test_files_at_urls_are_fetched(files):
    fetched = {f"s3://bucket/{n}": files / f"part-{n}.beton" for n in range(2)}
    assert len(open_betons([*fetched], fetched=fetched.__getitem__)) == 8


def test_several_folders_are_refused(files):
    data = FolderData(val=["a", "b"])
    with pytest.raises(DataError, match=r"--data\.val: FolderData reads one folder"):
        data.setup("validate")
