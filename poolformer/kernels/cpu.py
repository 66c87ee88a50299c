"""The fused operators' C++ for CPUs (`*_cpu.cpp`): compiled once on a machine, kept, and loaded.

Not by `torch.utils.cpp_extension`, which wants ninja and waits for ever where a process died that held its lock.
"""

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

    Compiles them in a quarter of a minute where no process has before. Where they cannot be had, the log says why. They
    have float32 on any x86 processor whose products of blocks PyTorch has, bfloat16 where it computes in that itself.
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
    except OSError:  # it is not whole, or the system has changed
        torch.ops.load_library(str(_library(anew=True)))


def _multiplies(dtype: torch.dtype) -> bool:
    """Try a block of two channels: whether its products are there, and what they come to."""
    with torch.device("cpu"), torch.no_grad():
        like = {"dtype": torch.float32}
        ones, none, weight = torch.ones(2, **like), torch.zeros(2, **like), torch.ones(2, 2, 1, 1, **like)
        # The norm makes -1 and 1 of it, fc1 twice 0, its bias 8, fc2 the sum.
        x = torch.tensor([1.0, 3.0], **like)[None, :, None, None]
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
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poolformer" / name
    if anew or not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
            # A warning, since a run says nothing until it is done.
            _LOG.warning("compiling the fused operators for this CPU, once, for a quarter of a minute: %s", kept)
            built = Path(directory) / name
            _compile([*compiler, *flags], here, built)
            _run([*compiler, "-shared", "-o", str(built), *map(str, built.parent.glob("*.o")), *libraries])
            with built.open("rb+") as file:
                os.fsync(file.fileno())
            built.replace(kept)  # whole, whoever else compiles it
    return kept


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
