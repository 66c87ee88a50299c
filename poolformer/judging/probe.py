"""Train a small network with one token mixer in one procedural task: a cell of the profile of what a mixer can mix.

The network is the paper's block (`network.block`) over maps of symbols, without downsampling, the same for every
mixer; its sizes are `ProbeSettings`. Symbols are looked up; the head takes the mean over tokens, as the paper's does,
or over those that the task asks of; in a dense task it takes each token for itself. What has to come from other places
is brought there by the mixer or not at all. So the norm is one of each token, where the paper's takes its statistics
over all of them. The maps depend on the task, the side and the seed alone, so that rows are paired by seed.
Shapes: B batch, C channels, S symbols a side, K classes.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BrokenPluginError, OptionsError, PoolformerError, describe, is_end, suggestion
from ..network.block import Block, BlockOptions
from ..network.complexity import count
from ..network.head import Head
from ..network.layers import ACTIVATIONS, choose, make_norm
from ..network.mixer_spec import Mixer, MixerSpec, resolve
from .tasks import NO_ANSWER, SYMBOLS, TASKS

_DRAWN_AT_ONCE = 32  # batches: one call of NumPy for many maps
_TEST, _TRAIN = 1, 0  # streams of maps, which share nothing


@dataclass(frozen=True)
class ProbeSettings:
    """How a cell is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Maps a step.
        dim: Channels C.
        depth: Blocks.
        mlp_ratio: Hidden channels of the channel MLP, as a multiple of C.
        lr: Peak learning rate of AdamW; it rises for a tenth of the steps, then falls as a cosine to 0.
        beta2: Of AdamW. PyTorch's .999 forgets nothing in so few steps: with it attention finds out late, or not with
            every seed, what stands in two places at once.
        weight_decay: Of matrices.
        layer_scale_init: Start of the layer scales; 0 for a network without. The paper's 1e-5 is for 300 epochs.
        clip: Largest norm of the gradients.
        test_maps: Fresh maps that the score is of.
        evaluations: Points of the learning curve.
    """

    steps: int = 240
    batch_size: int = 32
    dim: int = 32
    depth: int = 2
    mlp_ratio: float = 2.0
    lr: float = 1e-2
    beta2: float = 0.95
    weight_decay: float = 0.05
    layer_scale_init: float = 0.0
    clip: float = 1.0
    test_maps: int = 1024
    evaluations: int = 5


class ProbeResult(NamedTuple):
    """What came of a cell.

    Attributes:
        score: Share of the test maps, of a dense task of their places, that are answered right at the end.
        curve: (maps trained on, seconds of training, score) on the way; the last is the end.
        train_s: Wall seconds of the steps, without drawing maps and evaluating.
        parameters: That are trained.
        macs: Multiply-accumulates of one map.
        images_per_s: Maps a second in training, without drawing and evaluating.
    """

    score: float
    curve: tuple[tuple[int, float, float], ...]
    train_s: float
    parameters: int
    macs: int
    images_per_s: float


class ProbeNetwork(nn.Module):
    """Maps of symbols (B, S, S) to logits (B, K), of a dense task (B, K, S, S).

    A look-up, blocks of one width and resolution, and the paper's head.

    Args:
        mixers: The mixers of the four stages; blocks take them in order, as many from each as can be equal.
        side: Symbols S a side.
        classes: Classes K.
        settings: Sizes.
        asked_of: Symbols whose tokens the head takes the mean of; none for all tokens.
        dense: Whether the head takes each token for itself.
    """

    def __init__(
        self,
        mixers: list[Mixer],
        side: int,
        classes: int,
        settings: ProbeSettings,
        asked_of: tuple[int, ...] = (),
        *,
        dense: bool = False,
    ):
        super().__init__()
        self.dense = dense
        options = BlockOptions(
            norm=partial(make_norm, kind="layer", eps=1e-5, bias=True),
            act=choose("act", "gelu", ACTIVATIONS),
            mlp_ratio=settings.mlp_ratio,
            mlp_bias=True,
            layer_scale_init=settings.layer_scale_init or None,
            residual_scale_init=None,
            residual=True,
            channel_mlp=True,
        )
        # The head first: mixers take different numbers of draws, and it shall start alike in every row.
        self.head = Head(settings.dim, classes, options.norm)
        self.embedding = nn.Embedding(SYMBOLS, settings.dim)
        chosen = [mixers[place * len(mixers) // settings.depth] for place in range(settings.depth)]
        built = (mixer.build(settings.dim, resolution=(side, side)) for mixer in chosen)
        self.blocks = nn.Sequential(*[Block(settings.dim, mixer, options, 0.0) for mixer in built])
        asked = torch.tensor([float(symbol in asked_of or not asked_of) for symbol in range(SYMBOLS)])
        self.asked: Tensor
        self.register_buffer("asked", asked, persistent=False)

    def forward(self, symbols: Tensor) -> Tensor:
        # (B, S, S, C) seen as (B, C, S, S) is channels last without a copy.
        tokens = self.head.norm(self.blocks(self.embedding(symbols).permute(0, 3, 1, 2)))
        if self.dense:
            places: Tensor = self.head.fc(tokens.permute(0, 2, 3, 1))
            return places.permute(0, 3, 1, 2)
        weights = self.asked[symbols.long()]
        mean = (tokens * weights[:, None]).sum((2, 3)) / weights.sum((1, 2)).clamp(min=1)[:, None]
        logits: Tensor = self.head.fc(mean)
        return logits


class _OfImages(nn.Module):
    """The network as `complexity.count` calls it, with images."""

    def __init__(self, network: ProbeNetwork):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images[:, 0].long())
        return logits


def run_cell(mixer: MixerSpec, task: str, side: int, seed: int, settings: ProbeSettings | None = None) -> ProbeResult:
    """Train a network with this mixer in a task, with one thread, and return its score on fresh maps.

    The same on one machine each time.

    Args:
        mixer: As ``--model.mixer`` takes it.
        task: Name of a task.
        side: Symbols a side.
        seed: Of the maps, with the task and the side alone, and of the weights.
        settings: How it is trained.

    Raises:
        PoolformerError: The mixer is not available or cannot mix this side, the loss is not finite, or there is no
            such task.
    """
    settings = settings or ProbeSettings()
    if task not in TASKS:
        raise OptionsError(f"there is no task '{task}'.{suggestion(task, list(TASKS))} Tasks: {', '.join(TASKS)}.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            asked = TASKS[task]
            network = ProbeNetwork(resolve(mixer), side, asked.classes, settings, asked.asked_of, dense=asked.dense)
            return _train(network, task, side, seed, settings)
    finally:
        torch.set_num_threads(threads)


def _train(network: ProbeNetwork, task: str, side: int, seed: int, settings: ProbeSettings) -> ProbeResult:
    size = count(_OfImages(network), image_size=side)
    test = _tensors(*TASKS[task].draw(_generator(task, side, seed, _TEST), settings.test_maps, side))
    optimizer = _optimizer(network, settings)
    curve, train_s = [], 0.0
    due = {round(settings.steps * (point + 1) / settings.evaluations) for point in range(settings.evaluations)}
    for step, (symbols, labels) in enumerate(_batches(task, side, seed, settings), 1):
        start = time.perf_counter()
        _step(network, optimizer, symbols, labels, step, settings)
        train_s += time.perf_counter() - start
        if step in due:
            curve.append((step * settings.batch_size, train_s, _score(network, *test)))
    images_per_s = settings.steps * settings.batch_size / train_s
    return ProbeResult(curve[-1][2], tuple(curve), train_s, size.parameters, size.macs, images_per_s)


def _step(
    network: ProbeNetwork,
    optimizer: torch.optim.Optimizer,
    symbols: Tensor,
    labels: Tensor,
    step: int,
    settings: ProbeSettings,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * _schedule(step, settings.steps)
    loss = F.cross_entropy(network(symbols), labels)
    if not loss.isfinite():
        raise PoolformerError(f"the loss is {loss.item()} at step {step}: the network with this mixer does not train")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    optimizer.step()


def _schedule(step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 1, as a factor: a tenth of warm-up, and a cosine to 0."""
    return min(1.0, step / max(1, steps // 10)) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def _optimizer(network: nn.Module, settings: ProbeSettings) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2), fused=True)


def _generator(task: str, side: int, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([*task.encode(), side, seed, stream])


def _batches(task: str, side: int, seed: int, settings: ProbeSettings) -> Iterator[tuple[Tensor, Tensor]]:
    generator, draw = _generator(task, side, seed, _TRAIN), TASKS[task].draw
    for start in range(0, settings.steps, _DRAWN_AT_ONCE):
        symbols, labels = _tensors(*draw(generator, _DRAWN_AT_ONCE * settings.batch_size, side))
        size = settings.batch_size
        for place in range(min(_DRAWN_AT_ONCE, settings.steps - start)):
            yield symbols[place * size : (place + 1) * size], labels[place * size : (place + 1) * size]


def _tensors(symbols: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(symbols).int(), torch.from_numpy(labels)


@torch.no_grad()
def _score(network: nn.Module, symbols: Tensor, labels: Tensor) -> float:
    network.eval()
    found = torch.cat([network(part).argmax(1) for part in symbols.split(256)])
    network.train()
    return (found == labels)[labels != NO_ANSWER].double().mean().item()


def check_mixer_works(
    mixer: MixerSpec, settings: ProbeSettings | None = None, sides: Iterable[int] | None = None
) -> dict[int, str]:
    """Build a mixer at each side, take one step and evaluate once, so that a first failure is told in seconds.

    Args:
        mixer: As ``--model.mixer`` takes it.
        settings: Of the network.
        sides: Symbols a side; those of all tasks by default.

    Returns:
        Sides at which it does not work, each with why; at the others it does.

    Raises:
        PoolformerError: It works at no side: a wrong shape or type in training or evaluation, an exception, logits or
            gradients that are not finite, parameters without a gradient.
    """
    settings, mixers = settings or ProbeSettings(), resolve(mixer)
    sides = sorted(set(sides or (side for task in TASKS.values() for side in task.sides)))
    failures: dict[int, PoolformerError] = {}
    with torch.random.fork_rng(devices=[]):
        for side in sides:
            try:
                _try_step(mixers, side, settings)
            except PoolformerError as error:
                failures[side] = error
    if len(failures) == len(sides):
        raise failures[sides[0]]
    return {side: str(error) for side, error in failures.items()}


def _try_step(mixers: list[Mixer], side: int, settings: ProbeSettings) -> None:
    torch.manual_seed(0)
    network = ProbeNetwork(mixers, side, 2, settings)
    symbols, labels = torch.randint(0, SYMBOLS, (4, side, side)), torch.tensor([0, 1, 0, 1])
    label = mixers[0].label
    for block in network.blocks:
        block.get_submodule("token_mixer").register_forward_hook(partial(_check_kept, label))
    try:
        logits = network(symbols)
        F.cross_entropy(logits, labels).backward()
        with torch.no_grad():
            network.eval()(symbols)
    except PoolformerError:
        raise
    except (Exception, SystemExit) as error:  # whatever a mixer's code raises
        if is_end(error):
            raise
        raise BrokenPluginError(f"{label} fails on {side} x {side} tokens: {describe(error)}") from error
    if not logits.isfinite().all():
        raise BrokenPluginError(f"{label} makes values that are not finite on {side} x {side} tokens")
    for name, parameter in network.blocks.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise BrokenPluginError(
                f"{label}: no gradient reaches '{name}'; detach nothing, or freeze what is not trained"
            )
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise BrokenPluginError(f"{label}: the gradient of '{name}' is not finite")


def _check_kept(label: str, mixer: nn.Module, given: tuple[Tensor], made: Any) -> None:
    """Refuse another shape or type, which the block's sum may take without a word."""
    before = tuple(given[0].shape), given[0].dtype
    now = (tuple(made.shape), made.dtype) if isinstance(made, Tensor) else f"a {type(made).__name__}"
    if before != now:
        mode = "training" if mixer.training else "evaluation"
        raise BrokenPluginError(f"{label} must keep shape and dtype, but in {mode} made {now} of {before}")
