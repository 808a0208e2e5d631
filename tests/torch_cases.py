"""Cases of convolutions, as data, that are computed by PyTorch and by convop. Imports neither.

All values are small integers, so that every sum is exact in every dtype, in any order, and results compare with ==.
"""

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "torch.npz"

# Results that are computed for a case, and stored as "<name>.<result>".
RESULTS = ("y", "grad_x", "grad_w")


@dataclass(frozen=True)
class Case:
    """One call of a PyTorch function (``conv2d``, ``conv_transpose2d``) or module (``Conv2d``)."""

    function: str
    label: str
    x_shape: tuple
    w_shape: tuple
    dtype: str = "float64"
    parameters: dict = field(default_factory=dict, hash=False)

    @property
    def name(self):
        return "-".join([self.function, self.label] + [self.dtype] * (self.dtype != "float64"))

    @property
    def module(self):
        return self.function[0].isupper()

    @property
    def transposed(self):
        return "transpose" in self.function.lower()

    @property
    def x(self):
        return self.draw("x", self.x_shape)

    @property
    def w(self):
        return self.draw("w", self.w_shape)

    def draw(self, what, shape):
        """Returns integers from -4 to 4 that depend on the case's name and on `what` alone."""
        # NumPy guarantees the raw stream of a bit generator; the streams of Generator's methods may change.
        stream = np.random.PCG64(zlib.crc32(f"{self.name}.{what}".encode()))

        def integers():
            return (stream.random_raw(shape) % 9).astype(self.dtype) - 4

        return integers() + 1j * integers() if self.dtype.startswith("complex") else integers()


def _case(function, label, x_shape, w_shape, dtype="float64", **parameters):
    return Case(function, label, x_shape, w_shape, dtype, parameters)


def _conv1d():
    f = "conv1d"
    yield _case(f, "plain", (1, 6), (1, 1, 3))
    yield _case(f, "channels", (3, 7), (4, 3, 3))
    yield _case(f, "even_kernel", (2, 7), (2, 2, 4))
    yield _case(f, "kernel_1", (3, 5), (2, 3, 1))
    yield _case(f, "kernel_fills_input", (2, 5), (3, 2, 5))
    yield _case(f, "one_element", (2, 1), (2, 2, 1))
    yield _case(f, "one_element_padded", (2, 1), (2, 2, 2), padding=1)
    yield _case(f, "stride_2_even_input", (1, 8), (2, 1, 3), stride=2)
    yield _case(f, "stride_3_dropped_tail", (2, 10), (2, 2, 2), stride=3)
    yield _case(f, "stride_beyond_kernel", (2, 11), (1, 2, 2), stride=4)
    yield _case(f, "stride_beyond_input", (2, 5), (2, 2, 3), stride=9)
    yield _case(f, "kernel_1_stride_2", (2, 6), (2, 2, 1), stride=2)
    yield _case(f, "padding", (2, 6), (3, 2, 3), padding=1)
    yield _case(f, "padding_tuple", (2, 6), (3, 2, 4), padding=(2,))
    yield _case(f, "padding_beyond_kernel", (1, 4), (2, 1, 2), padding=3)
    yield _case(f, "kernel_beyond_input", (2, 3), (2, 2, 5), padding=2)
    yield _case(f, "valid", (2, 6), (2, 2, 3), padding="valid", stride=2)
    yield _case(f, "same_odd_kernel", (2, 6), (2, 2, 3), padding="same")
    yield _case(f, "same_even_kernel", (2, 6), (2, 2, 4), padding="same")
    yield _case(f, "same_kernel_2", (1, 5), (1, 1, 2), padding="same")
    yield _case(f, "same_even_kernel_dilated", (2, 7), (2, 2, 2), padding="same", dilation=3)
    yield _case(f, "dilation", (2, 9), (2, 2, 3), dilation=2)
    yield _case(f, "dilation_stride_padding", (2, 11), (2, 2, 3), dilation=3, stride=2, padding=4)
    yield _case(f, "groups", (4, 7), (6, 2, 3), groups=2)
    yield _case(f, "depthwise", (4, 6), (4, 1, 3), groups=4, padding=1)
    yield _case(f, "depthwise_multiplier", (3, 6), (6, 1, 2), groups=3, stride=2)
    yield _case(f, "all", (4, 12), (2, 2, 3), stride=3, padding=3, dilation=2, groups=2)


def _conv2d():
    f = "conv2d"
    yield _case(f, "plain", (1, 5, 6), (1, 1, 3, 3))
    yield _case(f, "textbook", (1, 3, 3), (1, 1, 2, 2))
    yield _case(f, "channels", (3, 5, 6), (4, 3, 3, 2))
    yield _case(f, "kernel_1", (4, 3, 5), (2, 4, 1, 1))
    yield _case(f, "flat_kernel", (2, 5, 6), (2, 2, 1, 4))
    yield _case(f, "kernel_fills_one_axis", (2, 5, 6), (2, 2, 5, 2))
    yield _case(f, "stride", (2, 7, 8), (2, 2, 3, 3), stride=2)
    yield _case(f, "stride_axes_dropped_tail", (2, 8, 9), (2, 2, 3, 2), stride=(2, 3))
    yield _case(f, "kernel_1_stride", (3, 5, 6), (2, 3, 1, 1), stride=2)
    yield _case(f, "padding", (2, 5, 4), (2, 2, 3, 3), padding=1)
    yield _case(f, "padding_axes", (2, 4, 5), (2, 2, 2, 5), padding=(0, 2))
    yield _case(f, "padding_beyond_kernel", (1, 3, 4), (2, 1, 2, 1), padding=(3, 2))
    yield _case(f, "valid", (2, 5, 6), (2, 2, 2, 3), padding="valid", stride=(1, 2))
    yield _case(f, "same", (2, 5, 6), (2, 2, 3, 5), padding="same")
    yield _case(f, "same_even_kernel", (2, 5, 6), (2, 2, 2, 4), padding="same")
    yield _case(f, "same_mixed_dilated", (2, 6, 5), (2, 2, 2, 3), padding="same", dilation=(3, 2))
    yield _case(f, "dilation", (2, 7, 8), (2, 2, 3, 3), dilation=2)
    yield _case(f, "dilation_axes", (2, 6, 8), (2, 2, 2, 3), dilation=(4, 3), padding=(1, 0))
    yield _case(f, "groups", (4, 5, 5), (6, 2, 3, 2), groups=2)
    yield _case(f, "depthwise", (3, 6, 5), (3, 1, 3, 3), groups=3, padding=1)
    yield _case(f, "depthwise_multiplier", (3, 5, 6), (6, 1, 2, 3), groups=3, stride=2)
    yield _case(f, "all", (4, 9, 8), (4, 2, 3, 2), stride=(2, 3), padding=(3, 1), dilation=(2, 3), groups=2)


def _conv3d():
    f = "conv3d"
    yield _case(f, "plain", (1, 3, 4, 5), (1, 1, 2, 3, 2))
    yield _case(f, "channels", (2, 3, 4, 4), (2, 2, 2, 2, 3))
    yield _case(f, "kernel_1", (2, 2, 3, 2), (3, 2, 1, 1, 1))
    yield _case(f, "stride_axes_dropped_tail", (2, 4, 6, 5), (2, 2, 2, 3, 2), stride=(3, 2, 2))
    yield _case(f, "padding_axes", (1, 3, 2, 4), (2, 1, 3, 2, 3), padding=(1, 2, 0))
    yield _case(f, "same_even_kernel", (1, 3, 4, 3), (2, 1, 2, 3, 4), padding="same")
    yield _case(f, "dilation_axes", (1, 5, 4, 6), (2, 1, 2, 3, 2), dilation=(3, 1, 4))
    yield _case(f, "groups", (4, 3, 3, 4), (2, 2, 2, 2, 2), groups=2)
    yield _case(f, "depthwise", (2, 3, 4, 3), (4, 1, 2, 3, 2), groups=2, padding=(0, 1, 1))
    yield _case(
        f, "all", (4, 5, 6, 4), (2, 2, 2, 2, 3), stride=(2, 3, 1), padding=(1, 2, 0), dilation=(3, 2, 1), groups=2
    )


def _conv_transpose1d():
    f = "conv_transpose1d"
    yield _case(f, "plain", (1, 5), (1, 1, 3))
    yield _case(f, "channels", (3, 4), (3, 4, 3))
    yield _case(f, "even_kernel", (2, 5), (2, 3, 4))
    yield _case(f, "kernel_1", (2, 5), (2, 3, 1))
    yield _case(f, "one_element", (3, 1), (3, 2, 4), stride=2)
    yield _case(f, "stride_2", (2, 4), (2, 2, 3), stride=2)
    yield _case(f, "stride_beyond_kernel", (2, 4), (2, 1, 2), stride=5)
    yield _case(f, "kernel_1_stride_3", (2, 4), (2, 2, 1), stride=3)
    yield _case(f, "padding", (2, 6), (2, 2, 4), padding=2)
    yield _case(f, "padding_beyond_kernel", (2, 7), (2, 2, 1), padding=2)
    yield _case(f, "output_padding", (2, 4), (2, 2, 3), stride=2, padding=1, output_padding=1)
    yield _case(f, "output_padding_beyond_kernel", (2, 3), (2, 2, 2), stride=4, output_padding=3)
    yield _case(f, "output_padding_is_stride", (2, 4), (2, 2, 3), stride=2, dilation=3, output_padding=2)
    yield _case(f, "output_padding_of_dilation", (2, 4), (2, 2, 2), dilation=4, output_padding=3, padding=1)
    yield _case(f, "output_padding_twice_stride", (1, 3), (1, 2, 2), stride=2, dilation=6, output_padding=5)
    yield _case(f, "dilation", (2, 5), (2, 2, 3), dilation=2)
    yield _case(f, "groups", (4, 4), (4, 3, 3), groups=2)
    yield _case(f, "depthwise", (3, 5), (3, 1, 4), groups=3, stride=2, padding=1)
    yield _case(f, "depthwise_multiplier", (3, 4), (3, 2, 2), groups=3)
    yield _case(f, "all", (4, 5), (4, 2, 3), stride=3, padding=2, output_padding=1, groups=2, dilation=2)


def _conv_transpose2d():
    f = "conv_transpose2d"
    yield _case(f, "plain", (1, 3, 4), (1, 1, 2, 3))
    yield _case(f, "textbook", (1, 2, 2), (1, 1, 2, 2), stride=2)
    yield _case(f, "channels", (3, 3, 3), (3, 2, 3, 2))
    yield _case(f, "kernel_1", (3, 3, 4), (3, 2, 1, 1))
    yield _case(f, "stride_axes", (2, 3, 4), (2, 2, 3, 2), stride=(3, 2))
    yield _case(f, "padding_axes", (2, 4, 4), (2, 2, 2, 4), padding=(1, 2))
    yield _case(f, "output_padding", (2, 3, 3), (2, 2, 3, 3), stride=2, padding=1, output_padding=1)
    yield _case(f, "output_padding_axes", (2, 3, 3), (2, 2, 3, 2), stride=(2, 3), output_padding=(0, 2))
    yield _case(
        f, "output_padding_of_dilation", (2, 3, 3), (2, 2, 2, 2), stride=(1, 2), dilation=(3, 4), output_padding=(2, 3)
    )
    yield _case(
        f, "output_padding_mixed", (1, 3, 2), (1, 2, 3, 2), stride=(4, 1), dilation=(1, 3), output_padding=(3, 1)
    )
    yield _case(f, "dilation_axes", (2, 4, 3), (2, 2, 2, 3), dilation=(3, 2), padding=(0, 1))
    yield _case(f, "groups", (4, 3, 3), (4, 2, 2, 3), groups=2, stride=2)
    yield _case(f, "depthwise", (3, 4, 3), (3, 1, 3, 3), groups=3, padding=1)
    yield _case(
        f,
        "all",
        (4, 3, 4),
        (4, 1, 3, 2),
        stride=(2, 3),
        padding=(1, 2),
        output_padding=(1, 3),
        dilation=(2, 4),
        groups=2,
    )


def _conv_transpose3d():
    f = "conv_transpose3d"
    yield _case(f, "plain", (1, 2, 3, 2), (1, 1, 2, 2, 3))
    yield _case(f, "channels", (2, 2, 2, 3), (2, 3, 2, 1, 2))
    yield _case(f, "stride_axes", (2, 2, 3, 2), (2, 1, 2, 3, 2), stride=(1, 2, 3))
    yield _case(
        f, "output_padding_axes", (2, 2, 2, 3), (2, 1, 2, 2, 3), stride=(3, 2, 1), output_padding=(2, 1, 0), padding=1
    )
    yield _case(
        f, "output_padding_of_dilation", (1, 2, 2, 2), (1, 1, 2, 2, 1), stride=(1, 2, 1), dilation=3, output_padding=2
    )
    yield _case(f, "groups", (4, 2, 3, 2), (4, 1, 2, 2, 2), groups=2, dilation=(1, 2, 1))
    yield _case(f, "depthwise", (2, 3, 2, 3), (2, 2, 1, 2, 3), groups=2, stride=2, padding=(0, 0, 1))


def _modules():
    extended = ("circular", "reflect", "replicate")
    f = "Conv1d"
    yield _case(f, "zeros", (2, 7), (3, 2, 3), padding=1, padding_mode="zeros")
    for mode in extended:
        yield _case(f, mode, (2, 6), (3, 2, 3), padding=1, padding_mode=mode)
        yield _case(f, f"{mode}_same_even_kernel", (2, 6), (2, 2, 4), padding="same", padding_mode=mode)
        yield _case(f, f"{mode}_all", (4, 8), (2, 2, 3), padding=4, stride=3, dilation=2, groups=2, padding_mode=mode)
    yield _case(f, "circular_whole_turn", (2, 4), (1, 2, 3), padding=4, padding_mode="circular")
    yield _case(f, "reflect_widest", (2, 4), (1, 2, 4), padding=3, padding_mode="reflect")
    yield _case(f, "replicate_beyond_input", (2, 3), (1, 2, 2), padding=5, padding_mode="replicate")
    yield _case(f, "reflect_valid", (2, 6), (2, 2, 3), padding="valid", padding_mode="reflect")

    f = "Conv2d"
    yield _case(f, "zeros_same_even_kernel", (2, 4, 5), (2, 2, 2, 4), padding="same", padding_mode="zeros")
    for mode in extended:
        yield _case(f, mode, (2, 5, 4), (2, 2, 3, 3), padding=1, padding_mode=mode)
        yield _case(f, f"{mode}_axes", (2, 4, 5), (2, 2, 2, 3), padding=(0, 2), stride=(1, 2), padding_mode=mode)
        yield _case(f, f"{mode}_same_even_kernel", (2, 4, 5), (2, 2, 2, 4), padding="same", padding_mode=mode)
        yield _case(
            f,
            f"{mode}_same_dilated",
            (2, 5, 5),
            (2, 1, 2, 3),
            padding="same",
            dilation=(3, 2),
            groups=2,
            padding_mode=mode,
        )
    yield _case(f, "reflect_kernel_1", (1, 4, 4), (1, 1, 1, 1), padding=2, padding_mode="reflect")
    yield _case(f, "circular_depthwise", (3, 4, 4), (3, 1, 3, 2), padding=1, groups=3, padding_mode="circular")

    f = "Conv3d"
    yield _case(f, "zeros", (1, 3, 2, 4), (2, 1, 2, 2, 3), padding=1, padding_mode="zeros")
    for mode in extended:
        yield _case(f, mode, (1, 3, 4, 3), (2, 1, 3, 2, 2), padding=(1, 2, 0), padding_mode=mode)
        yield _case(f, f"{mode}_same_even_kernel", (1, 3, 4, 3), (1, 1, 2, 3, 4), padding="same", padding_mode=mode)

    # A transposed module takes the size of its output: convop's output_shape.
    yield _case("ConvTranspose1d", "output_size", (2, 4), (2, 3, 3), stride=3, padding=1, output_size=(12,))
    yield _case("ConvTranspose2d", "output_size", (2, 3, 3), (2, 2, 3, 2), stride=(2, 3), output_size=(8, 9))
    yield _case(
        "ConvTranspose3d", "output_size", (2, 2, 2, 2), (2, 1, 2, 2, 3), stride=2, groups=2, output_size=(5, 4, 6)
    )


def _dtypes():
    for dtype in ("float32", "complex64", "complex128"):
        yield _case("conv1d", "all", (4, 9), (2, 2, 3), dtype, stride=2, padding=3, dilation=2, groups=2)
        yield _case("conv1d", "same_even_kernel", (2, 6), (2, 2, 4), dtype, padding="same")
        yield _case("conv2d", "channels", (2, 5, 6), (3, 2, 3, 3), dtype)
        yield _case("conv2d", "all", (2, 6, 7), (4, 1, 3, 2), dtype, stride=(2, 3), padding=(1, 2), groups=2)
        yield _case("conv3d", "stride_axes", (1, 4, 3, 4), (2, 1, 2, 2, 3), dtype, stride=(2, 1, 1), padding=(1, 0, 1))
        yield _case(
            "conv_transpose1d",
            "all",
            (4, 4),
            (4, 1, 3),
            dtype,
            stride=2,
            padding=1,
            output_padding=2,
            dilation=3,
            groups=2,
        )
        yield _case("conv_transpose2d", "channels", (2, 3, 3), (2, 2, 3, 2), dtype, stride=2, output_padding=1)
        yield _case("conv_transpose3d", "dilation_axes", (1, 2, 3, 2), (1, 1, 2, 2, 2), dtype, dilation=(1, 3, 2))
        yield _case(
            "Conv1d", "reflect_same_even_kernel", (2, 6), (2, 2, 4), dtype, padding="same", padding_mode="reflect"
        )
        yield _case("Conv2d", "circular", (2, 4, 5), (2, 2, 3, 3), dtype, padding=(1, 2), padding_mode="circular")
        yield _case("Conv3d", "replicate", (1, 3, 2, 3), (1, 1, 2, 2, 3), dtype, padding=1, padding_mode="replicate")


CASES = [
    *_conv1d(),
    *_conv2d(),
    *_conv3d(),
    *_conv_transpose1d(),
    *_conv_transpose2d(),
    *_conv_transpose3d(),
    *_modules(),
    *_dtypes(),
]
