"""CHGNet in its own environment: its own calculator, and mlmd's pairs; and bonds and angles made of pairs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from elsewhere import (
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_same,
    assert_stress_is_derivative,
    evaluate,
    own_answers,
    python_of,
)
from in_process import ROOT, asked, harmful
from runs import read_log

from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials import Evaluation
from mlmd.pretrained.chgnet import load
from mlmd.pretrained.chgnet_graph import angles_of, with_reverses
from mlmd.pretrained.external import External
from mlmd.rundir import FINAL

OWN = """
from chgnet.model.dynamics import CHGNetCalculator
from chgnet.model.model import CHGNet
calculator = CHGNetCalculator(CHGNet.load(model_name={name!r}, use_device="cpu"), use_device="cpu")
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("chgnet")


@pytest.fixture(scope="module")
def chgnet(python: str) -> External:
    return elsewhere(python)


def elsewhere(python: str, **given: Any) -> External:
    made = load(python=python, **given)
    assert isinstance(made, External)
    return made


def salt(seed: int = 1) -> Atoms:
    """Eight ions off their places in a skewed cell."""
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.02, 0.05], [0.03, 0.0, 0.98]], scale_atoms=True)
    atoms.rattle(0.15, seed=seed)
    return atoms


def small() -> Atoms:
    """Two atoms that are their own neighbours through the boundary, with bonds to themselves that make angles."""
    atoms = bulk("LiF", "rocksalt", 4.0)
    atoms.positions[0] += [0.1, 0.05, -0.1]
    return atoms


def slab() -> Atoms:
    atoms = salt(2)
    atoms.pbc = (True, True, False)
    return atoms


def thin() -> Atoms:
    """A crystal whose bonds are too long for angles."""
    return Atoms("LiNa", [[0, 0, 0], [2.6, 2.4, 2.5]], cell=[5.0, 5.1, 5.2], pbc=True)


def structures() -> list[Atoms]:
    return [salt(), small(), slab(), thin()]


def test_it_says_what_its_own_calculator_says(chgnet: External, python: str, tmp_path: Path) -> None:
    expected = own_answers(python, OWN.format(name="0.3.0"), structures(), tmp_path)
    for atoms, own in zip(structures(), expected, strict=True):
        assert_same(evaluate(chgnet, atoms), own, atoms)
    with pytest.raises(AssertionError):  # another structure has other forces: the comparison can fail
        assert_same(evaluate(chgnet, salt(3)), expected[0], salt())


def test_forces_and_stress_are_derivatives_and_energies_add_up(chgnet: External) -> None:
    assert_forces_are_derivatives(chgnet, salt(2), step=0.01, close=1e-3)
    assert_stress_is_derivative(chgnet, salt(2), step=0.005, close=3e-3)
    assert_extensive(chgnet, salt())


def test_what_it_tells_of_itself(chgnet: External) -> None:
    """Elements that none of the data had are not among those it knows, though the framework takes them."""
    assert chgnet.cutoff == pytest.approx(6.0)
    assert len(chgnet.elements) == 89 and {"Na", "Cl", "Pu"} < {*chgnet.elements} and "At" not in chgnet.elements
    assert chgnet.facts["precision"] == "float32" and chgnet.facts["parameters"] == 412_525
    assert chgnet.facts["versions"].keys() >= {"chgnet", "torch"}


def test_it_runs_and_ends_with_what_its_own_calculator_says(tmp_path: Path, python: str) -> None:
    """At constant energy, then at constant pressure."""
    assert_runs(tmp_path, salt(), f'{{ kind = "chgnet", python = "{python}" }}')
    last = ase.io.read(tmp_path / "run" / FINAL)
    assert isinstance(last, Atoms)
    own = own_answers(python, OWN.format(name="0.3.0"), [last, salt()], tmp_path)
    assert read_log(tmp_path / "run")["potential energy"][-1] == pytest.approx(own[0].energy, abs=1e-5)
    assert abs(own[0].energy - own[1].energy) > 1e-3


def test_a_name_that_there_is_not(python: str) -> None:
    with pytest.raises(InputError, match=r"Unknown model_name='0\.4\.0'"):
        load(name="0.4.0", python=python)


def test_a_file_is_opened_when_it_is_trusted(chgnet: External, python: str) -> None:
    script = "import chgnet, pathlib; print(*pathlib.Path(chgnet.__file__).parent.glob('pretrained/0.3.0/*.tar'))"
    done = subprocess.run([python, "-Ec", script], capture_output=True, text=True, check=True)
    path = Path(done.stdout.splitlines()[-1])
    with pytest.raises(ModelError, match="is a Python pickle, which executes code when it is opened"):
        load(path=path, python=python)
    made = elsewhere(python, path=path, trust=["sha256:" + sha256(path)])
    assert made.files == {str(path): sha256(path)}
    assert evaluate(made, salt()).energy == pytest.approx(evaluate(chgnet, salt()).energy, abs=1e-5)
    assert "At" in made.elements  # nobody knows what a file was fitted to


def test_a_file_that_is_not_trusted_is_not_opened(tmp_path: Path) -> None:
    file = harmful(tmp_path / "evil.pth.tar", tmp_path / "canary")
    for trust in ([], ["sha256:" + 64 * "0"]):
        with pytest.raises(ModelError):
            load(path=file, trust=trust)
    assert not (tmp_path / "canary").exists()


def test_a_file_or_a_name() -> None:
    with pytest.raises(InputError, match="either path"):
        load(path=Path("a.pth.tar"), name="0.3.0")


@pytest.fixture(scope="module", params=["0.3.0", "0.2.0"])
def told(request: pytest.FixtureRequest, python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mlmd says in the framework's environment."""
    table = {"kind": "chgnet", "name": request.param}
    return asked(python, "chgnet", table, structures(), tmp_path_factory.mktemp("told"))


def as_evaluation(numbers: list[Any]) -> Evaluation:
    return Evaluation(numbers[0], np.array(numbers[1]), np.array(numbers[2]))


def test_on_the_pairs_of_mlmd_it_says_the_same(told: dict[str, Any]) -> None:
    """One structure after the other, all at once, and in motion with a list of pairs that is kept."""
    assert told["class"] == "CHGNetGraph"
    energies, forces, virials = (np.array(one) for one in told["together"])
    ends = np.cumsum([0] + [len(one) for one in structures()])
    for n, atoms in enumerate(structures()):
        native, own = as_evaluation(told["native"][n]), as_evaluation(told["own"][n])
        assert_same(native, own, atoms)
        at_once = Evaluation(float(energies[n]), forces[ends[n] : ends[n + 1]], virials[n])
        assert_same(at_once, native, atoms)
    for moving, own in ((as_evaluation(one), as_evaluation(other)) for one, other in told["moving"]):
        assert moving.energy == pytest.approx(own.energy, abs=3e-5)
        assert np.abs(moving.forces - own.forces).max() < 1e-4
        assert np.abs(moving.virial - own.virial).max() < 5e-5 * np.abs(own.virial).max()  # all that float32 gives
    assert len({moving[0] for moving, _ in told["moving"]}) == 4


def test_torch_opens_files_as_safely_as_before(told: dict[str, Any]) -> None:
    assert told["switch"] == [None, None]
    assert told["refused"]


def test_nothing_is_said_of_what_a_user_cannot_change(python: str) -> None:
    """The framework tells which device it is on, and that elements have no electronegativity."""
    script = "from ase.build import bulk; from mlmd.pretrained.chgnet import load; "
    script += "from mlmd.potentials.evaluate import predictor; predictor(load())(bulk('LiF', 'rocksalt', 4.0))"
    paths = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, env=paths, check=True)
    assert done.stdout + done.stderr == ""


def test_a_run_goes_on_exactly_where_it_stopped(told: dict[str, Any]) -> None:
    assert told["run"]["stopped"]
    assert told["run"]["same"] == [True, True]
    assert np.ptp(told["run"]["total"]) < 0.1 * np.ptp(told["run"]["potential"])


def test_a_network_that_answers_otherwise_is_left_to_its_calculator(told: dict[str, Any]) -> None:
    assert told["agree"] == [True, False]


def test_it_leaves_random_numbers_and_precision_as_they_are(told: dict[str, Any]) -> None:
    assert told["seeds"] == [True, True, True]
    assert {*told["numbers"]} == {"torch.float32"}


def test_it_may_be_a_baseline(told: dict[str, Any]) -> None:
    """What is stored is how it is made, not its numbers."""
    assert told["trained"]["parts"][1] == "External" and told["trained"]["bytes"] < 100_000


def test_it_is_stored_by_how_it_is_made(told: dict[str, Any]) -> None:
    assert told["stored"] == [[], True]
    assert told["again"][1][0] == pytest.approx(told["own"][-1][0], abs=1e-5)


@pytest.mark.parametrize("atoms", [*structures(), Atoms("Na", [[1, 2, 3]])], ids=lambda one: str(one.symbols))
def test_bonds_are_two_pairs_each(atoms: Atoms) -> None:
    """Of opposite vectors; also where atoms are bound to themselves, and where there is no bond at all."""
    graph, to_bond, of_bond = with_reverses(build_graph([atoms, atoms], 6.0))
    assert 2 * len(of_bond) == graph.pairs.shape[1] == len(to_bond)
    assert torch.equal(to_bond[of_bond], torch.arange(len(of_bond)))
    assert (torch.bincount(to_bond, minlength=len(of_bond)) == 2).all()
    sums = torch.zeros((len(of_bond), 3), dtype=torch.float64).index_add_(0, to_bond, graph.vectors)
    assert torch.allclose(sums, torch.zeros_like(sums), rtol=0, atol=1e-12)


def test_a_pair_without_its_reverse_goes() -> None:
    """Rounding can leave one of the two within the cutoff."""
    graph = build_graph(small(), 6.0)
    n_pairs = graph.pairs.shape[1]
    kept = torch.arange(n_pairs) != 5
    lame = replace(graph, pairs=graph.pairs[:, kept], shifts=graph.shifts[kept], vectors=graph.vectors[kept])
    whole, to_bond, of_bond = with_reverses(lame)
    assert whole.pairs.shape[1] == n_pairs - 2 == len(to_bond) == 2 * len(of_bond)


def test_angles_are_two_different_bonds_of_an_atom() -> None:
    graph = build_graph([salt(), thin(), small()], 6.0)
    short = [n for n, length in enumerate(graph.distances.tolist()) if length < 3.0]
    centre = graph.pairs[0].tolist()
    expected = {(one, other) for one in short for other in short if one != other and centre[one] == centre[other]}
    first, second = angles_of(graph, 3.0)
    assert len(first) == len(expected) > 0
    assert {*zip(first.tolist(), second.tolist(), strict=True)} == expected


def test_without_short_bonds_there_are_no_angles() -> None:
    assert [len(one) for one in angles_of(build_graph(thin(), 6.0), 3.0)] == [0, 0]
