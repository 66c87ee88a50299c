"""Tars of strangers and of bad disks, changed at random: what is taken is what `tar` unpacks, all else is refused."""

import collections
import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from poolformer.data.archive_files import ArchiveFiles
from poolformer.data.class_folders import FolderFiles
from poolformer.data.tar_members import BLOCK
from poolformer.errors import DataError

CASES = int(os.environ.get("POOLFORMER_FUZZ", "150"))
SECONDS = 5
CHANGES = ["flip", "flip", "flip", "bit", "cut", "cut", "block", "drop", "drop", "double", "zero", "zeros", "noise"]
CHANGES += ["swap", "join", "tail", "header", "sealed", "sealed"]


def content(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([1, 511, 512, 513, 1500]))


def archive(draw: random.Random, form: int, *, links: bool = False, prefix: str = "", classes: int = 3) -> bytes:
    """Class folders with images, and links among them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for label in range(classes):
            folder = tarfile.TarInfo(f"{prefix}class_{label}")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
            for n in range(3):
                data = content(draw)
                long = "x" * 120 if form != tarfile.USTAR_FORMAT and n == 1 else ""
                member = tarfile.TarInfo(f"{prefix}class_{label}/{n}{long}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            if links:
                for name, kind, target in (
                    ("hard", tarfile.LNKTYPE, f"{prefix}class_0/0.jpg"),
                    ("soft", tarfile.SYMTYPE, "../class_0/0.jpg"),
                ):
                    member = tarfile.TarInfo(f"{prefix}class_{label}/{name}.jpg")
                    member.type, member.linkname = kind, target
                    tar.addfile(member)
    return file.getvalue()


def of_tars(draw: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for label in range(3):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for n in range(3):
                    data = content(draw)
                    member = tarfile.TarInfo(f"{label}_{n}.jpg")
                    member.size = len(data)
                    of_class.addfile(member, io.BytesIO(data))
            member = tarfile.TarInfo(f"class_{label}.tar")
            member.size = inner.tell()
            inner.seek(0)
            tar.addfile(member, inner)
    return file.getvalue()


def sealed(block: bytes) -> bytes:
    """A header with a checksum that fits, as whoever writes an archive can."""
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def changed(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    heads = [n for n, block in enumerate(blocks) if block[257:262] == b"ustar"]
    at, head, size = draw.randrange(len(blocks)), draw.choice(heads), draw.randint(1, 4)
    kind = draw.choice(CHANGES)
    flip = bytearray(data)
    if kind == "flip":  # in a header
        flip[head * BLOCK + draw.randrange(BLOCK)] ^= 1 << draw.randrange(8)
    elif kind == "bit":
        flip[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del flip[draw.randrange(len(data)) :]
    elif kind == "block":
        del flip[at * BLOCK :]
    elif kind == "drop":
        del flip[at * BLOCK : (at + size) * BLOCK]
    elif kind == "double":
        flip[at * BLOCK : at * BLOCK] = flip[at * BLOCK : (at + size) * BLOCK]
    elif kind == "zero":
        flip[at * BLOCK : (at + 1) * BLOCK] = bytes(BLOCK)
    elif kind == "zeros":
        flip[at * BLOCK : at * BLOCK] = bytes(BLOCK * draw.randint(1, 2))
    elif kind == "noise":
        flip[at * BLOCK : (at + 1) * BLOCK] = draw.randbytes(BLOCK)
    elif kind == "swap":
        other = draw.randrange(len(blocks))
        blocks[at], blocks[other] = blocks[other], blocks[at]
        flip = bytearray(b"".join(blocks))
    elif kind == "join":
        flip += data
    elif kind == "tail":
        flip += draw.choice([b"x", b"\0" * 700, draw.randbytes(600)])
    elif kind == "header":
        flip[at * BLOCK : at * BLOCK] = blocks[head]
    else:
        block = bytearray(blocks[head])
        place = draw.choice([draw.randrange(100), draw.randrange(124, 136), 156, draw.randrange(157, 180)])
        block[place] = draw.choice([*b"0123456789/.Lxg5\0", draw.randrange(256)])
        flip[head * BLOCK : (head + 1) * BLOCK] = sealed(bytes(block))
    return kind, bytes(flip)


def taken(files: FolderFiles | ArchiveFiles) -> list[tuple[str, bytes]]:
    return sorted((files.class_names[label], files.read(n)) for n, label in enumerate(files.labels))


def unpacked(path: Path, folder: Path) -> FolderFiles | str:
    """What GNU tar makes of it, and of the tars in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    todo = [(path, folder)]
    while todo:
        path, into = todo.pop()
        into.mkdir(exist_ok=True)
        command = ["tar", "-xf", str(path), "-C", str(into), "--no-same-owner", "--no-same-permissions"]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            return done.stderr.decode(errors="replace")
        if into == folder:
            todo += [(inner, inner.with_suffix("")) for inner in folder.rglob("*.tar") if inner.is_file()]
    return FolderFiles(folder)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
def test_changed_tars_give_what_tar_unpacks_or_are_refused(tmp_path):
    draw = random.Random(int(os.environ.get("POOLFORMER_FUZZ_SEED", "0")))
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    whole = [
        archive(draw, form, links=links, prefix=prefix)
        for form in forms
        for links in (False, True)
        for prefix in ("", "some/where/")
    ]
    whole += [of_tars(draw), of_tars(draw), of_tars(draw)]
    results: collections.Counter[str] = collections.Counter()
    path = tmp_path / "x.tar"
    for number in range(CASES):
        data = draw.choice(whole)
        packing = draw.choice([None] * 6 + [gzip.compress, lzma.compress])
        if packing:
            data = packing(data)
            flip = bytearray(data)
            if draw.random() < 0.5:
                flip[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            else:
                del flip[draw.randrange(len(data)) :]
            kind, data = packing.__module__, bytes(flip)
        else:
            kind, data = changed(data, draw)
        path.write_bytes(data)
        start = time.monotonic()
        try:
            files = ArchiveFiles(path)
            got = taken(files)
        except DataError:
            results[f"{kind}: refused"] += 1
            continue
        finally:
            assert time.monotonic() - start < SECONDS, f"case {number} ({kind})"
        expected = unpacked(path, tmp_path / "unpacked")
        if isinstance(expected, str) and "Cannot hard link" in expected and "lead" in files.remarks:
            results[f"{kind}: a lost link, said"] += 1
            continue
        assert not isinstance(expected, str), f"case {number} ({kind}): taken, but tar says {expected}"
        assert got == taken(expected), f"case {number} ({kind}): {files.remarks}"
        results[f"{kind}: as tar has it"] += 1
    print(dict(sorted(results.items())))
    assert sum(count for kind, count in results.items() if "refused" in kind) > CASES // 3
    assert sum(count for kind, count in results.items() if "as tar" in kind) > CASES // 20
