"""ffcv as a user of ffcv-imagenet has it, for `poolformer bench data`; the plugin poolformer-ffcv trains with it."""

from collections.abc import Iterator
from typing import Any

import torch

from ..data.ffcv_types import leave_types_alone
from ..errors import DataError

# To the end of the process: numba 0.68 prints a KeyError for each of ffcv's compiled functions that goes.
_KEPT: list[Any] = []


def stock_loader(path: str, *, training: bool, image_size: int, batch_size: int, workers: int) -> Any:
    """Return ffcv's own loader with ffcv-imagenet's pipelines up to uint8 images; compiled at its first batch.

    Args:
        path: A .beton file of the fields `image` and `label`.
        training: Random resized crops and flips in random order; otherwise centre crops of 224/256, in order.
        image_size: Side of the images in pixels.
        batch_size: Images a batch.
        workers: Threads.

    Raises:
        DataError: ffcv does not take the file.
    """
    threads = torch.get_num_threads()  # which ffcv sets when it is imported and when it is used
    try:
        from ffcv.fields import decoders
        from ffcv.loader import Loader, OrderOption
        from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage

        leave_types_alone()
        size = (image_size, image_size)
        crop = [decoders.CenterCropRGBImageDecoder(size, ratio=224 / 256)]
        if training:
            crop = [decoders.RandomResizedCropRGBImageDecoder(size), RandomHorizontalFlip()]
        label = [decoders.IntDecoder(), ToTensor(), Squeeze(1)]
        loader = Loader(
            path,
            batch_size=batch_size,
            num_workers=workers,
            order=OrderOption.RANDOM if training else OrderOption.SEQUENTIAL,
            os_cache=True,
            drop_last=training,
            pipelines={"image": [*crop, ToTensor(), ToTorchImage()], "label": label},
        )
        _KEPT.append(loader)
        return loader
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise DataError(f"ffcv is installed and does not take '{path}': {error}") from error
    finally:
        torch.set_num_threads(threads)


def batches(loader: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what an epoch of ffcv's yields, and end where its thread does, for which ffcv would wait for ever.

    Args:
        loader: ffcv's.

    Raises:
        DataError: The thread has ended by an exception, which Python has printed.
    """
    threads = torch.get_num_threads()
    epoch = iter(loader)
    done = epoch.output_queue
    try:
        while True:
            with done.not_empty:
                while not done.queue and epoch.is_alive():
                    done.not_empty.wait(0.5)
                if not done.queue:
                    raise DataError("ffcv's thread has ended by the exception above")
            try:
                yield next(epoch)
            except StopIteration:
                return
    finally:
        torch.set_num_threads(threads)
