"""Linear inverse problems: Tikhonov regularisation and its preconditioner."""
