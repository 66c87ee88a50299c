"""`poolformer bench model` and `poolformer bench train`: what is compared with what."""

import json
import sys

import pytest
import torch

from poolformer.backbones import create_backbone
from poolformer.bench import candidates
from poolformer.bench import networks as bench_networks
from poolformer.bench.measure import Limits
from poolformer.cli.dispatch import main

SHORT = ["--image_size", "32", "--batch_size", "2", "--rounds", "2", "--device", "cpu"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("poolformer.bench.measure._TURN_S", 0.0)
    monkeypatch.setattr("poolformer.bench.measure.limits", lambda device, dtype: Limits(flops=1e11, bytes=1e10))


@pytest.fixture
def measured(capsys):
    def measured(*arguments: str) -> dict[str, dict]:
        assert main(["bench", *arguments, *SHORT, "--json"]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        return {row["candidate"]: row for row in results}

    return measured


def test_networks_in_another_layout_compute_the_same(measured):
    rows = measured("model", "poolformer_tiny", "poolformer_tiny:channels_last")
    first, second = rows.values()
    assert (first["median"], first["low"], first["high"]) == (1.0, None, None)  # of two rounds
    assert second["median"] > 0
    assert 0 < second["error"] < 2e-6
    assert first["saved_bytes"] is None
    assert first["of_limit"] > 0


def test_layer_scales_are_drawn_anew_behind_another_architecture():
    networks = [create_backbone(name, num_classes=1000) for name in ("timm/resnet10t", "poolformer_tiny")]
    candidates._share_weights(networks)
    scales = [each for name, each in networks[1].named_parameters() if "scale" in name]
    assert len(scales) == 2 * 5
    assert all(0.2 <= each.min() < each.max() <= 0.6 for each in scales)


def test_the_error_of_training_is_that_of_a_product_not_of_the_class_token():
    network = create_backbone("timm/vit_tiny_patch16_224", num_classes=1000, image_size=32)
    assert next(iter(dict(network.named_parameters()))) == "cls_token"
    limits, images = Limits(flops=1e11, bytes=1e10), torch.randn(2, 3, 32, 32)
    step = candidates._training_step(network, [], images, torch.float32, limits)
    assert step.exact.shape == step.run().shape == (192, 3, 16, 16)


def test_fp32_is_measured_without_tf32(monkeypatch, capsys):
    def settings() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    found = []
    before = settings()
    steps = bench_networks.steps_of
    monkeypatch.setattr(bench_networks, "steps_of", lambda *a, **k: found.append(settings()) or steps(*a, **k))
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    try:
        assert main(["bench", "model", "poolformer_tiny", *SHORT]) == 0
        assert found == [(False, "highest")]
        assert settings() == (True, "high")
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["model", "train"])
def test_bf16_errs_more_than_fp32(measured, subject):
    exact = measured(subject, "poolformer_tiny")["poolformer_tiny"]["error"]
    rounded = measured(subject, "poolformer_tiny", "--precision", "bf16")["poolformer_tiny"]["error"]
    assert exact < 1e-5
    assert 1e-4 < rounded < 0.1


@pytest.mark.slow
def test_training_keeps_more_in_fp32_than_in_bf16(measured):
    saved = [measured("train", "poolformer_tiny", "--precision", each)["poolformer_tiny"] for each in ("fp32", "bf16")]
    assert saved[0]["saved_bytes"] > saved[1]["saved_bytes"] > 0


@pytest.mark.slow
def test_stochastic_depth_is_no_error(measured):
    rows = measured("train", "poolformer_xs12", "poolformer_xs12:channels_last")
    assert all(row["error"] < 1e-4 for row in rows.values())


@pytest.mark.slow
def test_recomputing_keeps_a_fraction(measured):
    rows = measured("train", "poolformer_tiny", "poolformer_tiny:recompute")
    plain, again = rows.values()
    assert again["saved_bytes"] < 0.3 * plain["saved_bytes"]
    assert again["error"] < 1e-5


def test_fused_operators_compute_the_same(measured, cpp):
    rows = measured("model", "poolformer_tiny", "poolformer_tiny:channels_last+fused")
    plain, fused = rows.values()
    assert fused["error"] < 2e-6
    assert fused["of_limit"] == pytest.approx(plain["of_limit"] * fused["images_per_s"] / plain["images_per_s"])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_computes_the_same(measured, engine):
    pytest.importorskip(engine)
    row = measured("model", f"poolformer_tiny:{engine}")[f"poolformer_tiny:{engine}"]
    assert 0 < row["error"] < 2e-6
    assert row["images_per_s"] > 0


@pytest.mark.slow
def test_openvino_computes_in_bf16_or_says_that_it_cannot(measured, capsys):
    ov = pytest.importorskip("openvino")
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert main(["bench", "model", "poolformer_tiny:openvino", "--precision", "bf16", *SHORT]) == 2
        assert "openvino computes in fp32 on this CPU" in capsys.readouterr().err
        return
    errors = [measured("model", "poolformer_tiny:openvino", "--precision", each) for each in ("fp32", "bf16")]
    exact, rounded = (row["poolformer_tiny:openvino"]["error"] for row in errors)
    # Weights that were only rounded would err by half as much.
    assert exact < 2e-6
    assert rounded > 1e-3


@pytest.mark.exhaustive
def test_a_compiled_network_computes_the_same(measured):
    rows = measured("model", "poolformer_tiny", "poolformer_tiny:channels_last+compile", "poolformer_tiny:freeze")
    assert all(row["error"] < 2e-6 for row in rows.values())


def test_an_engine_that_is_not_installed_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["bench", "model", "poolformer_tiny:openvino", *SHORT]) == 2
    assert "openvino needs the extra bench: pip install 'poolformer-lightning[bench]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "poolformer_tiny:chanels_last"], "there is no 'chanels_last'. Did you mean 'channels_last'?"),
        (
            ["model", "poolformer_tiny:"],
            "there is no ''. Known: channels_last, fused, compile, freeze, max_autotune, graphs, onnx",
        ),
        (["train", "poolformer_tiny:fast"], "Known: channels_last, fused, recompute, compile, max_autotune, graphs\n"),
        (["model", "poolformr_tiny"], "Did you mean 'poolformer_tiny'"),
        (["train", "poolformer_tiny:freeze"], "frozen weights cannot be trained"),
        (["model", "poolformer_tiny:recompute"], "nothing is computed again without a backward pass"),
        (["train", "timm/resnet10t:recompute"], "they would count each batch twice"),
        (["model", "poolformer_tiny:compile+freeze"], "one of compile, freeze, max_autotune, graphs"),
        (
            ["model", "timm/resnet10t:fused", *SHORT],
            "timm/resnet10t:fused: there is no fused operator for the blocks of this network",
        ),
        (["train", "poolformer_tiny:graphs", "--device", "cpu", *SHORT], "CUDA graphs need an NVIDIA GPU"),
        (["train", "poolformer_tiny:openvino"], "openvino cannot be trained"),
        (["model", "poolformer_tiny:channels_last+onnxruntime"], "onnxruntime chooses layout and kernels itself"),
        (
            ["model", "poolformer_tiny:onnxruntime", "--precision", "bf16", *SHORT],
            "computes these networks in fp32 alone: leave it out",
        ),
        *(
            (["model", "poolformer_tiny", option, number], "--rounds and --num_threads: at least 1")
            for option, number in (("--rounds", "0"), ("--num_threads", "0"), ("--num_threads", "-1"))
        ),
        (["model", "poolformer_tiny", "--device", "gpu"], "--device gpu: cpu, cuda or cuda:N"),
        (["model", "poolformer_tiny", "--device", "cuda:99"], "--device cuda:99: there is no such device here"),
    ],
)
def test_mistakes_are_a_line(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_what_is_saved_is_in_the_table_of_training(capsys):
    assert main(["bench", "train", "poolformer_tiny", *SHORT]) == 0
    *_, header, line = capsys.readouterr().out.splitlines()
    assert header.endswith("saved MiB")
    assert float(line.split()[-1]) > 0


def test_a_table_of_few_rounds_has_no_intervals(capsys):
    for rounds, interval in (("5", ["-"]), ("6", ["1.00", "to", "1.00"])):
        assert main(["bench", "model", "poolformer_tiny", *SHORT, "--rounds", rounds]) == 0
        *_, line = capsys.readouterr().out.splitlines()
        _, _, ratio, *found, _, _ = line.split()
        assert (ratio, found) == ("1.00", interval)


def test_a_table_has_a_line_for_each_candidate(capsys):
    threads = torch.get_num_threads()
    assert main(["bench", "model", "poolformer_tiny", "timm/resnet10t", *SHORT, "--num_threads", "1"]) == 0
    torch.set_num_threads(threads)
    machine, _, header, *lines = capsys.readouterr().out.splitlines()
    assert "1 thread" in machine
    assert header.split() == ["images/s", "ratio", "95", "%", "error", "limit"]
    assert [line.split()[0] for line in lines] == ["poolformer_tiny", "timm/resnet10t"]
