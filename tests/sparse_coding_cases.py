"""Images, filters and networks for the tests of sparse coding, and reference solvers that use SciPy alone."""

import math

import numpy as np
from scipy.signal import convolve2d, correlate2d

from convop.deconvnet import DeconvLayer, DeconvNet, remove_mean


def photographs(count=3, side=64):
    """Central crops of photographs, with their means removed."""
    from skimage import data

    crops = []
    for name in ("camera", "astronaut", "coffee", "chelsea", "coins")[:count]:
        image = getattr(data, name)().astype(float) / 255
        image = image[..., :3].mean(-1) if image.ndim == 3 else image
        top, left = ((n - side) // 2 for n in image.shape)
        crops.append(image[top : top + side, left : left + side])
    return remove_mean(crops)[:, None]


def noise_images(count):
    """Small images of white noise, to which every map contributes."""
    return 5 * np.random.default_rng(7).standard_normal((count, 1, 12, 12))


def unit_filters(shape, seed=0, smooth=True):
    """Random filters with planes of unit norm."""
    filters = np.random.default_rng(seed).standard_normal(shape)
    if smooth:
        from scipy.ndimage import gaussian_filter

        filters = gaussian_filter(filters, (0, 0, 1, 1))
    return filters / np.linalg.norm(filters, axis=(2, 3), keepdims=True)


def synthesise(filters, maps):
    """Sums of 'valid' convolutions, by SciPy."""
    return np.array(
        [
            [sum(convolve2d(z, f, "valid") for z, f in zip(image, planes, strict=True)) for planes in filters]
            for image in maps
        ]
    )


def objective_of(filters, maps, images, lam, p):
    """The objective of each image, by SciPy."""
    misfit = ((synthesise(filters, maps) - images) ** 2).sum(axis=(1, 2, 3))
    return lam / 2 * misfit + (np.abs(maps) ** p).sum(axis=(1, 2, 3))


def reference_fista(filters, image, lam, steps):
    """FISTA (Beck and Teboulle, 2009) for p = 1 by SciPy's convolutions, with a step length from power iterations."""
    k, l = filters.shape[2:]
    shape = (filters.shape[1], image.shape[1] + k - 1, image.shape[2] + l - 1)

    def forward(z):
        return synthesise(filters, z[None])[0]

    def backward(r):
        return np.array(
            [
                sum(correlate2d(r[c], filters[c, m], "full") for c in range(len(filters)))
                for m in range(filters.shape[1])
            ]
        )

    v = np.random.default_rng(0).standard_normal(shape)
    for _ in range(60):
        v /= np.linalg.norm(v)
        v = backward(forward(v))
    L = 1.02 * lam * np.linalg.norm(v)
    z = v = np.zeros(shape)
    t = 1.0
    for _ in range(steps):
        new = v - lam / L * backward(forward(v) - image)
        new = np.sign(new) * np.maximum(np.abs(new) - 1 / L, 0)
        if ((v - new) * (new - z)).sum() > 0:
            t = 1.0
        after = (1 + math.sqrt(1 + 4 * t * t)) / 2
        z, v, t = new, new + (t - 1) / after * (new - z), after
    return z


def small_net(**parameters):
    """A network of one layer that is learned quickly."""
    return DeconvNet([DeconvLayer(3, 3, **{"p": 1.0, "lam": 4.0, "n_epochs": 1, **parameters})], rng=3)
