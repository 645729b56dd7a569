"""Elastic constants of a crystal by strain, and its equation of state.

C_ij = dσ_i/dε_j in Voigt order xx yy zz yz xz xy, shears as ε_4 = 2 ε_yz: central differences of the stress, the atoms
of each strained cell relaxed (Le Page, Saxe, Phys. Rev. B 65, 104104, 2002). Differences over h and 2 h give the value
without the term of h², (4 C(h) - C(2h)) / 3, and its error, |C(h) - C(2h)| / 3 with what breaks C_ij = C_ji.

A crystal is stable where all eigenvalues of C are positive (Born; Mouhat, Coudert, Phys. Rev. B 90, 224104, 2014).
Moduli of its powder are Voigt's and Reuss' bounds and Hill's mean (Proc. Phys. Soc. A 65, 349, 1952). The equation of
state is Birch and Murnaghan's third order, of cells that keep their shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ase
import ase.units
import numpy as np
from ase.eos import EquationOfState

from mlmd.analysis.estimate import Estimate
from mlmd.analysis.moduli import MODULI, moduli
from mlmd.config import Minimize
from mlmd.engine.minimize import minimize
from mlmd.errors import InputError, SimulationError
from mlmd.potentials import Evaluator, Potential, has_stress
from mlmd.potentials.evaluate import evaluator

if TYPE_CHECKING:
    from mlmd.sample.method import PotentialMethod

VACUUM = 6.0
"""Å: no two layers of a crystal are farther apart."""
NO_MINIMUM = (
    "no equation of state: no minimum of the energy lies within the volumes that were tried. Relax the cell first "
    "(leave out --as-is)"
)
STRAIN = 2e-3
"""Of the smaller of both differences."""
FORCE, STEPS = 1e-4, 10_000
"""eV/Å to which atoms and cells are relaxed, and the most steps for it."""
SQUEEZE = 0.02
"""Of lengths, to both sides of the equation of state."""
N_VOLUMES = 9
REST = 0.05
"""GPa: a stress that is no rest of a relaxation."""
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
_UNIT = np.zeros((6, 3, 3))
for _number, (_i, _j) in enumerate(zip(*_VOIGT, strict=True)):
    _UNIT[_number, _i, _j] += 0.5
    _UNIT[_number, _j, _i] += 0.5


@dataclass(frozen=True)
class Elastic:
    """How a crystal answers to strain."""

    structure: str
    atoms: ase.Atoms
    """As strained: relaxed, unless that was not wanted."""
    tensor: np.ndarray
    """(6, 6) GPa."""
    error: np.ndarray
    """(6, 6) GPa."""
    eigenvalues: np.ndarray
    """(6,) GPa, of the tensor, growing."""
    moduli: Mapping[str, Estimate]
    """Bulk, shear and Young's modulus in GPa, Poisson's ratio and the universal anisotropy."""
    equation_of_state: Mapping[str, Estimate]
    """Volume and energy at the minimum, bulk modulus and its derivative by the pressure; empty where not wanted."""
    notes: tuple[str, ...]

    @property
    def stable(self) -> bool:
        """Whether no small strain gains energy."""
        return bool(self.eigenvalues[0] > 0.0)

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of arrays end in their unit."""
        return {
            "structure": self.structure,
            "formula": str(self.atoms.symbols),
            "cell_A": self.atoms.cell.array.tolist(),
            "elastic_constants_GPa": self.tensor.tolist(),
            "error_GPa": self.error.tolist(),
            "eigenvalues_GPa": self.eigenvalues.tolist(),
            "stable": self.stable,
            "moduli": {name: one.to_dict() for name, one in self.moduli.items()},
            "equation_of_state": {name: one.to_dict() for name, one in self.equation_of_state.items()},
            "notes": list(self.notes),
        }


def elastic_constants(
    method: PotentialMethod, atoms: ase.Atoms, name: str, *, relax: bool = True, clamped: bool = False,
    strain: float = STRAIN, with_equation: bool = True,
) -> Elastic:  # fmt: skip
    """Elastic constants of a structure by any potential; arguments and errors as for `elastic`, and of loading."""
    from mlmd.potentials.device import choose_device

    potential = method.load([(name, atoms.get_chemical_symbols())])
    return elastic(
        potential, atoms, name, relax=relax, clamped=clamped, strain=strain, with_equation=with_equation,
        device=choose_device(method.device, potential),
    )  # fmt: skip


def elastic(
    potential: Potential, atoms: ase.Atoms, name: str = "the structure", *, relax: bool = True, clamped: bool = False,
    strain: float = STRAIN, with_equation: bool = True, device: str = "cpu",
) -> Elastic:  # fmt: skip
    """Elastic constants of a crystal, its moduli and its equation of state.

    Args:
        potential: with a stress.
        atoms: periodic in all directions.
        name: of the structure, for messages.
        relax: move atoms and cell to where neither force nor stress is left first.
        clamped: leave the atoms where the strain carries them ("clamped ions").
        strain: of the smaller of both differences.
        with_equation: find the equation of state too.
        device: where the potential computes.

    Raises:
        InputError: without full periodicity, for a potential without a stress, or an impossible strain.
        SimulationError: when a structure does not relax.
    """
    if not atoms.pbc.all():
        raise InputError(f"{name}: elastic constants are those of a crystal, periodic in all three directions.")
    if not has_stress(potential):
        raise InputError("elastic constants are derivatives of the stress, and this potential gives none.")
    if not 1e-5 <= strain <= 0.02:
        raise InputError(f"a strain of {strain:g}: give one from 1e-5 to 0.02; {STRAIN:g} suits most crystals.")
    crystal = _Crystal(evaluator(potential, atoms.numbers, atoms.pbc, device=device), name)
    if relax:
        atoms = crystal.relaxed(atoms, cell=True)
    settle: Callable[[ase.Atoms], ase.Atoms] = (lambda one: one) if clamped else crystal.relaxed
    near, far = (crystal.tensor(atoms, settle, times * strain) for times in (1, 2))
    tensor = (4.0 * near - far) / 3.0
    error = np.abs(near - far) / 3.0 + 0.5 * np.abs(tensor - tensor.T)
    tensor = 0.5 * (tensor + tensor.T)
    best, other, another = (moduli(0.5 * (one + one.T)) for one in (tensor, near, far))
    equation = crystal.equation_of_state(atoms, settle) if with_equation else {}
    rest = crystal.stress(atoms)
    return Elastic(
        structure=name, atoms=atoms, tensor=tensor, error=error, eigenvalues=np.linalg.eigvalsh(tensor),
        moduli={
            which: Estimate(value, abs(other[which] - another[which]) / 3.0, MODULI[which], float("nan"))
            for which, value in best.items()
        },
        equation_of_state=equation,
        notes=(
            *_notes(tensor, rest, clamped=clamped), *gaps(atoms),
            *((NO_MINIMUM,) if with_equation and not equation else ()),
        ),
    )  # fmt: skip


def at_rest(potential: Potential, atoms: ase.Atoms, name: str, device: str = "cpu") -> ase.Atoms:
    """A crystal with its atoms and cell where neither force nor stress is left.

    Raises:
        InputError: for a potential without a stress.
        SimulationError: when it does not get there.
    """
    if not has_stress(potential):
        raise InputError(f"{name}: this potential gives no stress to relax the cell by. Relax it elsewhere; --as-is.")
    return _Crystal(evaluator(potential, atoms.numbers, atoms.pbc, device=device), name).relaxed(atoms, cell=True)


class _Crystal:
    """An evaluator that strains and relaxes one crystal."""

    def __init__(self, engine: Evaluator, name: str) -> None:
        self._engine, self._name = engine, name

    def relaxed(self, atoms: ase.Atoms, *, cell: bool = False) -> ase.Atoms:
        """Where no force, and with the cell no stress, is left."""
        stage = Minimize(max_force=FORCE, max_steps=STEPS, cell=cell)
        found = minimize(stage, self._engine, atoms, np.ones(len(atoms), dtype=bool))
        if not found.converged:
            raise SimulationError(
                f"{self._name} is not at rest after {STEPS:,} steps: a force of {found.max_force:.2g} eV/Å is left. Is "
                "it a crystal of this potential? `mlmd relax --cell` shows where it goes."
            )
        moved = atoms.copy()
        moved.set_cell(found.cell)
        moved.positions = found.positions
        return moved

    def stress(self, atoms: ase.Atoms) -> np.ndarray:
        """(6,) GPa, positive in tension."""
        virial = self._engine.evaluate(atoms.positions, atoms.cell.array).virial
        found: np.ndarray = virial[_VOIGT] / atoms.get_volume() / ase.units.GPa
        return found

    def tensor(self, atoms: ase.Atoms, settle: Callable[[ase.Atoms], ase.Atoms], strain: float) -> np.ndarray:
        """(6, 6) GPa, by differences over a strain."""
        columns = []
        for unit in _UNIT:
            up, down = (self.stress(settle(_strained(atoms, sign * strain * unit))) for sign in (1, -1))
            columns.append((up - down) / (2.0 * strain))
        return np.array(columns).T

    def equation_of_state(
        self, atoms: ase.Atoms, settle: Callable[[ase.Atoms], ase.Atoms]
    ) -> dict[str, Estimate]:  # fmt: skip
        """Of Birch and Murnaghan; errors are differences to the fit of every second volume."""
        cells = [settle(_strained(atoms, s * np.eye(3))) for s in np.linspace(-SQUEEZE, SQUEEZE, N_VOLUMES)]
        energies = np.array([self._engine.evaluate(one.positions, one.cell.array).energy for one in cells])
        volumes = np.array([one.get_volume() for one in cells])
        try:
            best, coarse = (_birch_murnaghan(volumes[::step], energies[::step]) for step in (1, 2))
        except (RuntimeError, ValueError):
            return {}
        if not volumes.min() < best[3] < volumes.max():
            return {}
        quantities = ("energy", "bulk modulus", "derivative of the bulk modulus", "volume")
        of_one = ("eV", "GPa", "", "Å³")
        return {
            name: Estimate(value, abs(value - other), unit, float("nan"))
            for name, unit, value, other in zip(quantities, of_one, best, coarse, strict=True)
        }


def _strained(atoms: ase.Atoms, strain: np.ndarray) -> ase.Atoms:
    moved = atoms.copy()
    moved.set_constraint()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return moved


def _birch_murnaghan(volumes: np.ndarray, energies: np.ndarray) -> tuple[float, float, float, float]:
    """Energy (eV), bulk modulus (GPa), its derivative, and volume (Å³)."""
    equation = EquationOfState(volumes, energies, eos="birchmurnaghan")
    equation.fit(warn=False)
    energy, bulk, derivative, volume = map(float, equation.eos_parameters)
    return energy, bulk / ase.units.GPa, derivative, volume


def heights_of(atoms: ase.Atoms) -> np.ndarray:
    """(3,) Å, of the cell across its sides."""
    heights: np.ndarray = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    return heights


def gaps(atoms: ase.Atoms) -> list[str]:
    """What to say of a cell with vacuum, which is no crystal."""
    found = []
    for axis, height, place in zip("abc", heights_of(atoms), atoms.get_scaled_positions().T, strict=True):
        ordered = np.sort(place % 1.0)
        widest = height * float(np.diff(ordered, append=ordered[0] + 1.0).max())
        if widest > max(VACUUM, 0.5 * height) and len(atoms) > 1:
            found.append(
                f"{widest:.3g} Å along {axis} are empty: these are numbers of a slab or a molecule in its cell, and "
                "per volume of the cell they mean little"
            )
    return found


def _notes(tensor: np.ndarray, rest: np.ndarray, *, clamped: bool) -> list[str]:
    notes = []
    lowest = np.linalg.eigvalsh(tensor)[0]
    if lowest <= 0.0:
        notes.append(f"the crystal is not stable: a strain has the stiffness {lowest:.3g} GPa, which is not positive")
    if np.abs(rest).max() > REST:
        notes.append(
            f"a stress of {np.abs(rest).max():.3g} GPa is left in the cell: these are derivatives of the stress there, "
            "which differ from the elastic constants by as much"
        )
    if clamped:
        notes.append("the atoms were not relaxed after the strain")
    return notes
