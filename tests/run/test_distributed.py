"""Parameters without a gradient and synchronised batch norms, before DDP stops on them."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.errors import ConfigError
from poolformer.run.distributed import suit_processes, without_gradient


class Lazy(nn.Module):
    """A mixer with a parameter that it does not use."""

    def __init__(self, dim: int):
        super().__init__()
        self.used, self.extra = nn.Parameter(torch.ones(dim, 1, 1)), nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.used


class AsksForValues(Lazy):
    def forward(self, x):
        return x * self.used if float(self.used.sum()) else x


class EveryOther(Lazy):
    """A mixer with a parameter that every other step uses."""

    is_used = False

    def forward(self, x):
        self.is_used = not self.is_used
        return super().forward(x) + (self.extra[:, None, None] if self.is_used else 0)


def tiny(mixer="pooling", **options) -> nn.Module:
    return create_backbone("poolformer_tiny", num_classes=3, mixer=mixer, image_size=16, **options)


EXTRA = [f"stages.{block}.token_mixer.extra" for block in ("0.blocks.0", "1.blocks.0", "2.blocks.0", "2.blocks.1")]


def test_parameters_without_a_gradient_are_found_and_nothing_is_changed():
    network = tiny(Lazy, norm="batch", drop_path_rate=0.1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    assert without_gradient(network, image_size=16) == [*EXTRA, "stages.3.blocks.0.token_mixer.extra"]
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_parameter_that_every_other_step_uses_is_found():
    assert without_gradient(tiny(EveryOther), image_size=16) == [*EXTRA, "stages.3.blocks.0.token_mixer.extra"]


@pytest.mark.parametrize("mixer", ["pooling", "attention", "separable_conv", "random_matrix", AsksForValues], ids=str)
def test_a_network_that_uses_all_or_cannot_be_asked_has_none(mixer):
    assert without_gradient(tiny(mixer), image_size=16) == []


def test_ddp_looks_for_them_and_says_which():
    strategy = DDPStrategy()
    with pytest.warns(UserWarning, match=rf"parameters {EXTRA[0]}, .* and 2 more: DDP looks for such ones"):
        suit_processes(strategy, tiny(Lazy), image_size=16)
    assert strategy._ddp_kwargs == {"find_unused_parameters": True}


@pytest.mark.slow
def test_who_asked_for_it_is_told_nothing(recwarn):
    suit_processes(DDPStrategy(find_unused_parameters=True), tiny(Lazy), image_size=16)
    suit_processes(strategy := DDPStrategy(), tiny(), image_size=16)
    assert strategy._ddp_kwargs == {}
    assert not recwarn.list


def test_batch_norms_are_synchronised_on_gpus_alone():
    options = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_checkpointing": False}
    strategy = Trainer(strategy="ddp", sync_batchnorm=True, **options).strategy
    with pytest.raises(ConfigError, match=r"sync_batchnorm true .* not on cpu, and stages.* is a batch norm: leave"):
        suit_processes(strategy, tiny(norm="batch"), image_size=16)
    suit_processes(strategy, tiny(), image_size=16)
