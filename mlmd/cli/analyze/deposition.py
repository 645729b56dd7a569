"""``mlmd analyze deposition``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked, bare, new_table, which_frames
from mlmd.cli.analyze.options import FILE, Time, with_asked, with_recognition
from mlmd.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.deposition import DepositionResult
    from mlmd.analysis.film_layers import FilmLayer
    from mlmd.analysis.recognition import Recognition
    from mlmd.io.growing import Growth


@click.command()
@click.argument("run", type=FILE)
@click.option(
    "--stage", type=click.IntRange(min=1), help="Only this stage [default: from the first deposit to the end]."
)
@click.option("--from", "first_time", type=Time(), help='Leave out frames before, e.g. "20 ps" of the run.')
@click.option("--to", "last_time", type=Time(), help="Leave out frames after.")
@click.option("--interval", type=Time(), help='For a file of another program, time between its frames: "1 ps".')
@click.option("--last", default=10, show_default=True, help="Frames at the end that tell what the film is like.")
@click.option(
    "--kernel",
    type=float,
    help="Å, width of the Gaussians that give the density along z [default: 0.3, less where layers are close].",
)
@click.option("--contact", type=float, help="Å below which atoms touch [default: the run's, or 1.4 bonds of the slab].")
@click.option("--grid", default=0.4, show_default=True, help="Å between points of the height map.")
@click.option("--lattice", help="Whose faces layers are compared with: fcc, bcc, none [default: the element's].")
@with_recognition
@with_asked(f"RUN/{FOLDER}, of a file: {FOLDER}")
def deposition(
    run: Path, stage: int | None, first_time: float | None, last_time: float | None, interval: float | None, last: int,
    kernel: float | None, contact: float | None, grid: float, lattice: str | None,
    recognition: Recognition, asked: Asked,
) -> None:  # fmt: skip
    """Layers, growth, sticking and roughness of the film in RUN, and which faces its layers look like.

    RUN is a run folder, or a trajectory of another program (extended XYZ, LAMMPS text dump) whose first frame is the
    bare slab.
    """
    from mlmd.analysis.deposition import deposition as compute

    growth = _growth(run, stage, interval, first_time, last_time)
    result = compute(
        growth, kernel=kernel, last=last, contact=contact, grid=grid, lattice=lattice, recognition=recognition
    )
    folder = Path(FOLDER) if run.is_file() else run / FOLDER
    asked.answer(folder).give(result, lambda: _table(result), str(result).splitlines())


def _growth(
    run: Path, stage: int | None, interval: float | None, first_time: float | None, last_time: float | None
) -> Growth:
    from mlmd.io.growing import open_growing_file, open_growth

    if not run.is_file():
        if interval is not None:
            raise InputError(f"--interval: for files of other programs; {run} is no file.")
        return open_growth(run, stage, first_time, last_time)
    if stage is not None:
        raise InputError(f"--stage {stage}: stages are those of a run folder, and {run} is a file.")
    return open_growing_file(run, interval=interval, first_time=first_time, last_time=last_time)


def _table(result: DepositionResult) -> Table:
    columns = ("layer", "z (Å)", "filling (ML)", "elements", "neighbours", "structure", "like", "similarity")
    table = new_table(which_frames(result.provenance), *columns)
    for layer in reversed(result.layers):
        table.add_row(
            str(layer.number), bare(layer.height), bare(layer.filling),
            " ".join(f"{name} {part:.0%}" if part < 1.0 else name for name, part in layer.composition.items()),
            bare(layer.coordination), _structures(layer), f"({layer.face})" if layer.face else "–", _similarity(layer),
        )  # fmt: skip
    return table


def _structures(layer: FilmLayer) -> str:
    """The types of which there is a part worth telling, most first."""
    parts = sorted(layer.structures.items(), key=lambda item: -item[1].value)
    return " ".join(f"{name} {one.value:.0%}" for name, one in parts if one.value >= 0.005)


def _similarity(layer: FilmLayer) -> str:
    return "  ".join(f"({face}) {one}" for face, one in layer.similarity.items()) or "–"
