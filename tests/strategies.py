"""Hypothesis strategies: random geometries and kernels, small enough for the plain loops of the oracle."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

# Independent of the package on purpose: a new mode is added by hand, here and in the oracle.
MODES = ("zeros", "circular", "reflect", "symmetric", "replicate")
DTYPES = ("float32", "float64", "complex64", "complex128")

# Longest axis and kernel by number of dimensions: the oracle visits every tap of every output.
LONGEST = {1: 10, 2: 6, 3: 4, 4: 3}


@dataclass(frozen=True)
class Case:
    input_shape: tuple[int, ...]
    kernel: Any
    parameters: dict[str, Any]
    flip: bool

    def __repr__(self):
        return (
            f"{self.kernel.dtype}{list(self.kernel.shape)} on {self.input_shape}, flip={self.flip}, {self.parameters}"
        )


@st.composite
def paddings(draw, space, taps, dilation):
    """A named padding or one pair per axis: negative, wider than the axis, but never too small for the kernel."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(("same", "full")))
    pairs = []
    for n, k, d in zip(space, taps, dilation, strict=True):
        lo = draw(st.integers(-2, n + 2))
        missing = d * (k - 1) + 1 - n - lo
        pairs.append((lo, draw(st.integers(max(-2, missing), max(0, missing) + 2))))
    return tuple(pairs)


@st.composite
def cases(draw, dtypes=DTYPES, values="integers"):
    """Cases with kernels of small integers, for which every sum is exact, or of normal numbers."""
    ndim = draw(st.integers(1, 4))
    longest = LONGEST[ndim]
    sizes = st.integers(1, longest)
    space = tuple(draw(sizes) for _ in range(ndim))
    taps = tuple(draw(st.integers(1, longest - (ndim > 2))) for _ in range(ndim))  # possibly wider than the input
    stride = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    parameters = {
        "stride": stride,
        "padding": draw(paddings(space, taps, dilation)),
        "dilation": dilation,
        "groups": 1,
        "padding_mode": draw(st.sampled_from(MODES)),
    }
    input_shape, kernel_shape = space, taps
    if draw(st.booleans()):
        groups = parameters["groups"] = draw(st.integers(1, 3 if ndim < 3 else 2))
        inputs, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        input_shape, kernel_shape = (inputs * groups, *space), (outputs * groups, inputs, *taps)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))

    def numbers():
        if values == "integers":
            return rng.integers(-4, 5, kernel_shape)
        return rng.standard_normal(kernel_shape)

    kernel = numbers() + 1j * numbers() if dtype.kind == "c" else numbers()
    assert math.prod(kernel_shape) == kernel.size
    return Case(input_shape, kernel.astype(dtype), parameters, draw(st.booleans()))
