"""Applications behind the commands, callable from Python: the demonstration and deblurring."""
