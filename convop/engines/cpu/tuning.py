"""The measured constants by which planes are cut into blocks: costs, and sizes of caches.

They are kept in ``engines/costs.json`` under ``"tuning"``. Times are nanoseconds of one thread per byte of the real dtype
unless noted; only their ratios matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

PACKAGED = Path(__file__).parents[1] / "costs.json"

Cut = TypeVar("Cut")


@dataclass(frozen=True)
class DirectTuning:
    """Blocks of the direct engine."""

    cache_bytes: int  # of a block whose input planes are read again for each group of output planes: second-level cache
    streamed_bytes: int  # of a block that is read once, row by row: third-level cache; shorter rows take longer
    planes_together: int  # output planes up to which a block is read once
    copy_share: float  # share of the rate that is left where results are copied from a workspace
    least_blocks: int  # minimum number of blocks, so every worker gets some


@dataclass(frozen=True)
class ColumnTuning:
    """Blocks and lengths of transforms along the first axis."""

    move: float  # to read or write an element
    step: float  # to transform an element in one step of radix 4
    multiply: float  # to multiply and add
    weight: float  # to read a weight again for another block
    row: float  # nanoseconds of a row, which is read, correlated and written by itself
    beyond_first_cache: float  # factor of `step` where the columns of a cache line exceed the first-level cache
    first_cache: int  # bytes
    held_bytes: int  # of a block that the caches of a core and its neighbours hold
    workers: int  # the number of blocks is rounded up to a multiple of this
    lengths: tuple[int, ...]  # of transforms
    cuts: tuple[int, ...]  # blocks along the last axis that are tried
    least_width: int  # columns of half a block


@dataclass(frozen=True)
class SweepTuning:
    """Blocks of separable kernels."""

    alone: float  # to multiply and add for one plane of results
    together: float  # for several planes
    move: float  # to read or write an element
    row: float  # nanoseconds of a row of results
    held_bytes: int  # of a block that the caches of a core and its neighbours hold
    workers: int  # the number of blocks is rounded up to a multiple of this
    cuts: tuple[int, ...]  # blocks along an axis that are tried
    least_width: int  # columns of a block


@dataclass(frozen=True)
class WinogradTuning:
    """Blocks of short transforms along the first axis, and which transforms."""

    multiply: float  # to multiply and add
    move: float  # to read or write an element
    weight: float  # to read a weight again for another block
    row: float  # nanoseconds of a row that is read or written
    held_bytes: int  # of the values and sums of a block that the caches of a core and its neighbours hold
    workers: int  # the number of blocks is rounded up to a multiple of this
    results: tuple[int, ...]  # of a transform that are tried
    tile_rows: tuple[int, ...]  # rows of tiles of a block that are tried
    cuts: tuple[int, ...]  # blocks along the last axis that are tried
    least_width: int  # columns of a block


@dataclass(frozen=True)
class TransformTuning:
    """Blocks of transforms along all axes by scipy.fft."""

    block: float  # nanoseconds of a block besides its transforms
    byte: float  # to transform, which hardly depends on the length as long as a block fits the cache
    product: float  # to multiply spectra
    cache_bytes: int
    beyond_cache: float  # factor of `byte` for larger blocks
    cuts: tuple[int, ...]  # blocks along an axis that are tried
    least_points: int  # of a block


@dataclass(frozen=True)
class Im2colTuning:
    """Blocks of matrix products."""

    panel_bytes: int  # of the im2col matrix of a block


@dataclass(frozen=True)
class GradientTuning:
    """Blocks of the kernel's gradient."""

    cache_bytes: int  # of the planes of a block and of its residuals: the second-level cache
    least_blocks: int


@dataclass(frozen=True)
class Tuning:
    """All constants.

    Attributes
    ----------
    narrow_tile : float
        Time of a narrow tile, which waits for its sums, as a share of the time of a wide one.
    transform_kinds : tuple of str
        Transforms that the fft engine chooses from: ``"first axis"``, ``"all axes"``.
    """

    narrow_tile: float
    direct: DirectTuning
    columns: ColumnTuning
    sweeps: SweepTuning
    winograd: WinogradTuning
    transforms: TransformTuning
    im2col: Im2colTuning
    gradient: GradientTuning
    transform_kinds: tuple[str, ...] = ("first axis", "all axes")

    @classmethod
    @cache
    def packaged(cls) -> Self:
        """Returns the constants that come with the package."""
        values = packaged_constants()
        sections = {name: section(**_tuples(values[name])) for name, section in _SECTIONS.items()}
        return cls(narrow_tile=values["narrow_tile"], **sections)


def packaged_constants() -> dict[str, Any]:
    """Returns the constants as ``engines/costs.json`` holds them."""
    constants: dict[str, Any] = json.loads(PACKAGED.read_text())["tuning"]
    return constants


_SECTIONS: dict[str, type] = {
    "direct": DirectTuning,
    "columns": ColumnTuning,
    "sweeps": SweepTuning,
    "winograd": WinogradTuning,
    "transforms": TransformTuning,
    "im2col": Im2colTuning,
    "gradient": GradientTuning,
}


def _tuples(values: dict[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def cheapest(cuts: Iterable[Cut], cost: Callable[[Cut], float]) -> Cut:
    """Returns the first cut of least cost: the search of every engine for the sizes of its blocks."""
    return min(cuts, key=cost)
