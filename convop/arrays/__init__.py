"""Array libraries (NumPy or CuPy), dtypes, free memory, power-of-two scaling, progress bars."""
