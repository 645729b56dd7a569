"""Kernels that the timestep cannot follow are told of, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from runs import write_input

from mlmd import units
from mlmd.bias.plumed import check
from mlmd.bias.stiffness import MOST, stiff_kernels
from mlmd.engine.run import simulate

MASSES = np.array([12.0, 16.0, 40.0])
POSITIONS = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [1.5, 2.0, 0.0]])


def told(folder: Path, text: str, timestep: float, **options: Any) -> list[str]:
    """What is said of a script that acts on three atoms."""
    (folder / "p.dat").write_text(text)
    script = check(folder / "p.dat", masses=MASSES)
    given = {"inverse_masses": 1.0 / MASSES, "temperature": 300.0} | options
    return list(stiff_kernels(script, positions=POSITIONS, cell=np.zeros((3, 3)), timestep=timestep, **given))


def longest(height: float, width: float, mass: float) -> float:
    """fs: the longest step that is not told of, of an oscillator with the spring h (kJ/mol) / σ² (Å² or rad²)."""
    spring = height * units.EV_PER_KJMOL / width**2
    return MOST * float(np.sqrt(mass * units.KINETIC / spring))


@pytest.mark.parametrize(
    ("line", "height", "width"),
    [
        ("OPES_METAD ARG=d BARRIER=20 PACE=10 SIGMA=0.005", 20.0, 0.05),
        ("METAD ARG=d HEIGHT=5 PACE=10 SIGMA=0.002", 5.0, 0.02),
    ],
)
def test_a_distance_has_the_reduced_mass_of_its_atoms(tmp_path: Path, line: str, height: float, width: float) -> None:
    limit = longest(height, width, 1.0 / (1.0 / 12.0 + 1.0 / 16.0))
    text = f"d: DISTANCE ATOMS=1,2\nw: UPPER_WALLS ARG=d AT=0.1 KAPPA=500\n{line}\nPRINT ARG=d FILE=C\n"
    assert not told(tmp_path, text, 0.99 * limit)
    (words,) = told(tmp_path, text, 1.01 * limit)
    assert "too stiff for the timestep" in words and " d would swing" in words


def test_two_variables_that_are_the_same_are_stiffer_together(tmp_path: Path) -> None:
    limit = longest(20.0, 0.05, 1.0 / (1.0 / 12.0 + 1.0 / 16.0)) / np.sqrt(2.0)
    text = "d: DISTANCE ATOMS=1,2\ne: CUSTOM ARG=d FUNC=x PERIODIC=NO\n"
    text += "OPES_METAD ARG=d,e BARRIER=20 PACE=10 SIGMA=0.005,0.005\n"
    assert not told(tmp_path, text, 0.99 * limit)
    assert told(tmp_path, text, 1.01 * limit)


def test_an_angle_moves_on_its_arms_and_held_atoms_do_not(tmp_path: Path) -> None:
    # atoms 1 and 3 turn around atom 2, which is held: 1/m = 1 / (12 · 1.5²) + 1 / (40 · 2²)
    limit = longest(20.0, 0.05, 1.0 / (1.0 / (12.0 * 1.5**2) + 1.0 / (40.0 * 2.0**2)))
    held = np.array([1.0 / 12.0, 0.0, 1.0 / 40.0])
    text = "a: ANGLE ATOMS=1,2,3\nOPES_METAD ARG=a BARRIER=20 PACE=10 SIGMA=0.05\n"
    assert not told(tmp_path, text, 0.99 * limit, inverse_masses=held)
    assert told(tmp_path, text, 1.01 * limit, inverse_masses=held)


def test_widths_that_are_not_known_before_are_not_judged(tmp_path: Path) -> None:
    assert not told(tmp_path, "d: DISTANCE ATOMS=1,2\nOPES_METAD ARG=d BARRIER=100 PACE=10\n", 1000.0)


def test_a_run_is_warned_of_its_kernels_once(tmp_path: Path) -> None:
    cv = '{ kind = "distance", atoms = [0, 1] }'
    bias = f'bias = {{ kind = "opes", cv = {cv}, barrier = "15 kJ/mol", width = "0.02 Å", every = "1 ps" }}\n'
    stage = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "50 fs"\n'
    lines: list[str] = []
    simulate(write_input(tmp_path, stage + bias), tmp_path / "run", threads=1, tell=lines.append)
    (line,) = (line for line in lines if "too stiff for the timestep" in line)
    assert "OPES_METAD" in line and "times wider" in line


@pytest.mark.parametrize(("width", "n_told"), [("0.08 Å", 1), ("0.3 Å", 0)])
def test_kernels_that_heat_are_told_of_by_the_mean_temperature(width: str, n_told: int, tmp_path: Path) -> None:
    """Each deposit lifts the particle: by much, where narrow kernels lie side by side."""
    cv = ", ".join(f'{{ kind = "position", atom = 0, axis = "{axis}" }}' for axis in "xy")
    widths = f'width = ["{width}", "{width}"], every = "400 fs"'
    bias = f'bias = {{ kind = "opes", cv = [{cv}], barrier = "12 kJ/mol", {widths} }}\n'
    bath = 'thermostat = { kind = "langevin", friction = "2 / ps" }\n'
    stage = f'[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "150 ps"\nplumed = "field.dat"\n{bath}'
    path = write_input(
        tmp_path, stage + bias, atoms=ase.Atoms("Ar", [[-1.0, 0.0, 0.0]]),
        options='timestep = "10 fs"\nremove_com_motion = false\n',
        output='log_every = "100 fs"\n[guard]\nmax_temperature = "off"',
    )  # fmt: skip
    field = "FUNC=8*(100*x^2-1)^2+1500*(y-0.5*x)^2+2000*z^2"
    (tmp_path / "field.dat").write_text(
        f"p: POSITION ATOM=1 NOPBC\nu: CUSTOM ARG=p.x,p.y,p.z VAR=x,y,z {field} PERIODIC=NO\nfield: BIASVALUE ARG=u\n"
    )
    lines: list[str] = []
    simulate(path, tmp_path / "run", threads=1, tell=lines.append)
    assert sum("the mean temperature since" in line for line in lines) == n_told
