"""The command line: parse, call, print. Bad input is one line on standard error and exit status 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import __version__
from ..files import IMAGE_SUFFIXES, read_kernel, read_photograph, read_picture, write_image, write_picture, written
from ..geometry.arguments import one_of
from ..geometry.axis import PADDING_MODES
from ..geometry.spec import ConvSpec
from .console import console, one_line_errors, require_gpu, require_matplotlib, require_writable
from .networks import networks

if TYPE_CHECKING:
    from ..apps.demo import Problem, Recovery
    from ..operators.conv import Conv

__all__ = ["app"]

app = typer.Typer(
    help="Convolution as a sparse linear map: its matrix, its operators, their exact transposes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Above these sizes, figures that need a decomposition are left out of `info`.
_NORM_ENTRIES = 2 * 10**7
# Six digits are shown of the norm.
_NORM_RTOL = 1e-8
_COND_SIDE = 2048

KernelArgument = Annotated[
    str, typer.Argument(help="Kernel: a .npy, .csv or .txt file, or the numbers themselves, as [[1,2],[3,4]].")
]
ShapeOption = Annotated[str, typer.Option("--shape", help="Input shape: 64,64, or with channels 3,64,64.")]
StrideOption = Annotated[str, typer.Option(help="One number, or one per axis: 2 or 2,1.")]
PaddingOption = Annotated[str, typer.Option(help="1, or per axis 1,2, or pairs 0:1,2:3, or valid, same, full.")]
DilationOption = Annotated[str, typer.Option(help="One number, or one per axis.")]
GroupsOption = Annotated[int, typer.Option(help="Groups of channels that do not mix.")]
ModeOption = Annotated[str, typer.Option("--padding-mode", help="zeros, circular, reflect, symmetric, replicate.")]
FlipOption = Annotated[bool, typer.Option("--flip", help="Flip the kernel: the convolution of signal processing.")]
DtypeOption = Annotated[str | None, typer.Option(help="float32, float64, complex64 or complex128.")]


app.add_typer(networks, name="deconvnet")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"convop {__version__}")
        raise typer.Exit


@app.command()
def demo(
    image: Annotated[Path | None, typer.Option(help="A photograph; by default one that scikit-image brings.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("convop-demo"),
) -> None:
    """Blur and downsample a photograph, test the adjoint, recover the photograph, write pictures."""
    with one_line_errors():
        require_matplotlib()
        photograph = read_photograph(image)
        out.mkdir(parents=True, exist_ok=True)
    from ..apps import demo as demonstration
    from ..testing import dottest

    problem = demonstration.observe(photograph)
    A = problem.A
    typer.echo(f"A blurs a {_by(A.dims)} photograph with a 9x9 kernel and keeps every second pixel: {_by(A.dimsd)}")
    typer.echo(f"A is a {A.shape[0]} x {A.shape[1]} matrix with {A.spec.nnz} entries, {_mib(A.spec)} as CSR")
    typer.echo(f"adjoint test: {dottest(A)}")
    recoveries = []
    with Progress(
        TextColumn("{task.description:<15}"), BarColumn(), MofNCompleteColumn(), TextColumn("iterations"),
        TimeElapsedColumn(), console=console,
    ) as progress:  # fmt: skip
        for method, solve in demonstration.solvers(problem):
            task = progress.add_task(method, total=demonstration.ITERATIONS[method])
            recovery = solve(partial(progress.advance, task))
            progress.update(task, total=recovery.iterations, completed=recovery.iterations)
            recoveries.append(recovery)
    table = Table("method", *(_right("iterations", "seconds", "PSNR (dB)")), title="recovery")
    before = demonstration.psnr(demonstration.enlarged(problem), photograph)
    table.add_row("data, enlarged", "", "", f"{before:.2f}")
    for r in recoveries:
        table.add_row(r.method, str(r.iterations), f"{r.seconds:.2f}", f"{r.psnr:.2f}")
    console.print(table)
    with one_line_errors():
        for path in _demo_pictures(problem, recoveries, out):
            typer.echo(str(path))


@app.command()
def matrix(
    kernel: KernelArgument,
    shape: ShapeOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    stride: StrideOption = "1",
    padding: PaddingOption = "0",
    dilation: DilationOption = "1",
    groups: GroupsOption = 1,
    padding_mode: ModeOption = "zeros",
    flip: FlipOption = False,
    dtype: DtypeOption = None,
    plot: Annotated[Path | None, typer.Option(help="A .png file for the matrix's picture.")] = None,
) -> None:
    """Write the sparse matrix of a convolution to a file that scipy.sparse.load_npz reads."""
    with one_line_errors():
        import scipy.sparse as sp

        from ..matrix.build import kernel2matrix

        require_writable("output", output, ".npz")
        if plot is not None:
            require_matplotlib()
            require_writable("plot", plot, ".png")
        parameters = _parameters(stride, padding, dilation, groups, padding_mode)
        built = kernel2matrix(read_kernel(kernel), _numbers("shape", shape), flip=flip, dtype=dtype, **parameters)
        with written(output) as file:
            sp.save_npz(file, built)
        typer.echo(f"{output}: {built.shape[0]} x {built.shape[1]}, {built.nnz} entries, {built.dtype}")
        if plot is not None:
            from .. import plot as draw

            draw.save(plot, lambda ax: draw.matrix(built, ax=ax))
            typer.echo(str(plot))


@app.command()
def info(
    kernel: KernelArgument,
    shape: ShapeOption,
    stride: StrideOption = "1",
    padding: PaddingOption = "0",
    dilation: DilationOption = "1",
    groups: GroupsOption = 1,
    padding_mode: ModeOption = "zeros",
    flip: FlipOption = False,
    dtype: DtypeOption = None,
) -> None:
    """Show shapes, entries, memory, norm and condition number of an operator."""
    from ..spectral.singular_values import affordable
    from ..spectrum import norm

    with one_line_errors():
        A = _operator(kernel, shape, stride, padding, dilation, groups, padding_mode, flip, dtype)
        spec = A.spec
        table = Table("", "", show_header=False)
        table.add_row("kernel", f"{_by(spec.kernel_shape)}, {A.dtype}")
        table.add_row("input", _by(spec.input_shape))
        table.add_row("output", _by(spec.output_shape))
        table.add_row("padding", ", ".join(f"{lo}:{hi}" for lo, hi in spec.padding) + f" {spec.padding_mode}")
        table.add_row("matrix", f"{spec.shape[0]} x {spec.shape[1]}")
        table.add_row("entries", f"{spec.nnz}, at most {-(-spec.nnz // spec.shape[0])} a row on average")
        table.add_row("memory as CSR", _mib(spec, A.dtype))
        blocks = affordable(A)
        small = blocks or spec.nnz <= _NORM_ENTRIES
        table.add_row(
            "norm", f"{norm(A, rtol=_NORM_RTOL):.6g}" if small else f"not computed above {_NORM_ENTRIES} entries"
        )
        small = blocks or min(spec.shape) <= _COND_SIDE
        table.add_row("condition number", f"{A.cond():.6g}" if small else f"not computed above {_COND_SIDE} rows")
        console.print(table)


@app.command()
def dottest(
    kernel: KernelArgument,
    shape: ShapeOption,
    stride: StrideOption = "1",
    padding: PaddingOption = "0",
    dilation: DilationOption = "1",
    groups: GroupsOption = 1,
    padding_mode: ModeOption = "zeros",
    flip: FlipOption = False,
    dtype: DtypeOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the random vectors.")] = 0,
) -> None:
    """Test the adjoint of an operator; exit status 0 if it is right, 1 if not."""
    from ..testing import dottest as test

    with one_line_errors():
        A = _operator(kernel, shape, stride, padding, dilation, groups, padding_mode, flip, dtype)
        result = test(A, rng=seed, raise_error=False)
        typer.echo(str(result))
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def deblur(
    image: Annotated[Path, typer.Argument(help="The blurred image: any file that Pillow reads, grey or in colour.")],
    kernel: Annotated[
        str,
        typer.Argument(
            help="The blur: gaussian:SIGMA or motion:LENGTH,ANGLE in pixels and degrees, or a kernel as in the other "
            "commands: the picture of a point of light, scaled to sum 1, with its centre at element n//2 of each axis. "
            "Angles are counterclockwise from the horizontal."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The image to write: .png, .tif, .tiff, .jpg, .jpeg, .bmp or .webp.")
    ],
    padding_mode: Annotated[
        str,
        typer.Option(
            "--padding-mode", help="What lies beyond the image: symmetric, reflect, replicate, zeros, circular."
        ),
    ] = "symmetric",
    damp: Annotated[
        str,
        typer.Option(
            help="The damping: a number; discrepancy:NOISE for noise of this standard deviation, where white is 1; "
            "discrepancy, with the noise estimated; or gcv, which fits the data best and leaves more noise in the image."
        ),
    ] = "discrepancy",
) -> None:
    """Recover an image from its blur, by Tikhonov regularisation."""
    with one_line_errors():
        require_writable("output", output, *IMAGE_SUFFIXES)
        one_of("padding_mode", padding_mode, PADDING_MODES)
        from ..apps import deblurring

        choose = deblurring.parsed_damping(damp)
        picture = read_picture(image)
        point = deblurring.point_spread(kernel, picture.values.shape[:2])
        recovered = deblurring.deblurred(picture, point, padding_mode, choose, progress=True)
        write_picture(output, recovered.picture)
        table = Table("", "", show_header=False)
        table.add_row("image", f"{_by(picture.values.shape)}")
        table.add_row("kernel", f"{_by(point.shape)}, {padding_mode} boundary")
        table.add_row("damping", f"{recovered.damping.value:.4g} ({recovered.damping.how})")
        table.add_row("solution", recovered.solution.reason)
        console.print(table)
        typer.echo(str(output))
        if not recovered.solution.converged:
            typer.echo(f"convop: the image is not what was asked for: {recovered.solution.reason}", err=True)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that it runs.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements per line.")] = 7,
    part: Annotated[
        list[str] | None, typer.Option(help="applying, extras, building or coding; all of them unless given.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure what engine='auto' goes by on this machine, and keep it.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="With --calibrate: the .json file to write.")
    ] = None,
) -> None:
    """Measure engines, matrix building, sparse coding and installed peers, in turn in one run."""
    from .. import bench as measure

    with one_line_errors():
        if output is not None and not calibrate:
            raise ValueError("output is for --calibrate; to keep measurements use --json > FILE")
        if output is not None:
            require_writable("output", output, ".json")
        parts = [one_of("part", name, measure.PARTS) for name in part or measure.PARTS]
        if one_of("device", device, ("cpu", "gpu")) == "gpu":
            if calibrate:
                raise ValueError("calibrate is for the engines of the CPU: leave out --device gpu")
            require_gpu()
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring")
        show = partial(progress.update, task)
        if calibrate:
            costs = measure.calibrated(quick=quick, repeats=repeats, progress=lambda name: show(description=name))
        else:
            results = measure.run(
                parts, quick=quick, repeats=repeats, device=device, progress=lambda name: show(description=name)
            )
    if calibrate:
        with one_line_errors():
            typer.echo(str(measure.keep_costs(costs, output)))
    elif as_json:
        typer.echo(json.dumps(results.as_dict(), indent=1))
    else:
        # Wide tables are for scrolling where the terminal is narrow or there is none.
        wide = Console(width=max(console.width, 200)) if results.applying else console
        for table in measure.tables(results):
            wide.print(table)


def _demo_pictures(problem: Problem, recoveries: list[Recovery], out: Path) -> Iterator[Path]:
    """The photograph, the data, what each solver recovered, all of them side by side, and the matrix."""
    from .. import plot as draw
    from ..apps.demo import blur_kernel, enlarged
    from ..operators.conv import Conv

    pictures = {"photograph": problem.photograph, "data": problem.data}
    pictures |= {f"recovered-{r.method.split()[0].lower()}": r.image for r in recoveries}
    for name, image in pictures.items():
        yield write_image(out / f"{name}.png", image)
    panels = [("photograph", problem.photograph), ("data, enlarged", enlarged(problem))]
    panels += [(f"{r.method}, {r.psnr:.2f} dB", r.image) for r in recoveries]

    def side_by_side(*axes: Any) -> None:
        for ax, (title, image) in zip(axes, panels, strict=True):
            draw.image(image, ax=ax).set_title(title)

    yield draw.save(out / "overview.png", side_by_side, panels=len(panels), size=(4 * len(panels), 4.3))
    # The same convolution on a small image, where single entries can be seen.
    small = Conv(blur_kernel(), (16, 16), **{**problem.A.spec.parameters(), "padding": "same"})

    def structure(ax: Any) -> None:
        draw.matrix(small, ax=ax).set_title("the matrix of the same convolution of a 16x16 image")

    yield draw.save(out / "matrix.png", structure, size=(10, 3.6))


def _operator(
    kernel: str, shape: str, stride: str, padding: str, dilation: str, groups: int, padding_mode: str, flip: bool,
    dtype: str | None,
) -> Conv:  # fmt: skip
    from ..operators.conv import Conv

    parameters = _parameters(stride, padding, dilation, groups, padding_mode)
    return Conv(read_kernel(kernel), _numbers("shape", shape), flip=flip, dtype=dtype, **parameters)


def _parameters(stride: str, padding: str, dilation: str, groups: int, padding_mode: str) -> dict[str, Any]:
    return {
        "stride": _one_or_all(_numbers("stride", stride)),
        "padding": _padding(padding),
        "dilation": _one_or_all(_numbers("dilation", dilation)),
        "groups": groups,
        "padding_mode": padding_mode,
    }


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.strip("()[] ").split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{name} must be integers separated by commas, got {text!r}") from None


def _one_or_all(numbers: tuple[int, ...]) -> int | tuple[int, ...]:
    return numbers[0] if len(numbers) == 1 else numbers


def _padding(text: str) -> Any:
    if text.isalpha():
        return text
    if ":" not in text:
        return _one_or_all(_numbers("padding", text))
    pairs = [_numbers("padding", part.replace(":", ",")) for part in text.split(",")]
    return tuple(pair * 2 if len(pair) == 1 else pair for pair in pairs)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _mib(spec: ConvSpec, dtype: Any = "float64") -> str:
    return f"{spec.matrix_nbytes(dtype) / 2**20:.4g} MiB"


def _right(*names: str) -> list[Any]:
    from rich.table import Column

    return [Column(name, justify="right") for name in names]
