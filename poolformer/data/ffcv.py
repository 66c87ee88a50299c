"""Packed images: `.beton` files, read without ffcv."""

from .beton import Beton
from .images import ImageData
from .sources import BetonSource, Source


class FFCVData(ImageData):
    """Images in .beton files, as `poolformer pack` and ffcv write them; the fastest way to feed a model."""

    def open_images(self, path: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Opens a .beton file of images and labels.

        Raises:
            DataError: it is missing, unfinished, cut off or damaged.
        """
        beton = Beton(path)
        return BetonSource(beton), beton.class_names
