"""The command in processes of their own that cost no seconds to start: forked from one that has the imports done.

`Started` is what `subprocess.Popen([sys.executable, ...])` is: a process with its own number, signals, exit code,
directory, environment and output. Only what has been imported is shared, also with the processes that it has
`multiprocessing` fork. Tests of imports themselves, or of variables that are read in one, start Python anew.
"""

import array
import atexit
import contextlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from multiprocessing import util
from pathlib import Path

# What a first run imports as well: Lightning asks whether a path is in s3fs's store, the worst images have maps drawn.
IMPORTED = (
    *("poolformer.ablation.command", "poolformer.cli.training", "poolformer.data.digits", "sklearn.datasets"),
    *("poolformer.data.ffcv", "poolformer.data.folder"),
    *("torch.utils.tensorboard", "tensorboard.plugins.hparams.plugin_data_pb2"),
)
OPTIONAL = ("s3fs", "pytorch_grad_cam")


class Started:
    """A process of ``python ARGUMENTS``.

    Args:
        arguments: ``-m MODULE`` or ``-c CODE`` or the path of a script, and what it is called with.
        cwd: Its directory.
        env: Its environment; that of this process if None.
        ranks: Have what Lightning starts for further devices forked as well. Only their parent is another: what ends
            when Lightning's own process does, and is asked for its children, is to be started by Lightning.
        outputs: Where its stdout and stderr go; None for files that are read by `printed` and `said`.
        server: What is asked to fork it; None for that of the tests.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: object = None,
        env: Mapping[str, str] | None = None,
        ranks: bool = False,
        outputs: tuple[int, int] | None = None,
        server: socket.socket | None = None,
    ):
        self.args = [str(argument) for argument in arguments]
        self.returncode: int | None = None
        self._out, self._err = outputs or (_nameless_file(), _nameless_file())
        self._status, theirs = os.pipe()
        for fd in (self._status, *(() if outputs else (self._out, self._err))):
            weakref.finalize(self, os.close, fd)
        place = {"cwd": str(cwd or Path.cwd()), "env": dict(os.environ if env is None else env)}
        asked = {"args": self.args, **place, "ranks": ranks}
        try:
            socket.send_fds(server or _server(), [json.dumps(asked).encode()], [self._out, self._err, theirs])
        finally:
            os.close(theirs)
        pid = self._number(120)
        assert pid, "no process was started"
        self.pid = pid

    def _number(self, timeout: float | None) -> int | None:
        if not select.select([self._status], [], [], timeout)[0]:
            return None
        number = array.array("i", os.read(self._status, 4))
        assert number, "the process that others are forked from has died"
        return number[0]

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._number(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self.printed(), self.said()

    def printed(self) -> str:
        """Return what it has written to stdout until now."""
        return _content(self._out)

    def said(self) -> str:
        """Return what it has written to stderr until now."""
        return _content(self._err)

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _nameless_file() -> int:
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def _content(fd: int) -> str:
    # Without moving its position, which the process writes at.
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")


def run(*arguments: object, timeout: float = 300, **options) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` to its end, as `subprocess.run` does with captured output."""
    process = Started(*arguments, **options)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@cache
def _server() -> socket.socket:
    """Start the process that others are forked from, once; it ends with this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, __file__, str(there.fileno())]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(command, env=environment, pass_fds=[there.fileno()], **quiet)
    atexit.register(lambda: (here.close(), process.wait(10)))
    return here


# ---- in that process


def import_all(required: Iterable[str], optional: Iterable[str]) -> None:
    """Import modules; those of packages that need not be installed, where they are."""
    for each in (*required, *filter(importlib.util.find_spec, optional)):
        importlib.import_module(each)


def shuffle_once() -> None:
    """Draw an order, as each run does: with its first function numba imports a hundred modules."""
    from poolformer.data.pixels.keyed import shuffled

    shuffled(2, seed=0, epoch=0)


def serve(connection: socket.socket, *, grace_s: float = 0) -> list[str]:
    """Fork a process for each request; return, in that process alone, what it has to run.

    Those that are left when nobody can ask any more have ``grace_s`` to end.
    """
    fresh = {signum: signal.getsignal(signum) for signum in signal.valid_signals()}
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would be lost in a fork"
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes)
    statuses: dict[int, int] = {}
    while True:
        ready = select.select([connection, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 1024)
            _tell_of_the_dead(statuses)
        if connection in ready:
            request, fds, *_ = socket.recv_fds(connection, 1 << 20, 3)
            if not request:  # the tests are over, or the run
                deadline = time.monotonic() + grace_s
                while statuses and time.monotonic() < deadline:
                    time.sleep(0.02)
                    _tell_of_the_dead(statuses)
                for pid in statuses:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            out, err, status = fds
            if pid := os.fork():
                os.close(out), os.close(err)
                statuses[pid] = status
                os.write(status, array.array("i", [pid]).tobytes())
                continue
            for fd in [connection.detach(), woken, wakes, status, *statuses.values()]:
                os.close(fd)
            return _become(json.loads(request), out, err, fresh)


def _tell_of_the_dead(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        died, how = os.waitpid(pid, os.WNOHANG)
        if died:
            status = statuses.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(status, array.array("i", [os.waitstatus_to_exitcode(how)]).tobytes())
            os.close(status)


def _become(asked: Mapping, out: int, err: int, handlers: Mapping[int, object]) -> list[str]:
    os.setsid()
    signal.set_wakeup_fd(-1)
    _handle(handlers)
    for fd, standard in ((out, 1), (err, 2)):
        os.dup2(fd, standard)
        os.close(fd)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    paths = [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [_first_of_path(asked["args"]), *paths]
    util.spawnv_passfds = partial(_fork_server, util.spawnv_passfds, handlers)
    if asked["ranks"]:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not os.fork():
            here.close()
            return serve(there, grace_s=10)
        there.close()
        _have_ranks_forked(here)
    return asked["args"]


def _have_ranks_forked(server: socket.socket) -> None:
    from lightning.pytorch.strategies.launchers import subprocess_script

    def started(command: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Started:
        return Started(*command[1:], cwd=cwd, env=env, outputs=(1, 2), server=server)

    subprocess_script.subprocess = types.SimpleNamespace(Popen=started)


def _handle(handlers: Mapping[int, object]) -> None:
    for signum, handler in handlers.items():
        if signum not in (signal.SIGKILL, signal.SIGSTOP) and handler is not None:
            signal.signal(signum, handler)


def _fork_server(start: object, handlers: Mapping[int, object], path: str, args: Sequence, fds: Iterable[int]) -> int:
    """Fork the process that `multiprocessing` forks others from, with the imports done, as long as that is safe."""
    if "multiprocessing.forkserver" not in args[-1] or len(os.listdir("/proc/self/task")) > 1:
        return start(path, args, fds)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in fds:
                with contextlib.suppress(OSError):  # that by which they were listed
                    os.close(fd)
        _handle(handlers)
        exec(args[-1], {"__name__": "__main__"})
        code = 0
    except SystemExit:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _first_of_path(args: list[str]) -> str:
    if args[0].startswith("-"):
        return os.getcwd() if args[0] == "-m" else ""
    return os.path.abspath(os.path.dirname(args[0]))


def start(args: list[str]) -> None:
    """Do what ``python ARGUMENTS`` does."""
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    elif args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        exec(compile(args[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = args
        runpy.run_path(args[0], run_name="__main__")


def end(code: object) -> None:
    """Leave as Python does, but for taking the imported modules apart, which would cost a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    import_all(IMPORTED, OPTIONAL)
    shuffle_once()
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        start(words)
    except SystemExit as left:
        end(left.code)
    end(0)
