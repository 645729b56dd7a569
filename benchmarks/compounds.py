"""Errors for compounds that were not trained on: a glass former, and molecules of nine and of 27 atoms.

    python benchmarks/compounds.py --data FOLDER                 # all sets
    python benchmarks/compounds.py --data FOLDER --only LiPS     # names of sets
    python benchmarks/compounds.py --data FOLDER --level 20      # of the moment tensors
    python benchmarks/compounds.py --data FOLDER --only LiPS --baseline '{ kind = "nequix", path = "FILE.nqx" }'

FOLDER holds the sets as extended XYZ: LiPS_devset (Li6.75P3S11, 200 structures of S. Batzner et al., Nat. Commun. 13,
2453 (2022)), botnet_ethanol and botnet_3BPA (D. P. Kovács et al., arXiv:2205.06643). Of LiPS 150 structures are trained
on and 50 tested, of 3BPA 450 and 50, chosen at random with a fixed seed; ethanol has a test set. Every row is one
`mlmd train` of a moment tensor potential with optimised radial functions; of the molecules there is a row for a
quarter, a half and all of the training structures. With a baseline there is a row for that potential alone, which has
seen none of these structures (the zero of its energies is fitted to those that are trained on), and the others are
trained on what it leaves.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import machine

from mlmd.config import PotentialTable
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials.load import load_potential
from mlmd.train.evaluate import errors, predict, shifted
from mlmd.train.run import n_cores, train


@dataclass(frozen=True)
class Set:
    """Structures to train on and to test."""

    train: str
    """File, in the folder of the data."""
    test: str | None
    """File; a part of the others without."""
    n_test: int
    sizes: tuple[float, ...]
    """Parts of the training structures that are trained on."""
    cutoff: str
    beside: str
    """What others report."""


SETS = {
    "LiPS": Set("LiPS_devset/LiPS_200.xyz.xz", None, 50, (1.0,), "5.5 Å", "universal models, untrained: 49 to 223"),
    "ethanol": Set("botnet_ethanol/train.xyz.xz", "botnet_ethanol/test_MD.xyz.xz", 0, (0.25, 0.5, 1.0), "5 Å", ""),
    "3BPA": Set("botnet_3BPA/train_300K.xyz.xz", None, 50, (0.25, 0.5, 1.0), "5 Å", ""),
}


def several(frames: list[LabelledFrame]) -> list[LabelledFrame]:
    """Without single atoms, whose energies the baseline finds."""
    return [frame for frame in frames if len(frame.atoms) > 1]


def split(given: Set, data: Path) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Structures to train on, in a random order, and to test."""
    frames = several(read_labelled(data / given.train))
    order = np.random.default_rng(1).permutation(len(frames))
    if given.test is not None:
        return [frames[index] for index in order], several(read_labelled(data / given.test))
    return [frames[i] for i in order[given.n_test :]], [frames[i] for i in order[: given.n_test]]


def alone(table: str, train_frames: list[LabelledFrame], test: list[LabelledFrame], name: str, null: float) -> str:
    """The row of a potential that has not seen the structures."""
    potential = load_potential([PotentialTable.model_validate(tomllib.loads(f"p = {table}")["p"])])
    clock = time.perf_counter()
    both = [*train_frames, *test]
    found = predict(potential, both)
    minutes = (time.perf_counter() - clock) / 60
    _, shift = shifted(train_frames, found[: len(train_frames)])
    zeros = [sum(shift[symbol] for symbol in frame.atoms.symbols) for frame in test]
    moved = [
        replace(one, energy=one.energy + zero) for one, zero in zip(found[len(train_frames) :], zeros, strict=True)
    ]
    table_of = errors(test, moved)
    energy, force = table_of.row("energy"), table_of.row("forces")
    return (
        f"| {name} | the baseline alone | {energy.mae:.2f}, {energy.rmse:.2f} | {force.mae:.1f}, {force.rmse:.1f} "
        f"| {null:.0f} | {minutes:.1f} |"
    )


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--level", type=int, default=16)
    parser.add_argument("--baseline", metavar="TABLE", help="a potential, as in an input, to learn the difference to")
    parser.add_argument("--processes", type=int, default=n_cores())
    given = parser.parse_args()
    print(f"{machine()}, {given.processes} processes, level {given.level}\n")
    print(
        "| set | trained on | energy MAE, RMSE (meV/atom) | forces MAE, RMSE (meV/Å) | none: forces of zero | minutes |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in given.only:
        train_frames, test = split(SETS[name], given.data)
        forces = np.concatenate([one.forces.ravel() for one in test if one.forces is not None])
        null = 1e3 * float(np.sqrt(np.mean(forces**2)))
        if given.baseline:
            print(alone(given.baseline, train_frames, test, name, null), flush=True)
        for part in SETS[name].sizes:
            some = train_frames[: round(part * len(train_frames))]
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                write_labelled(folder / "train.extxyz", some)
                write_labelled(folder / "test.extxyz", test)
                (folder / "in.toml").write_text(
                    'data = "train.extxyz"\ntest = "test.extxyz"\n[descriptor]\nkind = "mtp"\n'
                    f'level = {given.level}\ncutoff = "{SETS[name].cutoff}"\n'
                    + (f"[baseline]\npotential = {given.baseline}\n" if given.baseline else "")
                )
                clock = time.perf_counter()
                table = train(folder / "in.toml", folder / "run", n_processes=given.processes).errors["test"]
                minutes = (time.perf_counter() - clock) / 60
            assert table is not None
            energy, force = table.row("energy"), table.row("forces")
            print(
                f"| {name} | {len(some)} | {energy.mae:.2f}, {energy.rmse:.2f} | {force.mae:.1f}, {force.rmse:.1f} "
                f"| {null:.0f} | {minutes:.1f} |",
                flush=True,
            )
        if SETS[name].beside:
            print(f"| {name} | {SETS[name].beside} | | | | |", flush=True)


if __name__ == "__main__":
    main()
