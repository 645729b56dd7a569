"""``mlmd analyze adf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import cutoffs_option, element_groups
from mlmd.cli.analyze.options import of_single_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.adf import ADFResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_single_frames
@click.option("--triplet", "triplets", multiple=True, help='The centre in the middle, "S-P-S" (repeatable).')
@cutoffs_option
@click.option("--bin", "bin_width", default=1.0, show_default=True, help="Degrees.")
def adf(
    trajectory: Trajectory, answer: Answer, triplets: tuple[str, ...], cutoffs: dict[tuple[str, str], float],
    bin_width: float,
) -> None:  # fmt: skip
    """Distributions of the angles between neighbours in RUN."""
    from mlmd.analysis.adf import adf as compute

    wanted = [(a, b, c) for a, b, c in element_groups(triplets, 3, "--triplet", "S-P-S")]
    result = compute(trajectory, triplets=wanted, cutoffs=cutoffs, bin_width=bin_width)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: ADFResult) -> Table:
    table = new_table(which_frames(result.provenance), "triplet", "mean (°)", "peak (°)", "angles at a centre")
    for one in result.triplets:
        peak = "–" if one.peak is None else f"{one.peak.value:.1f}"
        table.add_row(one.name, bare(one.mean), peak, bare(one.per_center))
    return table
