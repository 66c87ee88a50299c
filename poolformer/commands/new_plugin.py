"""``poolformer new-plugin NAME DIR``: an example package of ``plugins/``, with other names in it."""

import argparse
import ast
import inspect
import json
import keyword
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import yaml

from .. import registry
from ..errors import ConfigError
from ..files.atomic_write import atomic_write
from .arguments import CommandParser, local_folder


class _Kind(NamedTuple):
    """What a plugin can bring. The example of a kind is ``my-KIND-plugin``; what is written differs in names alone."""

    group: str
    what: str
    runs: tuple[str, ...]
    """Commands that use the name."""


_KINDS = {
    "mixer": _Kind(
        registry.MIXERS,
        "token mixer",
        ("mixers {name}", "fit --model.mixer {name} --trainer.default_root_dir runs/{name}", "judge {name}"),
    ),
    "backbone": _Kind(
        registry.BACKBONES,
        "backbone",
        ("models {name}", "fit --model.backbone {name} --trainer.default_root_dir runs/{name}"),
    ),
    "data": _Kind(
        registry.DATA,
        "data module",
        ("data {name}", "fit --config digits --data {name} --trainer.default_root_dir runs/{name}"),
    ),
}


def main(argv: list[str]) -> int:
    """Write a package with a token mixer of your own, ready to install, test and train.

    NAME is what you will write after --model.mixer; DIR is the folder to make. It gets a
    pyproject.toml with the entry point, a module with a small mixer to replace by yours, and a test
    of the mixer contract. With --kind it is a backbone, for --model.backbone, or a data module,
    for --data.

      poolformer new-plugin gated_conv gated-conv-plugin
      poolformer new-plugin --kind data photos photos-plugin
    """
    parser = CommandParser(
        prog="poolformer new-plugin",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")
    parser.add_argument(
        "directory", metavar="DIR", type=local_folder, help="folder to make; it may exist if it is empty"
    )
    parser.add_argument("--kind", choices=tuple(_KINDS), default="mixer", help="what it brings (mixer)")
    arguments = parser.parse_args(argv)
    write_plugin(arguments.name, arguments.directory, kind=arguments.kind)
    print(_next_steps(arguments.name, arguments.directory, _KINDS[arguments.kind]))
    return 0


def write_plugin(name: str, directory: Path, *, kind: str = "mixer") -> None:
    """Write the files of a package.

    Args:
        name: Name of what it brings, such as ``gated_conv``; the class is then ``GatedConv`` and the
            package ``gated-conv-plugin``.
        directory: Folder of the package; made if it is missing.
        kind: ``mixer``, ``backbone`` or ``data``.

    Raises:
        ConfigError: The name cannot be used or is taken, or the folder is not empty or not writable.
    """
    example, called = _example(kind), f"my_{kind}"
    _check_name(name, _KINDS[kind], called)
    _check_class(name, (example / f"src/{called}_plugin/__init__.py").read_text(encoding="utf-8"))
    _check_directory(directory)
    files = ("pyproject.toml", "README.md", f"src/{called}_plugin/__init__.py", f"tests/test_{called}.py")
    texts = {
        _renamed(file, called, name): _renamed((example / file).read_text(encoding="utf-8"), called, name)
        for file in files
    }
    try:
        for file, text in texts.items():
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target, "w", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise ConfigError(f"new-plugin cannot write {str(target)!r} ({error.strerror}); name another folder") from error


def _check_name(name: str, kind: _Kind, called: str) -> None:
    if reason := _unusable(name):
        words = "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
        instead = called if _unusable(words) else words
        raise ConfigError(f"new-plugin cannot use the name {name!r}{reason}, such as {instead!r}")
    taken = [entry for entry in registry.entries(kind.group) if entry.name == name]
    if taken:
        raise ConfigError(
            f"new-plugin cannot use the name {name!r}: {taken[0].origin} has a {kind.what} of that name; "
            "choose another name"
        )


def _unusable(name: str) -> str:
    """Return why a name cannot be used, and what to do; empty where it can."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        return "; write lower-case letters, digits and underscores"
    if keyword.iskeyword(name):
        return ": it is a keyword of Python; choose another name"
    if keyword.iskeyword(_class_name(name)):
        return f": its class would be {_class_name(name)}, a keyword of Python; choose another name"
    if not isinstance(meant := yaml.safe_load(name), str):
        return f": in a configuration it is no text but {json.dumps(meant)}; choose another name"
    return ""


def _check_class(name: str, source: str) -> None:
    """Refuse a name whose class would stand in the place of one that its module imports."""
    imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    if _class_name(name) in {alias.asname or alias.name for node in imports for alias in node.names}:
        raise ConfigError(
            f"new-plugin cannot use the name {name!r}: its class would be {_class_name(name)}, which its module "
            "imports; choose another name"
        )


def _check_directory(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        what = "is not empty" if directory.is_dir() else "is a file"
        raise ConfigError(f"new-plugin does not write into {str(directory)!r}, which {what}; name a new folder")


def _example(kind: str) -> Path:
    """The example package of a kind: inside ours where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_example_plugins"
    return (packaged if packaged.is_dir() else package.parent / "plugins") / f"my-{kind}-plugin"


def _renamed(text: str, called: str, name: str) -> str:
    for spelt in (str, _dashed, _class_name):
        text = text.replace(spelt(called), spelt(name))
    return text


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _next_steps(name: str, directory: Path, kind: _Kind) -> str:
    return "\n".join(
        [
            f"wrote {directory} with the {kind.what} {name!r}; next:",
            f"  pip install -e {shlex.quote(f'{directory}[test]')}",
            f"  pytest {shlex.quote(str(directory))}",
            *(f"  poolformer {run.format(name=name)}" for run in kind.runs),
        ]
    )
