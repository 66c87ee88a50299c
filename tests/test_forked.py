"""A forked process is for a test what one that was started anew is."""

import os
import signal
import subprocess
import sys
import time

import pytest
from forked import Started, import_all, run

pytestmark = pytest.mark.slow
CODES = [
    "import os, sys; print(sys.argv, os.getcwd(), __name__, os.environ['ASKED']); print('why', file=sys.stderr)",
    "import sys; sys.exit(5)",
    "import sys; sys.exit('said')",
    "import os; os.kill(os.getpid(), 9)",
    "raise KeyboardInterrupt",
    "import signal; print([(int(n), str(signal.getsignal(n))) for n in signal.valid_signals()])",
    "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('last'))).start()",
    "import atexit; atexit.register(print, 'at exit')",
    "import os; print(os.getpgrp() == os.getpid(), sorted(os.listdir('/proc/self/fd'))[:3])",
]


@pytest.mark.parametrize("code", CODES)
def test_it_ends_and_prints_as_a_new_one_does(code, tmp_path):
    options = {"cwd": tmp_path, "env": os.environ | {"ASKED": "yes"}}
    new = subprocess.run(
        [sys.executable, "-c", code, "word"], capture_output=True, text=True, start_new_session=True, **options
    )
    forked = run("-c", code, "word", **options)
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


def test_it_is_signalled_and_waited_for():
    process = Started("-c", "import time; print('begun', flush=True); time.sleep(600)")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    deadline = time.monotonic() + 60
    while not process.printed() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(60) == ("begun\n", "")
    assert process.returncode == -signal.SIGTERM
    process.kill()


def test_modules_and_scripts_find_what_lies_beside_them(tmp_path):
    (tmp_path / "beside.py").write_text("name = 'found'")
    (tmp_path / "script.py").write_text("import beside, sys; print(beside.name, sys.argv[1:])")
    (tmp_path / "elsewhere").mkdir()
    assert run(tmp_path / "script.py", 1, cwd=tmp_path / "elsewhere").stdout == "found ['1']\n"
    assert run("-m", "script", 2, cwd=tmp_path).stdout == "found ['2']\n"
    path = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert run("-c", "import beside; print(beside.name)", env=path).stdout == "found\n"


MULTIPROCESSING = """
import multiprocessing, sys
from multiprocessing import forkserver

context = multiprocessing.get_context("forkserver")
code = "import os, sys; print(os.getppid(), 'lightning' in sys.modules, flush=True)"
process = context.Process(target=exec, args=(code,))
process.start()
process.join()
print(forkserver._forkserver._forkserver_pid, process.exitcode)
"""


def test_what_it_has_multiprocessing_fork_has_the_imports_done():
    done = run("-c", MULTIPROCESSING)
    assert done.returncode == 0, done.stderr
    (parent, imported), (server, code) = (line.split() for line in done.stdout.splitlines())
    assert (parent, imported, code) == (server, "True", "0")


def test_only_what_need_not_be_installed_may_be_missing():
    import_all([], ["no_such_package"])
    with pytest.raises(ModuleNotFoundError):
        import_all(["poolformer.no_such_module"], [])


RANKS = """
import os, sys
from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from lightning.pytorch.strategies.launchers import subprocess_script

if "LOCAL_RANK" not in os.environ:
    environment = {**os.environ, "LOCAL_RANK": "1"}
    rank = subprocess_script.subprocess.Popen(_basic_subprocess_cmd(), env=environment, cwd=None)
    print(rank.wait(), rank.pid != os.getpid())
else:
    imported, server = "poolformer.cli.training" in sys.modules, os.getppid()
    # One that is started anew has a session of its own, and seconds of imports.
    print("rank", os.environ["LOCAL_RANK"], sys.argv[1:], imported, os.getsid(server) == server, flush=True)
    sys.exit(3)
"""


def test_ranks_are_forked_where_that_is_asked_for(tmp_path):
    (tmp_path / "two.py").write_text(RANKS)
    done = run(tmp_path / "two.py", "word", ranks=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rank 1 ['word'] True False\n3 True\n"
