"""Image files in class folders: `train/<class>/<image>`, as ImageNet is unpacked."""

import os
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from ..errors import DataError, printable
from .beton_set import Given, expand
from .class_folders import FolderFiles, image_listing, of_file
from .images import UNLABELLED, ImageData
from .listing import ARCHIVES, EXTENSIONS
from .sources import FileSource


class FolderData(ImageData):
    """Images in class folders; the same batches as from a .beton packed of them, without packing.

    Images to predict may lie in any folder, in classes or not, or be files, patterns such as 'photos/*.jpg', or a list
    of these; those of a folder come in the order of their paths as strings, and all their labels are -1.
    """

    def open_images(self, path: Given, *, labelled: bool) -> tuple[FileSource, list[str] | None]:
        """Index a folder of class folders, or of any images where they need no labels.

        Raises:
            DataError: There is no such folder, or nothing in it; or there are several, of images with labels.
        """
        if not labelled and (not isinstance(path, str) or not os.path.isdir(Path(path).expanduser())):
            return open_pictures(path, orient=self.hparams.orient)
        if not isinstance(path, str):
            raise DataError("FolderData reads one folder; several .beton files are one data set for FFCVData")
        return open_folder(path, labelled=labelled, orient=self.hparams.orient)


def open_folder(path: str, *, labelled: bool, orient: bool) -> tuple[FileSource, list[str] | None]:
    """Index a folder of images: (samples, class names or None).

    Raises:
        DataError: There is no such folder, or nothing in it.
    """
    if labelled:
        files = FolderFiles(path, say=rank_zero_info)
        _say(path, files.remarks)
        source = FileSource(files.names, files.labels, orient=orient, class_prefix=files.class_prefix)
        return source, files.class_names
    listing = image_listing(path, rank_zero_info)
    left = ", ".join(listing.left_out())
    _say(path, f"left out: {left}" if left else "")
    paths = sorted(image.place for image in listing.images)
    return FileSource(paths, [UNLABELLED] * len(paths), orient=orient), None


def open_pictures(given: Given, *, orient: bool) -> tuple[FileSource, None]:
    """Index images without labels: files, folders and patterns, in the order in which they are given.

    Raises:
        DataError: One of them is not there, or an archive, or a folder has no images.
    """
    paths: list[str] = []
    for place in expand(given):
        place = os.path.expanduser(place)
        if os.path.isfile(place):
            if place.lower().endswith(ARCHIVES):
                raise DataError(f"'{printable(place)}' is an archive: unpack it")
            if place.lower().endswith(".beton"):
                raise of_file(place)
            paths.append(place)
        elif place.lower().endswith(EXTENSIONS):
            raise DataError(f"there is no image '{printable(place)}'")
        else:
            paths += open_folder(place, labelled=False, orient=orient)[0].paths
    paths = list(dict.fromkeys(paths))  # a file and the folder that it is in
    return FileSource(paths, [UNLABELLED] * len(paths), orient=orient), None


def _say(path: str, remarks: str) -> None:
    if remarks:
        rank_zero_info(f"'{printable(path)}': {remarks}")
