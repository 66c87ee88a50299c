"""How long a training is, on which its learning rate depends."""

import math

import lightning.pytorch as pl

from poolformer.errors import ConfigError


def steps_of(trainer: pl.Trainer) -> int:
    """Return the optimiser steps of the training, over which its learning rate falls.

    Raises:
        ConfigError: It has no end.
    """
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        raise ConfigError("the learning rate falls over the training: set --trainer.max_epochs or --trainer.max_steps")
    return int(steps)
