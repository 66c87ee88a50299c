"""What the fused operators find where they run."""

import pytest
import torch
from torch.autograd import forward_ad

from poolformer.kernels import availability


def test_float64_and_other_devices_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(availability, "_INTERPRETS", True)
    monkeypatch.setattr(availability, "_HAS_TRITON", True)
    assert availability.runs_kernels(torch.ones(1))
    assert not availability.runs_kernels(torch.ones(1).double())
    monkeypatch.setattr(availability, "_INTERPRETS", False)
    assert not availability.runs_kernels(torch.ones(1))


def test_cpp_takes_what_was_loaded_and_even_channels_in_bf16(monkeypatch):
    monkeypatch.setattr(availability, "_INTERPRETS", False)
    monkeypatch.setattr(availability, "_cpp_types", frozenset())
    assert not availability.runs_cpp(torch.ones(1), torch.float32)
    monkeypatch.setattr(availability, "_cpp_types", frozenset({torch.float32, torch.bfloat16}))
    assert availability.runs_cpp(torch.ones(1), torch.float32, 33)
    assert availability.runs_cpp(torch.ones(1), torch.bfloat16, 40)
    assert not availability.runs_cpp(torch.ones(1), torch.bfloat16, 33)
    assert not availability.runs_cpp(torch.ones(1, device="meta"), torch.float32)


def test_transforms_are_noticed():
    assert not availability.is_transformed()
    with forward_ad.dual_level():
        assert availability.is_transformed()
    torch.func.vmap(lambda x: (x, torch.tensor(availability.is_transformed()))[0])(torch.ones(2))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_autocast_is_seen_where_it_holds_and_can_be_left(device):
    x = torch.ones(1, device=device)
    with torch.autocast("cpu", torch.bfloat16):
        assert availability.autocast_dtype(x) == (torch.bfloat16 if device == "cpu" else None)
        assert availability.autocast_dtype(x.double()) is None
        with availability.without_autocast(x):
            assert availability.autocast_dtype(x) is None
    assert availability.autocast_dtype(x) is None
