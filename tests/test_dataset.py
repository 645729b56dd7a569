"""The data set of a training: what the split promises, what the hash sees, and where energies begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import strained, thermal

from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.train.dataset import (
    baseline,
    composition,
    digest,
    elements_of,
    isolated_element,
    load_frames,
    smallest_distance,
    split,
    structure_hash,
)


@dataclass(frozen=True)
class Source:
    """A file of the input."""

    path: Path
    keys: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    groups: tuple[str, ...] | None = None


def alone(symbol: str, energy: float | None, *, box: float | None = None, group: str = "") -> LabelledFrame:
    """One atom, in vacuum or in a periodic box (Å)."""
    atoms = Atoms(symbol) if box is None else Atoms(symbol, cell=[box] * 3, pbc=True)
    return LabelledFrame(atoms, energy, None, None, group, f"atoms.xyz@{symbol}")


def salt(formula: str, energies: Mapping[str, float], index: int = 0) -> LabelledFrame:
    """A structure whose energy is the sum of energies of its elements; the positions do not matter."""
    atoms = Atoms(formula, np.random.default_rng(index).uniform(0, 9, (len(Atoms(formula)), 3)))
    energy = sum(energies[symbol] for symbol in atoms.get_chemical_symbols())
    return LabelledFrame(atoms, energy, None, None, "", f"salt.xyz@{index}")


def test_several_files_are_joined_and_may_be_given_a_group(tmp_path: Path) -> None:
    write_labelled(tmp_path / "a.xyz", thermal(3))
    write_labelled(tmp_path / "b.xyz", strained(2))
    frames = load_frames([Source(tmp_path / "a.xyz"), Source(tmp_path / "b.xyz", group="Elastic")])
    assert [frame.group for frame in frames] == ["thermal"] * 3 + ["Elastic"] * 2
    assert [frame.source for frame in frames][2:4] == ["a.xyz@2", "b.xyz@0"]
    with pytest.raises(InputError, match="in none of its 3 frames"):
        load_frames([Source(tmp_path / "a.xyz", keys={"energy": "E0"})])


def test_the_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    frames = thermal(20)
    first = split(frames, 0.25, seed=1)
    assert [f.source for f in first[1]] == [f.source for f in split(frames, 0.25, seed=1)[1]]
    assert [f.source for f in first[1]] != [f.source for f in split(frames, 0.25, seed=2)[1]]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    fraction=st.floats(0.0, 0.9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_group_gives_its_share_and_nothing_is_lost(sizes: list[int], fraction: float, seed: int) -> None:
    frames = []
    for group, size in enumerate(sizes):
        for index in range(size):
            atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2 + 0.01 * len(frames)]])
            frames.append(LabelledFrame(atoms, 0.0, None, None, str(group), f"{group}@{index}"))
    train, test = split(frames, fraction, seed)
    assert sorted(f.source for f in (*train, *test)) == sorted(f.source for f in frames)
    assert len(train) > 0
    if fraction == 0:
        assert not test
    for group, size in enumerate(sizes):
        tested = sum(frame.group == str(group) for frame in test)
        assert abs(tested - fraction * size) < 1.5  # whole frames, and one more where the total asks for it
        assert tested < size
    room = sum(sizes) - len(sizes)
    wanted = min(max(1, round(fraction * sum(sizes))), room) if fraction > 0 else 0
    # no group is taken whole: what its last structure should have given is not tested on
    kept = sum(max(0.0, fraction * size - (size - 1)) for size in sizes)
    assert abs(len(test) - wanted) <= len(sizes) / 2 + kept


def test_copies_of_a_structure_are_never_on_both_sides() -> None:
    frames = [replace(frame, source=f"{frame.source}/{copy}") for frame in thermal(12) for copy in range(3)]
    for seed in range(5):
        train, test = split(frames, 0.3, seed)
        assert test
        assert not {structure_hash(f.atoms) for f in train} & {structure_hash(f.atoms) for f in test}


def test_isolated_atoms_are_always_trained_on() -> None:
    frames = [*thermal(4), *(alone("Cu", -0.1, box=9.0 + index) for index in range(20))]
    for seed in range(5):
        _, test = split(frames, 0.5, seed)
        assert test
        assert all(len(frame.atoms) > 1 for frame in test)


def test_one_structure_cannot_be_split() -> None:
    frames = thermal(1)
    assert split(frames, 0.5, 0) == (tuple(frames), ())
    assert split([], 0.5, 0) == ((), ())
    with pytest.raises(InputError, match="fraction"):
        split(frames, 1.0, 0)


def test_the_digest_sees_every_number_and_no_file_name() -> None:
    frames = thermal(3)
    original = digest(frames)
    assert digest([replace(frame, source="other@0") for frame in frames]) == original
    assert digest([replace(frame, group="g") for frame in frames]) != original  # weights and the split depend on it
    assert digest(frames[::-1]) != original
    assert digest(frames[:2]) != original
    moved = frames[0].atoms.copy()
    moved.positions[0, 0] += 1e-12
    assert frames[0].forces is not None
    assert frames[0].energy is not None
    other = np.array(frames[0].forces)
    other[1, 2] *= 1 + 1e-15
    for change in (
        {"atoms": moved}, {"energy": frames[0].energy + 1e-12}, {"energy": None}, {"forces": other}, {"forces": None},
        {"stress": None},
    ):  # fmt: skip
        assert digest([replace(frames[0], **change), *frames[1:]]) != original  # type: ignore[arg-type]


def test_elements_are_counted_in_the_order_asked_for() -> None:
    water = LabelledFrame(molecule("H2O"), -1.0, None, None, "", "w@0")
    assert elements_of([water, *thermal(1)]) == ("H", "O", "Cu")
    assert composition([water], ["O", "H", "Cu"]).tolist() == [[1, 2, 0]]
    with pytest.raises(InputError, match="w@0 has O"):
        composition([water], ["H"])


def test_a_fitted_baseline_finds_the_energies_of_the_elements_when_compositions_tell() -> None:
    energies = {"Na": -1.25, "Cl": -3.5, "K": 0.75}
    frames = [salt(name, energies, index) for index, name in enumerate(["NaCl", "Na2Cl", "KCl", "KNaCl2", "Na8Cl3"])]
    assert baseline(frames, ["Na", "Cl", "K"], "fit") == pytest.approx([-1.25, -3.5, 0.75], abs=1e-9)


def test_a_fitted_baseline_of_one_composition_gives_its_energy_and_is_the_smallest() -> None:
    frames = [salt("NaCl3", {"Na": -2.0, "Cl": -4.0}, index) for index in range(4)]
    fitted = baseline(frames, ["Na", "Cl"], "fit")
    assert fitted @ [1, 3] == pytest.approx(-14.0)
    # of all solutions x + 3 y = -14 the one of smallest norm points along (1, 3)
    assert fitted == pytest.approx([-1.4, -4.2])


def test_an_average_baseline_is_the_mean_energy_per_atom_of_bonded_atoms() -> None:
    frames = thermal(4)
    mean = np.mean([frame.energy / len(frame.atoms) for frame in frames])  # type: ignore[operator]
    assert baseline([*frames, alone("Cu", 5.0)], ["Cu"], "average") == pytest.approx([mean])


def test_isolated_atoms_do_not_pull_a_fitted_baseline() -> None:
    frames = thermal(6)
    without = baseline(frames, ["Cu"], "fit")
    assert baseline([*frames, alone("Cu", 5.0)], ["Cu"], "fit") == pytest.approx(without)
    both = baseline([*frames, alone("Cu", 5.0), alone("Na", -1.5)], ["Na", "Cu"], "fit")
    assert both[0] == pytest.approx(-1.5)


def test_isolated_atoms_are_found_in_vacuum_in_large_boxes_and_by_name() -> None:
    assert isolated_element(alone("Na", 0.0)) == "Na"
    assert isolated_element(alone("Na", 0.0, box=12.0)) == "Na"
    assert isolated_element(alone("Na", 0.0, box=4.0)) is None
    assert isolated_element(alone("Na", 0.0, box=6.0, group="IsolatedAtom")) == "Na"
    assert isolated_element(alone("Na", 0.0, box=6.0, group="isolated_atom")) == "Na"
    primitive = LabelledFrame(bulk("Cu"), -3.7, None, None, "", "")
    assert isolated_element(primitive) is None
    assert isolated_element(thermal(1)[0]) is None


def test_the_baseline_of_isolated_atoms_is_theirs() -> None:
    frames = [*thermal(2), alone("Cu", -0.2), alone("Na", -0.3, box=15.0), alone("Na", -0.3)]
    assert baseline(frames, ["Na", "Cu"], "isolated") == pytest.approx([-0.3, -0.2])


def test_a_baseline_that_is_not_there_is_named() -> None:
    frames = [*thermal(2), alone("Cu", -0.2)]
    with pytest.raises(InputError, match="no single atom of Na, Cl"):
        baseline(frames, ["Na", "Cl", "Cu"], "isolated")
    with pytest.raises(InputError, match=r"different energy.*-0\.2 eV.*0\.5 eV"):
        baseline([*frames, alone("Cu", 0.5)], ["Cu"], "isolated")
    with pytest.raises(InputError, match="missing for Na"):
        baseline(frames, ["Na", "Cu"], {"Cu": -1.0})
    with pytest.raises(InputError, match="'Cl' is not among the elements"):
        baseline(frames, ["Cu"], {"Cu": -1.0, "Cl": 0.0})
    with pytest.raises(InputError, match="no frame has an energy"):
        baseline([replace(frame, energy=None) for frame in thermal(2)], ["Cu"], "fit")
    assert baseline(frames, ["Cu"], {"Cu": -1.5}).tolist() == [-1.5]


def test_the_smallest_distance_is_the_one_of_all_frames_and_images() -> None:
    frames = thermal(5)
    nearest = min(
        np.where(np.eye(len(f.atoms)), 9, f.atoms.get_all_distances(mic=True)).min() for f in frames
    )  # fmt: skip
    assert smallest_distance(frames) == pytest.approx(nearest)
    image = LabelledFrame(Atoms("Ar", cell=[9, 9, 2.2], pbc=True), 0.0, None, None, "", "")
    assert smallest_distance([*frames, image]) == pytest.approx(min(nearest, 2.2))
    with pytest.raises(InputError, match="no two atoms"):
        smallest_distance([alone("Ar", 0.0)])


def test_a_file_gives_the_frames_of_the_groups_asked_for(tmp_path: Path) -> None:
    write_labelled(tmp_path / "cu.xyz", [*thermal(3), *strained(2)])
    table = Source(tmp_path / "cu.xyz", keys={"stress": "none"}, groups=("strained",))
    frames = load_frames([table])
    assert [(frame.group, frame.stress) for frame in frames] == [("strained", None)] * 2
    with pytest.raises(InputError, match=r"'straned'\. Did you mean 'strained'"):
        load_frames([replace(table, groups=("straned",))])
