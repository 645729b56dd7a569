"""``mlmd phonons``: vibrations of a crystal, by any potential."""

from __future__ import annotations

from pathlib import Path

import click

from mlmd.cli.energy import read_given, structure_options
from mlmd.errors import InputError


@click.command()
@structure_options
@click.option(
    "--supercell", metavar="A,B,C", help="Repeats of the cell [default: 12 Å, or twice the cutoff, in height]."
)
@click.option("--displacement", default=0.01, show_default=True, help="Å.")
@click.option("--as-is", is_flag=True, help="Do not relax atoms and cell first.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for JSON, CSV and PNG [default: phonons].")
def phonons(
    structures: tuple[Path, ...], potential: str, elements: str | None, options: str, device: str, as_json: bool,
    trust: tuple[str, ...], supercell: str | None, displacement: float, as_is: bool, out: Path | None,
) -> None:  # fmt: skip
    """Phonon bands, density of states and harmonic thermodynamics of a crystal, which is relaxed first.

    Through phonopy: `pip install "mlmd[phonons]"`. A small cell of the crystal in STRUCTURES is best; one is taken.
    """
    repeats = None if supercell is None else _repeats(supercell)
    method, frames = read_given(structures, potential, elements, options, device, trust)
    if len(frames) != 1:
        raise InputError(f"mlmd phonons takes one structure, and {len(frames)} are given. Choose one with FILE@NUMBER.")
    from mlmd.cli.analyze.answer import Answer, new_table
    from mlmd.sample.phonons import phonons_of

    (frame,) = frames
    found = phonons_of(
        method, frame.atoms, frame.source, relax=not as_is, repeats=repeats, displacement=displacement
    )  # fmt: skip
    table = new_table(
        f"{found.structure}: {' x '.join(map(str, found.repeats))} cells",
        "T (K)", "F (eV/atom)", "S (k_B/atom)", "C_V (k_B/atom)",
    )  # fmt: skip
    columns = (found.temperatures, found.free_energy, found.entropy, found.heat_capacity)
    for row in list(zip(*columns, strict=True))[::2]:
        table.add_row(f"{row[0]:g}", *(f"{value:.5f}" for value in row[1:]))
    notes = [f"{name}: {one}" for name, one in found.quantities.items()]
    Answer(out or Path("phonons"), as_json).give(found, lambda: table, [*notes, *found.notes])


def _repeats(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise InputError(f"--supercell {text}: whole numbers with commas between are needed, as 4,4,4.") from None
