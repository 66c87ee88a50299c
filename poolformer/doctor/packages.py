"""Python, our requirements, PyTorch with its GPUs, and plugins: whether each is there and can be imported."""

import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..counts import counted
from ..registry import BACKBONES, DATA, MIXERS, Entry, listing
from ..requirements import module_of
from .check import Check, gib
from .imports import Imported

_LEAST_PYTHON = (3, 10)


def targets(needed: Mapping[str, str]) -> list[str]:
    """Return what to import: requirements that are installed, PyTorch first, then what plugins offer."""
    modules = [module_of(name) for name in needed if _version(name) is not None]
    modules.sort(key=lambda module: module != "torch")
    modules += ["ffcv"] if _version("ffcv") else []
    return [*(modules or ["torch"]), *dict.fromkeys(entry.value for _, entry in _offered())]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _offered() -> list[tuple[str, Entry]]:
    return [row for group in (MIXERS, BACKBONES, DATA) for row in listing(group).items()]


def python() -> Check:
    """Look at the interpreter."""
    text = f"{platform.python_version()} in {sys.prefix}, on {platform.system()} {platform.machine()}"
    if sys.version_info < _LEAST_PYTHON:
        return Check("Python", "wrong", text, "install Python 3.10 or newer")
    return Check("Python", "ok", text)


def required(needed: Mapping[str, str], imported: Mapping[str, Imported]) -> list[Check]:
    """Look at the requirements but PyTorch: whether they are installed, as asked for, and can be imported."""
    if not needed:
        return [Check("packages", "wrong", "poolformer itself is not installed", "pip install -e . in its folder")]
    checks = []
    missing = [name for name in needed if _version(name) is None]
    other = {name: needed[name] for name in needed if name not in missing and not _fits(needed[name], name)}
    if missing:
        wanted = " ".join(f"'{needed[name]}'" for name in missing)
        checks.append(Check("packages", "wrong", f"not installed: {', '.join(missing)}", f"pip install {wanted}"))
    for name, requirement in other.items():
        text = f"{name} {_version(name)} is installed, {requirement} is needed"
        checks.append(Check("packages", "wrong", text, f"pip install '{requirement}'"))
    for name in needed.keys() - missing - {"torch"}:
        error = _error(module_of(name), imported)
        if error and error != _error("torch", imported):
            remedy = f"pip install --force-reinstall '{needed[name]}'"
            checks.append(Check(name, "wrong", f"{_version(name)} cannot be imported: {error}", remedy))
    if not checks and _error("torch", imported):
        checks = [Check("packages", "ok", f"the other {len(needed) - 1} that are required are there")]
    return checks or [Check("packages", "ok", f"all {len(needed)} that are required are there and can be imported")]


def _fits(requirement: str, name: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with Lightning
        return True
    return Requirement(requirement).specifier.contains(_version(name) or "", prereleases=True)


def pytorch(needed: Mapping[str, str], imported: Mapping[str, Imported]) -> list[Check]:
    """Look at PyTorch and the GPUs that it sees."""
    wanted, found = needed.get("torch", "torch"), imported.get("torch")
    if found is None or (
        _version("torch") is None and found["error"]
    ):  # what to install stands with the other packages
        return [Check("torch", "wrong", "not installed")]
    if found["error"]:
        text = f"{_version('torch')} cannot be imported: {found['error']}"
        return [Check("torch", "wrong", text, f"pip install --force-reinstall '{wanted}'")]
    facts = found["facts"]
    built = f"built for CUDA {facts['built_for']}" if facts["built_for"] else "built for CPUs alone"
    return [Check("torch", "ok", f"{facts['version']}, {built}, {counted(facts['threads'], 'thread')}"), *_gpus(facts)]


def _gpus(facts: Mapping[str, Any]) -> list[Check]:
    if not facts["gpus"]:
        if not _has_driver():
            return [Check("CUDA", "note", "no NVIDIA GPU here: runs train on the CPU")]
        if not facts["built_for"]:
            remedy = "install PyTorch for CUDA, by the selector of pytorch.org/get-started"
            return [Check("CUDA", "wrong", "there is an NVIDIA GPU, which this PyTorch is not built for", remedy)]
        remedy = f"nvidia-smi says more: the driver may be older than CUDA {facts['built_for']} needs"
        return [Check("CUDA", "wrong", "there is an NVIDIA GPU, which PyTorch does not see", remedy)]
    return [_gpu(gpu, facts["runs_on"]) for gpu in facts["gpus"]]


def _gpu(gpu: Mapping[str, Any], runs_on: Sequence[str]) -> Check:
    text = f"{gpu['name']}, {gib(gpu['bytes'])}"
    major = gpu["is"][:-1]
    # Code of one minor version runs on later ones of its major; compute_ is compiled for whatever is newer.
    if runs_on and not any(each.startswith(("compute_", f"sm_{major}", "gfx")) for each in runs_on):
        return Check("CUDA", "wrong", f"{text}: this PyTorch runs on {', '.join(runs_on)}", "install another PyTorch")
    return Check("CUDA", "ok", text)


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def plugins(imported: Mapping[str, Imported]) -> list[Check]:
    """Look at what other packages offer, and at our own names together: whether each can be imported."""
    rows = _offered()
    if not rows:
        return [Check("plugins", "wrong", "not even the built-in names are registered", "pip install -e . again")]
    if _error("torch", imported):
        named = ", ".join(f"{name} of {entry.origin}" for name, entry in rows if not entry.builtin)
        return [
            Check("plugins", "note", f"not looked at, as PyTorch cannot be imported: {named or 'the built-in ones'}")
        ]
    failed = {name: error for name, entry in rows if entry.builtin and (error := _error(entry.value, imported))}
    if failed:
        text = "; ".join(f"{name} cannot be imported: {error}" for name, error in failed.items())
        checks = [Check("built-in", "wrong", text, "pip install --force-reinstall, or git status in a checkout")]
    else:
        checks = [Check("built-in", "ok", f"all {sum(entry.builtin for _, entry in rows)} names can be imported")]
    for name, entry in rows:
        if entry.builtin:
            continue
        text, error = f"{entry.kind} {name} of {entry.origin} ({entry.value})", _error(entry.value, imported)
        if error is None:
            checks.append(Check("plugin", "ok", text))
        else:
            remedy = f"fix that package, or pip uninstall {entry.distribution}; the others are not affected"
            checks.append(Check("plugin", "wrong", f"{text} cannot be imported: {error}", remedy))
    return checks


def _error(target: str, imported: Mapping[str, Imported]) -> str | None:
    return imported[target]["error"] if target in imported else None
