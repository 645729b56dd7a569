"""The structures of mlearn as extended XYZ, for the trainings of this folder.

    git clone https://github.com/materialsvirtuallab/mlearn
    python inputs/mlearn.py mlearn                 # leaves inputs/data/mlearn/Cu_train.xyz.xz and its like

Every structure of `data/<element>/training.json` and `test.json` with its energy, forces, stress and group. The file
says stresses as VASP prints them: pressures in kB, in the order xx, yy, zz, xy, yz, zx.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from mlmd.io.labelled import LabelledFrame, write_labelled

ELEMENTS = ("Cu", "Li", "Ni", "Si")
FILES = {"train": "training.json", "test": "test.json"}


def frame(entry: dict[str, Any]) -> LabelledFrame:
    """One structure of a file of mlearn."""
    structure, outputs = entry["structure"], entry["outputs"]
    atoms = Atoms(
        [site["species"][0]["element"] for site in structure["sites"]],
        positions=[site["xyz"] for site in structure["sites"]],
        cell=structure["lattice"]["matrix"],
        pbc=True,
    )
    xx, yy, zz, xy, yz, zx = -0.1 * units.GPa * np.array(outputs["virial_stress"])
    return LabelledFrame(
        atoms,
        energy=outputs["energy"],
        forces=np.array(outputs["forces"]),
        stress=np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]),
        group=entry["group"],
        source="",
    )


def main() -> None:
    """Read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of mlearn")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "mlearn")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for element in ELEMENTS:
        for name, file in FILES.items():
            entries = json.loads((given.checkout / "data" / element / file).read_text(encoding="utf-8"))
            write_labelled(given.out / f"{element}_{name}.xyz.xz", [frame(entry) for entry in entries])
            print(f"{element}_{name}: {len(entries)} structures")


if __name__ == "__main__":
    main()
