"""``mlmd analyze adatoms``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.adatoms import AdatomsResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@click.option("--core", type=float, help="Å, radius of the cores of sites [default: 0.3 of their distance].")
def adatoms(trajectory: Trajectory, answer: Answer, core: float | None) -> None:
    """Adatoms on the slab of RUN: hops between sites, and diffusion in the plane."""
    from mlmd.analysis.adatoms import adatoms as compute

    result = compute(trajectory, core=core)
    answer.give(result, lambda: _table(result), [*str(result).splitlines()[len(result.species) :]])


def _table(result: AdatomsResult) -> Table:
    columns = (
        "adatoms",
        "D (cm²/s)",
        "along x",
        "along y",
        "hops",
        "each (1/ps)",
        "length (Å)",
        "back",
        "D of hops",
        "f",
    )
    table = new_table(which_frames(result.provenance), *columns)
    for one in result.species:
        hops = one.hops
        table.add_row(
            f"{one.n_atoms} {one.element}", bare(one.coefficient), bare(one.along["x"]), bare(one.along["y"]),
            str(len(hops.visits.atom)), bare(hops.rate), bare(hops.length), bare(hops.returns),
            bare(one.hop_diffusion), bare(hops.correlation),
        )  # fmt: skip
    return table
