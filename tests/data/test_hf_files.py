"""Data sets that the package `datasets` loads are packed as they come; without it, it is said."""

import sys

import pytest
from data_images import encoded, photo, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.data.beton import Beton


def test_a_missing_package_and_a_name_that_is_none_are_lines(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "hf:a/b needs a package that is not installed: pip install datasets" in mistake("pack", "hf:a/b", "x.beton")
    for name in ("hf:", "hf:a::b", "hf:a:b:c:d"):
        assert f"'{name}' names no data set" in mistake("pack", name, "x.beton")


@pytest.fixture
def refused(mistake, capsys):
    """Call the command with a mistake in it, after others."""

    def refused(*arguments):
        capsys.readouterr()
        return mistake(*arguments)

    return refused


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets", reason="pip install datasets")


def saved(datasets, folder, columns, features=None, split="train"):
    folder.mkdir(exist_ok=True)
    data = datasets.Dataset.from_dict(columns, features=features and datasets.Features(features))
    data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return f"hf:{folder}"


def contents(path):
    beton = Beton(path)
    return beton.class_names, beton.labels.tolist(), [beton.read(n).data.tobytes() for n in range(len(beton))]


FILES = [encoded(photo(n)) for n in range(3)]


def test_images_as_bytes_with_classes_are_packed(datasets, tmp_path, refused):
    features = {"image": datasets.Image(), "fine_label": datasets.ClassLabel(names=["b", "a"])}
    columns = {"image": [{"bytes": data, "path": None} for data in FILES], "fine_label": [1, 0, 1]}
    name = saved(datasets, tmp_path / "set", columns, features)
    assert pack([name, str(tmp_path / "x.beton")]) == 0
    assert contents(tmp_path / "x.beton") == (["b", "a"], [1, 0, 1], FILES)
    saved(datasets, tmp_path / "set", columns, features, split="test")
    assert "has the splits train, test: say which, as in hf:" in refused("pack", name, tmp_path / "y.beton")
    assert pack([f"{name}:test", str(tmp_path / "y.beton")]) == 0
    assert "cannot be opened" in refused("pack", f"{name}:val", tmp_path / "z.beton")


def test_names_and_numbers_without_classes_are_packed(datasets, tmp_path, refused):
    name = saved(datasets, tmp_path / "names", {"img": FILES, "label": ["b", "a", "b"]})
    assert pack([name, str(tmp_path / "x.beton")]) == 0
    assert contents(tmp_path / "x.beton") == (["a", "b"], [1, 0, 1], FILES)
    name = saved(datasets, tmp_path / "numbers", {"image": FILES, "labels": [0, 2, 2]})
    assert pack([name, str(tmp_path / "y.beton")]) == 0
    assert contents(tmp_path / "y.beton") == (["0", "1", "2"], [0, 2, 2], FILES)
    name = saved(datasets, tmp_path / "none", {"image": FILES, "labels": [-1, -1, -1]})
    assert "row 0: the label -1 is out of range" in refused("pack", name, "z.beton")
    name = saved(datasets, tmp_path / "other", {"image": FILES, "colour": [1, 1, 1]})
    assert "has no column 'label', but image, colour" in refused("pack", name, "z.beton")


def test_images_as_files_are_packed(datasets, tmp_path):
    source = write_class_folders(tmp_path / "source")
    assert pack([f"hf:{source}", str(tmp_path / "x.beton")]) == pack([str(source), str(tmp_path / "y.beton")]) == 0
    assert (tmp_path / "x.beton").read_bytes() == (tmp_path / "y.beton").read_bytes()


def test_a_data_set_that_is_not_there_is_a_line(datasets, refused, tmp_path):
    assert "cannot be opened" in refused("pack", "hf:nobody/nothing:train", tmp_path / "x.beton")
    (tmp_path / "empty").mkdir()
    assert "cannot be opened" in refused("pack", f"hf:{tmp_path / 'empty'}", tmp_path / "x.beton")
