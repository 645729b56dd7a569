"""A metal grows on its faces (100), (110) and (111): layers, growth, roughness, and which face each layer looks like.

python examples/deposition/deposition.py --out films     # copper, three runs; some minutes of one core each
python examples/deposition/deposition.py --face 111 --arrivals 20
python examples/deposition/deposition.py --metal Ag --lattice 4.09 --potential UNEP-v1.txt --out silver
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.build

from mlmd.analysis import FOLDER, write
from mlmd.analysis.deposition import DepositionResult, deposition
from mlmd.analysis.figures import color, label, new_figure, save
from mlmd.analysis.surface_similarity import FACES
from mlmd.engine.run import simulate
from mlmd.io.growing import open_growth

SIZES = {"100": (6, 6, 6), "110": (6, 4, 8), "111": (6, 6, 5)}
"""Atoms along x, y and z: about 15 Å × 15 Å × 9 Å."""
INPUT = Path(__file__).with_name("deposition.toml")
RUN = "deposition.run"


@dataclass(frozen=True)
class Metal:
    """What grows, as an fcc crystal."""

    symbol: str = "Cu"
    lattice: float = 3.62
    """Å, at the temperature of the runs; of the copper that comes with mlmd."""
    potential: str = "Cu"
    """A name, or a file."""


def slab(face: str, metal: Metal) -> ase.Atoms:
    """A slab with its lowest layer at z = 0, in a cell of 60 Å that does not repeat along z."""
    options = {} if face == "110" else {"orthogonal": True}
    build = getattr(ase.build, f"fcc{face}")
    made = build(metal.symbol, SIZES[face], a=metal.lattice, periodic=False, **options)
    cell = [*made.cell.array[:2], [0.0, 0.0, 60.0]]
    positions = made.positions - [0.0, 0.0, made.positions[:, 2].min()]
    return ase.Atoms(made.numbers, positions, cell=cell, pbc=(True, True, False))


def grow(face: str, metal: Metal, folder: Path, n_arrivals: int) -> DepositionResult:
    """Deposit on a face, or go on where that was stopped, and analyse."""
    folder.mkdir(parents=True, exist_ok=True)
    slab(face, metal).write(folder / "slab.extxyz")
    text = INPUT.read_text(encoding="utf-8")
    text = text.replace('potential = "Cu"', f"potential = {json.dumps(metal.potential)}")
    text = text.replace('species = "Cu"', f"species = {json.dumps(metal.symbol)}")
    text = text.replace("total = 216", f"total = {n_arrivals}").replace("218 ps", f"{n_arrivals + 2} ps")
    (folder / INPUT.name).write_text(text, encoding="utf-8")
    run = simulate(folder / INPUT.name, folder / RUN, threads=1)
    result = deposition(open_growth(run))
    write(result, run.path / FOLDER)
    return result


def picture(results: dict[str, DepositionResult], symbol: str, path: Path) -> None:
    """What the layers of each film look like."""
    figure, axes = new_figure(1, len(results), width=4.3 * len(results), height=3.4)
    for one, (face, result) in zip(axes, results.items(), strict=True):
        layers = [layer for layer in result.layers if layer.similarity]
        for index, name in enumerate(FACES):
            values = [layer.similarity[name].value for layer in layers]
            one.plot([layer.number for layer in layers], values, "o-", color=color(index), label=f"({name})")
        one.set_title(f"on {symbol}({face}): {result.coverage}, {result.rate}", fontsize=9)
        label(one, "layer (0: top of the slab)", "similarity")
        one.legend(frameon=False, fontsize=8)
    save(figure, path)


def main() -> None:
    """Each face in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("films"), help="folder for the runs")
    parser.add_argument("--face", choices=SIZES, action="append", help="only this face (may be repeated)")
    parser.add_argument("--arrivals", type=int, default=216, help="atoms that arrive")
    parser.add_argument("--metal", default=Metal.symbol, help="its symbol; it has to be fcc")
    parser.add_argument("--lattice", type=float, default=Metal.lattice, help="lattice constant at 300 K, Å")
    parser.add_argument("--potential", default=Metal.potential, help="a name of `mlmd models`, or a file")
    options = parser.parse_args()
    file = Path(options.potential)
    metal = Metal(options.metal, options.lattice, str(file.absolute()) if file.is_file() else options.potential)
    results = {}
    for face in options.face or SIZES:
        result = results[face] = grow(face, metal, options.out / face, options.arrivals)
        print(f"{metal.symbol}({face}):\n{result}")
        for layer in reversed(result.layers):
            if layer.number > 0:
                order = ", ".join(f"{name} {part.value:.0%}" for name, part in layer.structures.items() if part.value)
                like = ", ".join(f"({one}) {value}" for one, value in layer.similarity.items())
                print(f"  layer {layer.number} at {layer.height}: {layer.filling}; {order}; {like or 'not compared'}")
        print(f"  picture: {options.out / face / RUN / FOLDER / 'deposition.png'}", flush=True)
    picture(results, metal.symbol, options.out / "films.png")


if __name__ == "__main__":
    main()
