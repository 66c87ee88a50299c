"""What a resumed run keeps of its checkpoint, and what is said where it is another run than before."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..checkpoint.record import METRICS, RUN
from ..errors import ConfigError
from ..optimizers import ADAMW, name_of
from . import provenance
from .facts import run_facts, use_new_options
from .machine import fuses_adamw
from .metrics import numbers
from .reproducibility import changes


def facts_of(trainer: pl.Trainer, *, seed: int) -> dict[str, Any]:
    """Return what a run is made of beside the options of model and data; checkpoints keep it.

    Args:
        trainer: That trains it.
        seed: Of what its batches draw.
    """
    data_module = {provenance.FACT: provenance.class_path_of(trainer.datamodule)}
    return {"seed_everything": seed, **data_module, **run_facts(trainer)}


def write(checkpoint: dict[str, Any], trainer: pl.Trainer, *, seed: int) -> None:
    """Write into a checkpoint what its run is made of, and what was logged last.

    Args:
        checkpoint: Changed in place.
        trainer: That trains it.
        seed: Of what its batches draw.
    """
    checkpoint[RUN] = facts_of(trainer, seed=seed)
    checkpoint[METRICS] = numbers(trainer.callback_metrics)


def before(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts and options of the run that a checkpoint is of."""
    data = checkpoint.get("datamodule_hyper_parameters", {})
    facts = dict(checkpoint.get(RUN, {}))
    if "optimizer" in facts:  # of before it was an option
        facts["optimizer_class"] = facts.pop("optimizer")
    return {**facts, **checkpoint["hyper_parameters"], **data}


def take(
    checkpoint: Mapping[str, Any], trainer: pl.Trainer, options: Mapping[str, Any], *, seed: int
) -> tuple[dict[str, Any], int]:
    """Return facts and options of the run that a checkpoint is of, with its seed, and have its optimiser as of now.

    Args:
        checkpoint: Its optimiser's state is changed in place.
        trainer: That trains it.
        options: Of the model, now.
        seed: That is asked for.

    Raises:
        ConfigError: As `adapt_optimizer`.
    """
    adapt_optimizer(checkpoint, options, fused=fuses_adamw(trainer))
    return before(checkpoint), seed_of(checkpoint, asked=seed)


def adapt_optimizer(checkpoint: Mapping[str, Any], options: Mapping[str, Any], *, fused: bool | None) -> None:
    """Write what the optimiser of now is asked for into a checkpoint, whose state it takes over.

    Args:
        checkpoint: Changed in place.
        options: Of the model, now.
        fused: Whether AdamW runs in one kernel.

    Raises:
        ConfigError: It is another optimiser, or has other parameters or groups of them, so that the state does not fit.
    """
    before, adamw = checkpoint["hyper_parameters"], ADAMW
    trained, now = name_of(before.get("optimizer", adamw)), name_of(options["optimizer"])
    if trained != now:
        raise ConfigError(
            f"the run was trained with optimizer {trained}, whose state {now} cannot take over: resume it without "
            "--model.optimizer, or begin another run from its weights with --model.pretrained FILE"
        )
    for option in ("layer_decay", "freeze"):
        if before.get(option) != options[option]:
            raise ConfigError(
                f"the run was trained with {option} {before.get(option)}, and its optimizer's state does not fit "
                f"{options[option]}: resume it without --model.{option}, or begin another run from its weights with "
                "--model.pretrained FILE"
            )
    set_weight_decay(checkpoint, options["weight_decay"])
    set_fused(checkpoint, fused if now == adamw else None)


def seed_of(checkpoint: Mapping[str, Any], *, asked: int) -> int:
    """Return the seed of the run that a checkpoint is of, which it keeps; say so where another one is asked for."""
    seed: int = checkpoint.get(RUN, {}).get("seed_everything", asked)
    if seed != asked:
        rank_zero_warn(f"the run keeps its seed, {seed}; --seed_everything {asked} is for new runs")
    return seed


def set_weight_decay(checkpoint: Mapping[str, Any], weight_decay: float) -> None:
    """Write a weight decay into a checkpoint, whose optimiser would bring back its own; the rate is the schedule's."""
    for group in (group for state in checkpoint["optimizer_states"] for group in state["param_groups"]):
        if group.get("name", "decay" if group["weight_decay"] else "no_decay").startswith("decay"):
            group["weight_decay"] = weight_decay


def set_fused(checkpoint: Mapping[str, Any], fused: bool | None) -> None:
    """Write into a checkpoint whether its optimiser runs in one kernel, which is a matter of the device of now."""
    for group in (group for state in checkpoint["optimizer_states"] for group in state["param_groups"]):
        if "fused" in group:
            group["fused"] = fused


def say_changes(trainer: pl.Trainer, before: dict[str, Any], options: Mapping[str, Any], *, seed: int) -> None:
    """Say which options of a resumed run are others than it had before, and give the optimiser those of now.

    Args:
        trainer: That trains it.
        before: Facts and options of before; empty for a new run.
        options: Of the model, now.
        seed: Of what its batches draw.
    """
    use_new_options(trainer, before)
    now = {**facts_of(trainer, seed=seed), **options, **getattr(trainer.datamodule, "hparams", {})}
    if before.get("max_epochs", now["max_epochs"]) != now["max_epochs"]:
        rank_zero_info(f"The schedule is now one of {now['max_epochs']} epochs, not of {before['max_epochs']}")
    said_already = ("seed_everything", "max_epochs")
    changed = changes(before, {name: value for name, value in now.items() if name not in said_already})
    if changed:
        rank_zero_warn(f"the run is resumed with other options: {', '.join(changed)}")
