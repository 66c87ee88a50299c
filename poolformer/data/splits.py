"""Names of the parts of a data set, such as `train` and `valid`: folders of this kind are no classes."""

import re
from collections import defaultdict
from collections.abc import Iterable

_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validate", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
    "predict": ("pred", "predict", "prediction", "predictions", "inference", "unlabeled", "unlabelled"),
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words}
_FILLING = (
    "set",
    "sets",
    "data",
    "dataset",
    "images",
    "image",
    "imgs",
    "img",
    "folder",
    "split",
    "mini",
    "small",
    "full",
    "simple",
)
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SPLIT = re.compile(rf"({'|'.join(_KINDS)})(?:{'|'.join(_FILLING)})?")


def split_kind(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return what a folder's name says of the part of a data set: (train, val, test or predict; its other words).

    >>> split_kind("seg_train"), split_kind("Testing"), split_kind("bus")
    (('train', ('seg',)), ('test', ()), None)
    """
    words = [word.lower() for word in _TOKEN.findall(name)]
    found = [match for match in map(_SPLIT.fullmatch, words) if match]
    if len(found) != 1:
        return None
    rest = tuple(word for word in words if word not in _FILLING and word != found[0][0])
    return _KINDS[found[0][1]], rest


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Those of some names that are splits of one data set, and the kind of each; empty where fewer than two kinds are.

    A class may be called `train`; beside it there is no `test`.
    """
    groups: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in sorted(names):
        if split := split_kind(name):
            groups[split[1]][name] = split[0]
    return max((group for group in groups.values() if len(set(group.values())) > 1), key=len, default={})
