"""Microkernels: register tiles of results, summed over a list of taps, as LLVM vector instructions.

With the planes of the input laid flat, a tap is one flat offset, and a tile of ``R`` planes by ``T`` results is

    Y[r, j] = sum_i W[i, r] * X[offset[i] + j]        0 <= r < R, 0 <= j < T

This is the microkernel of a matrix product (Van Zee and van de Geijn, BLIS, ACM TOMS 41, 2015) whose second factor is
read in place through offsets, instead of being packed by im2col. The ``R*T`` sums stay in registers for the whole list of
taps: ``V`` vectors of ``X`` and one broadcast weight at a time give ``R*V`` fused multiply-adds. Compilers do not keep
such a tile in registers by themselves. `tiles` has the shapes.

Two more microkernels are worth their code, measured on two cores of Zen 4 against what they replace:

- `pair_tile` computes one plane for two indices of the first axis at once, so that each load of ``X`` serves two sums.
  Without pairs, 28 products took 0.98 to 2.08 times as long (geometric mean 1.24).
- `dot_tile_*` sum products of planes for the kernel's gradient. The same gradients by im2col and the BLAS took 1.2 to 31
  times as long (13 workloads), by Fourier transforms 0.7 (15x15 taps) to 51 times.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...threads.llvm import arrays_of, integer_constant
from .tiles import PAIR_VECTORS, lanes, plane_counts, tile_vectors

# Taps of a dot tile for R planes of residuals: as many as vectors of a tile of results, and held in registers alike.
DOT_TILES = {planes: tile_vectors(planes).wide for planes in (1, 2, 4)}

_INT = ir.IntType(64)


def _keep_rolled(branch: Any) -> None:
    """Forbids LLVM to unroll the loop that ends with a branch.

    A tap has enough multiply-adds for the instructions of the loop to cost nothing. Unrolled four times, the loads of later
    taps move up and push sums out of the registers (8 planes on Neoverse N1).
    """
    module = branch.module
    options = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.MDValue(module, [options], name=str(len(module.metadata)))
    loop.operands = (loop, options)  # LLVM takes metadata for those of a loop if the first operand is the node itself
    branch.set_metadata("llvm.loop", loop)


class Emitter:
    """Emits the LLVM instructions of one function; strides are in elements."""

    def __init__(self, builder: Any, real: Any, outputs: int, vectors: int) -> None:
        self.builder, self.outputs, self.vectors = builder, outputs, vectors
        self.bits = 32 if real == types.float32 else 64
        self.real = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.lanes = lanes(f"f{self.bits // 8}")
        self.vector = ir.VectorType(self.real, self.lanes)
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{self.bits}"  # fused where the machine can
        self.fma = cgutils.get_or_insert_function(builder.module, signature, name)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """Emits ``a*b + c`` with one rounding where the machine has such an instruction."""
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

    def sum_taps(self, sums: list[Any], active: range, x: Any, taps: tuple[Any, Any, Any]) -> list[Any]:
        """Emits a loop over ``(offsets, weights, count)`` that adds to the sums of the active planes of results.

        Each tap has ``len(active)`` weights.
        """
        builder, vectors, (offsets, weights, count) = self.builder, self.vectors, taps
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
        _keep_rolled(builder.cbranch(builder.icmp_signed("<", following, count), loop, after))
        builder.position_at_end(after)
        merged = list(sums)
        for (r, v), value in new.items():
            phi = builder.phi(self.vector)
            phi.add_incoming(sums[r * vectors + v], before)
            phi.add_incoming(value, loop)
            merged[r * vectors + v] = phi
        return merged

    def zeros(self) -> list[Any]:
        """Returns the sums of no taps."""
        return [ir.Constant(self.vector, [0.0] * self.lanes)] * (self.outputs * self.vectors)

    def row(self, y: Any, step: Any, r: int) -> Any:
        return self.builder.gep(y, [self.builder.mul(step, integer_constant(r))])

    def write(self, sums: list[Any], y: Any, step: Any) -> None:
        for r in range(self.outputs):
            for v in range(self.vectors):
                self.store(sums[r * self.vectors + v], self.row(y, step, r), v)

    def dot(self, y: Any, y_stride: Any, starts: list[Any], count: Any) -> list[Any]:
        """Emits vectors whose elements add up to the products of every row of `y` with every run of `count` elements."""
        builder = self.builder
        before = builder.block
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        loop, after = builder.append_basic_block("elements"), builder.append_basic_block("summed")
        builder.cbranch(builder.icmp_signed(">", count, integer_constant(0)), loop, after)
        builder.position_at_end(loop)
        j = builder.phi(_INT)
        j.add_incoming(integer_constant(0), before)
        held = [builder.phi(self.vector) for _ in range(self.outputs * len(starts))]
        xs = [self.load(builder.gep(start, [j]), 0) for start in starts]
        new: list[Any] = []
        for r in range(self.outputs):
            value = self.load(builder.gep(self.row(y, y_stride, r), [j]), 0)
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
        """Emits the sum of a vector's elements, pair by pair."""
        builder = self.builder
        sums = [builder.extract_element(vector, ir.Constant(ir.IntType(32), n)) for n in range(self.lanes)]
        while len(sums) > 1:
            sums = [builder.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    def pointer(self, array: Any, at: Any) -> Any:
        """Emits the address of an element of an array."""
        return self.builder.gep(array.data, [at])


@intrinsic
def tile(typingctx, planes, is_wide, y, y_at, y_stride, x, x_at, taps, weight_at):
    """Sums the taps into ``y[y_at + r*y_stride + j]``, with the wide or the narrow tile of a number of planes.

    Nothing is done for a number that no tile has.
    """
    integer = types.int64
    signature = types.void(integer, types.boolean, y, integer, integer, x, integer, taps, integer)

    def emit(context, builder, signature, args):
        planes, is_wide, y, y_at, y_stride, x, x_at, taps, weight_at = arrays_of(context, builder, signature, args)
        offsets = builder.gep(taps.offsets.data, [taps.offset_at])
        weights = builder.gep(taps.weights.data, [weight_at])
        target, source = builder.gep(y.data, [y_at]), builder.gep(x.data, [x_at])
        # One number for both: twice the planes, plus 1 for the wide tile.
        shape = builder.add(builder.mul(planes, integer_constant(2)), builder.zext(is_wide, _INT))
        done = builder.append_basic_block("done")
        switch = builder.switch(shape, done)
        for outputs in plane_counts():
            vectors = tile_vectors(outputs)
            for wide, count in enumerate((vectors.narrow, vectors.wide)):
                block = builder.append_basic_block(f"tile_{outputs}x{count}")
                switch.add_case(integer_constant(2 * outputs + wide), block)
                builder.position_at_end(block)
                e = Emitter(builder, signature.args[2].dtype, outputs, count)
                e.write(
                    e.sum_taps(e.zeros(), range(outputs), source, (offsets, weights, taps.tap_count)), target, y_stride
                )
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


def _pair_tile(vectors: int) -> Any:
    @intrinsic
    def tile(typingctx, y, y_at, y_stride, x, x_at, pair):
        """Sums the taps of two runs of results, which share all taps but those at the ends (see `records.PairTaps`).

        Nothing is multiplied by a zero that is not in the kernel, so infinities stay where the kernel reads them.
        """
        integer = types.int64
        signature = types.void(y, integer, integer, x, integer, pair)

        def emit(context, builder, signature, args):
            y, y_at, y_stride, x, x_at, pair = arrays_of(context, builder, signature, args)
            e = Emitter(builder, signature.args[0].dtype, 2, vectors)
            source, sums = e.pointer(x, x_at), e.zeros()
            offset_at, weight_at = pair.offset_at, pair.weight_at
            for active, count in ((range(1), pair.ends), (range(2), pair.shared), (range(1, 2), pair.ends)):
                offsets, weights = e.pointer(pair.offsets, offset_at), e.pointer(pair.weights, weight_at)
                sums = e.sum_taps(sums, active, source, (offsets, weights, count))
                offset_at = builder.add(offset_at, count)
                weight_at = builder.add(weight_at, builder.mul(count, integer_constant(len(active))))
            e.write(sums, e.pointer(y, y_at), y_stride)
            return context.get_dummy_value()

        return signature, emit

    return tile


pair_tile, narrow_pair_tile = (_pair_tile(vectors) for vectors in PAIR_VECTORS)


def _dot_tile(outputs: int) -> Any:
    taps = DOT_TILES[outputs]

    @intrinsic
    def tile(typingctx, sums, y, x, x_at, offsets, offset_at, count):
        """Adds the products of some rows of `y` and runs of `x`, `count` elements long, to ``sums[r, t]``."""
        integer = types.int64
        signature = types.void(sums, y, x, integer, offsets, integer, integer)

        def emit(context, builder, signature, args):
            sums, y, x, x_at, offsets, offset_at, count = arrays_of(context, builder, signature, args)
            e = Emitter(builder, signature.args[2].dtype, outputs, taps)
            first = e.pointer(offsets, offset_at)
            shifts = [builder.load(builder.gep(first, [integer_constant(t)])) for t in range(taps)]
            starts = [e.pointer(x, builder.add(x_at, shift)) for shift in shifts]
            totals = e.dot(e.pointer(y.values, y.at), y.stride, starts, count)
            for r in range(outputs):
                row = e.row(e.pointer(sums.values, sums.at), sums.stride, r)
                for t in range(taps):
                    at = builder.gep(row, [integer_constant(t)])
                    builder.store(builder.fadd(builder.load(at), e.total(totals[r * taps + t])), at)
            return context.get_dummy_value()

        return signature, emit

    return tile


dot_tile_1, dot_tile_2, dot_tile_4 = _dot_tile(1), _dot_tile(2), _dot_tile(4)
