"""``mlmd analyze diffusion``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import charges_option, drift_option, elements_option, of_frames
from mlmd.units import parse

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.diffusion import DiffusionResult
    from mlmd.io.frames import Trajectory


class Viscosity(click.ParamType):
    """A viscosity with a unit, in bar s; a bare number is mPa s."""

    name = "viscosity"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        return parse(value, "viscosity")


@click.command()
@of_frames
@elements_option
@charges_option
@drift_option
@click.option(
    "--along", multiple=True, metavar="DIRECTION", help='D along a lattice direction, "a" or "1,1,0" (repeatable).'
)
@click.option("--viscosity", type=Viscosity(), help='For liquids in cubic cells, D without the finite size: "1 mPa s".')
def diffusion(
    trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], charges: dict[str, float],
    drift: str | list[str], along: tuple[str, ...], viscosity: float | None,
) -> None:  # fmt: skip
    """Diffusion coefficients of RUN, and its conductivity where charges are given."""
    from mlmd.analysis.diffusion import diffusion as compute

    result = compute(
        trajectory, elements=elements or None, charges=charges, drift=drift, along=along, viscosity=viscosity
    )
    answer.give(result, lambda: _table(result), _notes(result))


def _table(result: DiffusionResult) -> Table:
    axes = tuple(result.species[0].along)
    names = ("element", "atoms", "D (cm²/s)", *(f"D_{axis}" for axis in axes), "fit (ps)")
    table = new_table(which_frames(result.provenance), *names)
    for one in result.species:
        window = "–" if one.window is None else f"{one.window[0] / 1e3:g} to {one.window[1] / 1e3:g}"
        numbers = (one.coefficient, *(one.along[axis] for axis in axes))
        table.add_row(one.element, str(one.n_atoms), *(bare(number) for number in numbers), window)
    return table


def _notes(result: DiffusionResult) -> list[str]:
    conductivity = (
        [] if result.conductivity is None
        else [f"Nernst–Einstein conductivity {result.conductivity} at {result.temperature:.4g} K"]
    )  # fmt: skip
    conductivity += [f"{name[0].upper()}{name[1:]} {value}" for name, value in result.together()]
    about = [
        f"{one.element}: {'' if one.coefficient.determined else 'D is not determined: '}{note}"
        for one in result.species
        for note in one.notes
    ]
    return [*conductivity, *about, *result.notes]
