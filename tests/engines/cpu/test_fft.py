"""The kinds of transforms of the fft engine, and its kernels that do not fit in memory."""

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import TRANSFORM_KINDS, with_transforms

import convop
from convop import Conv, ConvSpec
from convop.engines.cpu.columns import ColumnCut, ColumnGeometry
from convop.engines.cpu.fft import FftEngine, cheapest_transforms
from convop.engines.cpu.transforms import TransformGeometry, TransformLengths
from convop.engines.cpu.tuning import Tuning

DOUBLE = np.dtype(float)


@pytest.mark.parametrize("kind", TRANSFORM_KINDS)
@pytest.mark.parametrize("adjoint", [False, True])
def test_cheapest_transforms_takes_the_one_kind_of_a_tuning(kind, adjoint):
    spec = ConvSpec((300, 200), (21, 20), padding="same")
    found = cheapest_transforms(spec, adjoint, DOUBLE, with_transforms(kind))
    assert isinstance(found, ColumnCut if kind == "first axis" else TransformLengths)
    engine = FftEngine(spec, np.ones((21, 20)), with_transforms(kind))
    geometry = engine._build_geometry(adjoint, DOUBLE)
    assert isinstance(geometry, ColumnGeometry if kind == "first axis" else TransformGeometry)


def test_cheapest_transforms_compares_predicted_times():
    spec, tuning = ConvSpec((300, 200), (21, 20), padding="same"), Tuning.packaged()
    columns = replace(tuning, columns=replace(tuning.columns, step=1e9))
    assert isinstance(cheapest_transforms(spec, False, DOUBLE, columns), TransformLengths)
    whole = replace(tuning, transforms=replace(tuning.transforms, byte=1e9))
    assert isinstance(cheapest_transforms(spec, False, DOUBLE, whole), ColumnCut)


@pytest.mark.parametrize(
    "spec", [ConvSpec(50, 7), ConvSpec((50, 50), (1, 7)), ConvSpec((50, 50), (3, 3), stride=(3, 1))]
)
def test_transforms_along_all_axes_where_the_first_has_nothing_to_transform(spec):
    """A signal, one tap along the first axis, and taps that are no further apart than the stride."""
    assert isinstance(cheapest_transforms(spec, False, DOUBLE, with_transforms("first axis")), TransformLengths)


def test_transformed_kernel_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    A = Conv(np.ones((40, 40, 3, 3)), (40, 50, 50), engine="fft")
    with pytest.raises(MemoryError, match=r"the transformed kernel of ConvSpec.*engine 'fft'.* only 976.6 KiB"):
        A @ np.ones(A.dims)


@pytest.mark.parametrize("kind", TRANSFORM_KINDS)
def test_each_kind_of_transformed_kernel_that_does_not_fit_is_refused(kind, monkeypatch):
    monkeypatch.setattr(convop.arrays.memory, "available", lambda: 10**6)
    engine = FftEngine(ConvSpec((40, 50, 50), (40, 40, 3, 3)), np.ones((40, 40, 3, 3)), with_transforms(kind))
    with pytest.raises(MemoryError, match=r"the transformed kernel of ConvSpec.*engine 'fft'.* only 976.6 KiB"):
        engine.forward(np.ones(40 * 50 * 50))
