"""The machine: compiler, ffcv with its system packages, cores, memory that processes share, disk, caches."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..files import caches
from ..files.folders import existing_folder, has_room
from .check import Check, gib
from .imports import Imported

LEAST_FREE = 1 << 30
"""Bytes below which a disk is full for a run: the two checkpoints of PoolFormer-S36 with AdamW's state have 0.7 GiB."""
LEAST_SHARED = 1 << 30
_SYSTEM = {  # of ffcv: Debian's package, and what pkg-config knows it by
    "libopencv-dev": "opencv4",
    "libturbojpeg0-dev": "libturbojpeg",
}


def compiler() -> Check:
    """Look for the C++ compiler of torch.compile and of the fused operators on CPUs."""
    command = shlex.split(os.environ.get("CXX") or "g++")
    said = _said([*command, "--version"])
    if said is None:
        text = f"no {command[0]}: --model.compile, and --model.fused on a CPU, need a C++ compiler"
        return Check("compiler", "note", text, _install("g++"))
    return Check("compiler", "ok", said.splitlines()[0] if said else command[0])


def ffcv(imported: Mapping[str, Imported]) -> Check:
    """Look for ffcv, which ``FFCVData`` does without, and for what building it needs."""
    try:
        found = version("ffcv")
    except PackageNotFoundError:
        packages = missing_system_packages()
        before = f"{_install(*packages)} && " if packages else ""
        remedy = f"{before}pip install 'ffcv==1.0.2' setuptools"
        return Check("ffcv", "note", "not installed: --data ffcv alone needs it, --data FFCVData does not", remedy)
    error = imported["ffcv"]["error"] if "ffcv" in imported else None
    if error and "torch" in imported and error == imported["torch"]["error"]:
        return Check("ffcv", "note", f"{found}; not looked at, as PyTorch cannot be imported")
    if error:
        packages = missing_system_packages() or list(_SYSTEM)
        remedy = f"{_install(*packages)} && pip install --force-reinstall --no-deps 'ffcv=={found}'"
        return Check("ffcv", "wrong", f"{found} cannot be imported: {error}", remedy)
    return Check("ffcv", "ok", found)


def missing_system_packages() -> list[str]:
    """Return the Debian packages that building ffcv needs and that are not here."""
    tools = {"pkg-config": "pkg-config", "g++": os.environ.get("CXX") or "g++"}
    missing = [package for package, name in _SYSTEM.items() if _said(["pkg-config", "--exists", name]) is None]
    return missing + [package for package, command in tools.items() if shutil.which(shlex.split(command)[0]) is None]


def _install(*packages: str) -> str:
    if sys.platform == "darwin":
        names = {"libopencv-dev": "opencv", "libturbojpeg0-dev": "jpeg-turbo", "g++": "gcc"}
        return f"brew install {' '.join(names.get(package, package) for package in packages)}"
    return f"{'' if _is_root() else 'sudo '}apt-get install -y {' '.join(packages)}"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _said(command: list[str]) -> str | None:
    """Return what a command prints; None where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def cores(workers: int | None) -> Check:
    """Look at the cores that this process may use, beside the workers that are asked for; None for one a core."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = f"{usable} of {os.cpu_count()} usable ({_processor()})"
    quota = _quota()
    if quota is not None and quota < usable:
        text += f", of whose time this container gets {quota:g} cores'"
    asked = "one a core" if workers is None else str(workers)
    text += f"; workers that load data: {asked}"
    most = min(usable, max(1, int(quota))) if quota is not None else usable
    if workers is not None and workers > most:
        return Check("cores", "note", text, f"--data.num_workers {most}: more take turns")
    if workers is None and most < usable:
        return Check("cores", "note", text, f"--data.num_workers {most}: more take turns")
    return Check("cores", "ok", text)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _quota() -> float | None:
    """Return the number of cores whose time a control group lets its processes have, None where it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Look at what processes share, which containers keep small: 64 MiB in Docker's."""
    if not folder.is_dir():
        return Check("shared memory", "ok", f"no {folder} on {platform.system()}")
    usage = shutil.disk_usage(folder)
    text = f"{gib(usage.free)} free of {gib(usage.total)} in {folder}"
    if usage.free < LEAST_SHARED:
        need = "several GPUs, and data modules that load in processes, need more; ours load in threads"
        return Check("shared memory", "note", f"{text}: {need}", "docker run --shm-size 8g, or --ipc host")
    return Check("shared memory", "ok", text)


def disk(name: str, folder: Path, remedy: str) -> Check:
    """Look at whether a folder can be written, or made, and how much is free where it is."""
    there = existing_folder(folder)
    where = f"'{folder}'" if there == folder.absolute() else f"'{folder}', which will be made in '{there}'"
    if not there.is_dir() or not has_room(there):
        return Check(name, "wrong", f"{where} cannot be written", remedy)
    free = shutil.disk_usage(there).free
    state = f"{gib(free)} free in {where}"
    if free < LEAST_FREE:
        return Check(name, "wrong", f"{state}: checkpoints and the log may not fit", remedy)
    return Check(name, "ok", state)


def temporary() -> Check:
    """Look at the folder for temporary files."""
    remedy = "set TMPDIR to a folder on another disk"
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        return Check("temporary", "wrong", str(error), remedy)
    return disk("temporary", folder, remedy)


def cache() -> list[Check]:
    """Look at whether what is compiled and downloaded can be kept."""
    usual = caches.home_cache()
    if usual is None or not has_room(existing_folder(usual)):
        text = f"'{usual or '~/.cache'}' cannot be written: compiled code is kept in a temporary folder"
        return [Check("caches", "note", text, "set XDG_CACHE_HOME to a folder that can be written")]
    checks = [Check("caches", "ok", f"'{usual}' can be written")]
    for variable, default in (("TORCH_HOME", "torch"), ("HF_HOME", "huggingface")):
        folder = Path(os.environ.get(variable) or usual / default).expanduser()
        if not has_room(existing_folder(folder)):
            text = f"'{folder}' cannot be written: weights cannot be downloaded"
            checks.append(Check("caches", "wrong", text, f"set {variable} to a folder that can be written"))
    return checks
