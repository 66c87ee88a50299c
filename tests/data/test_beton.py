"""The .beton format: what is written is read, by us and by ffcv, and what is damaged is told."""

import zlib

import numpy as np
import pytest
from data_images import encoded, photo

from poolformer.data.beton import FIELD, HEADER, JPEG, RAW, ROW, Beton, Stored
from poolformer.data.beton_stream import BetonWriter
from poolformer.data.ffcv_types import leave_types_alone
from poolformer.data.pixels.transforms import EvalTransform, TrainTransform
from poolformer.data.sources import BetonSource
from poolformer.errors import DataError

SAMPLES = 11
CLASSES = ["cat", "dog", "eel"]
EVALUATION = EvalTransform(image_size=24, crop_pct=0.9)
TRAINING = TrainTransform(
    image_size=24,
    seed=0,
    scale=(0.08, 1.0),
    ratio=(0.75, 4 / 3),
    hflip=0.5,
    interpolation="random",
    auto_augment="rand-m9-mstd0.5-inc1",
)


def samples():
    for n in range(SAMPLES):
        image = photo(n, width=40 + n, height=60 - n)
        pixels = np.asarray(image)
        if n == 4:
            yield Stored(RAW, *pixels.shape[:2], pixels.reshape(-1))
        else:
            yield Stored(JPEG, *pixels.shape[:2], np.frombuffer(encoded(image), np.uint8))


@pytest.fixture
def path(tmp_path):
    with BetonWriter(tmp_path / "x.beton", capacity=SAMPLES + 5) as writer:
        for n, image in enumerate(samples()):
            writer.add(image, n % 3)
        writer.finish(CLASSES, {"max_side": None})
    return tmp_path / "x.beton"


def test_samples_come_back(path):
    beton = Beton(path)
    assert len(beton) == SAMPLES
    assert beton.labels.tolist() == [n % 3 for n in range(SAMPLES)]
    assert beton.class_names == CLASSES
    assert beton.settings == {"max_side": None}
    for n, image in enumerate(samples()):
        read = beton.read(n)
        assert read[:3] == image[:3]
        np.testing.assert_array_equal(read.data, image.data)


def test_entries_say_where_images_lie_in_any_order(path):
    beton, content, images = Beton(path), path.read_bytes(), list(samples())
    asked = np.array([7, 4, 10, 0, 4])
    entries = beton.entries(asked)
    assert [each.dtype for each in entries] == ["u1", "i4", "i4", "i8", "i8", "u4"]
    for n, mode, height, width, place, size, crc in zip(asked, *entries, strict=True):
        data = content[place : place + size]
        assert (mode, height, width) == images[n][:3]
        assert data == images[n].data.tobytes()
        assert zlib.crc32(data) == crc


def test_an_image_larger_than_a_page_lies_within_one(tmp_path):
    """ffcv with os_cache=False reads whole pages."""
    sizes = [3000, 9 << 20, 1000, 5 << 20, 5 << 20]
    with BetonWriter(tmp_path / "x.beton", capacity=len(sizes)) as writer:
        for size in sizes:
            writer.add(Stored(JPEG, 1, 1, np.full(size, 7, np.uint8)), 0)
        writer.finish(["a"], {})
    beton = Beton(tmp_path / "x.beton")
    page = int(np.fromfile(beton.path, HEADER, 1)["page_size"][0])
    assert page == 16 << 20
    for n, size in enumerate(sizes):
        place = int(beton.entries(np.array([n])).place[0])
        assert beton.read(n).data.size == size
        assert place // page == (place + size - 1) // page


@pytest.mark.slow
@pytest.mark.ffcv
@pytest.mark.parametrize("os_cache", [True, False])
def test_ffcv_reads_what_we_write(path, os_cache):
    pytest.importorskip("ffcv")
    from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
    from ffcv.loader import Loader
    from ffcv.pipeline.compiler import Compiler
    from ffcv.transforms import Squeeze, ToTensor

    Compiler.set_enabled(False)
    leave_types_alone()
    pipelines = {
        "image": [CenterCropRGBImageDecoder((32, 32), ratio=1), ToTensor()],
        "label": [IntDecoder(), ToTensor(), Squeeze([1])],
    }
    loader = Loader(str(path), batch_size=4, num_workers=1, drop_last=False, os_cache=os_cache, pipelines=pipelines)
    batches = [(images.clone(), labels.tolist()) for images, labels in loader]
    assert [label for _, labels in batches for label in labels] == [n % 3 for n in range(SAMPLES)]
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    assert all(images.float().std() > 10 for images, _ in batches)


@pytest.mark.slow
@pytest.mark.ffcv
def test_we_read_what_ffcv_writes(tmp_path):
    pytest.importorskip("ffcv")
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    pixels = [np.asarray(photo(n, width=40 + n)) for n in range(7)]
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    dataset = [(image, n) for n, image in enumerate(pixels)]
    DatasetWriter(str(tmp_path / "x.beton"), fields, num_workers=1).from_indexed_dataset(dataset)
    beton = Beton(tmp_path / "x.beton")
    assert not beton.has_checksums
    assert beton.class_names is None
    assert beton.labels.tolist() == list(range(7))
    for n, image in enumerate(pixels):
        np.testing.assert_array_equal(beton.read(n).data.reshape(image.shape), image)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"there is no file '.*x\.beton'; `poolformer pack SRC"):
        Beton(tmp_path / "x.beton")


def test_what_is_no_beton_by_its_name_is_not_packed(tmp_path):
    with pytest.raises(DataError) as caught:
        Beton(tmp_path / "val")
    assert str(caught.value) == f"there is no file '{tmp_path}/val'"
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"val' is a folder, not a \.beton file: 'poolformer pack'"):
        Beton(tmp_path / "val")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100_000), b"\x89PNG" * 30_000], ids=len)
def test_foreign_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "x.beton").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.beton' is (too short|not a \.beton)"):
        Beton(tmp_path / "x.beton")


@pytest.mark.parametrize("share", [0.00001, 0.001, 0.3, 0.9, 0.99999])
def test_truncated_files_are_refused_by_name(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"x\.beton' is (too short|cut off)"):
        Beton(path)


def test_an_unfinished_file_is_refused(path):
    """What a killed ffcv writer leaves: no allocation table yet."""
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content[: HEADER.itemsize], HEADER).copy()
    header["allocations"] = 0
    path.write_bytes(header.tobytes() + content[HEADER.itemsize :])
    with pytest.raises(DataError, match=r"x\.beton' is unfinished"):
        Beton(path)


def test_zero_images_are_refused(path):
    content = path.read_bytes()
    header = np.frombuffer(content[: HEADER.itemsize], HEADER).copy()
    header["samples"] = 0
    path.write_bytes(header.tobytes() + content[HEADER.itemsize :])
    with pytest.raises(DataError, match=r"x\.beton' holds no images"):
        Beton(path)


@pytest.mark.slow
def test_every_flipped_byte_of_header_and_index_is_found(path):
    content = path.read_bytes()
    index = HEADER.itemsize + 2 * FIELD.itemsize
    places = [*range(HEADER.itemsize), *range(index, index + SAMPLES * ROW.itemsize)]
    places += range(int(np.fromfile(path, HEADER, 1)["allocations"][0]) - 50, len(content))
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.beton"):
            Beton(path)


def test_flipped_bytes_of_an_image_are_found_and_named(path):
    *_, places, sizes, _ = Beton(path).entries(np.arange(SAMPLES))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for n in range(SAMPLES):
        damaged = bytearray(content)
        damaged[places[n] + int(rng.integers(sizes[n]))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"x\.beton', sample {n}: its bytes are not those that were packed"):
            Beton(path).read(n)


@pytest.mark.parametrize(("height", "width"), [(4000, 40), (60, 9000), (65535, 65535), (59, 40), (1, 1)])
@pytest.mark.parametrize("transform", [EVALUATION, TRAINING], ids=["evaluation", "training"])
def test_an_image_of_another_size_than_its_index_says_is_not_loaded(tmp_path, height, width, transform):
    """With sound checksums: whoever writes a file writes those too."""
    data = np.frombuffer(encoded(photo(0, width=40, height=60)), np.uint8)
    with BetonWriter(tmp_path / "x.beton", capacity=1) as writer:
        writer.add(Stored(JPEG, height, width, data), 0)
        writer.finish(["a"], {})
    source = BetonSource(Beton(tmp_path / "x.beton"))
    with pytest.raises(DataError, match=rf"x\.beton', sample 0: it is no JPEG of {width} x {height} pixels"):
        source.load(0, transform, 0, np.empty((3, 24, 24), np.uint8))


NOTES_OF_A_STRANGER = [b"", b"{}", b"[]", b"7", b'{"classes": 3, "settings": {}}', b"[" * 100_000]


@pytest.mark.parametrize("text", NOTES_OF_A_STRANGER, ids=lambda text: text[:12])
def test_notes_that_do_not_fit_are_refused_whatever_their_checksum(path, monkeypatch, text):
    monkeypatch.setattr("poolformer.data.beton.json.dumps", lambda content: text.decode())
    with BetonWriter(path, capacity=1) as writer:
        writer.add(next(samples()), 0)
        writer.finish(["a"], {})
    with pytest.raises(DataError, match=r"x\.beton' is no file that `poolformer pack` wrote: its notes do not fit"):
        Beton(path)


def test_negative_labels_are_refused(tmp_path):
    with BetonWriter(tmp_path / "x.beton", capacity=2) as writer:
        for image, label in zip(samples(), [0, -3], strict=False):
            writer.add(image, label)
        writer.finish(["a"], {})
    with pytest.raises(DataError, match=r"x\.beton' sample 1 has the label -3"):
        Beton(tmp_path / "x.beton")


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def write():
        with BetonWriter(tmp_path / "x.beton", capacity=5) as writer:
            writer.add(next(samples()), 0)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert list(tmp_path.iterdir()) == []
