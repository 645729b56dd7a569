"""``mlmd analyze elastic``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.strain_fluctuations import ElasticFluctuations
    from mlmd.io.frames import Trajectory


@click.command()
@of_frames
def elastic(trajectory: Trajectory, answer: Answer) -> None:
    """Elastic constants of a crystal at the temperature of RUN, from how its cell fluctuates.

    The stage is npt with a flexible barostat. `mlmd elastic` gives those at rest.
    """
    from mlmd.analysis.strain_fluctuations import strain_fluctuations

    result = strain_fluctuations(trajectory)
    powder = [f"{name}: {one}" for name, one in result.moduli.items()]
    answer.give(result, lambda: _table(result), [*powder, *result.notes])


def _table(result: ElasticFluctuations) -> Table:
    names = ("xx", "yy", "zz", "yz", "xz", "xy")
    table = new_table(f"C (GPa). {which_frames(result.provenance)}", "", *names)
    for row, name in enumerate(names):
        table.add_row(name, *(bare(result.constant(row, column)) for column in range(6)))
    return table
