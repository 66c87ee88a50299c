"""The frame: its blocks, head, features and geometry. Numbers of the authors' code: test_golden.py."""

import io
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from poolformer.errors import OptionsError, ResolutionError
from poolformer.network.layers import Scale
from poolformer.network.metaformer import Block, MetaFormer, Patch

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}

# Layer scales start at 1 here: the paper's 1e-5 would hide what the blocks do.
tiny = partial(MetaFormer, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=10, layer_scale_init=1.0)

VARIANTS = {
    "paper": {},
    "identity": {"mixer": "identity"},
    "depthwise": {"mixer": "depthwise"},
    "hybrid": {"mixer": ["pooling", "pooling", "attention", {"name": "attention", "head_dim": 16}]},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "no norm": {"norm": "none"},
    "relu": {"act": "relu"},
    "silu": {"act": "silu"},
    "no residual": {"residual": False},
    "no channel mlp": {"channel_mlp": False},
    "no layer scale": {"layer_scale_init": 0},
    "follow-up": {"follow_up": True, "act": "star_relu"},
}
each_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def batch(*sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*sizes, dtype=dtype)


def drop_paths(model: nn.Module) -> list[float]:
    return [module.drop_path1.rate for module in model.modules() if isinstance(module, Block)]


def apart(model: nn.Module) -> nn.Module:
    """Make every 1-D parameter its own: two that are swapped must show."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.25, 0.75)
    return model


# ---- blocks


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("channel_mlp", [True, False])
def test_a_block_is_two_scaled_branches(residual, channel_mlp):
    # arXiv 2111.11418, eq. 2 and 3, with the layer scale of the authors' code; without the channel
    # MLP its norm goes too, and the layer scale stays.
    block: Block = apart(tiny(residual=residual, channel_mlp=channel_mlp)).double().stages[2].blocks[1]
    x = batch(2, 24, 5, 4, dtype=torch.float64)
    skip = 1 if residual else 0
    scale1, scale2 = (block.get_parameter(f"layer_scale{i}.scale")[:, None, None] for i in (1, 2))
    y = skip * x + scale1 * block.token_mixer(block.norm1(x))
    expected = skip * y + scale2 * (block.mlp(block.norm2(y)) if channel_mlp else y)
    torch.testing.assert_close(block(x), expected, **TOLERANCE[torch.float64])


def test_drop_path_falls_on_each_branch_of_each_sample_alone():
    # Both branches of this block double x, so dropping none, one or both gives x times (1 + 2)^2 = 9,
    # 3 or 1 (a branch that is kept counts 1 / (1 - 0.5) fold). Bound: five standard deviations.
    block: Block = tiny(drop_path_rate=0.5, mixer="identity", norm="none", channel_mlp=False).stages[3].blocks[0]
    samples = 4000
    made = block.train()(torch.ones(samples, 32, 1, 1))[:, 0, 0, 0]
    for value, share in ((9, 1 / 4), (3, 1 / 2), (1, 1 / 4)):
        bound = 5 * math.sqrt(share * (1 - share) / samples)
        assert float((made == value).float().mean()) == pytest.approx(share, abs=bound)


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ((2, 2, 6, 2), [0.1 * j / 11 for j in range(12)]),  # sail-sg/poolformer: rate * j / (L - 1)
        ((1, 1, 2, 1), [0.0, 0.025, 0.05, 0.075, 0.1]),
        ((1, 0, 0, 0), [0.0]),
    ],
    ids=["s12", "tiny", "one block"],
)
def test_drop_path_grows_linearly_over_the_blocks_of_the_whole_network(depths, expected):
    model = tiny(depths=depths, drop_path_rate=0.1)
    assert drop_paths(model) == pytest.approx(expected, abs=1e-12)


def test_drop_path_is_off_by_default():
    assert set(drop_paths(tiny())) == {0}


@pytest.mark.parametrize("start", [0, None], ids=str)
def test_layer_scale_of_zero_or_none_leaves_it_out(start):
    names = tiny(layer_scale_init=start).state_dict()
    # The golden case without layer scale has 52 names, with it 62.
    assert len(names) == 52
    assert not any("layer_scale" in name for name in names)


@pytest.mark.parametrize(
    "start",
    [
        1e-5,
        0.5,
        1,
    ],
    ids=str,
)
def test_every_layer_scale_starts_at_the_given_value(start):
    scales = [module.scale for module in tiny(layer_scale_init=start).modules() if isinstance(module, Scale)]
    assert len(scales) == 10
    assert all(scale.tolist() == pytest.approx([start] * len(scale)) for scale in scales)


# ---- geometry and features


# Stem floor((n + 4 - 7) / 4) + 1, downsampling floor((n + 2 - 3) / 2) + 1.
@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((224, 224), [(56, 56), (28, 28), (14, 14), (7, 7)]),
        ((57, 70), [(14, 17), (7, 9), (4, 5), (2, 3)]),
        ((31, 31), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((192, 160), [(48, 40), (24, 20), (12, 10), (6, 5)]),
    ],
    ids=str,
)
def test_images_of_any_size_and_side_ratio_go_through(size, maps):
    model = tiny()
    features, pyramid = model.forward_intermediates(batch(2, 3, *size))
    assert [tuple(x.shape) for x in pyramid] == [
        (2, dim, *side) for dim, side in zip((8, 16, 24, 32), maps, strict=True)
    ]
    assert model.forward_head(features).shape == (2, 10)


class Recorder(nn.Module):
    """A mixer that keeps what the frame hands it."""

    def __init__(self, dim: int, resolution: tuple[int, int]):
        super().__init__()
        self.given = (dim, resolution)

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("image_size", "sides"),
    [(224, [56, 28, 14, 14, 7]), (256, [64, 32, 16, 16, 8]), (57, [14, 7, 4, 4, 2])],
    ids=str,
)
def test_a_mixer_that_asks_for_the_resolution_gets_the_tokens_of_its_stage(image_size, sides):
    model = tiny(mixer=Recorder, image_size=image_size)
    given = [module.given for module in model.modules() if isinstance(module, Recorder)]
    assert given == [(dim, (side, side)) for dim, side in zip((8, 16, 24, 24, 32), sides, strict=True)]
    *_, last = model.forward_intermediates(batch(1, 3, image_size, image_size), intermediates_only=True)
    assert last.shape[2:] == (sides[-1], sides[-1])


def test_another_stem_changes_the_reduction():
    # 32 pixels, one token a pixel: 32, 16, 8, 4.
    model = tiny(stem=Patch(kernel_size=3, stride=1, padding=1), mixer=Recorder, image_size=32)
    assert [info["reduction"] for info in model.feature_info] == [1, 2, 4, 8]
    assert model.stages[3].blocks[0].token_mixer.given == (32, (4, 4))
    assert model.forward_features(batch(1, 3, 32, 32)).shape == (1, 32, 4, 4)


def test_feature_info_names_the_modules_that_make_the_maps():
    model, images = tiny(), batch(1, 3, 96, 64)
    assert model.feature_info == [
        {"num_chs": 8, "reduction": 4, "module": "stages.0"},
        {"num_chs": 16, "reduction": 8, "module": "stages.1"},
        {"num_chs": 24, "reduction": 16, "module": "stages.2"},
        {"num_chs": 32, "reduction": 32, "module": "stages.3"},
    ]
    x = model.stem(images)
    for info, made in zip(model.feature_info, model.forward_intermediates(images)[1], strict=True):
        x = model.get_submodule(info["module"])(x)
        assert torch.equal(made, x)
        assert x.shape == (1, info["num_chs"], 96 // info["reduction"], 64 // info["reduction"])


@pytest.mark.parametrize(
    ("indices", "stages"),
    [(None, [0, 1, 2, 3]), (2, [2, 3]), ([1, 3], [1, 3]), ([-1], [3]), ((0,), [0])],
    ids=str,
)
@pytest.mark.parametrize("stop_early", [True, False])
def test_forward_intermediates_returns_the_stages_asked_for(indices, stages, stop_early):
    model, images = tiny(), batch(1, 3, 64, 64)
    everything = model.forward_intermediates(images, intermediates_only=True)
    last, maps = model.forward_intermediates(images, indices, stop_early=stop_early)
    assert [x.shape[1] for x in maps] == [everything[stage].shape[1] for stage in stages]
    assert all(torch.equal(x, everything[stage]) for x, stage in zip(maps, stages, strict=True))
    assert torch.equal(last, everything[stages[-1] if stop_early else -1])


@pytest.mark.parametrize("indices", [[4], [-5], 5, 0, []], ids=str)
def test_forward_intermediates_refuses_stages_that_do_not_exist(indices):
    with pytest.raises(OptionsError, match="has stages 0 to 3; got indices"):
        tiny().forward_intermediates(batch(1, 3, 64, 64), indices)


# ---- head


def test_the_head_norms_the_map_then_takes_the_mean_then_classifies():
    # sail-sg/poolformer: GroupNorm(1, C), mean over H and W, linear.
    model = apart(tiny()).double()
    features = batch(3, 32, 2, 4, dtype=torch.float64)
    mean, var = features.mean((1, 2, 3), keepdim=True), features.var((1, 2, 3), correction=0, keepdim=True)
    normed = (features - mean) / torch.sqrt(var + 1e-5)
    pooled = model.head.norm.weight * normed.mean((2, 3)) + model.head.norm.bias
    logits = pooled @ model.head.fc.weight.T + model.head.fc.bias
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), pooled, **TOLERANCE[torch.float64])
    torch.testing.assert_close(model.forward_head(features), logits, **TOLERANCE[torch.float64])


def test_forward_is_the_features_and_then_the_head():
    model, images = tiny(), batch(2, 3, 64, 64)
    assert torch.equal(model(images), model.forward_head(model.forward_features(images)))


def test_without_classes_the_network_gives_its_pooled_features():
    model, images = tiny(num_classes=0), batch(2, 3, 64, 64)
    assert model.num_classes == 0
    assert not any(name.startswith("head.fc") for name in model.state_dict())
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    assert torch.equal(model(images), pooled)


def test_reset_classifier_changes_only_the_linear_layer():
    model, images = tiny(), batch(2, 3, 64, 64)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("head.fc")}
    for num_classes, width in ((7, 7), (0, 32), (3, 3)):
        model.reset_classifier(num_classes)
        assert model.num_classes == num_classes
        assert model(images).shape == (2, width)
    assert model.get_classifier().out_features == 3
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert float(model.get_classifier().weight.detach().std()) == pytest.approx(0.02, rel=0.3)
    assert model.get_classifier().bias.count_nonzero() == 0


def test_reset_classifier_keeps_the_dtype_and_the_mode():
    model = tiny().double().eval()
    model.reset_classifier(3)
    assert model(batch(2, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64
    assert not model.get_classifier().training


# ---- properties


@each_variant
def test_every_parameter_gets_a_gradient(options):
    # DDP stops on a parameter without one. The bias of a norm before pooling(x) - x cancels, so its
    # gradient is there and zero.
    model = tiny(**options).double()
    model(batch(4, 3, 64, 64, dtype=torch.float64)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    dead = [name for name, gradient in gradients.items() if not gradient.any() and not name.endswith("norm1.bias")]
    assert dead == []


@each_variant
def test_samples_do_not_leak_into_each_other(options):
    model = tiny(**options).double().eval()
    images = batch(3, 3, 64, 48, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images)[1].square().sum(), images)
    assert [bool(of_sample.any()) for of_sample in gradient] == [False, True, False]


@each_variant
def test_evaluation_repeats_itself(options):
    model, images = tiny(drop_path_rate=0.9, **options).eval(), batch(2, 3, 64, 64)
    assert torch.equal(model(images), model(images))


def test_training_with_drop_path_does_not_repeat_itself():
    model, images = tiny(drop_path_rate=0.9).train(), batch(8, 3, 64, 64)
    assert not torch.equal(model(images), model(images))


def _gradients(network: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)  # of stochastic depth
    network.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = network(images)
    (1024 * logits.float().square().sum()).backward()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"layer_scale_init": 0.5}, torch.float32),
        ({"layer_scale_init": 1e-6}, torch.bfloat16),
        ({"layer_scale_init": 1e-6}, torch.float16),  # times fc2's weights it would be zero
        ({"layer_scale_init": None}, torch.float32),
        ({"channel_mlp": False}, torch.float32),
    ],
    ids=str,
)
def test_recomputed_blocks_have_the_same_gradients(options, dtype):
    network, images = tiny(drop_path_rate=0.5, mixer="attention", **options).train(), batch(8, 3, 32, 32)
    plain = _gradients(network, images, dtype)
    network.set_grad_checkpointing()
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for again, gradient in zip(_gradients(network, images, dtype), plain, strict=True):
        torch.testing.assert_close(again, gradient, rtol=0, atol=tolerance * gradient.abs().max().item())


def test_recomputing_calls_a_layer_in_the_place_of_the_second():
    """As low-rank adaptation puts one there."""

    class Adapted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x[:, : self.out_channels]

    network, images = tiny().train(), batch(2, 3, 32, 32)
    for stage in network.stages:
        for block in stage.blocks:
            block.mlp.fc2 = Adapted(block.mlp.fc2.in_channels, block.mlp.fc2.out_channels, 1)
    expected = network(images)
    network.set_grad_checkpointing()
    torch.testing.assert_close(network(images), expected)


def test_recomputing_stops_before_the_second_layer_and_spares_the_last_stage():
    network, operations = tiny().train(), []
    for again in (False, True):
        network.set_grad_checkpointing(again)
        with FlopCounterMode(display=False) as counter:
            network(batch(3, 3, 32, 32)).sum().backward()
        operations.append(counter.get_total_flops())
    first_layers = sum(tokens * 8 * dim**2 for dim, tokens in ((8, 8 * 8), (16, 4 * 4), (24, 2 * 2), (24, 2 * 2)))
    assert operations[1] - operations[0] == 3 * first_layers


@each_variant
def test_a_saved_state_dict_loads_into_a_fresh_network(options):
    model, images = tiny(**options), batch(2, 3, 64, 64)
    model(images)  # moves the statistics of batch norm
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = tiny(**options)
    assert not torch.equal(fresh.eval()(images), model.eval()(images))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(images), model(images))


@pytest.mark.parametrize("act", ["gelu", "relu", "silu"])
def test_the_activation_is_the_one_of_every_channel_mlp(act):
    kind = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}[act]
    assert {type(block.mlp.act) for stage in tiny(act=act).stages for block in stage.blocks} == {kind}


def test_the_hidden_width_follows_the_mlp_ratio():
    assert tiny(mlp_ratio=1.5).stages[0].blocks[0].mlp.fc1.out_channels == 12


def test_the_stem_and_the_downsamplings_start_as_torch_starts_convolutions():
    # The authors draw only the linear layers from a normal; timm draws these too, with bias 0.
    model = tiny(dims=(64, 128, 64, 64))
    for patch, fan_in in ((model.stem, 147), (model.stages[1].downsample, 576), (model.stages[2].downsample, 1152)):
        bound = 1 / math.sqrt(fan_in)
        assert float(patch.conv.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(patch.conv.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert patch.conv.bias.count_nonzero() == len(patch.conv.bias)
    classifier = model.get_classifier()
    assert float(classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
    assert classifier.bias.count_nonzero() == 0


# ---- position embedding


@pytest.mark.parametrize("stage", [1, 3, 4])
def test_a_position_embedding_is_added_once_before_the_blocks_of_its_stage(stage):
    model = tiny(position_embedding=stage, image_size=64).eval()
    named = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("pos_embed")}
    side, dim = 16 >> (stage - 1), 8 * stage
    assert named == {f"stages.{stage - 1}.pos_embed": (1, dim, side, side)}
    embedded, x = model.stages[stage - 1], batch(2, max(dim - 8, 8), *[side * (2 if stage > 1 else 1)] * 2)
    plain = embedded.blocks(embedded.downsample(x))
    torch.testing.assert_close(embedded(x), plain)  # it starts at zero
    nn.init.normal_(embedded.pos_embed)
    torch.testing.assert_close(embedded(x), embedded.blocks(embedded.downsample(x) + embedded.pos_embed))


def test_images_of_another_size_than_the_position_embedding_are_refused():
    model = tiny(position_embedding=4, image_size=64)
    with pytest.raises(ResolutionError, match=r"position embedding is built for 2x2 tokens and got 4x3: .*image_size"):
        model(batch(1, 3, 128, 96))


# ---- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "grp"}, "norm is one of group, layer, batch, none; got 'grp'"),
        ({"act": "tanh"}, "act is one of gelu, relu, silu, star_relu; got 'tanh'"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate is a probability in \[0, 1\), got 1.0"),
        ({"drop_path_rate": -0.1}, r"drop_path_rate is a probability in \[0, 1\), got -0.1"),
        ({"position_embedding": 5}, "position_embedding is the stage, 1 to 4, that gets it; got 5"),
        ({"depths": (2, 2)}, r"has 4 stages; got depths \(2, 2\)"),
        ({"dims": (8, 16, 24)}, r"has 4 stages; .* dims \(8, 16, 24\)"),
    ],
    ids=str,
)
def test_an_option_outside_its_range_is_refused(options, message):
    with pytest.raises(OptionsError, match=message):
        tiny(**options)
