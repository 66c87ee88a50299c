"""The follow-up paper's networks against the authors' code, sail-sg/metaformer@64c534a; see golden/README.md.

Each network starts from a file with the authors' names and shapes, so that its translation is tested as well.
``python tests/test_golden_follow_up.py`` prints the largest difference of each case.
"""

import json
from pathlib import Path

import pytest
import torch
from golden.fill import images
from golden.followup import fill_followup
from torch import Tensor, nn

from poolformer.backbones import create_backbone
from poolformer.checkpoint.pretrained import load_pretrained

GOLDEN = json.loads((Path(__file__).parent / "golden" / "followup.json").read_text())
CASES: dict[str, dict] = GOLDEN["cases"]
SLOW = {"convformer_s18", "randformer_s12", "identityformer_s12"}
CASE = pytest.mark.parametrize(
    "case", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)


def published(case: str) -> dict[str, Tensor]:
    """Return the golden weights under the authors' names, in float64."""
    # The file names three of the five: the other two have RandFormer's names, less its random matrices.
    names = CASES[case].get("names") or {
        name: shape for name, shape in CASES["randformer_s12"]["names"].items() if "random_matrix" not in name
    }
    return fill_followup({name: torch.empty(shape, device="meta") for name, shape in names.items()})


def differences(case: str, folder: Path) -> dict[str, float]:
    """Return how far each golden number is missed, from the first stage to the logits."""
    expected, file = CASES[case], folder / f"{case}.pth"
    torch.save(published(case), file)
    network = create_backbone(case).double().eval()
    load_pretrained(network, file, name=case, mixer=None)
    inputs = images(2, 224, 224)
    found = {"sum of the images": _distance(inputs.sum(), expected["input_sum"])}
    with torch.no_grad():
        last, maps = network.forward_intermediates(inputs)
        features, logits = network.forward_head(last, pre_logits=True), network.forward_head(last)
    for stage, (made, numbers) in enumerate(zip(maps, expected["stages"], strict=True)):
        tokens = made.movedim(1, -1).flatten()
        some = tokens[12345 % len(tokens)]
        found[f"stage {stage + 1}"] = _distance(torch.stack([*_mean_and_std(tokens), some]), numbers)
    found["features"] = _distance(_mean_and_std(features), expected["features"])
    found["mean and std of the logits"] = _distance(
        _mean_and_std(logits), [expected["logits_mean"], expected["logits_std"]]
    )
    found["logits"] = _distance(logits[0, :12], expected["logits_first"])
    found["last logits of the second image"] = _distance(logits[1, -6:], expected["logits_second"])
    return found


def _mean_and_std(values: Tensor) -> Tensor:
    return torch.stack([values.mean(), values.std(correction=0)])


def _distance(made: Tensor, expected: float | list[float]) -> float:
    target = torch.tensor(expected, dtype=torch.float64)
    return float(((made - target).abs() / target.abs().clamp(min=1)).max())


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - SLOW))
def test_weights_are_those_of_the_golden_file(case):
    weights, expected = published(case), CASES[case]
    assert len(weights) == expected["keys"]
    assert float(sum(w.sum() for w in weights.values())) == pytest.approx(expected["param_sum"], rel=1e-12)
    assert float(sum(w.square().sum() for w in weights.values())) == pytest.approx(expected["param_sumsq"], rel=1e-12)


@pytest.mark.slow
@CASE
def test_stages_and_logits_are_those_of_the_authors_code(case, tmp_path, record_property):
    found = differences(case, tmp_path)
    record_property("max_difference", max(found.values()))
    # In the order of the forward pass: the first entry is where the mistake is.
    assert {where: value for where, value in found.items() if not value <= 1e-12} == {}


@pytest.mark.parametrize("name", GOLDEN["counts"])
def test_a_network_has_the_parameters_of_the_authors_code(name):
    with torch.device("meta"):
        network: nn.Module = create_backbone(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == GOLDEN["counts"][name]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            print(f"{name:20} {max(differences(name, Path(folder)).values()):.1e}")
