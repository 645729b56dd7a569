"""Frozen models of DeePMD-kit's PyTorch, asked without DeePMD-kit, against its reference numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from elsewhere import (
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_same,
    assert_stress_is_derivative,
    evaluate,
)

from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.deepmd import load
from mlmd.pretrained.deepmd_graph import DeepmdGraph


@pytest.fixture(scope="module")
def frozen(shared: Path) -> Path:
    return shared / "ref_deepmd" / "deeppot_sea.pth"


@pytest.fixture(scope="module")
def trusted(frozen: Path) -> str:
    return f"sha256:{sha256(frozen)}"


@pytest.fixture(scope="module")
def water(frozen: Path, trusted: str) -> Any:
    return load(path=frozen, trust=[trusted])


def published(shared: Path) -> list[dict[str, Any]]:
    """Two results with a box, one in the open: `coord`, `atype`, `box`, `atomic_energy`, `force`, `atomic_virial`."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load((shared / "ref_deepmd" / "deeppot-testcase.yaml").read_text())["results"])


def dense(n: int = 1) -> Atoms:
    """Two waters in a cell that is smaller than the cutoff and skewed, several times."""
    one = np.array([[0, 0, 0], [0, 0.76, 0.6], [0, -0.75, 0.58]])
    atoms = Atoms("OH2OH2", np.array([*one, *(one[:, [1, 0, 2]] + [2.1, 2.2, 1.3])]))
    atoms.set_cell([[4.5, 0.0, 0.0], [0.4, 4.3, 0.0], [0.1, 0.3, 4.4]])
    atoms.pbc = True
    return atoms * (n, n, n)


@pytest.mark.parametrize("way", ["on mlmd's pairs", "by its own forward"])
def test_it_gives_the_reference_numbers(water: Any, shared: Path, way: str) -> None:
    """Those of the tests of DeePMD-kit, of which the virial is minus that of mlmd."""
    assert isinstance(water, DeepmdGraph)
    model = water if way == "on mlmd's pairs" else water.external
    for result in published(shared):
        atoms = Atoms(["OH"[kind] for kind in result["atype"]], np.reshape(result["coord"], (-1, 3)))
        if result["box"] is not None:
            atoms.set_cell(np.reshape(result["box"], (3, 3)))
            atoms.pbc = True
        found = evaluate(model, atoms)
        assert found.energy == pytest.approx(np.sum(result["atomic_energy"]), abs=1e-9)
        assert found.forces == pytest.approx(np.reshape(result["force"], (-1, 3)), abs=1e-12)
        virial = -np.reshape(result["atomic_virial"], (-1, 3, 3)).sum(0)
        if atoms.pbc.all():
            assert found.virial == pytest.approx(0.5 * (virial + virial.T), abs=1e-12)


def test_with_more_neighbours_than_the_model_takes_both_ways_take_the_nearest(water: Any) -> None:
    """46 oxygens at most within 6 Å: oxygen as dense as liquid water's atoms has 90."""
    rng = np.random.default_rng(3)
    places = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3) * 2.15
    atoms = Atoms("O216", places + rng.normal(0.0, 0.1, places.shape), cell=[12.9] * 3, pbc=True)
    assert_same(evaluate(water, atoms), evaluate(water.external, atoms), atoms, energy=1e-9)


def test_forces_and_stress_are_derivatives_and_energies_add_up(water: Any) -> None:
    assert_forces_are_derivatives(water, dense(), step=1e-4, close=1e-6)
    assert_stress_is_derivative(water, dense(), step=1e-5, close=1e-5)
    assert_extensive(water, dense(), (2, 2, 2))


def test_virials_of_atoms_add_up_to_that_of_all(water: Any) -> None:
    atoms = dense(2)
    found = water.evaluator(np.array(atoms.numbers), np.array(atoms.pbc)).detailed(atoms.positions, atoms.cell.array)
    assert found.virial == pytest.approx(evaluate(water, atoms).virial, abs=1e-10)


def test_what_it_tells_of_itself(water: Any) -> None:
    assert water.elements == ("O", "H")
    assert water.cutoff == pytest.approx(6.0)
    assert water.facts["precision"] == "float64"
    assert water.facts["parameters"] == 1230


def test_it_runs(tmp_path: Path, frozen: Path, trusted: str) -> None:
    assert_runs(tmp_path, dense(2), f'{{ path = "{frozen}", trust = "{trusted}" }}')


def test_it_has_to_be_trusted(frozen: Path, trusted: str) -> None:
    with pytest.raises(ModelError, match=rf'a model of DeePMD-kit is a program.* write trust = "{trusted}"'):
        load(path=frozen)


def test_on_another_device_it_is_the_file_that_was_trusted(frozen: Path, trusted: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(frozen.read_bytes())
    model: Any = load(path=path, trust=[trusted])
    model.network(torch.device("cpu", 0))
    path.write_bytes(frozen.read_bytes() + b" ")
    with pytest.raises(ModelError, match="not the file any more"):
        model.network(torch.device("cpu"))


def test_what_is_periodic_in_some_directions_is_refused(water: Any) -> None:
    slab = dense()
    slab.pbc = (True, True, False)
    with pytest.raises((SimulationError, InputError), match="periodic in all directions, or in none"):
        evaluate(water.external, slab)


def test_what_calls_operations_of_the_framework_is_left_to_it(shared: Path) -> None:
    """Messages pass between the atoms of DPA-2: without DeePMD-kit the message is what to install."""
    model = shared / "ref_deepmd" / "water_dpa2_frozen_model.pth"
    with pytest.raises(InputError, match=r"no module .*deepmd.*pip install deepmd-kit torch=="):
        load(path=model, trust=[f"sha256:{sha256(model)}"])


def test_half_a_file_is_told(frozen: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pth"
    half.write_bytes(frozen.read_bytes()[: frozen.stat().st_size // 2])
    with pytest.raises(ModelError, match="Is the file whole"):
        load(path=half, trust=[f"sha256:{sha256(half)}"])


def test_the_energy_of_an_atom_alone_is_finite(water: Any) -> None:
    found = evaluate(water, Atoms("O", [[0.0, 0.0, 0.0]]))
    assert np.isfinite(found.energy)
    assert not found.forces.any()
    assert torch.get_default_dtype() == torch.float32
