"""Convolution as an operator on the kernel: the input is fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy.typing as npt

from ..arrays.backend import Array, as_kernel, on_gpu
from ..cuda.matrix import moved
from ..engines import GPU_ENGINES, make_filter
from ..geometry.arguments import IntOrSequence, Padding, boolean
from ..geometry.spec import ConvSpec
from ..matrix.build import convert
from ..matrix.data_matrix import block_diagonal, group_matrices
from .base import MatrixOperator, own, transposed_csr
from .linear_operator import LinearOperator

__all__ = ["ConvFilter"]


class ConvFilter(MatrixOperator):
    """The same map as `Conv`, linear in the kernel: the input is fixed and the kernel is what it acts on.

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
    ``ConvFilter(x, K.shape, ...) @ K == Conv(K, x.shape, ...) @ x``. The adjoint takes a residual to the
    gradient of the kernel; `tosparse` is the data matrix of least squares, which is built on the CPU, and then moved,
    for an operator on the GPU too.

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
        data = own(as_kernel(x, dtype, what="x"))
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

    def _set_up(self, spec: ConvSpec, data: Array, flip: bool, engine: str, name: str) -> Self:
        self._spec, self._data, self._flip, self._requested = spec, data, flip, engine
        self._filter = make_filter(engine, spec, data)
        self._forward, self._backward = self._times, self._adjoint_times
        LinearOperator.__init__(self, dtype=data.dtype, dims=spec.kernel_shape, dimsd=spec.output_shape, name=name)
        return self

    @property
    def spec(self) -> ConvSpec:
        """The geometry of the convolution."""
        return self._spec

    @property
    def data(self) -> Array:
        """The input, read-only."""
        return self._data

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        return self._filter.name

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, and takes and returns CuPy's arrays."""
        return on_gpu(self._data)

    def _moved(self, move: Callable[[Array], Array]) -> Self:
        moved = own(move(self._data))
        engine = self._requested
        if on_gpu(moved) and engine not in GPU_ENGINES:
            engine = "auto"
        return type(self).__new__(type(self))._set_up(self._spec, moved, self._flip, engine, self.name)

    def _times(self, kernels: Array) -> Array:
        return self._filter.forward(self._turned(kernels))

    def _adjoint_times(self, y: Array) -> Array:
        return self._turned(self._filter.adjoint(y))

    def _turned(self, kernels: Array) -> Array:
        """Kernels as the matrix has them, or back: flipped in space if the operator is."""
        if not self._flip:
            return kernels
        shape, ndim = self._spec.kernel_shape, self._spec.ndim
        columns = kernels.reshape(*shape, *kernels.shape[1:])
        backwards = (slice(None),) * (len(shape) - ndim) + (slice(None, None, -1),) * ndim
        return columns[backwards].reshape(kernels.shape)

    def conj(self) -> ConvFilter:
        """The operator of the conjugate input.

        Returns
        -------
        ConvFilter
            Itself if it is real.
        """
        if self._data.dtype.kind != "c":
            return self
        return _restored_filter(self._spec, self._data.conj(), self._flip, self._requested, self.name)

    def _adjoint(self) -> FilterAdjoint:
        return FilterAdjoint(self)

    def _transpose(self) -> FilterAdjoint:
        return FilterAdjoint(self.conj())

    def _sparse(self, format: str) -> Any:
        if self.on_gpu:
            return convert(moved(self.to_cpu()._sparse("csr")), format)
        groups = group_matrices(self._spec, self._data, flip=self._flip)
        return convert(block_diagonal(self._spec, groups), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_filter, (self._spec, self._data, self._flip, self._requested, self.name)


def _restored_filter(spec: ConvSpec, data: Array, flip: bool, engine: str, name: str) -> ConvFilter:
    return ConvFilter.__new__(ConvFilter)._set_up(spec, own(data), flip, engine, name)


class FilterAdjoint(MatrixOperator):
    """The adjoint of a `ConvFilter`: residuals to kernel gradients."""

    def __init__(self, of: ConvFilter) -> None:
        self._of = of
        self._forward, self._backward = of._adjoint_times, of._times
        LinearOperator.__init__(self, dtype=of.dtype, dims=of.dimsd, dimsd=of.dims, name=f"{of.name}H")

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, and takes and returns CuPy's arrays."""
        return self._of.on_gpu

    def _moved(self, move: Callable[[Array], Array]) -> Self:
        return type(self)(self._of._moved(move))

    def conj(self) -> FilterAdjoint:
        return FilterAdjoint(self._of.conj())

    def _adjoint(self) -> ConvFilter:
        return self._of

    def _transpose(self) -> ConvFilter:
        return self._of.conj()

    def _sparse(self, format: str) -> Any:
        if self.on_gpu:
            return convert(moved(self.to_cpu()._sparse("csr")), format)
        return transposed_csr(self._of.conj().tosparse(), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return FilterAdjoint, (self._of,)
