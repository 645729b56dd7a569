"""Velocity autocorrelation and the vibrational density of states that is its spectrum (Dickey, Paskin, 1969).

    C_e(t) = ⟨Σ v(0) · v(t)⟩ / ⟨Σ v²⟩  of the atoms of an element,
    g_e(ν) = (2 / k_B T) Σ_j m_j ∫ ⟨v_j(0) · v_j(t)⟩ exp(-2πiνt) dt,

with k_B T from the same velocities, so that ∫ g dν over all elements is the number of modes: 3N, or 3N - 3 with the
centre of mass at rest, of the N atoms that move: where some never do, these are at rest instead. Segments of the
trajectory that overlap by half, under a Hann window, give the spectrum (Welch, 1967); their scatter gives its errors.

Where a trajectory has no velocities they are differences of positions, (r(t + Δ) - r(t)) / Δ, means over an interval:
their spectrum is that of the velocities times (sin πνΔ / πνΔ)², which is divided out. What is faster than 1/2Δ is then
missing or counted at lower frequencies; how much of the kinetic energy of the temperature is seen tells which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from mlmd import units
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.msd import check_times
from mlmd.analysis.unwrap import drift_path, unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESOLUTION = 0.1
"""THz between points of the spectrum, where the trajectory is long enough."""
SEGMENTS = 10
"""Fewest of them that do not overlap."""
BLOCK_BYTES = 128e6
SEEN = 0.1
"""Of the temperature: as far the kinetic energy of differences may be from that of the velocities."""
STILL = 1e-6
"""Å, or Å/fs: who never goes further, or faster, is held."""
AT_REST = 1e-9
"""Of the kinetic energy: an element with less is what the others move against."""


@dataclass(frozen=True)
class Motion:
    """How the atoms of an element move."""

    element: str
    n_atoms: int
    correlation: np.ndarray
    """(n_lags,) C(t)."""
    correlation_error: np.ndarray
    density: np.ndarray
    """(n_frequencies,) g(ν), modes per THz."""
    density_error: np.ndarray
    mean_frequency: Estimate
    """Of the modes, THz."""


@dataclass(frozen=True)
class VACFResult:
    """Velocity autocorrelations and vibrational densities of states."""

    lags: np.ndarray
    """(n_lags,) fs."""
    frequencies: np.ndarray
    """(n_frequencies,) THz."""
    elements: tuple[Motion, ...]
    temperature: Estimate
    """K, of the velocities."""
    n_modes: int
    from_positions: bool
    notes: tuple[str, ...]
    provenance: Provenance

    name = "vacf"

    @property
    def total(self) -> np.ndarray:
        """(n_frequencies,) of all elements, modes per THz."""
        total: np.ndarray = np.sum([one.density for one in self.elements], axis=0)
        return total

    def __str__(self) -> str:
        """One line for each element."""
        lines = [f"{one.element}: mean frequency {one.mean_frequency}" for one in self.elements]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Mean frequencies with errors and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "mean_frequency": {one.element: one.mean_frequency.to_dict() for one in self.elements},
            "temperature": self.temperature.to_dict(),
            "n_modes": self.n_modes,
            "resolution_THz": float(self.frequencies[1] - self.frequencies[0]),
            "velocities_from_positions": self.from_positions,
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Correlations against time, then densities of states against frequency, beside each other."""
        names, columns = ["t [fs]"], [self.lags]
        for one in self.elements:
            names += [f"C {one.element}", f"C {one.element} error"]
            columns += [one.correlation, one.correlation_error]
        names, columns = [*names, "frequency [THz]"], [*columns, self.frequencies]
        for one in self.elements:
            names += [f"g {one.element} [1/THz]", f"g {one.element} error [1/THz]"]
            columns += [one.density, one.density_error]
        n_rows = max(map(len, columns))
        cells = [[f"{value:.8g}" for value in column] + [""] * (n_rows - len(column)) for column in columns]
        return ",".join(names) + "\n" + "".join(",".join(row) + "\n" for row in zip(*cells, strict=True))

    def figure(self) -> Figure:
        """Correlations and densities of states."""
        from mlmd.analysis.vacf_figure import vacf_figure

        return vacf_figure(self)


def vacf(
    trajectory: Trajectory, *, elements: Sequence[str] | None = None, drift: str | Sequence[str] = "cell",
    resolution: float = RESOLUTION,
) -> VACFResult:  # fmt: skip
    """Velocity autocorrelation and vibrational density of states.

    Args:
        trajectory: frames at equal intervals, several in a period of the fastest vibration.
        elements: that are shown; by default all. Modes are counted by all atoms.
        drift: what is at rest: "cell" (centre of mass; the atoms that never move where there are such), "none", or
            elements of a framework.
        resolution: THz between points of the spectrum; a trajectory that is shorter than 10 / resolution has a coarser
            one.

    Raises:
        InputError: for too few frames, unequal intervals, replicas that exchanged, atoms that do not move, and one
            atom relative to itself.
    """
    if trajectory.provenance.exchanged:
        raise InputError(
            f"{trajectory.provenance.path}: atoms jump where replicas exchange, and have no velocity there. Take "
            "independent runs, without exchange_every."
        )
    check_times(trajectory, "a velocity autocorrelation")
    if not resolution > 0.0:
        raise InputError(f"a resolution of {resolution:g} THz: it has to be above zero.")
    interval = trajectory.provenance.interval
    read = Velocities(trajectory, drift)
    longest = read.n_times // SEGMENTS
    length = min(longest, math.ceil(1e3 / (resolution * interval)))
    if length < SEGMENTS:
        raise InputError(
            f"{trajectory.provenance.path}: {trajectory.n_frames} frames are too few: {SEGMENTS} segments of "
            f"{SEGMENTS} frames at least are needed."
        )
    n_held = int(np.count_nonzero(~read.moving))
    n_modes = 3 * (trajectory.n_atoms - n_held) - (3 if drift == "cell" and not n_held else 0)
    sums = {element: _sums(read, trajectory, element, length) for element in trajectory.elements}
    frequencies = 1e3 * np.arange(length // 2 + 1) / (length * interval)
    if read.from_positions:
        for one in sums.values():
            one.powers /= np.sinc(frequencies * interval / 1e3) ** 2
    # ∫ S dν = Σ m v², whose mean is k_B T for each mode
    width = frequencies[1]
    weights = np.full(len(frequencies), width)
    weights[0] *= 0.5
    if length % 2 == 0:
        weights[-1] *= 0.5
    kinetic = {element: one.powers @ weights for element, one in sums.items()}
    thermal = sum(kinetic.values()) / n_modes
    moving = [one for one, energy in kinetic.items() if energy.mean() > AT_REST * n_modes * thermal.mean()]
    n_independent = read.n_times / length
    shown = tuple(elements) if elements else tuple(moving)
    trajectory.atoms_of(shown)  # raises for one that does not occur
    for element in shown:
        if element not in moving:
            raise InputError(f"{trajectory.provenance.path}: {element} is at rest and has no vibrations. Leave it out.")
    temperature = _mean(thermal / units.KB, "K", n_independent)
    return VACFResult(
        lags=interval * np.arange(length // 2),
        frequencies=frequencies,
        elements=tuple(
            _motion(element, sums[element], thermal.mean(), frequencies, weights, n_independent) for element in shown
        ),
        temperature=temperature,
        n_modes=n_modes,
        from_positions=read.from_positions,
        notes=(
            *trajectory.provenance.notes,
            *_rest(n_held, [one for one in trajectory.elements if one not in moving]),
            *_notes(trajectory, temperature, resolution, width, read.from_positions),
        ),
        provenance=trajectory.provenance,
    )


Stored = Callable[..., np.ndarray | None]
"""Of a range of frames of a file, and of atoms: velocities (n, n_atoms, 3) Å/fs; None where the file has none."""


def stored_velocities(trajectory: Trajectory) -> Stored | None:
    """What reads the velocities of a trajectory; None where its file has none."""
    stored: Stored | None = getattr(trajectory.reader, "velocities", None)
    row = trajectory.rows[0]
    return None if stored is None or stored(range(row, row + 1)) is None else stored


class Velocities:
    """Velocities of a trajectory, some atoms at a time: its own, or differences of its positions."""

    def __init__(self, trajectory: Trajectory, drift: str | Sequence[str]) -> None:
        self._trajectory, self._drift = trajectory, drift
        self._stored = stored_velocities(trajectory)
        self.from_positions = self._stored is None
        self.n_times = trajectory.n_frames - (1 if self.from_positions else 0)
        self.moving = self._moving()
        """(n_atoms,) bool."""
        if not self.moving.any():
            raise InputError(f"{trajectory.provenance.path}: no atom moves.")
        if drift == "cell" and trajectory.n_atoms == 1:
            raise InputError(
                'One atom is at rest relative to its own centre of mass. Give drift = "none" (--drift none).'
            )
        if drift == "cell" and not self.moving.all():  # who is held is at rest, and takes up momentum
            self._drift = "none"
        self._rest = self._motion_of_rest()

    def of(self, atoms: np.ndarray) -> Iterator[np.ndarray]:
        """(n_atoms, 3, n_times) Å/fs of some atoms at a time, relative to what is at rest."""
        at_once = max(1, int(BLOCK_BYTES / (24 * self.n_times)))
        for first in range(0, len(atoms), at_once):
            yield self._read(atoms[first : first + at_once]) - self._rest

    def _moving(self) -> np.ndarray:
        """(n_atoms,) which atoms are not held; only those that are still at first are looked at further."""
        trajectory = self._trajectory
        if self._stored is not None:
            first = self._stored_in(trajectory.rows[:SEGMENTS])
        else:
            first = next(unwrapped(trajectory))
            first = first - first[0]
        moving = np.abs(first).max(axis=(0, 2)) > STILL
        still = np.flatnonzero(~moving)
        at_once = max(1, int(BLOCK_BYTES / (24 * self.n_times)))
        for begin in range(0, len(still), at_once):
            some = still[begin : begin + at_once]
            reach = np.abs(self._read(some)) * (1.0 if self._stored is not None else trajectory.provenance.interval)
            moving[some] = reach.max(axis=(1, 2)) > STILL
        return moving

    def _stored_in(self, rows: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """(n, n_atoms, 3) Å/fs of the file."""
        found: np.ndarray | None = None if self._stored is None else self._stored(rows, atoms)
        if found is None:
            raise InputError(f"{self._trajectory.provenance.path}: some frames have velocities and others do not.")
        return found

    def _read(self, atoms: np.ndarray) -> np.ndarray:
        trajectory = self._trajectory
        if self._stored is not None:
            return self._stored_in(trajectory.rows, atoms).transpose(1, 2, 0)
        paths, frame = np.empty((len(atoms), 3, trajectory.n_frames)), 0
        for positions in unwrapped(trajectory, atoms):
            paths[:, :, frame : frame + len(positions)] = positions.transpose(1, 2, 0)
            frame += len(positions)
        return np.diff(paths, axis=2) / trajectory.provenance.interval

    def _motion_of_rest(self) -> np.ndarray:
        """(3, n_times) Å/fs."""
        trajectory, drift = self._trajectory, self._drift
        if self._stored is None:
            return np.diff(drift_path(trajectory, drift), axis=0).T / trajectory.provenance.interval
        if drift == "none":
            return np.zeros((3, self.n_times))
        named = [drift] if isinstance(drift, str) else list(drift)
        chosen = np.arange(trajectory.n_atoms) if drift == "cell" else trajectory.atoms_of(named)
        weights = trajectory.masses[chosen] / trajectory.masses[chosen].sum()
        at_once, total = max(1, int(BLOCK_BYTES / (24 * self.n_times))), np.zeros((3, self.n_times))
        for first in range(0, len(chosen), at_once):
            part = slice(first, first + at_once)
            total += np.einsum("a,adt->dt", weights[part], self._read(chosen[part]))
        return total


@dataclass
class _Sums:
    """Of the atoms of an element that move, by segment."""

    n_atoms: int
    powers: np.ndarray
    """(n_segments, n_frequencies) Σ m |v(ν)|², one-sided, eV/THz."""
    products: np.ndarray
    """(n_segments, n_lags) Σ v(0) · v(t), mean over times, Å²/fs²."""


def _sums(read: Velocities, trajectory: Trajectory, element: str, length: int) -> _Sums:
    atoms, interval = trajectory.atoms_of([element]), trajectory.provenance.interval
    atoms = atoms[read.moving[atoms]]
    starts = range(0, read.n_times - length + 1, length // 2)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(length) + 0.5) / length)
    # both signs of the frequency together; fs to 1/THz
    scale = 2.0 * interval / float(window @ window) * 1e-3 * units.KINETIC
    size, n_lags = fft.next_fast_len(length + length // 2, real=True), length // 2
    powers, products = np.zeros((len(starts), length // 2 + 1)), np.zeros((len(starts), n_lags))
    first = 0
    for velocities in read.of(atoms):
        masses = trajectory.masses[atoms[first : first + len(velocities)]]
        first += len(velocities)
        for number, start in enumerate(starts):
            part = velocities[:, :, start : start + length]
            seen = np.abs(fft.rfft(part * window, axis=2)) ** 2
            powers[number] += scale * np.einsum("a,adf->f", masses, seen)
            whole = np.einsum("adf->f", np.abs(fft.rfft(part, size, axis=2)) ** 2)
            products[number] += fft.irfft(whole, size)[:n_lags] / (length - np.arange(n_lags))
    return _Sums(len(atoms), powers, products)


def _motion(
    element: str, sums: _Sums, thermal: float, frequencies: np.ndarray, weights: np.ndarray, n_independent: float
) -> Motion:  # fmt: skip
    root = math.sqrt(n_independent)
    normed = sums.products / sums.products[:, 0].mean()
    densities = sums.powers / thermal
    means = (densities * frequencies) @ weights / (densities @ weights)
    return Motion(
        element, sums.n_atoms,
        normed.mean(axis=0), normed.std(axis=0, ddof=1) / root,
        densities.mean(axis=0), densities.std(axis=0, ddof=1) / root,
        _mean(means, "THz", n_independent),
    )  # fmt: skip


def _mean(values: np.ndarray, unit: str, n_independent: float) -> Estimate:
    """Of segments, which overlap: as many count as fit beside each other."""
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n_independent), unit, n_independent)


def _rest(n_held: int, elements: Sequence[str]) -> Iterator[str]:
    if n_held:
        yield f"{n_held} atoms never move: they have no modes, and the others move against them"
    if elements:
        yield f"{', '.join(elements)} is at rest, and is not shown"


def _notes(
    trajectory: Trajectory, temperature: Estimate, wanted: float, width: float, from_positions: bool
) -> Iterator[str]:
    highest = 500.0 / trajectory.provenance.interval
    if from_positions:
        yield (
            f"velocities are differences of positions: frames every {trajectory.provenance.interval:g} fs tell "
            f"frequencies up to {highest:.3g} THz, and what is faster is missing or found at lower ones"
        )
    target = trajectory.temperature
    if target is not None and abs(temperature.value - target) > SEEN * target + 3.0 * temperature.error:
        yield (
            f"the velocities have {temperature.value:.4g} K, and the trajectory {target:.4g} K: "
            + ("frames are too far apart for its vibrations" if from_positions else "is it in equilibrium?")
        )
    if width > 1.01 * wanted:
        yield f"the trajectory is long enough for points every {width:.3g} THz, not {wanted:g}"
