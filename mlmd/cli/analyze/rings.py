"""``mlmd analyze rings``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import cutoffs_option, element_groups
from mlmd.cli.analyze.options import of_neighbours

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.rings import RingsResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_neighbours
@click.option("--pair", "pairs", multiple=True, help='Elements that are bonded, "Si-O" (repeatable).')
@cutoffs_option
@click.option("--count", multiple=True, help="Only atoms of this element are the size of a ring, Si (repeatable).")
@click.option(
    "--largest",
    type=click.IntRange(min=3),
    help="Atoms of the largest rings, all elements [default: 12; 24 with --count].",
)
@click.option(
    "--frames",
    "max_frames",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="At most so many are used.",
)
def rings(
    trajectory: Trajectory, answer: Answer, pairs: tuple[str, ...], cutoffs: dict[tuple[str, str], float],
    count: tuple[str, ...], largest: int | None, max_frames: int,
) -> None:  # fmt: skip
    """Primitive (shortest-path) rings of the network of RUN, by size."""
    from mlmd.analysis.rings import rings as compute

    wanted = [(a, b) for a, b in element_groups(pairs, 2, "--pair", "Si-O")]
    result = compute(
        trajectory, pairs=wanted, cutoffs=cutoffs, count=count, largest=largest, max_frames=max_frames
    )  # fmt: skip
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: RingsResult) -> Table:
    size = f"size ({'–'.join(result.counted)})"
    table = new_table(which_frames(result.provenance), size, "rings per atom", "through an atom", "atoms in one")
    for one in result.sizes:
        table.add_row(str(one.n), bare(one.per_atom), bare(one.through), bare(one.share))
    table.add_row("none", "", "", bare(result.outside))
    return table
