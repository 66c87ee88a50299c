"""Images that cannot be read: for a moment, which is waited for, or at all, which ends the run or is skipped."""

import csv
import errno
import os
import tarfile
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from data_images import write_class_folders

from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import main
from poolformer.data import FFCVData, FolderData, patience
from poolformer.data.archive_files import ArchiveFiles
from poolformer.data.beton import Beton
from poolformer.data.class_folders import read_file
from poolformer.errors import DataError
from poolformer.run.predictions import PredictionWriter


class Flaky:
    """A call that fails a number of times."""

    def __init__(self, call, code: int, times: int):
        self.call, self.code, self.times = call, code, times

    def __call__(self, *arguments):
        if self.times:
            self.times -= 1
            raise OSError(self.code, os.strerror(self.code))
        return self.call(*arguments)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (0, 0, 0))


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_class_folders(tmp_path / "images", classes=3, images=4)


@pytest.fixture
def beton(folder, tmp_path) -> Path:
    assert main(["pack", str(folder), str(tmp_path / "x.beton")]) == 0
    return tmp_path / "x.beton"


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN])
def test_an_error_that_passes_is_waited_for(folder, beton, no_pauses, monkeypatch, code):
    path, whole = folder / "class_0" / "0.JPEG", Beton(beton).read(0).data
    read = Flaky(Path.read_bytes, code, 3)
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self))
    assert read_file(str(path)) == path.read_bytes()
    monkeypatch.setattr(os, "pread", Flaky(os.pread, code, 3))
    assert np.array_equal(Beton(beton).read(0).data, whole)


def test_a_tar_is_waited_for_too(folder, tmp_path, no_pauses, monkeypatch):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(folder, "images")
    files = ArchiveFiles(tmp_path / "x.tar")
    monkeypatch.setattr(os, "pread", Flaky(os.pread, errno.EIO, 3))
    assert files.read(0) == (folder / "class_0" / "0.JPEG").read_bytes()


def test_a_file_system_that_hands_out_less_at_once_is_read_to_the_end(folder, beton, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(folder, "images")
    expected, pread = Beton(beton).read(0).data.tobytes(), os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, place: pread(descriptor, min(size, 300), place))
    assert Beton(beton).read(0).data.tobytes() == expected
    assert ArchiveFiles(tmp_path / "x.tar").read(0) == expected


@pytest.mark.parametrize(("code", "times"), [(errno.EIO, 4), (errno.EACCES, 1), (errno.ENOENT, 1)])
def test_an_error_that_stays_is_named(folder, beton, no_pauses, monkeypatch, code, times):
    read = Flaky(Path.read_bytes, code, times)
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self))
    with pytest.raises(DataError, match=rf"0\.JPEG': cannot be read \({os.strerror(code)}\)$"):
        read_file(str(folder / "class_0" / "0.JPEG"))
    opened = Beton(beton)
    monkeypatch.setattr(os, "pread", Flaky(os.pread, code, times))
    with pytest.raises(DataError, match=rf"x\.beton', sample 5: cannot be read \({os.strerror(code)}\)$"):
        opened.read(5)


def test_a_beton_that_was_cut_off_since_is_an_error_not_a_signal(beton):
    opened = Beton(beton)
    first, last = opened.read(0).data.tobytes(), opened.read(11).data.tobytes()
    os.truncate(beton, beton.read_bytes().index(last) + 10)  # behind it stand the checksums of all
    assert opened.read(0).data.tobytes() == first
    with pytest.raises(DataError, match="sample 11: the file was cut off since it was opened"):
        opened.read(11)
    os.truncate(beton, 0)
    with pytest.raises(DataError, match="sample 0: the file was cut off"):
        opened.read(0)


# ---- skipping


def damage(folder: Path, beton: Path, *samples: int) -> None:
    """Spoil images, in the folder and in what was packed of it."""
    opened = Beton(beton)
    for sample in samples:
        path = sorted(folder.rglob("*.JPEG"))[sample]
        path.write_bytes(path.read_bytes()[:-50])
        with beton.open("r+b") as file:
            file.seek(int(opened.entries(np.array([sample])).place[0]) + 300)
            file.write(b"\0\1\2\3")


def ready(kind: type, path: Path, stage: str = "fit", **options) -> pl.LightningDataModule:
    module = kind(
        str(path), str(path), batch_size=4, image_size=16, **{"num_workers": 1, "on_error": "skip", **options}
    )
    module.setup(stage)
    return module


def epoch_of(loader, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(epoch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(loader)


@pytest.fixture(params=[FolderData, FFCVData])
def spoilt(request, folder, beton):
    """(data module, path) of twelve images of which the 4th and 8th, last of their classes, and the 7th are damaged."""
    damage(folder, beton, 3, 6, 7)
    return request.param, folder if request.param is FolderData else beton


def test_the_next_image_stands_in_with_its_own_label(spoilt):
    kind, path = spoilt
    loader = ready(kind, path, auto_augment=None).train_dataloader()
    loader.set_epoch(1)
    with pytest.warns(
        UserWarning, match=r"^epoch 1: 3 of 12 images cannot be read and are replaced by the next ones; "
    ):
        batches = list(loader)
    assert [len(labels) for _, labels in batches] == [4, 4, 4]
    order = loader.order(1).tolist()
    stands_in = {3: 4, 6: 8, 7: 8}
    expected = [stands_in.get(sample, sample) // 4 for sample in order]
    assert torch.cat([labels for _, labels in batches]).tolist() == expected
    images = dict(zip(order, torch.cat([images for images, _ in batches]), strict=True))
    assert torch.equal(images[3], images[4])
    assert torch.equal(images[7], images[8])


def test_batches_do_not_depend_on_threads_or_a_restart(spoilt):
    kind, path = spoilt
    whole = epoch_of(ready(kind, path).train_dataloader())
    resumed = ready(kind, path, num_workers=2).train_dataloader()
    resumed.load_state_dict({"epoch": 0, "batch": 1})
    for (one, label), (other, same) in zip(whole[1:], epoch_of(resumed), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(label, same)


def test_evaluation_leaves_them_out_and_says_how_many(spoilt):
    kind, path = spoilt
    loader = ready(kind, path).val_dataloader()
    with pytest.warns(UserWarning, match=r"^3 of 12 images cannot be read and are left out; the first: .*") as told:
        batches = list(loader)
    assert len(told) == 1
    assert [labels.tolist() for _, labels in batches] == [[0, 0, 0], [1, 1], [2, 2, 2, 2]]
    assert [loader.batch_indices(n) for n in range(3)] == [[0, 1, 2], [4, 5], [8, 9, 10, 11]]


def test_a_batch_of_unreadable_images_is_left_out_whole(folder, beton):
    damage(folder, beton, 0, 1, 2, 3, 5)
    loader = ready(FolderData, folder).val_dataloader()
    assert [labels.tolist() for _, labels in epoch_of(loader)] == [[1, 1, 1], [2, 2, 2, 2]]
    assert [loader.batch_indices(n) for n in range(2)] == [[4, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("split", ["train", "val"])
def test_data_of_which_nothing_can_be_read_is_refused(folder, beton, split):
    damage(folder, beton, *range(12))
    with pytest.raises(DataError, match=r"[Pp]remature"):
        epoch_of(getattr(ready(FolderData, folder), f"{split}_dataloader")())


def test_without_the_option_the_first_one_ends_it(spoilt):
    kind, path = spoilt
    with pytest.raises(DataError, match=r"damaged JPEG|its bytes are not those that were packed"):
        epoch_of(ready(kind, path, on_error="fail").val_dataloader())


def test_predictions_name_the_images_that_are_there(folder, beton, tmp_path):
    damage(folder, beton, 1, 4, 5, 6, 7)
    data = FolderData(predict=str(folder), batch_size=4, image_size=16, num_workers=1, on_error="skip")
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[PredictionWriter()], **quiet)
    with pytest.warns(UserWarning, match="5 of 12 images cannot be read and are left out"):
        trainer.predict(ImageClassifier("poolformer_tiny", 3, image_size=16), datamodule=data)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        names = [str(Path(row["image"]).relative_to(folder)) for row in csv.DictReader(file)]
    assert names == [f"class_{label}/{n}.JPEG" for label, n in [(0, 0), (0, 2), (0, 3), *((2, n) for n in range(4))]]
