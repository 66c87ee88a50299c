"""`poolformer cam`."""

import argparse
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .. import first_word
from ..errors import ConfigError
from ..files.atomic_write import replacing
from ..registry import install
from .arguments import CommandParser, add_checkpoint, checkpoint_path, local_path, share

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..classifier import ImageClassifier


def main(argv: list[str]) -> int:
    """Show where trained networks look: Grad-CAM pictures (arXiv 1610.02391), as in the paper's figure 4.

    Writes one picture with a row for each IMAGE: the image as the network sees it, then the map of CKPT and of each
    --beside, for the class that each finds likeliest, or for --class. It needs pip install 'poolformer-lightning[cam]'.

      poolformer cam runs/s12/checkpoints/best.ckpt dog.jpg cat.jpg
      poolformer cam runs/s12/checkpoints/best.ckpt dog.jpg --beside runs/deit/checkpoints/best.ckpt --class terrier
    """
    options = _parser().parse_args(argv)
    first_word.say(f"cam {options.checkpoint}", "PyTorch and Lightning", "lightning")
    try:
        import matplotlib.pyplot as plt
        import pytorch_grad_cam  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"poolformer cam needs the extra cam: {install('cam')} ({error})") from error
    from ..data.class_names import in_words
    from ..run.places import Places
    from ..trained import evaluation_pixels, load_classifier

    paths = [options.checkpoint, *options.beside]
    with Places() as places:
        classifiers = [
            load_classifier(places.file(path), trusted=options.trust, backbone=None if number else options.backbone)
            for number, path in enumerate(paths)
        ]
    plt.switch_backend("agg")
    _check_output(options, plt.gcf().canvas.get_supported_filetypes())
    figure, axes = plt.subplots(
        len(options.image),
        1 + len(paths),
        figsize=(3 * (1 + len(paths)), 3.2 * len(options.image)),
        squeeze=False,
        layout="constrained",
    )
    for row, name in zip(axes, options.image, strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, path, classifier in zip(row[1:], paths, classifiers, strict=True):
            pixels = evaluation_pixels(name, classifier, options.crop_pct)
            label, probability, heat = class_activation_map(
                classifier, pixels, label=_label(classifier, options.label), layer=options.layer
            )
            axis.imshow(heat)
            short = in_words(classifier.class_name(label)).partition(",")[0]
            axis.set_title(f"{_run_name(path)}\n{short} {probability:.0%}", fontsize=8)
        pixels = evaluation_pixels(name, classifiers[0], options.crop_pct)
        row[0].imshow(pixels.permute(1, 2, 0).numpy())
        row[0].set_title(Path(name).name, fontsize=8)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as unfinished:
        figure.savefig(unfinished, dpi=options.dpi, format=Path(options.out).suffix[1:])
    print(options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer cam", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_checkpoint(parser)
    parser.add_argument("image", metavar="IMAGE", nargs="+", type=local_path, help="image files")
    parser.add_argument(
        "--beside",
        metavar="CKPT",
        action="append",
        type=checkpoint_path,
        default=[],
        help="another checkpoint; repeatable",
    )
    parser.add_argument(
        "--class", dest="label", help="name or number of the class to look for; the likeliest if not given"
    )
    parser.add_argument("--layer", help="module whose output is looked at, as stages.1; the last stage by default")
    parser.add_argument("--crop_pct", type=share, help="share of the image that is seen; the run's if not given")
    parser.add_argument("--out", type=local_path, default="cam.png", help="the picture to write: .png, .pdf or .svg")
    parser.add_argument("--dpi", type=int, default=150, help="dots an inch of a picture of 3 inches")
    return parser


def _check_output(options: argparse.Namespace, formats: Collection[str]) -> None:
    if options.dpi < 1:
        raise ConfigError(f"--dpi {options.dpi}: at least 1")
    if Path(options.out).suffix.lstrip(".") not in formats:
        raise ConfigError(f"--out {options.out}: the name ends in one of .{', .'.join(sorted(formats))}")


def class_activation_map(
    classifier: "ImageClassifier", pixels: "Tensor", *, label: int | None = None, layer: str | None = None
) -> tuple[int, float, "np.ndarray"]:
    """Find where a class is seen in an image (arXiv 1610.02391).

    Args:
        classifier: In evaluation mode.
        pixels: uint8 (3, H, W).
        label: The class; None for the likeliest one.
        layer: Name of the backbone's module to look at; None for its last map.

    Returns:
        The class, its probability, and the image with the map over it, uint8 (H, W, 3).

    Raises:
        ConfigError: The backbone has no such layer, its output is no map, or it takes no images.
    """
    import torch

    from ..network.activation_maps import activation_maps, map_layer, overlaid
    from ..network.example import own_example
    from ..trained import normalised

    if own_example(classifier.backbone) is not None:
        raise ConfigError(f"cam looks at images, and {classifier.hparams.backbone} takes something else")
    images = normalised(classifier, pixels[None])
    with torch.no_grad():
        probabilities = classifier(images).softmax(1)[0]
    label = int(probabilities.argmax()) if label is None else label
    [mask] = activation_maps(classifier.backbone, images, [label], map_layer(classifier.backbone, images, layer))
    return label, float(probabilities[label]), overlaid(pixels.permute(1, 2, 0).numpy(), mask)


def _label(classifier: "ImageClassifier", given: str | None) -> int | None:
    if given is None:
        return None
    names = classifier.class_names or []
    if given in names:
        return names.index(given)
    if given.isdecimal() and int(given) < classifier.hparams.num_classes:
        return int(given)
    from ..data.class_names import words_of
    from ..errors import suggestion

    words = {name: several.split(", ") for name, several in words_of(names).items()}
    found = [name for name in names if given in words.get(name, ())]
    if len(found) == 1:
        return names.index(found[0])
    if found:
        raise ConfigError(f"--class {given}: {' and '.join(found)} are called so: write one of these")
    known = [*names, *(word for several in words.values() for word in several)]
    raise ConfigError(
        f"--class {given}: there is no such class.{suggestion(given, known)} It is a name that the run was trained "
        f"with, or a number below {classifier.hparams.num_classes}."
    )


def _run_name(checkpoint: str) -> str:
    path = Path(checkpoint).absolute()
    run = path.parent.parent
    if path.parent.name != "checkpoints":
        return path.stem
    return f"{run.parent.name}/{run.name}" if run.name.startswith("seed-") else run.name  # of an ablation: its row
