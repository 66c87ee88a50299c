"""Labels are positions in a list of class names; those of the data are brought to the network's."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from numbers import Integral
from typing import Any

from ..counts import counted
from ..errors import CheckpointError, ConfigError, DataError, suggestion

IMAGENET = 1000
"""Classes of ImageNet-1k."""

_SHOWN = 5


def names_of(module: Any) -> list[str] | None:
    """Return the names of a data module's classes in the order of the labels, None where it has none.

    Raises:
        DataError: Its class_names are no list of names, or not as many as its num_classes.
    """
    names, source = getattr(module, "class_names", None), type(module).__name__
    if names is None:
        return None
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        raise DataError(
            f"class_names of {source} is a {type(names).__name__}, not a list of names in the order of the labels"
        )
    names, count = [str(name) for name in names], count_of(module)
    if count is not None and names and len(names) != count:
        raise DataError(f"{source} has {len(names)} class_names and num_classes {count}")
    return names or None


def count_of(module: Any) -> int | None:
    """Return how many classes a data module says that it has, None where it does not say.

    Raises:
        DataError: Its num_classes is no integer, such as a method.
    """
    count = getattr(module, "num_classes", None)
    if count is not None and not isinstance(count, Integral):
        raise DataError(f"num_classes of {type(module).__name__} is a {type(count).__name__}, not an integer")
    return None if count is None else int(count)


def imagenet_names(of_data: list[str], logits: int) -> list[str] | None:
    """Return ImageNet-1k's synsets, where the data has some of them and the network has a logit for each.

    Weights are published without names, and those of ImageNet-1k in the order of its synsets.

    Args:
        of_data: Names of the data's classes; without any, the number of logits alone says that it is ImageNet.
        logits: Logits K of the network.

    Returns:
        The synsets, such as n01440764, in the order of the logits; None where no name is one of them. A name beside
        them is of a class that the network does not know.
    """
    if logits != IMAGENET or (of_data and not any(map(_is_synset, of_data))):
        return None
    from timm.data import ImageNetInfo  # 4 s

    synsets = ImageNetInfo().label_names()
    return synsets if not of_data or not set(synsets).isdisjoint(of_data) else None


def _is_synset(name: str) -> bool:
    return re.fullmatch(r"n\d{8}", name) is not None


def words_of(names: Iterable[str]) -> dict[str, str]:
    """Return what classes are in words, where all of them are called by synsets of ImageNet, such as n02099601.

    Args:
        names: Of the classes.

    Returns:
        WordNet's words by the names, such as "golden retriever"; nothing where a class is called otherwise.
    """
    names = list(names)
    if not names or not all(map(_is_synset, names)):
        return {}
    known = _synsets()
    try:
        return {name: known.label_name_to_description(name) for name in names}
    except KeyError:  # of another edition of WordNet
        return {}


def in_words(name: str) -> str:
    """Return a class in WordNet's words where it is called by a synset of ImageNet, else its name."""
    return words_of([name]).get(name, name)


@cache
def _synsets() -> Any:
    """Return those of ImageNet-21k, read once: 2.7 MB of text."""
    from timm.data import ImageNetInfo  # 4 s

    return ImageNetInfo("imagenet-22k")


def positions(of_data: list[str], of_network: list[str]) -> list[int]:
    """Return for each label of the data the number of the logit of the same name.

    Raises:
        ConfigError: The network has no such class, or two of one name.
    """
    if of_data == of_network:
        return list(range(len(of_data)))
    unknown = [name for name in of_data if name not in set(of_network)]
    if unknown:
        raise ConfigError(
            f"{len(unknown)} of the data's {len(of_data)} classes are none of the {len(of_network)} that the network "
            f"was trained on: {_listed(unknown)}.{suggestion(unknown[0], of_network)} It knows {_listed(of_network)}"
        )
    for whose, names in (("data", of_data), ("network", of_network)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"the {whose} has more than one class called {_listed(twice)}: names cannot be compared")
    place = {name: number for number, name in enumerate(of_network)}
    return [place[name] for name in of_data]


def check_count(count: int | None, of_data: list[str] | None, of_network: list[str] | None, logits: int) -> str | None:
    """Compare numbers of classes where names are not known of both, so that labels are taken by position.

    Args:
        count: Classes of the data; None where it does not say.
        of_data: Their names; None where they have none.
        of_network: Names of the classes that the network was trained on; None where it does not say.
        logits: Logits K of the network.

    Returns:
        What the user should know; None if there is nothing odd.

    Raises:
        ConfigError: There are more classes than the network knows.
    """
    known = len(of_network) if of_network else logits
    if count is None or count == known:
        return None
    remedy = f"the data has {counted(count, 'class')} and the model {known}"
    if count > known:
        raise ConfigError(f"{remedy}: pass --model.num_classes {count}" if known == logits else remedy)
    if not of_data and not of_network:
        return f"{remedy}: some of its logits have no images; see --model.num_classes"
    nameless = "data" if of_network else "network"
    return (
        f"{remedy}, and the {nameless} does not say what they are called: labels are taken by position, and mean "
        "something else if the order is another"
    )


def check_resumed(trained_on: list[str] | None, of_data: list[str] | None) -> None:
    """Refuse to resume a run on other classes, or on the same in another order.

    Raises:
        CheckpointError: The labels would mean something else to it.
    """
    if not trained_on or not of_data or trained_on == of_data:
        return
    gone, new = ([name for name in one if name not in set(other)] for one, other in _both_ways(trained_on, of_data))
    differences = [f"it was trained on {_listed(gone)} too"] if gone else []
    differences += [f"the data has {_listed(new)} too"] if new else []
    raise CheckpointError(
        "the run cannot be resumed on these classes, as labels would mean something else: "
        f"{', and '.join(differences) or 'they come in another order than it was trained on'}. To train on them from "
        "these weights, pass --model.pretrained with the checkpoint instead of --ckpt_path"
    )


def _both_ways(one: list[str], other: list[str]) -> list[tuple[list[str], list[str]]]:
    return [(one, other), (other, one)]


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
