"""Where compiled code is kept: nobody's home is needed, and nobody else's files are run."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numba
import pytest

from poolformer.data.pixels import jit
from poolformer.files import caches

pytestmark = pytest.mark.skipif(os.name != "posix", reason="of homes as POSIX has them")
NOBODY = 54321


@pytest.fixture
def temporary(monkeypatch, tmp_path) -> Path:
    """Temporary files of this test alone; the environment is as before when it ends."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for variable in ("XDG_CACHE_HOME", "USER", *caches._OTHERS):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    caches.private_cache.cache_clear()
    yield folder
    caches.private_cache.cache_clear()


def test_a_home_that_can_be_written_is_used_and_nothing_said(temporary, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caches.prepare()
    assert caches.home_cache() == tmp_path / ".cache"
    assert "XDG_CACHE_HOME" not in os.environ


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nobody"])
def test_without_a_home_a_private_folder_is_used_and_said_once(temporary, monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    with pytest.warns(UserWarning, match="no cache can be kept in"):
        caches.prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caches.prepare()
    private = caches.private_cache()
    assert private.parent == temporary
    assert private.stat().st_mode & 0o777 == 0o700
    assert caches.home_cache() == private
    assert os.environ["TRITON_CACHE_DIR"] == str(private / "triton")


def test_the_next_start_finds_what_the_last_has_compiled(temporary):
    first = caches.private_cache()
    caches.private_cache.cache_clear()
    assert caches.private_cache() == first


@pytest.mark.parametrize("how", ["open to all", "a link", "a file"])
def test_a_folder_that_somebody_else_may_have_made_is_not_used(temporary, tmp_path, how):
    trap = temporary / f"poolformer-{os.getuid()}"
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        trap.symlink_to(tmp_path / "elsewhere")
    elif how == "a file":
        trap.touch()
    else:
        trap.mkdir()
        trap.chmod(0o777)
    private = caches.private_cache()
    assert private != trap
    assert private.stat().st_mode & 0o777 == 0o700


def test_kernels_are_compiled_where_numba_finds_no_place(temporary, monkeypatch):
    def nowhere(*args, cache: bool = False, **options):
        if cache and not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function 'kernel': no locator available")
        return njit(*args, cache=cache, **options)

    njit = numba.njit
    monkeypatch.setattr(numba, "njit", nowhere)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")

    def twice(x: int) -> int:
        return 2 * x

    compiled = jit.kernel(twice)
    assert compiled(3) == 6
    assert list((caches.private_cache() / "numba").rglob("*.nbi"))
    assert numba.config.CACHE_DIR == ""


@pytest.mark.parametrize(("patience_s", "said"), [(0, 1), (60, 0)])
def test_compiling_is_said_once_when_it_takes_long(temporary, monkeypatch, caplog, patience_s, said):
    listener = jit._TellsWhenItTakesLong(patience_s)
    told = []
    for module in ("json", jit.__name__):
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(temporary / module))

        def thrice(x: int) -> int:
            return 3 * x

        thrice.__module__ = module
        with numba.core.event.install_listener("numba:compile", listener):
            compiled = jit.kernel(thrice)
            assert (compiled(3), compiled(2.5)) == (9, 7.5)
        told.append([record.message.partition(",")[0] for record in caplog.records])
    assert told == [[], ["compiling what reads and augments images"] * said]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_a_user_whom_the_system_does_not_know_trains(tmp_path, home):
    for folder in [tmp_path, *tmp_path.parents[:3]]:
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    (work := tmp_path / "work").mkdir()
    work.chmod(0o777)
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(work), **({"HOME": home} if home else {})}
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
    command = [sys.executable, "-m", "poolformer", "fit", *short]
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import importlib"], check=True, capture_output=True, **nobody)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nobody else can run this Python")
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False, **nobody)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no cache can be kept in") == 1
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in work.iterdir() if path.name != "runs") == [f"poolformer-{NOBODY}"]
