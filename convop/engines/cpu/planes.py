"""What the engines that work on planes share: columns made into real arrays, and results put back.

Complex numbers are two real planes: ``(a + ib)(u + iv)`` is a 2 x 2 real matrix on ``(u, v)``, so a complex
convolution is a real one with twice as many channels, and only real loops exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ...arrays.backend import Array, namespace
from ...geometry.axis import Ints
from ...geometry.spec import ConvSpec
from .polyphase import Plan

__all__ = [
    "Block",
    "Direction",
    "Geometry",
    "PlaneEngine",
    "Result",
    "as_columns",
    "complex_products",
    "grouped_kernel",
    "parts_of",
    "read_arguments",
    "read_only",
    "real_of",
    "real_weights",
    "write_arguments",
]


def real_of(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The real dtype of a dtype's parts."""
    return np.dtype(dtype).type(0).real.dtype


def parts_of(dtype: npt.DTypeLike) -> int:
    """Real parts of a number: two if it is complex."""
    return 2 if np.dtype(dtype).kind == "c" else 1


def as_columns(x: Array, dtype: np.dtype[Any]) -> Array:
    """Columns one after another, ``(P, elements)``, contiguous and of a dtype. It may be the caller's own."""
    columns: Array = namespace(x).ascontiguousarray(x.reshape(len(x), -1).T, dtype=dtype)
    return columns


def read_only(array: Array) -> Array:
    """A view that cannot be written through: compiled loops are made once, and not for either kind of array."""
    view = array.view()
    view.setflags(write=False)
    return view


def grouped_kernel(spec: ConvSpec, kernel: Array, adjoint: bool) -> Array:
    """The taps of a direction, ``(groups, channels written, channels read, taps)``."""
    taps = kernel.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, -1)
    return taps.conj().swapaxes(1, 2) if adjoint else taps


def real_weights(taps: Array) -> Array:
    """Taps as real numbers: every complex one as the matrix ``[[re, -im], [im, re]]``."""
    if taps.dtype.kind != "c":
        return taps
    groups, written, read, count = taps.shape
    weights = np.empty((groups, written, 2, read, 2, count), dtype=real_of(taps.dtype))
    weights[:, :, 0, :, 0] = weights[:, :, 1, :, 1] = taps.real
    weights[:, :, 1, :, 0] = taps.imag
    weights[:, :, 0, :, 1] = -taps.imag
    return weights.reshape(groups, 2 * written, 2 * read, count)


def complex_products(products: Array, parts: int) -> Array:
    """Sums of ``conj(x) * y`` from those of their real parts, (..., written, parts, read, parts, taps)."""
    if parts == 1:
        return products[..., 0, :, 0, :]
    re, im = products[..., 0, :, :, :], products[..., 1, :, :, :]
    return (re[..., 0, :] + im[..., 1, :]) + 1j * (im[..., 0, :] - re[..., 1, :])


class Result:
    """The columns that a plan writes, with room aside for what lies beyond the ends of the axes.

    Parameters
    ----------
    plan : Plan
        What is written.
    columns : int
        How many columns.
    dtype : dtype
        Of the results.
    """

    def __init__(self, plan: Plan, columns: int, dtype: np.dtype[Any]) -> None:
        spec = plan.spec
        self.plan, self.parts = plan, parts_of(dtype)
        self.channels = columns * (spec.c_in if plan.adjoint else spec.c_out)
        size = spec.shape[1 if plan.adjoint else 0]
        self.columns = (np.empty if plan.covers else np.zeros)((columns, size), dtype)
        real = real_of(dtype)
        self.length = plan.axes[-1].n_written
        self.target = self.columns.view(real).reshape(-1)
        self.aside = np.zeros(self.channels * len(plan.aside) * self.length * self.parts, real)
        rows = self.channels * (plan.lines + len(plan.aside)) * self.parts if len(plan.rim) else 1
        self.rim = np.zeros((rows, len(plan.rim)), real)

    def finish(self) -> Array:
        """Add what was written aside to the elements that the extension has there.

        Returns
        -------
        ndarray of shape ``(columns, elements)``
        """
        plan = self.plan
        if len(plan.aside) or len(plan.rim):
            from ..kernels.planes import add_aside

            add_aside(
                self.target, self.parts, self.length, plan.lines, self.aside, plan.aside, self.rim, plan.rim,
                0, self.channels,
            )  # fmt: skip
        return self.columns


def _table(rows: list[Array]) -> Array:
    """Rows of different lengths as one array."""
    table = np.full((len(rows), max(1, *(len(row) for row in rows))), -1, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def read_arguments(plan: Plan) -> tuple[Any, ...]:
    """Where planes are read from, as the loops take it."""
    phases = plan.axes[-1].read
    starts, firsts, stops = (np.array([getattr(p, name) for p in phases]) for name in ("start", "a", "b"))
    return plan.read_lines, starts, phases[0].step, firsts, stops, _table([p.edges for p in phases])


def write_arguments(plan: Plan) -> tuple[Any, ...]:
    """Where results go, as the loops take it."""
    last = plan.axes[-1]
    starts, firsts, stops = (np.array([getattr(p, name) for p in last.write]) for name in ("start", "a", "b"))
    return (
        plan.write_lines, starts, last.write[0].step, firsts, stops, _table(plan.rim_slots), plan.lines,
        len(plan.aside), last.n_written,
    )  # fmt: skip


class Direction(Protocol):
    """The map in one direction, ready to be applied."""

    def apply(self, columns: Array, dtype: np.dtype[Any]) -> Array:
        """Columns of results, ``(P, elements)``, from columns of what is read."""


class Geometry:
    """What of a direction does not depend on the kernel's values.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.
    real : dtype
        Of the parts of all numbers.
    parts : int
        Two for complex numbers.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> None:
        self.plan = Plan(spec, adjoint)
        self.parts, self.real, self.groups = parts, real, spec.groups
        read, written = (spec.c_out, spec.c_in) if adjoint else (spec.c_in, spec.c_out)
        self.read, self.written = read // spec.groups, written // spec.groups
        self.read_planes = self.read * parts * self.plan.read_phases
        self.jobs = self.plan.jobs()
        self.reading, self.writing = read_arguments(self.plan), write_arguments(self.plan)

    def direction(self, kernel: Array) -> Direction:
        """The map with a kernel, in this direction."""
        raise NotImplementedError


@dataclass(frozen=True)
class Block:
    """One piece of work of the engines that call a library for each: some places of the planes of one group.

    Attributes
    ----------
    place : int
        Column and group, counted together.
    first, steps : int
        Steps of the first axis that are written.
    left, width : int
        Places of the last axis that are written.
    """

    place: int
    first: int
    steps: int
    left: int
    width: int

    @classmethod
    def number(cls, item: int, plan: Plan, steps: int, width: int) -> Block:
        """The block of a number, with so many steps and places or what is left of them."""
        places, last_places = plan.axes[0].places, plan.axes[-1].places
        rest, column = divmod(item, -(-last_places // width))
        place, row = divmod(rest, -(-places // steps))
        first, left = row * steps, column * width
        return cls(place, first, min(steps, places - first), left, min(width, last_places - left))

    def read(self, geometry: Geometry, source: Array, planes: Array, plane_step: int, line_step: int) -> None:
        """Read what the block needs into planes laid flat."""
        from ..kernels.planes import gather

        plan = geometry.plan
        lines, *last = geometry.reading
        gather(
            read_only(source), self.place * geometry.read * plan.read_space * geometry.parts, geometry.read, geometry.parts,
            plan.read_space, lines, self.first * plan.lines_a_step,
            (self.steps + plan.axes[0].reach) * plan.lines_a_step, *last, self.left, self.width + plan.axes[-1].reach,
            planes, plane_step, line_step,
        )  # fmt: skip

    def write(self, geometry: Geometry, job: int, planes: Array, layout: tuple[int, int, int, Ints],
              result: Result) -> None:  # fmt: skip
        """Write planes of results, laid out with steps from plane to plane, line to line and place to place."""
        from ..kernels.planes import scatter

        plan = geometry.plan
        lead, phase = divmod(job, len(plan.axes[-1].write))
        lines, starts, step, a, b, slots, own, aside, length = geometry.writing
        channel = self.place * geometry.written
        plane_step, line_step, lines_a_step, between = layout
        scatter(
            planes, plane_step, line_step, lines_a_step, between, geometry.written, geometry.parts, result.target,
            channel * plan.written_space * geometry.parts, plan.written_space, length, lines[lead], self.first,
            self.steps, own, result.aside, channel * aside * length * geometry.parts, aside, result.rim,
            channel * (own + aside), own + aside, starts[phase], step, a[phase], b[phase], slots[phase], self.left,
            self.width,
        )  # fmt: skip


class PlaneEngine:
    """An engine over a plan for each direction. Plans are shared by the engines of one spec, whatever their kernels.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    kernel : ndarray
        Taps in the dtype of the map, not flipped.
    """

    name: str

    def __init__(self, spec: ConvSpec, kernel: Array) -> None:
        self._spec, self._kernel = spec, kernel
        self._geometries: dict[tuple[Any, ...], Any] = {}
        self._directions: dict[tuple[bool, str], Direction] = {}

    # What does not depend on the kernel's values is of another type for each engine.
    @staticmethod
    def _geometry(spec: ConvSpec, adjoint: bool, real: np.dtype[Any], parts: int) -> Geometry:
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        return self._apply(x, adjoint=False)

    def adjoint(self, y: Array) -> Array:
        return self._apply(y, adjoint=True)

    def with_kernel(self, kernel: Array) -> Self:
        other = type(self)(self._spec, kernel)
        other._geometries = self._geometries
        return other

    def _apply(self, x: Array, *, adjoint: bool) -> Array:
        dtype = np.result_type(x.dtype, self._kernel.dtype)
        result = self._direction(adjoint, dtype).apply(as_columns(x, dtype), dtype)
        return result[0] if x.ndim == 1 else result.T

    def _direction(self, adjoint: bool, dtype: np.dtype[Any]) -> Direction:
        # Threads that arrive together may both make one; either is right, and one is kept.
        key = (adjoint, dtype.char)
        direction = self._directions.get(key)
        if direction is None:
            direction = self._directions[key] = self._made(adjoint, dtype)
        return direction

    def _made(self, adjoint: bool, dtype: np.dtype[Any]) -> Direction:
        geometry = self._geometries.get((adjoint, dtype.char))
        if geometry is None:
            geometry = self._geometry(self._spec, adjoint, real_of(dtype), parts_of(dtype))
            self._geometries[adjoint, dtype.char] = geometry
        return geometry.direction(self._kernel.astype(dtype, copy=False))
