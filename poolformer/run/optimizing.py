"""The optimiser of a run with its schedule: which parameters decay, and at which rate each layer learns."""

import re
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from ..errors import ConfigError
from ..optimizers import ADAMW, described, resolve
from ..recipe import EpochScheduler, parameter_groups
from .machine import fuses_adamw
from .schedule import epochs_done, schedule_of

_STAGE = re.compile(r"stages\.(\d+)\.(?:blocks\.(\d+)\.)?")


def optimizer_of(trainer: pl.Trainer, network: nn.Module, options: Any) -> OptimizerLRSchedulerConfig:
    """Build the optimiser, without decay on 1-D parameters, with warm-up and cosine by epoch or by step.

    Args:
        trainer: With the run's data module.
        network: Its backbone.
        options: Of `ImageClassifier`.
    """
    schedule, choice = schedule_of(trainer, options), resolve(options.optimizer)
    groups = parameter_groups(network, options.weight_decay)
    if options.layer_decay is not None:
        groups = layer_groups(network, options.weight_decay, options.layer_decay)
    optimizer = choice.build(groups, lr=schedule.peak_lr, fused=fuses_adamw(trainer))
    if options.optimizer != ADAMW:
        rank_zero_info(described(optimizer, choice.name))
    by_step = options.lr_interval == "step"
    scheduler = EpochScheduler(optimizer, schedule, partial(epochs_done, trainer) if by_step else None)
    # LearningRateMonitor builds its tags of these names: lr/decay, lr/no_decay.
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "name": "lr", "interval": options.lr_interval},
    }


def layer_groups(network: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Split parameters as `parameter_groups` does, and by layer; each layer learns slower than the one after it.

    As timm's ``layer_decay``: the rate of a layer is ``layer_decay`` to the power of the layers behind it. The stem is
    layer 0, each block a layer, with it the downsampling before it, and the head the last.

    Raises:
        ConfigError: The layers of the network are not known.
    """
    layers = _layers(network)
    last = max(layers.values())
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1
            group = groups.setdefault(
                f"{'decay' if decays else 'no_decay'}_{layers[name]:02}",
                {
                    "params": [],
                    "weight_decay": weight_decay if decays else 0.0,
                    "lr_scale": layer_decay ** (last - layers[name]),
                },
            )
            group["params"].append(parameter)
    return [{"name": name, **group} for name, group in sorted(groups.items())]


def _layers(network: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter."""
    names = [name for name, _ in network.named_parameters()]
    if callable(matcher := getattr(network, "group_matcher", None)):  # timm's
        from timm.models import group_parameters  # 4 s

        found: dict[str, int] = group_parameters(network, matcher(coarse=False), reverse=True)
        return found
    blocks = sorted({(int(m[1]), int(m[2])) for name in names if (m := _STAGE.match(name)) and m[2] is not None})
    if not blocks:
        raise ConfigError("--model.layer_decay: this backbone does not say what its layers are")
    places = {block: number for number, block in enumerate(blocks, start=1)}
    return {name: _layer(name, places) for name in names}


def _layer(name: str, places: dict[tuple[int, int], int]) -> int:
    if match := _STAGE.match(name):
        return places[int(match[1]), int(match[2] or 0)]
    return 0 if name.startswith("stem.") else len(places) + 1
