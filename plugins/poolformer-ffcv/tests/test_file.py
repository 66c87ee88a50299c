"""Files: with any fields, of ours and of ffcv, and what is wrong with one as a line."""

from pathlib import Path

import numpy as np
import pytest
from conftest import photo, write
from ffcv.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.writer import DatasetWriter
from poolformer_ffcv.data import FFCVLoaderData
from poolformer_ffcv.file import BetonFile

from poolformer.errors import DataError


class OtherImage(RGBImageField):
    """A field of somebody's, which ffcv stores as unknown."""


@pytest.fixture
def rich(tmp_path) -> str:
    """A file with more than an image and a label."""
    fields = {
        "json": JSONField(),
        "photo": RGBImageField(write_mode="raw"),
        "vector": NDArrayField(np.dtype("float32"), (3,)),
        "target": IntField(),
        "bytes": BytesField(),
        "weight": FloatField(),
    }
    samples = [
        ({"n": n}, photo(n), np.ones(3, np.float32), n % 3, np.arange(n + 1, dtype=np.uint8), 0.5) for n in range(6)
    ]
    DatasetWriter(str(tmp_path / "rich.beton"), fields, num_workers=1).from_indexed_dataset(samples)
    return str(tmp_path / "rich.beton")


def batches(path, **options):
    module = FFCVLoaderData(val=path, image_size=16, batch_size=4, num_workers=1, **options)
    module.setup("validate")
    return module, list(module.val_dataloader())


def test_a_file_of_ours_has_its_class_names(beton):
    module, found = batches(beton)
    assert (module.class_names, module.num_classes) == (["0", "1", "2"], 3)
    assert [len(labels) for _, labels in found] == [4, 4, 3]


def test_fields_beside_image_and_label_are_left_out(rich):
    module, found = batches(rich)
    assert [labels.tolist() for _, labels in found] == [[0, 1, 2, 0], [1, 2]]
    assert found[0][0].shape == (4, 3, 16, 16)
    assert (module.class_names, module.num_classes) == (None, 3)
    batches(rich, val_pipelines={"json": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_pipelines": {"phto": ["ToTensor"]}}, r"val_pipelines names 'phto', but .* Did you mean 'photo'"),
        ({"val_pipelines": {"json": ["ToTensor"]}}, "val_pipelines.json is given, but a batch is the fields 'photo'"),
        ({"val_pipelines": {"photo": None}}, "val_pipelines.photo is null, but a batch is"),
        ({"image_field": "imge"}, "image_field names 'imge', but .* has the fields json, photo, vector"),
        ({"custom_fields": {"other": "ffcv.fields.IntField"}}, "custom_fields names 'other', but"),
        ({"custom_fields": {"json": "os.path"}}, r"custom_fields\.json: 'os\.path' is no class of ffcv's Field"),
        ({"val_pipelines": {"target": ["NDArrayDecoder", "ToTensor"]}}, "NDArrayDecoder does not decode this field"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_fields_is_a_line(rich, options, message):
    with pytest.raises(DataError, match=message) as caught:
        batches(rich, **options)
    assert "\n" not in str(caught.value)


def test_custom_fields_are_named_by_class_path(tmp_path):
    path = str(tmp_path / "custom.beton")
    writer = DatasetWriter(path, {"image": OtherImage(write_mode="raw"), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset([(photo(n), n) for n in range(3)])
    with pytest.raises(DataError, match="Must specify a custom_field entry for custom field image"):
        batches(path)
    _, found = batches(path, custom_fields={"image": f"{__name__}.OtherImage"})
    assert found[0][1].tolist() == [0, 1, 2]


DAMAGE = {
    "nothing": b"",
    "cut off": lambda content: content[:-100],
    "cut off at a row": lambda content: content[:-24],
    "cut in half": lambda content: content[: len(content) // 2],
    "version": lambda content: b"\xff" + content[1:],
    "samples": lambda content: content[:8] + bytes([content[8] ^ 8]) + content[9:],
    "many samples": lambda content: content[:12] + b"\xff" + content[13:],
    "page size": lambda content: content[:4] + bytes(4) + content[8:],
    "field type": lambda content: content[:24] + b"\x77" + content[25:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_line_and_no_hang(beton, damage):
    content = Path(beton).read_bytes()
    Path(beton).write_bytes(DAMAGE[damage](content) if callable(DAMAGE[damage]) else DAMAGE[damage])
    with pytest.raises(DataError, match=r"x\.beton'") as caught:
        batches(beton)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_a_line(tmp_path):
    with pytest.raises(
        DataError, match=r"'.*missing\.beton' is not there: 'poolformer pack SRC FILE\.beton' makes one"
    ):
        BetonFile(str(tmp_path / "missing.beton"))
    with pytest.raises(DataError, match=r"is a folder, not a \.beton file"):
        BetonFile(str(tmp_path))
    with pytest.raises(DataError, match=r"has no val images: pass --data\.val FILE\.beton"):
        FFCVLoaderData().setup("validate")


def test_labels_that_validation_has_more_of_are_a_line(tmp_path, beton):
    module = FFCVLoaderData(train=beton, val=write(tmp_path / "more.beton", 5, label=int))
    with pytest.raises(DataError, match="has the label 4, but there are only 3 classes"):
        module.setup("fit")
