"""Networks beside the one that is trained: of the averages (EMA) beside its own weights, and copies to look into."""

import copy
import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import nn
from torchmetrics import MeanMetric

from .lightning_internals import averages_of, move_averages

BATCHES = 16
"""Of a validation, on each device, that the weights of training are evaluated on beside their averages."""
_SHARE = 0.007
"""Of what training computes that may go into it; a step costs about three times as much as evaluating its batch."""


def backbone_of(module: pl.LightningModule, device: torch.device) -> nn.Module:
    """Return a copy of a module's backbone, in evaluation mode: whatever is done with it, training goes on as before.

    Hooks of DDP on its parameters, a compiled form of it and its gradients are left behind: a copy has none of them.
    """
    with torch.inference_mode(False):  # which Lightning evaluates in: weights made there take no gradient
        copied: nn.Module = copy.deepcopy(module.get_submodule("backbone")).to(device)
    return copied.eval()


class AveragesOnDevice(Callback):
    """Keeps averaged weights (EMA) where the model is trained. Without averages it does nothing."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        move_averages(trainer, pl_module.device)


class WeightsBesideAverages(Callback):
    """Logs how well the weights of training do beside their averages, where a callback averages them.

    Validation, best.ckpt and all other curves are of the averages then. At each validation both are evaluated on the
    same batches, at most `BATCHES` of each device, evenly spread: ``averages/loss_of_averages`` and
    ``averages/loss_of_training``, and the same of top-1. Without averages it does nothing. Where epochs are so short
    that this would take more than a hundredth of the training, it is done at the first validation, every so many, and
    the last one: the same ones in a run that is resumed.
    """

    def __init__(self) -> None:
        self._network: nn.Module | None = None
        self._means: dict[str, MeanMetric] = {}
        self._every = 1
        self._is_due = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._network, self._means = None, {}
        batches = trainer.num_val_batches[0] if trainer.num_val_batches else 0
        self._every = -(-int(batches) // BATCHES) if batches != float("inf") else 1
        self._is_due = trainer.state.fn == "fit" and not trainer.sanity_checking and is_due(trainer, batches)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._is_due or not trainer.loggers:
            return
        averages = averages_of(trainer)
        place, is_off = divmod(batch_idx, max(self._every, 1))
        if averages is None or is_off or place >= BATCHES or not isinstance(outputs, dict) or "logits" not in outputs:
            return
        # The two have changed places: this is the module that the averages are in otherwise.
        self._network = self._network or backbone_of(averages, pl_module.device)
        images, labels = outputs["images"], outputs["labels"]
        with trainer.precision_plugin.val_step_context():
            of_training = self._network(images)
        for name, logits in (("averages", outputs["logits"]), ("training", of_training)):
            logits = logits.detach().float()
            values = {
                f"averages/loss_of_{name}": F.cross_entropy(logits, labels),
                f"averages/top1_of_{name}": (logits.argmax(1) == labels).float().mean(),
            }
            for each, value in values.items():
                mean = self._means.setdefault(each, MeanMetric(nan_strategy=math.nan).to(pl_module.device))
                mean.update(value, weight=len(labels))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._network = None  # its memory is another's
        # Lightning's own mean over processes halves the number of samples as an integer: of 13 on two it makes 6.
        means = {name: mean.compute() for name, mean in self._means.items()}
        pl_module.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)


def is_due(trainer: pl.Trainer, batches: float) -> bool:
    """Return whether a validation is one of those that the share of training allows.

    Args:
        trainer: In a validation of a run.
        batches: Of this validation.
    """
    between = (trainer.val_check_batch or math.inf) * (trainer.check_val_every_n_epoch or 1)  # batches of training
    if math.isinf(between) or is_last_epoch(trainer):
        return True
    rarely = math.ceil(min(batches, BATCHES) / (3 * _SHARE * between))
    number = round(trainer.global_step / math.ceil(between / trainer.accumulate_grad_batches))
    return (number - 1) % rarely == 0


def is_last_epoch(trainer: pl.Trainer) -> bool:
    """Return whether an epoch is the last by ``max_epochs``; no other limit is known before it is reached."""
    return trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
