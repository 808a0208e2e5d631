"""Which code the kernels of the direct engine consist of."""

import numpy as np
import pytest

from convop import ConvSpec
from convop.engines.cpu.direct import DirectEngine
from convop.engines.kernels.direct import correlate, correlate_in_place


def has_scatter(kernel):
    """Returns whether each version of a kernel has code that writes a workspace to the target."""
    modules = [compiled.library._get_module_for_linking() for compiled in kernel.overloads.values()]
    return {any("scatter" in function.name for function in module.functions) for module in modules}


@pytest.mark.parametrize(("stride", "kernel", "expected"), [(1, correlate_in_place, False), (2, correlate, True)])
def test_only_results_that_pass_through_a_workspace_need_scatter(stride, kernel, expected):
    """The adjoint with a stride writes every second element. Without `scatter`, compilation takes a fifth less time."""
    spec = ConvSpec((8, 64), (3, 3), stride=stride)
    DirectEngine(spec, np.ones((3, 3))).adjoint(np.ones(spec.shape[0]))
    assert has_scatter(kernel) == {expected}
