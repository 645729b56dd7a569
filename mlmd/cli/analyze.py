"""``mlmd analyze`` and ``mlmd report``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.analysis import FOLDER
from mlmd.cli import Group
from mlmd.errors import InputError
from mlmd.units import parse

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis import Result
    from mlmd.analysis.arrhenius import ArrheniusResult
    from mlmd.analysis.diffusion import DiffusionResult
    from mlmd.analysis.estimate import Estimate
    from mlmd.analysis.free_energy import FreeEnergy
    from mlmd.analysis.rdf import RDFResult
    from mlmd.io.frames import Trajectory


class Time(click.ParamType):
    """A time with a unit, in fs; a bare number is fs."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        return parse(value, "time")


def trajectory_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which frames of which run."""
    options = (
        click.argument("run", type=click.Path(path_type=Path)),
        click.option(
            "--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with frames]."
        ),
        click.option("--from", "first_time", type=Time(), help='Leave out frames before, e.g. "20 ps" of the run.'),
        click.option("--to", "last_time", type=Time(), help="Leave out frames after."),
        click.option("--element", "elements", multiple=True, help="Only this element (may be repeated)."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."),
        click.option("--out", type=click.Path(path_type=Path), help="Folder for the files [default: RUN/analysis]."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=Group)
def analyze() -> None:
    """Properties of a run, with error bars. Results are written into RUN/analysis."""


@analyze.command()
@trajectory_options
@click.option(
    "--charges", multiple=True, metavar="ELEMENT=CHARGE", help='For the conductivity, e.g. "Li=1" (repeatable).'
)
@click.option(
    "--drift", multiple=True, default=("cell",), show_default=True,
    help='What is at rest: "cell", "none", or elements, e.g. "P,S" (repeatable).',
)  # fmt: skip
def diffusion(
    run: Path, stage: int | None, first_time: float | None, last_time: float | None, elements: tuple[str, ...],
    as_json: bool, out: Path | None, charges: tuple[str, ...], drift: tuple[str, ...],
) -> None:  # fmt: skip
    """Diffusion coefficients of RUN, and its conductivity where charges are given."""
    from mlmd.analysis.diffusion import diffusion as compute

    by_element, rest = _charges(charges), _drift(drift)
    trajectory = _open(run, stage, first_time, last_time)
    result = compute(trajectory, elements=elements or None, charges=by_element, drift=rest)
    _hand_out(result, out or run / FOLDER, as_json, lambda: _diffusion_table(result), _diffusion_notes(result))


@analyze.command()
@trajectory_options
@click.option("--r-max", default=10.0, show_default=True, help="Å; may be larger than half the cell.")
@click.option("--bin", "bin_width", default=0.05, show_default=True, help="Å.")
def rdf(
    run: Path, stage: int | None, first_time: float | None, last_time: float | None, elements: tuple[str, ...],
    as_json: bool, out: Path | None, r_max: float, bin_width: float,
) -> None:  # fmt: skip
    """Radial distribution functions of RUN, of every pair of elements."""
    from mlmd.analysis.rdf import rdf as compute

    trajectory = _open(run, stage, first_time, last_time)
    result = compute(trajectory, elements=elements or None, r_max=r_max, bin_width=bin_width)
    _hand_out(result, out or run / FOLDER, as_json, lambda: _rdf_table(result), result.notes)


def _numbers(
    context: click.Context | None, parameter: click.Parameter, text: str | None, number: type = float
) -> tuple[Any, ...]:
    """``2,-180`` as numbers."""
    try:
        found = tuple(number(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"{parameter.opts[0]} {text}: numbers with commas between are needed.") from None
    if not all(math.isfinite(one) for one in found):
        raise InputError(f"{parameter.opts[0]} {text}: finite numbers are needed.")
    return found


def _counts(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    return _numbers(context, parameter, text, int)


class Temperature(click.ParamType):
    """A temperature, in K."""

    name = "temperature"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        kelvin = parse(value, "temperature")
        if kelvin <= 0.0:
            raise InputError(f"--temperature {value}: a temperature above 0 K is needed.")
        return kelvin


_FILE = click.Path(path_type=Path)


@analyze.command()
@click.argument("runs", nargs=-1, type=_FILE, metavar="[RUN]...")
@click.option(
    "--method", help="hills, kernels, state, abf, reweight, umbrella or work [default: what the bias is for]."
)
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with a bias].")
@click.option("--cv", "variables", multiple=True, help="Column of COLVAR, to reweight along it (may be repeated).")
@click.option("--from", "first_time", type=Time(), help="Leave out what is before [default: a quarter where it must].")
@click.option("--to", "last_time", type=Time(), help="Leave out what is after.")
@click.option("--min", "low", callback=_numbers, help="Lower ends of the grid, as shown in the table: 2,-180.")
@click.option("--max", "high", callback=_numbers, help="Upper ends.")
@click.option("--bins", callback=_counts, help="Bins of each variable: 100,72.")
@click.option("--temperature", type=Temperature(), help="Where the run has no thermostat, or for files.")
@click.option("--hills", type=_FILE, multiple=True, help="A file of another program (of each walker).")
@click.option("--kernels", type=_FILE, help="Likewise.")
@click.option("--state", type=_FILE, help="Likewise.")
@click.option("--colvar", type=_FILE, multiple=True, help="Likewise.")
@click.option("--abf", type=_FILE, help="abf.dat without its run.")
@click.option("--plumed", type=_FILE, help="PLUMED input of such files, or of a run whose own is gone.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")
@click.option("--out", type=_FILE, help="Folder for the files [default: RUN/analysis].")
def fes(
    runs: tuple[Path, ...], method: str | None, stage: int | None, variables: tuple[str, ...],
    first_time: float | None, last_time: float | None, low: tuple[float, ...], high: tuple[float, ...],
    bins: tuple[int, ...], temperature: float | None, hills: tuple[Path, ...], kernels: Path | None,
    state: Path | None, colvar: tuple[Path, ...], abf: Path | None, plumed: Path | None, as_json: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Free energy of RUN along what was biased; of several (windows, walkers of ABF, steered runs) together."""
    from mlmd.analysis.fes import Files, biased_files, free_energy
    from mlmd.analysis.fes import fes as compute
    from mlmd.analysis.grid import Grid

    grid, files = Grid(low, high, bins), Files(hills, kernels, state, abf, colvar, plumed)
    foreign = any((hills, kernels, state, colvar, abf))
    options: dict[str, Any] = {"method": method, "variables": variables, "grid": grid}
    options |= {"first_time": first_time, "last_time": last_time}
    if foreign and runs:
        raise InputError("give run folders, or files of another program, not both.")
    if foreign:
        result = free_energy([biased_files(files, temperature)], **options)
    else:
        result = compute(runs, stage=stage, temperature=temperature, plumed=plumed, **options)
    folder = out or (runs[0] / FOLDER if runs else Path(FOLDER))
    _hand_out(result, folder, as_json, lambda: _fes_table(result), _fes_notes(result))


@analyze.command()
@click.argument("runs", nargs=-1, type=_FILE, metavar="[RUN]...")
@click.option("--table", type=_FILE, help="Values from elsewhere: T [K], D [cm²/s], error.")
@click.option("--element", "elements", multiple=True, help="Only this element (may be repeated).")
@click.option(
    "--charges", multiple=True, metavar="ELEMENT=CHARGE", help='For the conductivity, e.g. "Li=1" (repeatable).'
)
@click.option(
    "--drift", multiple=True, default=("cell",), show_default=True,
    help='What is at rest: "cell", "none", or elements, e.g. "P,S" (repeatable).',
)  # fmt: skip
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with frames].")
@click.option("--from", "first_time", type=Time(), help='Leave out frames before, e.g. "20 ps" of each run.')
@click.option("--to", "last_time", type=Time(), help="Leave out frames after.")
@click.option(
    "--at", type=Temperature(), multiple=True, default=("300 K",), show_default=True,
    help="Temperature for which values are predicted (may be repeated).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")
@click.option("--out", type=_FILE, help="Folder for the files [default: analysis in the RUN that is given alone].")
def arrhenius(
    runs: tuple[Path, ...], table: Path | None, elements: tuple[str, ...], charges: tuple[str, ...],
    drift: tuple[str, ...], stage: int | None, first_time: float | None, last_time: float | None,
    at: tuple[float, ...], as_json: bool, out: Path | None,
) -> None:  # fmt: skip
    """Activation energies of diffusion and conductivity, from RUNs at several temperatures.

    A RUN is a run folder, or a folder of replicas. One line, two regimes and Vogel–Tammann–Fulcher are fitted; another
    law than one line is chosen only where the errors leave no doubt.
    """
    from mlmd.analysis.arrhenius import arrhenius as compute
    from mlmd.analysis.arrhenius import read_table

    if (table is None) == (not runs):
        raise InputError("give run folders or a folder of them, or --table FILE.")
    if table is not None:
        result = read_table(table, at=at)
    else:
        result = compute(
            runs, elements=elements or None, charges=_charges(charges), drift=_drift(drift), stage=stage,
            first_time=first_time, last_time=last_time, at=at,
        )  # fmt: skip
    folder = out or (runs[0] / FOLDER if len(runs) == 1 else Path(FOLDER))
    _hand_out(result, folder, as_json, lambda: _arrhenius_table(result), _arrhenius_notes(result))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page [default: RUN].")
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON, and nothing else.")
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Write RUN/report.html: one page that needs no other file.

    It shows the analyses that the input asks for, and those that have been done.
    """
    import json

    from mlmd.report import write_report
    from mlmd.rundir import open_run

    path = write_report(open_run(run), out)
    click.echo(json.dumps({"report": str(path)}) if as_json else f"Report: {path}")


def _open(run: Path, stage: int | None, first_time: float | None, last_time: float | None) -> Trajectory:
    from mlmd.io.trajectories import open_run

    return open_run(run, stage, first_time, last_time)


def _charges(texts: tuple[str, ...]) -> dict[str, float]:
    """``("Li=1", "Cl=-1")`` or ``("Li=1,Cl=-1",)`` by element."""
    charges = {}
    for text in (part for one in texts for part in one.split(",")):
        element, _, charge = text.partition("=")
        try:
            value = float(charge)
        except ValueError:
            raise InputError(f"--charges {text!r} is not ELEMENT=CHARGE. Write for example --charges Li=1.") from None
        if not math.isfinite(value):
            raise InputError(f"--charges {text!r}: a charge is a finite number in units of e.")
        charges[element.strip()] = value
    return charges


def _drift(texts: tuple[str, ...]) -> str | list[str]:
    """``("P", "S")`` or ``("P,S",)`` as elements; one ``"cell"`` or ``"none"`` as it is."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if not {"cell", "none"}.intersection(words):
        return words
    if len(set(words)) > 1:
        raise InputError(f'--drift {",".join(words)}: "cell" and "none" stand alone. Give either, or elements.')
    return words[0]


def _hand_out(result: Result, folder: Path, as_json: bool, table: Callable[[], Table], notes: Sequence[str]) -> None:
    import json

    from mlmd.analysis import write

    try:
        paths = write(result, folder)
    except OSError as error:  # e.g. the run of somebody else: the numbers count more than the files
        paths = None
        click.echo(f"Not written: {folder} ({error.strerror}). Give --out FOLDER.", err=True)
    if as_json:
        click.echo(json.dumps(result.to_json(), ensure_ascii=False))
        return
    _print(table())
    for note in notes:
        click.echo(note)
    if paths is not None:
        endings = ",".join(path.suffix[1:] for path in paths)
        click.echo(f"Written: {paths[0].with_suffix('')}.{{{endings}}}")


def _print(table: Table) -> None:
    """A table in full: in a narrow terminal its lines wrap, because digits that are left out help nobody."""
    from rich.console import Console

    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)


def _table(result: DiffusionResult | RDFResult, *columns: str) -> Table:
    from rich.table import Table

    origin = result.provenance
    title = (
        f"Stage {origin.stage} ({origin.kind}), {origin.first_time / 1e3:g} to {origin.last_time / 1e3:g} ps, "
        f"{origin.n_frames} frames"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _diffusion_table(result: DiffusionResult) -> Table:
    table = _table(result, "element", "atoms", "D (cm²/s)", "D_x", "D_y", "D_z", "fit (ps)")
    for one in result.species:
        window = "–" if one.window is None else f"{one.window[0] / 1e3:g} to {one.window[1] / 1e3:g}"
        numbers = (one.coefficient, *(one.along[axis] for axis in "xyz"))
        texts = (str(number).removesuffix(f" {number.unit}") if number.determined else "–" for number in numbers)
        table.add_row(one.element, str(one.n_atoms), *texts, window)
    return table


def _diffusion_notes(result: DiffusionResult) -> list[str]:
    conductivity = (
        [] if result.conductivity is None
        else [f"Nernst–Einstein conductivity {result.conductivity} at {result.temperature:.4g} K"]
    )  # fmt: skip
    about = [
        f"{one.element}: {'' if one.coefficient.determined else 'D is not determined: '}{note}"
        for one in result.species
        for note in one.notes
    ]
    return [*conductivity, *about, *result.notes]


def _arrhenius_table(result: ArrheniusResult) -> Table:
    """The points of every quantity."""
    from rich.table import Table

    table = Table(title="Values by temperature", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("quantity", "T (K)", "value", "run"):
        table.add_column(column, no_wrap=True)
    for one in result.activations:
        for point in sorted((*one.points, *one.left_out), key=lambda each: each.temperature):
            note = "" if point in one.points else " (left out)"
            table.add_row(one.quantity, f"{point.temperature:.4g}", f"{point.value}{note}", point.source)
    return table


def _arrhenius_notes(result: ArrheniusResult) -> list[str]:
    """The laws, the predictions, and what a careful reader should know."""
    from mlmd.analysis.activation import told

    lines = []
    for one in result.activations:
        law, p_value = one.law, one.choice.p_value
        tested = "" if math.isnan(p_value) else f" (p = {p_value:.2g} that data of one line look so)"
        lines.append(f"{one.quantity}: {law.name}, {', '.join(told(law))}{tested}")
        lines += [
            f"{one.quantity} at {each.temperature:g} K: {each.value}, 95 % between {each.low:.3g} and {each.high:.3g}"
            for each in one.predictions
        ]
        lines += [f"{one.quantity}: {note}" for note in one.notes]
    return [*lines, *result.notes]


def _rdf_table(result: RDFResult) -> Table:
    table = _table(result, "pair", "first peak (Å)", "coordination number", "within (Å)")
    for one in result.pairs:
        table.add_row(
            one.pair, "–" if one.peak is None else f"{one.peak.value:.2f}",
            "–" if one.first_shell is None else str(one.first_shell),
            "–" if one.shell_radius is None else f"{one.shell_radius.value:.2f}",
        )  # fmt: skip
    return table


def _fes_table(result: FreeEnergy) -> Table:
    from rich.table import Table

    origin = result.provenance
    stage = "" if origin.stage is None else f"Stage {origin.stage} ({origin.kind}), "
    title = (
        f"Free energy by {result.method}, {result.temperature:.4g} K (kT = {result.kt:.4g} eV)\n"
        f"{stage}{origin.first_time / 1e3:g} to {origin.last_time / 1e3:g} ps, {origin.n_frames:,} {result.counted}"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    names = [f"{axis.name} ({axis.unit})" if axis.unit else axis.name for axis in result.axes]
    for column in ("", *names, "F (eV)", "F (kT)", "back (eV)", "back (kT)"):
        table.add_column(column, no_wrap=True)

    def places(position: Sequence[Estimate]) -> list[str]:
        return [str(one).removesuffix(f" {one.unit}") for one in position]

    for number, one in enumerate(result.minima, 1):
        table.add_row(f"minimum {number}", *places(one.position), *_in_both(one.free_energy, result.kt), "", "")
    for way in result.barriers:
        heights = (*_in_both(way.height, result.kt), *_in_both(way.back, result.kt))
        table.add_row(f"barrier {way.first} to {way.second}", *places(way.position), *heights)
    return table


def _in_both(energy: Estimate, kt: float) -> tuple[str, str]:
    """In eV and in kT, without the units."""
    reduced = replace(energy, value=energy.value / kt, error=energy.error / kt, unit="")
    return str(energy).removesuffix(" eV"), str(reduced)


def _fes_notes(result: FreeEnergy) -> list[str]:
    half = len(result.fractions) // 2
    change = result.changes[half] if len(result.changes) > 1 else math.nan
    since = (
        [f"Since {result.fractions[half]:.0%} of the run it has changed by {change / result.kt:.2g} kT (rms)."]
        if math.isfinite(change) else []
    )  # fmt: skip
    return [*since, *result.notes]
