"""``mlmd analyze van-hove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import Time, drift_option, elements_option, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.van_hove import VanHoveResult
    from mlmd.io.frames import Trajectory


@click.command("van-hove")
@of_frames
@elements_option
@click.option(
    "--lag", "lags", multiple=True, type=Time(),
    help='"1 ps" (may be repeated) [default: four between a frame and a quarter of the trajectory].',
)  # fmt: skip
@click.option("--r-max", default=10.0, show_default=True, help="Å.")
@click.option("--bin", "bin_width", default=0.1, show_default=True, help="Å.")
@drift_option
def van_hove(
    trajectory: Trajectory, answer: Answer, elements: tuple[str, ...], lags: tuple[float, ...], r_max: float,
    bin_width: float, drift: str | list[str],
) -> None:  # fmt: skip
    """Van Hove functions of RUN, self and distinct, and the non-Gaussian parameter."""
    from mlmd.analysis.van_hove import van_hove as compute

    result = compute(
        trajectory, elements=elements or None, lags=lags, r_max=r_max, bin_width=bin_width, drift=drift
    )  # fmt: skip
    answer.give(result, lambda: _table(result), result.notes)


def _table(result: VanHoveResult) -> Table:
    table = new_table(which_frames(result.provenance), "element", "atoms", "largest α₂", "at lag (ps)")
    for one in result.selves:
        if one.peak is None or one.peak_time is None:
            table.add_row(one.element, str(one.n_atoms), "consistent with 0", "–")
        else:
            table.add_row(one.element, str(one.n_atoms), bare(one.peak), f"{one.peak_time / 1e3:g}")
    return table
