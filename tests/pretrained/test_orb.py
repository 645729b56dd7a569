"""Orb in its own environment. Its weights are not at hand: its networks with numbers at random."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
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

from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.external import External
from mlmd.pretrained.orb import load

SOLIDS, MOLECULES = "orb-v3-conservative-inf-omat", "orb-v3-conservative-omol"
MAKE = """
import sys
import torch
from orb_models.forcefield import pretrained
torch.manual_seed(1)
given = {"device": "cpu", "system_config": pretrained.SystemConfig(radius=6.0, max_num_neighbors=120)}
if sys.argv[1] == "orb-v3-conservative-omol":
    given |= {"has_charge_spin_cond": True, "has_stress": False}
torch.save(pretrained.orb_v3_conservative_architecture(**given).state_dict(), sys.argv[2])
"""
OWN = """
from orb_models.forcefield.calculator import ORBCalculator
from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS
network = ORB_PRETRAINED_MODELS[{name!r}](weights_path={path!r}, device="cpu", precision="float64", compile=False)
calculator = ORBCalculator(network, device="cpu")
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("orb")


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each of two networks."""
    folder = tmp_path_factory.mktemp("orb")
    for name in (SOLIDS, MOLECULES):
        subprocess.run([python, "-c", MAKE, name, str(folder / name)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def orb(python: str, weights: Path) -> External:
    return load(name=SOLIDS, path=weights / SOLIDS, python=python)


def test_it_says_what_its_own_calculator_says(orb: External, python: str, weights: Path, tmp_path: Path) -> None:
    """A crystal, and a molecule in the open."""
    structures = [ion_pair(), water()]
    given = {"name": SOLIDS, "path": str(weights / SOLIDS)}
    expected = own_answers(python, OWN.format(**given), structures, tmp_path)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(orb, atoms), own, atoms, energy=1e-8)


def test_it_says_the_same_in_the_process_of_the_framework(
    orb: External, python: str, weights: Path, tmp_path: Path
) -> None:
    structures, given = [ion_pair(), water()], {"name": SOLIDS, "path": str(weights / SOLIDS)}
    inside = answers_inside(python, "mlmd.pretrained.orb", given, structures, tmp_path)
    for atoms, same in zip(structures, inside, strict=True):
        assert_same(same, evaluate(orb, atoms), atoms, energy=1e-8)


def test_forces_and_stress_are_derivatives_and_energies_add_up(orb: External) -> None:
    assert_forces_are_derivatives(orb, ion_pair(), step=1e-3, close=1e-4)
    assert_stress_is_derivative(orb, ion_pair(), step=1e-4, close=1e-4)
    assert_extensive(orb, ion_pair())


def test_what_it_tells_of_itself(orb: External) -> None:
    assert orb.cutoff == pytest.approx(6.0)
    assert orb.facts["precision"] == "float64" and orb.facts["parameters"] == 25_510_582
    assert "orb-models" in orb.facts["versions"]


def test_single_precision(orb: External, python: str, weights: Path) -> None:
    single = load(name=SOLIDS, path=weights / SOLIDS, python=python, precision="float32")
    assert single.facts["precision"] == "float32"
    found, exact = evaluate(single, ion_pair()), evaluate(orb, ion_pair())
    assert 0 < np.abs(found.forces - exact.forces).max() < 1e-3


def test_charge_and_spin_reach_networks_of_molecules(python: str, weights: Path) -> None:
    energies = {}
    for given in ({}, {"charge": 1, "spin": 2}, {"charge": 1, "spin": 4}):
        potential = load(name=MOLECULES, path=weights / MOLECULES, python=python, **given)
        energies[str(given)] = evaluate(potential, water()).energy
    assert len({round(one, 9) for one in energies.values()}) == 3
    with pytest.raises(InputError, match=r"charge: 0.5 is not a whole number"):
        load(name=MOLECULES, charge=0.5, python=python)  # type: ignore[arg-type]


def test_it_leaves_the_precision_of_the_process(python: str, weights: Path) -> None:
    script = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from ase import Atoms;"
        "from mlmd.pretrained.orb import load;"
        f"p = load(name={SOLIDS!r}, path={str(weights / SOLIDS)!r});"
        "p.predictor().evaluate(Atoms('OH', [[0, 0, 0], [0, 0, 1]]));"
        "print(torch.get_default_dtype(), torch.get_float32_matmul_precision())"
    )
    done = subprocess.run(
        [python, "-c", script, str(Path(__file__).parents[2])], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["torch.float32", "highest"]


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    table = f'{{ kind = "orb", name = "{SOLIDS}", path = "{weights / SOLIDS}", python = "{python}" }}'
    assert_runs(tmp_path, ion_pair() * (2, 1, 1), table)


def test_what_is_periodic_in_some_directions_is_refused(orb: External) -> None:
    slab = ion_pair()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="We do not support periodicity along a subset of axes"):
        evaluate(orb, slab)


def test_files_and_names_that_are_wrong(python: str, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Orb has no network 'orb-v3'. Is it one of .*orb-v2"):
        load(name="orb-v3", python=python)
    with pytest.raises(ModelError, match=r"Error\(s\) in loading state_dict"):
        load(name="orb-v2", path=weights / SOLIDS, python=python)
    bait = tmp_path / "executed"
    torch.save({"a": Harmful(bait)}, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="Weights only load failed"):
        load(name=SOLIDS, path=tmp_path / "a.ckpt", python=python)
    assert not bait.exists()
