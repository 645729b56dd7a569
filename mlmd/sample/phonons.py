"""Phonons of a crystal by any potential, through phonopy: bands, density of states and harmonic thermodynamics.

Atoms of a supercell are displaced, one for each kind that symmetry leaves, and the forces give the force constants
(Parlinski, Li, Kawazoe, Phys. Rev. Lett. 78, 4063, 1997; Togo, J. Phys. Soc. Jpn. 92, 012001, 2023). Long-range fields
of polar crystals (LO-TO splitting) are those that the potential has, without a correction. Twice the displacement gives
the errors, a third of the difference of both: what is left of the higher orders.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from ase.cell import Cell

from mlmd import units
from mlmd.analysis.estimate import Estimate
from mlmd.errors import InputError
from mlmd.potentials import Evaluator, Potential, has_stress
from mlmd.potentials.evaluate import evaluator
from mlmd.sample.elastic import REST, at_rest, gaps, heights_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlmd.sample.method import PotentialMethod

INSTALL_HINT = "Install it with `pip install 'mlmd[phonons]'` or `pip install 'phonopy>=4'`."
DISPLACEMENT = 0.01
"""Å."""
LENGTH = 12.0
"""Å, the least height of the supercell where no repeats are given."""
MESH = 60.0
"""Å: the mesh of wave vectors is that of a crystal of this size."""
N_BAND = 200
"""Wave vectors along the band path."""
IMAGINARY = -0.05
"""THz, below which a frequency is imaginary and no rounding of an acoustic one."""
AT_REST = 1e-3
"""THz: what is slower is the crystal's motion as a whole, and has no part in its thermodynamics."""
SYMMETRY = 1e-4
"""Å, within which atoms are at equivalent places."""
_PER_KB = 1e-3 * units.EV_PER_KJMOL / units.KB
"""One J/(K mol) in k_B."""


@dataclass(frozen=True)
class Phonons:
    """Vibrations of a crystal in the harmonic approximation."""

    structure: str
    atoms: ase.Atoms
    """The cell whose supercell was taken: relaxed, unless that was not wanted."""
    repeats: tuple[int, int, int]
    n_primitive: int
    """Atoms of the primitive cell, which has three branches for each."""
    labels: tuple[tuple[float, str], ...]
    """Special points: distance along the path (1/Å) and name."""
    path: np.ndarray
    """(n_q,) 1/Å, distance along the path of bands."""
    bands: np.ndarray
    """(n_q, 3 n_primitive) THz; imaginary frequencies are negative."""
    frequencies: np.ndarray
    """(n,) THz."""
    density: np.ndarray
    """(n,) modes per THz and primitive cell."""
    temperatures: np.ndarray
    """(n_T,) K."""
    free_energy: np.ndarray
    """(n_T,) eV per atom, of the vibrations."""
    entropy: np.ndarray
    """(n_T,) k_B per atom."""
    heat_capacity: np.ndarray
    """(n_T,) k_B per atom."""
    quantities: Mapping[str, Estimate]
    """Zero-point energy, highest and lowest frequency."""
    notes: tuple[str, ...]

    name = "phonons"

    @property
    def stable(self) -> bool:
        """Whether no frequency of the mesh and the path is imaginary."""
        return self.quantities["lowest frequency"].value > IMAGINARY

    def __str__(self) -> str:
        """The quantities and notes."""
        return "\n".join([*(f"{name}: {one}" for name, one in self.quantities.items()), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of arrays end in their unit."""
        return {
            "analysis": self.name,
            "structure": self.structure,
            "formula": str(self.atoms.symbols),
            "supercell": list(self.repeats),
            "stable": self.stable,
            **{name.replace(" ", "_").replace("-", "_"): one.to_dict() for name, one in self.quantities.items()},
            "temperature_K": self.temperatures.tolist(),
            "free_energy_eV_per_atom": self.free_energy.tolist(),
            "entropy_kB_per_atom": self.entropy.tolist(),
            "heat_capacity_kB_per_atom": self.heat_capacity.tolist(),
            "special_points": [{"at_per_A": at, "name": name} for at, name in self.labels],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """Bands along the path, then the density of states beside them."""
        names = ["path [1/Å]", *(f"band {n + 1} [THz]" for n in range(self.bands.shape[1]))]
        names += ["frequency [THz]", "density [1/THz]"]
        columns = [self.path, *self.bands.T, self.frequencies, self.density]
        n_rows = max(map(len, columns))
        cells = [[f"{value:.8g}" for value in column] + [""] * (n_rows - len(column)) for column in columns]
        return ",".join(names) + "\n" + "".join(",".join(row) + "\n" for row in zip(*cells, strict=True))

    def figure(self) -> Figure:
        """Bands and density of states, side by side."""
        from mlmd.sample.phonons_figure import phonons_figure

        return phonons_figure(self)


def phonons_of(method: PotentialMethod, atoms: ase.Atoms, name: str, **options: Any) -> Phonons:
    """Phonons of a structure by any potential; options and errors as for `phonons`, and of loading."""
    from mlmd.potentials.device import choose_device

    potential = method.load([(name, atoms.get_chemical_symbols())])
    return phonons(potential, atoms, name, device=choose_device(method.device, potential), **options)


def phonons(
    potential: Potential, atoms: ase.Atoms, name: str = "the structure", *, relax: bool = True,
    repeats: Sequence[int] | None = None, displacement: float = DISPLACEMENT,
    temperatures: Sequence[float] = tuple(range(0, 1001, 50)), device: str = "cpu",
) -> Phonons:  # fmt: skip
    """Phonons of a crystal.

    Args:
        potential: any; without a stress only with `relax` False.
        atoms: periodic in all directions, a small cell.
        name: of the structure, for messages.
        relax: move atoms and cell to where neither force nor stress is left first.
        repeats: of the cell along its vectors in the supercell; by default as many as make it `LENGTH` high, and
            twice the cutoff of the potential.
        displacement: Å.
        temperatures: K, of the thermodynamic functions.
        device: where the potential computes.

    Raises:
        InputError: without phonopy, full periodicity, or for a displacement or repeats that are impossible.
        SimulationError: when the structure does not relax.
    """
    phonopy = _phonopy()
    if not atoms.pbc.all():
        raise InputError(f"{name}: phonons are those of a crystal, periodic in all three directions.")
    if not 1e-4 <= displacement <= 0.2:
        raise InputError(f"a displacement of {displacement:g} Å: give one from 1e-4 to 0.2; {DISPLACEMENT:g} is usual.")
    if relax:
        atoms = at_rest(potential, atoms, name, device)
    if repeats is None:
        length = max(LENGTH, 2.0 * float(getattr(potential, "cutoff", 0.0)))
        repeats = [max(1, int(np.ceil(length / height - 1e-6))) for height in heights_of(atoms)]
    times = _checked(repeats)
    near, far = (_force_constants(phonopy, potential, atoms, times, n * displacement, device) for n in (1, 2))
    kelvins = np.asarray(temperatures, dtype=float)
    mesh = [max(1, round(MESH / length)) for length in np.linalg.norm(near.primitive.cell, axis=1)]
    first, second = (_summary(one, mesh) for one in (near, far))
    quantities = {
        which: Estimate(value, abs(value - second[which]) / 3.0, _UNITS[which], float("nan"))
        for which, value in first.items()
    }
    near.run_total_dos()
    density = near.total_dos
    labels, path, bands = _bands(near)
    lowest = min(quantities["lowest frequency"].value, float(bands.min()))
    quantities["lowest frequency"] = Estimate(lowest, quantities["lowest frequency"].error, "THz", float("nan"))
    near.run_thermal_properties(temperatures=kelvins, cutoff_frequency=AT_REST)
    thermal, n_primitive = near.thermal_properties, len(near.primitive)
    return Phonons(
        structure=name, atoms=atoms, repeats=times, n_primitive=n_primitive, labels=labels, path=path, bands=bands,
        frequencies=np.asarray(density.frequency_points), density=np.asarray(density.dos),
        temperatures=kelvins,
        free_energy=units.EV_PER_KJMOL * np.asarray(thermal.free_energy) / n_primitive,
        entropy=_PER_KB * np.asarray(thermal.entropy) / n_primitive,
        heat_capacity=_PER_KB * np.asarray(thermal.heat_capacity) / n_primitive,
        quantities=quantities, notes=(*_notes(lowest, relax=relax), *_doubts(potential, atoms, times, device)),
    )  # fmt: skip


_UNITS = {"zero-point energy": "eV/atom", "highest frequency": "THz", "lowest frequency": "THz"}


def _phonopy() -> Any:
    try:
        import phonopy
    except ImportError:
        raise InputError(f"Phonons need phonopy, which is not installed. {INSTALL_HINT}") from None
    return phonopy


def _checked(repeats: Sequence[int]) -> tuple[int, int, int]:
    if len(repeats) != 3 or min(repeats) < 1:
        raise InputError(f"repeats {tuple(repeats)}: give three whole numbers from 1 on, as 4,4,4.")
    a, b, c = map(int, repeats)
    return a, b, c


def _force_constants(
    phonopy: Any, potential: Potential, atoms: ase.Atoms, times: tuple[int, int, int], displacement: float, device: str
) -> Any:
    """A Phonopy with force constants."""
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )  # fmt: skip
    with warnings.catch_warnings():  # of version 4, which tells that "auto" means what it says
        warnings.filterwarnings("ignore", "primitive_matrix")
        made = phonopy.Phonopy(cell, supercell_matrix=np.diag(times), primitive_matrix="auto", symprec=SYMMETRY)
    made.generate_displacements(distance=displacement)
    whole = made.supercell
    engine = evaluator(potential, ase.Atoms(whole.symbols).numbers, np.ones(3, dtype=bool), device=device)
    rest = _forces(engine, whole)
    # forces that are left at rest are no answer to the displacement
    made.forces = [_forces(engine, one) - rest for one in made.supercells_with_displacements]
    made.produce_force_constants()
    made.symmetrize_force_constants()
    return made


def _forces(engine: Evaluator, cell: Any) -> np.ndarray:
    return engine.evaluate(np.ascontiguousarray(cell.positions), np.ascontiguousarray(cell.cell)).forces


def _summary(made: Any, mesh: Sequence[int]) -> dict[str, float]:
    """What has an error, by name, in the order of `_UNITS`."""
    made.run_mesh(mesh, is_gamma_center=True)
    frequencies, weights = np.asarray(made.mesh.frequencies), np.asarray(made.mesh.weights, dtype=float)
    real = np.where(frequencies > 0.0, frequencies, 0.0)
    modes = float(weights @ real.sum(axis=1)) / weights.sum()
    per_atom = 0.5 * units.PLANCK * 1e-3 * modes / len(made.primitive)
    return dict(zip(_UNITS, (per_atom, float(frequencies.max()), float(frequencies.min())), strict=True))


def _bands(made: Any) -> tuple[tuple[tuple[float, str], ...], np.ndarray, np.ndarray]:
    """Special points, distances (1/Å) and frequencies (THz) along ASE's path of the primitive cell."""
    path = Cell(made.primitive.cell).bandpath(npoints=N_BAND)
    distances, at, names = path.get_linear_kpoint_axis()
    made.run_qpoints(path.kpts)
    labels = tuple((float(x) / (2 * np.pi), name) for x, name in zip(at, names, strict=True))
    return labels, distances / (2 * np.pi), np.asarray(made.qpoints.frequencies)


def _doubts(potential: Potential, atoms: ase.Atoms, repeats: Sequence[int], device: str) -> list[str]:
    """A supercell in which an atom meets its own image, a stress that is left, and vacuum."""
    notes = gaps(atoms)
    heights = np.array(repeats) * heights_of(atoms)
    cutoff = float(getattr(potential, "cutoff", 0.0))
    if heights.min() < 2.0 * cutoff:
        notes.append(
            f"the supercell is {heights.min():.3g} Å high, less than twice the cutoff of the potential ({cutoff:g} Å): "
            "an atom that is displaced meets its images, and frequencies between the waves that fit are wrong. Give "
            "more --supercell"
        )
    if has_stress(potential):
        found = evaluator(potential, atoms.numbers, atoms.pbc, device=device).evaluate(
            atoms.positions, atoms.cell.array
        )
        left = float(np.abs(found.virial).max()) / atoms.get_volume() / ase.units.GPa
        if left > REST:
            notes.append(
                f"a stress of {left:.3g} GPa is left in the cell: frequencies are those of that strained crystal"
            )
    return notes


def _notes(lowest: float, *, relax: bool) -> list[str]:
    notes = []
    if lowest <= IMAGINARY:
        notes.append(
            f"frequencies go down to {-lowest:.3g}i THz (negative here): the crystal is not stable, or the supercell "
            "is too small for these waves. Thermodynamic functions leave them out"
        )
    if not relax:
        notes.append("the structure was taken as it is: forces that are left in it were subtracted")
    return notes
