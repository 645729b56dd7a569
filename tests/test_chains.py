"""Proteins: what MDTraj says of the same frames, wherever the sides of the cell are."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import ase
import mdtraj
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation

from mlmd.analysis import conformations
from mlmd.analysis.chain import selected
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.protein import protein
from mlmd.analysis.residues import _fluctuation
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

N_FRAMES = 60
INPUTS = Path(__file__).parents[1] / "inputs"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


@pytest.fixture
def chignolin(shared: Path) -> Path:
    return shared / "protein_pdbs" / "chig.pdb"


def jiggled(path: Path, rng: np.random.Generator) -> tuple[mdtraj.Trajectory, ase.Atoms]:
    """Frames in which every atom has moved by 0.25 Å, and the atoms with the cell of the file."""
    known = mdtraj.load(str(path))
    frames = known.xyz[0] + 0.025 * rng.normal(size=(N_FRAMES, known.n_atoms, 3))
    numbers = [atom.element.number for atom in known.topology.atoms]
    atoms = ase.Atoms(numbers, 10.0 * frames[0], cell=10.0 * known.unitcell_vectors[0], pbc=True)
    return mdtraj.Trajectory(frames.astype("f4"), known.topology), atoms


def test_all_is_what_mdtraj_says(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    result = protein(from_arrays(10.0 * frames.xyz, atoms, interval=1000.0, unwrapped=True), topology=chignolin)
    found = {one.name: one.values for one in result.series}
    alphas = frames.topology.select("name CA")
    assert np.allclose(found["RMSD"], 10.0 * mdtraj.rmsd(frames, frames, atom_indices=alphas), atol=1e-3)
    gyration = mdtraj.compute_rg(frames, masses=atoms.get_masses())
    assert np.allclose(found["radius of gyration"], 10.0 * gyration, atol=1e-4)
    letters = mdtraj.compute_dssp(frames)
    for name, letter in (("helix", "H"), ("strand", "E"), ("coil", "C")):
        assert np.array_equal(found[name], (letters == letter).sum(axis=1))
    assert found["strand"].any()
    for frame in (0, 7, N_FRAMES - 1):
        assert found["hydrogen bonds"][frame] == len(mdtraj.baker_hubbard(frames[frame], freq=0.5, periodic=False))
        gaps, _ = mdtraj.compute_contacts(frames[frame], periodic=False)  # three or more apart, of residues with Cα
        own, _ = mdtraj.compute_contacts(frames[frame], contacts=_pairs(12), periodic=False)
        assert found["contacts"][frame] == (own < 0.45).sum() >= (gaps < 0.45).sum() > 0
    aligned = frames[:].superpose(frames, 0, atom_indices=alphas).xyz[:, alphas]
    fluctuations = 10.0 * np.sqrt(((aligned - aligned.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
    contacts = result.figure().axes[-2]  # and its scale
    names = [[one.get_text() for one in axis.get_ticklabels()] for axis in (contacts.xaxis, contacts.yaxis)]
    assert names == 2 * [[one.name for one in result.residues]]
    told = [one.fluctuation.value for one in result.residues if one.fluctuation is not None]
    assert np.allclose(told, fluctuations, atol=1e-3)


def _pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 3, n)]


def test_dihedral_angles_belong_to_their_residues(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    result = protein(from_arrays(10.0 * frames.xyz, atoms, interval=1000.0, unwrapped=True), topology=chignolin)
    for name, compute in (("φ", mdtraj.compute_phi), ("ψ", mdtraj.compute_psi)):
        places, values = compute(frames, periodic=False)
        residues = [frames.topology.atom(four[2 if name == "φ" else 1]).residue for four in places]
        for residue, column in zip(residues, values.T, strict=True):
            assert np.allclose(result.residues[residue.index].angles[name], column, atol=1e-5)
            assert result.residues[residue.index].name == str(residue)
    assert len([one for one in result.residues if one.angles]) == 10  # the caps have none


def test_the_sides_of_the_cell_cut_nothing(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    cell = np.array([[24.0, 0.0, 0.0], [9.0, 23.0, 0.0], [-7.0, 6.0, 24.0]]) @ Rotation.random(rng=rng).as_matrix()
    atoms.set_cell(cell)
    whole = 10.0 * frames.xyz.astype(float)
    reduced = (whole + np.linspace(0.0, 40.0, N_FRAMES)[:, None, None]) @ np.linalg.inv(cell)
    wrapped = (reduced - np.floor(reduced)) @ cell
    assert np.ptp(wrapped, axis=1).max() > 30.0  # it is cut
    one, other = (
        protein(from_arrays(positions, atoms, interval=1.0, unwrapped=positions is whole), topology=chignolin)
        for positions in (whole, wrapped)
    )
    for first, second in zip(one.series, other.series, strict=True):
        assert np.allclose(first.values, second.values, atol=2e-3), first.name
    assert np.allclose(one.contacts, other.contacts, equal_nan=True)


def test_a_chain_that_passes_half_a_cell_stays_on_its_side(tmp_path: Path) -> None:
    known = mdtraj.Topology()
    for chain in (known.add_chain(), known.add_chain()):
        residue = known.add_residue("GLY", chain)
        atoms = [known.add_atom(name, mdtraj.element.carbon, residue) for name in ("CA", "C", "CB")]
        for pair in pairwise(atoms):
            known.add_bond(*pair)
    own = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [1.5, 1.5, 0.0]])
    gaps = np.linspace(13.0, 47.0, 9)  # once and a half around a cell of 30 Å
    positions = np.array([[*own, *(own + np.array([0.0, 0.0, gap]))] for gap in gaps]) + 1.0
    mdtraj.Trajectory(0.1 * positions[:1], known).save_pdb(str(tmp_path / "two.pdb"))
    atoms = ase.Atoms("C6", positions[0], cell=[30.0] * 3, pbc=True)
    trajectory = from_arrays(positions % 30.0, atoms, interval=1.0, unwrapped=False)
    chosen = selected(trajectory, tmp_path / "two.pdb", "all")
    for size in (9, 2):  # also from one part of the trajectory to the next
        parts = [trajectory.chunks(start, start + size, atoms=chosen.atoms) for start in range(0, 9, size)]
        apart, found = None, []
        for part in (next(one) for one in parts):
            whole, apart = chosen._whole(part.positions, part.cells, apart)
            found += (whole[:, 3:] - whole[:, :3]).mean(axis=1).tolist()
        assert np.allclose(found, [[0.0, 0.0, gap] for gap in gaps])


def test_a_structure_without_hydrogen_has_no_number_of_bonds(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    trajectory = from_arrays(10.0 * frames.xyz, atoms, interval=1.0, unwrapped=True)
    result = protein(trajectory, topology=chignolin, selection="protein and element != H")
    assert "hydrogen bonds" not in {one.name for one in result.series}
    assert any("none of the atoms is hydrogen" in note for note in result.notes)


def test_contacts_are_the_same_however_many_are_looked_at_at_once(
    chignolin: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, _ = jiggled(chignolin, rng)
    contacts, touching = conformations._contacts(frames)
    monkeypatch.setattr(conformations, "_N_DISTANCES", 10_000)
    for one, other in zip(conformations._contacts(frames), (contacts, touching), strict=True):
        assert np.array_equal(one, other)
    assert touching.sum() == contacts.sum() > 0


def test_a_protein_that_only_moves_and_turns_has_no_deviation(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    turned = np.array([Rotation.random(rng=rng).apply(10.0 * frames.xyz[0]) + rng.normal(size=3) for _ in range(20)])
    atoms.pbc = False
    result = protein(from_arrays(turned, atoms, interval=1.0, unwrapped=True), topology=chignolin)
    rmsd = result.series[0].values
    assert rmsd.max() < 0.01  # MDTraj computes in single precision
    assert all(one.fluctuation is None or one.fluctuation.value < 0.01 for one in result.residues)


def test_a_reference_is_what_deviations_are_from(chignolin: Path, rng: np.random.Generator, tmp_path: Path) -> None:
    frames, atoms = jiggled(chignolin, rng)
    trajectory = from_arrays(10.0 * frames.xyz, atoms, interval=1.0, unwrapped=True)
    frames[5].save_pdb(str(tmp_path / "five.pdb"))
    result = protein(trajectory, topology=chignolin, reference=tmp_path / "five.pdb")
    assert np.argmin(result.series[0].values) == 5
    assert result.series[0].values[5] < 0.02  # a PDB file has three digits
    with pytest.raises(InputError, match="by name and order"):
        protein(trajectory, topology=chignolin, reference=chignolin.with_name("trpcage.pdb"))


def test_means_of_a_protein_that_unfolds_are_flagged(chignolin: Path, rng: np.random.Generator) -> None:
    frames, atoms = jiggled(chignolin, rng)
    atoms.pbc = False
    swollen = 10.0 * frames.xyz * np.linspace(1.0, 1.3, N_FRAMES)[:, None, None]
    result = protein(from_arrays(swollen, atoms, interval=1.0, unwrapped=True), topology=chignolin)
    assert any("radius of gyration" in note and "drifts" in note for note in result.notes)


def test_the_error_of_a_fluctuation_is_its_scatter_or_is_not_known(rng: np.random.Generator) -> None:
    def fluctuation(memory: float) -> Estimate:
        kept = np.exp(-1.0 / memory)
        sizes = lfilter([np.sqrt(1.0 - kept**2)], [1.0, -kept], rng.normal(size=(1200, 3)), axis=0)[1000:]
        return _fluctuation(sizes[:, None])

    found = [fluctuation(2.0) for _ in range(100)]
    claimed = np.sqrt(np.mean([one.error**2 for one in found]))
    assert claimed == pytest.approx(np.std([one.value for one in found]), rel=0.25)  # 7 % of a scatter of 100
    unknown = [np.isnan(fluctuation(100.0).error) for _ in range(100)]
    assert sum(unknown) > 70  # two independent frames; now and then they seem more


def test_a_run_folder_brings_its_topology(chignolin: Path, rng: np.random.Generator, tmp_path: Path) -> None:
    frames, atoms = jiggled(chignolin, rng)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 10 * N_FRAMES - 10),), 10.0 * frames.xyz)
    answer = mlmd("analyze", "protein", run)
    assert answer.code == 2 and "--topology" in answer.err
    (run / "topology.pdb").write_bytes(chignolin.read_bytes())
    answer = mlmd("analyze", "protein", run)
    assert answer.code == 0, answer.err
    for word in ("RMSD", "radius of gyration", "TYR3", "Hydrogen bonds: ", "Superposed by Cα atoms"):
        assert word in answer.out
    data = json.loads((run / "analysis" / "protein.json").read_text())
    assert data["means"]["contacts"]["mean"]["value"] > 5
    assert (run / "analysis" / "protein.png").exists()
    head = (run / "analysis" / "protein.csv").read_text().splitlines()[0]
    assert head.startswith("time [ps],RMSD [Å]") and "φ TYR3 [deg]" in head
    answer = mlmd("analyze", "protein", run, "--topology", chignolin.with_name("ww.pdb"))
    assert answer.code == 2 and "other atoms" in answer.err
    for selection, message in (("resname XXX", "selects 0 atoms"), ("foo bar(", "no selection")):
        answer = mlmd("analyze", "protein", run, "--select", selection)
        assert answer.code == 2 and message in answer.err


def test_a_dipeptide_in_water_has_its_two_angles(rng: np.random.Generator) -> None:
    frames, atoms = jiggled(INPUTS / "alanine.pdb", rng)
    result = protein(
        from_arrays(10.0 * frames.xyz, atoms, interval=1.0, unwrapped=True), topology=INPUTS / "alanine.pdb"
    )
    assert [one.name for one in result.residues] == ["ACE1", "ALA2", "NME3"]
    assert set(result.residues[1].angles) == {"φ", "ψ"}
    assert result.superposed == "all atoms but hydrogen"
