"""Checkpoints that were changed: each is loaded as it was saved or refused in a line, soon and in little memory.

POOLFORMER_MUTATIONS=1000 tries as many; from fixed seeds.
"""

import collections
import copy
import io
import os
import random
import time
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bounds import little_memory_and_time

from poolformer.checkpoint.reading import read_run
from poolformer.checkpoint.record import RECORD, record
from poolformer.classifier import ImageClassifier
from poolformer.errors import PoolformerError
from poolformer.trained import load_classifier

CASES = int(os.environ.get("POOLFORMER_MUTATIONS", 40))
OPTIONS = {"backbone": "poolformer_tiny", "num_classes": 10, "image_size": 8}


def content() -> dict[str, Any]:
    torch.manual_seed(0)
    weights = ImageClassifier(**OPTIONS).state_dict()
    states = {index: {"step": torch.tensor(3.0), "exp_avg": torch.rand(50)} for index in range(4)}
    group = {"lr": 0.1, "betas": (0.9, 0.999), "weight_decay": 0.05, "params": list(states)}
    return {
        "epoch": 1,
        "global_step": 22,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "/run/last.ckpt", "best_k_models": {}}},
        "optimizer_states": [{"state": states, "param_groups": [group]}],
        "lr_schedulers": [{"last_epoch": 1}],
        "hyper_parameters": dict(OPTIONS),
        "poolformer_run": {"devices": 1},
        "poolformer_metrics": {"val/top1": 0.5},
        RECORD: record(backbone="poolformer_tiny", mixer="pooling", class_names=[str(n) for n in range(10)]),
    }


def as_file(what: Any) -> bytes:
    file = io.BytesIO()
    torch.save(what, file)
    return file.getvalue()


SOUND = content()
WHOLE = as_file(SOUND)


def flipped(draw: random.Random) -> bytes:
    data = bytearray(WHOLE)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def truncated(draw: random.Random) -> bytes:
    return WHOLE[: draw.randrange(len(WHOLE))]


def with_a_page_of_zeros(draw: random.Random) -> bytes:
    data, size = bytearray(WHOLE), draw.choice([16, 512, 4096])
    place = draw.randrange(len(data) // size) * size
    data[place : place + size] = bytes(len(data[place : place + size]))
    return bytes(data)


def with_pages_swapped(draw: random.Random) -> bytes:
    pages = [WHOLE[place : place + 512] for place in range(0, len(WHOLE), 512)]
    first, second = draw.sample(range(len(pages) - 1), 2)
    pages[first], pages[second] = pages[second], pages[first]
    return b"".join(pages)


def with_parts(change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with its parts changed and their checksums made anew."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


def with_parts_swapped(draw: random.Random) -> bytes:
    def swap(parts: dict[str, bytes]) -> None:
        first, second = draw.sample([name for name in parts if "/data/" in name], 2)
        parts[first], parts[second] = parts[second], parts[first]

    return with_parts(swap)


def with_its_pickle_edited(draw: random.Random) -> bytes:
    def edit(parts: dict[str, bytes]) -> None:
        data = bytearray(parts["archive/data.pkl"])
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(data))
            if draw.random() < 0.5:
                data[place] = draw.randrange(256)
            else:
                del data[place : place + draw.randint(1, 9)]
        parts["archive/data.pkl"] = bytes(data)

    return with_parts(edit)


def forged(draw: random.Random) -> bytes:
    """Without the number that would tell; what comes out may be another checkpoint."""
    with zipfile.ZipFile(io.BytesIO(with_its_pickle_edited(draw))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if not name.endswith("serialization_id")}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, part in parts.items():
            target.writestr(name, part)
    return file.getvalue()


def bombs(draw: random.Random) -> Any:
    value: Any = draw.choice([[], {}, "x"])
    wrap = draw.choice([lambda one: [one, one], lambda one: {"a": one, "b": one}, lambda one: (one, [one])])
    for _ in range(draw.choice([30, 60, 90])):
        value = wrap(value)
    endless: list = []
    endless.append(endless)
    return draw.choice([value, value, endless])


HOSTILE = [
    *(None, -1, 10**9, 2**62, 0.5, float("nan"), "", "x" * 10_000, "os:system", "../../etc", "s3://x/y", b"x", [], {}),
    *([1] * 1000, {"a": {}}, {1: 2}, {"name": "random_matrix"}, {"name": "pooling", "pool_size": 10**9 + 1}, set(), 1),
    *(
        torch.zeros(3),
        torch.zeros(1).expand(10**9),
        torch.empty(3, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
    ),
    *("random_matrix", "spatial_fc", "timm/vit_giant_patch14_224", "poolformer_m48", ["pooling"] * 4, [["a"]] * 4),
]


def with_hostile_values(draw: random.Random) -> bytes:
    made = copy.deepcopy(SOUND)
    for _ in range(draw.randint(1, 2)):
        holder: Any = made
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw.choice(keys)
            if not isinstance(holder[key], dict | list) or not holder[key] or draw.random() < 0.3:
                break
            holder = holder[key]
        if isinstance(holder, dict) and draw.random() < 0.1:
            del holder[key]
        else:
            holder[key] = bombs(draw) if draw.random() < 0.3 else draw.choice(HOSTILE)
    for key, values in (("image_size", [256, 4096, 10**7]), ("num_classes", [10**9, 0, -3])):
        if draw.random() < 0.2 and isinstance(made.get("hyper_parameters"), dict):
            made["hyper_parameters"][key] = draw.choice(values)
    return as_file(made)


DAMAGES = [flipped, truncated, with_a_page_of_zeros, with_pages_swapped, with_parts_swapped, with_its_pickle_edited]


def is_as_saved(loaded: Any, sound: Any = SOUND) -> bool:
    if isinstance(sound, torch.Tensor):
        return isinstance(loaded, torch.Tensor) and torch.equal(loaded, sound)
    if isinstance(sound, dict):
        return loaded.keys() == sound.keys() and all(is_as_saved(loaded[key], sound[key]) for key in sound)
    if isinstance(sound, list | tuple):
        return len(loaded) == len(sound) and all(map(is_as_saved, loaded, sound))
    return loaded == sound


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [*DAMAGES, forged, with_hostile_values], ids=lambda change: change.__name__)
def test_a_changed_checkpoint_is_as_it_was_saved_or_refused(tmp_path, change):
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s, path = 0.0, tmp_path / "last.ckpt"
    load_classifier(_written(path, WHOLE))  # imports what it needs
    for case in range(max(1, CASES // (len(DAMAGES) + 2))):
        _written(path, change(random.Random(case)))
        began_s = time.process_time()
        with little_memory_and_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for use in (read_run, load_classifier):
                said = ""
                try:
                    used = use(path)
                except PoolformerError as error:
                    said = str(error)
                outcomes[f"{use.__name__}: {'refused' if said else 'loaded'}"] += 1
                assert "\n" not in said, f"case {case}"
                if change in DAMAGES and use is read_run and not said:
                    assert is_as_saved(used), f"case {case}"
        slowest_s = max(slowest_s, time.process_time() - began_s)
    print(f"\n{change.__name__}: {dict(outcomes)}, slowest {slowest_s:.2f} s")


def _written(path: Any, data: bytes) -> Any:
    path.write_bytes(data)
    return path
