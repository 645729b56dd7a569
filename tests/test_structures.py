"""Structure files: what is read, and that nothing unsound gets through."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmd.errors import InputError
from mlmd.io.structures import file_velocities, read_structure
from mlmd.io.validity import closest_neighbour

CRYSTAL = bulk("NaCl", "rocksalt", a=5.64, cubic=True)

CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M "P 1"
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def write(path: Path, atoms: Atoms, **options: object) -> Path:
    """A structure file written by ASE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ase.io.write(path, atoms, **options)
    return path


def refused(path: Path) -> str:
    """What is said about a wrong file."""
    with pytest.raises(InputError) as caught:
        read_structure(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("a.extxyz", "extxyz", {}),
        ("a.xyz", "extxyz", {}),
        ("a.cif", "cif", {}),
        ("POSCAR", "vasp", {}),
        ("CONTCAR.relaxed", "vasp", {}),
        ("a.vasp", "vasp", {}),
        ("a.pdb", "proteindatabank", {}),
        ("a.data", "lammps-data", {"masses": True}),
    ],
)
def test_each_format_gives_the_same_crystal(tmp_path: Path, name: str, kind: str, options: dict[str, bool]) -> None:
    atoms = read_structure(write(tmp_path / name, CRYSTAL, format=kind, **options))
    assert sorted(atoms.get_chemical_symbols()) == sorted(CRYSTAL.get_chemical_symbols())
    assert atoms.cell.array == pytest.approx(CRYSTAL.cell.array, abs=1e-3)
    assert atoms.pbc.all()
    pair = closest_neighbour(atoms, 4.0)
    assert pair is not None
    assert pair[2] == pytest.approx(2.82, abs=2e-3)


def test_the_ions_of_a_gromacs_file_are_not_taken_for_nitrogen_and_carbon(tmp_path: Path) -> None:
    path = tmp_path / "ions.gro"
    path.write_text(
        "ions\n 4\n"
        "    1NA      NA    1   0.100   0.100   0.100\n"
        "    2CL      CL    2   0.400   0.100   0.100\n"
        "    3ALA     CA    3   0.700   0.100   0.100\n"
        "    4SOL     OW    4   0.100   0.700   0.100\n"
        "   1.00000   1.00000   1.00000\n"
    )
    assert read_structure(path).get_chemical_symbols() == ["Na", "Cl", "C", "O"]


def test_a_supercell_repeats_the_atoms_and_the_cell(tmp_path: Path) -> None:
    atoms = read_structure(write(tmp_path / "a.extxyz", CRYSTAL), (2, 1, 3))
    assert len(atoms) == 6 * len(CRYSTAL)
    assert atoms.cell.lengths() == pytest.approx([2 * 5.64, 5.64, 3 * 5.64])
    assert atoms.get_volume() / len(atoms) == pytest.approx(CRYSTAL.get_volume() / len(CRYSTAL))


def test_a_supercell_needs_periodicity(tmp_path: Path) -> None:
    path = write(tmp_path / "a.extxyz", molecule("H2O"))
    assert len(read_structure(path)) == 3
    with pytest.raises(InputError, match="not periodic along cell vector 2"):
        read_structure(path, (1, 2, 1))
    with pytest.raises(InputError, match="at most"):
        read_structure(write(tmp_path / "b.extxyz", CRYSTAL), (10_000, 10_000, 10_000))


def test_velocities_of_the_file_are_in_angstrom_per_fs(tmp_path: Path) -> None:
    atoms = CRYSTAL.copy()
    atoms.set_velocities(np.full((len(atoms), 3), 0.01 / units.fs))
    read = read_structure(write(tmp_path / "a.extxyz", atoms))
    assert file_velocities(read) == pytest.approx(np.full((len(atoms), 3), 0.01), rel=1e-6)
    assert file_velocities(read_structure(write(tmp_path / "b.extxyz", CRYSTAL))) is None


def test_results_and_other_arrays_of_a_training_file_are_dropped(tmp_path: Path) -> None:
    atoms = CRYSTAL.copy()
    atoms.arrays["forces"] = np.ones((len(atoms), 3))
    atoms.info["energy"] = -1.0
    read = read_structure(write(tmp_path / "a.extxyz", atoms))
    assert set(read.arrays) == {"numbers", "positions"}
    assert read.calc is None
    assert read.info == {}


def test_selective_dynamics_is_reported_and_not_obeyed(tmp_path: Path) -> None:
    atoms = CRYSTAL.copy()
    atoms.set_constraint(FixAtoms([1, 3]))
    read = read_structure(write(tmp_path / "POSCAR", atoms, format="vasp"))
    assert read.info["constrained"] == [1, 3]
    assert not read.constraints


def test_one_of_several_frames_is_chosen_by_an_at_sign(tmp_path: Path) -> None:
    frames = [CRYSTAL.copy() for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.positions[0, 0] = 0.1 * number
    path = tmp_path / "a.extxyz"
    ase.io.write(path, frames)
    assert "Choose one" in refused(path)
    assert read_structure(tmp_path / "a.extxyz@1").positions[0, 0] == pytest.approx(0.1)
    assert read_structure(tmp_path / "a.extxyz@-1").positions[0, 0] == pytest.approx(0.2)
    assert "no such frame as 7: they are counted from 0" in refused(tmp_path / "a.extxyz@7")


def altered(**changes: object) -> Atoms:
    """The crystal with something wrong."""
    atoms = CRYSTAL.copy()
    for name, value in changes.items():
        if name == "position":
            atoms.positions[3] = value
        elif name == "number":
            atoms.numbers[2] = value
        else:
            atoms.set_cell(value)
    return atoms


CELL = CRYSTAL.cell.array
UNSOUND = [
    (altered(position=[np.nan, 0, 0]), "atom 3 has a position that is not a number"),
    (altered(position=[np.inf, 0, 0]), "atom 3 has a position that is not a number"),
    (altered(position=[1e9, 0, 0]), "atom 3 lies more than 1e+06 Å"),
    (altered(position=CRYSTAL.positions[5] + 0.1), "atoms 3 (Cl) and 5 (Cl) are 0.173 Å apart"),
    (altered(position=CRYSTAL.positions[5]), "atoms 3 (Cl) and 5 (Cl) are 0 Å apart"),
    (altered(position=CRYSTAL.positions[6] + 2 * CELL[0] - CELL[2] + [0, 0.3, 0]), "atoms 3 (Cl) and 6 (Na)"),
    (altered(number=0), "atom 2 has no known element"),
    (altered(cell=CELL * [[1], [1], [-1]]), "left-handed"),
    (altered(cell=[CELL[0], CELL[1], CELL[0] + CELL[1]]), "no volume"),
    (altered(cell=[CELL[0], CELL[1], [0, 0, 0]]), "has no cell along every periodic direction"),
    (altered(cell=CELL * [[1], [1], [np.nan]]), "cell has a number that is not finite"),
]


@pytest.mark.parametrize(("atoms", "said"), UNSOUND, ids=[said for _, said in UNSOUND])
@pytest.mark.row("R13")
def test_an_unsound_structure_is_refused_by_name(tmp_path: Path, atoms: Atoms, said: str) -> None:
    answer = refused(write(tmp_path / "a.extxyz", atoms))
    assert said in answer
    assert answer.startswith("a.extxyz")


@pytest.mark.row("R13")
def test_an_atom_near_its_own_image_is_refused(tmp_path: Path) -> None:
    atoms = Atoms("Ar", cell=[0.4, 9, 9], pbc=True)
    assert "atom 0 (Ar) and its own image are 0.4 Å apart" in refused(write(tmp_path / "a.extxyz", atoms))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.extxyz", "", "no structure at all"),
        ("a.extxyz", "0\n\n", "has no atoms"),
        ("a.extxyz", "2\n\nAr 0 0 0\n", "cannot be read as extxyz"),
        ("a.extxyz", "1\n\nQq 0 0 0\n", "cannot be read as extxyz"),
        ("a.extxyz", "1\n\nAr 0 0 x\n", "cannot be read as extxyz"),
        ("a.extxyz", "1\n\nX 0 0 0\n", "no known element"),
        ("a.extxyz", '1\npbc="T T T"\nAr 0 0 0\n', "has no cell"),
        ("a.pdb", "REMARK nothing\nEND\n", "has no atoms"),
        ("a.cif", "hello", "cannot be read as cif"),
        ("a.data", "x\n\n1 atoms\n1 atom types\n\nAtoms\n\n1 1 0 0 0\n", "Masses or Atom Type Labels"),
        ("POSCAR", "Ar\n1.0\n1 0 0\n0 1 0\n", "cannot be read as vasp"),
        ("a.traj", "x", "no ending that tells its format"),
    ],
)
@pytest.mark.row("R13")
def test_damaged_files_are_refused_with_the_reason(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert said in refused(path)


def test_binary_and_missing_files_and_folders_are_input_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    path.write_bytes(bytes(range(256)))
    assert "cannot be read" in refused(path)
    assert "no such file" in refused(tmp_path / "b.cif")
    (tmp_path / "c.cif").mkdir()
    assert "not a file" in refused(tmp_path / "c.cif")


def test_partly_occupied_sites_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.cif"
    path.write_text(CIF + "Li1 Li 0 0 0 0.5\nCl1 Cl 0.5 0.5 0.5 1\nY1 Y 0.5 0 0 0.25\nIn1 In 0.5 0 0 0.75\n")
    answer = refused(path)
    assert "2 partly occupied sites" in answer
    assert "Li 0.5 at (0, 0, 0)" in answer
    assert "Y 0.25 + In 0.75 at (0.5, 0, 0)" in answer
    path.write_text(CIF + "Li1 Li 0 0 0 1.0\nCl1 Cl 0.5 0.5 0.5 1\n")
    assert len(read_structure(path)) == 2


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_closest_pair_is_the_one_of_all_images(seed: int) -> None:
    # the oracle is 11³ images of every pair, in skewed and thin cells of any periodicity
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(0.7, 6, 3)) + random.uniform(-0.2, 0.2, (3, 3))
    atoms = Atoms("H4", random.uniform(-8, 8, (4, 3)), cell=cell, pbc=random.integers(0, 2, 3).astype(bool))
    scaled = atoms.get_scaled_positions(wrap=True)
    shifts = np.array(list(np.ndindex(11, 11, 11))) - 5
    shifts = shifts[(shifts[:, ~atoms.pbc] == 0).all(axis=1)]
    difference = scaled[None, :] - scaled[:, None]
    vectors = (difference[:, :, None] + shifts) @ cell
    distances = np.linalg.norm(vectors, axis=-1)
    nearest = distances[distances > 1e-9].min()
    pair = closest_neighbour(atoms, 1.0)
    assert (pair[2] if pair else 1.0) == pytest.approx(min(nearest, 1.0))


def test_the_closest_pair_does_not_depend_on_the_choice_of_lattice_vectors() -> None:
    atoms = Atoms("H2", [[0.1, 0.2, 0.3], [1.6, 2.9, 2.8]], cell=[3.0, 3.1, 3.2], pbc=True)
    expected = closest_neighbour(atoms, 2.0)
    assert expected is not None
    atoms.set_cell(np.array([[1, 0, 0], [9, 1, 0], [-7, 8, 1]]) @ atoms.cell.array)
    assert closest_neighbour(atoms, 2.0) == pytest.approx(expected)


def test_a_hundred_thousand_atoms_are_checked_in_two_seconds() -> None:
    random = np.random.default_rng(0)
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(30)
    atoms.positions += random.normal(0, 0.1, (len(atoms), 3))
    start = time.perf_counter()
    assert closest_neighbour(atoms, 0.5) is None
    assert time.perf_counter() - start < 2.0
    atoms.positions[:] = 0.0  # the worst case: all of them at one place
    start = time.perf_counter()
    assert closest_neighbour(atoms, 0.5) is not None
    assert time.perf_counter() - start < 2.0


SEEDS = {
    "a.extxyz": '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\nNa 0 0 0\nCl 2 2 2\n',
    "a.cif": CIF + "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n",
    "POSCAR": "NaCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n",
    "a.pdb": "CRYST1    4.000    4.000    4.000  90.00  90.00  90.00 P 1\n"
    "ATOM      1 NA   MOL     1       0.000   0.000   0.000  1.00  0.00          NA\nEND\n",
    "a.gro": "x\n 1\n    1NA      NA    1   0.100   0.100   0.100\n   1.00000   1.00000   1.00000\n",
    "a.data": "x\n\n1 atoms\n1 atom types\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n\n"
    "Masses\n\n1 40\n\nAtoms # atomic\n\n1 1 0 0 0\n",
}


@pytest.mark.parametrize("name", list(SEEDS))
@given(data=st.data())
@settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_read_or_refused_and_never_a_traceback(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    raw = bytearray(SEEDS[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        piece = data.draw(
            st.sampled_from([b"", b"nan", b"-", b"9", b"\n", b" ", b"1e300", b"X", b"\xff", b"_", b"'", b"0"])
        )
        raw[at : at + data.draw(st.integers(0, 5))] = piece
    path = tmp_path / name
    path.write_bytes(raw)
    try:
        atoms = read_structure(path)
    except InputError as error:
        assert name in str(error)
    else:
        assert np.isfinite(atoms.positions).all()
        assert len(atoms) > 0
