"""Radial distribution functions: right at any distance, in any cell, with an error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase
import ase.build
import mdtraj
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlmd.analysis import write
from mlmd.analysis.rdf import RDFResult, rdf
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

TRICLINIC = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def of(atoms: ase.Atoms, positions: np.ndarray | None = None, **options: float) -> RDFResult:
    frames = atoms.positions[None] if positions is None else positions
    return rdf(from_arrays(frames, atoms, interval=1.0, unwrapped=True), **options)  # type: ignore[arg-type]


def shells(result: RDFResult, distances: list[float], index: int = 0) -> list[float]:
    """Coordination numbers up to just beyond each distance."""
    pair = result.pairs[index]
    return [float(pair.coordination[np.searchsorted(result.edges[1:], distance + 0.1)]) for distance in distances]


@pytest.mark.parametrize("cell", [np.eye(3) * 9.0, TRICLINIC], ids=["cubic", "triclinic"])
def test_an_ideal_gas_has_no_structure_at_any_distance(rng: np.random.Generator, cell: np.ndarray) -> None:
    n_a, n_b, n_frames = 20, 30, 200
    positions = rng.random((n_frames, n_a + n_b, 3)) @ cell
    result = of(ase.Atoms(f"Li{n_a}Cl{n_b}", cell=cell, pbc=True), positions, r_max=14.0, bin_width=0.5)
    away = result.distances > 2.0
    # Images of one atom are no gas: an atom's own are where the lattice is, so g_aa there is not 1 - 1/N.
    lattice = np.array([np.linalg.norm(np.array(n) @ cell) for n in np.ndindex(7, 7, 7) for n in [np.subtract(n, 3)]])
    free = away & np.array([not np.any(np.abs(lattice - r) <= 0.26) for r in result.distances])
    for pair, expected, mask in zip(result.pairs, (1 - 1 / n_a, 1.0, 1 - 1 / n_b), (free, away, free), strict=True):
        deviation = (pair.g[mask] - expected) / pair.g_error[mask]
        assert np.abs(pair.g[mask] - expected).max() < 0.1
        assert np.mean(deviation**2) < 3.0  # 1 for exact errors; those of ten blocks are themselves uncertain


def test_a_crystal_has_its_shells_also_in_its_smallest_cell() -> None:
    a = 4.0
    distances = [a / np.sqrt(2), a, a * np.sqrt(1.5), a * np.sqrt(2)]
    for atoms in (ase.build.bulk("Cu", "fcc", a), ase.build.bulk("Cu", "fcc", a, cubic=True).repeat(2)):
        assert shells(of(atoms, r_max=6.0, bin_width=0.02), distances) == [12, 18, 42, 54]


def test_unlike_atoms_are_counted_around_each_other() -> None:
    result = of(ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True), r_max=6.0, bin_width=0.02)
    assert [one.pair for one in result.pairs] == ["Na–Na", "Na–Cl", "Cl–Cl"]
    assert shells(result, [2.8, 5.6 * np.sqrt(0.75)], index=1) == [6, 14]
    assert shells(result, [5.6 / np.sqrt(2)], index=0) == [12]
    fluorite = of(ase.build.bulk("CaF2", "fluorite", 5.46), r_max=3.0, bin_width=0.02)
    assert shells(fluorite, [5.46 * np.sqrt(3) / 4], index=1) == [8]
    swapped = of(ase.build.bulk("CaF2", "fluorite", 5.46)[[1, 0, 2]], r_max=3.0, bin_width=0.02)
    assert swapped.pairs[1].pair == "F–Ca"
    assert shells(swapped, [5.46 * np.sqrt(3) / 4], index=1) == [4]


def test_a_small_skewed_cell_gives_what_its_supercell_gives(rng: np.random.Generator) -> None:
    cell = TRICLINIC * 0.5013  # no distance on the border of two bins
    atoms = ase.Atoms("LiCl3", positions=rng.random((4, 3)) @ cell, cell=cell, pbc=True)
    small, large = (of(one, r_max=9.0) for one in (atoms, atoms.repeat((2, 3, 2))))
    for one, other in zip(small.pairs, large.pairs, strict=True):
        assert np.allclose(one.g, other.g, atol=1e-9)
        assert np.allclose(one.coordination, other.coordination, atol=1e-9)
    assert any("half of the cell" in note for note in small.notes)


def test_mdtraj_finds_the_same_function(rng: np.random.Generator) -> None:
    n_frames, n_atoms = 20, 60
    positions = rng.random((n_frames, n_atoms, 3)) @ TRICLINIC
    result = of(ase.Atoms(f"Ar{n_atoms}", cell=TRICLINIC, pbc=True), positions, r_max=4.5, bin_width=0.1)
    topology = mdtraj.Topology()
    residue = topology.add_residue("Ar", topology.add_chain())
    for _ in range(n_atoms):
        topology.add_atom("Ar", mdtraj.element.argon, residue)
    frames = mdtraj.Trajectory(positions / 10, topology)
    frames.unitcell_vectors = np.tile(TRICLINIC / 10, (n_frames, 1, 1))
    pairs = topology.select_pairs("all", "all")
    distances, g = mdtraj.compute_rdf(frames, pairs, r_range=(0.0, 0.45), n_bins=45)
    assert np.allclose(10 * distances, result.distances, atol=1e-6)
    # MDTraj divides by N (N - 1) / 2 pairs and computes in float32, so that single pairs may change their bin.
    one_pair = 2 / (n_frames * n_atoms**2 / 1320.0 * 4 * np.pi * result.distances**2 * 0.1)
    assert np.all(np.abs(g * (1 - 1 / n_atoms) - result.pairs[0].g) < 2.1 * one_pair)


def test_the_coordination_number_is_the_integral_of_g(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Li10Cl20", cell=TRICLINIC, pbc=True)
    result = of(atoms, rng.random((30, 30, 3)) @ TRICLINIC, r_max=8.0)
    shell_volumes = 4 / 3 * np.pi * np.diff(result.edges**3)
    for pair, n_b in zip(result.pairs, (10, 20, 20), strict=True):
        integral = np.cumsum(pair.g * shell_volumes) * n_b / np.linalg.det(TRICLINIC)
        assert np.allclose(integral, pair.coordination, rtol=1e-9)


def test_atoms_far_from_home_are_where_their_images_are(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Ar20", cell=TRICLINIC, pbc=True)
    positions = rng.random((5, 20, 3)) @ TRICLINIC
    away = positions + rng.integers(-9, 9, size=(5, 20, 3)) @ TRICLINIC
    assert np.allclose(of(atoms, positions).pairs[0].g, of(atoms, away).pairs[0].g, atol=1e-9)


def test_each_frame_is_looked_at_in_its_own_cell(rng: np.random.Generator) -> None:
    cells = np.array([np.eye(3) * size for size in (8.0, 10.0)])
    reduced = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    positions = np.array([reduced @ cell for cell in cells])
    atoms = ase.Atoms("Ar2", cell=cells[0], pbc=True)
    trajectory = from_arrays(positions, atoms, interval=1.0, unwrapped=True, cells=cells)
    result = rdf(trajectory, r_max=6.0, bin_width=0.1)
    peaks = result.distances[result.pairs[0].g > 0]
    assert np.allclose(peaks, [4.05, 5.05])


def test_the_first_shell_of_a_liquid_like_crystal_is_found(rng: np.random.Generator) -> None:
    perfect = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat(3)
    positions = perfect.positions + rng.normal(scale=0.12, size=(30, len(perfect), 3))
    pair = of(perfect, positions, r_max=5.0).pairs[0]
    assert pair.peak is not None and pair.first_shell is not None and pair.shell_radius is not None
    assert pair.peak.value == pytest.approx(3.6 / np.sqrt(2), abs=0.1)
    assert pair.first_shell.value == pytest.approx(12.0, abs=0.1)
    assert 2.8 < pair.shell_radius.value < 3.4


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_first_shell_of_a_molecule_ends_where_there_is_none(spread: float, rng: np.random.Generator) -> None:
    """Of stiff bonds the peak is tens of times as high as what other molecules make."""
    arms = 2.05 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    centres = np.stack(np.meshgrid(*3 * [np.arange(4) * 6.0], indexing="ij"), axis=-1).reshape(-1, 3)
    positions = np.empty((30, 64, 5, 3))
    for frame in positions:
        frame[:, 0] = centres + rng.normal(scale=0.3, size=centres.shape)
        turned = np.stack([one.apply(arms) for one in Rotation.random(64, rng=rng)])
        frame[:, 1:] = frame[:, :1] + turned * rng.normal(1.0, spread / 2.05, (64, 4, 1))
    atoms = ase.Atoms("PS4" * 64, cell=24.0 * np.eye(3), pbc=True)
    pair = next(one for one in of(atoms, positions.reshape(30, -1, 3), r_max=6.0).pairs if one.pair == "P–S")
    assert pair.g.max() > 20.0 * pair.g[pair.g.size // 2 :].max()
    assert pair.first_shell is not None and pair.first_shell.value == pytest.approx(4.0, abs=0.01)
    assert pair.shell_radius is not None and 2.4 < pair.shell_radius.value < 3.0  # in the middle of nothing


def test_at_most_so_many_frames_are_used(rng: np.random.Generator) -> None:
    positions = rng.random((50, 10, 3)) * 8.0
    result = of(ase.Atoms("Ar10", cell=np.eye(3) * 8.0, pbc=True), positions, max_frames=7)
    assert result.n_frames == 7


def test_one_frame_has_no_error() -> None:
    assert np.isnan(of(ase.build.bulk("Cu", cubic=True), r_max=4.0).pairs[0].g_error).all()


def test_what_has_no_density_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="periodic in all three directions"):
        of(ase.Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3]]))
    with pytest.raises(InputError, match="0 < bin_width < r_max"):
        of(ase.build.bulk("Cu"), r_max=-1.0)
    with pytest.raises(InputError, match="no 'Al'"):
        of(ase.build.bulk("Cu"), elements=("Al",))  # type: ignore[arg-type]


def test_results_are_written_as_json_csv_and_png(tmp_path: Path, rng: np.random.Generator) -> None:
    positions = rng.random((20, 10, 3)) * 8.0
    result = of(ase.Atoms("Li5Cl5", cell=np.eye(3) * 8.0, pbc=True), positions, r_max=5.0)
    paths = write(result, tmp_path)
    data = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert list(data["pairs"]) == ["Li-Li", "Li-Cl", "Cl-Cl"]
    with paths[1].open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:3] == ["r [Å]", "g Li-Li", "g Li-Li error"] and len(rows) == 101
    assert paths[2].read_bytes().startswith(b"\x89PNG")
