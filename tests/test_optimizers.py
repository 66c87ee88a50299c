"""Optimisers by name: the paper's to the digit, timm's with options, and runs that resume with each."""

import pytest
import torch
from runs import QUICK, assert_same_state, last
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.cli import dispatch as cli
from poolformer.cli.training import run
from poolformer.errors import PoolformerError
from poolformer.optimizers import described, resolve
from poolformer.recipe import parameter_groups

FAMILIES = {
    "adamw": ["--model.optimizer", "adamw"],
    "lamb": ["--model.optimizer", "lamb"],
    "muon": ["--model.optimizer.name", "muon", "--model.optimizer.momentum", "0.9"],
    "sgd": ["--model.optimizer", "{name: sgd, momentum: 0.8}", "--model.lr", "0.1"],
}


def test_the_default_is_the_papers_adamw():
    built = resolve("adamw").build([{"params": [nn.Parameter(torch.zeros(2, 2))]}], lr=0.1)
    assert type(built) is torch.optim.AdamW
    defaults = torch.optim.AdamW([nn.Parameter(torch.zeros(2, 2))], lr=0.1).defaults
    assert built.defaults == defaults


def test_muon_takes_convolutions_as_matrices_and_leaves_depthwise_ones_and_vectors_to_adam():
    network = create_backbone("poolformer_tiny", num_classes=10, mixer="depthwise")
    muon = resolve("muon").build(parameter_groups(network, 0.05), lr=1e-3)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    muon.step()
    names = {name for name, weight in network.named_parameters() if "exp_avg" not in muon.state[weight]}
    assert {"stem.conv.weight", "stages.0.blocks.0.mlp.fc1.weight", "head.fc.weight"} <= names
    assert not any("token_mixer" in name or name.endswith("bias") or "norm" in name for name in names)
    assert [group["weight_decay"] for group in muon.param_groups] == [0.05, 0.0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("muonn", "has no optimizer 'muonn'. Did you mean 'muon'"),
        ({"momentum": 0.9}, "an optimizer's mapping needs its name"),
        ({"name": "muon", "momentom": 0.9}, "has no option 'momentom'. Did you mean 'momentum'?"),
        ({"name": "lamb", "betas": "x"}, "optimizer 'lamb' got {'betas': 'x'}"),
        (
            {"name": "muon", "ns_coefficients": "cubic"},
            "optimizer 'muon' does not work with {'ns_coefficients': 'cubic'}",
        ),
        ({"name": "adamp", "delta": "much"}, "optimizer 'adamp' does not work with {'delta': 'much'}"),
        ({"name": "sgd", "lr": 0.1}, "has the recipe's lr: write --model.lr"),
        ({"name": "adamw", "fused": True}, "has no option 'fused'"),
        ("adahessian", "needs gradients of gradients, which training here does not keep"),
        ("bnblion", "'bnblion' is not available here"),
    ],
)
def test_what_is_no_optimizer_is_said_in_a_line(spec, said):
    with pytest.raises(PoolformerError) as caught:
        resolve(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_built_is_described():
    choice = resolve({"name": "sgd", "momentum": 0.8})
    built = choice.build([{"params": [nn.Parameter(torch.zeros(2, 2))]}], lr=0.1)
    assert described(built, choice.name) == "Optimizer sgd: SGD with momentum 0.8, dampening 0, nesterov True"


def fit(run_dir, *options):
    return run("fit", [*QUICK, "--trainer.max_epochs", "2", "--trainer.default_root_dir", str(run_dir), *options])


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=pytest.mark.exhaustive if name in ("lamb", "sgd") else ()) for name in FAMILIES],
)
def test_a_run_resumes_bitwise_with(family, tmp_path, lightnings_log):
    whole, parts, flags = tmp_path / "whole", tmp_path / "parts", FAMILIES[family]
    fit(whole, *flags)
    fit(parts, *flags, "--trainer.max_steps", "6")
    fit(parts, "--ckpt_path", "last")
    assert last(parts)["global_step"] == 8
    assert_same_state(whole, parts)
    facts = last(parts)["poolformer_run"]
    assert facts["optimizer_class"].lower() == family
    if family == "muon":
        assert facts["optimizer_momentum"] == 0.9
        assert "Optimizer muon: Muon with momentum 0.9," in lightnings_log.text


@pytest.mark.slow
def test_a_run_does_not_resume_with_another_optimizer(tmp_path, capsys):
    root = ["--trainer.default_root_dir", str(tmp_path)]
    assert cli.main(["fit", *QUICK, *root, "--trainer.max_steps", "2"]) == 0
    assert cli.main(["fit", *QUICK, *root, "--ckpt_path", "last", "--model.optimizer", "lamb"]) == 2
    assert "the run was trained with optimizer adamw, whose state lamb cannot take over" in capsys.readouterr().err
    assert cli.main(["fit", *QUICK, *root, "--ckpt_path", "auto", "--model.optimizer.name", "lambx"]) == 2
    assert "no optimizer 'lambx'. Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["", " ", {"name": ""}])
def test_an_empty_name_is_a_line_of_its_own(spec):
    with pytest.raises(PoolformerError, match=r"^--model\.optimizer is empty: write the name of one"):
        resolve(spec)
