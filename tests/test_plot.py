"""Plots of matrices, kernels, spectra and network filters."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import convop
from convop import Conv, kernel2matrix, plot

mpl.use("agg")


@pytest.fixture
def ax():
    return Figure().subplots()


def shown_values(ax):
    """Returns the values of the image in Axes, NaN where nothing is drawn."""
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def test_matrix_draws_every_entry_with_its_sign(ax):
    A = Conv([[4, -1], [0, 9]], (3, 3))
    assert plot.matrix(A, ax=ax) is ax
    dense = A.todense()
    structure = kernel2matrix(np.ones((2, 2)), (3, 3)).toarray() != 0
    expected = np.where(structure, np.sign(dense) * np.sqrt(np.abs(dense)), np.nan)
    np.testing.assert_array_equal(shown_values(ax), expected)
    assert ax.get_xlabel() == "9 inputs"
    assert ax.get_ylabel() == "4 outputs"
    assert ax.images[0].get_clim() == (-3, 3)


def test_matrix_condenses_large_matrices_without_losing_entries(ax):
    K = np.zeros((3, 3))
    K[1, 1], K[0, 2] = 1, -4
    plot.matrix(Conv(K, (70, 70)).tosparse(), ax=ax)
    image = shown_values(ax)
    assert image.shape == (512, 512)
    assert np.nanmax(image) == 1
    assert np.nanmin(image) == -2
    assert (np.diagonal(image) == 1).any() or (image == 1).sum() > 400


@pytest.mark.parametrize("op", [Conv([[1j, 2]], (4, 4)), Conv([[1.0, 2]], (4, 4)).T, Conv(np.zeros((2, 2)), (3, 3))])
def test_matrix_draws_complex_transposed_and_zero_operators(op, ax):
    assert plot.matrix(op, ax=ax).images


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (6, 2, 3, 4), (2, 2, 2, 3, 3)])
def test_kernel_draws_kernels_of_any_dimension(shape, ax):
    space = {1: (9,), 2: (9, 9), 3: (9, 9, 9), 4: (2, 9, 9), 5: (2, 9, 9, 9)}[len(shape)]
    A = Conv(np.arange(1.0, np.prod(shape) + 1).reshape(shape), space)
    assert plot.kernel(A, ax=ax) is ax
    image = shown_values(ax)
    drawn = np.sort(image[np.isfinite(image)])
    np.testing.assert_array_equal(drawn, A.kernel.ravel())


def test_current_axes_are_the_default_axes():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    assert plot.matrix(Conv([1, 2], 4)) is axes
    plt.close(figure)
    assert convop.plot is plot


def test_save_leaves_no_file_if_drawing_fails(tmp_path):
    def fail(ax):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        plot.save(tmp_path / "a.png", fail)
    assert list(tmp_path.iterdir()) == []
    plot.save(tmp_path / "a.png", lambda a, b: plot.image(np.eye(3), ax=b), panels=2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_spectrum_draws_singular_values_and_symbol(ax):
    A = Conv([[0.1, 0.2], [0.3, 0.4]], (8, 8), padding="same")
    assert plot.spectrum(A, ax=ax) is ax
    symbol, values = ax.lines
    np.testing.assert_allclose(values.get_ydata(), np.linalg.svd(A.todense(), compute_uv=False), atol=1e-12)
    grid = 2 * np.pi * np.arange(8) / 8
    theta = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    expected = np.sort(np.abs(convop.spectrum.symbol(A, theta)).ravel())[::-1]
    np.testing.assert_allclose(symbol.get_ydata(), expected, atol=1e-12)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["symbol", "singular values"]
    assert ax.get_xlabel() == "share of all 64"


@pytest.mark.parametrize(("channels", "expected"), [(1, (11, 11)), (3, (11, 11, 3)), (2, (11, 23))])
def test_patterns_draws_one_pattern_per_map(channels, expected):
    from convop.deconvnet import DeconvLayer, DeconvNet

    net = DeconvNet([DeconvLayer(4, 5)])
    net.filters_ = [np.random.default_rng(0).standard_normal((channels, 4, 5, 5))]
    ax = plot.patterns(net, 0, ax=Figure().subplots())
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn.shape == expected
    assert np.nanmax(np.abs(drawn)) == 1
