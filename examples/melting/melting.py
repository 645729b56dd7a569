"""Where copper melts: a crystal beside its melt at constant energy, its temperature, and its interfaces.

    python examples/melting/melting.py [--time 100]

Runs melt.toml and coexistence.toml beside this file with the potential that comes with mlmd, about ten minutes of two
cores, and draws melting.png. What is done is not done again: the same command continues.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from mlmd.analysis import FOLDER, write
from mlmd.analysis.blocks import N_BLOCKS, mean_and_error
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.figures import color, label, new_figure, save
from mlmd.analysis.profile import ProfileResult, profile
from mlmd.engine.run import simulate
from mlmd.io.log import read_log
from mlmd.io.trajectories import open_run
from mlmd.rundir import Run

HERE = Path(__file__).parent
LATE = 0.5
"""Part of the time at constant energy that is left out: both halves have come to one temperature by then."""

LAYER = 1.86
"""Å between the planes of the hot crystal: a bin for each, so that the profile shows phases and not planes."""


def coexist(folder: Path, picoseconds: float) -> Run:
    """Melt one half, then leave both alone, or go on where that was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE.parents[1] / "inputs" / "copper.extxyz", folder)
    melt = (HERE / "melt.toml").read_text(encoding="utf-8").replace("../../inputs/", "")
    (folder / "melt.toml").write_text(melt, encoding="utf-8")
    simulate(folder / "melt.toml", folder / "melt.run")
    both = (HERE / "coexistence.toml").read_text(encoding="utf-8").replace('"100 ps"', f'"{picoseconds:g} ps"')
    (folder / "coexistence.toml").write_text(both, encoding="utf-8")
    return simulate(folder / "coexistence.toml", folder / "coexistence.run")


def late_mean(log: dict[str, np.ndarray], name: str, unit: str) -> Estimate:
    """Mean of a column over the late part of the last stage, with the error of its blocks."""
    values = log[f"{name} [{unit}]"][log["stage"] == log["stage"].max()]
    blocks = np.array_split(values[int(LATE * len(values)) :], N_BLOCKS)
    mean, error = mean_and_error(np.array([one.mean() for one in blocks]))
    return Estimate(float(mean), float(error), unit, N_BLOCKS)


def picture(log: dict[str, np.ndarray], result: ProfileResult, path: Path) -> None:
    """Temperature against time, and both phases along z."""
    figure, (time, order, density) = new_figure(1, 3, width=12.0, height=3.6)
    last = log["stage"] == log["stage"].max()
    time.plot(log["time [ps]"][last], log["temperature [K]"][last], color=color(0), linewidth=0.8)
    label(time, "time (ps)", "temperature (K)")
    curves = {one.name: one for one in result.curves}
    order.plot(result.heights, curves["order"].values, color=color(1))
    label(order, "z (Å)", "atoms in a lattice")
    density.plot(result.heights, curves["mass"].values, color=color(2))
    label(density, "z (Å)", f"density ({curves['mass'].unit})")
    save(figure, path)


def main() -> None:
    """Run, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=100.0, help="at constant energy, ps")
    parser.add_argument("--out", type=Path, default=Path("melting"))
    options = parser.parse_args()
    run = coexist(options.out, options.time)
    log = read_log(run.log)
    print(f"temperature {late_mean(log, 'temperature', 'K')} at {late_mean(log, 'pressure', 'bar')}")
    begin = log["time [ps]"][-1] - (1.0 - LATE) * options.time
    result = profile(open_run(run, first_time=1000.0 * begin), order=True, bin_width=LAYER, max_frames=100)
    print(result)
    write(result, run.path / FOLDER)
    picture(log, result, options.out / "melting.png")


if __name__ == "__main__":
    main()
