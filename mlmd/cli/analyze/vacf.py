"""``mlmd analyze vacf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import drift_option, elements_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.vacf import VACFResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@elements_option
@drift_option
@click.option("--resolution", default=0.1, show_default=True, help="THz between points of the spectrum.")
def vacf(
    trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], drift: str | list[str], resolution: float
) -> None:
    """Velocity autocorrelation of RUN, and its vibrational density of states.

    Velocities are those of the frames where they have them (extended XYZ), else differences of positions.
    """
    from mlmd.analysis.vacf import vacf as compute

    result = compute(trajectory, elements=elements or None, drift=drift, resolution=resolution)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: VACFResult) -> Table:
    table = new_table(which_frames(result.provenance), "element", "atoms", "mean frequency (THz)")
    for one in result.elements:
        table.add_row(one.element, str(one.n_atoms), bare(one.mean_frequency))
    return table
