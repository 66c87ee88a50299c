"""The rows of an ablation: a base configuration under an overlay of a few lines, or with another mixer.

The packaged overlays are in ``configs/ablation``.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs import config_names, find_config, read_config
from ..errors import ConfigError, UnknownNameError, suggestion
from ..files.paths import with_home
from ..registry import MIXERS, find, listing

BASE = "base"
_FOLDER = "ablation/"
_PAPER = re.compile(r"^#\s*Paper:\s*(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: The overlay's name, a mixer's, or ``base`` for the base configuration itself.
        overlay: Its file, if it has one.
        paper_top1: The paper's ImageNet-1k top-1 in percent for this change of PoolFormer-S12, if it has one.
        of_mixers: Whether the row chooses the token mixer.
        mixer: Its name, as for ``--model.mixer``, where that is all the row changes, without an overlay.
    """

    name: str
    overlay: Path | None = None
    paper_top1: float | None = None
    of_mixers: bool = True
    mixer: str | None = None


def row_names() -> list[str]:
    """Return the names of the rows there are: the base, then the packaged overlays."""
    return [BASE, *(name.removeprefix(_FOLDER) for name in config_names() if name.startswith(_FOLDER))]


def find_row(given: str) -> Row:
    """Return the row that a name, an overlay of the user's or a mixer stands for, looked for in this order.

    Raises:
        ConfigError: There is no such row, file or mixer, or the file is no configuration.
        AmbiguousNameError: Two plugins have a mixer of that name.
    """
    if given == BASE:
        return Row(BASE)
    given = with_home(given)
    for name in (given, given.replace("_", "-")):  # random_matrix is the mixer of the row random-matrix
        if name in row_names() and not Path(given).is_file():
            return _overlay_row(name, find_config(f"{_FOLDER}{name}"))
    if Path(given).is_file():
        return _overlay_row(Path(given).stem, Path(given))
    try:
        find(MIXERS, given)
    except UnknownNameError as error:
        mixers = sorted(listing(MIXERS))
        files = [path.name for path in Path().glob("*.yaml")]
        near = suggestion(given, sorted({*row_names(), *mixers, *files}))
        known = f"Rows: {', '.join(row_names())}; mixers: {', '.join(mixers)}."
        raise ConfigError(f"there is no row, file or mixer '{given}'.{near} {known}") from error
    return Row(given, mixer=given)


def replaced(row: Row, flags: Sequence[str]) -> str | None:
    """Return the flag that would replace what the row changes, if one of those for every run does."""
    changes = ["model.mixer"] if row.mixer else list(flat(read_config(row.overlay))) if row.overlay else []
    for flag in flags:
        option = flag.partition("=")[0].removeprefix("--")
        if flag.startswith("--") and any(
            f"{change}.".startswith(f"{option}.") or option.startswith(f"{change}.") for change in changes
        ):
            return f"--{option}"
    return None


def check_folders(folders: Iterable[tuple[str, str]]) -> None:
    """Check that rows are kept apart, also where a disk takes small letters for large ones.

    Args:
        folders: The name of each row, and that of its folder.

    Raises:
        ConfigError: Two of them would be kept in one folder.
    """
    taken: dict[str, str] = {}
    for name, folder in folders:
        if (other := taken.get(folder.casefold())) is not None:
            raise ConfigError(f"the rows '{other}' and '{name}' would share the folder '{folder}': rename one")
        taken[folder.casefold()] = name


def _overlay_row(name: str, overlay: Path) -> Row:
    model = read_config(overlay).get("model", {})
    header = (line for line in overlay.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    paper_top1 = next((float(found[1]) for found in map(_PAPER.match, header) if found), None)
    return Row(name, overlay, paper_top1, of_mixers="mixer" in model)


def as_in_paper(base: Row, settings: dict[str, Any]) -> Row:
    """Give the base its figure in the paper, if it is one of PoolFormer's own networks unchanged."""
    from ..network.frame_options import built_options, own_options
    from ..network.mixer_spec import stages
    from ..sizes import PAPER_TOP1

    model = settings["model"]
    if not model["backbone"].startswith("poolformer_"):
        return base
    built, own = built_options(model["backbone"], model), own_options(model["backbone"])
    unchanged = all(built[option] == own[option] for option in own if option not in ("mixer", "drop_path_rate"))
    pooling = all({"pool_size": 3, **stage} == {"name": "pooling", "pool_size": 3} for stage in stages(built["mixer"]))
    if unchanged and pooling:
        # Of S12 whatever the size, as all the figures beside it are.
        return Row(BASE, paper_top1=PAPER_TOP1["poolformer_s12"])
    return base


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in options.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
