"""``poolformer new-plugin NAME DIR``: the example package of ``plugins/``, with other names in it."""

import argparse
import inspect
import keyword
import re
import shlex
from pathlib import Path

from .. import registry
from ..errors import ConfigError
from ..files.atomic_write import atomic_write
from .arguments import CommandParser, local_folder

# The example's names; what is written differs from the example in these alone.
_EXAMPLE, _EXAMPLE_CLASS = "my_mixer", "MyMixer"
_FILES = ("pyproject.toml", "README.md", "src/my_mixer_plugin/__init__.py", "tests/test_my_mixer.py")


def main(argv: list[str]) -> int:
    """Write a package with a token mixer of your own, ready to install, test and train.

    NAME is what you will write after --model.mixer; DIR is the folder to make. It gets a
    pyproject.toml with the entry point, a module with a small mixer to replace by yours, and a test
    of the mixer contract.

    Example: poolformer new-plugin gated_conv gated-conv-plugin
    """
    parser = CommandParser(
        prog="poolformer new-plugin",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="name of the mixer: lower-case letters, digits and underscores")
    parser.add_argument(
        "directory", metavar="DIR", type=local_folder, help="folder to make; it may exist if it is empty"
    )
    arguments = parser.parse_args(argv)
    write_plugin(arguments.name, arguments.directory)
    print(_next_steps(arguments.name, arguments.directory))
    return 0


def write_plugin(name: str, directory: Path) -> None:
    """Write the files of a mixer package.

    Args:
        name: Name of the mixer, such as ``gated_conv``; the class is then ``GatedConv`` and the
            package ``gated-conv-plugin``.
        directory: Folder of the package; made if it is missing.

    Raises:
        ConfigError: The name cannot be used or is taken, or the folder is not empty or not writable.
    """
    _check_name(name)
    _check_directory(directory)
    example = _example()
    texts = {_renamed(file, name): _renamed((example / file).read_text(encoding="utf-8"), name) for file in _FILES}
    try:
        for file, text in texts.items():
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target, "w", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise ConfigError(f"new-plugin cannot write {str(target)!r} ({error.strerror}); name another folder") from error


def _check_name(name: str) -> None:
    if not _usable(name):
        words = "_".join(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
        raise ConfigError(
            f"new-plugin cannot use the name {name!r}; "
            f"write lower-case letters, digits and underscores, such as {(words if _usable(words) else _EXAMPLE)!r}"
        )
    taken = [entry for entry in registry.entries(registry.MIXERS) if entry.name == name]
    if taken:
        raise ConfigError(
            f"new-plugin cannot use the name {name!r}: {taken[0].origin} has a mixer of that name; choose another name"
        )


def _usable(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)) and not keyword.iskeyword(name)


def _check_directory(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        what = "is not empty" if directory.is_dir() else "is a file"
        raise ConfigError(f"new-plugin does not write into {str(directory)!r}, which {what}; name a new folder")


def _example() -> Path:
    """The example package: inside ours where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_example_plugin"
    return packaged if packaged.is_dir() else package.parent / "plugins" / "my-mixer-plugin"


def _renamed(text: str, name: str) -> str:
    class_name = "".join(word.capitalize() for word in name.split("_"))
    dashed = name.replace("_", "-")
    return text.replace(_EXAMPLE, name).replace(_EXAMPLE.replace("_", "-"), dashed).replace(_EXAMPLE_CLASS, class_name)


def _next_steps(name: str, directory: Path) -> str:
    return "\n".join(
        [
            f"wrote {directory} with the token mixer {name!r}; next:",
            f"  pip install -e {shlex.quote(f'{directory}[test]')}",
            f"  pytest {shlex.quote(str(directory))}",
            f"  poolformer fit --model.mixer {name} --trainer.default_root_dir runs/{name}",
            f"  poolformer judge {name}",
        ]
    )
