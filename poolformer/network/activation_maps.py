"""Where a network looks: Grad-CAM (arXiv 1610.02391), for backbones of every layout.

Shapes: B images, C channels, H and W their sides in pixels, K classes, N tokens.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


def activation_maps(backbone: nn.Module, images: Tensor, labels: Sequence[int], layer: nn.Module) -> "np.ndarray":
    """Find where classes are seen in images; it needs the extra cam.

    Gradients are computed and left in the backbone's parameters.

    Args:
        backbone: From normalised images (B, C, H, W) to logits (B, K), in evaluation mode.
        images: Normalised.
        labels: The class to look for in each.
        layer: Module of the backbone whose output is looked at.

    Returns:
        Float32 (B, H, W), from 0 to 1 in each image.

    Raises:
        ConfigError: The layer's output is no map.
        ImportError: The extra cam is not installed.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = images.detach().clone().requires_grad_()  # so that frozen layers have gradients, too
    with GradCAM(backbone, [layer], reshape_transform=partial(_as_map, **_layout(backbone))) as cam:
        found: np.ndarray = cam(images, [ClassifierOutputTarget(label) for label in labels])
    return found


def overlaid(pixels: "np.ndarray", mask: "np.ndarray") -> "np.ndarray":
    """Lay a map over an image: uint8 (H, W, 3) and a mask (H, W) from 0 to 1, to uint8 (H, W, 3)."""
    from pytorch_grad_cam.utils.image import show_cam_on_image

    shown: np.ndarray = show_cam_on_image(pixels / 255, mask, use_rgb=True)
    return shown


def map_layer(backbone: nn.Module, images: Tensor, name: str | None = None) -> nn.Module:
    """Return the module whose output is a map of the image: the one of a name, or that of the last stage.

    Raises:
        ConfigError: There is none of that name, it is never called, or its output is no map of the image.
    """
    layer = _named(backbone, name)
    seen = _outputs(backbone, [layer], images)
    if layer not in seen:
        raise ConfigError(f"--layer {name}: it is a list of layers that is never called; name one of them")
    if _aspect(_as_map(seen[layer], **_layout(backbone))) != _aspect(images):
        raise ConfigError(f"--layer {name}: its output {tuple(seen[layer].shape)} is no map of the image: pass another")
    return layer


def last_map_layer(backbone: nn.Module, images: Tensor) -> nn.Module | None:
    """Return the last stage whose output is a map of more than one token; None where there is none."""
    try:
        names = [stage["module"] for stage in reversed(list(getattr(backbone, "feature_info", [])))]
        layers = [_named(backbone, None), *(_named(backbone, name) for name in names)]
    except ConfigError:
        return None
    seen = _outputs(backbone, layers, images)
    for layer in layers:
        try:
            if layer in seen and _aspect(_as_map(seen[layer], **_layout(backbone))) == _aspect(images):
                return layer
        except ConfigError:
            continue
    return None


@torch.no_grad()
def _outputs(backbone: nn.Module, layers: Sequence[nn.Module], images: Tensor) -> dict[nn.Module, Tensor]:
    found: dict[nn.Module, Tensor] = {}
    hooks = [each.register_forward_hook(lambda module, _, output: found.update({module: output})) for each in layers]
    backbone(images)
    for hook in hooks:
        hook.remove()
    return found


def _layout(backbone: nn.Module) -> dict[str, Any]:
    return {
        "num_features": getattr(backbone, "num_features", None),
        "num_prefix_tokens": getattr(backbone, "num_prefix_tokens", 0),
    }


def _aspect(x: Tensor) -> float:
    """Height / width, to the odd token that a padding adds."""
    return round(x.shape[2] / x.shape[3], 1)


def _named(backbone: nn.Module, name: str | None) -> nn.Module:
    modules: dict[str | None, nn.Module] = {**dict(backbone.named_modules())}
    blocks: Any = getattr(backbone, "blocks", None)
    if name is None and hasattr(blocks, "__len__") and hasattr(blocks[-1], "norm1"):
        norm: nn.Module = blocks[-1].norm1  # a ViT: behind its last attention only the class token counts
        return norm
    if name is None:
        stages: Any = getattr(backbone, "feature_info", None)
        name = stages[-1]["module"] if stages else None
    if name not in modules:
        near = [each for each in modules if each and each.count(".") < 2]
        raise ConfigError(
            f"which layer? {f'there is no {name!r}; ' if name else ''}pass --layer with one of "
            f"{', '.join(near[:12])} ..."
        )
    return modules[name]


def _as_map(output: Tensor, *, num_features: int | None, num_prefix_tokens: int) -> Tensor:
    """Turn a layer's output to (B, C, H, W): a map of either layout, or tokens (B, N, C)."""
    if output.ndim == 3:
        side = math.isqrt(output.shape[1] - num_prefix_tokens)
        if side**2 + num_prefix_tokens == output.shape[1]:
            output = output[:, num_prefix_tokens:].transpose(1, 2).unflatten(2, (side, side))
    elif output.ndim == 4 and output.shape[3] == num_features != output.shape[1]:
        output = output.movedim(3, 1)
    if output.ndim != 4:
        raise ConfigError(f"the layer's output {tuple(output.shape)} is no map: pass another --layer")
    if output.shape[2:] == (1, 1):
        raise ConfigError(
            "the layer's map has one token, which is everywhere: pass an earlier one, as --layer stages.1"
        )
    return output
