"""Trajectories of LAMMPS and in H5MD: the positions that were written, and what the files themselves tell of them.

LAMMPS writes one run in all its columns; `xu` of it, by LAMMPS itself, is what the others must give.
"""

from __future__ import annotations

import json
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from lammps_oracle import require_lammps
from mdtraj.formats import XTCTrajectoryFile

from mlmd.analysis.density import density
from mlmd.analysis.diffusion import diffusion
from mlmd.errors import InputError, StorageError
from mlmd.io.h5md import open_h5md
from mlmd.io.lammps_dump import open_lammps_dump
from mlmd.io.trajectories import open_frames, open_trajectory
from mlmd.io.xtc import open_xtc

RUN = """
units metal
boundary p p p
lattice fcc 5.4
region box prism 0 2 0 2 0 2 0.6 -0.4 0.3
create_box 1 box
create_atoms 1 box
mass 1 39.95
pair_style lj/cut 5
pair_coeff 1 1 0.0104 3.4
velocity all create 900 1
fix 1 all npt temp 900 900 0.1 tri 0 0 0.5
timestep 0.004
{dumps}
run 400
"""
COLUMNS = {
    "xu": "id type element xu yu zu",
    "xsu": "id element xsu ysu zsu",
    "images": "ix iy iz id element x y z",
    "scaled": "id xs ys zs ix iy iz element",
    "x": "id element x y z",
    "xs": "element id xs ys zs",
}
DUMP = (
    "dump {0} all custom 40 {1}/{0}.lammpstrj {2}\ndump_modify {0} element Ar format float %.12g time yes units yes\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a hot Lennard-Jones fluid in a tilted box that changes, in all columns."""
    path = tmp_path_factory.mktemp("dumps")
    lammps = require_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"])
    dumps = "".join(DUMP.format(name, path, columns) for name, columns in COLUMNS.items())
    lammps.commands_string(RUN.format(dumps=dumps))
    lammps.close()
    return path


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_columns_gives_the_same_positions(folder: Path, name: str) -> None:
    wanted, found = (open_trajectory(folder / f"{one}.lammpstrj") for one in ("xu", name))
    assert found.unwrapped == (name not in ("x", "xs")) and found.n_frames == 11 and found.elements == ("Ar",)
    assert np.array_equal(found.times, 160.0 * np.arange(11))
    assert np.ptp(wanted.volume()) == 0 or not wanted.constant_cell
    for one, other in zip(wanted.chunks(), found.chunks(), strict=True):
        moved = other.positions - one.positions
        if not found.unwrapped:  # equal but for whole cell vectors
            fractions = moved @ np.linalg.inv(other.cells)
            assert np.abs(np.rint(fractions)).max() >= 1
            moved = (fractions - np.rint(fractions)) @ other.cells
        assert np.abs(moved).max() < 1e-8
        assert np.abs(one.cells - other.cells).max() < 1e-9


def test_the_frames_are_those_that_ase_reads(folder: Path) -> None:
    trajectory = open_trajectory(folder / "xu.lammpstrj")
    (frames,) = trajectory.chunks(atoms=np.array([3, 0]), step=5)
    for row, theirs in enumerate(ase.io.read(folder / "xu.lammpstrj", index="::5", format="lammps-dump-text")):
        assert np.abs(frames.positions[row] - theirs.positions[[3, 0]]).max() < 1e-8
        assert np.abs(frames.cells[row] - theirs.cell.array).max() < 1e-8
    assert trajectory.pbc.all()


def test_a_dump_is_analysed_by_its_name_alone(folder: Path, tmp_path: Path) -> None:
    answers = [
        mlmd("analyze", "diffusion", folder / f"{name}.lammpstrj", "--out", tmp_path / name)
        for name in ("xu", "images")
    ]
    assert [one.code for one in answers] == [0, 0] and "Ar" in answers[0].out
    assert answers[0].out.replace("/xu/", "/images/") == answers[1].out


@pytest.mark.parametrize("command", ["rdf", "structure-factor", "adf", "order"])
def test_averages_over_frames_need_no_times_and_no_paths(command: str, tmp_path: Path) -> None:
    atoms = ase.build.bulk("Cu", cubic=True) * (3, 3, 3)
    frames = [atoms.copy() for _ in range(12)]
    for number, frame in enumerate(frames):
        frame.rattle(0.05, seed=number)
    ase.io.write(tmp_path / "a.extxyz", frames)
    answer = mlmd("analyze", command, tmp_path / "a.extxyz", "--out", tmp_path / "untimed")
    assert answer.code == 0, answer.err
    assert "12 frames" in answer.out and "nan" not in answer.out
    timed = ("--wrapped", "--interval", "10 fs", "--out", tmp_path / "timed")
    assert mlmd("analyze", command, tmp_path / "a.extxyz", *timed).code == 0
    one, other = (json.loads((tmp_path / name / f"{command}.json").read_text()) for name in ("untimed", "timed"))
    assert (one.pop("provenance")["interval"], other.pop("provenance")["interval"]) == (None, 10.0)
    assert one == other
    assert '--interval "10 fs"' in mlmd("analyze", command, tmp_path / "a.extxyz", "--from", "1 fs").err


def test_what_was_opened_for_averages_is_not_followed_in_time(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.extxyz", [ase.Atoms("Ar4", np.eye(4)[:, :3], cell=[9.0] * 3, pbc=True)] * 20)
    trajectory = open_trajectory(tmp_path / "a.extxyz", averaged=True)
    for analysis in (diffusion, density):
        with pytest.raises(InputError, match="equal intervals"):
            analysis(trajectory)


def damaged(folder: Path, tmp_path: Path, old: str, new: str, count: int = -1) -> Path:
    path = tmp_path / "damaged.lammpstrj"
    path.write_text((folder / "xu.lammpstrj").read_text().replace(old, new, count))
    return path


def test_a_dump_that_does_not_tell_which_atom_is_where_is_refused(folder: Path, tmp_path: Path) -> None:
    for old, new, said in (
        ("ATOMS id type", "ATOMS mol type", "no column id"),
        ("xu yu zu", "vx vy vz", "no columns of positions"),
        ("metal", "lj", "units 'lj'"),
    ):
        with pytest.raises(InputError, match=said):
            open_trajectory(damaged(folder, tmp_path, old, new))
    with pytest.raises(InputError, match="itself says that its positions are unwrapped"):
        open_trajectory(folder / "xu.lammpstrj", unwrapped=False)
    with pytest.raises(InputError, match="does not tell the time"):
        open_trajectory(damaged(folder, tmp_path, "ITEM: UNITS\nmetal\n", ""))
    with pytest.raises(InputError, match="does not tell what its atoms are"):
        open_trajectory(damaged(folder, tmp_path, "type element", "type kind"))
    with pytest.raises(InputError, match="Xx, which is no element"):
        open_trajectory(damaged(folder, tmp_path, " Ar ", " Xx "))


def test_a_damaged_dump_is_named_and_a_torn_last_frame_is_not_seen(folder: Path, tmp_path: Path) -> None:
    text = (folder / "xu.lammpstrj").read_text()
    path = tmp_path / "torn.lammpstrj"
    for n_bytes in (1, 30, len(text) // 11 - 40):
        path.write_text(text[:-n_bytes])
        assert open_trajectory(path).n_frames == 10
    path.write_text(text.replace("NUMBER OF ATOMS\n32", "NUMBER OF ATOMS\n31"))
    with pytest.raises(StorageError, match=r"frame 1 does not begin"):
        open_trajectory(path)
    second = text.index("ITEM: ATOMS", text.index("ITEM: ATOMS") + 1)
    place = text.index("\n1 1 Ar", second)
    for new, said in (("\n7 1 Ar", "frame 1 does not have the atoms of the first"), ("\nx 1 Ar", "frame 1 is damaged")):
        path.write_text(text[:place] + new + text[place + 7 :])
        with pytest.raises(StorageError, match=said):
            list(open_trajectory(path).chunks())


def test_frames_that_are_there_twice_or_at_odd_steps_are_refused(folder: Path, tmp_path: Path) -> None:
    content = (folder / "xu.lammpstrj").read_bytes()
    third, fourth = open_lammps_dump(folder / "xu.lammpstrj").offsets[3:5]
    path = tmp_path / "again.lammpstrj"
    path.write_bytes(content[:fourth] + content[third:])
    with pytest.raises(InputError, match=r"not at equal distances: 40 steps at first, and 0 before frame 4"):
        open_trajectory(path, interval=160.0)
    with pytest.raises(InputError, match="itself tells 160 fs between its first frames, and 10 fs"):
        open_trajectory(folder / "xu.lammpstrj", interval=10.0)
    assert open_trajectory(folder / "xu.lammpstrj", interval=160.5).times[-1] == 1605.0


def test_a_structure_in_another_order_is_refused(tmp_path: Path) -> None:
    path = write_h5md(tmp_path / "a.h5md", images=True)
    with pytest.raises(InputError, match=r"atom 1 \(counted from 0\) is Cl there and Li in the structure"):
        open_trajectory(path, ase.Atoms("LiLiClClCl", POSITIONS[0], cell=CELLS[0], pbc=True))


# -- H5MD --------------------------------------------------------------------------------------------------------------

CELLS = np.array([[[11.0, 0, 0], [1.0, 12, 0], [0.5, -1, 13]]]) * np.linspace(1.0, 1.05, 6)[:, None, None]
POSITIONS = np.random.default_rng(0).uniform(0, 11, (6, 5, 3))
IMAGES = np.random.default_rng(1).integers(-2, 3, (6, 5, 3))


def write_h5md(path: Path, *, unit: str | None = "nm", images: bool = False, elements: bool = True) -> Path:
    """As the specification says, with what is optional when asked for."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_group("h5md").attrs["version"] = (1, 1)
        particles = file.create_group("particles/all")
        position = particles.create_group("position")
        position["value"] = POSITIONS / 10.0
        position["step"], position["time"] = 10 * np.arange(6), 0.02 * np.arange(6)
        if unit is not None:
            position["value"].attrs["unit"], position["time"].attrs["unit"] = unit, b"ps"
        box = particles.create_group("box")
        box.attrs["dimension"], box.attrs["boundary"] = 3, np.array([b"periodic"] * 3)
        box["edges/value"] = CELLS / 10.0
        if images:
            particles["image/value"] = IMAGES
        if elements:
            kind = h5py.enum_dtype({"Li": 0, "Cl": 1})
            particles.create_dataset("species", data=np.array([0, 1, 1, 0, 1]), dtype=kind)
        else:
            particles["species"] = np.array([3, 17, 17, 3, 17])
    return path


def test_h5md_is_read_in_its_units_with_its_images(tmp_path: Path) -> None:
    trajectory = open_trajectory(write_h5md(tmp_path / "a.h5md", images=True))
    assert trajectory.unwrapped and trajectory.symbols.tolist() == ["Li", "Cl", "Cl", "Li", "Cl"]
    assert np.allclose(trajectory.times, 20.0 * np.arange(6)) and trajectory.pbc.all()
    (frames,) = trajectory.chunks(start=1, step=2, atoms=np.array([4, 1]))
    assert np.abs(frames.cells - CELLS[1::2]).max() < 1e-12
    assert np.abs(frames.positions - (POSITIONS + IMAGES @ CELLS)[1::2, [4, 1]]).max() < 1e-12


def test_h5md_may_have_its_box_in_another_unit(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_h5md(tmp_path / "a.h5md", images=True)
    with h5py.File(path, "a") as file:
        file["particles/all/box/edges/value"][...] = CELLS
        file["particles/all/box/edges/value"].attrs["unit"] = "Angstrom"
    (frames,) = open_trajectory(path).chunks()
    assert np.abs(frames.cells - CELLS).max() < 1e-12
    assert np.abs(frames.positions - (POSITIONS + IMAGES @ CELLS)).max() < 1e-12


def test_h5md_with_images_and_no_cell_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_h5md(tmp_path / "a.h5md", images=True)
    with h5py.File(path, "a") as file:
        del file["particles/all/box/edges"]
    with pytest.raises(InputError, match="crossed the cell, and no /particles/all/box/edges"):
        open_trajectory(path)


@pytest.mark.parametrize("name", ["a.h5md", "a.xtc"])
def test_few_atoms_of_many_take_little_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # frames of files are whole: 36 MB of all atoms to give 12 kB
    import tracemalloc

    positions = np.random.default_rng(2).uniform(0.0, 30.0, (1000, 1500, 3)).astype(np.float32)
    if name.endswith("xtc"):
        with XTCTrajectoryFile(str(tmp_path / name), "w") as file:
            file.write(positions / 10.0)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / name, "w") as file:
            file["particles/all/position/value"] = positions
            file["particles/all/position/value"].attrs["unit"] = "Angstrom"
    monkeypatch.setattr("mlmd.io.frames.CHUNK_BYTES", 1e6)
    reader = open_xtc(tmp_path / name) if name.endswith("xtc") else open_h5md(tmp_path / name)
    chosen = np.array([7, 1400])
    reader.read(range(2), chosen)
    tracemalloc.start()
    found = reader.read(range(1, 1000, 3), chosen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.abs(found - positions[1::3, chosen]).max() < 6e-3  # half of the digit of XTC
    assert peak < 5e6


def test_h5md_may_have_one_box_for_all_frames(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_h5md(tmp_path / "a.h5md", images=True)
    with h5py.File(path, "a") as file:
        del file["particles/all/box/edges"]
        file["particles/all/box/edges"] = [1.1, 1.2, 1.3]
    trajectory = open_trajectory(path)
    assert trajectory.constant_cell and np.allclose(trajectory.cells, np.diag([11.0, 12.0, 13.0]))


def test_h5md_that_does_not_tell_is_asked_for_what_is_missing(tmp_path: Path) -> None:
    atoms = ase.Atoms("LiClClLiCl", POSITIONS[0], cell=CELLS[0], pbc=True)
    with pytest.raises(InputError, match=r"unwrapped\?"):
        open_trajectory(write_h5md(tmp_path / "a.h5md"))
    with pytest.raises(InputError, match=r"does not tell its unit of length.*attrs\['unit'\]"):
        open_trajectory(write_h5md(tmp_path / "a.h5md", unit=None), unwrapped=False)
    with pytest.raises(InputError, match="lengths in 'furlong'"):
        open_trajectory(write_h5md(tmp_path / "a.h5md", unit="furlong"), unwrapped=False)
    plain = write_h5md(tmp_path / "a.h5md", elements=False)
    with pytest.raises(InputError, match="does not tell what its atoms are"):  # 3 and 17 may be types
        open_trajectory(plain, unwrapped=False)
    assert open_trajectory(plain, atoms, unwrapped=False).elements == ("Li", "Cl")
    (tmp_path / "b.h5").write_bytes(b"\x89HDF damaged")
    with pytest.raises(StorageError, match=r"b\.h5 cannot be read as HDF5"):
        open_trajectory(tmp_path / "b.h5", atoms)


@pytest.mark.parametrize("name", ["a.xtc", "a.dcd", "a.lammpstrj", "a.extxyz", "XDATCAR", "a.traj"])
def test_an_empty_file_is_told_to_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(StorageError, match=f"{name} is empty"):
        open_frames(tmp_path / name)
