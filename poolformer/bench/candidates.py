"""What `poolformer bench model` and `train` measure: a network, how it is run, and a step of it."""

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import create_backbone
from ..errors import ConfigError, OptionsError, suggestion
from ..network.fused import fuse, fusing_pays
from ..network.recomputing import recompute
from ..recipe import parameter_groups
from . import engines as bench_engines
from . import measure

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
# What can stand behind a name: how the network itself is changed, the keywords of torch.compile, other engines.
_COMPILED: dict[str, dict[str, Any]] = {
    "compile": {},
    "freeze": {"options": {"freezing": True}},
    "max_autotune": {"mode": "max-autotune"},
    "graphs": {"mode": "reduce-overhead"},
}
ENGINES = {"onnxruntime": bench_engines.onnxruntime, "openvino": bench_engines.openvino}
_WAYS = ("channels_last", "fused", "recompute", *_COMPILED, *ENGINES)


class Candidate(NamedTuple):
    """A network and how it is run."""

    name: str
    backbone: str
    ways: list[str]


class Step(NamedTuple):
    """What is measured of a candidate.

    Attributes:
        run: One step; returns what `Step.exact` is compared with.
        exact: The same in float64.
        saved: Bytes an image that are kept for the backward pass; None where that is not known.
        shortest_s: Seconds a step by the device's limits.
    """

    run: Callable[[], Tensor]
    exact: Tensor
    saved: float | None
    shortest_s: float


def parse(text: str, *, training: bool) -> Candidate:
    """Read a candidate as it is written: a backbone, and behind a colon how it is run.

    Raises:
        ConfigError: It cannot be run so.
    """
    backbone, colon, behind = text.partition(":")
    ways = behind.split("+") if colon else []
    not_here = {"freeze", *ENGINES} if training else {"recompute"}
    known = [way for way in _WAYS if way not in not_here]
    for way in ways:
        if way not in _WAYS:
            raise ConfigError(f"{text}: there is no {way!r}.{suggestion(way, known)} Known: {', '.join(known)}")
    engines = [way for way in ways if way in ENGINES]
    if not training and "recompute" in ways:
        raise ConfigError(f"{text}: nothing is computed again without a backward pass")
    if training and ("freeze" in ways or engines):
        raise ConfigError(f"{text}: {'frozen weights' if not engines else engines[0]} cannot be trained")
    if len([way for way in ways if way in _COMPILED]) > 1:
        raise ConfigError(f"{text}: one of {', '.join(_COMPILED)}")
    if engines and len(ways) > 1:
        raise ConfigError(f"{text}: {engines[0]} chooses layout and kernels itself")
    return Candidate(text, backbone, ways)


def steps_of(
    candidates: list[Candidate],
    options: argparse.Namespace,
    device: torch.device,
    limits: measure.Limits,
    *,
    training: bool,
) -> list[Step]:
    """Build what candidates are measured by, with the weights of the first one.

    Raises:
        ConfigError: One cannot be run on the device.
    """
    torch.manual_seed(0)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=device)
    networks = [_build(candidate.backbone, options.image_size).to(device).train(training) for candidate in candidates]
    _share_weights(networks)
    make = _training_step if training else _inference_step
    steps = []
    for network, candidate in zip(networks, candidates, strict=True):
        _say(f"preparing {candidate.name}")
        if "fused" in candidate.ways and not any(fuse(copy.deepcopy(network), device.type)):
            raise ConfigError(f"{candidate.name}: there is no fused operator for the blocks of this network")
        if "fused" in candidate.ways and not fusing_pays(device.type, PRECISIONS[options.precision]):
            gpu = device.type == "cuda"
            what = "Triton: pip install triton" if gpu else f"C++ that compiles, and {options.precision} products"
            raise ConfigError(f"{candidate.name}: fused operators need {what}")
        if "graphs" in candidate.ways and device.type != "cuda":
            raise ConfigError(f"{candidate.name}: CUDA graphs need an NVIDIA GPU")
        steps.append(make(network, candidate.ways, images, PRECISIONS[options.precision], limits))
    _say(f"measuring in {options.rounds} rounds")
    return steps


def _say(what: str) -> None:
    """Tell who waits at a terminal what takes so long."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr)


def _build(name: str, image_size: int) -> nn.Module:
    """Build a network without stochastic depth, whose draws would look like errors."""
    try:
        return create_backbone(name, num_classes=1000, image_size=image_size, drop_path_rate=0.0)
    except OptionsError:  # it knows none
        return create_backbone(name, num_classes=1000, image_size=image_size)


def _share_weights(networks: list[nn.Module]) -> None:
    """Draw layer scales anew, which hide every error as they start, and give the first network's weights to all."""
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if "scale" in name:
                    parameter.uniform_(0.2, 0.6)
        source = networks[0].state_dict()
        for network in networks[1:]:
            for name, tensor in network.state_dict().items():
                if name in source and source[name].shape == tensor.shape:
                    tensor.copy_(source[name])


def _run_as(network: nn.Module, ways: list[str], images: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the network as it is to be called, and images in its layout."""
    if "fused" in ways:
        fuse(network, images.device.type)
    if "recompute" in ways:
        recompute(network)
    if "channels_last" in ways:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    for way in ways:
        if way in _COMPILED:
            return torch.compile(network, **_COMPILED[way]), images
    return network, images


def _inference_step(
    network: nn.Module, ways: list[str], images: Tensor, dtype: torch.dtype, limits: measure.Limits
) -> Step:
    with torch.no_grad():
        exact = network.double()(images.double())
    engine = ENGINES[ways[0]](network.float(), images, dtype) if ways and ways[0] in ENGINES else None
    network, images = network.to(dtype), images.to(dtype)
    shortest_s = measure.shortest_s(network, images, limits)
    if engine:
        return Step(engine, exact, None, shortest_s)
    called, images = _run_as(network, ways, images)

    def run() -> Tensor:
        with torch.no_grad():
            return called(images)

    return Step(run, exact, None, shortest_s)


def _training_step(
    network: nn.Module, ways: list[str], images: Tensor, dtype: torch.dtype, limits: measure.Limits
) -> Step:
    targets = torch.rand(len(images), 1000, device=images.device).softmax(1)
    # Not the first parameter, which can be a class token.
    first = next(layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))

    def loss_of(called: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        autocast = torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32 == images.dtype)
        with autocast:
            return F.cross_entropy(called(images), targets.to(images.dtype))

    network.double()
    exact = torch.autograd.grad(loss_of(network, images.double()), first)[0].clone()
    network.float()
    shortest_s = 3 * measure.shortest_s(network, images, limits)
    called, images = _run_as(network, ways, images)
    compiled = called is not network
    saved = None if compiled else measure.saved_bytes(partial(loss_of, called, images), network) / len(images)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.05), lr=0.0)  # the error is that of the same weights

    def run() -> Tensor:
        optimizer.zero_grad()
        loss_of(called, images).backward()
        optimizer.step()
        assert first.grad is not None
        return first.grad

    return Step(run, exact, saved, shortest_s)
