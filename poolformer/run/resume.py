"""What a verb takes from a checkpoint: found out once, before anything is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.locating import candidates, locate
from ..checkpoint.outline import Outline
from ..checkpoint.reading import read_run
from ..checkpoint.record import IMPORTING, check_imports, hyper_parameters, import_references, options
from ..errors import CheckpointError, MisfitError
from ..files.shell import quoted
from . import config, provenance


@dataclass(frozen=True)
class Resume:
    """A checkpoint whose weights a verb takes, and with which ``fit`` resumes a run.

    Who restores what when a run is resumed:

    - weights, optimisers, schedule, the states of loops and callbacks: Lightning, from `path`, as data alone;
    - the place inside an epoch: `loops`, whose states say which batch or validation comes next;
    - options that nobody gives: the command line, from `model` and `data`, below whatever is said;
    - the seed, and what is said of facts that differ: `ImageClassifier.on_load_checkpoint`, with `facts`;
    - the order of the images and all that draws: nobody, as both are functions of seed, epoch and sample;
    - the best epoch so far: `RunDirectory.on_load_checkpoint`, also where the directory was moved;
    - the curves: `SafeTensorBoardLogger`, which leaves out what was logged after `purge_step`;
    - the end by steps: `StopAfterSteps`, as steps are counted from the run's first.

    Attributes:
        path: The checkpoint's file.
        same_run: Whether it is of the run in this very directory, which is then resumed there.
        from_last: Whether it is that run's ``last.ckpt``; another one leaves that in ``previous/<n>``.
        step: Optimiser steps that it has behind it.
        trained_on: Class path of its data module, as far as it says so.
        model: Hyper-parameters of the model.
        data: Options of the data module; empty for a module that is not ours.
        outline: The shapes of its weights.
    """

    path: Path
    same_run: bool
    from_last: bool
    step: int
    trained_on: str | None
    model: dict[str, Any]
    data: dict[str, Any]
    outline: Outline

    @property
    def purge_step(self) -> int | None:
        """Step after which the run's curves are logged anew; None where they are another run's."""
        return self.step if self.same_run else None

    def check_imports(self, said: Any) -> None:
        """Refuse a checkpoint that would choose what is imported.

        Args:
            said: Options of the model that the user gives: what they name, they vouch for.

        Raises:
            CheckpointError: It names a module that they do not.
        """
        check_imports(
            self.model,
            path=self.path,
            vouched=import_references([said.get(option) or "" for option in IMPORTING]),
            remedy=self._vouching,
        )

    def _vouching(self, foreign: list[str]) -> str:
        named = {option: import_references(self.model.get(option) or "") for option in IMPORTING}
        options = [option for option, names in named.items() if {*names} & {*foreign}]
        return f"add {' '.join(f'--model.{option} {quoted(self.model[option])}' for option in options)}"

    def misfit(self, error: MisfitError) -> CheckpointError:
        """Return the error that says which checkpoint's weights do not fit, and what there is beside it."""
        return CheckpointError(f"'{self.path}': {error}{candidates(self.path)}")

    @property
    def data_section(self) -> dict[str, Any] | None:
        """The data section of a configuration, with paths from where the run's directory is now; None if not ours."""
        if self.trained_on not in provenance.class_paths():
            return None
        content = {"data": {"class_path": self.trained_on, "init_args": self.data}}
        return config.beside(content, self.path.absolute().parent.parent)


def plan(ckpt_path: str, run_dir: Path) -> Resume:
    """Find a checkpoint, and read what it says.

    Args:
        ckpt_path: ``best``, ``last``, or a file.
        run_dir: The run's directory.

    Raises:
        CheckpointError: There is none, it is damaged, or a run has not written it.
    """
    path = locate(ckpt_path, run_dir)
    saved = read_run(path)
    model, trained_on = hyper_parameters(saved), provenance.trained_on(saved)
    data = options(saved, "datamodule_hyper_parameters") if trained_on in provenance.class_paths() else {}
    data.pop("_class_path", None)
    same_run = path.resolve().parent == (run_dir / "checkpoints").resolve()
    return Resume(
        path=path,
        same_run=same_run,
        from_last=same_run and path.name == "last.ckpt",
        step=saved["global_step"],
        trained_on=trained_on,
        model=model,
        data=data,
        outline=Outline(saved["state_dict"]),
    )
