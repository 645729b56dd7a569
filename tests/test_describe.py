"""`mlmd describe`: features of structures by the descriptor of a potential or of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from command_line import mlmd
from random_soap import random_soap

from mlmd import models
from mlmd.descriptors import DESCRIPTORS
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.pair import ZBL, LennardJones
from mlmd.registry import find

SNAP = 'kind = "snap"\ntwojmax = 4\ncutoff = "4.5 Å"\nweights = { O = 0.7 }\n'
ACSF = 'kind = "acsf"\ncutoff = "5 Å"\nn_radial = 4\nn_angular = 1\n'
MTP = 'level = 8\ncutoff = "5 Å"\n'
COULOMB = 'kind = "coulomb"\nform = "eigenspectrum"\nunit = "bohr"\n'
MBTR = (
    'kind = "mbtr"\n[[terms]]\ngeometry = "distance"\nminimum = 0.2\nmaximum = 3\nn_points = 57\nwidth = 0.05\n'
    'weighting = "unity"\ncutoff = "2.5 Å"\n'
)
KINDS = {"snap": SNAP, "acsf": ACSF, "mtp": MTP, "coulomb": COULOMB, "mbtr": MBTR}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with structures, and with a file for each kind of descriptor."""
    monkeypatch.chdir(tmp_path)
    oxide = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    oxide.rattle(0.1, seed=1)
    write("several.extxyz", [oxide, Atoms("MgO", [[0, 0, 0], [0, 0, 1.8]])])
    write("water.xyz", [molecule("H2O"), molecule("H2")])
    for name, text in KINDS.items():
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    return tmp_path


def described(*arguments: object) -> dict[str, Any]:
    """The arrays that a command writes, read without pickles."""
    answer = mlmd("describe", *arguments, "-o", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    Path("out.npz").unlink()
    return found


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("kind", ["snap", "acsf", "mtp"])
def test_rows_of_atoms_are_those_of_the_descriptor_that_the_file_names(kind: str) -> None:
    found = described("several.extxyz", "water.xyz@1", "--descriptor", f"{kind}.toml", "--elements", "O,Mg,H")
    assert found["structure"].tolist() == [0] * 8 + [1] * 2 + [2] * 2
    assert found["numbers"].tolist() == [12, 8] * 4 + [12, 8] + [1, 1]
    assert str(found["kind"]) == "atom"
    spec = json.loads(str(found["spec"]))
    assert spec["elements"] == ["O", "Mg", "H"]
    # built again from what is written, and evaluated on the graph instead of by a kernel
    of_kind = find("mlmd.descriptors", spec.pop("kind"), DESCRIPTORS)
    descriptor = of_kind(**spec) if kind == "mtp" else of_kind.restore(spec, {})
    pair = Atoms("MgO", [[0, 0, 0], [0, 0, 1.8]])
    with torch.no_grad():
        expected = descriptor.features(build_graph(pair, descriptor.cutoff)).numpy()
    np.testing.assert_allclose(found["features"][8:10], expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.usefixtures("place")
def test_options_of_the_file_and_elements_of_the_structures_make_the_descriptor() -> None:
    spec = json.loads(str(described("several.extxyz", "--descriptor", "snap.toml")["spec"]))
    assert (spec["elements"], spec["weights"]) == (["O", "Mg"], [0.7, 1.0])
    assert (spec["rcutfac"], spec["twojmax"]) == (4.5, 4)


@pytest.mark.usefixtures("place")
def test_an_input_of_a_training_describes_with_what_it_trains() -> None:
    Path("train.toml").write_text(f'data = "labelled.extxyz"\n[descriptor]\n{SNAP}[fit]\nkind = "linear"\n')
    one, other = (described("several.extxyz", "--descriptor", name) for name in ("snap.toml", "train.toml"))
    assert np.array_equal(one["features"], other["features"])


@pytest.mark.usefixtures("place")
def test_the_features_of_a_potential_times_its_coefficients_are_its_energy() -> None:
    copper = bulk("Cu", cubic=True) * 2
    copper.rattle(0.1, seed=2)
    write("copper.extxyz", copper)
    path = models.find("Cu")
    assert path is not None
    potential: Any = modelfile.load(path)
    found = described("copper.extxyz", "--model", "Cu")
    linear = potential.regressor
    energy = float(found["features"].sum(axis=0) @ linear.coefficients.numpy()) + len(copper) * float(linear.constants)
    expected = float(potential.predict(build_graph(copper, potential.cutoff)).energy[0])
    assert energy == pytest.approx(expected, abs=1e-9 * len(copper))


@pytest.mark.usefixtures("place")
def test_fingerprints_of_agni_have_a_row_for_each_axis_and_turn_with_the_structure() -> None:
    Path("agni.toml").write_text(
        'data = "labelled.extxyz"\ndescriptor = { kind = "agni", n_radial = 5 }\nfit = "agni"\n'
    )
    molecule_of_water = molecule("H2O")
    molecule_of_water.rotate(37, "x")
    turned = molecule_of_water.copy()
    turned.rotate(90, "z")
    write("turned.extxyz", [molecule_of_water, turned])
    found = described("turned.extxyz", "--descriptor", "agni.toml")
    assert str(found["kind"]) == "direction"
    assert found["features"].shape == (2 * 3 * 3, 2 * 5)
    assert found["structure"].tolist() == [0] * 9 + [1] * 9
    assert found["numbers"].tolist() == 2 * ([8] * 3 + [1] * 6)
    assert found["axis"].tolist() == 6 * [0, 1, 2]
    before, after = found["features"].reshape(2, 3, 3, 10)
    np.testing.assert_allclose(after, np.stack([-before[:, 1], before[:, 0], before[:, 2]], axis=1), atol=1e-8)
    assert np.abs(before).max() > 0.1
    answer = mlmd("describe", "turned.extxyz", "--descriptor", "agni.toml", "-o", "out.npz")
    assert "10 features of 6 atoms along x, y and z, by agni" in answer.out


@pytest.mark.usefixtures("place")
def test_the_descriptor_of_a_potential_above_a_baseline_is_that_of_its_learned_part() -> None:
    write("copper.extxyz", bulk("Cu", cubic=True) * 2)
    copper = modelfile.load(models.path("Cu"))
    modelfile.save(Sum([ZBL(cutoff="2 Å", elements=["Cu"]), copper]), "above.mlmd")
    alone, above = (described("copper.extxyz", "--model", name) for name in ("Cu", "above.mlmd"))
    assert np.array_equal(alone["features"], above["features"])
    # the one that a training takes
    Path("of_model.toml").write_text('model = "above.mlmd"')
    again = described("copper.extxyz", "--descriptor", "of_model.toml")
    assert np.array_equal(alone["features"], again["features"])


@pytest.mark.usefixtures("place")
def test_a_sum_of_two_learned_potentials_is_told_apart() -> None:
    write("copper.extxyz", bulk("Cu", cubic=True) * 2)
    modelfile.save(Sum([modelfile.load(models.path("Cu")), random_soap(("Cu",))]), "two.mlmd")
    Path("of_model.toml").write_text('model = "two.mlmd"')
    for option in (("--model", "two.mlmd"), ("--descriptor", "of_model.toml")):
        answer = mlmd("describe", "copper.extxyz", *option, "-o", "out.npz")
        assert answer.code == 2
        assert "two.mlmd is a sum with 2 descriptors, moments (92 features) and soap (" in answer.err


@pytest.mark.usefixtures("place")
def test_coulomb_matrices_have_the_eigenvalues_of_a_diatomic_molecule() -> None:
    found = described("water.xyz", "--descriptor", "coulomb.toml")
    assert found["features"].shape == (2, 3)
    assert found["structure"].tolist() == [0, 1]
    assert "numbers" not in found
    assert str(found["kind"]) == "structure"
    # of H2: 1/2 on the diagonal (Z^2.4 / 2), 1 / r in bohr off it
    inverse = 0.529177210903 / molecule("H2").get_distance(0, 1)
    assert found["features"][1] == pytest.approx([0.5 + inverse, 0.5 - inverse, 0.0], abs=1e-8)


@pytest.mark.usefixtures("place")
def test_mbtr_has_a_peak_where_a_molecule_has_its_distance() -> None:
    found = described("water.xyz@1", "--descriptor", "mbtr.toml")
    grid = np.linspace(0.2, 3, 57)
    assert found["features"].shape == (1, 57)
    peak = grid[found["features"][0].argmax()]
    assert peak == pytest.approx(molecule("H2").get_distance(0, 1), abs=0.025 + 1e-9)  # half a step of the grid


@pytest.mark.usefixtures("place")
def test_a_file_of_features_is_shown_for_what_it_is() -> None:
    assert mlmd("describe", "water.xyz", "--descriptor", "acsf.toml", "-o", "out.npz").code == 0
    facts = json.loads(mlmd("show", "out.npz", "--json").out)
    assert (facts["what"], facts["rows"], facts["structures"]) == ("features", "5 atoms", 2)
    assert facts["descriptor"]["kind"] == "symmetry"
    np.savez("other.npz", a=np.zeros(3))
    Path("damaged.npz").write_bytes(Path("out.npz").read_bytes()[:500])
    Path("empty.npz").touch()
    for name in ("other.npz", "damaged.npz", "empty.npz"):
        answer = mlmd("show", name)
        assert answer.code == 2 and f"{name} is no file of `mlmd describe`" in answer.err


@pytest.mark.usefixtures("place")
def test_a_summary_is_json() -> None:
    answer = mlmd("describe", "several.extxyz", "--descriptor", "snap.toml", "-o", "out.npz", "--json")
    summary = json.loads(answer.out)
    assert summary.pop("spec")["kind"] == "bispectrum"
    assert summary == {"features": "out.npz", "kind": "atom", "n_structures": 2, "n_rows": 10, "n_features": 14}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("several.extxyz",), 2, "Give either --descriptor FILE or --model MODEL"),
        (("several.extxyz", "--descriptor", "snap.toml", "--model", "Cu"), 2, "Give either"),
        (("several.extxyz", "--descriptor", "absent.toml"), 2, "absent.toml: no such file. It holds the options"),
        (("several.extxyz", "--descriptor", "several.extxyz"), 2, "several.extxyz: not valid TOML"),
        (("absent.extxyz", "--descriptor", "snap.toml"), 2, "absent.extxyz"),
        (("several.extxyz", "--descriptor", "misspelt.toml"), 2, "Did you mean 'twojmax'?"),
        (("several.extxyz", "--descriptor", "unknown.toml"), 2, "'coulom' is not a kind of descriptor. Did you mean"),
        (("several.extxyz", "--descriptor", "bispectrum.toml"), 2, "kind: 'bispectrum' is called 'snap' here"),
        (("several.extxyz", "--descriptor", "radial.toml"), 2, "kind: 'radial-angular' is called 'nep' here"),
        (("several.extxyz", "--descriptor", "nep.toml"), 2, "give the potential, --model FILE"),
        (("water.xyz", "--descriptor", "form.toml"), 2, "descriptor: 'fom' is not an option. Did you mean 'form'?"),
        (("water.xyz", "--descriptor", "size.toml"), 2, "size.toml: descriptor: n_atoms_max: 0: at least 1"),
        (("water.xyz", "--descriptor", "word.toml"), 2, 'word.toml: descriptor: seed: "x": a whole number is needed.'),
        (("water.xyz", "--descriptor", "list.toml"), 2, "list.toml: descriptor: terms: 3: a list is needed."),
        (("water.xyz", "--descriptor", "terms.toml"), 2, "terms.toml: descriptor: 'terms' is missing"),
        (("several.extxyz", "--descriptor", "snap.toml", "--elements", "Mg"), 2, "weights: O is none of the elements"),
        (("several.extxyz", "--descriptor", "acsf.toml", "--elements", "Mg"), 2, "several.extxyz@0 has O; the desc"),
        (("several.extxyz", "--model", "Cu"), 2, "has Mg, O; the descriptor knows Cu"),
        (("several.extxyz", "--model", "pair.mlmd"), 2, "kind 'lennard-jones', which has no descriptor"),
        (("several.extxyz", "--descriptor", "snap.toml", "-o", "out.csv"), 2, "written as NumPy's .npz"),
        (("several.extxyz", "--descriptor", "snap.toml", "-o", "there.npz"), 4, "there.npz exists already"),
        (("several.extxyz", "--descriptor", "snap.toml", "-o", "none/out.npz"), 4, "there is no folder none"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_message_and_writes_nothing(
    place: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    wrong = {
        "misspelt": 'kind = "snap"\ntwojmx = 4', "unknown": 'kind = "coulom"', "bispectrum": 'kind = "bispectrum"',
        "nep": 'kind = "nep"', "radial": 'kind = "radial-angular"',
        "form": 'kind = "coulomb"\nfom = "sorted"',
        "size": 'kind = "coulomb"\nn_atoms_max = 0', "terms": 'kind = "mbtr"',
        "word": 'kind = "coulomb"\nform = "random"\nnoise = 1\nseed = "x"', "list": 'kind = "mbtr"\nterms = 3',
    }  # fmt: skip
    for name, text in wrong.items():
        (place / f"{name}.toml").write_text(text + "\n")
    modelfile.save(LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å"), place / "pair.mlmd")
    (place / "there.npz").write_bytes(b"of somebody else")
    before = {path: path.read_bytes() for path in place.iterdir()}
    rest = () if "-o" in arguments else ("-o", "out.npz")
    answer = mlmd("describe", *arguments, *rest)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert said in answer.err
    assert {path: path.read_bytes() for path in place.iterdir()} == before
