"""DeePMD-kit in its own environment, with the backend of TensorFlow, against its reference numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
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

from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.deepmd import load
from mlmd.pretrained.external import External

OWN = """
from deepmd.calculator import DP
calculator = DP({path!r})
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("deepmd")


@pytest.fixture(scope="module")
def frozen(python: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model of the tests of DeePMD-kit, as a graph of TensorFlow."""
    file = tmp_path_factory.mktemp("deepmd") / "sea.pb"
    dp = Path(python).with_name("dp")
    source = shared / "ref_deepmd" / "deeppot_sea.yaml"
    subprocess.run([dp, "convert-backend", source, file], check=True, capture_output=True)
    return file


@pytest.fixture(scope="module")
def trusted(frozen: Path) -> str:
    return f"sha256:{sha256(frozen)}"


@pytest.fixture(scope="module")
def water(python: str, frozen: Path, trusted: str) -> External:
    return load(path=frozen, python=python, trust=[trusted])


@pytest.fixture(scope="module")
def published(shared: Path, python: str) -> list[dict[str, Any]]:
    """Two results with a box, one in the open: `coord`, `atype`, `box`, `atomic_energy`, `force`, `atomic_virial`."""
    script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))['results']))"
    file = shared / "ref_deepmd" / "deeppot-testcase.yaml"
    done = subprocess.run([python, "-c", script, str(file)], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def structure(result: dict[str, Any]) -> Atoms:
    atoms = Atoms(["OH"[kind] for kind in result["atype"]], np.reshape(result["coord"], (-1, 3)))
    if result["box"] is not None:
        atoms.set_cell(np.reshape(result["box"], (3, 3)))
        atoms.pbc = True
    return atoms


def dense() -> Atoms:
    """Two waters in a cell that is smaller than the cutoff and skewed."""
    one = [[0, 0, 0], [0, 0.76, 0.6], [0, -0.75, 0.58]]
    atoms = Atoms("OH2OH2", np.array([*one, *(np.array(one)[:, [1, 0, 2]] + [2.1, 2.2, 1.3])]))
    atoms.set_cell([[4.2, 0, 0], [0.7, 4.4, 0], [0.3, -0.5, 4.1]])
    atoms.pbc = True
    atoms.rattle(0.05, seed=4)
    return atoms


def test_it_gives_the_reference_numbers(water: External, published: list[dict[str, Any]]) -> None:
    """Those of the tests of DeePMD-kit, computed by its backend of PyTorch; its virial is minus that of mlmd."""
    assert [one["box"] is None for one in published] == [False, True, False]
    for result in published:
        found = evaluate(water, structure(result))
        assert found.energy == pytest.approx(np.sum(result["atomic_energy"]), abs=1e-9)
        assert found.forces == pytest.approx(np.reshape(result["force"], (-1, 3)), abs=1e-12)
        virial = -np.reshape(result["atomic_virial"], (-1, 3, 3)).sum(0)
        assert found.virial == pytest.approx(0.5 * (virial + virial.T), abs=1e-12)


def test_it_says_what_its_own_calculator_says(water: External, python: str, frozen: Path, tmp_path: Path) -> None:
    open_one = dense()
    open_one.pbc = False
    structures = [dense(), open_one]
    expected = own_answers(python, OWN.format(path=str(frozen)), structures, tmp_path)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(water, atoms), own, atoms, energy=1e-9)


def test_forces_and_stress_are_derivatives_and_energies_add_up(water: External) -> None:
    assert_forces_are_derivatives(water, dense(), step=1e-4, close=1e-6)
    assert_stress_is_derivative(water, dense(), step=1e-5, close=1e-5)
    assert_extensive(water, dense())
    assert_extensive(water, dense(), (2, 2, 2))


def test_what_it_tells_of_itself(water: External) -> None:
    assert water.elements == ("O", "H")
    assert water.cutoff == pytest.approx(6.0)
    assert water.facts["precision"] == "float64"
    assert [name[:6] for name in water.facts["versions"]] == ["deepmd", "tensor"]


def test_it_runs(tmp_path: Path, python: str, frozen: Path, trusted: str) -> None:
    table = f'{{ kind = "deepmd", path = "{frozen}", python = "{python}", trust = "{trusted}" }}'
    assert_runs(tmp_path, dense() * (2, 2, 2), table)


def test_a_model_has_to_be_trusted(python: str, frozen: Path, trusted: str) -> None:
    with pytest.raises(ModelError, match=rf'a model of DeePMD-kit is a program.* write trust = "{trusted}"'):
        load(path=frozen, python=python)
    with pytest.raises(ModelError, match="not the file that is trusted"):
        load(path=frozen, python=python, trust=["sha256:" + 64 * "0"])


def test_models_without_forces_are_refused(python: str, shared: Path) -> None:
    """Its backend of NumPy gives forces that are not numbers, and no error."""
    model = shared / "ref_deepmd" / "deeppot_sea.yaml"
    with pytest.raises(InputError, match=r"NumPy, which computes no forces.*dp convert-backend deeppot_sea.yaml"):
        load(path=model, python=python, trust=[f"sha256:{sha256(model)}"])


def test_a_backend_that_is_not_there_is_told(python: str, shared: Path) -> None:
    model = shared / "ref_deepmd" / "deeppot_sea.pth"
    with pytest.raises(InputError, match=r"no module 'torch'.*pip install deepmd-kit torch=="):
        load(path=model, python=python, trust=[f"sha256:{sha256(model)}"])


def test_what_is_periodic_in_some_directions_is_refused(water: External) -> None:
    slab = dense()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="periodic in all directions, or in none"):
        evaluate(water, slab)
