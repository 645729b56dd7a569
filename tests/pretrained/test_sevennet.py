"""SevenNet in its own environment: its own calculator, and mlmd's pairs."""

from __future__ import annotations

import json
import os
import subprocess
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
from mlmd.pretrained.external import External
from mlmd.pretrained.sevennet import SHIPPED, load
from mlmd.pretrained.sevennet_graph import in_places
from mlmd.rundir import FINAL

OWN = """
from sevenn.calculator import SevenNetCalculator
calculator = SevenNetCalculator({name!r}, device="cpu", modal={modal!r})
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("sevennet")


@pytest.fixture(scope="module")
def sevennet(python: str) -> External:
    return elsewhere(python, name="7net-0")


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
    """Two atoms that are their own neighbours through the boundary."""
    atoms = bulk("LiF", "rocksalt", 4.0)
    atoms.positions[0] += [0.1, 0.05, -0.1]
    return atoms


def slab() -> Atoms:
    atoms = salt(2)
    atoms.pbc = (True, True, False)
    return atoms


def molecule() -> Atoms:
    return Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.6], [0, -0.75, 0.58]], cell=[9, 9, 9])


def structures() -> list[Atoms]:
    return [salt(), small(), slab(), molecule()]


def test_it_says_what_its_own_calculator_says(sevennet: External, python: str, tmp_path: Path) -> None:
    expected = own_answers(python, OWN.format(name="7net-0", modal=None), structures(), tmp_path)
    for atoms, own in zip(structures(), expected, strict=True):
        assert_same(evaluate(sevennet, atoms), own, atoms)
    with pytest.raises(AssertionError):  # another structure has other forces: the comparison can fail
        assert_same(evaluate(sevennet, salt(3)), expected[0], salt())


def test_forces_and_stress_are_derivatives_and_energies_add_up(sevennet: External) -> None:
    assert_forces_are_derivatives(sevennet, salt(2), step=0.01, close=1e-3)
    assert_stress_is_derivative(sevennet, salt(2), step=0.005, close=3e-3)
    assert_extensive(sevennet, salt())


def test_what_it_tells_of_itself(sevennet: External) -> None:
    assert sevennet.cutoff == pytest.approx(5.0)
    assert len(sevennet.elements) == 89 and {"Na", "Cl"} < {*sevennet.elements} and "At" not in sevennet.elements
    assert sevennet.facts["precision"] == "float32" and sevennet.facts["parameters"] == 842_623
    assert sevennet.facts["versions"].keys() >= {"sevenn", "torch"}


def test_it_runs_and_ends_with_what_its_own_calculator_says(tmp_path: Path, python: str) -> None:
    """At constant energy, then at constant pressure."""
    assert_runs(tmp_path, salt(), f'{{ kind = "sevennet", name = "7net-0", python = "{python}" }}')
    last = ase.io.read(tmp_path / "run" / FINAL)
    assert isinstance(last, Atoms)
    own = own_answers(python, OWN.format(name="7net-0", modal=None), [last, salt()], tmp_path)
    assert read_log(tmp_path / "run")["potential energy"][-1] == pytest.approx(own[0].energy, abs=1e-5)
    assert abs(own[0].energy - own[1].energy) > 1e-3


def test_another_network_of_the_package(python: str, tmp_path: Path) -> None:
    own = own_answers(python, OWN.format(name="7net-l3i5", modal=None), [salt()], tmp_path)[0]
    assert_same(evaluate(elsewhere(python, name="SevenNet-l3i5"), salt()), own, salt())


def test_every_name_is_that_of_a_network_within_the_package(python: str) -> None:
    script = "from sevenn.util import pretrained_name_to_path as p; import json, sys; "
    script += "print(json.dumps({one: p(one) for one in sys.argv[1:]}))"
    done = subprocess.run([python, "-Ec", script, *SHIPPED], capture_output=True, text=True, check=True)
    constants = "from sevenn import _const; import json, sys; "
    constants += "print(json.dumps([getattr(_const, one) for one in sys.argv[1:]]))"
    ours = subprocess.run([python, "-Ec", constants, *SHIPPED.values()], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [theirs[name] for name in SHIPPED] == json.loads(ours.stdout.splitlines()[-1])


def test_a_name_downloads_nothing_and_opens_no_file_that_is_called_so(python: str, tmp_path: Path) -> None:
    file = harmful(tmp_path / "evil.pth", tmp_path / "canary")
    for name in ("7net-omni", str(file)):
        with pytest.raises(
            InputError, match=r"is not within the package, which has 7net-0, .* give path = and trust ="
        ):
            load(name=name, python=python)
    assert not (tmp_path / "canary").exists()


def test_kinds_of_data_are_asked_for_by_name(python: str) -> None:
    with pytest.raises(InputError, match=r"modal argument missing \(avail: \['R2SCAN', 'PBE'\]\)"):
        load(name="7net-mf-0", python=python)


def test_a_checkpoint_is_opened_when_it_is_trusted(sevennet: External, python: str, tmp_path: Path) -> None:
    script = "from sevenn import _const; print(_const.SEVENNET_0_11Jul2024)"
    done = subprocess.run([python, "-Ec", script], capture_output=True, text=True, check=True)
    path = Path(done.stdout.splitlines()[-1])
    with pytest.raises(ModelError, match="is a Python pickle, which executes code when it is opened"):
        load(path=path, python=python)
    made = elsewhere(python, path=path, trust=["sha256:" + sha256(path)])
    assert made.files == {str(path): sha256(path)}
    assert evaluate(made, salt()).energy == pytest.approx(evaluate(sevennet, salt()).energy, abs=1e-5)


def test_a_file_that_is_not_trusted_is_not_opened(tmp_path: Path) -> None:
    file = harmful(tmp_path / "evil.pth", tmp_path / "canary")
    for trust in ([], ["sha256:" + 64 * "0"]):
        with pytest.raises(ModelError):
            load(path=file, trust=trust)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("given", [{}, {"path": Path("a.pth"), "name": "7net-0"}])
def test_a_file_or_a_name(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="either path"):
        load(**given)


@pytest.fixture(scope="module", params=[("7net-0", None), ("7net-mf-0", "PBE")], ids=lambda one: one[0])
def told(request: pytest.FixtureRequest, python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mlmd says in the framework's environment."""
    name, modal = request.param
    table = {"kind": "sevennet", "name": name, **({} if modal is None else {"modal": modal})}
    return asked(python, "sevennet", table, structures(), tmp_path_factory.mktemp("told"))


def as_evaluation(numbers: list[Any]) -> Evaluation:
    return Evaluation(numbers[0], np.array(numbers[1]), np.array(numbers[2]))


def test_on_the_pairs_of_mlmd_it_says_the_same(told: dict[str, Any]) -> None:
    """One structure after the other, all at once, and in motion with a list of pairs that is kept."""
    assert told["class"] == "SevenNetGraph"
    energies, forces, virials = (np.array(one) for one in told["together"])
    ends = np.cumsum([0] + [len(one) for one in structures()])
    for n, atoms in enumerate(structures()):
        native, own = as_evaluation(told["native"][n]), as_evaluation(told["own"][n])
        assert_same(native, own, atoms)
        at_once = Evaluation(float(energies[n]), forces[ends[n] : ends[n + 1]], virials[n])
        assert_same(at_once, native, atoms)
    for moving, own in told["moving"]:
        assert_same(as_evaluation(moving), as_evaluation(own), salt())
    assert len({moving[0] for moving, _ in told["moving"]}) == 4


def test_torch_opens_files_as_safely_as_before_and_nothing_is_said(told: dict[str, Any]) -> None:
    assert told["switch"] == [None, None]
    assert told["refused"]
    assert told["said"] == ""


def test_its_convolutions_are_computed_here(python: str) -> None:
    """Of all networks of the package; what does not fit would be computed by the framework, several times slower."""
    script = "import sys; from mlmd.pretrained.sevennet import load; "
    script += "print(*(len(load(name=one)._convolutions) for one in sys.argv[1:]))"
    paths = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", script, "7net-0", "7net-l3i5"], capture_output=True, text=True, env=paths, check=True
    )
    assert done.stdout.split() == ["5", "5"]


def test_neighbours_stand_side_by_side() -> None:
    """Every pair once, at the places of its centre; nobody at the others, far enough to count for nothing."""
    graph = build_graph([salt(), Atoms("Na", [[1, 2, 3]]), slab(), molecule()], 5.0)
    vectors = graph.vectors.float()
    table = in_places(graph, vectors, 5.0)
    there = table["places"].squeeze(1) == 1
    n_places = len(there) // graph.n_atoms
    assert n_places == torch.bincount(graph.pairs[0]).max() and len(there) == n_places * graph.n_atoms
    assert torch.equal(table["edge_index"][:, there], graph.pairs)
    assert torch.equal(table["edge_index"][0], torch.arange(len(there)) // n_places)
    assert torch.equal(table["edge_vec"][there], vectors)
    assert (~there).sum() > 0 and (table["places"][~there] == 0).all()
    lengths = table["edge_vec"][~there].norm(dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, 5.0))


def test_atoms_without_neighbours_have_a_place() -> None:
    graph = build_graph(Atoms("NaCl", [[0, 0, 0], [9, 0, 0]]), 5.0)
    table = in_places(graph, graph.vectors.float(), 5.0)
    assert table["places"].tolist() == [[0.0], [0.0]] and table["edge_index"][0].tolist() == [0, 1]


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
