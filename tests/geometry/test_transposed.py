import pytest
from hypothesis import given
from strategies import cases

from convop import ConvSpec
from convop.geometry.transposed import transposed_spec


@given(cases())
def test_transposed_spec_of_output_shape_is_the_spec(case):
    """Every convolution's output leads back to it by its input's shape, and by the output padding."""
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    back = transposed_spec(spec.output_shape, case.kernel.shape, output_shape=spec.input_shape, **case.parameters)
    assert back == spec


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"output_shape": (4, 11), "stride": 2},
            r"output_shape must be one of \(4, 9\), \(4, 10\) \(stride \(2,\)\), got \(4, 11\)",
        ),
        ({"output_shape": (3, 9), "stride": 2}, r"output_shape must be one of \(4, 9\)"),
        ({"output_shape": (9,), "stride": 2}, "output_shape must be one of"),
        ({"output_shape": (4, 9), "output_padding": 1, "stride": 2}, "not both"),
        ({"output_shape": (4, 62), "stride": 101}, r"4 channels, \[303..402\]|4 channels, \[\d+..\d+\]"),
        (
            {"output_padding": 2, "stride": 2},
            r"output_padding must be smaller than the stride or the dilation.* \(4, 9\), \(4, 10\)",
        ),
        ({"output_padding": 1, "padding": "same"}, "output_padding must be smaller than the stride, got"),
        ({"output_padding": -1}, "output_padding must be at least 0"),
        ({"padding": 4}, r"would have the output \(4, -2\): padding 4 crops it away"),
        ({"groups": 3}, "divisible by groups=3"),
    ],
)
def test_transposed_spec_refuses_bad_geometry(parameters, message):
    with pytest.raises(ValueError, match=message):
        transposed_spec((2, 4), (2, 4, 3), **parameters)


def test_transposed_spec_error_names_layout_of_transpose():
    with pytest.raises(ValueError, match=r"\(c_in, c_out/groups, \*taps\): expected c_in = 5"):
        transposed_spec((5, 4), (2, 4, 3))
