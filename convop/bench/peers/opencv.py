"""OpenCV's filters of images: `filter2D`, and `sepFilter2D` for kernels that are an outer product of two vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays.backend import Array
from ..workloads import Problem
from .support import UNSUPPORTED, ForwardAdjoint, is_installed, is_plain_filter

_BORDERS = {
    "zeros": "BORDER_CONSTANT",
    "circular": "BORDER_WRAP",
    "reflect": "BORDER_REFLECT_101",
    "symmetric": "BORDER_REFLECT",
    "replicate": "BORDER_REPLICATE",
}
_MODES_WITH_ADJOINT = ("zeros", "circular")


def filter2d(problem: Problem) -> ForwardAdjoint:
    """Prepare `cv2.filter2D`, which correlates as this package does, with the anchor at the kernel's element `lo`."""
    if not _is_supported(problem):
        return UNSUPPORTED
    import cv2

    def correlate(x: Array, kernel: Array, anchor: tuple[int, int], border: int) -> Any:
        return cv2.filter2D(x, -1, kernel, anchor=anchor, borderType=border)

    return _forward_adjoint(problem, correlate, problem.kernel, np.flip(problem.kernel).copy())


def sep_filter2d(problem: Problem) -> ForwardAdjoint:
    """Prepare `cv2.sepFilter2D`, if the kernel is an outer product up to rounding errors."""
    if not _is_supported(problem):
        return UNSUPPORTED
    columns, values, rows = np.linalg.svd(problem.kernel)
    if len(values) > 1 and values[1] > 10 * np.finfo(problem.dtype).eps * values[0]:
        return UNSUPPORTED
    import cv2

    vectors = columns[:, 0] * values[0], rows[0].copy()

    def correlate(x: Array, vectors: Sequence[Array], anchor: tuple[int, int], border: int) -> Any:
        along_columns, along_rows = vectors
        return cv2.sepFilter2D(x, -1, along_rows, along_columns, anchor=anchor, borderType=border)

    return _forward_adjoint(problem, correlate, vectors, tuple(np.flip(vector).copy() for vector in vectors))


def _is_supported(problem: Problem) -> bool:
    """Whether the workload filters an image with the anchor inside the kernel."""
    spec = problem.spec
    return (
        spec.ndim == 2
        and is_plain_filter(problem)
        and all(0 <= axis.lo < axis.taps for axis in spec.axes)
        and is_installed("cv2")
    )


def _forward_adjoint(
    problem: Problem, correlate: Callable[[Array, Any, tuple[int, int], int], Any], kernel: Any, flipped: Any
) -> ForwardAdjoint:
    import cv2

    spec = problem.spec
    border = getattr(cv2, _BORDERS[spec.padding_mode])
    rows, columns = spec.axes

    def apply(x: Array, kernel: Any, first: tuple[int, int]) -> Any:
        """Correlate with the kernel's element `first` on each output: OpenCV's order of axes is x, y."""
        anchor = first[1], first[0]
        if spec.padding_mode != "circular":
            return correlate(x, kernel, anchor, border)
        # The filters refuse BORDER_WRAP. So the image is extended, and the extension cut off.
        (top, bottom), (left, right) = ((lo, axis.taps - 1 - lo) for lo, axis in zip(first, spec.axes, strict=True))
        extended = cv2.copyMakeBorder(x, top, bottom, left, right, border)
        filtered = correlate(extended, kernel, anchor, cv2.BORDER_CONSTANT)
        return filtered[top : top + rows.inputs, left : left + columns.inputs]

    def forward() -> Any:
        return apply(problem.x, kernel, (rows.lo, columns.lo))

    def adjoint() -> Any:
        return apply(problem.y, flipped, (rows.taps - 1 - rows.lo, columns.taps - 1 - columns.lo))

    # With the other boundaries, the flipped filter is not the adjoint.
    return forward, adjoint if spec.padding_mode in _MODES_WITH_ADJOINT else None
