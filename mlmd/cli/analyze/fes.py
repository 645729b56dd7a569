"""``mlmd analyze fes``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked, new_table
from mlmd.cli.analyze.options import FILE, Temperature, Time, counts, numbers, with_asked
from mlmd.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.estimate import Estimate
    from mlmd.analysis.free_energy import FreeEnergy


@click.command()
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@click.option(
    "--method", help="hills, kernels, state, abf, reweight, umbrella or work [default: what the bias is for]."
)
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with a bias].")
@click.option("--cv", "variables", multiple=True, help="Column of COLVAR, to reweight along it (may be repeated).")
@click.option("--from", "first_time", type=Time(), help="Leave out what is before [default: a quarter where it must].")
@click.option("--to", "last_time", type=Time(), help="Leave out what is after.")
@click.option("--min", "low", callback=numbers, help="Lower ends of the grid, as shown in the table: 2,-180.")
@click.option("--max", "high", callback=numbers, help="Upper ends.")
@click.option("--bins", callback=counts, help="Bins of each variable: 100,72.")
@click.option("--temperature", type=Temperature(), help="Where the run has no thermostat, or for files.")
@click.option("--hills", type=FILE, multiple=True, help="A file of another program (of each walker).")
@click.option("--kernels", type=FILE, help="Likewise.")
@click.option("--state", type=FILE, help="Likewise.")
@click.option("--colvar", type=FILE, multiple=True, help="Likewise.")
@click.option("--abf", type=FILE, help="abf.dat without its run.")
@click.option("--plumed", type=FILE, help="PLUMED input of such files, or of a run whose own is gone.")
@with_asked(f"RUN/{FOLDER}")
def fes(
    runs: tuple[Path, ...], method: str | None, stage: int | None, variables: tuple[str, ...],
    first_time: float | None, last_time: float | None, low: tuple[float, ...], high: tuple[float, ...],
    bins: tuple[int, ...], temperature: float | None, hills: tuple[Path, ...], kernels: Path | None,
    state: Path | None, colvar: tuple[Path, ...], abf: Path | None, plumed: Path | None, asked: Asked,
) -> None:  # fmt: skip
    """Free energy of RUN along what was biased; of several (windows, walkers of ABF, steered runs) together.

    A RUN may be a folder of replicas: its runs are taken together.
    """
    from mlmd.analysis.arrhenius import runs_in
    from mlmd.analysis.fes import Files, biased_files, free_energy
    from mlmd.analysis.fes import fes as compute
    from mlmd.analysis.grid import Grid
    from mlmd.rundir import REPLICAS

    grid, files = Grid(low, high, bins), Files(hills, kernels, state, abf, colvar, plumed)
    foreign = any((hills, kernels, state, colvar, abf))
    options: dict[str, Any] = {"method": method, "variables": variables, "grid": grid}
    options |= {"first_time": first_time, "last_time": last_time}
    if foreign and runs:
        raise InputError("give run folders, or files of another program, not both.")
    if foreign and stage is not None:
        raise InputError(f"--stage {stage}: stages are those of a run folder. For files say --from and --to.")
    if foreign:
        result = free_energy([biased_files(files, temperature)], **options)
    else:
        windows = [one for run in runs for one in (runs_in(run) if (run / REPLICAS).is_file() else [run])]
        result = compute(windows, stage=stage, temperature=temperature, plumed=plumed, **options)
    folder = runs[0] / FOLDER if runs else Path(FOLDER)
    asked.answer(folder).give(result, lambda: _table(result), _notes(result))


def _table(result: FreeEnergy) -> Table:
    origin = result.provenance
    stage = "" if origin.stage is None else f"Stage {origin.stage} ({origin.kind}), "
    title = (
        f"Free energy by {result.method}, {result.temperature:.4g} K (kT = {result.kt:.4g} eV)\n"
        f"{stage}{origin.first_time / 1e3:g} to {origin.last_time / 1e3:g} ps, {origin.n_frames:,} {result.counted}"
    )
    names = [f"{axis.name} ({axis.unit})" if axis.unit else axis.name for axis in result.axes]
    table = new_table(title, "", *names, "F (eV)", "F (kT)", "back (eV)", "back (kT)")

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


def _notes(result: FreeEnergy) -> list[str]:
    half = len(result.fractions) // 2
    change = result.changes[half] if len(result.changes) > 1 else math.nan
    since = (
        [f"Since {result.fractions[half]:.0%} of the run it has changed by {change / result.kt:.2g} kT (rms)."]
        if math.isfinite(change) else []
    )  # fmt: skip
    return [*since, *result.notes]
