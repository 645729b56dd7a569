"""Networks of MACE with random numbers, by its own classes: python random_mace.py FILE [HEAD...]."""

from __future__ import annotations

import sys

import mace  # noqa: F401  (before e3nn, which cannot be imported otherwise)
import numpy as np
import torch
from e3nn import o3
from mace import modules

ELEMENTS = (3, 17)
CUTOFF = 4.0


def network(heads: list[str]) -> torch.nn.Module:
    """Two layers of scalars and vectors, with the repulsion of nuclei, for Li and Cl."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    first = modules.interaction_classes["RealAgnosticDensityInteractionBlock"]
    later = modules.interaction_classes["RealAgnosticDensityResidualInteractionBlock"]
    n_heads = len(heads)
    return modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=6, num_polynomial_cutoff=5, max_ell=2, interaction_cls=later,
        interaction_cls_first=first, num_interactions=2, num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("4x0e+4x1o"), MLP_irreps=o3.Irreps("4x0e"),
        atomic_energies=np.array([[-1.5, -3.25]] * n_heads) + np.arange(n_heads)[:, None], avg_num_neighbors=8.0,
        atomic_numbers=list(ELEMENTS), correlation=2, gate=torch.nn.functional.silu, pair_repulsion=True,
        radial_MLP=[8, 8], atomic_inter_scale=[3.0] * n_heads, atomic_inter_shift=[0.1] * n_heads, heads=heads,
    )  # fmt: skip


if __name__ == "__main__":
    torch.save(network(sys.argv[2:] or ["Default"]), sys.argv[1])
