"""Names of atoms, residues and chains: PDB and PDBx/mmCIF in, a file beside the trajectory out."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import pytest
from openmm import app, unit
from runs import write_input

from mlmd.engine.run import simulate
from mlmd.engine.topology import molecules_of, read_named, whole, write_topology
from mlmd.errors import InputError
from mlmd.io.structures import read_structure

ALANINE = Path(__file__).parents[1] / "inputs" / "alanine.pdb"
SPRINGS = '{ kind = "lennard-jones", epsilon = "0.001 eV", sigma = "1 Å", cutoff = "3 Å" }'
STAGE = '[[stage]]\nkind = "nve"\nduration = "2 fs"\n'
OPTIONS = 'timestep = "0.5 fs"\nvelocities = "10 K"'
OUTPUT = 'log_every = "1 fs"\ntrajectory_every = "1 fs"'


def pdbx(folder: Path, *, models: int = 1) -> Path:
    """The same atoms as `ALANINE` in a `.cif` file."""
    file = app.PDBFile(str(ALANINE))
    with (folder / "alanine.cif").open("w") as stream:
        app.PDBxFile.writeHeader(file.topology, stream)
        for n in range(models):
            shift = n * np.ones(3) * unit.angstrom
            app.PDBxFile.writeModel(file.topology, file.positions + shift, stream, n + 1, keepIds=True)
    return folder / "alanine.cif"


def renumbered(folder: Path) -> Path:
    """The same with residues that begin at 41."""
    lines = ALANINE.read_text().splitlines(keepends=True)
    moved = [
        f"{one[:22]}{int(one[22:26]) + 40:4d}{one[26:]}" if one.startswith(("ATOM", "HETATM")) else one for one in lines
    ]
    (folder / "renumbered.pdb").write_text("".join(moved))
    return folder / "renumbered.pdb"


def test_pdbx_has_the_atoms_of_the_pdb_file(tmp_path: Path) -> None:
    one, other = read_structure(pdbx(tmp_path)), read_structure(ALANINE)
    assert np.array_equal(one.numbers, other.numbers) and one.pbc.all()
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-9)
    np.testing.assert_allclose(one.cell.array, other.cell.array, atol=1e-3)


def test_of_an_atom_with_alternatives_the_first_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    """As OpenMM does: one atom here has the places B and C, and none that is called A."""
    path = pdbx(tmp_path)
    lines = path.read_text().splitlines(keepends=True)
    (place,) = [n for n, line in enumerate(lines) if line.startswith("ATOM") and line.split()[3] == "CB"]
    words = lines[place].split()
    of_columns = [line.strip().removeprefix("_atom_site.") for line in lines if line.startswith("_atom_site.")]
    column = of_columns.index("label_alt_id")
    other = [*words]
    words[column], other[column], other[of_columns.index("Cartn_x")] = "B", "C", "99.0"
    path.write_text("".join([*lines[:place], " ".join(words) + "\n", " ".join(other) + "\n", *lines[place + 1 :]]))
    atoms = read_structure(path)
    np.testing.assert_allclose(atoms.positions, read_named(path)[1], atol=1e-9)
    assert len(atoms) == len(read_structure(ALANINE))


def test_a_model_of_several_is_chosen_by_its_number(tmp_path: Path) -> None:
    path = pdbx(tmp_path, models=2)
    with pytest.raises(InputError, match="several structures"):
        read_structure(path)
    with pytest.raises(InputError, match="several structures"):
        read_named(path)
    second = read_structure(f"{path}@1").positions
    np.testing.assert_allclose(second, read_structure(ALANINE).positions + 1.0, atol=1e-9)
    np.testing.assert_allclose(read_named(Path(f"{path}@-1"))[1], second, atol=1e-9)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_mdtraj_reads_a_run_of_named_atoms_by_its_topology(kind: str, tmp_path: Path) -> None:
    """Names, numbers of residues, chains, bonds and places are those of the structure file."""
    structure = renumbered(tmp_path) if kind == "pdb" else pdbx(tmp_path)
    path = write_input(tmp_path, STAGE, options=OPTIONS, output=OUTPUT, potential=SPRINGS)
    path.write_text(path.read_text().replace("atoms.extxyz", str(structure)))
    run = simulate(path, tmp_path / "run")
    frames, expected = mdtraj.load(str(run.trajectory), top=str(run.path / "topology.pdb")), mdtraj.load(str(structure))
    assert run.manifest["topology"] == "topology.pdb"
    assert [str(atom) for atom in frames.topology.atoms] == [str(atom) for atom in expected.topology.atoms]
    assert frames.topology.n_bonds == expected.topology.n_bonds and frames.topology.n_chains == 2
    assert frames.n_frames == 3
    np.testing.assert_allclose(frames.xyz[0], expected.xyz[0], atol=1e-6)
    assert mdtraj.compute_phi(frames)[1][0, 0] == pytest.approx(mdtraj.compute_phi(expected)[1][0, 0], abs=1e-4)


def test_a_run_without_names_has_no_topology(tmp_path: Path) -> None:
    run = simulate(write_input(tmp_path, STAGE, options=OPTIONS, output=OUTPUT), tmp_path / "run")
    assert "topology" not in run.manifest
    assert not list(run.path.glob("topology.*"))


def test_more_atoms_than_a_pdb_file_can_count_are_written_as_pdbx(tmp_path: Path) -> None:
    topology, n = app.Topology(), 100_000
    chain = topology.addChain()
    for _ in range(n):
        topology.addAtom("AR", app.element.argon, topology.addResidue("AR", chain))
    write_topology(tmp_path, topology, np.zeros((n, 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["topology.cif"]
    assert read_named(tmp_path / "topology.cif")[0].getNumAtoms() == n


def test_molecules_are_what_bonds_hold_together() -> None:
    labels = molecules_of(6, [(0, 3), (3, 5), (1, 2)])
    assert labels[0] == labels[3] == labels[5] and labels[1] == labels[2]
    assert len(set(labels.tolist())) == 3


def test_a_molecule_across_a_corner_of_a_skewed_cell_is_made_whole() -> None:
    cell = np.array([[10.0, 0.0, 0.0], [3.0, 9.0, 0.0], [-2.0, 1.0, 8.0]])
    chain = np.cumsum(np.full((12, 3), 0.9), axis=0) + 4.0
    bonds = [(n, n + 1) for n in range(11)]
    fractions = chain @ np.linalg.inv(cell)
    made = whole((fractions % 1.0) @ cell, cell, bonds)
    np.testing.assert_allclose(np.diff(made, axis=0), np.diff(chain, axis=0), atol=1e-12)
