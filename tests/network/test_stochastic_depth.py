"""Stochastic depth that is drawn by an image's place in its step."""

import copy
import io
import pickle

import numpy as np
import torch

from poolformer.backbones import create_backbone
from poolformer.draws import StepPart
from poolformer.network.layers import DropPath
from poolformer.network.stochastic_depth import StochasticDepth


def factors_of(network, images: torch.Tensor) -> torch.Tensor:
    paths = [module for module in network.modules() if isinstance(module, DropPath) and module.rate > 0]
    return torch.stack([path.factors(images) for path in paths])


def test_each_branch_of_each_image_draws_by_its_place_in_the_step():
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.5)
    depth, images = StochasticDepth(network), torch.zeros(512, 1, 1, 1)
    depth.draw(StepPart(512, seed=1, step=3), images.device)
    whole = factors_of(network, images)[:, np.argsort(StepPart(512).places)]
    assert len({tuple(row.tolist()) for row in whole}) == len(whole) == 8  # four of the five blocks, twice
    rates = torch.tensor([0.125, 0.25, 0.375, 0.5]).repeat_interleave(2)
    torch.testing.assert_close((whole == 0).float().mean(1), rates, rtol=0, atol=0.1)
    torch.testing.assert_close(whole.max(1).values, 1 / (1 - rates))
    for unit in range(4):
        part = StepPart(128, unit, 4, seed=1, step=3)
        depth.draw(part, images.device)
        torch.testing.assert_close(factors_of(network, images[:128]), whole[:, part.places], rtol=0, atol=0)


def test_a_branch_draws_by_itself_for_a_batch_of_another_size_and_after_the_step():
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.5)
    depth, images = StochasticDepth(network), torch.zeros(64, 1, 1, 1)
    depth.draw(StepPart(64), images.device)
    drawn = factors_of(network, images)
    assert factors_of(network, images[:7]).shape == (8, 7)
    assert factors_of(network, images).equal(drawn)
    depth.forget()
    assert not factors_of(network, images).equal(factors_of(network, images))


def test_draws_lie_in_the_same_memory_at_every_step():
    """Where a CUDA graph reads them."""
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.5)
    depth, places, drawn = StochasticDepth(network, in_place=True), [], []
    for step in range(2):
        depth.draw(StepPart(64, step=step), torch.device("cpu"))
        places.append([path.drawn.data_ptr() for path in network.modules() if getattr(path, "drawn", None) is not None])
        drawn.append(factors_of(network, torch.zeros(64, 1, 1, 1)))
    assert places[0] == places[1]
    assert not drawn[0].equal(drawn[1])


class _Sender(pickle.Pickler):
    """Sees whether something is a generator, as `ddp_spawn` sends it."""

    def reducer_override(self, obj):
        assert not isinstance(obj, torch.Generator)
        return NotImplemented


def test_what_is_sent_to_a_process_that_is_spawned_has_no_generator_and_draws_the_same():
    """One is pickled as a tensor that nobody keeps: its shared memory is closed before the other process opens it."""
    network, images = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.5), torch.zeros(64, 1, 1, 1)
    depth = StochasticDepth(network)
    depth.draw(StepPart(64, seed=2), images.device)
    depth.forget()
    sent = io.BytesIO()
    _Sender(sent).dump((network, depth))
    for other, others in [pickle.loads(sent.getvalue()), copy.deepcopy((network, depth))]:
        for each in (depth, others):
            each.draw(StepPart(64, seed=2), images.device)
        assert factors_of(other, images).equal(factors_of(network, images))
