"""The Huffman table of a JPEG that makes it smallest, as `jpegtran -optimize` finds it."""

import numpy as np

from .jit import kernel

LONGEST = 16
"""Bits of a code."""


@kernel
def best_table(counts, table, codes, lengths):
    """Fill a Huffman table with the shortest codes of 16 bits at most (ITU T.81, K.2); return how many it has.

    Of `codes` and `lengths`, each contains the bits that follow a code.
    """
    depths = _depths(counts)
    numbers = np.zeros(258, np.int64)
    for symbol in range(257):
        numbers[depths[symbol]] += 1
    numbers[0] = 0  # what does not occur
    for length in range(257, LONGEST, -1):
        while numbers[length] > 0:
            shorter = length - 2
            while numbers[shorter] == 0:
                shorter -= 1
            numbers[length] -= 2
            numbers[length - 1] += 1
            numbers[shorter + 1] += 2
            numbers[shorter] -= 1
    longest = LONGEST
    while numbers[longest] == 0:
        longest -= 1
    numbers[longest] -= 1  # the code of ones alone
    used = 0
    for depth in range(1, 258):
        for symbol in range(256):
            if depths[symbol] == depth:
                table[LONGEST + used] = symbol
                used += 1
    code = place = 0
    for length in range(1, LONGEST + 1):
        table[length - 1] = numbers[length]
        for _ in range(numbers[length]):
            symbol = np.int64(table[LONGEST + place])
            codes[symbol] = code << (symbol & 15)
            lengths[symbol] = length + (symbol & 15)
            code += 1
            place += 1
        code <<= 1
    return used


@kernel
def _depths(counts):
    """Return the lengths of Huffman's codes, 0 for what does not occur; the last is of a symbol that occurs once.

    It has a longest code, so that no other symbol gets one of ones alone, which JPEG forbids.
    """
    weights, tree = np.zeros(257, np.int64), np.zeros(257, np.int64)
    left = 0
    for symbol in range(257):
        weight = counts[symbol] if symbol < 256 else 1
        if weight:
            weights[left], tree[left] = weight, symbol
            left += 1
    following, depths = np.full(257, -1, np.int64), np.zeros(257, np.int64)
    depths[256] = 1 if left == 1 else 0
    while left > 1:
        for last in (left - 1, left - 2):  # the rarest goes to the end, the second rarest before it
            least = last
            for n in range(last):
                if weights[n] < weights[least]:
                    least = n
            weights[least], weights[last] = weights[last], weights[least]
            tree[least], tree[last] = tree[last], tree[least]
        symbol = tree[left - 1]
        while True:  # all of one branch, then all of the other, which is joined to it
            depths[symbol] += 1
            if following[symbol] < 0:
                break
            symbol = following[symbol]
        following[symbol] = tree[left - 2]
        symbol = tree[left - 2]
        while symbol >= 0:
            depths[symbol] += 1
            symbol = following[symbol]
        tree[left - 2] = tree[left - 1]
        weights[left - 2] += weights[left - 1]
        left -= 1
    return depths
