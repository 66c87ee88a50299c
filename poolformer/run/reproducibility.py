"""What makes a resumed run the run that it was: draws that repeat, and changes that are said."""

import hashlib
import json
from collections.abc import Mapping, Sized
from typing import Any

import lightning.pytorch as pl
import numpy as np

from ..draws import StepPart, derived_seed, seed_all
from .lightning_internals import current_batch_idx

WITHOUT_EFFECT = {
    "num_workers",
    "augment_on",
    "test",
    "predict",
    "pretrained",
    "pretrained_skip",
    "compile",
    "cuda_graphs",
    "fused",
    "recompute",
}
"""Options of model and data that change neither what is computed nor on what."""
_NAMED_ELSEWHERE = {"backbone", "mixer"}
"""Options whose changes are warned of on their own."""
# 1 is one batch, 1.0 all of them.
_SHARES = {"limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"}
# What is compared by a digest, which would tell nobody anything.
_DIGESTS = {
    "train_labels": "labels of the training images (changed)",
    "train_files": "files of the training images (changed)",
    "val_labels": "labels of the validation images (changed)",
    "val_files": "files of the validation images (changed)",
}


def seed_draws(*place: int) -> None:
    """Seed Python, NumPy and PyTorch by a place such as (seed, epoch, batch, rank).

    What a batch draws is then the same however often the run was stopped before it, with nothing to save.
    """
    seed_all(derived_seed(*place))


def part_of_step(trainer: pl.Trainer, images: int, *, seed: int) -> StepPart:
    """Return the batch that a trainer is at as a part of its step, whose batches are taken to be equally large."""
    batch, accumulated = current_batch_idx(trainer), trainer.accumulate_grad_batches
    before = batch % accumulated
    accumulated = int(min(accumulated, trainer.num_training_batches - (batch - before)))  # fewer at the end of an epoch
    return StepPart(
        images,
        micro_batch=before * trainer.world_size + trainer.global_rank,
        micro_batches=accumulated * trainer.world_size,
        seed=seed,
        step=trainer.global_step,
    )


def image_set(loader: Any, split: str) -> dict[str, Any]:
    """Return what tells one set of images from another: how many, and digests of their labels in order and their files.

    Args:
        loader: Of the data module, or PyTorch's own; of others nothing is known.
        split: ``train`` or ``val``, how the names begin.
    """
    data_set = getattr(loader, "dataset", None)
    labels = getattr(loader, "labels", getattr(data_set, "targets", None))
    if labels is None:
        return {f"{split}_images": len(data_set)} if isinstance(data_set, Sized) else {}
    known = {f"{split}_images": len(labels), f"{split}_labels": _digest_of_labels(labels)}
    files = getattr(getattr(loader, "source", None), "fingerprint", None)
    return {**known, f"{split}_files": files} if files else known


def _digest_of_labels(labels: Any) -> str | None:
    try:
        content = np.ascontiguousarray(labels, np.int64).tobytes()
    except (TypeError, ValueError):  # what a data set of a user's calls its targets
        return None
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which options a resumed run has that it did not have before, as ``name new (was old)``.

    Options that only one of them knows, or knew of, are left out: another version added or dropped them.
    """
    left_out = WITHOUT_EFFECT | _NAMED_ELSEWHERE
    common = [name for name in now if name in before and name not in left_out and not name.startswith("_")]
    changed = [name for name in common if not _same(name, before[name], now[name])]
    if {"batch_size", "devices"} & {*changed} and "batches_per_epoch" in changed:
        changed.remove("batches_per_epoch")  # follows from them
    for split in ("train", "val"):
        files = f"{split}_files"
        if split in changed and files in common and files not in changed:
            changed.remove(split)  # the same images elsewhere
    return [
        _DIGESTS.get(name) or f"{name} {_plain(now[name])[:80]} (was {_plain(before[name])[:80]})" for name in changed
    ]


def _same(name: str, before: Any, now: Any) -> bool:
    if name == "batches_per_epoch" and any(count in (None, float("inf")) for count in (before, now)):
        return True  # before data is loaded, and for data without a length, Lightning counts infinitely many
    if name not in _SHARES and isinstance(before, int | float) and isinstance(now, int | float):
        return before == now
    return _plain(before) == _plain(now)


def _plain(value: Any) -> str:
    # A tuple comes back from a file as a list.
    return json.dumps(value, default=str)
