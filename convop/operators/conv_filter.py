"""Convolution as a linear operator on the kernel, with a fixed input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy.typing as npt

from ..arrays.backend import Array, as_kernel
from ..engines import Filter, make_filter
from ..geometry.arguments import IntOrSequence, Padding, boolean
from ..geometry.spec import ConvSpec
from ..matrix.build import convert
from ..matrix.data_matrix import block_diagonal, group_matrices
from .base import MatrixOperator, transposed_csr
from .linear_operator import LinearOperator
from .spec_operator import SpecOperator, readonly_copy


class ConvFilter(SpecOperator):
    """The convolution of a fixed input as a linear operator on the kernel.

    Parameters
    ----------
    x : array_like
        The input, ``(*space)`` or ``(c_in, *space)``. dtypes as for the kernel of `Conv`.
    kernel_shape : int or sequence of int
        ``(*taps)`` or ``(c_out, c_in/groups, *taps)``.
    stride, padding, dilation, groups, padding_mode, flip, engine, dtype, name
        As in `Conv`.

    Notes
    -----
    ``ConvFilter(x, K.shape, ...) @ K == Conv(K, x.shape, ...) @ x``. The adjoint maps a residual to the gradient of the
    kernel; `tosparse` returns the data matrix of least squares. For an operator on the GPU too, that matrix is built on
    the CPU, and then moved.

    Examples
    --------
    >>> import numpy as np
    >>> from convop import ConvFilter
    >>> X = ConvFilter(np.arange(9.0).reshape(3, 3), (2, 2))
    >>> X @ np.array([[1.0, 2.0], [3.0, 4.0]])
    array([[27., 37.],
           [57., 67.]])
    """

    def __init__(
        self,
        x: npt.ArrayLike,
        kernel_shape: IntOrSequence,
        *,
        stride: IntOrSequence = 1,
        padding: Padding = 0,
        dilation: IntOrSequence = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        flip: bool = False,
        engine: str = "auto",
        dtype: npt.DTypeLike | None = None,
        name: str = "CF",
    ) -> None:
        data = readonly_copy(as_kernel(x, dtype, what="x"))
        spec = ConvSpec(
            data.shape,
            kernel_shape,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        self._set_up(spec, data, boolean("flip", flip), engine, name)

    def _make_engine(self, like: Filter | None) -> Filter:  # noqa: ARG002 - the engines of filters share nothing
        return make_filter(self._requested_engine, self._spec, self._array)

    def _functions(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        return self._convolve, self._kernel_gradient

    def _dimensions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._spec.kernel_shape, self._spec.output_shape

    @property
    def data(self) -> Array:
        """The input, read-only."""
        return self._array

    def _convolve(self, kernels: Array) -> Array:
        return self._engine.forward(self._flip_if_asked(kernels))  # type: ignore[no-any-return]

    def _kernel_gradient(self, y: Array) -> Array:
        return self._flip_if_asked(self._engine.adjoint(y))

    def _flip_if_asked(self, kernels: Array) -> Array:
        """Reverses kernels in space if the operator is flipped; its own inverse."""
        if not self._flip:
            return kernels
        shape, ndim = self._spec.kernel_shape, self._spec.ndim
        columns = kernels.reshape(*shape, *kernels.shape[1:])
        reverse = (slice(None),) * (len(shape) - ndim) + (slice(None, None, -1),) * ndim
        return columns[reverse].reshape(kernels.shape)

    def _adjoint(self) -> FilterAdjoint:
        return FilterAdjoint(self)

    def _transpose(self) -> FilterAdjoint:
        return FilterAdjoint(self.conj())

    def _sparse(self, format: str) -> Any:
        groups = group_matrices(self._spec, self._array, flip=self._flip)
        return convert(block_diagonal(self._spec, groups), format)


class FilterAdjoint(MatrixOperator):
    """The adjoint of a `ConvFilter`: it maps residuals to kernel gradients."""

    def __init__(self, of: ConvFilter) -> None:
        self._of = of
        self._forward, self._backward = of._kernel_gradient, of._convolve
        LinearOperator.__init__(self, dtype=of.dtype, dims=of.dimsd, dimsd=of.dims, name=f"{of.name}H")

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, where it takes and returns CuPy arrays."""
        return self._of.on_gpu

    def _to_device(self, move: Callable[[Array], Array]) -> Self:
        return type(self)(self._of._to_device(move))

    def conj(self) -> FilterAdjoint:
        return FilterAdjoint(self._of.conj())

    def _adjoint(self) -> ConvFilter:
        return self._of

    def _transpose(self) -> ConvFilter:
        return self._of.conj()

    def _sparse(self, format: str) -> Any:
        return transposed_csr(self._of.conj().tosparse(), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return FilterAdjoint, (self._of,)
