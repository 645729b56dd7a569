"""``mlmd analyze nemd``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked, bare, new_table
from mlmd.cli.analyze.options import FILE, Time, with_asked

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.nemd import NEMDResult


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FILE, metavar="RUN...")
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with a flow].")
@click.option(
    "--from", "first_time", type=Time(),
    help='Leave out what was before, e.g. "200 ps" of each run [default: until the flow is steady].',
)  # fmt: skip
@click.option("--to", "last_time", type=Time(), help="Leave out what was after.")
@click.option(
    "--skip", type=click.IntRange(min=0), default=1, show_default=True,
    help="Slabs beside those that exchange heat that are not on the line.",
)  # fmt: skip
@with_asked(f"{FOLDER} in the RUN that is given alone")
def nemd(
    runs: tuple[Path, ...], stage: int | None, first_time: float | None, last_time: float | None, skip: int,
    asked: Asked,
) -> None:  # fmt: skip
    """Thermal conductivity of RUNs in which heat flows: the power over the gradient of the temperature.

    The runs have a stage nve with heat_exchange. RUNs of several lengths are extrapolated to an infinite one; several
    of one length are averaged.
    """
    from mlmd.analysis.nemd import nemd as compute

    result = compute(runs, stage=stage, first_time=first_time, last_time=last_time, skip=skip)
    folder = runs[0] / FOLDER if len(runs) == 1 else Path(FOLDER)
    asked.answer(folder).give(result, lambda: _table(result), _notes(result))


def _table(result: NEMDResult) -> Table:
    table = new_table(
        "Flow of heat", "run", "L (Å)", "T (K)", "power (eV/ps)", "gradient (K/Å)", "κ (W/(m K))", "steady from (ps)"
    )
    for one in result.flows:
        table.add_row(
            one.provenance.path, f"{one.length:.4g}", bare(one.temperature), f"{1e3 * one.power:.4g}",
            bare(one.gradient), bare(one.conductivity), f"{one.first_time / 1e3:.4g}",
        )  # fmt: skip
    return table


def _notes(result: NEMDResult) -> list[str]:
    if result.extrapolation is not None:
        head = [f"κ of an infinite length: {result.conductivity}, half of it at L = {result.extrapolation.path}"]
    else:
        head = [f"mean κ: {result.conductivity}"] if len(result.flows) > 1 else []
    return [*head, *result.notes]
