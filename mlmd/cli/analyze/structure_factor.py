"""``mlmd analyze structure-factor``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import FILE, of_single_frames
from mlmd.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.scattering.result import StructureFactor
    from mlmd.io.frames import Trajectory


def _lengths(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    """``("H=6.671",)`` by element."""
    lengths = {}
    for text in (part for one in texts for part in one.split(",")):
        element, _, length = text.partition("=")
        try:
            value = float(length)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"--scattering-length {text!r} is not ELEMENT=LENGTH in fm. Write for example H=6.671.")
        lengths[element.strip()] = value
    return lengths


@click.command()
@of_single_frames
@click.option(
    "--method", type=click.Choice(["direct", "rdf"]), default="direct", show_default=True,
    help="At the wavevectors of the cell, or from g(r).",
)  # fmt: skip
@click.option("--radiation", type=click.Choice(["neutron", "x-ray"]), default="neutron", show_default=True)
@click.option(
    "--scattering-length", "lengths", multiple=True, callback=_lengths, metavar="ELEMENT=FM",
    help='In the place of the natural element\'s, e.g. "H=6.671" for deuterium (repeatable).',
)  # fmt: skip
@click.option("--q-max", default=20.0, show_default=True, help="1/Å.")
@click.option("--bin", "bin_width", default=0.05, show_default=True, help="1/Å.")
@click.option(
    "--points", default=300, show_default=True, type=click.IntRange(min=0),
    help="Wavevectors in a bin at most, drawn at random; 0 for all.",
)  # fmt: skip
@click.option("--frames", "max_frames", default=100, show_default=True, type=click.IntRange(min=1), help="At most.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draw of wavevectors.")
@click.option("--r-max", type=float, help="Å, the end of g(r) [default: half of the cell's smallest height].")
@click.option(
    "--window",
    type=click.Choice(["lorch", "none"]),
    default="lorch",
    show_default=True,
    help="At the end of transforms.",
)
@click.option("--experiment", type=FILE, help="Measured values: q (1/Å), value and, in a third column, error.")
@click.option(
    "--normalisation", type=click.Choice(["distinct", "faber-ziman", "self", "reduced"]),
    help="Of the experiment: F(q), S(q) = 1 + F/⟨b⟩², 1 + F/⟨b²⟩, or q[S(q)-1].",
)  # fmt: skip
def structure_factor(
    trajectory: Trajectory, answer: Answer, method: str, radiation: str, lengths: dict[str, float], q_max: float,
    bin_width: float, points: int, max_frames: int, seed: int, r_max: float | None, window: str,
    experiment: Path | None, normalisation: str | None,
) -> None:  # fmt: skip
    """Structure factors of RUN: partials, and the total that neutrons or X-rays see."""
    from mlmd.analysis.scattering.structure_factor import structure_factor as compute

    if normalisation is not None and experiment is None:
        raise InputError(f"--normalisation {normalisation} is that of an experiment. Give --experiment FILE too.")
    result = compute(
        trajectory, method=method, radiation=radiation, lengths=lengths, q_max=q_max, bin_width=bin_width,
        points_per_bin=points or None, max_frames=max_frames, seed=seed, r_max=r_max, end=window,
        experiment=experiment, normalisation=normalisation,
    )  # fmt: skip
    answer.give(result, lambda: _table(result), _notes(result))


def _table(result: StructureFactor) -> Table:
    title = f"{which_frames(result.provenance)}, {result.n_frames:,} of them used"
    table = new_table(
        title, "curve", "unit", "lowest q (1/Å)", "value", "first peak (1/Å)", "height", "highest (1/Å)", "height"
    )
    shown = [one for one in result.curves if one.name in ("F(q)", "S(q)") or one.name.startswith("A ")]
    for one in shown:
        peaks = result.peaks(one.name)
        highest = max(peaks, key=lambda peak: peak.height.value, default=None)
        row = [
            f"{peak.q.value:.2f} {bare(peak.height)}".split(" ") if peak else ["–", "–"]
            for peak in (peaks[0] if peaks else None, highest)
        ]
        table.add_row(one.name, one.unit or "–", f"{result.q[0]:.2f}", f"{one.values[0]:.3g}", *row[0], *row[1])
    return table


def _notes(result: StructureFactor) -> list[str]:
    shown = ("A", "F(q)", "S(q)")
    return [
        *(f"{name}: {text}" for name, text in result.definitions.items() if name in shown),
        f"Weights: {result.weights.source}"
        + "".join(f", {element} {length:g} fm" for element, length in result.weights.lengths.items()),
        *([] if result.match is None else [str(result.match)]),
        *result.notes,
    ]
