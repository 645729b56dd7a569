"""Tersoff's potential: LAMMPS, published crystals, and what a file may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from classical import carbide
from lammps_oracle import evaluate, potentials

from mlmd.errors import ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.potentials.load import recognise
from mlmd.potentials.tersoff import load

FILES = (
    ("Si.tersoff", ("Si",), 5.43),
    ("Ge.tersoff", ("Ge",), 5.66),
    ("SiC.tersoff", ("C", "Si"), 4.4),
    ("SiC_Erhart-Albe.tersoff", ("C", "Si"), 4.4),
    ("SiO.tersoff", ("Si", "O"), 4.6),
    ("GaN.tersoff", ("Ga", "N"), 4.5),
    ("BNC.tersoff", ("N", "B", "C"), 3.6),
)


def energy(potential: Potential, atoms: Atoms) -> float:
    return float(potential.predict(build_graph(atoms, potential.cutoff)).energy)


def disordered(elements: tuple[str, ...], constant: float) -> Atoms:
    """A strained diamond lattice of 64 atoms off their places, elements at random."""
    generator = np.random.default_rng(1)
    atoms = bulk("Si", a=constant, cubic=True) * 2
    atoms.symbols = generator.choice(elements, len(atoms))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + generator.normal(0, 0.05, (3, 3))), scale_atoms=True)
    atoms.rattle(0.15, seed=2)
    return atoms


@pytest.mark.parametrize("compression", [1.0, 0.85])
@pytest.mark.parametrize(("file", "elements", "constant"), FILES, ids=[one[0] for one in FILES])
def test_energies_forces_and_stress_are_those_of_lammps(
    file: str, elements: tuple[str, ...], constant: float, compression: float
) -> None:
    path = potentials() / file
    potential, atoms = load(path), disordered(elements, compression * constant)
    assert recognise(path) == potential.kind
    found = potential.predict(build_graph(atoms, potential.cutoff))
    expected = evaluate(atoms, elements, "tersoff", f"* * {path} {' '.join(elements)}")
    assert float(found.energy) == pytest.approx(expected.energy, abs=1e-8 * len(atoms))
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.virial[0], expected.virial, rtol=0, atol=1e-6 * len(atoms))


@pytest.mark.parametrize(
    ("file", "symbol", "constant", "cohesive"),
    [("Si.tersoff", "Si", 5.431231, -4.630412), ("SiC.tersoff", "C", 3.565835, -7.368190)],
)
def test_crystals_have_their_published_lattices_and_energies(
    file: str, symbol: str, constant: float, cohesive: float
) -> None:
    potential = load(potentials() / file)
    at = [energy(potential, bulk(symbol, "diamond", a=constant + change)) / 2 for change in (-1e-3, 0.0, 1e-3)]
    assert at[1] == pytest.approx(cohesive, abs=1e-6)
    assert at[1] < min(at[0], at[2])


def test_a_bond_without_neighbours_has_the_full_strength() -> None:
    # b = 1, whose derivative by zeta is not finite there
    dimer = Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    found = carbide().predict(build_graph(dimer, 3.0))
    expected = 1830.8 * np.exp(-2.4799 * 2.3) - 471.18 * np.exp(-1.7322 * 2.3)
    assert float(found.energy) == pytest.approx(expected, rel=1e-12)
    assert bool(found.forces.isfinite().all())


ENTRY = (
    "Si Si Si 3.0 1.0 1.3258 4.8381 2.0417 0.0 22.956 0.33675\n"
    "         1.3258 95.373 3.0 0.2 3.2394 3264.7 # end\n"
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("3264.7", ""), "line 1: an entry of Tersoff is three elements and 14 numbers"),
        (ENTRY.replace("3264.7", "3264.7 14 1 0.95 14"), "line 1: an entry of Tersoff .* another kind of potential"),
        (ENTRY.replace("3.0 1.0", "2.0 1.0"), "m must be 1 or 3"),
        (ENTRY.replace("95.373", "-95.373"), "B = -95.373 must not be negative"),
        (ENTRY.replace("3.0 0.2", "3.0 3.2"), "D must be positive and not above R"),
        (ENTRY.replace("3.0 0.2", "3.0 0.0"), "D must be positive and not above R"),
        (ENTRY.replace("2.0417", "0"), "d must be positive where c is"),
        (ENTRY.replace("22.956", "0"), "n of a bond must be positive"),
        (ENTRY.replace("Si Si Si", "Si(B) Si(B) Si(B)"), r"line 1: 'Si\(B\)' is not an element"),
        (ENTRY + ENTRY.replace("Si Si Si", "Si C Si"), "the elements Si need 1 entries; too many: Si C Si"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.tersoff"
    path.write_text(text)
    with pytest.raises(ModelError, match=rf"x\.tersoff: .*{message}"):
        load(path)


@pytest.mark.parametrize("file", ["SiC.tersoff.zbl", "Si.tersoff.mod", "SiC.vashishta"])
def test_relatives_are_refused(file: str) -> None:
    path = potentials() / file
    with pytest.raises(ModelError, match="not the file of a potential"):
        recognise(path)
    with pytest.raises(ModelError, match=r"another kind of potential|m must be 1 or 3"):
        load(path)
