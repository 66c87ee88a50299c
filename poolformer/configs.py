"""The packaged configurations, found by name from any directory: ``s12``, ``ablation/identity``."""

from pathlib import Path

from .errors import ConfigError
from .registry import suggestion


def config_dir() -> Path:
    """Return the folder of the packaged configurations; in a checkout, ``configs/`` at the top."""
    packaged = Path(__file__).parent / "_configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def config_names() -> list[str]:
    """Return the names that ``--config`` finds, sorted."""
    folder = config_dir()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_config(given: str) -> Path:
    """Return the file that a path or a packaged name stands for; a file in the way wins over a name.

    Raises:
        ConfigError: Neither exists.
    """
    if Path(given).is_file():
        return Path(given)
    name = given.removeprefix("configs/").removesuffix(".yaml")
    if name in config_names():
        return config_dir() / f"{name}.yaml"
    raise ConfigError(
        f"there is no file '{given}' and no packaged configuration of that name."
        f"{suggestion(name, config_names())} 'poolformer configs' lists them."
    )
