"""The tables of one direction of a map as the CUDA kernels of `gather.cu` take them, and these kernels compiled for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from ..arrays.backend import Array, gpu, namespace
from ..geometry.axis import Ints
from ..geometry.gather_table import GatherTable
from ..geometry.spec import ConvSpec

_NONE: Ints = np.zeros(0, dtype=np.int64)
# Precedes the axis of a signal, as the kernels take two axes or more.
_UNIT = GatherTable(
    n_read=1,
    n_written=1,
    interior=(0, 1),
    period=1,
    shift=0,
    step=1,
    lo=0,
    phases=np.array([[0, 1]]),
    base=_NONE,
    start=_NONE,
    stop=_NONE,
    offset=np.array([0]),
    taps=np.array([0]),
    first=np.array([0, 1]),
)
# Rows of a register tile by bytes of a number: sums, weights and addresses of a thread have to stay in registers.
_TILE_ROWS = {4: 8, 8: 4, 16: 2}
# Taps of a row, and positions of a tile, up to which the loops over them are unrolled.
_MOST_TAPS, _MOST_POSITIONS = 32, 96
# Threads of a block, along the last axis as far as it is long.
_THREADS = 128
_MOST_BLOCKS = 65535  # along the second and the third axis of a grid
INT_MAX = 2**31 - 1
# The loops over a grid count up to this far beyond their ends.
_OVERSHOOT = 2 * _MOST_BLOCKS * _THREADS


class RegisterTile(NamedTuple):
    """Rows that one thread computes together; the default is one row at a time, with any number of taps.

    Attributes
    ----------
    rows : int
        Rows of the tile.
    taps : int
        Most entries of one of its rows; 0 without tiles.
    row_step, tap_step : int
        Positions from one row of the tile to the next, and from one entry of a row to the next.
    """

    rows: int = 1
    taps: int = 0
    row_step: int = 1
    tap_step: int = 1


_NO_TILE = RegisterTile()


@dataclass(frozen=True)
class KernelOptions:
    """Types and constants that `gather.cu` is compiled with.

    Attributes
    ----------
    dtype : str
        Character of the NumPy dtype of the values: one of ``"fdFD"``.
    axes : int
        Spatial axes.
    wide : bool
        Whether integers that count elements have 64 bits.
    index : str
        C's name of the integers of the sparse matrix.
    tile : RegisterTile
        Rows that one thread computes together.
    """

    dtype: str
    axes: int
    wide: bool
    index: str = "int"
    tile: RegisterTile = _NO_TILE

    @property
    def flags(self) -> tuple[str, ...]:
        """Options for NVRTC: the standard of C++ and the definitions that `gather.cu` expects."""
        values = {
            "REAL": "float" if self.dtype in "fF" else "double",
            "COMPLEX": int(self.dtype in "FD"),
            "INT": "long long" if self.wide else "int",
            "INDEX": self.index,
            "AXES": self.axes,
            "TILE_ROWS": self.tile.rows,
            "TILE_TAPS": self.tile.taps,
            "ROW_STEP": self.tile.row_step,
            "TAP_STEP": self.tile.tap_step,
        }
        return ("-std=c++14", *(f"-D{name}={value}" for name, value in values.items()))

    @property
    def integer(self) -> np.dtype[Any]:
        """The integers that count elements, as a NumPy dtype."""
        return np.dtype(np.int64 if self.wide else np.int32)


def kernel_source(name: str = "gather.cu") -> str:
    """The text of a file of CUDA kernels of this folder."""
    return files(__package__).joinpath(name).read_text()


@cache
def compiled_kernel(options: KernelOptions, name: str) -> Any:
    """A kernel of `gather.cu`, compiled for the GPU in use when it is first called."""
    return gpu().RawModule(code=kernel_source(), options=options.flags).get_function(name)


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
        self.axes = [_UNIT] * (2 - spec.ndim) + [GatherTable.of(axis, adjoint=adjoint) for axis in spec.axes]
        read, written = (spec.c_out, spec.c_in) if adjoint else (spec.c_in, spec.c_out)
        self.channels_read, self.channels_written = read // spec.groups, written // spec.groups
        self.read_space = math.prod(axis.n_read for axis in self.axes)
        self.written_space = math.prod(axis.n_written for axis in self.axes)
        self.entries = math.prod(len(axis.offset) for axis in self.axes)
        self._arrays: dict[tuple[int, bool], tuple[Array, Array, Array]] = {}
        self._options: dict[tuple[str, int, bool], KernelOptions] = {}

    def weights(self, kernel: Array) -> Array:
        """The kernel over the entries of the gather tables: ``(groups, channels written, channels read, *entries)``."""
        spec = self.spec
        taps = (1,) * (2 - spec.ndim) + tuple(axis.taps for axis in spec.axes)
        weights = kernel.reshape(spec.groups, spec.c_out // spec.groups, spec.c_in // spec.groups, *taps)
        if self.adjoint:
            weights = weights.swapaxes(1, 2).conj()
        for a, table in enumerate(self.axes, start=3):
            weights = _merge_taps(weights, a, table)
        contiguous: Array = namespace(kernel).ascontiguousarray(weights)
        return contiguous

    def options(self, dtype: np.dtype[Any], columns: int, *, tiled: bool = True) -> KernelOptions:
        """Options of the kernels for values of a dtype and a number of columns."""
        key = (dtype.char, columns, tiled)
        if key not in self._options:
            self._options[key] = KernelOptions(
                dtype=dtype.char,
                axes=len(self.axes),
                wide=self._largest_integer(columns) > INT_MAX,
                index="int" if self.spec.index_dtype == np.int32 else "long long",
                tile=self.register_tile(dtype.itemsize) if tiled else _NO_TILE,
            )
        return self._options[key]

    def _largest_integer(self, columns: int) -> int:
        """Upper bound of the integers that the kernels compute, loops past their ends included."""
        weights = self.spec.groups * self.channels_written * self.channels_read * self.entries
        sizes = [weights, *(columns * n for n in self.spec.shape), 4 * self.axes[-2].n_written]
        for axis in self.axes:
            tables = (np.abs(table).max(initial=0) for table in (axis.base, axis.offset))
            sizes += [sum(map(int, tables)) + axis.n_read + abs(axis.lo), axis.n_written + abs(axis.shift)]
        return int(max(sizes)) + _OVERSHOOT

    def register_tile(self, itemsize: int) -> RegisterTile:
        """The rows that one thread computes together, for numbers of so many bytes."""
        axis = self.axes[-2]
        a, b = axis.interior
        lengths = np.diff(axis.phases)
        rows, taps = _TILE_ROWS[itemsize], int(lengths.max())
        if (b - a) // axis.period < rows or not 0 < taps <= _MOST_TAPS:
            return _NO_TILE
        first = axis.phases[int(lengths.argmax()), 0]
        tap_step = int(axis.offset[first + 1] - axis.offset[first]) if taps > 1 else 1
        if (rows - 1) * axis.step + (taps - 1) * tap_step >= _MOST_POSITIONS:
            return _NO_TILE
        return RegisterTile(rows, taps, axis.step, tap_step)

    def tasks(self, tile_rows: int) -> Ints:
        """The rows of each task: the first, their number, their distance, and how many of them another task writes."""
        axis = self.axes[-2]
        a, b = axis.interior
        single = np.concatenate([np.arange(a), np.arange(b, axis.n_written)])
        tiles = []
        for phase in range(axis.period):
            begin = a + (phase - a - axis.shift) % axis.period
            count = max(0, -(-(b - begin) // axis.period))
            if tile_rows == 1 or count < tile_rows:
                single = np.concatenate([single, begin + np.arange(count) * axis.period])
                continue
            # The last tile is moved back until it fits; the tile before it writes the rows that both contain.
            wanted = np.arange(0, count, tile_rows)
            placed = np.minimum(wanted, count - tile_rows)
            tiles.append(_columns(begin + placed * axis.period, tile_rows, axis.period, wanted - placed))
        return np.concatenate([*tiles, _columns(single, 1, 1, 0)])

    def arrays(self, options: KernelOptions) -> tuple[Array, Array, Array]:
        """The integers that describe the map, its gather tables and its tasks, on the GPU."""
        key = (options.tile.rows, options.wide)
        arrays = self._arrays.get(key)
        if arrays is None:
            cupy = gpu()
            arrays = tuple(cupy.asarray(a.astype(options.integer)) for a in self._integers(options.tile.rows))
            self._arrays[key] = arrays
        return arrays

    def _integers(self, tile_rows: int) -> tuple[Ints, Ints, Ints]:
        """`arrays` on the CPU, the first in the order of the enumerations in `gather.cu`."""
        tasks = self.tasks(tile_rows)
        info = [self.spec.groups, self.channels_read, self.channels_written]
        info += [self.read_space, self.written_space, self.entries, len(tasks)]
        tables: list[Ints] = []
        at = 0
        for a, axis in enumerate(self.axes):
            inner = self.axes[a + 1 :]
            info += [axis.n_written, math.prod(t.n_read for t in inner), math.prod(t.n_written for t in inner)]
            info += [math.prod(len(t.offset) for t in inner), *axis.interior]
            info += [axis.period, axis.shift, axis.lo, axis.step]
            for table in (axis.phases.ravel(), axis.base, axis.start, axis.stop, axis.offset):
                info.append(at)
                tables.append(table)
                at += len(table)
        return np.array(info), np.concatenate(tables), tasks.ravel()

    def correlate(self, x: Array, weights: Array) -> Array:
        """Apply the direction to columns.

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
        options = self.options(x.dtype, len(x))
        channels = self.spec.groups * self.channels_written
        y: Array = gpu().empty((len(x), channels * self.written_space), x.dtype)
        length = self.axes[-1].n_written
        across = min(_THREADS, 1 << (length - 1).bit_length())
        info, tables, tasks = self.arrays(options)
        planes = len(x) * channels * math.prod(axis.n_written for axis in self.axes[:-2])
        block = (across, _THREADS // across)
        grid = (
            math.ceil(length / across),
            min(math.ceil(len(tasks) // 4 / block[1]), _MOST_BLOCKS),
            min(planes, _MOST_BLOCKS),
        )
        arguments = (x, weights, y, info, tables, tasks, options.integer.type(planes))
        compiled_kernel(options, "correlate")(grid, block, arguments)
        return y

    def fill(self, weights: Array, pointers: Array, indices: Array, data: Array) -> None:
        """Write the entries of the matrix, whose rows begin at the pointers."""
        options = self.options(data.dtype, 1, tiled=False)
        if len(indices) + _OVERSHOOT > INT_MAX:
            options = replace(options, wide=True)
        info, tables, _ = self.arrays(options)
        rows = len(pointers) - 1
        lanes = min(32, 1 << (max(1, len(indices) // rows) - 1).bit_length())
        block = (lanes, _THREADS // lanes)
        arguments = (indices, data, pointers, weights, info, tables, options.integer.type(rows))
        compiled_kernel(options, "fill")((math.ceil(rows / block[1]),), block, arguments)


def _columns(*columns: Ints | int) -> Ints:
    return np.column_stack(np.broadcast_arrays(*columns))


def _merge_taps(kernel: Array, axis: int, table: GatherTable) -> Array:
    """The kernel with the taps of an axis in the order of its entries, the taps of one entry summed.

    One tap of every entry after another, as CuPy has no ``add.reduceat``.
    """
    xp = namespace(kernel)
    first, counts = table.first[:-1], np.diff(table.first)
    merged: Array = kernel.take(xp.asarray(table.taps[first]), axis=axis)
    for rank in range(1, int(counts.max())):
        more = np.flatnonzero(counts > rank)
        index = (slice(None),) * axis + (xp.asarray(more),)
        merged[index] += kernel.take(xp.asarray(table.taps[first[more] + rank]), axis=axis)
    return merged
