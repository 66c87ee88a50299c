"""Classes that an option names: callbacks, loggers, data modules of the user's own; how they are found, what is wrong.

jsonargparse tries each type that an option may have and reports all that failed; the reason of the one that was meant
is lost among them. So classes are imported here before it parses, and their constructors called through `building`.
"""

import importlib
import inspect
import re
from argparse import Action
from collections.abc import Callable, Iterator, Sequence
from functools import update_wrapper
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from .. import data
from ..errors import ConfigError, PoolformerError, describe, is_end, suggestion
from ..factory_options import is_comparable, parameters
from ..registry import DATA, listing, make_current_directory_importable
from . import said


class Slot(NamedTuple):
    """An option that takes objects.

    Attributes:
        kind: What the option takes, in words.
        base: The class that they have to be of.
    """

    kind: str
    base: type


SLOTS = {
    "data": Slot("data module", pl.LightningDataModule),
    "trainer.callbacks": Slot("callback", Callback),
    "trainer.logger": Slot("logger", Logger),
    "trainer.profiler": Slot("profiler", Profiler),
    "trainer.strategy": Slot("strategy", Strategy),
    "trainer.accelerator": Slot("accelerator", Accelerator),
    "trainer.plugins": Slot("plugin", object),
}
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_FILE = re.compile(r"(?:\./)?([\w/]+)\.py(?:[:.](\w+))?|([A-Za-z_][\w.]*):(\w+)")
_OUTSIDE = re.compile(r"[/\\](site-packages|dist-packages|python3\.\d+)[/\\]|^<frozen ")


def check(files: Sequence[tuple[Path, dict[str, Any]]], flags: Sequence[str]) -> None:
    """Import the classes that are asked for.

    Args:
        files: Configuration files with their contents.
        flags: What the command line says beside them.

    Raises:
        ConfigError: One cannot be imported, or is not what the option takes; the message says why.
    """
    make_current_directory_importable()
    for key in SLOTS:
        for place, value in _values(key, files, flags):
            for name in _names(value):
                _check(key, name, place)


def data_modules() -> list[str]:
    """Return the names of all data modules that are installed."""
    return sorted({*data.__all__, *listing(DATA)})  # ours also in a folder that is not installed


def why_no_data_module(name: str, found: Any) -> str | None:
    """Return why something that a name leads to is no data module, None where it is one."""
    kind, base = SLOTS["data"]
    return None if inspect.isclass(found) and issubclass(found, base) else _not_of(name, found, kind, base)


def options_of(class_path: str) -> list[str]:
    """Return the names of a data module's options, those that it passes on to its base included."""
    return [action.dest.partition(".")[2] for action in _parser_of(class_path)._actions if "." in action.dest]


def described(class_path: str) -> tuple[str, list[Action]]:
    """Return what a data module says of itself, and its options as argparse's actions."""
    parser = _parser_of(class_path)
    module, _, name = class_path.rpartition(".")
    about = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    return about.partition("\n\n")[0], [action for action in parser._actions if "." in action.dest]


def building(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that builds objects, which says why a constructor of the user's or of Lightning's fails.

    It raises `ConfigError` with the reason; what our own constructors raise, it leaves as it is.

    Args:
        build: Called with the class and its arguments.
    """

    return _Building(build)


class _Building:
    """No function within another: the parser goes along to processes that are spawned."""

    def __init__(self, build: Callable[..., Any]):
        self.build = build
        update_wrapper(self, build)  # jsonargparse looks at the signature

    def __call__(self, class_type: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return self.build(class_type, *args, **kwargs)
        except PoolformerError:
            raise
        except Exception as error:
            if class_type.__module__.startswith("poolformer."):
                raise
            name = f"{class_type.__module__}.{class_type.__qualname__}"
            raise ConfigError(f"{name} cannot be built: {reason(error)}") from error


def build(class_type: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a constructor."""
    return class_type(*args, **kwargs)


def reason(error: BaseException) -> str:
    """Return what an exception says in a line, and where in the user's files it was raised."""
    if isinstance(error, SyntaxError):  # it says where by itself
        return describe(error)
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _OUTSIDE.search(file) and not Path(file).is_relative_to(Path(__file__).parents[1]):
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{describe(error)}{place}"


def unknown_name(key: str, message: str) -> str | None:
    """Say that no class has the name alone that an option gives, None where the message is of something else."""
    unknown = re.search(r"Expected a dot import path string: (\w+)", message)
    if unknown is None:
        return None
    kind, base = SLOTS[key]
    near = suggestion(unknown[1], sorted({each.__name__ for each in _subclasses(base)}))
    return f"there is no {kind} '{unknown[1]}'.{near} One of your own is written module.Class"


def problem(message: str) -> tuple[str, str] | None:
    """Return the class whose options jsonargparse refuses, and what it says of them."""
    ends = r" - (?:Problem with|Expected an?|Not a valid|Import path|Does not)| Given value type:|$"
    found = re.findall(rf"given class_path '([\w.]+)': (.*?)(?={ends})", message)
    # Of the base class itself it is never meant.
    bases = {slot.base.__name__ for slot in SLOTS.values()}
    return next(((path, text) for path, text in found if path.rpartition(".")[2] not in bases), None)


def explain(key: str, class_path: str, problem: str, place: str) -> str:
    """Say what is wrong with the options of a class.

    Args:
        key: The option that names the class, one of `SLOTS`.
        class_path: The class.
        problem: What jsonargparse says of it.
        place: The file that the option stands in, as part of a sentence.
    """
    if needed := re.search(r"arguments are required: (.*)", problem):
        options = " ".join(f"--{key}.{name} ..." for name in needed[1].split(", "))
        return f"--{key} got '{class_path}'{place}, which needs {needed[1]}: add {options}, or init_args in a file"
    if unknown := re.search(r"Option '([\w.]+)' is not accepted", problem):
        known = options_of(class_path)
        takes = f"It takes {', '.join(known)}." if known else "It takes none."
        short = class_path.rpartition(".")[2]
        return f"{short} has no option '{unknown[1]}'{place}.{suggestion(unknown[1], known)} {takes}"
    return f"--{key} got '{class_path}'{place}: {problem}"


def _check(key: str, name: str, place: str) -> None:
    kind, base = SLOTS[key]
    said = f"--{key} got '{name}'{place}"
    if written := _FILE.fullmatch(name):
        module, attribute = written[1] or written[3], written[2] or written[4] or "Class"
        raise ConfigError(f"{said}: a class is written module.Class, here '{module.replace('/', '.')}.{attribute}'")
    module_name, _, attribute = name.rpartition(".")
    there_is = (
        f"there is no data module '{name}'{place}. There is {', '.join(data_modules())}" if key == "data" else said
    )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may do anything when imported, even exit
        if is_end(error):
            raise
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise ConfigError(f"{said}, which cannot be imported: {reason(error)}") from error
        if _is_nested(module_name):
            return
        raise ConfigError(
            f"{there_is}: there is no module '{missing}', neither installed nor in the current directory"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        known = _classes_in(module, base)
        near = suggestion(attribute, known) or (known and f" It has {', '.join(known[:10])}.") or ""
        raise ConfigError(f"{said}: there is no '{attribute}' in '{module_name}'.{near}")
    if not callable(found) or (inspect.isclass(found) and not issubclass(found, base)) or inspect.isbuiltin(found):
        raise ConfigError(f"{there_is}: {_not_of(name, found, kind, base)}")
    for option, parameter in parameters(found).items():
        if not is_comparable(parameter.default):  # jsonargparse would end in what NumPy says of it
            raise ConfigError(
                f"{said}: the default of its option {option} is an array, which no file can hold: a class that "
                "inherits it can have None or a tuple there"
            )


def _not_of(name: str, found: Any, kind: str, base: type) -> str:
    old = [each for each in getattr(found, "__mro__", ()) if each.__module__.startswith("pytorch_lightning.")]
    if old:
        return f"{name} is a {kind} of the package pytorch_lightning: import it from lightning.pytorch instead"
    return f"{name} is no {kind}, a class that inherits lightning.pytorch's {base.__name__}"


def _is_nested(module_name: str) -> bool:
    """Whether what looks like a module is a class, with the one that is meant inside."""
    parent, _, name = module_name.rpartition(".")
    try:
        return bool(parent) and hasattr(importlib.import_module(parent), name)
    except Exception:
        return False


def _values(key: str, files: Sequence[tuple[Path, dict[str, Any]]], flags: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what files and flags say of an option, each with the file as part of a sentence."""
    for file, content in files:
        section, _, option = key.rpartition(".")
        holder = content.get(section) if section else content
        for name in (option, f"{option}+"):  # with a plus it is added to a list
            yield f" in '{file}'", holder.get(name) if isinstance(holder, dict) else None
    for text in said.values(flags, f"--{key}", f"--{key}+", f"--{key}.class_path"):
        yield "", read(text)


def read(text: str) -> Any:
    """Return what an option that takes classes gives: a mapping or a list where it is written as one, else the text."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # jsonargparse says so
        return None


def _names(value: Any) -> Iterator[str]:
    """Yield the classes in what an option says: dotted names, and such as look like a file's."""
    if isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        yield from _names(value.get("class_path"))
    elif isinstance(value, str) and not Path(value).is_file() and (_DOTTED.fullmatch(value) or _FILE.fullmatch(value)):
        yield value


def _classes_in(module: ModuleType, base: type) -> list[str]:
    return [name for name, each in vars(module).items() if inspect.isclass(each) and issubclass(each, base)]


def _subclasses(base: type) -> Iterator[type]:
    below: list[type] = base.__subclasses__()
    for each in below:
        yield each
        yield from _subclasses(each)


def _parser_of(class_path: str) -> ArgumentParser:
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser(add_help=False, usage="==SUPPRESS==")
    parser.add_class_arguments(getattr(importlib.import_module(module), name), "data", fail_untyped=False)
    return parser
