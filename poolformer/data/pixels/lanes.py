"""Arithmetic on several numbers at once, in the vector registers of whatever processor there is.

numba's integers are all of 64 bits once they are added, which leaves a compiler few lanes in a register. `Lanes` writes
LLVM's vector instructions instead, of the width that the arithmetic needs; LLVM turns them into AVX, NEON or plain
code. It is used inside of numba's intrinsics, while a kernel is compiled.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils


class Lanes:
    """Integers of one width, each computed with its counterpart; overflow wraps round.

    Args:
        builder: LLVM's builder of the function that is compiled.
        value: An LLVM vector of integers.
    """

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def __add__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.add(self.value, self._operand(other)))

    def __sub__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.sub(self.value, self._operand(other)))

    def __mul__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.mul(self.value, self._operand(other)))

    def __or__(self, other: "Lanes | int") -> "Lanes":
        return self._made(self.builder.or_(self.value, self._operand(other)))

    def __lshift__(self, bits: int) -> "Lanes":
        return self._made(self.builder.shl(self.value, self._operand(bits)))

    def __rshift__(self, bits: int) -> "Lanes":
        """Divide by a power of two, rounding down."""
        return self._made(self.builder.ashr(self.value, self._operand(bits)))

    def signed(self, bits: int) -> "Lanes":
        """Return the same numbers in another width; what does not fit loses its upper bits."""
        return self._in_width(bits, self.builder.sext)

    def unsigned(self, bits: int) -> "Lanes":
        """Return the same numbers, none of them negative, in another width."""
        return self._in_width(bits, self.builder.zext)

    def clamped(self, low: int, high: int) -> "Lanes":
        """Return the nearest numbers in [low, high]."""
        builder, bottom, top = self.builder, self._operand(low), self._operand(high)
        value = builder.select(builder.icmp_signed("<", self.value, bottom), bottom, self.value)
        return self._made(builder.select(builder.icmp_signed(">", value, top), top, value))

    def shuffled(self, other: "Lanes", places: Sequence[int]) -> "Lanes":
        """Return chosen numbers out of these and those of another."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))
        return self._made(self.builder.shuffle_vector(self.value, other.value, mask))

    def interleaved(self, other: "Lanes") -> "Lanes":
        """Return these numbers, each followed by its counterpart."""
        count = self.value.type.count
        return self.shuffled(other, [place for lane in range(count) for place in (lane, count + lane)])

    def _made(self, value: Any) -> "Lanes":
        return Lanes(self.builder, value)

    def _operand(self, other: "Lanes | int") -> Any:
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

    def _in_width(self, bits: int, widened: Any) -> "Lanes":
        kind = ir.VectorType(ir.IntType(bits), self.value.type.count)
        narrower = bits < self.value.type.element.width
        return self._made((self.builder.trunc if narrower else widened)(self.value, kind))


def transposed(rows: list[Lanes]) -> list[Lanes]:
    """Return the columns of eight times eight numbers."""
    low, high = [0, 8, 1, 9, 2, 10, 3, 11], [4, 12, 5, 13, 6, 14, 7, 15]
    for _ in range(3):  # each time rows that are four apart are interleaved: a perfect shuffle of the places
        rows = [rows[n // 2].shuffled(rows[n // 2 + 4], high if n % 2 else low) for n in range(8)]
    return rows


class Memory:
    """The numbers of a contiguous array, from within an intrinsic; nothing is checked.

    Args:
        context: numba's context.
        builder: LLVM's builder of the function that is compiled.
        kind: numba's type of the array.
        array: LLVM's value of it.
    """

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any):
        self.builder = builder
        self._number = context.get_data_type(kind.dtype)
        self._first = cgutils.create_struct_proxy(kind)(context, builder, array).data

    def load(self, place: Any, count: int) -> Lanes:
        """Return `count` neighbouring numbers, the first at `place`."""
        return Lanes(self.builder, self._load(place, ir.VectorType(self._number, count)))

    def store(self, place: Any, lanes: Lanes) -> None:
        """Write neighbouring numbers, the first at `place`."""
        self._store(place, lanes.value)

    def load_word(self, place: Any) -> Any:
        """Return the 8 bytes at `place` as one number, the first in its highest bits."""
        return self.builder.bswap(self._load(place, ir.IntType(64)))

    def store_word(self, place: Any, word: Any) -> None:
        """Write what `load_word` returned."""
        self._store(place, self.builder.bswap(word))

    def _load(self, place: Any, kind: Any) -> Any:
        return self.builder.load(self._pointer(place, kind), align=1, typ=kind)

    def _store(self, place: Any, value: Any) -> None:
        self.builder.store(value, self._pointer(place, value.type), align=1)

    def _pointer(self, place: Any, kind: Any) -> Any:
        first = self.builder.gep(self._first, [place], source_etype=self._number)
        return self.builder.bitcast(first, kind.as_pointer())
