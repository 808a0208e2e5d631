"""The base class of operators that a spec, a fixed array and an engine define: `Conv`, `ConvTranspose`, `ConvFilter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from ..arrays.backend import Array, on_gpu
from ..engines import GPU_ENGINES
from ..geometry.spec import ConvSpec
from .base import MatrixOperator
from .linear_operator import LinearOperator


class SpecOperator(MatrixOperator):
    """A linear operator given by a spec, an array that is fixed (a kernel or an input) and the engine that applies it.

    A subclass implements `_make_engine`, `_dimensions` and `_functions`. All constructors end in `_set_up`.
    """

    _spec: ConvSpec
    _array: Array
    _flip: bool
    _requested_engine: str
    _engine: Any

    def _set_up(
        self,
        spec: ConvSpec,
        array: Array,
        flip: bool,
        engine: str,
        name: str,
        *,
        ready: Any = None,
        like: Any = None,
    ) -> Self:
        """Sets the attributes of a new operator, and returns it.

        Parameters
        ----------
        spec : ConvSpec
            Geometry of the convolution.
        array : ndarray
            The kernel or the input, read-only.
        flip : bool
            Whether the kernel is reversed in space.
        engine, name : str
            Requested engine, and name of the operator.
        ready : engine, optional
            Engine to use; by default a new one.
        like : engine, optional
            Engine of the same spec with which a new one shares what does not depend on `array`.
        """
        self._spec, self._array, self._flip, self._requested_engine = spec, array, flip, engine
        self._engine = self._make_engine(like) if ready is None else ready
        self._forward, self._backward = self._functions()
        dims, dimsd = self._dimensions()
        LinearOperator.__init__(self, dtype=array.dtype, dims=dims, dimsd=dimsd, name=name)
        return self

    def _make_engine(self, like: Any) -> Any:
        """Returns a new engine, which may share memory with an engine of the same spec."""
        raise NotImplementedError

    def _functions(self) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """Returns the functions that apply the operator and its conjugate transpose."""
        raise NotImplementedError

    def _dimensions(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shapes of the operator's inputs and outputs."""
        raise NotImplementedError

    @property
    def spec(self) -> ConvSpec:
        """The geometry of the convolution, also for an operator that is its transpose."""
        return self._spec

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        name: str = self._engine.name
        return name

    @property
    def on_gpu(self) -> bool:
        """Whether the operator is on the GPU, where it takes and returns CuPy arrays."""
        return on_gpu(self._array)

    def conj(self) -> Self:
        """Returns the operator of the conjugate kernel or input.

        Returns
        -------
        Conv, ConvTranspose or ConvFilter
            Of the same type; the operator itself if it is real.
        """
        return self if self._array.dtype.kind != "c" else self._with_array(self._conjugate_array())

    def _conjugate_array(self) -> Array:
        return self._array if self._array.dtype.kind != "c" else readonly_copy(self._array.conj())

    def _with_array(self, array: Array) -> Self:
        """Returns the operator of the same spec with another array, which shares what does not depend on the array."""
        return self._new(array, self._requested_engine, like=self._engine)

    def _to_device(self, move: Callable[[Array], Array]) -> Self:
        array, engine = readonly_copy(move(self._array)), self._requested_engine
        return self._new(array, "auto" if on_gpu(array) and engine not in GPU_ENGINES else engine)

    def _new(self, array: Array, engine: str, like: Any = None) -> Self:
        other = type(self).__new__(type(self))
        return other._set_up(self._spec, array, self._flip, engine, self.name, like=like)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._spec, self._array, self._flip, self._requested_engine, self.name)


def _restore(
    kind: type[SpecOperator], spec: ConvSpec, array: Array, flip: bool, engine: str, name: str
) -> SpecOperator:
    """Returns the operator that `SpecOperator.__reduce__` describes."""
    return kind.__new__(kind)._set_up(spec, readonly_copy(array), flip, engine, name)


def readonly_copy(array: Array) -> Array:
    """Returns a copy that does not change with the original. NumPy copies are read-only; CuPy has no such flag."""
    copy = array.copy()
    if not on_gpu(copy):
        copy.setflags(write=False)
    return copy
