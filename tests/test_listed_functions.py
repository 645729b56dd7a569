"""Symmetry functions that an input lists one by one, from the text of the input to a trained potential."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from command_line import mlmd
from dscribe_oracle import ELEMENTS, crystal, dscribe, molecule
from made_data import copper_and_silver

from mlmd import config
from mlmd.config.toml import document
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.errors import InputError
from mlmd.io.labelled import write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.evaluate import predict
from mlmd.train.functions import symmetry_functions

ALL_KINDS = """
kind = "acsf"
cutoff = "4.3 Å"
functions = [
  "G1",
  { kind = "G2", eta = "0.7 1/Å²", shift = "1.2 Å" },
  { kind = "G2", eta = "300 / nm^2" },
  { kind = "G3", kappa = "1.3 Å⁻¹" },
  { kind = "G4", eta = 0.03, zeta = 1, lambda = 1 },
  { kind = "G4", eta = 0.1, zeta = 4, lambda = -1 },
  { kind = "G5", eta = "0.02 Å^-2", zeta = 16, lambda = -1 },
]
"""
OF_PAIRS, OF_TRIPLETS = 4, 3


def train_input(functions: str, rest: str = "") -> str:
    return f'data = "data.extxyz"\n[descriptor]\nkind = "acsf"\ncutoff = "4.5 Å"\nfunctions = [{functions}]\n{rest}'


def read(folder: Path, text: str) -> config.Train:
    (folder / "in.toml").write_text(text, encoding="utf-8")
    return config.load_train(folder / "in.toml")


def functions_of(folder: Path, functions: str, rest: str = "") -> list[SymmetryFunction]:
    """What a training of magnesium and oxygen makes of a list."""
    given = read(folder, train_input(functions, rest)).descriptor
    assert isinstance(given, config.ACSF)
    return symmetry_functions(given, [], ("O", "Mg"), 1)


@pytest.mark.parametrize("atoms", [molecule(9, 1), crystal(12, 2)], ids=["molecule", "crystal"])
def test_a_list_of_all_kinds_describes_as_dscribe_does(
    atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acsf = dscribe(monkeypatch).ACSF
    monkeypatch.chdir(tmp_path)
    atoms.wrap()  # to DScribe and through a file alike
    write("atoms.extxyz", atoms, format="extxyz", write_info=False)
    Path("all.toml").write_text(ALL_KINDS, encoding="utf-8")
    named = ",".join(ELEMENTS)
    answer = mlmd("describe", "atoms.extxyz", "--descriptor", "all.toml", "--elements", named, "-o", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz", allow_pickle=False) as arrays:
        found = arrays["features"]
    expected = acsf(
        species=ELEMENTS, r_cut=4.3, periodic=bool(atoms.pbc.all()), g2_params=[[0.7, 1.2], [3.0, 0.0]],
        g3_params=[1.3], g4_params=[[0.03, 1, 1], [0.1, 4, -1]], g5_params=[[0.02, 16, -1]],
    ).create(atoms)  # fmt: skip
    # DScribe's columns go through the functions of an element or a pair; those of a list through all elements of one
    n = len(ELEMENTS)
    pairs = [(a, b) for a in range(n) for b in range(a, n)]
    dscribes = [(a, b) for b in range(n) for a in range(b + 1)]
    order = [function * n + element for element in range(n) for function in range(OF_PAIRS)]
    order += [
        OF_PAIRS * n + function * len(pairs) + pairs.index(pair) for pair in dscribes for function in range(OF_TRIPLETS)
    ]
    assert sorted(order) == [*range(expected.shape[1])] and found.shape == expected.shape
    # positions in the file have 8 digits; DScribe's π has 12
    assert found[:, order] == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert (np.abs(expected).max(axis=0) > 1e-3).sum() > 30  # something to compare, of 46 columns


def test_elements_and_centres_are_those_that_are_named_and_all_others_where_none_are(tmp_path: Path) -> None:
    made = functions_of(
        tmp_path,
        '{ kind = "G3", kappa = 2, elements = "O" }, { kind = "G1", centre = "Mg" }, '
        '{ kind = "G5", eta = 0, lambda = 0.5, elements = ["Mg", "O"], centre = "O", cutoff = "3 Å" }',
    )
    assert made == [
        SymmetryFunction("G3", "O", ("O",), 4.5, kappa=2.0),
        SymmetryFunction("G3", "Mg", ("O",), 4.5, kappa=2.0),
        SymmetryFunction("G1", "Mg", ("O",), 4.5),
        SymmetryFunction("G1", "Mg", ("Mg",), 4.5),
        SymmetryFunction("G5", "O", ("O", "Mg"), 3.0, sign=0.5),
    ]


def test_a_weighted_list_has_one_function_of_all_elements_where_none_are_named(tmp_path: Path) -> None:
    listed = '"G1", { kind = "G4", eta = 0.1, lambda = 1 }, { kind = "G2", eta = 1, elements = ["O"] }'
    made = functions_of(tmp_path, listed, "weighted = true")
    assert [one.neighbours for one in made if one.centre == "O"] == [(), (), ("O",)]


def test_what_is_written_of_a_list_loads_as_the_same(tmp_path: Path) -> None:
    given = read(tmp_path, f'data = "data.extxyz"\n[descriptor]{ALL_KINDS}')
    written = config.resolved(given)
    assert json.loads(json.dumps(written))["descriptor"]["functions"][4] == {
        "kind": "G4", "eta": "0.03 1/Å^2", "shift": "0.0 Å", "zeta": 1.0, "lambda": 1.0,
    }  # fmt: skip
    assert read(tmp_path, document(written)) == given


def test_a_list_is_trained_shown_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = copper_and_silver()
    write_labelled(tmp_path / "data.extxyz", frames)
    listed = (
        '"G1", { kind = "G2", eta = 1, shift = 2.5 }, { kind = "G3", kappa = 1.5 }, '
        '{ kind = "G4", eta = 0.02, lambda = -1, elements = ["Cu", "Cu"] }, { kind = "G5", eta = 0.1, lambda = 1 }'
    )
    Path("in.toml").write_text(train_input(listed, '[fit]\nkind = "linear"\n'), encoding="utf-8")
    answer = mlmd("train", "in.toml", "--out", "made")
    assert answer.code == 0, answer.err
    (file,) = Path("made").glob("*.mlmd")
    shown = mlmd("show", file)
    assert shown.code == 0, shown.err
    for words in (
        "G1 of Cu-Cu: cutoff 4.5 Å", "G2 of Ag-Cu: η 1, r_s 2.5, cutoff 4.5 Å", "G3 of Cu-Ag: κ 1.5, cutoff 4.5 Å",
        "G4 of Ag-Cu-Cu: η 0.02, r_s 0, ζ 1, λ -1, cutoff 4.5 Å", "G5 of Cu-Cu-Ag: η 0.1, r_s 0, ζ 1, λ +1, cutoff",
    ):  # fmt: skip
        assert words in shown.out
    potential = modelfile.load(file)
    assert isinstance(potential, LearnedPotential) and isinstance(potential.descriptor, Symmetry)
    assert {one.kind for one in potential.descriptor.functions} == {"G1", "G2", "G3", "G4", "G5"}
    forces = np.concatenate([one.forces.ravel() for one in predict(potential, frames)])
    labels = np.concatenate([one.forces.ravel() for one in frames if one.forces is not None])
    # the forces of EMT, to a part that these few functions leave
    assert np.std(forces - labels) < 0.25 * np.std(labels)


MISTAKES = [
    ('{ kind = "G2", etta = 1 }', "descriptor: functions 1 (G2): 'etta' is not an option. Did you mean 'eta'?"),
    ('"G1", { kind = "G6" }', "functions 2 (G6): 'G6' is not a kind of symmetry function. Known: G1, G2, G3, G4, G5."),
    ('{ kind = "G5", eta = 1 }', "functions 1 (G5): 'lambda' is missing"),
    ('{ kind = "G5", eta = 1, sign = 1 }', "'sign' is not an option here. λ is called lambda."),
    ('{ kind = "G4", eta = 1, lambda = 2 }', "lambda: 2: at most 1.0 is needed."),
    ('{ kind = "G2", eta = "1 Å" }', "functions 1 (G2): eta: '1 Å': 'Å' is not a unit of inverse area."),
    ('{ kind = "G2", eta = -1 }', "eta: -1: at least 0.0 1/Å^2 is needed here."),
    ('{ kind = "G1", elements = ["Mg", "O"] }', "these are the elements of neighbours, of which one is needed here"),
    ('{ kind = "G4", eta = 1, lambda = 1, elements = "O" }', "of which two are needed here"),
    ('{ kind = "G1", cutoff = 5 }', "functions 1 (G1): cutoff: 5.0 Å is above the cutoff of the descriptor, 4.5 Å."),
    ('{ kind = "G1", cutoff = 4 }', "cutoff: 4.5 Å, but no function of the list sees beyond 4.0 Å."),
    ("", "descriptor: functions: the list is empty"),
    ('{ kind = "G1", elements = "S" }', "descriptor: functions 1 (G1): S is none of the elements, O, Mg."),
    ('{ kind = "G1", centre = "O" }', "descriptor: functions: none is of centre Mg: atoms of every element need"),
    (
        '"G1", { kind = "G1", elements = "O" }',
        "functions 2 (G1): G1 of O-O: cutoff 4.5 Å is already one of functions 1",
    ),
]


OTHERS = [
    (
        '{ kind = "G1", elements = "O" }',
        "weighted = true",
        "weighted: every function of the list is of certain elements.",
    ),
    ('"G1"', "zetas = [1]", 'zetas: functions are a list; this belongs to "even" and "radii" and "selected".'),
    ('"G1"', "n_angular = 0", 'n_angular: functions are a list; this belongs to "even" and "radii".'),
]


@pytest.mark.parametrize(("listed", "rest", "words"), [*[(one, "", words) for one, words in MISTAKES], *OTHERS])
def test_a_mistake_in_a_list_is_answered_with_its_place(tmp_path: Path, listed: str, rest: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        functions_of(tmp_path, listed, rest)
    assert words in str(caught.value)
