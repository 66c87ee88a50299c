"""Lists of labels come in every make; what is wrong in one is named by its line."""

import io
import tarfile

import numpy as np
import pytest

from poolformer.data.label_lists import read_label_list
from poolformer.errors import DataError

ROWS = [("a b.jpg", "cat"), ("c/d.jpg", "dog")]


def devkit(path, truth=(2, 1, 2), extra=()):
    """ImageNet's development kit, of two classes and one above them."""
    from scipy.io import savemat

    synsets = np.zeros(3, dtype=[("ILSVRC2012_ID", "i4"), ("WNID", object), ("num_children", "i4")])
    synsets[0], synsets[1], synsets[2] = (1, "n02", 0), (2, "n01", 0), (3, "n00", 2)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    files = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"a b.jpg,cat\nc/d.jpg,dog\n",
        b"\xef\xbb\xbfpath,label\r\na b.jpg,cat\r\n\r\nc/d.jpg,dog",
        b"a b.jpg;cat\n c/d.jpg ; dog\n",
        b'"label"\t"x"\t"filename"\ncat\t1\ta b.jpg\ndog\t2\tc/d.jpg\n',
        b"a b.jpg cat\nc/d.jpg   dog\n",
        b",Image_ID,Breed\n0,a b.jpg,cat\n1,c/d.jpg,dog\n",
        b"sep=;\nfile;whatever\na b.jpg;cat\nc/d.jpg;dog\n",
        "path,label\na b.jpg,cat\nc/d.jpg,dog\n".encode("utf-16"),
        b"path,label,split\na b.jpg,cat,train\nx.jpg,cat,val\nc/d.jpg,dog,train\n",
    ],
    ids=range(9),
)
def test_lists_of_any_make_say_the_same(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    listed = read_label_list(tmp_path / "x.csv", split="train" if b"split" in content else None)
    assert [(row.name, row.label) for row in listed.rows] == ROWS
    assert listed.class_names is None


def test_kaggles_list_of_imagenet_is_read(tmp_path):
    (tmp_path / "x.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n02 85 1 499 272 n02 1 2 3 4\n"
        "ILSVRC2012_val_00000001,n01 1 1 1 1\n"
    )
    rows = read_label_list(tmp_path / "x.csv").rows
    assert [(row.name[-1], row.label, row.line) for row in rows] == [("2", "n02", 2), ("1", "n01", 3)]


def test_imagenets_development_kit_is_read(tmp_path):
    listed = read_label_list(devkit(tmp_path / "kit.tar.gz"))
    assert listed.class_names == ["n01", "n02"]
    assert [row.label for row in listed.rows] == ["n01", "n02", "n01"]
    assert listed.rows[2].name == "ILSVRC2012_val_00000003.JPEG"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"path,label\n", "names no images"),
        (b"path,label\na.jpg\n", "line 2: has no path or no label"),
        (b"a.jpg,cat\nb.jpg,\n", "line 2: has no path or no label"),
        (b"a.jpg,cat,3\n", "line 1: has 3 columns; expected are two, or a header"),
        (
            b"picture,kind\na.jpg,cat\n",
            r"has the columns picture, kind: call one of them 'path' \(or filepath, .*'label'",
        ),
        (b"n,picture,kind\n1,a.jpg,cat\n", "has the columns n, picture, kind: call one of them 'path'"),
        (b"path,size,colour\na.jpg,1,2\n", "has the columns path, size, colour: call one of them 'label'"),
        (b"\x89PNG\r\n\0\0", "it is no text"),
        (b"caf\xe9.jpg,cat\n", "is not encoded in UTF-8"),
        (b"\x1f\x8b no archive", "cannot be read as ImageNet's development kit"),
    ],
)
def test_what_is_wrong_with_a_list_is_a_line(tmp_path, content, said):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_label_list(tmp_path / "x.csv")


def test_a_missing_list_split_or_kit_is_a_line(tmp_path):
    with pytest.raises(DataError, match="there is no list of labels"):
        read_label_list(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("path,label\na.jpg,1\n")
    with pytest.raises(DataError, match="has no column called split"):
        read_label_list(tmp_path / "x.csv", split="train")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataError, match="neither a list of labels nor ImageNet's development kit"):
        read_label_list(tmp_path / "x.tar.gz")
    with pytest.raises(DataError, match="cannot be read as ImageNet's development kit"):
        read_label_list(devkit(tmp_path / "kit.tar.gz", truth=(1, 7)))
