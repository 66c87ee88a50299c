"""Class folders of real image files of a few pixels, against PIL and timm, and what can be wrong with them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import one_line
from poolformer.data import FolderData
from poolformer.data.class_folders import existing_folder
from poolformer.errors import DataError


def data(**options: Any) -> FolderData:
    paths = {name: str(value) for name, value in options.items() if isinstance(value, Path)}
    return FolderData(**{"image_size": 8, "batch_size": 4, "num_workers": 0, **options, **paths})


def ready(stage: str, **options: Any) -> FolderData:
    module = data(**options)
    module.setup(stage)
    return module


def everything(loader) -> tuple[Tensor, Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def save(path: Path, colour: Any = (0, 0, 0), *, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, lossless=True)  # WebP's word; the others ignore it


def grey(images: Tensor) -> list[int]:
    """The one grey of each image of one grey."""
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


@pytest.fixture
def two_classes(tmp_path) -> Path:
    """Ten images of one grey each: 10 to 16 of class a, 20 to 22 of class b."""
    for shade in range(10, 17):
        save(tmp_path / "a" / f"{shade}.png", (shade,) * 3)
    for shade in range(20, 23):
        save(tmp_path / "b" / f"{shade}.png", (shade,) * 3)
    return tmp_path


# ---- evaluation


def test_evaluation_shows_every_image_once_in_order_with_its_label(two_classes):
    val, test = ready("validate", val=two_classes), ready("test", val=two_classes)
    for loader in (val.val_dataloader(), test.test_dataloader()):
        assert [len(labels) for _, labels in loader] == [4, 4, 2]
        images, labels = everything(loader)
        assert (images.shape, images.dtype) == ((10, 3, 8, 8), torch.uint8)
        assert labels.dtype == torch.int64
        assert grey(images) == [*range(10, 17), *range(20, 23)]
        assert labels.tolist() == [0] * 7 + [1] * 3


# image_size / crop_pct, as arXiv 2111.11418 evaluates: 224 / 0.9 = 248 for S, 224 / 0.95 = 235 for M.
@pytest.mark.parametrize(("crop_pct", "short"), [(0.9, 248), (0.95, 235)])
@pytest.mark.parametrize("size", [(400, 300), (300, 400)], ids=["landscape", "portrait"])
def test_evaluation_pixels_are_timms_and_pils(tmp_path, crop_pct, short, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "0.png")
    module = ready("validate", val=tmp_path, image_size=224, crop_pct=crop_pct)
    ((images, _),) = module.val_dataloader()

    timms = create_transform(224, crop_pct=crop_pct, interpolation="bicubic", use_prefetcher=True)(image)
    assert np.array_equal(images[0].numpy(), timms)

    long = short * 400 // 300
    width, height = (long, short) if size[0] > size[1] else (short, long)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    by_hand = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(by_hand))


FORMATS = {
    "rgb.jpg": ("RGB", (200, 100, 50)),
    "upper case.JPEG": ("RGB", (200, 100, 50)),
    "grey.jpg": ("L", 120),
    "cmyk.jpg": ("CMYK", (10, 100, 200, 30)),
    "rgb.png": ("RGB", (200, 100, 50)),
    "grey.png": ("L", 120),
    "grey and alpha.png": ("LA", (120, 77)),
    "palette.png": ("P", 3),
    "bilevel.png": ("1", 1),
    "rgba.png": ("RGBA", (200, 100, 50, 77)),
    "animal.webp": ("RGB", (200, 100, 50)),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("training", [True, False])
def test_every_kind_of_image_becomes_rgb(tmp_path, name, training):
    mode, colour = FORMATS[name]
    save(tmp_path / "a" / name, colour, mode=mode)
    module = ready("fit", train=tmp_path, val=tmp_path, batch_size=1, auto_augment=None)
    ((images, labels),) = module.train_dataloader() if training else module.val_dataloader()
    with Image.open(tmp_path / "a" / name) as image:
        expected = torch.tensor(image.convert("RGB").getpixel((5, 5)), dtype=torch.uint8)
    assert (images.shape, images.dtype) == ((1, 3, 8, 8), torch.uint8)
    assert torch.equal(images, expected[:, None, None].expand(1, 3, 8, 8))
    assert labels.tolist() == [0]


def test_an_image_smaller_than_the_crop_is_enlarged(tmp_path):
    save(tmp_path / "a" / "0.png", (7, 7, 7), size=(1, 1))
    images, _ = everything(ready("validate", val=tmp_path, image_size=16).val_dataloader())
    assert images.shape == (1, 3, 16, 16)
    assert grey(images) == [7]


# ---- training


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5-inc1"])
def test_training_has_full_batches_of_shuffled_images(two_classes, auto_augment):
    loader = ready("fit", train=two_classes, val=two_classes, auto_augment=auto_augment).train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 2  # of ten images, two are left over
    for images, labels in batches:
        assert (images.shape, images.dtype) == ((4, 3, 8, 8), torch.uint8)
        assert (labels.shape, labels.dtype) == ((4,), torch.int64)


def test_training_images_keep_their_labels_and_come_in_a_new_order_each_epoch(two_classes):
    """The order is a function of seed and epoch."""

    def epochs(**options: Any) -> list[tuple[Tensor, Tensor]]:
        options = {"train": two_classes, "val": two_classes, "auto_augment": None, "batch_size": 10, **options}
        loader = ready("fit", **options).train_dataloader()
        (first,), (again,) = list(loader), list(loader)
        loader.set_epoch(1)
        (second,) = list(loader)
        assert grey(first[0]) == grey(again[0]) != grey(second[0])
        return [first, second]

    both = epochs()
    assert [grey(images) for images, _ in both] == [grey(images) for images, _ in epochs()]
    other_seed = epochs(seed=43)
    assert grey(other_seed[0][0]) != grey(both[0][0])
    for images, labels in both + other_seed:
        assert sorted(grey(images)) == [*range(10, 17), *range(20, 23)]
        assert [shade >= 20 for shade in grey(images)] == labels.bool().tolist()


def ramps(folder: Path, *, batch_size: int, **options: Any) -> Tensor:
    """Training views (B, W) of one image that brightens by a step a pixel from left to right."""
    ramp = np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (240, 240, 3))
    for copy in range(batch_size):
        (folder / "a").mkdir(exist_ok=True)
        Image.fromarray(ramp).save(folder / "a" / f"{copy}.png")
    loader = ready("fit", train=folder, val=folder, batch_size=batch_size, image_size=32, **options).train_dataloader()
    ((images, _),) = loader
    return images[:, 0, 16].float()


@pytest.mark.slow
def test_training_crops_at_random_and_flips_every_other_image(tmp_path):
    """arXiv 2111.11418's recipe: 8 to 100 % of the area, sides 3:4 to 4:3, flipped with probability 0.5."""
    views = ramps(tmp_path, batch_size=200, auto_augment=None)
    spans = views[:, -1] - views[:, 0]
    assert 65 < (spans < 0).sum() < 135
    shares = spans.abs() / 240 * 32 / 31  # of the width: from sqrt(0.08 * 3/4) = 0.245 to 1
    assert shares.min() > 0.22
    assert shares.min() < 0.4
    assert shares.max() > 0.95
    lefts = views.min(1).values
    assert lefts.max() > 100  # crops from the right half as well
    assert lefts.min() < 5


def test_auto_augment_changes_colours_and_null_does_not(two_classes):
    options = {"train": two_classes, "val": two_classes, "batch_size": 10}
    plain = ready("fit", **options, auto_augment=None).train_dataloader()
    augmented = ready("fit", **options).train_dataloader()
    known = {*range(10, 17), *range(20, 23)}

    def strange(loader) -> int:
        count = 0
        for epoch in range(4):
            loader.set_epoch(epoch)
            count += sum(not set(image.unique().tolist()) <= known for image in everything(loader)[0])
        return count

    assert strange(plain) == 0
    assert strange(augmented) > 10


# ---- classes


def test_classes_are_the_folders_in_the_order_of_their_names(tmp_path):
    for name in ("n10", "b", "n2", "B", "a"):
        save(tmp_path / name / "0.png")
    (tmp_path / "README.txt").write_text("not a class")
    module = data(val=tmp_path)
    assert (module.class_names, module.num_classes) == (None, None)
    module.setup("validate")
    assert module.class_names == ["B", "a", "b", "n10", "n2"]
    assert module.num_classes == 5


def test_images_may_lie_deeper_in_a_class_folder_and_other_files_are_no_images(tmp_path):
    save(tmp_path / "a" / "deep" / "1.png", (1, 1, 1))
    save(tmp_path / "a" / "2.png", (2, 2, 2))
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    images, _ = everything(ready("validate", val=tmp_path).val_dataloader())
    assert sorted(grey(images)) == [1, 2]


# ---- prediction


@pytest.fixture
def unlabelled(tmp_path) -> Path:
    """Images beside and below each other, in no class folders."""
    folder = tmp_path / "photos"
    save(folder / "z.png", (4, 4, 4))
    save(folder / "b" / "0.png", (3, 3, 3))
    save(folder / "b.png", (2, 2, 2))  # as a string before those in b: "." comes before "/"
    save(folder / "a" / "deep" / "0.PNG", (1, 1, 1))
    (folder / "b" / "notes.txt").write_text("not an image")
    return folder


def test_any_tree_of_images_can_be_predicted(unlabelled):
    module = ready("predict", predict=unlabelled, batch_size=2)
    assert [len(labels) for _, labels in module.predict_dataloader()] == [2, 2]
    images, labels = everything(module.predict_dataloader())
    assert labels.tolist() == [-1] * 4
    assert grey(images) == [1, 2, 3, 4]
    names = [str(Path(name).relative_to(unlabelled)) for name in module.predict_names]
    assert names == ["a/deep/0.PNG", "b.png", "b/0.png", "z.png"]
    assert module.class_names is None


def test_the_validation_images_are_predicted_where_no_others_are_given(two_classes):
    module = ready("predict", val=two_classes)
    images, labels = everything(module.predict_dataloader())
    assert grey(images) == [*range(10, 17), *range(20, 23)]
    assert labels.tolist() == [-1] * 10
    assert len(module.predict_names) == 10


# ---- mistakes


def no_classes(folder: Path) -> None:
    save(folder / "0.png")


def empty_class(folder: Path) -> None:
    save(folder / "a" / "0.png")
    (folder / "b").mkdir()
    (folder / "c").mkdir()


@pytest.mark.parametrize("stage", ["fit", "validate"])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (no_classes, "--data.val: '{0}' has no images in class folders: expected <class>/<image>"),
        (
            empty_class,
            "--data.val: '{0}': 2 of 3 class folders have no images, the first is 'b'; fill or remove them",
        ),
        (lambda folder: folder.rmdir(), "--data.val: there is no folder '{0}'"),
    ],
)
def test_a_folder_that_is_not_class_folders_is_refused(tmp_path, stage, build: Callable[[Path], None], message):
    folder = tmp_path / "images"
    folder.mkdir()
    build(folder)
    save(tmp_path / "good" / "a" / "0.png")
    with pytest.raises(DataError) as caught:
        ready(stage, train=tmp_path / "good", val=folder)
    assert str(caught.value) == message.format(folder)


SPLITS = [("fit", "train"), ("fit", "val"), ("validate", "val"), ("test", "test"), ("predict", "predict")]


@pytest.mark.parametrize(("stage", "split"), SPLITS)
def test_a_folder_that_is_not_given_is_asked_for(two_classes, stage, split):
    folders = {"train": two_classes, "val": two_classes} if stage == "fit" else {"train": two_classes}
    folders.pop(split, None)
    with pytest.raises(DataError) as caught:
        ready(stage, **folders)
    remedy = ", or --data.val_share 0.2 to hold out a part of --data.train" if (stage, split) == ("fit", "val") else ""
    assert str(caught.value) == f"FolderData has no {split} images: pass --data.{split} PATH{remedy}"


def test_training_and_validation_need_the_same_classes(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/c"):
        save(tmp_path / name / "0.png")
    with pytest.raises(DataError) as caught:
        ready("fit", train=tmp_path / "train", val=tmp_path / "val")
    assert str(caught.value) == (
        f"'{tmp_path}/train' and '{tmp_path}/val' do not hold the same classes; 2 are in one of them alone: b, c"
    )


def test_fewer_images_than_a_batch_are_refused(two_classes):
    module = ready("fit", train=two_classes, val=two_classes, batch_size=11)
    with pytest.raises(DataError) as caught:
        module.train_dataloader()
    assert str(caught.value) == (
        f"'{two_classes}' has 10 images, fewer than one batch of 11: lower --data.batch_size, for example to 2"
    )


def test_a_tree_without_images_cannot_be_predicted(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(DataError) as caught:
        ready("predict", predict=tmp_path)
    assert str(caught.value) == f"--data.predict: there are no images below '{tmp_path}'"


@pytest.mark.parametrize("stage", ["test", "predict"])
@pytest.mark.parametrize("option", ["own", "val"])
def test_a_missing_folder_is_named_with_the_option_it_was_given_by(tmp_path, stage, option):
    """The images to validate on stand in for those to test on or predict, and so does their option."""
    given = stage if option == "own" else "val"
    with pytest.raises(DataError) as caught:
        ready(stage, **{given: tmp_path / "nowhere"})
    assert str(caught.value) == f"--data.{given}: there is no folder '{tmp_path}/nowhere'"


@pytest.mark.parametrize(
    ("name", "is_what"),
    [
        ("x.beton", ".beton file: --data FFCVData reads it"),
        ("x.tar.gz", "file, not a folder: unpack it, or `poolformer pack` it"),
        ("labels.csv", "file, not a folder"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_told_what_reads_it(tmp_path, name, is_what):
    (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        ready("validate", val=tmp_path / name)
    assert str(caught.value) == f"--data.val: '{tmp_path / name}' is a {is_what}"


def test_a_place_where_nobody_may_look_is_no_folder(tmp_path, monkeypatch):
    def refuses(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.stat", refuses)
    with pytest.raises(DataError, match="there is no folder"):
        existing_folder(tmp_path / "x")


def test_a_packed_file_among_pictures_is_told_what_reads_it(tmp_path):
    (tmp_path / "x.beton").touch()
    with pytest.raises(DataError, match=r"x\.beton' is a \.beton file: --data FFCVData reads it"):
        ready("predict", predict=[str(tmp_path / "x.beton")])


def test_a_missing_relative_path_says_where_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        ready("validate", val="nowhere")
    assert str(caught.value) == (f"--data.val: there is no folder 'nowhere' (a relative path starts in '{tmp_path}')")


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


OR_LEAVE_IT = "replace the file or leave it out"
BROKEN = {
    "truncated": (truncated, f"damaged JPEG (Premature end of JPEG file); {OR_LEAVE_IT}"),
    "text": (
        lambda path: path.write_text("<html>404 Not Found</html>"),
        f"cannot be read as an image (not an image); {OR_LEAVE_IT}",
    ),
    "empty": (lambda path: path.touch(), "the file is empty; replace it or leave it out"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("stage", ["fit", "validate", "predict"])
def test_a_file_that_is_no_image_is_named(tmp_path, kind, stage):
    broken = tmp_path / "a" / "broken.jpg"
    save(tmp_path / "a" / "good.jpg")
    make, reason = BROKEN[kind]
    make(broken)
    module = ready(stage, train=tmp_path, val=tmp_path, batch_size=2)
    split = {"fit": "train", "validate": "val"}.get(stage, stage)
    with pytest.raises(DataError) as caught:
        list(getattr(module, f"{split}_dataloader")())
    assert str(caught.value) == one_line(caught.value) == f"'{broken}': {reason}"


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_in_a_worker_thread_is_named_in_one_line(tmp_path, kind):
    broken = tmp_path / "a" / "broken.jpg"
    broken.parent.mkdir()
    make, reason = BROKEN[kind]
    make(broken)
    with pytest.raises(DataError) as caught:
        list(ready("validate", val=tmp_path, num_workers=1).val_dataloader())
    assert str(caught.value) == one_line(caught.value) == f"'{broken}': {reason}"


@pytest.mark.parametrize("name", ["photos.zip", "PHOTOS.TAR.GZ", "photos.tar.zst", "photos.txz"])
def test_an_archive_to_predict_is_refused_with_what_helps(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DataError, match=r"is an archive: unpack it$"):
        ready("predict", predict=[str(tmp_path / name)])


def test_loading_warns_of_nothing(two_classes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(ready("validate", val=two_classes).val_dataloader())) == 3


# ---- in a run


def test_a_folder_trains_evaluates_and_predicts(two_classes):
    def trainer() -> pl.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)

    options = {"image_size": 8, "warmup_epochs": 0, "cooldown_epochs": 0}
    model = ImageClassifier("poolformer_tiny", 2, **options)
    trainer().fit(model, datamodule=data(train=two_classes, val=two_classes))
    assert model.class_names == ["a", "b"]
    trainer().validate(model, datamodule=data(val=two_classes), verbose=False)
    predictions = trainer().predict(model, datamodule=data(predict=two_classes))
    assert torch.cat(predictions).shape == (10, 2)
    assert model.class_names == ["a", "b"]  # the images to predict have none
