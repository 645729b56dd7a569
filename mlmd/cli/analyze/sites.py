"""``mlmd analyze sites``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import Length
from mlmd.cli.analyze.options import FILE, drift_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.sites import SitesResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@click.option("--element", required=True, help="Whose atoms hop.")
@click.option("--sites", "reference", type=FILE, help="Structure with the sites [default: maxima of the density].")
@click.option("--core", type=Length(), help="Radius of the cores [default: 0.3 of the shortest distance of sites].")
@click.option(
    "--apart", type=Length(), default="1 Å", show_default=True, help="Closer maxima of the density are one site."
)
@click.option(
    "--least", default=0.05, show_default=True, help="Maxima lower than this, of the highest one, are no sites."
)
@drift_option
def sites(
    trajectory: Trajectory, answer: Answer, element: str, reference: Path | None, core: float | None, apart: float,
    least: float,
    drift: str | list[str],
) -> None:  # fmt: skip
    """Sites of an element in RUN: occupancies, jumps and their rates, residence times, jump diffusion."""
    from mlmd.analysis.sites import sites as compute

    result = compute(trajectory, element=element, reference=reference, core=core, apart=apart, least=least, drift=drift)
    answer.give(result, lambda: _table(result), _notes(result))


def _table(result: SitesResult) -> Table:
    table = new_table(
        which_frames(result.provenance),
        "sites",
        "number",
        "occupancy",
        "stay (ps)",
        "jumps",
        "rate (1/ps)",
        "length (Å)",
    )
    for one in result.classes:
        table.add_row(one.label, str(one.n_sites), bare(one.occupancy), bare(one.residence), "", "", "")
    for way in result.transitions:
        table.add_row(way.pair, "", "", "", str(way.count), bare(way.rate), bare(way.length))
    return table


def _notes(result: SitesResult) -> list[str]:
    return [
        f"{len(result.places.reduced)} sites from {result.places.source}, cores of {result.core:.2f} Å, in which atoms "
        f"are {result.visits.in_cores:.0%} of the time",
        f"{len(result.visits.atom)} jumps, {result.rate} of an atom, {result.length} long, {result.returns} of them "
        "straight back",
        f"Jump diffusion D_J = {result.jump_diffusion}; D = {result.tracer_diffusion}; "
        f"correlation factor f = {result.correlation}",
        *result.notes,
    ]
