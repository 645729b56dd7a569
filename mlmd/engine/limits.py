"""What forces and moves are never: not finite, or larger than [guard] allows. In words, with the worst atom."""

from __future__ import annotations

import math

import numpy as np


def problem_of_forces(
    forces: np.ndarray, energy: float, max_force: float | None, names: np.ndarray | None = None, *,
    has_energy: bool = True,
) -> tuple[str, int | None] | None:  # fmt: skip
    """What is wrong with forces, and the atom that it is seen on; None where nothing is.

    Args:
        forces: (n_atoms, 3) eV/Å.
        energy: eV.
        max_force: eV/Å, or None.
        names: (n_atoms,) indices of the atoms in the structure, where these are only some.
        has_energy: whether the potential knows energies.
    """
    # one sum of squares answers both questions for some thousand atoms: finite, and no force above the limit. It is
    # not np.vdot: BLAS takes that to its own threads, which wait for a busy core longer than the potential takes
    total = float(np.einsum("ij,ij->", forces, forces))
    limit = math.inf if max_force is None else max_force
    finite = math.isfinite(energy) and math.isfinite(total)
    if finite and (total <= limit**2 or np.einsum("ij,ij->i", forces, forces).max() <= limit**2):
        return None
    norms = np.linalg.norm(forces, axis=1)
    if finite:
        worst = int(norms.argmax())
        return (
            f"the force on atom {_name(worst, names)} (counted from 0) is {norms[worst]:.4g} eV/Å, above "
            f"[guard] max_force = {limit:g} eV/Å.",
            _name(worst, names),
        )
    bad = np.flatnonzero(~np.isfinite(norms))
    first = None if not len(bad) else _name(int(bad[0]), names)
    where = "" if first is None else f" Force on atom {first} (counted from 0): {forces[bad[0]]}."
    what = f"a non-finite result: energy {energy} eV." if has_energy else "non-finite forces."
    return f"the potential gave {what}{where}", first


def problem_of_moves(
    moves: np.ndarray, max_displacement: float | None, steps: int = 1, names: np.ndarray | None = None
) -> tuple[str, int] | None:
    """What is wrong with how atoms have moved, and the worst of them; None where nothing is.

    Args:
        moves: (n_atoms, 3) Å.
        max_displacement: Å in one step, or None.
        steps: in which they were made.
        names: (n_atoms,) indices of the atoms in the structure, where these are only some.
    """
    limit = math.inf if max_displacement is None else steps * max_displacement
    # as for forces, one sum answers for some thousand atoms; of a number that is not finite it is not finite
    total = float(np.einsum("ij,ij->", moves, moves))
    if total <= limit**2 and math.isfinite(total):
        return None
    lengths = np.sqrt(np.einsum("ij,ij->i", moves, moves))
    worst = int(np.argmax(np.where(np.isfinite(lengths), lengths, np.inf)))
    name = _name(worst, names)
    if not math.isfinite(lengths[worst]):
        return f"the position of atom {name} (counted from 0) is not finite.", name
    if lengths[worst] <= limit:
        return None
    return (
        f"atom {name} (counted from 0) moved by {lengths[worst]:.3g} Å in "
        f"{'one step' if steps == 1 else f'{steps} steps'}, above [guard] max_displacement = {max_displacement:g} Å a "
        "step.",
        name,
    )


def _name(atom: int, names: np.ndarray | None) -> int:
    return atom if names is None else int(names[atom])
