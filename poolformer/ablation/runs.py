"""The runs that the rows of an ablation are trained in, and what came of them.

A run is a row trained by ``poolformer fit`` with one seed, in a directory of its own, in which ``result.json`` appears
at its end.
"""

import contextlib
import json
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..configs import read_config
from ..errors import ConfigError, NotFiniteError, PoolformerError, describe, is_end, one_line
from ..files.atomic_write import atomic_write
from ..registry import DISTRIBUTION
from .rows import Row

if TYPE_CHECKING:
    from ..cli.training import TrainingCLI

IMPORTED = ("poolformer.cli.training", "torch.utils.tensorboard")
"""What `train` imports for seconds, for `launchers.warm_up`."""


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        top1: val/top1 after the last epoch, a fraction.
        best_top1: val/top1 of the best epoch.
        epochs: Epochs trained.
        parameters: Trainable parameters.
        frozen_parameters: Parameters that are not trained, on top.
        macs: Multiply-accumulates of one image.
        images_per_s: Training images of all devices a second, loading included, evaluation not.
        train_s: Seconds from the first step to the end, evaluation included; over restarts the sum.
        devices: That trained it; their number scales the whole batch and with it the learning rate.
        mixers: Of other packages: their names, each with its package and version.
        warnings: What the last start warned of.
        versions: Of the packages that it ended with.
    """

    top1: float
    best_top1: float
    epochs: int
    parameters: int
    frozen_parameters: int
    macs: int
    images_per_s: float
    train_s: float
    devices: int = 1
    mixers: dict[str, str] | None = None
    warnings: list[str] | None = None
    versions: str | None = None


@dataclass(frozen=True)
class Run:
    """A row to be trained with one seed.

    Attributes:
        row: Name of the row.
        seed: The seed.
        directory: The run's directory.
        arguments: Of ``poolformer fit``.
    """

    row: str
    seed: int
    directory: Path
    arguments: tuple[str, ...]

    @property
    def log(self) -> Path:
        """Where all that the run prints goes: beside its directory, which an earlier run is moved out of."""
        return self.directory.with_name(f"{self.directory.name}.log")

    @property
    def last_checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"

    @property
    def _result_file(self) -> Path:
        return self.directory / "result.json"

    @property
    def divergence(self) -> str | None:
        """Why the run has no result, where that is its outcome: the loss was not finite."""
        file = self.directory / "not_finite.txt"
        return file.read_text(encoding="utf-8").strip() if file.is_file() else None

    def result(self) -> Result | None:
        """Return what came of the run; None if it is not finished.

        Raises:
            ConfigError: The file is of another version.
        """
        if not self._result_file.is_file():
            return None
        try:
            return Result(**json.loads(self._result_file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"'{self._result_file}' cannot be read ({describe(error)}): delete it, and it is written again"
            ) from error

    def save_divergence(self, message: str) -> None:
        """Write that the loss was not finite."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.directory / "not_finite.txt", "w", encoding="utf-8") as file:
            file.write(f"{message}\n")

    def save(self, result: Result) -> None:
        """Write the result, wholly or not at all."""
        with atomic_write(self._result_file, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result), indent=1) + "\n")


def fit_arguments(configs: Sequence[str], row: Row, flags: Sequence[str]) -> list[str]:
    """Return the arguments of ``poolformer fit`` that a row is trained with, whatever the seed."""
    files = [*configs, *([str(row.overlay)] if row.overlay else [])]
    mixer = ["--model.mixer", row.mixer] if row.mixer else []
    configured = [word for file in files for word in ("--config", file)]
    return [*configured, *mixer, "--trainer.enable_progress_bar", "false", *flags]


def folder_of(row: Row) -> str:
    """Return the name of a row's folder."""
    return re.sub(r"[/:]", "-", row.name)  # package/mixer, module:factory


def plan_run(row: Row, seed: int, out: Path, arguments: Sequence[str], *, below: str = "") -> Run:
    """Return the run of a row with a seed below a directory, or below a folder in the row's."""
    directory = out / folder_of(row) / below / f"seed-{seed}"
    place = ("--seed_everything", str(seed), "--trainer.default_root_dir", str(directory))
    return Run(row.name, seed, directory, (*arguments, *place))


def check_settings(run: Run, settings: dict[str, Any]) -> None:
    """Check that what lies in the run's directory was made with the settings and packages it would be made with now.

    Raises:
        ConfigError: It was not, so its result is another experiment's and it cannot be resumed either.
    """
    from ..run.config import in_its_place
    from ..run.same_run import differences

    config = run.directory / "config.yaml"
    if not config.is_file() or not (run.result() or run.divergence or run.last_checkpoint.is_file()):
        return
    said = read_config(config)
    started = _weights(in_its_place(said, config, run_dir=str(run.directory))), _weights(settings)
    if changed := differences(said, {**settings, "seed_everything": run.seed}) or _other_start(*started):
        (name, (before, now)), *others = changed.items()
        more = f" and {len(others)} more" if others else ""
        raise ConfigError(
            f"'{run.directory}' was trained with other settings ({name} {before}, now {now}{more}): "
            "take another --out, or delete that directory to train it again"
        )
    mixers = _of_other_packages(settings["model"])
    if (result := run.result()) and result.mixers not in (None, mixers):
        then, today = (", ".join(map(" of ".join, each.items())) for each in (result.mixers, mixers))
        raise ConfigError(
            f"'{run.directory}' was trained with {then}, now {today}: take another --out, or delete that directory to "
            "train it again"
        )


def _weights(content: Mapping[str, Any]) -> str:
    """Return the weights that a run starts from, with what it skips of them; resuming a run does not read them."""
    model = content.get("model") or {}
    given, skip = model.get("pretrained"), model.get("pretrained_skip")
    return (
        f"{os.path.realpath(given) if given and os.path.exists(given) else given}{f' without {skip}' if skip else ''}"
    )


def _other_start(before: str, now: str) -> dict[str, tuple[str, str]]:
    return {"model.pretrained": (before, now)} if before != now else {}


def _of_other_packages(model: dict[str, Any]) -> dict[str, str]:
    from ..checkpoint.record import record
    from ..network.frame_options import built_options

    mixer = built_options(model["backbone"], model).get("mixer")
    mixers = record(backbone=model["backbone"], mixer=mixer, class_names=None)["mixers"]
    return {name: origin for name, origin in mixers.items() if origin and not origin.startswith(f"{DISTRIBUTION} ")}


def cannot_start(run: Run) -> str | None:
    """Return in one line why a run cannot start, without starting it, None where nothing is found.

    This is for a process of its own, as `train`: what is built may hold a device as long as its process lasts.
    """
    from ..cli import training

    with open(os.devnull, "w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        training.check_start("fit", list(run.arguments))
    except PoolformerError as error:
        return one_line(error)
    except Exception:  # not a mistake in the options: the run itself says it, with its traceback in the log
        return None
    return None


def train(run: Run) -> str | None:
    """Train one run to its end, from its last checkpoint if there is one, and save its result.

    This is for a process of its own: all that is printed goes to the run's log from here on.

    Returns:
        None, or in one line why there is no result.
    """
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("a", encoding="utf-8") as log:
        if not _lock(log):
            return f"another process is training it (it writes '{run.log}')"
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            stream.flush()
            os.dup2(log.fileno(), number)
        try:
            with _noted_warnings() as said:
                _fit(run, said)
        except PoolformerError as error:
            print(f"poolformer: error: {one_line(error)}", file=sys.stderr)
            if isinstance(error, NotFiniteError):
                run.save_divergence(one_line(error))
            return one_line(error)
        except (Exception, SystemExit) as error:  # whatever it is, the other rows are trained
            if is_end(error):
                raise
            traceback.print_exc()
            return f"{describe(error)} (see '{run.log}')"
        return None


@contextlib.contextmanager
def _noted_warnings() -> Iterator[list[str]]:
    """Give a list that gets what is warned of, which is shown as well."""
    said: list[str] = []
    show = warnings.showwarning

    def note(message: Warning | str, *rest: Any, **options: Any) -> None:
        said.append(" ".join(str(message).split()))
        show(message, *rest, **options)

    warnings.showwarning = note
    try:
        yield said
    finally:
        warnings.showwarning = show


def _lock(log: TextIO) -> bool:
    """Lock the run's log for as long as this process lives; the system lets go even after a kill.

    Of the tasks of a SLURM job, which train a run together, the first does so.
    """
    if int(os.environ.get("SLURM_PROCID", 0)):
        return True
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fit(run: Run, said: list[str]) -> None:
    from ..cli import training

    resumed = ["--ckpt_path", "last"] if run.last_checkpoint.is_file() else []
    arguments = [*run.arguments, *resumed]
    # By these Lightning starts the other ranks, where there are several devices.
    sys.argv[1:] = ["fit", *arguments]
    sys.modules["__main__"].__spec__ = find_spec("poolformer.__main__")
    cli = training.run("fit", arguments)
    result = _result(cli)
    if cli.trainer.is_global_zero:
        run.save(replace(result, warnings=list(dict.fromkeys(said))))


def _result(cli: "TrainingCLI") -> Result:
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

    from ..network.complexity import count
    from ..run.callbacks import Throughput
    from ..run.directory import HEADLINE
    from ..run.versions import versions

    trainer, model = cli.trainer, cli.model
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    if HEADLINE not in metrics:
        # The run was killed between its last checkpoint and its result: nothing was left to train.
        metrics = model.loaded.metrics
    for name in ("train/loss", "val/loss"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise NotFiniteError(f"{name} is {metrics[name]} after {trainer.current_epoch} epochs")
    if HEADLINE not in metrics:
        raise PoolformerError(f"{HEADLINE} was not measured: no epoch was evaluated")
    top1 = metrics[HEADLINE]
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    scores = [callback.best_model_score for callback in savers if callback.monitor == HEADLINE]
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning, declared nowhere
    throughput = next(callback for callback in callbacks if isinstance(callback, Throughput))
    complexity = count(model.backbone, image_size=model.hparams.image_size)
    return Result(
        top1=top1,
        best_top1=max([top1, *(score.item() for score in scores if score is not None)]),
        epochs=trainer.current_epoch,
        parameters=complexity.parameters,
        frozen_parameters=complexity.frozen,
        macs=complexity.macs,
        images_per_s=throughput.images / throughput.steps_s if throughput.steps_s else 0.0,
        train_s=throughput.train_s,
        devices=trainer.world_size,
        mixers=_of_other_packages(model.hparams),
        versions=versions(),
    )
