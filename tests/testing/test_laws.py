"""The laws of linear operators: each check passes right operators of any maker, and fails an operator that breaks its law."""

import pickle
import time

import numpy as np
import pylops
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from convop.testing import CHECKS, check_operator, parametrize_with_checks

A = np.random.default_rng(0).standard_normal((4, 6))


class Base(pylops.LinearOperator):
    """A right operator; each subclass breaks one law."""

    def __init__(self):
        super().__init__(dtype=np.dtype(float), dims=(6,), dimsd=(4,))

    def _matvec(self, x):
        return A @ x

    def _rmatvec(self, y):
        return A.T @ y


class WrongAdjoint(Base):
    def _rmatvec(self, y):
        return A.T @ y * 1.01


class AcceptsAnyLength(Base):
    def matvec(self, x):
        return A @ np.resize(x, (6, *x.shape[1:]))


class WrongBatch(Base):
    def _matmat(self, X):
        return A @ X[:, ::-1]


class WrongAdjointBatch(Base):
    def _rmatmat(self, Y):
        return A.T @ Y[:, ::-1]


class SharesBufferBetweenThreads(Base):
    """Two calls at once share a buffer."""

    def __init__(self):
        super().__init__()
        self.buffer = np.empty(6)

    def _matvec(self, x):
        if x.ndim > 1:
            return A @ x
        self.buffer[:] = x
        time.sleep(0.002)
        return A @ self.buffer


class WrongProduct(Base):
    def dot(self, x):
        product = super().dot(x)
        return 2 * product if isinstance(x, Base) else product

    def _adjoint(self):
        class Adjoint(pylops.MatrixMult):
            def dot(self, x):
                return super().dot(x) * 2 if isinstance(x, Base) else super().dot(x)

        return Adjoint(A.T)


class WrongDoubleTranspose(Base):
    def _transpose(self):
        wrong = pylops.MatrixMult(A.T)
        wrong._transpose = lambda: pylops.MatrixMult(2 * A)
        return wrong


class RaisesInBatch(Base):
    def _matmat(self, X):
        raise IndexError("too many indices")


class WrongTranspose(Base):
    def _transpose(self):
        return pylops.MatrixMult(-A.T)


class WrongDoubleAdjoint(Base):
    def _adjoint(self):
        wrong = pylops.MatrixMult(A.T)
        wrong._adjoint = lambda: pylops.MatrixMult(2 * A)
        return wrong


class ChangesItsInput(Base):
    def _matvec(self, x):
        y = A @ x
        x *= 2
        return y


class ReusesItsResult(Base):
    def __init__(self):
        super().__init__()
        self.result = np.empty(4)

    def _matvec(self, x):
        return np.dot(A, x, out=self.result) if x.ndim == 1 else A @ x


class ChangesWithEveryCall(Base):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def _matvec(self, x):
        self.calls += 1
        return A @ x * (1 + 1e-9 * self.calls)


class LosesPrecision(Base):
    def _matvec(self, x):
        return (A @ x).astype(np.float32)


class GivesComplex(Base):
    def _matvec(self, x):
        return (A @ x).astype(complex)


class WrongSum(Base):
    def __add__(self, other):
        return pylops.MatrixMult(A)


class WrongMatrix(Base):
    def tosparse(self):
        return sp.csr_array(np.abs(A))


class WrongPickle(Base):
    def __reduce__(self):
        return pylops.MatrixMult, (2 * A,)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (WrongAdjoint, "dot_products"),
        (AcceptsAnyLength, "shapes"),
        (WrongBatch, "batches"),
        (WrongAdjointBatch, "batches"),
        (SharesBufferBetweenThreads, "repeatable"),
        (WrongProduct, "algebra"),
        (WrongDoubleTranspose, "transposes"),
        (WrongTranspose, "transposes"),
        (WrongDoubleAdjoint, "transposes"),
        (ChangesItsInput, "inputs_unchanged"),
        (ReusesItsResult, "inputs_unchanged"),
        (ChangesWithEveryCall, "repeatable"),
        (LosesPrecision, "dtype"),
        (GivesComplex, "dtype"),
        (WrongSum, "algebra"),
        (WrongMatrix, "matrix"),
        (WrongPickle, "pickle"),
    ],
)
def test_check_fails_operator_that_breaks_its_law(wrong, check):
    CHECKS[check](Base())
    with pytest.raises(AssertionError):
        CHECKS[check](wrong())
    with pytest.raises(AssertionError, match=r"^\w+: "):
        check_operator(wrong())


def test_check_operator_names_law_in_which_operator_raises():
    with pytest.raises(AssertionError, match=r"^\w+: IndexError: too many indices$"):
        check_operator(RaisesInBatch())


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", [list, tuple, np.matrix])
def test_check_operator_takes_every_matrix(kind):
    check_operator(kind([[1.0, 2.0], [3.0, 4.0]]))
    check_operator(kind(((1j, 2), (3, 4))))
    with pytest.raises(TypeError, match="op must be a matrix, or an operator"):
        check_operator("matrix")


def test_every_check_has_an_operator_that_fails():
    marks = test_check_fails_operator_that_breaks_its_law.pytestmark[0].args[1]
    assert {check for _, check in marks} == set(CHECKS)


@parametrize_with_checks(
    [
        pytest.param(A, id="array"),
        pytest.param(sp.csr_array(A), id="sparse"),
        sp.csc_matrix(A + 1j),
        aslinearoperator(A.astype("float32")),
        LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda y: A.T @ y, dtype=float),
        pylops.MatrixMult(A),
        Base(),
        pylops.signalprocessing.FFT((8,), real=True),
        pylops.Real((5,), dtype="complex128"),
        pylops.signalprocessing.Convolve2D((7, 6), np.ones((2, 3), "float32"), offset=(1, 1), dtype="float32"),
    ]
)
def test_checks_pass_right_operators_of_any_maker(operator, check):
    check(operator, rng=3)
    assert check in CHECKS.values()


def test_parametrize_with_checks_names_tests():
    ids = [p.id for p in parametrize_with_checks([pytest.param(A, id="mine"), A]).args[1]]
    assert ids[0] == "mine-dot_products"
    assert ids[len(CHECKS)] == "ndarray1-dot_products"
    assert len(ids) == 2 * len(CHECKS)


def test_operator_with_wrong_pickle_becomes_another():
    assert isinstance(pickle.loads(pickle.dumps(WrongPickle())), pylops.MatrixMult)
