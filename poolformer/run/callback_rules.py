"""Lightning's callbacks that would not do here what they say, refused by name before anything is built."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Callback,
    LearningRateFinder,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
)

from ..errors import ConfigError
from .rate_finder import RateFinder

# Callbacks, subclasses too: why, and what to do.
_REFUSED: dict[type, str] = {
    LearningRateFinder: "its rate would last for one epoch, as the schedule sets its own in each: --config "
    "extras/lr-finder says which --model.lr to pass",
    BatchSizeFinder: "the learning rate would stay that of the batch before: pass --data.batch_size",
    StochasticWeightAveraging: "it replaces the schedule, and no checkpoint would have its weights as the model's: use "
    "EMAWeightAveraging or WeightAveraging",
    BackboneFinetuning: "the backbone of this model is all of it, its head included, so that nothing would be trained: "
    "inherit BaseFinetuning and freeze parts of pl_module.backbone",
    ModelPruning: "checkpoints do not keep its masks, so that a resumed run would be another one",
}
_BASES = (BaseFinetuning, BasePredictionWriter)


def check(callbacks: Sequence[Callback] | Callback) -> None:
    """Refuse callbacks that cannot hold what they promise.

    Raises:
        ConfigError: There is one; the message names it.
    """
    for callback in [callbacks] if isinstance(callbacks, Callback) else callbacks:
        name = type(callback).__name__
        reason = next((reason for kind, reason in _REFUSED.items() if isinstance(callback, kind)), None)
        if isinstance(callback, BackboneFinetuning) and _freezes_parts_of_its_own(callback):
            reason = None
        if isinstance(callback, RateFinder):
            reason = None
        if type(callback) in _BASES:
            reason = "it is a base for callbacks of your own, and does nothing itself"
        if isinstance(callback, SpikeDetection) and _reads_back_as_lightning_does(callback):
            reason = "it cannot read back its own state (lightning 2.6), so that a run could not be resumed"
        if reason:
            raise ConfigError(f"--trainer.callbacks {name}: {reason}")


def _freezes_parts_of_its_own(callback: BackboneFinetuning) -> bool:
    return type(callback).freeze_before_training is not BackboneFinetuning.freeze_before_training


def _reads_back_as_lightning_does(callback: Any) -> bool:
    return type(callback).load_state_dict is SpikeDetection.load_state_dict
