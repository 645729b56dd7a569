"""Bad training data: damaged files end in one sentence that says where, suspicious numbers are found, good data pass.

A finding that a test expects is the only one (unless said): a wrong sign must not come with five other complaints.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_data import at_volumes, label, scaled, strained, thermal

from mlmd.errors import InputError, MlmdError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.train.dataset import split
from mlmd.train.examine import examine
from mlmd.units import BAR, EV_PER_KCALMOL, EV_PER_KJMOL, units_of

HARTREE, BOHR = units_of("energy")["hartree"], units_of("length")["bohr"]

FRAME = (
    '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5\n'
    "Na 0.00000000 0.00000000 0.00000000 0.10000000 0.20000000 0.30000000\n"
    "Cl 2.00000000 2.00000000 2.00000000 -0.10000000 -0.20000000 -0.30000000\n"
)


def refused(path: Path, **keys: str) -> str:
    """What is said about a wrong file."""
    with pytest.raises(InputError) as caught:
        read_labelled(path, keys=keys)
    return str(caught.value)


def frame(old: str = "", new: str = "") -> str:
    """A sound frame with one thing changed."""
    assert old in FRAME
    return FRAME.replace(old, new)


DAMAGED = {
    "empty": ("", "no structures"),
    "a digit that is none": (frame("Na ", "\u00b2 "), "a.xyz@0, line 3: '\u00b2' is not an element"),
    "an atomic number without end": (frame("Na ", "1" * 5000 + " "), "is not an element"),
    "columns by a digit that is none": (frame("pos:R:3", "pos:R:\u00b3"), "is not of the form name:type:columns"),
    "energy nan": (FRAME + frame("-1.5", "nan"), "a.xyz@1: energy = 'nan' is not finite"),
    "energy inf": (frame("-1.5", "-inf"), "a.xyz@0: energy = '-inf' is not finite"),
    "energy a word": (frame("-1.5", "unknown"), "a.xyz@0: energy = 'unknown' is not a energy"),
    "two energies": (frame("-1.5", '"-1 -2"'), "1 number(s) in eV"),
    "force nan": (FRAME * 2 + frame("-0.20000000", "nan"), "a.xyz@2: the force on atom 1 (Cl) is not finite"),
    "force inf": (frame("0.30000000\nCl", "1e999\nCl"), "a.xyz@0: the force on atom 0 (Na)"),
    "force a word": (FRAME + frame("-0.20000000", "-0.2o"), "a.xyz@1, line 8: '-0.2o' is not a number (forces)"),
    "position nan": (frame("Na 0.00000000", "Na nan"), "a.xyz@0: atom 0 has a position that is not a number"),
    "stress of five": (frame("energy", 'stress="1 2 3 4 5" energy'), "6 or 9 number(s) in eV/Å³"),
    "stress nan": (frame("energy", 'stress="1 2 3 4 5 nan" energy'), "a.xyz@0: stress = "),
    "stress not symmetric": (frame("energy", 'stress="1 2 3 4 5 6 7 8 9" energy'), "not symmetric"),
    "virial and stress": (
        frame("energy", 'stress="1 1 1 0 0 0" virial="64 64 64 0 0 0" energy'), "contradict each other"
    ),
    "two energies of DFT": (frame("energy", "dft_energy=-2 energy"), "'energy' and 'dft_energy'"),
    "two references": (frame("energy", "REF_energy=-2 energy_ref=-3 energy"), "'REF_energy' and 'energy_ref'"),
    "mixed theories": (frame("energy", "REF_energy=-2 energy"), "forces is there as 'forces' only"),
    "energy under two names": (FRAME + frame("energy", "REF_energy"), "a.xyz@0 has only the second"),
    "no labels": (frame(":forces:R:3 energy", " E0"), "Per structure it has: E0"),
    "unknown element": (frame("Cl", "Clx"), "a.xyz@0, line 4: 'Clx' is not an element"),
    "atoms on each other": (frame("Cl 2.00000000 2.00000000 2.00000000", "Cl 0 0 0.1"), "a.xyz@0: atoms 0 (Na) and 1"),
    "cell without volume": (frame("0 0 0 4 0 0 0 4", "0 0 4 0 0 0 0 4"), "a.xyz@0: the cell has no volume"),
    "cell of eight": (frame("0 0 0 4 0 0 0 4", "0 0 4 0 0 0 4"), "line 2: Lattice="),
    "cell nan": (frame('"4 0', '"nan 0'), "a.xyz@0: the cell has a number that is not finite"),
    "periodic without cell": (frame('Lattice="4 0 0 0 4 0 0 0 4"', 'pbc="T T T"'), "has no cell"),
    "odd periodicity": (frame("energy", 'pbc="T maybe F" energy'), "pbc="),
    "one row too few": (frame("2\nL", "3\nL") + FRAME, "a.xyz@0, line 5"),
    "one row too many": (frame("2\nL", "1\nL"), "Has the frame before it more rows"),
    "no count": (frame("2\nL", "two\nL"), "a.xyz@0, line 1: a number of atoms should stand here, not 'two'"),
    "zero atoms": ("0\n\n", "a frame of 0 atoms"),
    "minus atoms": ("-3\n\n", "a frame of -3 atoms"),
    "too many atoms": ("99999999999\n\n", "a frame of 99999999999 atoms"),
    "a column too few": (FRAME + frame(" 0.30000000\nCl", "\nCl"), "a.xyz@1, line 7: 7 columns are needed, 6"),
    "properties broken": (frame("forces:R:3", "forces:R"), "not of the form name:type:columns"),
    "no positions": (frame("pos:R:3", "xyz:R:3"), "has no positions"),
    "quotes open": (frame('0 4" P', "0 4 P"), "cannot be read from here on"),
    "torn before the comment": (FRAME + "2\n", "a.xyz@1, line 5: the file ends within a frame"),
    "torn between atoms": (FRAME + FRAME[:-80], "a.xyz@1"),
    "torn within a number": (FRAME + FRAME[:-5], "breaks off within the number '-0.3000'"),
    "torn at a minus sign": (FRAME[:-12], "a.xyz@0, line 4"),
    "a key that is nowhere": (FRAME, "energy = 'enrgy' is in none of its 1 frames. Did you mean 'energy'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DAMAGED))
def test_a_damaged_file_is_refused_with_frame_and_reason(tmp_path: Path, name: str) -> None:
    text, said = DAMAGED[name]
    path = tmp_path / "a.xyz"
    path.write_text(text)
    answer = refused(path, **({"energy": "enrgy"} if name == "a key that is nowhere" else {}))
    assert said in answer
    assert answer.startswith("a.xyz")


def test_a_complete_file_whose_last_line_has_no_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME.rstrip("\n"))
    assert len(read_labelled(tmp_path / "a.xyz")) == 1
    (tmp_path / "b.xyz").write_text("2\nenergy=1\nH 0 0 0.75\nH 0 0 0")  # by hand, as short as it can be
    assert len(read_labelled(tmp_path / "b.xyz")) == 1


@pytest.mark.parametrize(("ending", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files_that_are_cut_or_damaged_are_refused(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack((FRAME * 200).encode())
    path = tmp_path / f"a.xyz{ending}"
    middle = len(packed) // 2
    damaged = packed[:middle] + bytes(255 - byte for byte in packed[middle : middle + 8]) + packed[middle + 8 :]
    for content in (packed[: len(packed) // 2], packed[:-3], b"no archive", damaged):
        path.write_bytes(content)
        answer = refused(path)
        assert f"a.xyz{ending}" in answer
    path.write_bytes(b"")
    assert f"a.xyz{ending}" in refused(path)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(bytes(range(256)) * 10)
    assert "a number of atoms should stand here" in refused(tmp_path / "a.xyz")
    (tmp_path / "a.traj").write_bytes(b"- of UlmASE-Trajectory\x00\x00 and nothing")
    assert "a.traj" in refused(tmp_path / "a.traj")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04K\x01.")
    assert "is not read as labelled structures" in refused(tmp_path / "a.pkl")
    (tmp_path / "vasprun.xml").write_text("<?xml version='1.0'?>\n<modeling>\n<generator>")
    assert "vasprun.xml" in refused(tmp_path / "vasprun.xml")
    assert "no such file. Did you mean 'a.xyz'?" in refused(tmp_path / "a.xy")
    (tmp_path / "argon.extxyz").write_text("")
    assert "Did you mean 'argon.extxyz'?" in refused(tmp_path / "Argn.extxyz")
    # the same ending does not make names alike
    assert "Did you mean" not in refused(tmp_path / "water.extxyz")
    (tmp_path / "empty").mkdir()
    assert "folder without labelled structures" in refused(tmp_path / "empty")
    (tmp_path / "b.xyz").write_text(FRAME)
    assert "type_map is for DeePMD folders" in refused(tmp_path / "b.xyz", type_map="Na,Cl")
    assert "Did you mean 'forces'?" in refused(tmp_path / "b.xyz", force="x")


def spoil(name: str) -> Callable[[Path], None]:
    """Something wrong with a DeePMD system of two Na and Cl frames."""

    def act(folder: Path) -> None:
        part = folder / "set.000"
        changes: dict[str, Callable[[], object]] = {
            "mixed": lambda: np.save(part / "real_atom_types.npy", np.zeros((2, 2))),
            "pickled": lambda: np.save(part / "energy.npy", np.array([{"a": 1}, None]), allow_pickle=True),
            "torn": lambda: (part / "coord.npy").write_bytes((part / "coord.npy").read_bytes()[:-9]),
            "no box": (part / "box.npy").unlink,
            "no coordinates": (part / "coord.npy").unlink,
            "no sets": lambda: part.rename(folder / "old"),
            "one energy too few": lambda: np.save(part / "energy.npy", np.zeros(1)),
            "atoms": lambda: np.save(part / "coord.npy", np.zeros((2, 7))),
            "nan": lambda: np.save(part / "energy.npy", np.array([0.0, np.nan])),
            "types": lambda: (folder / "type.raw").write_text("0\n2\n"),
            "words": lambda: (folder / "type.raw").write_text("Na Cl"),
            "map": lambda: (folder / "type_map.raw").write_text("Na Cx"),
        }
        changes[name]()

    return act


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mixed", "mixed format"),
        ("pickled", "s/set.000/energy.npy cannot be read"),
        ("torn", "s/set.000/coord.npy cannot be read"),
        ("no box", "needs a file named nopbc"),
        ("no coordinates", "has no coord.npy"),
        ("no sets", "raw_to_set"),
        ("one energy too few", "energy.npy has 1 numbers (shape (1,)); 2 × 1 are needed"),
        ("atoms", "a multiple of 6"),
        ("nan", "s/set.000@1: energy = 'nan' is not finite"),
        ("types", "type.raw has types up to 2, but the type map has 2"),
        ("words", "is not a list of type numbers"),
        ("map", "'Cx' is not an element"),
    ],
)
def test_a_damaged_deepmd_folder_is_refused_with_the_file(tmp_path: Path, name: str, said: str) -> None:
    folder = tmp_path / "s"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n1\n")
    (folder / "type_map.raw").write_text("Na\nCl\n")
    np.save(folder / "set.000" / "coord.npy", np.array([[0, 0, 0, 2, 2, 2.0], [0, 0, 0, 2, 2, 2.1]]))
    np.save(folder / "set.000" / "box.npy", np.tile(4 * np.eye(3).reshape(-1), (2, 1)))
    np.save(folder / "set.000" / "energy.npy", np.array([-1.0, -1.1]))
    assert len(read_labelled(folder)) == 2
    spoil(name)(folder)
    assert said in refused(folder)


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.row("R23")
def test_no_array_file_is_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0")
    (folder / "type_map.raw").write_text("Na")
    np.save(folder / "set.000" / "coord.npy", np.array([Bomb(tmp_path / "harm")]), allow_pickle=True)
    assert "cannot be read" in refused(folder)
    assert not (tmp_path / "harm").exists()


@given(data=st.data())
@settings(max_examples=120, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_read_or_refused_and_never_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray((FRAME + FRAME.replace("energy", 'stress="1 2 3 0 0 0" config_type="a b" energy')).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        piece = data.draw(
            st.sampled_from([b"", b"nan", b"-", b"9", b"\n", b" ", b"1e300", b"X", b"\xff", b'"', b"=", b"0", b":"])
        )
        raw[at : at + data.draw(st.integers(0, 5))] = piece
    path = tmp_path / "a.xyz"
    path.write_bytes(raw)
    try:
        frames = read_labelled(path)
    except InputError as error:
        assert "a.xyz" in str(error)
    else:
        for found in frames:
            assert found.energy is None or np.isfinite(found.energy)
            assert found.forces is None or np.isfinite(found.forces).all()


# What follows is sound to read and odd to learn from.


def found(frames: list[LabelledFrame], test: list[LabelledFrame] | None = None) -> str:
    """The text of the only finding."""
    findings = examine(frames, test or [])
    assert len(findings) == 1, [finding.text for finding in findings]
    return findings[0].text


def copper() -> list[LabelledFrame]:
    """Thermal and strained frames of one file."""
    return [*thermal(), *strained()]


def test_good_copper_gives_no_finding() -> None:
    assert examine(copper(), []) == []
    assert examine(*split(copper(), 0.2, 1), cutoff=5.0) == []
    assert examine(at_volumes(), []) == []


WRONG = {
    "energies in Hartree": ({"energy": 1 / HARTREE}, "the energies are in Hartree"),
    "energies in kcal/mol": ({"energy": 1 / EV_PER_KCALMOL}, "the energies are in kcal/mol"),
    "energies in kJ/mol": ({"energy": 1 / EV_PER_KJMOL}, "the energies are in kJ/mol"),
    "forces in Hartree/Bohr": ({"forces": BOHR / HARTREE}, "the forces are in Hartree/Bohr"),
    "energies and forces atomic": (
        {"energy": 1 / HARTREE, "forces": BOHR / HARTREE}, "energies and forces are in Hartree and Hartree/Bohr"
    ),
    "everything in kcal/mol": (
        {"energy": 1 / EV_PER_KCALMOL, "forces": 1 / EV_PER_KCALMOL, "stress": 1 / EV_PER_KCALMOL},
        "kcal/mol/Å or kJ/mol/Å",
    ),
    "gradients": ({"forces": -1.0}, "wrong sign"),
    "binding energies": ({"energy": -1.0}, "wrong sign"),
    "positions in Bohr": ({"length": 1 / BOHR}, "positions and cells in Bohr"),
    "positions in nm": ({"length": 0.1}, "positions and cells in nm"),
    "stress of VASP's sign": ({"stress": -1.0}, "it has the wrong sign"),
    "stress in GPa": ({"stress": 1e-4 / BAR}, "Perhaps it is in GPa"),
    "pressure in kbar": ({"stress": -1e-3 / BAR}, "it is in kbar with the wrong sign"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_units_and_signs_are_named(name: str) -> None:
    change, said = WRONG[name]
    texts = [finding.text for finding in examine([scaled(frame, **change) for frame in copper()], [])]
    assert any(said in text for text in texts), texts
    assert all(text.startswith("cu.xyz: ") for text in texts)
    assert len(texts) <= 2, texts  # a wrong unit of forces shows against energies and in the bonds


def test_a_virial_taken_for_a_stress_is_named() -> None:
    frames = [replace(f, stress=-f.stress * f.atoms.get_volume()) for f in copper() if f.stress is not None]
    assert "it is a virial, -V·stress in eV (name it virial" in found(frames)


def test_a_wrong_stress_shows_in_frames_of_a_warm_crystal_without_static_strains() -> None:
    text = found([scaled(frame, stress=-1.0) for frame in at_volumes()])
    assert "shear stresses are about -1" in text
    assert "wrong sign" in text
    assert "it is in GPa" in found([scaled(frame, stress=1e-4 / BAR) for frame in at_volumes()])


def test_energies_per_atom_are_named() -> None:
    per_atom = [replace(f, energy=f.energy / len(f.atoms)) for f in copper() if f.energy is not None]
    assert any("the energies are per atom" in finding.text for finding in examine(per_atom, []))
    without = [replace(f, forces=None, stress=None) for f in per_atom]
    assert any("Are they per atom?" in finding.text for finding in examine(without, []))


def test_gradients_of_a_molecule_that_tumbles_are_found() -> None:
    random = np.random.default_rng(4)
    frames = []
    for index in range(8):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(0, 0.03, (len(atoms), 3))
        atoms.rotate(float(random.uniform(0, 360)), random.normal(size=3))
        frames.append(label(atoms, f"m.xyz@{index}"))
    assert examine(frames, []) == []
    text = found([scaled(frame, forces=-1.0) for frame in frames])
    assert "by -0.998 times the work of the forces" in text  # 1 but for the anharmonicity of 0.03 Å
    assert "wrong sign" in text


def test_forces_of_other_atoms_are_found() -> None:
    order = np.random.default_rng(0).permutation(32)
    frames = [replace(f, forces=f.forces[order]) for f in thermal() if f.forces is not None]
    assert any("forces" in finding.text for finding in examine(frames, []))


def with_changed(index: int, **changes: object) -> list[LabelledFrame]:
    """Copper with one frame changed."""
    frames = copper()
    frames[index] = replace(frames[index], **changes)  # type: ignore[arg-type]
    return frames


def test_an_energy_far_from_all_others_is_named() -> None:
    energy = copper()[7].energy
    assert energy is not None
    text = found(with_changed(7, energy=energy + 100.0))
    assert "1 energy far from all others" in text
    assert "cu.xyz@7 (+3." in text


def test_forces_far_larger_than_all_others_are_named() -> None:
    forces = np.array(copper()[7].forces)
    forces[:2] += [[80.0, 0, 0], [-80.0, 0, 0]]
    text = found(with_changed(7, forces=forces))
    assert "cu.xyz@7 (8" in text
    assert "forces far larger than all others" in text


def test_forces_that_do_not_sum_to_zero_are_named() -> None:
    frames = thermal()
    pushed = [replace(f, forces=f.forces + np.array([0.3, 0, 0])) for f in frames[:3] if f.forces is not None]
    text = found([*pushed, *frames[3:]])
    assert "in 3 of 24 frames the forces do not sum to zero" in text
    assert "cu.xyz@0" in text


def test_forces_set_to_zero_by_constraints_are_recognised() -> None:
    frames = []
    for one in thermal(12, amplitude=0.1):
        forces = np.array(one.forces)
        forces[:16] = 0.0
        frames.append(replace(one, forces=forces, energy=None, stress=None))
    texts = [finding.text for finding in examine(frames, [])]
    assert any("forces on fixed atoms were set to zero" in text for text in texts)


def test_copies_are_counted_in_training_and_across_to_the_test() -> None:
    frames = copper()
    assert "2 training frames are copies of others: cu.xyz@0 = cu.xyz@0" in found([*frames, *frames[:2]])
    text = found(frames, [replace(frames[3], source="test.xyz@0")])
    assert "1 test frames are also training frames: test.xyz@0 = cu.xyz@3" in text


def test_one_structure_with_two_energies_is_found() -> None:
    frames = copper()
    energy = frames[3].energy
    assert energy is not None
    again = replace(frames[3], energy=energy + 0.1, source="b.xyz@0")
    assert "twice with different labels: b.xyz@0 = cu.xyz@3" in found([*frames, again])


def test_an_element_only_in_the_test_is_an_error() -> None:
    frames = thermal(6)
    other = frames[0].atoms.copy()
    other.symbols[0] = "Ni"
    findings = examine(frames, [replace(frames[0], atoms=other, source="t.xyz@0")])
    assert findings[0].severity == "error"
    assert "Ni occurs only in test frames (t.xyz@0)" in findings[0].text


def test_nothing_to_learn_from_is_an_error() -> None:
    bare = [replace(frame, energy=None, forces=None, stress=None) for frame in thermal(3)]
    assert [f.severity for f in examine(bare, [])] == ["error"]
    assert "no training frame has an energy" in examine(bare, [])[0].text
    assert [f.severity for f in examine([], thermal(1))] == ["error"]


def test_one_structure_is_too_few() -> None:
    assert "one training structure only" in found(thermal(1))


def test_isolated_atoms_alone_teach_nothing_about_bonds_and_among_others_are_no_finding() -> None:
    atom = LabelledFrame(Atoms("Cu"), -0.1, None, None, "IsolatedAtom", "cu.xyz@200")
    assert "only isolated atoms" in found([atom])
    assert examine([*copper(), atom], []) == []


def test_missing_labels_are_counted() -> None:
    frames = thermal(12)
    some = [replace(frames[0], forces=None), replace(frames[1], energy=None), *frames[2:]]
    texts = [finding.text for finding in examine(some, [])]
    assert any("1 of 12 frames have no forces: cu.xyz@0" in text for text in texts)
    assert any("1 of 12 frames have no energy: cu.xyz@1" in text for text in texts)
    assert "no frame has an energy" in found([replace(frame, energy=None) for frame in frames])
    assert "no frame has forces" in found([replace(frame, forces=None) for frame in frames])


def test_neighbours_are_looked_for_no_farther_than_they_can_be() -> None:
    frames = copper()
    assert examine(frames, [], 1000.0) == []  # a search as wide as that would fill the memory
    apart = [scaled(frame, length=5.0) for frame in frames]
    assert any("have no neighbour within 8 Å" in finding.text for finding in examine(apart, [], 20.0))


def test_a_stress_that_is_not_used_is_said() -> None:
    frames = thermal(12)
    slabs = [replace(frame, stress=None, unused_stress=True) for frame in frames[:2]] + frames[2:]
    (finding,) = examine(slabs, [])
    assert "2 frames have a stress but are not periodic in three directions: cu.xyz@0, cu.xyz@1" in finding.text


def test_placeholders_are_recognised() -> None:
    frames = thermal(12)
    texts = [finding.text for finding in examine([replace(frame, energy=-7.5) for frame in frames], [])]
    assert any("all 12 energies are -7.5 eV although the structures differ" in text for text in texts)
    assert "2 energies are exactly zero" in " ".join(
        f.text for f in examine([*(replace(f, energy=0.0) for f in frames[:2]), *frames[2:]], [])
    )
    zeros = [replace(frame, stress=np.zeros((3, 3))) for frame in frames]
    assert "the stress of all 12 frames are exactly 0" in found(zeros)


def test_two_files_of_different_methods_are_found() -> None:
    frames = thermal(12)
    other = [replace(f, source=f"other.xyz@{i}", energy=f.energy - 2000.0) for i, f in enumerate(thermal(12, seed=9))]  # type: ignore[operator]
    assert "energies in cu.xyz" in found([*frames, *other])


def test_a_cutoff_without_neighbours_is_said() -> None:
    texts = [finding.text for finding in examine(thermal(6), [], cutoff=2.0)]
    assert texts == [
        "192 of 192 atoms have no neighbour within the cutoff of 2 Å. Raise the cutoff, or check the unit of the "
        "positions."
    ]


GOOD = ["mlearn/Li_train", "mlearn/Si_train", "mlearn/Cu_train", "mlearn/Ni_test", "botnet_3BPA/train_300K"]
GOOD += ["LiPS_devset/LiPS_200", "deepmd_water/data_0", "FitSNAP_Ta06/FitSNAP_Ta06_all"]


@pytest.mark.parametrize("name", GOOD)
def test_published_data_sets_give_no_finding(shared: Path, name: str) -> None:
    frames = read_labelled(shared / f"{name}.xyz.xz")
    assert examine(*split(frames, 0.1, 1), cutoff=5.0) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("deepmd_water/data_0", "the energies are in Hartree"), ("LiPS_devset/LiPS_200", "the energies are in Hartree")],
)
def test_energies_in_another_unit_are_found_in_liquids_and_glasses(shared: Path, name: str, said: str) -> None:
    frames = [scaled(frame, energy=1 / HARTREE) for frame in read_labelled(shared / f"{name}.xyz.xz")]
    assert said in found(frames)


@pytest.mark.parametrize("factor", [1 / HARTREE * BOHR, 1 / EV_PER_KCALMOL])
def test_forces_in_another_unit_are_found_by_the_bonds_of_water(shared: Path, factor: float) -> None:
    frames = [replace(scaled(frame, forces=factor), energy=None)
              for frame in read_labelled(shared / "deepmd_water" / "data_0.xyz.xz")]  # fmt: skip
    texts = " ".join(finding.text for finding in examine(frames, []))
    assert "H-O bonds have a stiffness of" in texts


def test_all_electron_energies_in_hartree_are_recognised_without_forces(shared: Path) -> None:
    frames = read_labelled(shared / "botnet_3BPA" / "train_300K.xyz.xz")
    bare = [replace(scaled(frame, energy=1 / HARTREE), forces=None) for frame in frames]
    assert any("all electrons in Hartree" in finding.text for finding in examine(bare, []))


def test_the_reversed_stress_of_a_published_set_is_found(shared: Path) -> None:
    # An independent potential (MTP of Zuo 2020) gives stresses of opposite sign on these frames (correlation -0.99).
    text = found(read_labelled(shared / "Cu_loadatoms" / "Cu_POET_19.extxyz.xz"))
    assert "shear stresses are about -4" in text
    assert "wrong sign" in text


def test_findings_of_data_written_and_read_again_are_the_same(tmp_path: Path) -> None:
    write_labelled(tmp_path / "cu.xyz", [scaled(frame, stress=-1.0) for frame in strained()])
    assert "wrong sign" in found(read_labelled(tmp_path / "cu.xyz"))


def test_every_refusal_is_an_error_of_mlmd() -> None:
    assert issubclass(InputError, MlmdError)
