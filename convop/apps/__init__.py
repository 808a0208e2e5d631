"""What the commands do, callable from Python: the demonstration and the deblurring of pictures."""
