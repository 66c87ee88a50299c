"""Packed images: `.beton` files, read without ffcv."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from ..errors import DataError
from ..files.paths import is_url, without_scheme
from .beton import Beton
from .fetched import fetch
from .folder import open_folder
from .images import ImageData
from .sources import BetonSource, Source


class FFCVData(ImageData):
    """Images in .beton files, as `poolformer pack` and ffcv write them; the fastest way to feed a model.

    A folder in a file's place is read as `FolderData` reads it, so one configuration serves both. A file at a URL (s3,
    gs, hf, https ...) is fetched once into a cache; POOLFORMER_DATA_CACHE names another place for it.
    """

    def prepare_data(self) -> None:
        """Fetch what lies at URLs, in one process a node, while the others wait however long it takes.

        Raises:
            DataError: It is not there, may not be read, or does not fit.
            ConfigError: Its kind of store is not available.
        """
        for option, given in self.given().items():
            if is_url(given):
                try:
                    fetch(given, say=rank_zero_info)
                except DataError as error:
                    raise DataError(f"--data.{option}: {error}") from error

    def open_images(self, path: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Open a .beton file of images and labels, or a folder of images.

        Raises:
            DataError: It is missing, unfinished, cut off or damaged, or not turned as the option asks.
        """
        path = str(fetch(path, say=rank_zero_info)) if is_url(path) else without_scheme(path)
        if Path(path).expanduser().is_dir():
            return open_folder(path, labelled=labelled, orient=self.hparams.orient)
        beton = Beton(path)
        if self.hparams.orient and not beton.settings.get("orient"):
            raise DataError(f"'{path}' holds images as they are stored, not turned: pack it with --orient")
        return BetonSource(beton), beton.class_names
