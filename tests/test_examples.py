"""Worked examples of textbooks, whose numbers have to be reproduced exactly."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convop import Conv, ConvSpec, ConvTranspose, kernel2matrix

X = np.array([[0.0, 1.0], [2.0, 3.0]])
K = np.array([[1.0, 2.0], [3.0, 4.0]])


def trans_conv(x, k):
    """Returns the transposed convolution of stride 1, by broadcasting."""
    (h, w), (kh, kw) = x.shape, k.shape
    y = np.zeros((h + kh - 1, w + kw - 1))
    for i in range(h):
        for j in range(w):
            y[i : i + kh, j : j + kw] += x[i, j] * k
    return y


def corr2d(x, k):
    """Returns the cross-correlation of stride 1, by sums over windows."""
    (h, w), (kh, kw) = x.shape, k.shape
    return np.array([[(x[i : i + kh, j : j + kw] * k).sum() for j in range(w - kw + 1)] for i in range(h - kh + 1)])


@pytest.mark.parametrize(
    ("x", "k", "parameters", "expected"),
    [
        (X, X, {}, [[0, 0, 1], [0, 4, 6], [4, 12, 9]]),
        (X, K, {}, [[0, 1, 2], [2, 10, 10], [6, 17, 12]]),
        (X, X, {"padding": 1}, [[4]]),
        (X, K, {"padding": 1}, [[10]]),
        (X, X, {"stride": 2}, [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]),
        (X, K, {"stride": 2}, [[0, 0, 1, 2], [0, 0, 3, 4], [2, 4, 3, 6], [6, 8, 9, 12]]),
    ],
)
def test_transposed_convolution_of_2x2_image(x, k, parameters, expected):
    y = ConvTranspose(k, x.shape, **parameters) @ x
    assert_array_equal(y, np.array(expected, dtype=float), strict=True)
    if not parameters:
        assert_array_equal(trans_conv(x, k), y)


def test_transpose_restores_shape_with_channels():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 16, 16))
    f = Conv(rng.standard_normal((20, 10, 5, 5)), x.shape, padding=2, stride=3)
    g = ConvTranspose(rng.standard_normal((20, 10, 5, 5)), f.dimsd, padding=2, stride=3)
    assert (g @ (f @ x)).shape == x.shape


@pytest.mark.parametrize(
    ("k", "matrix", "image"),
    [
        (
            K,
            [
                [1, 2, 0, 3, 4, 0, 0, 0, 0],
                [0, 1, 2, 0, 3, 4, 0, 0, 0],
                [0, 0, 0, 1, 2, 0, 3, 4, 0],
                [0, 0, 0, 0, 1, 2, 0, 3, 4],
            ],
            [[27, 37], [57, 67]],
        ),
        (
            X,
            [
                [0, 1, 0, 2, 3, 0, 0, 0, 0],
                [0, 0, 1, 0, 2, 3, 0, 0, 0],
                [0, 0, 0, 0, 1, 0, 2, 3, 0],
                [0, 0, 0, 0, 0, 1, 0, 2, 3],
            ],
            [[19, 25], [37, 43]],
        ),
    ],
)
def test_matrix_of_2x2_kernel_on_3x3_image(k, matrix, image):
    W = kernel2matrix(k, (3, 3))
    assert_array_equal(W.toarray(), np.array(matrix, dtype=float), strict=True)
    assert W.nnz == 16
    x = np.arange(9.0).reshape(3, 3)
    y = (W @ x.ravel()).reshape(2, 2)
    assert_array_equal(y, image)
    assert_array_equal(y, corr2d(x, k))
    z = (W.T @ y.ravel()).reshape(3, 3)
    assert_array_equal(z, trans_conv(y, k))
    assert_array_equal(z, Conv(k, (3, 3)).T @ y)
    assert z.shape == x.shape
    assert not np.array_equal(z, x)  # the transpose is not the inverse


def test_matrix_of_signal():
    w1, w2, w3 = 2.0, 3.0, 5.0
    C = kernel2matrix([w1, w2, w3], 5)
    assert_array_equal(C.toarray(), [[w1, w2, w3, 0, 0], [0, w1, w2, w3, 0], [0, 0, w1, w2, w3]])
    assert (C.T @ np.ones(3)).shape == (5,)


@pytest.mark.parametrize("n", [5, 7, 12])
@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("p", [0, 1, 2])
def test_output_sizes_follow_formula(n, k, s, d, p):
    if n + 2 * p < d * (k - 1) + 1:
        with pytest.raises(ValueError, match="does not fit"):
            ConvSpec((n,), (k,), stride=s, padding=p, dilation=d)
        return
    (m,) = ConvSpec((n,), (k,), stride=s, padding=p, dilation=d).output_shape
    assert m == (n + 2 * p - d * (k - 1) - 1) // s + 1
    for op in range(s):
        size = (m - 1) * s - 2 * p + d * (k - 1) + op + 1
        if size > 0:
            assert ConvTranspose(np.ones(k), m, stride=s, padding=p, dilation=d, output_padding=op).dimsd == (size,)


@pytest.mark.parametrize(("k", "s", "p", "op", "size"), [(3, 1, 0, 0, 4), (3, 1, 1, 0, 2), (3, 2, 1, 1, 4)])
def test_output_sizes_of_transposes_of_2x2_image(k, s, p, op, size):
    T = ConvTranspose(np.ones((k, k)), (2, 2), stride=s, padding=p, output_padding=op)
    assert T.dimsd == (size, size)


def test_output_padding_and_output_shape_resolve_ambiguous_sizes():
    assert ConvSpec((7,), (3,), stride=2, padding=1).output_shape == (4,)
    assert ConvSpec((8,), (3,), stride=2, padding=1).output_shape == (4,)
    for op, size in ((0, 7), (1, 8)):
        by_padding = ConvTranspose(np.ones(3), 4, stride=2, padding=1, output_padding=op)
        by_shape = ConvTranspose(np.ones(3), 4, stride=2, padding=1, output_shape=size)
        assert by_padding.dimsd == by_shape.dimsd == (size,)
        assert by_padding == by_shape
    with pytest.raises(ValueError, match=r"\(7,\), \(8,\)"):
        ConvTranspose(np.ones(3), 4, stride=2, padding=1, output_shape=9)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("p", [0, 1, 2, 4, 5])
def test_transposed_convolution_is_convolution_of_upsampled_input(k, s, d, p):
    """Of the input with zeros in between, with padding d(k-1) - p (negative padding crops) and the kernel flipped."""
    rng = np.random.default_rng(0)
    kernel, x = rng.integers(-9, 10, (k, k)), rng.integers(-9, 10, (6, 7))
    upsampled = np.zeros((5 * s + 1, 6 * s + 1))
    upsampled[::s, ::s] = x
    if (5 * s + 1) + 2 * (d * (k - 1) - p) < d * (k - 1) + 1:
        with pytest.raises(ValueError, match="crops it away"):
            ConvTranspose(kernel, x.shape, stride=s, padding=p, dilation=d)
        return
    expected = Conv(kernel, upsampled.shape, padding=d * (k - 1) - p, dilation=d, flip=True) @ upsampled
    assert_array_equal(ConvTranspose(kernel, x.shape, stride=s, padding=p, dilation=d) @ x, expected)


def test_upsampling_by_kernel_of_ones():
    y = ConvTranspose(np.ones((4, 4)), (2, 2), stride=2, padding=1) @ np.ones((2, 2))
    assert_array_equal(y, [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]])


def test_gradient_is_transposed_convolution():
    """For L = <y_bar, W x> the gradient is W^T y_bar, here by central differences, exact for a linear L."""
    rng = np.random.default_rng(0)
    A = Conv(rng.integers(-3, 4, (2, 3, 3, 3)), (3, 5, 5), stride=2, padding=1)
    x, y_bar = rng.integers(-3, 4, A.dims).astype(float), rng.integers(-3, 4, A.dimsd).astype(float)
    gradient = np.empty(A.dims)
    for i in np.ndindex(*A.dims):
        step = np.zeros(A.dims)
        step[i] = 1
        gradient[i] = ((y_bar * (A @ (x + step))).sum() - (y_bar * (A @ (x - step))).sum()) / 2
    assert_array_equal(A.T @ y_bar, gradient)
    assert_array_equal(A.T.T @ x, A @ x)
