"""Waiting for a batch that does not come, after a signal."""

import gc
import multiprocessing
import signal
import time

import pytest
from torch.utils.data import DataLoader

from poolformer.run.waiting import StuckLoader, Waiting, end_workers

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGURG"), reason="no signal to wake by")


class Fetches:
    """A loop with Lightning's hooks around the fetch of a batch."""

    def _on_before_fetch(self):
        pass

    def _on_after_fetch(self):
        pass

    def fetch(self, seconds: float):
        self._on_before_fetch()
        time.sleep(seconds)
        self._on_after_fetch()


@pytest.fixture
def waited_for():
    """A loop that is waited for at most a second at a time from now on."""
    before, loop, waiting = signal.getsignal(signal.SIGURG), Fetches(), Waiting()
    waiting.watch(loop)
    waiting.end_after(1, 143)
    yield loop
    waiting.close()
    signal.signal(signal.SIGURG, before)


@pytest.mark.slow
def test_a_batch_that_does_not_come_is_given_up(waited_for):
    with pytest.raises(StuckLoader):
        waited_for.fetch(10)


@pytest.mark.slow
def test_batches_that_are_slow_are_not_given_up(waited_for):
    for _ in range(5):
        waited_for.fetch(0.3)


def hang(worker: int) -> None:
    time.sleep(600)


@pytest.mark.slow
def test_the_end_of_a_loader_s_workers_is_no_error_of_the_process():
    batches = iter(DataLoader([0, 1], num_workers=1, worker_init_fn=hang))
    (worker,) = [each for each in multiprocessing.active_children() if each.daemon]
    handler = signal.getsignal(signal.SIGCHLD)
    end_workers()
    time.sleep(0.1)  # PyTorch's handler raises in the main thread, as soon as that does something
    assert not worker.is_alive()
    assert signal.getsignal(signal.SIGCHLD) is handler
    del batches  # an error in here is one of pytest
    gc.collect()
