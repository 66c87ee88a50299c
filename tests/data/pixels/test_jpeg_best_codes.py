"""Huffman tables that are valid and short, whatever is to be coded."""

import heapq

import numpy as np
import pytest

from poolformer.data.pixels.jpeg_best_codes import best_table


def made(counts: dict[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (numbers of codes by length, symbols, bits of each symbol's code)"""
    table, codes, lengths = np.zeros(272, np.uint8), np.zeros(256, np.int64), np.zeros(256, np.int64)
    array = np.zeros(256, np.int64)
    for symbol, count in counts.items():
        array[symbol] = count
    used = best_table(array, table, codes, lengths)
    assert used == table[:16].sum() == len(counts)
    return table[:16].astype(int), table[16 : 16 + used], lengths - np.arange(256) % 16 * (lengths > 0)


def room(numbers: np.ndarray) -> float:
    return sum(count / 2**length for length, count in enumerate(numbers, 1))


def least_bits(counts: list[int]) -> int:
    """Of Huffman's codes: the sum of all joined weights."""
    heap, bits = sorted(counts), 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        bits += joined
        heapq.heappush(heap, joined)
    return bits


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_table_codes_the_symbols_in_fewer_bits(seed):
    rng = np.random.default_rng(seed)
    symbols = rng.choice(256, int(rng.integers(1, 257)), replace=False)
    counts = {int(symbol): int(rng.integers(1, 1000)) for symbol in symbols}
    numbers, listed, bits = made(counts)
    assert sorted(listed) == sorted(symbols)
    assert room(numbers) < 1  # ones alone are no code
    # The code of ones alone takes the place of a symbol that occurs once.
    with_ones = sum(count * bits[symbol] for symbol, count in counts.items()) + np.flatnonzero(numbers).max() + 1
    assert with_ones == least_bits([*counts.values(), 1])


def test_codes_have_at_most_16_bits():
    """Without the limit the rarest of these would have 40."""
    before, now, counts = 1, 1, {}
    for symbol in range(40):
        counts[symbol], before, now = now, now, before + now
    numbers, _, bits = made(counts)
    assert room(numbers) < 1
    assert (np.diff(bits[:40]) <= 0).all()  # the commoner, the shorter
