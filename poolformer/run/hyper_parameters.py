"""TensorBoard's table of hyper-parameters: what was built, in plain values, so that runs can be compared by it."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from ..factory_options import parameters
from ..network.frame_options import takes_mixer
from ..network.mixer_spec import resolve

_PLAIN = (bool, int, float, str)
# Of the trainer: what is a column of its own where runs differ in it.
_OF_TRAINER = ("max_epochs", "precision", "accumulate_grad_batches")


def hyper_parameters(trainer: pl.Trainer, classifier: Any) -> dict[str, bool | int | float | str]:
    """Return the hyper-parameters of a run: a mixer and an optimiser by their names, and each of their options.

    What has no value is left out, as in a table its column is then empty.

    Args:
        trainer: That trains it.
        classifier: An `ImageClassifier`, whose ``hparams`` say what was built.

    Example:
        A mixer ``{name: pooling, pool_size: 5}`` is ``mixer: pooling`` and ``mixer.pool_size: 5``.
    """
    options = dict(classifier.hparams)
    found: dict[str, Any] = {**options, **getattr(getattr(trainer, "datamodule", None), "hparams", {})}
    found |= {"seed": classifier.seed, "devices": trainer.world_size}
    found |= {name: getattr(trainer, name) for name in _OF_TRAINER}
    if takes_mixer(options["backbone"]):
        del found["mixer"]
        found |= _mixers(options["mixer"])
    if isinstance(optimizer := found.get("optimizer"), Mapping):
        found |= _named("optimizer", str(optimizer["name"]), {k: v for k, v in optimizer.items() if k != "name"})
    return {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in found.items()
        if value is not None and not name.startswith("_")
    }


def _mixers(spec: Any) -> dict[str, Any]:
    """Return the mixers of the stages by name, and their options where all stages have the same one."""
    mixers = resolve(spec)
    first = mixers[0]
    if any((mixer.name, mixer.options) != (first.name, first.options) for mixer in mixers):
        return {"mixer": ", ".join(mixer.name for mixer in mixers)}
    own = {name: each.default for name, each in parameters(first.factory).items() if each.default is not each.empty}
    return _named("mixer", first.name, own | first.options)


def _named(what: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {what: name, **{f"{what}.{option}": value for option, value in options.items()}}
