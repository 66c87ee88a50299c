"""What Lightning refuses is a mistake in the options; what anybody else raises keeps its traceback."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from poolformer.cli.lightning_refusals import refusal, told
from poolformer.errors import ConfigError, DataError

OPTIONS = ("max_epochs", "strategy", "devices", "gradient_clip_val")


def test_what_the_trainer_refuses_is_said_with_its_option():
    with (
        pytest.raises(ConfigError, match=r"^--trainer\.strategy: You selected an invalid strategy name"),
        told(OPTIONS),
    ):
        pl.Trainer(strategy="ddpp", logger=False)


def test_a_message_of_several_lines_is_one():
    found = refusal(MisconfigurationException("`gradient_clip_val`\n  should be a number"), OPTIONS)
    assert str(found) == "--trainer.gradient_clip_val: `gradient_clip_val` should be a number"
    assert str(refusal(MisconfigurationException("nothing that is known"), OPTIONS)) == "nothing that is known"


@pytest.mark.parametrize("error", [ValueError("devices=3"), KeyError("devices"), DataError("devices")])
def test_what_others_raise_is_left_alone(error):
    with pytest.raises(type(error)) as caught, told(OPTIONS):
        raise error
    assert caught.value is error


def test_a_checkpoint_that_is_further_says_what_to_raise():
    error = MisconfigurationException("You restored a checkpoint with current_epoch=3, but max_epochs=2")
    said = r"'last\.ckpt' is in epoch 4 already: raise --trainer\.max_epochs"
    with pytest.raises(ConfigError, match=said), told(OPTIONS, checkpoint=Path("last.ckpt")):
        raise error
