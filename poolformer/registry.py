"""Names of token mixers, backbones and data modules, looked up in the entry points of the installed packages.

The registry is a query, not a store: names are read from package metadata, and a module is imported
when its name is used. The built-ins are entry points of our own package and come in by the same door.
What a factory has to look like is said in ``plugins/README.md`` and tested by `poolformer.testing`.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import AmbiguousNameError, BrokenPluginError, UnknownNameError, describe, is_end, suggestion

MIXERS = "poolformer.mixers"
BACKBONES = "poolformer.backbones"
DATA = "poolformer.data"
_KINDS = {MIXERS: "token mixer", BACKBONES: "backbone", DATA: "data module"}
_COMMANDS = {MIXERS: "poolformer mixers", BACKBONES: "poolformer models", DATA: "poolformer data"}
DISTRIBUTION = "poolformer-lightning"
"""Name of our own package, as pip knows it."""
# Its name before: in the records of checkpoints, and where an environment is older than the new name.
_FORMER = "poolformer"


@dataclass(frozen=True)
class Entry:
    """One name that an installed package offers; nothing of that package is imported yet.

    Attributes:
        group: Entry-point group, `MIXERS`, `BACKBONES` or `DATA`.
        name: Name as the package spells it.
        value: Import reference ``package.module:factory``.
        distribution: Name of the package as pip knows it; empty for a bare import reference.
        version: Version of that package.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        """What the name stands for, in words."""
        return _KINDS[self.group]

    @property
    def origin(self) -> str:
        """Package and version, as shown to people and recorded in checkpoints."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def qualified_name(self) -> str:
        """A name that stays unique when two packages use the same bare one."""
        return f"{self.distribution}/{self.name}" if self.distribution else self.value

    @property
    def import_path(self) -> str:
        """The value with dots alone, ``package.module.factory``, as a configuration names a class."""
        match = EntryPoint.pattern.match(self.value)
        return f"{match['module']}.{match['attr']}" if match and match["attr"] else self.value

    @property
    def builtin(self) -> bool:
        """Whether the name is one of ours."""
        return self.distribution == DISTRIBUTION

    def load(self) -> Callable[..., Any]:
        """Import the factory.

        Raises:
            BrokenPluginError: The import fails in any way, ``sys.exit`` included, or does not give
                something callable.
        """
        if not self.distribution:
            make_current_directory_importable()
        try:
            if not EntryPoint.pattern.match(self.value):
                raise ImportError(f"'{self.value}' is not of the form 'package.module:factory'")
            factory: object = EntryPoint(name=self.name, value=self.value, group=self.group).load()
        except (Exception, SystemExit) as error:  # a module may do anything when imported, even exit
            if is_end(error):
                raise
            remedy = f"{self._meant(error)}{self._remedy}{self._looked_in(error)}"
            raise BrokenPluginError(f"{self} cannot be loaded: {describe(error)}.{remedy}") from error
        if not callable(factory):
            raise BrokenPluginError(
                f"{self} is {type(factory).__name__} and cannot be called; name a function or a class."
            )
        return factory

    def __str__(self) -> str:
        if self.builtin or not self.distribution:
            return f"{self.kind} {self.name!r}"
        return f"{self.kind} {self.name!r} of {self.origin} ({self.value})"

    def _meant(self, error: BaseException) -> str:
        """Return the name in a module that is nearest to one that is not there, or nothing."""
        if not isinstance(error, AttributeError) or not isinstance(error.obj, ModuleType) or self.distribution:
            return ""
        return suggestion(error.name or "", [name for name in vars(error.obj) if not name.startswith("_")])

    def _looked_in(self, error: BaseException) -> str:
        """Say where a module of the user's own is looked for."""
        module = self.value.partition(":")[0]
        if self.distribution or not isinstance(error, ModuleNotFoundError) or error.name != module.partition(".")[0]:
            return ""
        beside = sorted(file.stem for file in Path.cwd().glob("*.py"))
        return f" It is neither installed nor in the current directory, {Path.cwd()}.{suggestion(module, beside)}"

    @property
    def _remedy(self) -> str:
        if self.distribution:
            return " Fix or uninstall that package; the others are not affected."
        return f" Write {self.value.replace('.py:', ':')!r}." if ".py:" in self.value else ""


def entries(group: str) -> list[Entry]:
    """Return everything that is installed for a group, sorted by name, ours before others."""
    return list(_entries(group, plugins_disabled(), _installed()))


def _installed() -> tuple[object, ...]:
    """Return what changes when a package is installed or removed: a run asks for names more than forty times.

    The standard library goes by the same times when it lists the packages of a folder.
    """
    folders = [
        (folder, os.stat(folder or ".").st_mtime_ns if os.path.isdir(folder or ".") else 0) for folder in sys.path
    ]
    return (*folders, *map(id, sys.meta_path), os.getcwd() if "" in sys.path else "")


@lru_cache(maxsize=8)
def _entries(group: str, no_plugins: bool, installed: tuple[object, ...]) -> list[Entry]:
    found: dict[tuple[str, str], Entry] = {}
    for distribution in distributions():
        for entry in _entries_of(distribution, group):
            # The first on the path wins: it is the one that would be imported.
            found.setdefault((entry.distribution, entry.name), entry)
    kept = [entry for entry in found.values() if entry.builtin or not no_plugins]
    return sorted(kept, key=lambda entry: (entry.name, not entry.builtin, entry.distribution))


def _entries_of(distribution: Distribution, group: str) -> list[Entry]:
    try:
        # Most packages have no such group: it is cheaper to see that than to read all the others.
        if group not in (distribution.read_text("entry_points.txt") or ""):
            return []
        points = [point for point in distribution.entry_points if point.group == group]
        metadata = distribution.metadata if points else None
    except Exception:  # a torn install must not take the others with it
        return []
    name, version = (metadata["Name"], metadata["Version"]) if metadata else (None, None)
    return [
        Entry(group, point.name, point.value, _canonical(name or "unnamed package"), version or "") for point in points
    ]


def listing(group: str) -> dict[str, Entry]:
    """Return the names that can be typed, each with its entry.

    A built-in keeps its bare name. Where two plugins share a name, and where a plugin uses the name
    of a built-in, the plugins stand under ``package/name``.
    """
    installed = entries(group)
    names = {}
    for entry in installed:
        rivals = [other for other in installed if other.name == entry.name and other != entry]
        names[entry.name if entry.builtin or not rivals else entry.qualified_name] = entry
    return names


def find(group: str, name: str) -> Entry:
    """Find what a name stands for, without importing it.

    Args:
        group: `MIXERS`, `BACKBONES` or `DATA`.
        name: A bare name, ``package/name``, or an import reference ``package.module:factory`` of
            something that is not packaged yet (the current directory counts as importable).

    Raises:
        UnknownNameError: Nothing has this name; the message suggests near ones.
        AmbiguousNameError: Two plugins have it; the message shows the qualified names.
    """
    if ":" in name:
        return Entry(group, name, name, "", "")
    installed = entries(group)
    package, _, bare = name.rpartition("/")
    matches = [
        entry
        for entry in installed
        if entry.name == bare and (not package or entry.distribution == _canonical(package))
    ]
    if matches and (len(matches) == 1 or matches[0].builtin):
        return matches[0]
    if matches:
        choices = " or ".join(repr(entry.qualified_name) for entry in matches)
        origins = " and ".join(entry.origin for entry in matches)
        raise AmbiguousNameError(f"{_KINDS[group]} {name!r} is offered by {origins}; write {choices}.")
    raise UnknownNameError(_unknown(group, name))


def is_of_timm(name: str) -> bool:
    """Return whether timm has a model of that name; for a message, as it takes seconds."""
    if not re.search(r"\d", name):  # almost all of them have a number
        return False
    try:
        import timm
    except ImportError:
        return False
    return timm.is_model(name)


def _unknown(group: str, name: str) -> str:
    known = sorted(listing(group))
    if not any(entry.builtin for entry in entries(group)):
        return (
            f"no {_KINDS[group]} is called {name!r}: not even the built-in ones are registered, so the "
            f"package {DISTRIBUTION} is not installed. Run 'pip install -e .' in its folder."
        )
    near = suggestion(name, known) or suggestion(name.rpartition("/")[2], known)
    if not near and group == BACKBONES and is_of_timm(name):
        near = f" Did you mean 'timm/{name}'?"
    if not near and re.fullmatch(r"\w+(\.\w+)+", name):
        near = f" A class or function of yours is written {':'.join(name.rsplit('.', 1))!r}."
    disabled = " Plugins are turned off by POOLFORMER_DISABLE_PLUGINS." if plugins_disabled() else ""
    return (
        f"no {_KINDS[group]} is called {name!r}.{near}{disabled} "
        f"Installed: {', '.join(known)}. '{_COMMANDS[group]}' shows where each comes from."
    )


def plugins_disabled() -> bool:
    """Return whether the environment turns the packages of others off."""
    return os.environ.get("POOLFORMER_DISABLE_PLUGINS", "") not in ("", "0")


def _canonical(distribution: str) -> str:
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    return DISTRIBUTION if name == _FORMER else name


def install(extra: str) -> str:
    """Return the command that installs what an extra of ours needs, for a message.

    Where our package is installed, from a checkout or a wheel, pip takes that one and adds what is missing.

    Example:
        >>> install("plots")
        "pip install 'poolformer-lightning[plots]'"
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def origin_today(origin: str) -> str:
    """Return what `Entry.origin` writes today for a package and version that were recorded earlier.

    Example:
        >>> origin_today("poolformer 0.1.0")
        'poolformer-lightning 0.1.0'
    """
    package, space, version = origin.partition(" ")
    return f"{_canonical(package)}{space}{version}"


def make_current_directory_importable() -> None:
    """Have modules in the current directory found, after those that are installed."""
    # A console script has its own folder, not the current one, as the first entry of sys.path.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
