"""Convolutions as PyLops operators: a spec, a kernel and an engine that applies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array, as_kernel, on_gpu, to_cpu
from ..arrays.scaling import power_of_two_scale, scale_by_power_of_two
from ..cuda.matrix import build as build_on_gpu
from ..engines import GPU_ENGINES, Engine, make, renew
from ..geometry.arguments import IntOrSequence, Padding, boolean
from ..geometry.spec import ConvSpec
from ..geometry.transposed import transposed_spec
from ..matrix.build import build, convert, flipped
from .base import MatrixOperator, own, transposed_csr
from .linear_operator import LinearOperator

__all__ = ["Conv", "ConvTranspose", "tempered"]


class _Convolution(MatrixOperator):
    """What `Conv` and `ConvTranspose` share: the convolution's spec, the kernel, and an engine for one of both."""

    _DEFAULT_NAME: str

    def _set_up(
        self,
        spec: ConvSpec,
        kernel: Array,
        flip: bool,
        engine: str,
        name: str,
        *,
        ready: Engine | None = None,
        like: Engine | None = None,
    ) -> Self:
        """Fill in a new operator, with an engine made anew, one that is ready, or one of the same spec."""
        self._spec = spec
        self._kernel = kernel
        self._flip = flip
        self._requested = engine
        if ready is None:
            taps = self._taps()
            ready = make(engine, spec, taps) if like is None else renew(engine, like, spec, taps)
        self._engine = ready
        dims, dimsd = self._direction(spec.input_shape, spec.output_shape)
        self._forward, self._backward = self._direction(ready.forward, ready.adjoint)
        LinearOperator.__init__(self, dtype=kernel.dtype, dims=dims, dimsd=dimsd, name=name)
        return self

    @staticmethod
    def _direction(first: Any, second: Any) -> tuple[Any, Any]:
        """Two things of the convolution in the order of this operator."""
        raise NotImplementedError

    def _unflipped(self) -> Array:
        """The taps of the convolution as its matrix has them."""
        return flipped(self._spec, self._kernel) if self._flip else self._kernel

    def _taps(self) -> Array:
        """The taps from which this operator's engine is made."""
        return self._unflipped()

    @property
    def spec(self) -> ConvSpec:
        """The geometry of the convolution, also where the operator is its transpose."""
        return self._spec

    @property
    def kernel(self) -> Array:
        """The kernel as it was given, in the operator's dtype. Read-only: see `with_kernel`."""
        return self._kernel

    def convolution(self) -> tuple[ConvSpec, Array]:
        """The convolution of which this operator is the matrix, or the conjugate transpose.

        Returns
        -------
        (ConvSpec, ndarray)
            Its geometry, and its taps on the CPU, not flipped.
        """
        return self._spec, to_cpu(self._taps())

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        return self._engine.name

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, and takes and returns CuPy's arrays."""
        return on_gpu(self._kernel)

    def _moved(self, move: Callable[[Array], Array]) -> Self:
        moved = own(move(self._kernel))
        engine = self._requested
        if on_gpu(moved) and engine not in GPU_ENGINES:
            engine = "auto"
        other = type(self).__new__(type(self))
        return other._set_up(self._spec, moved, self._flip, engine, self.name)

    @property
    def flip(self) -> bool:
        """Whether the kernel is flipped in space."""
        return self._flip

    def with_kernel(self, kernel: npt.ArrayLike) -> Self:
        """The operator of the same spec with another kernel; what depends on the spec alone is shared.

        Parameters
        ----------
        kernel : array_like
            New taps, of the shape of the old; their dtype becomes the operator's.

        Returns
        -------
        Conv or ConvTranspose
            As this one.
        """
        taps = own(as_kernel(kernel))
        if on_gpu(taps) != self.on_gpu:
            here, other = ("CuPy", "NumPy") if self.on_gpu else ("NumPy", "CuPy")
            raise TypeError(f"kernel must be an array of {here}, as the operator's is; got one of {other}")
        if taps.shape != self._kernel.shape:
            raise ValueError(f"kernel must keep the shape {self._kernel.shape}, got {taps.shape}")
        return self._same_type(taps)

    def _same_type(self, kernel: Array) -> Self:
        other = type(self).__new__(type(self))
        return other._set_up(self._spec, kernel, self._flip, self._requested, self.name, like=self._engine)

    def _turned(self, kind: type[_Convolution], kernel: Array) -> Any:
        """The operator in the other direction. It shares the engine if that engine's taps are its own."""
        shared = kernel.dtype.kind != "c" or kernel is not self._kernel
        ready, like = (self._engine, None) if shared else (None, self._engine)
        return kind.__new__(kind)._set_up(
            self._spec, kernel, self._flip, self._requested, kind._DEFAULT_NAME, ready=ready, like=like
        )

    def _conjugated(self) -> Array:
        return own(self._kernel.conj()) if self._kernel.dtype.kind == "c" else self._kernel

    def conj(self) -> Self:
        """The operator of the conjugate kernel.

        Returns
        -------
        Conv or ConvTranspose
            As this one; itself if it is real.
        """
        return self if self._kernel.dtype.kind != "c" else self._same_type(self._conjugated())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Convolution) or type(other) is not type(self):
            return NotImplemented
        return (
            self._spec == other._spec
            and self.dtype == other.dtype
            and self.on_gpu == other.on_gpu
            and np.array_equal(to_cpu(self._unflipped()), to_cpu(other._unflipped()), equal_nan=True)
        )

    def __hash__(self) -> int:
        return hash((type(self), self._spec, self.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._spec, self._kernel, self._flip, self._requested, self.name)


def tempered(A: Any) -> tuple[Any, int]:
    """An operator over a power of two, so that squares of what it gives are within range; and the power.

    Parameters
    ----------
    A : LinearOperator
        Of any maker.

    Returns
    -------
    (LinearOperator, int)
        `A` itself and 0, unless it is a convolution whose taps are extremely large or small.
    """
    if not isinstance(A, _Convolution):
        return A, 0
    power = power_of_two_scale(A.kernel)
    return (A.with_kernel(scale_by_power_of_two(A.kernel, -power)), power) if power else (A, 0)


def _restored(
    kind: type[_Convolution], spec: ConvSpec, kernel: Array, flip: bool, engine: str, name: str
) -> _Convolution:
    return kind.__new__(kind)._set_up(spec, own(kernel), flip, engine, name)


class Conv(_Convolution):
    """Convolution with a fixed kernel as a linear operator.

    Parameters
    ----------
    kernel : array_like
        Taps, shape ``(*taps)``, or ``(c_out, c_in/groups, *taps)`` for an input with channels. Not
        flipped, as deep learning has it (cross-correlation). float32, float64, complex64 and complex128
        are kept; integers and bools become float64, float16 float32. An array of CuPy puts the operator on the GPU.
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``.
    stride, padding, dilation, groups, padding_mode
        As in :class:`convop.ConvSpec`.
    flip : bool
        Flip the kernel in space: the convolution of signal processing.
    engine : str
        How the operator is applied: one of ``convop.engines.available()``, or ``"auto"`` or
        ``"measure"`` for the best of them.
    dtype : dtype_like, optional
        float32, float64, complex64 or complex128, in place of the kernel's own.
    name : str
        Name of the operator, for ``pylops.utils.describe``.

    Attributes
    ----------
    spec : ConvSpec
        The geometry.
    kernel : ndarray
        The kernel, read-only.
    engine : str
        Name of the engine in use.
    dims, dimsd : tuple of int
        Shapes of the input and of the output.
    shape : (int, int)
        Rows and columns of the matrix.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together; the message names the argument.

    See Also
    --------
    ConvTranspose : What `T` and `H` give.
    ConvFilter : The same map, linear in the kernel.
    convop.kernel2matrix : The matrix alone.

    Notes
    -----
    ``A @ x`` takes an array of shape `dims`, ``(*dims, P)``, ``(N,)`` or ``(N, P)``, as PyLops does; P columns
    are one batch. SciPy's solvers take the operator as it is. It never writes to what it is given, and may be
    used by several threads at once.

    All engines compute the same map, to rounding. They differ in what a NaN or an infinity does: with ``"csr"``,
    ``"direct"`` and ``"gemm"`` it stays where the kernel reads it, with ``"separable"`` it spreads along the axes as far
    as the kernel reaches, with ``"fft"`` over a block or all of the result. Errors of ``"fft"`` are of the size of rounding
    relative to the largest results, and so are its sums: where those leave the range of the dtype, or fall below it,
    single results do too.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import Conv
    >>> A = Conv([[1, 2], [3, 4]], (3, 3))
    >>> A @ np.arange(9.0).reshape(3, 3)
    array([[27., 37.],
           [57., 67.]])
    >>> A.T @ np.ones((2, 2))
    array([[ 1.,  3.,  2.],
           [ 4., 10.,  6.],
           [ 3.,  7.,  4.]])
    """

    _DEFAULT_NAME = "C"

    def __init__(
        self,
        kernel: npt.ArrayLike,
        input_shape: IntOrSequence,
        *,
        stride: IntOrSequence = 1,
        padding: Padding = 0,
        dilation: IntOrSequence = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        flip: bool = False,
        engine: str = "auto",
        dtype: npt.DTypeLike | None = None,
        name: str = "C",
    ) -> None:
        taps = as_kernel(kernel, dtype)
        spec = ConvSpec(
            input_shape,
            taps.shape,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        self._set_up(spec, own(taps), boolean("flip", flip), engine, name)

    @staticmethod
    def _direction(first: Any, second: Any) -> tuple[Any, Any]:
        return first, second

    def _transpose(self) -> ConvTranspose:
        transposed: ConvTranspose = self._turned(ConvTranspose, self._kernel)
        return transposed

    def _adjoint(self) -> ConvTranspose:
        adjoint: ConvTranspose = self._turned(ConvTranspose, self._conjugated())
        return adjoint

    def _sparse(self, format: str) -> Any:
        return convert(build(self._spec, self._taps()), format)


class ConvTranspose(_Convolution):
    """Transposed convolution as a linear operator: the transpose of a `Conv`, exactly.

    Parameters
    ----------
    kernel : array_like
        Taps in PyTorch's layout, ``(*taps)`` or ``(c_in, c_out/groups, *taps)``: the kernel of the
        convolution that this operator is the transpose of. dtypes as in `Conv`.
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``: the convolution's output.
    stride, padding, dilation, groups, padding_mode
        Those of the convolution. So padding crops the output, and stride spreads it.
    output_padding : int or sequence of int
        With a stride, several input sizes of the convolution have the same output size. The smallest is
        taken, plus so many elements at the end of each axis; fewer than its stride or dilation.
    output_shape : int or sequence of int, optional
        The output's shape itself, channels included, in place of `output_padding`.
    flip, engine, dtype, name
        As in `Conv`.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together; a wrong `output_shape` is answered with the valid ones.

    See Also
    --------
    Conv : What `T` and `H` give.

    Notes
    -----
    ``ConvTranspose(K, A.dimsd, ..., output_shape=A.dims) == Conv(K, A.dims, ...).T``. For ``padding_mode="zeros"``
    and real kernels it is PyTorch's ConvTranspose; for the other modes, which PyTorch does not have, it
    adds up what the extension had copied.

    Examples
    --------
    >>> from convop import ConvTranspose
    >>> ConvTranspose([[0, 1], [2, 3]], (2, 2), stride=2) @ [[0, 1], [2, 3]]
    array([[0., 0., 0., 1.],
           [0., 0., 2., 3.],
           [0., 2., 0., 3.],
           [4., 6., 6., 9.]])
    """

    _DEFAULT_NAME = "CT"

    def __init__(
        self,
        kernel: npt.ArrayLike,
        input_shape: IntOrSequence,
        *,
        stride: IntOrSequence = 1,
        padding: Padding = 0,
        output_padding: IntOrSequence = 0,
        output_shape: IntOrSequence | None = None,
        dilation: IntOrSequence = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        flip: bool = False,
        engine: str = "auto",
        dtype: npt.DTypeLike | None = None,
        name: str = "CT",
    ) -> None:
        taps = as_kernel(kernel, dtype)
        spec = transposed_spec(
            input_shape,
            taps.shape,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            output_shape=output_shape,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        self._set_up(spec, own(taps), boolean("flip", flip), engine, name)

    @staticmethod
    def _direction(first: Any, second: Any) -> tuple[Any, Any]:
        return second, first

    def _taps(self) -> Array:
        # W^T = (conj W)^H: the adjoint of the engine of the conjugate kernel.
        return self._unflipped().conj()

    def _transpose(self) -> Conv:
        transposed: Conv = self._turned(Conv, self._kernel)
        return transposed

    def _adjoint(self) -> Conv:
        adjoint: Conv = self._turned(Conv, self._conjugated())
        return adjoint

    def _sparse(self, format: str) -> Any:
        if self.on_gpu:
            return convert(build_on_gpu(self._spec, self._taps(), adjoint=True), format)
        return transposed_csr(build(self._spec, self._unflipped()), format)
