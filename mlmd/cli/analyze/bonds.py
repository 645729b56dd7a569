"""``mlmd analyze bonds``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import cutoffs_option, element_groups
from mlmd.cli.analyze.options import Time, of_neighbours

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.lifetimes import LifetimesResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_neighbours
@click.option("--pair", "pairs", multiple=True, help='Elements, "Li-S" (repeatable).')
@cutoffs_option
@click.option("--gap", type=Time(), default="0 fs", show_default=True, help="Shorter interruptions break no bond.")
def bonds(
    trajectory: Trajectory, answer: Answer, pairs: tuple[str, ...], cutoffs: dict[tuple[str, str], float], gap: float
) -> None:
    """Lifetimes of bonds in RUN, and their correlation functions."""
    from mlmd.analysis.lifetimes import lifetimes

    wanted = [(a, b) for a, b in element_groups(pairs, 2, "--pair", "Li-S")]
    result = lifetimes(trajectory, pairs=wanted, cutoffs=cutoffs, gap=gap)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: LifetimesResult) -> Table:
    table = new_table(
        which_frames(result.provenance), "pair", "within (Å)", "bonds", "lifetime (ps)", "1/e of C (ps)", "by chance"
    )
    for one in result.pairs:
        table.add_row(
            one.pair, f"{one.cutoff:.2f}", f"{one.n_bonds:.4g}", bare(one.lifetime), bare(one.relaxation),
            f"{one.chance:.2g}",
        )  # fmt: skip
    return table
