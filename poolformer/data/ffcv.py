"""Packed images: `.beton` files, read without ffcv."""

from pathlib import Path

from .beton import Beton
from .folder import open_folder
from .images import ImageData
from .sources import BetonSource, Source


class FFCVData(ImageData):
    """Images in .beton files, as `poolformer pack` and ffcv write them; the fastest way to feed a model.

    A folder in a file's place is read as `FolderData` reads it, so one configuration serves both.
    """

    def open_images(self, path: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Opens a .beton file of images and labels, or a folder of images.

        Raises:
            DataError: it is missing, unfinished, cut off or damaged.
        """
        if Path(path).expanduser().is_dir():
            return open_folder(path, labelled=labelled)
        beton = Beton(path)
        return BetonSource(beton), beton.class_names
