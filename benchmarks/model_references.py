"""What published models say about a small structure, for mlmd to compare them with what they say elsewhere.

    python benchmarks/model_references.py --envs FOLDER --data FOLDER [--only chgnet sevennet]

The first folder holds one environment for each framework (`tests/pretrained/environments.py`), the second the weights
that do not come with their package: `models_nequix/*.nqx`, `models_matgl/*/`, and `models_ani/*.tar.xz` with the files
of NeuroChem. Writes `mlmd/pretrained/references.json`: numbers of the same weights by the same release are replaced.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlmd.config import PotentialTable
from mlmd.potentials.load import load_potential
from mlmd.pretrained import reference

SHIPPED: list[dict[str, Any]] = [
    *({"kind": "chgnet", "name": name} for name in ("0.3.0", "0.2.0", "r2scan")),
    *({"kind": "sevennet", "name": name} for name in ("7net-0", "7net-0_22may2024", "7net-l3i5")),
    *({"kind": "sevennet", "name": "7net-mf-0", "modal": modal} for modal in ("PBE", "R2SCAN")),
]
"""Those whose weights come with the framework."""


def tables(data: Path, unpacked: Path) -> Iterator[dict[str, Any]]:
    """The potentials that are at hand."""
    yield from SHIPPED
    yield from ({"kind": "nequix", "path": str(one)} for one in sorted(data.glob("models_nequix/*.nqx")))
    yield from ({"kind": "matgl", "path": str(one.parent)} for one in sorted(data.glob("models_matgl/*/model.json")))
    for archive in sorted(data.glob("models_ani/*.tar.xz")):
        with tarfile.open(archive) as content:
            content.extractall(unpacked, filter="data")
    for one in sorted(unpacked.rglob("*.info")):
        yield from ({"kind": "ani", "path": str(one), "precision": precision} for precision in ("float64", "float32"))


def main() -> None:
    """Ask every model whose environment there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, required=True, help="holds one environment for each framework")
    parser.add_argument("--data", type=Path, required=True, help="holds the weights that come with no package")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="of these kinds alone")
    options = parser.parse_args()
    found = list(reference.stored()) if reference.FILE.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for table in tables(options.data, Path(folder)):
            python = options.envs.absolute() / table["kind"] / "bin" / "python"
            if table["kind"] not in (options.only or [table["kind"]]) or not python.exists():
                continue
            potential = load_potential([PotentialTable.model_validate(table | {"python": str(python)})])
            own = reference.identity(potential)
            if own is None:
                raise SystemExit(f"{table}: the framework tells no version, or no file.")
            name = "CH3CH2OH" if table["kind"] == "ani" else "NaCl"
            made = reference.measure(potential, own, name)
            found = [one for one in found if not (own.is_of(one) and one.version == own.version)] + [made]
            print(f"{own.kind} {own.weights[:12]} {own.library} {own.version}: {name} {made.energy:.6f} eV", flush=True)
            reference.store(found, reference.FILE)


if __name__ == "__main__":
    main()
