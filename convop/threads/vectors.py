"""The vector unit that kernels are compiled for: bytes of a vector, and number of registers.

Vectors that are longer than the machine's are correct, because LLVM splits them, but they need twice the registers. So the
width is read from the host's features; the environment variable `CONVOP_VECTOR_BYTES` forces another width, with which one
machine tests the code of all of them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

FORCED_WIDTH = "CONVOP_VECTOR_BYTES"


class VectorUnit(NamedTuple):
    """A vector unit.

    Attributes
    ----------
    bytes : int
        Bytes of a vector.
    registers : int
        Number of vector registers.
    """

    bytes: int
    registers: int


NEON = VectorUnit(16, 32)
SSE = VectorUnit(16, 16)
AVX2 = VectorUnit(32, 16)
AVX512 = VectorUnit(64, 32)

_BY_WIDTH = {str(unit.bytes): unit for unit in (NEON, AVX2, AVX512)}


def unit_of(machine: str, features: Mapping[str, bool]) -> VectorUnit:
    """Returns the vector unit of a CPU.

    Parameters
    ----------
    machine : str
        As `platform.machine` gives it.
    features : mapping of str to bool
        Names of features as LLVM knows them.
    """
    if machine.lower() not in {"x86_64", "amd64", "i386", "i686", "x86"}:
        return NEON  # 128 bits and 32 registers are also those of POWER, s390x and RISC-V
    if features.get("avx512f") and features.get("avx512vl"):
        return AVX512
    return AVX2 if features.get("avx") else SSE


@cache
def vector_unit() -> VectorUnit:
    """Returns the vector unit that kernels are compiled for.

    Returns
    -------
    VectorUnit
        That of the host, or of the width that the environment variable names: 16 (NEON), 32 (AVX2) or 64 (AVX-512).

    Raises
    ------
    ValueError
        If the environment variable is none of these.
    """
    forced = os.environ.get(FORCED_WIDTH)
    if forced:
        if forced not in _BY_WIDTH:
            raise ValueError(f"{FORCED_WIDTH} must be 16, 32 or 64, got {forced!r}; unset it for the width of this CPU")
        return _BY_WIDTH[forced]
    from llvmlite import binding

    try:
        features = dict(binding.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell
        features = {}
    return unit_of(platform.machine(), features)
