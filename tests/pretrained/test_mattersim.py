"""MatterSim in its own environment. Its weights are not at hand: networks of its kind with numbers at random."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from elsewhere import (
    answers_inside,
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_same,
    assert_stress_is_derivative,
    evaluate,
    own_answers,
    python_of,
)
from in_process import Harmful
from salts import ion_pair, water

from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.external import External
from mlmd.pretrained.mattersim import load

MAKE = """
import sys
import torch
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
torch.manual_seed(1)
model = M3Gnet(num_blocks=2, units=32, device="cpu")
model.normalizer.scale.data.fill_(300.0)
torch.save({"model_name": "m3gnet", "model_args": model.model_args, "model": model.state_dict()}, sys.argv[1])
"""
OWN = """
from mattersim.forcefield.potential import MatterSimCalculator
calculator = MatterSimCalculator.from_checkpoint({path!r}, device="cpu")
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("mattersim")


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("mattersim") / "small.pth"
    subprocess.run([python, "-c", MAKE, str(file)], check=True, capture_output=True)
    return file


@pytest.fixture(scope="module")
def mattersim(python: str, weights: Path) -> External:
    return load(path=weights, python=python)


def test_it_says_what_its_own_calculator_says(mattersim: External, python: str, weights: Path, tmp_path: Path) -> None:
    """A crystal, and a molecule in the open."""
    structures = [ion_pair(), water()]
    expected = own_answers(python, OWN.format(path=str(weights)), structures, tmp_path)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(mattersim, atoms), own, atoms)


def test_it_says_the_same_in_the_process_of_the_framework(
    mattersim: External, python: str, weights: Path, tmp_path: Path
) -> None:
    structures = [ion_pair(), water()]
    inside = answers_inside(python, "mlmd.pretrained.mattersim", {"path": str(weights)}, structures, tmp_path)
    for atoms, same in zip(structures, inside, strict=True):
        assert_same(same, evaluate(mattersim, atoms), atoms)


def test_forces_and_stress_are_derivatives_and_energies_add_up(mattersim: External) -> None:
    assert_forces_are_derivatives(mattersim, ion_pair(), step=0.01, close=2e-3)
    assert_stress_is_derivative(mattersim, ion_pair(), step=3e-3, close=1e-2)
    assert_extensive(mattersim, ion_pair())
    open_one = evaluate(mattersim, water())
    assert open_one.virial == pytest.approx(-water().positions.T @ open_one.forces, abs=1e-5)


def test_what_it_tells_of_itself(mattersim: External) -> None:
    assert mattersim.cutoff == pytest.approx(5.0)
    assert len(mattersim.elements) == 94 and mattersim.elements[-1] == "Pu"
    assert mattersim.facts["precision"] == "float32"


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    table = f'{{ kind = "mattersim", path = "{weights}", python = "{python}" }}'
    assert_runs(tmp_path / "crystal", ion_pair() * (2, 2, 2), table)
    assert_runs(tmp_path / "open", water(), table, npt=False)


def test_what_is_periodic_in_some_directions_is_refused(mattersim: External) -> None:
    slab = ion_pair()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="periodic in all directions, or in none"):
        evaluate(mattersim, slab)


def test_the_file_that_a_name_stands_for_is_known(
    mattersim: External, python: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That which the framework keeps."""
    kept = tmp_path / ".local" / "mattersim" / "pretrained_models" / "mattersim-v1.0.0-1M.pth"
    kept.parent.mkdir(parents=True)
    kept.symlink_to(weights)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(name="MatterSim-v1.0.0-1M", python=python).weights == {kept.name: sha256(weights)}
    assert mattersim.weights == {}


def test_files_that_execute_code_are_refused(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torch's safe reading has been switched off for the whole process, as some packages do."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    file, bait = tmp_path / "a.pth", tmp_path / "executed"
    torch.save({"model_name": Harmful(bait)}, file)
    with pytest.raises(ModelError, match="damaged, or more than numbers"):
        load(path=file, python=python)
    assert not bait.exists()


def test_names_that_it_does_not_know(python: str) -> None:
    with pytest.raises(InputError, match=r"no model 'MatterSim-v9'. Known: MatterSim-v1.0.0-1M"):
        load(name="MatterSim-v9", python=python)
    with pytest.raises(InputError, match="either path"):
        load(python=python)
