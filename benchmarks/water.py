"""Force errors of DeepPot-SE on liquid water against the time of training, and what they are in the end.

    python benchmarks/water.py --data FOLDER                   # about 15 minutes on two free cores
    python benchmarks/water.py --data FOLDER --minutes 240     # given again, it continues where it stopped
    python benchmarks/water.py --data FOLDER --out FOLDER --processes 2 --every 60

The data are the 400 frames of 64 molecules of DeePMD-kit's example `water` (PBE0+TS; L. Zhang et al., Phys. Rev. Lett.
120, 143001, 2018). As in that example data_0, data_1 and data_2 (320 frames) are trained on and data_3 (80 frames) is
the test. What is printed on the way is of eight of its frames, and the end of all of them. Descriptor and network are
those of the example. Times are given twice, by the clock and by that of the processor, which others on the machine
do not make longer; the time of the tests is in both.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from mlmd.io.labelled import LabelledFrame
from mlmd.potentials import Potential
from mlmd.train import checkpoint
from mlmd.train.embedded_fit import EmbeddedTraining
from mlmd.train.evaluate import errors, predict
from mlmd.train.job import prepare
from mlmd.train.run import Step, train

INPUT = """data = ["{folder}/data_0.xyz.xz", "{folder}/data_1.xyz.xz", "{folder}/data_2.xyz.xz"]
test = "{folder}/data_3.xyz.xz"

[descriptor]
kind = "deeppot-se"
cutoff = "6 Å"

[fit]
kind = "network"
epochs = {epochs}
ema = 0.999

[card]
name = "water"
"""


def rmse(potential: Potential, frames: list[LabelledFrame]) -> str:
    """Of forces and energies, in words."""
    table = errors(frames, predict(potential, frames))
    energy, forces = table.row("energy").rmse, table.row("forces").rmse
    return f"forces {forces:6.1f} meV/Å, energies {energy:5.2f} meV/atom"


def epochs_in(folder: Path, data: Path, minutes: float, n_processes: int) -> int:
    """Passes over the data in so many minutes of free cores, by the processor's time for some steps."""
    source = written(folder, data, 1)
    training = EmbeddedTraining(prepare(source), n_processes)
    state = training.after(training.begin())
    begun, n_steps = time.process_time(), 10
    for _ in range(n_steps):
        state = training.after(state)
    seconds = (time.process_time() - begun) / n_steps * training.n_batches / min(n_processes, training.settings.batch)
    return max(1, math.floor(60 * minutes / seconds))


def written(folder: Path, data: Path, epochs: int) -> Path:
    """The input."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "water.toml"
    source.write_text(INPUT.format(folder=data.resolve(), epochs=epochs), encoding="utf-8")
    return source


class Watch:
    """Tells the errors of what would be kept, now and then."""

    def __init__(self, source: Path, run: Path, every: float) -> None:
        self.source, self.run, self.every, self.last = source, run, every, 0.0
        self.begun, self.used = time.monotonic(), time.process_time()

    def __call__(self, step: Step) -> None:
        """At every step of a training."""
        if step.what != "epochs" or time.monotonic() - self.last < self.every:
            return
        job = prepare(self.source)
        average = checkpoint.read_numbers(self.run, lambda arrays, _: arrays["average"], job.digest)
        if average is None:  # nothing is kept yet
            return
        network, descriptor = job.potential.regressor, job.potential.descriptor
        assert isinstance(network, torch.nn.Module) and isinstance(descriptor, torch.nn.Module)
        parameters = [*network.parameters(), *descriptor.parameters()]
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(torch.from_numpy(average.copy()), parameters)
            network.get_parameter("constants").add_(torch.from_numpy(np.asarray(job.problem.baseline)))
        said = rmse(job.potential, list(job.test[::10]))
        self.tell(f"epoch {step.done:4d} of {step.total}: {said}; loss {step.loss:.3f}")
        self.last = time.monotonic()

    def tell(self, text: str) -> None:
        """A line with the time."""
        wall, cpu = time.monotonic() - self.begun, time.process_time() - self.used
        print(f"{datetime.now():%d %H:%M} {wall / 60:7.1f} min, processor {cpu / 60:7.1f} min: {text}", flush=True)


def main() -> None:
    """Train, or continue, and tell the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("water"))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--every", type=float, default=60.0, metavar="SECONDS")
    arguments = parser.parse_args()
    folder, run = arguments.out, arguments.out / "water.run"
    torch.set_num_threads(1)
    source = folder / "water.toml"
    if not run.exists():
        epochs = epochs_in(folder, arguments.data, arguments.minutes, arguments.processes)
        source = written(folder, arguments.data, epochs)
    watch = Watch(source, run, arguments.every)
    result = train(source, run, n_processes=arguments.processes, progress=watch)
    table = json.loads((result.path / "errors.json").read_text())
    watch.tell(f"done: {result.model}; test set as a whole: {json.dumps(table['test'])[:400]}")


if __name__ == "__main__":
    main()
