"""The packaged configurations, found by name from any directory: ``s12``, ``ablation/identity``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, describe, suggestion
from .files.paths import with_home

MAX_BYTES = 1_000_000
"""Of a configuration: a weights file given by a slip, or a device without end, is not read to its end."""

STDIN = Path("-")
_OF_A_CLASS = ["class_path", "init_args"]
_SECTIONS = ("model", "data", "trainer")
# Options that may be a name alone, with the key that it has where options stand beside it.
_CLASSES: dict[tuple[str, ...], str] = {
    ("data",): "class_path",
    **{("trainer", name): "class_path" for name in ("logger", "profiler", "strategy", "accelerator")},
}
_NAMED: dict[tuple[str, ...], str] = {("model", "mixer"): "name", ("model", "optimizer"): "name"}


def config_dir() -> Path:
    """Return the folder of the packaged configurations; in a checkout, ``configs/`` at the top."""
    packaged = Path(__file__).parent / "_configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def config_names() -> list[str]:
    """Return the names that ``--config`` finds, sorted."""
    folder, protocols = config_dir(), protocols_dir()
    files = (path for path in folder.rglob("*.yaml") if path.parent != protocols)
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def protocols_dir() -> Path:
    """Return the folder of the packaged protocols, which are no configurations of ``poolformer fit``."""
    return config_dir() / "protocols"


def protocol_names() -> list[str]:
    """Return the names that ``poolformer judge --protocol`` finds, sorted."""
    return sorted(path.stem for path in protocols_dir().glob("*.yaml"))


def is_overlay(path: str | Path) -> bool:
    """Return whether a file is one of the packaged folders', which say little: overlays over another file."""
    return Path(path).resolve().parent.parent == config_dir().resolve()


def check_base(files: Sequence[Path]) -> None:
    """Refuse an overlay that has no configuration before it to change.

    Args:
        files: Of a run, in their order.

    Raises:
        ConfigError: The first is an overlay.
    """
    if files and is_overlay(files[0]):
        overlay = f"{files[0].parent.name}/{files[0].stem}"
        raise ConfigError(
            f"'{overlay}' is an overlay: name what it changes before it, as --config s12 or --config digits"
        )


def default_config() -> Path:
    """Return what ``poolformer fit`` trains by when nothing is said: the digits."""
    return config_dir() / "digits.yaml"


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: It is no text, no YAML, no mapping, empty, too large, or has a key twice; the file is named.
    """
    import yaml  # 0.1 s

    class Loader(yaml.SafeLoader):
        """YAML lets a second equal key win and says nothing."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
            for key in keys:
                if keys.count(key) > 1:
                    raise ConfigError(f"'{path}' has the key '{key}' twice")
            return super().construct_mapping(node, deep)

    # A date is a text, as it is to the parser: no option takes one, and a version may look like it.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    try:
        data = _bytes(Path(path))
        if len(data) > MAX_BYTES:
            raise ConfigError(f"'{path}' is not a configuration: it is larger than {MAX_BYTES} bytes")
        content = yaml.load(data.decode("utf-8"), Loader)
        json.dumps(content)  # as the parser gets it
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not a configuration: it is no UTF-8 text") from error
    except RecursionError as error:
        raise ConfigError(f"'{path}' is not a configuration: it is nested too deeply") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"'{path}' is not YAML: {reason}{f', line {mark.line + 1}' if mark else ''}") from error
    except Exception as error:  # of values such as 2020-99-99 and !!int x PyYAML makes errors of all kinds
        raise ConfigError(f"'{path}' has a value that no option takes: {describe(error)}") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"'{path}' is not a configuration: it holds {kind}, not options by name")
    for section in _SECTIONS:
        if section in content and content[section] is None:
            raise ConfigError(f"'{path}': '{section}' has no options; take the line out or indent what belongs to it")
    content = _without_dots(content, path)
    _check_data(content.get("data"), path)
    return content


def _bytes(path: Path) -> bytes:
    """Read a little more than a configuration may have, once: a pipe has it once, and a device without end."""
    if path != STDIN:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    if sys.stdin is None:
        raise ConfigError("--config - reads stdin, which is closed")
    data = getattr(sys.stdin, "buffer", sys.stdin).read(MAX_BYTES + 1)
    return data.encode() if isinstance(data, str) else data


def is_piped(path: Path) -> bool:
    """Return whether a configuration can be read once: stdin, or the pipe of ``--config <(...)``."""
    return path == STDIN or (path.exists() and not path.is_file())


def run_name(files: Sequence[Path]) -> str:
    """Return what a run of some configurations is called, if any; ``stdin`` for one that came through a pipe."""
    piped = ("/dev/fd/", "/proc/self/fd/")
    names = ["stdin" if file == STDIN or str(file).startswith(piped) else file.stem for file in files]
    return "-".join(names)


def _without_dots(content: dict[Any, Any], path: str | Path) -> dict[Any, Any]:
    """Return a configuration in which an option such as ``model.mixer.pool_size: 5`` stands in its section.

    There it is found by whoever reads a file, and the parser keeps what else is said in the section.

    Raises:
        ConfigError: An option stands twice, or is one of a value that has none.
    """
    options: list[tuple[tuple[Any, ...], Any]] = []
    for key, value in content.items():
        if key in _SECTIONS and isinstance(value, dict) and value:
            options += [((key, *_parts(option, path)), inner) for option, inner in value.items()]
        else:
            options.append((_parts(key, path) if str(key).partition(".")[0] in _SECTIONS else (key,), value))
    if not any("." in str(key) for key in content) and all(len(parts) <= 2 for parts, _ in options):
        return content
    classes = {parts[:-1] for parts, _ in options if parts[-1] == "class_path"}
    for parts, value in options:
        if isinstance(value, str) or (isinstance(value, dict) and "class_path" in value):
            classes.add(parts)
    nested: dict[Any, Any] = {}
    for parts, value in sorted(options, key=lambda option: len(option[0])):  # first what others are options of
        for holder in classes & _CLASSES.keys():
            at = len(holder)
            if parts[:at] == holder and len(parts) > at and parts[at] not in (*_OF_A_CLASS, "dict_kwargs"):
                parts = (*holder, "init_args", *parts[at:])
        _put(nested, parts, value, path)
    return nested


def _parts(key: Any, path: str | Path) -> tuple[Any, ...]:
    """Split the name of an option at its dots."""
    parts = tuple(key.split(".")) if isinstance(key, str) else (key,)
    if "" in parts and len(parts) > 1:
        raise ConfigError(f"'{path}' has the key '{key}', which names no option")
    return parts


def _put(content: dict[Any, Any], parts: tuple[Any, ...], value: Any, path: str | Path) -> None:
    """Put an option into its sections; a mapping is added to one that is there."""
    *sections, last = parts
    name, place = ".".join(map(str, parts)), content
    for depth, section in enumerate(sections, 1):
        inner = place.get(section, {})
        if isinstance(inner, str) and (key := (_CLASSES | _NAMED).get(parts[:depth])):
            inner = {key: inner}
        if not isinstance(inner, dict):
            holder = ".".join(parts[:depth])
            raise ConfigError(
                f"'{path}': '{name}' is an option of '{holder}', which is no mapping there: {inner!r:.80}"
            )
        place[section] = place = dict(inner)
    if last == "init_args" and value is None:
        value = {}
    if isinstance(value, dict) and isinstance(place.get(last), dict):
        for option, inner in value.items():
            _put(content, (*parts, option), inner, path)
    elif last in place:
        raise ConfigError(f"'{path}' has the key '{name}' twice")
    else:
        place[last] = value


def _check_data(section: Any, path: str | Path) -> None:
    """Find what would be passed over in silence when the section is turned over to a data module."""
    if isinstance(section, dict) and "class_path" in section:
        for key in section:
            if key not in _OF_A_CLASS:
                near = suggestion(str(key), _OF_A_CLASS) or " Options of the data stand below 'init_args'."
                raise ConfigError(f"there is no option 'data.{key}' beside class_path in '{path}'.{near}")
        if not isinstance(section.get("init_args"), dict | None):
            raise ConfigError(f"'{path}': init_args of 'data' are options by name, not {section['init_args']!r:.80}")


def find_config(given: str) -> Path:
    """Return the file that a path or a packaged name stands for; a file in the way wins over a name.

    ``-`` stands for stdin, and a pipe, as of ``--config <(...)``, is a file that can be read once.

    Raises:
        ConfigError: Neither exists.
    """
    given = with_home(given)
    path = Path(given)
    if given == str(STDIN):
        return STDIN
    if path.exists() and not path.is_dir():
        return path.absolute() if path == STDIN else path
    name = given.removeprefix("configs/").removesuffix(".yaml")
    if name in config_names():
        return config_dir() / f"{name}.yaml"
    beside = [str(file) for file in path.parent.glob("*.yaml")] if path.suffix else []
    near = suggestion(given, beside) or suggestion(name, config_names())
    raise ConfigError(
        f"there is no file '{given}' and no packaged configuration of that name.{near} 'poolformer configs' lists them."
    )
