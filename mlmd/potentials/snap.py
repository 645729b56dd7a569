"""SNAP: the energy of an atom is a linear or quadratic function of its bispectrum components.

    E_i = β0 + Σ_k β_k B_k + ½ Σ_kl α_kl B_k B_l,          by element

(Thompson et al., J. Comput. Phys. 285, 316, 2015; Wood and Thompson, J. Chem. Phys. 148, 241721, 2018).
Files are those of LAMMPS: coefficients (`.snapcoeff`) and, beside them, parameters (`.snapparam`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.bispectrum import Bispectrum
from mlmd.descriptors.bispectrum_kernel import bispectrum_kernel
from mlmd.errors import InputError, ModelError
from mlmd.kernels import Kernel
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.snapfile import Element, read_coefficients, read_parameters
from mlmd.precision import dtype_of


class ElementPolynomial(torch.nn.Module):
    """e = c + x · b + ½ x · A x with numbers of each kind."""

    accepts: tuple[str, ...] = ("atom",)

    def __init__(self, *, n_features: int, n_kinds: int, quadratic: bool) -> None:
        """All zeros, to be loaded."""
        super().__init__()
        self.n_features, self.n_kinds, self.is_quadratic = n_features, n_kinds, quadratic
        shapes: dict[str, tuple[int, ...]] = {"constants": (n_kinds,), "linear": (n_kinds, n_features)}
        if quadratic:
            shapes["quadratic"] = (n_kinds, n_features, n_features)
        for name, shape in shapes.items():
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,).

        Summed in float64 whatever the precision of the features: large terms cancel.
        """
        x = features.double()
        total = self.constants.double()[kinds] + (x * self.linear.double()[kinds]).sum(dim=1)
        if self.is_quadratic:
            for kind in range(self.n_kinds):
                own = torch.where((kinds == kind)[:, None], x, 0.0)
                total = total + 0.5 * ((own @ self.quadratic[kind].double()) * own).sum(dim=1)
        return total

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        numbers = {"n_features": self.n_features, "n_kinds": self.n_kinds}
        return {"kind": "element-polynomial", **numbers, "quadratic": self.is_quadratic}

    constants: torch.nn.Parameter
    """c, (n_kinds,) eV."""
    linear: torch.nn.Parameter
    """b, (n_kinds, n_features) eV."""
    quadratic: torch.nn.Parameter
    """A, (n_kinds, n_features, n_features) eV, symmetric."""


class SNAP(LearnedPotential):
    """Spectral neighbour analysis potential; see the module."""

    descriptor: Bispectrum
    regressor: ElementPolynomial

    def __init__(self, descriptor: Bispectrum, quadratic: bool = False) -> None:
        """With coefficients of zero, to be loaded."""
        n_features, n_kinds = descriptor.n_features, len(descriptor.elements)
        super().__init__(descriptor, ElementPolynomial(n_features=n_features, n_kinds=n_kinds, quadratic=quadratic))

    def kernel(self) -> Kernel | None:
        """The compiled form; None with `chemflag`."""
        regressor = self.regressor
        quadratic = regressor.quadratic if regressor.is_quadratic else None
        return bispectrum_kernel(self.descriptor, regressor.constants, regressor.linear, quadratic)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> SNAP:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller.

        Raises:
            KeyError, TypeError, InputError: when something is missing or impossible.
        """
        return cls(Bispectrum.restore(spec["descriptor"], {}), quadratic=bool(spec["quadratic"]))

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "snap", "descriptor": self.descriptor.spec(), "quadratic": self.regressor.is_quadratic}


def load(
    path: Path | str,
    parameters: Path | str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> SNAP:
    """A SNAP from LAMMPS' two files.

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
    potential = SNAP(descriptor, settings.quadratic)
    for kind, element in enumerate(chosen):
        _set_coefficients(potential.regressor, kind, element, path)
    return potential.to(dtype_of(precision))


def _chosen(path: Path, known: Sequence[Element], symbols: Sequence[str] | None) -> list[Element]:
    """The elements asked for."""
    by_symbol = {one.symbol: one for one in known}
    for symbol in symbols or ():
        if symbol not in by_symbol:
            raise InputError(f"{path} has no {symbol}, it has {', '.join(by_symbol)}.")
    return [by_symbol[symbol] for symbol in symbols] if symbols else list(known)


def _set_coefficients(regressor: ElementPolynomial, kind: int, element: Element, path: Path) -> None:
    """Constant, linear and then, row by row, quadratic coefficients from the diagonal on."""
    n = regressor.n_features
    needed = 1 + n + (n * (n + 1) // 2 if regressor.is_quadratic else 0)
    if len(element.coefficients) != needed:
        form = "quadratic" if regressor.is_quadratic else "linear"
        raise ModelError(
            f"{path}: line {element.line}: {element.symbol} has {len(element.coefficients)} coefficients; a {form} "
            f"function of {n} bispectrum components has {needed}. Does the file of parameters belong to it?"
        )
    numbers = torch.tensor(element.coefficients, dtype=torch.float64)
    with torch.no_grad():
        regressor.constants[kind] = numbers[0]
        regressor.linear[kind] = numbers[1 : n + 1]
        if regressor.is_quadratic:
            row, column = torch.triu_indices(n, n)
            # the file has c B_k B_l once for k < l, and c B_k² / 2
            regressor.quadratic[kind, row, column] = numbers[n + 1 :]
            regressor.quadratic[kind, column, row] = numbers[n + 1 :]
