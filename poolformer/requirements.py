"""What this package needs wherever it is installed, by its metadata."""

import re
from importlib.metadata import Distribution, distributions

from .errors import PoolformerError

_MODULES = {"lightning": "lightning.pytorch", "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}


def requirements() -> dict[str, str]:
    """Return what is needed: name, and the whole requirement."""
    ours = _ourselves()
    lines = [line for line in (ours.requires if ours else None) or [] if "extra ==" not in line]
    return {re.split(r"[\s\[<>=!~;(]", line)[0].lower(): line.partition(";")[0].strip() for line in lines}


def module_of(requirement: str) -> str:
    """Return the module by which a requirement is imported."""
    return _MODULES.get(requirement, requirement)


def of_missing(error: ModuleNotFoundError) -> PoolformerError | None:
    """Return that a requirement is not installed, where that is why an import has failed; None for any other."""
    name = next((each for each in requirements() if module_of(each).partition(".")[0] == error.name), None)
    if name is None:
        return None
    return PoolformerError(
        f"{name} is not installed: `poolformer doctor` says all that is missing, and how to install it"
    )


def _ourselves() -> Distribution | None:
    """Return our own package, by its command: its name is the package index's business."""
    return next((each for each in distributions() if "poolformer.cli:main" in _entry_points(each)), None)


def _entry_points(distribution: Distribution) -> str:
    try:
        return distribution.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):  # a torn install
        return ""
