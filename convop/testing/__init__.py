"""Tests of linear operators of any maker.

`dottest` tests the adjoint of an operator, `assert_adjoint` the adjoint of a plain function. `check_operator` tests every
other law too, and `parametrize_with_checks` makes a pytest test of each.
"""

from .adjointness import assert_adjoint, dottest
from .comparisons import DotTest
from .laws import CHECKS, check_operator, parametrize_with_checks

__all__ = ["CHECKS", "DotTest", "assert_adjoint", "check_operator", "dottest", "parametrize_with_checks"]
