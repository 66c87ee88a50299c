"""Which versions a number was made by: of Python, and of the packages that decide it."""

import platform
from importlib.metadata import PackageNotFoundError, version

from .. import __version__

_PACKAGES = ("torch", "lightning", "timm", "numpy")


def versions() -> str:
    """Return the versions that are at work, in a line.

    Example:
        >>> versions().startswith("Python ")
        True
    """
    return ", ".join([f"Python {platform.python_version()}", f"poolformer {__version__}", *map(_version, _PACKAGES)])


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} of unknown version"
