"""``mlmd analyze rdf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, new_table, which_frames
from mlmd.cli.analyze.options import elements_option, of_single_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.rdf import RDFResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_single_frames
@elements_option
@click.option("--r-max", default=10.0, show_default=True, help="Å; may be larger than half the cell.")
@click.option("--bin", "bin_width", default=0.05, show_default=True, help="Å.")
def rdf(trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], r_max: float, bin_width: float) -> None:
    """Radial distribution functions of RUN, of every pair of elements."""
    from mlmd.analysis.rdf import rdf as compute

    result = compute(trajectory, elements=elements or None, r_max=r_max, bin_width=bin_width)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: RDFResult) -> Table:
    table = new_table(which_frames(result.provenance), "pair", "first peak (Å)", "coordination number", "within (Å)")
    for one in result.pairs:
        table.add_row(
            one.pair, "–" if one.peak is None else f"{one.peak.value:.2f}",
            "–" if one.first_shell is None else str(one.first_shell),
            "–" if one.shell_radius is None else f"{one.shell_radius.value:.2f}",
        )  # fmt: skip
    return table
