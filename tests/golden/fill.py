"""Weights and images of the golden file, from formulas alone: no download and no random generator.

Every value is a cosine of a fixed integer sequence, in float64, scaled by the kind of parameter so
that the network is well conditioned. Layer scales lie in 0.25 to 0.75: at the paper's 1e-5 they would
hide the token mixers.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

PRIME = 1_000_003

# Our names are timm's; the weights' values follow from the names of sail-sg/poolformer.
_OFFICIAL_NAMES = (
    (r"^stem\.conv\.", lambda match: "patch_embed.proj."),
    (r"\.layer_scale([12])\.scale$", lambda match: f".layer_scale_{match[1]}"),
    (r"^head\.norm\.", lambda match: "norm."),
    (r"^head\.fc\.", lambda match: "head."),
)


def official_place(stage: int, part: str, *, embedded_stage: int | None = None) -> int:
    """Return the place of a stage's part in the authors' ``network``: stages and downsamplings in turn.

    A position embedding is an entry of its own, before the blocks of its stage, and moves what follows.

    Args:
        stage: 0 to 3.
        part: ``downsample``, ``pos_embed`` or ``blocks``.
        embedded_stage: The stage that has a position embedding.
    """
    place = 2 * stage - 1 if part == "downsample" else 2 * stage
    after = embedded_stage is not None and (stage > embedded_stage or (stage == embedded_stage and part == "blocks"))
    return place + 1 if after else place


def official_name(name: str, *, embedded_stage: int | None = None) -> str:
    """Translate one of our parameter names into that of sail-sg/poolformer.

    Example:
        >>> official_name("stages.2.blocks.0.layer_scale1.scale")
        'network.4.0.layer_scale_1'
    """
    if match := re.match(r"stages\.(\d)\.(downsample|pos_embed|blocks)", name):
        place = official_place(int(match[1]), match[2], embedded_stage=embedded_stage)
        rest = {"downsample": name[match.end() :].replace(".conv.", ".proj."), "pos_embed": ".pos_embed"}
        name = f"network.{place}{rest.get(match[2], name[match.end() :])}"
    for ours, theirs in _OFFICIAL_NAMES:
        name = re.sub(ours, theirs, name)
    return name


def fill_model(model: nn.Module) -> dict[str, Tensor]:
    """Give every parameter of a network of ours its golden value, in float64, also on the meta device.

    Returns:
        The values by official name.
    """
    shapes = model.state_dict()
    embedded = next((int(name.split(".")[1]) for name in shapes if name.endswith(".pos_embed")), None)
    ours = {official_name(name, embedded_stage=embedded): name for name in shapes}
    values = fill_state_dict({theirs: shapes[name] for theirs, name in ours.items()})
    model.load_state_dict({ours[theirs]: value for theirs, value in values.items()}, assign=True)
    return values


def fill_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the golden value of every parameter.

    Args:
        state_dict: The whole model under its official names; only the shapes are read. A value depends
            on the place of its name among all names, sorted, so none may be left out.
    """
    return {name: _value(name, state_dict[name].shape, index) for index, name in enumerate(sorted(state_dict))}


def _value(name: str, shape: torch.Size, index: int) -> Tensor:
    u = cosines(math.prod(shape), index).reshape(shape)
    if "layer_scale" in name:
        return 0.5 + 0.25 * u
    if name.endswith(".bias"):
        return 0.1 * u
    if name.split(".")[-2].startswith("norm"):
        return 1 + 0.2 * u
    if name.endswith(".pos_embed"):
        return 0.5 * u
    fan_in = u.numel() // shape[0]
    return math.sqrt(2 / fan_in) * u


def cosines(length: int, index: int) -> Tensor:
    """Return the sequence of the parameter whose name is number ``index``."""
    # k^3 + (i + 1) k^2 + 104729 (i + 1) modulo the prime; reduced on the way to stay inside int64.
    k = torch.arange(length) % PRIME
    square = k * k % PRIME
    t = (square * k + (index + 1) * square + 104_729 * (index + 1)) % PRIME
    return torch.cos(2 * math.pi * t.double() / PRIME)


def images(batch_size: int, height: int, width: int) -> Tensor:
    """Return the golden images (B, 3, H, W) in float64; they go into the network as they are."""
    sizes = (batch_size, 3, height, width)
    n, c, h, w = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in sizes), indexing="ij")
    waves = torch.sin(0.05 * (c + 1) * h + 0.5 * n) + torch.cos(0.07 * (c + 1) * w + 0.3 * c)
    return waves + 0.5 * torch.sin(0.013 * h * w + c + n)
