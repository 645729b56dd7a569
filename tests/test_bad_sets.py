"""Bad sets of training data, all that are known in one table: what `mlmd train` says of each before it trains.

Sound copper, of which one thing is made wrong, goes through a file as a user's data do. An error ends the training, a
warning is kept with it. How single lines of a file are refused is in `test_bad_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from made_data import scaled, strained, thermal

from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError
from mlmd.fitting.linear import Linear
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.job import prepare
from mlmd.units import BAR, EV_PER_KCALMOL, units_of

HARTREE, BOHR = units_of("energy")["hartree"], units_of("length")["bohr"]
INPUT = 'data = "cu.extxyz"\n{more}[descriptor]\n{descriptor}\n'
MTP = 'level = 6\ncutoff = "4.5 Å"'

Frames = list[LabelledFrame]
Change = Callable[[Frames], Frames]


def in_units(**factors: float) -> Change:
    """All frames with numbers in other units or of other sign."""
    return lambda frames: [scaled(frame, **factors) for frame in frames]


def without(label: str, every: int = 1) -> Change:
    """Frames of which every so many lack a label."""
    return lambda frames: [replace(f, **{label: None}) if n % every == 0 else f for n, f in enumerate(frames)]


def zero(label: str) -> Change:
    """A label that is zero everywhere."""
    return lambda frames: [replace(frame, **{label: np.zeros_like(getattr(frame, label))}) for frame in frames]


def fractional(frames: Frames) -> Frames:
    """Positions as parts of the cell."""
    found = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.positions = atoms.get_scaled_positions()
        found.append(replace(frame, atoms=atoms))
    return found


def moved(frames: Frames, index: int, energy: float = 0.0, pull: float = 0.0) -> Frames:
    """One frame with another energy, or two of its atoms pulled apart."""
    frame = frames[index]
    assert frame.energy is not None and frame.forces is not None
    forces = frame.forces.copy()
    forces[:2, 0] += [pull, -pull]
    return [*frames[:index], replace(frame, energy=frame.energy + energy, forces=forces), *frames[index + 1 :]]


def alone(energy: float) -> LabelledFrame:
    return LabelledFrame(Atoms("Cu", pbc=False), energy, np.zeros((1, 3)), None, "", "cu@0")


WARNINGS: dict[str, tuple[Change, str]] = {
    # what is not there
    "one structure": (lambda frames: frames[:1], "there is one training structure only"),
    "one structure many times": (lambda frames: frames[:1] * 5, "there is one training structure only"),
    "no energies": (without("energy"), "no frame has an energy"),
    "no forces": (without("forces"), "no frame has forces"),
    "some energies missing": (without("energy", 3), "frames have no energy: cu.extxyz@0"),
    "some forces missing": (without("forces", 3), "frames have no forces: cu.extxyz@0"),
    # placeholders
    "all energies zero": (
        lambda frames: [replace(frame, energy=0.0) for frame in frames],
        "all 20 energies are 0 eV although the structures differ",
    ),
    "all forces zero": (zero("forces"), "the forces of all 20 frames are exactly 0 eV/Å"),
    "all stresses zero": (zero("stress"), "the stress of all 20 frames are exactly 0 eV/Å³"),
    # twice
    "copies": (lambda frames: [*frames, *frames[:2]], "2 training frames are copies of others"),
    "copies with other labels": (
        lambda frames: [*frames, moved(frames, 3, energy=0.5)[3]],
        "1 training structures are there twice with different labels",
    ),
    # units
    "energies in Hartree": (in_units(energy=1 / HARTREE), "the energies are in Hartree"),
    "energies in Rydberg": (in_units(energy=2 / HARTREE), "the energies are in Rydberg"),
    "energies in kcal/mol": (in_units(energy=1 / EV_PER_KCALMOL), "the energies are in kcal/mol"),
    "energies in meV": (in_units(energy=1e3), "the energies are in meV"),
    "forces in Hartree/Bohr": (in_units(forces=BOHR / HARTREE), "the forces are in Hartree/Bohr"),
    "forces in eV/Bohr": (in_units(forces=BOHR), "the forces are in eV/Bohr"),
    "forces in meV/Å": (in_units(forces=1e3), "the forces are in meV/Å"),
    "atomic units": (
        in_units(energy=1 / HARTREE, forces=BOHR / HARTREE), "energies and forces are in Hartree and Hartree/Bohr"
    ),
    "units of Quantum ESPRESSO": (
        in_units(energy=2 / HARTREE, forces=2 * BOHR / HARTREE), "Rydberg and Rydberg/Bohr"
    ),
    "stress in kbar": (in_units(stress=1e-3 / BAR), "Perhaps it is in kbar."),
    "stress in GPa": (in_units(stress=1e-4 / BAR), "Perhaps it is in GPa."),
    "stress in MPa": (in_units(stress=0.1 / BAR), "Perhaps it is in MPa."),
    "positions in Bohr": (in_units(length=1 / BOHR), "Are positions and cells in Bohr?"),
    "positions in nm": (in_units(length=0.1), "Are positions and cells in nm?"),
    "positions as parts of the cell": (fractional, "Are positions fractions of the cell?"),
    # signs
    "gradients": (in_units(forces=-1.0), "the forces (or the energies) have the wrong sign"),
    "stress as VASP has it": (in_units(stress=-1.0), "it has the wrong sign"),
    "pressure in kbar": (in_units(stress=-1e-3 / BAR), "it is in kbar with the wrong sign"),
    # outliers
    "one energy far off": (lambda frames: moved(frames, 7, energy=50.0), "1 energy far from all others"),
    "one force far off": (lambda frames: moved(frames, 7, pull=90.0), "far larger than all others"),
    "two methods": (
        lambda frames: [replace(f, energy=f.energy - 9.0 * len(f.atoms)) if n % 2 else f for n, f in enumerate(frames)],
        "energies",
    ),
}  # fmt: skip
"""What is wrong -> how it is made, and what is said; the training goes on."""

ERRORS: dict[str, tuple[Change, str]] = {
    "energy nan": (lambda frames: moved(frames, 2, energy=np.nan), "cu.extxyz@2: energy = 'nan' is not finite"),
    "energy infinite": (lambda frames: moved(frames, 2, energy=np.inf), "cu.extxyz@2: energy = "),
    "force nan": (lambda frames: moved(frames, 2, pull=np.nan), "cu.extxyz@2: the force on atom 0 (Cu) is not finite"),
    "only isolated atoms of different energy": (
        lambda frames: [*frames, alone(-0.1), alone(-0.5)], "the data have single Cu atoms of different energy"
    ),
    "atoms on top of each other": (
        lambda frames: [on_top(frames[0]), *frames[1:]], "cu.extxyz@0: atoms 0 (Cu) and 1 (Cu)"
    ),
}  # fmt: skip
"""What is wrong -> how it is made, and what is said; there is no training."""


def on_top(frame: LabelledFrame) -> LabelledFrame:
    atoms = frame.atoms.copy()
    atoms.positions[1] = atoms.positions[0] + [0, 0, 0.01]
    return replace(frame, atoms=atoms)


def sound() -> Frames:
    return [*thermal(12), *strained(8)]


def told(
    folder: Path, data: Frames, test: Sequence[LabelledFrame] | None = None, more: str = "", descriptor: str = MTP
) -> list[str]:
    """What is said about data that lie in files."""
    write_labelled(folder / "cu.extxyz", data)
    if test is not None:
        write_labelled(folder / "t.extxyz", list(test))
    more += "test_fraction = 0\n" if test is None else 'test = "t.extxyz"\n'
    (folder / "in.toml").write_text(INPUT.format(more=more, descriptor=descriptor), encoding="utf-8")
    job = prepare(folder / "in.toml")
    assert all(finding.severity == "warning" for finding in job.findings)
    return [finding.text for finding in job.findings]


def test_sound_data_are_not_doubted(tmp_path: Path) -> None:
    assert told(tmp_path, sound()) == []
    assert told(tmp_path, sound(), thermal(4, seed=9)) == []


@pytest.mark.parametrize("name", WARNINGS)
def test_odd_data_are_doubted(tmp_path: Path, name: str) -> None:
    change, said = WARNINGS[name]
    more = 'baseline = { Cu = "-3.7 eV" }\n' if name == "no energies" else ""
    texts = told(tmp_path, change(sound()), more=more)
    assert any(said in text for text in texts), texts


@pytest.mark.parametrize("name", ERRORS)
def test_impossible_data_are_refused(tmp_path: Path, name: str) -> None:
    change, said = ERRORS[name]
    more = 'baseline = "isolated"\n' if "isolated" in name else ""
    with pytest.raises(InputError) as caught:
        told(tmp_path, change(sound()), more=more)
    assert said in str(caught.value)


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_a_label_that_has_a_name_of_its_own_is_pointed_at(tmp_path: Path, label: str) -> None:
    told(tmp_path, sound())
    data = tmp_path / "cu.extxyz"
    new, old = {"energy": ("E_scf", " energy="), "forces": ("F_scf", ":forces:")}[label]
    data.write_text(data.read_text().replace(old, old.replace(label, new)))
    if label == "energy":
        with pytest.raises(InputError) as caught:
            prepare(tmp_path / "in.toml")
        texts = [str(caught.value)]
    else:
        texts = [finding.text for finding in prepare(tmp_path / "in.toml").findings]
    hint = f'Is it \'{new}\'? Then name it: data = {{ path = "cu.extxyz", {label} = "{new}" }}.'
    assert any(hint in text for text in texts), texts
    source = (tmp_path / "in.toml").read_text()
    named = hint.partition("name it: ")[2].rstrip(".")
    (tmp_path / "in.toml").write_text(source.replace('data = "cu.extxyz"', named))
    assert prepare(tmp_path / "in.toml").findings == ()


def test_an_energy_is_compared_with_those_of_frames_that_are_alike(tmp_path: Path) -> None:
    # hot and strained crystals in one group differ by more than the wrong energy
    frames = [*thermal(20), *thermal(20, amplitude=0.12, seed=5), *thermal(20, amplitude=0.18, seed=9), *strained(20)]
    frames = [replace(frame, group="") for frame in frames]
    assert not any("energy far" in text or "energies far" in text for text in told(tmp_path, frames))
    energies = [frame.energy / len(frame.atoms) for frame in frames if frame.energy is not None]
    assert np.ptp(energies) > 0.6
    (text,) = [text for text in told(tmp_path, moved(frames, 7, energy=0.4 * 32)) if "far from all" in text]
    assert "1 energy far from all others of the same kind: cu.extxyz@7 (+" in text
    assert float(text.partition("(+")[2].split()[0]) == pytest.approx(0.4, abs=0.05)


def with_nickel(frames: Frames) -> Frames:
    atoms = frames[0].atoms.copy()
    atoms.symbols[0] = "Ni"
    return [replace(frames[0], atoms=atoms), *frames[1:]]


TESTS: dict[str, tuple[Change, str]] = {
    "a test frame that is trained on": (lambda frames: sound()[:1], "1 test frames are also training frames"),
    "test without labels of forces": (without("forces"), "no test frame has forces, so that these are not tested"),
    "test in Hartree": (in_units(energy=1 / HARTREE), "t.extxyz: "),
    "test with reversed forces": (in_units(forces=-1.0), "t.extxyz: "),
}  # fmt: skip
"""What is wrong with the structures to test on."""


@pytest.mark.parametrize("name", TESTS)
def test_odd_structures_to_test_on_are_doubted(tmp_path: Path, name: str) -> None:
    change, said = TESTS[name]
    texts = told(tmp_path, sound(), change(thermal(6, seed=9)))
    assert any(said in text for text in texts), texts


def test_an_element_only_among_the_structures_to_test_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Ni occurs only in test frames \(t\.extxyz@0\)"):
        told(tmp_path, sound(), with_nickel(thermal(2, seed=9)))


def test_elements_of_which_the_data_have_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"elements: Li, Ni are given; the data have Cu and none of them\. Give those"):
        told(tmp_path, sound(), more='elements = ["Li", "Ni"]\n')


def test_an_element_that_the_input_leaves_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"elements: Cu is given; the data also have Ni\. Add them"):
        told(tmp_path, with_nickel(sound()), more='elements = ["Cu"]\n')
    with pytest.raises(InputError, match="Ag occurs in no training structure"):
        told(tmp_path, sound(), more='elements = ["Cu", "Ag"]\n')


def test_periodicity_without_a_cell_is_refused(tmp_path: Path) -> None:
    frames = sound()
    write_labelled(tmp_path / "a.extxyz", frames[:1])
    text = (tmp_path / "a.extxyz").read_text()
    begin = text.index('Lattice="')
    end = text.index('"', begin + 9) + 1
    (tmp_path / "cu.extxyz").write_text(text[:begin] + text[end:])
    (tmp_path / "in.toml").write_text(INPUT.format(more="", descriptor=MTP), encoding="utf-8")
    with pytest.raises(InputError, match=r"cu\.extxyz@0.*no cell"):
        prepare(tmp_path / "in.toml")


@pytest.mark.parametrize(("more", "reach"), [('cutoff = "1 Å"', "1"), ('cutoff = "5 Å"\nradii = { Cu = 0.15 }', "1.5")])
def test_snap_that_sees_no_neighbour_learns_nothing_and_is_refused(tmp_path: Path, more: str, reach: str) -> None:
    with pytest.raises(InputError, match=rf"see each other up to {reach} Å, but no two atoms .*nothing can be learned"):
        told(tmp_path, sound(), descriptor=f'kind = "snap"\ntwojmax = 2\n{more}')


def test_the_reach_of_snap_is_that_of_its_radii(tmp_path: Path) -> None:
    snap = 'kind = "snap"\ntwojmax = 2\ncutoff = "2 Å"\nradii = {{ Cu = {radius} }}'
    assert told(tmp_path, sound(), descriptor=snap.format(radius=1.25)) == []
    texts = told(tmp_path, [*thermal(6, amplitude=0.2), *strained(8)], descriptor=snap.format(radius=0.56))
    assert any("have no neighbour within the cutoff of 2.24 Å" in text for text in texts), texts


def test_a_trained_descriptor_that_sees_no_neighbour_learns_nothing_and_is_refused(tmp_path: Path) -> None:
    moments = Moments(elements=("Cu",), cutoff=2.0, min_distance=1.0, level=4, scaling=1.0)
    short = LearnedPotential(moments, Linear(n_features=moments.n_features, n_kinds=1))
    modelfile.save(short, tmp_path / "short.mlmd")
    with pytest.raises(InputError, match=r"short\.mlmd sees up to 2 Å, but no two atoms .*nothing can be learned"):
        told(tmp_path, sound(), descriptor='model = "short.mlmd"')
