"""Intermediate scattering functions and dynamic structure factors of a trajectory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.scattering.correlations import correlate, relaxation_time, self_correlate, spectrum
from mlmd.analysis.scattering.currents import transverse_currents
from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.partials import pairs_of
from mlmd.analysis.scattering.wavevectors import Wavevectors, wavevectors
from mlmd.analysis.vacf import stored_velocities
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BLOCKS = 5
"""Parts of the trajectory whose scatter gives the error."""
MAX_BYTES = 1e9
"""Of ρ(q, t) of all frames."""
SELF_BYTES = 256e6
"""Of the positions of single atoms in all frames; of more the file is read again."""
SELF_POINTS = 10
"""Wavevectors in a bin at most at which single atoms are followed."""

TRANSVERSE = "C_T(q,w)"

DEFINITIONS = {
    "F": "F(q,t) = ⟨ρ(q,s) ρ(q,s+t)*⟩ / N, ρ = Σ_j exp(iq·r_j) over all atoms; F(q,0) = S_NN(q)",
    "F_ab": "⟨ρ_a(q,s) ρ_b(q,s+t)*⟩ / √(N_a N_b), both orders averaged; at t = 0 the Ashcroft–Langreth partial",
    "F_self": "⟨exp iq·[r_j(s+t) - r_j(s)]⟩ over atoms j of an element",
    "S(q,w)": "1/2π ∫ F(q,t) cos(ωt) dt, Hann's window over the lags; ∫ S(q,ω) dω over all ω is S_NN(q); classical",
    "C_L(q,w)": "ω² S(q,ω) / q², the spectrum of longitudinal currents",
    "C_T(q,w)": "that of transverse currents, of ⟨j(q,s)·j(q,s+t)*⟩ / 2N with j = Σ_j v_j exp(iq·r_j) across q",
}


@dataclass(frozen=True)
class Memory:
    """A correlation function at every q and lag."""

    values: np.ndarray
    """(n_q, n_lags)."""
    error: np.ndarray
    """(n_q, n_lags) standard error from blocks of frames."""
    times: tuple[Estimate, ...]
    """(n_q,) ps, when it has fallen to 1/e."""


@dataclass(frozen=True)
class DynamicStructureFactor:
    """Correlations of densities in time, and their spectra."""

    q: np.ndarray
    """(n_q,) 1/Å."""
    n_points: np.ndarray
    """(n_q,) wavevectors, of half of the space."""
    lags: np.ndarray
    """(n_lags,) fs."""
    frequencies: np.ndarray
    """(n_lags,) rad/fs."""
    memories: dict[str, Memory]
    """"F", "F_ab Si-O", "F_self Si", ..."""
    spectra: dict[str, tuple[np.ndarray, np.ndarray]]
    """"S(q,w)" fs, "C_L(q,w)" and, where frames have velocities, "C_T(q,w)" Å²/fs, with errors, (n_q, n_lags)."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "dynamic-structure-factor"

    def __str__(self) -> str:
        """Relaxation times of the total at every q."""
        lines = [
            f"F(q = {q:.3g} 1/Å) falls to 1/e in {time}"
            for q, time in zip(self.q, self.memories["F"].times, strict=True)
        ]
        return "\n".join([*lines, *self.provenance.notes])

    def sound(self, index: int, currents: str = "C_L(q,w)") -> Estimate:
        """ω of the maximum of C_L, or of C_T, at one q, rad/ps; not determined where it is at an end of the range."""
        curve = self.spectra[currents][0][index]
        where = int(curve.argmax())
        step = float(self.frequencies[1])
        inside = 0 < where < len(curve) - 1
        return Estimate(1e3 * self.frequencies[where] if inside else math.nan, 1e3 * step, "rad/ps", math.nan)

    def to_json(self) -> dict[str, Any]:
        """Numbers at each q with errors, definitions and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "wavevectors": {
                f"{q:.4f} 1/Å": {
                    "S_NN": Estimate(float(total.values[i, 0]), float(total.error[i, 0]), "", N_BLOCKS).to_dict(),
                    **{f"time of {name}": one.times[i].to_dict() for name, one in self.memories.items()},
                    "longitudinal_peak": self.sound(i).to_dict(),
                    **({"transverse_peak": self.sound(i, TRANSVERSE).to_dict()} if TRANSVERSE in self.spectra else {}),
                }
                for total in [self.memories["F"]]
                for i, q in enumerate(self.q)
            },
            "definitions": DEFINITIONS,
            "n_wavevectors": int(self.n_points.sum()),
            "longest_lag_ps": float(self.lags[-1] / 1e3),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """A row for each q and lag; beside the lag the frequency of the same number."""
        n_q, n_lags = len(self.q), len(self.lags)
        columns: list[tuple[str, np.ndarray]] = [
            ("q [1/Å]", np.repeat(self.q, n_lags)),
            ("t [ps]", np.tile(self.lags / 1e3, n_q)),
        ]
        for name, one in self.memories.items():
            columns += [(name, one.values.ravel()), (f"{name} error", one.error.ravel())]
        columns.append(("w [rad/ps]", np.tile(1e3 * self.frequencies, n_q)))
        for name, (values, errors) in self.spectra.items():
            unit, size = ("ps", 1e-3) if name == "S(q,w)" else ("Å²/ps", 1e3)
            columns += [(f'"{name} [{unit}]"', size * values.ravel()), (f'"{name} error"', size * errors.ravel())]
        names, values_of = zip(*columns, strict=True)
        return csv_of(names, values_of)

    def figure(self) -> Figure:
        """F(q, t) and the spectrum of currents at some q, and the relaxation times."""
        from mlmd.analysis.scattering.dynamic_figure import dynamic_figure

        return dynamic_figure(self)


def dynamic_structure_factor(
    trajectory: Trajectory,
    *,
    q_max: float = 3.0,
    bin_width: float = 0.2,
    points_per_bin: int = 30,
    longest_lag: float | None = None,
    self_atoms: int = 200,
    seed: int = 1,
) -> DynamicStructureFactor:
    """F(q, t) of densities and of single atoms, S(q, ω) and currents along q and, with velocities, across it.

    See `DEFINITIONS`.

    Values are of all origins in the trajectory, errors the scatter of five parts of it. Atoms may be wrapped: at
    wavevectors that the cell allows this makes no difference.

    Args:
        trajectory: periodic in all three directions, frames at equal intervals in one cell.
        q_max, bin_width: 1/Å.
        points_per_bin: about so many wavevectors of half of the space in a bin.
        longest_lag: fs; by default a tenth of the trajectory.
        self_atoms: at most so many atoms of each element are followed, drawn at random.
        seed: of the draws.

    Raises:
        InputError: without three periodic directions, at changing cells, unequal intervals or fewer than 50 frames, for
            replicas that exchange, for a lag that leaves no blocks, or more wavevectors than fit into `MAX_BYTES`.
    """
    _check(trajectory)
    interval = trajectory.provenance.interval
    n_frames, n_block = trajectory.n_frames, trajectory.n_frames // N_BLOCKS
    n_lags = n_frames // 10 + 1 if longest_lag is None else round(longest_lag / interval) + 1
    if not 3 <= n_lags <= n_block:
        raise InputError(
            f"A longest lag of {(n_lags - 1) * interval / 1e3:g} ps: needed are at least two intervals, "
            f"{2 * interval:g} fs, and at most a fifth of the trajectory, {(n_block - 1) * interval / 1e3:g} ps."
        )
    points = wavevectors(trajectory.cells[0], q_max, bin_width, points_per_bin, seed)
    stored = stored_velocities(trajectory)
    needed = 16.0 * n_frames * len(points.indices) * (len(trajectory.elements) + (0 if stored is None else 2))
    if needed > MAX_BYTES:
        raise InputError(
            f"{len(points.indices):,} wavevectors in {n_frames:,} frames need {needed / 1e9:.1f} GB, and "
            f"{MAX_BYTES / 1e9:g} are used at most. Give fewer wavevectors (--points), a smaller --q-max, or fewer "
            "frames (--from, --to)."
        )
    parts = [slice(None), *(slice(i * n_block, (i + 1) * n_block) for i in range(N_BLOCKS))]
    series = _series(trajectory, points)
    found = _collective(trajectory, series, points, parts, n_lags)
    spectra = _spectra(found["F"], points.q, interval)
    if stored is not None:
        transverse = transverse_currents(trajectory, stored, points)
        each = [np.mean([correlate(one[part], one[part], n_lags) for one in transverse], axis=0) for part in parts]
        values = [spectrum(points.average(one), interval)[1].T for one in each]
        spectra[TRANSVERSE] = _with_error(np.array(values))
    frequencies = np.pi * np.arange(n_lags) / ((n_lags - 1) * interval)
    found |= _selves(trajectory, points, parts, n_lags, self_atoms, np.random.default_rng(seed))
    memories = {name: _memory(values, interval) for name, values in found.items()}
    notes = (
        *trajectory.provenance.notes,
        f"frequencies are told apart by {1e3 * 2 * math.pi / ((n_lags - 1) * interval):.2g} rad/ps, and reach to "
        f"{1e3 * math.pi / interval:.3g} rad/ps; faster motion is folded back into that range",
        *(() if stored is not None else ("transverse currents need velocities, which extended XYZ has",)),
    )
    return DynamicStructureFactor(
        points.q, points.n_points, interval * np.arange(n_lags), frequencies, memories, spectra, notes,
        trajectory.provenance,
    )  # fmt: skip


def _check(trajectory: Trajectory) -> None:
    origin = trajectory.provenance
    if not trajectory.pbc.all():
        raise InputError("A dynamic structure factor needs a cell periodic in all three directions.")
    if trajectory.n_frames < 10 * N_BLOCKS:
        raise InputError(f"{origin.path}: {trajectory.n_frames} frames; at least {10 * N_BLOCKS} are needed.")
    if origin.exchanged:
        raise InputError(f"{origin.path}: replicas exchanged, so that atoms jump between frames.")
    intervals = np.diff(trajectory.times)
    if not np.ptp(intervals) <= 1e-3 * origin.interval:
        raise InputError(
            f"{origin.path}: frames are not at equal intervals ({intervals.min():g} to {intervals.max():g} fs)."
        )
    if not np.allclose(trajectory.cells, trajectory.cells[0], rtol=0.0, atol=1e-4):
        raise InputError(
            f"{origin.path}: the cell changes, and wavevectors with it. F(q, t) needs constant volume, nvt or nve."
        )


def _series(trajectory: Trajectory, points: Wavevectors) -> list[np.ndarray]:
    """ρ_a(q, t) / √N_a of each element, (n_frames, n_q)."""
    density, inverse = Density(points.indices), np.linalg.inv(trajectory.cells[0])
    members = [trajectory.atoms_of([one]) for one in trajectory.elements]
    found = [np.empty((trajectory.n_frames, len(points.indices)), dtype=complex) for _ in members]
    number = 0
    for frames in trajectory.chunks():
        for positions in frames.positions:
            fractional = positions @ inverse
            for one, atoms in zip(found, members, strict=True):
                one[number] = density(fractional[atoms]) / math.sqrt(len(atoms))
            number += 1
    return found


def _collective(
    trajectory: Trajectory, series: list[np.ndarray], points: Wavevectors, parts: list[slice], n_lags: int
) -> dict[str, np.ndarray]:
    """Total and partials, of the whole and of each part, (1 + n_blocks, n_lags, n_bins)."""
    elements = trajectory.elements
    shares = [len(trajectory.atoms_of([one])) / trajectory.n_atoms for one in elements]

    def powder(function: Callable[[slice], np.ndarray]) -> np.ndarray:
        return np.array([points.average(function(part)) for part in parts])

    found = {"F": np.zeros((len(parts), n_lags, len(points.q)))}
    for a, b in pairs_of(elements):
        one = powder(lambda part, a=a, b=b: correlate(series[a][part], series[b][part], n_lags))  # type: ignore[misc]
        found["F"] += (1.0 if a == b else 2.0) * math.sqrt(shares[a] * shares[b]) * one
        if len(elements) > 1:
            found[f"F_ab {elements[a]}-{elements[b]}"] = one
    return found


def _selves(
    trajectory: Trajectory, points: Wavevectors, parts: list[slice], n_lags: int, most: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """F_self of each element, (1 + n_blocks, n_lags, n_bins)."""
    inverse = np.linalg.inv(trajectory.cells[0])
    starts = np.cumsum(points.n_points) - points.n_points
    rank = np.arange(len(points.indices)) - starts[points.bins]
    few = np.flatnonzero(rank < SELF_POINTS)
    count = np.bincount(points.bins[few])
    found = {}
    for element in trajectory.elements:
        atoms = trajectory.atoms_of([element])
        atoms = np.sort(rng.permutation(atoms)[:most])
        sums = np.zeros((len(parts), n_lags, len(few)))
        for some in np.array_split(atoms, math.ceil(24 * trajectory.n_frames * len(atoms) / SELF_BYTES)):
            fractional = _fractional(trajectory, some, inverse)
            sums += [self_correlate(fractional[part], points.indices[few], n_lags) for part in parts]
        found[f"F_self {element}"] = np.add.reduceat(sums, np.cumsum(count) - count, axis=-1) / (count * len(atoms))
    return found


def _fractional(trajectory: Trajectory, atoms: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(n_frames, n_atoms, 3) in units of the cell vectors."""
    found, done = np.empty((trajectory.n_frames, len(atoms), 3)), 0
    for frames in trajectory.chunks(atoms=atoms):
        found[done : done + len(frames.positions)] = frames.positions @ inverse
        done += len(frames.positions)
    return found


def _spectra(total: np.ndarray, q: np.ndarray, interval: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    each = [spectrum(one, interval) for one in total]
    frequencies = each[0][0]
    density = np.array([values.T for _, values in each])
    current = density * frequencies**2 / q[:, None] ** 2
    return {"S(q,w)": _with_error(density), "C_L(q,w)": _with_error(current)}


def _with_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[0], values[1:].std(axis=0, ddof=1) / math.sqrt(N_BLOCKS)


def _memory(values: np.ndarray, interval: float) -> Memory:
    """From (1 + n_blocks, n_lags, n_bins)."""
    mean, error = _with_error(values.transpose(0, 2, 1))
    times = []
    for index in range(values.shape[2]):
        each = np.array([relaxation_time(one[:, index], interval) for one in values]) / 1e3
        times.append(Estimate(float(each[0]), float(each[1:].std(ddof=1) / math.sqrt(N_BLOCKS)), "ps", N_BLOCKS))
    return Memory(mean, error, tuple(times))
