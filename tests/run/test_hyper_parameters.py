"""The columns of TensorBoard's table of hyper-parameters: plain values of what was built."""

from types import SimpleNamespace
from typing import Any

import pytest

from poolformer.classifier import ImageClassifier
from poolformer.run.hyper_parameters import hyper_parameters

TRAINER: Any = SimpleNamespace(
    datamodule=None, world_size=2, max_epochs=3, precision="32-true", accumulate_grad_batches=1
)


def columns(**options: Any) -> dict[str, Any]:
    model = ImageClassifier("poolformer_tiny", 10, image_size=32, **options)
    return hyper_parameters(TRAINER, model)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (None, {"mixer": "pooling", "mixer.pool_size": 3}),  # the backbone's own, and the mixer's own
        ({"name": "pooling", "pool_size": 5}, {"mixer": "pooling", "mixer.pool_size": 5}),
        ("identity", {"mixer": "identity"}),
        (["pooling", "pooling", "pooling", "identity"], {"mixer": "pooling, pooling, pooling, identity"}),
    ],
)
def test_a_mixer_is_a_name_with_its_options(mixer, expected):
    found = columns(mixer=mixer)
    assert {name: value for name, value in found.items() if name.startswith("mixer")} == expected


def test_an_optimizer_is_a_name_with_its_options():
    found = columns(optimizer={"name": "sgd", "momentum": 0.8})
    assert (found["optimizer"], found["optimizer.momentum"]) == ("sgd", 0.8)


def test_values_are_plain_and_what_has_none_is_no_column():
    found = columns()
    assert found["devices"] == 2
    assert "freeze" not in found
    assert {type(value) for value in found.values()} <= {bool, int, float, str}


def test_a_backbone_without_a_mixer_to_choose_has_no_column_for_it():
    assert "mixer" not in hyper_parameters(TRAINER, ImageClassifier("timm/resnet10t", 2, image_size=32))
