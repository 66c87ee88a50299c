"""Which logit a label of the data means: said to the user, and refused where it cannot be known."""

from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..counts import counted
from ..errors import ConfigError
from .class_names import IMAGENET, check_count, count_of, imagenet_names, names_of, positions


@dataclass(frozen=True)
class Classes:
    """The classes of a data module.

    Attributes:
        names: Names in the order of the labels; None where it has none.
        count: How many; None where it does not say.
    """

    names: list[str] | None
    count: int | None


def classes_of(data_module: Any, *, logits: int) -> Classes:
    """Return the classes of a data module.

    Args:
        data_module: Lightning's, anybody's; None for loaders alone.
        logits: Logits K of the network; with none, any image will do.

    Raises:
        DataError: The names of its classes are no list of names.
    """
    names = names_of(data_module)
    return Classes(names, count_of(data_module) or (names and len(names)) or (None if logits else 1))


def names_to_learn(classes: Classes, known: list[str] | None, *, logits: int) -> list[str] | None:
    """Return what the logits mean after training on these classes.

    Args:
        classes: Classes of the data.
        known: What the logits of published weights mean; None without them, or where they do not say.
        logits: Logits K of the network.

    Raises:
        ConfigError: There are more classes than logits.
    """
    if note := check_count(classes.count, None, None, logits):
        rank_zero_warn(note)
    if known and classes.names and known != classes.names:
        rank_zero_info("The weights' head is for other classes, or for these in another order: it learns the data's")
    return classes.names or known


def check_head(backbone: Any, *, logits: int, has_published_weights: bool) -> None:
    """Refuse to evaluate published weights whose head does not fit, so that the network's is fresh.

    To be asked when evaluation starts: after `setup` the trainer loads the checkpoint that may bring another head.

    Args:
        backbone: Network; where it says so, its head_classes are those of the weights, and None where they have none.
        logits: Logits K of the network.
        has_published_weights: Whether its weights are published ones, and neither trained nor of a checkpoint.

    Raises:
        ConfigError: Their head is for other classes.
    """
    head = getattr(backbone, "head_classes", -1)
    if has_published_weights and (head is None or (isinstance(head, int) and head not in (-1, logits))):
        found = (
            f"is for {counted(head, 'class')}: pass --model.num_classes {head}"
            if head
            else "is missing: train one first"
        )
        raise ConfigError(f"a fresh head says nothing of images, and that of the weights {found}")


def logits_of_labels(
    classes: Classes, known: list[str] | None, *, logits: int, has_published_weights: bool
) -> list[int] | None:
    """Return the number of the logit that each label of data to evaluate means; None where it is the label itself.

    Args:
        classes: Classes of the data.
        known: What the logits mean; None where the network does not say.
        logits: Logits K of the network.
        has_published_weights: Whether they are of ImageNet, as far as their number and the data's names say so.

    Raises:
        ConfigError: The network does not know all the classes, or what its logits mean cannot be known.
    """
    names = classes.names
    if names and not known and has_published_weights:
        known = imagenet_names(names, logits)
        if logits == len(names) == IMAGENET and names == sorted(map(str, range(IMAGENET))):
            rank_zero_warn(
                "classes are called 0 to 999 and come in the order of words, 0, 1, 10, 100: if they are the numbers of "
                "ImageNet's, pass --data.label_map numbers"
            )
    if not (names and known):
        if note := check_count(classes.count, names, known, logits):
            if names and has_published_weights:
                raise ConfigError(f"{note}. Evaluate on all its classes")
            rank_zero_warn(note)
        return None
    places = positions(names, known)
    if len(names) < len(known):
        rank_zero_info(f"The data has {len(names)} of the {len(known)} classes that the network knows")
    if places == list(range(len(places))):
        return None
    rank_zero_info("Labels of the data are other numbers than the network's: they are compared by name")
    return places
