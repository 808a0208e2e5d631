"""Convolutional sparse coding: the maps of given images for given filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..geometry.arguments import positive
from .half_quadratic import BETAS
from .images import as_images, real_array
from .inference import Codes, infer_codes
from .options import SolverOptions
from .proximal import checked_power


def sparse_codes(
    filters: npt.ArrayLike,
    images: npt.ArrayLike,
    *,
    lam: float = 1.0,
    p: float = 1.0,
    solver: str = "auto",
    betas: Sequence[float] = BETAS,
    cg_iterations: int = 2,
    rtol: float = 1e-3,
    maxiter: int = 1000,
) -> Codes:
    """Find the maps z that minimise ``lam/2 norm(sum_k f_k * z_k - y)^2 + sum |z|^p`` for each image y.

    Parameters
    ----------
    filters : array_like of shape ``(K0, K1, k, l)``
        For each of K1 maps, a filter for each of K0 channels.
    images : array_like of shape ``(I, K0, n, m)`` or ``(I, n, m)``
        The data.
    lam : float
        Weight of the data term, more than 0.
    p : float
        Power of the penalty, more than 0 and at most 1.
    solver : {"auto", "admm", "fista", "hqs"}
        Alternating direction method of multipliers, accelerated proximal gradients (for p = 1) or half-quadratic
        splitting. "auto" is "admm".
    betas : sequence of float
        For "hqs": increasing weights of the stages, for maps whose largest modulus is about 1. They are rescaled for maps of
        other sizes.
    cg_iterations : int
        For "admm" and "hqs": least number of conjugate-gradient iterations in each linear system. More are run while
        a large share of the residual is left.
    rtol : float
        Tolerance for the objective's distance to its minimum, relative to the objective.
    maxiter : int
        Largest number of iterations, in all stages together.

    Returns
    -------
    Codes

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, or the shapes do not match.
    MemoryError
        If the maps do not fit the free memory; raised before anything is computed.
    OverflowError
        If the maps are too large for the dtype.

    Notes
    -----
    Images whose largest values are within a factor of 16 are solved together, in blocks if the memory is short: an image
    takes ten times the memory of its maps. The approximation of an image depends on the images in its block, and its last
    digits on the number of threads; the minimum does not.

    All convolutions are 'valid', so maps are larger than images. They are products with
    ``A = Conv(filters, ..., flip=True)`` and its transpose, of all images in one call.

    *admm* and *hqs* solve ``(lam A^T A + rho) z = lam A^T y + rho q`` in each iteration, by conjugate gradients on the
    equivalent system in ``A A^T``. This has as many channels as the images, is Toeplitz, and is preconditioned by the FFT.
    Started at the last solution, two iterations suffice for most filters. An iteration costs one product with ``A`` and one
    with its transpose, as an iteration of *fista* does. ADMM (Boyd et al., 2011) adapts rho by residual balancing.
    Half-quadratic splitting (Zeiler et al., CVPR 2010) raises beta in stages and has no multipliers; for a fixed beta it is
    proximal gradient descent on a smoothed objective, accelerated for p = 1 as in FISTA (Beck and Teboulle, 2009). After
    its stages, FISTA continues from the maps found until the minimum is as close as `rtol` asks.

    *The minimum*, for p = 1, is at least ``<u, y> - norm(u)^2/(2 lam)`` for any u with ``max |A^T u| <= 1``; each
    iteration yields such a u. The solver stops when the gap to this bound is below `rtol`, or when it is below ten times
    `rtol` and the objective has moved by less than a tenth of `rtol` over the last fifth of all iterations, at least ten:
    the bound is loose, and the objective is usually closer to the minimum than the gap says.

    *For p < 1* there are many local minima. Both solvers start from the solution of a problem with p = 1, whose weight
    follows from p and the size of the maps, so that units do not matter. "admm" minimises sums of
    ``p (|z_0| + e)^(p - 1) |z|`` about the last solution z_0, for decreasing e (Candes, Wakin and Boyd, 2008); "hqs" runs its
    stages with the proximal operator of ``|.|^p``. From the better of this and the solution for p = 1 with the same lam,
    proximal gradient steps descend to a local minimum. Zero is returned where its objective is lower.

    Examples
    --------
    >>> import numpy as np
    >>> from convop.deconvnet import sparse_codes
    >>> rng = np.random.default_rng(0)
    >>> codes = sparse_codes(rng.standard_normal((1, 4, 5, 5)), rng.standard_normal((2, 16, 16)), lam=0.3)
    >>> codes.maps.shape, codes.converged
    ((2, 4, 20, 20), True)
    """
    data = as_images(images)
    bank = real_array(filters, "filters")
    if bank.ndim != 4 or bank.shape[0] != data.shape[1] or 0 in bank.shape:
        raise ValueError(
            f"filters must have the shape (channels, maps, k, l) with the {data.shape[1]} channels of the images, "
            f"got {bank.shape}"
        )
    with np.errstate(over="ignore"):
        cast = bank.astype(data.dtype)
    if not np.isfinite(cast).all() or bool(cast.any()) != bool(bank.any()):
        raise ValueError(
            f"filters must be in the range of {data.dtype}, the dtype of the images; got moduli up to "
            f"{float(np.abs(bank).max()):.1e}: give images in float64"
        )
    power = checked_power(p)
    options = SolverOptions.from_arguments(power, solver, betas, cg_iterations, rtol, maxiter)
    return infer_codes(cast, data, positive("lam", lam), power, options)
