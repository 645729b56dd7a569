"""Descriptors, fits and predictions by QUIP: the oracle of its power spectra and of its potentials.

The wheel ``quippy-ase`` of PyPI is enough: it has the program ``gap_fit`` too. Tests call `require_quip` first.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.data import atomic_numbers

FIT = (
    "default_sigma={0.01 0.3 0.1 0}", "sparse_jitter=1e-8", "energy_parameter_name=energy", "rnd_seed=1",
    "force_parameter_name=force", "virial_parameter_name=virial", "gp_file=gap.xml",
    "at_file=data.extxyz", "e0={C:-3.0:H:0.5}",
)  # fmt: skip
"""Errors so large that the coefficients stay small: rounding of sums of great ones is no difference."""


@dataclass(frozen=True)
class Answer:
    """Of one structure."""

    energy: float
    """eV."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å."""
    stress: np.ndarray
    """(3, 3) eV/Å³, in ASE's sign; nan without a cell."""


def require_quip() -> None:
    """Skip the test where QUIP is not installed."""
    pytest.importorskip("quippy")


def power_spectra(atoms: Atoms, elements: Sequence[str], settings: str) -> np.ndarray:
    """(n_atoms, n_features) of QUIP's soap without its last, the constant σ0, with densities of these elements."""
    from quippy.descriptors import Descriptor

    numbers = [atomic_numbers[symbol] for symbol in elements]
    listed = " ".join(map(str, numbers))
    found: dict[int, np.ndarray] = {}
    for number in set(atoms.numbers):
        line = f"soap {settings} n_Z=1 Z={number} n_species={len(numbers)} species_Z={{{listed}}}"
        found[number] = Descriptor(line).calc(atoms)["data"][:, :-1]
    rows = np.empty((len(atoms), next(iter(found.values())).shape[1]))
    for number, values in found.items():
        rows[atoms.numbers == number] = values
    return rows


def columns(n_elements: int, n_max: int, l_max: int) -> np.ndarray:
    """QUIP's column of every feature of mlmd with all products: l first, then pairs of channels, the greater last."""
    order = [(i, j) for i in range(n_elements * n_max) for j in range(i + 1)]
    place = {pair: k * (l_max + 1) for k, pair in enumerate(order)}
    pairs = [(j, i) for i in range(n_elements * n_max) for j in range(i, n_elements * n_max)]
    return np.array([place[pair] + degree for degree in range(l_max + 1) for pair in pairs])


def answer(path: Path, atoms: Atoms) -> Answer:
    """What a potential says about a structure."""
    from quippy.potential import Potential

    copy = atoms.copy()
    if copy.cell.rank != 3:
        copy.center(vacuum=20.0)  # QUIP wants a cell, also without periodicity
        copy.pbc = atoms.pbc
    copy.calc = Potential("IP GAP", param_filename=str(path))
    stress = copy.get_stress(voigt=False) if atoms.pbc.all() else np.full((3, 3), np.nan)
    return Answer(float(copy.get_potential_energy()), copy.get_forces(), stress)


def fitted(folder: Path, terms: str, frames: Sequence[Atoms], *, copy_data: bool = False) -> Path:
    """The file that `gap_fit` writes after training on Lennard-Jones energies of structures of C and H.

    Args:
        folder: where it works.
        terms: its descriptors, as on its command line.
        frames: to train on.
        copy_data: whether the file carries them.
    """
    import quippy

    for atoms in frames:
        made = atoms.copy()
        made.calc = LennardJones(sigma=1.7, epsilon=0.4, rc=4.0)
        atoms.info = {"energy": made.get_potential_energy() - 3.0 * np.count_nonzero(atoms.numbers == 6)}
        if atoms.pbc.all():
            atoms.info["virial"] = -made.get_stress(voigt=False) * made.get_volume()
        atoms.arrays["force"] = made.get_forces()
    ase.io.write(folder / "data.extxyz", frames, format="extxyz")
    command = [Path(quippy.__file__).with_name("gap_fit"), *FIT, f"do_copy_at_file={'T' if copy_data else 'F'}"]
    command += [f"gap={{{terms}}}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "gap.xml"
