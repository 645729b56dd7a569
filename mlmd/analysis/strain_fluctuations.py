"""Elastic constants at a temperature, from how the cell fluctuates under a constant pressure.

    S_ij = (V / k_B T) ⟨Δε_i Δε_j⟩,    C = S⁻¹

in Voigt order xx yy zz yz xz xy with shears ε_4 = 2 ε_yz (Parrinello and Rahman, J. Chem. Phys. 76, 2662, 1982). The
strain of a cell h (rows are vectors) against the mean cell h₀ is ε = ½ (h₀⁻¹ h hᵀ h₀⁻ᵀ - 1), which does not see how the
cell is turned. These are isothermal constants; under a pressure they are those of stress against strain there.

Blocks of time, one after the other left out, give the errors, and take away that the inverse of a mean of few
independent values comes out too large (the jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd import units
from mlmd.analysis.blocks import N_BLOCKS, block_of
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.moduli import MODULI, moduli
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GPA = 1e4 * units.BAR
"""eV/Å³."""
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
FEW = 2.0 * N_BLOCKS
"""Independent strains below which errors are not known: two in each block."""
N_POINTS = 60
"""Of the curve that shows how the constants settle."""
CLEAR = 4.0
"""Standard errors by which the halves of a run differ clearly."""
SHOWN = (("C11", 0, 0), ("C22", 1, 1), ("C33", 2, 2), ("C44", 3, 3), ("C55", 4, 4), ("C66", 5, 5),
         ("C12", 0, 1), ("C13", 0, 2), ("C23", 1, 2))  # fmt: skip
"""Those of an orthorhombic crystal: names, rows and columns."""


@dataclass(frozen=True)
class ElasticFluctuations:
    """How a crystal answers to strain at its temperature."""

    tensor: np.ndarray
    """(6, 6) GPa."""
    error: np.ndarray
    """(6, 6) GPa, nan where not known."""
    eigenvalues: np.ndarray
    """(6,) GPa, growing."""
    moduli: Mapping[str, Estimate]
    cell: np.ndarray
    """(3, 3) Å, mean."""
    temperature: float
    """K."""
    n_independent: float
    """Of the strain that is slowest."""
    times: np.ndarray
    """(n,) fs since the first frame."""
    course: np.ndarray
    """(n, 6, 6) GPa, of the frames until then."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "elastic"

    def constant(self, row: int, column: int) -> Estimate:
        """C_ij in GPa; row and column counted from 0."""
        value, error = float(self.tensor[row, column]), float(self.error[row, column])
        return Estimate(value, error, "GPa", self.n_independent)

    def __str__(self) -> str:
        """The constants of an orthorhombic crystal, and the moduli of its powder."""
        constants = ", ".join(f"{name} {self.constant(row, column)}" for name, row, column in SHOWN)
        powder = ", ".join(f"{name} {one}" for name, one in self.moduli.items())
        return "\n".join([f"elastic constants at {self.temperature:.4g} K: {constants}", powder, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """The tensor with its errors, moduli and provenance."""
        return {
            "analysis": self.name,
            "constants": {name: self.constant(row, column).to_dict() for name, row, column in SHOWN},
            "moduli": {name: one.to_dict() for name, one in self.moduli.items()},
            "elastic_constants_GPa": self.tensor.tolist(),
            "error_GPa": self.error.tolist() if np.isfinite(self.error).all() else None,
            "eigenvalues_GPa": self.eigenvalues.tolist(),
            "cell_A": self.cell.tolist(),
            "temperature_K": self.temperature,
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """How the constants settle with the time."""
        names = ["time [ps]", *(f"{name} [GPa]" for name, _, _ in SHOWN)]
        return csv_of(names, [self.times / 1e3, *(self.course[:, row, column] for _, row, column in SHOWN)])

    def figure(self) -> Figure:
        """How the constants settle with the time."""
        from mlmd.analysis.strain_figure import strain_figure

        return strain_figure(self)


def strain_fluctuations(trajectory: Trajectory) -> ElasticFluctuations:
    """Elastic constants of a crystal from the cells of a run at constant pressure.

    Args:
        trajectory: of npt with a flexible barostat, frames every few attempts to change the cell.

    Raises:
        InputError: when the cell does not change in all six ways, without a temperature, and for too few frames.
    """
    origin, temperature = trajectory.provenance, trajectory.temperature
    if temperature is None:
        raise InputError(f'{origin.path} tells no temperature. Give it: --temperature "300 K".')
    if trajectory.n_frames < 10 * N_BLOCKS:
        raise InputError(
            f"{origin.path} has {trajectory.n_frames} frames, and {10 * N_BLOCKS} cells at least are needed for "
            "fluctuations. Run longer, or lower [output] trajectory_every."
        )
    strains = strains_of(trajectory.cells)
    scale = trajectory.volume() / (units.KB * temperature) * GPA
    _check_all_move(strains, origin)
    n_independent = min(average(one**2, "").n_independent for one in strains.T)
    sums = _sums(strains)
    total = sums.sum(axis=0)
    parts = np.array([_stiffness(total - one, scale) for one in sums])
    tensor = N_BLOCKS * _stiffness(total, scale) - (N_BLOCKS - 1) * parts.mean(axis=0)
    known = n_independent >= FEW
    ends = np.unique(np.linspace(10 * N_BLOCKS, len(strains), N_POINTS).astype(int))
    return ElasticFluctuations(
        tensor=tensor, error=_jackknife(parts) if known else np.full((6, 6), math.nan),
        eigenvalues=np.linalg.eigvalsh(tensor), moduli=_moduli(tensor, parts, n_independent, known=known),
        cell=trajectory.cells.mean(axis=0), temperature=temperature, n_independent=n_independent,
        times=trajectory.times[ends - 1] - trajectory.times[0],
        course=np.array([_stiffness(_sums(strains[:end]).sum(axis=0), scale) for end in ends]),
        notes=(*origin.notes, *_notes(trajectory, tensor, n_independent)), provenance=origin,
    )  # fmt: skip


def strains_of(cells: np.ndarray) -> np.ndarray:
    """(n, 6) strains of cells (n, 3, 3) Å against their mean, in Voigt order with doubled shears."""
    inverse = np.linalg.inv(cells.mean(axis=0))
    carried = inverse @ cells
    strains = 0.5 * (carried @ carried.transpose(0, 2, 1) - np.eye(3))
    found: np.ndarray = strains[:, VOIGT[0], VOIGT[1]] * np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    return found


def _check_all_move(strains: np.ndarray, origin: Provenance) -> None:
    spread = strains.std(axis=0)
    if spread.min() > 1e-3 * spread.max() > 0.0:
        return
    still = ", ".join(name for name, one in zip(("xx", "yy", "zz", "yz", "xz", "xy"), spread, strict=True)
                      if one <= 1e-3 * spread.max())  # fmt: skip
    raise InputError(
        f"{origin.path}: the cell does not fluctuate in {still}, and constants need all six strains. Run npt with "
        'barostat = { kind = "flexible" }; `mlmd elastic` strains a crystal at rest.'
    )


def _sums(strains: np.ndarray) -> np.ndarray:
    """(n_blocks, 7, 7) sums over blocks of (1, ε) ⊗ (1, ε)."""
    extended = np.concatenate([np.ones((len(strains), 1)), strains], axis=1)
    blocks = block_of(len(strains), N_BLOCKS)
    return np.stack([extended[blocks == block].T @ extended[blocks == block] for block in range(N_BLOCKS)])


def _stiffness(sums: np.ndarray, scale: float) -> np.ndarray:
    """(6, 6) GPa from sums (7, 7) and V/k_B T in 1/GPa."""
    mean = sums / sums[0, 0]
    covariance = mean[1:, 1:] - np.outer(mean[0, 1:], mean[0, 1:])
    found: np.ndarray = np.linalg.inv(scale * covariance)
    return 0.5 * (found + found.T)


def _jackknife(parts: np.ndarray) -> np.ndarray:
    """Standard errors of numbers (n_blocks, ...) without one block each."""
    error: np.ndarray = np.sqrt((len(parts) - 1) * parts.var(axis=0))
    return error


def _moduli(tensor: np.ndarray, parts: np.ndarray, n_independent: float, *, known: bool) -> dict[str, Estimate]:
    best = moduli(tensor)
    without = [moduli(one) for one in parts]
    return {
        name: Estimate(
            value, float(_jackknife(np.array([one[name] for one in without]))) if known else math.nan,
            MODULI[name], n_independent,
        )
        for name, value in best.items()
    }  # fmt: skip


def _notes(trajectory: Trajectory, tensor: np.ndarray, n_independent: float) -> Iterator[str]:
    volumes = np.abs(np.linalg.det(trajectory.cells))
    half = len(volumes) // 2
    one, other = (average(part, "Å³") for part in (volumes[:half], volumes[half:]))
    if abs(one.value - other.value) > CLEAR * math.hypot(one.error, other.error):
        yield f"the volume drifts, {one} and then {other}: leave out the beginning with --from"
    if n_independent < FEW:
        yield (
            f"the slowest strain has {n_independent:.0f} independent values, and errors are not known below {FEW:g}: "
            "run longer, with barostat every fewer steps"
        )
    if np.linalg.eigvalsh(tensor)[0] <= 0.0:
        yield "a strain has no positive stiffness: the run is too short, or the crystal is not stable"
