"""Training of moment tensor potentials by motep and by mlmd: the same data, basis, weights and first radial functions.

    python benchmarks/trainers.py --data FOLDER                      # Cu_train.xyz.xz and Cu_test.xyz.xz in it
    python benchmarks/trainers.py --data FOLDER --element Ni --level 20 --minutes 20 --processes 2
    python benchmarks/trainers.py --data FOLDER --energy 0.2 --by mlmd   # energies count more, as in larger.py

First the linear coefficients alone, then radial functions too: mlmd by variable projection, to its end, and motep by
BFGS (scipy) from its linear solution, until so many minutes of the processor are used. Every training is a process of
its own. motep works in one process here (more need MPI), so mlmd has one too unless --processes says
otherwise. Stresses are left out. Below stand the errors of the published potential, which has level 16 for lithium, 20
for copper and nickel, 24 for silicon. Data: Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020). motep: A. Ito et al.,
https://github.com/imw-md/motep, in the extra `bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import MTP
from machine import machine

from mlmd.io.labelled import LabelledFrame, read_labelled
from mlmd.potentials import modelfile, mtp
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.evaluate import errors, predict
from mlmd.train.job import prepare
from mlmd.train.run import Step, train

SIGMA_ENERGY, SIGMA_FORCES = 1.0, 50.0
"""meV/atom and meV/Å: those that `mlmd train` takes when none are given."""
INPUT = """data = {{ path = "{data}", stress = "none" }}
test_fraction = 0.0
seed = 1
[loss]
energy = "{energy} meV"
forces = "{forces} meV/Å"
[descriptor]
kind = "mtp"
level = {level}
cutoff = "{cutoff}"
n_chebyshev = {n_chebyshev}
[fit]
radial = "{radial}"
{more}
"""
CUTOFFS = {"Li": "5.4 Å", "Si": "5.0 Å", "Cu": "4.2 Å", "Ni": "4.2 Å"}


def input_of(given: argparse.Namespace, radial: str) -> str:
    """Of `mlmd train`."""
    return INPUT.format(
        data=train_file(given), level=given.level, cutoff=CUTOFFS[given.element], radial=radial,
        energy=given.energy, forces=SIGMA_FORCES, n_chebyshev=given.n_chebyshev,
        more=f"tolerance = {given.tolerance}" if radial == "optimise" else "",
    )  # fmt: skip


class Enough(Exception):
    """The time is over."""


def by_mlmd(folder: Path, given: argparse.Namespace, radial: str) -> Callable[[], None]:
    """A training, not yet begun; its potential ends in folder/fitted.mtp."""
    (folder / "in.toml").write_text(input_of(given, radial))
    least = np.inf
    begun = time.perf_counter()

    def progress(step: Step) -> None:
        nonlocal least
        if step.loss is not None and step.loss < least:
            least = step.loss
            print(json.dumps({"seconds": time.perf_counter() - begun, "loss": least}), flush=True)

    def run() -> None:
        found = train(folder / "in.toml", folder / "run", n_processes=given.processes, progress=progress)
        fitted = modelfile.load(found.model)
        assert isinstance(fitted, LearnedPotential)
        mtp.save(fitted, folder / "fitted.mtp")

    return run


def by_motep(folder: Path, given: argparse.Namespace, radial: str) -> Callable[[], None]:
    """The same by motep, from the radial functions that mlmd begins with."""
    import motep.optimizers.lls
    import motep.optimizers.scipy
    from ase.calculators.singlepoint import SinglePointCalculator
    from motep.io.mlip.mtp import read_mtp, write_mtp
    from motep.train.trainer import Trainer

    (folder / "in.toml").write_text(input_of(given, radial))
    job = prepare(folder / "in.toml")
    mtp.save(job.potential, folder / "first.mtp")
    data = read_mtp(folder / "first.mtp")
    images = []
    for frame in job.train:
        atoms = frame.atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        images.append(atoms)
    data.species = [int(number) for number in np.unique(np.concatenate([one.numbers for one in images]))]
    clock, begun = time.perf_counter(), used()

    class Recorder:
        """In the place of motep's own callback, which logs."""

        def __init__(self, loss: Any) -> None: ...

        def __call__(self, intermediate_result: Any) -> None:
            # divided by the number of labels, as mlmd's loss is
            n_rows = len(images) + 3 * sum(map(len, images))
            loss = float(np.sqrt(intermediate_result.fun / n_rows))
            print(json.dumps({"seconds": time.perf_counter() - clock, "loss": loss}), flush=True)
            if radial == "optimise" and used() - begun > 60 * given.minutes:
                data.parameters = intermediate_result.x
                raise Enough

    motep.optimizers.lls.Callback = motep.optimizers.scipy.Callback = Recorder
    steps: list[dict[str, Any]] = [{"method": "LLS"}]
    if radial == "optimise":
        steps.append({"method": "minimize", "kwargs": {"method": "BFGS", "options": {"maxiter": 100_000}}})
    weights: dict[str, Any] = {
        "energy_weight": (1e-3 * given.energy) ** -2, "forces_weight": (1e-3 * SIGMA_FORCES) ** -2,
        "energy_per_atom": True, "forces_per_atom": False, "energy_per_conf": False, "forces_per_conf": False,
    }  # fmt: skip

    def run() -> None:
        os.chdir(folder)  # motep writes there
        with contextlib.suppress(Enough):
            Trainer(data, seed=1, loss=weights, steps=steps).train(images)
        write_mtp(folder / "fitted.mtp", data)

    return run


def train_file(given: argparse.Namespace) -> Path:
    """Of the element."""
    return Path(given.data / f"{given.element}_train.xyz.xz").resolve()


def used() -> float:
    """Seconds of the processor, of this process and those that it has ended."""
    return sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def alone(program: str, radial: str, folder: Path) -> dict[str, Any]:
    """Run this file in a process of its own; the last line that it prints, and all that were losses."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone", program, radial, str(folder)]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if answer.returncode:
        sys.exit(f"{program}, {radial}: {answer.stderr[-2000:]}")
    lines = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    return {**lines[-1], "losses": [line for line in lines if "loss" in line]}


def rmse(fitted: Path, element: str, frames: list[LabelledFrame]) -> tuple[float, float]:
    """Of energies, meV/atom, and forces, meV/Å."""
    table = errors(frames, predict(mtp.load(fitted, [element]), frames))
    energy, forces = table.row("energy").rmse, table.row("forces").rmse
    assert energy is not None and forces is not None
    return energy, forces


def main() -> None:
    """Train four times, print a table and the losses by time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of ELEMENT_train.xyz.xz, ELEMENT_test.xyz.xz")
    parser.add_argument("--element", choices=CUTOFFS, default="Cu")
    parser.add_argument("--level", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10, help="of the processor, for motep")
    parser.add_argument("--processes", type=int, default=1, help="of mlmd")
    parser.add_argument("--energy", type=float, default=SIGMA_ENERGY, help="expected error of energies, meV/atom")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of mlmd: less means more iterations")
    parser.add_argument("--n-chebyshev", type=int, default=8, help="polynomials of a radial function")
    parser.add_argument(
        "--by", nargs="+", choices=("motep", "mlmd"), default=("motep", "mlmd"), help="one of them alone"
    )
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        program, radial, folder = given.alone
        run = (by_mlmd if program == "mlmd" else by_motep)(Path(folder), given, radial)
        clock, before = time.perf_counter(), used()
        run()
        most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps({"clock": time.perf_counter() - clock, "cpu": used() - before, "GB": most / 1e6}))
        return
    test = read_labelled(given.data / f"{given.element}_test.xyz.xz")
    print(f"{machine()}; {given.element}, level {given.level}, mlmd with {given.processes} processes\n")
    print("| coefficients | by | s | s of the processor | GB | test: energy (meV/atom) | forces (meV/Å) |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    curves: dict[str, list[dict[str, float]]] = {}
    for radial, words in (("plain", "linear"), ("optimise", "all")):
        for program in given.by:
            with tempfile.TemporaryDirectory() as scratch:
                found = alone(program, radial, Path(scratch))
                energy, forces = rmse(Path(scratch) / "fitted.mtp", given.element, test)
            print(
                f"| {words} | {program} | {found['clock']:.1f} | {found['cpu']:.1f} | {found['GB']:.2f} "
                f"| {energy:.2f} | {forces:.1f} |",
                flush=True,
            )
            curves[program] = found["losses"]
    published = MTP[given.element]
    print(f"| published | | | | | {published.energy:.2f} | {1e3 * published.forces:.1f} |")
    print("\nLoss after so many seconds by the clock, all coefficients\n")
    for program, losses in curves.items():
        shown = losses[:: max(len(losses) // 12, 1)] + losses[-1:]
        print(f"{program}: " + ", ".join(f"{one['seconds']:.0f} s {one['loss']:.3f}" for one in shown))


if __name__ == "__main__":
    main()
