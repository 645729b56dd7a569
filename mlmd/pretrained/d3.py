"""DFT-D3 dispersion (S. Grimme et al., J. Chem. Phys. 132, 154104 (2010)) by s-dftd3, to be added to another model.

Coordination numbers make it a many-body potential: forces and stress have the derivatives of these too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "dftd3"
SMOOTH = 0.1
"""Part of the cutoff over which pairs and triples go to zero."""


def calculator(method: str, damping: str, cutoff: float | None = None) -> Any:
    """Its ASE calculator.

    Args:
        method: of density functional theory, e.g. "PBE".
        damping: of s-dftd3, e.g. "d3bj".
        cutoff: Å, of pairs, triples and coordination numbers, if that is nearer than where s-dftd3 ends them.
    """
    from ase import Atoms
    from ase.calculators.calculator import InputError
    from ase.units import Bohr
    from dftd3.ase import DFTD3

    most = 60 * Bohr if cutoff is None else cutoff
    ends = {"disp2": min(most, 60 * Bohr), "disp3": min(most, 40 * Bohr), "cn": min(most, 40 * Bohr)}
    widths = {"width2": SMOOTH * ends["disp2"], "width3": SMOOTH * ends["disp3"]}
    made = DFTD3(method=method, damping=damping, realspace_cutoff={**ends, **widths})
    try:
        made.get_potential_energy(Atoms("He"))
    except InputError:
        raise ValueError(f"s-dftd3 has no parameters of {damping} for the method {method}, e.g. PBE, r2SCAN") from None
    return made


def facts(made: Any) -> dict[str, Any]:
    """Its numbers."""
    return {"precision": "float64"}


def load(
    method: str,
    damping: str = "d3bj",
    cutoff: object = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """Dispersion for a method.

    Args:
        method: the functional that the labels of the other part were made with, e.g. ``"PBE"``.
        damping: ``"d3bj"`` (Becke and Johnson), ``"d3zero"``, ``"d3bjm"``, ``"d3zerom"``, ``"d3op"`` or ``"d3cso"``.
        cutoff: a length, e.g. ``"12 Å"``, at which it ends smoothly; 60 bohr (40 for triples) when left out, which is
            exact enough for anything and slow for crystals.
        python: the interpreter of another environment that has s-dftd3.
        elements: that it may be asked about.
        precision: float64 alone.

    Raises:
        InputError: for a method or damping that s-dftd3 does not know, and when it is not installed.
    """
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework
    from mlmd.units import parse

    if precision != "float64":
        raise InputError("precision: s-dftd3 computes in float64.")
    length = None if cutoff is None else parse(cutoff, "length")
    arguments = {"method": method, "damping": damping, "cutoff": length}
    return framework("d3", arguments, install=INSTALL, python=python, elements=elements, moves=False)
