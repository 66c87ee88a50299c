"""Files and packages of strangers, changed at random: each is read or refused in a line, soon and in little memory.

A few hundred cases from fixed seeds; POOLFORMER_FUZZ=10000 makes it that many of each kind. With NUMBA_BOUNDSCHECK=1
the kernels check each place that they read. A crash or a hang ends the process with the traceback of the case.
"""

import collections
import contextlib
import faulthandler
import importlib
import io
import itertools
import os
import random
import re
import resource
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import process_left_as_it_was
from data_images import encoded, photo

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.backbones import create_backbone
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.checkpoint.reading import read, read_run
from poolformer.checkpoint.record import RECORD, hyper_parameters, record
from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.commands import verify
from poolformer.configs import config_dir
from poolformer.data.beton import FIELD, HEADER, JPEG, NOTES, RAW, Beton, Stored
from poolformer.data.beton_stream import BetonWriter
from poolformer.data.pixels.jpeg import decode
from poolformer.data.pixels.transforms import EvalTransform, TrainTransform
from poolformer.data.sources import BetonSource
from poolformer.errors import DataError, PoolformerError, one_line
from poolformer.registry import BACKBONES, MIXERS, find, listing
from poolformer.trained import load_classifier

HANG_S = 300
MEMORY = 3 << 30
"""Bytes that reading may take: an image of the largest size that is decoded needs 2 GiB."""
NUMBERS = [
    0,
    1,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


def fuzz(name: str, usual: int, attempt: Callable[[random.Random], str]) -> None:
    """Try cases from one seed each, and print how many came out how."""
    outcomes: collections.Counter[str] = collections.Counter()
    for case in range(int(os.environ.get("POOLFORMER_FUZZ", usual))):
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=sys.__stderr__)
        try:
            outcomes[attempt(random.Random(case))] += 1
        except Exception as error:
            error.add_note(f"{name}, case {case}") if hasattr(error, "add_note") else None
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
    print(f"\n{name}: {sum(outcomes.values())} cases: {dict(outcomes.most_common())}")
    assert len(outcomes) > 1, f"{name} tests nothing: {outcomes}"


def assert_short(error: PoolformerError) -> None:
    assert "\n" not in str(error)
    assert one_line(error).isprintable()
    assert len(one_line(error)) < 2000


@pytest.fixture(autouse=True)
def little_memory():
    """Let what would take gigabytes fail."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def changed(data: bytes, draw: random.Random, *, within: int | None = None) -> bytes:
    """Change one to four places of some bytes, of the first ``within`` of them if given."""
    result = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(max(1, min(len(result), within or len(result))))
        size = draw.choice([1, 2, 4, 8])
        number = draw.choice([*NUMBERS, draw.getrandbits(64)]) % 256**size
        part = result[place : place + draw.randint(1, 64)]
        kind = draw.randrange(7)
        if kind < 3:
            result[place : place + size] = number.to_bytes(size, draw.choice(["little", "big"]))
        elif kind == 3:
            result[place : place + 1] = bytes([result[place] ^ 1 << draw.randrange(8)]) if result else b"\0"
        elif kind == 4:
            del result[place : place + len(part)]
        elif kind == 5:
            result[place:place] = part * draw.randint(1, 3)
        elif within is None:
            del result[place:]
    return bytes(result)


# ---- images

PICTURES = [
    encoded(photo(0)),
    encoded(photo(1), progressive=True),
    encoded(photo(2).convert("L")),
    encoded(photo(3).convert("CMYK")),
    encoded(photo(4), "PNG"),
    encoded(photo(5).convert("P"), "PNG"),
    *(encoded(photo(6), kind) for kind in ("BMP", "TIFF", "WEBP", "GIF", "PPM")),
]


@pytest.mark.slow
def test_changed_images_are_decoded_or_refused():
    def attempt(draw: random.Random) -> str:
        data = changed(draw.choice(PICTURES), draw, within=draw.choice([None, 64, 700]))
        try:
            pixels = decode(data, "x")
        except DataError as error:
            assert_short(error)
            return "refused"
        assert pixels.dtype == np.uint32
        return "decoded"

    fuzz("images", 400, attempt)


# ---- .beton files

TRANSFORMS = [
    EvalTransform(image_size=24, crop_pct=0.9),
    TrainTransform(
        image_size=24,
        seed=0,
        scale=(0.08, 1.0),
        ratio=(0.75, 4 / 3),
        hflip=0.5,
        interpolation="random",
        auto_augment="rand-m9-mstd0.5-inc1",
    ),
]


def packed(path: Path) -> bytes:
    with BetonWriter(path, capacity=4) as writer:
        for n in range(4):
            image = photo(n, width=40 + n, height=60 - n)
            pixels = np.asarray(image)
            data = pixels.reshape(-1) if n == 2 else np.frombuffer(encoded(image), np.uint8)
            writer.add(Stored(RAW if n == 2 else JPEG, *pixels.shape[:2], data), n % 2)
        writer.finish(["cat", "dog"], {"max_side": None})
    return path.read_bytes()


def resealed(data: bytes) -> bytes:
    """Make the checksums fit what stands there, as whoever writes a file can."""
    result = bytearray(data)
    with contextlib.suppress(ValueError, IndexError):
        header = np.frombuffer(data, HEADER, 1)[0]
        start = HEADER.itemsize + 2 * FIELD.itemsize
        place = HEADER.itemsize + FIELD.itemsize - 1024
        row, samples = 24, int(header["samples"])
        notes = np.frombuffer(data, NOTES, 1, place).copy()
        block = data[int(notes["place"][0]) :][: int(notes["text_size"][0]) + 4 * samples]
        index, allocations = data[start : start + row * samples], data[int(header["allocations"]) :]
        notes["notes_crc"] = zlib.crc32(block)
        notes["index_crc"] = zlib.crc32(allocations, zlib.crc32(index, zlib.crc32(header.tobytes())))
        result[place : place + NOTES.itemsize] = notes.tobytes()
    return bytes(result)


@pytest.mark.slow
def test_changed_beton_files_are_loaded_within_their_bounds_or_refused(tmp_path):
    whole = packed(tmp_path / "whole.beton")
    original = Beton(tmp_path / "whole.beton")
    for sample, transform in itertools.product(range(4), TRANSFORMS):  # the kernels are compiled before a case is timed
        BetonSource(original).load(sample, transform, 0, np.empty((3, 24, 24), np.uint8))
    first = int(np.frombuffer(whole, HEADER, 1)["page_size"][0])  # where the images begin
    described = HEADER.itemsize + 2 * FIELD.itemsize + 4 * 24
    head, rest = whole[:described], whole[first:]
    unsealed = whole.replace(b"metafmr1", bytes(8))
    frame = np.empty((5, 24, 24), np.uint8)

    def attempt(draw: random.Random) -> str:
        data, kind = draw.choice([(whole, "checksums"), (unsealed, "none"), (whole, "made to fit")])
        head = data[:described]
        if draw.random() < 0.7:  # header, index; the fields' arguments are long and mostly unused
            place = draw.choice([0, 0, HEADER.itemsize, HEADER.itemsize + FIELD.itemsize - 1024, described - 96])
            end = min(described, place + draw.choice([24, 40, 96]))
            part = changed(head[place:end], draw, within=end - place)
            head = head[:place] + part[: end - place].ljust(end - place, b"\0") + head[end:]
            body = rest
        else:
            body = changed(rest, draw) if draw.random() < 0.5 else rest[:-800] + changed(rest[-800:], draw)
        data = head + data[described:first] + body
        path = tmp_path / "x.beton"
        path.write_bytes(resealed(data) if kind == "made to fit" else data)
        try:
            beton = Beton(path)
        except DataError as error:
            assert_short(error)
            return f"refused ({kind})"
        if kind == "checksums":  # what is accepted is what was packed
            assert (beton.labels == original.labels).all()
            with contextlib.suppress(DataError):
                assert all((beton.read(n).data == original.read(n).data).all() for n in range(4))
        with contextlib.redirect_stdout(io.StringIO()):
            verdict = verify.main([str(path), "--num_workers", "1"])
        assert verdict in (0, 1)
        source, refused = BetonSource(beton), 0
        for sample in range(len(beton)):
            for transform in TRANSFORMS:
                frame[:] = 77
                try:
                    source.load(sample, transform, 0, frame[1:4])
                except DataError:
                    refused += 1
                source.fill(np.array([sample]), transform, 0, frame[None, 1:4])
                assert (frame[0] == 77).all()
                assert (frame[4] == 77).all()
        return f"{'images refused' if refused else 'loaded'}{', verify says sound' * (not verdict)} ({kind})"

    assert head + whole[described:first] + rest == whole
    fuzz(".beton files", 200, attempt)


# ---- checkpoints

JUNK = [
    None,
    True,
    -1,
    2**63,
    10**12,
    float("nan"),
    "",
    "x" * 10_000,
    "a.b:c",
    "../../x",
    "s3://x/y",
    "\ud800\0\x1b[31m\n",
    b"bytes",
    [],
    {},
    [[[[]]]],
    {"name": "pooling"},
    {"class_path": "os.system"},
    (1, 2, 3),
    torch.zeros(()),
    torch.zeros(2, 3),
    torch.eye(3).to_sparse(),
    torch.zeros(1).expand(1 << 40),
    torch.zeros(2, dtype=torch.complex64),
    torch.float16,
    torch.Size([1]),
    collections.OrderedDict,
]


def replaced(value: Any, draw: random.Random) -> Any:
    """Put junk somewhere into nested mappings and lists, as a value or as a key, or take something out."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        rest = {name: one for name, one in value.items() if name != key}
        kind = draw.randrange(12)
        if kind == 0:
            return rest
        if kind == 1:
            return {**rest, draw.choice([3, None, "", "x.y", "__class__", "_class_path", (1,)]): value[key]}
        return {**value, key: replaced(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], replaced(value[place], draw), *value[place + 1 :]]
    return draw.choice(JUNK)


def repickled(content: bytes, draw: random.Random) -> bytes:
    """The archive with its pickle changed, and all its sums made to fit."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            target.writestr(name, changed(part, draw) if name.endswith("data.pkl") else part)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of tensors of strange kinds PyTorch says a lot
def test_changed_checkpoints_are_loaded_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    options = {"backbone": "poolformer_tiny", "num_classes": 3, "image_size": 8}
    model = ImageClassifier(**options, mixer=[{"name": "pooling", "pool_size": 5}, "attention", "identity", "pooling"])
    backbone = create_backbone("poolformer_tiny", num_classes=3, mixer=model.hparams.mixer)
    made_with = record(backbone=model.hparams.backbone, mixer=model.hparams.mixer, class_names=["a", "b", "c"])
    content = {
        "state_dict": {name: tensor for name, tensor in model.state_dict().items() if "metrics" not in name},
        "epoch": 3,
        "global_step": 30,
        "pytorch-lightning_version": "2.6.6",
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{}": {"best_model_path": "/run/best.ckpt", "best_k_models": {}}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [{"last_epoch": 3}],
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": {"batch_size": 3, "_class_path": "poolformer.data.DigitsData"},
        RECORD: made_with,
    }
    file = io.BytesIO()
    torch.save(content, file)
    whole, path = file.getvalue(), tmp_path / "x.ckpt"
    plain = {name: content[name] for name in content if name not in ("state_dict", RECORD, "hyper_parameters")}

    def attempt(draw: random.Random) -> str:
        kind = draw.choice(["values", "values", "values", "pickle", "bytes"])
        if kind == "values":
            named = {name: content[name] for name in (RECORD, "hyper_parameters", "state_dict")}
            one = draw.choice([*named, *named, "all"])
            parts = replaced(plain, draw) if one == "all" else {**plain, one: replaced(content[one], draw)}
            torch.save({**named, **parts} if isinstance(parts, dict) else parts, path)
        else:
            path.write_bytes(repickled(whole, draw) if kind == "pickle" else changed(whole, draw))
        said = []
        for use in (
            lambda: read(path),
            lambda: hyper_parameters(read_run(path)),
            lambda: load_classifier(path),
            lambda: load_pretrained(backbone, path, name="poolformer_tiny", mixer=model.hparams.mixer),
        ):
            try:
                use()
                said.append("loaded")
            except PoolformerError as error:
                assert_short(error)
                said.append("refused")
        return f"{kind}: {said[2]}{', as weights alone loaded' if said[2] != said[3] == 'loaded' else ''}"

    fuzz("checkpoints", 50, attempt)


# ---- configurations

WORDS = [
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "'",
    '"',
    "|",
    ">",
    "\t",
    "\0",
    "é",
    "\n",
    "~",
    "#",
    "?",
    "%",
]
WORDS += ["<<: *a", "!!python/name:os.system", "class_path", "init_args", "name", "null", ".inf", "2020-01-01", "1e309"]


def reworded(text: str, draw: random.Random) -> str:
    """Change some characters, words or lines of a text."""
    for _ in range(draw.randint(1, 3)):
        parts = re.split(draw.choice([r"(\n)", r"(\W)", r"(: )", r"()"]), text)
        place = draw.randrange(len(parts))
        kind = draw.randrange(5)
        if kind == 0:
            parts[place] = draw.choice(WORDS)
        elif kind == 1:
            parts.insert(place, draw.choice(WORDS))
        elif kind == 2:
            parts[place] = str(draw.choice([*NUMBERS, -1, 0.5, "true", "x", "[1, 2]", "{a: 1}"]))
        elif kind == 3:
            parts[place] *= draw.choice([0, 2, 50])
        else:
            other = draw.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        text = "".join(parts)
    return text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_changed_configurations_are_read_or_refused_in_three_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [(config_dir() / f"{name}.yaml").read_text() for name in ("digits", "s12", "short/16")]
    texts += [f"model: {{mixer: [{{name: pooling, pool_size: 5}}, pooling, &a {{name: attention}}, *a]}}\n{texts[0]}"]

    def attempt(draw: random.Random) -> str:
        text = reworded(draw.choice(texts), draw)
        data = changed(text.encode(), draw) if draw.random() < 0.15 else text.encode()
        Path("own.yaml").write_bytes(data)
        out, err = io.StringIO(), io.StringIO()
        with process_left_as_it_was(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(["fit", "--config", "own.yaml", "--print_config"])
            except SystemExit as left:
                code = left.code
        assert code in (0, 2), text
        assert "Traceback" not in err.getvalue(), text
        if code == 2:
            lines = [line for line in err.getvalue().splitlines() if not line.startswith("warning: ")]
            assert 1 <= len(lines) <= 3, text
            assert len(err.getvalue()) < 3000, text
        return "refused" if code else "read"

    fuzz("configurations", 30, attempt)


# ---- packages

NAMES = ["my", "pooling", "", " ", "a b", "a/b", "a:b", "é", "\x1b[31m", "x" * 5000, "__class__", "1", "-", "[x]", "#"]
VALUES = [
    "m:f",
    "",
    ":",
    "m",
    "m:",
    ":f",
    "os:system",
    "a b:c",
    "m:f [x]",
    "é:é",
    "..:x",
    "m:f:g",
    "x" * 5000,
    "m:0",
    "\0",
]
FILES = [
    "[poolformer.mixers]\n{name} = {value}\n",
    "[poolformer.mixers]\n{name} = {value}\n{name} = {value}\n[poolformer.backbones]\n{name}={value}\n",
    "{name} = {value}\n[poolformer.mixers]\n",
    "[poolformer.mixers\n{name} = {value}\n",
    "[poolformer.mixers]\n{name}\n= {value}\n",
    "[poolformer.mixers]\r\n{name}\t=\t{value}\r\n",
    "\ufeff[poolformer.mixers]\n{name} = {value}\n",
]
METADATA = [
    "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    "Name: {name}\n",
    "Version: {version}\n",
    "",
    "\n\nName: {name}\n",
    "Name: {name}\nName: other\nVersion: {version}\nVersion: 2\n",
]


@pytest.mark.slow
def test_hostile_packages_are_listed_or_left_out_and_harm_nobody(tmp_path, monkeypatch):
    def attempt(draw: random.Random) -> str:
        folder = tmp_path / str(draw.random())
        for number in range(draw.randint(1, 3)):
            info = folder / f"{draw.choice(['my', 'poolformer', 'é', 'x' * 100])}{number}-1.dist-info"
            info.mkdir(parents=True)
            named = {"name": draw.choice(NAMES), "value": draw.choice(VALUES)}
            points = draw.choice(FILES).format(**named).encode()
            about = draw.choice(METADATA).format(
                name=draw.choice(["my", "poolformer", *NAMES]), version=draw.choice(NAMES)
            )
            for file, content in (("entry_points.txt", points), ("METADATA", about.encode())):
                if draw.random() < 0.95:
                    (info / file).write_bytes(changed(content, draw) if content and draw.random() < 0.3 else content)
        (folder / "m.py").write_text(draw.choice(["f = 5\n", "raise SystemExit", "def f(dim): ...\n", "f = \n"]))
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
            patch.syspath_prepend(folder)
            importlib.invalidate_caches()
            assert cli.main(["mixers"]) == 0
            others = {MIXERS: listing(MIXERS), BACKBONES: listing(BACKBONES)}
            assert "pooling" in out.getvalue()
            assert find(MIXERS, "pooling").builtin
            found = "left out"
            for group, names in others.items():
                for name in [*(name for name in names if not names[name].builtin), draw.choice(NAMES)]:
                    entry = None
                    with contextlib.suppress(PoolformerError):
                        entry = find(group, name)
                    if entry and not entry.builtin:
                        found = "listed" if name in names else found
                        with contextlib.suppress(PoolformerError):
                            entry.load()
            sys.modules.pop("m", None)
        return found

    fuzz("packages", 30, attempt)
