"""Many runs by one command, of which one is killed and one finds its disk full: nothing is lost, and all are used."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import mlmd
from faults import FULL, KILL
from runs import assert_same_run

from mlmd.engine import replicas
from mlmd.engine.run import simulate
from mlmd.engine.run_process import simulation
from mlmd.engine.status import status

STRUCTURE = Path(__file__).parents[2] / "inputs" / "li3ycl6.cif"
WITH_FAULT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from faults import Fault, install
kind, at, folder = (sys.argv.pop(1) for _ in range(3))
from mlmd.cli import main
install(Fault(kind, int(at), folder))
main()
"""
PLANTED = {"900K-2": (KILL, 60), "1150K": (FULL, 40)}
"""What happens at which change to the folders of some runs, the first time that they run."""
TEMPERATURES = tuple(range(750, 1350, 50))


@pytest.mark.slow
@pytest.mark.row("R03")
def test_with_two_planted_failures_all_of_24_runs_are_complete_and_give_an_activation_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 temperatures and 2 seeds of the conductor that comes with mlmd."""
    path, out, left, said = tmp_path / "in.toml", tmp_path / "all", dict(PLANTED), []
    path.write_text(
        f"""structure = "{STRUCTURE}"
potential = "Li3YCl6"
timestep = "2 fs"
seed = 3

[replicas]
temperatures = {[f"{kelvin} K" for kelvin in TEMPERATURES]}
seeds = 2

[[stage]]
kind = "nvt"
temperature = "replica"
duration = "6 ps"

[output]
log_every = "40 fs"
trajectory_every = "40 fs"
checkpoint_every = "0.2 s"
"""
    )

    def planted(folder: Path, flags: Sequence[str]) -> list[str]:
        words = simulation(folder, flags)
        if folder.name not in left:
            return words
        kind, at = left.pop(folder.name)
        return [sys.executable, "-c", WITH_FAULT, str(Path(__file__).parent), kind, str(at), str(folder), *words[3:]]

    monkeypatch.setattr(replicas, "simulation", planted)
    replicas.simulate_replicas(path, out, n_processes=2, threads=1, tell=said.append)
    assert not left
    for name, why in {"900K-2": "ended by SIGKILL", "1150K": "No space left on device"}.items():
        (told,) = (line for line in said if line.startswith(f"{name}: failed and is tried once more"))
        assert why in told
    states = {one.name: one.state for one in status(out)}
    assert states == {f"{kelvin}K{seed}": "done" for kelvin in TEMPERATURES for seed in ("", "-2")}
    for name in PLANTED:
        simulate(out / name / "input.toml", tmp_path / name, threads=1)
        assert_same_run(out / name, tmp_path / name)

    answer = mlmd("analyze", "arrhenius", out, "--element", "Li", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["quantities"]["D(Li)"]
    used = [point["run"] for point in (*found["points"], *found["left_out"])]
    assert sorted(used) == sorted(str(out / name) for name in states)
    energy = found["laws"]["one line"]["parameters"]["E"]
    assert energy["value"] > 2 * energy["error"]
