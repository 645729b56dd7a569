"""Liquid and amorphous silicon: pair distances, angles, neighbours and the structure factor of both, side by side.

    python examples/silicon/silicon.py [--rate 5] [--supercell 3]

Runs silicon.toml beside this file with the potential that comes with mlmd, some minutes of a core, and draws
silicon.png. What is done is not done again: the same command continues.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mlmd.analysis import FOLDER, write
from mlmd.analysis.adf import adf
from mlmd.analysis.coordination import coordination
from mlmd.analysis.figures import color, label, new_figure, save
from mlmd.analysis.rdf import rdf
from mlmd.analysis.scattering.structure_factor import structure_factor
from mlmd.engine.run import simulate
from mlmd.io.trajectories import open_run
from mlmd.rundir import Run

HERE = Path(__file__).parent
FALL = 1700.0
"""K, from the liquid to room temperature."""
STATES = (("liquid at 2000 K", 2, 3.1), ("amorphous at 300 K", 4, 2.85))
"""Name, stage of the run, and the distance (Å) within which atoms are neighbours: the minimum behind the first peak."""


def prepare(folder: Path, supercell: int, rate: float) -> Path:
    """The input and its structure in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "diamond.extxyz", folder)
    text = (HERE / "silicon.toml").read_text(encoding="utf-8")
    text = text.replace("[3, 3, 3]", f"[{supercell}, {supercell}, {supercell}]")
    (folder / "silicon.toml").write_text(text.replace('"340 ps"', f'"{FALL / rate:g} ps"'), encoding="utf-8")
    return folder / "silicon.toml"


def look(run: Run, picture: Path) -> None:
    """Print what both states are like, and draw them."""
    figure, (distances, angles, waves) = new_figure(1, 3, width=12.0, height=3.6)
    for index, (name, stage, neighbours) in enumerate(STATES):
        state, cutoffs = open_run(run, stage), {("Si", "Si"): neighbours}
        results = (
            rdf(state, r_max=8.0),
            coordination(state, cutoffs=cutoffs),
            adf(state, cutoffs=cutoffs, bin_width=2.0),
            structure_factor(state, q_max=12.0, bin_width=0.1),
        )
        print(f"{name}:", *results, "", sep="\n")
        for result in results:
            write(result, run.path / FOLDER / f"stage_{stage}")
        pairs, _, triplets, factor = results
        curves = (
            (distances, pairs.distances, pairs.pairs[0].g),
            (angles, triplets.angles, triplets.triplets[0].density),
            (waves, factor.q, factor.curve("S(q)").values),
        )
        for axes, x, y in curves:
            axes.plot(x, y, color=color(index), label=name)
    label(distances, "r (Å)", "g(r)")
    label(angles, "angle (°)", "P (1/°)")
    label(waves, "q (1/Å)", "S(q)")
    distances.legend(frameon=False, fontsize=9)
    save(figure, picture)


def main() -> None:
    """Make the glass, or continue, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supercell", type=int, default=3, help="8 atoms times its cube")
    parser.add_argument("--rate", type=float, default=5.0, help="of the quench, K/ps")
    parser.add_argument("--out", type=Path, default=Path("silicon"))
    options = parser.parse_args()
    source = prepare(options.out, options.supercell, options.rate)
    look(simulate(source, options.out / "silicon.run"), options.out / "silicon.png")


if __name__ == "__main__":
    main()
