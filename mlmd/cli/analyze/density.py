"""``mlmd analyze density``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.cutoffs import Length
from mlmd.cli.analyze.options import drift_option, elements_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.density import DensityResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@elements_option
@click.option("--spacing", type=Length(), default="0.25 Å", show_default=True, help="Largest distance of grid points.")
@click.option("--smooth", type=Length(), default="0 Å", show_default=True, help="Standard deviation of a Gaussian.")
@drift_option
def density(
    trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], spacing: float, smooth: float,
    drift: str | list[str],
) -> None:  # fmt: skip
    """Probability density of each element of RUN on a grid of its cell, as cube files."""
    from mlmd.analysis.density import density as compute

    result = compute(trajectory, elements=elements or None, spacing=spacing, smooth=smooth, drift=drift)
    cubes = ", ".join(str(answer.folder / name) for name in (f"density-{one.element}.cube" for one in result.elements))
    answer.give(result, lambda: _table(result), [*result.notes, f"Cube files: {cubes}"])


def _table(result: DensityResult) -> Table:
    table = new_table(
        which_frames(result.provenance), "element", "atoms", "highest (1/Å³)", "at (a, b, c)", "90 % above (1/Å³)",
        "90 % within (Å³)",
    )  # fmt: skip
    for one in result.elements:
        place = ", ".join(f"{x:.3f}" for x in one.peak_place)
        table.add_row(one.element, str(one.n_atoms), bare(one.peak), place, f"{one.level:.3g}", f"{one.volume:.4g}")
    return table
