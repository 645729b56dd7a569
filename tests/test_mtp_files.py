"""Moment tensor potentials from files: the numbers of MLIP-2 and motep, and refusals that help."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal
from mlip_cfg import read_cfg

from mlmd.errors import InputError, ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.mtp import load, save

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
CRYSTALS = [
    *(("crystals_cubic", level, ("Al",)) for level in range(2, 22, 2)),
    *(("crystals_noncubic", level, ("Al",)) for level in range(2, 12, 2)),
    *(("crystals_multi", level, ("Al", "Ni", "Pd")) for level in range(2, 12, 2)),
]
MOLECULES = [("762", 1), ("291", 2), ("14214", 2), ("23208", 1)]
PUBLISHED = {
    "Li": ("Li/mtp.2020.01/fitted.mtp", ("Li",)),
    "Cu": ("Cu/mtp.2020.01/fitted.mtp", ("Cu",)),
    "Ni": ("Ni/mtp.2020.01/fitted.mtp", ("Ni",)),
    "Si": ("Si/mtp.2020.01/fitted.mtp", ("Si",)),
    "Li3YCl6": ("Li3YCl6/mtp.2021.06/fitted.mtp.PBE.PBE", ("Li", "Y", "Cl")),
    "Li7P3S11": ("Li7P3S11/mtp.2021.06/fitted.mtp.PBE.optB88", ("Li", "P", "S")),
    "LLTO": ("Li0.33La0.56TiO3/mtp.2021.06/fitted.mtp.PBE.PBE", ("Li", "La", "Ti", "O")),
}


def compare_with_mlip(potential: LearnedPotential, file: Path, elements: tuple[str, ...]) -> None:
    """Energies to 1e-8 eV; forces and PlusStress to what the printed digits allow."""
    configurations = read_cfg(file)
    graph = build_graph([one.atoms(elements) for one in configurations], potential.cutoff)
    prediction = potential.predict(graph)
    energies = np.array([one.energy for one in configurations])
    assert np.abs(prediction.energy.numpy() - energies).max() < 1e-8
    forces = np.concatenate([one.forces for one in configurations])
    assert np.abs(prediction.forces.numpy() - forces).max() < 1e-6
    plus_stress = -prediction.virial.numpy()[:, [a for a, _ in VOIGT], [b for _, b in VOIGT]]
    assert np.abs(plus_stress - [one.plus_stress for one in configurations]).max() < 6e-6


@pytest.mark.parametrize(("folder", "level", "elements"), CRYSTALS, ids=str)
def test_crystals_have_the_energies_forces_and_stresses_of_mlip(
    shared: Path, folder: str, level: int, elements: tuple[str, ...]
) -> None:
    place = shared / "ref_mtp_mlip2" / folder / f"{level:02d}"
    potential = load(place / "pot.mtp", elements)
    assert potential.descriptor.spec()["level"] == level
    compare_with_mlip(potential, place / "mlp_out_first10.cfg", elements)


@pytest.mark.parametrize(("molecule", "n_species"), MOLECULES)
def test_molecules_have_the_energies_and_forces_of_mlip(shared: Path, molecule: str, n_species: int) -> None:
    folders = sorted((shared / "ref_mtp_mlip2" / "molecules" / "fitting" / molecule).glob("*/out.cfg"))
    assert folders
    elements = ("C", "H")[:n_species]
    for file in folders:
        compare_with_mlip(load(file.parent / "pot.mtp", elements), file, elements)


def structure_for(name: str, elements: tuple[str, ...]) -> Atoms:
    """A structure of about 30 to 60 atoms, off its places."""
    if len(elements) == 1:
        atoms = bulk(name, cubic=True) * ((2, 2, 2) if name != "Li" else (3, 3, 3))
    elif name == "Li3YCl6":
        sites = [(0, 0, 0), (1 / 3, 2 / 3, 0.49), (0.33, 0, 0), (0.5, 0, 0.5)]
        sites += [(0.111, -0.111, 0.77), (0.223, -0.223, 0.26), (0.443, -0.443, 0.76)]
        cell = [11.2, 11.2, 6.03, 90, 90, 120]
        atoms = crystal(["Y", "Y", "Li", "Li", "Cl", "Cl", "Cl"], sites, spacegroup=164, cellpar=cell)
    else:
        # rock-salt places are enough to compare two programs
        atoms = bulk("NaCl", "rocksalt", a=4.4, cubic=True) * (2, 2, 1)
        atoms.symbols = [elements[index % len(elements)] for index in range(len(atoms))]
    atoms.rattle(0.08, seed=3)
    return atoms


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_potentials_agree_with_motep(shared: Path, name: str) -> None:
    from motep.calculator import MTP
    from motep.io.mlip.mtp import read_mtp

    file, elements = PUBLISHED[name]
    atoms = structure_for(name, elements)
    data = read_mtp(shared / "models_mvl" / file)
    data.species = [Atoms(symbol).numbers[0] for symbol in elements]
    potential = load(shared / "models_mvl" / file, elements)
    prediction = potential.predict(build_graph(atoms, potential.cutoff))
    atoms.calc = MTP(data)
    size = np.abs(atoms.get_forces()).max()
    assert float(prediction.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert np.abs(prediction.forces.numpy() - atoms.get_forces()).max() < 1e-10 * max(1.0, size)
    stress = atoms.get_stress(voigt=False)
    assert np.abs(prediction.stress[0].numpy() - stress).max() < 1e-10 * max(1.0, np.abs(stress).max())


@pytest.fixture(scope="module")
def text(shared: Path) -> str:
    """A small trained file of three elements."""
    return (shared / "ref_mtp_mlip2" / "crystals_multi" / "10" / "pot.mtp").read_text()


ELEMENTS = ("Al", "Ni", "Pd")


def test_a_written_file_reads_back_to_the_same_bits(text: str, tmp_path: Path) -> None:
    (tmp_path / "first.mtp").write_text(text)
    potential = load(tmp_path / "first.mtp", ELEMENTS)
    save(potential, tmp_path / "second.mtp")
    again = load(tmp_path / "second.mtp", ELEMENTS)
    assert again.spec() == potential.spec()
    for name, tensor in potential.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_motep_reads_what_we_write(text: str, tmp_path: Path) -> None:
    from motep.calculator import MTP
    from motep.io.mlip.mtp import read_mtp

    (tmp_path / "first.mtp").write_text(text)
    potential = load(tmp_path / "first.mtp", ELEMENTS)
    save(potential, tmp_path / "second.mtp")
    data = read_mtp(tmp_path / "second.mtp")
    data.species = [13, 28, 46]
    atoms = structure_for("other", ELEMENTS)
    energy = float(potential.predict(build_graph(atoms, potential.cutoff)).energy)
    atoms.calc = MTP(data)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)


def test_what_active_learning_appends_is_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.mtp").write_bytes(text.encode() + b"\n#MVS_v1.1\nenergy_weight = 1\n\x00\xff\x80")
    assert load(tmp_path / "x.mtp", ELEMENTS).elements == ELEMENTS


@pytest.mark.parametrize("elements", [None, ("Al",), ("Al", "Ni", "Pd", "Cu")])
def test_elements_must_be_as_many_as_the_species_of_the_file(
    text: str, tmp_path: Path, elements: tuple[str, ...] | None
) -> None:
    (tmp_path / "x.mtp").write_text(text)
    with pytest.raises(InputError, match="has 3 species"):
        load(tmp_path / "x.mtp", elements)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: text.index("moment_coeffs")], r"line 56: the file ends without 'moment_coeffs'"),
        (lambda text: text[: text.index("2-2")], r"line 45: the file ends without"),
        (lambda text: text[:-40], r"line 57: moment_coeffs has"),
        (lambda text: text.replace("e+02", "e+0x2", 1), "something that is not a number"),
        (lambda text: text.replace("2.748681003193165e-01", "nan"), "line 14: .* not finite"),
        (lambda text: re.sub(r"\t\t\t\{.*\n", "", text, count=1), "26 rows of radial coefficients, 27"),
        (lambda text: text.replace("species_count = 3", "species_count = three"), "line 5: species_count"),
        (lambda text: text.replace("funcs_count = 3", "funcs_count = 4"), "27 rows of radial coefficients, 36"),
        (lambda text: text.replace("{0, 0, 1, 25}", "{0, 0, 1, 999}"), "line 5.: "),
        (lambda text: text.replace("{0, 0, 1, 25}", "{40, 0, 1, 25}"), "not complete"),
        (lambda text: text.replace("{0, 0, 1, 25}", "{0, 0, 1}"), "alpha_index_times has 167 numbers"),
        (lambda text: text.replace("RBChebyshev", "RBShapeev"), "line 7: radial basis 'RBShapeev'"),
        (lambda text: text.replace("MTP\n", "MPT\n", 1), "line 1: not a moment tensor potential"),
        (lambda text: "", "line 1: not a moment tensor potential"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(text: str, tmp_path: Path, damage: object, message: str) -> None:
    damaged = damage(text)
    assert damaged != text
    (tmp_path / "x.mtp").write_text(damaged)
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "x.mtp", ELEMENTS)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.mtp does not exist"):
        load(tmp_path / "nowhere.mtp", ELEMENTS)
