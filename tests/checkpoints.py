"""Small checkpoints, written for a test."""

from pathlib import Path
from typing import Any

import torch


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def a_checkpoint(**parts: Any) -> dict[str, Any]:
    return {"state_dict": {"w": torch.arange(4.0)}, "epoch": 3, "pytorch-lightning_version": "2.6.6", **parts}
