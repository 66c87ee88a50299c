"""What a run is, said in the log and in TensorBoard: size, cost, command, data, and how its curves are laid out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from ..network.complexity import Complexity, count
from ..network.example import example_input
from .directory import HEADLINE
from .hyper_parameters import hyper_parameters
from .lightning_internals import logging_step
from .surroundings import data_facts, made_by

BEST = "best/top1"
"""Tag of the best accuracy so far: the first metric in TensorBoard's table of hyper-parameters, which sorts them."""
# Charts of the page Custom scalars, from its top: what each shows, and its curves as patterns of tags.
LAYOUT: dict[str, dict[str, list[Any]]] = {
    "Loss and accuracy": {
        "loss": ["Multiline", ["^train/loss$", "^val/loss$"]],
        "top-1": ["Multiline", ["^train/top1$", "^val/top1$", "^best/top1$"]],
        "top-5": ["Multiline", ["^val/top5$"]],
    },
    "Calibration": {"expected calibration error": ["Multiline", ["^calibration/"]]},
    "Optimisation": {
        "learning rate": ["Multiline", ["^lr/"]],
        "gradient norm": ["Multiline", ["^norm/gradient$"]],
        "weight norm": ["Multiline", ["^norm/weight$"]],
    },
    "Speed": {
        "images a second": ["Multiline", ["^throughput/images_per_s$"]],
        "share of a step spent waiting for data": ["Multiline", ["^throughput/waiting_share$"]],
        "memory (MiB)": ["Multiline", ["^throughput/memory_mib$"]],
    },
}


OF_AVERAGES: dict[str, dict[str, list[Any]]] = {
    "Averaged weights beside those of training": {
        "loss": ["Multiline", ["^averages/loss_"]],
        "top-1": ["Multiline", ["^averages/top1_"]],
    },
}


class RunSummary(Callback):
    """Says what is trained, in the log and in TensorBoard: size, cost, hyper-parameters, command, data.

    It also logs ``best/top1``, and lays out the charts of the page Custom scalars.

    Attributes:
        complexity: Size and cost of the network; None in other processes than that of rank 0.
    """

    def __init__(self) -> None:
        self.complexity: Complexity | None = None
        self._best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict.get("best")

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Counting runs the network, here on one rank alone: it must not be sharded over several yet.
        classifier: Any = pl_module  # `ImageClassifier`, which stands above
        self.complexity = count(classifier.backbone, image_size=classifier.hparams.image_size)

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        classifier: Any = pl_module
        complexity = self.complexity
        assert complexity is not None
        name, frame = classifier.hparams.backbone, classifier.frame
        built = ", ".join(f"{option} {worded(value)}" for option, value in frame.items() if value is not None)
        size_of_it = (
            f"{complexity.parameters:,} parameters, {complexity.macs / 1e6:,.1f} M MACs at {_sides(classifier)}"
        )
        rank_zero_info(f"{name}{f' ({built})' if built else ''}: {size_of_it}")
        averages = [type(each).__name__ for each in trainer.callbacks if isinstance(each, WeightAveraging)]
        if averages:
            rank_zero_info(f"Validation, and the weights of checkpoints, are averages: {averages[0]}")
        for logger in _boards(trainer):
            _write_text(logger, classifier, complexity)
            _write_hyper_parameters(logger, hyper_parameters(trainer, classifier))
            logger.experiment.add_custom_scalars({**LAYOUT, **(OF_AVERAGES if averages else {})})

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = list(_boards(trainer))
        if boards:  # the loaders are there from now on
            classifier: Any = pl_module
            data = {name: str(value) for name, value in data_facts(trainer, class_names=classifier.class_names).items()}
            for logger in boards:
                logger.experiment.add_text("run", _facts(made_by(trainer)))
                logger.experiment.add_text("data", _facts(data))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        top1 = trainer.callback_metrics.get(HEADLINE)
        if trainer.sanity_checking or trainer.state.fn != "fit" or top1 is None:
            return
        self._best = max(float(top1), self._best if self._best is not None else float("-inf"))
        for logger in trainer.loggers:
            logger.log_metrics({BEST: self._best}, step=logging_step(trainer))


def worded(value: Any) -> str:
    """Return an option in words: a mixer or an optimiser by its name, with its options behind it.

    Example:
        >>> worded([{"name": "pooling"}, {"name": "attention", "head_dim": 32}])
        'pooling / attention with head_dim 32'
    """
    if isinstance(value, list | tuple):
        return " / ".join(map(worded, value))
    if not isinstance(value, Mapping) or "name" not in value:
        return str(value)
    options = ", ".join(f"{name} {each}" for name, each in value.items() if name != "name")
    return f"{value['name']}{' with ' * bool(options)}{options}"


def _boards(trainer: pl.Trainer) -> Iterable[TensorBoardLogger]:
    return (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))


def _sides(classifier: Any) -> str:
    """Return the sides of an input, as 224 x 224."""
    example = example_input(classifier.backbone, image_size=classifier.hparams.image_size)
    return " x ".join(str(side) for side in example.shape[2:])


def _write_text(logger: TensorBoardLogger, classifier: Any, complexity: Complexity) -> None:
    hparams = classifier.hparams
    facts = {
        "backbone": hparams.backbone,
        **{option: worded(value) for option, value in classifier.frame.items()},
        "parameters": f"{complexity.parameters:,}",
        "MACs": f"{complexity.macs:,} at {_sides(classifier)}",
        "optimizer": worded(hparams.optimizer),
    }
    layers = [
        (f"`{name}`", type(layer).__name__, f"{sum(parameter.numel() for parameter in layer.parameters()):,}")
        for name, layer in classifier.backbone.named_modules()
        if name and name.count(".") < 4
    ]
    logger.experiment.add_text("model", f"{_facts(facts)}\n\n{_table(('layer', 'type', 'parameters'), layers)}")


def _facts(facts: Mapping[str, str]) -> str:
    return _table(("", ""), [(name, value.replace("|", "\\|").replace("\n", " ")) for name, value in facts.items()])


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_hyper_parameters(logger: TensorBoardLogger, values: Mapping[str, bool | int | float | str]) -> None:
    # Not through the logger: it would also write a made-up first point into the curve of the metric. And without the
    # list of columns that PyTorch writes too: where a run brings none, TensorBoard takes those of all runs together,
    # and shows first those in which they differ.
    from torch.utils.tensorboard.summary import hparams

    _, start, end = hparams(dict(values), {BEST: 0.0})
    for summary in (start, end):
        logger.experiment.file_writer.add_summary(summary)
