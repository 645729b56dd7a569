"""kinisi's 95 % intervals for the slope of the MSD of trajectories that `diffusion_calibration.py` has made.

    ENVIRONMENT/bin/python benchmarks/diffusion_in_kinisi.py paths.npz

`paths` (n, n_frames, n_ions, 3) Å, `starts` (n,) frames, of an environment that has kinisi 2. Prints JSON: pairs of
bounds in Å² per frame, kinisi's posterior from 2.5 to 97.5 %.
"""

import json
import sys

import numpy as np
import scipp as sc
from kinisi.diffusion import Diffusion
from kinisi.displacement import calculate_msd
from kinisi.parser import Parser

CELL = 1e4
"""Å: so large that nothing is wrapped."""
N_LAGS = 100


def interval(path: np.ndarray, start: int) -> tuple[float, float]:
    """Bounds of the slope of one trajectory."""
    n_frames, n_ions = path.shape[:2]
    coordinates = sc.array(dims=["time", "particle", "dimension"], values=path / CELL + 0.5)
    box = np.broadcast_to(np.eye(3) * CELL, (n_frames, 3, 3)).copy()
    lattice = sc.array(dims=["time", "row", "column"], values=box, unit="angstrom")
    lags = np.unique(np.linspace(start, n_frames // 2, N_LAGS).astype(int)).astype(float)
    parser = Parser(
        coordinates, lattice, time_step=1.0 * sc.Unit("fs"), step_skip=1 * sc.units.dimensionless,
        dt=sc.array(dims=["time interval"], values=lags, unit="fs"),
        specie_indices=sc.array(dims=["particle"], values=np.arange(n_ions)),
        drift_indices=sc.array(dims=["particle"], values=np.arange(0)),
    )  # fmt: skip
    line = Diffusion(calculate_msd(parser, progress=False))
    line.bayesian_regression(start_dt=float(start) * sc.Unit("fs"), progress=False)
    low, high = np.percentile(line.gradient.values, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    with np.load(sys.argv[1]) as data:
        print(
            json.dumps([interval(path, int(start)) for path, start in zip(data["paths"], data["starts"], strict=True)])
        )
