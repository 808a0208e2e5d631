"""CUDA kernels, the tables that they read, and the matrix on the GPU."""
