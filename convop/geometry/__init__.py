"""Geometry of a convolution: arguments, source and gather tables of an axis, extension and fold, `ConvSpec`."""
