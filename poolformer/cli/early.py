"""Mistakes in configurations and options, answered before PyTorch and Lightning are imported, which is slow.

What there is is read from the source of the classes whose options they are, so that it is that of the installed
versions. Whatever may be an option of something else, such as a plugin's, is left to the parser, whose words these are.
"""

import ast
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..configs import STDIN, check_base, find_config, is_piped, read_config
from ..errors import ConfigError
from ..files import paths
from . import early_values, said, unknown_options

OF_PREDICT = ("return_predictions", "top_k", "out", "sheet")
"""Options of ``predict`` that the other verbs do not have."""
OF_A_VERB = (
    *("config", "help", "seed_everything", "num_threads", "save_every_n_steps", "if_saving_fails", "ckpt_path"),
    "log_without",
    *("verbose", *OF_PREDICT, "model", "data", "trainer"),
)
"""Options of the verbs that belong to no class."""
_ROOT = Path(__file__).parents[1]
_HOMES = {
    "model": (_ROOT / "classifier.py", "ImageClassifier"),
    "DigitsData": (_ROOT / "data" / "digits.py", "DigitsData"),
    "FolderData": (_ROOT / "data" / "images.py", "ImageData"),
    "FFCVData": (_ROOT / "data" / "images.py", "ImageData"),
}
_OF_A_RUN = "config.yaml"
_ANSWERS = ("--help", "--print_config", "--print_shtab")


def refuse(verb: str, arguments: Sequence[str], tried: Iterable[Sequence[str]] = ()) -> None:
    """Refuse what is a mistake whatever is installed.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: What stands behind it on the command line.
        tried: Further flags behind those, each instead of the others; the files are read once.

    Raises:
        ConfigError: A configuration is not there or cannot be read, there is no option of a name, or it does not take
            a value.
        UnknownNameError: There is no backbone, token mixer or data module of a name.
        AmbiguousNameError: There are two of a name.
    """
    flags, files = _split(arguments)
    contents = [(file, read_config(file)) for file in files if file.name != _OF_A_RUN and not is_piped(file)]
    for more in ((), *tried):
        _refuse(verb, [*flags, *more], files, contents)


def _refuse(
    verb: str, flags: Sequence[str], files: Sequence[Path], contents: Sequence[tuple[Path, dict[str, Any]]]
) -> None:
    if wants_no_run(flags) and not any(word.startswith("--print_config") for word in flags):
        return
    chosen = _data_module(flags, [content for _, content in contents], sure=len(contents) == len(files))
    if name := next(_unknown_flags(flags, chosen), None):
        raise _unknown(name, chosen, flags)
    for file, content in contents:
        if name := next(_unknown_keys(content), None):
            raise _unknown(name, chosen, flags, place=f" in '{file}'")
    if not wants_no_run(flags):
        if not said.values(flags, "--ckpt_path") and not any("ckpt_path" in content for _, content in contents):
            check_base(files)
        owners = {"model": "model", "trainer": "trainer", **({"data": chosen} if chosen else {})}
        known = {section: (owner, options_of(owner) or {}) for section, owner in owners.items()}
        early_values.refuse_of_verb(contents, flags, sure=len(contents) == len(files))
        sure = len(contents) == len(files)
        early_values.refuse(known, contents, flags, sure=sure, trains=verb == "fit")


def wants_no_run(arguments: Sequence[str]) -> bool:
    """Return whether all that is wanted is an answer, such as help."""
    names = [word.partition("=")[0] for word in arguments]
    return any(name in ("-h", *_ANSWERS) or name.endswith(".help") for name in names)


def configs_of(arguments: Sequence[str]) -> list[str]:
    """Return the configurations that are asked for, as they are written."""
    return said.values(arguments, *said.CONFIG)


@cache
def options_of(section: str) -> early_values.Options | None:
    """Return the options of ``model``, ``trainer`` or a data module of ours by its name; None where they are unknown.

    They are the parameters of a constructor, with their annotations; it is read and not run.
    """
    home = _home_of_trainer() if section == "trainer" else _HOMES.get(section)
    try:
        tree = ast.parse(home[0].read_bytes()) if home else None
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef) and home and node.name == home[1]:
            return _parameters(node)
    return None


def _home_of_trainer() -> tuple[Path, str] | None:
    found = importlib.util.find_spec("lightning")  # a package is found without being imported, a part of it is not
    folders = found.submodule_search_locations if found else None
    return (Path(next(iter(folders))) / "pytorch" / "trainer" / "trainer.py", "Trainer") if folders else None


def _parameters(class_: ast.ClassDef) -> early_values.Options | None:
    for node in class_.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            found = node.args
            if found.vararg or found.kwarg:
                return None
            named = (*found.posonlyargs, *found.args, *found.kwonlyargs)
            return {each.arg: each.annotation for each in named if each.arg != "self"}
    return None


def _split(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Split as `asked` does, which brings back what an interrupted start has moved away, too."""
    flags, configs = said.without_configs(arguments)
    files = []
    for config in configs:
        if paths.is_url(config):
            files.append(STDIN)  # as little can be said of it
            continue
        file = Path(paths.local(paths.without_scheme(config), "--config"))
        may_come_back = file.name == _OF_A_RUN and (file.parent / "previous").is_dir()
        files.append(file if may_come_back else find_config(str(file)))
    return flags, files


def _data_module(flags: Sequence[str], contents: Sequence[dict[str, Any]], *, sure: bool) -> str | None:
    """Return the name of the data module of ours that is asked for, None where it may be another.

    Args:
        flags: What the command line says beside the configurations.
        contents: What these say.
        sure: Whether these are all of them.
    """
    sections = [content.get("data") for content in contents]
    named = [each.get("class_path") if isinstance(each, dict) else each for each in sections]
    resumes = any("ckpt_path" in content for content in contents)
    if given := said.values(flags, "--data", "--data.class_path"):
        named, sure = [*named, *given], True
    resumes = resumes or any(  # a checkpoint without its option is answered by the parser
        each.option == "--ckpt_path" or (each.option is None and each.words[0].endswith(".ckpt"))
        for each in said.each(flags)
    )
    last = next((name for name in reversed(named) if isinstance(name, str)), None)
    from_environment = os.environ.get("JSONARGPARSE_DEFAULT_ENV", "").lower() in ("true", "1")  # may name another
    if not sure or (last is None and (resumes or from_environment)):
        return None
    name = (last or "DigitsData").removeprefix("poolformer.data.")
    return name if name in _HOMES and name != "model" else None


def _unknown_flags(flags: Sequence[str], data_module: str | None) -> Iterator[str]:
    for word in flags:
        if word == "--":
            return
        if word.startswith("--") and " " not in word:  # with a space it is a value
            name = word.lstrip("-").partition("=")[0].rstrip("+")
            if not _may_be(name, data_module):
                yield name


def _may_be(name: str, data_module: str | None) -> bool:
    """Return whether there may be an option of a name."""
    section, dot, rest = name.partition(".")
    first = rest.partition(".")[0].rstrip("+")
    if section.startswith("print_") or section not in OF_A_VERB:
        return section.startswith("print_")
    if not dot or name.endswith(".help"):
        return True
    known = options_of(data_module if section == "data" and data_module else section)
    if section == "data":
        return known is None or data_module is None or first in (*known, "class_path", "init_args", "dict_kwargs")
    if section == "model" and first == "image_size" and data_module:
        return False  # linked to the data's, which all of ours have
    return known is None or first in known


def _unknown_keys(content: dict[str, Any]) -> Iterator[str]:
    for section, value in content.items():
        if not isinstance(section, str) or (section not in OF_A_VERB and isinstance(value, dict)):
            continue  # of a section that there is not the parser names what is in it
        if not _may_be(section, None):
            yield section
        if section in ("model", "trainer") and isinstance(value, dict):
            names = [f"{section}.{key}" for key, inside in value.items() if not isinstance(inside, dict)]
            yield from (name for name in names if not _may_be(name, None))


def _unknown(name: str, data_module: str | None, flags: Sequence[str], *, place: str = "") -> ConfigError:
    known = [option for option in OF_A_VERB if option != name]
    for section, owner in (("model", "model"), ("data", data_module), ("trainer", "trainer")):
        known += sorted(f"{section}.{option}" for option in (owner and options_of(owner)) or ())
    of_folders = {f"data.{option}" for option in options_of("FolderData") or ()}
    return ConfigError(
        unknown_options.sentence(
            name, known, place=place, flags=flags, of_folders=of_folders if data_module == "DigitsData" else None
        )
    )
