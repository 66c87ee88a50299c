"""Packed images: `.beton` files, read without ffcv."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from ..errors import DataError
from ..files.paths import is_url, without_scheme
from .beton_set import Given, open_betons
from .fetched import fetch
from .folder import open_folder
from .images import ImageData
from .sources import BetonSource, Source


class FFCVData(ImageData):
    """Images in .beton files, as `poolformer pack` and ffcv write them; the fastest way to feed a model.

    A folder in a file's place is read as `FolderData` reads it, so one configuration serves both. A pattern, as
    'in21k-*.beton', or a list of files is one data set. A file at a URL (s3, gs, hf, https ...) is fetched once into a
    cache; POOLFORMER_DATA_CACHE names another place for it.
    """

    def prepare_data(self) -> None:
        """Fetch what lies at URLs, in one process a node, while the others wait however long it takes.

        Raises:
            DataError: It is not there, may not be read, or does not fit.
            ConfigError: Its kind of store is not available.
        """
        for option, given in self.given().items():
            for place in [given] if isinstance(given, str) else given:
                if is_url(place):
                    try:
                        _fetched(place)
                    except DataError as error:
                        raise DataError(f"--data.{option}: {error}") from error

    def open_images(self, path: Given, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Open a .beton file of images and labels, several as one, or a folder of images.

        Raises:
            DataError: One is missing, unfinished, cut off or damaged, not turned as the option asks, or of another data
                set than the others.
            ConfigError: A list is empty, or what it gives is no file.
        """
        if isinstance(path, str) and Path(folder := without_scheme(path)).expanduser().is_dir():
            return open_folder(folder, labelled=labelled, orient=self.hparams.orient)
        beton = open_betons(path, fetched=_fetched)
        if self.hparams.orient and not beton.settings.get("orient"):
            raise DataError(f"'{beton.path}' holds images as they are stored, not turned: pack it with --orient")
        self.turns = self.turns or beton.settings.get("orient") is True
        return BetonSource(beton), beton.class_names


def _fetched(url: str) -> Path:
    return fetch(url, say=rank_zero_info)
