"""Shapes of register tiles for three vector units, worked by hand, and the machine code that LLVM makes of them."""

import re

import pytest
from llvmlite import binding, ir
from numba import types

from convop.engines.kernels import microkernels, tiles
from convop.engines.kernels.tiles import all_tiles, lanes, plane_counts, plane_runs, slack, tile_elements, tile_vectors
from convop.threads.vectors import AVX2, AVX512, NEON, SSE

UNITS = {"avx2": AVX2, "avx512": AVX512, "neon": NEON, "sse": SSE}


@pytest.mark.parametrize(
    ("unit", "shapes"),
    [
        ("avx2", {1: (8, 2), 2: (4, 1), 3: (3, 1), 4: (3, 1)}),
        ("sse", {1: (8, 2), 2: (4, 1), 3: (3, 1), 4: (3, 1)}),
        ("avx512", {1: (8, 2), 2: (4, 1), 3: (4, 1), 4: (4, 1), 6: (4, 1), 8: (3, 1)}),
        ("neon", {1: (8, 2), 2: (4, 1), 3: (4, 1), 4: (4, 1), 6: (4, 1)}),
    ],
)
def test_tile_shapes_by_number_of_registers(unit, shapes):
    unit = UNITS[unit]
    assert {planes: tuple(tile_vectors(planes, unit)) for planes in plane_counts(unit)} == shapes


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_sums_inputs_and_a_weight_fit_the_registers(unit):
    for planes in plane_counts(unit):
        vectors = tile_vectors(planes, unit).wide
        inputs = vectors if planes > 1 else 0  # used once: an operand in memory
        assert planes * vectors + inputs + 1 <= unit.registers
        assert planes * vectors >= 8


@pytest.mark.parametrize(
    ("planes", "few_registers", "many_registers"),
    [
        (0, [], []),
        (1, [1], [1]),
        (2, [2], [2]),
        (3, [3], [3]),
        (4, [4], [4]),
        (5, [3, 2], [3, 2]),
        (6, [4, 2], [6]),
        (7, [4, 3], [4, 3]),
        (8, [4, 4], [8]),
        (9, [4, 3, 2], [6, 3]),
        (11, [4, 4, 3], [8, 3]),
        (17, [4, 4, 4, 3, 2], [8, 6, 3]),
    ],
)
def test_plane_runs_are_as_long_as_tiles_and_avoid_single_planes(planes, few_registers, many_registers):
    assert plane_runs(planes, AVX2) == few_registers
    assert plane_runs(planes, AVX512) == many_registers


@pytest.mark.parametrize(
    ("unit", "float32", "float64", "widest"), [("avx2", 8, 4, 64), ("avx512", 16, 8, 128), ("neon", 4, 2, 32)]
)
def test_elements_of_tiles(unit, float32, float64, widest, monkeypatch):
    monkeypatch.setattr(tiles, "vector_unit", lambda: UNITS[unit])
    assert (lanes("float32"), lanes("float64")) == (float32, float64)
    assert tile_elements(all_tiles(), "float32") == (widest, 2 * float32)
    assert slack("float32") == 2 * widest


def machine_code(cpu, planes, vectors):
    """Returns what LLVM makes of a tile in single precision, its lanes those of `tiles.vector_unit`, for a CPU."""
    triple = CPUS[cpu][1]
    module = ir.Module("tile")
    module.triple = triple
    integer, real = ir.IntType(64), ir.FloatType().as_pointer()
    arguments = [real, integer, real, integer.as_pointer(), real, integer]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "tile")
    y, step, x, offsets, weights, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    emitter = microkernels.Emitter(builder, types.float32, planes, vectors)
    emitter.write(emitter.sum_taps(emitter.zeros(), range(planes), x, (offsets, weights, count)), y, step)
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    parsed = binding.parse_assembly(str(module))
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


CPUS = {
    "haswell": (AVX2, "x86_64-unknown-linux-gnu"),
    "znver3": (AVX2, "x86_64-unknown-linux-gnu"),
    "skylake-avx512": (AVX512, "x86_64-unknown-linux-gnu"),
    "znver5": (AVX512, "x86_64-unknown-linux-gnu"),
    "neoverse-n1": (NEON, "aarch64-unknown-linux-gnu"),
    "apple-m1": (NEON, "aarch64-unknown-linux-gnu"),
}
# A vector of a unit, multiply-adds, and what moves a vector to or from the stack.
REGISTER = {AVX2: r"%ymm\d+", AVX512: r"%zmm\d+", NEON: r"v\d+\.4s"}
FUSED = {AVX2: r"\tvfmadd\S+\t(.*)", AVX512: r"\tvfmadd\S+\t(.*)", NEON: r"\tfmla\t(.*)"}
SPILLED = r"\(%rsp\)|\(%rbp\)|\tst[rp]\tq\d+,.*\[sp"


@pytest.mark.parametrize("cpu", CPUS)
def test_sums_stay_in_registers_on_every_cpu(cpu, monkeypatch):
    """No tile keeps a vector on the stack; its multiply-adds are fused, and as wide as the vector unit."""
    unit, _ = CPUS[cpu]
    monkeypatch.setattr(tiles, "vector_unit", lambda: unit)
    for planes in plane_counts(unit):
        vectors = tile_vectors(planes, unit).wide
        code = machine_code(cpu, planes, vectors)
        fused = re.findall(FUSED[unit], code)
        assert len(fused) >= planes * vectors
        assert all(re.search(REGISTER[unit], operands) for operands in fused)
        assert not re.search(SPILLED, code), planes


@pytest.mark.parametrize(("cpu", "planes", "vectors"), [("znver3", 4, 4), ("znver5", 8, 4), ("neoverse-n1", 8, 4)])
def test_tile_with_too_many_sums_would_be_noticed(cpu, planes, vectors, monkeypatch):
    unit, _ = CPUS[cpu]
    monkeypatch.setattr(tiles, "vector_unit", lambda: unit)
    assert re.search(SPILLED, machine_code(cpu, planes, vectors))
