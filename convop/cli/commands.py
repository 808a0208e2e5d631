"""The commands ``demo``, ``matrix``, ``info``, ``dottest``, ``deblur``, ``bench`` and ``warm-up``."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import __version__
from ..files import IMAGE_SUFFIXES, atomic_write, read_photograph, read_picture, write_picture
from ..geometry.arguments import one_of
from ..geometry.axis import PADDING_MODES
from . import arguments as args
from .console import console, one_line_errors, require_gpu, require_matplotlib, require_writable, right_aligned
from .networks import networks

if TYPE_CHECKING:
    from ..apps.demo import Problem, Recovery
    from ..geometry.spec import ConvSpec
    from ..operators.conv import Conv

app = typer.Typer(
    help="Convolution as a sparse linear map: its matrix, its operators, their exact transposes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(networks, name="deconvnet")

# `info` computes the norm up to this many entries, and the condition number up to this many rows or columns.
_NORM_MAX_ENTRIES = 2 * 10**7
_COND_MAX_SIDE = 2048
# The norm is printed with six digits.
_NORM_RTOL = 1e-8


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"convop {__version__}")
        raise typer.Exit


@app.command()
def demo(
    image: Annotated[Path | None, typer.Option(help="A photograph; the default is included in scikit-image.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("convop-demo"),
) -> None:
    """Blur and downsample a photograph, test the adjoint, recover the photograph, write pictures."""
    with one_line_errors():
        require_matplotlib()
        photograph = read_photograph(image)
        out.mkdir(parents=True, exist_ok=True)
    from ..apps.demo import psnr, simulate, upsample, write_pictures
    from ..testing import dottest

    problem = simulate(photograph)
    A = problem.A
    typer.echo(f"A blurs a {_join(A.dims)} photograph with a 9x9 kernel and keeps every second pixel: {_join(A.dimsd)}")
    typer.echo(f"A is a {A.shape[0]} x {A.shape[1]} matrix with {A.spec.nnz} entries, {_mebibytes(A.spec)} as CSR")
    typer.echo(f"adjoint test: {dottest(A)}")
    recoveries = _recover_with_progress(problem)
    table = Table("method", *right_aligned("iterations", "seconds", "PSNR (dB)"), title="recovery")
    table.add_row("data, enlarged", "", "", f"{psnr(upsample(problem), photograph):.2f}")
    for r in recoveries:
        table.add_row(r.method, str(r.iterations), f"{r.seconds:.2f}", f"{r.psnr:.2f}")
    console.print(table)
    with one_line_errors():
        for path in write_pictures(problem, recoveries, out):
            typer.echo(str(path))


def _recover_with_progress(problem: Problem) -> list[Recovery]:
    from ..apps.demo import ITERATIONS, solvers

    recoveries = []
    bar = (BarColumn(), MofNCompleteColumn(), TextColumn("iterations"), TimeElapsedColumn())
    with Progress(TextColumn("{task.description:<15}"), *bar, console=console) as progress:
        for method, solve in solvers(problem):
            task = progress.add_task(method, total=ITERATIONS[method])
            recovery = solve(partial(progress.advance, task))
            progress.update(task, total=recovery.iterations, completed=recovery.iterations)
            recoveries.append(recovery)
    return recoveries


@app.command()
def matrix(
    *,
    kernel: args.Kernel,
    shape: args.Shape,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    stride: args.Stride = "1",
    padding: args.Padding = "0",
    dilation: args.Dilation = "1",
    groups: args.Groups = 1,
    padding_mode: args.PaddingMode = "zeros",
    flip: args.Flip = False,
    dtype: args.Dtype = None,
    plot: Annotated[Path | None, typer.Option(help="The .png file for a picture of the matrix.")] = None,
) -> None:
    """Write the sparse matrix of a convolution to a file that scipy.sparse.load_npz reads."""
    with one_line_errors():
        import scipy.sparse as sp

        from ..matrix.build import kernel2matrix

        require_writable("output", output, ".npz")
        if plot is not None:
            require_matplotlib()
            require_writable("plot", plot, ".png")
        given = args.conv_arguments(kernel, shape, stride, padding, dilation, groups, padding_mode, flip, dtype)
        built = kernel2matrix(**given)
        with atomic_write(output) as file:
            sp.save_npz(file, built)
        typer.echo(f"{output}: {built.shape[0]} x {built.shape[1]}, {built.nnz} entries, {built.dtype}")
        if plot is not None:
            from .. import plot as draw

            draw.save(plot, lambda ax: draw.matrix(built, ax=ax))
            typer.echo(str(plot))


@app.command()
def info(
    kernel: args.Kernel,
    shape: args.Shape,
    stride: args.Stride = "1",
    padding: args.Padding = "0",
    dilation: args.Dilation = "1",
    groups: args.Groups = 1,
    padding_mode: args.PaddingMode = "zeros",
    flip: args.Flip = False,
    dtype: args.Dtype = None,
) -> None:
    """Show shapes, entries, memory, norm and condition number of an operator."""
    from ..operators.conv import Conv

    with one_line_errors():
        A = Conv(**args.conv_arguments(kernel, shape, stride, padding, dilation, groups, padding_mode, flip, dtype))
        spec = A.spec
        table = Table("", "", show_header=False)
        table.add_row("kernel", f"{_join(spec.kernel_shape)}, {A.dtype}")
        table.add_row("input", _join(spec.input_shape))
        table.add_row("output", _join(spec.output_shape))
        table.add_row("padding", ", ".join(f"{lo}:{hi}" for lo, hi in spec.padding) + f" {spec.padding_mode}")
        table.add_row("matrix", f"{spec.shape[0]} x {spec.shape[1]}")
        table.add_row("entries", f"{spec.nnz}, at most {-(-spec.nnz // spec.shape[0])} a row on average")
        table.add_row("memory as CSR", _mebibytes(spec, A.dtype))
        for row in zip(("norm", "condition number"), _norm_and_cond(A), strict=True):
            table.add_row(*row)
        console.print(table)


def _norm_and_cond(A: Conv) -> tuple[str, str]:
    """Format norm and condition number, or say why they are not computed."""
    from ..spectral.singular_values import dense_is_cheap
    from ..spectrum import norm

    spec = A.spec
    has_cheap_decomposition = dense_is_cheap(A)
    shown_norm = f"not computed above {_NORM_MAX_ENTRIES} entries"
    if has_cheap_decomposition or spec.nnz <= _NORM_MAX_ENTRIES:
        shown_norm = f"{norm(A, rtol=_NORM_RTOL):.6g}"
    shown_cond = f"not computed above {_COND_MAX_SIDE} rows"
    if has_cheap_decomposition or min(spec.shape) <= _COND_MAX_SIDE:
        shown_cond = f"{A.cond():.6g}"
    return shown_norm, shown_cond


@app.command()
def dottest(
    kernel: args.Kernel,
    shape: args.Shape,
    stride: args.Stride = "1",
    padding: args.Padding = "0",
    dilation: args.Dilation = "1",
    groups: args.Groups = 1,
    padding_mode: args.PaddingMode = "zeros",
    flip: args.Flip = False,
    dtype: args.Dtype = None,
    seed: Annotated[int, typer.Option(help="Seed of the random vectors.")] = 0,
) -> None:
    """Test the adjoint of an operator; exit status 0 if it is right, 1 if not."""
    from ..operators.conv import Conv
    from ..testing import dottest as test_adjoint

    with one_line_errors():
        A = Conv(**args.conv_arguments(kernel, shape, stride, padding, dilation, groups, padding_mode, flip, dtype))
        result = test_adjoint(A, rng=seed, raise_error=False)
        typer.echo(str(result))
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def deblur(
    image: Annotated[Path, typer.Argument(help="The blurred image: any file that Pillow reads, grey or in colour.")],
    kernel: Annotated[
        str,
        typer.Argument(
            help="The blur: gaussian:SIGMA, motion:LENGTH,ANGLE (pixels, degrees counterclockwise from the horizontal), "
            "or a kernel as in the other commands, taken as the point spread function: its centre is element n//2 of "
            "each axis, and it is scaled to sum 1."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The image to write: .png, .tif, .tiff, .jpg, .jpeg, .bmp or .webp.")
    ],
    padding_mode: Annotated[
        str,
        typer.Option("--padding-mode", help="Boundary: symmetric, reflect, replicate, zeros or circular."),
    ] = "symmetric",
    damp: Annotated[
        str,
        typer.Option(
            help="Damping: a number; discrepancy:NOISE for noise of this standard deviation (white is 1); "
            "discrepancy, which estimates the noise; or gcv, which fits the data best and leaves more noise in the image."
        ),
    ] = "discrepancy",
) -> None:
    """Recover an image from its blur, by Tikhonov regularisation."""
    with one_line_errors():
        require_writable("output", output, *IMAGE_SUFFIXES)
        one_of("padding_mode", padding_mode, PADDING_MODES)
        from ..apps import deblurring

        choose_damping = deblurring.parse_damping(damp)
        picture = read_picture(image)
        point_spread = deblurring.read_point_spread_function(kernel, picture.values.shape[:2])
        result = deblurring.deblur(picture, point_spread, padding_mode, choose_damping, progress=True)
        write_picture(output, result.picture)
        table = Table("", "", show_header=False)
        table.add_row("image", _join(picture.values.shape))
        table.add_row("kernel", f"{_join(point_spread.shape)}, {padding_mode} boundary")
        table.add_row("damping", f"{result.damping.value:.4g} ({result.damping.rule})")
        table.add_row("solution", result.solution.reason)
        console.print(table)
        typer.echo(str(output))
        if not result.solution.converged:
            typer.echo(f"convop: the solver did not converge: {result.solution.reason}", err=True)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Use small sizes, to check that everything runs.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of measurement.")] = 7,
    part: Annotated[
        list[str] | None,
        typer.Option(help="applying, extras, building, coding or solving; repeatable. The default is all."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit the costs that engine='auto' uses to this machine, and save them.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --calibrate: the .json file to write.")
    ] = None,
) -> None:
    """Measure engines, matrix building, sparse coding, solvers and installed peers, interleaved in one run."""
    from .. import bench as benchmarks

    with one_line_errors():
        if output is not None and not calibrate:
            raise ValueError("output is for --calibrate; to keep measurements use --json > FILE")
        if output is not None:
            require_writable("output", output, ".json")
        parts = [one_of("part", name, benchmarks.PARTS) for name in part or benchmarks.PARTS]
        if one_of("device", device, ("cpu", "gpu")) == "gpu":
            if calibrate:
                raise ValueError("calibrate is for the engines of the CPU: leave out --device gpu")
            require_gpu()
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring")

        def show(name: str) -> None:
            progress.update(task, description=name)

        if calibrate:
            costs = benchmarks.fit_costs(quick=quick, repeats=repeats, progress=show)
        else:
            results = benchmarks.run(parts, quick=quick, repeats=repeats, device=device, progress=show)
    if calibrate:
        with one_line_errors():
            typer.echo(str(benchmarks.save_costs(costs, output)))
    elif as_json:
        typer.echo(json.dumps(results.as_dict(), indent=1))
    else:
        # A table that is wider than the terminal can be scrolled.
        wide = Console(width=max(console.width, 200)) if results.applying else console
        for table in benchmarks.tables(results):
            wide.print(table)


@app.command("warm-up")
def warm_up() -> None:
    """Compile all kernels of the CPU and keep them on disk, on all cores: for images of containers."""
    from ..apps import warm_up as warming
    from ..arrays.progress import step_bar

    start = time.perf_counter()
    with one_line_errors():
        folder = warming.cache_folder()  # an error must not follow a bar
        with step_bar("groups of kernels", len(warming.JOBS)) as update:
            warming.warm_up(update)
    typer.echo(f"{folder}: all kernels, {time.perf_counter() - start:.1f} s")


def _join(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _mebibytes(spec: ConvSpec, dtype: Any = "float64") -> str:
    return f"{spec.matrix_nbytes(dtype) / 2**20:.4g} MiB"
