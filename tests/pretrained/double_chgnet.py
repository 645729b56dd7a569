"""CHGNet in double precision, by its own calculator and on mlmd's pairs; prints how far they are apart.

The framework computes in single precision, whose energies of 64 ions come in steps of 1.5e-5 eV. What it computes in is
changed here, in its own code, so that what is different is not rounding.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import torch
from ase.build import bulk

from mlmd.neighbors import build_graph
from mlmd.pretrained.chgnet import load


def main() -> None:
    """Print the differences of energy (eV) and forces (eV/Å) of 64 ions off their places."""
    warnings.simplefilter("ignore")
    from chgnet.graph import converter, crystalgraph
    from chgnet.model import model

    own = load()
    calculator, network = own.external.calculator, own.network(torch.device("cpu"))
    for module in (converter, crystalgraph, model):
        module.TORCH_DTYPE = torch.float64
    torch.set_default_dtype(torch.float64)
    composition = calculator.model.double().composition_model
    composition._get_energy = lambda counts: composition.fc(counts.double()).view(-1)  # of integers
    network.double()
    own.dtype = torch.float64
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat(2)
    atoms.rattle(0.05, seed=3)
    calculator.calculate(atoms, ["energy", "forces", "stress"], ["positions"])
    found, expected = own.predict(build_graph(atoms, own.cutoff)), calculator.results
    print(json.dumps({
        "energy": abs(float(found.energy[0]) - float(expected["energy"])),
        "forces": float(np.abs(found.forces.numpy() - expected["forces"]).max()),
        "largest": float(np.abs(expected["forces"]).max()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
