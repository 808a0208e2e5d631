"""Convolutions as PyLops operators: a spec, a kernel and an engine that applies them."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Lock
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pylops import LinearOperator
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator
from scipy.sparse.linalg import svds

from . import memory
from .arguments import IntOrSequence, Padding
from .backend import Array, as_array, as_kernel, kept_dtype
from .data_matrix import block_diagonal, group_matrices
from .engines import Engine, make
from .matrix import FORMATS, build, convert, flipped
from .spec import ConvSpec
from .transposed import transposed_spec

__all__ = ["Conv", "ConvFilter", "ConvTranspose"]

# All singular values are computed up to this smaller side: some seconds and half a GiB.
_DENSE_SIDE = 4096


class _MatrixOperator(LinearOperator):  # type: ignore[misc]
    """A PyLops operator over two functions on vectors or batches of columns, with a sparse matrix at hand."""

    _forward: Callable[[Array], Array]
    _backward: Callable[[Array], Array]

    def _matvec(self, x: Any) -> Array:
        return _applied(self._forward, self.dtype, x.toarray() if sp.issparse(x) else x)

    def _rmatvec(self, x: Any) -> Array:
        return _applied(self._backward, self.dtype, x.toarray() if sp.issparse(x) else x)

    _matmat = _matvec
    _rmatmat = _rmatvec

    def dot(self, x: Any) -> Any:
        """Apply to an array of shape `dims`, ``(*dims, P)``, ``(N,)`` or ``(N, P)``, or compose with an operator.

        Parameters
        ----------
        x : array_like, scalar or linear operator
            What stands to the right of ``@`` or ``*``.

        Returns
        -------
        ndarray or LinearOperator
            An array of shape `dimsd`, ``(*dimsd, P)``, ``(M,)`` or ``(M, P)``; or the product.

        Raises
        ------
        ValueError
            If the array has none of these shapes.
        """
        if isinstance(x, LinearOperator | ScipyLinearOperator) or np.isscalar(x):
            return super().dot(x)
        x = x if sp.issparse(x) else as_array(x, "x")
        columns = self.shape[1]
        fits = x.shape[:1] == (columns,) and x.ndim <= 2
        if not fits and x.shape != self.dims and x.shape[:-1] != self.dims:
            raise ValueError(
                f"x must have the shape {self.dims} or ({columns},), or a batch of them in a last axis; got {x.shape}"
            )
        return super().dot(x)

    def tosparse(self, format: str = "csr") -> Any:
        """The operator as a SciPy sparse array, built at once and yours to change.

        Parameters
        ----------
        format : {"csr", "csc", "coo", "bsr", "dia", "lil", "dok"}
            Sparse format.

        Returns
        -------
        scipy.sparse array of shape ``self.shape``

        Raises
        ------
        MemoryError
            If it does not fit the free memory.
        """
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
        return self._sparse(format)

    def _sparse(self, format: str) -> Any:
        raise NotImplementedError

    def todense(self, backend: str = "numpy") -> Array:  # noqa: ARG002 - PyLops' signature
        """The operator as a dense matrix.

        Parameters
        ----------
        backend : {"numpy"}
            Kept for PyLops, which has the same argument.

        Returns
        -------
        ndarray of shape ``self.shape``

        Raises
        ------
        MemoryError
            If it does not fit the free memory.
        """
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        memory.require(nbytes, f"the dense matrix of shape {self.shape}")
        dense: Array = self.tosparse().toarray()
        return dense

    def norm(self) -> float:
        """The spectral norm: the largest singular value.

        Returns
        -------
        float
        """
        if min(self.shape) <= _DENSE_SIDE // 8:
            return float(self._singular_values()[0])
        # Lanczos on the matrix; a seeded start makes the last digits the same from run to run.
        start = np.random.default_rng(0).standard_normal(min(self.shape)).astype(self.dtype)
        return float(svds(self.tosparse(), k=1, v0=start, return_singular_vectors=False)[0])

    def cond(self) -> float:
        """The condition number: the largest singular value over the smallest.

        Returns
        -------
        float
            ``inf`` for a matrix that is singular to the rounding of its dtype.

        Raises
        ------
        ValueError
            If the smaller side of the matrix exceeds 4096: all singular values are computed.
        """
        if min(self.shape) > _DENSE_SIDE:
            raise ValueError(
                f"cond computes all singular values, for matrices up to {_DENSE_SIDE} rows or columns; "
                f"this operator's shape is {self.shape}: use a smaller input_shape"
            )
        values = self._singular_values()
        # numpy.linalg.matrix_rank's bound on what rounding makes of a zero
        rounding = values[0] * max(self.shape) * np.finfo(self.dtype).eps
        return float(values[0] / values[-1]) if values[-1] > rounding else math.inf

    def _singular_values(self) -> Array:
        values: Array = np.linalg.svd(self.todense(), compute_uv=False)
        return values


def _applied(function: Callable[[Array], Array], dtype: np.dtype[Any], x: Array) -> Array:
    """A function on vectors or columns, for input of any dtype: as NumPy promotes it, integers as float64."""
    kept = kept_dtype(x.dtype, "x")
    x = x.astype(kept, copy=False)
    if kept.kind == "c" and dtype.kind != "c":
        # A real map of complex columns is that map of twice as many real ones.
        parts = np.ascontiguousarray(x).reshape(len(x), -1).view(kept.type(0).real.dtype)
        result = np.ascontiguousarray(function(parts))
        return result.view(np.result_type(kept, result.dtype, np.complex64)).reshape(-1, *x.shape[1:])
    return function(x)


class _Convolution(_MatrixOperator):
    """What `Conv` and `ConvTranspose` share: the convolution's spec, the kernel, and an engine for one of both."""

    _DEFAULT_NAME: str

    def _set_up(
        self, spec: ConvSpec, kernel: Array, flip: bool, engine: str, name: str, ready: Engine | None = None
    ) -> Self:
        self._spec = spec
        self._kernel = kernel
        self._flip = flip
        self._requested = engine
        if ready is None:
            ready = make(engine, spec, self._taps())
        self._engine = ready
        dims, dimsd = self._direction(spec.input_shape, spec.output_shape)
        self._forward, self._backward = self._direction(ready.forward, ready.adjoint)
        LinearOperator.__init__(self, dtype=kernel.dtype, dims=dims, dimsd=dimsd, name=name)
        return self

    @staticmethod
    def _direction(first: Any, second: Any) -> tuple[Any, Any]:
        """Two things of the convolution in the order of this operator."""
        raise NotImplementedError

    def _taps(self) -> Array:
        """The kernel from which this operator's engine is made."""
        return flipped(self._spec, self._kernel) if self._flip else self._kernel

    @property
    def spec(self) -> ConvSpec:
        """The geometry of the convolution, also where the operator is its transpose."""
        return self._spec

    @property
    def kernel(self) -> Array:
        """The kernel as it was given, in the operator's dtype. Read-only: see `with_kernel`."""
        return self._kernel

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        return self._engine.name

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
        taps = _own(as_kernel(kernel))
        if taps.shape != self._kernel.shape:
            raise ValueError(f"kernel must keep the shape {self._kernel.shape}, got {taps.shape}")
        return self._same_type(taps)

    def _same_type(self, kernel: Array) -> Self:
        other = type(self).__new__(type(self))
        other._spec, other._kernel, other._flip = self._spec, kernel, self._flip
        ready = self._engine.with_kernel(other._taps())
        return other._set_up(self._spec, kernel, self._flip, self._requested, self.name, ready)

    def _turned(self, kind: type[_Convolution], kernel: Array) -> Any:
        """The operator in the other direction. It shares the engine if that engine's taps are its own."""
        other = kind.__new__(kind)
        other._spec, other._kernel, other._flip = self._spec, kernel, self._flip
        shared = kernel.dtype.kind != "c" or kernel is not self._kernel
        ready = self._engine if shared else self._engine.with_kernel(other._taps())
        return other._set_up(self._spec, kernel, self._flip, self._requested, kind._DEFAULT_NAME, ready)

    def _conjugated(self) -> Array:
        return _own(self._kernel.conj()) if self._kernel.dtype.kind == "c" else self._kernel

    def conj(self) -> Self:
        """The operator of the conjugate kernel.

        Returns
        -------
        Conv or ConvTranspose
            As this one; itself if it is real.
        """
        return self if self._kernel.dtype.kind != "c" else self._same_type(self._conjugated())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, _Convolution)
        return (
            self._spec == other._spec
            and self.dtype == other.dtype
            and np.array_equal(_forward_kernel(self), _forward_kernel(other), equal_nan=True)
        )

    def __hash__(self) -> int:
        return hash((type(self), self._spec, self.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._spec, self._kernel, self._flip, self._requested, self.name)


def _forward_kernel(operator: _Convolution) -> Array:
    return flipped(operator._spec, operator._kernel) if operator._flip else operator._kernel


def _restored(
    kind: type[_Convolution], spec: ConvSpec, kernel: Array, flip: bool, engine: str, name: str
) -> _Convolution:
    return kind.__new__(kind)._set_up(spec, _own(kernel), flip, engine, name)


def _own(array: Array) -> Array:
    """A read-only copy, safe from whoever holds the original."""
    own = np.array(array)
    own.setflags(write=False)
    return own


class Conv(_Convolution):
    """Convolution with a fixed kernel as a linear operator.

    Parameters
    ----------
    kernel : array_like
        Taps, shape ``(*taps)``, or ``(c_out, c_in/groups, *taps)`` for an input with channels. Not
        flipped, as deep learning has it (cross-correlation). float32, float64, complex64 and complex128
        are kept; integers and bools become float64, float16 float32.
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
        self._set_up(spec, _own(taps), bool(flip), engine, name)

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
        self._set_up(spec, _own(taps), bool(flip), engine, name)

    @staticmethod
    def _direction(first: Any, second: Any) -> tuple[Any, Any]:
        return second, first

    def _taps(self) -> Array:
        # W^T = (conj W)^H: the adjoint of the engine of the conjugate kernel.
        return _Convolution._taps(self).conj()

    def _transpose(self) -> Conv:
        transposed: Conv = self._turned(Conv, self._kernel)
        return transposed

    def _adjoint(self) -> Conv:
        adjoint: Conv = self._turned(Conv, self._conjugated())
        return adjoint

    def _sparse(self, format: str) -> Any:
        return _transposed_csr(build(self._spec, _forward_kernel(self)), format)


def _transposed_csr(matrix: sp.csr_array, format: str) -> Any:
    """The transpose of a canonical CSR matrix, in a format."""
    transposed = matrix.T
    transposed.has_canonical_format = True
    if format == "csc":
        return transposed
    nbytes = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    memory.require(nbytes, f"the transpose of a matrix of shape {matrix.shape}")
    transposed = transposed.tocsr()
    transposed.has_canonical_format = True
    return convert(transposed, format)


class ConvFilter(_MatrixOperator):
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
        data = _own(as_kernel(as_array(x, "x"), dtype))
        spec = ConvSpec(
            data.shape,
            kernel_shape,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        if engine not in ("auto", "measure", "csr"):
            raise ValueError(f"engine must be one of auto, measure, csr for a ConvFilter; got {engine!r}")
        self._set_up(spec, data, bool(flip), name)

    def _set_up(self, spec: ConvSpec, data: Array, flip: bool, name: str) -> Self:
        self._spec, self._data, self._flip = spec, data, flip
        self._groups: list[sp.csr_array] | None = None
        self._lock = Lock()
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
        k = kernels.reshape(spec.groups, spec.c_out // spec.groups, taps, -1)
        batch = k.shape[1] * k.shape[3]
        y = np.stack(
            [
                (m @ kg.transpose(1, 0, 2).reshape(taps, batch)).reshape(outputs, k.shape[1], k.shape[3])
                for m, kg in zip(matrices, k, strict=True)
            ]
        )
        return y.transpose(0, 2, 1, 3).reshape(-1, *kernels.shape[1:])

    def _adjoint_times(self, y: Array) -> Array:
        matrices, spec = self._group_matrices(), self._spec
        outputs, taps = matrices[0].shape
        r = y.reshape(spec.groups, spec.c_out // spec.groups, outputs, -1)
        batch = r.shape[1] * r.shape[3]
        k = np.stack(
            [
                (m.conj().T @ rg.transpose(1, 0, 2).reshape(outputs, batch)).reshape(taps, r.shape[1], r.shape[3])
                for m, rg in zip(matrices, r, strict=True)
            ]
        )
        return k.transpose(0, 2, 1, 3).reshape(-1, *y.shape[1:])

    def conj(self) -> ConvFilter:
        """The operator of the conjugate input.

        Returns
        -------
        ConvFilter
            Itself if it is real.
        """
        if self._data.dtype.kind != "c":
            return self
        return ConvFilter.__new__(ConvFilter)._set_up(self._spec, _own(self._data.conj()), self._flip, self.name)

    def _adjoint(self) -> _FilterAdjoint:
        return _FilterAdjoint(self)

    def _transpose(self) -> _FilterAdjoint:
        return _FilterAdjoint(self.conj())

    def _sparse(self, format: str) -> Any:
        return convert(block_diagonal(self._spec, self._group_matrices()), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_filter, (self._spec, self._data, self._flip, self.name)


def _restored_filter(spec: ConvSpec, data: Array, flip: bool, name: str) -> ConvFilter:
    return ConvFilter.__new__(ConvFilter)._set_up(spec, _own(data), flip, name)


class _FilterAdjoint(_MatrixOperator):
    """The adjoint of a `ConvFilter`: residuals to kernel gradients."""

    def __init__(self, of: ConvFilter) -> None:
        self._of = of
        self._forward, self._backward = of._adjoint_times, of._times
        LinearOperator.__init__(self, dtype=of.dtype, dims=of.dimsd, dimsd=of.dims, name=f"{of.name}H")

    def conj(self) -> _FilterAdjoint:
        return _FilterAdjoint(self._of.conj())

    def _adjoint(self) -> ConvFilter:
        return self._of

    def _transpose(self) -> ConvFilter:
        return self._of.conj()

    def _sparse(self, format: str) -> Any:
        return _transposed_csr(self._of.conj().tosparse(), format)

    def __reduce__(self) -> tuple[Any, ...]:
        return _FilterAdjoint, (self._of,)
