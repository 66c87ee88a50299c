"""Images and boxes: shapes made by a seed, COCO folders, and Pascal VOC."""

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, parse

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets import VOCDetection
from torchvision.ops import box_convert, clip_boxes_to_image, remove_small_boxes
from torchvision.transforms import v2

from poolformer.errors import DataError

from .loading import DenseModule, pixels_of
from .shapes import CLASSES, draw

Target = dict[str, Tensor]
"""Boxes float (N, 4) from left and top to right and bottom in pixels, labels int64 (N,) from 0, and iscrowd int64 (N,):
1 where a box stands for many objects or is too hard, which training leaves out and the metric counts neither way."""
Sample = tuple[Tensor, Target]

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class BoxModule(DenseModule):
    """A data module of images uint8 (3, H, W) of any size and targets; what inherits it has `train_set` and `val_set`.

    Args:
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    @staticmethod
    def collate(samples: list[Sample]) -> tuple[list[Tensor], list[Target]]:
        """Return the images as a list, since their sizes differ, and their targets."""
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)

    @staticmethod
    def labels_of(batch: tuple[list[Tensor], list[Target]]) -> Tensor:
        """Return the classes of all boxes."""
        return torch.cat([target["labels"] for target in batch[1]])


class ShapesBoxes(BoxModule):
    """Discs, squares and crosses before a noisy background, made by a seed: three classes, no download.

    Args:
        train: Images to train on.
        val: Images to validate on.
        image_size: Their side in pixels.
        batch_size: Images a device and step.
        num_workers: Processes that load.
        data_seed: Of the images.
    """

    class_names = CLASSES

    def __init__(
        self,
        train: int = 2000,
        val: int = 200,
        image_size: int = 64,
        batch_size: int = 16,
        num_workers: int = 0,
        data_seed: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return the first shapes."""
        return self._shapes(range(self.hparams.train), _FLIP)

    def val_set(self) -> Dataset[Sample]:
        """Return those after them."""
        return self._shapes(range(self.hparams.train, self.hparams.train + self.hparams.val))

    def _shapes(self, numbers: range, transform: v2.Transform | None = None) -> Dataset[Sample]:
        sample = partial(_of_shapes, numbers, self.hparams.image_size, self.hparams.data_seed)
        return _Samples(len(numbers), sample, transform)


class CocoBoxes(BoxModule):
    """A folder as COCO's: images in ``train2017`` and ``val2017``, boxes in ``annotations/instances_train2017.json``.

    Category numbers may have gaps, as COCO's have: they become 0, 1, ... in their order.

    Args:
        root: That folder.
        train: Folder of the images to train on, and end of the name of their annotations.
        val: Folder of the images to validate on, and end of the name of their annotations.
        filter_empty_gt: Whether images without a box are left out of training, as the authors' configuration has it.
        batch_size: Images a device and step; the authors have 2 on each of 8.
        num_workers: Processes that load.
    """

    def __init__(
        self,
        root: str,
        train: str = "train2017",
        val: str = "val2017",
        filter_empty_gt: bool = True,
        batch_size: int = 16,
        num_workers: int = 4,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

        self._known: tuple[Path, dict[int, str]] | None = None

    def train_set(self) -> Dataset[Sample]:
        """Return the annotated images to train on."""
        train = self._read(self.hparams.train)
        keep = not self.hparams.filter_empty_gt
        chosen = [index for index in range(len(train.files)) if keep or train.has_boxes(index)]
        if not chosen:
            raise DataError(f"{train.file}: no image has a box")
        return _Samples(len(chosen), partial(_of_chosen, train, chosen), _FLIP)

    def val_set(self) -> Dataset[Sample]:
        """Return the annotated images to validate on."""
        val = self._read(self.hparams.val)
        return _Samples(len(val.files), val)

    def _read(self, split: str) -> "_Coco":
        found = _Coco(Path(self.hparams.root), split)
        file, categories = self._known = self._known or (found.file, found.categories)
        if found.categories != categories:
            raise DataError(f"{found.file} has other categories than {file}")
        self.class_names = tuple(categories.values())
        return found


class VOCBoxes(BoxModule):
    """Pascal VOC's detection, 20 classes, from the folder that holds ``VOCdevkit``.

    Objects marked as difficult are left out of training and are COCO's crowds in the metric: a detection of which the
    threshold's share lies within one counts neither way, where VOC asks for their IoU.

    Args:
        root: That folder.
        year: Of the challenge.
        train: List of the images to train on.
        val: List of the images to validate on.
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    class_names = VOC_CLASSES

    def __init__(
        self,
        root: str,
        year: str = "2012",
        train: str = "train",
        val: str = "val",
        batch_size: int = 16,
        num_workers: int = 4,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return torchvision's data set of the challenge's own list."""
        return self._listed(self.hparams.train, _FLIP)

    def val_set(self) -> Dataset[Sample]:
        """Return torchvision's data set of the challenge's own list."""
        return self._listed(self.hparams.val)

    def _listed(self, split: str, transform: v2.Transform | None = None) -> Dataset[Sample]:
        root, year = self.hparams.root, self.hparams.year
        try:
            voc = VOCDetection(root, year=year, image_set=split)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{root} has no VOCdevkit of {year} with '{split}': {error}") from error
        return _Samples(len(voc), partial(_of_voc, voc), transform)


_FLIP = v2.RandomHorizontalFlip()


class _Samples(Dataset[Sample]):
    def __init__(self, length: int, sample: Callable[[int], Sample], transform: v2.Transform | None = None):
        self.length, self.sample, self.transform = length, sample, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, target = self.sample(index)
        if self.transform is None:
            return image, target
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[1:])
        image, boxes = self.transform(tv_tensors.Image(image), boxes)
        return image.as_subclass(Tensor), {**target, "boxes": boxes.as_subclass(Tensor)}


class _Coco:
    """The samples of one file of annotations, by number.

    The boxes are three tensors of all images: dictionaries, as pycocotools keeps them, would be copied into each of the
    loader's processes as these touch them (pytorch/pytorch#13246).
    """

    def __init__(self, root: Path, split: str):
        self.file, self.folder = root / "annotations" / f"instances_{split}.json", root / split
        try:
            found = json.loads(self.file.read_bytes())
            self.categories = {each["id"]: each["name"] for each in sorted(found["categories"], key=lambda x: x["id"])}
            ids = [each["id"] for each in found["images"]]
            self.files = [os.fspath(each["file_name"]) for each in found["images"]]
            self._sizes = torch.tensor([[each.get("height") or 0, each.get("width") or 0] for each in found["images"]])
            if twice := next((each for each, count in Counter(ids).items() if count > 1), None):
                raise DataError(f"{self.file}: there are several images with the id {twice!r}")
            self._index(found["annotations"], ids)
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}") from error
        except DataError:
            raise
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # the last two of a tensor that none is
            raise DataError(f"{self.file} is not COCO's: {error}") from error
        except KeyError as error:
            raise DataError(f"{self.file} is not COCO's: there is no {error}") from error
        if not ids:
            raise DataError(f"{self.file} has no images")

    def _index(self, annotations: list[dict[str, Any]], ids: list[int]) -> None:
        """Sort the boxes by image; `_ends` tells where those of an image end."""
        labels = {category: label for label, category in enumerate(self.categories)}
        places = {each: place for place, each in enumerate(ids)}
        for each in annotations:
            if each["category_id"] not in labels:
                raise DataError(
                    f"{self.file}: annotation {each['id']} is of category {each['category_id']!r}, not listed"
                )
            if each["image_id"] not in places:
                raise DataError(f"{self.file}: annotation {each['id']} is of image {each['image_id']!r}, not listed")
            if len(each["bbox"]) != 4:
                raise DataError(f"{self.file}: annotation {each['id']} has no box of four numbers: {each['bbox']}")
        annotations = sorted(annotations, key=lambda each: places[each["image_id"]])
        counts = torch.bincount(
            torch.tensor([places[each["image_id"]] for each in annotations]).long(), minlength=len(ids)
        )
        self._ends = counts.cumsum(0)
        boxes = torch.tensor([each["bbox"] for each in annotations], dtype=torch.float32).reshape(len(annotations), 4)
        self._boxes = box_convert(boxes, "xywh", "xyxy")
        self._labels = torch.tensor([labels[each["category_id"]] for each in annotations]).long()
        self._crowds = torch.tensor([each.get("iscrowd", 0) for each in annotations]).long()

    def _of(self, index: int) -> slice:
        return slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))

    def has_boxes(self, index: int) -> bool:
        """Whether there is something to learn in an image."""
        return bool((self._crowds[self._of(index)] == 0).any())

    def __call__(self, index: int) -> Sample:
        image, of = pixels_of(self.folder / self.files[index]), self._of(index)
        height, width = self._sizes[index].tolist()
        if height and width and image.shape[1:] != (height, width):
            found = f"{image.shape[2]} x {image.shape[1]}"
            raise DataError(f"{self.folder / self.files[index]} is {found} pixels, in {self.file} {width} x {height}")
        return image, _target(self._boxes[of], self._labels[of], self._crowds[of], image.shape[1:])


def _of_chosen(coco: _Coco, chosen: list[int], index: int) -> Sample:
    return coco(chosen[index])


def _of_shapes(numbers: range, side: int, seed: int, index: int) -> Sample:
    drawn = draw(numbers[index], side, seed)
    return drawn.image, _target(drawn.boxes, drawn.labels, torch.zeros_like(drawn.labels), drawn.image.shape[1:])


def _of_voc(voc: VOCDetection, index: int) -> Sample:
    try:
        objects = voc.parse_voc_xml(parse(voc.annotations[index]).getroot())["annotation"]["object"]
        corners = [[float(each["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
        names = [each["name"] for each in objects]
        hard = [int(each.get("difficult", 0)) for each in objects]
    except KeyError as error:
        raise DataError(f"{voc.annotations[index]} is not VOC's: there is no {error}") from error
    except TypeError as error:  # a text or several where there should be one thing with parts
        raise DataError(f"{voc.annotations[index]} is not VOC's: {error}") from error
    except (OSError, ValueError, ParseError) as error:
        raise DataError(f"{voc.annotations[index]} cannot be read: {error}") from error
    foreign = [name for name in names if name not in VOC_CLASSES]
    if foreign:
        known = ", ".join(VOC_CLASSES)
        raise DataError(f"{voc.annotations[index]} has an object of class '{foreign[0]}'; VOC's are {known}")
    labels = [VOC_CLASSES.index(name) for name in names]
    boxes = torch.tensor(corners).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])  # pixels are counted from 1
    pixels = pixels_of(Path(voc.images[index]))
    return pixels, _target(boxes, torch.tensor(labels).long(), torch.tensor(hard).long(), pixels.shape[1:])


def _target(boxes: Tensor, labels: Tensor, crowds: Tensor, size: torch.Size) -> Target:
    """Cut boxes at the image's border, and leave out those that have no pixel then, as the authors' loader does."""
    boxes = clip_boxes_to_image(boxes, (size[0], size[1]))
    kept = remove_small_boxes(boxes, 1.0)
    return {"boxes": boxes[kept], "labels": labels[kept], "iscrowd": crowds[kept]}
