"""Whether the metrics that callbacks watch will be there: found out when training starts, not after an epoch."""

from collections.abc import Iterator

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_warn

from ..errors import ConfigError, suggestion

_KNOWN_CODE = ("lightning.", "poolformer.")
_WITHOUT_LOGGING = {"on_save_checkpoint", "on_load_checkpoint", "on_exception", "on_fit_start", "on_fit_end"}
_OF_A_SPLIT = ("loss", "top1", "top5", "images")


class WatchedMetrics(Callback):
    """Refuses a callback such as EarlyStopping whose ``monitor`` nobody logs.

    A callback of the user's may log what it likes, and only when it runs is known what: where one does, an unknown
    metric is warned of and left to Lightning, which ends the run after the first epoch without it.

    Raises:
        ConfigError: Nobody logs what a callback watches.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = set(trainer.callback_metrics)  # Lightning forgets them

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        known = {*self._seen, *trainer.callback_metrics, *_logged(trainer, pl_module)}
        others_log = any(map(_may_log, trainer.callbacks))
        for callback in trainer.callbacks:
            name = _watched(callback)
            if name is None or name in known:
                continue
            near = suggestion(name, sorted(known)) or f" There is {', '.join(sorted(known))}."
            if not others_log:
                raise ConfigError(f"{type(callback).__name__} watches '{name}', a metric that nobody logs.{near}")
            rank_zero_warn(f"{type(callback).__name__} watches '{name}', which is not known yet.{near}")


def _watched(callback: Callback) -> str | None:
    """Return the metric that a callback cannot do without."""
    name = getattr(callback, "monitor", None)
    # Ours watches val/top1 where there is validation, and does without where there is none.
    optional = not getattr(callback, "strict", True) or type(callback).__module__.startswith("poolformer.")
    return name if isinstance(name, str) and not optional else None


def _logged(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[str]:
    """Yield what a run logs before it does."""
    yield from ("train/loss", "throughput/images_per_s", "epoch", "step")
    if not getattr(getattr(pl_module, "augment", None), "mixes", False):
        yield "train/top1"
    if trainer.enable_validation:
        yield from (f"val/{name}" for name in _OF_A_SPLIT)
    if any(isinstance(callback, LearningRateMonitor) for callback in trainer.callbacks):
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        yield from (f"lr/{group['name']}" for group in groups if "name" in group)


def _may_log(callback: Callback) -> bool:
    """Whether code of the user's runs while something is trained or validated."""
    foreign = [each for each in type(callback).__mro__ if not each.__module__.startswith(_KNOWN_CODE)]
    hooks = {name for each in foreign for name in vars(each) if name.startswith("on_")}
    return bool(hooks - _WITHOUT_LOGGING)
