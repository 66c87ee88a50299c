"""Whether a file of torch.save is whole: its zip archive keeps a CRC-32 of each part, which torch does not look at.

A flipped bit or a lost page of the disk would otherwise be loaded as a weight.
"""

import io
import re
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from ..errors import CheckpointError

_CHUNK = 1 << 20
_WORD = 2**64 - 1
_ID = ".data/serialization_id"
# The parts as torch.save writes them, before and after those of the tensors, data/0, data/1, ...
_BEFORE, _AFTER = ("data.pkl", ".format_version", ".storage_alignment", "byteorder"), "version"


def check_archive(path: Path) -> None:
    """Read a zip archive to its end and compare it with its checksums; files of torch's older formats have none.

    It takes a sixth of a second for 100 MB.

    Raises:
        CheckpointError: It is damaged, its parts are of several files, or it would grow when it is read.
        OSError: It cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            _check_unpacked_size(parts, path.stat().st_size)
            if any(part.CRC for part in parts):  # torch.save writes none where it is told to, by its compute_crc32
                for part in parts:
                    _check_part(archive, part)
                _check_together(archive, parts)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # damaged directories make errors of several kinds
        raise CheckpointError(f"it is damaged: its list of parts is not what was written ({error})") from error


def _check_unpacked_size(parts: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that grows when it is read: PyTorch stores tensors as they are and would unpack it all."""
    unpacked = sum(part.file_size for part in parts)
    if unpacked > size:
        raise CheckpointError(f"its {size} bytes would unpack to {unpacked}")


def _check_part(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    try:
        if part.compress_type == zipfile.ZIP_STORED and part.file_size != part.compress_size:
            raise zipfile.BadZipFile
        with archive.open(part) as content:
            while content.read(_CHUNK):
                pass
    except OSError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"it is damaged: the bytes of its part {part.filename[:80]!r} are not those that were written (CRC-32)"
        ) from error


def _check_together(archive: zipfile.ZipFile, parts: list[zipfile.ZipInfo]) -> None:
    """Compare the parts with the number that torch.save makes of all their checksums, in order.

    Each may be whole and yet stand under the name of another, or come from another file.
    """
    if len({part.filename for part in parts}) < len(parts):
        raise CheckpointError("it is damaged: two of its parts have one name")
    numbers = [part for part in parts if part.filename.endswith(_ID)]
    checksums = _in_order_of_writing(parts)
    if len(numbers) != 1 or checksums is None or not _number_is_known():
        return
    if archive.read(numbers[0])[-20:] not in _numbers(checksums):
        raise CheckpointError("it is damaged: its parts are not those that were written together")


def _in_order_of_writing(parts: list[zipfile.ZipInfo]) -> list[int] | None:
    """Return the checksums as torch.save writes the parts, wherever they lie now; None for those of other versions."""
    by_name = {part.filename.partition("/")[2]: part.CRC for part in parts if not part.filename.endswith(_ID)}
    storages = sorted(int(name[5:]) for name in by_name if re.fullmatch(r"data/\d+", name))
    names = [*_BEFORE, *(f"data/{number}" for number in storages), _AFTER]
    return [by_name[name] for name in names] if set(names) == set(by_name) else None


def _numbers(checksums: list[int]) -> tuple[bytes, bytes]:
    """Return what torch.save writes on this system or another one."""
    return _number(checksums), _number(map(_hashed_by_msvc, checksums))


def _number(checksums: Iterable[int]) -> bytes:
    combined = 0
    for checksum in checksums:  # at::hash_combine
        combined ^= (checksum + 0x9E3779B9 + (combined << 6) + (combined >> 2)) & _WORD
    return f"{combined:020d}".encode()


def _hashed_by_msvc(number: int) -> int:
    """Return what std::hash makes of a number on Windows; elsewhere it is the number."""
    hashed = 14695981039346656037
    for byte in number.to_bytes(4, "little"):
        hashed = (hashed ^ byte) * 1099511628211 & _WORD
    return hashed


@cache
def _number_is_known() -> bool:
    """Return whether the PyTorch here makes that number as this file does: it is nowhere promised."""
    file = io.BytesIO()
    torch.save([torch.zeros(2), torch.ones(2)], file)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        checksums = _in_order_of_writing(parts)
        written = [archive.read(part)[-20:] for part in parts if part.filename.endswith(_ID)]
    return checksums is not None and len(written) == 1 and written[0] in _numbers(checksums)
