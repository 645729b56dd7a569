"""Template matching: known lattices are found with their deviation and axes, hot ones too, and as OVITO finds them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.lattice.hexagonal import Graphene
from command_line import mlmd
from scipy.spatial.transform import Rotation

from mlmd.analysis.common_neighbours import structure_types
from mlmd.analysis.deposition import deposition
from mlmd.analysis.deposition_notes import of_the_lattice
from mlmd.analysis.grains import grains, misorientation
from mlmd.analysis.profile import profile
from mlmd.analysis.recognition import Recognition
from mlmd.analysis.surroundings import pairs_within
from mlmd.analysis.template_matching import TYPES, Matches, template_matches
from mlmd.errors import InputError
from mlmd.io.growing import open_growing_file
from mlmd.io.trajectories import from_arrays

pytest.importorskip("mdapy")

LABELLED = Path(__file__).with_name("template_matching.extxyz")
"""Hot fcc, bcc, hcp, diamond and sc, an icosahedron and a slab; `ovito` and `rmsd` are those of OVITO 3.17."""
A = 3.6
N_NEIGHBOURS = {"fcc": 12, "hcp": 12, "bcc": 14, "sc": 6, "diamond": 16, "hexagonal-diamond": 16, "graphene": 9}
"""With which each atom is compared."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


def crystal(name: str, repeat: int = 1) -> ase.Atoms:
    """About 200 atoms times the cube of `repeat`, at rest."""
    if name == "hcp":
        return ase.build.bulk("Ti", "hcp", 2.9, covera=np.sqrt(8 / 3), orthorhombic=True).repeat(
            (4 * repeat, 3 * repeat, 3 * repeat)
        )
    if name == "hexagonal-diamond":
        a, u = A / np.sqrt(2), 3 / 8
        c = a * np.sqrt(8 / 3)
        basis = [(1 / 3, 2 / 3, 0.0), (2 / 3, 1 / 3, 0.5), (1 / 3, 2 / 3, u), (2 / 3, 1 / 3, u + 0.5)]
        cell = ase.cell.Cell.fromcellpar([a, a, c, 90, 90, 120])
        return ase.Atoms("C4", scaled_positions=basis, cell=cell, pbc=True).repeat((4 * repeat, 4 * repeat, 3 * repeat))
    if name == "graphene":
        return Graphene("C", latticeconstant={"a": 2.46, "c": 20.0}, size=(8 * repeat, 8 * repeat, 1), pbc=(1, 1, 0))
    cells = {"fcc": 4, "bcc": 5, "sc": 6, "diamond": 3}[name] * repeat
    return ase.build.bulk("Cu", name, A, cubic=True).repeat(cells)


def of(atoms: ase.Atoms, **options: object) -> Matches:
    return template_matches(atoms.positions, atoms.cell.array, atoms.pbc, **options)  # type: ignore[arg-type]


def deviation(ideal: np.ndarray, found: np.ndarray) -> float:
    """RMSD (n, 3) of neighbours from their ideal places after the best turn and stretch, by singular values."""
    ideal, found = (np.concatenate([np.zeros((1, 3)), one]) for one in (ideal, found))
    ideal = ideal / np.linalg.norm(ideal[1:], axis=1).mean()
    ideal, found = ideal - ideal.mean(axis=0), found - found.mean(axis=0)
    u, sizes, v = np.linalg.svd(found.T @ ideal)
    sizes[2] *= np.sign(np.linalg.det(u @ v))
    return float(np.sqrt((np.sum(ideal**2) - sizes.sum() ** 2 / np.sum(found**2)) / len(ideal)))


@pytest.mark.parametrize("name", N_NEIGHBOURS)
def test_a_lattice_is_found_and_how_far_each_atom_is_from_it(name: str, rng: np.random.Generator) -> None:
    rest = crystal(name)
    moved = rest.copy()
    moved.positions += 0.03 * rng.normal(size=moved.positions.shape)
    for atoms, furthest in ((rest, 1e-5), (moved, 0.1)):
        found = of(atoms, templates=TYPES[1:])
        assert {TYPES[kind] for kind in found.types} == {name} and found.rmsd.max() < furthest
    near = pairs_within(1.8 * A, rest.positions, rest.cell.array, rest.pbc)
    step = moved.positions - rest.positions
    for atom in range(0, len(rest), 29):
        own = np.flatnonzero(near.centres == atom)
        own = own[np.argsort(near.distances[own], kind="stable")[: N_NEIGHBOURS[name]]]
        displaced = near.vectors[own] + step[near.neighbours[own]] - step[atom]
        assert found.rmsd[atom] == pytest.approx(deviation(near.vectors[own], displaced), rel=1e-4)


def test_hot_crystals_keep_their_lattice_where_common_neighbours_lose_it(rng: np.random.Generator) -> None:
    for name, kind in (("fcc", 1), ("bcc", 3)):
        atoms = crystal(name, 2)
        bond = {"fcc": A / np.sqrt(2), "bcc": A * np.sqrt(3) / 2}[name]
        atoms.positions += 0.07 * bond * rng.normal(size=atoms.positions.shape)  # Lindemann's crystals melt at 0.06
        by_neighbours = np.mean(structure_types(atoms.positions, atoms.cell.array, atoms.pbc) == kind)
        by_templates = np.mean(of(atoms, cutoff=0.15).types == kind)
        assert by_templates > 0.99 and by_neighbours < 0.8


def test_the_deviation_is_the_displacement_of_atoms_in_units_of_the_bond(rng: np.random.Generator) -> None:
    atoms, size = crystal("fcc", 2), 0.02 * A / np.sqrt(2)
    atoms.positions += size * rng.normal(size=atoms.positions.shape)
    # of 39 coordinates of an atom and its neighbours seven are taken up by place, turn and size
    expected = 0.02 * np.sqrt(3.0 * (1.0 - 7.0 / 39.0))
    assert np.sqrt(np.mean(of(atoms).rmsd ** 2)) == pytest.approx(expected, rel=0.02)  # 2,048 atoms, 32 numbers each


def test_melts_and_gases_are_like_nothing(rng: np.random.Generator) -> None:
    gas = ase.Atoms("Ar500", rng.random((500, 3)) * 22.0, cell=[22.0] * 3, pbc=True)
    melt = crystal("fcc", 2)
    melt.positions += 0.25 * A / np.sqrt(2) * rng.normal(size=melt.positions.shape)
    for atoms in (gas, melt):
        assert np.mean(of(atoms, cutoff=0.15).types == 0) > 0.99


def test_atoms_of_surfaces_are_like_nothing(rng: np.random.Generator) -> None:
    for face, n_inside in (("fcc100", 4), ("fcc111", 4), ("bcc110", 4), ("bcc111", 0)):
        slab = getattr(ase.build, face)("Cu", (6, 6, 6), a=A, vacuum=8)
        slab.positions += 0.05 * rng.normal(size=slab.positions.shape)
        assert np.sum(of(slab).types != 0) == 36 * n_inside


@pytest.mark.parametrize("name", ["fcc", "bcc", "sc", "diamond"])
def test_axes_are_those_by_which_a_crystal_was_turned(name: str, rng: np.random.Generator) -> None:
    turn = Rotation.random(rng=rng)
    atoms = crystal(name)
    atoms.positions = turn.apply(atoms.positions + 0.02 * rng.normal(size=atoms.positions.shape))
    skew = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])  # the same lattice of images
    for cell in (
        turn.apply(atoms.cell.array),
        skew @ turn.apply(atoms.cell.array),
        turn.apply(atoms.cell.array)[[1, 0, 2]],
    ):
        atoms.set_cell(cell)
        found = of(atoms, templates=[name])
        assert (found.types == TYPES.index(name)).all()
        truth = np.broadcast_to(turn.inv().as_matrix(), found.axes.shape)
        # a neighbour is 0.02 √2 Å off its direction along either axis, 1° at 1.6 Å; four to fourteen are averaged
        assert np.degrees(misorientation(found.axes, truth)).max() < 2.5
        assert np.median(np.degrees(misorientation(found.axes, truth))) < 1.0


def test_grains_of_silicon_are_told_by_templates(rng: np.random.Generator) -> None:
    pieces = []
    for angle, side in ((0.0, -1.0), (20.0, 1.0)):
        atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True).repeat(8)
        positions = Rotation.from_euler("z", angle, degrees=True).apply(atoms.positions - atoms.positions.mean(axis=0))
        inside = (np.linalg.norm(positions, axis=1) < 16.0) & (side * positions[:, 0] > 0.8)
        pieces.append(positions[inside])
    positions = np.concatenate(pieces)
    positions += 0.04 * rng.normal(size=positions.shape)
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    found = template_matches(positions, cell, pbc, templates=["diamond"])
    one, other = grains(positions, cell, pbc, found.types, found.axes)
    assert {one.lattice, other.lattice} == {"diamond"} and one.face[0] == "100"
    between = np.degrees(misorientation(one.axes[None], other.axes[None])[0])
    assert between == pytest.approx(20.0, abs=0.5)


def test_lattices_and_deviations_are_those_of_ovito() -> None:
    templates = ("fcc", "hcp", "bcc", "icosahedral", "sc", "diamond")
    seen = set()
    for atoms in ase.io.iread(LABELLED, index=":"):
        found, known = of(atoms, templates=templates), atoms.arrays["ovito"] != 0
        assert np.array_equal(found.types, atoms.arrays["ovito"])
        assert np.allclose(found.rmsd[known], atoms.arrays["rmsd"][known], atol=2e-8)  # as many digits as the file has
        seen |= {TYPES[kind] for kind in found.types}
    assert seen == {"other", *templates}


@pytest.mark.parametrize("repeat", [(1, 1, 1), (1, 2, 1), (4, 4, 4)])
def test_a_small_cell_sees_its_images(repeat: tuple[int, int, int]) -> None:
    for name, atoms in (("fcc", ase.build.bulk("Cu", "fcc", A)), ("diamond", ase.build.bulk("Si", "diamond", 5.43))):
        found = of(atoms.repeat(repeat), templates=["fcc", "hcp", "bcc", "diamond"])
        assert {TYPES[kind] for kind in found.types} == {name}


def test_the_deviation_does_not_depend_on_the_cutoff(rng: np.random.Generator) -> None:
    atoms = crystal("fcc")
    atoms.positions += 0.15 * rng.normal(size=atoms.positions.shape)
    strict, generous = (of(atoms, templates=["fcc"], cutoff=cutoff) for cutoff in (0.09, 0.2))
    assert 0.1 < np.mean(strict.types == 0) < 0.9
    assert np.array_equal(strict.rmsd, generous.rmsd)
    assert np.array_equal(strict.types == 0, strict.rmsd > 0.09)
    assert np.array_equal(generous.types == 1, generous.rmsd < 0.2)


def test_atoms_that_are_like_no_template_have_no_deviation() -> None:
    flat = np.concatenate([np.indices((8, 8)).reshape(2, -1).T, np.zeros((64, 1))], axis=1)
    found = template_matches(flat, np.zeros((3, 3)), np.zeros(3, dtype=bool))
    assert not found.types.any() and np.isinf(found.rmsd).all() and np.isnan(found.axes).all()


def test_few_atoms_and_none_are_like_nothing() -> None:
    for n_atoms in (0, 1, 18):
        found = template_matches(np.eye(3)[0] * np.arange(n_atoms)[:, None], np.zeros((3, 3)), np.zeros(3, dtype=bool))
        assert found.types.tolist() == [0] * n_atoms and found.axes.shape == (n_atoms, 3, 3)


def film(path: Path, rng: np.random.Generator) -> Path:
    """Four layers of warm fcc (100) on four."""
    whole = ase.build.fcc100("Cu", (6, 6, 8), a=A, periodic=False)
    whole.set_cell([*whole.cell.array[:2], [0.0, 0.0, 60.0]])
    whole.pbc = (True, True, False)
    whole.info.clear()
    whole.set_array("id", np.arange(len(whole)))
    grown = whole.copy()
    grown.positions += 0.17 * rng.normal(size=grown.positions.shape)
    ase.io.write(path, [whole[: 4 * 36], grown], format="extxyz")
    return path


def test_layers_and_grains_of_a_warm_film_by_templates(tmp_path: Path, rng: np.random.Generator) -> None:
    path = film(tmp_path / "film.extxyz", rng)
    answer = mlmd(
        "analyze", "deposition", path, "--interval", "1 ps", "--last", "1", "--lattice", "none", "--json",
        "--structure-types", "ptm", "--rmsd", "0.15", "--templates", "fcc,bcc", "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["structure_types"] == {"method": "ptm", "templates": ["fcc", "bcc"], "rmsd_cutoff": 0.15}
    inner = [layer["structures"] for layer in told["layers"][2:-1]]
    assert {*inner[0]} == {"other", "fcc", "bcc"}
    (grain,) = told["grains"]
    assert grain["face"] == "100" and grain["tilt_deg"] < 1.0
    by_neighbours = deposition(open_growing_file(path, interval=1000.0), last=1, lattice="none").layers[2:-1]
    for with_templates, plain in zip(inner, by_neighbours, strict=True):
        assert with_templates["fcc"]["value"] > 0.9 > plain.structures["fcc"].value
    assert any("polyhedral template matching with fcc, bcc and an RMSD up to 0.15" in note for note in told["notes"])


def test_the_order_in_a_profile_may_be_told_by_templates(rng: np.random.Generator) -> None:
    atoms = crystal("diamond")
    frames = atoms.positions + 0.02 * rng.normal(size=(3, len(atoms), 3))
    trajectory = from_arrays(frames, atoms, interval=1.0, unwrapped=True)
    order = {}
    for recognition in (Recognition(), Recognition("ptm", ("diamond",))):
        result = profile(trajectory, order=True, bin_width=2.7, drift="none", recognition=recognition)
        order[recognition.method] = next(one for one in result.curves if one.name == "order").values
    assert not order["cna"].any() and (order["ptm"] == 1.0).all()
    assert "order: polyhedral template matching with diamond and an RMSD up to 0.1" in result.notes


def test_templates_that_are_not_known_are_told_before_a_file_is_opened(tmp_path: Path) -> None:
    options = ("--order", "--structure-types", "ptm", "--templates", "diamod")
    answer = mlmd("analyze", "profile", tmp_path / "absent.xyz", *options)
    assert answer.code == 2 and "Did you mean 'diamond'" in answer.err


def test_that_there_are_no_grains_of_lattices_that_are_not_cubic_is_told() -> None:
    for name in ("hcp", "hexagonal-diamond"):
        (note,) = of_the_lattice("fcc", "fcc", of(crystal(name), templates=[name]).types)
        assert f"of {name} none are told" in note


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "ptn"}, "Did you mean 'ptm'"),
        ({"rmsd": 0.1}, "ask for structure types by ptm"),
        ({"method": "ptm", "rmsd": 0.0}, "needed above 0"),
        ({"method": "ptm", "templates": ("fc",)}, "Did you mean 'fcc'"),
        ({"method": "ptm", "templates": ()}, "no template is given"),
    ],
)
def test_what_cannot_be_told_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Recognition(**options)  # type: ignore[arg-type]


def test_without_the_package_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mdapy", None)
    with pytest.raises(InputError, match=r'pip install "mlmd\[ptm\]"'):
        Recognition("ptm")
