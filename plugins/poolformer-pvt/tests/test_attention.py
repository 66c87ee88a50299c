import pytest
import torch
import torch.nn.functional as F
from poolformer_pvt.attention import SpatialReductionAttention
from torch import Tensor

from poolformer.testing import check_mixer


@pytest.mark.parametrize("options", [{}, {"sr_ratio": 1, "qkv_bias": False}, {"sr_ratio": 8, "head_dim": 64}], ids=str)
def test_keeps_the_contract_of_a_token_mixer(options):
    check_mixer(SpatialReductionAttention, **options)


def mix_by_pytorch(mixer: SpatialReductionAttention, x: Tensor) -> Tensor:
    """The same by PyTorch's multi-head attention, with the squares cut out one by one."""
    r, (height, width) = mixer.sr_ratio, x.shape[2:]
    padded = F.pad(x, (0, max(r - width, 0), 0, max(r - height, 0)))
    keys = x.flatten(2).transpose(1, 2)
    if r > 1:
        squares = [
            padded[:, :, r * i : r * (i + 1), r * j : r * (j + 1)]
            for i in range(padded.shape[2] // r)
            for j in range(padded.shape[3] // r)
        ]
        sums = [torch.einsum("bcij,dcij->bd", square, mixer.sr.weight) + mixer.sr.bias for square in squares]
        keys = F.layer_norm(torch.stack(sums, dim=1), sums[0].shape[1:], mixer.norm.weight, mixer.norm.bias, 1e-5)
    mixed, _ = F.multi_head_attention_forward(
        x.flatten(2).permute(2, 0, 1),
        keys.transpose(0, 1),
        keys.transpose(0, 1),
        embed_dim_to_check=x.shape[1],
        num_heads=x.shape[1] // mixer.head_dim,
        in_proj_weight=torch.cat([mixer.q.weight, mixer.kv.weight]),
        in_proj_bias=torch.cat([mixer.q.bias, mixer.kv.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0,
        out_proj_weight=mixer.proj.weight,
        out_proj_bias=mixer.proj.bias,
    )
    return mixed.permute(1, 2, 0).unflatten(2, (height, width))


@pytest.mark.parametrize(("sr_ratio", "resolution"), [(1, (4, 3)), (2, (4, 6)), (2, (5, 7)), (4, (2, 9)), (8, (1, 1))])
def test_equals_multi_head_attention_to_a_map_of_squares(sr_ratio, resolution):
    mixer = SpatialReductionAttention(24, head_dim=8, sr_ratio=sr_ratio).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        x = torch.randn(2, 24, *resolution, dtype=torch.float64)
        torch.testing.assert_close(mixer(x), mix_by_pytorch(mixer, x), rtol=0, atol=1e-12)


def test_what_is_left_over_at_the_edge_asks_and_is_not_asked():
    mixer = SpatialReductionAttention(8, sr_ratio=2)
    x = torch.randn(1, 8, 5, 5, requires_grad=True)
    mixer(x)[0, :, 0, 0].sum().backward()
    asked = x.grad.abs().sum((0, 1)) > 0
    assert asked[:4, :4].all()
    assert not asked[4].any()
    assert not asked[:, 4].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sr_ratio": 0}, "sr_ratio=0 and head_dim=32 must be positive"),
        ({"head_dim": 48}, "dim=64 is not a multiple of head_dim=48"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpatialReductionAttention(64, **options)
