"""Fixtures for all tests: one seed, one thread, and plugins as pip leaves them on disk."""

import itertools
import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lightning_utilities.core import rank_zero

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with hatchling

if TYPE_CHECKING:
    from command_line import Done

PLUGINS = Path(__file__).parents[1] / "plugins"
# Files of a minute and more, the longest first: one that is handed out last would keep one process busy alone.
LONG_FILES = (
    "test_readme.py",
    "test_configs.py",
    "cli/test_training.py",
    "test_plugins.py",
    "network/test_fused.py",
    "kernels/test_operators.py",
    "commands/test_export.py",
    "run/test_places.py",
    "run/test_loops.py",
    "run/test_stopping.py",
    "ablation/test_command.py",
    "run/test_sharding.py",
    "test_backbones.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run what takes long too")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests and their processes expect Ctrl-C
    # As in an environment that is active: what is printed to be pasted says `poolformer`, and a test finds uv.
    scripts = str(Path(sys.executable).parent)
    if scripts not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([scripts, os.environ["PATH"]])
    # Processes that tests start keep to one thread as well: those of several would only wait for each other's cores.
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")})
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        # Hand files out in the order of collection, not those with most tests first: the longest has one test.
        config.option.loadscopereorder = False
        return  # the process that hands the tests out runs none: it need not wait for these imports
    import torch

    if not torch.cuda.is_available():
        # Triton's kernels run in its interpreter, on the CPU; it asks when it is imported, which Lightning does.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    import command_line  # noqa: F401


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if parameters.get("way") == "kernels" and os.environ.get("TRITON_INTERPRET") == "1":
            item.add_marker(pytest.mark.slow)  # seconds for a map of a few tokens
        if parameters.get("way") == "cpp" or "cpp" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)  # the first compiles for half a minute where nobody has yet
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.slow)
            if not config.getoption("--exhaustive"):
                item.add_marker(pytest.mark.skip(reason="takes long: pytest --exhaustive"))
    if hasattr(config, "workerinput"):
        places = {str(Path(__file__).parent / file): place for place, file in enumerate(LONG_FILES)}
        items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(autouse=True)
def as_it_was(tmp_path_factory):
    """Undo what a test changes in its process: which files' tests share one is chance."""
    path, modules, base = list(sys.path), sys.modules.copy(), tmp_path_factory.getbasetemp()
    loggers = [logging.getLogger(name) for name in ("", "lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    if signal.getsignal(signal.SIGINT) is not interrupt:
        # Lightning ignores it after a KeyboardInterrupt, and every process that is started later would inherit that.
        signal.signal(signal.SIGINT, interrupt)
    for logger, level in zip(loggers, levels, strict=True):
        if logger.level != level:  # to set one empties the caches of all loggers
            logger.setLevel(level)
    sys.path[:] = path
    if len(sys.modules) == len(modules) and next(reversed(sys.modules)) == next(reversed(modules)):
        return  # nothing was imported, as in most of thousands of tests: a new one would be the last
    new = sys.modules.keys() - modules.keys()
    for name in new:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(base):
            del sys.modules[name]
    if "pytorch_lightning" in new:  # it takes Lightning's messages over to a logger of its own
        rank_zero.log = logging.getLogger("lightning.pytorch.utilities.rank_zero")


@pytest.fixture(autouse=True)
def seed():
    """Start each test from the same random numbers."""
    import torch

    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # which would write down where it was called from, for each kind of GPU: milliseconds a test
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keep PyTorch to one thread: handing out work costs more than the small tensors of the tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def few_loggers():
    """Have torch's loggers pass on to one what each prints itself: pytest listens thrice a test to all that do not."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch.") and not getattr(logger, "propagate", True) and name != "torch.__trace":
            logger.disabled = not logger.handlers  # one that nobody has turned on
            logger.handlers.clear()
            logger.propagate = True


@pytest.fixture
def lightnings_log(caplog):
    """Lightning's messages, whatever tests before have made of its loggers."""
    logger = rank_zero.log
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, logger=logger.name):
        yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def cpp(monkeypatch) -> None:
    """Have fused operators on the CPU run in C++, not in Triton's interpreter; skip where it cannot be compiled."""
    from poolformer.kernels import availability, cpu

    if not cpu.load():
        pytest.skip("no C++ for CPUs here")
    monkeypatch.setattr(availability, "_INTERPRETS", False)


@pytest.fixture
def exact_products(monkeypatch) -> None:
    """No TF32 where a GPU has it."""
    import torch

    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=["kernels", "cpp", "plain"])
def way(request, monkeypatch, exact_products) -> str:
    """Triton's kernels, C++ for CPUs, or the same closed form in PyTorch, which others have."""
    import torch

    from poolformer.kernels import availability

    if request.param == "kernels":
        pytest.importorskip("triton")
        return request.param
    if request.param == "cpp":
        if torch.cuda.is_available():
            pytest.skip("the tensors are on a GPU")
        request.getfixturevalue("cpp")
        return request.param
    monkeypatch.setattr(availability, "_HAS_TRITON", False)
    monkeypatch.setattr(availability, "_cpp_types", frozenset())
    return request.param


@pytest.fixture
def interpreted(way, request) -> bool:
    """Whether kernels run in the interpreter, seconds for a map of a few tokens, and nobody asked for all of it."""
    in_interpreter = way == "kernels" and os.environ.get("TRITON_INTERPRET") == "1"
    return in_interpreter and not request.config.getoption("--exhaustive")


@pytest.fixture
def on_path(monkeypatch) -> Callable[[Path], None]:
    """Put folders first on the path for one test; what it imports from them is forgotten afterwards."""
    folders = []

    def add(folder: Path) -> None:
        folders.append(folder)
        monkeypatch.syspath_prepend(folder)

    yield add
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None) or ""
        if any(Path(file).is_relative_to(folder) for folder in folders):
            del sys.modules[name]


@pytest.fixture
def fake_plugin(tmp_path, on_path) -> Callable[..., Path]:
    """Install packages for one test: metadata and modules in a folder that comes first on the path.

    Call it as ``fake_plugin(name=..., version=..., entry_points={group: {name: reference}},
    modules={module: source})``. It returns the folder, for the PYTHONPATH of another process.
    """
    count = itertools.count()

    def install(
        *,
        name: str = "my-dist",
        version: str = "1.0",
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
    ) -> Path:
        folder = tmp_path / f"site-packages-{next(count)}"
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(_as_ini(entry_points))
        for module, source in (modules or {}).items():
            file = folder / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        on_path(folder)
        return folder

    return install


@pytest.fixture
def shipped_plugin(fake_plugin) -> Callable[[str], Path]:
    """Install a package of ``plugins/``, by its folder, with the metadata that its pyproject.toml leads to."""

    def install(folder: str) -> Path:
        project = tomllib.loads((PLUGINS / folder / "pyproject.toml").read_text())["project"]
        source = PLUGINS / folder / "src"
        return fake_plugin(
            name=project["name"],
            version=project["version"],
            entry_points=project["entry-points"],
            modules={
                ".".join(file.relative_to(source).with_suffix("").parts): file.read_text()
                for file in source.rglob("*.py")
            },
        )

    return install


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Call ``poolformer fit`` in this process, in an empty directory, with callbacks; return its exit code."""
    from runs import DIGITS

    from poolformer.cli import dispatch as cli
    from poolformer.run import trainer as run_trainer
    from poolformer.run.stopping import SIGNALS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    of_a_run = run_trainer.callbacks_of_a_run

    def fit(run_dir, *options, callbacks=(), base=None):
        for file in Path(run_dir).glob("events.*"):
            # TensorBoard reads files in the order of their names: second, host, process, and a number as text.
            file.rename(file.with_name(re.sub(r"\b\d+(?=(\.\D+)?$)", lambda number: number[0].zfill(9), file.name)))
        with monkeypatch.context() as patch:
            patch.setattr(
                run_trainer,
                "callbacks_of_a_run",
                lambda plan, *, logs: [*callbacks, *of_a_run(plan, logs=logs)],
            )
            try:
                return cli.main(
                    [
                        "fit",
                        *(DIGITS if base is None else base),
                        "--trainer.default_root_dir",
                        str(run_dir),
                        *map(str, options),
                    ]
                )
            except SystemExit as left:
                return left.code

    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    yield fit
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="session")
def s3_process():
    """A server for all tests of a process."""
    for package in ("moto", "s3fs"):
        pytest.importorskip(package, reason="no S3 server here: pip install 'poolformer-lightning[test]'")
    from s3_server import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_process, monkeypatch):
    """A server of S3 with an empty bucket, where s3:// leads in this test."""
    import fsspec

    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    s3_process.fault, s3_process.bucket = None, f"bucket-{time.time_ns()}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(s3_process.bucket)
    yield s3_process
    s3_process.fault = None


def _as_ini(entry_points: Mapping[str, Mapping[str, str]]) -> str:
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {reference}" for name, reference in points.items())]
    return "\n".join(lines) + "\n"


@pytest.fixture
def mistake(monkeypatch, tmp_path, capsys):
    """Call the command with a mistake in it, in an empty directory; return what it says after its name."""
    from poolformer.cli import dispatch as cli

    monkeypatch.chdir(tmp_path)
    # What a run changes in this process.
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    monkeypatch.setattr(logger, "filters", list(logger.filters))

    def mistake(*arguments: str | Path) -> str:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.startswith("poolformer: error: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "runs").exists()
        return err.removeprefix("poolformer: error: ").rstrip("\n")

    return mistake


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty current directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def call(work, capsys) -> "Callable[..., Done]":
    """Call the command in this process, in an empty directory."""
    from command_line import Done, process_left_as_it_was

    def call(*arguments: str | Path) -> Done:
        from poolformer import cli

        with process_left_as_it_was():
            try:
                code = cli.main([str(argument) for argument in arguments])
            except SystemExit as left:  # --help, --print_config
                code = left.code
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of one epoch, of depthwise mixers with unusual options; copy it before changing it."""
    from command_line import ONE_EPOCH, process_left_as_it_was

    run_dir = tmp_path_factory.mktemp("trained") / "run"
    options = ["--model.mixer", "depthwise", "--model.lr", "0.003", "--model.label_smoothing", "0.2"]
    options += ["--data.batch_size", "32", "--trainer.default_root_dir", str(run_dir)]
    from poolformer import cli

    with process_left_as_it_was(), warnings.catch_warnings():
        assert cli.main(["fit", *options, *ONE_EPOCH]) == 0
    return run_dir


@pytest.fixture
def http():
    """A server of HTTP that serves what it is given."""
    from http_server import Files

    server = Files()
    yield server
    server.stop()
