"""What a step of training waits for, counted as PyTorch is asked for it; a program too, for several processes."""

import contextlib
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Each waits until the device has done all before it, were the tensor on one: its number is asked for, or a number is
# brought there out of memory that is not pinned.
WAITS = {
    *(Tensor.item, Tensor.cpu, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.tolist),
    *(torch.tensor, torch.as_tensor, torch.scalar_tensor, Tensor.nonzero, torch.nonzero, torch.equal),
}
_OPTIMISERS = str(Path(torch.__file__).parent / "optim")


class _Waits(TorchFunctionMode):
    def __init__(self, counts: Counter):
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in WAITS and not _is_of_optimiser():
            self.counts[f"waits: {func.__name__} in {_caller()}"] += 1
        return func(*args, **(kwargs or {}))


def _is_of_optimiser() -> bool:
    """Whether AdamW asks for the count of its steps: on the host unless it is fused, as it is on a GPU."""
    return sys._getframe(2).f_code.co_filename.startswith(_OPTIMISERS) or "_get_value" in _callers()


def _callers() -> list[str]:
    frame, names = sys._getframe(2), []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def _caller() -> str:
    frame = sys._getframe(2)
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"


class _Collectives(TorchDispatchMode):
    def __init__(self, counts: Counter):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            first = args[0][0] if isinstance(args[0], list) else args[0]
            self.counts[f"{func._opname} of {str(first.dtype).removeprefix('torch.')}"] += 1
        return func(*args, **(kwargs or {}))


class CountWaits(Callback):
    """Counts from the first step behind a point of the log to the last one before the next point.

    Attributes:
        counts: What was counted.
        steps: Steps of it.
    """

    def __init__(self, first: int, last: int, folder: Path | None = None):
        self.first, self.last, self.folder = first, last, folder
        self.counts, self.steps, self._modes = Counter(), 0, contextlib.ExitStack()
        self._losses = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.first:
            self._modes.enter_context(_Waits(self.counts))
            self._modes.enter_context(_Collectives(self.counts))
        if trainer.global_step == self.last:
            self._modes.close()
        if self.first <= trainer.global_step < self.last:
            self.steps += batch_idx % trainer.accumulate_grad_batches == 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._losses.append(outputs["loss"])

    def on_train_end(self, trainer, pl_module):
        if self.folder is not None:
            found = [self.steps, self.counts, [loss.item() for loss in self._losses]]
            (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    from poolformer.cli import dispatch
    from poolformer.run import trainer as run_trainer

    of_a_run, counting = run_trainer.callbacks_of_a_run, CountWaits(10, 19, Path(sys.argv[1]))
    run_trainer.callbacks_of_a_run = lambda plan, *, logs: [counting, *of_a_run(plan, logs=logs)]
    sys.exit(dispatch.main(["fit", *sys.argv[2:]]))
