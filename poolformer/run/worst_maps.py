"""Where a network looks in the images that it gets most wrong, by Grad-CAM; the extra cam is needed."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor

from ..errors import describe
from ..network.activation_maps import activation_maps, last_map_layer, overlaid
from . import drawing
from .lightning_internals import averages_of
from .other_weights import backbone_of


class Maps:
    """Computes maps of activation in a copy of the network; one that cannot be computed is warned of, and ends nothing.

    Attributes:
        are_there: Whether maps can be computed; not after a failure, which the next ones would have as well.
    """

    def __init__(self) -> None:
        self.are_there = importlib.util.find_spec("pytorch_grad_cam") is not None

    def of(
        self, trainer: pl.Trainer, module: pl.LightningModule, images: Tensor, labels: Sequence[Sequence[int]]
    ) -> list[np.ndarray] | None:
        """Return maps of images for one class of each, and for another.

        Args:
            trainer: Of the run.
            module: The classifier, whose averages are looked at where there are any: they are what is validated.
            images: Normalised (B, C, H, W).
            labels: Lists of B classes.

        Returns:
            Of each list float32 (B, H, W) from 0 to 1; None where the network has no map, or there is no extra cam.
        """
        if not self.are_there:
            return None
        try:
            # Lightning's callback has changed the averages and the weights of training back at the end of the epoch.
            network = backbone_of(averages_of(trainer) or module, module.device)
            with torch.inference_mode(False), torch.enable_grad():
                network = network.float()  # NumPy has no bfloat16
                images = images.detach().clone().float()
                layer = last_map_layer(network, images[:1])
                self.are_there = layer is not None
                return None if layer is None else [activation_maps(network, images, each, layer) for each in labels]
        except Exception as error:  # of a network of anybody's, or of its memory
            self.are_there = False
            rank_zero_warn(f"Grad-CAM cannot be computed ({describe(error)}), so TensorBoard has no val/cam")
            return None


def sheet(
    pixels: Any, labels: Sequence[int], said: Sequence[int], maps: Sequence[np.ndarray], *, names: dict[int, str]
) -> Image.Image:
    """Draw images with the map for what the network says of them, and beside it the map for what they are.

    Args:
        pixels: uint8 (N, H, W, 3), of which there are maps of the first ones.
        labels: Of the images.
        said: The likeliest class of each.
        maps: For what is said and for the label, (B, H, W) each.
        names: Of the classes.
    """
    cells, captions, colours = [], [], []
    for image, label, guess, of_guess, of_label in zip(pixels, labels, said, *maps, strict=False):
        cells += [overlaid(image, of_guess), overlaid(image, of_label)]
        captions += [(f"says {names[guess]}",), (f"is {names[label]}",)]
        colours += [drawing.GOOD if label == guess else drawing.BAD, drawing.NEUTRAL]
    return drawing.sheet(np.stack(cells), captions, colours)
