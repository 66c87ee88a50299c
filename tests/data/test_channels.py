"""Grey images and means for any number of channels."""

import numpy as np
import pytest
import torch
from PIL import Image

from poolformer.classifier import ImageClassifier
from poolformer.data.channels import as_taken, grey, of_each_channel
from poolformer.data.digits import DigitsData
from poolformer.errors import ConfigError, DataError
from poolformer.trained import feeding, predict


def test_grey_is_pillows():
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for image, found in zip(images, grey(images), strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert (found[0].numpy() == expected).all()


@pytest.mark.parametrize(
    ("given", "channels", "expected"),
    [
        ((0.1, 0.2, 0.6), 3, (0.1, 0.2, 0.6)),
        ((0.5,), 3, (0.5,) * 3),
        ((0.1, 0.2, 0.6), 1, (0.3,)),
        ((0.2, 0.4), 2, None),
    ],
)
def test_a_mean_is_one_for_each_channel(given, channels, expected):
    assert of_each_channel("mean", given, channels) == pytest.approx(expected or given)


def test_as_many_means_as_nothing_has_are_refused():
    with pytest.raises(ConfigError, match=r"--model\.mean has 2 numbers and the images 3 channels"):
        ImageClassifier("poolformer_tiny", 3, mean=(0.5, 0.5))


def test_images_that_a_network_does_not_take_are_refused():
    with pytest.raises(ConfigError, match="takes images of 4 channels, and these have 3"):
        as_taken(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 4)


def test_a_network_of_one_channel_takes_rgb_data_and_files_as_grey():
    model = ImageClassifier("poolformer_tiny", 10, in_chans=1).eval()
    assert model.hparams.mean == pytest.approx([0.449], abs=1e-3)
    assert feeding(model)["mode"] == "L"
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    luma = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))
    model.loaded = model.loaded.__class__(crop_pct=1.0)
    [[guess]] = predict(model, pixels, top_k=1)
    expected = model((luma[None, None] - model.mean) / model.std).detach().softmax(1).max()
    assert guess.probability == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 1, 16, 16)), (4, None)])
def test_batches_of_rgb_reach_one_channel_and_no_four(channels, shape):
    from types import SimpleNamespace

    from lightning.pytorch.trainer.states import RunningStage

    model = ImageClassifier("poolformer_tiny", 10, in_chans=channels)
    state = SimpleNamespace(stage=RunningStage.VALIDATING)
    trainer = SimpleNamespace(state=state, datamodule=DigitsData(), predicting=False, training=False)
    model._trainer = trainer
    batch = torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    if shape:
        assert model._preparation(batch, 0, trainer=trainer, mean=model.mean, std=model.std)[0].shape == shape
    else:
        with pytest.raises(DataError, match=r"as --model\.in_chans 4 says: a data module of your own can give them"):
            model._preparation(batch, 0, trainer=trainer, mean=model.mean, std=model.std)
