"""`mlmd export`: what was fitted is the same potential in other programs."""

from __future__ import annotations

from pathlib import Path

import lammps_oracle
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from command_line import mlmd
from made_data import label
from made_potentials import random_mtp
from random_snap import random_snap

from mlmd import models
from mlmd.io.labelled import write_labelled
from mlmd.potentials import modelfile, mtp, snap
from mlmd.potentials.combine import Sum
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import ZBL, LennardJones
from mlmd.train.run import train

ELEMENTS = {"one": ("Cu",), "two": ("Ni", "Cu")}


def warm(elements: tuple[str, ...], seed: int) -> Atoms:
    """A sheared fcc crystal of 32 atoms off their places, of all elements."""
    random = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True, a=3.58).repeat(2)
    strain = random.uniform(-0.02, 0.02, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
    atoms.positions += random.normal(0, 0.08, (len(atoms), 3))
    atoms.symbols = random.choice(list(elements), len(atoms))
    return atoms


@pytest.mark.parametrize("n_elements", ELEMENTS)
@pytest.mark.parametrize("quadratic", ["false", "true"], ids=["linear", "quadratic"])
def test_lammps_gives_the_numbers_of_a_fitted_snap(quadratic: str, n_elements: str, tmp_path: Path) -> None:
    lammps_oracle.require_lammps()
    elements = ELEMENTS[n_elements]
    write_labelled(tmp_path / "data.extxyz", [label(warm(elements, seed), f"made@{seed}") for seed in range(12)])
    weights = ", weights = { Ni = 0.8 }, radii = { Ni = 0.45 }" if len(elements) == 2 else ""
    (tmp_path / "in.toml").write_text(
        'data = "data.extxyz"\ntest_fraction = 0.2\n'
        f'descriptor = {{ kind = "snap", cutoff = "4.5 Å", twojmax = 4, rmin0 = "0.3 Å"{weights} }}\n'
        f'fit = {{ kind = "linear", quadratic = {quadratic} }}\n'
    )
    fitted = train(tmp_path / "in.toml", tmp_path / "run", n_processes=1).model
    answer = mlmd("export", fitted, tmp_path / "out.snapcoeff")
    assert answer.code == 0, answer.err
    potential, atoms = modelfile.load(fitted), warm(elements, 99)
    # as the answer says: with the elements in the order of the potential
    use = answer.out.splitlines()[-1].strip().removeprefix("pair_coeff ")
    assert use.split()[4:] == list(potential.elements)
    expected = lammps_oracle.evaluate(atoms, potential.elements, "snap", use)
    found = predictor(potential)(atoms)
    # no more than rounding, which 32 atoms and large coefficients that cancel multiply
    assert found.energy == pytest.approx(expected.energy, abs=1e-8 * len(atoms))
    assert np.abs(found.forces - expected.forces).max() < 1e-6
    stress = (found.virial - expected.virial) / atoms.get_volume()
    assert np.abs(stress).max() / units.GPa < 1e-4
    # a fit that learned nothing would agree as well
    assert np.abs(expected.forces).max() > 0.1
    assert np.abs(expected.forces - label(atoms, "").forces).max() < 0.5 * np.abs(expected.forces).max()


@pytest.mark.parametrize("n_elements", ELEMENTS)
def test_lammps_gives_the_numbers_of_a_snap_fitted_beside_zbl(n_elements: str, tmp_path: Path) -> None:
    lammps_oracle.require_lammps()
    elements = ELEMENTS[n_elements]
    write_labelled(tmp_path / "data.extxyz", [label(warm(elements, seed), f"made@{seed}") for seed in range(12)])
    (tmp_path / "in.toml").write_text(
        'data = "data.extxyz"\ndescriptor = { kind = "snap", cutoff = "4.5 Å", twojmax = 4 }\n[baseline]\n'
        'potential = { kind = "zbl", cutoff = "2.9 Å", onset = "2 Å", switching = "lammps" }\n'
    )
    fitted = train(tmp_path / "in.toml", tmp_path / "run", n_processes=1).model
    answer = mlmd("export", fitted, tmp_path / "out.snapcoeff")
    assert answer.code == 0, answer.err
    # as the answer says, word by word
    commands = [line.strip() for line in answer.out.splitlines() if line.startswith("  pair_")]
    style = commands[0].removeprefix("pair_style ")
    assert style == "hybrid/overlay snap zbl 2.0 2.9"
    coefficients = [line.removeprefix("pair_coeff ") for line in commands[1:]]
    potential, atoms = modelfile.load(fitted), warm(elements, 99)
    assert potential.elements == tuple(sorted(elements, key=lambda one: Atoms(one).numbers[0]))
    expected = lammps_oracle.evaluate(atoms, potential.elements, style, coefficients)
    found = predictor(potential)(atoms)
    # LAMMPS' e² has eight digits
    assert found.energy == pytest.approx(expected.energy, abs=1e-6 * len(atoms))
    assert np.abs(found.forces - expected.forces).max() < 1e-5
    # without ZBL it is another potential
    alone = predictor(potential.parts[0])(atoms)
    assert np.abs(alone.forces - expected.forces).max() > 0.1


@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
def test_a_fitted_snap_is_read_again_to_the_last_bit(quadratic: bool, tmp_path: Path) -> None:
    potential = random_snap(("W", "Be"), 4, quadratic=quadratic)
    modelfile.save(potential, tmp_path / "fitted.mlmd")
    answer = mlmd("export", tmp_path / "fitted.mlmd", tmp_path / "out.snapcoeff")
    assert answer.code == 0, answer.err
    assert f"Written: {tmp_path / 'out.snapcoeff'}, {tmp_path / 'out.snapparam'}" in answer.out
    again = snap.load(tmp_path / "out.snapcoeff")
    assert again.spec() == potential.spec()
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in potential.state_dict().items())


def test_a_potential_that_comes_with_mlmd_is_written_for_mlip(tmp_path: Path) -> None:
    answer = mlmd("export", "Li3YCl6", tmp_path / "out.mtp")
    assert answer.code == 0, answer.err
    assert "species are Li, Cl, Y in this order" in answer.out
    path = models.find("Li3YCl6")
    assert path is not None
    potential, again = modelfile.load(path), mtp.load(tmp_path / "out.mtp", elements=["Li", "Cl", "Y"])
    kept, written = potential.state_dict(), again.state_dict()
    assert all(torch.equal(one, kept[name]) for name, one in written.items())
    assert kept.keys() - written.keys() == {"inverses"}  # such a file has no room for grades


def test_wrong_exports_are_one_message_and_write_nothing(tmp_path: Path) -> None:
    modelfile.save(random_snap(("W",), 2), tmp_path / "snap.mlmd")
    modelfile.save(random_mtp(("W",), 4), tmp_path / "moments.mlmd")
    argon = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å")
    modelfile.save(argon, tmp_path / "pair.mlmd")
    tungsten = random_snap(("W",), 2)
    modelfile.save(Sum([tungsten, ZBL(cutoff=2, elements=["W"])]), tmp_path / "stepped.mlmd")
    zbl = ZBL(cutoff=2, elements=["W"], switching="lammps")
    modelfile.save(Sum([tungsten, zbl, argon]), tmp_path / "three.mlmd")
    modelfile.save(Sum([random_mtp(("W",), 4), zbl]), tmp_path / "moments_zbl.mlmd")
    (tmp_path / "there.snapparam").write_text("of somebody else\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cases = [
        ("snap.mlmd", "out.onnx", 2, ".onnx is not a format to export to. mlmd writes moment tensors as .mtp"),
        ("snap.mlmd", "out", 2, "no suffix is not a format to export to"),
        ("snap.mlmd", "out.mtp", 2, "this is snap with linear. It can be written as .snapcoeff"),
        ("snap.mlmd", "out.txt", 2, "only a network of nep can be written as .txt; this is snap with linear"),
        ("moments.mlmd", "out.snapcoeff", 2, "this is mtp with linear. It can be written as .mtp"),
        ("pair.mlmd", "out.snapcoeff", 2, "a potential of kind 'lennard-jones' cannot be written as .snapcoeff"),
        ("snap.mlmd", "there.snapcoeff", 4, "there.snapparam exists already; nothing was written"),
        ("stepped.mlmd", "out.snapcoeff", 2, 'Give the ZBL of the baseline switching = "lammps"'),
        ("three.mlmd", "out.snapcoeff", 2, "a sum (snap + zbl + lennard-jones) cannot be written as .snapcoeff"),
        ("moments_zbl.mlmd", "out.snapcoeff", 2, "a sum (mtp + zbl) cannot be written as .snapcoeff, but SNAP alone"),
        ("moments_zbl.mlmd", "out.mtp", 2, "a potential of kind 'sum' cannot be written as .mtp"),
        ("absent.mlmd", "out.mtp", 2, "absent.mlmd"),
    ]
    for model, out, code, said in cases:
        answer = mlmd("export", tmp_path / model, tmp_path / out)
        assert (answer.code, answer.out) == (code, ""), answer.err
        assert said in answer.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
