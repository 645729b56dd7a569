"""``mlmd analyze arrhenius``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked, new_table
from mlmd.cli.analyze.options import FILE, Temperature, Time, charges_option, drift_option, elements_option, with_asked
from mlmd.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.arrhenius import ArrheniusResult


@click.command()
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@click.option("--table", type=FILE, help="Values from elsewhere: T [K], D [cm²/s], error.")
@elements_option
@charges_option
@drift_option
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with frames].")
@click.option("--from", "first_time", type=Time(), help='Leave out frames before, e.g. "20 ps" of each run.')
@click.option("--to", "last_time", type=Time(), help="Leave out frames after.")
@click.option(
    "--at", type=Temperature(), multiple=True, default=("300 K",), show_default=True,
    help="Temperature for which values are predicted (may be repeated).",
)  # fmt: skip
@with_asked(f"{FOLDER} in the RUN that is given alone")
def arrhenius(
    runs: tuple[Path, ...], table: Path | None, elements: tuple[str, ...], charges: dict[str, float],
    drift: str | list[str], stage: int | None, first_time: float | None, last_time: float | None,
    at: tuple[float, ...], asked: Asked,
) -> None:  # fmt: skip
    """Activation energies of diffusion and conductivity, from RUNs at several temperatures.

    With charges, of the conductivity as of independent ions (Nernst–Einstein) and of that of all ions together. A RUN
    is a run folder, or a folder of replicas. One line, two regimes and Vogel–Tammann–Fulcher are fitted; another law
    than one line is chosen only where the errors leave no doubt.
    """
    from mlmd.analysis.arrhenius import arrhenius as compute
    from mlmd.analysis.arrhenius import read_table

    if (table is None) == (not runs):
        raise InputError("give run folders or a folder of them, or --table FILE.")
    if table is not None:
        result = read_table(table, at=at)
    else:
        result = compute(
            runs, elements=elements or None, charges=charges, drift=drift, stage=stage,
            first_time=first_time, last_time=last_time, at=at,
        )  # fmt: skip
    folder = runs[0] / FOLDER if len(runs) == 1 else Path(FOLDER)
    asked.answer(folder).give(result, lambda: _table(result), _notes(result))


def _table(result: ArrheniusResult) -> Table:
    """The points of every quantity."""
    table = new_table("Values by temperature", "quantity", "T (K)", "value", "run")
    for one in result.activations:
        for point in sorted((*one.points, *one.left_out), key=lambda each: each.temperature):
            note = "" if point in one.points else " (left out)"
            table.add_row(one.quantity, f"{point.temperature:.4g}", f"{point.value}{note}", point.source)
    return table


def _notes(result: ArrheniusResult) -> list[str]:
    """The laws, the predictions, and what a careful reader should know."""
    from mlmd.analysis.activation import told

    lines = []
    for one in result.activations:
        law, p_value = one.law, one.choice.p_value
        tested = "" if math.isnan(p_value) else f" (p = {p_value:.2g} that data of one line look so)"
        lines.append(f"{one.quantity}: {law.name}, {', '.join(told(law))}{tested}")
        lines += [f"{one.quantity} at {each.temperature:g} K: {each}" for each in one.predictions]
        lines += [f"{one.quantity}: {note}" for note in one.notes]
    return [*lines, *result.notes]
