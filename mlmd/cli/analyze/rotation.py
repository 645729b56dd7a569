"""``mlmd analyze rotation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import Length
from mlmd.cli.analyze.options import Time, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.rotation import RotationResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@click.option("--center", required=True, help="Element in the middle of the groups, e.g. P.")
@click.option("--ligand", required=True, help="Element bound to it, e.g. S.")
@click.option("--cutoff", required=True, type=Length(), help='Bonds of the first frame are shorter: "2.6 Å".')
@click.option("--angle", default=45.0, show_default=True, help="Degrees that a bond turns by in an event.")
@click.option("--hold", type=Time(), default="1 ps", show_default=True, help="How long it then stays away.")
def rotation(
    trajectory: Trajectory, answer: Answer, center: str, ligand: str, cutoff: float, angle: float, hold: float
) -> None:
    """Rotation of groups of atoms (polyanions) in RUN: orientation correlations, relaxation times, events."""
    from mlmd.analysis.rotation import rotation as compute

    result = compute(trajectory, center=center, ligand=ligand, cutoff=cutoff, angle=angle, hold=hold)
    events = (
        f"{result.events} events of rotation by more than {angle:g}° for {hold / 1e3:g} ps: {result.event_rate} "
        "of a group"
    )
    answer.give(result, lambda: _table(result), [events, *result.notes])


def _table(result: RotationResult) -> Table:
    table = new_table(which_frames(result.provenance), "order", "relaxation time (ps)", "amplitude", "fit (ps)")
    for one in result.relaxations:
        window = "–" if one.window is None else f"{one.window[0] / 1e3:g} to {one.window[1] / 1e3:g}"
        amplitude = f"{one.amplitude:.3f}" if one.time.determined else "–"
        table.add_row(str(one.order), bare(one.time), amplitude, window)
    return table
