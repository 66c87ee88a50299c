"""A path where the name of a data module belongs is answered with the command that reads it."""

from pathlib import Path

import pytest

from poolformer.cli import data_path
from poolformer.errors import ConfigError


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/cat", "split/train/cat", "split/val/cat", "my own/cat", "half/train/cat", "packed", "empty"):
        Path(folder).mkdir(parents=True)
    for file in ("packed/train.beton", "packed/val.beton", "a.beton", "a.tar.gz", "b.zip", "cat.JPG", "notes.txt"):
        Path(file).touch()


SAYS = {
    "photos/": "a folder: write --data FolderData --data.train photos/ --data.val_share 0.2",
    "split": "a folder: write --data FolderData --data.train split/train --data.val split/val",
    "half/": "a folder: write --data FolderData --data.train half/train --data.val_share 0.2",
    "my own": "a folder: write --data FolderData --data.train 'my own' --data.val_share 0.2",
    "packed": "a folder: write --data FFCVData --data.train packed/train.beton --data.val packed/val.beton",
    "empty": "a folder in which nothing is found",
    "a.beton": "a .beton file: write --data FFCVData --data.train a.beton --data.val_share 0.2",
    "s3://mine/a.beton": "a .beton file: write --data FFCVData --data.train s3://mine/a.beton --data.val_share 0.2",
    "b.zip": "an archive: write --data FFCVData --data.train b.beton --data.val_share 0.2, after `poolformer pack "
    "b.zip b.beton`",
    "a.tar.gz": "an archive: write --data FFCVData --data.train a.beton --data.val_share 0.2, after `poolformer pack "
    "a.tar.gz a.beton`",
    "cat.JPG": "an image: write --data FolderData --data.predict . to predict, or a folder of class folders",
}


@pytest.mark.parametrize("path", SAYS)
def test_a_path_is_answered_with_the_options_that_read_it(mistake, path):
    said = f"--data takes the name of a data module, and '{path}' is "
    assert mistake("fit", "--data", path, "--data.batch_size", "2") == said + SAYS[path]


def test_each_verb_has_its_own_option(mistake):
    assert mistake("validate", "--data=split").endswith("write --data FolderData --data.val split/val")
    assert mistake("test", "--data", "a.beton").endswith("write --data FFCVData --data.test a.beton")
    Path("mine.yaml").write_text("data: photos")
    assert mistake("predict", "--config", "mine.yaml").endswith("write --data FolderData --data.predict photos")
    assert mistake("predict", "--data", "a.tar.gz").endswith(
        "write --data FolderData --data.predict a, after unpacking a.tar.gz into a"
    )


@pytest.mark.parametrize("name", ["FolderData", "poolformer.data.FolderData", "mine.Data", "gone", "notes.txt", None])
def test_a_name_passes(name):
    Path("FolderData").mkdir()
    data_path.refuse("fit", name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--data.train photos", "write --data FolderData --data.train photos --data.val_share 0.2"),
        ("--data.train=split", "write --data FolderData --data.train split/train --data.val split/val"),
        ("--data.train a.beton --data.val_share 0.1", "add --config s12 or --data FFCVData"),
        ("--data.train split/train --data.val split/val", "add --config s12 or --data FolderData"),
    ],
)
def test_options_of_files_without_a_data_module_are_answered_with_one(mistake, options, said):
    message = mistake("fit", *options.split())
    assert message == f"there is no option 'data.train' for the digits, which take no files: {said}"


def test_a_folder_that_stands_alone_is_meant_to_be_trained_on(mistake):
    assert mistake("fit", "split").endswith(
        "Did you mean --data FolderData --data.train split/train --data.val split/val?"
    )
    with pytest.raises(ConfigError):
        data_path.refuse("fit", "photos")
