"""The sizes against the paper and timm, the ablations' sizes, and backbones that are not ours."""

from typing import NamedTuple

import pytest
import timm
import torch
from torch import nn

from poolformer import registry
from poolformer.backbones import create_backbone
from poolformer.errors import BrokenPluginError, OptionsError, RegistryError, UnknownNameError
from poolformer.network import complexity
from poolformer.network.block import Block
from poolformer.network.frame_options import built_options, own_options, takes_mixer
from poolformer.network.layers import ChannelMLP, DropPath, LayerNormChannel, PatchEmbedding, Scale
from poolformer.network.mixers import Identity
from poolformer.sizes import PAPER_TOP1


class Size(NamedTuple):
    """A row of arXiv 2111.11418, table 1; the rest is from sail-sg/poolformer's models/poolformer.py."""

    parameters: int
    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    layer_scale_init: float
    drop_path_rate: float


_S, _M = (64, 128, 320, 512), (96, 192, 384, 768)
SIZES = {
    "poolformer_s12": Size(11_915_176, (2, 2, 6, 2), _S, 1e-5, 0.1),
    "poolformer_s24": Size(21_388_968, (4, 4, 12, 4), _S, 1e-5, 0.1),
    "poolformer_s36": Size(30_862_760, (6, 6, 18, 6), _S, 1e-6, 0.2),
    "poolformer_m36": Size(56_172_520, (6, 6, 18, 6), _M, 1e-6, 0.3),
    "poolformer_m48": Size(73_473_448, (8, 8, 24, 8), _M, 1e-6, 0.4),
}
LARGE = {"poolformer_m36", "poolformer_m48"}
each_size = pytest.mark.parametrize("name", SIZES)
each_size_large_ones_slow = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in SIZES]
)


def on_meta(create, *args, **options) -> nn.Module:
    """Build a network without drawing its weights: shapes are all that a count needs."""
    with torch.device("meta"):
        return create(*args, **options)


def drawn(name: str) -> nn.Module:
    """Return one of our networks with layer scales around 0.5: at their start they hide the mixers."""
    model = on_meta(create_backbone, name).to_empty(device="cpu")
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.25, 0.75)
        else:
            nn.init.kaiming_normal_(parameter)
    return model.eval()


def as_timm(model: nn.Module, name: str) -> nn.Module:
    """Return timm's network of this name with the weights of one of ours."""
    theirs = on_meta(timm.create_model, name)
    # Beside attention timm has linear layers.
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    weights = {key: value.reshape(shapes[key]) for key, value in model.state_dict().items()}
    theirs.load_state_dict(weights, strict=True, assign=True)
    return theirs.eval()


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---- the paper's sizes


@each_size
def test_a_size_has_the_parameters_of_the_authors_code(name):
    size, model = SIZES[name], on_meta(create_backbone, name)
    assert count(model) == size.parameters
    assert tuple(len(stage.blocks) for stage in model.stages) == size.depths
    assert tuple(info["num_chs"] for info in model.feature_info) == size.dims
    assert model.num_features == size.dims[-1]
    assert model.num_classes == 1000


@each_size
def test_a_size_has_the_drop_path_rate_of_the_authors_code(name):
    size, blocks = SIZES[name], sum(SIZES[name].depths)
    built = [module for module in on_meta(create_backbone, name).modules() if isinstance(module, Block)]
    rates = [block.drop_path1.rate for block in built]
    assert rates == [block.drop_path2.rate for block in built]
    assert rates == pytest.approx([size.drop_path_rate * j / (blocks - 1) for j in range(blocks)], abs=1e-12)
    # timm rounds to float32.
    theirs = on_meta(timm.create_model, name, drop_path_rate=size.drop_path_rate)
    theirs = [getattr(block.drop_path1, "drop_prob", 0) for stage in theirs.stages for block in stage.blocks]
    assert rates == pytest.approx(theirs, abs=1e-7)


@each_size_large_ones_slow
def test_a_size_starts_as_the_authors_code_starts_it(name):
    model = create_backbone(name)
    for module in model.modules():
        if isinstance(module, Scale):
            assert module.scale.unique().tolist() == pytest.approx([SIZES[name].layer_scale_init])
        elif isinstance(module, nn.GroupNorm):
            assert module.weight.unique().tolist() == [1]
            assert module.bias.unique().tolist() == [0]
            assert module.eps == 1e-5
        elif isinstance(module, ChannelMLP):
            for layer in (module.fc1, module.fc2):
                assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
                assert layer.bias.count_nonzero() == 0
        elif isinstance(module, PatchEmbedding):
            bound = module.conv.weight[0].numel() ** -0.5
            assert float(module.conv.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
            assert module.conv.bias.count_nonzero() == len(module.conv.bias)
    assert float(model.head.fc.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert model.head.fc.bias.count_nonzero() == 0


def test_options_override_those_of_the_size():
    model = on_meta(create_backbone, "poolformer_s12", num_classes=7, drop_path_rate=0.0, layer_scale_init=0)
    assert count(model) == 11_915_176 - 993 * 513 - 2 * (2 * 64 + 2 * 128 + 6 * 320 + 2 * 512)
    assert {module.rate for module in model.modules() if isinstance(module, DropPath)} == {0}


def test_every_size_of_the_papers_is_listed_with_its_accuracy():
    assert PAPER_TOP1.keys() == {*SIZES, *FOLLOW_UP, "resmlp_b24"}
    assert PAPER_TOP1.keys() <= registry.listing(registry.BACKBONES).keys()


def test_the_tiny_backbone_takes_images_of_8_pixels():
    model = create_backbone("poolformer_tiny", num_classes=10, image_size=8)
    *_, last = model.forward_intermediates(torch.randn(2, 3, 8, 8), intermediates_only=True)
    assert last.shape == (2, 128, 1, 1)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_the_xs12_backbone_leaves_four_tokens_of_32_pixels():
    model = create_backbone("poolformer_xs12", num_classes=10, image_size=32)
    *_, last = model.forward_intermediates(torch.randn(2, 3, 32, 32), intermediates_only=True)
    assert last.shape == (2, 256, 2, 2)


# ---- the paper's ablations on S12: arXiv 2111.11418, table 5; counts measured on the authors' code

S12 = 11_915_176
_P = ("pooling", "pooling")
ABLATIONS = [
    ({}, S12, 132),
    ({"mixer": "identity"}, S12, 132),
    ({"mixer": "depthwise"}, 11_948_456, 132 + 24),
    ({"mixer": {"name": "depthwise", "bias": False}}, 11_945_128, 132 + 12),
    *(({"mixer": {"name": "pooling", "pool_size": size}}, S12, 132) for size in (5, 7, 9)),
    ({"norm": "layer"}, S12, 132),
    ({"norm": "batch"}, S12, 132 + 3 * 25),  # running mean, running variance, batches seen
    ({"norm": "none"}, 11_900_840, 132 - 2 * 25),
    ({"act": "relu"}, S12, 132),
    ({"act": "silu"}, S12, 132),
    ({"residual": False}, S12, 132),
    ({"channel_mlp": False}, 2_454_696, 132 - 6 * 12),
    ({"mixer": "random_matrix"}, S12 + 21_133_602, 132 + 12),
    ({"mixer": [*_P, "pooling", "attention"], "norm": "layer", "position_embedding": 4}, 14_038_440, 132 + 7),
    ({"mixer": [*_P, "attention", "attention"], "norm": "layer", "position_embedding": 3}, 16_535_592, 132 + 25),
    ({"mixer": [*_P, "pooling", "spatial_fc"]}, 11_919_978, 132 + 2),
    ({"mixer": [*_P, "spatial_fc", "spatial_fc"]}, 12_150_474, 132 + 8),
]


@pytest.mark.parametrize(("options", "parameters", "names"), ABLATIONS, ids=str)
def test_an_ablation_has_the_parameters_of_the_papers_table(options, parameters, names):
    model = on_meta(create_backbone, "poolformer_s12", **options)
    assert count(model) == parameters
    assert len(model.state_dict()) == names


@pytest.mark.parametrize("options", [options for options, *_ in ABLATIONS], ids=str)
def test_an_ablation_runs(options):
    model = create_backbone("poolformer_tiny", num_classes=10, image_size=16, **options)
    assert model(torch.randn(2, 3, 16, 16)).isfinite().all()


# ---- timm


@each_size_large_ones_slow
def test_features_are_timms_to_the_bit(name):
    ours, images = drawn(name), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.forward_features(images), as_timm(ours, name).forward_features(images))


@pytest.mark.slow
@each_size
def test_timms_state_dict_fits_without_renaming(name):
    ours, theirs = on_meta(create_backbone, name), on_meta(timm.create_model, name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    assert list(ours.state_dict()) == list(shapes)  # the order too
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (57, 70)], ids=str)
def test_logits_differ_from_timms_by_the_order_of_mean_and_norm_alone(size):
    # timm >= 0.9 takes the mean first (huggingface/pytorch-image-models#1793), with eps 1e-6. Both
    # norms are affine in the same direction, so timm - L0 = r (ours - L0), image by image.
    ours = drawn("poolformer_s12").double()
    theirs, images = as_timm(ours, "poolformer_s12"), torch.randn(3, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        features, logits = ours.forward_features(images), ours(images)
        start = ours.head.fc(ours.head.norm.bias)  # L0
        over_map = features.var((1, 2, 3), correction=0) + 1e-5
        over_means = features.mean((2, 3)).var(1, correction=0) + 1e-6
        ratio = torch.sqrt(over_map / over_means)[:, None]
        torch.testing.assert_close(theirs(images) - start, ratio * (logits - start), rtol=1e-10, atol=1e-10)
    assert ratio.min() > 1.001


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"indices": 2}, {"indices": [0, 2]}, {"indices": [-1]}, {"indices": [1], "stop_early": True}],
    ids=str,
)
def test_feature_pyramids_are_timms(options):
    ours, images = drawn("poolformer_s12"), torch.randn(1, 3, 64, 96)
    theirs = as_timm(ours, "poolformer_s12")
    assert ours.feature_info == theirs.feature_info
    with torch.no_grad():
        last, maps = ours.forward_intermediates(images, **options)
        their_last, their_maps = theirs.forward_intermediates(images, **options)
        alone = ours.forward_intermediates(images, **options, intermediates_only=True)
    assert len(maps) == len(their_maps) == len(alone)
    assert torch.equal(last, their_last)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(maps, their_maps, alone, strict=True))


# ---- the follow-up paper's networks: arXiv 2210.13452, table 2. Millions of trained and of frozen
# parameters as printed there (truncated, not rounded), and G of MACs, which leave the norms out.

FOLLOW_UP = {
    **{
        f"{name}_{size}": (trained, 0.0, macs)
        for name in ("poolformerv2", "identityformer")
        for size, trained, macs in [
            ("s12", 11.9, 1.8),
            ("s24", 21.3, 3.4),
            ("s36", 30.8, 5.0),
            ("m36", 56.1, 8.8),
            ("m48", 73.3, 11.5),
        ]
    },
    "randformer_s12": (11.9, 0.2, 1.9),
    "randformer_s24": (21.3, 0.5, 3.5),
    "randformer_s36": (30.8, 0.7, 5.2),
    "randformer_m36": (56.1, 0.7, 9.0),
    "randformer_m48": (73.3, 0.9, 11.9),
    # Printed to the million; these are the authors' code's, as in golden/followup.json.
    "convformer_s18": (26.774448, 0.0, 3.9),
    "convformer_s36": (40.012152, 0.0, 7.6),
    "convformer_m36": (57.051640, 0.0, 12.8),
    "convformer_b36": (99.882616, 0.0, 22.6),
    "caformer_s18": (26.341656, 0.0, 4.1),
    "caformer_s36": (39.297102, 0.0, 8.0),
    "caformer_m36": (56.204878, 0.0, 13.2),
    "caformer_b36": (98.753614, 0.0, 23.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOW_UP)
def test_a_network_of_the_follow_up_paper_costs_what_is_printed(name):
    trained, frozen, macs = FOLLOW_UP[name]
    model = on_meta(create_backbone, name)
    size = complexity.count(model, image_size=224)
    for module in [module for module in model.modules() if isinstance(module, nn.GroupNorm | LayerNormChannel)]:
        module.forward = lambda x: x
    assert size.parameters / 1e6 == pytest.approx(trained, abs=0.1)
    assert size.frozen / 1e6 == pytest.approx(frozen, abs=0.06)
    assert complexity.count(model, image_size=224).macs / 1e9 == pytest.approx(macs, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poolformerv2_s12", pytest.param("poolformerv2_m36", marks=pytest.mark.slow)])
def test_poolformer_v2_is_timms_with_its_names(name):
    ours = drawn(name).double()
    theirs, images = as_timm(ours, name), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convformer_s18", "caformer_s18"])
def test_convformer_and_caformer_are_timms_with_its_names_and_the_authors_eps_in_the_head(name):
    ours = drawn(name).double()
    theirs, images = as_timm(ours, name), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert (theirs.head.fc.norm.eps, ours.head.fc.norm.eps) == (1e-6, 1e-5)
    theirs.head.fc.norm.eps = 1e-5
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"{family}_{size}" for family in ("convformer", "caformer") for size in ("s18", "b36")]
)
def test_convformer_and_caformer_multiply_as_often_as_timms(name):
    networks = on_meta(create_backbone, name), on_meta(timm.create_model, name)
    for module in [module for network in networks for module in network.modules() if "Norm" in type(module).__name__]:
        module.forward = lambda x: x  # which timm's counts in the maps and ours does not
    ours, theirs = (complexity.count(network, image_size=224) for network in networks)
    assert ours == theirs


@pytest.mark.slow
def test_other_classes_replace_the_last_layer_of_a_head_of_two():
    model = create_backbone("convformer_s18", num_classes=7)
    first = model.head.fc.fc1
    assert model.get_classifier() is model.head.fc.fc2
    model.reset_classifier(5)
    assert model.head.fc.fc1 is first
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    model.reset_classifier(0)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, model.num_features)
    model.reset_classifier(3)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_caformer_takes_another_mixer_in_its_frame():
    model = on_meta(create_backbone, "caformer_s18", mixer=["pooling", "pooling", "separable_conv", "attention"])
    mixers = [type(stage.blocks[0].token_mixer).__name__ for stage in model.stages]
    assert mixers == ["Pooling", "Pooling", "SeparableConv", "Attention"]
    assert (model.head.mlp, type(model.stages[3].blocks[0].mlp.act).__name__) == (True, "StarReLU")


def test_identityformer_and_randformer_mix_as_their_names_say():
    names = {
        name: [type(stage.blocks[0].token_mixer).__name__ for stage in on_meta(create_backbone, f"{name}_s12").stages]
        for name in ("poolformerv2", "identityformer", "randformer")
    }
    assert names == {
        "poolformerv2": ["Pooling"] * 4,
        "identityformer": ["Identity"] * 4,
        "randformer": ["Identity", "Identity", "RandomMatrix", "RandomMatrix"],
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("identityformer_s12", {"mixer": "pooling"}),
        ("identityformer_s12", {"mixer": {"name": "pooling", "pool_size": 5}}),
        ("randformer_s12", {"mixer": "random_matrix"}),
        ("identityformer_s12", {"act": "gelu"}),
        ("identityformer_s12", {"residual": False}),
    ],
    ids=str,
)
def test_a_network_named_after_its_mixer_has_no_other_frame(name, options):
    option = next(iter(options))
    with pytest.raises(
        OptionsError, match=rf"{name}.* has {option} .* and takes no other, not .*: leave it out, or null"
    ):
        on_meta(create_backbone, name, **options)


def test_a_network_named_after_its_mixer_can_be_asked_for_what_it_has():
    model = on_meta(create_backbone, "identityformer_s12", mixer={"name": "identity"}, act="star_relu", residual=True)
    assert type(model.stages[0].blocks[0].token_mixer).__name__ == "Identity"


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_what_is_asked_of_a_follow_up_network_is_built(act):
    model = on_meta(create_backbone, "poolformerv2_s12", act=act)
    assert type(model.stages[0].blocks[0].mlp.act) is {"gelu": nn.GELU, "relu": nn.ReLU}[act]


def test_the_follow_up_networks_start_with_a_truncated_normal_everywhere():
    model = create_backbone("poolformerv2_s12", num_classes=10)
    for conv in (model.stem.conv, model.stages[1].downsample.conv, model.stages[0].blocks[0].mlp.fc1):
        assert conv.weight.std().item() == pytest.approx(0.02, rel=0.1)


# ---- timm's models as baselines


@pytest.mark.slow
def test_resmlp_b24_has_patches_of_16_pixels():
    model = on_meta(create_backbone, "resmlp_b24")
    size = complexity.count(model, image_size=224)
    assert size.parameters == 115_736_776
    assert size.macs / 1e9 == pytest.approx(23.02, abs=0.005)  # fvcore; the paper prints 116 M and 23.0 G
    assert create_backbone("resmlp_b24", num_classes=3, image_size=32)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.slow
def test_a_timm_baseline_is_built_with_random_weights_and_our_classes():
    # ResNet-18 has 11,689,512 parameters with 1000 classes, 513 of them for each class.
    model = create_backbone("timm/resnet18", num_classes=7)
    assert count(model) == 11_689_512 - 993 * 513
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    first, second = (create_backbone("timm/resnet18").conv1.weight for _ in range(2))
    assert not torch.equal(first, second)


def test_a_timm_baseline_takes_the_drop_path_rate():
    model = create_backbone("timm/resnet18", drop_path_rate=0.2)
    rates = [getattr(block.drop_path, "drop_prob", 0) for block in model.modules() if hasattr(block, "drop_path")]
    assert max(rates) == pytest.approx(0.2)


def test_a_timm_baseline_takes_options_that_ask_for_nothing():
    assert count(create_backbone("timm/resnet18", mixer=None, norm=None, residual=None)) == 11_689_512


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"mixer": "identity"}, "mixer"),
        ({"mixer": "pooling"}, "mixer"),
        ({"norm": "layer", "act": "gelu"}, "act, norm"),
        ({"residual": False}, "residual"),
        ({"channel_mlp": False}, "channel_mlp"),
        ({"layer_scale_init": 1e-6}, "layer_scale_init"),
    ],
    ids=str,
)
def test_a_timm_baseline_refuses_the_frames_options(options, listed):
    with pytest.raises(OptionsError, match=f"'timm/resnet18' is timm's own network and does not take {listed}$"):
        create_backbone("timm/resnet18", **options)


def test_a_timm_model_without_drop_path_refuses_its_rate():
    with pytest.raises(OptionsError, match=r"timm/vgg11.*drop_path_rate"):
        create_backbone("timm/vgg11", drop_path_rate=0.1)


def test_a_misspelt_timm_model_gets_a_suggestion():
    with pytest.raises(RegistryError, match=r"has no model 'resnet_18'\. Did you mean 'resnet18'"):
        create_backbone("timm/resnet_18")


# ---- backbones of other packages

PLUGIN = """
from torch import nn

from poolformer.errors import OptionsError
from poolformer.network.metaformer import MetaFormer


class Linear(nn.Sequential):
    def __init__(self, num_classes: int = 1000, drop_path_rate: float = 0.0, image_size: int = 224):
        super().__init__(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
        self.drop_path_rate = drop_path_rate


def shallow(num_classes: int = 1000, **options):
    return MetaFormer(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), norm="layer", num_classes=num_classes, **options)


def unsaid(num_classes: int = 1000, **options):
    return shallow(num_classes, mixer=options.pop("mixer", OWN), **options)


OWN = "identity"


def no_module(num_classes):
    return "linear"


def raises(num_classes):
    raise ZeroDivisionError("on the first day")


def refuses(num_classes):
    raise OptionsError("--model.norm group is none for texts")
"""


@pytest.fixture
def plugin(fake_plugin):
    functions = {name: f"my_backbone:{name}" for name in ("shallow", "unsaid", "no_module", "raises", "refuses")}
    names = {"linear": "my_backbone:Linear", **functions}
    fake_plugin(name="my-backbone", entry_points={registry.BACKBONES: names}, modules={"my_backbone": PLUGIN})


@pytest.mark.usefixtures("plugin")
def test_a_plugins_backbone_gets_the_classes_the_image_size_and_its_options():
    model = create_backbone("linear", num_classes=5, image_size=8, drop_path_rate=0.25)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    assert model.drop_path_rate == 0.25


@pytest.mark.usefixtures("plugin")
def test_a_plugins_backbone_that_passes_options_on_has_them():
    model = create_backbone("shallow", num_classes=5, image_size=32, mixer="identity", in_chans=1)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)
    assert {type(block.token_mixer) for stage in model.stages for block in stage.blocks} == {Identity}
    assert takes_mixer("shallow")
    assert own_options("shallow")["mixer"] == "pooling"
    with pytest.raises(OptionsError, match=r"'shallow' of my-backbone .* has no option 'norm'\. It takes: num_classes"):
        create_backbone("shallow", norm="batch")


@pytest.mark.usefixtures("plugin")
def test_what_a_plugins_backbone_says_of_its_options_is_said():
    message = r"^backbone 'refuses' of my-backbone .*\): --model\.norm group is none for texts$"
    with pytest.raises(OptionsError, match=message):
        create_backbone("refuses", num_classes=5)


@pytest.mark.usefixtures("plugin")
def test_an_own_value_that_no_signature_says_is_none():
    assert built_options("unsaid", {})["mixer"] is None
    assert built_options("unsaid", {"mixer": "pooling"})["mixer"] == "pooling"
    model = create_backbone("unsaid", num_classes=5, image_size=32)
    assert {type(block.token_mixer) for stage in model.stages for block in stage.blocks} == {Identity}


@pytest.mark.usefixtures("plugin")
def test_a_plugins_backbone_refuses_options_it_does_not_have():
    with pytest.raises(
        OptionsError, match=r"backbone 'linear' of my-backbone 1\.0 .* has no option 'mixer'\. It takes: "
    ):
        create_backbone("linear", mixer="identity")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_module", r"'no_module' of my-backbone 1\.0 .* must return a torch\.nn\.Module, but returned str"),
        ("raises", r"'raises' of my-backbone 1\.0 .* cannot be built with .*ZeroDivisionError: on the first day"),
    ],
)
def test_a_broken_backbone_is_named_with_its_package(name, message):
    with pytest.raises(BrokenPluginError, match=message):
        create_backbone(name, num_classes=5)


def test_a_misspelt_backbone_gets_a_suggestion():
    message = (
        r"no backbone is called 'poolformer_s21'\. Did you mean .*'poolformer_s12'\? Installed: .*'poolformer models'"
    )
    with pytest.raises(UnknownNameError, match=message):
        create_backbone("poolformer_s21")
