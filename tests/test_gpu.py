"""What is computed on a GPU is what is computed on the processor; needs an NVIDIA GPU that PyTorch sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from ase.build import bulk
from runs import ARGON, fcc_argon, read_log, run_in_parts, write_input
from test_torchscript_export import MAKES, crystal

from mlmd import models
from mlmd.engine.run import simulate
from mlmd.engine.system import choose_platform
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import evaluator, predictor
from mlmd.potentials.uncertainty import Judge

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
GPU = {"platform": "CUDA", "device": "cuda"}
PLATFORMS = [openmm.Platform.getPlatform(n).getName() for n in range(openmm.Platform.getNumPlatforms())]
needs_cuda = pytest.mark.skipif("CUDA" not in PLATFORMS, reason="OpenMM has no CUDA platform here")
NVE = 'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "1 ps"\n'
LANGEVIN = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "1 ps"\n'
NPT = '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "100 bar"\nduration = "1 ps"\n'


@pytest.mark.parametrize("name", MAKES)
def test_a_gpu_gives_the_numbers_of_the_processor(name: str) -> None:
    # the processor computes by kernels where there are some, which share nothing with PyTorch's operations
    atoms = crystal(MAKES[name](), 2)
    there, here = (
        evaluator(MAKES[name](), atoms.numbers, atoms.pbc, device=device).evaluate(atoms.positions, atoms.cell.array)
        for device in ("cuda", "cpu")
    )
    size = max(1.0, float(np.abs(here.forces).max()))
    assert there.energy == pytest.approx(here.energy, rel=1e-9, abs=1e-9)
    assert np.abs(there.forces - here.forces).max() < 1e-9 * size
    assert np.abs(there.virial - here.virial).max() < 1e-9 * max(1.0, float(np.abs(here.virial).max()))


@pytest.mark.parametrize("name", ["moments", "nep", "snap", "deeppot"])
def test_single_precision_is_that_of_the_processor(name: str) -> None:
    exact, atoms = MAKES[name](), crystal(MAKES[name](), 2)
    expected = predictor(exact)(atoms)
    found = predictor(MAKES[name]().to(torch.float32), "cuda")(atoms)  # type: ignore[attr-defined]
    assert np.abs(found.forces - expected.forces).max() < 2e-5 * max(1.0, float(np.abs(expected.forces).max()))


@needs_cuda
def test_where_there_is_a_gpu_it_is_taken_unless_kernels_are_faster() -> None:
    assert choose_device("auto") == "cuda" and choose_platform("auto", None, "cuda")[0] == "CUDA"
    assert choose_device("auto", MAKES["moments"]()) == "cpu" and choose_platform("auto", None, "cpu")[0] == "Reference"


@pytest.mark.parametrize("name", ["Cu", "committee"])
def test_what_a_potential_says_of_its_errors_does_not_depend_on_where_it_is(name: str) -> None:
    def made() -> Potential:
        return modelfile.load(models.path(name)) if name == "Cu" else MAKES[name]()

    atoms = bulk("Cu", cubic=True).repeat(2) if name == "Cu" else crystal(made(), 2)
    atoms.rattle(0.1, seed=1)
    moved = made()
    judges = [Judge(made()), Judge(moved, "cuda")]
    predictor(moved, "cuda")
    judges.append(Judge(moved))
    here, *there = (judge(atoms) for judge in judges)
    for kind in judges[0].knows:
        for one in there:
            torch.testing.assert_close(getattr(one, kind), getattr(here, kind), rtol=1e-9, atol=1e-9)


@needs_cuda
@pytest.mark.parametrize("potential", ["argon", "copper"])
def test_a_run_on_the_gpu_begins_as_that_of_the_processor(potential: str, tmp_path: Path) -> None:
    atoms, table = (fcc_argon(2), ARGON) if potential == "argon" else (bulk("Cu", cubic=True).repeat(3), '"cu"')
    path = write_input(
        tmp_path, NVE, atoms=atoms, potential=table, options='timestep = "2 fs"',
        output='log_every = "10 fs"\ntrajectory_every = "100 fs"',
    )  # fmt: skip
    here = read_log(simulate(path, tmp_path / "here", platform="Reference", device="cpu"))
    there = read_log(simulate(path, tmp_path / "there", **GPU))
    for name in ("potential energy", "kinetic energy", "temperature"):  # OpenMM integrates in mixed precision there
        np.testing.assert_allclose(there[name][:10], here[name][:10], rtol=1e-5, atol=1e-5)
    drifts = [np.ptp(log["potential energy"] + log["kinetic energy"]) for log in (there, here)]
    assert drifts[0] < 2.0 * drifts[1] + 1e-6 * len(atoms)


@needs_cuda
@pytest.mark.parametrize("stages", [NVE, LANGEVIN, NPT], ids=["nve", "langevin", "npt"])
def test_a_run_on_the_gpu_goes_on_where_it_stopped(stages: str, tmp_path: Path) -> None:
    path = write_input(tmp_path, stages)
    whole = read_log(simulate(path, tmp_path / "whole", **GPU))
    parts = read_log(run_in_parts(path, tmp_path / "parts", [50, 120], **GPU))
    assert list(parts["step"]) == list(whole["step"])
    for name in whole:  # sums are taken in another order, and trajectories part
        np.testing.assert_allclose(parts[name][:6], whole[name][:6], rtol=1e-4, atol=1e-4, err_msg=name)


@needs_cuda
def test_the_temperature_of_a_thermostat_is_kept_on_the_gpu(tmp_path: Path) -> None:
    path = write_input(tmp_path, LANGEVIN.replace("1 ps", "25 ps"), atoms=fcc_argon(3))
    log = read_log(simulate(path, tmp_path / "run", **GPU))
    temperature = log["temperature"][len(log["temperature"]) // 3 :]
    assert temperature.mean() == pytest.approx(60.0, rel=0.06)  # of 324 degrees of freedom, 8 % at a time
