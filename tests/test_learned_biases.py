"""Biases that PLUMED learns from the run itself, by scripts of users: experiment-directed and variational ones."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from runs import write_input

from mlmd.engine.run import simulate

PARTICLE = ase.Atoms("Ar", [[-2.0, 0.0, 0.0]])
STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "{}"\nplumed = "bias.dat"\n'
TUBE = "p: POSITION ATOM=1 NOPBC\ntube: CUSTOM ARG=p.y,p.z VAR=y,z FUNC=2000*(y^2+z^2) PERIODIC=NO\n"
KT = 2.494
"""kJ/mol at 300 K."""


def run(folder: Path, script: str, duration: str) -> Path:
    """A particle whose only forces are those of a script."""
    path = write_input(
        folder, STAGE.format(duration), atoms=PARTICLE, options="remove_com_motion = false",
        output='log_every = "10 ps"\n[guard]\nmax_temperature = "off"',
    )  # fmt: skip
    (folder / "bias.dat").write_text(TUBE + script)
    simulate(path, folder / "run", threads=1)
    return folder / "run"


@pytest.mark.slow
def test_a_bias_directed_by_an_experiment_moves_a_mean_to_it(tmp_path: Path) -> None:
    """EDS (White and Voth, J. Chem. Theory Comput. 10, 3023 (2014)): of a spring at 0 the mean becomes 0.1 nm."""
    folder = run(
        tmp_path,
        "spring: CUSTOM ARG=p.x FUNC=200*x^2 PERIODIC=NO\nfield: BIASVALUE ARG=spring,tube\n"
        "eds: EDS ARG=p.x CENTER=0.1 PERIOD=200 RANGE=50 TEMP=300 OUT_RESTART=eds.dat\n"
        "PRINT ARG=p.x STRIDE=10 FILE=COLVAR\n",
        "100 ps",
    )
    x = np.loadtxt(folder / "COLVAR")[:, 1]
    width = (KT / 400.0) ** 0.5  # of the spring: the mean was 0.1 / width = 1.3 of it away
    assert abs(x[len(x) // 2 :].mean() - 0.1) < 0.5 * width
    assert (folder / "eds.dat").is_file()


@pytest.mark.slow
def test_a_variational_bias_learns_a_barrier(tmp_path: Path) -> None:
    """VES (Valsson and Parrinello, Phys. Rev. Lett. 113, 090601 (2014)) of a double well with 16 kJ/mol between."""
    folder = run(
        tmp_path,
        "well: CUSTOM ARG=p.x FUNC=16*((x/0.2)^2-1)^2 PERIODIC=NO\nfield: BIASVALUE ARG=well,tube\n"
        "basis: BF_CHEBYSHEV ORDER=8 MINIMUM=-0.4 MAXIMUM=0.4\nflat: TD_UNIFORM\n"
        "ves: VES_LINEAR_EXPANSION ARG=p.x BASIS_FUNCTIONS=basis TEMP=300 GRID_BINS=100 TARGET_DISTRIBUTION=flat\n"
        "learn: OPT_AVERAGED_SGD BIAS=ves STRIDE=200 STEPSIZE=1.0 FES_OUTPUT=200 COEFFS_OUTPUT=200\n",
        "200 ps",
    )
    x, free_energy = np.loadtxt(folder / "fes.ves.iter-200.data")[:, :2].T
    assert free_energy[np.abs(x) < 0.01].mean() - free_energy.min() == pytest.approx(16.0, abs=KT)
