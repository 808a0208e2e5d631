"""Linear inverse problems: Tikhonov regularisation, its preconditioner, conjugate gradients and spectral measures."""
