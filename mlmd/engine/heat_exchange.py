"""Heat from a cold slab of atoms to a hot one, and the temperatures of all slabs (`temperatures.csv`).

Every so many steps the velocities of the atoms in both slabs are scaled about that of the slab's centre of mass,

    v_i ← u + ξ (v_i - u),   ξ = √(1 ± Q / K),   K = Σ ½ m (v_i - u)²,

which adds Q to one slab and takes it from the other and leaves both momenta (Ikeshoji and Hafskjold, Mol. Phys. 81,
251, 1994). Velocities are those at the time of the positions, so that the energy at that moment stays what it was to
rounding, and leapfrog goes on from them half a step behind. What remains of the drift that Wirnsberger, Frenkel and
Dellago (J. Chem. Phys. 143, 124104, 2015) found in the method where it is split otherwise is that of the leapfrog's
own energy, which differs from the energy by Δt² and by the vibrations of the slabs.

It is a function of positions, velocities and the number of the step alone: a checkpoint needs nothing more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ase
import numpy as np

from mlmd import units
from mlmd.config import Simulate
from mlmd.config.heat import HeatExchange, heat_exchange_of
from mlmd.engine.fluxes import on_time
from mlmd.engine.forces import NM
from mlmd.engine.outputs import AppendOnly
from mlmd.errors import InputError, SimulationError
from mlmd.rundir import TEMPERATURES

if TYPE_CHECKING:
    from mlmd.engine.stage import DynamicsStage

HEAT_COLUMN = "exchanged heat [eV]"
"""Of the log: what the hot slab has got since the stage began."""
BEYOND = 1e-3
"""Å."""
FEWEST = 2
"""Atoms of a slab: one alone has no temperature about its own velocity."""


class Temperatures(AppendOnly):
    """temperatures.csv: kinetic energy and number of mobile atoms of each slab, the hot one first.

    The length is that of the cell along the axis, the area that of its face across.
    """

    def __init__(self, folder: Path, n_slabs: int) -> None:
        """Take the run folder."""
        self._n_slabs = n_slabs
        super().__init__(folder / TEMPERATURES)

    def header(self) -> bytes:
        """Names with units."""
        names = ["step", "stage", "time [ps]", HEAT_COLUMN, "length [Å]", "area [Å^2]"]
        names += [f"kinetic energy {k} [eV]" for k in range(self._n_slabs)]
        names += [f"atoms {k}" for k in range(self._n_slabs)]
        return (",".join(names) + "\n").encode()

    def row(self, words: list[str]) -> None:
        """Add a line."""
        self.append((",".join(words) + "\n").encode())


class Exchange:
    """The exchange of heat in a stage."""

    def __init__(self, table: HeatExchange, timestep: float) -> None:
        """`timestep` in fs."""
        self.every, self.write_every = table.every, max(1, round(table.write_every / timestep))
        self.heat = table.power * table.every * timestep
        """eV, of one exchange."""
        self._axis, self.n_slabs = "xyz".index(table.axis), table.slabs
        self.file: Temperatures | None = None

    def exchanged(self, step: int) -> float:
        """eV, from the beginning of the stage to one of its steps."""
        return step // self.every * self.heat

    def take_turn(self, stage: DynamicsStage) -> None:
        """Exchange heat and write temperatures, where this step is one for it."""
        due, writes = stage.step % self.every == 0, stage.step % self.write_every == 0
        if not (due or writes):
            return
        slabs, velocities = self._slabs(stage), on_time(stage)
        if due:
            changed = self._changed(stage, slabs, velocities)
            stage.set_velocities(stage.velocities() + changed - velocities)
            velocities = changed
        if writes and self.file is not None:
            self._write(self.file, stage, slabs, velocities)

    def _slabs(self, stage: DynamicsStage) -> np.ndarray:
        """(n_atoms,) the slab of each atom; -1 of those that are held."""
        positions, frame = stage.positions() * NM, stage.frame
        found = slabs_of(frame.to_user(positions), frame.user_cell(stage.forces.cell), self._axis, self.n_slabs)
        return np.where(stage.body.mobile, found, -1)

    def _changed(self, stage: DynamicsStage, slabs: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        changed = velocities.copy()
        for slab, heat in ((0, self.heat), (self.n_slabs // 2, -self.heat)):
            members = slabs == slab
            changed[members] = heated(velocities[members], stage.body.masses[members], heat, stage.global_step)
        return changed

    def _write(self, file: Temperatures, stage: DynamicsStage, slabs: np.ndarray, velocities: np.ndarray) -> None:
        kinetic = 0.5 * units.KINETIC * stage.body.masses * np.einsum("ij,ij->i", velocities, velocities)
        moving = slabs >= 0
        energies = np.bincount(slabs[moving], kinetic[moving], minlength=self.n_slabs)
        counts = np.bincount(slabs[moving], minlength=self.n_slabs)
        words = [str(stage.global_step), str(stage.record.index + 1), f"{stage.time / 1e3:.15g}"]
        cell = stage.frame.user_cell(stage.forces.cell)
        area = float(np.linalg.norm(np.cross(cell[(self._axis + 1) % 3], cell[(self._axis + 2) % 3])))
        length = abs(float(np.linalg.det(cell))) / area
        words += [f"{value:.8g}" for value in (self.exchanged(stage.step), length, area, *energies)]
        file.row([*words, *map(str, counts)])


def slabs_of(positions: np.ndarray, cell: np.ndarray, axis: int, n_slabs: int) -> np.ndarray:
    """(n_atoms,) the slab of each atom at positions (n_atoms, 3) Å: equal parts along a vector of the cell."""
    share = (positions @ np.linalg.inv(cell)[:, axis]) % 1.0
    return np.minimum((share * n_slabs).astype(int), n_slabs - 1)


def heated(velocities: np.ndarray, masses: np.ndarray, heat: float, step: int = 0) -> np.ndarray:
    """Velocities of the atoms of a slab after it has got heat: the same momentum, and so much more kinetic energy.

    Args:
        velocities: (n, 3) Å/fs.
        masses: (n,) amu.
        heat: eV, negative where it is taken away.
        step: global, for the message.

    Raises:
        SimulationError: when there are fewer than `FEWEST` atoms, or not so much heat to take.
    """
    if len(velocities) < FEWEST:
        raise SimulationError(
            f"step {step:,}: {len(velocities)} atoms are in a slab that exchanges heat. Give fewer slabs, "
            "heat_exchange = { slabs = ... }, or a cell that is filled along its axis."
        )
    centre = masses @ velocities / masses.sum()
    relative = velocities - centre
    kinetic = 0.5 * units.KINETIC * float(masses @ np.einsum("ij,ij->i", relative, relative))
    if kinetic <= -2.0 * heat:  # half of all that it has in one exchange is no small disturbance
        raise SimulationError(
            f"step {step:,}: the cold slab has {kinetic:.3g} eV of kinetic energy, and {-heat:.3g} eV are to be taken "
            "from it at once. Give a smaller heat_exchange power, or exchange more often (every)."
        )
    scaled: np.ndarray = centre + np.sqrt(1.0 + heat / kinetic) * relative
    return scaled


def check_exchange(config: Simulate, atoms: ase.Atoms, mobile: np.ndarray) -> None:
    """Make sure that heat can flow in a structure.

    Raises:
        InputError: without full periodicity, and when a slab has too few atoms that move.
    """
    for number, stage in enumerate(config.stage, 1):
        table = heat_exchange_of(stage)
        if table is None:
            continue
        place = f"stage {number} (nve): heat_exchange:"
        if not atoms.pbc.all():
            raise InputError(f"{place} it needs a cell periodic in all three directions, through which heat flows.")
        # planes of a crystal that lie on the borders of slabs are a little beyond them all
        slabs = slabs_of(atoms.positions + BEYOND, atoms.cell.array, "xyz".index(table.axis), table.slabs)
        counts = np.bincount(slabs[mobile], minlength=table.slabs)
        if counts.min() < FEWEST:
            raise InputError(
                f"{place} slab {int(counts.argmin())} of {table.slabs} along {table.axis} has {counts.min()} atoms "
                f"that move, and {FEWEST} are needed in each. Give fewer slabs, or a larger cell."
            )
