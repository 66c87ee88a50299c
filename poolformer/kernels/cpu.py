"""The fused operators' C++ for CPUs (`*_cpu.cpp`): compiled once on a machine, kept, and loaded.

Not by `torch.utils.cpp_extension`, which wants ninja and waits for ever where a process died that held its lock.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ..files import caches
from ..files.atomic_write import publish
from . import channel_mix, pool_mix  # noqa: F401  which define the operators
from .availability import use_cpp

_LOG = logging.getLogger(__name__)
_SOURCES = ("channel_mix_cpu.cpp", "pool_mix_cpu.cpp")
_HEADERS = ("map_cpu.h", "products_cpu.h", "gelu_cpu.h")
_INSTRUCTIONS = {
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    "AVX2": ["-mavx2", "-mfma"],
}
_FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]


@functools.cache
def load() -> frozenset[torch.dtype]:
    """Have fused operators on CPUs run in C++ from now on, where this machine can; return the types of their products.

    Compiles them in a quarter of a minute where no process has before. Where they are not available, the log says
    why. They have float32 on any x86 processor whose products of blocks PyTorch has, bfloat16 where it
    computes in that itself.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        _LOG.warning("the fused operators' C++ is not used: PyTorch has the products they need on x86 alone")
        return frozenset()
    try:
        _load()
    except (OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        shown = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            shown = error.stderr.strip() or f"{error.cmd[0]} exited with code {error.returncode}"
        known = "CXX names the compiler, XDG_CACHE_HOME where it is kept"
        _LOG.warning("the fused operators' C++ for this CPU is not used (%s): %s", known, shown[:2000])
        return frozenset()
    types = frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _multiplies(dtype))
    if not types:
        _LOG.warning("the fused operators' C++ is not used: PyTorch has no products of blocks for this CPU")
    use_cpp(types)
    return types


def _load() -> None:
    library = _library()
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        if "failed to map segment" in str(error):  # what a file system mounted noexec says, to any file
            raise OSError(
                f"nothing can be run from '{library.parent}', which may be mounted noexec: {error}"
            ) from error
        torch.ops.load_library(str(_library(anew=True)))  # the system has changed


def _multiplies(dtype: torch.dtype) -> bool:
    """Try a block of two channels: whether its products are there, and what they come to."""
    with torch.device("cpu"), torch.no_grad():
        ones, none = torch.ones(2, dtype=torch.float32), torch.zeros(2, dtype=torch.float32)
        weight = torch.ones(2, 2, 1, 1, dtype=torch.float32)
        # The norm makes -1 and 1 of it, fc1 twice 0, its bias 8, fc2 the sum.
        x = torch.tensor([1.0, 3.0], dtype=torch.float32)[None, :, None, None]
        try:
            y, *_ = torch.ops.poolformer_cpu.channel_mix(
                x, ones, none, weight, 8 * ones, weight, none, ones, ones[:1], 0.0, dtype, 0
            )
        except RuntimeError as error:
            _LOG.debug("no products in %s: %s", dtype, error)
            return False
        return torch.allclose(y, x + 16, rtol=1e-3)


def _library(*, anew: bool = False) -> Path:
    """Return the compiled library, compiled now if need be or ``anew``."""
    here = Path(__file__).parent
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    flags = [*_FLAGS, *_instructions()]
    libraries = _libraries(Path(torch.__file__).parent)
    sources = [(here / name).read_text() for name in (*_SOURCES, *_HEADERS)]
    made_of = [*compiler, *flags, *libraries, torch.__version__, platform.libc_ver()[1], *sources]
    name = f"fused-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:16]}.so"
    kept = _folder() / name
    if anew or not _is_as_compiled(kept):
        with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
            # A warning, since a run says nothing until it is done.
            _LOG.warning("compiling the fused operators for this CPU, once, for a quarter of a minute: %s", kept)
            built = Path(directory) / name
            _compile([*compiler, *flags], here, built)
            _run([*compiler, "-shared", "-o", str(built), *map(str, built.parent.glob("*.o")), *libraries])
            with built.open("rb+") as file:
                os.fsync(file.fileno())
            digest = Path(directory) / "digest"
            digest.write_text(_digest(built), encoding="ascii")
            for written in (built, digest):
                written.chmod(0o700)  # where new files are the group's too, it would not be loaded
            built.replace(kept)  # whole, whoever else compiles it
            publish(digest, _digest_file(kept))
    return kept


def _folder() -> Path:
    """Return where the library is kept: what others can write is not run."""
    usual = caches.home_cache()
    if usual is not None:
        folder = usual / "poolformer"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) and caches.is_safe(folder):
            return folder
        if folder.is_dir() and not caches.is_safe(folder):
            _LOG.warning(
                "'%s' is not used: others can write it, and what is in it would be run; chmod go-w has it used", folder
            )
    folder = caches.private_cache() / "poolformer"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_as_compiled(library: Path) -> bool:
    """Return whether a file is what was compiled here: a cut one ends the process when it is loaded."""
    digest = _digest_file(library)
    if not (library.is_file() and caches.is_safe(library) and caches.is_safe(digest)):
        return False
    with contextlib.suppress(OSError, ValueError):
        return digest.read_text(encoding="ascii").strip() == _digest(library)
    return False


def _digest_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _instructions() -> list[str]:
    """Return flags for what this processor can: machines of a cluster that share a home differ, but not by name."""
    capability, described = torch.backends.cpu.get_cpu_capability(), Path("/proc/cpuinfo")
    flags = _INSTRUCTIONS.get(capability, [])
    if capability == "AVX512" and described.is_file() and "avx512_bf16" in described.read_text():
        flags = [*flags, "-mavx512bf16"]
    return flags


def _compile(compiler: list[str], sources: Path, library: Path) -> None:
    """Compile each file in a process of its own, to files beside a library."""
    include = ["-isystem", str(Path(torch.__file__).parent / "include")]
    commands = [
        [*compiler, *include, "-c", str(sources / name), "-o", str(library.with_name(f"{name}.o"))] for name in _SOURCES
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(_run, commands))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _libraries(torch_directory: Path) -> list[str]:
    """Return what to link: PyTorch, and its own OpenMP, since threads of another one would wait in each other's way."""
    places = (torch_directory / "lib", torch_directory.parent / "torch.libs")
    openmp = [str(path) for place in places for path in sorted(place.glob("libgomp*.so*"))]
    return [f"-L{torch_directory / 'lib'}", "-ltorch_cpu", "-lc10", *(openmp[:1] or ["-fopenmp"])]
