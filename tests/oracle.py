"""The oracle: the matrix of a convolution by plain loops from the definition. It shares no code with the package.

The code is slow and literal, so that a reader can check it:

    y[co, o] = sum over ci, t of K[co, ci, t] * x[ci, o*stride + t*dilation - lo]

with `x` extended beyond its ends as the padding mode says.
"""

import itertools

import numpy as np


def extended_index(i, n, mode):
    """Returns the input index read at position `i` of an axis of length `n`, or None, by one mirror or period at a time."""
    if mode == "zeros":
        return i if 0 <= i < n else None
    if mode == "replicate":
        return 0 if i < 0 else n - 1 if i >= n else i
    if mode == "circular":
        while i < 0:
            i += n
        while i >= n:
            i -= n
        return i
    if n == 1:
        return 0
    while not 0 <= i < n:  # mirror at the end that was passed, until the index is inside
        if mode == "reflect":
            i = -i if i < 0 else 2 * (n - 1) - i
        elif mode == "symmetric":
            i = -1 - i if i < 0 else 2 * n - 1 - i
        else:
            raise AssertionError(mode)
    return i


def resolve_padding(padding, space, taps, stride, dilation):
    """Returns one pair (lo, hi) per axis."""
    if isinstance(padding, int):
        return [(padding, padding)] * len(space)
    if isinstance(padding, str):
        pairs = []
        for n, k, s, d in zip(space, taps, stride, dilation, strict=True):
            if padding == "valid":
                pairs.append((0, 0))
            elif padding == "full":
                pairs.append((d * (k - 1), d * (k - 1)))
            else:
                assert padding == "same"
                wanted = (n + s - 1) // s
                total = max(0, (wanted - 1) * s + d * (k - 1) + 1 - n)
                pairs.append((total // 2, total - total // 2))
        return pairs
    return [(p, p) if isinstance(p, int) else tuple(p) for p in padding]


def dense_matrix(
    kernel,
    input_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    padding_mode="zeros",
    flip=False,
):
    """Returns the dense matrix and the shape of the output."""
    kernel = np.asarray(kernel)
    if kernel.dtype.kind in "bui":
        kernel = kernel.astype(float)
    channels = kernel.ndim == len(input_shape) + 1
    ndim = len(input_shape) - 1 if channels else len(input_shape)
    space = tuple(input_shape[-ndim:])
    taps = kernel.shape[-ndim:]
    k = kernel if channels else kernel.reshape((1, 1, *kernel.shape))
    c_out, c_in_group = k.shape[:2]
    c_in = input_shape[0] if channels else 1
    stride = (stride,) * ndim if isinstance(stride, int) else tuple(stride)
    dilation = (dilation,) * ndim if isinstance(dilation, int) else tuple(dilation)
    pads = resolve_padding(padding, space, taps, stride, dilation)
    out_space = []
    for a in range(ndim):
        m = 0
        while m * stride[a] + dilation[a] * (taps[a] - 1) < space[a] + sum(pads[a]):
            m += 1
        out_space.append(m)
    matrix = np.zeros((c_out * int(np.prod(out_space)), c_in * int(np.prod(space))), dtype=k.dtype)
    row = 0
    for co in range(c_out):
        group = co // (c_out // groups)
        for o in itertools.product(*(range(m) for m in out_space)):
            for ci in range(c_in_group):
                for t in itertools.product(*(range(n) for n in taps)):
                    column = group * c_in_group + ci
                    for a in range(ndim):
                        i = extended_index(o[a] * stride[a] + t[a] * dilation[a] - pads[a][0], space[a], padding_mode)
                        if i is None:
                            break
                        column = column * space[a] + i
                    else:
                        tap = tuple(taps[a] - 1 - t[a] for a in range(ndim)) if flip else t
                        matrix[row, column] += k[(co, ci, *tap)]
            row += 1
    return matrix, (c_out, *out_space) if channels else tuple(out_space)


def structure(input_shape, kernel_shape, **parameters):
    """Returns the boolean matrix of the entries that at least one tap contributes to, whatever its value."""
    matrix, _ = dense_matrix(np.ones(kernel_shape), input_shape, **parameters)
    return matrix != 0  # every tap counts +1, as padding modes copy elements with the factor 1
