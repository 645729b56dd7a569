"""Can the timestep follow the kernels of a bias? Where it cannot, what they fill is wrong by a part of kT, silently.

A Gaussian kernel of height h and width σ curves the energy by h / σ² along its variable s, whose effective mass is
1/m = Σ_a |∂s/∂r_a|² / m_a, so that it drives oscillations of ω² = h / (m σ²); of several variables ω² is the largest
eigenvalue of h Σ_a (∂s_i/∂r_a)·(∂s_j/∂r_a) / (m_a σ_i σ_j). Leapfrog is unstable from ω Δt = 2 on. The first kernels of
OPES are as high as its barrier. (Argon atoms in wells, with barriers of 15 kJ/mol: right at ω Δt = 1.2, wrong by 0.6 kT
at 2.4; `benchmarks/free_energies.py`.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlmd import units
from mlmd.bias.plumed import PlumedBias, copy_inputs, working_in
from mlmd.bias.script import FORGETFUL, HISTORIES, Script
from mlmd.bias.statement import Statement
from mlmd.errors import InputError, SimulationError, StorageError

MOST = 1.5
"""ω Δt from which on a kernel is too stiff."""
_HEIGHTS = {"METAD": "HEIGHT", "OPES_METAD": "BARRIER", "OPES_METAD_EXPLORE": "BARRIER"}
_WRITES = {*HISTORIES, *FORGETFUL, "PRINT", "FLUSH", "COMMITTOR", "RESTART"}


def stiff_kernels(
    script: Script, *, positions: np.ndarray, cell: np.ndarray, inverse_masses: np.ndarray, timestep: float,
    charges: np.ndarray | None = None, temperature: float | None = None, kernel: Path | None = None,
) -> Iterator[str]:  # fmt: skip
    """Words about each bias whose kernels the timestep cannot follow where a run begins.

    Nothing is said of what cannot be told: widths that PLUMED measures, and scripts with units of their own.

    Args:
        script: of the stage.
        positions: (n_atoms, 3) Å.
        cell: (3, 3) Å, zero rows where not periodic.
        inverse_masses: (n_atoms,) 1/amu, zero for atoms that are held.
        timestep: fs.
        charges: (n_atoms,) e.
        temperature: K.
        kernel: the library of PLUMED.
    """
    if any(statement.action == "UNITS" for statement in script.statements):
        return
    masses = 1.0 / np.where(inverse_masses > 0.0, inverse_masses, 1.0)
    options = {
        "masses": masses, "charges": charges, "timestep": timestep, "temperature": temperature, "kernel": kernel,
    }  # fmt: skip
    for number, statement in enumerate(script.statements):
        height, widths = _shape(statement)
        if height is None or not widths:
            continue
        before = replace(script, statements=tuple(one for one in script.statements[:number] if not _writes(one)))
        try:
            slopes = _slopes(before, statement.values("ARG"), positions, cell, options)
        except (InputError, SimulationError, StorageError):  # a variable that needs what is left out here
            continue
        scaled = slopes / np.array(widths)[:, None, None]
        inverse = np.einsum("iax,jax,a->ij", scaled, scaled, inverse_masses) / units.KINETIC
        phase = timestep * float(np.sqrt(height * units.EV_PER_KJMOL * np.linalg.eigvalsh(inverse)[-1]))
        if phase > MOST:
            yield _words(script, statement, timestep, phase)


def _words(script: Script, statement: Statement, timestep: float, phase: float) -> str:
    name, key, period = statement.action, _HEIGHTS[statement.action], 2.0 * np.pi * timestep / phase
    return (
        f"{script.path.name}: the kernels of {name} are too stiff for the timestep: on one as high as {key} "
        f"{', '.join(statement.values('ARG'))} would swing with a period of {period:.3g} fs, of which {timestep:g} fs "
        f"are too large a part, and the free energy would be wrong without a word. Make SIGMA {phase:.2g} times wider, "
        f"{key} {phase**2:.2g} times lower, or the timestep {phase:.2g} times shorter."
    )


def _writes(statement: Statement) -> bool:
    return statement.action in _WRITES or statement.action.startswith("DUMP")


def _shape(statement: Statement) -> tuple[float | None, Sequence[float]]:
    """Height (kJ/mol) and widths of the kernels of an action, as far as they are known before."""
    key = _HEIGHTS.get(statement.action)
    given = [] if key is None else statement.values(key)
    try:
        widths = [float(width) for width in statement.values("SIGMA")]
        height = float(given[0]) if given else None
    except ValueError:
        return None, ()
    known = len(widths) == len(statement.values("ARG")) and not statement.values("ADAPTIVE")
    return height, widths if known and min(widths, default=0.0) > 0.0 else ()


def _slopes(
    script: Script, names: Sequence[str], positions: np.ndarray, cell: np.ndarray, options: Mapping[str, Any]
) -> np.ndarray:
    """(n_variables, n_atoms, 3), of variables in PLUMED's units per Å, where everything stands."""
    found, where = [], np.ascontiguousarray(positions)
    with tempfile.TemporaryDirectory() as name, working_in(Path(name)):
        copy_inputs(script, Path(name))
        for label in ("", *names):
            asked = Statement(script.path, 0, f"BIASVALUE ARG={label}")
            own = replace(script, statements=(*script.statements, *((asked,) if label else ())))
            plumed, forces = PlumedBias(own, **options), np.zeros(positions.shape)
            try:
                plumed.compute(0, where, np.ascontiguousarray(cell), 0.0, forces, np.zeros((3, 3)))
            finally:
                plumed.close()
            found.append(forces)
    # walls and whatever else acts is in all of them; PLUMED gave the forces of 1 kJ/mol per unit of a variable
    return (found[0] - np.array(found[1:])) / units.EV_PER_KJMOL
