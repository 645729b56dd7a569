"""``mlmd analyze dynamic-structure-factor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import Time, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.scattering.dynamic import DynamicStructureFactor
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@click.option("--q-max", default=3.0, show_default=True, help="1/Å.")
@click.option("--bin", "bin_width", default=0.2, show_default=True, help="1/Å.")
@click.option(
    "--points", default=30, show_default=True, type=click.IntRange(min=1), help="Wavevectors in a bin, about."
)
@click.option("--lag", type=Time(), help='The longest, e.g. "5 ps" [default: a tenth of the trajectory].')
@click.option(
    "--self-atoms", default=200, show_default=True, type=click.IntRange(min=1), help="Atoms of an element to follow."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of what is drawn at random.")
def dynamic_structure_factor(
    trajectory: Trajectory, answer: Answer, q_max: float, bin_width: float, points: int, lag: float | None,
    self_atoms: int, seed: int,
) -> None:  # fmt: skip
    """Intermediate scattering functions F(q, t) of RUN, S(q, ω) and currents along q and (with velocities) across."""
    from mlmd.analysis.scattering.dynamic import DEFINITIONS
    from mlmd.analysis.scattering.dynamic import dynamic_structure_factor as compute

    result = compute(
        trajectory, q_max=q_max, bin_width=bin_width, points_per_bin=points, longest_lag=lag, self_atoms=self_atoms,
        seed=seed,
    )  # fmt: skip
    notes = [*(f"{name}: {text}" for name, text in DEFINITIONS.items()), *result.notes]
    answer.give(result, lambda: _table(result), notes)


def _table(result: DynamicStructureFactor) -> Table:
    shown = {name: one for name, one in result.memories.items() if not name.startswith("F_ab")}
    currents = [name for name in result.spectra if name.startswith("C_")]
    table = new_table(
        which_frames(result.provenance), "q (1/Å)", "S_NN", *(f"1/e of {name} (ps)" for name in shown),
        *(f"{name.partition('(')[0]} (rad/ps)" for name in currents),
    )  # fmt: skip
    for i, q in enumerate(result.q):
        total = result.memories["F"].values[i, 0]
        times = (bare(one.times[i]) for one in shown.values())
        peaks = (bare(result.sound(i, name)) for name in currents)
        table.add_row(f"{q:.3f}", f"{total:.3g}", *times, *peaks)
    return table
