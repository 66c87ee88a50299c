"""What makes a run that goes on the run that it was: draws that repeat, and changes that are said."""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

# Options that change neither what is computed nor on what; and, the last two, those that are warned of on their own.
_OF_NO_ACCOUNT = {
    *("num_workers", "augment_on", "val", "test", "predict", "pretrained", "compile", "fused", "recompute"),
    *("backbone", "mixer"),
}


def seed_draws(*place: int) -> None:
    """Seed Python, NumPy and PyTorch by a place such as (seed, epoch, batch, rank).

    What a batch draws is then the same however often the run was stopped before it, with nothing to save.
    """
    seed = int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=4).digest(), "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def training_set(loader: Any) -> dict[str, Any]:
    """Return what tells one training set from another: how many images, and a digest of their labels in order."""
    labels = getattr(loader, "labels", None)
    if labels is None:
        return {}
    digest = hashlib.blake2b(np.ascontiguousarray(labels, np.int64).tobytes(), digest_size=4).hexdigest()
    return {"train_images": len(labels), "train_labels": digest}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which options a run goes on with that it did not have before, as ``name new (was old)``.

    Options that only one of them knows are left out: another version added or dropped them.
    """
    common = [name for name in now if name in before and name not in _OF_NO_ACCOUNT and not name.startswith("_")]
    return [
        f"{name} {_plain(now[name])} (was {_plain(before[name])})"
        for name in common
        if _plain(now[name]) != _plain(before[name])
    ]


def _plain(value: Any) -> str:
    # A tuple comes back from a file as a list.
    return json.dumps(value, default=str)[:80]
