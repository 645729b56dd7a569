"""OpenMM-Torch's own plugin: it runs what mlmd exports, and where it was built for another PyTorch it is passed by.

python tests/pretrained/environments.py torchforce torchforce-mismatched --folder envs --with-mlmd
MLMD_TEST_ENVS=envs python -m pytest tests/pretrained/test_torchforce.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from elsewhere import python_of

STAGES = """structure = "copper.extxyz"
timestep = "2 fs"
seed = 1
velocities = "300 K"
[[stage]]
kind = "nve"
duration = "2 ps"
[output]
log_every = "20 fs"
trajectory_format = "extxyz"
trajectory_every = "100 fs"
"""


def said(python: str, folder: Path, *arguments: str) -> str:
    """What a command of mlmd prints in an environment."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-m", "mlmd", *arguments], cwd=folder, capture_output=True, text=True, check=False, env=surroundings
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_in(python: str, folder: Path, route: str) -> tuple[dict[str, str], np.ndarray, np.ndarray]:
    """What run.json says of the force, and the log and the forces (frames, atoms, 3) of 1,000 steps of copper."""
    if not (folder / "Cu.pt").exists():
        write(folder / "copper.extxyz", bulk("Cu", cubic=True).repeat(2))
        told = said(python, folder, "export", "Cu", "--to", "torchscript", "--structure", "copper.extxyz")
        table = re.findall("potential = ({.*})", told)[0].replace(" }", ', route = "ROUTE" }')
        (folder / "table").write_text(table)
    table = (folder / "table").read_text().replace("ROUTE", route)
    (folder / f"{route}.toml").write_text(f"potential = {table}\n{STAGES}")
    said(python, folder, "simulate", f"{route}.toml")
    run = folder / f"{route}.run"
    log = np.genfromtxt(run / "log.csv", delimiter=",", skip_header=1)
    forces = np.array([atoms.get_forces() for atoms in read(run / "trajectory.extxyz", ":")])
    force: dict[str, str] = json.loads((run / "run.json").read_text())["platform"]["force"]
    return force, log, forces


def test_a_thousand_steps_by_torch_force_are_those_by_python(tmp_path: Path) -> None:
    python = python_of("torchforce")
    plugin, log, forces = run_in(python, tmp_path, "torchforce")
    assert plugin["name"] == "TorchForce"
    other, expected, expected_forces = run_in(python, tmp_path, "python")
    assert other["name"] == "PythonForce"
    assert len(log) == len(expected) == 101
    np.testing.assert_allclose(log, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(forces - expected_forces).max() < 1e-5
    assert np.abs(expected_forces).max() > 0.1


def test_a_plugin_for_another_torch_is_passed_by_with_the_same_numbers(tmp_path: Path) -> None:
    python = python_of("torchforce-mismatched")
    found, log, forces = run_in(python, tmp_path, "auto")
    assert found["name"] == "PythonForce"
    assert "the plugin openmmtorch failed its self-test: " in found["why"]
    _, expected, expected_forces = run_in(python, tmp_path, "python")
    np.testing.assert_array_equal(log, expected)
    np.testing.assert_array_equal(forces, expected_forces)
    with pytest.raises(AssertionError, match="cannot be taken"):
        run_in(python, tmp_path, "torchforce")
