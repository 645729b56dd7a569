"""64 ions of rock salt in a run, on mlmd's pairs, and what the framework's own calculator says where the run ends.

    python salt_in_motion.py chgnet|sevennet single|double FOLDER

in the environment of the framework, with mlmd on its path; prints how far they are apart. CHGNet and SevenNet compute
in single precision, in which energies of 64 ions come in steps of 1.5e-5 eV. With ``double`` their own code computes in
double precision, its numbers being what they are, so that what is different is not rounding.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from mlmd.engine import checkpoint
from mlmd.engine.run import simulate
from mlmd.potentials.load import build
from mlmd.pretrained import native
from mlmd.rundir import CHECKPOINTS

NVE = '[[stage]]\nkind = "nve"\nduration = "6 fs"\n'
NPT = (
    '[[stage]]\nkind = "npt"\ntemperature = "600 K"\npressure = "1 kbar"\nduration = "6 fs"\nbarostat = { every = 2 }\n'
)


def double_chgnet() -> None:
    """CHGNet in double precision."""
    from chgnet.graph import converter, crystalgraph
    from chgnet.model import dynamics, model

    for module in (converter, crystalgraph, model):
        module.TORCH_DTYPE = torch.float64
    torch.set_default_dtype(torch.float64)
    made = dynamics.CHGNetCalculator.__init__

    def make(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        composition = self.model.double().composition_model
        composition._get_energy = lambda counts: composition.fc(counts.double()).view(-1)  # of integers

    dynamics.CHGNetCalculator.__init__ = make


def double_sevennet() -> None:
    """SevenNet in double precision."""
    import sevenn.util
    from sevenn import calculator
    from sevenn.nn.node_embedding import OnehotEmbedding

    sevenn.util.dtype_correct.__defaults__ = (torch.float64, torch.int64)
    made, told = calculator.SevenNetCalculator.__init__, OnehotEmbedding.forward

    def make(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        self.model.double()

    def tell(self: Any, table: Any) -> Any:
        given = told(self, table)  # zeros and ones, of single precision
        for key in (self.key_output, self.key_additional_output):
            if key is not None:
                given[key] = given[key].double()
        return given

    calculator.SevenNetCalculator.__init__, OnehotEmbedding.forward = make, tell


NAMES = {"chgnet": "0.3.0", "sevennet": "7net-0"}
DOUBLE = {"chgnet": double_chgnet, "sevennet": double_sevennet}


def main(kind: str, precision: str, folder: Path) -> None:
    """Print what the run asked, and the differences where its stages end."""
    warnings.simplefilter("ignore")  # of the frameworks
    if precision == "double":
        DOUBLE[kind]()
        native._AGREE[torch.float64] = 1e-6  # what the networks were stored with has seven digits
    asked: Any = build(kind, {"name": NAMES[kind]})
    calculator = asked.external.calculator
    salt = bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat(2)
    salt.rattle(0.05, seed=3)
    ase.io.write(folder / "salt.extxyz", salt, format="extxyz")
    told: dict[str, Any] = {"class": type(asked).__name__, "dtype": str(asked.dtype), "ends": []}
    for name, stages in (("nve", NVE), ("npt", NVE + NPT)):
        source = folder / f"{name}.toml"
        source.write_text(
            f'structure = "salt.extxyz"\npotential = {{ kind = "{kind}", name = "{NAMES[kind]}" }}\nseed = 1\n'
            f'timestep = "1 fs"\nvelocities = "600 K"\n{stages}'
        )
        simulate(source, folder / name)
        last, _ = checkpoint.newest(folder / name / CHECKPOINTS)
        assert last is not None
        end = last.arrays
        atoms = Atoms(salt.numbers, positions=10 * end["positions"], cell=end["cell"], pbc=True)  # OpenMM has nm
        calculator.calculate(atoms, ["energy", "forces", "stress"], ["positions"])
        theirs = calculator.results
        told["ends"].append({
            "position": last.position,
            "volume": atoms.get_volume() / salt.get_volume(),
            "moved": float(np.abs((atoms.get_scaled_positions() - salt.get_scaled_positions() + 0.5) % 1 - 0.5).max()),
            "energy": abs(float(last.header["energy"]) - float(theirs["energy"])),
            "forces": float(np.abs(end["forces"] - theirs["forces"]).max()),
            "largest": float(np.abs(theirs["forces"]).max()),
        })  # fmt: skip
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
