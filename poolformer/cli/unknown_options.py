"""What is said of an option that there is not, and of a word that stands where an option should."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ..configs import config_names
from ..errors import suggestion
from ..files.shell import quoted
from ..option_ranges import RENAMED
from ..registry import BACKBONES, is_of_timm, listing
from . import data_path, field_words


def sentence(
    name: str, known: Sequence[str], *, place: str, flags: Sequence[str], of_folders: Collection[str] | None = None
) -> str:
    """Return what is said of an option that there is not.

    Args:
        name: The option, without dashes.
        known: Those that there are.
        place: The file that it stands in, as part of a sentence.
        flags: What the command line says.
        of_folders: Options of folders of images, where the data are the digits.
    """
    if of_folders is not None and name in of_folders:
        return (
            f"there is no option '{name}'{place} for the digits, which take no files: {data_path.remedy(list(flags))}"
        )
    if present := RENAMED.get(name.removeprefix("model.")):
        return f"the option '{name}'{place} is called 'model.{present}' now."
    near = _of_the_field(name.rpartition(".")[2]) or suggestion(name.replace("-", "_"), list(known))
    return f"there is no option '{name}'{place}.{near} '--help' lists them."


def _of_the_field(name: str) -> str:
    meant = field_words.ours(name)
    return f" Did you mean '{meant.removeprefix('--') if ' ' not in meant else meant}'?" if meant else ""


def alone(word: str, known: Sequence[str]) -> str | None:
    """Return what a word that stands where an option should might be meant for.

    Args:
        word: As it stands there.
        known: The options that there are, without dashes.
    """
    if word.endswith((".ckpt", ".yaml")):
        return f"{'--ckpt_path' if word.endswith('.ckpt') else '--config'} {quoted(word)}"
    plain = word.lstrip("\u2010\u2011\u2012\u2013\u2014\u2212")  # dashes that an editor made of two hyphens
    if (plain != word or re.search(r"[=:]", word)) and re.split(r"[=:]", plain)[0] in known:
        return f"--{plain.replace(':', '=', 1)}"
    if word in ("best", "last", "auto"):
        return f"--ckpt_path {word}"
    if word in config_names():
        return f"--config {word}"
    if word in listing(BACKBONES):
        return f"--model.backbone {word}"
    if is_of_timm(word):
        return f"--model.backbone timm/{word}"
    if word.endswith(".beton") or Path(word).is_dir():
        return data_path.options_for(word)
    return (
        f"--data FolderData --data.predict {quoted(word)}"
        if word.endswith((".jpg", ".jpeg", ".png", ".JPEG"))
        else None
    )
