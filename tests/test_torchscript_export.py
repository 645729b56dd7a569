"""A potential written as TorchScript is the same potential, wherever its atoms go.

What it is compared with are the compiled kernels, which share nothing with the traced operations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import classical
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.io import write
from command_line import mlmd
from made_potentials import random_mtp
from random_deeppot import random_deeppot
from random_gap import random_gap
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from random_symmetry import random_symmetry
from test_torchscript import digest

from mlmd.potentials import Potential, modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.committee import Committee
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import ZBL, LennardJones
from mlmd.potentials.scripted import module_of, save
from mlmd.pretrained.torchscript import calculator

ALLOY = ("Cu", "Ni")
OF_PAIRS = {
    "Cu": {"epsilon": "0.1 eV", "sigma": "2.4 Å"},
    "Ni": {"epsilon": "0.15 eV", "sigma": "2.2 Å"},
}


def pairs() -> LennardJones:
    return LennardJones(cutoff="6 Å", pairs=OF_PAIRS)


QUICK: dict[str, Callable[[], Potential]] = {
    "lennard-jones": pairs,
    "eam": classical.embedded,
    "stillinger-weber": classical.silicon,
    "tersoff": classical.carbide,
    "moments": lambda: random_mtp(ALLOY, 8),
    "nep": lambda: random_nep(ALLOY),
    "deeppot": lambda: random_deeppot(ALLOY),
    "sum": lambda: Sum([random_mtp(ALLOY, 4), ZBL(cutoff="3 Å")]),
    "committee": lambda: Committee([random_mtp(ALLOY, 4), pairs()]),
}
LASTING: dict[str, Callable[[], Potential]] = {
    "snap": lambda: random_snap(ALLOY, 4, quadratic=True),
    "snap of elements": lambda: random_snap(ALLOY, 2, chemflag=True),
    "soap": lambda: random_soap(ALLOY),
    "symmetry": lambda: random_symmetry(ALLOY),
    "gap": random_gap,
}
"""Their traces are long."""
MAKES = QUICK | LASTING
FAMILIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LASTING)]


def crystal(potential: Potential, repeat: int = 1) -> Atoms:
    """A sheared cell of 4 · repeat³ atoms off their places, of two elements where there are two."""
    atoms = bulk("Cu", cubic=True, a=4.0).repeat(repeat)
    symbols = (potential.elements or ALLOY)[:2]
    atoms.symbols = [symbols[n % len(symbols)] for n in range(len(atoms))]
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [-0.05, 0.08, 1]], scale_atoms=True)
    atoms.positions += np.random.default_rng(5).normal(0.0, 0.1, atoms.positions.shape)
    return atoms


def written(potential: Potential, atoms: Atoms, path: Path) -> Calculator:
    """The potential after it went through a file."""
    save(potential, atoms, path)
    made: Calculator = calculator(str(path))
    return made


def assert_same(module: Calculator, potential: Potential, atoms: Atoms, within: float = 1e-9) -> None:
    expected = predictor(potential)(atoms)
    module.calculate(atoms)
    found = module.results
    assert found["energy"] == pytest.approx(expected.energy, abs=within * max(1.0, abs(expected.energy)))
    scale = max(1.0, float(np.abs(expected.forces).max()))
    assert np.abs(found["forces"] - expected.forces).max() < within * scale
    if atoms.pbc.all():
        virial = found["stress"] * atoms.get_volume()
        assert np.abs(virial - expected.virial).max() < within * max(1.0, float(np.abs(expected.virial).max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_module_has_energy_forces_and_stress_of_its_potential(name: str, tmp_path: Path) -> None:
    potential = MAKES[name]()
    # a cell of 4 Å: smaller than one cutoff, so that atoms see many images of each other and of themselves.
    # Rounding alone differs; the kernels of GAP interpolate its pair terms, to 1e-10
    atoms = crystal(potential)
    assert np.abs(predictor(potential)(atoms).forces).max() > 0.01
    assert_same(written(potential, atoms, tmp_path / "one.pt"), potential, atoms)


@pytest.mark.parametrize("name", ["lennard-jones", "tersoff", "moments"])
def test_a_module_of_a_cluster_takes_no_box(name: str, tmp_path: Path) -> None:
    potential = MAKES[name]()
    cluster = crystal(potential, 2)
    cluster.pbc = False
    module = written(potential, cluster, tmp_path / "one.ts")
    assert_same(module, potential, cluster)
    cluster.positions[3] += 50.0  # alone
    assert_same(module, potential, cluster)


def test_a_module_in_single_precision_is_as_near_as_that_allows(tmp_path: Path) -> None:
    potential = random_mtp(ALLOY, 8, "float32")
    atoms = crystal(potential)
    assert_same(written(potential, atoms, tmp_path / "one.pt"), potential, atoms, 1e-5)


@pytest.mark.parametrize("name", ["lennard-jones", "stillinger-weber", "moments"])
def test_a_module_follows_its_atoms_and_its_box(name: str, tmp_path: Path) -> None:
    potential, random = MAKES[name](), np.random.default_rng(1)
    atoms = crystal(potential, 2)
    module = written(potential, atoms, tmp_path / "one.pt")
    for step in range(12):  # within the skin of the list, beyond it, across boundaries
        atoms.positions += random.normal(0.0, 0.4 if step == 6 else 0.03, atoms.positions.shape)
        if step % 3 == 2:
            atoms.positions[step] += atoms.cell.array[step % 2] - 2 * atoms.cell.array[2]
        assert_same(module, potential, atoms)
    for factor in (1.05, 0.9, 1.3):
        atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
        assert_same(module, potential, atoms)
    atoms.set_cell(atoms.cell.array * 0.8)  # of atoms that stay where they are
    assert_same(module, potential, atoms)
    atoms.set_cell(atoms.cell.array * 20, scale_atoms=True)  # nobody sees anybody
    assert_same(module, potential, atoms)
    assert np.abs(module.results["forces"]).max() == 0.0


def test_a_list_of_neighbours_that_was_kept_changes_no_bit() -> None:
    atoms = crystal(pairs(), 2)
    kept, fresh = module_of(pairs(), atoms), None
    random = np.random.default_rng(2)
    for _ in range(5):
        atoms.positions += random.normal(0.0, 0.02, atoms.positions.shape)
        fresh = module_of(pairs(), atoms)
        place, box = torch.tensor(atoms.positions / 10), torch.tensor(atoms.cell.array / 10)
        assert kept(place, box).item() == fresh(place, box).item()
    assert not torch.equal(kept.kept[0], fresh.kept[0])  # it was searched at another place


def test_positions_that_are_not_finite_have_no_energy() -> None:
    atoms = crystal(pairs())
    place = torch.tensor(atoms.positions / 10)
    place[1, 2] = float("nan")
    assert torch.isnan(module_of(pairs(), atoms)(place, torch.tensor(atoms.cell.array / 10)))


def test_the_command_says_how_a_module_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    potential = random_mtp(ALLOY, 4)
    modelfile.save(potential, tmp_path / "alloy.mlmd", {})
    write("crystal.extxyz", crystal(potential))
    answer = mlmd("export", "alloy.mlmd", "--to", "torchscript", "--structure", "crystal.extxyz")
    assert answer.code == 0, answer.err
    assert "Written: alloy.pt" in answer.out
    assert "forward(positions, box) in nm and kJ/mol for 4 atoms, Cu2Ni2" in answer.out
    assert f'{{ kind = "torchscript", path = "alloy.pt", trust = "{digest(tmp_path / "alloy.pt")}" }}' in answer.out
    options = '{"epsilon": "0.1 eV", "sigma": "2.4 Å", "cutoff": "6 Å"}'
    answer = mlmd("export", "lennard-jones", "pairs.ts", "--options", options, "--structure", "crystal.extxyz")
    assert answer.code == 0, answer.err
    again = mlmd("export", "alloy.mlmd", "alloy.pt", "--structure", "crystal.extxyz")
    assert again.code == 4 and "alloy.pt exists already; nothing was written" in again.err


def test_wrong_exports_to_torchscript_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    potential = random_mtp(ALLOY, 4)
    modelfile.save(potential, tmp_path / "alloy.mlmd", {})
    write("crystal.extxyz", crystal(potential))
    slab = bulk("Cu", cubic=True)
    slab.pbc = (True, True, False)
    write("slab.extxyz", slab)
    write("gold.extxyz", bulk("Au"))
    emt = ("ase", "--options", '{"calculator": "ase.calculators.emt:EMT"}')
    of = ("--structure", "crystal.extxyz")
    before = set(tmp_path.iterdir())
    for arguments, said in (
        (("alloy.mlmd",), "give a file to write, or a format: --to mtp, snapcoeff, nep, torchscript, metatomic"),
        (("alloy.mlmd", "--to", "torchscript"), "it is made for the atoms of one structure. Name it with --structure"),
        (("alloy.mlmd", "a.mtp", "--to", "torchscript", *of), "a file of --to torchscript ends in .pt or .ts"),
        (("alloy.mlmd", "a.mtp", *of), "a .mtp file holds for any structure"),
        (("alloy.mlmd", "a.pt", "--structure", "slab.extxyz"), "the structure is periodic in some"),
        (("alloy.mlmd", "a.pt", "--structure", "gold.extxyz"), "alloy.mlmd knows Cu, Ni; the structure has Au"),
        ((*emt, "--to", "torchscript", *of), "a potential of kind 'ase' cannot be written as TorchScript"),
    ):
        answer = mlmd("export", *arguments)
        assert (answer.code, answer.out) == (2, ""), answer.err
        assert said in answer.err
    assert set(tmp_path.iterdir()) == before


def test_a_module_is_for_its_atoms_alone(tmp_path: Path) -> None:
    module = written(pairs(), crystal(pairs()), tmp_path / "one.pt")
    with pytest.raises(Exception, match="this module is for 4 atoms, not for 32"):
        module.calculate(crystal(pairs(), 2))
