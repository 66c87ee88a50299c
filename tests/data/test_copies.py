"""Copies to a GPU, where there is one; on a CPU there is nothing to copy."""

import pickle

import pytest
import torch

from poolformer.data.copies import SideStream, has_gpu, pinned


def test_a_cpu_keeps_its_batches_where_they_are():
    batch = (torch.ones(2, 3), torch.ones(2))
    copies = pickle.loads(pickle.dumps(SideStream()))  # as it goes to a process that is spawned
    moved = copies(lambda batch, device, loader: [each.to(device) for each in batch], batch, torch.device("cpu"), 0)
    assert all(one is other for one, other in zip(batch, moved, strict=True))


@pytest.mark.skipif(has_gpu(), reason="there is a GPU to pin memory for")
def test_nothing_is_pinned_without_a_gpu():
    tensor = torch.ones(2)
    assert pinned(tensor) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no GPU")
def test_a_batch_comes_through_the_side_stream_as_it_is():
    device, copies = torch.device("cuda", 0), SideStream()
    for number in range(20):
        batch = (torch.full((64, 3, 32, 32), number).pin_memory(), torch.arange(64).pin_memory())
        images, labels = copies(
            lambda batch, device: [each.to(device, non_blocking=True) for each in batch], batch, device
        )
        assert (images * 2).eq(2 * number).all()
        assert labels.tolist() == list(range(64))
