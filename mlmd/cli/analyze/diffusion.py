"""``mlmd analyze diffusion``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import charges_option, drift_option, elements_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.diffusion import DiffusionResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@elements_option
@charges_option
@drift_option
def diffusion(
    trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], charges: dict[str, float],
    drift: str | list[str],
) -> None:  # fmt: skip
    """Diffusion coefficients of RUN, and its conductivity where charges are given."""
    from mlmd.analysis.diffusion import diffusion as compute

    result = compute(trajectory, elements=elements or None, charges=charges, drift=drift)
    answer.give(result, lambda: _table(result), _notes(result))


def _table(result: DiffusionResult) -> Table:
    table = new_table(which_frames(result.provenance), "element", "atoms", "D (cm²/s)", "D_x", "D_y", "D_z", "fit (ps)")
    for one in result.species:
        window = "–" if one.window is None else f"{one.window[0] / 1e3:g} to {one.window[1] / 1e3:g}"
        numbers = (one.coefficient, *(one.along[axis] for axis in "xyz"))
        table.add_row(one.element, str(one.n_atoms), *(bare(number) for number in numbers), window)
    return table


def _notes(result: DiffusionResult) -> list[str]:
    conductivity = (
        [] if result.conductivity is None
        else [f"Nernst–Einstein conductivity {result.conductivity} at {result.temperature:.4g} K"]
    )  # fmt: skip
    about = [
        f"{one.element}: {'' if one.coefficient.determined else 'D is not determined: '}{note}"
        for one in result.species
        for note in one.notes
    ]
    return [*conductivity, *about, *result.notes]
