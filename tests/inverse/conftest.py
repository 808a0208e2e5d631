from spectral_cases import one_blas_thread  # noqa: F401
