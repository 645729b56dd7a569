"""From a calculator to a potential of one's own: sample structures, label them, train, test, run.

python examples/05_train_a_potential.py [--out FOLDER]

A rough potential (Morse) samples copper and ASE's effective medium theory labels; any ASE calculator, of DFT too,
could. On the command line the steps are mlmd simulate, sample, label, train, evaluate and simulate.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ase.build import bulk

from mlmd.engine.run import simulate
from mlmd.io.labelled import read_labelled
from mlmd.io.log import read_log
from mlmd.potentials import modelfile
from mlmd.rundir import Run
from mlmd.sample.decorrelate import sample, write_sample
from mlmd.sample.label import label
from mlmd.sample.method import CalculatorMethod
from mlmd.train.evaluate import errors, predict
from mlmd.train.run import train

ROUGH = '{ kind = "morse", cutoff = "5 Å", depth = "0.343 eV", width = "0.736 Å", r0 = "2.866 Å" }'
RUN = """
structure = "copper.extxyz"
timestep = "3 fs"
seed = 1
output = {{ trajectory_every = "15 fs", log_every = "15 fs" }}
potential = {potential}
velocities = "{start} K"
stage = [{{ duration = "1.5 ps", {stage} }}]
"""
TRAINING = """
data = "labelled.extxyz"
test_fraction = 0.25
descriptor = {{ level = 8, cutoff = "5 Å" }}
fit = {{ max_iterations = {iterations} }}
"""


def run(folder: Path, name: str, potential: str, stage: str, temperature: float) -> Run:
    """1.5 ps of a small crystal."""
    path = folder / f"{name}.toml"
    path.write_text(RUN.format(potential=potential, stage=stage, start=2 * temperature), encoding="utf-8")
    return simulate(path, folder / f"{name}.run")


def main() -> None:
    """All steps, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for all files; by default they are thrown away")
    parser.add_argument("--short", action="store_true", help="stop training early")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        bulk("Cu", cubic=True, a=3.62).repeat(2).write(folder / "copper.extxyz")
        runs = [run(folder, f"at_{t}", ROUGH, f'kind = "nvt", temperature = "{t} K"', t).path for t in (300, 900)]
        write_sample(folder / "frames.extxyz", sample(runs, n=60, interval=30.0, first_time=500.0, strain=0.02))
        emt = CalculatorMethod("ase.calculators.emt:EMT")
        labelled = label([folder / "frames.extxyz"], folder / "labelled.extxyz", emt).path
        (folder / "fitted.toml").write_text(TRAINING.format(iterations=5 if options.short else 20), encoding="utf-8")
        training = train(folder / "fitted.toml", folder / "fitted.run", n_processes=1)
        print(f"Structures that were kept for the test:\n{training.errors['test'].text()}")
        potential, frames = modelfile.load(training.model), read_labelled(labelled)
        forces = errors(frames, predict(potential, frames)).row("forces")  # as `mlmd evaluate` does
        print(f"all {len(frames)} structures: forces within {forces.rmse:.1f} meV/Å")
        log = read_log(run(folder, "nve", f'"{training.model.absolute()}"', 'kind = "nve"', 600).log)
        energies = (log["potential energy [eV]"] + log["kinetic energy [eV]"]) / 32
        print(f"the energy at constant energy scatters by {1e3 * energies.std():.3f} meV/atom")


if __name__ == "__main__":
    main()
