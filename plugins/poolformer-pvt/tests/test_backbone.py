import copy
import pickle
import re

import pytest
import torch
from poolformer_pvt import backbone
from torch import Tensor, nn

# arXiv 2102.12122, table 2, and the authors' README: parameters in millions at 224 pixels with 1000 classes.
PUBLISHED = {"pvt_tiny": 13.2, "pvt_small": 24.5, "pvt_medium": 44.2, "pvt_large": 61.4}
EXACT = {"pvt_tiny": 13_229_288, "pvt_small": 24_485_864, "pvt_medium": 44_208_104, "pvt_large": 61_369_320}


def on_meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return getattr(backbone, name)(**options)


def by_hand(depths: tuple[int, ...]) -> int:
    """Parameters at 224 pixels with 1000 classes, of the paper's table 1 alone."""
    total = 512 + 2 * 512 + 1000 * 512 + 1000  # class token, last norm, head
    rows = [(3, 64, 4, 8, 8), (64, 128, 2, 4, 8), (128, 320, 2, 2, 4), (320, 512, 2, 1, 4)]
    for depth, tokens, (c, d, p, r, e) in zip(depths, (56**2, 28**2, 14**2, 7**2 + 1), rows, strict=True):
        attention = 4 * (d * d + d) + (d * d * r * r + d + 2 * d if r > 1 else 0)
        block = 2 * d + attention + 2 * d + (d * e * d + e * d) + (e * d * d + d)
        total += c * d * p * p + d + 2 * d + tokens * d + depth * block
    return total


@pytest.mark.parametrize("name", EXACT)
def test_a_size_has_the_published_number_of_parameters(name):
    parameters = sum(parameter.numel() for parameter in on_meta(name).parameters())
    assert parameters == EXACT[name] == by_hand(getattr(backbone, name).keywords["depths"])
    assert round(parameters / 1e6, 1) == PUBLISHED[name]


def test_parameters_are_named_as_in_the_authors_checkpoints():
    """pvt_tiny.pth, by the module tree of whai362/PVT, classification/pvt.py."""
    dims, squares, expansion = (64, 128, 320, 512), (8, 4, 2, None), (8, 8, 4, 4)
    shapes = {"cls_token": (1, 1, 512), "norm.weight": (512,), "norm.bias": (512,)}
    shapes |= {"head.weight": (1000, 512), "head.bias": (1000,)}
    for n, (channels, patch, tokens) in enumerate([(3, 4, 3136), (64, 2, 784), (128, 2, 196), (320, 2, 50)], 1):
        d, r, hidden = dims[n - 1], squares[n - 1], dims[n - 1] * expansion[n - 1]
        shapes |= {f"pos_embed{n}": (1, tokens, d)}
        shapes |= {f"patch_embed{n}.proj.weight": (d, channels, patch, patch), f"patch_embed{n}.proj.bias": (d,)}
        shapes |= {f"patch_embed{n}.norm.weight": (d,), f"patch_embed{n}.norm.bias": (d,)}
        for block in (f"block{n}.0", f"block{n}.1"):
            linear = {"attn.q": (d, d), "attn.kv": (2 * d, d), "attn.proj": (d, d)}
            linear |= {"mlp.fc1": (hidden, d), "mlp.fc2": (d, hidden)}
            linear |= {"attn.sr": (d, d, r, r)} if r else {}
            norms = ["norm1", "norm2", *(["attn.norm"] if r else [])]
            shapes |= {f"{block}.{layer}.weight": shape for layer, shape in linear.items()}
            shapes |= {f"{block}.{layer}.bias": shape[:1] for layer, shape in linear.items()}
            shapes |= {f"{block}.{norm}.{name}": (d,) for norm in norms for name in ("weight", "bias")}
    assert {name: tuple(tensor.shape) for name, tensor in on_meta("pvt_tiny").state_dict().items()} == shapes


def fill(model: nn.Module) -> nn.Module:
    """Weights by a formula that anyone can repeat: sin(k * k mod 1009 + i) for element k of the i-th name."""
    for index, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        k = torch.arange(tensor.numel())
        wave = torch.sin((k * k % 1009 + index).double()).view(tensor.shape)
        if tensor.ndim in (2, 4):
            tensor.copy_(wave / tensor[0].numel() ** 0.5)
        else:
            tensor.copy_(0.1 * wave + ("norm" in name and name.endswith("weight")))
    return model


def images(side: int) -> Tensor:
    k = torch.arange(2 * 3 * side * side)
    return torch.sin((k * k % 1013).double()).view(2, 3, side, side)


# Logits 0, 250, 500 and 750 of both images, by PvtForImageClassification of transformers 5.23 in float64 with the
# weights of fill(), and with the authors' eps of 1e-5 for the norms of patch embeddings and reduced maps.
LOGITS = [
    [-3.866997580172683, 0.48997834629330766, 0.9019605589408826, -0.16703769546046976],
    [-3.4058724286678794, 0.8812153877087314, 0.5159457757052562, 0.391973424301589],
]


def test_logits_are_those_of_transformers_with_the_same_weights():
    model = fill(backbone.pvt_tiny(image_size=64).double()).eval()
    with torch.no_grad():
        logits = model(images(64))[:, ::250]
    torch.testing.assert_close(logits, torch.tensor(LOGITS, dtype=torch.float64), rtol=0, atol=1e-12)


def theirs(model: nn.Module, *, image_size: int, depths: tuple[int, ...]) -> nn.Module:
    """The network of transformers with a model's weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.PvtConfig(image_size=image_size, depths=list(depths), num_labels=model.num_classes)
    other = transformers.PvtForImageClassification(config).to(model.cls_token).eval()
    renamed = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in [
            (r"^cls_token", "pvt.encoder.patch_embeddings.3.cls_token"),
            (r"^norm", "pvt.encoder.layer_norm"),
            (r"^head", "classifier"),
            (r"^pos_embed(\d)", lambda m: f"pvt.encoder.patch_embeddings.{int(m[1]) - 1}.position_embeddings"),
            (r"^patch_embed(\d)", lambda m: f"pvt.encoder.patch_embeddings.{int(m[1]) - 1}"),
            (r"^block(\d)", lambda m: f"pvt.encoder.block.{int(m[1]) - 1}"),
            (r"embeddings\.(\d)\.proj\.", r"embeddings.\1.projection."),
            (r"embeddings\.(\d)\.norm\.", r"embeddings.\1.layer_norm."),
            (r"\.norm([12])\.", r".layer_norm_\1."),
            (r"\.attn\.proj\.", ".attention.output.dense."),
            (r"\.attn\.sr\.", ".attention.self.sequence_reduction."),
            (r"\.attn\.norm\.", ".attention.self.layer_norm."),
            (r"\.attn\.q\.", ".attention.self.query."),
            (r"\.attn\.kv\.", ".attention.self.key."),
            (r"\.mlp\.fc", ".mlp.dense"),
        ]:
            name = re.sub(pattern, replacement, name)
        if ".self.key." in name:
            renamed[name], renamed[name.replace("key", "value")] = tensor.chunk(2)
        else:
            renamed[name] = tensor
    other.load_state_dict(renamed)
    for name, module in other.named_modules():
        if name.endswith(".self.layer_norm") or re.search(r"patch_embeddings\.\d\.layer_norm$", name):
            module.eps = 1e-5  # the authors' code leaves these at PyTorch's, transformers has one eps for all
    return other


@pytest.mark.parametrize(("name", "side"), [("pvt_tiny", 64), ("pvt_small", 96)])
def test_logits_are_those_of_the_installed_transformers(name, side):
    size = getattr(backbone, name)
    model = fill(size(image_size=side, num_classes=10).double()).eval()
    other = theirs(model, image_size=side, depths=size.keywords["depths"])
    with torch.no_grad():
        torch.testing.assert_close(model(images(side)), other(images(side)).logits, rtol=0, atol=1e-12)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def model():
    return backbone.pvt_tiny(num_classes=10, image_size=64)


def test_head_takes_the_class_token_of_the_features(model):
    features = model.eval().forward_features(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 1 + 2 * 2, 512)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    only_class_token = torch.cat([features[:, :1], torch.zeros_like(features[:, 1:])], dim=1)
    assert torch.equal(model.forward_head(features), model.forward_head(only_class_token))


@pytest.mark.parametrize("num_classes", [5, 0])
def test_classifier_is_replaced(model, num_classes):
    model.double().reset_classifier(num_classes)
    assert model(torch.randn(2, 3, 64, 64).double()).shape == (2, num_classes or 512)
    assert model.num_classes == num_classes
    assert model.get_classifier() is model.head


def test_gradient_reaches_every_parameter(model):
    model.eval()(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_drop_path_grows_to_the_last_block_and_skips_whole_branches(model):
    rates = [block.drop_path_rate for n in range(1, 5) for block in getattr(model, f"block{n}")]
    assert rates == pytest.approx([0.1 * index / 7 for index in range(8)])
    assert [getattr(backbone, name).keywords["drop_path_rate"] for name in EXACT] == [0.1, 0.1, 0.3, 0.3]

    block, x = backbone.Block(backbone.STAGES[3], 0.5), torch.randn(64, 512, 2, 2)
    branches = block.eval()(x) - x
    skipped = ((block.train()(x) - x).flatten(1) == 0).all(1)
    assert 4 < skipped.sum() < 32  # both branches of a sample: 16 of 64 expected
    assert not (branches.flatten(1) == 0).all(1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 31}, "PVT needs images of 32 pixels or more, got image_size=31"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate is a probability in \[0, 1\), got 1.0"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        backbone.pvt_tiny(**options)


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (65, 65)])
def test_images_of_another_size_are_refused(model, size):
    with pytest.raises(ValueError, match=rf"built for images of 64 x 64 pixels and got {size[0]} x {size[1]}; build"):
        model(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("side", [32, 50, 100])
def test_a_side_that_the_patches_do_not_divide_is_cut(side):
    model = backbone.pvt_tiny(num_classes=10, image_size=side)
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 10)
    assert model.pos_embed3.shape[1] == (side // 16) ** 2


def test_weights_of_another_size_bring_their_positions(model):
    for n in range(1, 5):  # a ramp along the rows, which resampling keeps but at the edges; 7 for the class token
        positions = getattr(model, f"pos_embed{n}").detach()
        side = 64 // 2 ** (n + 1)
        ramp = (torch.arange(side) + 0.5) / side
        positions[:, int(n == 4) :] = ramp.repeat_interleave(side)[:, None]
    model.pos_embed4.detach()[:, 0] = 7
    larger = backbone.pvt_tiny(num_classes=10, image_size=128)
    state = model.state_dict()
    larger.load_state_dict(state)
    assert state["pos_embed1"].shape == (1, 256, 64)  # the caller's own is left alone
    assert torch.equal(larger.pos_embed4[:, 0], model.pos_embed4[:, 0])
    ramp = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(larger.pos_embed1.view(32, 32, 64)[1:-1, 5, 3], ramp[1:-1])
    model.load_state_dict(larger.state_dict())  # and back
    assert torch.equal(larger.head.weight, model.head.weight)


def test_positions_that_no_square_image_has_do_not_load(model):
    state = model.state_dict() | {"pos_embed2": torch.zeros(1, 60, 128)}
    with pytest.raises(RuntimeError, match="size mismatch for pos_embed2"):
        model.load_state_dict(state)


def test_export_takes_a_batch_of_any_size(model):
    x = torch.randn(3, 3, 64, 64)
    exported = torch.export.export(model.eval(), (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(x), model(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_resample_their_own_positions(model, copied):
    twin = copied(model.eval())
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(twin(x), model(x))
    before = model.pos_embed1.clone()
    twin.load_state_dict(backbone.pvt_tiny(num_classes=10, image_size=32).state_dict())
    assert torch.equal(model.pos_embed1, before)
    assert not torch.equal(twin.pos_embed1, before)
