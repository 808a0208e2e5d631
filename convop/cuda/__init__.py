"""What runs on the GPU: kernels, the tables that they read, and the matrix that they write."""
