"""Heats of formation of small molecules from their Coulomb matrices by kernel ridge regression.

    python benchmarks/qm7.py --data qm7.xyz.xz [--test 1000] [--seeds 3] [--input]

QM7: 7,101 molecules of up to seven atoms of C, N, O and S and the hydrogen on them, with PBE0 heats of formation
(Rupp et al., Phys. Rev. Lett. 108, 058301, 2012). Features are sorted Coulomb matrices in Å, their upper triangles; the
kernel is exp(-Σ|x - x'| / σ) with σ = 10^4.2, and 1e-10 is added to its diagonal. Needed: a mean absolute error of
3.8 kcal/mol or less with 5,000 molecules to train on. With --input the same is done by `mlmd train`, which finds width
and regularisation itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import write

from mlmd.descriptors.coulomb import Coulomb
from mlmd.fitting.kernel_ridge import KernelRidge
from mlmd.io.xyz_frames import read_xyz
from mlmd.neighbors import build_graph
from mlmd.potentials.load import load_property
from mlmd.train.run import train

ELEMENTS = ("H", "C", "N", "O", "S")
TRAINED_ON = (500, 1000, 2000, 5000)
WIDTH = 10**4.2
REGULARISATION = 1e-10
ENERGY = "heat_of_formation_kcal_mol"
INPUT = f"""data = "train.extxyz"
test = "test.extxyz"
property = {{ name = "{ENERGY}", unit = "kcal/mol" }}
descriptor = {{ kind = "coulomb", form = "sorted", layout = "triangle" }}
fit = {{ kind = "kernel-ridge", kernel = "laplacian" }}
"""


def fitted(features: np.ndarray, energies: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Energies of other molecules by a regression on the first ones, whose mean is taken off."""
    regression = KernelRidge(
        n_features=features.shape[1], kernel="laplacian", width=WIDTH, regularisation=REGULARISATION
    )
    regression.fit(torch.from_numpy(features), torch.from_numpy(energies))
    kinds = torch.zeros(len(others), dtype=torch.int64)
    return regression.energies(torch.from_numpy(others), kinds).detach().numpy()


def by_input(molecules: list[Atoms], energies: np.ndarray, train_on: np.ndarray, test_on: np.ndarray) -> np.ndarray:
    """Energies of other molecules by what `mlmd train` leaves."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, chosen in (("train", train_on), ("test", test_on)):
            structures = [molecules[index].copy() for index in chosen]
            for atoms, index in zip(structures, chosen, strict=True):
                atoms.info[ENERGY] = float(energies[index])
            write(folder / f"{name}.extxyz", structures)
        (folder / "qm7.toml").write_text(INPUT)
        model = load_property(train(folder / "qm7.toml", folder / "run").model)
        assert model is not None
        return model.values([molecules[index] for index in test_on])


def main() -> None:
    """Read, describe, fit with more and more molecules, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="extended XYZ with the energies as " + ENERGY)
    parser.add_argument("--test", type=int, default=1000, help="molecules that errors are of")
    parser.add_argument("--seeds", type=int, default=3, help="random orders of the molecules")
    parser.add_argument("--layout", choices=("full", "triangle"), default="triangle")
    parser.add_argument("--input", action="store_true", help="by `mlmd train`")
    options = parser.parse_args()
    frames = list(read_xyz(options.data))
    molecules, energies = (
        [frame.atoms for frame in frames],
        np.array([float(str(frame.values[ENERGY])) for frame in frames]),
    )
    n_atoms_max = max(map(len, molecules))
    descriptor = Coulomb(elements=ELEMENTS, n_atoms_max=n_atoms_max, form="sorted", layout=options.layout)
    start = time.perf_counter()
    features = descriptor.features(build_graph(molecules, descriptor.cutoff)).numpy()
    seconds = time.perf_counter() - start
    print(
        f"{len(molecules):,} molecules of up to {n_atoms_max} atoms, standard deviation {energies.std():.1f} kcal/mol"
    )
    print(f"{features.shape[1]} features of each in {seconds:.1f} s, {torch.get_num_threads()} threads")
    print(
        f"{'trained on':>10}  {'MAE':>5}  {'RMSE':>5}  kcal/mol, {options.test:,} test molecules; MAE of each order",
        flush=True,
    )
    for n_train in TRAINED_ON:
        errors = []
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(molecules))
            test, chosen = order[: options.test], order[options.test : options.test + n_train]
            if options.input:
                errors.append(by_input(molecules, energies, chosen, test) - energies[test])
            else:
                errors.append(fitted(features[chosen], energies[chosen], features[test]) - energies[test])
        found = np.array(errors)
        each = np.abs(found).mean(axis=1)
        print(
            f"{n_train:10,}  {each.mean():5.2f}  {np.sqrt((found**2).mean()):5.2f}  "
            f"{' '.join(f'{one:.2f}' for one in each)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
