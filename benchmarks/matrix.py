"""Descriptors times ways of fitting: errors for structures that were not trained on, and what fitting and running cost.

    python benchmarks/matrix.py --data mlearn [--elements Li Cu] [--only acsf gap]

Every pair is one `mlmd train` of the published training set of Zuo et al. (J. Phys. Chem. A 124, 731, 2020) with the
settings below, and is tested on the published test set. Stresses are left out: yz and xz are exchanged in many. Beside
the errors stand the root mean square of the forces, and the errors of the published moment tensor (MTP) and SNAP
potentials. The last column is the time of an atom and step, one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine

from mlmd.io.labelled import read_labelled
from mlmd.potentials import modelfile
from mlmd.train.run import train
from mlmd.train.sweep import time_of

CUTOFFS = {"Li": "5.2 Å", "Si": "5 Å", "Cu": "4.2 Å", "Ni": "4.2 Å"}
SHORT = {"Li": "5 Å", "Si": "4.9 Å", "Cu": "4.1 Å", "Ni": "4.1 Å"}
"""For SNAP: rcutfac of Zuo et al."""
PUBLISHED = {"Li": (0.66, 13.2, 1.31, 37.9), "Si": (3.03, 88.1, 8.06, 205.3), "Cu": (0.52, 13.5, 0.75, 82.9),
             "Ni": (0.75, 26.9, 1.17, 84.7)}  # fmt: skip
"""RMSE of energy (meV/atom) and forces (meV/Å) of the published MTP, then of SNAP."""
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


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mlearn's extended XYZ files")
    parser.add_argument("--elements", nargs="+", default=["Li", "Cu"])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="pairs with such words")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, {given.processes} processes\n")
    print("| element | descriptor, fit | energy (meV/atom) | forces (meV/Å) | fit (s) | µs/atom |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for element in given.elements:
        test = read_labelled(given.data / f"{element}_test.xyz.xz")
        null = 1e3 * np.sqrt(np.mean(np.concatenate([one.forces.ravel() for one in test]) ** 2))  # type: ignore[union-attr]
        mtp_energy, mtp, snap_energy, snap = PUBLISHED[element]
        print(f"| {element} | none: forces of zero | | {null:.0f} | | |")
        print(f"| {element} | published MTP | {mtp_energy:.2f} | {mtp:.1f} | | |")
        print(f"| {element} | published SNAP | {snap_energy:.2f} | {snap:.1f} | | |", flush=True)
        cutoff = CUTOFFS[element]
        words = {"cutoff": cutoff, "short": SHORT[element], "longer": f"{float(cutoff[:-2]) + 1:g} Å"}
        for descriptor, described in DESCRIPTORS.items():
            for fit, fitted in FITS.items():
                if not any(word in f"{descriptor} {fit}" for word in given.only):
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    source = Path(scratch) / "in.toml"
                    files = [(given.data / f"{element}_{one}.xyz.xz").absolute() for one in ("train", "test")]
                    data, tested = (f'{{ path = "{file}", stress = "none" }}' for file in files)
                    plain = '\nradial = "plain"' if (descriptor, fit) == ("mtp", "linear") else ""
                    source.write_text(
                        f"data = {data}\ntest = {tested}\n[descriptor]\n{described.format(**words)}\n"
                        f"[fit]\n{fitted}{plain}\n"
                    )
                    clock = time.perf_counter()
                    training = train(source, Path(scratch) / "run", n_processes=given.processes)
                    seconds = time.perf_counter() - clock
                    table = training.errors["test"]
                    assert table is not None
                    energy, forces = table.row("energy").rmse, table.row("forces").rmse
                    us = time_of(modelfile.load(training.model), test[0].atoms)
                print(
                    f"| {element} | {descriptor}, {fit} | {energy:.2f} | {forces:.1f} | {seconds:.0f} | {us:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
