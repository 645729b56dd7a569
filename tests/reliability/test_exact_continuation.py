"""A run that was stopped and continued is the run that was never stopped, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import mlmd
from runs import assert_same_run, fcc_argon, primitive_argon, read_log, run_in_parts, skewed, stopping, write_input

from mlmd.engine import checkpoint
from mlmd.engine.run import simulate
from mlmd.errors import Stopped
from mlmd.potentials import POTENTIALS
from mlmd.rundir import CHECKPOINTS

NVE = '[[stage]]\nkind = "nve"\nduration = "1000 fs"'
LANGEVIN = '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "1000 fs"'
NOSE_HOOVER = (
    '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "1000 fs"\n'
    'thermostat = { kind = "nose-hoover", frequency = "5 / ps" }'
)


def npt(barostat: str, thermostat: str = "langevin") -> str:
    """A stage with both targets ramped and a move of the cell every 4 steps."""
    return (
        '[[stage]]\nkind = "npt"\ntemperature = ["40 K", "90 K"]\npressure = ["1 bar", "2 kbar"]\n'
        f'thermostat = {{ kind = "{thermostat}" }}\nbarostat = {{ kind = "{barostat}", every = 4 }}\n'
        'duration = "1000 fs"'
    )


STAGES = {
    "nve": 'velocities = "90 K"\n' + NVE,
    "langevin": LANGEVIN,
    "nose-hoover": NOSE_HOOVER,
    "npt isotropic": npt("isotropic"),
    "npt anisotropic": npt("anisotropic"),
    "npt flexible": npt("flexible"),
    "npt nose-hoover": npt("isotropic", "nose-hoover"),
}


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("ensemble", STAGES)
@pytest.mark.row("R01", "R02")
def test_a_stopped_and_continued_run_is_the_same_as_one_run(ensemble: str, platform: str, tmp_path: Path) -> None:
    # the pieces end on and off the grids of the trajectory (20), the barostat (4) and the thermometer (10)
    path = write_input(tmp_path, STAGES[ensemble])
    simulate(path, tmp_path / "one", platform=platform, threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 100, 130, 190], platform=platform, threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts")


@pytest.mark.row("R02")
def test_a_run_whose_lattice_vectors_change_places_is_continued_exactly(tmp_path: Path) -> None:
    # the angles of the cell pass through 60°, where OpenMM wants other lattice vectors for the same crystal
    path = write_input(tmp_path, npt("flexible").replace("every = 4", "every = 1"), atoms=primitive_argon())
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 100, 130, 190], threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts")
    saved, _ = checkpoint.newest(tmp_path / "parts" / CHECKPOINTS)
    assert saved is not None and saved.header["lattice"] != np.eye(3).tolist()


@pytest.mark.parametrize("ensemble", ["langevin", "npt anisotropic"])
@pytest.mark.row("R02")
def test_a_potential_that_remembers_is_continued_with_its_memory(
    ensemble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POTENTIALS, "remembering", "trap:Remembering")
    path = write_input(tmp_path, STAGES[ensemble], potential='{ kind = "remembering", stiffness = 0.001 }')
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 100, 130, 190], threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts")


@pytest.mark.parametrize("kind", ["dcd", "xtc", "extxyz"])
@pytest.mark.row("R02")
def test_every_stage_and_format_of_a_longer_course_is_continued_exactly(kind: str, tmp_path: Path) -> None:
    # minimization, then three ensembles: stopped in each of them and at the last step of one
    stages = "\n".join(
        [
            '[[stage]]\nkind = "minimize"\nmax_force = "0.01 eV/Å"',
            STAGES["langevin"].replace("1000 fs", "300 fs"),
            npt("anisotropic").replace("1000 fs", "300 fs"),
            NVE.replace("1000 fs", "300 fs"),
        ]
    )
    atoms, _ = skewed(fcc_argon(2))
    output = f'log_every = "50 fs"\ntrajectory_every = "100 fs"\ntrajectory_format = "{kind}"'
    path = write_input(tmp_path, stages, atoms=atoms, output=output)
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [30, 90, 110, 150], threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts")


@pytest.mark.row("R27")
def test_on_another_platform_a_run_goes_on_with_the_same_state_and_says_so(tmp_path: Path) -> None:
    path, out = write_input(tmp_path, STAGES["npt isotropic"]), tmp_path / "run"
    with pytest.raises(Stopped):
        simulate(path, out, platform="Reference", threads=1, progress=stopping(out, 100))
    simulate(path, out, platform="CPU", threads=1)
    messages = (out / "messages.log").read_text()
    assert "continues statistically, not bit for bit: platform: Reference before, CPU now" in messages
    log = read_log(out)
    assert np.array_equal(log["step"], np.arange(0, 201, 10))
    assert abs(np.diff(log["energy per atom"])).max() < 0.002  # no jump where the platform changed


@pytest.mark.row("R01")
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_run_continued_by_another_process_is_the_same(
    platform: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = 'velocities = "90 K"\n[[stage]]\nkind = "nve"\nduration = "{} fs"'
    errors = tmp_path / "errors"
    # 400 steps, then 600 more
    for name, durations in (("one", (5000,)), ("parts", (2000, 5000))):
        for duration in durations:
            path = write_input(tmp_path, stage.format(duration))
            arguments = ["simulate", path, "--out", tmp_path / name, "--platform", platform, "--threads", 1]
            assert mlmd(arguments, errors) == 0, errors.read_text()
    assert_same_run(tmp_path / "one", tmp_path / "parts")
    record_property(f"largest difference ({platform})", 0)
