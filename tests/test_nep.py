"""NEP files of GPUMD: the numbers of calorine and NEP_CPU, and refusals that help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from mlmd.descriptors.harmonics import harmonics
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.errors import InputError, ModelError
from mlmd.fitting.network import Network
from mlmd.neighbors import build_graph
from mlmd.potentials.load import recognise
from mlmd.potentials.nep import NEP
from mlmd.potentials.nep_file import load

PUBLISHED = {
    "Si, three-body": ("models_nep/Si_2022_NEP4_3body.txt", 2.4),
    "Si, four-body": ("models_nep/Si_2022_NEP4_4body.txt", 2.4),
    "Si, five-body": ("models_nep/Si_2022_NEP4_5body.txt", 2.4),
    "C 2022": ("models_nep/C_2022_NEP4.txt", 1.7),
    "C 2024": ("models_nep/C_2024_NEP4.txt", 1.7),
    "Li3PS4, A": ("models_nep/Li3PS4/nepA_nep.txt", 2.4),
    "Li3PS4, C": ("models_nep/Li3PS4/nepC_nep.txt", 2.4),
    "16 metals": ("models_nep/Song-2024-UNEP-v1-AgAlAuCrCuMgMoNiPbPdPtTaTiVWZr.txt", 2.6),
    "LLZO, ZBL": ("llzo_nep/models/NEP25-ZBL_train/nep.txt", 1.9),
    "LLZO": ("llzo_nep/models/NEPstd_train/nep_std.txt", 2.0),
}
"""Files, and distances of neighbours in Å; that of LLZO is within the reach of its repulsion."""


def crystal(elements: tuple[str, ...], spacing: float, n: int = 3, seed: int = 0) -> Atoms:
    """n³ atoms off their places in a triclinic cell."""
    generator = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cell = n * spacing * np.array([[1.0, 0.0, 0.0], [0.1, 1.05, 0.0], [-0.1, 0.15, 0.95]])
    symbols = [elements[index % len(elements)] for index in generator.permutation(n**3)]
    atoms = Atoms(symbols, scaled_positions=corners / n, cell=cell, pbc=True)
    atoms.positions += generator.normal(0, 0.05 * spacing, (n**3, 3))
    return atoms


def with_a_lonely_atom(atoms: Atoms) -> Atoms:
    """A cluster of the atoms, and one far from them, in a box that is larger than all cutoffs."""
    positions = np.vstack([atoms.positions, atoms.positions.max(axis=0) + 15.0])
    return Atoms([*atoms.symbols, atoms.symbols[0]], positions=positions, cell=[60.0] * 3, pbc=True)


def calorine(file: Path, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and virial of NEP_CPU through calorine."""
    calculators = pytest.importorskip("calorine.calculators")
    atoms = atoms.copy()
    atoms.calc = calculators.CPUNEP(str(file))
    virial = atoms.get_stress(voigt=False) * atoms.get_volume()
    return atoms.get_potential_energy(), atoms.get_forces(), virial


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("surroundings", ["crystal", "small cell", "lonely atom"])
def test_published_files_give_the_numbers_of_calorine(shared: Path, name: str, surroundings: str) -> None:
    file, spacing = shared / PUBLISHED[name][0], PUBLISHED[name][1]
    potential = load(file)
    atoms = crystal(potential.elements, spacing, n=2 if surroundings == "small cell" else 3)
    if surroundings == "lonely atom":
        atoms = with_a_lonely_atom(atoms)
    energy, forces, virial = calorine(file, atoms)
    found = potential.predict(build_graph(atoms, potential.cutoff))
    scale = max(1.0, np.abs(forces).max())
    # both sum in float64 and differ in rounding alone
    assert float(found.energy) == pytest.approx(energy, abs=1e-9 * max(1.0, abs(energy)))
    assert np.abs(found.forces.numpy() - forces).max() < 1e-9 * scale
    assert np.abs(found.virial[0].numpy() - virial).max() < 1e-9 * max(1.0, np.abs(virial).max())


def test_lead_telluride_has_the_forces_and_descriptors_of_nep_cpu(shared: Path) -> None:
    folder = shared / "ref_nep_cpu" / "test_nep"
    lines = (folder / "xyz.in").read_text().split("\n")
    cell = np.array(lines[1].split(), dtype=float).reshape(3, 3)
    rows = [line.split() for line in lines[2:252]]
    atoms = Atoms([row[0] for row in rows], np.array([row[1:4] for row in rows], dtype=float), cell=cell, pbc=True)
    potential = load(folder / "nep.txt")
    graph = build_graph(atoms, potential.cutoff)
    found = potential.predict(graph)
    expected = np.loadtxt(folder / "force_analytical_ref.out")
    assert np.abs(found.forces.numpy() - expected).max() < 1e-12
    features = potential.descriptor.features(graph)
    descriptors = np.loadtxt(folder / "descriptor_ref.out")
    assert np.abs(features.numpy() - descriptors).max() < 1e-12
    virials = np.loadtxt(folder / "virial_ref.out").sum(axis=0).reshape(3, 3)
    assert np.abs(found.virial[0].numpy() + virials).max() < 1e-10


def fitted_zbl(text: str, n_elements: int) -> str:
    """A file with other cutoffs for each element and fitted screening functions, from one with the universal one."""
    cutoffs = " ".join(f"{6 - 0.3 * k:g} {4 - 0.25 * k:g}" for k in range(n_elements))
    lines = text.rstrip().split("\n")
    lines[1] = "zbl 0 0"
    lines[2] = f"cutoff {cutoffs} 95 29"
    generator = np.random.default_rng(3)
    for _ in range(n_elements * (n_elements + 1) // 2):
        inner = generator.uniform(0.5, 1.0)
        row = [inner, inner + generator.uniform(0.8, 1.4), *generator.uniform(0.1, 2.0, 8)]
        lines += [f"{value:.8f}" for value in row]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("change", ["own cutoffs and fitted ZBL", "ZBL by covalent radii"])
def test_rarer_kinds_of_files_give_the_numbers_of_calorine(shared: Path, tmp_path: Path, change: str) -> None:
    text = (shared / PUBLISHED["LLZO, ZBL"][0]).read_text()
    file = tmp_path / "nep.txt"
    file.write_text(fitted_zbl(text, 4) if change.startswith("own") else text.replace("zbl 0.9 1.8", "zbl 0 2.5 0.6"))
    potential = load(file)
    atoms = crystal(potential.elements, 1.7)
    energy, forces, virial = calorine(file, atoms)
    found = potential.predict(build_graph(atoms, potential.cutoff))
    assert float(found.energy) == pytest.approx(energy, rel=1e-11)
    assert np.abs(found.forces.numpy() - forces).max() < 1e-9 * np.abs(forces).max()
    assert np.abs(found.virial[0].numpy() - virial).max() < 1e-9 * np.abs(virial).max()


def test_harmonics_obey_the_addition_theorem() -> None:
    u, v = torch.nn.functional.normalize(torch.randn(2, 50, 3, dtype=torch.float64), dim=2).transpose(1, 2)
    cosine = (u * v).sum(dim=0)
    first, second = harmonics(u, 8), harmonics(v, 8)
    for degree in range(1, 9):
        rows = slice(degree**2 - 1, (degree + 1) ** 2 - 1)
        legendre = np.polynomial.legendre.Legendre.basis(degree)(cosine.numpy())
        expected = (2 * degree + 1) / (4 * np.pi) * legendre
        assert np.abs((first[rows] * second[rows]).sum(dim=0).numpy() - expected).max() < 1e-13


@pytest.fixture(scope="module")
def text(shared: Path) -> str:
    """A published file of four elements with ZBL."""
    return (shared / PUBLISHED["LLZO, ZBL"][0]).read_text()


@pytest.mark.parametrize("kind", ["nep", "nep2", "nep5", "nep4_dipole", "nep4_polarizability", "nep4_zbl_charge1"])
def test_other_kinds_of_nep_are_recognised_and_refused(text: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "nep.txt").write_text(text.replace("nep4_zbl", kind, 1))
    assert recognise(tmp_path / "nep.txt") == "nep"
    with pytest.raises(ModelError, match=f"line 1: a NEP of kind '{kind}' is not supported"):
        load(tmp_path / "nep.txt")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: text.index(" 1.8")], r"line 2: 'zbl 0\.9' is not 'zbl' with 2 or 3 numbers"),
        (lambda text: "\n".join(text.split("\n")[:5]), "line 5: the file ends in its header"),
        (lambda text: text[: len(text) // 2], "line 2[0-9]{3}: the file is truncated, or has"),
        (lambda text: text + "  1.0\n", r"line 5319: the file has 5312 numbers below its header"),
        (lambda text: text.replace("4 Li La", "5 Li La"), "line 1: '5' elements are announced, 4 are named"),
        (lambda text: text.replace("Li La", "Li Xx"), "line 1: 'Xx' is not a chemical element"),
        (lambda text: text.replace("zbl 0.9 1.8", "zbl 1.9 1.8"), "line 2: zbl needs an inner distance"),
        (lambda text: text.replace("zbl 0.9 1.8", "zbl 0.9 4.8"), "ZBL must end"),
        (lambda text: text.replace("cutoff 6 4", "cutoff 6"), "line 3: .* with 4 or 10 numbers"),
        (lambda text: text.replace("cutoff 6 4", "cutoff 4 6"), "line 3: cutoffs"),
        (lambda text: text.replace("n_max 4 4", "n_max 4 -4"), "line 4: n_max has -4"),
        (lambda text: text.replace("n_max 4 4", "n_max 5 4"), "the file is truncated, or has 5311 numbers"),
        (lambda text: text.replace("basis_size 8 8", "basis_size 8.5 8"), "line 5: basis_size has 8.5"),
        (lambda text: text.replace("l_max 4 2 0", "l_max 1 2 0"), "line 6: l_max = 1 is not between 2 and 8"),
        (lambda text: text.replace("l_max 4 2 0", "l_max 4 2 0 1"), "line 6: invariants beyond"),
        (lambda text: text.replace("ANN 30 0", "ANN 30 10"), "line 7: one hidden layer"),
        (lambda text: text.replace("-1.2144597e+00", "-1.21x4597e+00"), r"line 8: '-1\.21x4597e\+00' is not a number"),
        (lambda text: text.replace("-1.2144597e+00", "nan"), "line 8: 'nan' is not finite"),
        (lambda text: text.replace("-1.2144597e+00", "1.0 2.0"), "line 8: '1.0 2.0' is not a number"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    text: str, tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    damaged = damage(text)
    assert damaged != text
    (tmp_path / "nep.txt").write_text(damaged)
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "nep.txt")


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt does not exist"):
        load(tmp_path / "nowhere.txt")


def test_parts_that_do_not_fit_are_refused() -> None:
    descriptor = RadialAngular(elements=("Si", "O"), cutoff="5 Å")
    with pytest.raises(InputError, match="kinds was given for 2 elements"):
        NEP(descriptor, Network(n_features=descriptor.n_features, n_neurons=4, n_kinds=1))
    with pytest.raises(InputError, match="features"):
        NEP(descriptor, Network(n_features=3, n_neurons=4, n_kinds=2))
    with pytest.raises(InputError, match="must not be larger"):
        RadialAngular(elements=("Si",), cutoff="4 Å", angular_cutoff="5 Å")
