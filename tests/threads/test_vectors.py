"""The vector unit of a CPU, forced widths, and kernels of several widths side by side on disk."""

import os
import subprocess
import sys

import pytest

from convop.threads.vectors import AVX2, AVX512, FORCED_WIDTH, NEON, SSE, unit_of, vector_unit

AVX2_FEATURES = {"sse2": True, "avx": True, "avx2": True, "avx512f": False}


@pytest.mark.parametrize(
    ("machine", "features", "unit"),
    [
        ("x86_64", {"avx": True, "avx512f": True, "avx512vl": True}, AVX512),
        ("x86_64", {"avx": True, "avx512f": True, "avx512vl": False}, AVX2),  # Xeon Phi
        ("AMD64", AVX2_FEATURES, AVX2),
        ("x86_64", {"sse2": True, "avx": False}, SSE),
        ("x86_64", {}, SSE),
        ("aarch64", {"neon": True, "sve": True}, NEON),
        ("arm64", {}, NEON),
        ("ppc64le", {}, NEON),
    ],
)
def test_unit_of_a_cpu(machine, features, unit):
    assert unit_of(machine, features) == unit


@pytest.mark.parametrize(("width", "unit"), [("16", NEON), ("32", AVX2), ("64", AVX512)])
def test_width_can_be_forced(width, unit, monkeypatch):
    monkeypatch.setenv(FORCED_WIDTH, width)
    assert vector_unit.__wrapped__() == unit


@pytest.mark.parametrize("width", ["0", "8", "128", "wide", " 32"])
def test_other_widths_are_refused(width, monkeypatch):
    monkeypatch.setenv(FORCED_WIDTH, width)
    with pytest.raises(ValueError, match="CONVOP_VECTOR_BYTES must be 16, 32 or 64, got"):
        vector_unit.__wrapped__()


def test_empty_variable_means_the_width_of_this_cpu(monkeypatch):
    monkeypatch.delenv(FORCED_WIDTH, raising=False)
    own = vector_unit.__wrapped__()
    monkeypatch.setenv(FORCED_WIDTH, "")
    assert vector_unit.__wrapped__() == own


@pytest.mark.slow
@pytest.mark.parametrize("width", ["16", "32", "64"])
def test_engines_agree_with_the_oracle_at_every_width(width):
    """The tests of the compiled engines in a process with a forced width; wider vectors than the machine's are split."""
    environment = os.environ | {FORCED_WIDTH: width, "HYPOTHESIS_PROFILE": "quick"}
    tests = ["kernels", "cpu/test_guard_bytes.py", "test_oracle_agreement.py", "test_many_blocks.py"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(f"tests/engines/{name}" for name in tests),
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]
