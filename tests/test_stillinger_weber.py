"""The potential of Stillinger and Weber: LAMMPS, published silicon, and what a file may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from classical import SILICON, silicon
from lammps_oracle import evaluate, potentials

from mlmd.errors import ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.potentials.load import recognise
from mlmd.potentials.stillinger_weber import from_entries, load

FILES = (("Si.sw", ("Si",), 5.43), ("GaN.sw", ("Ga", "N"), 4.6), ("CdTe.sw", ("Cd", "Te"), 6.5))


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
    expected = evaluate(atoms, elements, "sw", f"* * {path} {' '.join(elements)}")
    assert float(found.energy) == pytest.approx(expected.energy, abs=1e-8 * len(atoms))
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.virial[0], expected.virial, rtol=0, atol=1e-6 * len(atoms))


def test_six_elements_differ_from_lammps_by_the_rounding_of_their_file() -> None:
    # strengths of "i j k" and "i k j" differ there in the seventh digit; LAMMPS takes that of its order of neighbours
    path, elements = potentials() / "CdTeZnSeHgS0.sw", ("Cd", "Te", "Zn", "Se", "Hg", "S")
    potential, atoms = load(path), disordered(elements, 6.2)
    found = potential.predict(build_graph(atoms, potential.cutoff))
    expected = evaluate(atoms, elements, "sw", f"* * {path} {' '.join(elements)}")
    assert float(found.energy) == pytest.approx(expected.energy, abs=1e-6 * len(atoms))
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-4)


def test_silicon_has_its_published_lattice_and_cohesive_energy() -> None:
    potential = silicon()
    at = [energy(potential, bulk("Si", a=5.43095 + change)) / 2 for change in (-1e-3, 0.0, 1e-3)]
    assert at[1] == pytest.approx(-4.3366, abs=1e-6)
    assert at[1] < min(at[0], at[2])
    assert potential.cutoff == pytest.approx(3.77118)


def test_a_dimer_has_the_published_bond() -> None:
    # the minimum of phi2 is -epsilon at 2^(1/6) sigma, by the choice of A and B
    dimer = Atoms("Si2", [[0, 0, 0], [0, 0, 2 ** (1 / 6) * 2.0951]])
    assert energy(silicon(), dimer) == pytest.approx(-2.1683, abs=1e-5)


def test_tetrahedral_angles_cost_nothing() -> None:
    crystal = bulk("Si", a=5.43)
    free = from_entries(("Si",), np.array([*SILICON[:3], 0.0, *SILICON[4:]]).reshape(1, 1, 1, -1))
    assert energy(silicon(), crystal) == pytest.approx(energy(free, crystal), abs=1e-12)


ENTRY = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333\n 7.05 0.602 4.0 0.0 0.0\n"
MIXED = "".join(
    ENTRY.replace("Si Si Si", f"{i} {j} {k}") for i in ("Si", "C") for j in ("Si", "C") for k in ("Si", "C")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "no entry of three elements and 11 numbers"),
        (ENTRY.replace("0.0 0.0", "0.0"), "line 1: an entry of Stillinger-Weber is three elements and 11 numbers"),
        (ENTRY + "\n" + ENTRY.replace("7.05", "7.05 1"), "line 4: an entry .* damaged, or another kind"),
        (ENTRY + ENTRY, "line 3: a second entry for Si Si Si"),
        ("# a\n" + ENTRY.replace("21.0", "twenty"), "line 2: lambda = 'twenty' is not a number"),
        (ENTRY.replace("21.0", "inf"), "line 1: lambda = 'inf' is not finite"),
        (ENTRY.replace("Si Si Si", "Si1 Si1 Si1"), "line 1: 'Si1' is not an element"),
        (ENTRY.replace("2.0951", "-2.0951"), "sigma = -2.0951 must not be negative"),
        (ENTRY.replace("2.0951", "0"), "sigma and a of every pair must be positive"),
        (ENTRY + ENTRY.replace("Si Si Si", "C C C"), "missing: Si Si C, Si C Si, Si C C"),
        (MIXED.replace("C Si Si 2.1683", "C Si Si 2.5"), "strength of .* in another order"),
        (MIXED.replace("C Si C 2.1683", "C Si C 2.5"), "lambda epsilon of .* in another order"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.sw"
    path.write_text(text)
    with pytest.raises(ModelError, match=rf"x\.sw: .*{message}"):
        load(path)


def test_comments_and_lines_are_where_they_like(tmp_path: Path) -> None:
    path = tmp_path / "x.sw"
    path.write_text("# é\n\n" + ENTRY.replace(" 7.05", " # half\n\n 7.05"), encoding="latin-1")
    assert load(path).elements == ("Si",)


def test_the_tolerance_of_lammps_shortens_the_reach(tmp_path: Path) -> None:
    path = tmp_path / "x.sw"
    path.write_text(ENTRY.replace("0.0 0.0\n", "0.0 1e-6\n"))
    potential, atoms = load(path), disordered(("Si",), 5.2)
    assert 3.0 < potential.cutoff < 3.77
    expected = evaluate(atoms, ("Si",), "sw", f"* * {path} Si")
    assert energy(potential, atoms) == pytest.approx(expected.energy, abs=1e-8 * len(atoms))
