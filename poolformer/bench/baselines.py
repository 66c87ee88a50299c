"""What else a user could load ImageNet with: timm's and torchvision's recipes, for `poolformer bench data`."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.pixels.jpeg import read_header
from ..data.threads import in_order


class Decoded(Dataset):
    """Image files in memory, decoded by Pillow and transformed one by one.

    Args:
        files: bytes of the files.
        transform: from a Pillow image to a tensor.
    """

    def __init__(self, files: list[bytes], transform: Callable[[Image.Image], Any]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        with Image.open(io.BytesIO(self.files[n])) as image:
            return torch.as_tensor(self.transform(image.convert("RGB"))), 0


def timm_transform(*, image_size: int, crop_pct: float, training: bool) -> Callable[[Image.Image], Any]:
    """timm's transform of the recipe, to uint8."""
    from timm.data import auto_augment, create_transform

    if not training:
        return create_transform(image_size, crop_pct=crop_pct, interpolation="bicubic", normalize=False)
    # timm 1.0 asks Pillow 13 for 0 bits at magnitude 10, which raises for one image in 650.
    level_to_arg = auto_augment._posterize_increasing_level_to_arg
    auto_augment.LEVEL_TO_ARG["PosterizeIncreasing"] = lambda level, hparams: (max(1, *level_to_arg(level, hparams)),)
    return create_transform(
        image_size,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="random",
        color_jitter=None,  # type: ignore[arg-type]  # which timm takes for no jitter
        normalize=False,
    )


def torchvision_transform(*, image_size: int) -> Callable[[Image.Image], Any]:
    """torchvision's own recipe of the same kind: bilinear, and its RandAugment, whose operations are not timm's."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip(), v2.RandAugment(), v2.PILToTensor()])


def with_processes(dataset: Dataset, *, batch_size: int, workers: int) -> DataLoader:
    """The usual loader: one process a core."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=workers)


def jpegs_of(files: list[bytes]) -> list[bytes]:
    """Those files that libjpeg-turbo decodes."""
    return [data for data in files if read_header(data) is not None]


def decoding_alone(jpegs: list[bytes], *, workers: int) -> Iterator[None]:
    """Decodes with libjpeg-turbo and does nothing else: the floor."""

    def decode(data: bytes) -> None:
        simplejpeg.decode_jpeg(data)

    yield from in_order(decode, jpegs, workers=workers, ahead=4 * workers)
