"""Subdomains of the additive Schwarz preconditioner."""

import numpy as np

from convop import Conv
from convop.inverse.subdomains import overlapping_subdomains
from convop.spectral.axis_bases import Identity


def test_overlapping_subdomain_weights_are_a_partition_of_unity():
    for n, length in ((50, 10), (48, 24), (51, 3)):
        for axis in Conv(np.ones(3), n, padding=1).spec.axes:
            subdomains = overlapping_subdomains(axis, length, False)
            total = np.zeros(n)
            for subdomain in subdomains:
                basis = subdomain.basis
                samples = slice(basis.start, basis.stop) if isinstance(basis, Identity) else slice(None)
                total[samples] += subdomain.weight**2
            np.testing.assert_allclose(total, 1)
