"""Each mixer keeps the contract and does what its paper says, computed here in another way."""

import importlib
import inspect
import math
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from poolformer_extra_mixers.attention import WindowAttention
from poolformer_extra_mixers.frequency import Fourier, GlobalFilter
from poolformer_extra_mixers.local import LargeKernelAttention, Shift
from poolformer_extra_mixers.mlp import AxisMLP
from poolformer_extra_mixers.pooling import MultiGranularityPooling, StripPooling, SummaryMixing
from torch import Tensor, nn

from poolformer.configs import protocols_dir
from poolformer.judging.protocols import read_protocol
from poolformer.testing import check_mixer

GROUP = "poolformer.mixers"
MIXERS = {
    AxisMLP: {},
    Fourier: {"channels": False},
    GlobalFilter: {},
    LargeKernelAttention: {"kernel_size": 9, "dilation": 2},
    MultiGranularityPooling: {"segment": 3, "neighbours": 5},
    Shift: {"share": 0.25, "distance": 2},
    StripPooling: {"kernel_size": 5},
    SummaryMixing: {},
    WindowAttention: {"window_size": 4, "shift": 2},
}


@pytest.mark.parametrize(("factory", "options"), MIXERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_keeps_the_contract_of_a_token_mixer(factory, options):
    check_mixer(factory, **options)


def test_windows_larger_than_the_map_keep_the_contract():
    check_mixer(WindowAttention)


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(mixer: nn.Module) -> nn.Module:
    """In float64, with no weight that is zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in mixer.double().parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return mixer


def equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def seen(mixer: nn.Module, x: Tensor, row: int, column: int) -> Tensor:
    """Which places (H, W) the token at one place depends on."""
    x = x.requires_grad_()
    mixer(x)[:, :, row, column].sum().backward()
    return x.grad.abs().sum((0, 1)) > 0


def fourier_matrix(n: int) -> Tensor:
    places = torch.arange(n, dtype=torch.float64)
    return torch.polar(torch.ones(n, n, dtype=torch.float64), -2 * math.pi * places[:, None] * places / n) / n**0.5


def test_fourier_is_the_real_part_of_a_product_with_three_matrices():
    x = tokens(2, 3, 4, 5)
    matrices = [fourier_matrix(n) for n in x.shape[1:]]
    equal(Fourier(3)(x), torch.einsum("bchw,cd,he,wf->bdef", x.to(torch.complex128), *matrices).real)
    equal(Fourier(3, channels=False)(x), torch.einsum("bchw,he,wf->bcef", x.to(torch.complex128), *matrices[1:]).real)


def test_global_filter_is_a_circular_convolution():
    mixer, x = trained(GlobalFilter(2, resolution=(4, 6))), tokens(1, 2, 4, 6)
    with torch.no_grad():
        kernel = torch.fft.irfft2(torch.view_as_complex(mixer.complex_weight), s=(4, 6))
        expected = sum(kernel[:, i, j, None, None] * x.roll((i, j), (2, 3)) for i in range(4) for j in range(6))
        equal(mixer(x), expected)


def test_shift_moves_a_token_in_each_direction_and_leaves_the_rest():
    x = torch.zeros(1, 5, 5, 5)
    x[:, :, 2, 2] = 1
    places = Shift(5, share=0.2)(x)[0].nonzero().tolist()
    assert places == [[0, 2, 1], [1, 2, 3], [2, 1, 2], [3, 3, 2], [4, 2, 2]]
    assert Shift(5, distance=3)(x)[0, :4].count_nonzero() == 0  # beyond the border


def test_large_kernel_sees_its_window_and_no_more():
    # 3 tokens by the near kernel and 5 of every second by the far one: 11 of 15.
    window = seen(trained(LargeKernelAttention(4, kernel_size=9, dilation=2)), tokens(1, 4, 15, 15), 7, 7)
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[2:13, 2:13] = True
    assert torch.equal(window, expected)


def test_large_kernel_of_21_is_taken_apart_as_in_the_paper():
    mixer = LargeKernelAttention(4)
    assert (mixer.near.kernel_size, mixer.far.kernel_size, mixer.far.dilation) == ((5, 5), (7, 7), (3, 3))


def test_strip_pooling_gates_by_the_means_of_the_row_and_of_the_column():
    mixer, x = trained(StripPooling(4, kernel_size=1)), tokens(2, 4, 3, 5)
    by_row = torch.einsum("dc,bch->bdh", mixer.along_columns.weight[:, :, 0, 0], x.mean(3))
    by_column = torch.einsum("dc,bcw->bdw", mixer.along_rows.weight[:, :, 0, 0], x.mean(2))
    bias = (mixer.along_columns.bias + mixer.along_rows.bias)[:, None, None]
    equal(mixer(x), x * mixer.gate(F.relu(by_row[..., None] + by_column[:, :, None] + bias)).sigmoid())


def test_multi_granularity_pooling_adds_map_segments_and_neighbours():
    mixer, x = trained(MultiGranularityPooling(4, segment=2)), tokens(1, 4, 3, 3)
    query, key, value, out, segmented, local = mixer.proj(x)[0].chunk(6)
    scores = torch.einsum("c,chw->hw", query.mean((1, 2)), key) / 2  # the root of 4 channels
    heard = (scores.flatten().softmax(0).view(3, 3) * value).sum((1, 2))
    expected = torch.empty_like(x[0])
    for i in range(3):
        for j in range(3):
            segment = segmented[:, i // 2 * 2 : i // 2 * 2 + 2, j // 2 * 2 : j // 2 * 2 + 2].amax((1, 2))
            around = local[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].amax((1, 2))
            expected[:, i, j] = (heard + segment) * out[:, i, j] + around
    equal(mixer(x)[0], expected)


def test_summary_is_the_mean_of_all_tokens():
    mixer, x = trained(SummaryMixing(4)), tokens(1, 4, 3, 3)
    shuffled = x.flatten(2)[..., torch.randperm(9)].view_as(x)
    with torch.no_grad():
        mixed = mixer(x)
        swapped = mixer(torch.cat([x[:, :, :1], shuffled[:, :, 1:]], dim=2))
    assert (mixed[:, :, 0] - swapped[:, :, 0]).abs().max() > 1e-6  # another mean, another answer
    equal(mixer(x.flip(3)), mixed.flip(3))  # no token knows its place
    assert seen(mixer, tokens(1, 4, 3, 3), 0, 0).all()


def test_axis_mlp_sees_its_row_and_its_column():
    mixer = trained(AxisMLP(4, resolution=(4, 5)))
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1] = expected[:, 3] = True
    assert torch.equal(seen(mixer, tokens(1, 4, 4, 5), 1, 3), expected)


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("resolution", [(6, 6), (7, 4), (2, 1), (1, 7), (8, 3)])
def test_windows_attend_as_one_token_after_the_other_does(resolution, shift):
    mixer, x = trained(WindowAttention(6, window_size=3, shift=shift, head_dim=2)), tokens(2, 6, *resolution)
    height, width = resolution
    with torch.no_grad():
        query, key, value = mixer.qkv(x.permute(0, 2, 3, 1)).unflatten(3, (3, 3, 2)).unbind(3)  # (B, H, W, heads, 2)
        expected = torch.empty(2, height, width, 6, dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                # The first rows and columns of a long side are moved around the border and stay among themselves.
                down, right = (shift if side > 3 else 0 for side in resolution)
                others = [
                    (k, m)
                    for k in range(height)
                    for m in range(width)
                    if (k - down) // 3 == (i - down) // 3 and (m - right) // 3 == (j - right) // 3
                ]
                scores = [
                    (query[:, i, j] * key[:, k, m]).sum(-1) / 2**0.5
                    + mixer.relative_bias[:, (i - k + 2) * 5 + j - m + 2]
                    for k, m in others
                ]
                shares = torch.stack(scores).softmax(0)[..., None]  # (others, B, heads, 1)
                heard = (shares * torch.stack([value[:, k, m] for k, m in others])).sum(0)
                expected[:, i, j] = heard.flatten(1)
        equal(mixer(x), mixer.proj(expected).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shift(8, share=0.3), r"share=0.3 lies in \(0, 0.25\]"),
        (lambda: LargeKernelAttention(8, kernel_size=2), "kernel_size=2 is at least dilation=3"),
        (lambda: StripPooling(8, kernel_size=2), "must be odd and positive, got 2"),
        (lambda: MultiGranularityPooling(8, segment=0), "segment=0 must be positive"),
        (lambda: WindowAttention(8, shift=7), "0 <= shift=7 < window_size"),
        (lambda: WindowAttention(48, head_dim=32), "dim=48 is not a multiple of head_dim=32"),
        (lambda: AxisMLP(8, resolution=(2, 2))(torch.zeros(1, 8, 3, 2)), r"built for \(2, 2\) tokens and got \(3, 2\)"),
        (lambda: GlobalFilter(8, resolution=(2, 2))(torch.zeros(1, 8, 3, 2)), r"built for \(2, 2\) tokens"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_mixer_of_the_package_is_tested_here():
    names = ("attention", "frequency", "local", "mlp", "pooling")
    modules = [importlib.import_module(f"poolformer_extra_mixers.{name}") for name in names]
    defined = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    }
    assert defined == set(MIXERS)


def test_the_protocol_of_probes_has_every_mixer_of_the_package_as_a_row():
    protocol = read_protocol(Path(__file__).parents[1] / "extra-probes.yaml")
    assert set(protocol.rows) == distribution("poolformer-extra-mixers").entry_points.select(group=GROUP).names
    assert protocol.tasks == read_protocol(protocols_dir() / "probes.yaml").tasks
