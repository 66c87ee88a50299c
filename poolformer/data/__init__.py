"""Data modules, chosen on the command line by class name: ``--data FolderData``.

Their loaders yield uint8 images (B, 3, H, W) and int64 labels (B,); what a sample needs of the
training recipe happens here, what a batch needs happens in the classifier.
"""

import importlib
from typing import Any

__all__ = ["DigitsData", "FFCVData", "FolderData"]

# Loaded when used: packing and verifying must not wait for Lightning.
_HOMES = {"DigitsData": "digits", "FFCVData": "ffcv", "FolderData": "folder"}

_FUNCTIONS = {"pack_dataset": "row_files"}


def __getattr__(name: str) -> Any:
    if home := {**_HOMES, **_FUNCTIONS}.get(name):
        return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_FUNCTIONS])
