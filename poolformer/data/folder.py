"""Image files in class folders: `train/<class>/<image>`, as ImageNet is unpacked."""

from pathlib import Path

from ..errors import DataError
from .class_folders import FolderFiles, image_paths
from .images import UNLABELLED, ImageData
from .sources import FileSource, Source


class FolderData(ImageData):
    """Images in class folders; the same batches as from a .beton packed of them, without packing.

    Images to predict may lie in any folder, in classes or not; all their labels are -1.

    Attributes:
        predict_names: Paths of the images to predict, in the order of the batches.
    """

    predict_names: list[str]

    def open_images(self, path: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Indexes a folder of class folders, or of any images where they need no labels.

        Raises:
            DataError: there is no such folder, or nothing in it.
        """
        if labelled:
            files = FolderFiles(path)
            return FileSource(files.names, files.labels), files.class_names
        folder = Path(path).expanduser()
        self.predict_names = image_paths(folder)
        if not self.predict_names:
            raise DataError(f"there are no images below {folder}")
        return FileSource(self.predict_names, [UNLABELLED] * len(self.predict_names)), None
