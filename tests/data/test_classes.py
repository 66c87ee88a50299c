"""Which folders are classes, what is left out, and that a folder and a tar of it are the same."""

import json
import logging
import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data_images import encoded, photo

from poolformer.cli.dispatch import main
from poolformer.data.archive_files import ArchiveFiles
from poolformer.data.beton import Beton
from poolformer.data.class_folders import FolderFiles, image_listing
from poolformer.data.splits import splits_among
from poolformer.errors import DataError


def tree(root: Path, *names: str) -> Path:
    """Files of these names, with their names as content; folders where a name ends in a slash."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.fsencode(name))
    return root


def outcome(open_files: Callable[[], FolderFiles | ArchiveFiles]) -> object:
    """Classes, images and remarks, or the reason to refuse them."""
    try:
        files = open_files()
    except DataError as error:
        return str(error)
    images = [(files.class_names[label], files.read(n)) for n, label in enumerate(files.labels)]
    return files.class_names, images, files.remarks


# ---- a folder and a tar of it

TREES = {
    "plain": ["cat/0.jpg", "cat/1.JPG", "dog/0.Png"],
    "a level too many": ["imagenet/cat/0.jpg", "imagenet/dog/0.jpg"],
    "two levels too many": ["some/where/cat/0.jpg", "some/where/dog/0.jpg", "some/README.txt"],
    "one class with folders in it": ["cat/a/0.jpg", "cat/b/0.jpg"],
    "one class": ["cat/0.jpg", "cat/deep/1.jpg"],
    "annotations beside the images": ["images/cat/0.jpg", "images/dog/0.jpg", "annotations/cat/0.xml", "parts/x.txt"],
    "deeper in a class": ["cat/a/0.jpg", "cat/a-1/0.jpg", "cat/2.jpg", "dog/x/y/0.jpg", "cat-b/0.jpg"],
    "beside the classes": ["0.jpg", "cat/0.jpg", "dog/0.jpg"],
    "a class of gifs": ["cat/0.jpg", "dog/0.jpg", "fox/0.gif", "fox/1.gif"],
    "an empty class": ["cat/0.jpg", "dog/0.jpg", "fox/"],
    "an empty class beside a deep one": ["cat/deep/0.jpg", "fox/"],
    "hidden": ["cat/0.jpg", "cat/._0.jpg", ".ipynb_checkpoints/0.jpg", "@eaDir/0.jpg", "__MACOSX/cat/0.jpg",
               "cat/.x/0.jpg", "Thumbs.db/", "lost+found/", "cat/Thumbs.db"],
    "other endings": ["cat/0.jpg", "cat/a.gif", "cat/b.GIF", "cat/c.jfif", "cat/d.avif", "cat/README", "list.txt"],
    "nothing": ["README.txt"],
    "train and val": ["train/cat/0.jpg", "val/cat/0.jpg"],
    "train and an empty val": ["train/cat/0.jpg", "train/dog/0.jpg", "val/"],
    "splits in a folder": ["images/train/cat/0.jpg", "images/val/cat/0.jpg", "labels/train/0.txt"],
    "splits without classes": ["train/0.jpg", "test/0.jpg"],
    "splits in the classes": ["cat/train/0.jpg", "cat/val/1.jpg", "dog/train/0.jpg", "dog/val/0.jpg"],
    "train alone": ["train/cat/0.jpg", "train/dog/0.jpg"],
    "vehicles": ["train/0.jpg", "bus/0.jpg", "tram/0.jpg"],
    "a cover in a folder": ["my photos/cover.jpg", "my photos/cat/0.jpg", "my photos/dog/0.jpg"],
    "one class with years": ["cat/0.jpg", "cat/1.jpg", "cat/2023/0.jpg", "cat/2024/0.jpg"],
    "odd names": [os.fsdecode(b"caf\xe9/0.jpg"), "日本/0.jpg", "a b/\x1b[31m.jpg", "a b/x.\udcff"],
}  # fmt: skip


@pytest.mark.parametrize("front", ["", "data/"], ids=["as it is", "in a folder"])
@pytest.mark.parametrize("name", TREES)
def test_a_folder_and_a_tar_of_it_agree(tmp_path, name, front):
    folder = tree(tmp_path / "source", *(front + each for each in TREES[name]))
    with tarfile.open(tmp_path / "source.tar", "w") as tar:
        tar.add(folder, ".")
    from_tar = outcome(lambda: ArchiveFiles(tmp_path / "source.tar"))
    from_folder = outcome(lambda: FolderFiles(folder))
    if isinstance(from_folder, str):  # what to do about it differs
        from_tar, from_folder = (re.sub("'[^']*'", "", text).partition(": use ")[0] for text in (from_tar, from_folder))
    assert from_tar == from_folder


@pytest.mark.parametrize("name", ["deeper in a class", "plain", "odd names"])
def test_images_come_in_torchvisions_order(tmp_path, name):
    folder = tree(tmp_path / "source", *TREES[name])
    files = FolderFiles(folder)
    # As torchvision.datasets.folder has it: make_dataset, find_classes.
    expected = []
    for label, of_class in enumerate(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())):
        for root, _, names in sorted(os.walk(folder / of_class, followlinks=True)):
            expected += [
                (os.path.join(root, each), label) for each in sorted(names) if each.lower()[-4:] in (".jpg", ".png")
            ]
    assert list(zip(files.names, files.labels, strict=True)) == expected


def test_the_classes_of_each_tree_are_these(tmp_path):
    classes = {name: outcome(lambda name=name: FolderFiles(tree(tmp_path / name, *TREES[name]))) for name in TREES}
    assert {name: found[0] for name, found in classes.items() if not isinstance(found, str)} == {
        "plain": ["cat", "dog"],
        "a level too many": ["cat", "dog"],
        "two levels too many": ["cat", "dog"],
        "one class with folders in it": ["a", "b"],
        "one class": ["cat"],
        "annotations beside the images": ["cat", "dog"],
        "deeper in a class": ["cat", "cat-b", "dog"],
        "beside the classes": ["cat", "dog"],
        "hidden": ["cat"],
        "other endings": ["cat"],
        "train alone": ["cat", "dog"],
        "vehicles": ["bus", "train", "tram"],
        "a cover in a folder": ["cat", "dog"],
        "one class with years": ["cat"],
        "odd names": ["a b", "caf\udce9", "日本"],
    }


# ---- what is left out is said


@pytest.mark.parametrize(
    ("name", "remarks"),
    [
        ("plain", ""),
        ("a level too many", "the classes are the folders in 'imagenet'"),
        ("two levels too many", "left out: 1 .txt; the classes are the folders in 'some/where'"),
        ("deeper in a class", "3 images are in folders inside their class"),
        ("beside the classes", "left out: 1 image beside the class folders ('0.jpg')"),
        (
            "a cover in a folder",
            "left out: 1 image beside the class folders ('my photos/cover.jpg'); the classes are the folders in "
            "'my photos'",
        ),
        ("hidden", "left out: 8 hidden ('.ipynb_checkpoints')"),
        ("other endings", "left out: 1 .avif, 2 .gif, 1 .jfif, 1 .txt, 1 without an ending"),
        ("odd names", r"left out: 1 .\udcff"),
    ],
)
def test_what_is_left_out_or_taken_in_is_said_in_a_line(tmp_path, name, remarks):
    assert FolderFiles(tree(tmp_path / "source", *TREES[name])).remarks == remarks


def test_pack_says_it_once_and_keeps_it_beside_the_file(tmp_path, capsys):
    source = tree(tmp_path / "source", "a/x.gif", "a/._0.jpg", os.fsdecode(b"caf\xe9/x.TXT"))
    for name in ("a", os.fsdecode(b"caf\xe9")):
        (source / name / "0.jpg").write_bytes(encoded(photo(0)))
    assert main(["pack", str(source), str(tmp_path / "x.beton")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1] == "left out: 1 .gif, 1 .txt, 1 hidden ('a/._0.jpg')"
    described = json.loads((tmp_path / "x.beton.json").read_text())
    assert described["remarks"] == lines[1]
    assert list(described["classes"]) == Beton(tmp_path / "x.beton").class_names == ["a", "caf\udce9"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_run_and_a_prediction_say_it_in_their_log(tmp_path, caplog, labelled):
    from poolformer.data.folder import open_folder

    tree(tmp_path / "source", "a/0.jpg", "b/0.jpg", "a/x.gif", "a/._0.jpg")
    with caplog.at_level(logging.INFO):
        source, _ = open_folder(str(tmp_path / "source"), labelled=labelled, orient=False)
    assert len(source.labels) == 2
    assert caplog.messages == [f"'{tmp_path}/source': left out: 1 .gif, 1 hidden ('a/._0.jpg')"]


def test_pictures_that_are_not_read_are_named_where_nothing_else_is_there(tmp_path):
    tree(tmp_path / "source", "a/0.gif", "a/1.gif", "b/0.HEIC")
    with pytest.raises(DataError, match=r"has no images in class folders: .* \(2 \.gif and 1 \.heic left out: convert"):
        FolderFiles(tmp_path / "source")
    with pytest.raises(
        DataError, match=r"there are no images below '.*', but 2 \.gif and 1 \.heic, which are not read"
    ):
        image_listing(tmp_path / "source")


# ---- links, and what cannot be read


@pytest.mark.skipif(os.name != "posix", reason="of links as POSIX has them")
def test_every_folder_is_read_once_whatever_leads_to_it(tmp_path):
    tree(tmp_path, "other/fox/0.jpg", "other/more/0.jpg", "source/cat/0.jpg", "source/zebra/0.jpg", "beside/0.jpg")
    links = {
        "a": "zebra",  # the folder itself counts, though its name comes later
        "cat/round": "..",
        "cat/above": "../..",
        "cat/self": "self",
        "fox": "../other/fox",
        "fox2": "../other/fox",
        "zebra/more": "../../other/more",
        "zebra/lost": "../nowhere",
        "zebra/1.jpg": "../cat/0.jpg",
        "zebra/2.jpg": "../nowhere.jpg",
    }
    for name, target in links.items():
        (tmp_path / "source" / name).symlink_to(target)
    files = FolderFiles(tmp_path / "source")
    assert files.class_names == ["cat", "fox", "zebra"]
    assert [os.path.relpath(name, files.root) for name in files.names] == [
        *("cat/0.jpg", "fox/0.jpg", "zebra/0.jpg", "zebra/1.jpg", "zebra/more/0.jpg"),
    ]
    assert "3 links that lead nowhere or outside ('cat/self')" in files.remarks
    assert "4 links to folders that are read already ('a')" in files.remarks
    assert "2 links to folders followed" in files.remarks


@pytest.mark.skipif(os.name != "posix", reason="of files as POSIX has them")
def test_pipes_named_like_images_are_not_read(tmp_path):
    tree(tmp_path / "source", "a/0.jpg", "b/0.jpg")
    os.mkfifo(tmp_path / "source" / "a" / "1.jpg")
    files = FolderFiles(tmp_path / "source")
    assert len(files.names) == 2
    assert files.remarks == "left out: 1 device or pipe ('a/1.jpg')"


@pytest.fixture
def nobody(tmp_path_factory):
    """Someone who may not read everything, as root may."""
    if os.name != "posix":
        pytest.skip("of permissions as POSIX has them")
    is_root = os.geteuid() == 0
    if is_root:
        base = tmp_path_factory.getbasetemp()  # a process of several has it one folder deeper
        for folder in (base, *base.parents):
            if folder.is_relative_to(Path(tempfile.gettempdir()) / "pytest-of-root"):
                folder.chmod(0o755)
        os.seteuid(65534)
    yield
    if is_root:
        os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_named_and_a_class_is_an_error(tmp_path, request):
    tree(tmp_path / "source", "a/0.jpg", "a/private/1.jpg", "b/0.jpg", "c/0.jpg")
    tmp_path.chmod(0o755)
    (tmp_path / "source" / "a" / "private").chmod(0)
    request.getfixturevalue("nobody")
    try:
        assert FolderFiles(tmp_path / "source").remarks == "left out: 1 folder that cannot be read ('a/private')"
        os.seteuid(os.getuid())
        (tmp_path / "source" / "b").chmod(0)
        request.getfixturevalue("nobody")
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"source': the folder 'b' cannot be read; it may be a class"):
            FolderFiles(tmp_path / "source")
        with pytest.raises(DataError, match=r"source/b' cannot be read: Permission denied"):
            FolderFiles(tmp_path / "source" / "b")
        with pytest.raises(DataError, match=r"there is no folder '.*source/b/x'"):
            FolderFiles(tmp_path / "source" / "b" / "x")
    finally:
        os.seteuid(os.getuid())
        (tmp_path / "source" / "a" / "private").chmod(0o755)
        (tmp_path / "source" / "b").chmod(0o755)


# ---- splits are no classes


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train val", "train val"),
        ("Training Testing", "Testing Training"),
        ("train valid test", "test train valid"),
        ("seg_train seg_test seg_pred", "seg_pred seg_test seg_train"),
        ("TRAIN TEST TEST_SIMPLE", "TEST TEST_SIMPLE TRAIN"),
        ("train2017 val2017", "train2017 val2017"),
        ("training_set test_set", "test_set training_set"),
        ("TrainImages TestImages", "TestImages TrainImages"),
        ("imagenet-train imagenet-val", "imagenet-train imagenet-val"),
        ("dev test", "dev test"),
        ("train bus tram", ""),
        ("train", ""),
        ("train trainset", ""),
        ("train_station test_tube", ""),
        ("attest contrail valley", ""),
    ],
)
def test_splits_are_told_by_their_names(names, splits):
    assert list(splits_among(names.split())) == splits.split()


@pytest.mark.parametrize(
    ("names", "use"),
    [
        ("Training Testing", "--data.train {0}/Training --data.val {0}/Testing, or `poolformer pack {0} FILE"),
        ("train valid test", "--data.train {0}/train --data.val {0}/valid --data.test {0}/test, or `poolformer"),
        ("seg_train seg_test", "--data.train {0}/seg_train --data.val {0}/seg_test, or `poolformer pack {0} FILE"),
        ("training validation evaluation", "--data.val {0}/validation --data.test {0}/evaluation, or `poolformer"),
        ("val test", "--data.val {0}/val --data.test {0}/test, or `poolformer pack {0} FILE --split test`"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", [[], ["docs/x.txt", "top.jpg"], ["models/a/0.jpg"]], ids=str)
def test_splits_are_refused_with_the_command_to_use(tmp_path, names, use, beside):
    source = tmp_path / "source"
    tree(source, *beside, *(f"{name}/{label}/0.jpg" for name in names.split() for label in ("cat", "dog")))
    with pytest.raises(DataError) as caught:
        FolderFiles(source)
    assert f"'{source}' holds {', '.join(sorted(names.split()))}, which are no classes but splits: use " in str(
        caught.value
    )
    assert use.format(source) in str(caught.value)


def test_classes_that_are_named_like_splits_are_classes(tmp_path):
    """A set of vehicles has a class `train`; one of words may have `test` as well."""
    tree(tmp_path / "a", "train/0.jpg", "bus/0.jpg")
    tree(tmp_path / "b", "train/0.jpg", "test/0.jpg", "word/0.jpg")
    tree(tmp_path / "c", "train/steam/0.jpg", "bus/old/0.jpg")
    assert FolderFiles(tmp_path / "a").class_names == FolderFiles(tmp_path / "c").class_names == ["bus", "train"]
    assert FolderFiles(tmp_path / "b").class_names == ["test", "train", "word"]


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_split_is_found_wherever_it_lies(tmp_path, kind):
    def files(name: str, split: str) -> FolderFiles | ArchiveFiles:
        if kind == "folder":
            return FolderFiles(tmp_path / name, split=split)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            tar.add(tmp_path / name, name)
        return ArchiveFiles(tmp_path / f"{name}.tar", split=split)

    tree(tmp_path / "deep", "x/images/train/cat/0.jpg", "x/images/val/dog/0.jpg", "x/images/val/train/0.jpg", "y.txt")
    assert files("deep", "train").class_names == ["cat"]
    assert files("deep", "images/val").class_names == ["dog", "train"]
    assert files("deep", "val").remarks == ""
    tree(
        tmp_path / "twice",
        "seg_train/seg_train/cat/0.jpg",
        "seg_train/seg_train/dog/0.jpg",
        "seg_test/seg_test/cat/0.jpg",
    )
    assert files("twice", "seg_train").class_names == ["cat", "dog"]
    tree(tmp_path / "inside", *TREES["splits in the classes"])
    found = files("inside", "val")
    assert [(found.class_names[label], found.read(n)) for n, label in enumerate(found.labels)] == [
        ("cat", b"cat/val/1.jpg"),
        ("dog", b"dog/val/0.jpg"),
    ]
    tree(tmp_path / "several", "a/train/cat/0.jpg", "b/train/cat/0.jpg")
    with pytest.raises(DataError, match=r"has 2 folders 'train': '.*a/train', '.*b/train'; give one of these"):
        files("several", "train")
    with pytest.raises(DataError, match=r"has no folder 'test', but a, b$"):
        files("several", "test")


@pytest.mark.parametrize("classes", [3, 30])
def test_many_folders_of_one_image_each_are_asked_about(tmp_path, classes):
    root = tree(tmp_path / "images", *(f"{number}/0.jpg" for number in range(classes)))
    asked = f"each of the {classes} classes has one image: are these folders classes?"
    assert FolderFiles(root).remarks == ("" if classes == 3 else asked)
