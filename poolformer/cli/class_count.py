"""How many classes a network is built for where nobody says a number: as many as its data has, or its weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info

from ..claims import head_classes
from ..configs import config_dir, read_config
from ..counts import counted
from ..data.class_names import count_of, names_of
from ..data.images import ImageData
from ..run import config as run_config
from . import data_section, said
from .asked import Asked

_FLAG = "--model.num_classes"


def is_open(asked: Asked) -> bool:
    """Return whether a network is to be trained, and neither a flag nor a configuration of the user says its classes.

    Those that are packaged say the number of the data that they are for.
    """
    return asked.verb == "fit" and not _is_said(asked)


def is_of_weights(asked: Asked) -> bool:
    """Return whether a network is to be evaluated, and neither a flag nor a configuration of the user says its classes.

    What is evaluated without a checkpoint has published weights.
    """
    return asked.verb != "fit" and not _is_said(asked)


def _is_said(asked: Asked) -> bool:
    packaged = config_dir().resolve()
    mine = [content for file, content in asked.read_files if packaged not in file.resolve().parents]
    says = any(_says(content.get("model")) for content in mine) or any(_says(text) for text in _of_the_model(asked))
    return says or any(word.partition("=")[0] == _FLAG for word in asked.flags)


def take_from_data(options: Namespace, data_module: pl.LightningDataModule) -> None:
    """Write the number of a data module's classes into the options of the model, and say so where it is another.

    Images are opened for it. Of a module of the user's it has to be known before its `setup`, which may want a trainer.

    Args:
        options: Of ``fit``.
        data_module: As it was built.

    Raises:
        DataError: The images cannot be opened, or the module's names or number of classes are none.
    """
    classes = _count(data_module)
    if classes is None and isinstance(data_module, ImageData) and type(data_module).setup is ImageData.setup:
        data_module.setup("fit")
        if type(data_module).train_dataloader is ImageData.train_dataloader:
            data_module.train_dataloader()  # refuses fewer images than a batch, before a network is built for them
        classes = _count(data_module)
    # Of one class there is nothing to learn: whoever has it is warned of the other logits.
    if classes is not None and classes > 1 and classes != options.model.num_classes:
        options.model.num_classes = classes
        rank_zero_info(f"The data has {counted(classes, 'class')}: the network is built for these ({_FLAG} {classes})")


def take_from_weights(options: Namespace) -> None:
    """Write the number of classes of published weights into the options of the model, and say so where it is another.

    Args:
        options: Of a verb that evaluates, with ``--model.pretrained``.
    """
    model = {**options.model.as_dict(), "image_size": data_section.image_size_of(options.data)}
    classes = head_classes(options.model.pretrained, model)
    if classes is not None and classes != options.model.num_classes:
        options.model.num_classes = classes
        rank_zero_info(
            f"The weights are for {counted(classes, 'class')}: the network is built for these ({_FLAG} {classes})"
        )


def keep_of_run(options: Namespace, run_dir: Path) -> None:
    """Write the number of classes of the run in a directory into the options of the model, where there is a run."""
    config = run_dir / run_config.NAME
    section: Any = read_config(config).get("model") if run_config.is_of_a_run(config) else None
    if _says(section):
        options.model.num_classes = section["num_classes"]


def _count(data_module: pl.LightningDataModule) -> int | None:
    try:
        names = names_of(data_module)
        return len(names) if names else count_of(data_module)
    except (AttributeError, RuntimeError, AssertionError, TypeError):  # of a property that needs `setup` or a trainer
        return None


def _of_the_model(asked: Asked) -> Iterator[Any]:
    """Yield what ``--model`` is given as a whole: options as a mapping, or a file of them."""
    for text in said.values(asked.flags, "--model"):
        try:
            yield yaml.safe_load(Path(text).read_text() if Path(text).is_file() else text)
        except (OSError, ValueError, yaml.YAMLError):  # said where it is parsed
            continue


def _says(section: Any) -> bool:
    return isinstance(section, dict) and section.get("num_classes") is not None
