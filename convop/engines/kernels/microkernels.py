"""The innermost loop of the direct engine: a register tile of outputs, summed over a list of taps.

With the planes of the input laid flat, a tap is one flat offset, and a tile of ``R`` outputs by ``T`` positions is

    Y[r, j] = sum_i W[i, r] * X[offset[i] + j]        0 <= r < R, 0 <= j < T

This is the register kernel of a matrix product whose second factor is read in place, through offsets, instead of
being copied together. The ``R*T`` sums stay in registers for the whole list: ``V`` vectors of ``X`` and one broadcast
weight at a time give ``R*V`` fused multiply-adds. Compilers do not keep such a tile in registers by themselves, so it
is written as vector instructions of LLVM, which exist on every machine: longer vectors than a machine has are split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...threads.llvm import arrays_of, integer_constant

__all__ = [
    "DOT_TILES",
    "PAIR_TILE",
    "TILES",
    "Emitter",
    "dot_tile_1",
    "dot_tile_2",
    "dot_tile_4",
    "lanes",
    "narrow_1",
    "narrow_2",
    "narrow_3",
    "narrow_4",
    "narrow_pair",
    "pair_tile",
    "tile_1",
    "tile_2",
    "tile_3",
    "tile_4",
]

# Bytes of a vector. Machines with shorter vectors take two instructions.
_VECTOR_BYTES = 32
# Vectors along j for R outputs: R*V sums, V vectors of X and a weight fill 16 registers; and those of a narrow tile,
# for what is left of a line.
TILES = {1: (8, 2), 2: (4, 1), 3: (3, 1), 4: (3, 1)}
PAIR_TILE = (4, 1)
# Taps for R planes of products that are summed over all places.
DOT_TILES = {1: 8, 2: 4, 4: 3}

_INT = ir.IntType(64)


class Emitter:
    """LLVM instructions of one function; addresses are integers, distances are in elements."""

    def __init__(self, builder: Any, real: Any, outputs: int, vectors: int) -> None:
        self.builder, self.outputs, self.vectors = builder, outputs, vectors
        self.bits = 32 if real == types.float32 else 64
        self.real = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.lanes = _VECTOR_BYTES * 8 // self.bits
        self.vector = ir.VectorType(self.real, self.lanes)
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{self.bits}"  # fused where the machine can
        self.fma = cgutils.get_or_insert_function(builder.module, signature, name)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """``a*b + c``."""
        return self.builder.call(self.fma, [a, b, c])

    def load(self, pointer: Any, v: int) -> Any:
        at = self.builder.gep(pointer, [integer_constant(v * self.lanes)])
        return self.builder.load(self.builder.bitcast(at, self.vector.as_pointer()), align=self.bits // 8)

    def store(self, value: Any, pointer: Any, v: int) -> None:
        at = self.builder.gep(pointer, [integer_constant(v * self.lanes)])
        self.builder.store(value, self.builder.bitcast(at, self.vector.as_pointer()), align=self.bits // 8)

    def broadcast(self, pointer: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        value = self.builder.insert_element(undefined, self.builder.load(pointer), ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(value, undefined, mask)

    def sum_taps(self, sums: list[Any], active: range, x: Any, offsets: Any, weights: Any, count: Any) -> list[Any]:
        """A loop over `count` taps that adds to the sums of the active outputs, ``len(active)`` weights a tap."""
        builder, vectors = self.builder, self.vectors
        before = builder.block
        loop, after = builder.append_basic_block("taps"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", count, integer_constant(0)), loop, after)
        builder.position_at_end(loop)
        i = builder.phi(_INT)
        i.add_incoming(integer_constant(0), before)
        held = {}
        for r in active:
            for v in range(vectors):
                held[r, v] = builder.phi(self.vector)
                held[r, v].add_incoming(sums[r * vectors + v], before)
        start = builder.gep(x, [builder.load(builder.gep(offsets, [i]))])
        xs = [self.load(start, v) for v in range(vectors)]
        first_weight = builder.gep(weights, [builder.mul(i, integer_constant(len(active)))])
        new = {}
        for a, r in enumerate(active):
            w = self.broadcast(builder.gep(first_weight, [integer_constant(a)]))
            for v in range(vectors):
                new[r, v] = self.fused(xs[v], w, held[r, v])
        following = builder.add(i, integer_constant(1))
        i.add_incoming(following, loop)
        for key, phi in held.items():
            phi.add_incoming(new[key], loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        merged = list(sums)
        for (r, v), value in new.items():
            phi = builder.phi(self.vector)
            phi.add_incoming(sums[r * vectors + v], before)
            phi.add_incoming(value, loop)
            merged[r * vectors + v] = phi
        return merged

    def zeros(self) -> list[Any]:
        """Sums of no taps."""
        return [ir.Constant(self.vector, [0.0] * self.lanes)] * (self.outputs * self.vectors)

    def row(self, y: Any, step: Any, r: int) -> Any:
        return self.builder.gep(y, [self.builder.mul(step, integer_constant(r))])

    def write(self, sums: list[Any], y: Any, step: Any) -> None:
        for r in range(self.outputs):
            for v in range(self.vectors):
                self.store(sums[r * self.vectors + v], self.row(y, step, r), v)

    def dot(self, y: Any, y_step: Any, starts: list[Any], count: Any) -> list[Any]:
        """Vectors whose elements add up to the products of every line of `y` with every run, `count` places long."""
        builder = self.builder
        before = builder.block
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        loop, after = builder.append_basic_block("places"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", count, integer_constant(0)), loop, after)
        builder.position_at_end(loop)
        j = builder.phi(_INT)
        j.add_incoming(integer_constant(0), before)
        held = [builder.phi(self.vector) for _ in range(self.outputs * len(starts))]
        xs = [self.load(builder.gep(start, [j]), 0) for start in starts]
        new: list[Any] = []
        for r in range(self.outputs):
            value = self.load(builder.gep(self.row(y, y_step, r), [j]), 0)
            new.extend(self.fused(x, value, held[r * len(xs) + t]) for t, x in enumerate(xs))
        following = builder.add(j, integer_constant(self.lanes))
        j.add_incoming(following, loop)
        for phi, value in zip(held, new, strict=True):
            phi.add_incoming(zero, before)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        merged = []
        for value in new:
            phi = builder.phi(self.vector)
            phi.add_incoming(zero, before)
            phi.add_incoming(value, loop)
            merged.append(phi)
        return merged

    def total(self, vector: Any) -> Any:
        """The sum of a vector's elements."""
        builder = self.builder
        parts = [builder.extract_element(vector, ir.Constant(ir.IntType(32), n)) for n in range(self.lanes)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def pointer(self, array: Any, at: Any) -> Any:
        """Address of element `at` of an array's data."""
        return self.builder.gep(array.data, [at])


def _tile(outputs: int, vectors: int) -> Any:
    @intrinsic
    def tile(typingctx, y, y_at, y_step, x, x_at, offsets, o_at, weights, w_at, count):  # type: ignore[no-untyped-def]
        """Sum `count` taps into ``y[y_at + r*y_step + j]``."""
        integer = types.int64
        signature = types.void(y, integer, integer, x, integer, offsets, integer, weights, integer, integer)

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            y, y_at, y_step, x, x_at, offsets, o_at, weights, w_at, count = arrays_of(
                context, builder, signature, args, (0, 3, 5, 7)
            )
            e = Emitter(builder, signature.args[0].dtype, outputs, vectors)
            sums = e.sum_taps(
                e.zeros(), range(outputs), e.pointer(x, x_at), e.pointer(offsets, o_at), e.pointer(weights, w_at), count
            )
            e.write(sums, e.pointer(y, y_at), y_step)
            return context.get_dummy_value()

        return signature, emit

    return tile


tile_1, narrow_1 = (_tile(1, vectors) for vectors in TILES[1])
tile_2, narrow_2 = (_tile(2, vectors) for vectors in TILES[2])
tile_3, narrow_3 = (_tile(3, vectors) for vectors in TILES[3])
tile_4, narrow_4 = (_tile(4, vectors) for vectors in TILES[4])


def _pair_tile(vectors: int) -> Any:
    @intrinsic
    def tile(typingctx, y, y_at, y_step, x, x_at, offsets, o_at, weights, w_at, columns, both):  # type: ignore[no-untyped-def]
        """Two lines of results of one plane, which share all taps but each column's first and last.

        Offsets and weights lie in three stretches: the first tap of every one of `columns` columns, for the first
        line only; `both` offsets that both lines read, with a weight for each; and `columns` for the second line only.
        Nothing is multiplied by a zero that is not in the kernel, so that infinities stay where they belong.
        """
        integer = types.int64
        signature = types.void(y, integer, integer, x, integer, offsets, integer, weights, integer, integer, integer)

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            y, y_at, y_step, x, x_at, offsets, o_at, weights, w_at, columns, both = arrays_of(
                context, builder, signature, args, (0, 3, 5, 7)
            )
            e = Emitter(builder, signature.args[0].dtype, 2, vectors)
            source, sums = e.pointer(x, x_at), e.zeros()
            stretches = ((range(1), columns), (range(2), both), (range(1, 2), columns))
            for active, count in stretches:
                sums = e.sum_taps(sums, active, source, e.pointer(offsets, o_at), e.pointer(weights, w_at), count)
                o_at = builder.add(o_at, count)
                w_at = builder.add(w_at, builder.mul(count, integer_constant(len(active))))
            e.write(sums, e.pointer(y, y_at), y_step)
            return context.get_dummy_value()

        return signature, emit

    return tile


pair_tile, narrow_pair = (_pair_tile(vectors) for vectors in PAIR_TILE)


def _dot_tile(outputs: int) -> Any:
    taps = DOT_TILES[outputs]

    @intrinsic
    def tile(typingctx, sums, s_at, s_step, y, y_at, y_step, x, x_at, offsets, o_at, count):  # type: ignore[no-untyped-def]
        """Add the products of some planes of `y` and runs of `x`, over `count` places, to ``sums[r, t]``."""
        integer = types.int64
        signature = types.void(sums, integer, integer, y, integer, integer, x, integer, offsets, integer, integer)

        def emit(context, builder, signature, args):  # type: ignore[no-untyped-def]
            sums, s_at, s_step, y, y_at, y_step, x, x_at, offsets, o_at, count = arrays_of(
                context, builder, signature, args, (0, 3, 6, 8)
            )
            e = Emitter(builder, signature.args[0].dtype, outputs, taps)
            starts = [
                e.pointer(
                    x, builder.add(x_at, builder.load(e.pointer(offsets, builder.add(o_at, integer_constant(t)))))
                )
                for t in range(taps)
            ]
            totals = e.dot(e.pointer(y, y_at), y_step, starts, count)
            for r in range(outputs):
                for t in range(taps):
                    at = builder.gep(e.row(e.pointer(sums, s_at), s_step, r), [integer_constant(t)])
                    builder.store(builder.fadd(builder.load(at), e.total(totals[r * taps + t])), at)
            return context.get_dummy_value()

        return signature, emit

    return tile


dot_tile_1, dot_tile_2, dot_tile_4 = _dot_tile(1), _dot_tile(2), _dot_tile(4)


def lanes(dtype: Any) -> int:
    """Elements of a vector.

    Parameters
    ----------
    dtype : dtype_like
        float32 or float64.

    Returns
    -------
    int
    """
    return int(_VECTOR_BYTES // np.dtype(dtype).itemsize)
