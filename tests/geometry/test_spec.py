import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from strategies import cases

from convop import ConvSpec


def test_specs_of_equal_geometry_are_equal_and_hashable():
    named = ConvSpec((9, 8), (3, 4), stride=2, padding="same")
    written_out = ConvSpec([9, 8], np.array([3, 4]), stride=[2, 2], padding=((1, 1), (1, 1)), dilation=(1, 1))
    assert named == written_out
    assert hash(named) == hash(written_out)
    assert named != ConvSpec((9, 8), (3, 4), stride=2, padding="same", padding_mode="circular")
    assert pickle.loads(pickle.dumps(named)) == named
    assert pickle.loads(pickle.dumps(named)).nnz == named.nnz


def test_parameters_accept_arrays_without_axes():
    one = np.array(1)
    assert ConvSpec(np.array(9), np.array(3), stride=np.array(2), padding=one, dilation=one) == ConvSpec(
        9, 3, stride=2, padding=1
    )
    assert ConvSpec((9, 9), (3, 3), padding=(one, (one, 2))).padding == ((1, 1), (1, 2))


def test_dataclasses_replace_changes_a_field():
    spec = ConvSpec((9, 8), (3, 4), padding="same")
    assert dataclasses.replace(spec, stride=2) == ConvSpec((9, 8), (3, 4), padding=spec.padding, stride=2)


def test_matrix_nbytes_refuses_unsupported_dtype():
    with pytest.raises(TypeError, match="dtype must be one of float32"):
        ConvSpec((3,), (2,)).matrix_nbytes("int8")


def test_spec_is_frozen():
    with pytest.raises(AttributeError):
        ConvSpec((3, 3), (2, 2)).stride = (2, 2)


@given(cases())
def test_repr_evaluates_to_the_same_spec(case):
    spec = ConvSpec(case.input_shape, case.kernel.shape, **case.parameters)
    assert eval(repr(spec)) == spec
    assert ConvSpec(spec.input_shape, spec.kernel_shape, **spec.parameters()) == spec


@pytest.mark.parametrize(
    ("n", "k", "s", "d"), [(7, 3, 2, 1), (8, 3, 2, 1), (5, 2, 1, 1), (5, 4, 3, 2), (4, 1, 3, 1), (10, 9, 1, 3)]
)
def test_same_padding_gives_ceil_outputs_with_odd_element_at_end(n, k, s, d):
    spec = ConvSpec((n,), (k,), stride=s, dilation=d, padding="same")
    assert spec.output_shape == (-(-n // s),)
    ((lo, hi),) = spec.padding
    assert 0 <= hi - lo <= 1


def test_full_padding_reads_every_input_once_per_tap():
    assert ConvSpec((5,), (3,), dilation=2, padding="full").output_shape == (9,)
    assert ConvSpec((5, 6), (3, 2), padding="full").nnz == 5 * 3 * 6 * 2


@pytest.mark.parametrize(
    ("arguments", "parameters", "error", "message"),
    [
        (((), (2,)), {}, ValueError, "input_shape must have at least one axis"),
        (((0, 3), (1, 1)), {}, ValueError, r"input_shape must .* sizes of at least 1, got \(0, 3\)"),
        (((3, 3), (2, 0)), {}, ValueError, r"kernel_shape must .* got \(2, 0\)"),
        (((3.0, 3), (2, 2)), {}, TypeError, "input_shape must be an integer, got 3.0 of type float"),
        (((True, 3), (2, 2)), {}, TypeError, "input_shape must be an integer, got the bool True"),
        (("33", (2, 2)), {}, TypeError, "input_shape must be an integer, got '33'"),
        (((3, 3), (2,)), {}, ValueError, r"kernel_shape \(2,\) does not go with input_shape \(3, 3\)"),
        (((3,), (2, 2)), {}, ValueError, r"kernel_shape \(2, 2\) does not go with input_shape \(3,\)"),
        (((3, 3), (1, 1, 1, 1)), {}, ValueError, "does not go with"),
        (((2, 9), (4, 3, 3)), {}, ValueError, r"takes 3 input channels, but input_shape \(2, 9\) has 2"),
        (((4, 9), (4, 4, 3)), {"groups": 2}, ValueError, r"takes 8 input channels.*expected kernel_shape\[1\] == 4/2"),
        (((4, 9), (3, 2, 3)), {"groups": 2}, ValueError, "groups=2 must divide the input's 4 and the kernel's 3"),
        (((3, 9), (2, 1, 3)), {"groups": 2}, ValueError, "groups=2 must divide the input's 3"),
        (((9,), (3,)), {"groups": 2}, ValueError, "groups=2 needs channel axes"),
        (((9,), (3,)), {"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        (((9,), (3,)), {"groups": 1.5}, TypeError, "groups must be an integer"),
        (((9,), (3,)), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        (((9, 9), (3, 3)), {"stride": (1, -2)}, ValueError, "stride must be at least 1"),
        (((9, 9), (3, 3)), {"stride": (1, 2, 3)}, ValueError, r"stride must be one integer or 2 .* got \(1, 2, 3\)"),
        (((9, 9), (3, 3)), {"dilation": (1,)}, ValueError, "dilation must be one integer or 2"),
        (((9, 9), (3, 3)), {"dilation": 1.0}, TypeError, "dilation must be an integer"),
        (
            ((9, 9), (3, 3)),
            {"padding": "SAME"},
            ValueError,
            "padding must be numbers or one of valid, same, full; got 'SAME'",
        ),
        (((9, 9), (3, 3)), {"padding": (1, 2, 3)}, ValueError, "padding must be one integer, 2 integers or 2"),
        (((9,), (3,)), {"padding": (1, 2)}, ValueError, r"for one axis with two ends write \(\(1, 2\),\)"),
        (((9, 9), (3, 3)), {"padding": ((1, 2, 3), 0)}, ValueError, "padding of one axis must be an integer or a pair"),
        (((9, 9), (3, 3)), {"padding": 0.5}, TypeError, "padding must be an integer, got 0.5"),
        (((9, 9), (3, 3)), {"padding": None}, TypeError, "padding must be an integer, got None"),
        (
            ((9, 9), (3, 3)),
            {"padding_mode": "wrap"},
            ValueError,
            "padding_mode must be one of zeros, circular, reflect",
        ),
        (((9, 9), (3, 3)), {"padding_mode": ["zeros"]}, ValueError, "padding_mode must be one of"),
        (
            ((9, 2), (3, 3)),
            {},
            ValueError,
            r"does not fit spatial axis 1: it reaches over 3 elements .* the axis has 2",
        ),
        (((9, 9), (3, 3)), {"dilation": 5}, ValueError, "reaches over 11 elements"),
        (((9,), (3,)), {"padding": ((-4, -3),)}, ValueError, r"the axis has 2 \(9 inputs, padding \(-4, -3\)\)"),
        (((2**62,), (3,)), {}, ValueError, "axis 0 is too large"),
    ],
)
def test_bad_geometry_is_refused_with_figures(arguments, parameters, error, message):
    with pytest.raises(error, match=message):
        ConvSpec(*arguments, **parameters)
