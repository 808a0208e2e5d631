"""The tables of a direction of a map as the kernels of `gather.cu` take them, and these kernels, compiled for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ..arrays.backend import Array, gpu, namespace
from ..geometry.axis import Ints
from ..geometry.spec import ConvSpec
from .gather_table import Gathered

__all__ = ["Direction", "Kernels", "kernel_of", "source"]

_NONE: Ints = np.zeros(0, dtype=np.int64)
# Stands before the axis of a signal: the kernels want rows and lines.
_UNIT = Gathered(
    1, 1, (0, 1), 1, 0, 1, 0, np.array([[0, 1]]), _NONE, _NONE, _NONE, np.array([0]), np.array([0]), np.array([0, 1])
)  # fmt: skip
# Rows of a tile by bytes of a number: sums, weights and addresses of a thread have to stay in registers.
_ROWS = {4: 8, 8: 4, 16: 2}
# Entries of a row, and positions of a tile, up to which the loops over them are written out.
_MOST_TAPS, _MOST_POSITIONS = 32, 96
# Threads of a block, along the line as far as that is long.
_THREADS = 128
_MOST_BLOCKS = 65535  # along the second and the third axis of a grid
_MOST_INT = 2**31 - 1
# How far loops over a grid go past their ends.
_PAST = 2 * _MOST_BLOCKS * _THREADS


@dataclass(frozen=True)
class Kernels:
    """What `gather.cu` is compiled with.

    Attributes
    ----------
    real : str
        ``"float"`` or ``"double"``.
    complex : bool
        Whether numbers are complex.
    wide : bool
        Whether integers that count elements have 64 bits.
    index : str
        C's name of the integers of the sparse matrix.
    axes, rows, taps, step, apart : int
        See there.
    """

    real: str
    complex: bool
    wide: bool
    index: str
    axes: int
    rows: int
    taps: int
    step: int
    apart: int

    @property
    def options(self) -> tuple[str, ...]:
        """Definitions for the compiler."""
        values = {
            "REAL": self.real,
            "COMPLEX": int(self.complex),
            "INT": "long long" if self.wide else "int",
            "INDEX": self.index,
            "AXES": self.axes,
            "ROWS": self.rows,
            "TAPS": self.taps,
            "STEP": self.step,
            "APART": self.apart,
        }
        return tuple(f"-D{name}={value}" for name, value in values.items())

    @property
    def integer(self) -> np.dtype[Any]:
        return np.dtype(np.int64 if self.wide else np.int32)


def source(name: str = "gather.cu") -> str:
    """The text of kernels."""
    return files(__package__).joinpath(name).read_text()


@cache
def kernel_of(kernels: Kernels, name: str) -> Any:
    """One of the kernels, compiled for the GPU in use when it is first called."""
    return gpu().RawModule(code=source(), options=("-std=c++14", *kernels.options)).get_function(name)


class Direction:
    """The map of a spec in one direction, without the values of its kernel.

    Parameters
    ----------
    spec : ConvSpec
        Geometry.
    adjoint : bool
        From output to input.
    """

    def __init__(self, spec: ConvSpec, adjoint: bool) -> None:
        self.spec, self.adjoint = spec, adjoint
        self.axes = [_UNIT] * (2 - spec.ndim) + [Gathered.of(axis, adjoint=adjoint) for axis in spec.axes]
        read, written = (spec.c_out, spec.c_in) if adjoint else (spec.c_in, spec.c_out)
        self.channels_read, self.channels_written = read // spec.groups, written // spec.groups
        self.read_space, self.written_space = (math.prod(getattr(g, n) for g in self.axes) for n in ("read", "written"))
        self.entries = math.prod(len(g.offset) for g in self.axes)
        self._on_device: dict[tuple[int, bool], tuple[Array, Array, Array]] = {}
        self._kernels: dict[tuple[str, int, bool], Kernels] = {}

    def largest(self, columns: int) -> int:
        """What the integers of the kernels have to reach, loops past their ends included."""
        weights = self.spec.groups * self.channels_written * self.channels_read * self.entries
        sizes = [weights, *(columns * n for n in self.spec.shape), 4 * self.axes[-2].written]
        for axis in self.axes:
            tables = (np.abs(table).max(initial=0) for table in (axis.base, axis.offset))
            sizes += [sum(map(int, tables)) + axis.read + abs(axis.back), axis.written + abs(axis.shift)]
        return max(sizes) + _PAST

    def weights(self, kernel: Array) -> Array:
        """The kernel as the kernels of the GPU read it: ``(groups, channels written, channels read, *entries)``."""
        spec = self.spec
        taps = (1,) * (2 - spec.ndim) + tuple(axis.taps for axis in spec.axes)
        grouped = kernel.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, *taps)
        if self.adjoint:
            grouped = grouped.swapaxes(1, 2).conj()
        for a, gathered in enumerate(self.axes, start=3):
            grouped = _summed(grouped, a, gathered)
        contiguous: Array = namespace(kernel).ascontiguousarray(grouped)
        return contiguous

    def rows_of_a_tile(self, itemsize: int) -> tuple[int, int, int, int]:
        """Rows of a tile, most entries of one of them, and positions that rows and entries lie apart."""
        rows = self.axes[-2]
        a, b = rows.interior
        taps = int(np.diff(rows.phases).max())
        together = _ROWS[itemsize]
        if (b - a) // rows.period < together or not 0 < taps <= _MOST_TAPS:
            return 1, 0, 1, 1
        first, stop = rows.phases[int(np.diff(rows.phases).argmax())]
        apart = int(rows.offset[first + 1] - rows.offset[first]) if stop - first > 1 else 1
        if (together - 1) * rows.step + (taps - 1) * apart >= _MOST_POSITIONS:
            return 1, 0, 1, 1
        return together, taps, rows.step, apart

    def tasks(self, together: int) -> Ints:
        """What threads compute of the rows: first row, their number, their distance, and how many are done elsewhere."""
        rows = self.axes[-2]
        a, b = rows.interior
        alone = np.concatenate([np.arange(a), np.arange(b, rows.written)])
        tiles = []
        for phase in range(rows.period):
            begin = a + (phase - a - rows.shift) % rows.period
            count = max(0, -(-(b - begin) // rows.period))
            if together == 1 or count < together:
                alone = np.concatenate([alone, begin + np.arange(count) * rows.period])
                continue
            # The last tile begins where it fits, and leaves to the one before it what that has written.
            wanted = np.arange(0, count, together)
            placed = np.minimum(wanted, count - together)
            tiles.append(
                np.column_stack(
                    [
                        begin + placed * rows.period,
                        np.full(len(wanted), together),
                        np.full(len(wanted), rows.period),
                        wanted - placed,
                    ]
                )
            )
        single = np.column_stack([alone, np.ones_like(alone), np.ones_like(alone), np.zeros_like(alone)])
        return np.concatenate([*tiles, single])

    def on_device(self, kernels: Kernels) -> tuple[Array, Array, Array]:
        """The integers that describe the map, its tables and its tasks, on the GPU."""
        key = (kernels.rows, kernels.wide)
        arrays = self._on_device.get(key)
        if arrays is None:
            cupy = gpu()
            arrays = tuple(cupy.asarray(a.astype(kernels.integer)) for a in self._integers(kernels.rows))
            self._on_device[key] = arrays
        return arrays

    def _integers(self, together: int) -> tuple[Ints, Ints, Ints]:
        tasks = self.tasks(together)
        info = [
            self.spec.groups, self.channels_read, self.channels_written, self.read_space, self.written_space,
            self.entries, len(tasks),
        ]  # fmt: skip
        tables: list[Ints] = []
        at = 0
        for a, axis in enumerate(self.axes):
            behind = self.axes[a + 1 :]
            info += [
                axis.written, math.prod(g.read for g in behind), math.prod(g.written for g in behind),
                math.prod(len(g.offset) for g in behind), *axis.interior, axis.period, axis.shift, axis.back, axis.step,
            ]  # fmt: skip
            for table in (axis.phases.ravel(), axis.base, axis.start, axis.stop, axis.offset):
                info.append(at)
                tables.append(table)
                at += len(table)
        return np.array(info), np.concatenate(tables), tasks.ravel()

    def kernels(self, dtype: np.dtype[Any], columns: int, *, tiled: bool = True) -> Kernels:
        """What the kernels are compiled with for numbers of a dtype and so many columns."""
        key = (dtype.char, columns, tiled)
        if key not in self._kernels:
            self._kernels[key] = self._made_kernels(dtype, columns, tiled)
        return self._kernels[key]

    def _made_kernels(self, dtype: np.dtype[Any], columns: int, tiled: bool) -> Kernels:
        rows, taps, step, apart = self.rows_of_a_tile(dtype.itemsize) if tiled else (1, 0, 1, 1)
        wide = self.largest(columns) > _MOST_INT
        real = "float" if dtype.char in "fF" else "double"
        index = "int" if self.spec.index_dtype == np.int32 else "long long"
        return Kernels(real, dtype.kind == "c", wide, index, len(self.axes), rows, taps, step, apart)

    def correlate(self, x: Array, weights: Array) -> Array:
        """Columns of results, from columns of what is read.

        Parameters
        ----------
        x : ndarray of shape ``(columns, elements)``
            Contiguous, on the GPU.
        weights : ndarray
            From `weights`, of the dtype of `x`.

        Returns
        -------
        ndarray of shape ``(columns, elements)``
        """
        kernels = self.kernels(x.dtype, len(x))
        channels = self.spec.groups * self.channels_written
        y: Array = gpu().empty((len(x), channels * self.written_space), x.dtype)
        line = self.axes[-1].written
        across = min(_THREADS, 1 << (line - 1).bit_length())
        info, tables, tasks = self.on_device(kernels)
        planes = len(x) * channels * math.prod(g.written for g in self.axes[:-2])
        block = (across, _THREADS // across)
        grid = (
            math.ceil(line / across),
            min(math.ceil(len(tasks) // 4 / block[1]), _MOST_BLOCKS),
            min(planes, _MOST_BLOCKS),
        )
        kernel_of(kernels, "correlate")(grid, block, (x, weights, y, info, tables, tasks, kernels.integer.type(planes)))
        return y

    def fill(self, weights: Array, pointers: Array, indices: Array, data: Array) -> None:
        """Write the entries of the matrix, whose rows begin at the pointers."""
        kernels = self.kernels(data.dtype, 1, tiled=False)
        if len(indices) + _PAST > _MOST_INT:
            kernels = replace(kernels, wide=True)
        info, tables, _ = self.on_device(kernels)
        rows = len(pointers) - 1
        lanes = min(32, 1 << (max(1, len(indices) // rows) - 1).bit_length())
        block = (lanes, _THREADS // lanes)
        kernel_of(kernels, "fill")(
            (math.ceil(rows / block[1]),), block,
            (indices, data, pointers, weights, info, tables, kernels.integer.type(rows)),
        )  # fmt: skip


def _summed(kernel: Array, axis: int, gathered: Gathered) -> Array:
    """The kernel with the taps of an axis brought into the order of its entries, those of one entry summed."""
    xp = namespace(kernel)
    first, counts = gathered.first[:-1], np.diff(gathered.first)
    summed: Array = kernel.take(xp.asarray(gathered.taps[first]), axis=axis)
    for n in range(1, int(counts.max())):
        more = np.flatnonzero(counts > n)
        place = (slice(None),) * axis + (xp.asarray(more),)
        summed[place] += kernel.take(xp.asarray(gathered.taps[first[more] + n]), axis=axis)
    return summed
