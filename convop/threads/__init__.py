"""Work sharing: how many threads, blocks of Python work, fork-join of compiled loops."""
