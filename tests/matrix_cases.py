"""What tests of sparse matrices share: the check of canonical format."""

import scipy.sparse as sp


def assert_canonical(built):
    """Sorted indices, each entry once, and SciPy told so; checked by SciPy anew, not by the flags."""
    assert built.has_canonical_format
    assert built.has_sorted_indices
    fresh = sp.csr_array((built.data, built.indices, built.indptr), shape=built.shape)
    fresh.check_format(full_check=True)
    assert fresh.has_canonical_format
