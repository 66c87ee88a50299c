"""Image files in class folders: `train/<class>/<image>`, as ImageNet is unpacked."""

from ..errors import DataError
from .class_folders import FolderFiles, existing_folder, image_paths
from .images import UNLABELLED, ImageData
from .sources import FileSource


class FolderData(ImageData):
    """Images in class folders; the same batches as from a .beton packed of them, without packing.

    Images to predict may lie in any folder, in classes or not; they come in the order of their paths as strings, and
    all their labels are -1.
    """

    def open_images(self, path: str, *, labelled: bool) -> tuple[FileSource, list[str] | None]:
        """Indexes a folder of class folders, or of any images where they need no labels.

        Raises:
            DataError: there is no such folder, or nothing in it.
        """
        return open_folder(path, labelled=labelled, orient=self.hparams.orient)


def open_folder(path: str, *, labelled: bool, orient: bool) -> tuple[FileSource, list[str] | None]:
    """Index a folder of images: (samples, class names or None).

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    if labelled:
        files = FolderFiles(path)
        return FileSource(files.names, files.labels, orient=orient), files.class_names
    folder = existing_folder(path)
    paths = sorted(image_paths(folder))
    if not paths:
        raise DataError(f"there are no images below '{folder}'")
    return FileSource(paths, [UNLABELLED] * len(paths), orient=orient), None
