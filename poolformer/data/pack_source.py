"""What `poolformer pack` takes as SRC: folders and archives, whose classes folders or a list say."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..files.paths import is_url
from .archive_files import ArchiveFiles
from .class_folders import FolderFiles
from .hf_files import is_hf, open_hf
from .labelled import LabelledFiles
from .tar_stream import TarStream

if TYPE_CHECKING:
    from .pack import ImageFiles
    from .pack_stream import ImageStream


def open_source(
    text: str, *, split: str | None, labels: str | None, on_error: str, say: Callable[[str], None]
) -> "ImageFiles | ImageStream":
    """Open what is to be packed.

    Args:
        text: SRC.
        split: The part of it; None for all.
        labels: List of images and classes; None where folders are the classes.
        on_error: What to do with an image that is listed and missing: `fail` or `skip`.
        say: Takes a line now and then of a folder that is long to look through.

    Raises:
        DataError: There is nothing, or no images in classes.
    """
    if is_url(text) or is_hf(text):
        if labels is not None:
            raise DataError(f"{text}: --labels goes with a folder or an archive of this machine")
        return open_hf(text, split=split) if is_hf(text) else TarStream(text, split=split)
    path = Path(text).expanduser()
    if not os.path.exists(path):
        raise DataError(f"there is no folder, tar or zip file '{path}' to pack")
    if labels is not None:
        return LabelledFiles(path, labels, split=split, skip_missing=on_error == "skip")
    if os.path.isdir(path):
        return FolderFiles(path, split=split, say=say)
    return ArchiveFiles(path, split=split)
