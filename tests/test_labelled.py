"""Labelled structures: every way to write them gives the same numbers, and doubt is an error, not a guess."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Mapping
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from made_data import strained, thermal
from runs import write_input

from mlmd.engine.run import simulate
from mlmd.errors import InputError, StorageError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled

STRESS = np.array([[0.01, 0.004, 0.005], [0.004, 0.02, 0.006], [0.005, 0.006, 0.03]])
VOIGT = "0.01 0.02 0.03 0.006 0.005 0.004"
"""xx yy zz yz xz xy."""
NINE = " ".join(map(str, STRESS.reshape(-1)))
VOLUME = 4.0 * 5.0 * 6.0


def xyz(comment: str, columns: str = "forces:R:3") -> str:
    """A frame of Na and Cl with one vector per atom besides positions."""
    return (
        f'2\nLattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:{columns} {comment}\n'
        "Na 0 0 0 0.1 0.2 0.3\nCl 2.0 2.5 3.0 -0.1 -0.2 -0.3\n"
    )


def written(folder: Path, text: str, name: str = "a.xyz") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def one(folder: Path, text: str, keys: Mapping[str, str] | None = None) -> LabelledFrame:
    """The only frame of a text."""
    (frame,) = read_labelled(written(folder, text), keys=keys)
    return frame


def same(frames: list[LabelledFrame], others: list[LabelledFrame]) -> bool:
    """Whether all numbers of two lists are equal to the last digit."""
    return len(frames) == len(others) and all(
        np.array_equal(a.atoms.numbers, b.atoms.numbers)
        and np.array_equal(a.atoms.positions, b.atoms.positions)
        and np.array_equal(a.atoms.cell.array, b.atoms.cell.array)
        and np.array_equal(a.atoms.pbc, b.atoms.pbc)
        and a.energy == b.energy
        and a.group == b.group
        and all(
            (p is None) == (q is None) and (p is None or np.array_equal(p, q))
            for p, q in ((a.forces, b.forces), (a.stress, b.stress))
        )
        for a, b in zip(frames, others, strict=True)
    )


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.xz", "a.extxyz.gz", "a.xyz.bz2"])
def test_what_is_written_is_read_back_to_the_last_digit(tmp_path: Path, name: str) -> None:
    frames = [*thermal(3), *strained(2)]
    molecule = Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 1 / 3]])
    frames += [
        LabelledFrame(molecule, -1 / 3, None, None, "two words", "m@0"),
        LabelledFrame(molecule, None, np.full((3, 3), 1e-17), None, "", "m@1"),
    ]
    write_labelled(tmp_path / name, frames)
    read = read_labelled(tmp_path / name)
    assert same(read, frames)
    assert read[4].source == f"{name}@4"


def test_a_failed_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    write_labelled(path, strained(2))
    before = path.read_bytes()

    def frames() -> object:
        yield strained(1)[0]
        raise RuntimeError("the potential failed")

    with pytest.raises(RuntimeError):
        write_labelled(path, frames())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError, match="cannot be written"):
        write_labelled(tmp_path / "no" / "a.xyz", strained(1))


def test_files_of_ase_give_the_same_frames(tmp_path: Path) -> None:
    frames = strained(3)
    images = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, stress=frame.stress)
        images.append(atoms)
    ase.io.write(tmp_path / "a.traj", images)
    ase.io.write(tmp_path / "a.extxyz", images)
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in images:
            database.write(atoms)
    for name in ("a.traj", "a.extxyz", "a.db"):
        for frame, read in zip(frames, read_labelled(tmp_path / name), strict=True):
            assert read.energy == pytest.approx(frame.energy, abs=1e-9)
            assert read.forces == pytest.approx(frame.forces, abs=1e-7)  # ASE writes 8 decimals
            assert read.stress == pytest.approx(frame.stress, abs=1e-9)
            assert read.atoms.calc is None
            assert set(read.atoms.arrays) == {"numbers", "positions"}
            assert read.atoms.info == {}


@pytest.mark.parametrize(
    ("comment", "columns"),
    [
        ("energy=-1.5", "forces:R:3"),
        ("REF_energy=-1.5 energy=-9.0", "REF_forces:R:3"),
        ("DFT_energy=-1.5", "DFT_forces:R:3"),
        ("dft_energy=-1.5", "force:R:3"),
        ('energy="-1.5" name="some = thing"', "forces:R:3"),
        ("free_energy=-2.5 energy=-1.5", "forces:R:3"),
        ("free_energy=-1.5", "forces:R:3"),
        ("energy=-1.5 dft_energy=-1.5", "forces:R:3"),
    ],
)
def test_energies_and_forces_are_found_under_their_usual_names(tmp_path: Path, comment: str, columns: str) -> None:
    frame = one(tmp_path, xyz(comment, columns))
    assert frame.energy == -1.5
    assert frame.forces == pytest.approx(np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]))


@pytest.mark.parametrize(
    "comment",
    [
        f'stress="{NINE}"',
        f'stress="{VOIGT}"',
        f'REF_stress="{VOIGT}" stress="9 9 9 0 0 0"',
        f"dft_stress={{{NINE}}}",
        'virial="{}"'.format(" ".join(str(-VOLUME * x) for x in STRESS.reshape(-1))),
        'REF_virials="{}"'.format(" ".join(str(-VOLUME * x) for x in STRESS.reshape(-1))),
        'stress="{}" virials="{}"'.format(NINE, " ".join(str(-VOLUME * x) for x in STRESS.reshape(-1))),
    ],
)
def test_stress_is_positive_in_tension_and_a_virial_is_minus_volume_times_it(tmp_path: Path, comment: str) -> None:
    frame = one(tmp_path, xyz(f"energy=-1 {comment}"))
    assert frame.stress == pytest.approx(STRESS, abs=1e-12)


def test_a_virial_of_deepmd_or_mace_is_the_strain_derivative_of_the_energy_with_the_other_sign(tmp_path: Path) -> None:
    # -V·stress of EMT written as a virial comes back as the numerical dE/dε / V
    frame = strained(1)[0]
    assert frame.stress is not None
    virial = " ".join(str(x) for x in (-frame.atoms.get_volume() * frame.stress).reshape(-1))
    path = tmp_path / "a.xyz"
    write_labelled(path, [LabelledFrame(frame.atoms, frame.energy, None, None, "", "")])
    read = one(tmp_path, path.read_text().replace("energy=", f'virial="{virial}" energy='))
    assert read.stress is not None
    from ase.calculators.emt import EMT

    energies = []
    for size in (-1e-4, 1e-4):
        atoms = frame.atoms.copy()
        atoms.set_cell(atoms.cell.array * (1 + size), scale_atoms=True)
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
    slope = (energies[1] - energies[0]) / 2e-4 / frame.atoms.get_volume()
    assert np.trace(read.stress) == pytest.approx(slope, rel=1e-5)  # central difference of step 1e-4


@pytest.mark.parametrize("key", ["config_type", "group", "configtype"])
def test_groups_are_read_from_their_usual_keys(tmp_path: Path, key: str) -> None:
    assert one(tmp_path, xyz(f'energy=-1 {key}="Elastic bcc"')).group == "Elastic bcc"
    assert one(tmp_path, xyz("energy=-1 kind=7"), {"group": "kind"}).group == "7"


def test_names_that_are_given_win(tmp_path: Path) -> None:
    text = xyz("energy=-1 REF_energy=-2 my-energy=-3", "mine:R:3")
    frame = one(tmp_path, text, {"energy": "my-energy", "forces": "mine"})
    assert (frame.energy, frame.forces is not None) == (-3.0, True)
    frame = one(tmp_path, text, {"energy": "energy"})
    assert (frame.energy, frame.forces) == (-1.0, None)
    assert one(tmp_path, xyz("energy=-1"), {"forces": "none"}).forces is None


def test_energies_with_a_factor_are_no_labels(tmp_path: Path) -> None:
    stages = '[[stage]]\nkind = "nvt"\ntemperature = "40 K"\nduration = "20 fs"\n'
    output = 'trajectory_format = "extxyz"\ntrajectory_every = "10 fs"'
    run = simulate(write_input(tmp_path, stages, options="scale = 0.5", output=output), tmp_path / "run")
    assert [frame.info["potential_scale"] for frame in ase.io.read(run.trajectory, ":")] == [0.5] * 3
    with pytest.raises(
        InputError, match=r"trajectory.extxyz@0: its energy and forces are those of a potential times 0.5"
    ):
        read_labelled(run.trajectory)
    # as structures to choose from, or to label, they are as good as others
    frames = read_labelled(run.trajectory, need_labels=False)
    assert [(frame.energy, frame.forces) for frame in frames] == [(None, None)] * 3


def test_labels_may_be_missing_in_some_frames(tmp_path: Path) -> None:
    bare = "1\nProperties=species:S:1:pos:R:3 energy=-3 config_type=IsolatedAtom\nNa 0 0 0\n"
    frames = read_labelled(written(tmp_path, xyz(f'energy=-1 stress="{VOIGT}"') + bare))
    assert [frame.energy for frame in frames] == [-1.0, -3.0]
    assert [frame.forces is None for frame in frames] == [False, True]
    assert [frame.stress is None for frame in frames] == [False, True]
    assert [frame.group for frame in frames] == ["", "IsolatedAtom"]


def test_a_stress_without_full_periodicity_has_no_volume_and_is_left_out(tmp_path: Path) -> None:
    slab = one(tmp_path, xyz(f'energy=-1 pbc="T T F" stress="{VOIGT}"'))
    assert slab.stress is None and slab.unused_stress
    assert one(tmp_path, xyz(f'energy=-1 pbc="T T F" virial="{VOIGT}"')).unused_stress
    for comment in (f'stress="{VOIGT}"', 'pbc="T T F"', f'pbc="F F F" stress="{VOIGT}"'):
        assert not one(tmp_path, xyz(f"energy=-1 {comment}")).unused_stress


def test_two_names_are_one_label_only_if_all_their_numbers_agree(tmp_path: Path) -> None:
    atoms = bulk("Ar", cubic=True).repeat(5)
    forces = np.random.default_rng(0).normal(size=(len(atoms), 3))
    other = forces.copy()
    other[250, 1] += 1.0  # in the middle, which a printed array leaves out
    for second, agree in ((forces.copy(), True), (other, False)):
        atoms.arrays.update(dft_forces=forces, qm_forces=second)
        ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
        if agree:
            np.testing.assert_allclose(read_labelled(tmp_path / "a.xyz")[0].forces, forces, atol=1e-8)
        else:
            with pytest.raises(InputError, match="forces could be any of them"):
                read_labelled(tmp_path / "a.xyz")


def test_a_left_handed_cell_becomes_the_same_lattice_right_handed(tmp_path: Path) -> None:
    text = xyz("energy=-1").replace("0 0 6", "0 0 -6")
    frame = one(tmp_path, text)
    assert np.linalg.det(frame.atoms.cell.array) > 0
    other = one(tmp_path, xyz("energy=-1"))
    assert frame.atoms.get_distance(0, 1, mic=True) == pytest.approx(other.atoms.get_distance(0, 1, mic=True))


def test_elements_may_be_numbers_and_empty_lines_may_stand_between_frames(tmp_path: Path) -> None:
    text = xyz("energy=-1").replace("species:S:1", "Z:I:1").replace("Na ", "11 ").replace("Cl ", "17 ")
    frames = read_labelled(written(tmp_path, f"{text}\n\n{xyz('energy=-2')}\n"))
    assert [str(frame.atoms.symbols) for frame in frames] == ["NaCl", "NaCl"]


def test_three_hundred_frames_of_a_hundred_atoms_are_read_in_two_seconds(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True).repeat(3)[:100]
    frame = LabelledFrame(atoms, -1.0, np.random.default_rng(0).normal(size=(100, 3)), STRESS, "", "")
    write_labelled(tmp_path / "a.xyz", [frame] * 300)
    start = time.perf_counter()
    assert len(read_labelled(tmp_path / "a.xyz")) == 300
    assert time.perf_counter() - start < 2.0


def system(folder: Path, frames: list[LabelledFrame], n_sets: int = 2, *, map_too: bool = True) -> Path:
    """A DeePMD system."""
    folder.mkdir(parents=True)
    symbols = sorted(set(frames[0].atoms.get_chemical_symbols()))
    types = [symbols.index(symbol) for symbol in frames[0].atoms.get_chemical_symbols()]
    (folder / "type.raw").write_text("\n".join(map(str, types)))
    if map_too:
        (folder / "type_map.raw").write_text("\n".join(symbols))
    for number, part in enumerate(np.array_split(np.arange(len(frames)), n_sets)):
        chosen = [frames[index] for index in part]
        into = folder / f"set.{number:03d}"
        into.mkdir()
        np.save(into / "coord.npy", [frame.atoms.positions.reshape(-1) for frame in chosen])
        np.save(into / "box.npy", [frame.atoms.cell.array.reshape(-1) for frame in chosen])
        np.save(into / "energy.npy", np.array([frame.energy for frame in chosen]))
        np.save(into / "force.npy", [frame.forces.reshape(-1) for frame in chosen if frame.forces is not None])
        virials = [-f.atoms.get_volume() * f.stress.reshape(-1) for f in chosen if f.stress is not None]
        np.save(into / "virial.npy", virials)
    return folder


def test_deepmd_folders_give_the_same_frames_and_their_names_are_groups(tmp_path: Path) -> None:
    frames = strained(5)
    system(tmp_path / "data" / "bulk", frames)
    system(tmp_path / "data" / "more" / "hot", thermal(2), n_sets=1)
    read = read_labelled(tmp_path / "data" / "bulk")
    for frame, other in zip(frames, read, strict=True):
        assert other.atoms.positions == pytest.approx(frame.atoms.positions)
        assert other.energy == frame.energy
        assert other.forces == pytest.approx(frame.forces, abs=0)
        assert other.stress == pytest.approx(frame.stress, abs=1e-14)
        assert other.atoms.pbc.all()
    assert [frame.source for frame in read][:4] == [f"bulk/set.000@{i}" for i in range(3)] + ["bulk/set.001@0"]
    assert [frame.group for frame in read_labelled(tmp_path / "data")] == ["bulk"] * 5 + ["hot"] * 2


def test_deepmd_without_a_type_map_needs_one(tmp_path: Path) -> None:
    folder = system(tmp_path / "a", strained(2), map_too=False)
    with pytest.raises(InputError, match="type_map ="):
        read_labelled(folder)
    assert str(read_labelled(folder, keys={"type_map": "Cu"})[0].atoms.symbols) == "Cu4"


def test_deepmd_without_periodicity_has_no_cell(tmp_path: Path) -> None:
    folder = system(tmp_path / "a", strained(2), n_sets=1)
    (folder / "nopbc").touch()
    (folder / "set.000" / "box.npy").unlink()
    frame = read_labelled(folder)[0]
    assert not frame.atoms.pbc.any()
    assert frame.stress is None


def test_packed_files_are_read_as_they_are(tmp_path: Path) -> None:
    content = xyz("energy=-1").encode()
    for name, pack in (("a.xyz.xz", lzma.compress), ("a.xyz.gz", gzip.compress), ("a.xyz.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack(content))
        assert read_labelled(tmp_path / name)[0].energy == -1.0


@pytest.mark.parametrize(
    ("name", "n_frames", "n_atoms", "group", "stress"),
    [
        ("mlearn/Li_train.xyz.xz", 241, 11576, "Vacancy", True),
        ("mlearn/Cu_train.xyz.xz", 262, 27416, "", False),
        ("deepmd_water/data_0.xyz.xz", 80, 80 * 192, "", False),
        ("LiPS_devset/LiPS_200.xyz.xz", 200, 200 * 83, "", False),
        ("botnet_3BPA/train_300K.xyz.xz", 500, 500 * 27, "", False),
        ("botnet_ethanol/test_dimers.xyz.xz", 429, 858, "HH", False),
        ("FitSNAP_Ta06/FitSNAP_Ta06_all.xyz.xz", 363, 4224, "Displaced_A15", True),
        ("Cu_loadatoms/Cu_POET_19.extxyz.xz", 163, 5051, "low-index-surfaces", True),
    ],
)
def test_published_data_sets_are_read_completely(
    shared: Path, name: str, n_frames: int, n_atoms: int, group: str, stress: bool
) -> None:
    frames = read_labelled(shared / name)
    assert len(frames) == n_frames
    assert sum(len(frame.atoms) for frame in frames) == n_atoms
    assert frames[0].group == group
    assert (frames[0].stress is not None) == stress
    assert all(frame.energy is not None for frame in frames)


def test_a_file_with_other_names_says_what_it_has(shared: Path) -> None:
    path = shared / "qm7" / "qm7.xyz.xz"
    with pytest.raises(InputError, match="heat_of_formation_kcal_mol"):
        read_labelled(path)
    assert read_labelled(path, keys={"energy": "heat_of_formation_kcal_mol"})[0].energy == -417.031
