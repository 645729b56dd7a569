"""TorchScript modules of OpenMM-Torch's contract run with the numbers of the module itself."""

from __future__ import annotations

import sys
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from command_line import mlmd
from runs import ARGON, fcc_argon, write_input

from mlmd import units
from mlmd.config import PotentialTable
from mlmd.errors import ModelError, SimulationError
from mlmd.potentials import has_stress
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.load import load_potential


class Springs(torch.nn.Module):
    """Σ k (|r_ij| - r0)² / 2 over all pairs in nm and kJ/mol."""

    def __init__(self) -> None:
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(1000.0, dtype=torch.float64))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        d = torch.pdist(positions)
        return 0.5 * self.k * torch.sum((d - 0.3) ** 2)


class WithForces(Springs):
    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return torch.sum(positions**2), -2.0 * positions


class Periodic(torch.nn.Module):
    """A sum over pairs in their nearest images, smooth and short: exp(-(r / 0.2 nm)²) · 5 kJ/mol."""

    def forward(self, positions: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        delta = positions[:, None] - positions[None]
        scaled = delta @ torch.linalg.inv(box)
        delta = (scaled - torch.round(scaled)) @ box
        r2 = (delta**2).sum(dim=2)
        off = torch.ones_like(r2) - torch.eye(len(positions), dtype=r2.dtype)
        return 2.5 * torch.sum(off * torch.exp(-r2 / 0.04))


class Writes(torch.nn.Module):
    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        torch.save(positions, "canary")
        return positions.sum()


def saved(path: Path, module: torch.nn.Module) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have other formats
        torch.jit.save(torch.jit.script(module), str(path))
    return {"kind": "torchscript", "path": str(path), "trust": digest(path)}


def digest(path: Path) -> str:
    return f"sha256:{sha256(path.read_bytes()).hexdigest()}"


def load(table: dict[str, Any]) -> Any:
    return load_potential([PotentialTable.model_validate(table)])


CLUSTER = ase.Atoms("Ar4", [[0, 0, 0], [3.5, 0, 0.2], [0.1, 3.6, 0], [0, 0.3, 3.3]])


def test_energy_and_forces_are_those_of_the_module(tmp_path: Path) -> None:
    potential = load(saved(tmp_path / "springs.pt", Springs()))
    found = predictor(potential)(CLUSTER)
    positions = torch.tensor(CLUSTER.positions / 10.0, requires_grad=True)
    energy = Springs()(positions)
    (gradient,) = torch.autograd.grad(energy, positions)
    assert found.energy == pytest.approx(float(energy.detach()) * units.EV_PER_KJMOL, rel=1e-12)
    assert np.abs(found.forces + gradient.numpy() * units.EV_PER_KJMOL / 10.0).max() < 1e-12
    assert not has_stress(potential)
    assert potential.facts["parameters"] == 1
    crystal = fcc_argon(1)
    with pytest.raises(Exception, match="takes no box"):
        predictor(potential)(crystal)


def test_forces_that_a_module_returns_are_taken(tmp_path: Path) -> None:
    found = predictor(load(saved(tmp_path / "with.pt", WithForces())))(CLUSTER)
    assert np.abs(found.forces + 2 * CLUSTER.positions / 10.0 * units.EV_PER_KJMOL / 10.0).max() < 1e-15


def test_the_stress_of_a_module_with_a_box_is_the_derivative_by_a_strain(tmp_path: Path) -> None:
    potential = load(saved(tmp_path / "periodic.pt", Periodic()))
    answer, atoms, step = predictor(potential), fcc_argon(2), 1e-5
    virial = answer(atoms).virial
    for i, j in ((0, 0), (1, 2), (2, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(answer(strained).energy)
        assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(virial[i, j], abs=1e-7)


@pytest.mark.parametrize("python", [None, sys.executable])
def test_it_runs(tmp_path: Path, python: str | None) -> None:
    table = saved(tmp_path / "periodic.pt", Periodic())
    where = f', python = "{python}"' if python else ""
    text = f'{{ kind = "torchscript", path = "periodic.pt", trust = "{table["trust"]}"{where} }}'
    stages = '[[stage]]\nkind = "npt"\ntemperature = "50 K"\npressure = "1 bar"\nduration = "50 fs"\n'
    answer = mlmd("simulate", write_input(tmp_path, stages, potential=text), "--out", tmp_path / "run")
    assert answer.code == 0, answer.err


class Optional(Periodic):
    def forward(self, positions: torch.Tensor, boxvectors: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        if boxvectors is None:
            return torch.sum(positions**2)
        return torch.sum(positions**2) * torch.det(boxvectors)


class Scaled(Springs):
    def forward(self, positions: torch.Tensor, scale: float = 2.0) -> torch.Tensor:  # type: ignore[override]
        return scale * torch.sum(positions**2)


class Both(Periodic):
    def forward(self, positions: torch.Tensor, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return torch.sum(positions**2) * torch.det(box), -2.0 * positions * torch.det(box)


def test_a_box_is_given_where_the_structure_has_one_and_nowhere_else(tmp_path: Path) -> None:
    answer = predictor(load(saved(tmp_path / "optional.pt", Optional())))
    squares = float((CLUSTER.positions**2).sum()) / 100 * units.EV_PER_KJMOL
    assert answer(CLUSTER).energy == pytest.approx(squares, rel=1e-9)
    crystal = fcc_argon(1)
    squares = float((crystal.positions**2).sum()) / 100 * units.EV_PER_KJMOL
    assert answer(crystal).energy == pytest.approx(squares * crystal.get_volume() / 1000, rel=1e-9)
    crystal.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="periodic in three directions; the structure is not"):
        answer(crystal)
    scaled = predictor(load(saved(tmp_path / "scaled.pt", Scaled())))
    squares = float((CLUSTER.positions**2).sum()) / 100 * units.EV_PER_KJMOL
    assert scaled(CLUSTER).energy == pytest.approx(2 * squares, rel=1e-9)
    with pytest.raises(SimulationError, match="needs a box"):
        predictor(load(saved(tmp_path / "periodic.pt", Periodic())))(CLUSTER)


def test_the_stress_of_a_module_that_returns_forces_is_there_too(tmp_path: Path) -> None:
    crystal = fcc_argon(1)
    found = predictor(load(saved(tmp_path / "both.pt", Both())))(crystal)
    # E = Σ r² · V: its derivative by a strain is 2 Σ r ⊗ r · V + E · 1
    r, volume = crystal.positions / 10, crystal.get_volume() / 1000
    expected = (2 * r.T @ r * volume + np.eye(3) * (r**2).sum() * volume) * units.EV_PER_KJMOL
    assert np.abs(found.virial - expected).max() < 1e-9 * np.abs(expected).max()


@pytest.mark.row("R23")
def test_a_module_is_not_loaded_before_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = saved(tmp_path / "writes.pt", Writes())
    text = '{ kind = "torchscript", path = "writes.pt" }'
    stages = '[[stage]]\nkind = "nve"\nduration = "50 fs"\n'
    source = write_input(tmp_path, stages, atoms=CLUSTER, potential=text, options='velocities = "10 K"')
    answer = mlmd("simulate", source)
    assert answer.code == 6
    assert f'trust = "{table["trust"]}"' in answer.err
    assert not (tmp_path / "canary").exists()
    with pytest.raises(ModelError, match="Was it changed, or exchanged"):
        load(table | {"trust": "sha256:" + "1" * 64})


class ForFour(torch.nn.Module):
    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        if positions.size(0) != 4:
            raise ValueError("this module is for 4 atoms")
        return positions.sum()


def test_a_module_that_refuses_a_structure_is_told_in_its_words_alone(tmp_path: Path) -> None:
    potential = load(saved(tmp_path / "four.pt", ForFour()))
    with pytest.raises(SimulationError) as caught:
        predictor(potential)(CLUSTER[:3])
    assert str(caught.value) == "the potential failed (torchscript): ValueError: this module is for 4 atoms."


@pytest.mark.parametrize("command", ["check", "simulate"])
def test_a_module_for_other_atoms_is_a_mistake_of_the_input(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = saved(tmp_path / "four.pt", ForFour())
    module = f'{{ kind = "torchscript", path = "four.pt", trust = "{table["trust"]}" }}'
    stages = '[[stage]]\nkind = "nve"\nduration = "50 fs"\n'
    source = write_input(
        tmp_path, stages, atoms=CLUSTER[:3], potential=f"[{module}, {ARGON}]", options='velocities = "10 K"'
    )
    answer = mlmd(command, source)
    assert answer.code == 2, answer.err
    assert "which has 3 atoms" in answer.err and "this module is for 4 atoms" in answer.err
    assert not (tmp_path / f"{source.stem}.run").exists()


def test_a_damaged_module_is_told(tmp_path: Path) -> None:
    path = tmp_path / "springs.pt"
    saved(path, Springs())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"torchscript.*RuntimeError.*Is the file whole"):
        load({"kind": "torchscript", "path": str(path), "trust": digest(path)})
