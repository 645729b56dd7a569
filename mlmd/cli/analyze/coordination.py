"""``mlmd analyze coordination``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import cutoffs_option, element_groups
from mlmd.cli.analyze.options import of_neighbours

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.coordination import CoordinationResult
    from mlmd.io.frames import Trajectory

_LEAST = 0.005
"""Part of the atoms: rarer numbers of neighbours are in the files only."""


@click.command()
@of_neighbours
@click.option("--pair", "pairs", multiple=True, help='The atom in the middle first, "P-S" (repeatable).')
@cutoffs_option
def coordination(
    trajectory: Trajectory, answer: Answer, pairs: tuple[str, ...], cutoffs: dict[tuple[str, str], float]
) -> None:
    """Numbers of neighbours in RUN: averages, distributions, and their course."""
    from mlmd.analysis.coordination import coordination as compute

    wanted = [(a, b) for a, b in element_groups(pairs, 2, "--pair", "P-S")]
    result = compute(trajectory, pairs=wanted, cutoffs=cutoffs)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: CoordinationResult) -> Table:
    table = new_table(which_frames(result.provenance), "around", "of", "within (Å)", "number", "distribution")
    for one in result.pairs:
        parts = [f"{n}: {part.value:.1%}" for n, part in enumerate(one.fractions) if part.value >= _LEAST]
        table.add_row(one.a, one.b, f"{one.cutoff:.2f}", bare(one.mean), ", ".join(parts))
    return table
