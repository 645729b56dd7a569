"""Three ways to train the same network: loss of structures that are kept apart after so many seconds of one core.

    python benchmarks/network_optimisers.py --data Li_train.xyz.xz [--seconds 120] [--frames 241]

Symmetry functions and a network of two layers of 20 neurons, from the same random weights. A tenth of the structures is
kept apart; the loss is the root mean square of their residuals in units of sigma (1 meV/atom, 50 meV/Å, 1 kbar), the
lowest so far. Seconds are those of the processor, so that other work on the machine counts less; schedules of AdamW and
of the Kalman filter end when the time is up.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import machine

from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.potentials.threads import undivided
from mlmd.train.job import prepare
from mlmd.train.network_fit import Training

SHOWN = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Parts of the time."""
LONG = 100_000
"""Epochs that are never reached."""


def losses(source: Path, seconds: float) -> tuple[list[tuple[float, float]], int]:
    """(seconds, loss) after every epoch that fits into the time, and how many there were."""
    job = prepare(source)
    training = Training(job, n_threads=1)
    start, state = time.thread_time(), training.begin()
    found: list[tuple[float, float]] = []
    for _ in range(training.n_batches):  # an epoch tells how many there will be
        state = training.after(state)
    n_epochs = max(2, int(seconds / (time.thread_time() - start)))
    if job.config.fit.optimiser != "l-bfgs":  # type: ignore[union-attr]
        training.settings = training.settings.model_copy(update={"epochs": n_epochs})
        training.n_steps = n_epochs * training.n_batches
    start, state = time.thread_time(), training.begin()
    while not state.finished and time.thread_time() - start < 1.1 * seconds:
        n_before = len(state.history)
        state = replace(training.after(state))
        if len(state.history) > n_before:
            found.append((time.thread_time() - start, min(state.held_out)))
    return found, len(found)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--only", nargs="+", default=["adamw", "kalman", "l-bfgs"])
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} does not exist; give labelled structures with --data.")
    torch.set_num_threads(1)
    frames = read_labelled(options.data)
    chosen = np.random.default_rng(0).permutation(len(frames))[: options.frames]
    columns: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, undivided():
        write_labelled(Path(folder) / "data.extxyz", [frames[index] for index in chosen])
        for name in options.only:
            source = Path(folder) / "in.toml"
            source.write_text(
                'data = "data.extxyz"\ntest_fraction = 0.0\n[descriptor]\nkind = "acsf"\n[fit]\nkind = "network"\n'
                f'n_neurons = [20, 20]\noptimiser = "{name}"\nepochs = {LONG}\npatience = {LONG}\n'
            )
            columns[name], n_epochs = losses(source, options.seconds)
            print(f"{name}: {n_epochs} epochs or iterations", file=sys.stderr)
    print(f"{machine()}; {options.data.name}, {len(chosen)} structures: loss of those kept apart")
    print(f"| seconds | {' | '.join(columns)} |\n|---:|{'---:|' * len(columns)}")
    for part in SHOWN:
        limit = part * options.seconds
        told = [[loss for when, loss in column if when <= limit * 1.001] for column in columns.values()]
        cells = [f"{min(one):.4f}" if one else "–" for one in told]
        print(f"| {limit:.0f} | {' | '.join(cells)} |")
    last = {name: column[-1][1] if column else math.nan for name, column in columns.items()}
    print(f"lowest: {', '.join(f'{name} {loss:.4f}' for name, loss in last.items())}")


if __name__ == "__main__":
    main()
