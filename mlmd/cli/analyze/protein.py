"""``mlmd analyze protein``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.analyze.answer import Answer, bare, new_table, which_frames
from mlmd.cli.analyze.options import FILE, of_frames

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.protein import ProteinResult
    from mlmd.io.frames import Trajectory

_MOST_BONDS = 12


@click.command()
@of_frames
@click.option("--topology", type=FILE, help="PDB or mmCIF file with the same atoms [default: RUN/topology.pdb].")
@click.option("--select", "selection", default="protein", show_default=True, help="Atoms, in the words of mdtraj.")
@click.option("--reference", type=FILE, help="Structure that RMSD is from, a PDB file [default: the first frame].")
def protein(
    trajectory: Trajectory, answer: Answer, topology: Path | None, selection: str, reference: Path | None
) -> None:
    """RMSD, compactness, mobility, folding, hydrogen bonds and contacts of a protein in RUN."""
    from mlmd.analysis.protein import protein as compute

    result = compute(trajectory, topology=topology, selection=selection, reference=reference)
    notes = [f"Superposed by {result.superposed}.", *_bonds(result), *result.notes]
    answer.give(result, lambda: _table(result), notes)


def _table(result: ProteinResult) -> Table:
    table = new_table(which_frames(result.provenance), "", "mean", "residue", "RMSF (Å)", "helix", "strand", "coil")
    for row in range(max(len(result.series), len(result.residues))):
        cells = ["", ""]
        if row < len(result.series):
            cells = [result.series[row].name, str(result.series[row].mean)]
        if row < len(result.residues):
            one = result.residues[row]
            cells += [one.name, "–" if one.fluctuation is None else bare(one.fluctuation)]
            cells += [
                f"{one.structure[kind].value:.0%}" if one.structure else "–" for kind in ("helix", "strand", "coil")
            ]
        table.add_row(*cells)
    return table


def _bonds(result: ProteinResult) -> list[str]:
    shown = [f"{one.name} {one.occupancy.value:.0%}" for one in result.hydrogen_bonds[:_MOST_BONDS]]
    left = len(result.hydrogen_bonds) - len(shown)
    return [f"Hydrogen bonds: {', '.join(shown)}{f' and {left} more' if left else ''}."] if shown else []
