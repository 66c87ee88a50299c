"""Print what has a shell complete commands, options and the names of configurations, mixers and backbones."""

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from ..cli import dispatch
from ..commands.arguments import CommandParser
from ..files import caches
from . import words
from .shells import Words, script

_HOW = """\
bash: put  eval "$(poolformer completion bash)"   into ~/.bashrc
zsh:  put  eval "$(poolformer completion zsh)"    into ~/.zshrc
fish: put  poolformer completion fish | source    into ~/.config/fish/config.fish"""


def main(argv: list[str]) -> int:
    """Print the script of a shell."""
    parser = CommandParser(
        prog="poolformer completion", description=f"{__doc__}\n\n{_HOW}", formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=words.SHELLS, metavar="SHELL", help=", ".join(words.SHELLS))
    shell = parser.parse_args(argv).shell
    texts = {**dispatch.VERBS, **{name: text for name, (_, text) in dispatch.COMMANDS.items()}}
    options = {verb: words.of_a_verb(verb) for verb in dispatch.VERBS}
    options.update({name: words.of_a_command(module) for name, (module, _) in dispatch.COMMANDS.items()})
    stamp = _stamp()  # before names are read: what is installed meanwhile is newer
    values = words.values()
    print(script(shell, Words(texts, options, values, words.behind_a_command(values), _packages(), stamp)), end="")
    return 0


def _packages() -> list[Path]:
    """Return the folders of installed packages, each of which is newer after something has been installed there."""
    return [Path(each) for each in dict.fromkeys(sys.path) if each.endswith("-packages") and Path(each).is_dir()]


def _stamp() -> Path | None:
    home = caches.home_cache()
    if home is None:
        return None
    stamp = home / "poolformer" / "completion"
    try:
        stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        return None
    return stamp
