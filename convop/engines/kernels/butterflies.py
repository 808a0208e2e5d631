"""Butterflies of Fourier transforms along the first axis of planes, as LLVM vector instructions.

A transform along the first axis treats all columns alike, so a vector holds neighbouring columns and no element is ever
moved across lanes. A step of radix 4 takes rows ``z0, z1, z2, z3``, a quarter of the length apart, to

    z0 + z2 + (z1 + z3)                        w   (z0 - z2 - i (z1 - z3))
    w^2 (z0 + z2 - (z1 + z3))                  w^3 (z0 - z2 + i (z1 - z3))

(decimation in frequency; Gentleman and Sande, Fast Fourier transforms - for fun and profit, AFIPS 1966), which leaves the
frequencies in digit-reversed order. A convolution multiplies in that order, and its inverse transform takes the steps in
reverse with conjugate factors, so rows are never sorted.

They replace transforms along all axes by scipy.fft where they cost less. Without them, 14 products of 256^2 to 2048^2
images with 15^2 to 31^2 taps took 1.5 to 3.7 times as long (geometric mean 2.7), measured on two cores of Zen 4.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from ...threads.llvm import arrays_of, integer_constant
from .microkernels import Emitter

# Bytes of a row that a step transforms at once: a cache line.
COLUMNS_BYTES = 64

Complex = tuple[Any, Any]


class _Butterfly:
    """Complex arithmetic on vectors."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter, self.builder = emitter, emitter.builder

    def add(self, p: Complex, q: Complex) -> Complex:
        return self.builder.fadd(p[0], q[0]), self.builder.fadd(p[1], q[1])

    def subtract(self, p: Complex, q: Complex) -> Complex:
        return self.builder.fsub(p[0], q[0]), self.builder.fsub(p[1], q[1])

    def add_i(self, p: Complex, q: Complex) -> Complex:
        """``p + i q``."""
        return self.builder.fsub(p[0], q[1]), self.builder.fadd(p[1], q[0])

    def subtract_i(self, p: Complex, q: Complex) -> Complex:
        """``p - i q``."""
        return self.builder.fadd(p[0], q[1]), self.builder.fsub(p[1], q[0])

    def multiply(self, z: Complex, w: Complex, *, conjugate: bool) -> Complex:
        """``z w``, or ``z conj(w)``."""
        b, fma = self.builder, self.emitter.fused
        (re, im), (wr, wi) = z, w
        if conjugate:
            return fma(re, wr, b.fmul(im, wi)), fma(im, wr, b.fneg(b.fmul(re, wi)))
        return fma(re, wr, b.fneg(b.fmul(im, wi))), fma(im, wr, b.fmul(re, wi))

    def radix_2(self, z: list[Complex]) -> list[Complex]:
        return [self.add(z[0], z[1]), self.subtract(z[0], z[1])]

    def radix_4(self, z: list[Complex], *, inverse: bool) -> list[Complex]:
        even, odd = self.add(z[0], z[2]), self.add(z[1], z[3])
        a, b = self.subtract(z[0], z[2]), self.subtract(z[1], z[3])
        quarter, three_quarters = self.subtract_i(a, b), self.add_i(a, b)
        if inverse:
            quarter, three_quarters = three_quarters, quarter
        return [self.add(even, odd), quarter, self.subtract(even, odd), three_quarters]


def _step(radix: int, *, inverse: bool, twiddled: bool) -> Any:
    @intrinsic
    def step(typingctx, z, at, row, imaginary, twiddles, t_at):
        """Transforms rows ``at, at + row, ...`` of a cache line of columns; the imaginary component lies `imaginary` on."""
        integer = types.int64
        signature = types.void(z, integer, integer, integer, twiddles, integer)

        def emit(context, builder, signature, args):
            z, at, row, imaginary, twiddles, t_at = arrays_of(context, builder, signature, args)
            real = signature.args[0].dtype
            e = Emitter(builder, real, 1, 1)
            vectors = COLUMNS_BYTES * 8 // (e.bits * e.lanes)
            butterfly = _Butterfly(e)
            starts = [builder.add(at, builder.mul(row, integer_constant(m))) for m in range(radix)]
            components = [(e.pointer(z, s), e.pointer(z, builder.add(s, imaginary))) for s in starts]
            factors = []
            if twiddled:
                first = e.pointer(twiddles, t_at)
                scalars = [e.broadcast(builder.gep(first, [integer_constant(n)])) for n in range(2 * (radix - 1))]
                factors = list(zip(scalars[::2], scalars[1::2], strict=True))

            def twiddle(values: list[Complex]) -> list[Complex]:
                if not factors:
                    return values
                pairs = zip(values[1:], factors, strict=True)
                return [values[0], *(butterfly.multiply(v, w, conjugate=inverse) for v, w in pairs)]

            for v in range(vectors):
                values = [(e.load(re, v), e.load(im, v)) for re, im in components]
                if inverse:
                    values = twiddle(values)
                values = butterfly.radix_2(values) if radix == 2 else butterfly.radix_4(values, inverse=inverse)
                if not inverse:
                    values = twiddle(values)
                for (re, im), value in zip(components, values, strict=True):
                    e.store(value[0], re, v)
                    e.store(value[1], im, v)
            return context.get_dummy_value()

        return signature, emit

    return step


forward_4, inverse_4 = (_step(4, inverse=inverse, twiddled=True) for inverse in (False, True))
# For neighbouring rows, and for the first row of a span, all factors are one.
forward_plain_4, inverse_plain_4 = (_step(4, inverse=inverse, twiddled=False) for inverse in (False, True))
forward_2, inverse_2 = (_step(2, inverse=inverse, twiddled=False) for inverse in (False, True))
