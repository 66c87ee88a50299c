"""Which folders are the classes, of everything that was found: `<class>/<image>`."""

import shlex
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .listing import IMAGE_BESIDE, UNREADABLE, Folders, Found, Listing
from .splits import split_kind, splits_among

_MANY = 20
"""Classes of one image each from which on it is asked whether they are classes."""


class _Source(NamedTuple):
    path: Path
    where: str
    """What to call it in a message."""
    is_archive: bool


class Classes(NamedTuple):
    """Images in classes, in torchvision's order."""

    names: list[str]
    """Of the classes, sorted."""
    images: list[Found]
    """Class by class, folder by folder, name by name; their first folder is the class."""
    labels: list[int]
    remarks: str
    """What is left out or taken in, in a line; empty where there is nothing to say."""


def classes_of(listing: Listing, path: Path, *, split: str | None = None, is_archive: bool = False) -> Classes:
    """Find the class folders: the outermost ones, or if there is one alone that holds such folders, those in it.

    Args:
        listing: What was found.
        path: Place of it, for messages.
        split: The part of it that was asked for, for messages; the listing is that part.
        is_archive: Whether `path` is one, out of which no folder can be given.

    Raises:
        DataError: There are no images in folders, the folders are splits and no classes, or a class has no images.
    """
    where = f"'{path}'{f', split {split}' if split else ''}"
    top = _top(listing, _Source(path, where, is_archive))
    names = sorted({folders[len(top)] for folders in listing.folders if folders[: len(top)] == top != folders})
    for image in listing.images:
        if image.folders == top:
            listing.leave_out(IMAGE_BESIDE, top, image.name)
    images = _in_order(listing.images, top)
    label_of = {name: label for label, name in enumerate(names)}
    labels = [label_of[image.folders[0]] for image in images]
    _check(names, labels, where, listing)
    _refuse_splits_in_classes(images, path, where)
    return Classes(names, images, labels, _remarks(listing, images, top))


def part_of(listing: Listing, split: str, path: Path) -> Listing:
    """Return what lies below the outermost folder of a name, or below those in each class.

    Args:
        listing: What was found.
        split: The name, or a path such as `images/train`.
        path: Place of it, for messages.

    Raises:
        DataError: There is no such folder, or there are several.
    """
    wanted = tuple(part for part in split.split("/") if part not in ("", "."))
    places = {folders: place for folders in listing.all_folders() if (place := _find(wanted, folders)) is not None}
    if not places:
        common = len(_common(listing))
        tops = sorted({folders[common] for folders in _folders_of_images(listing) if len(folders) > common})
        more = ", ..." if tops[5:] else ""
        raise DataError(f"'{path}' has no folder '{split}', but {', '.join(tops[:5]) or 'no images'}{more}")
    outermost = min(places.values())
    places = {folders: place for folders, place in places.items() if place == outermost}
    fronts = sorted({folders[:place] for folders, place in places.items()})
    behind = {folders: folders[place + len(wanted) :] for folders, place in places.items()}
    if len(fronts) == 1:
        return listing.moved(behind)
    if any(behind[folders] for folders in places):
        several = ", ".join(f"'{'/'.join((*front, *wanted))}'" for front in fronts[:5])
        raise DataError(f"'{path}' has {len(fronts)} folders '{split}': {several}; give one of these as the split")
    return listing.moved({folders: folders[:place] for folders, place in places.items()})  # <class>/<split>/<image>


def _top(listing: Listing, source: _Source) -> Folders:
    """Return the folder that the class folders lie in."""
    occupied = _folders_of_images(listing)
    top: Folders = ()
    while True:
        unreadable = listing.names_of(UNREADABLE, top)
        if unreadable:
            name = "/".join((*top, unreadable[0]))
            raise DataError(f"{source.where}: the folder '{name}' cannot be read; it may be a class")
        inside = {folders[len(top)] for folders in occupied if folders != top}
        everything = {f[len(top)] for f in listing.folders if f[: len(top)] == top != f}
        _refuse_splits(inside, everything, occupied, top, source)
        if top in occupied or len(inside) != 1:
            return top
        one = (*top, *inside)
        empty = everything - inside
        if one in occupied and not _holds_classes(one, listing):
            return top
        if not all(listing.holds_other_files_only((*top, name)) for name in empty):
            return top
        top = one


def _holds_classes(folder: Folders, listing: Listing) -> bool:
    """Return whether there are several folders of images in a folder, and fewer images beside them than folders.

    A picture beside the class folders, such as a cover, does not make one class of all.
    """
    inside = [image.folders[len(folder) :] for image in listing.images if image.folders[: len(folder)] == folder]
    classes = {folders[0] for folders in inside if folders}
    return len(classes) > 1 and sum(not folders for folders in inside) < len(classes)


def _refuse_splits(
    inside: set[str], everything: set[str], occupied: set[Folders], top: Folders, source: _Source
) -> None:
    splits = splits_among(everything)
    # A class may be called so, too, in which case images lie in it directly.
    are_deep = splits and not any((*top, name) in occupied for name in splits)
    one = min(inside) if len(inside) == 1 else ""
    kind = split_kind(one) if one else None
    if kind and not kind[1] and (*top, one) in occupied and inside == everything:
        splits = {one: kind[0]}
    elif not splits or not (are_deep or set(splits) in (inside, everything)):
        return
    folder = source.path.joinpath(*top)
    where = source.where if source.is_archive else f"'{folder}'"
    what = "which are no classes but splits" if len(splits) > 1 else "which is no class but a split"
    raise DataError(f"{where} holds {', '.join(splits)}, {what}: use {_use(splits, folder, source)}")


def _use(splits: dict[str, str], folder: Path, source: _Source) -> str:
    pack = _packing(splits, source.path)
    if source.is_archive:
        return pack
    options: dict[str, str] = {}
    # Beside a validation set, as Food-11's, an evaluation set is one to test on.
    for name, kind in sorted(splits.items(), key=lambda split: split[0].lower().startswith("eval")):
        kind = "test" if kind == "val" and kind in options else kind
        options.setdefault(kind, f"--data.{kind} {shlex.quote(str(folder / name))}")
    if "val" not in options and "test" in options:
        options["val"] = options.pop("test").replace("--data.test", "--data.val")
    return " ".join(options[kind] for kind in ("train", "val", "test") if kind in options) + f", or {pack}"


def _refuse_splits_in_classes(images: list[Found], path: Path, where: str) -> None:
    """Of <class>/<split>/<image>, training on all images would be training on those to test with."""
    second = {image.folders[1] if image.folders[1:] else "" for image in images}
    splits = splits_among(second)
    if splits and set(splits) == second:
        use = _packing(splits, path)
        raise DataError(f"the classes in {where} hold {', '.join(splits)}, which are splits: use {use}")


def _packing(splits: dict[str, str], path: Path) -> str:
    first = next((name for name in splits if splits[name] == "train"), next(iter(splits)))
    return f"`poolformer pack {shlex.quote(str(path))} FILE --split {shlex.quote(first)}`"


def _check(names: list[str], labels: list[int], where: str, listing: Listing) -> None:
    pictures = f" ({listing.pictures()} left out: convert or rename them)" if listing.pictures() else ""
    if not names or not labels:
        raise DataError(f"{where} has no images in class folders: expected <class>/<image>{pictures}")
    empty = sorted(set(range(len(names))) - set(labels))
    if empty:
        raise DataError(
            f"{where}: {len(empty)} of {len(names)} class folders have no images, "
            f"the first is '{names[empty[0]]}'; fill or remove them{pictures}"
        )


def _remarks(listing: Listing, images: list[Found], top: Folders) -> str:
    remarks = []
    if left := listing.left_out():
        remarks.append(f"left out: {', '.join(left)}")
    if top:
        remarks.append(f"the classes are the folders in '{'/'.join(top)}'")
    if deeper := sum(len(image.folders) > 1 for image in images):
        remarks.append(f"{deeper} images are in folders inside their class")
    classes = len({image.folders[0] for image in images})
    if classes == len(images) >= _MANY:
        remarks.append(f"each of the {classes} classes has one image: are these folders classes?")
    if listing.links:
        remarks.append(f"{listing.links} links to folders followed")
    return "; ".join(remarks)


def _in_order(images: list[Found], top: Folders) -> list[Found]:
    """Return the images in class folders, sorted as by torchvision; their folders from the class on."""
    below = {image.folders: image.folders[len(top) :] for image in images}
    key = {folders: (inner[0], "/".join(inner)) for folders, inner in below.items() if inner}
    ordered = sorted((image for image in images if image.folders in key), key=lambda image: (key[image[0]], image[1]))
    return [Found(below[folders], name, place) for folders, name, place in ordered]


def _folders_of_images(listing: Listing) -> set[Folders]:
    return {image.folders for image in listing.images}


def _common(listing: Listing) -> Folders:
    """Return the folders that all images lie in."""
    all_of_them = sorted(_folders_of_images(listing)) or [()]
    first, last = all_of_them[0], all_of_them[-1]
    same = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:same]


def _find(wanted: Folders, folders: Folders) -> int | None:
    ends = range(len(folders) - len(wanted) + 1)
    return next((n for n in ends if folders[n : n + len(wanted)] == wanted), None)
