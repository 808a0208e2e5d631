"""A convolution as a sum of blocks in a transform basis, and the singular values of the blocks."""
