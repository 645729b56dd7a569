"""SNAP and moment tensors for tantalum (the Ta06 set), beside the fit that FitSNAP publishes, as a table.

    python benchmarks/ta06.py --data FitSNAP_Ta06_all.xyz.xz    # both fits, in a temporary folder (minutes)
    python benchmarks/ta06.py --data FILE --out FOLDER          # keep their folders; a stopped one continues
    python benchmarks/ta06.py --data FILE --only snap           # seconds

Data and reference: A. P. Thompson et al., J. Comput. Phys. 285, 316 (2015); FitSNAP's example Ta_Linear_JCP2014. The
SNAP has its settings: 30 components and a constant, ZBL beside it as `pair_style zbl 4.0 4.8`, the group weights. A
weight w of FitSNAP is a sigma of 1/w (eV/atom, eV/Å, bar). As there, all structures are trained on and errors are those
of the training structures, each energy, component of force and component of stress counted once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mlmd.errors import MlmdError
from mlmd.train.error_table import ErrorTable
from mlmd.train.run import train

FITSNAP = {"energy": 0.112787, "forces": 0.0757576, "stress": 68338.6}
"""Mean absolute errors over all groups, unweighted: eV/atom, eV/Å, bar."""
WEIGHTS = {
    "Displaced_A15": (100, 1, 1e-8), "Displaced_BCC": (100, 1, 1e-8), "Displaced_FCC": (100, 1, 1e-8),
    "Elastic_BCC": (1e-8, 1e-8, 1e-4), "Elastic_FCC": (1e-9, 1e-9, 1e-9),
    "GSF_110": (100, 1, 1e-8), "GSF_112": (100, 1, 1e-8), "Liquid": (467, 1, 1e-8), "Surface": (100, 1, 1e-8),
    "Volume_A15": (1, 1e-9, 1e-9), "Volume_BCC": (1, 1e-9, 1e-9), "Volume_FCC": (1, 1e-9, 1e-9),
}  # fmt: skip
"""FitSNAP's of energy, forces and stress by group."""
USUAL = WEIGHTS["Displaced_A15"]

SNAP = """
[descriptor]
kind = "snap"
twojmax = 6
cutoff = "4.67637 Å"
rfac0 = 0.99363

[fit]
regularisation = 0

[baseline]
potential = { kind = "zbl", onset = "4 Å", cutoff = "4.8 Å", switching = "lammps" }
"""

MTP = """
[descriptor]
kind = "mtp"
level = 20
cutoff = "4.67637 Å"
n_chebyshev = 12

[fit]
max_iterations = 30

[loss]
energy = "5 meV"
forces = "20 meV/Å"
stress = "2 GPa"

[loss.groups]  # cells from 5 to 37 Å³/atom, with energies up to 30 eV/atom
Volume_A15 = 20
Volume_BCC = 20
Volume_FCC = 20
Elastic_FCC = 3
"""


def weights() -> str:
    """FitSNAP's weights as a [loss] table: the usual ones, and factors for groups with others."""
    energy, forces, stress = (1 / weight for weight in USUAL)
    lines = ["[loss]", f'energy = "{energy!r} eV"', f'forces = "{forces!r} eV/Å"', f'stress = "{stress!r} bar"']
    lines += ["[loss.groups]"]
    for group, given in WEIGHTS.items():
        factors = zip(("energy", "forces", "stress"), USUAL, given, strict=True)
        inner = ", ".join(f"{label} = {usual / own!r}" for label, usual, own in factors)
        lines.append(f"{group} = {{ {inner} }}")
    return "\n".join(lines)


INPUTS = {"snap": SNAP + weights(), "mtp": MTP}
NAMES = {"snap": "SNAP + ZBL of mlmd", "mtp": "moment tensors of mlmd"}


def fitted(kind: str, data: Path, folder: Path) -> ErrorTable:
    """Errors of a fit for the structures it was trained on."""
    source = folder / f"Ta_{kind}.toml"
    source.write_text(f'data = "{data.absolute()}"\ntest_fraction = 0\n{INPUTS[kind]}', encoding="utf-8")
    table = train(source, folder / f"Ta_{kind}.run", tell=lambda text: print(text, file=sys.stderr)).errors["train"]
    assert table is not None
    return table


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="file of the structures")
    parser.add_argument("--out", type=Path, help="folder to keep the fits in")
    parser.add_argument("--only", choices=tuple(INPUTS), help="one of the fits")
    options = parser.parse_args()
    if not options.data.is_file():
        sys.exit(
            f"{options.data} is not there. Give --data FILE, the structures of FitSNAP's example Ta_Linear_JCP2014."
        )
    print("| MAE, 363 structures | energy (eV/atom) | forces (eV/Å) | stress (bar) | forces / FitSNAP's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print(
        f"| SNAP + ZBL of FitSNAP | {FITSNAP['energy']:.4f} | {FITSNAP['forces']:.4f} | {FITSNAP['stress']:,.0f} | 1 |"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in [options.only] if options.only else list(INPUTS):
            try:
                table = fitted(kind, options.data, folder)
            except MlmdError as error:
                sys.exit(str(error))
            energy, forces = table.row("energy").mae / 1e3, table.row("forces").mae / 1e3
            stress = table.row("stress").mae * 10  # MPa in bar
            ratio = forces / FITSNAP["forces"]
            print(f"| {NAMES[kind]} | {energy:.4f} | {forces:.4f} | {stress:,.0f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
