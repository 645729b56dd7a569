"""Descriptors times ways of fitting: errors for structures that were not trained on, and what fitting and running cost.

    python benchmarks/matrix.py --data mlearn [--elements Li Cu] [--only acsf gap] [--results FILE]
    python benchmarks/matrix.py --data mlearn --validate       # to choose settings by: without the test set

Every pair is one `mlmd train` of the published training set of Zuo et al. (J. Phys. Chem. A 124, 731, 2020) with the
settings below, and is tested on the published test set. Stresses are left out: yz and xz are exchanged in many. With
`--validate` it is trained on seven eighths of the training set and tested on the last eighth, drawn at random.

A cell is the root mean square error of the components of forces (eV/Å) and, in brackets, that as a part of the error of
the published SNAP on the same structures; beside it stand the seconds of processor time of the training and the
microseconds of an atom and step, one thread. What is above `BAR` of SNAP's error is bold.

`--results` keeps what was found in a JSON file: pairs that stand there with the same input are not trained again, and
with `--show` no others are either.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accuracy import MTP, SNAP
from machine import machine

from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.train.run import train
from mlmd.train.sweep import time_of

ELEMENTS = ("Li", "Cu", "Ni", "Si")
CUTOFFS = {"Li": "5.2 Å", "Si": "5 Å", "Cu": "4.2 Å", "Ni": "4.2 Å"}
SHORT = {"Li": "5 Å", "Si": "4.9 Å", "Cu": "4.1 Å", "Ni": "4.1 Å"}
"""For SNAP: rcutfac of Zuo et al."""
BAR = 1.5
"""A pair that is meant for crystals has at most so many times the force error of the published SNAP."""
DESCRIPTORS = {
    "mtp": 'kind = "mtp"\nlevel = 16\ncutoff = "{cutoff}"',
    "acsf": 'kind = "acsf"\ncutoff = "{longer}"\nn_radial = 10\nn_angular = 5\nzetas = [1, 2, 4, 16]',
    "soap": 'kind = "soap"\ncutoff = "{cutoff}"\nn_max = 6\nl_max = 6',
    "snap": 'kind = "snap"\ncutoff = "{short}"\ntwojmax = 8',
}
FITS = {
    "linear": 'kind = "linear"',
    "random-features": 'kind = "random-features"\nn_random = 1000',
    "gap": 'kind = "gap"\nn_sparse = 500',
    "network": 'kind = "network"\nepochs = 100',
}


@dataclass(frozen=True)
class Found:
    """What one training gave."""

    energy: float
    """RMSE, meV/atom."""
    forces: float
    """RMSE, eV/Å."""
    seconds: float
    """Processor time of the training."""
    us: float
    """Of an atom and step, µs."""


def described(descriptor: str, fit: str, element: str) -> str:
    """The tables of the input of a pair."""
    cutoff = CUTOFFS[element]
    words = {"cutoff": cutoff, "short": SHORT[element], "longer": f"{float(cutoff[:-2]) + 1:g} Å"}
    plain = '\nradial = "plain"' if (descriptor, fit) == ("mtp", "linear") else ""
    return f"[descriptor]\n{DESCRIPTORS[descriptor].format(**words)}\n[fit]\n{FITS[fit]}{plain}\n"


def structures(folder: Path, element: str, *, validate: bool) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Those that are trained on, and those that are not."""
    frames = read_labelled(folder / f"{element}_train.xyz.xz")
    if not validate:
        return frames, read_labelled(folder / f"{element}_test.xyz.xz")
    order = np.random.default_rng(1).permutation(len(frames))
    apart = set(order[: len(frames) // 8].tolist())
    return [one for i, one in enumerate(frames) if i not in apart], [frames[i] for i in sorted(apart)]


def processor_time() -> float:
    """Seconds, of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def measured(tables: str, files: Sequence[Path], n_processes: int) -> Found:
    """Train on the first file, test on the second.

    Args:
        tables: of the input, without the data.
        files: of structures.
        n_processes: of the training.
    """
    data, test = (f'{{ path = "{file}", stress = "none" }}' for file in files)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "in.toml"
        source.write_text(f"data = {data}\ntest = {test}\n{tables}")
        began = processor_time()
        training = train(source, Path(scratch) / "run", n_processes=n_processes)
        seconds = processor_time() - began
        table = training.errors["test"]
        assert table is not None
        us = time_of(modelfile.load(training.model), read_labelled(files[1])[0].atoms)
    return Found(table.row("energy").rmse, table.row("forces").rmse / 1e3, seconds, us)


def printed(pairs: Sequence[tuple[str, str]], found: Mapping[str, Mapping[tuple[str, str], Found]]) -> list[str]:
    """The table: a row for each pair, two columns for each element."""
    elements = list(found)
    head = "".join(f" {one}: forces (eV/Å), of SNAP's | s, µs |" for one in elements)
    lines = [f"| descriptor | fit |{head}", f"| --- | --- |{' ---: |' * 2 * len(elements)}"]
    for pair in pairs:
        cells = list(pair)
        for one in elements:
            got = found[one].get(pair)
            if got is None:
                cells += ["–", "–"]
                continue
            ratio = got.forces / SNAP[one].forces
            text = f"{got.forces:.4f} ({ratio:.2f})"
            cells += [f"**{text}**" if ratio > BAR else text, f"{got.seconds:.0f}, {got.us:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mlearn's extended XYZ files")
    parser.add_argument("--elements", nargs="+", default=ELEMENTS, choices=ELEMENTS)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="pairs with such words")
    parser.add_argument("--results", type=Path, help="JSON file of what was found, kept and gone on from")
    parser.add_argument("--show", action="store_true", help="train nothing: print what stands in --results")
    parser.add_argument("--validate", action="store_true", help="test on an eighth of the training set")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.show and given.results is None:
        parser.error("--show prints what stands in --results: give that file")
    torch.set_num_threads(1)
    pairs = [(d, f) for d in DESCRIPTORS for f in FITS if any(word in f"{d} {f}" for word in given.only)]
    kept: dict[str, dict[str, float]] = {}
    if given.results is not None and given.results.is_file():
        kept = json.loads(given.results.read_text(encoding="utf-8"))
    print(f"{machine()}, {given.processes} processes\n", flush=True)
    found: dict[str, dict[tuple[str, str], Found]] = {}
    for element in given.elements:
        found[element] = {}
        sets = structures(given.data, element, validate=given.validate)
        rms = np.sqrt(np.mean(np.concatenate([one.forces.ravel() for one in sets[1]]) ** 2))  # type: ignore[union-attr]
        tell(f"{element}: {len(sets[0])} structures, tested on {len(sets[1])} with forces of {rms:.3f} eV/Å")
        tell(f"  published, on the test set: MTP {MTP[element]}, SNAP {SNAP[element]}")
        with tempfile.TemporaryDirectory() as scratch:
            files = [Path(scratch) / f"{name}.extxyz" for name in ("train", "test")]
            for file, frames in zip(files, sets, strict=True):
                write_labelled(file, frames)
            for descriptor, fit in pairs:
                tables = described(descriptor, fit, element)
                key = f"{element}{', validation' if given.validate else ''}\n{tables}"
                if key not in kept and given.show:
                    continue
                if key not in kept:
                    kept[key] = asdict(measured(tables, files, given.processes))
                    if given.results is not None:
                        given.results.write_text(json.dumps(kept, indent=1), encoding="utf-8")
                found[element][descriptor, fit] = got = Found(**kept[key])
                tell(f"  {descriptor}, {fit}: {got}, {got.forces / SNAP[element].forces:.2f} of SNAP's")
    print("\n".join(printed(pairs, found)))


def tell(text: str) -> None:
    """To the one who waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
