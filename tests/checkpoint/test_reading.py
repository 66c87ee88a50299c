"""Checkpoints are data: what cannot be read is said in a line, and nothing in a file is ever run."""

import ast
import collections
import functools
import io
import os
import pickle
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import a_checkpoint, saved

from poolformer.checkpoint import reading as checkpoint
from poolformer.checkpoint.reading import read, read_run
from poolformer.checkpoint.record import RECORD, differences, hyper_parameters, record
from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.errors import CheckpointError, PoolformerError
from poolformer.trained import load_classifier


def archive(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


# ---- read


def test_what_was_saved_is_read_onto_the_cpu(tmp_path):
    loaded = read(
        saved(tmp_path / "last.ckpt", a_checkpoint(names=["a"], nothing=None, order=collections.OrderedDict()))
    )
    assert torch.equal(loaded["state_dict"]["w"], torch.arange(4.0))
    assert (loaded["epoch"], loaded["names"], loaded["nothing"]) == (3, ["a"], None)
    assert read(str(tmp_path / "last.ckpt")).keys() == loaded.keys()


WHOLE = archive(a_checkpoint(more=torch.zeros(10_000)))


def without_pickle(content: bytes) -> bytes:
    """The archive with its weights, but without the file that says what they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            if not name.endswith("data.pkl"):
                target.writestr(name, source.read(name))
    return file.getvalue()


DAMAGED = {
    "empty": b"",
    "a hundredth": WHOLE[: len(WHOLE) // 100],
    "half": WHOLE[: len(WHOLE) // 2],
    "all but the last bytes": WHOLE[:-30],
    "random bytes": bytes(torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(1)).tolist()),
    "zeros": bytes(5000),
    "text": b"not a checkpoint\n" * 20,
    "a web page": b"<!DOCTYPE html><html><body>404: Not Found</body></html>\n" * 10,
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "an archive of something else": without_pickle(WHOLE),
    "an empty archive": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_an_error_of_one_line_that_names_it(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "last.ckpt")
    message = str(caught.value)
    assert message.startswith(f"'{tmp_path / 'last.ckpt'}' is not a checkpoint that can be loaded as data: ")
    assert "\n" not in message
    assert len(message) < 500 + 6 * len(str(tmp_path))


@pytest.mark.parametrize("length", range(0, len(WHOLE), len(WHOLE) // 25))
def test_a_file_torn_anywhere_is_an_error_and_never_a_crash(tmp_path, length):
    (tmp_path / "last.ckpt").write_bytes(WHOLE[:length])
    with pytest.raises(CheckpointError):
        read(tmp_path / "last.ckpt")


OTHERS = ()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("start", [b"", pytest.param(b"\x80", marks=OTHERS), pytest.param(b"\x80\x02", marks=OTHERS)])
def test_no_bytes_at_all_give_another_error(tmp_path, start):
    draw = random.Random(0)
    for _ in range(100):
        random_bytes = bytes(draw.randrange(256) for _ in range(draw.randint(0, 50)))
        (tmp_path / "last.ckpt").write_bytes(start + random_bytes if start else WHOLE[draw.randrange(1, len(WHOLE)) :])
        with pytest.raises(CheckpointError):
            read(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("content", "kind"), [([1, 2], "list"), (torch.zeros(3), "Tensor"), (None, "NoneType"), ("a", "str")]
)
def test_something_else_than_a_dictionary_is_no_checkpoint(tmp_path, content, kind):
    with pytest.raises(CheckpointError, match=f"holds a {kind}, not a checkpoint of a run"):
        read(saved(tmp_path / "x.ckpt", content))


def test_a_missing_file_is_said_with_what_lies_there(tmp_path):
    for age_s, name in enumerate(["older.ckpt", "newer.ckpt", "model.pth"]):
        saved(tmp_path / name, {})
        os.utime(tmp_path / name, (1_000_000 + age_s, 1_000_000 + age_s))
    there = f"there is {tmp_path / 'newer.ckpt'}, {tmp_path / 'older.ckpt'}"
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "last.ckpt")
    assert str(caught.value) == f"no checkpoint at '{tmp_path / 'last.ckpt'}'; {there}"


def test_what_does_not_load_is_not_offered(tmp_path):
    whole = saved(tmp_path / "whole.ckpt", {"weights": torch.zeros(1000)}).read_bytes()
    for torn in ("last.ckpt", "best.ckpt"):
        (tmp_path / torn).write_bytes(whole[:2000])
    with pytest.raises(CheckpointError, match=f"; there is {tmp_path}/whole.ckpt$"):
        read(tmp_path / "last.ckpt")
    (tmp_path / "whole.ckpt").unlink()
    with pytest.raises(CheckpointError, match=f"; the others in '{tmp_path}' cannot be loaded either$"):
        read(tmp_path / "last.ckpt")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at '{tmp_path}'"):
        read(tmp_path)


def test_a_torn_file_is_not_offered_as_its_own_remedy(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "last.ckpt")
    assert str(caught.value).count("last.ckpt") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_an_error_of_ours(tmp_path):
    saved(tmp_path / "last.ckpt", a_checkpoint()).chmod(0)
    with pytest.raises(CheckpointError, match="PermissionError"):
        read(tmp_path / "last.ckpt")


# ---- nothing is run


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any):
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


def payloads(marker: Path) -> dict[str, Any]:
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        "exec": Runs(exec, write),
        "eval": Runs(eval, write),
        "os.system": Runs(os.system, f"touch {marker}"),
        "os.mkdir": Runs(os.mkdir, str(marker)),
        "partial": Runs(functools.partial(Path.touch, marker)),
        "in a list": [1, {"deep": Runs(exec, write)}],
    }


WRITERS = {
    "archive": lambda content, file: torch.save(content, file),
    "torch's old format": lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
    "pickle": lambda content, file: pickle.dump(content, file),
    "pickle, protocol 2": lambda content, file: pickle.dump(content, file, protocol=2),
}


# PyTorch says that it did not expect it before it refuses it.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("turned_off", [False, True], ids=["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("payload", payloads(Path()))
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, monkeypatch, payload, write, turned_off):
    if turned_off:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "was-run"
    with (tmp_path / "evil.ckpt").open("wb") as file:
        write(a_checkpoint(extra=payloads(marker)[payload]), file)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt' is not a checkpoint that can be loaded as data"):
        read(tmp_path / "evil.ckpt")
    assert not marker.exists()


def test_the_payloads_would_run(tmp_path):
    for name, payload in payloads(tmp_path / "was-run").items():
        pickle.loads(pickle.dumps(payload))
        assert (tmp_path / "was-run").exists(), name
        (tmp_path / "was-run").unlink() if name != "os.mkdir" else (tmp_path / "was-run").rmdir()


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_no_verb_runs_what_a_checkpoint_holds(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    saved(tmp_path / "evil.ckpt", a_checkpoint(extra=payloads(tmp_path / "was-run")["exec"]))
    assert cli.main([verb, "--config", "digits", "--ckpt_path", "evil.ckpt"]) == 2
    assert "'evil.ckpt' is not a checkpoint that can be loaded as data" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_that_would_unpack_to_more_than_it_is_is_refused(tmp_path, method):
    content = io.BytesIO(archive(a_checkpoint(more=torch.zeros(1_000_000))))
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(tmp_path / "last.ckpt", "w", method) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match=r"as data: its \d+ bytes would unpack to 40\d{5};"):
        read(tmp_path / "last.ckpt")


LEADS_AWAY = ["../../thesis", "/run/checkpoints/../../home", "local:/home", "file:///home", "s3://b/x", "/a::s3://b/x"]


FILES = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models")


@pytest.mark.parametrize("path", LEADS_AWAY)
@pytest.mark.parametrize("place", FILES)
@pytest.mark.parametrize("name", ["ModelCheckpoint{'monitor': None}", "Keeper", "my.module.Best{'a': 1}"])
def test_a_checkpoint_cannot_name_files_that_going_on_would_delete(tmp_path, path, place, name):
    state = {"best_model_path": "", place: {path: torch.tensor(1.0)} if place == "best_k_models" else path}
    with pytest.raises(CheckpointError, match=r"last\.ckpt' was not written by a run: a callback of it names"):
        read_run(saved(tmp_path / "last.ckpt", a_checkpoint(callbacks={name: state})))


ORDINARY = {
    "a time": "12:30",
    "two colons": "a::b",
    "an address": "https://example.org/x",
    "a path above": "../imagenet",
    "a path by protocol": {"source": "s3://bucket/imagenet", "s3://bucket": 1},
    "many numbers": [float(number) for number in range(150_000)],
    "many texts": [f"class {number}" for number in range(100_001)],
    "deep": {"a": [{"b": [{"c": [{"d": [{"e": [{"f": [{"g": [{"h": [{"i": [{"j": [{"k": 1}]}]}]}]}]}]}]}]}]}]},
    "one object in many places": [[0.5] * 100] * 1000,
}


@pytest.mark.parametrize("value", ORDINARY.values(), ids=ORDINARY)
def test_what_a_callback_may_well_keep_is_read(tmp_path, value):
    made = record(backbone="poolformer_tiny", mixer="pooling", class_names=None)
    content = a_checkpoint(callbacks={"Mine": {"value": value}}, **{RECORD: made})
    assert read_run(saved(tmp_path / "last.ckpt", content))["callbacks"]["Mine"]["value"] == value


@pytest.mark.slow
def test_the_names_of_very_many_classes_are_read(tmp_path):
    names = tuple(f"class {number}" for number in range(100_001))  # a data module may well have a tuple
    made = record(backbone="poolformer_tiny", mixer="pooling", class_names=names)
    content = read_run(saved(tmp_path / "last.ckpt", a_checkpoint(**{RECORD: made})))
    assert content[RECORD]["class_names"] == list(names)
    assert differences(content, backbone="poolformer_tiny", mixer="pooling") == []


def test_a_head_whose_weights_are_the_other_way_round_is_read():
    weights = {"head": torch.zeros(4, 1000)}
    assert hyper_parameters({"hyper_parameters": {"num_classes": 1000}, "state_dict": weights})["num_classes"] == 1000


WRONG_PARTS = [{"state_dict": [1]}, {"loops": 3}, {"callbacks": "x"}, {"optimizer_states": {}}, {"lr_schedulers": None}]


@pytest.mark.parametrize("parts", [*WRONG_PARTS, {"pytorch-lightning_version": 2}], ids=str)
def test_parts_that_lightning_would_stumble_over_are_refused(tmp_path, parts):
    (name,) = parts
    with pytest.raises(CheckpointError, match=rf"last\.ckpt' was not written by a run: its {name} is a "):
        read_run(saved(tmp_path / "last.ckpt", a_checkpoint(**parts)))


def nested(levels: int, width: int) -> list:
    return [nested(levels - 1, 1)] * width if levels else []


ENDLESS: list = []
ENDLESS.append(ENDLESS)
BOMB: list = []
for _ in range(60):
    BOMB = [BOMB, BOMB]
BOMBS = {"billions by reference": BOMB, "itself": ENDLESS, "deep": nested(200, 1)}


ENTRIES = ("hyper_parameters", "datamodule_hyper_parameters", "callbacks", "loops", "poolformer_run", "anything")


@pytest.mark.parametrize("part", [RECORD, *ENTRIES, "optimizer_states", "lr_schedulers"])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_values_that_stand_for_billions_are_refused_at_once(tmp_path, bomb, part):
    held = {"backbone": "poolformer_s12", "mixers": {}, "x": bomb}
    path = saved(tmp_path / "x.ckpt", a_checkpoint(**{part: [held] if part.endswith("s") else held}))
    began_s = time.monotonic()
    for use in (read, read_run, load_classifier):
        with pytest.raises(CheckpointError, match=rf"its '{part}' holds itself, is nested too deeply, or stands for"):
            use(path)
    assert time.monotonic() - began_s < 5


TOWER: Any = ()
for _ in range(40):
    TOWER = (TOWER, TOWER)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["a key", "a value"])
@pytest.mark.parametrize("old", [False, True], ids=["archive", "torch's old format"])
def test_a_key_that_would_be_hashed_for_hours_is_refused(tmp_path, place, old):
    tower = pickle.dumps(TOWER, protocol=2)[2:-1]  # without PROTO and STOP
    inside = b"}" + tower + b"K\x01s" if place == "a key" else b"]" + tower + b"a"
    content = b"\x80\x02}X\x01\x00\x00\x00a" + inside + b"s."
    if old:
        (tmp_path / "x.ckpt").write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as target:
            target.writestr("archive/data.pkl", content)
            target.writestr("archive/version", b"3\n")
    with pytest.raises(CheckpointError, match="its tuples stand for too many values"):
        read(tmp_path / "x.ckpt")


@pytest.mark.slow
def test_a_long_tuple_that_a_run_keeps_is_read(tmp_path):
    order = tuple(range(1_300_000))  # such as of the images of ImageNet
    assert read(saved(tmp_path / "x.ckpt", a_checkpoint(callbacks={"Order": {"order": order}})))["callbacks"]["Order"]


@pytest.mark.parametrize("weights", [{None: torch.zeros(1)}, {"w": 3}, {"w": None}], ids=str)
def test_weights_that_are_no_tensors_by_name_are_refused(tmp_path, weights):
    with pytest.raises(CheckpointError, match="its state_dict holds more than tensors by name"):
        read_run(saved(tmp_path / "x.ckpt", a_checkpoint(state_dict=weights)))


TAKES_A_FUNCTION = """
from collections.abc import Callable

import torch
from torch import nn


class Active(nn.Module):
    def __init__(self, dim: int, act: Callable = torch.relu):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)
"""


def test_an_option_of_a_mixer_does_not_import_what_a_checkpoint_names(tmp_path, fake_plugin):
    points = {"poolformer.mixers": {"active": "active_mixer:Active"}}
    came_along = f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n\n\ndef act(x):\n    return x\n"
    fake_plugin(entry_points=points, modules={"active_mixer": TAKES_A_FUNCTION, "came_along": came_along})
    options = {"backbone": "poolformer_tiny", "num_classes": 2, "image_size": 8}
    weights = ImageClassifier(**options, mixer={"name": "active", "act": "torch.tanh"}).state_dict()
    evil = {**options, "mixer": {"name": "active", "act": "came_along.act"}}
    file = saved(tmp_path / "x.ckpt", a_checkpoint(hyper_parameters=evil, state_dict=weights))
    with pytest.raises(CheckpointError, match=r"trained with came_along\.act, a module that you have to vouch for"):
        load_classifier(file)
    assert not (tmp_path / "was-run").exists()
    with pytest.warns(UserWarning, match="does not say"):  # it would have been
        load_classifier(file, trusted=["came_along.act"])
    assert (tmp_path / "was-run").exists()


HYPER_PARAMETERS = [{"num_classes": "x"}, {"mean": 3}, {"mixer": 5}, {"norm": []}, {"drop_path_rate": {}}, {"act": "x"}]


@pytest.mark.parametrize("options", HYPER_PARAMETERS, ids=str)
def test_hyper_parameters_that_make_no_model_are_an_error_of_ours(tmp_path, options):
    options = {"backbone": "poolformer_tiny", "num_classes": 2, "image_size": 8, **options}
    with pytest.raises(PoolformerError):
        load_classifier(saved(tmp_path / "x.ckpt", a_checkpoint(hyper_parameters=options)))


def test_every_load_of_a_file_says_that_it_is_data():
    # Explicitly: the default can be turned off by an environment variable.
    for file in Path(checkpoint.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert options.get("weights_only") == "True", f"{file.name}:{node.lineno}"
