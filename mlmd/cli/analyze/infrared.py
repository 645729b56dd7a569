"""``mlmd analyze infrared``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import charges_option, drift_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.infrared import InfraredResult
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
@charges_option
@drift_option
@click.option("--resolution", default=5.0, show_default=True, help="1/cm between points of the spectrum.")
@click.option(
    "--correction", type=click.Choice(["harmonic", "none", "schofield"]), default="harmonic", show_default=True,
    help="For the quantum nature of nuclei.",
)  # fmt: skip
def infrared(
    trajectory: Trajectory, answer: Answer, charges: dict[str, float], drift: str | list[str], resolution: float,
    correction: str,
) -> None:  # fmt: skip
    """Infrared spectrum of RUN, from the current of its charges.

    With --charges the current is that of the frames; without it is the one that the run wrote, [output] fluxes =
    ["current"], which has many more times.
    """
    from mlmd.analysis.infrared import infrared as compute
    from mlmd.analysis.infrared import written_current

    origin = trajectory.provenance
    times = origin.stage, origin.first_time, origin.last_time
    motion = trajectory if charges else written_current(origin.path, *times) or trajectory
    result = compute(motion, charges=charges, drift=drift, resolution=resolution, correction=correction)
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: InfraredResult) -> Table:
    table = new_table(which_frames(result.provenance), "line (1/cm)", "absorption (km cm/mol)")
    for place in result.lines:
        index = int(abs(result.wavenumbers - place).argmin())
        table.add_row(f"{place:.4g}", f"{result.absorption[index]:.3g}")
    table.add_row("all (km/mol)", bare(result.intensity))
    return table
