"""What each residue of a protein did: how far it moved, how it was folded, and which hydrogen bonds there were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.estimate import Estimate, average

if TYPE_CHECKING:
    import mdtraj

FEW = 10.0
"""Independent frames, below which the error of a root mean square fluctuation is not known."""
RARELY = 0.01
"""Part of the frames: hydrogen bonds that are there less often are not told."""


@dataclass(frozen=True)
class Residue:
    """One residue."""

    name: str
    """As in ``TYR2``; the number is that of the file."""
    fluctuation: Estimate | None
    """RMSF of its atoms that were superposed, Å; None where it has none of them."""
    angles: Mapping[str, np.ndarray]
    """φ and ψ, where it has them: (n_frames,) radians."""
    structure: Mapping[str, Estimate]
    """Part of the frames in which it is of a helix, a strand or a coil; empty where it has no backbone."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; angles as mean direction and spread on the circle, in degrees."""
        return {
            "RMSF": None if self.fluctuation is None else self.fluctuation.to_dict(),
            **{name: one.to_dict() for name, one in self.structure.items()},
            **{angle: _direction(values) for angle, values in self.angles.items()},
        }


@dataclass(frozen=True)
class HydrogenBond:
    """Who holds whom how often."""

    name: str
    """As in ``ASP3-N ··· THR8-O``, the donor first."""
    occupancy: Estimate
    """Part of the frames."""


def residues_of(
    topology: mdtraj.Topology, moved: np.ndarray, fitted: np.ndarray, angles: Mapping[tuple[Any, ...], np.ndarray],
    structure: Mapping[tuple[Any, ...], np.ndarray],
) -> tuple[Residue, ...]:  # fmt: skip
    """Every residue.

    Args:
        topology: names.
        moved: (n_frames, n, 3) Å, positions of the atoms by which frames were superposed.
        fitted: (n,) these atoms.
        angles: (n_frames,) radians, by name and residue.
        structure: (n_frames,) letters of DSSP, by "dssp" and residue.
    """
    owner = np.array([topology.atom(int(atom)).residue.index for atom in fitted])
    found = []
    for residue in topology.residues:
        own, letters = owner == residue.index, structure.get(("dssp", residue.index))
        found.append(
            Residue(
                _name(residue),
                _fluctuation(moved[:, own]) if own.any() else None,
                {name: angles[name, residue.index] for name in "φψ" if (name, residue.index) in angles},
                {} if letters is None else {
                    name: average((letters == letter).astype(float), "")
                    for name, letter in (("helix", "H"), ("strand", "E"), ("coil", "C"))
                },
            )
        )  # fmt: skip
    return tuple(found)


def bonds_of(topology: mdtraj.Topology, bonds: Mapping[tuple[Any, ...], np.ndarray]) -> tuple[HydrogenBond, ...]:
    """Hydrogen bonds by name, from (n_frames,) bool of each donor, hydrogen and acceptor; hydrogens count as one."""
    together: dict[str, np.ndarray] = {}
    for (donor, _, acceptor), there in bonds.items():
        ends = (topology.atom(donor), topology.atom(acceptor))
        name = " ··· ".join(f"{_name(atom.residue)}-{atom.name}" for atom in ends)
        together[name] = together[name] | there if name in together else there
    found = [HydrogenBond(name, average(there.astype(float), "")) for name, there in together.items()]
    return tuple(sorted((one for one in found if one.occupancy.value > RARELY), key=lambda one: -one.occupancy.value))


def _name(residue: Any) -> str:
    several = residue.chain.topology.n_chains > 1 if hasattr(residue.chain, "topology") else False
    return f"{residue.chain.index}:{residue}" if several else str(residue)


def _fluctuation(positions: np.ndarray) -> Estimate:
    """√⟨|r - ⟨r⟩|²⟩ of atoms (n_frames, n, 3) Å, about the mean of all frames.

    The error is that of the mean of squares. It is not known where places themselves remember too much: squares of a
    slow motion about its own mean seem to forget in a fraction of its time.
    """
    squares = ((positions - positions.mean(axis=0)) ** 2).sum(axis=2).mean(axis=1)
    value = math.sqrt(float(squares.mean()))
    if len(squares) < 2 or not value:
        return Estimate(value, math.nan, "Å", float(len(squares)))
    mean = average(squares, "Å²")
    places = [average(series, "Å") for series in positions.mean(axis=1).astype(float).T]
    n_independent = min([mean.n_independent, *(one.n_independent for one in places if one.error > 0.0)])
    error = mean.error / (2.0 * value) if n_independent >= FEW else math.nan
    return Estimate(value, error, "Å", n_independent)


def _direction(values: np.ndarray) -> dict[str, float]:
    """Mean direction and circular standard deviation √(-2 ln R), in degrees."""
    mean = np.exp(1j * values.astype(float)).mean()
    length = min(max(abs(mean), 1e-300), 1.0)
    return {
        "mean_deg": float(np.degrees(np.angle(mean))),
        "spread_deg": float(np.degrees(math.sqrt(-2.0 * math.log(length)))),
    }
