"""`poolformer teach`."""

import argparse
import hashlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..commands.arguments import CommandParser, add_checkpoint, local_path, number, split_flags
from ..commands.progress import Progress, say
from ..counts import counted
from ..errors import ConfigError, DataError, printable

if TYPE_CHECKING:
    from torch import nn


def main(argv: list[str]) -> int:
    """Store what a trained network says of every training view of a schedule, for others to learn from.

    How a training image looks is a function of the seed, the epoch and the image. So the teacher CKPT is asked once for
    all views of a run, and what it says is replayed exactly, at no cost, in each run on the same views: with another
    mixer, batch size or learning rate, on any number of devices. What stands behind '--' are the options of 'poolformer
    fit' that say the views: data, recipe of augmentation, seed, --trainer.max_epochs.

      poolformer teach runs/s12/checkpoints/best.ckpt --out s12.labels -- --config cifar10 --data.train train.beton ...
      poolformer fit --config cifar10 --data.train train.beton ... --model.teacher s12.labels
      poolformer ablate --config cifar10 -- --data.train train.beton ... --data.seed 42 --model.teacher s12.labels

    A run with other views is refused in a line; with fewer epochs it is not. With several --seeds, keep the views by
    --data.seed, here and there.

    The teacher sees a view before it is mixed and erased; its labels are mixed with the images. Of each view the --top
    likeliest classes are kept, in 4 bytes each: 16 of 1.28 million images are 82 MB an epoch. The same command again
    resumes behind the last whole epoch. On a GPU where there is one.
    """
    own, flags = split_flags(argv)
    options = _parser().parse_args(own)
    target = Path(options.out)
    if target.is_dir() or not target.parent.is_dir():
        raise DataError(f"--out '{target}' is a folder, or in none: give the file to write")
    if target.exists() and not options.overwrite:
        raise DataError(f"'{target}' is already there: --overwrite replaces it")
    from ..run.places import Places
    from ..trained import load_classifier

    with Places() as places:
        classifier = load_classifier(places.file(options.checkpoint), trusted=options.trust, backbone=options.backbone)
    _teach(classifier, flags, target, top=options.top)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer teach",
        usage="poolformer teach CKPT --out FILE [options] -- OPTIONS OF FIT",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(parser)
    parser.add_argument("--out", type=local_path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--top", type=number(int, "an integer from 1 up", least=1), default=16, metavar="N", help="classes to keep (16)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    return parser


def _teach(classifier: Any, flags: list[str], target: Path, *, top: int) -> None:
    import torch

    from ..cli.training import build
    from ..data.soft_labels import SoftLabelsWriter
    from ..run.teacher import CLASSES, VIEWS, views_of
    from .asking import ask, logits_for

    cli = build("fit", flags)
    data_module, epochs = cli.datamodule, cli.trainer.max_epochs
    if epochs is None or epochs < 1:
        raise ConfigError("the number of epochs is open: pass --trainer.max_epochs behind '--'")
    if type(seed := cli.options.seed_everything) is int:
        data_module.load_state_dict({"seed": seed})  # as of a run with it; a seed of the data's own stays
    data_module.setup("fit")
    loader = data_module.train_dataloader()
    views = views_of(data_module, loader, option="poolformer teach")
    logits = logits_for(classifier, data_module)
    top, samples = min(top, len(logits)), loader.samples
    facts = {VIEWS: views, CLASSES: len(logits), "teacher": _digest(classifier.backbone)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device)
    loader.take_all()
    with SoftLabelsWriter(target, facts, epochs=epochs, samples=samples, top=top) as file:
        if file.done:
            say(f"{printable(str(file.unfinished))} has {file.done} of {counted(epochs, 'epoch')}: they are kept")
        first = file.done
        with Progress("asked about", (epochs - first) * samples, unit="views") as progress:
            for epoch in range(first, epochs):

                def say_done(done: int, before: int = (epoch - first) * samples) -> None:
                    progress(before + done)

                rows = ask(
                    classifier,
                    data_module,
                    loader,
                    epoch,
                    logits=logits.to(device),
                    top=top,
                    progress=say_done,
                )
                file.add(rows)
        file.publish()
    size = target.stat().st_size / 2**20
    stored = f"{counted(epochs, 'epoch')} of {samples} views, {top} of {counted(len(logits), 'class')}"
    print(f"{printable(str(target))}: {stored}, {size:.1f} MiB")
    if first < epochs:
        agrees = (rows[:, 0, 0] == torch.as_tensor(loader.labels).numpy()).mean()
        print(f"The likeliest is the image's own class in {agrees:.1%} of the last epoch's views")


def _digest(network: "nn.Module") -> str:
    """Return what tells a teacher from another."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
