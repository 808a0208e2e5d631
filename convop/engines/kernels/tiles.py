"""Shapes of the register tiles, derived from the vector unit.

A tile of R planes by V vectors takes, for each tap, V loads of the input and R broadcast weights for R*V fused
multiply-adds: ``1/R + 1/V`` loads a multiply-add. Two loads and two multiply-adds a cycle are usual, and an unaligned load
that crosses a cache line of 64 bytes counts as two: about half of those of 32 bytes do, and all of those of 64. So it is
``c/R + 1/V`` with c = 1, 1.5 or 2 for vectors of 16, 32 and 64 bytes. Below 1, multiply-adds limit the tile:

    planes R                          1      2      3      4      6      8
    AVX2      V (16 registers)        8      4      3      3
              loads               1.625   1.00   0.83   0.71
    AVX-512   V (32 registers)        8      4      4      4      4      3
              loads                2.12   1.25   0.92   0.75   0.58   0.58
    NEON      V (32 registers)        8      4      4      4      4
              loads                1.12   0.75   0.58   0.50   0.42

At least eight sums are under way, because a multiply-add takes four cycles, two start in each. Wider tiles than four
vectors, for more than two planes, save little, and lose more at the end of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...threads.vectors import VectorUnit, vector_unit

# Planes of results of a tile, where there are registers for them. Eight planes only with AVX-512: LLVM runs out of
# registers for them on ARM, whose multiply-adds take weights from scalar registers.
_FEW, _MANY, _MOST = (1, 2, 3, 4), (1, 2, 3, 4, 6), (1, 2, 3, 4, 6, 8)
_SUMS, _VECTORS = 8, 4


class Tile(NamedTuple):
    """Results of a wide and of a narrow register tile, in vectors or in elements. Narrow tiles compute the rest of a run."""

    wide: int
    narrow: int


def plane_counts(unit: VectorUnit | None = None) -> tuple[int, ...]:
    """Returns the numbers of planes that a tile can have, on this machine or with a vector unit."""
    unit = unit or vector_unit()
    if unit.registers < 32:
        return _FEW
    return _MOST if unit.bytes == 64 else _MANY


def tile_vectors(planes: int, unit: VectorUnit | None = None) -> Tile:
    """Returns the vectors along a run of the tiles of some planes of results.

    Sums, vectors of the input and one weight are in registers; with one plane each vector of the input is used once, as
    an operand in memory.
    """
    registers = (unit or vector_unit()).registers
    fit = (registers - 1) // (planes + 1) if planes > 1 else registers - 2
    return Tile(min(fit, max(_VECTORS, _SUMS // planes)), 2 if planes == 1 else 1)


# A pair of results of one plane is a tile of two planes whose rows are two indices of the first axis.
PAIR_VECTORS = Tile(4, 1)


def tile_elements(vectors: Iterable[Tile], dtype: Any) -> Tile:
    """Returns the elements of the widest of some tiles, and of the widest of their narrow tiles."""
    wide, narrow = (max(sizes) * lanes(dtype) for sizes in zip(*vectors, strict=True))
    return Tile(wide, narrow)


def all_tiles() -> list[Tile]:
    """Returns the vectors of the tiles of all numbers of planes, and of pairs."""
    return [*(tile_vectors(planes) for planes in plane_counts()), PAIR_VECTORS]


def slack(dtype: Any) -> int:
    """Returns the elements of a workspace beyond its planes: twice the widest tile, which may read and write there."""
    return 2 * tile_elements(all_tiles(), dtype).wide


def lanes(dtype: Any) -> int:
    """Returns the number of elements of a vector of this machine.

    Parameters
    ----------
    dtype : dtype_like
        float32 or float64.
    """
    return int(vector_unit().bytes // np.dtype(dtype).itemsize)


def plane_runs(planes: int, unit: VectorUnit | None = None) -> list[int]:
    """Returns numbers of planes that are computed together: as many as a tile can have, but no single plane at the end.

    With 16 registers, 5 planes are 3 + 2 and not 4 + 1.
    """
    runs = []
    counts = plane_counts(unit)
    while planes:
        runs.append(max(count for count in counts if count <= planes and (planes == 1 or planes - count != 1)))
        planes -= runs[-1]
    return runs
