"""The rows that are judged beside one another: the mixer asked for, and the protocol's reference rows."""

import json
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..ablation import rows as ablation
from ..configs import config_names, read_config
from ..errors import ConfigError, PoolformerError, UnknownNameError
from ..files.paths import with_home
from ..files.shell import quoted
from ..registry import MIXERS, listing, plugins_disabled
from .protocols import Protocol

_LONGEST = 100  # characters of a folder's name
_CHOSEN = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Judged:
    """A row.

    Attributes:
        name: What it is called.
        mixer: As ``--model.mixer`` takes it; of an overlay what it says, None where it says none.
        overlay: Its file, if it is one.
        others: What an overlay changes beside the mixer, which probes do not look at.
    """

    name: str
    mixer: Any = None
    overlay: Path | None = None
    others: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Its name as a folder's."""
        slug = re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.") or "row"
        return slug if len(slug) <= _LONGEST else f"{slug[:_LONGEST]}-{zlib.crc32(self.name.encode()):08x}"

    def for_ablation(self) -> ablation.Row:
        """Return it as a row of `ablate`, which trains it."""
        if self.overlay:
            return ablation.Row(self.slug, overlay=self.overlay)
        return ablation.Row(self.slug, mixer=self.mixer if isinstance(self.mixer, str) else json.dumps(self.mixer))


def find_judged(given: str, options: Sequence[str] = ()) -> Judged:
    """Return the row of a mixer's name or mapping, or of an overlay's name or file.

    Args:
        given: ``depthwise``, ``{name: depthwise, kernel_size: 5}``, ``package.module:factory``, ``hybrid-pppa`` ...
        options: ``NAME=VALUE`` of the mixer.

    Raises:
        PoolformerError: There is no such thing, or an option that the mixer does not take.
    """
    chosen = _options(options)
    mixer = _mapping(given)
    if overlay := _overlay(given, mixer):
        if chosen:
            raise ConfigError(f"--options are of a mixer, and '{given}' is an overlay: write them into its file")
        return _of_overlay(overlay)
    if isinstance(mixer, list):
        raise ConfigError("a list of mixers, one a stage, is judged as an overlay: a file with model: {mixer: [...]}")
    name: Any
    if isinstance(mixer, dict):
        own = {str(key): value for key, value in mixer.items() if key != "name"}
        name, chosen = mixer.get("name"), {**own, **chosen}
    else:
        name = given
    mixer = {"name": name, **chosen} if chosen else name
    if isinstance(name, str) and ":" not in name and not chosen:
        ablation.find_row(name)  # says what there is beside mixers
    from ..network.mixer_spec import resolve  # PyTorch: 2 s

    resolve(mixer)
    return Judged(_label(name, chosen), mixer)


def reference_rows(protocol: Protocol) -> list[Judged]:
    """Return the protocol's reference rows.

    Raises:
        PoolformerError: One of them is no mixer, and of fits no overlay either; the file is named.
    """
    from ..network.mixer_spec import resolve  # PyTorch: 2 s

    rows = []
    for name, mixer in protocol.rows.items():
        try:
            if protocol.kind == "fits" and isinstance(mixer, str) and (overlay := _overlay(mixer, mixer, first=True)):
                rows.append(replace(_of_overlay(overlay), name=name))
            else:
                resolve(mixer)
                rows.append(Judged(name, mixer))
        except UnknownNameError as error:
            brought = _brought_by(protocol.file.parent, mixer)
            raise ConfigError(f"'{protocol.file}': row '{name}': {error}{brought}") from error
        except PoolformerError as error:
            raise ConfigError(f"'{protocol.file}': row '{name}': {error}") from error
    return rows


def _brought_by(package: Path, mixer: Any) -> str:
    """Say what to install where a protocol lies in a package of its mixers, which is not installed."""
    if plugins_disabled() or sys.version_info < (3, 11):  # whose standard library reads no TOML
        return ""
    import tomllib

    name = mixer if isinstance(mixer, str) else mixer["name"]
    try:
        project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        is_brought = name in project["entry-points"][MIXERS]
    except (OSError, ValueError, LookupError, TypeError):  # there is none, or it says nothing of mixers
        return ""
    return f" The package in the protocol's folder brings it: pip install {quoted(package)}" if is_brought else ""


def all_rows(judged: Judged, references: Sequence[Judged]) -> list[Judged]:
    """Return the judged row first, then the others; a reference row that is the same as the judged one is that one.

    Raises:
        ConfigError: Two of them would be kept in one folder.
    """
    is_judged = (judged.mixer, judged.others)
    same = next((row for row in references if row.mixer and (row.mixer, row.others) == is_judged), None)
    others = [row for row in references if row is not same]
    judged = same or judged
    if any(row.name == judged.name for row in others):
        judged = replace(judged, name=f"{judged.name} (judged)")
    rows = [judged, *others]
    ablation.check_folders((row.name, row.slug) for row in rows)
    return rows


def for_probes(row: Judged) -> Judged:
    """Check that a row is one mixer, which is all that a probe looks at.

    Raises:
        ConfigError: It is an overlay that chooses no mixer, or one for each stage.
    """
    if row.mixer is None:
        raise ConfigError(f"'{row.name}' chooses no mixer, and probes judge nothing else: take a protocol of fits")
    if isinstance(row.mixer, list):
        raise ConfigError(
            f"'{row.name}' has a mixer for each stage, and probes have one stage: take a protocol of fits"
        )
    return row


def _overlay(given: str, mixer: Any, *, first: bool = False) -> Path | None:
    """Return the file of an overlay, where that is what is meant: a mixer's name is the mixer, not its overlay."""
    path = Path(with_home(given))
    if path.is_file():
        return path
    names = {name.removeprefix("ablation/") for name in config_names() if name.startswith("ablation/")}
    name = given.removeprefix("configs/").removeprefix("ablation/").removesuffix(".yaml")
    for each in (name, name.replace("_", "-")) if first else (name,):
        if each in names and (first or name != given or each not in listing(MIXERS)):
            return ablation.find_row(each).overlay
    return None


def _of_overlay(overlay: Path) -> Judged:
    model = read_config(overlay).get("model", {})
    changes = ablation.flat(read_config(overlay))
    others = tuple(sorted({change for change in changes if not change.startswith("model.mixer")}))
    mixer = model.get("mixer")
    alone = isinstance(mixer, dict) and list(mixer) == ["name"]
    return Judged(overlay.stem, mixer["name"] if alone else mixer, overlay, others)


def _mapping(given: str) -> Any:
    if not given.lstrip().startswith(("{", "[")):
        return given
    import yaml

    try:
        return yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise ConfigError(f"MIXER {given!r:.80} is neither a name nor a mapping such as {{name: pooling}}") from error


def _options(options: Sequence[str]) -> dict[str, Any]:
    import yaml

    chosen: dict[str, Any] = {}
    for option in options:
        if not (found := _CHOSEN.fullmatch(option)):
            raise ConfigError(f"--options {option}: expects NAME=VALUE, such as kernel_size=5")
        if found[1] == "name":
            raise ConfigError(f"--options {option}: the mixer is named before its options, as MIXER")
        if found[1] in chosen:
            raise ConfigError(f"--options {option}: {found[1]} more than once")
        try:
            chosen[found[1]] = yaml.safe_load(found[2])
        except yaml.YAMLError as error:
            raise ConfigError(f"--options {option}: the value cannot be read as YAML") from error
    return chosen


def _label(name: Any, options: Mapping[str, Any]) -> str:
    return " ".join([str(name), *(f"{key}={json.dumps(value).strip(chr(34))}" for key, value in options.items())])
