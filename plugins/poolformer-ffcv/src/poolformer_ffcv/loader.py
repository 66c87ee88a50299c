"""ffcv's `Loader` behind the batches of an `Order`: what it decodes is its own, who gets what and when is ours.

Repaired from outside, by public names of ffcv 1.0.2 alone: an exception in its thread is raised by the iteration, an
epoch that is left early leaves no thread, and samples come by (seed, epoch), each once in evaluation.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolformer.data.copies import pinned
from poolformer.data.ffcv_types import leave_types_alone
from poolformer.data.order import Order
from poolformer.errors import DataError

from .file import BetonFile
from .guards import reason, threads_kept, told

with threads_kept():
    from ffcv.loader import Loader, OrderOption
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.pipeline.graph import TransformNode

    leave_types_alone()

_PATIENCE_S = 10  # for a thread to finish the batch that it is at
# What is compiled stays to the end of the process: numba 0.68 prints a KeyError for each such function that goes.
_KEPT: list[Any] = []


class FFCVLoader(Order):
    """Batches of images and labels that ffcv decodes, copied out of its buffers, which it writes to again.

    Args:
        file: The file.
        pipelines: Function that returns operations by field, new ones each time; None for a field that is left out.
        order: How training samples are ordered: ``random``, ``quasi_random`` or ``sequential``, by ffcv itself.
        indices: Samples to use; None for all.
        workers: Threads of ffcv.
        os_cache: Whether the file is read through a memory map; otherwise page by page by threads.
        batches_ahead: Batches that are made in advance.
        batch_size, shuffle, seed, rank, world: of the `Order`; `shuffle` is for training, in whichever order.

    Raises:
        DataError: ffcv does not take the file or the pipelines.
    """

    def __init__(
        self,
        file: BetonFile,
        pipelines: Callable[[], Mapping[str, Sequence[Any] | None]],
        *,
        order: str,
        indices: Sequence[int] | None,
        workers: int,
        os_cache: bool,
        batches_ahead: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.ids = np.arange(len(file), dtype=np.uint64) if indices is None else _checked(indices, file)
        super().__init__(len(self.ids), batch_size=batch_size, shuffle=shuffle, seed=seed, rank=rank, world=world)
        self.labels = file.labels[self.ids]
        self.file, self._live = file, None
        operations = pipelines()
        self._outputs = [field for field in file.fields if operations.get(field) is not None]
        # The last batch of evaluation may hold one more, see `Order`.
        room = batch_size + (not shuffle and world > 1)
        with threads_kept(), told(f"ffcv's loader of '{file.path}'"):
            self.loader = _CheckedLoader(
                str(file.path),
                batch_size=room,
                num_workers=workers,
                os_cache=os_cache,
                order=OrderOption[order.upper() if shuffle else "SEQUENTIAL"],
                seed=seed,
                indices=self.ids,
                pipelines={field: operations.get(field) for field in file.fields},
                custom_fields=file.custom_fields,
                drop_last=False,
                batches_ahead=batches_ahead,
            )

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the samples of a training epoch, as ffcv orders them."""
        with told(f"the order of '{self.file.path}'"):
            return np.asarray(self.loader.traversal_order.sample_order(epoch))

    def order(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch on this rank, by number in the file."""
        order = super().order(epoch)
        return order if self.shuffle else self.ids[order]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        number, first = self.epoch, self.begin()
        self.close()
        order = self.order(number)
        batches = [self.batch_of(order, batch).astype(np.uint64) for batch in range(first, len(self))]
        if not batches:
            return
        with threads_kept(), told(f"'{self.file.path}', epoch {number}"):
            self.file.path.open("rb").close()  # a thread that cannot open it would end with a traceback
            self._live = epoch = _Epoch(self.loader, batches)
        try:
            for outputs in epoch:
                self._done += 1
                yield self._batch(dict(zip(self._outputs, outputs, strict=True)))
        finally:
            epoch.close()

    def close(self) -> None:
        """End the epoch that is under way, if any, with its threads."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _batch(self, outputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        image_field, label_field = self.file.image_field, self.file.label_field
        images, labels = _copied(outputs[image_field], image_field), _copied(outputs[label_field], label_field)
        # ffcv-imagenet's Squeeze() makes of a batch of one a number.
        return images, labels.reshape(-1) if images.ndim and labels.numel() == len(images) else labels


class _CheckedLoader(Loader):
    """ffcv's loader, which refuses what would have its constructor go round for ever (libffcv/ffcv#350)."""

    def generate_code(self) -> None:
        self.graph.collect_requirements()  # it says which operations are compiled
        for node in self.graph.nodes:
            if isinstance(node, TransformNode) and node.is_jitted and (before := _not_compiled_before(node)):
                raise DataError(
                    f"{_name(node)} is a compiled operation behind {_name(before)}, which is not: put it before "
                    f"{_name(before)}, or leave it out; normalising is the model's, by --model.mean and std"
                )
        super().generate_code()
        _KEPT.append(self.code)


def _not_compiled_before(node: TransformNode) -> TransformNode | None:
    found, parent = None, node.parent
    while parent is not None:
        if isinstance(parent, TransformNode) and not parent.is_jitted:
            found = parent
        parent = parent.parent
    return found


def _name(node: TransformNode) -> str:
    return type(node.operation).__name__


class _Epoch(EpochIterator):
    """ffcv's epoch over given batches, which raises what its thread raises and ends with all its threads.

    Args:
        loader: ffcv's loader.
        batches: Sample numbers, uint64 (B,), of each batch.
    """

    def __init__(self, loader: Loader, batches: list[np.ndarray]) -> None:
        self.failure: BaseException | None = None
        self.missing = len(batches)
        self._threads = torch.get_num_threads()
        super().__init__(loader, _Cut(batches, loader.batch_size))

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:  # an operation may raise anything, even SystemExit
            self.failure = error

    def run_pipeline(self, b_ix: int, *arguments: Any) -> Any:
        if b_ix == 0:
            torch.set_num_threads(self._threads)  # which ffcv has set a moment ago, in this thread for all
        try:
            return super().run_pipeline(b_ix, *arguments)
        except StopIteration as error:  # an operation's own, which ffcv takes for the end of the epoch
            self.failure = error
            raise

    def __next__(self) -> Any:
        if self.closed or self.missing == 0:
            raise StopIteration
        self._wait()
        self.missing -= 1
        return super().__next__()

    def _wait(self) -> None:
        """Wait for a batch, as long as there is somebody who makes it."""
        done = self.output_queue
        while True:
            is_over = not self.is_alive()
            with done.not_empty:
                if done.queue and done.queue[0] is not None:
                    return
                if not is_over and not self._lost_readers():
                    done.not_empty.wait(0.5)
                    continue
            why = reason(self.failure) if self.failure else "a thread that reads the file has ended"
            raise DataError(f"ffcv's pipeline of '{self.loader.fname}' failed: {why}") from self.failure

    def _lost_readers(self) -> bool:
        return not all(reader.is_alive() for reader in self._readers())

    def _readers(self) -> list[threading.Thread]:
        """Threads that read pages, where os_cache is off."""
        return getattr(getattr(getattr(self, "memory_context", None), "executor", None), "threads", [])

    def close(self) -> None:
        """End the thread after the batch that it is at; Python calls this, too, for what was never started."""
        if getattr(self, "closed", True):
            return
        self.closed = True
        self.iter_ixes = iter(())
        self.terminate_event.set()
        if self._lost_readers():  # for whose pages the thread waits
            executor = self.memory_context.executor
            for page in executor.schedule.page_to_slot:
                executor.loaded_queue.put(page)
        end = time.monotonic() + _PATIENCE_S
        while self.is_alive() and threading.current_thread() is not self and time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                self.output_queue.get(timeout=0.05)
        if readers := self._readers():
            self.memory_context.__exit__(None, None, None)
            for reader in readers:
                reader.join(timeout=1)


class _Cut:
    """Batches of any size for ffcv, which cuts an order into pieces of one."""

    def __init__(self, batches: list[np.ndarray], size: int) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return len(self.batches) * self.size

    def __getitem__(self, piece: slice) -> np.ndarray:
        return self.batches[piece.start // self.size]


def _copied(output: Any, field: str) -> Tensor:
    if not isinstance(output, np.ndarray | Tensor):
        raise DataError(f"the pipeline of '{field}' made {type(output).__name__}: its last operation returns no tensor")
    with told(f"what the pipeline of '{field}' made"):
        copy = torch.from_numpy(output.copy()) if isinstance(output, np.ndarray) else output.clone()
    return copy if copy.is_cuda else pinned(copy)


def _checked(indices: Sequence[int], file: BetonFile) -> np.ndarray:
    ids = np.asarray(indices)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= len(file):
        raise DataError(f"indices should be numbers of samples from 0 to {len(file) - 1} of '{file.path}'")
    return ids.astype(np.uint64)
