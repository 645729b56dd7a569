"""What fluxes need of a structure and a potential, looked at before a run has a folder."""

from __future__ import annotations

import ase
import numpy as np

from mlmd.config import Simulate
from mlmd.errors import InputError
from mlmd.potentials import Potential, has_stress
from mlmd.potentials.evaluate import evaluator


def check_fluxes(config: Simulate, potential: Potential, atoms: ase.Atoms) -> None:
    """Make sure that the fluxes of an input can be told.

    Raises:
        InputError: for a stress without a volume or of a potential without one, the heat flux of a potential that does
            not divide energy and virial among atoms, and a current without charges or of charges that are all 0.
    """
    fluxes = config.output.fluxes or ()
    name = getattr(potential, "source", "the potential")
    if "stress" in fluxes and not atoms.pbc.all():
        raise InputError("output: fluxes: stress needs a volume: a cell periodic in all three directions.")
    if "stress" in fluxes and config.mlmm is None and not has_stress(potential):
        raise InputError(f"output: fluxes: stress: {name} gives none. Leave stress out, or use another potential.")
    if "current" in fluxes and charges_for_current(config, atoms) is None:
        raise InputError(
            "output: fluxes: current: no charges are known, and they are not guessed. Give those of the elements that "
            'move, [analysis] charges = { Li = 1 }, or a structure file with charges ("initial_charges").'
        )
    if "current" in fluxes and not np.any(charges_for_current(config, atoms)):
        raise InputError(
            f"output: fluxes: current: every atom ({', '.join(dict.fromkeys(atoms.symbols))}) has the charge 0, and no "
            "current flows. Give charges of the elements that move, [analysis] charges = { Li = 1 }, or leave current "
            "out."
        )
    if "heat" in fluxes and not _knows_heat(potential, atoms):
        raise InputError(
            f"output: fluxes: heat: {name} does not tell the energy of each atom and how it changes with each of the "
            "neighbours, of which the heat flux is made. Potentials of mlmd's own whose atoms see their neighbours "
            "alone tell it (pairs, EAM, Stillinger-Weber, Tersoff, MTP, NEP, networks on descriptors); where messages "
            "pass from atom to atom, and in a sum over the far (Coulomb), the neighbours of neighbours carry heat too. "
            "Leave heat out, or distil the model into such a potential."
        )


def charges_for_current(config: Simulate, atoms: ase.Atoms) -> np.ndarray | None:
    """(n_atoms,) e: by element from the input, else those of the structure file.

    Charges that do not add up to zero make a current that depends on what is at rest. What is missing is spread over
    the atoms of the elements that were given none, in proportion to their masses: then Σ q v is the current relative
    to their centre of mass.
    """
    by_element = {} if config.analysis is None else config.analysis.charges
    if by_element:
        named = np.array([by_element.get(symbol, 0.0) for symbol in atoms.symbols])
        without = np.where(named == 0.0, atoms.get_masses(), 0.0)
        return np.asarray(named - named.sum() * without / without.sum() if without.any() else named)
    charges = atoms.arrays.get("initial_charges")
    return None if charges is None else np.array(charges, dtype=float)


def _knows_heat(potential: Potential, atoms: ase.Atoms) -> bool:
    made = evaluator(potential, atoms.numbers, atoms.pbc)
    ask = getattr(made, "detailed", None)
    if ask is None:
        return False
    found = ask(atoms.positions, atoms.cell.array)
    return found.energies is not None and found.virials is not None
