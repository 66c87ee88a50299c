"""Packed images: `.beton` files, read without ffcv."""

from pathlib import Path

from ..errors import DataError
from .beton import Beton
from .folder import open_folder
from .images import ImageData
from .sources import BetonSource, Source


class FFCVData(ImageData):
    """Images in .beton files, as `poolformer pack` and ffcv write them; the fastest way to feed a model.

    A folder in a file's place is read as `FolderData` reads it, so one configuration serves both.
    """

    def open_images(self, path: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Open a .beton file of images and labels, or a folder of images.

        Raises:
            DataError: It is missing, unfinished, cut off or damaged, or not turned as the option asks.
        """
        if Path(path).expanduser().is_dir():
            return open_folder(path, labelled=labelled, orient=self.hparams.orient)
        beton = Beton(path)
        if self.hparams.orient and not beton.settings.get("orient"):
            raise DataError(f"'{path}' holds images as they are stored, not turned: pack it with --orient")
        return BetonSource(beton), beton.class_names
