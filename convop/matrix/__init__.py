"""Builds the sparse matrix of a convolution, and the data matrix that multiplies a kernel."""
