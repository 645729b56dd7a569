"""SNAPs with random coefficients in the place of fitted ones, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from mlmd.descriptors.bispectrum import Bispectrum, Expansion
from mlmd.descriptors.coupling import components
from mlmd.potentials.snap import SNAP


def random_snap(
    elements: Sequence[str], twojmax: int, precision: str = "float64", *, quadratic: bool = False, **settings: Any
) -> SNAP:
    """With cutoffs of 4 to 5 Å, different for each pair of elements, and forces of some eV/Å."""
    generator = torch.Generator().manual_seed(twojmax)
    n = len(elements)
    expansion = Expansion(**({"rcutfac": 4.8, "twojmax": twojmax} | settings))
    radii = [0.5 - 0.05 * kind for kind in range(n)]
    potential = SNAP(
        Bispectrum(elements=elements, radii=radii, weights=[1 - 0.3 * k for k in range(n)], expansion=expansion),
        quadratic,
    )
    regressor = potential.regressor
    scales = {"constants": 3.0, "linear": 1e-2} | ({"quadratic": 1e-5} if quadratic else {})
    with torch.no_grad():
        for name, scale in scales.items():
            tensor = getattr(regressor, name)
            tensor.copy_(scale * (torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5))
        if quadratic:
            regressor.quadratic.copy_(regressor.quadratic + regressor.quadratic.transpose(1, 2))
    return potential.to(getattr(torch, precision))


def make_symmetric(potential: SNAP) -> None:
    """Give components that are equal by symmetry equal coefficients.

    B of densities e1 e2 e3 does not change when these trade places together with j1 j2 j. Forces of LAMMPS (2025) are
    the gradient of its energy for such coefficients only, which those of a fit are.
    """
    settings, regressor = potential.descriptor.expansion, potential.regressor
    densities = product(range(potential.descriptor.n_densities), repeat=3)
    keys = [sorted(zip(j, e, strict=True)) for e in densities for j in components(settings.twojmax)]
    same = torch.tensor([[float(one == other) for one in keys] for other in keys], dtype=torch.float64)
    average = same / same.sum(dim=1, keepdim=True)
    with torch.no_grad():
        regressor.linear.copy_(regressor.linear @ average)
        if regressor.is_quadratic:
            regressor.quadratic.copy_(average @ regressor.quadratic @ average)


def write(potential: SNAP, path: Path) -> None:
    """The `.snapcoeff` file `path` and, beside it, the `.snapparam` file, as LAMMPS reads them."""
    descriptor, regressor = potential.descriptor, potential.regressor
    rows = torch.triu_indices(descriptor.n_features, descriptor.n_features)
    lines = []
    for kind, symbol in enumerate(descriptor.elements):
        numbers = [regressor.constants[kind : kind + 1], regressor.linear[kind]]
        if regressor.is_quadratic:
            numbers.append(regressor.quadratic[kind][rows[0], rows[1]])
        values = torch.cat(numbers).tolist()
        lines += [f"{symbol} {descriptor.radii[kind]!r} {descriptor.weights[kind]!r}", *map(repr, values)]
    path.write_text("\n".join([f"{len(descriptor.elements)} {len(values)}", *lines]) + "\n")
    spec = descriptor.spec()
    settings = {name: spec[name] for name in spec if name not in ("kind", "elements", "radii", "weights")}
    settings["quadraticflag"] = regressor.is_quadratic
    settings["switchinnerflag"] = bool(settings["sinner"])
    words = {key: " ".join(map(repr, one)) if isinstance(one, list) else f"{one + 0}" for key, one in settings.items()}
    path.with_suffix(".snapparam").write_text("".join(f"{key} {word}\n" for key, word in words.items() if word))
