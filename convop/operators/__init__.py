"""PyLops operators: `Conv`, `ConvTranspose`, `ConvFilter`, and block-diagonal operators."""
