"""Applications behind the commands, callable from Python: the demonstration, deblurring and compiling all kernels."""
