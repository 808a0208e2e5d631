"""Shapes of a convolution, in integers only: arguments, the table of an axis, `ConvSpec`."""
