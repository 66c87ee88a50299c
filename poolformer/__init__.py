"""MetaFormer backbones with any token mixer, trained with PyTorch Lightning.

Contents: `create_backbone` and `MetaFormer` build networks, `ImageClassifier` trains them on the
modules of `poolformer.data`, `load_classifier` and `predict` use what was trained, and
`poolformer.testing.check_mixer` tests a mixer of your own.
"""

import importlib
from typing import Any

__all__ = [
    "ImageClassifier",
    "MetaFormer",
    "PoolformerError",
    "__version__",
    "create_backbone",
    "load_classifier",
    "predict",
]

__version__ = "0.1.0"
"""Version of this package, which `pip` knows as ``poolformer-lightning``."""

# Loaded when used: `import poolformer` must cost nothing and must not import Lightning.
_HOMES = {
    "ImageClassifier": "classifier",
    "MetaFormer": "network.metaformer",
    "PoolformerError": "errors",
    "create_backbone": "backbones",
    "load_classifier": "trained",
    "predict": "trained",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
