import pytest
import torch
from my_mixer_plugin import MyMixer

from poolformer.testing import check_mixer


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_keeps_the_contract_of_a_token_mixer(kernel_size):
    check_mixer(MyMixer, kernel_size=kernel_size)


def test_each_token_sees_the_window_around_it_and_no_more():
    tokens = torch.zeros(1, 2, 9, 9, requires_grad=True)
    MyMixer(2, kernel_size=3)(tokens)[0, 1, 4, 4].backward()
    seen = torch.zeros(2, 9, 9, dtype=torch.bool)
    seen[1, 3:6, 3:6] = True
    assert torch.equal(tokens.grad[0] != 0, seen)
