"""fluxes.csv: what Green-Kubo integrals are made of, written more often than the log.

Pressure tensor P = (Σ m v ⊗ v - virial) / V, in bar, the bias in it as in the log.
Heat flux times volume, V J = Σ_i e_i v_i - Σ_i B_i v_i in eV Å/fs, with e_i the kinetic and potential energy of an
atom and B_i its nine-component virial (`mlmd.potentials.virials_of`; Fan et al., Phys. Rev. B 92, 094301, 2015): this
is d/dt Σ r_i e_i of a body in vacuum, which with the symmetric part of B_i it is not.
Current I = Σ_i q_i v_i in e Å/fs.
Number flux of an element, Σ v_i of its atoms in Å/fs, beside the heat flux of several elements: the zero of the energy
of an atom is arbitrary, and adds a multiple of these to the heat flux.

Velocities are those at the time of the positions: the integrators leave them half a step behind, v + F dt / 2m.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd import units
from mlmd.engine.outputs import AppendOnly
from mlmd.engine.system import PS
from mlmd.rundir import FLUXES

if TYPE_CHECKING:
    from mlmd.engine.stage import DynamicsStage

COLUMNS = {
    "stress": tuple(f"pressure {axes} [bar]" for axes in ("xx", "yy", "zz", "yz", "xz", "xy")),
    "heat": tuple(f"heat flux {axis} [eV Å/fs]" for axis in "xyz"),
    "current": tuple(f"current {axis} [e Å/fs]" for axis in "xyz"),
}
NUMBER = "number flux {element} {axis} [Å/fs]"
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class Fluxes(AppendOnly):
    """fluxes.csv: one row of numbers at each of its steps, in the user's orientation."""

    def __init__(
        self, folder: Path, kinds: Sequence[str], charges: np.ndarray | None, symbols: Sequence[str]
    ) -> None:  # fmt: skip
        """Take the run folder, which fluxes of `COLUMNS`, charges (n_atoms,) e for the current, and elements."""
        self._kinds, self._charges = tuple(kinds), charges
        elements = tuple(dict.fromkeys(symbols))
        self._members = {one: np.array(symbols) == one for one in elements} if self._counts(folder, elements) else {}
        self.details = "heat" in kinds
        """Whether energies and virials of atoms are needed."""
        super().__init__(folder / FLUXES)

    def _counts(self, folder: Path, elements: Sequence[str]) -> bool:
        """Whether number fluxes are written; a file that was begun without keeps its columns."""
        if "heat" not in self._kinds or len(elements) < 2:
            return False
        path = folder / FLUXES
        if not path.exists() or not path.stat().st_size:
            return True
        with path.open(encoding="utf-8") as file:
            return NUMBER.format(element=elements[0], axis="x") in file.readline()

    def header(self) -> bytes:
        """Names with units."""
        names = ["step", "stage", "time [ps]", "temperature [K]", "volume [Å^3]"]
        names += [name for kind in self._kinds for name in COLUMNS[kind]]
        names += [NUMBER.format(element=element, axis=axis) for element in self._members for axis in "xyz"]
        return (",".join(names) + "\n").encode()

    def take(self, stage: DynamicsStage) -> None:
        """Write the present moment of a stage."""
        body, step = stage.body, stage.global_step
        velocities = on_time(stage)
        volume = float(np.linalg.det(stage.forces.cell)) if body.pbc.all() else float("nan")
        values = [body.temperature(body.kinetic_energy(velocities)), volume, *self._values(stage, velocities, volume)]
        time = f"{stage.time / PS:.15g}"
        # as many digits as a difference of heat fluxes is known to: a sum over atoms whose energies have an offset
        words = [str(step), str(stage.record.index + 1), time, *(f"{value:.12g}" for value in values)]
        self.append((",".join(words) + "\n").encode())

    def _values(self, stage: DynamicsStage, velocities: np.ndarray, volume: float) -> Iterator[float]:
        masses, answer, frame = stage.body.masses * units.KINETIC, stage.answer(details=self.details), stage.frame
        for kind in self._kinds:
            if kind == "stress":
                pressure = ((velocities * masses[:, None]).T @ velocities - answer.evaluation.virial) / volume
                yield from frame.tensor_to_user(pressure)[_VOIGT] / units.BAR
            elif kind == "heat":
                found = answer.potential
                assert found.energies is not None and found.virials is not None
                yield from frame.to_user(heat_flux(found.energies, found.virials, masses, velocities))
            else:
                yield from frame.to_user(self._charges @ velocities)
        for members in self._members.values():
            yield from frame.to_user(velocities[members].sum(axis=0))


def heat_flux(energies: np.ndarray, virials: np.ndarray, masses: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Heat flux times volume (3,) eV Å/fs.

    Args:
        energies: (n_atoms,) eV, potential.
        virials: (n_atoms, 3, 3) eV, of atoms.
        masses: (n_atoms,) eV fs²/Å².
        velocities: (n_atoms, 3) Å/fs.
    """
    kinetic = 0.5 * masses * np.einsum("ij,ij->i", velocities, velocities)
    carried: np.ndarray = (energies + kinetic) @ velocities - np.einsum("iab,ib->a", virials, velocities)
    return carried


def on_time(stage: DynamicsStage) -> np.ndarray:
    """(n_atoms, 3) Å/fs in the engine's frame, at the time of the positions."""
    velocities, body = stage.velocities(), stage.body
    if len(body.constraints[0]):  # these have forces too, which are not known
        return velocities
    kick = 0.5 * stage.record.timestep * stage.answer().evaluation.forces / (units.KINETIC * body.masses[:, None])
    later: np.ndarray = velocities + kick * body.mobile[:, None]
    return later
