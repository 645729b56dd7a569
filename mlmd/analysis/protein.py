"""A protein in motion: how far from its structure, how compact, how mobile, folded how, held by what.

MDTraj (McGibbon et al., Biophys. J. 109, 1528 (2015)) computes: RMSD after the best superposition; the radius of
gyration with masses; secondary structure by DSSP (Kabsch and Sander, Biopolymers 22, 2577 (1983)), helix, strand and
coil; hydrogen bonds by Baker and Hubbard (Prog. Biophys. Mol. Biol. 44, 97 (1984)), H···acceptor below 2.5 Å and an
angle above 120°; contacts, residues three or more apart whose heavy atoms come closer than 4.5 Å; the dihedral angles φ
and ψ. Molecules are made whole first, so that the cell's sides cut nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.chain import Selected, selected
from mlmd.analysis.columns import csv_of
from mlmd.analysis.conformations import conformations, contact_pairs, joined
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.residues import FEW, HydrogenBond, Residue, bonds_of, residues_of
from mlmd.errors import InputError, StorageError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    import mdtraj
    from matplotlib.figure import Figure

_DRIFTS = 4.0
"""Standard errors between the halves of a series, beyond which it is told that it drifts."""
_NO_HYDROGEN = "hydrogen bonds are not told: none of the atoms is hydrogen"
_FEW = 5.0
"""Independent values, below which a mean is told to be doubtful."""


@dataclass(frozen=True)
class Series:
    """One quantity in time."""

    name: str
    unit: str
    values: np.ndarray
    """(n_frames,)."""
    mean: Estimate


@dataclass(frozen=True)
class ProteinResult:
    """What a protein did."""

    selection: str
    superposed: str
    """By which atoms structures are superposed, in words."""
    times: np.ndarray
    """(n_frames,) fs."""
    series: tuple[Series, ...]
    residues: tuple[Residue, ...]
    hydrogen_bonds: tuple[HydrogenBond, ...]
    """Those that are there in more than one of a hundred frames, most often first."""
    contacts: np.ndarray
    """(n_residues, n_residues) part of the frames in which two are in contact; nan for neighbours along the chain."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "protein"

    def __str__(self) -> str:
        """The means, and the notes."""
        return "\n".join([*(f"{one.name} = {one.mean}" for one in self.series), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Means with errors, residues, bonds and provenance; the series are in the CSV file."""
        return {
            "analysis": self.name,
            "selection": self.selection,
            "superposed_by": self.superposed,
            "means": {one.name: {"mean": one.mean.to_dict(), "spread": _spread(one.values)} for one in self.series},
            "residues": {one.name: one.to_json() for one in self.residues},
            "hydrogen_bonds": {one.name: {"occupancy": one.occupancy.to_dict()} for one in self.hydrogen_bonds},
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """All series, and the dihedral angles in degrees."""
        names = ["time [ps]", *(f"{one.name} [{one.unit}]" if one.unit else one.name for one in self.series)]
        columns = [self.times / 1e3, *(one.values for one in self.series)]
        for one in self.residues:
            for angle, values in one.angles.items():
                names.append(f"{angle} {one.name} [deg]")
                columns.append(np.degrees(values))
        return csv_of(names, columns, digits=7)

    def figure(self) -> Figure:
        """Series with their distributions, mobility, secondary structure, dihedral angles and contacts."""
        from mlmd.analysis.protein_figure import protein_figure

        return protein_figure(self)


def protein(
    trajectory: Trajectory, *, topology: Path | None = None, selection: str = "protein", reference: Path | None = None
) -> ProteinResult:
    """Analyse a protein, or other atoms that are selected.

    Args:
        trajectory: of all atoms.
        topology: PDB or PDBx/mmCIF file with the same atoms in the same order; by default that of the run folder.
        selection: atoms, in the words of mdtraj.
        reference: PDB file of the selected atoms, or of all; by default the first frame.

    Raises:
        InputError: without a topology, for other atoms, for a selection without atoms.
        StorageError: when a file cannot be read.
    """
    chosen = selected(trajectory, topology, selection)
    fitted, words = _superposed_by(chosen.topology)
    start = next(chosen.frames(trajectory))[0] if reference is None else _reference(reference, chosen, selection)
    masses = trajectory.masses[chosen.atoms]
    parts = [conformations(frames, start, fitted, masses) for frames in chosen.frames(trajectory)]
    rmsd, gyration, contacts, moved = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("rmsd", "gyration", "contacts", "moved")
    )
    touching = np.sum([part.touching for part in parts], axis=0)
    angles, structure, bonds = (joined(parts, name) for name in ("angles", "structure", "bonds"))
    series = [("RMSD", "Å", rmsd), ("radius of gyration", "Å", gyration)]
    if structure:
        letters = np.stack(list(structure.values()), axis=1)
        for name, letter in (("helix", "H"), ("strand", "E"), ("coil", "C")):
            series.append((name, "residues", (letters == letter).sum(axis=1).astype(float)))
    has_hydrogen = len(chosen.topology.select("element H")) > 0
    if has_hydrogen:
        series.append(("hydrogen bonds", "", np.sum(list(bonds.values()), axis=0) if bonds else np.zeros(len(rmsd))))
    pairs = contact_pairs(chosen.topology)
    if len(pairs):
        series.append(("contacts", "", contacts.astype(float)))
    found = tuple(Series(name, unit, values, average(values, unit)) for name, unit, values in series)
    notes = () if has_hydrogen else (_NO_HYDROGEN,)
    residues = residues_of(chosen.topology, moved, fitted, angles, structure)
    return ProteinResult(
        selection, words, trajectory.times, found, residues,
        bonds_of(chosen.topology, bonds), _contact_map(chosen.topology.n_residues, pairs, touching / len(rmsd)),
        (*trajectory.provenance.notes, *notes, *_notes(found), *_mobility_notes(residues)), trajectory.provenance,
    )  # fmt: skip


def _superposed_by(topology: mdtraj.Topology) -> tuple[np.ndarray, str]:
    """Atoms (n,) by which structures are superposed: Cα atoms where there are enough, else all but hydrogen."""
    alphas = topology.select("name CA and element C")
    if len(alphas) >= 4:
        return alphas, "Cα atoms"
    heavy = topology.select("element != H")
    return (heavy, "all atoms but hydrogen") if len(heavy) >= 3 else (np.arange(topology.n_atoms), "all atoms")


def _reference(path: Path, chosen: Selected, selection: str) -> mdtraj.Trajectory:
    import mdtraj

    try:
        given = mdtraj.load(str(path))[0]
    except Exception as error:  # readers raise whatever a damaged file leads them to
        raise StorageError(f"{path} cannot be read as a structure ({type(error).__name__}: {error}).") from None
    if given.n_atoms != chosen.topology.n_atoms:
        given = given.atom_slice(given.topology.select(selection))
    names = [atom.name for atom in given.topology.atoms]
    if names != [atom.name for atom in chosen.topology.atoms]:
        raise InputError(f"{path}: its atoms are not those that {selection!r} selects, by name and order.")
    return mdtraj.Trajectory(given.xyz, chosen.topology)  # as it stands in the file, whole


def _contact_map(n_residues: int, pairs: np.ndarray, often: np.ndarray) -> np.ndarray:
    found = np.full((n_residues, n_residues), np.nan)
    if len(pairs):
        found[pairs[:, 0], pairs[:, 1]] = found[pairs[:, 1], pairs[:, 0]] = often
    return found


def _spread(values: np.ndarray) -> dict[str, float]:
    """Of the distribution: standard deviation and the quantiles of 5, 50 and 95 %."""
    low, middle, high = (float(one) for one in np.quantile(values, [0.05, 0.5, 0.95]))
    return {"standard_deviation": float(values.std()), "quantile_5": low, "median": middle, "quantile_95": high}


def _notes(series: tuple[Series, ...]) -> tuple[str, ...]:
    """Series whose means are not those of equilibrium: few independent values, or halves that disagree."""
    doubtful = []
    for one in series:
        halves = [average(half, one.unit) for half in np.array_split(one.values, 2)]
        gap = abs(halves[1].value - halves[0].value)
        disagree = gap > _DRIFTS * math.hypot(halves[0].error, halves[1].error) > 0.0
        if len(one.values) >= 20 and (disagree or (one.mean.error > 0.0 and one.mean.n_independent < _FEW)):
            doubtful.append(one.name)
    if not doubtful:
        return ()
    return (
        f"{', '.join(doubtful)}: the trajectory is short beside the times in which this changes, or it drifts; the "
        "mean is not that of equilibrium",
    )


def _mobility_notes(residues: tuple[Residue, ...]) -> tuple[str, ...]:
    told = [one.fluctuation for one in residues if one.fluctuation is not None]
    unknown = sum(math.isnan(one.error) for one in told)
    if not unknown:
        return ()
    return (
        f"RMSF: fewer than {FEW:g} independent frames stand behind {unknown} of {len(told)} values, whose errors are "
        "not known; in a longer trajectory they are larger",
    )
