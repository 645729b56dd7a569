"""A number that is not finite ends the run in the step where it appears, and reaches no file that counts."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from runs import assert_same_run, read_log, write_input
from trap import Breaking, Trap

from mlmd.engine import checkpoint
from mlmd.engine.run import simulate
from mlmd.errors import SimulationError
from mlmd.potentials import POTENTIALS
from mlmd.rundir import CHECKPOINTS, open_run

STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "100 K"\nduration = "6000 fs"'
GAS = ase.Atoms("Ar4", [[-2, 0, 0], [2, 0, 0], [0, 2.5, 0], [0, 0, 3]])


@pytest.fixture(autouse=True)
def _traps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")
    monkeypatch.setitem(POTENTIALS, "breaking", "trap:Breaking")


def breaking(folder: Path, at: int, *, energy: str = "0", force: str = "0") -> Path:
    potential = f'{{ kind = "breaking", at = {at}, energy = "{energy}", force = "{force}" }}'
    return write_input(folder, STAGE, atoms=GAS, potential=potential, options="remove_com_motion = false")


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("step", [0, 1, 17, 1000])
@pytest.mark.parametrize("bad", [{"force": "nan"}, {"force": "inf"}, {"energy": "nan"}, {"energy": "-inf"}], ids=str)
@pytest.mark.row("R15")
def test_a_run_ends_in_the_step_of_a_non_finite_number(
    bad: dict[str, str], step: int, platform: str, tmp_path: Path
) -> None:
    path, out = breaking(tmp_path, step, **bad), tmp_path / "run"
    answer = mlmd("simulate", path, "--out", out, "--platform", platform)

    assert answer.code == 3
    assert f"at step {step:,} ({0.005 * step:g} ps)" in answer.err and "non-finite" in answer.err
    assert ("atom 2" in answer.err) == ("force" in bad)
    run = open_run(out)
    assert run.manifest["state"] == "failed"

    *good, last = ase.io.read(out / "crash" / "last.extxyz", index=":")
    assert last.info["step"] == step
    assert [frame.info["step"] for frame in good] == ([step - 1] if step else [])
    assert all(np.isfinite(frame.get_forces()).all() for frame in good)
    assert np.isfinite(last.get_forces()).all() == ("energy" in bad)

    log = read_log(run) if step else {"step": np.zeros(0), "potential energy": np.zeros(0)}
    assert np.array_equal(log["step"], np.arange(0, step, 10))
    assert np.isfinite(log["potential energy"]).all()
    frames = (run.trajectory.stat().st_size - 196) // (8 + 48 + 3 * (8 + 4 * 4))
    assert frames == (step + 19) // 20
    saved, problems = checkpoint.newest(out / CHECKPOINTS)
    assert not problems and (saved is None) == (step == 0)


@pytest.mark.row("R15")
def test_a_failure_that_passes_leaves_no_trace_in_the_continued_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = breaking(tmp_path, 617, force="nan")
    with pytest.raises(SimulationError):
        simulate(path, tmp_path / "failed")
    monkeypatch.setattr(Breaking, "evaluate", Trap.evaluate)  # as when a graphics card has been replaced
    simulate(path, tmp_path / "failed")
    simulate(path, tmp_path / "one")
    assert_same_run(tmp_path / "one", tmp_path / "failed")


@pytest.mark.row("R16")
def test_a_force_above_the_limit_of_the_guard_names_its_atom(tmp_path: Path) -> None:
    answer = mlmd("simulate", breaking(tmp_path, 17, force="101"), "--out", tmp_path / "run")
    assert answer.code == 3
    assert "at step 17" in answer.err and "atom 2" in answer.err and "max_force = 100 eV/Å" in answer.err


@pytest.mark.row("R16")
def test_many_small_forces_are_not_one_large_one(tmp_path: Path) -> None:
    # 1,000 atoms with up to 8 eV/Å each: together above the limit of 100 eV/Å, none of them alone
    atoms = ase.Atoms("Ar1000", 5.0 * np.array(list(np.ndindex(10, 10, 10))))
    path = write_input(
        tmp_path, STAGE.replace("6000 fs", "10 fs"), atoms=atoms, potential='{ kind = "trap", stiffness = 0.1 }',
        options="remove_com_motion = false",
    )  # fmt: skip
    assert mlmd("simulate", path, "--out", tmp_path / "run").code == 0
