"""Connection tables."""

from itertools import combinations

import numpy as np
import pytest

from convop.deconvnet.connectivity import connection_table


def test_connection_tables_follow_patterns():
    rng = np.random.default_rng(0)
    assert connection_table("full", 3, 4, rng).all()
    table = connection_table("singles+pairs", 9, 45, rng)
    columns = {tuple(np.flatnonzero(column)) for column in table.T}
    assert columns == {(c,) for c in range(9)} | set(combinations(range(9), 2))
    table = connection_table("random-pairs", 5, 23, rng)
    assert (table.sum(axis=0) == 2).all()
    counts = [sum((np.flatnonzero(column) == pair).all() for column in table.T) for pair in combinations(range(5), 2)]
    assert set(counts) == {2, 3}
    given = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(connection_table(given.tolist(), 2, 2, rng), given)


def test_connection_table_rejects_patterns_and_tables_that_do_not_match():
    rng = np.random.default_rng(0)
    for wrong, below, maps, message in (
        ("singles+pairs", 3, 5, "makes 6 maps of 3 maps below, but n_maps is 5"),
        ("random-pairs", 1, 5, "needs two or more maps below"),
        ("some", 3, 5, "connectivity must be one of full"),
        (np.ones((2, 2)), 2, 2, "array of bool of shape"),
        (np.ones((2, 3), bool), 2, 2, "array of bool of shape"),
        (np.array([[True, False]]), 1, 2, "map 1 has none"),
    ):
        with pytest.raises(ValueError, match=message):
            connection_table(wrong, below, maps, rng)
