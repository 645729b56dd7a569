"""MatGL in its own environment: TensorNet, and files that another release of it would read wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
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
from mlmd.pretrained.matgl import load

NAME = "TensorNet-MatPES-PBE-v2025.1-PES"
OWN = """
import matgl
from matgl.ext.ase import PESCalculator
calculator = PESCalculator(matgl.load_model({path!r}), stress_unit="eV/A3", use_voigt=True)
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("matgl")


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    return shared / "models_matgl" / NAME


@pytest.fixture(scope="module")
def tensornet(python: str, weights: Path) -> External:
    return load(path=weights, python=python)


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
def test_it_says_what_its_own_calculator_says(functional: str, python: str, weights: Path, tmp_path: Path) -> None:
    """A crystal, and a molecule in the open."""
    folder = str(weights.with_name(weights.name.replace("PBE", functional)))
    structures = [ion_pair(), water()]
    expected = own_answers(python, OWN.format(path=folder), structures, tmp_path)
    tensornet = load(path=Path(folder), python=python)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(tensornet, atoms), own, atoms)


def test_it_says_the_same_in_the_process_of_the_framework(
    tensornet: External, python: str, weights: Path, tmp_path: Path
) -> None:
    structures = [ion_pair(), water()]
    inside = answers_inside(python, "mlmd.pretrained.matgl", {"path": str(weights)}, structures, tmp_path)
    for atoms, same in zip(structures, inside, strict=True):
        assert_same(same, evaluate(tensornet, atoms), atoms)


def test_a_compound_has_its_minimum(tensornet: External) -> None:
    """LiCl by PBE: 5.15 Å. Releases of MatGL that read the same files wrong find none."""
    constants = np.linspace(4.8, 5.5, 8)
    energies = [evaluate(tensornet, bulk("LiCl", "rocksalt", one)).energy for one in constants]
    third, second, first, _ = np.polyfit(constants - 5.15, energies, 3)
    minimum = 5.15 + (-second + np.sqrt(second**2 - 3 * third * first)) / (3 * third)
    assert minimum == pytest.approx(5.15, abs=0.03)


def test_forces_and_stress_are_derivatives_and_energies_add_up(tensornet: External) -> None:
    assert_forces_are_derivatives(tensornet, ion_pair(), step=0.02, close=2e-3)
    assert_stress_is_derivative(tensornet, ion_pair(), step=0.01, close=1e-2)
    assert_extensive(tensornet, ion_pair())
    open_one = evaluate(tensornet, water())
    assert open_one.virial == pytest.approx(-water().positions.T @ open_one.forces, abs=1e-5)


def test_what_it_tells_of_itself(tensornet: External) -> None:
    assert tensornet.cutoff == pytest.approx(5.0)
    assert len(tensornet.elements) == 89 and "Cl" in tensornet.elements
    assert tensornet.facts["precision"] == "float32" and tensornet.facts["parameters"] == 837_378
    assert tensornet.facts["versions"]["matgl"] == "2.0.4"


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    assert_runs(tmp_path, ion_pair() * (2, 2, 2), f'{{ kind = "matgl", path = "{weights}", python = "{python}" }}')


def test_what_is_periodic_in_some_directions_is_refused(tensornet: External) -> None:
    slab = ion_pair()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="periodic in all directions, or in none"):
        evaluate(tensornet, slab)


def test_the_files_that_a_name_stands_for_are_known(
    tensornet: External, python: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those which the framework keeps."""
    (tmp_path / ".cache" / "matgl").mkdir(parents=True)
    (tmp_path / ".cache" / "matgl" / NAME).symlink_to(weights)
    monkeypatch.setenv("HOME", str(tmp_path))
    named = load(name=NAME, python=python)
    assert named.weights == {one.name: sha256(one) for one in weights.iterdir() if one.suffix in (".json", ".pt")}
    assert len(named.weights) == 3 and tensornet.weights == {}


@pytest.mark.parametrize("version", [0, 2])
def test_files_of_another_release_are_refused(python: str, weights: Path, tmp_path: Path, version: int) -> None:
    folder = tmp_path / "model"
    shutil.copytree(weights, folder)
    told = json.loads((folder / "model.json").read_text())
    told["kwargs"]["model"]["@model_version"] = version
    (folder / "model.json").chmod(0o644)
    (folder / "model.json").write_text(json.dumps(told))
    has = rf"TensorNet version {version}, of which it has version 1"
    with pytest.raises(InputError, match=rf"MatGL 2.0.4 would compute something else .*{has}"):
        load(path=folder, python=python)


def test_the_release_that_reads_a_file_right_is_told(python: str, weights: Path, tmp_path: Path) -> None:
    """As where TensorNet has moved, in MatGL 4."""
    folder = tmp_path / "model"
    shutil.copytree(weights, folder)
    told = json.loads((folder / "model.json").read_text())
    told["@module"] = "matgl.apps.of_the_past"
    (folder / "model.json").chmod(0o644)
    (folder / "model.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"which it has not. .*: pip install --no-deps matgl==2.0.4\.$"):
        load(path=folder, python=python)


@pytest.mark.parametrize("name", ["model.pt", "state.pt"])
def test_files_that_execute_code_are_refused(python: str, weights: Path, tmp_path: Path, name: str) -> None:
    folder, bait = tmp_path / "model", tmp_path / "executed"
    shutil.copytree(weights, folder)
    (folder / name).chmod(0o644)
    torch.save({"a": Harmful(bait)}, folder / name)
    with pytest.raises(ModelError, match=rf"{name} is damaged, or more than numbers"):
        load(path=folder, python=python)
    assert not bait.exists()


def test_a_model_is_a_folder_of_three_files(weights: Path, python: str) -> None:
    with pytest.raises(InputError, match=r"a folder with model.json, model.pt, state.pt; .*model.json is not there"):
        load(path=weights / "state.pt", python=python)
