"""An order for files that no memory keeps: images that lie together are seen near one another, as ffcv's QUASI_RANDOM.

The pages of the file come in an order of the epoch, and the images of the pages of a window are mixed: so reading goes
through the file window by window, of which each byte is read once, and neighbours in the file are in other batches.
"""

import numpy as np

from .pages import Pages
from .pixels.jit import kernel
from .pixels.keyed import below, shuffled, stream, word

_FEWEST, _MOST, _WINDOWS = 8, 128, 8
"""Pages of a window, 64 MiB to 1 GiB as `poolformer pack` makes them; and the windows that a file has at least, where
it has the pages. Images are packed class by class: a window has to be of many pages to be of many classes."""


def page_wise(pages: Pages, *, seed: int, epoch: int) -> np.ndarray:
    """Return the samples in the order of an epoch, each once, int32 (int64 from 2^31 on)."""
    numbers, page = np.unique(pages.pages, return_inverse=True)
    place = np.empty(len(numbers), np.int64)
    place[shuffled(len(numbers), seed=seed, epoch=epoch)] = np.arange(len(numbers))
    most = min(max(len(numbers) // _WINDOWS, _FEWEST), _MOST)
    windows = place[page] * -(-len(numbers) // most) // len(numbers)  # equal ones: what is left makes no small last one
    lengths = np.diff(np.append(pages.starts, pages.samples))
    runs = np.argsort(windows, kind="stable")
    order = np.empty(pages.samples, np.int32 if pages.samples < 1 << 31 else np.int64)
    _mix_windows(pages.starts[runs], lengths[runs], windows[runs], word(seed), epoch, order)
    return order


@kernel
def _mix_windows(starts, lengths, windows, seed, epoch, order):
    begin = end = 0
    for n in range(len(starts)):
        for sample in range(starts[n], starts[n] + lengths[n]):
            order[end] = sample
            end += 1
        if n + 1 == len(starts) or windows[n + 1] != windows[n]:
            draws = stream(seed, epoch, windows[n])
            for left in range(end - begin, 1, -1):  # Fisher and Yates
                chosen, last = begin + below(draws, left), begin + left - 1
                order[chosen], order[last] = order[last], order[chosen]
            begin = end
