"""The packaged configurations, found by name from any directory: ``s12``, ``ablation/identity``."""

from pathlib import Path
from typing import Any

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


def is_overlay(path: str | Path) -> bool:
    """Return whether a file is one of the packaged folders', which say little and lie over another file."""
    return Path(path).resolve().parent.parent == config_dir().resolve()


def default_config() -> Path:
    """Return what ``poolformer fit`` trains by when nothing is said: the digits."""
    return config_dir() / "digits.yaml"


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: It is no text, no YAML, no mapping, empty, or has a key twice; the file is named.
    """
    import yaml  # 0.1 s

    class Loader(yaml.SafeLoader):
        """YAML lets a second equal key win and says nothing."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise ConfigError(f"'{path}' has the key '{key}' twice")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not a configuration: it is no UTF-8 text") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"'{path}' is not YAML: {reason}{f', line {mark.line + 1}' if mark else ''}") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"'{path}' is not a configuration: it holds {kind}, not options by name")
    for section in ("model", "data", "trainer"):
        if section in content and content[section] is None:
            raise ConfigError(f"'{path}': '{section}' has no options; take the line out or indent what belongs to it")
    return content


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
