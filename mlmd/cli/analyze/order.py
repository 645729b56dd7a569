"""``mlmd analyze order``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import cutoffs_option, element_groups
from mlmd.cli.analyze.options import of_single_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.order import OrderResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_single_frames
@click.option("--pair", "pairs", multiple=True, help='The atom in the middle first, "Cu-Cu" (repeatable).')
@cutoffs_option
@click.option("--degree", "degrees", type=click.IntRange(min=1), multiple=True, default=(4, 6), show_default=True)
def order(
    trajectory: Trajectory, answer: Answer, pairs: tuple[str, ...], cutoffs: dict[tuple[str, str], float],
    degrees: tuple[int, ...],
) -> None:  # fmt: skip
    """Bond-orientational order of the atoms of RUN (Steinhardt)."""
    from mlmd.analysis.order import order as compute

    wanted = [(a, b) for a, b in element_groups(pairs, 2, "--pair", "Cu-Cu")]
    result = compute(trajectory, pairs=wanted, cutoffs=cutoffs, degrees=degrees)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: OrderResult) -> Table:
    columns = [f"q_{degree}" for degree in result.degrees]
    table = new_table(which_frames(result.provenance), "around", "of", "within (Å)", *columns)
    for one in result.pairs:
        table.add_row(one.a, one.b, f"{one.cutoff:.2f}", *(bare(mean) for mean in one.means))
    return table
