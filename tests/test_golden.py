"""The frame against the authors' code: outputs of sail-sg/poolformer@a075575, see golden/README.md.

``python tests/test_golden.py`` prints the largest difference of each case.
"""

import copy
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from golden.fill import fill_model, images, official_name, official_place
from torch import Tensor, nn

from poolformer.backbones import create_backbone
from poolformer.network.metaformer import MetaFormer

ORACLE = json.loads((Path(__file__).parent / "golden" / "oracle.json").read_text())

_tiny = partial(MetaFormer, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=10)
_PPPA = {"mixer": ["pooling", "pooling", "pooling", "attention"], "norm": "layer", "position_embedding": 4}
BUILD = {
    "tiny_64x64": _tiny,
    "tiny_pool5_64x64": partial(_tiny, mixer={"name": "pooling", "pool_size": 5}),
    "tiny_ln_64x64": partial(_tiny, norm="layer"),
    "tiny_nols_64x64": partial(_tiny, layer_scale_init=0),
    "tiny_identity_64x64": partial(_tiny, mixer="identity"),
    "tiny_pppa_128x128": partial(_tiny, dims=(8, 16, 24, 64), image_size=128, **_PPPA),
    "metaformer_pppa_s12_224": partial(create_backbone, "poolformer_s12", **_PPPA),
    "metaformer_id_s12": partial(create_backbone, "poolformer_s12", mixer="identity"),
    "poolformer_s12_224": partial(create_backbone, "poolformer_s12"),
    "poolformer_s24_224": partial(create_backbone, "poolformer_s24"),
    "poolformer_m36_224": partial(create_backbone, "poolformer_m36"),
}
SLOW = {"poolformer_s24_224", "poolformer_m36_224"}
CASES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in ORACLE]

# Absolute up to 1, relative above (logits are of order 1, values of a stage go up to 7). In float32 at
# 224 pixels the smallest effect of a typical mistake is 2.6e-5 (GroupNorm eps 1e-6), in the tiny
# networks it is 4.9e-6.
TOLERANCE = {
    (torch.float64, "tiny"): 1e-12,
    (torch.float64, "full"): 1e-12,
    (torch.float32, "tiny"): 4e-6,  # 3.3e-6 seen on a CPU with AVX2
    (torch.float32, "full"): 1e-5,
}


def test_every_case_of_the_file_is_built():
    assert BUILD.keys() == ORACLE.keys()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def model(case):
    return build(case)


def test_weights_and_images_are_those_of_the_golden_file(case, model):
    expected = ORACLE[case]
    weights = model.state_dict().values()
    assert len(weights) == expected["n_keys"]
    assert sum(weight.numel() for weight in weights) == expected["params"]
    assert float(sum(weight.sum() for weight in weights)) == pytest.approx(expected["param_sum"], rel=1e-12)
    assert float(sum(weight.square().sum() for weight in weights)) == pytest.approx(expected["param_sumsq"], rel=1e-12)
    inputs = _inputs(case)
    assert float(inputs.sum()) == pytest.approx(expected["input_sum"], rel=1e-12)
    assert float(inputs.square().sum()) == pytest.approx(expected["input_sumsq"], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_stages_and_logits_are_those_of_the_authors_code(case, model, dtype, record_property):
    found = differences(case, copy.deepcopy(model).to(dtype), dtype)
    record_property("max_difference", max(found.values()))
    tolerance = TOLERANCE[dtype, "tiny" if case.startswith("tiny") else "full"]
    # In the order of the forward pass: the first entry is where the mistake is.
    assert {where: value for where, value in found.items() if not value <= tolerance} == {}


def build(case: str) -> nn.Module:
    """Return the network of a case with its golden weights, in float64."""
    with torch.device("meta"):
        model = BUILD[case]()
    fill_model(model)
    return model.eval()


def differences(case: str, model: nn.Module, dtype: torch.dtype) -> dict[str, float]:
    """Return how far each golden number is missed, from the stem to the logits."""
    expected = ORACLE[case]
    maps = _record_maps(model)
    with torch.no_grad():
        logits = model(_inputs(case).to(dtype)).double()

    found = {}
    for stage in expected["stages"]:
        made = maps[stage["module"]].double()
        assert list(made.shape) == stage["shape"], f"shape after {stage['module']}"
        numbers = torch.stack([made.mean(), made.std(), *made.flatten()[:3]])
        found[stage["module"]] = _distance(numbers, [stage["mean"], stage["std"], *stage["first3"]])
    found["logits"] = _distance(logits[0, :16], expected["logits16"])
    if "logits16_last_row" in expected:
        found["logits of the last image"] = _distance(logits[-1, :16], expected["logits16_last_row"])
    for figure in ("mean", "std", "min", "max"):
        found[f"{figure} of the logits"] = _distance(getattr(logits, figure)(), expected[figure])
    found["sum of |logits|"] = _distance(logits.abs().sum(), expected["sum_abs"])
    return found


def _inputs(case: str) -> Tensor:
    batch_size, _, height, width = ORACLE[case]["shape_in"]
    return images(batch_size, height, width)


def _record_maps(model: nn.Module) -> dict[str, Tensor]:
    """Collect, in the next forward pass, what the authors' modules of a network of ours give."""
    maps = {}

    def record(name: str):
        return lambda module, inputs, output: maps.update({name: output})

    model.stem.register_forward_hook(record("patch_embed"))
    embedded = next((index for index, stage in enumerate(model.stages) if stage.pos_embed is not None), None)
    for index, stage in enumerate(model.stages):
        for part in ("downsample", "blocks"):
            place = official_place(index, part, embedded_stage=embedded)
            getattr(stage, part).register_forward_hook(record(f"network.{place}"))
        if index == embedded:
            place = official_place(index, "pos_embed")
            stage.blocks.register_forward_pre_hook(
                lambda module, inputs, place=place: maps.update({f"network.{place}": inputs[0]})
            )
    return maps


def _distance(made: Tensor, expected: float | list[float]) -> float:
    target = torch.tensor(expected, dtype=torch.float64)
    return float(((made - target).abs() / target.abs().clamp(min=1)).max())


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        ("stem.conv.weight", "patch_embed.proj.weight"),
        ("stages.0.blocks.1.layer_scale2.scale", "network.0.1.layer_scale_2"),
        ("stages.1.downsample.conv.bias", "network.1.proj.bias"),
        ("stages.3.downsample.conv.bias", "network.5.proj.bias"),
        ("stages.3.blocks.1.mlp.fc2.bias", "network.6.1.mlp.fc2.bias"),
        ("stages.2.blocks.10.norm1.weight", "network.4.10.norm1.weight"),
        ("head.norm.weight", "norm.weight"),
        ("head.fc.bias", "head.bias"),
    ],
)
def test_our_names_translate_to_the_authors(ours, official):
    assert official_name(ours) == official


@pytest.mark.parametrize(
    ("embedded_stage", "ours", "official"),
    [
        (3, "stages.3.pos_embed", "network.6.pos_embed"),
        (3, "stages.3.blocks.1.token_mixer.qkv.weight", "network.7.1.token_mixer.qkv.weight"),
        (3, "stages.3.downsample.conv.bias", "network.5.proj.bias"),
        (2, "stages.2.pos_embed", "network.4.pos_embed"),
        (2, "stages.2.blocks.0.mlp.fc1.bias", "network.5.0.mlp.fc1.bias"),
        (2, "stages.3.downsample.conv.weight", "network.6.proj.weight"),
        (2, "stages.3.blocks.0.norm1.bias", "network.7.0.norm1.bias"),
    ],
)
def test_a_position_embedding_moves_the_authors_names(embedded_stage, ours, official):
    assert official_name(ours, embedded_stage=embedded_stage) == official


if __name__ == "__main__":
    print(f"{'case':22} float64 max diff  float32 max diff")
    for case in ORACLE:
        network = build(case)
        row = [max(differences(case, network.to(dtype), dtype).values()) for dtype in (torch.float64, torch.float32)]
        print(f"{case:22} {row[0]:16.1e}  {row[1]:16.1e}")
