"""The inverse cosine transform of a block, bit for bit that of libjpeg-turbo's accurate one (islow).

Loeffler, Ligtenberg and Moschytz's (ICASSP 1989), with 13 bits behind the point, in two passes of eight lines at once.
Sums of two coefficients and what lies between the passes have 16 bits, as in libjpeg-turbo's vector code: this makes a
difference only to numbers that no encoder writes.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import Lanes, Memory, transposed

_BITS = 13
_FIRST, _SECOND = _BITS - 2, _BITS + 2 + 3  # two bits more are kept between the passes


def _fixed(number: float) -> int:
    return round(number * (1 << _BITS))


@intrinsic
def write_block(typing: Any, coefficients: Any, plane: Any, place: Any, stride: Any) -> Any:
    """Write the 8 x 8 samples of a block, and zeros in place of its coefficients; nothing is checked.

    Args:
        coefficients: int16 (64,), multiplied by their quantisation, rows of equal vertical frequency.
        plane: uint8, samples.
        place: Of the block's first sample in it.
        stride: From line to line.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = Memory(context, builder, signature.args[0], arguments[0])
        target = Memory(context, builder, signature.args[1], arguments[1])
        index = arguments[2].type
        places = [ir.Constant(index, 8 * row) for row in range(8)]
        rows = [source.load(place, 8) for place in places]
        for place, row in zip(places, rows, strict=True):
            source.store(place, row - row)
        columns = [row.clamped(-(1 << 15), (1 << 15) - 1).signed(16) for row in _pass(rows, _FIRST)]
        samples = [row.clamped(-128, 127).signed(8) + -128 for row in _pass(transposed(columns), _SECOND)]
        for n, line in enumerate(transposed(samples)):
            target.store(builder.add(arguments[2], builder.mul(arguments[3], ir.Constant(index, n))), line)
        return context.get_dummy_value()

    return types.void(coefficients, plane, types.intp, types.intp), generate


def _pass(rows: list[Lanes], shift: int) -> list[Lanes]:
    """Transform eight columns of numbers of 16 bits into numbers of 32, rounded to `shift` bits fewer."""
    wide = [row.signed(32) for row in rows]
    turned = (wide[2] + wide[6]) * _fixed(0.541196100)
    even_2, even_3 = turned - wide[6] * _fixed(1.847759065), turned + wide[2] * _fixed(0.765366865)
    even_0, even_1 = (rows[0] + rows[4]).signed(32) << _BITS, (rows[0] - rows[4]).signed(32) << _BITS
    evens = [even_0 + even_3, even_1 + even_2, even_1 - even_2, even_0 - even_3]

    z_1, z_2 = (wide[7] + wide[1]) * -_fixed(0.899976223), (wide[5] + wide[3]) * -_fixed(2.562915447)
    z_3, z_4 = (rows[7] + rows[3]).signed(32), (rows[5] + rows[1]).signed(32)
    z_5 = (z_3 + z_4) * _fixed(1.175875602)
    z_3, z_4 = z_5 - z_3 * _fixed(1.961570560), z_5 - z_4 * _fixed(0.390180644)
    odds = [
        wide[1] * _fixed(1.501321110) + z_1 + z_4,
        wide[3] * _fixed(3.072711026) + z_2 + z_3,
        wide[5] * _fixed(2.053119869) + z_2 + z_4,
        wide[7] * _fixed(0.298631336) + z_1 + z_3,
    ]
    evens = [even + (1 << (shift - 1)) for even in evens]
    firsts = [even + odd for even, odd in zip(evens, odds, strict=True)]
    lasts = [even - odd for even, odd in zip(evens, odds, strict=True)]
    return [line >> shift for line in firsts + lasts[::-1]]
