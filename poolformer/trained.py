"""A trained classifier: loaded from its checkpoint, and asked what images show.

Shapes: B images, S their side in pixels as the network sees them, K classes.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .checkpoint.published import is_published, published
from .checkpoint.record import Saved, check_imports
from .claims import head_classes
from .classifier import ImageClassifier
from .data.channels import as_taken
from .data.class_names import IMAGENET, imagenet_names, in_words
from .data.pixels.jpeg import to_words
from .data.pixels.transforms import EvalTransform
from .data.sources import FileSource
from .errors import CheckpointError, DataError, PoolformerError, describe
from .files.shell import quoted
from .rebuilding import rebuild
from .run.predictions import checked_top_k

CROP_PCT = 0.9
"""The paper's, for a run whose data has no such option."""

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""An image: its file, Pillow's, or its pixels, uint8 (H, W, 3)."""

_BATCH = 64


class Guess(NamedTuple):
    """A class that an image may show."""

    name: str
    """Of the class; its number where the checkpoint has no names."""
    probability: float

    @property
    def words(self) -> str:
        """What the class is: WordNet's words where it is called by a synset, as ImageNet's are, else its name."""
        return in_words(self.name)


def load_classifier(path: str | Path, *, trusted: Collection[str] = (), backbone: str | None = None) -> ImageClassifier:
    """Rebuild the classifier of a run from its checkpoint, or build that of published weights: on the CPU, to evaluate.

    Args:
        path: A checkpoint that a run wrote; or published weights, as `poolformer.checkpoint.published` knows them: a
            file, ``timm/<model>``, ``hf-hub:user/repo``, or the name of a backbone, whose weights are downloaded.
        trusted: Mixers or backbones outside the registry, ``module:name``, that the checkpoint may have
            imported; it is data and cannot choose that itself.
        backbone: What published weights are of, where neither they nor their name say it.

    Raises:
        CheckpointError: It cannot be read, or its weights do not fit what is installed here.
        RegistryError: Its backbone or mixer is not available.
    """
    if is_published(str(path)):
        return _of_published(str(path), trusted=trusted, backbone=backbone)
    classifier, saved = rebuild(ImageClassifier, path, trusted=trusted)
    classifier.load_state_dict(saved["state_dict"])
    classifier.on_load_checkpoint(saved)
    return classifier.eval()


def _of_published(word: str, *, trusted: Collection[str], backbone: str | None) -> ImageClassifier:
    found = published(word, backbone)
    check_imports(
        found.model,
        path=word,
        vouched=trusted,
        remedy=lambda foreign: " ".join(f"--trust {quoted(name)}" for name in foreign),
    )
    options = {**found.model, "image_size": found.image_size}
    classes = head_classes(found.source, options) or len(found.class_names or ()) or IMAGENET
    try:
        classifier = ImageClassifier(**options, num_classes=classes, pretrained=found.source)
    except (TypeError, ValueError) as error:
        if isinstance(error, PoolformerError):
            raise
        raise CheckpointError(f"'{word}': its record does not make a model: {describe(error)[:200]}") from error
    if classifier.backbone.head_classes is None:
        raise CheckpointError(f"'{word}' has no head: its weights make no classes")
    classifier.loaded = Saved(crop_pct=found.crop_pct, orient=found.orient)
    classifier.class_names = found.class_names or classifier.class_names
    if classifier.class_names is None:
        classifier.class_names = imagenet_names([], classifier.hparams.num_classes)
    return classifier.eval()


@torch.inference_mode()
def predict(
    classifier: ImageClassifier, images: Picture | Sequence[Picture], *, top_k: int | None = None
) -> list[list[Guess]]:
    """Say what images show: for each its likeliest classes, likeliest first.

    The images are resized and cropped as the run evaluated, so these are the numbers of ``poolformer predict``.

    Args:
        classifier: What `load_classifier` returned, on any device.
        images: One or several.
        top_k: Classes an image, from 1 to K; None for the likeliest 5, or all of fewer.

    Raises:
        DataError: A file is no sound image, or an array is none of uint8 (H, W, 3).
        ConfigError: There are not so many classes.

    Example:
        >>> [[likeliest]] = predict(ImageClassifier("poolformer_tiny", 3), np.zeros((9, 9, 3), np.uint8), top_k=1)
        >>> likeliest.name in ("0", "1", "2"), 1 / 3 <= likeliest.probability <= 1
        (True, True)
    """
    top_k = checked_top_k(top_k, classifier.hparams.num_classes)
    several = [images] if isinstance(images, str | os.PathLike | Image.Image | np.ndarray) else images
    was_training = classifier.training
    classifier.eval()
    found = []
    for first in range(0, len(several), _BATCH):
        pixels = torch.stack([evaluation_pixels(image, classifier) for image in several[first : first + _BATCH]])
        top = classifier(normalised(classifier, pixels)).float().softmax(1).topk(top_k)
        for values, labels in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            found.append(
                [Guess(classifier.class_name(label), value) for value, label in zip(values, labels, strict=True)]
            )
    classifier.train(was_training)
    return found


def evaluation_pixels(image: Picture, classifier: ImageClassifier, crop_pct: float | None = None) -> Tensor:
    """Return an image as its run evaluated, uint8 (3, S, S).

    Args:
        image: The image.
        classifier: Says the side, the crop, and whether images are turned as EXIF says.
        crop_pct: Share of the resized short side that is seen; None for the run's.

    Raises:
        DataError: It is no sound image.
    """
    side = classifier.hparams.image_size
    transform = EvalTransform(image_size=side, crop_pct=crop_pct or crop_pct_of(classifier))
    out = np.empty((3, side, side), np.uint8)
    if isinstance(image, Image.Image | np.ndarray):
        transform(_words(image, orient=classifier.loaded.orient), out)
    else:
        if not os.path.isfile(image):
            raise DataError(f"no image at '{os.fspath(image)}'")
        FileSource([os.fspath(image)], [0], orient=classifier.loaded.orient).load(0, transform, 0, out)
    return torch.from_numpy(out)


def normalised(classifier: ImageClassifier, pixels: Tensor) -> Tensor:
    """Return images uint8 (B, 3, H, W) as a classifier takes them (B, I, H, W), on its device.

    Raises:
        ConfigError: It takes images of another number of channels, and not of one, for which they become grey.
    """
    return (as_taken(pixels.to(classifier.device), len(classifier.mean)) - classifier.mean) / classifier.std


def feeding(classifier: ImageClassifier) -> dict[str, Any]:
    """Return how to make of an image file what a network takes, in plain values, for those without this package.

    Turn the image as EXIF says where ``orient`` is true; convert it to RGB; resize its short side to ``resize`` pixels
    by ``interpolation``, antialiased; take ``image_size`` pixels square from the middle; convert to ``mode``, Pillow's
    RGB or L, or None for other numbers of channels, which image files do not have; divide by 255, take ``mean`` off and
    divide by ``std``, each by channel. ``crop_pct`` is timm's word for image_size / resize.
    """
    options = classifier.hparams
    transform = EvalTransform(image_size=options.image_size, crop_pct=crop_pct_of(classifier))
    return {
        "image_size": options.image_size,
        "crop_pct": crop_pct_of(classifier),
        "resize": transform.short,
        "interpolation": "bicubic",
        "orient": classifier.loaded.orient,
        "mode": {1: "L", 3: "RGB"}.get(len(options.mean)),
        "mean": list(options.mean),
        "std": list(options.std),
    }


def crop_pct_of(classifier: ImageClassifier) -> float:
    """Return the share of the resized short side that a run's evaluation sees, in (0, 1]."""
    return classifier.loaded.crop_pct or CROP_PCT


def _words(image: Image.Image | np.ndarray, *, orient: bool) -> np.ndarray:
    """Return pixels as `EvalTransform` takes them, uint32 (H, W)."""
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise DataError(f"the image has Pillow's mode {image.mode}, in which no number is white: give 8 bits")
        turned = ImageOps.exif_transpose(image) if orient else image
        return to_words(np.asarray(turned.convert("RGB")))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"an image is {image.dtype} {image.shape}; expected is uint8 (H, W, 3), levels from 0 to 255")
    return to_words(image)
