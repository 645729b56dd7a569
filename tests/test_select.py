"""`mlmd select`: which structures of many are chosen, by which rule, and that labels stay with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from command_line import mlmd
from made_data import label, strained, thermal

from mlmd.descriptors.directional import Directional
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_sets import evenly_spaced
from mlmd.errors import InputError
from mlmd.fitting.points import active_set, farthest
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials.pair import LennardJones
from mlmd.sample.select import by_committee, by_features


@pytest.fixture(scope="module")
def descriptor() -> Symmetry:
    return Symmetry(elements=["Cu"], functions=evenly_spaced(["Cu"], "4.5 Å", n_radial=4, n_angular=1))


@pytest.fixture(scope="module")
def frames() -> list[LabelledFrame]:
    """Eight structures that are nearly the same, and two others: squeezed and stretched crystals."""
    others = [label(bulk("Cu", cubic=True, a=a), f"other@{a}") for a in (3.2, 3.95)]
    return [*thermal(8, amplitude=0.01), *others]


def test_farthest_begins_in_the_middle_and_takes_the_odd_ones_next(
    frames: list[LabelledFrame], descriptor: Symmetry
) -> None:
    result = by_features(frames, [], descriptor, "farthest", n=4)
    assert set(result.numbers[1:3]) == {8, 9} and result.numbers[0] < 8
    assert result.scores[1] >= result.scores[2] > 3 * result.scores[3] > 0
    # the order of the file does not matter
    turned = by_features(frames[::-1], [], descriptor, "farthest", n=4)
    assert [9 - number for number in turned.numbers] == list(result.numbers)


def test_what_is_known_is_not_chosen_again(frames: list[LabelledFrame], descriptor: Symmetry) -> None:
    result = by_features(frames, [frames[8]], descriptor, "farthest", n=1)
    assert result.numbers == (9,)
    with pytest.raises(InputError, match="only 9 rows are different"):
        by_features(frames, [frames[8]], descriptor, "farthest", n=10)


def test_farthest_from_known_rows_is_what_a_loop_finds() -> None:
    random = torch.Generator().manual_seed(3)
    rows, known = (torch.randn((n, 3), generator=random, dtype=torch.float64) for n in (40, 7))
    chosen: list[int] = []
    for _ in range(6):
        before = [*known, *rows[chosen]]
        chosen.append(max(range(40), key=lambda one: min(float((rows[one] - other).norm()) for other in before)))
    assert farthest(rows, 6, known=known).tolist() == chosen


def test_of_rows_that_are_known_none_is_chosen_whatever_their_number() -> None:
    # so many that their distances are products of matrices, in which equal rows are 1e-7 apart
    rows = 3 + torch.randn((60, 50), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with pytest.raises(InputError, match="only 0 rows are different"):
        farthest(rows, 1, known=rows.flip(0))
    assert farthest(rows, 1, known=rows[torch.arange(60) != 17]).tolist() == [17]


def test_cur_refuses_candidates_that_are_known(descriptor: Symmetry) -> None:
    many = thermal(20)  # more than features, so that they span them all
    for known in (many, thermal(40, seed=5)):
        with pytest.raises(InputError, match="nothing is left to choose by"):
            by_features(many, known, descriptor, "cur", n=3)


def test_fingerprints_of_directions_are_refused(frames: list[LabelledFrame]) -> None:
    with pytest.raises(InputError, match="Directional is of directions and turns with the structure"):
        by_features(frames, [], Directional(elements=["Cu"], cutoff=4.5, widths=[1.0]), "farthest", n=1)


def test_maxvol_takes_what_widens_the_known_range(frames: list[LabelledFrame], descriptor: Symmetry) -> None:
    known = thermal(12, amplitude=0.03, seed=7)
    result = by_features(frames, known, descriptor, "maxvol", n=2)
    assert set(result.numbers) == {8, 9} and min(result.scores) > 2
    # nothing new: the same structures once more
    again = by_features(known, known, descriptor, "maxvol")
    assert not again.numbers
    # the grades are those of the active set of the known atoms, of which another one, found otherwise, may be taken
    features = [
        torch.cat([own, own.new_ones((len(own), 1))], dim=1)
        for own in (descriptor.features(build_graph(one.atoms, 4.5)) for one in [*known, frames[8]])
    ]
    grade = float(active_set([torch.cat(features[:-1])]).grades(features[-1]).max())
    assert result.scores[result.numbers.index(8)] == pytest.approx(grade, rel=0.2)


def test_an_element_that_is_new_comes_first() -> None:
    functions = evenly_spaced(["Cu", "Au"], "4.5 Å", n_radial=3, n_angular=1)
    both = Symmetry(elements=["Cu", "Au"], functions=functions)
    gold = bulk("Cu", cubic=True, a=3.7)
    gold.symbols[0] = "Au"
    frames = [*thermal(3), LabelledFrame(gold, None, None, None, "", "gold")]
    for method, known in (("farthest", thermal(3, seed=5)), ("maxvol", thermal(3, seed=5))):
        assert by_features(frames, known, both, method, n=1).numbers == (3,)  # type: ignore[arg-type]
    # its grade is infinite, which JSON does not know
    told = by_features(frames, thermal(3, seed=5), both, "maxvol", n=1).to_json(frames)
    assert json.loads(json.dumps(told, allow_nan=False))["chosen"] == [{"structure": "gold", "score": None}]


def test_cur_draws_the_same_for_the_same_seed_and_prefers_what_matters(
    frames: list[LabelledFrame], descriptor: Symmetry
) -> None:
    drawn = [by_features(frames, [], descriptor, "cur", n=2, seed=seed).numbers for seed in range(40)]
    assert drawn[5] == by_features(frames, [], descriptor, "cur", n=2, seed=5).numbers
    odd = sum(number >= 8 for pair in drawn for number in pair)
    assert odd > 40  # of 80 draws; 16 where all were alike


def test_a_committee_disagrees_most_where_forces_differ_most(frames: list[LabelledFrame]) -> None:
    committee = [LennardJones(epsilon=f"{epsilon} eV", sigma="2.3 Å", cutoff="5 Å") for epsilon in (0.3, 0.4, 0.5)]
    moved = thermal(6, amplitude=0.08)
    result = by_committee(moved, committee)
    # forces are ε f: their standard deviation over 0.3, 0.4, 0.5 is √(2/3)·0.1 of f
    unit = LennardJones(epsilon="1 eV", sigma="2.3 Å", cutoff="5 Å")
    expected = np.array([
        float(unit.predict(build_graph(one.atoms, 5.0)).forces.norm(dim=1).max()) * 0.1 * np.sqrt(2 / 3)
        for one in moved
    ])  # fmt: skip
    assert list(result.numbers) == list(np.argsort(-expected))
    np.testing.assert_allclose(result.scores, np.sort(expected)[::-1], rtol=1e-9)
    middle = float(np.sort(expected)[3])
    inside = by_committee(moved, committee, n=2, least=middle * 0.999, most=float(expected.max()) * 0.999)
    assert list(inside.numbers) == list(result.numbers[1:3])
    assert inside.notes == (
        f"1 of 6 structures are above {expected.max() * 0.999:g} eV/Å",
        f"3 of 6 structures are below {middle * 0.999:g} eV/Å",
    )
    with pytest.raises(InputError, match="two"):
        by_committee(moved, committee[:1])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_labelled("all.extxyz", [*thermal(6), *strained(4)])
    write_labelled("known.extxyz", thermal(4, seed=9))
    return tmp_path


def test_chosen_structures_keep_their_labels(place: Path) -> None:
    answer = mlmd("select", "all.extxyz", "--known", "known.extxyz", "-n", "3", "-o", "few.extxyz", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    numbers = [int(one["structure"].partition("@")[2]) for one in told["chosen"]]
    everything, few = read_labelled("all.extxyz"), read_labelled("few.extxyz")
    assert len(numbers) == 3
    for number, frame in zip(numbers, few, strict=True):
        assert frame.energy == everything[number].energy
        np.testing.assert_array_equal(frame.forces, everything[number].forces)
        np.testing.assert_array_equal(frame.atoms.positions, everything[number].atoms.positions)


def test_unlabelled_structures_are_chosen_too(place: Path) -> None:
    bare = [LabelledFrame(one.atoms, None, None, None, "", "") for one in thermal(5)]
    write_labelled("bare.extxyz", bare)
    answer = mlmd("select", "bare.extxyz", "-n", "2", "-o", "few.extxyz")
    assert answer.code == 0 and "2 of 5 structures written" in answer.out


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["-o", "x.extxyz"], "farthest needs a number"),
        (["-n", "11", "-o", "x.extxyz"], "11 structures were asked for; there are 10"),
        (["-n", "2", "-o", "x.txt"], "extended XYZ"),
        (["-n", "2", "-o", "known.extxyz"], "exists already"),
        (["--method", "committee", "-o", "x.extxyz"], "two potentials or more"),
        (["--method", "committee", "--model", "Cu", "--model", "Li", "--known", "known.extxyz", "-o", "x.extxyz"],
         "not for a committee"),
        (["--method", "committee", "--model", "Cu", "--model", "Li", "-o", "x.extxyz"], "Cu"),
        (["-n", "2", "--model", "Cu", "--descriptor", "x.toml", "-o", "x.extxyz"], "one descriptor is needed"),
        (["-n", "2", "--model", "lennard-jones", "-o", "x.extxyz"], "lennard-jones"),
        (["--method", "committee", "--model", "Cu", "--model", "Cu", "--least", "1 eV/Å", "-o", "x.extxyz"],
         "no structure was chosen"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_answered_with_one_message_and_nothing_is_written(
    place: Path, arguments: list[str], answer: str
) -> None:
    told = mlmd("select", "all.extxyz", *arguments)
    assert told.code != 0 and answer in told.err and told.err.count("Error") == 1
    assert not (place / "x.extxyz").exists()
