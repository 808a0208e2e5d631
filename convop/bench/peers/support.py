"""The pair of functions that a peer prepares for a workload, and conditions that several peers share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, TypeAlias

from ..workloads import Problem

ForwardAdjoint: TypeAlias = tuple[Callable[[], Any] | None, Callable[[], Any] | None]

UNSUPPORTED: ForwardAdjoint = (None, None)


def is_installed(*modules: str) -> bool:
    """Whether modules can be imported; they are not imported here."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def is_plain_filter(problem: Problem) -> bool:
    """Whether the workload is a filter of one channel with output size = input size, stride 1 and dilation 1."""
    spec = problem.spec
    same_size = all(a.outputs == a.inputs for a in spec.axes)
    return problem.workload.is_single_channel and same_size and max(*spec.stride, *spec.dilation) == 1
