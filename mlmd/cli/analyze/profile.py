"""``mlmd analyze profile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import charges_option, drift_option, of_frames, with_recognition
from mlmd.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.profile import ProfileResult
    from mlmd.analysis.recognition import Recognition
    from mlmd.io.frames import Trajectory


@click.command()
@with_recognition  # first: before files are opened
@of_frames
@click.option("--axis", type=click.Choice(["x", "y", "z"]), default="z", show_default=True, help="Across the plane.")
@click.option("--bin", "bin_width", default=0.25, show_default=True, help="Å.")
@charges_option
@drift_option
@click.option("--order", is_flag=True, help="Also how many atoms are part of a lattice.")
def profile(
    trajectory: Trajectory, answer: Answer, axis: str, bin_width: float, charges: dict[str, float],
    drift: str | list[str], order: bool, recognition: Recognition,
) -> None:  # fmt: skip
    """Density, charge and composition of RUN along an axis, and where its interfaces are and how wide."""
    from mlmd.analysis.profile import profile as compute
    from mlmd.analysis.recognition import CNA

    if recognition != CNA and not order:
        raise InputError("--structure-types: for the order in the profile. Give --order.")
    result = compute(
        trajectory, axis=axis, bin_width=bin_width, charges=charges, drift=drift, order=order, recognition=recognition
    )
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: ProfileResult) -> Table:
    columns = ("", f"{result.axis} (Å)", "width (Å)", f"{result.axis} (Å)", "width (Å)", "between", "beyond")
    table = new_table(which_frames(result.provenance), *columns)
    for one in result.curves:
        if one.slab is None:
            table.add_row(one.name, *["–"] * 6)
            continue
        slab = one.slab
        table.add_row(
            one.name, bare(slab.lower), bare(slab.lower_width), bare(slab.upper), bare(slab.upper_width),
            str(slab.inside), str(slab.outside),
        )  # fmt: skip
    return table
