"""Errors of potentials on the test sets of mlearn, beside published ones, as in docs/shipped-potentials.md.

    python benchmarks/accuracy.py --data FOLDER                     # the potentials that come with mlmd
    python benchmarks/accuracy.py --data FOLDER Cu silicon.mlmd     # names or files, of Li, Si, Cu or Ni
    python benchmarks/accuracy.py --data FOLDER --published MODELS  # published MTPs: MODELS/Li/mtp.2020.01/fitted.mtp
    python benchmarks/accuracy.py --data FOLDER --others SETS --out FOLDER --only QM7 Ta06  # and of other sets

FOLDER holds Li_test.xyz.xz, Si_test.xyz.xz, ..., the test sets of mlearn as extended XYZ. With --others the tables of
other sets follow, each printed by its own benchmark, which trains for minutes to hours, below what is to be reached;
SETS has the folders qm7, deepmd_water, FitSNAP_Ta06, LiPS_devset, botnet_ethanol and botnet_3BPA.

Test sets and published potentials: Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020). Their errors were computed on the
same test structures from the authors' own files. Forces are compared by Cartesian component.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlmd import models
from mlmd.errors import MlmdError
from mlmd.io.labelled import LabelledFrame, read_labelled
from mlmd.potentials import Potential, modelfile, mtp
from mlmd.train.evaluate import errors, predict

ELEMENTS = ("Li", "Si", "Cu", "Ni")


@dataclass(frozen=True)
class RMSE:
    """Root mean squared errors."""

    energy: float
    """meV/atom."""
    forces: float
    """eV/Å."""


MTP: Mapping[str, RMSE] = {
    "Li": RMSE(0.66, 0.0132), "Si": RMSE(3.03, 0.0881), "Cu": RMSE(0.52, 0.0135), "Ni": RMSE(0.75, 0.0269),
}  # fmt: skip
SNAP: Mapping[str, RMSE] = {
    "Li": RMSE(1.31, 0.0379), "Si": RMSE(8.06, 0.2053), "Cu": RMSE(0.75, 0.0829), "Ni": RMSE(1.17, 0.0847),
}  # fmt: skip


@dataclass(frozen=True)
class Other:
    """A set with a benchmark of its own."""

    command: str
    """Its file and arguments; {mlearn}, {sets} and {out} are folders."""
    needed: str
    """What is to be reached."""


_SNAPS = "forces of every pair at most 1.5 times as wrong as SNAP's"
OTHERS: Mapping[str, Other] = {
    "larger": Other(
        "larger.py --data {mlearn} --out {out}/larger", "energies and forces as good as the published MTP's"
    ),
    "matrix": Other("matrix.py --data {mlearn} --results {out}/matrix.json", _SNAPS),
    "QM7": Other(
        "qm7.py --data {sets}/qm7/qm7.xyz.xz --input", "5,000 molecules: a mean absolute error of 3.8 kcal/mol"
    ),
    "water": Other(
        "water.py --data {sets}/deepmd_water --out {out}/water",
        "forces to 0.10 eV/Å (RMSE) in 15 minutes, 0.06 in the end",
    ),
    "LiPS": Other("compounds.py --data {sets} --only LiPS", "forces to 30 meV/Å (MAE) by the best model"),
    "Ta06": Other(
        "ta06.py --data {sets}/FitSNAP_Ta06/FitSNAP_Ta06_all.xyz.xz --out {out}/ta06",
        "SNAP with FitSNAP's errors, moment tensors with half of its forces'",
    ),
    "molecules": Other("compounds.py --data {sets} --only ethanol 3BPA", "nothing; learning curves"),
    "random-features": Other(
        "random_features.py --data {mlearn} --rows 5000",
        "0.04 of the time of the full kernel, with forces within 5 % of its",
    ),
}


def print_others(names: Sequence[str], folders: Mapping[str, Path]) -> None:
    """Run the benchmarks of other sets, which print."""
    for name in names:
        other = OTHERS[name]
        script, *words = other.command.split()
        arguments = [word.format(**folders) for word in words]
        print(f"\n### {name}; needed: {other.needed}\n", flush=True)
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments], check=False)
        if done.returncode:
            sys.exit(f"{script} {' '.join(arguments)} ended with {done.returncode}.")


def rmse(potential: Potential, frames: list[LabelledFrame]) -> RMSE:
    """Errors of a potential."""
    table = errors(frames, predict(potential, frames))
    return RMSE(table.row("energy").rmse, table.row("forces").rmse / 1e3)


def load(names: list[str]) -> dict[str, Potential]:
    """Potentials of one element each, by element."""
    found: dict[str, Potential] = {}
    for name in names:
        path = Path(name)
        potential = modelfile.load(path if path.is_file() else models.path(name))
        if len(potential.elements) == 1 and potential.elements[0] in ELEMENTS:
            found[potential.elements[0]] = potential
    return found


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names or .mlmd files [default: those that come with mlmd]")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--published", type=Path, help="folder of the published potentials")
    parser.add_argument("--others", type=Path, help="folder of the other sets, which are trained too")
    parser.add_argument("--only", nargs="+", choices=OTHERS, default=list(OTHERS), help="of the other sets")
    parser.add_argument("--out", type=Path, default=Path("accuracy"), help="folder for what is trained of them")
    options = parser.parse_args()
    try:
        ours = load(options.models or list(models.names()))
    except MlmdError as error:
        sys.exit(str(error))
    elements = [one for one in ELEMENTS if one in ours] or list(ELEMENTS if options.published else ())
    if not elements:
        sys.exit(f"No potential of {', '.join(ELEMENTS)} alone: give .mlmd files, or --published FOLDER.")
    missing = [str(path) for one in elements if not (path := options.data / f"{one}_test.xyz.xz").is_file()]
    if missing:
        sys.exit(
            f"Not there: {', '.join(missing)}. Give --data FOLDER with the test sets of mlearn as extended XYZ "
            "(https://github.com/materialsvirtuallab/mlearn)."
        )
    print("| RMSE | test structures | energy (meV/atom) | MTP | SNAP | forces (eV/Å) | MTP | SNAP | forces / SNAP's |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for element in elements:
        frames = read_labelled(options.data / f"{element}_test.xyz.xz")
        own = rmse(ours[element], frames) if element in ours else None
        published, snap = MTP[element], SNAP[element]
        if options.published is not None:
            file = options.published / element / "mtp.2020.01" / "fitted.mtp"
            published = rmse(mtp.load(file, elements=[element]), frames)
        cells = [element, str(len(frames))]
        cells += [f"{own.energy:.2f}" if own else "–", f"{published.energy:.2f}", f"{snap.energy:.2f}"]
        cells += [f"{own.forces:.4f}" if own else "–", f"{published.forces:.4f}", f"{snap.forces:.4f}"]
        cells += [f"{own.forces / snap.forces:.2f}" if own else "–"]
        print(f"| {' | '.join(cells)} |")
    if options.others is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        print_others(options.only, {"mlearn": options.data, "sets": options.others, "out": options.out})


if __name__ == "__main__":
    main()
