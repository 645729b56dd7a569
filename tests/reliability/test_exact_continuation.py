"""A run that was stopped and continued is the run that was never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import assert_same_run, fcc_argon, read_log, run_in_parts, write_input

from mlmd.engine.run import simulate

NVE = '[[stage]]\nkind = "nve"\nduration = "1500 fs"'
LANGEVIN = '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "1500 fs"'
NOSE_HOOVER = (
    '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "1500 fs"\n'
    'thermostat = { kind = "nose-hoover", frequency = "5 / ps" }'
)


def npt(barostat: str, thermostat: str = "langevin") -> str:
    """A stage with both targets ramped and a move of the cell every 4 steps."""
    return (
        '[[stage]]\nkind = "npt"\ntemperature = ["40 K", "90 K"]\npressure = ["1 bar", "2 kbar"]\n'
        f'thermostat = {{ kind = "{thermostat}" }}\nbarostat = {{ kind = "{barostat}", every = 4 }}\n'
        'duration = "1500 fs"'
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
def test_a_stopped_and_continued_run_is_the_same_as_one_run(ensemble: str, platform: str, tmp_path: Path) -> None:
    # the pieces end on and off the grids of the trajectory (20), the barostat (4) and the thermometer (10)
    path = write_input(tmp_path, STAGES[ensemble])
    simulate(path, tmp_path / "one", platform=platform, threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 130, 200, 290], platform=platform, threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts")
