"""The counter against the published numbers, which fvcore counted on the authors' code at 224 x 224."""

import pytest
import timm
import torch
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.network.complexity import Complexity, count
from poolformer.network.fused import fuse
from poolformer.network.layers import LayerNormChannel

# MACs in G: fvcore on sail-sg/poolformer's models; rounded they are table 1 and 5 of arXiv 2111.11418.
SIZES = {
    "poolformer_s12": (11_915_176, 1.8227),
    "poolformer_s24": (21_388_968, 3.4129),
    "poolformer_s36": (30_862_760, 5.0031),
    "poolformer_m36": (56_172_520, 8.8019),
    "poolformer_m48": (73_473_448, 11.5907),
}
# fvcore does not see the layer norm that the authors wrote by hand (1.8123), so that row is not here.
_P = ("pooling", "pooling")
ABLATIONS = [
    ({"mixer": "identity"}, 1.8227),
    ({"mixer": "depthwise"}, 1.8319),
    ({"mixer": {"name": "pooling", "pool_size": 9}}, 1.8227),
    ({"norm": "batch"}, 1.8164),
    ({"norm": "none"}, 1.8123),
    ({"act": "relu"}, 1.8227),
    ({"act": "silu"}, 1.8227),
    ({"channel_mlp": False}, 0.2376),
    ({"mixer": "random_matrix"}, 3.3151),
    ({"mixer": [*_P, "pooling", "attention"], "norm": "layer", "position_embedding": 4}, 1.9199),
    ({"mixer": [*_P, "attention", "attention"], "norm": "layer", "position_embedding": 3}, 2.5492),
    ({"mixer": [*_P, "pooling", "spatial_fc"]}, 1.8251),
    ({"mixer": [*_P, "spatial_fc", "spatial_fc"]}, 1.8989),
]
# Table 2 of the paper's baselines, counted by fvcore with attention written out (it does not see SDPA).
BASELINES = {
    "resnet50": (25_557_032, 4.112),
    "deit_small_patch16_224": (22_050_664, 4.608),
}


def on_meta(create, *args, **options) -> nn.Module:
    """Build a network without drawing its weights: shapes are all that a count needs."""
    with torch.device("meta"):
        return create(*args, **options)


def giga_macs(model: nn.Module) -> float:
    return count(model, image_size=224).macs / 1e9


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_size_costs_what_the_paper_says(name):
    parameters, giga = SIZES[name]
    complexity = count(on_meta(create_backbone, name), image_size=224)
    assert complexity.parameters == parameters
    assert complexity.macs / 1e9 == pytest.approx(giga, rel=1e-4)


@pytest.mark.parametrize(("options", "giga"), ABLATIONS, ids=str)
def test_an_ablation_costs_what_fvcore_counts(options, giga):
    # Four digits are printed: 0.2376 stands for anything within 5e-5.
    assert giga_macs(on_meta(create_backbone, "poolformer_s12", **options)) == pytest.approx(giga, rel=1e-4, abs=5e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_of_timm_costs_what_is_published(name):
    parameters, giga = BASELINES[name]
    complexity = count(on_meta(timm.create_model, name), image_size=224)
    assert complexity.parameters == parameters
    assert complexity.macs / 1e9 == pytest.approx(giga, rel=1e-3)


def test_the_same_is_counted_where_the_weights_are_real():
    options = {"num_classes": 10, "mixer": ["pooling", "depthwise", "identity", "attention"]}
    on_cpu = create_backbone("poolformer_tiny", **options)
    assert count(on_cpu, image_size=32) == count(on_meta(create_backbone, "poolformer_tiny", **options), image_size=32)


@pytest.mark.parametrize("options", [{}, {"mixer": "attention"}, {"act": "relu"}, {"norm": "layer"}], ids=str)
def test_a_fused_network_costs_what_it_costs_step_by_step(options):
    pytest.importorskip("triton")
    network = on_meta(create_backbone, "poolformer_s12", **options)
    expected = count(network, image_size=224)
    assert any(fuse(network))
    assert count(network, image_size=224) == expected


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 64 * 3 * 9 * 8),
        (nn.Conv2d(3, 6, 5, padding=2, groups=3), 64 * 25 * 6),
        (nn.Linear(8, 2), 3 * 8 * 8 * 2),
        (nn.GroupNorm(1, 3), 5 * 3 * 64),
        (nn.LayerNorm(8), 5 * 3 * 64),
        (LayerNormChannel(3), 0),
        (nn.Sequential(LayerNormChannel(3), nn.GroupNorm(1, 3)), 5 * 3 * 64),
        (nn.BatchNorm2d(3), 2 * 3 * 64),
        (nn.AvgPool2d(3), 0),
        (nn.GELU(), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_costs_what_a_hand_calculation_says(layer, macs):
    """One image of 8 x 8: a MAC for each product of a weight, and fvcore's 5 or 2 for a normed value."""
    size = sum(parameter.numel() for parameter in layer.parameters())
    assert count(layer, image_size=8) == Complexity(size, macs, 0)


def test_frozen_parameters_are_not_counted_as_trainable():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    model[0].requires_grad_(False)
    size = count(model, image_size=8)
    assert (size.parameters, size.frozen) == (4 * 2 + 2, 3 * 4 + 4)


def test_counting_leaves_each_module_in_its_mode_and_its_buffers_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count(model, image_size=8)
    assert [module.training for module in model] == [True, False, True]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_model_that_cannot_run_keeps_its_modes():
    model = nn.Sequential(nn.Conv2d(5, 4, 1)).train()
    with pytest.raises(RuntimeError, match="channels"):
        count(model, image_size=8)
    assert model[0].training
