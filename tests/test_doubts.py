"""Biases of a PLUMED file that would leave a wrong free energy are told of, and no others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from runs import write_input

from mlmd.bias.doubts import SHORT, of_early_ends
from mlmd.engine.run import simulate
from mlmd.io.plumed_table import read_plumed_table

STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "40 fs"\nplumed = "p.dat"\n'


def told(folder: Path, line: str, stage: str = STAGE) -> list[str]:
    """What is said of a run with a bias on a distance."""
    (folder / "p.dat").write_text(f"d: DISTANCE ATOMS=1,2\n{line}\n")
    lines: list[str] = []
    simulate(write_input(folder, stage), folder / "run", threads=1, tell=lines.append)
    return lines


@pytest.mark.parametrize(
    "line",
    [
        "OPES_METAD ARG=d BARRIER=2.5 PACE=2 SIGMA=0.05",  # 5 kT
        "OPES_METAD ARG=d BARRIER=3.5 BIASFACTOR=2 PACE=2 SIGMA=0.05",  # as if there were no factor: 4.04
        "OPES_METAD ARG=d BARRIER=5 BIASFACTOR=inf PACE=2 SIGMA=0.05",  # 4.71
        "OPES_METAD ARG=d BARRIER=5 PACE=2 SIGMA=0.05 TEMP=120",
        "OPES_METAD ARG=d BARRIER=5 PACE=2 SIGMA=0.05",  # 10 kT
        "OPES_METAD ARG=d BARRIER=2.5 PACE=2 SIGMA=0.05 KERNEL_CUTOFF=10",
        "OPES_METAD ARG=d BARRIER=5 PACE=2 SIGMA=0.05 KERNEL_CUTOFF=3",
        "OPES_METAD_EXPLORE ARG=d BARRIER=3.5 PACE=2 SIGMA=0.05",
    ],
)
def test_kernels_that_end_early_are_told_of_by_where_plumed_ends_them(line: str, tmp_path: Path) -> None:
    words = [one for one in told(tmp_path, line) if "end at" in one]
    end = read_plumed_table(next((tmp_path / "run").glob("KERNELS*"))).number("kernel_cutoff")
    assert len(words) == (end < SHORT)
    if words:
        assert f"end at {end:.3g} widths" in words[0] and "Say KERNEL_CUTOFF=10" in words[0]


def test_how_much_too_small_forces_are_is_told() -> None:
    x = np.linspace(-9.0, 9.0, 90001)
    for end in (2.0, 3.0, 3.5):
        kernel = np.where(abs(x) < end, np.exp(-0.5 * x**2), 0.0)
        lowered = np.where(abs(x) < end, kernel - math.exp(-0.5 * end**2), 0.0)
        # the density that many kernels make grows by their sum for a step to the side, Σ x g'(x) = -Σ x² g(x)
        missing = np.sum(x**2 * (kernel - lowered)) / np.sum(lowered)
        assert f"by some {100 * missing:.2g} %" in of_early_ends(end)


def test_a_bias_for_another_temperature_is_told_of(tmp_path: Path) -> None:
    hills = "METAD ARG=d HEIGHT=0.01 PACE=2 SIGMA=0.1 BIASFACTOR=5 TEMP={}"
    other, own, plain, changing = (tmp_path / name for name in ("other", "own", "plain", "changing"))
    for folder in (other, own, plain, changing):
        folder.mkdir()
    (words,) = (one for one in told(other, hills.format(300)) if "has TEMP" in one)
    assert words.startswith("p.dat: line 2: METAD has TEMP=300, and the stage 60 K")
    assert words.endswith("Leave TEMP out.")
    assert not [one for one in told(own, hills.format(60)) if "has TEMP" in one]
    untempered = hills.format(300).replace(" BIASFACTOR=5", "")  # kT does not matter for its hills
    assert not [one for one in told(plain, untempered) if "has TEMP" in one]
    ramp = STAGE.replace('"60 K"', '["60 K", "80 K"]')
    assert not [one for one in told(changing, hills.format(300), ramp) if "has TEMP" in one]
