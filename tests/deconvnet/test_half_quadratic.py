"""Half-quadratic splitting: its proximal steps."""

import numpy as np
from sparse_coding_cases import photographs, unit_filters

from convop.deconvnet import sparse_codes
from convop.deconvnet.elementwise import prox_lp
from convop.deconvnet.problem import Problem


def test_half_quadratic_uses_prox_of_p_with_scaled_betas(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "convop.deconvnet.half_quadratic.prox_lp", lambda v, beta, p: calls.append((beta, p)) or prox_lp(v, beta, p)
    )
    images, filters = photographs(1, 24), unit_filters((1, 4, 5, 5))
    for p in (1.0, 0.5):
        calls.clear()
        sparse_codes(filters, images, lam=8.0, p=p, solver="hqs", betas=(2.0, 60.0))
        largest = np.abs(Problem.from_images(filters, images, 8.0).A.adjoint(images.reshape(-1, 1))).max()
        assert {power for _, power in calls} == {p}
        betas = [beta * largest ** (2 - p) for beta in dict.fromkeys(beta for beta, _ in calls)]
        np.testing.assert_allclose(betas, [2, 60], rtol=1e-9)
