import numpy as np
import oracle
from hypothesis import given
from numpy.testing import assert_array_equal
from operator_cases import case_operator, random_integers
from strategies import cases

from convop import ConvFilter


@given(cases())
def test_filter_operator_equals_the_oracles_data_matrix(case):
    rng = np.random.default_rng(0)
    x = random_integers(rng, case.input_shape, case.kernel.dtype)
    F = ConvFilter(x, case.kernel.shape, flip=case.flip, **case.parameters)
    A = case_operator(case)
    assert_array_equal(F @ case.kernel, A @ x, strict=True)
    columns = []
    for unit in np.eye(case.kernel.size):
        matrix, _ = oracle.dense_matrix(
            unit.reshape(case.kernel.shape), case.input_shape, flip=case.flip, **case.parameters
        )
        columns.append(matrix @ x.ravel())
    dense = np.stack(columns, axis=1).astype(x.dtype)
    for op, matrix in (
        (F, dense),
        (F.H, dense.conj().T),
        (F.T, dense.T),
        (F.H.H, dense),
        (F.T.T, dense),
        (F.H.T, dense.conj()),
        (F.conj(), dense.conj()),
    ):
        X = random_integers(rng, (matrix.shape[1], 3), x.dtype)
        assert_array_equal(op @ X, matrix @ X, strict=True)
        assert_array_equal(op @ X[:, 0], matrix @ X[:, 0], strict=True)
        assert_array_equal(op.todense(), matrix, strict=True)
        op.tosparse().check_format(full_check=True)
