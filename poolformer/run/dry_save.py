"""A save without a file when training starts: what could not be read back from a checkpoint is found before that."""

import io
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from ..checkpoint.plain_values import OF_LIGHTNING, NotPlainError, is_bounded, made_plain, said_of, without_weights
from ..checkpoint.reading import check_run
from ..checkpoint.record import hyper_parameters
from ..checkpoint.writing import SafeCheckpointIO
from ..errors import CheckpointError, ConfigError, PoolformerError, describe
from .lightning_internals import checkpoint_connector


class DrySave(Callback):
    """Makes a checkpoint in memory and reads it back as `poolformer.checkpoint.reading` does, with no weights in it.

    When training starts, and again after its first step, as callbacks begin to keep something then.

    Raises:
        ConfigError: A callback, the model, the data module or a loader keeps what could not be read back; the message
            names it and the key.
    """

    def __init__(self) -> None:
        self._after_step = False
        self._said: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._try(trainer)
        self._after_step = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._after_step:
            self._after_step = False
            self._try(trainer)

    def _try(self, trainer: pl.Trainer) -> None:
        checkpoint = _dumped(trainer)
        obstacle = self._obstacle(trainer, checkpoint) if checkpoint and trainer.is_global_zero else None
        if obstacle := trainer.strategy.broadcast(obstacle):
            raise ConfigError(obstacle)

    def _obstacle(self, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> str | None:
        replaced: dict[tuple[Any, ...], str] = {}
        try:
            plain = made_plain(checkpoint, replaced=replaced)
            if replaced and not isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO):  # writes them as they are
                place, kind = next(iter(replaced.items()))
                raise NotPlainError(place, f"a {kind}")
        except NotPlainError as error:
            return said_of(error, _adder(trainer, checkpoint, error.place[0]))
        self._say_what_is_replaced(replaced)
        try:
            _read_back(plain)
        except CheckpointError as error:
            return f"no checkpoint of this run could be used to resume it: {error}"
        return None

    def _say_what_is_replaced(self, replaced: dict[tuple[Any, ...], str]) -> None:
        new = {f"{_place(place)} ({kind})" for place, kind in replaced.items()} - self._said
        self._said |= new
        if new:
            more = f" and {len(new) - 3} more" if len(new) > 3 else ""
            rank_zero_info(f"Checkpoints keep as plain data what is of other types: {', '.join(sorted(new)[:3])}{more}")


def _dumped(trainer: pl.Trainer) -> dict[str, Any] | None:
    """Return a checkpoint; None where a callback has nothing to keep before the first one is due."""
    try:
        return checkpoint_connector(trainer).dump_checkpoint(weights_only=False)
    except PoolformerError:
        raise
    except Exception:  # of a stranger's code, which Lightning would call later
        return None


def _place(place: tuple[Any, ...]) -> str:
    return "/".join(str(key).partition("{")[0][:40] for key in place)


def _read_back(checkpoint: dict[str, Any]) -> None:
    file = io.BytesIO()
    torch.save(without_weights(checkpoint), file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception as error:
        raise CheckpointError(describe(error)[:300]) from error
    for name, part in checkpoint.items():
        if not is_bounded(part):
            raise CheckpointError(f"its {str(name)[:40]!r} is nested too deeply, or stands for too many values")
    check_run(checkpoint)
    hyper_parameters(checkpoint)


def _adder(trainer: pl.Trainer, checkpoint: dict[str, Any], key: Any) -> str:
    """Return who adds an entry of a checkpoint: each of them is asked again; nothing where Lightning adds it."""
    if key in OF_LIGHTNING:
        return ""
    if key == type(trainer.datamodule).__qualname__:
        return f"data module {key}"
    without = {name: part for name, part in checkpoint.items() if name != key}
    for callback in trainer.callbacks:
        probe = dict(without)
        callback.on_save_checkpoint(trainer, trainer.lightning_module, probe)
        if key in probe:
            return f"callback {type(callback).__qualname__}"
    return "the model"
