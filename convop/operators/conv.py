"""Convolutions and their transposes as PyLops operators: a spec, a kernel and an engine that applies them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ..arrays.backend import Array, as_kernel, on_gpu, to_cpu
from ..cuda.matrix import build as build_on_gpu
from ..engines import Engine, make, with_kernel
from ..geometry.arguments import IntOrSequence, Padding, boolean
from ..geometry.spec import ConvSpec
from ..geometry.transposed import transposed_spec
from ..matrix.build import build, convert, flipped
from .base import transposed_csr
from .spec_operator import SpecOperator, readonly_copy


class _Convolution(SpecOperator):
    """The base of `Conv` and `ConvTranspose`.

    The engine applies a convolution as its forward map, and the conjugate transpose as its adjoint. `Conv` is the forward
    map of the engine of its taps K. `ConvTranspose` is the adjoint of the engine of the conjugate taps, because
    ``C(K)^T = C(conj K)^H``. Operators that `T` and `H` turn into each other share one engine.
    """

    _DEFAULT_NAME: ClassVar[str]
    _IS_TRANSPOSE: ClassVar[bool]
    _OPPOSITE: ClassVar[type[_Convolution]]  # the type of the operator in the other direction

    def _make_engine(self, like: Engine | None) -> Engine:
        spec, taps = self._spec, self._taps()
        if like is None:
            return make(self._requested_engine, spec, taps)
        return with_kernel(self._requested_engine, like, spec, taps)

    def _taps(self) -> Array:
        """The taps of the engine: not flipped, and conjugate for a transpose."""
        taps = flipped(self._spec, self._array) if self._flip else self._array
        return taps.conj() if self._IS_TRANSPOSE else taps

    def _functions(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        forward, adjoint = self._engine.forward, self._engine.adjoint
        return (adjoint, forward) if self._IS_TRANSPOSE else (forward, adjoint)

    def _dimensions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        inputs, outputs = self._spec.input_shape, self._spec.output_shape
        return (outputs, inputs) if self._IS_TRANSPOSE else (inputs, outputs)

    @property
    def kernel(self) -> Array:
        """The kernel as it was given, in the operator's dtype. Read-only: see `with_kernel`."""
        return self._array

    @property
    def flip(self) -> bool:
        """Whether the kernel is reversed in space."""
        return self._flip

    def convolution(self) -> tuple[ConvSpec, Array]:
        """Returns the convolution whose matrix, or its conjugate transpose, is the matrix of this operator.

        Returns
        -------
        (ConvSpec, ndarray)
            Geometry, and taps on the CPU, not flipped.
        """
        return self._spec, to_cpu(self._taps())

    def with_kernel(self, kernel: npt.ArrayLike) -> Self:
        """Returns the operator of the same spec with another kernel, which shares the arrays that depend on the spec alone.

        Parameters
        ----------
        kernel : array_like
            New taps, of the shape of the old; their dtype becomes the operator's.

        Returns
        -------
        Conv or ConvTranspose
            Of the same type.
        """
        taps = readonly_copy(as_kernel(kernel))
        if on_gpu(taps) != self.on_gpu:
            expected, got = ("CuPy", "NumPy") if self.on_gpu else ("NumPy", "CuPy")
            raise TypeError(f"kernel must be a {expected} array, as the operator's is; got a {got} array")
        if taps.shape != self._array.shape:
            raise ValueError(f"kernel must keep the shape {self._array.shape}, got {taps.shape}")
        return self._with_array(taps)

    def _transpose(self) -> Any:
        return self._reverse_direction(self._array)

    def _adjoint(self) -> Any:
        return self._reverse_direction(self._conjugate_array())

    def _reverse_direction(self, kernel: Array) -> _Convolution:
        """Returns the operator of a kernel in the other direction, with this engine if its taps are the same."""
        kind = self._OPPOSITE
        has_same_taps = kernel.dtype.kind != "c" or kernel is not self._array
        ready, like = (self._engine, None) if has_same_taps else (None, self._engine)
        return kind.__new__(kind)._set_up(
            self._spec, kernel, self._flip, self._requested_engine, kind._DEFAULT_NAME, ready=ready, like=like
        )

    def _gpu_csr(self) -> Any:
        return build_on_gpu(self._spec, self._taps(), adjoint=self._IS_TRANSPOSE)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Convolution) or type(other) is not type(self):
            return NotImplemented
        return (
            self._spec == other._spec
            and self.dtype == other.dtype
            and self.on_gpu == other.on_gpu
            and np.array_equal(to_cpu(self._taps()), to_cpu(other._taps()), equal_nan=True)
        )

    def __hash__(self) -> int:
        return hash((type(self), self._spec, self.dtype))


class Conv(_Convolution):
    """Convolution with a fixed kernel as a linear operator.

    Parameters
    ----------
    kernel : array_like
        Taps of shape ``(*taps)``, or ``(c_out, c_in/groups, *taps)`` for an input with channels. They are not flipped,
        as in deep learning (cross-correlation). float32, float64, complex64 and complex128 are kept; integers and bools
        become float64, float16 becomes float32. A CuPy array puts the operator on the GPU.
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``.
    stride, padding, dilation, groups, padding_mode
        As in :class:`convop.ConvSpec`.
    flip : bool
        Whether to reverse the kernel in space, which gives the convolution of signal processing.
    engine : str
        Method that applies the operator: one of ``convop.engines.available()``; ``"auto"`` for the engine of the least
        predicted cost, or ``"measure"`` for the fastest.
    dtype : dtype_like, optional
        float32, float64, complex64 or complex128; by default the kernel's dtype.
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
        For invalid or inconsistent arguments; the message names the argument.

    See Also
    --------
    ConvTranspose : The type of `T` and `H`.
    ConvFilter : The same map, linear in the kernel.
    convop.kernel2matrix : The matrix alone.

    Notes
    -----
    ``A @ x`` takes an array of shape `dims`, ``(*dims, P)``, ``(N,)`` or ``(N, P)``, as PyLops does; P columns
    are one batch. SciPy's solvers accept the operator. It never writes to its inputs, and several threads may use it at
    once.

    All engines compute the same map, to rounding. They differ in how far a NaN or an infinity spreads: with ``"csr"``,
    ``"direct"`` and ``"gemm"`` to the outputs that read it, with ``"separable"`` along the axes as far as the kernel
    extends, with ``"winograd"`` as NaN over neighbouring rows, with ``"fft"`` over a block or all of the result. The rounding errors
    of ``"winograd"`` are in proportion to the largest numbers of neighbouring rows, for random numbers up to 8 times those of
    ``"direct"``; those of ``"fft"`` are relative to the largest results. So are the intermediate sums of both: where those
    overflow or underflow the dtype, single results do too, and integers are rounded.

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
    _IS_TRANSPOSE = False

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
        self._set_up(spec, readonly_copy(taps), boolean("flip", flip), engine, name)

    def _sparse(self, format: str) -> Any:
        return convert(build(self._spec, self._taps()), format)


class ConvTranspose(_Convolution):
    """Transposed convolution as a linear operator: the transpose of a `Conv`, exactly.

    Parameters
    ----------
    kernel : array_like
        Taps in PyTorch's layout, ``(*taps)`` or ``(c_in, c_out/groups, *taps)``: the kernel of the
        convolution whose transpose this operator is. dtypes as in `Conv`.
    input_shape : int or sequence of int
        ``(*space)`` or ``(c_in, *space)``: the shape of the convolution's output.
    stride, padding, dilation, groups, padding_mode
        Parameters of the convolution. Padding therefore crops the output, and a stride spreads it.
    output_padding : int or sequence of int
        With a stride, several input sizes of the convolution have the same output size. The operator has the smallest of
        them plus this number of elements at the end of each axis, which is less than the axis' stride or dilation.
    output_shape : int or sequence of int, optional
        Shape of the output, channels included, in place of `output_padding`.
    flip, engine, dtype, name
        As in `Conv`.

    Raises
    ------
    ValueError, TypeError
        For invalid or inconsistent arguments; for a wrong `output_shape` the message lists the valid shapes.

    See Also
    --------
    Conv : The type of `T` and `H`.

    Notes
    -----
    ``ConvTranspose(K, A.dimsd, ..., output_shape=A.dims) == Conv(K, A.dims, ...).T``. For ``padding_mode="zeros"``
    and real kernels it is PyTorch's ConvTranspose; for the other modes, which PyTorch does not have, it
    accumulates the values that the extension copied.

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
    _IS_TRANSPOSE = True

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
        self._set_up(spec, readonly_copy(taps), boolean("flip", flip), engine, name)

    def _sparse(self, format: str) -> Any:
        kernel = self._taps().conj()  # not flipped
        return transposed_csr(build(self._spec, kernel), format)


Conv._OPPOSITE, ConvTranspose._OPPOSITE = ConvTranspose, Conv


def require_convolution(A: object) -> Conv | ConvTranspose:
    """Returns `A` if it is a `Conv` or a `ConvTranspose`.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not isinstance(A, Conv | ConvTranspose):
        raise TypeError(f"A must be a Conv or a ConvTranspose, got {type(A).__name__}")
    return A


def split_groups(A: Conv | ConvTranspose) -> Iterator[Conv]:
    """Yields the convolution of each group of channels: the blocks on the diagonal of `A`, up to transposition."""
    spec, taps = A.convolution()
    for number, kernel in enumerate(np.split(taps, spec.groups)):
        input_shape = (spec.c_in // spec.groups, *spec.input_shape[1:])
        yield Conv(kernel, input_shape, **{**spec.parameters(), "groups": 1}, name=f"{A.name}{number}")
