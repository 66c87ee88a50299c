"""What can be completed: options by command, and the values of those that take a name.

Options are read from the source of the commands, as importing them all takes seconds.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from ..cli import early
from ..cli.dispatch import COMMANDS
from ..configs import config_names, protocol_names
from ..registry import BACKBONES, DATA, MIXERS, listing

SHELLS = ("bash", "zsh", "fish")
_ROOT = Path(__file__).parents[1]
_SWITCHES = (
    *("--model.fused", "--model.recompute", "--model.compile", "--model.cuda_graphs"),
    *("--trainer.fast_dev_run", "--trainer.enable_progress_bar"),
)


def of_a_verb(verb: str) -> list[str]:
    """Return the options of ``fit``, ``validate``, ``test`` or ``predict``, dashes included."""
    others = {"fit": {"verbose", *early.OF_PREDICT}, "predict": {"verbose"}}.get(verb, {*early.OF_PREDICT})
    found = [name for name in early.OF_A_VERB if name not in others] + ["print_config"]
    found += [f"model.{name}" for name in early.options_of("model") or ()]
    data = {option for name in ("DigitsData", "FolderData") for option in early.options_of(name) or ()}
    found += [f"data.{option}" for option in data]
    found += [f"trainer.{name}" for name in early.options_of("trainer") or ()]
    return [f"--{name}" for name in sorted(found)]


def of_a_command(module: str) -> list[str]:
    """Return the options of a command.

    Args:
        module: Where it is, from the package on, such as ``commands.pack``.
    """
    file = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    files = [file]
    if file.name == "command.py":  # a folder of its own
        others = {_ROOT.joinpath(*other.split(".")).with_suffix(".py") for other, _ in COMMANDS.values()}
        beside = [each for each in sorted(file.parent.glob("*.py")) if each not in others]
        files += [each for each in beside if b"add_argument" in each.read_bytes()]
    trees = [_tree(each) for each in files]
    # Also those that a function of another module adds, such as `add_checkpoint`.
    borrowed = [function for each, tree in zip(files, trees, strict=True) for function in _imported(each, tree)]
    options = {option for tree in [*trees, *borrowed] for option in _added(tree)}
    return sorted(options | {"--help"})


def _added(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            for word in (each for argument in node.args for each in ast.walk(argument)):
                if isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value.startswith("--"):
                    yield word.value


def _imported(file: Path, tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            other = file.parents[node.level - 1].joinpath(*node.module.split(".")).with_suffix(".py")
            names = {alias.name for alias in node.names}
            if other.is_file() and b"add_argument" in other.read_bytes():  # reading all of them takes long
                body = _tree(other).body
                yield from (each for each in body if isinstance(each, ast.FunctionDef) and each.name in names)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes())


def values() -> dict[str, list[str]]:
    """Return the values of options that take one of some names, by option."""
    mixers, backbones, data = (sorted(listing(group)) for group in (MIXERS, BACKBONES, DATA))
    return {
        "--config": config_names(),
        "--model.mixer": mixers,
        "--model.mixer.name": mixers,
        "--model.backbone": backbones,
        "--model.norm": ["group", "layer", "batch", "none"],
        "--model.act": ["gelu", "relu", "silu", "star_relu"],
        "--data": data,
        "--ckpt_path": ["last", "best", "auto"],
        "--if_saving_fails": ["stop", "continue"],
        "--protocol": protocol_names(),
        "--trainer.accelerator": ["auto", "cpu", "gpu", "mps"],
        "--trainer.precision": ["32-true", "bf16-mixed", "16-mixed", "bf16-true"],
        **{option: ["true", "false"] for option in _SWITCHES},
    }


def behind_a_command(named: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
    """Return what may stand behind a command by itself, where that is one of some names.

    Args:
        named: The values of options.
    """
    return {
        "mixers": named["--model.mixer"],
        "models": named["--model.backbone"],
        "data": named["--data"],
        "judge": named["--model.mixer"],
        "bench": ["data", "model", "train", "host", "report"],
        "completion": list(SHELLS),
    }
