"""Imports tried in another process, which may crash or hang there: of PyTorch, of our requirements, of plugins."""

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, TypedDict

from ..errors import describe

LIMIT_S = 180
"""Seconds after which an import is taken to hang: on a slow network disk PyTorch takes a minute."""
_PATIENCE_S = 1
"""Seconds for what a process has said last."""

_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from poolformer.doctor.imports import child; child(sys.argv[2:])"
)


class Imported(TypedDict):
    """What came of an import.

    Attributes:
        error: Why it failed, in a line; None where it did not.
        facts: What was found of PyTorch by `facts_of_torch`; empty for others.
    """

    error: str | None
    facts: dict[str, Any]


def imported(targets: Sequence[str], *, limit_s: float = LIMIT_S) -> dict[str, Imported]:
    """Import each in a process that may end with it; what comes after one that crashes is tried in another.

    Args:
        targets: Modules, or import references ``package.module:name``.
        limit_s: Seconds for each import.

    Returns:
        What came of it, by target.
    """
    found: dict[str, Imported] = {}
    todo = list(targets)
    while todo:
        said, end = _of_a_process(todo, limit_s)
        for target in todo[: len(said)]:
            found[target] = said.pop(0)
        todo = [target for target in todo if target not in found]
        if todo and end is not None:
            ended_by = todo.pop(0)
            found[ended_by] = {"error": end, "facts": {}}
            if ended_by == "torch":  # as would each of the others that import it
                found.update({target: {"error": end, "facts": {}} for target in todo})
                break
    return found


def _of_a_process(targets: Sequence[str], limit_s: float) -> tuple[list[Imported], str | None]:
    """Return what a process has said of the first targets, and how it ended where it did not get to the last."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, json.dumps(sys.path), *targets],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # what it starts is ended with it, and does not keep its pipes
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    last: deque[str] = deque(maxlen=9)
    readers = [
        threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, lambda line: last.append(line or "")), daemon=True),
    ]
    for reader in readers:
        reader.start()
    said: list[Imported] = []
    hangs = False
    try:
        while len(said) < len(targets) and (line := lines.get(timeout=limit_s)) is not None:
            said += _results(line)
    except queue.Empty:
        hangs = True
    finally:
        if hangs or sys.exc_info()[0] is not None or len(said) == len(targets):
            _end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it has closed its output, and goes on
            process.wait(_PATIENCE_S)
        _end(process)
        code = process.wait()
    for reader in readers:
        reader.join(_PATIENCE_S)
    if len(said) == len(targets):
        return said, None
    if hangs:
        return said, f"its import does not end within {limit_s:.0f} s"
    return said, f"it ends its process, with code {code}{_last(last)}"


def _results(line: str) -> list[Imported]:
    """Return what came of an import, none for a line that another has printed, as a .pth file at the start."""
    try:
        found = json.loads(line)
    except ValueError:
        return []
    known = isinstance(found, dict) and found.keys() == Imported.__annotations__.keys()
    return [Imported(error=found["error"], facts=found["facts"])] if known else []


def _read(pipe: IO[str], put: Callable[[str | None], None]) -> None:
    for line in pipe:
        put(line)
    put(None)
    pipe.close()


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it has started."""
    with contextlib.suppress(OSError):  # all of them are gone
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _last(lines: Iterable[str]) -> str:
    words = [line.strip() for line in lines if line.strip()]
    return f": {words[-1][:200]}" if words else ""


def child(targets: Sequence[str]) -> None:
    """Import each target and print a line of JSON for it; what the modules print goes nowhere."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for target in targets:
            print(json.dumps(_try(target)), file=out, flush=True)
    os._exit(0)  # threads and exit handlers of what was imported are of no interest


def _try(target: str) -> Imported:
    module, _, names = target.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for name in filter(None, names.split(".")):
            value = getattr(value, name)
        return {"error": None, "facts": facts_of_torch(value) if target == "torch" else {}}
    except BaseException as error:  # a module may do anything when imported, even exit
        return {"error": describe(error)[:300], "facts": {}}


def facts_of_torch(torch: Any) -> dict[str, Any]:
    """Return version, threads, the version of CUDA that PyTorch was built for, and the GPUs that it sees."""
    cuda = torch.cuda
    gpus = [cuda.get_device_properties(number) for number in range(cuda.device_count() if cuda.is_available() else 0)]
    return {
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "built_for": torch.version.cuda or torch.version.hip,
        "available": cuda.is_available(),
        "runs_on": cuda.get_arch_list(),
        "gpus": [{"name": each.name, "bytes": each.total_memory, "is": f"{each.major}{each.minor}"} for each in gpus],
    }
