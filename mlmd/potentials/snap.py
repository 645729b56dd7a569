"""SNAP: the energy of an atom is a linear or quadratic function of its bispectrum components.

    E_i = β0 + Σ_k β_k B_k + ½ Σ_kl α_kl B_k B_l,          by element

(Thompson et al., J. Comput. Phys. 285, 316, 2015; Wood and Thompson, J. Chem. Phys. 148, 241721, 2018).
Files are those of LAMMPS: coefficients (`.snapcoeff`) and, beside them, parameters (`.snapparam`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mlmd.descriptors.bispectrum import Bispectrum
from mlmd.errors import InputError, ModelError
from mlmd.fitting.polynomial import Polynomial
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import cannot_be_written
from mlmd.potentials.snapfile import (
    Element,
    Settings,
    read_coefficients,
    read_parameters,
    write_coefficients,
    write_parameters,
)
from mlmd.precision import dtype_of


def load(
    path: Path | str,
    parameters: Path | str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> LearnedPotential:
    """A SNAP from LAMMPS' two files: bispectrum × polynomial.

    What is often added to it (a ZBL repulsion, charges) is not part of the files: give a list of potentials.

    Args:
        path: the coefficients, `.snapcoeff`.
        parameters: the parameters; the `.snapparam` of the same name beside `path` when not given.
        elements: those wanted, in the order wanted; all of the file when not given.
        precision: "float64" or "float32".

    Raises:
        InputError: for a missing file, and elements that the file does not have.
        ModelError: for a damaged file or a setting that is unknown or impossible.
    """
    path = Path(path)
    known = read_coefficients(path)
    of_parameters = path.with_suffix(".snapparam") if parameters is None else Path(parameters)
    if parameters is None and not of_parameters.is_file():
        raise InputError(f"{path} needs its parameters: {of_parameters} does not exist. Name them: parameters = ...")
    settings = read_parameters(of_parameters)
    chosen = _chosen(path, known, elements)
    if settings.expansion.chemflag and chosen != known:
        symbols = ", ".join(one.symbol for one in known)
        raise InputError(f"{path}: with chemflag all elements are needed in the file's order: {symbols}.")
    try:
        descriptor = Bispectrum(
            elements=[one.symbol for one in chosen],
            radii=[one.radius for one in chosen],
            weights=[one.weight for one in chosen],
            expansion=settings.expansion,
        )
    except InputError as error:
        raise ModelError(f"{path} with {of_parameters.name}: {error}") from None
    order, n_kinds = (2 if settings.quadratic else 1), len(chosen)
    regressor = Polynomial(n_features=descriptor.n_features, n_kinds=n_kinds, order=order)
    numbers = torch.stack([_coefficients(path, one, regressor) for one in chosen])
    with torch.no_grad():
        regressor.constants.copy_(numbers[:, 0])
        regressor.coefficients.copy_(numbers[:, 1:].flatten())
    return LearnedPotential(descriptor, regressor).to(dtype_of(precision))


def save(potential: LearnedPotential, path: Path | str) -> None:
    """Write bispectrum × polynomial as LAMMPS' two files, with all digits, in LAMMPS' units "metal".

    Args:
        potential: linear or quadratic.
        path: of the coefficients, `.snapcoeff`; the parameters go beside it, with the suffix `.snapparam`.

    Raises:
        InputError: when the potential is something else, or the path has another suffix.
    """
    path = Path(path)
    components, polynomial = potential.descriptor, potential.regressor
    if not (isinstance(components, Bispectrum) and isinstance(polynomial, Polynomial)):
        raise cannot_be_written(potential, ".snapcoeff")
    if path.suffix != ".snapcoeff":
        raise InputError(f"{path}: the coefficients of a SNAP are written to a file that ends in .snapcoeff.")
    constants = polynomial.constants.double()[:, None]
    numbers = torch.cat([constants, polynomial.coefficients.double().view(len(constants), -1)], dim=1).tolist()
    described = zip(components.elements, components.radii, components.weights, numbers, strict=True)
    write_parameters(path.with_suffix(".snapparam"), Settings(components.expansion, polynomial.order == 2))
    write_coefficients(path, [Element(*one) for one in described])


def _chosen(path: Path, known: Sequence[Element], symbols: Sequence[str] | None) -> list[Element]:
    """The elements asked for."""
    by_symbol = {one.symbol: one for one in known}
    for symbol in symbols or ():
        if symbol not in by_symbol:
            raise InputError(f"{path} has no {symbol}, it has {', '.join(by_symbol)}.")
    return [by_symbol[symbol] for symbol in symbols] if symbols else list(known)


def _coefficients(path: Path, element: Element, regressor: Polynomial) -> torch.Tensor:
    """(1 + n_of_each,) float64: the constant, then linear and quadratic coefficients, in the regressor's order."""
    needed = 1 + regressor.n_of_each
    if len(element.coefficients) != needed:
        form = "quadratic" if regressor.order == 2 else "linear"
        raise ModelError(
            f"{path}: line {element.line}: {element.symbol} has {len(element.coefficients)} coefficients; a {form} "
            f"function of {regressor.n_features} bispectrum components has {needed}. Does the file of parameters "
            "belong to it?"
        )
    return torch.tensor(element.coefficients, dtype=torch.float64)
