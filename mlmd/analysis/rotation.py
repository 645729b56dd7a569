"""How groups of atoms turn: orientation correlations of their bonds, relaxation times, and events of rotation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.blocks import block_of, jackknife, mean_and_error, n_blocks
from mlmd.analysis.bonds import Bonds, bond_vectors, first_bonds
from mlmd.analysis.columns import csv_of
from mlmd.analysis.einstein import sampled_lags
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.paths import check_path
from mlmd.analysis.turns import Turns, find_turns
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDERS = (1, 2)
"""Of the Legendre polynomials."""
MOST_BYTES = 2e9
"""Directions of all bonds in memory, in single precision."""
ENOUGH = 30
"""Central atoms from which on their scatter is the error; of fewer, that of blocks of time too."""
DECAYED = 0.1
"""A correlation that is known to have lost this much tells a relaxation time."""
_MIN_LAGS = 5
_FLOOR = 0.15
"""Below, what is left of a correlation is no part of the fit."""


@dataclass(frozen=True)
class Relaxation:
    """The correlation of one Legendre polynomial of the directions of bonds."""

    order: int
    values: np.ndarray
    """(n_lags,) C_l, 1 at lag 0."""
    errors: np.ndarray
    """(n_lags,)."""
    time: Estimate
    """ps: τ of A exp(-t/τ)."""
    amplitude: float
    """A: less than 1 where a faster motion, such as a libration, goes before; nan without a fit."""
    window: tuple[float, float] | None
    """fs, lags of the fit."""


@dataclass(frozen=True)
class RotationResult:
    """Rotation of the groups of a trajectory."""

    center: str
    ligand: str
    bonds: Bonds
    lags: np.ndarray
    """(n_lags,) fs."""
    relaxations: tuple[Relaxation, ...]
    turns: Turns
    angle: float
    """Degrees, of an event."""
    hold: float
    """fs: how long a bond must stay away from where it was."""
    events: int
    """Events, those of one group within `hold` counted as one."""
    event_rate: Estimate
    """1/ns, events of a group."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "rotation"

    def __str__(self) -> str:
        """Relaxation times and events."""
        lines = [f"τ_{one.order} = {one.time}" for one in self.relaxations]
        lines.append(
            f"{self.events} events of rotation of {self.bonds.n_centers} {self.center}–{self.ligand} groups: "
            f"{self.event_rate} of a group"
        )
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, units and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "center": self.center,
            "ligand": self.ligand,
            "cutoff_A": self.bonds.cutoff,
            "n_groups": self.bonds.n_centers,
            "n_bonds": len(self.bonds.centers),
            "orders": {
                f"l = {one.order}": {
                    "relaxation_time": one.time.to_dict(),
                    "amplitude": one.amplitude if math.isfinite(one.amplitude) else None,
                    "window_ps": None if one.window is None else [lag / 1e3 for lag in one.window],
                }
                for one in self.relaxations
            },
            "event_angle_deg": self.angle,
            "event_hold_ps": self.hold / 1e3,
            "n_events": self.events,
            "event_rate": self.event_rate.to_dict(),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """C_1 and C_2 with errors."""
        names, columns = ["lag [ps]"], [self.lags / 1e3]
        for one in self.relaxations:
            names += [f"C{one.order}", f"C{one.order} error"]
            columns += [one.values, one.errors]
        return csv_of(names, columns)

    def more_files(self) -> dict[str, str]:
        """Every event of every bond."""
        begin, interval = self.provenance.first_time, self.provenance.interval
        lines = ["time [ps],center,ligand,angle [deg]"]
        for bond, frame, angle in zip(
            self.turns.bond.tolist(), self.turns.frame.tolist(), self.turns.angle.tolist(), strict=True
        ):
            time = (begin + frame * interval) / 1e3
            lines.append(f"{time:.8g},{self.bonds.centers[bond]},{self.bonds.ligands[bond]},{angle:.4g}")
        return {f"{self.name}-events.csv": "\n".join(lines) + "\n"}

    def figure(self) -> Figure:
        """Correlations with their fits, and the angle of events."""
        from mlmd.analysis.rotation_figure import rotation_figure

        return rotation_figure(self)


def rotation(
    trajectory: Trajectory,
    *,
    center: str,
    ligand: str,
    cutoff: float,
    angle: float = 45.0,
    hold: float = 1000.0,
) -> RotationResult:
    """Orientation correlations C_l(t) = ⟨P_l(u(s) · u(s + t))⟩, l = 1, 2, of bonds, and events of rotation.

    u are unit vectors along the bonds of the first frame, from a centre to its ligands; the mean is over bonds and
    origins s. Rotational diffusion has C_l = exp(-l (l + 1) D_r t), so τ_1 / τ_2 = 3, and turns by large angles bring
    them nearer to each other. τ_l is that of A exp(-t/τ) through the lags behind a faster libration. An event is a bond
    that stays more than an angle away from where it was for longer than `hold`; where it is then is what the next
    one is measured from. Errors are the scatter of groups, of fewer than `ENOUGH` groups that of blocks of time
    and groups together; those of τ are a jackknife over either, the larger one.

    Args:
        trajectory: frames at equal intervals.
        center, ligand: elements of the groups, P and S for PS4.
        cutoff: Å, of bonds in the first frame.
        angle: degrees, of an event.
        hold: fs.

    Raises:
        InputError: for bonds that are not there or break, cells that are too small for them, and what has no path.
    """
    check_path(trajectory, "An analysis of rotation", n_least=20)
    if not (0.0 < angle < 180.0 and hold >= 0.0):
        raise InputError(f"angle = {angle:g}°, hold = {hold:g} fs: needed 0 < angle < 180 and hold >= 0.")
    bonds = first_bonds(trajectory, center, ligand, cutoff)
    directions = _directions(trajectory, bonds)
    interval = trajectory.provenance.interval
    lags = sampled_lags(trajectory.n_frames)
    sums = [_sums(directions, int(lag), bonds.group) for lag in lags]
    relaxations = tuple(
        _relaxation(order, lags, [one[index] for one in sums], interval) for index, order in enumerate(ORDERS)
    )
    patience = max(1, math.ceil(hold / interval))
    turns = find_turns(directions, math.radians(angle), patience)
    groups, rate = _events(turns, bonds, patience, trajectory.n_frames, interval)
    return RotationResult(
        center, ligand, bonds, np.append(0.0, lags * interval), relaxations, turns, angle, hold, groups, rate,
        (*_notes(bonds, relaxations, center, ligand), *trajectory.provenance.notes), trajectory.provenance,
    )  # fmt: skip


def _directions(trajectory: Trajectory, bonds: Bonds) -> np.ndarray:
    """Unit vectors of all bonds, (n_frames, n_bonds, 3) float32: angles need no more digits."""
    n_bytes = 12.0 * trajectory.n_frames * len(bonds.centers)
    if n_bytes > MOST_BYTES:
        raise InputError(
            f"{len(bonds.centers)} bonds over {trajectory.n_frames} frames need {n_bytes / 1e9:.1f} GB; at most "
            f"{MOST_BYTES / 1e9:g} are used. Look at a part of the run (--from, --to)."
        )
    directions = np.empty((trajectory.n_frames, len(bonds.centers), 3), dtype=np.float32)
    first = 0
    for vectors in bond_vectors(trajectory, bonds):
        directions[first : first + len(vectors)] = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
        first += len(vectors)
    return directions


def _sums(directions: np.ndarray, lag: int, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of P_1 and P_2 at one lag, by block of time and group, (n_blocks, n_groups)."""
    stride = max(1, lag // 16)
    cosines = np.einsum("tbi,tbi->tb", directions[:-lag:stride], directions[lag::stride]).astype(float)
    count = n_blocks(len(directions) - lag, lag)
    block = block_of(len(cosines), count)
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    n_of = np.bincount(group)
    means = []
    for values in (cosines, 1.5 * cosines**2 - 0.5):
        by_time = np.add.reduceat(values, starts, axis=0) / np.diff(np.append(starts, len(values)))[:, None]
        means.append(np.stack([np.bincount(group, row) / n_of for row in by_time]))
    return means[0], means[1]


def _relaxation(order: int, lags: np.ndarray, parts: list[np.ndarray], interval: float) -> Relaxation:
    """Correlation, errors and relaxation time from means by block and group at each lag."""
    values, errors = np.empty(len(lags) + 1), np.empty(len(lags) + 1)
    values[0], errors[0] = 1.0, 0.0
    few = parts[0].shape[1] < ENOUGH
    for index, one in enumerate(parts, 1):
        mean, error = mean_and_error(one.reshape(-1) if few else one.mean(axis=0))
        values[index], errors[index] = float(mean), float(error)
    # The fit is done again without each group, and without each group in each block of time that the longest lag has:
    # few groups scatter little by chance, and slow groups are alike in all blocks.
    count = min(len(one) for one in parts)
    samples = [np.array([_merged(one, blocks) for one in parts]).T for blocks in {1, count}]  # (n_samples, n_lags)
    time, amplitude, window = _fit(lags * interval, values[1:], errors[1:], samples)
    return Relaxation(order, values, errors, time, amplitude, window)


def _merged(means: np.ndarray, count: int) -> np.ndarray:
    """Blocks (n_blocks, n_groups) merged into fewer, each with each group on its own, (count · n_groups,)."""
    block = block_of(len(means), count)
    return np.stack([means[block == number].mean(axis=0) for number in range(count)]).reshape(-1)


def _fit(
    times: np.ndarray, values: np.ndarray, errors: np.ndarray, samples: list[np.ndarray]
) -> tuple[Estimate, float, tuple[float, float] | None]:
    """τ and A of A exp(-t/τ), from the first lag on from which that describes the correlation within its errors."""
    undetermined = Estimate(math.nan, math.nan, "ps", 0.0), math.nan, None
    low = values < np.maximum(3.0 * np.nan_to_num(errors, nan=math.inf), _FLOOR)
    end = int(np.argmax(low)) if low.any() else len(values)
    if end < _MIN_LAGS or max(map(len, samples)) < 2 or values[:end].min() > 1.0 - DECAYED:
        return undetermined
    # Weights are of errors that are smoothed over seven lags: one that is small by chance would pull the line.
    logs = np.pad(np.log(np.maximum(errors, 1e-6)), 3, mode="edge")
    known = np.exp(np.convolve(logs, np.ones(7) / 7, mode="valid"))
    for first in range(end - _MIN_LAGS + 1):
        part = slice(first, end)
        weight = values[part] / np.maximum(known[part], 1e-6)  # of ln C
        slope, intercept = np.polyfit(times[part], np.log(values[part]), 1, w=weight)
        misfit = np.sum((weight * (np.log(values[part]) - slope * times[part] - intercept)) ** 2)
        if misfit <= end - first - 2:
            break
    else:
        return undetermined

    def rate(total: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(total[0, part] / total[1, part], 1e-3))
        return np.array(-np.polyfit(times[part], logs, 1, w=weight)[0])

    sums = [np.stack([one, np.ones_like(one)], axis=1) for one in samples]
    value, error = float(-slope), float(np.nanmax([jackknife(one, rate)[1] * _widened(len(one)) for one in sums]))
    lost = -slope * (times[end - 1] - times[first])
    if value <= 2.0 * error or lost < DECAYED:
        return undetermined
    time = Estimate(1e-3 / value, 1e-3 * error / value**2, "ps", float(max(map(len, samples))))
    return time, float(np.exp(intercept)), (float(times[first]), float(times[end - 1]))


def _widened(n: int) -> float:
    """What makes an error from the scatter of n parts that of Student's t, whose variance is (n - 1) / (n - 3)."""
    return math.sqrt((n - 1) / max(n - 3, 1))


def _events(turns: Turns, bonds: Bonds, patience: int, n_frames: int, interval: float) -> tuple[int, Estimate]:
    """Events of groups: those of their bonds within the time that one needs are one; and their rate."""
    group = bonds.group[turns.bond]
    order = np.lexsort((turns.frame, group))
    group, frame = group[order], turns.frame[order]
    new = np.ones(len(group), dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (np.diff(frame) > patience)
    n = int(new.sum())
    time = bonds.n_centers * n_frames * interval / 1e6  # ns
    if not n:
        return 0, Estimate(0.0, 1.0 / time, "1/ns", 0.0)
    by_group = np.bincount(group[new], minlength=bonds.n_centers)
    scatter = math.sqrt(by_group.var(ddof=1) * bonds.n_centers) if bonds.n_centers > 1 else 0.0
    return n, Estimate(n / time, max(scatter, math.sqrt(n)) / time, "1/ns", float(n))


def _notes(bonds: Bonds, relaxations: tuple[Relaxation, ...], center: str, ligand: str) -> tuple[str, ...]:
    counts = np.bincount(bonds.group)
    sizes = ", ".join(f"{np.count_nonzero(counts == n)} with {n}" for n in np.unique(counts))
    notes = [f"{bonds.n_centers} {center} have {ligand} bound to them: {sizes}"]
    shared = len(bonds.ligands) - len(np.unique(bonds.ligands))
    if shared:
        notes.append(f"{shared} {ligand} belong to more than one {center}: such groups are not rigid")
    for one in relaxations:
        if not one.time.determined:
            least = one.values.min()
            notes.append(
                f"τ_{one.order} is not determined: C_{one.order} falls to {least:.2f} within a quarter of the run"
                + ("; the groups librate, or turn more slowly than that" if least > 1.0 - 5 * DECAYED else "")
            )
    if all(one.time.determined for one in relaxations):
        ratio = relaxations[0].time.value / relaxations[1].time.value
        notes.append(f"τ_1 / τ_2 = {ratio:.2g} (3 for small steps of rotational diffusion, 1 for turns to anywhere)")
    return tuple(notes)
