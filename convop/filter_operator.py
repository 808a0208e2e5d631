"""Convolution as an operator on the kernel: the input is fixed."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pylops import LinearOperator

from .arguments import IntOrSequence, Padding, boolean, one_of
from .backend import Array, as_kernel
from .data_matrix import block_diagonal, group_matrices
from .matrix import convert
from .matrix_operator import MatrixOperator, own, transposed_csr
from .parallel import ForkSafeLock
from .spec import ConvSpec

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
    gradient of the kernel; `tosparse` is the data matrix of least squares.

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
        one_of("engine", engine, ("auto", "measure", "csr"))
        self._set_up(spec, data, boolean("flip", flip), name)

    def _set_up(self, spec: ConvSpec, data: Array, flip: bool, name: str) -> Self:
        self._spec, self._data, self._flip = spec, data, flip
        self._groups: list[sp.csr_array] | None = None
        self._lock = ForkSafeLock()
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
        return "csr"

    def _group_matrices(self) -> list[sp.csr_array]:
        with self._lock:
            if self._groups is None:
                self._groups = group_matrices(self._spec, self._data, flip=self._flip)
            return self._groups

    def _times(self, kernels: Array) -> Array:
        matrices, spec = self._group_matrices(), self._spec
        outputs, taps = matrices[0].shape
        # (groups, channels of a group, taps, P): all channels of a group and all columns are one batch
        k = kernels.reshape(spec.groups, spec.c_out // spec.groups, taps, *kernels.shape[1:] or (1,))
        batch = k.shape[1] * k.shape[3]
        y = np.stack(
            [
                (m @ kg.transpose(1, 0, 2).reshape(taps, batch)).reshape(outputs, k.shape[1], k.shape[3])
                for m, kg in zip(matrices, k, strict=True)
            ]
        )
        return y.transpose(0, 2, 1, 3).reshape(self.shape[0], *kernels.shape[1:])

    def _adjoint_times(self, y: Array) -> Array:
        matrices, spec = self._group_matrices(), self._spec
        outputs, taps = matrices[0].shape
        r = y.reshape(spec.groups, spec.c_out // spec.groups, outputs, *y.shape[1:] or (1,))
        batch = r.shape[1] * r.shape[3]
        # m^H r as conj(m^T conj(r)): of a real matrix that copies nothing.
        k = np.stack(
            [
                (m.T @ rg.transpose(1, 0, 2).reshape(outputs, batch)).reshape(taps, r.shape[1], r.shape[3])
                for m, rg in zip(matrices, r.conj(), strict=True)
            ]
        ).conj()
        return k.transpose(0, 2, 1, 3).reshape(self.shape[1], *y.shape[1:])

    def conj(self) -> ConvFilter:
        """The operator of the conjugate input.

        Returns
        -------
        ConvFilter
            Itself if it is real.
        """
        if self._data.dtype.kind != "c":
            return self
        return ConvFilter.__new__(ConvFilter)._set_up(self._spec, own(self._data.conj()), self._flip, self.name)

    def _adjoint(self) -> FilterAdjoint:
        return FilterAdjoint(self)

    def _transpose(self) -> FilterAdjoint:
        return FilterAdjoint(self.conj())

    def _sparse(self, format: str) -> Any:
        return convert(block_diagonal(self._spec, self._group_matrices()), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_filter, (self._spec, self._data, self._flip, self.name)


def _restored_filter(spec: ConvSpec, data: Array, flip: bool, name: str) -> ConvFilter:
    return ConvFilter.__new__(ConvFilter)._set_up(spec, own(data), flip, name)


class FilterAdjoint(MatrixOperator):
    """The adjoint of a `ConvFilter`: residuals to kernel gradients."""

    def __init__(self, of: ConvFilter) -> None:
        self._of = of
        self._forward, self._backward = of._adjoint_times, of._times
        LinearOperator.__init__(self, dtype=of.dtype, dims=of.dimsd, dimsd=of.dims, name=f"{of.name}H")

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
