"""Images whose classes a list says are packed as the class folders that one would make of them."""

import shutil
import tarfile

import pytest
from data.test_label_lists import devkit
from data.test_zip_archive import zipped
from data_images import encoded, photo

from poolformer.commands.pack import main as pack
from poolformer.data.labelled import LabelledFiles
from poolformer.errors import DataError

CLASSES = {"ILSVRC2012_val_00000001": "n01", "ILSVRC2012_val_00000002": "n02", "ILSVRC2012_val_00000003": "n01"}


@pytest.fixture
def images(tmp_path):
    """Images in one folder, and beside it the same in class folders."""
    for n, (name, wnid) in enumerate(CLASSES.items()):
        for folder in (tmp_path / "images" / "val", tmp_path / "sorted" / wnid):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.JPEG").write_bytes(encoded(photo(n)))
    return tmp_path / "images"


@pytest.fixture(params=["folder", "tar", "zip"])
def source(request, images, tmp_path):
    if request.param == "tar":
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            archive.add(images / "val", "")
        return tmp_path / "x.tar"
    return zipped(images, tmp_path / "x.zip", prefix="ILSVRC/") if request.param == "zip" else images / "val"


@pytest.mark.parametrize("make", ["devkit", "kaggle"])
def test_imagenets_validation_images_are_packed_as_from_class_folders(source, tmp_path, make):
    labels = tmp_path / "labels"
    if make == "devkit":
        devkit(labels)
    else:
        lines = [f"{name},{wnid} 1 2 3 4\n" for name, wnid in reversed(CLASSES.items())]
        labels.write_text("".join(["ImageId,PredictionString\n", *lines]))
    assert pack([str(source), str(tmp_path / "a.beton"), "--labels", str(labels)]) == 0
    assert pack([str(tmp_path / "sorted"), str(tmp_path / "b.beton")]) == 0
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()


def listed(images, text, **options):
    list_file = images.parent / "x.csv"
    list_file.write_text(text)
    return LabelledFiles(images, list_file, **options)


def test_numbers_stay_numbers_and_names_are_sorted(images):
    files = listed(images, "val/ILSVRC2012_val_00000001.JPEG,3\n./val/ILSVRC2012_val_00000002.JPEG,1.0\n")
    assert (files.class_names, files.labels) == (["0", "1", "2", "3"], [1, 3])
    assert "1 images that 'x.csv' does not name" in files.remarks
    assert "no image has the label 0" in files.remarks
    files = listed(images, "ILSVRC2012_val_00000001,b\nval\\ILSVRC2012_val_00000002.JPEG,a\n")
    assert (files.class_names, files.labels) == (["a", "b"], [0, 1])


def test_rows_without_images_and_repeated_ones_are_counted(images):
    text = "path,label\nILSVRC2012_val_00000001,a\nnone.jpg,b\nval/ILSVRC2012_val_00000001.JPEG,a\n"
    with pytest.raises(DataError, match=r"x.csv', line 3: there is no image 'none.jpg' in .*\(1 of 3 are not there"):
        listed(images, text)
    files = listed(images, text, skip_missing=True)
    assert len(files.names) == 1
    assert "1 rows that say the same again, 1 rows without an image ('none.jpg')" in files.remarks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.jpg,a\n2.jpg,b\n", "line 1: there is no image '1.jpg' in .*, nor any other that it names"),
        ("../x.jpg,a\n", "line 1: '../x.jpg' leads outside of"),
        ("ILSVRC2012_val_00000001.JPEG,-1\n", "line 1: the label -1 is out of range"),
        ("ILSVRC2012_val_00000001.JPEG,4294967296\n", "line 1: the label 4294967296 is out of range"),
        (
            "ILSVRC2012_val_00000001.JPEG,a\nval/ILSVRC2012_val_00000001.JPEG,b\n",
            "lines 1 and 2: 'val/.*' is of two classes, 'a' and 'b'",
        ),
    ],
)
def test_rows_that_cannot_be_true_are_lines(images, text, said):
    with pytest.raises(DataError, match=said):
        listed(images, text)


def test_paths_may_begin_above_the_folder_and_lead_to_no_other(images):
    files = listed(images / "val", "C:\\data\\val\\ILSVRC2012_val_00000001.JPEG,a\n/x/ILSVRC2012_val_00000002.JPEG,b\n")
    assert files.labels == [0, 1]
    with pytest.raises(DataError, match=r"there is no image 'train/ILSVRC2012_val_00000001\.JPEG'"):
        listed(images, "train/ILSVRC2012_val_00000001.JPEG,a\n")


def test_a_file_name_that_two_folders_have_is_no_image_of_its_own(images):
    shutil.copytree(images / "val", images / "copy")
    with pytest.raises(DataError, match="there is no image 'ILSVRC2012_val_00000001'"):
        listed(images, "ILSVRC2012_val_00000001,a\n")
