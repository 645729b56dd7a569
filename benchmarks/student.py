"""A fast potential beside the slow one that it learned from: diffusion, errors on frames it never saw, speed.

    python benchmarks/student.py [--student Li3YCl6] --teacher fitted.mtp:Li,Y,Cl
        [--test test.extxyz] [--temperature 800] [--duration "200 ps"] [--runs 2] [--out FOLDER]

Both run inputs/li3ycl6.cif (120 atoms, constant volume) from the same starts; the runs differ in their seeds and
their D are independent. The mean of the runs has the error that the runs report or the one that their scatter shows,
whichever is larger. Run folders in --out are kept, and the same command continues them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from properties import load

from mlmd.analysis.diffusion import diffusion
from mlmd.analysis.estimate import Estimate
from mlmd.engine.run import simulate
from mlmd.io.labelled import read_labelled
from mlmd.io.structures import read_structure
from mlmd.io.trajectories import open_run
from mlmd.potentials import Potential
from mlmd.potentials.evaluate import evaluator
from mlmd.train.evaluate import errors, predict
from mlmd.units import parse

CRYSTAL = Path(__file__).parents[1] / "inputs" / "li3ycl6.cif"
N_TIMED = 50
"""Evaluations from which a time is taken: the shortest, on machines that do other things meanwhile."""


def diffusion_of_lithium(says: str, temperature: float, duration: float, seed: int, folder: Path) -> Estimate:
    """D of one run (cm²/s), its framework at rest; `says` is the potential as an input file has it, times in ps."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "input.toml"
    path.write_text(
        f"""
structure = "{CRYSTAL}"
supercell = [2, 1, 2]
potential = {says}
timestep = "2 fs"
velocities = "{2 * temperature} K"
seed = {seed}
[[stage]]
kind = "nvt"
temperature = "{temperature} K"
duration = "10 ps"
[[stage]]
kind = "nvt"
temperature = "{temperature} K"
thermostat = {{ kind = "nose-hoover", frequency = "10 / ps" }}
duration = "{duration} ps"
[output]
trajectory_every = "100 fs"
log_every = "100 fs"
"""
    )
    run = simulate(path, folder / "run")
    return diffusion(open_run(run), elements=["Li"], drift=["Y", "Cl"]).species[0].coefficient


def pooled(runs: list[Estimate]) -> Estimate:
    """The mean of independent runs."""
    determined = [one for one in runs if one.determined]
    if not determined:
        return runs[0]
    values, own = (np.array([getattr(one, name) for one in determined]) for name in ("value", "error"))
    n = len(determined)
    scatter = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    error = max(float(np.sqrt((own**2).sum()) / n), scatter)
    return Estimate(float(values.mean()), error, determined[0].unit, sum(one.n_independent for one in determined))


def microseconds(potentials: list[Potential]) -> list[float]:
    """Time of one evaluation of energy, forces and virial per atom, of 480 atoms that move a little.

    The potentials take turns, so that what else the machine does concerns all of them.
    """
    atoms = read_structure(CRYSTAL, (2, 2, 4))
    ready = [evaluator(potential, atoms.numbers, atoms.pbc) for potential in potentials]
    rng, shortest = np.random.default_rng(1), [np.inf] * len(ready)
    for _ in range(N_TIMED):
        positions = atoms.positions + rng.normal(scale=0.02, size=atoms.positions.shape)
        for number, one in enumerate(ready):
            start = time.perf_counter()
            one.evaluate(positions, atoms.cell.array)
            shortest[number] = min(shortest[number], time.perf_counter() - start)
    return [1e6 * seconds / len(atoms) for seconds in shortest]


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="Li3YCl6", help="a name that comes with mlmd, or a file")
    parser.add_argument("--teacher", required=True, help="file.mtp:Li,Y,Cl, or a file")
    parser.add_argument("--test", type=Path, help="frames that the teacher labelled and the student never saw")
    parser.add_argument("--temperature", type=float, default=800.0, help="K")
    parser.add_argument("--duration", default="200 ps", help="of each run; 0 leaves them out")
    parser.add_argument("--runs", type=int, default=2, help="runs of each potential")
    parser.add_argument("--out", type=Path, help="folder for the runs")
    options = parser.parse_args()
    potentials = {"student": load(options.student), "teacher": load(options.teacher)}

    if options.test is not None:
        frames = read_labelled(options.test)
        table = errors(frames, predict(potentials["student"][0], frames))
        print(f"student on {len(frames)} frames of the teacher that it never saw\n{table.text()}\n")

    times = dict(zip(potentials, microseconds([potential for potential, _ in potentials.values()]), strict=True))
    print(*(f"{name}: {value:.1f} µs/atom/step" for name, value in times.items()), sep="\n")
    print(f"the student is {times['teacher'] / times['student']:.2f} times as fast\n")

    if duration := parse(options.duration, "time") / 1e3:
        with tempfile.TemporaryDirectory() as scratch:
            compare_diffusion(potentials, options.temperature, duration, options.runs, options.out or Path(scratch))


def compare_diffusion(
    potentials: dict[str, tuple[Potential, str]], temperature: float, duration: float, n_runs: int, folder: Path
) -> None:
    """Print D of lithium of every run, the means, and by how many standard errors they differ."""
    means = {}
    for name, (_, says) in potentials.items():
        runs = []
        for seed in range(1, n_runs + 1):
            runs.append(diffusion_of_lithium(says, temperature, duration, seed, folder / f"{name}_{seed}"))
            print(f"D(Li, {temperature:g} K) of the {name}, run {seed}: {runs[-1]}", flush=True)
        means[name] = pooled(runs)
        print(f"D(Li, {temperature:g} K) of the {name}: {means[name]}")
    student, teacher = means["student"], means["teacher"]
    if student.determined and teacher.determined:
        ratio, sigmas = student.value / teacher.value, abs(student.value - teacher.value)
        sigmas /= np.hypot(student.error, teacher.error)
        error = ratio * np.hypot(student.error / student.value, teacher.error / teacher.value)
        print(f"student / teacher = {ratio:.2f} ± {error:.2f}; they differ by {sigmas:.1f} standard errors")


if __name__ == "__main__":
    main()
