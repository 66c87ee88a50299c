"""A .beton file as ffcv's `Reader` opens it, checked before the loader would hang or show wrong pixels."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poolformer.data.beton import Beton
from poolformer.errors import DataError, suggestion
from poolformer.registry import make_current_directory_importable

from .guards import reason, threads_kept, told

with threads_kept():
    from ffcv.fields import Field, IntField, RGBImageField
    from ffcv.reader import Reader


class BetonFile:
    """A .beton file with any fields, one of which holds the images and one the labels.

    Args:
        path: Path of the file.
        custom_fields: Classes of fields that are not ffcv's own, or their class paths, by the name of the field.
        image_field: Name of the field of images; None for the only one that there is.
        label_field: Name of the field of labels; None for the only one of integers.

    Attributes:
        fields: Names of all fields.
        decoders: The class of operations that decodes a field, by its name.
        labels: int64 (samples,).
        class_names: Names of the classes; None where the file has none.

    Raises:
        DataError: It is missing, damaged, unfinished, or has other fields.
    """

    def __init__(
        self,
        path: str,
        *,
        custom_fields: Mapping[str, Any] | None = None,
        image_field: str | None = None,
        label_field: str | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            what = "is a folder, not a .beton file" if self.path.is_dir() else "is not there"
            raise DataError(f"'{self.path}' {what}: 'poolformer pack SRC FILE.beton' makes one")
        self.custom_fields = {name: _field_class(name, each) for name, each in (custom_fields or {}).items()}
        with told(f"'{self.path}' is no .beton file that ffcv can read, unfinished, or damaged"):
            reader = Reader(str(self.path), self.custom_fields)
            self.fields = list(reader.handlers)
            self.decoders = {name: handler.get_decoder_class() for name, handler in reader.handlers.items()}
            self._check_places(reader)
        if unknown := sorted(self.custom_fields.keys() - set(self.fields)):
            raise self.no_field(unknown[0], "custom_fields")
        self.image_field = self._chosen(image_field, "image_field", reader, RGBImageField, "images")
        self.label_field = self._chosen(label_field, "label_field", reader, IntField, "integers")
        self.labels = self._read_labels(reader)
        self.class_names = _class_names(self.path)

    def __len__(self) -> int:
        return len(self.labels)

    def no_field(self, name: str, option: str) -> DataError:
        """Return the error that says which fields there are."""
        near = suggestion(name, self.fields)
        return DataError(f"{option} names '{name}', but '{self.path}' has the fields {', '.join(self.fields)}.{near}")

    def _check_places(self, reader: Reader) -> None:
        """Refuse what makes ffcv's thread die or read the bytes of another sample."""
        if reader.num_samples == 0 or len(reader.metadata) < reader.num_samples:
            raise ValueError(f"its index has {len(reader.metadata)} of {reader.num_samples} samples")
        if reader.page_size == 0 or reader.page_size & (reader.page_size - 1):
            raise ValueError(f"its pages have {reader.page_size} bytes")
        table, size = reader.alloc_table, self.path.stat().st_size
        ends = table["ptr"] + table["size"]
        if (size - int(reader.header["alloc_table_ptr"])) % table.itemsize or (len(table) and int(ends.max()) > size):
            raise ValueError("its allocation table is cut off")
        if len(table) and int(table["sample_id"].max()) + 1 != int(reader.num_samples):
            raise ValueError(f"it holds {int(table['sample_id'].max()) + 1} samples and claims {reader.num_samples}")
        for column, handler in zip(reader.metadata.dtype.names, reader.handlers.values(), strict=True):
            if isinstance(handler, RGBImageField):
                lost = ~np.isin(reader.metadata[column]["data_ptr"], table["ptr"])
                if lost.any():
                    raise ValueError(f"the place of sample {int(lost.argmax())} in the file is damaged")

    def _chosen(self, name: str | None, option: str, reader: Reader, kind: type[Field], what: str) -> str:
        if name is not None:
            if name not in self.fields:
                raise self.no_field(name, option)
            return name
        found = [field for field, handler in reader.handlers.items() if isinstance(handler, kind)]
        if len(found) != 1:
            there_are = f"the fields of {what} {', '.join(found)}" if found else f"no field of {what}"
            raise DataError(
                f"'{self.path}' has {there_are}, of {', '.join(self.fields)}: --data.{option} says which to take"
            )
        return found[0]

    def _read_labels(self, reader: Reader) -> np.ndarray:
        if not isinstance(reader.handlers[self.label_field], IntField):
            return np.full(len(reader.metadata), -1)  # known when they are decoded
        labels = reader.metadata[reader.metadata.dtype.names[self.fields.index(self.label_field)]].astype(np.int64)
        if int(labels.min()) < 0:
            sample = int(labels.argmin())
            raise DataError(f"'{self.path}', sample {sample} has the label {labels[sample]}; labels count from 0")
        return labels


def _field_class(name: str, written: Any) -> Any:
    if not isinstance(written, str):
        return written
    module, _, attribute = written.rpartition(".")
    make_current_directory_importable()
    try:
        found = getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may do anything when imported, even exit
        raise DataError(f"custom_fields.{name}: '{written}' cannot be imported: {reason(error)}") from error
    if not isinstance(found, type) or not issubclass(found, Field):
        raise DataError(f"custom_fields.{name}: '{written}' is no class of ffcv's Field")
    return found


def _class_names(path: Path) -> list[str] | None:
    try:
        return Beton(path).class_names
    except DataError:  # with fields that FFCVData does not read
        return None
