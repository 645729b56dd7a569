"""Infrared absorption from the current of charges, J = Σ q v, which is the derivative of the dipole of the cell.

    α(ν̃) n(ν̃) = S(ν) f(hν/k_B T) / (6 c ε₀ V k_B T),    S(ν) = ∫ ⟨J(0) · J(t)⟩ exp(-2πiνt) dt,    ν = c ν̃

of all times t (Gordon, Adv. Magn. Reson. 3, 1, 1968; Thomas, Brehm, Fligg, Vöhringer, Kirchner, Phys. Chem. Chem. Phys.
15, 6608, 2013). Times V N_A it is the absorption of the cell as a molecule, in km/mol for each 1/cm, which needs no
volume; its integral is the intensity, N_A Σ q²/m / 4 ε₀ c² of fixed charges in classical equilibrium.

Nuclei move classically here, and f makes of their correlation what that of quantum nuclei might be, x = hν/k_B T:
1 ("harmonic": exact for an oscillator with a linear dipole, and the classical answer of the system to a field),
(1 - exp(-x))/x ("none": the classical ⟨M(0) · M(t)⟩ as it is in the formula for quanta), or 2 sinh(x/2)/x
("schofield", Phys. Rev. Lett. 4, 239, 1960).

Charges that stay with the atoms leave out how bonds polarise: frequencies are those of the potential, intensities are
as good as the charges. Segments that overlap by half, under a Hann window, give the spectrum (Welch, 1967); their
scatter gives the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft
from scipy.signal import find_peaks

from mlmd import units
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.heat_flux import CURRENT
from mlmd.analysis.msd import check_times
from mlmd.analysis.vacf import SEGMENTS, Velocities
from mlmd.errors import InputError, did_you_mean
from mlmd.io.fluxes import FluxSeries, read_fluxes
from mlmd.io.frames import Provenance, Trajectory
from mlmd.io.trajectories import open_run
from mlmd.rundir import FLUXES, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESOLUTION = 5.0
"""1/cm between points of the spectrum, where the series is long enough."""
CLEAR = 4.0
"""Standard errors that a line is above its surroundings."""
FAINT = 0.02
"""Of the highest line: fainter ones are not listed."""
TOP = 0.1
"""Of the frequencies, the highest ones: what is there may have come from beyond."""
BEYOND = 0.02
"""Of the intensity, which there is too much."""


def _none(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(x > 0.0, -np.expm1(-x) / x, 1.0)


def _schofield(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(x > 0.0, 2.0 * np.sinh(0.5 * x) / x, 1.0)


CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "harmonic": np.ones_like, "none": _none, "schofield": _schofield,
}  # fmt: skip
"""Name -> f(hν/k_B T)."""


@dataclass(frozen=True)
class InfraredResult:
    """An infrared spectrum."""

    wavenumbers: np.ndarray
    """(n,) 1/cm."""
    absorption: np.ndarray
    """(n,) km/mol for each 1/cm, of the cell."""
    error: np.ndarray
    """(n,)."""
    intensity: Estimate
    """km/mol, its integral."""
    lines: np.ndarray
    """(n_lines,) 1/cm, where it has clear maxima."""
    volume: float
    """Å³; nan without full periodicity."""
    temperature: float
    """K."""
    correction: str
    source: str
    """What the current is from."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "infrared"

    @property
    def per_length(self) -> float:
        """1/cm of α n for each km cm/mol of the absorption; nan without a volume."""
        return 1.0 / (units.KM_PER_MOL * units.PER_CM * self.volume)

    def __str__(self) -> str:
        """The intensity, and where lines are."""
        where = ", ".join(f"{one:.0f}" for one in self.lines) or "none"
        return "\n".join([f"infrared: intensity {self.intensity}; lines (1/cm): {where}", *self.notes])

    def to_json(self) -> dict[str, Any]:
        """The intensity with its error, lines, how they were found, and provenance; the spectrum is in the CSV file."""
        return {
            "analysis": self.name,
            "intensity": self.intensity.to_dict(),
            "lines_per_cm": self.lines.tolist(),
            "resolution_per_cm": float(self.wavenumbers[1]),
            "quantum_correction": self.correction,
            "current": self.source,
            "temperature_K": self.temperature,
            "volume_A3": self.volume if math.isfinite(self.volume) else None,
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """The spectrum with errors; as absorption of a length too, where there is a volume."""
        names = ["wavenumber [1/cm]", "absorption [km cm/mol]", "absorption error"]
        columns = [self.wavenumbers, self.absorption, self.error]
        if math.isfinite(self.volume):
            names += ["α n [1/cm]", "α n error"]
            columns += [self.per_length * self.absorption, self.per_length * self.error]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """The spectrum."""
        from mlmd.analysis.infrared_figure import infrared_figure

        return infrared_figure(self)


def infrared(
    motion: Trajectory | FluxSeries | Run | Path | str, *, charges: Mapping[str, float] | None = None,
    drift: str | Sequence[str] = "cell", resolution: float = RESOLUTION, correction: str = "harmonic",
) -> InfraredResult:  # fmt: skip
    """The infrared spectrum of moving charges.

    Args:
        motion: frames at equal intervals, several in a period of the fastest vibration, with velocities or without;
            or the current that a run has written to fluxes.csv; of a run folder that current, else its frames.
        charges: e, by element, for frames.
        drift: what is at rest among the atoms of frames: "cell" (centre of mass), "none", or elements.
        resolution: 1/cm between points of the spectrum; a short series has a coarser one.
        correction: "harmonic", "none" or "schofield".

    Raises:
        InputError: without charges or a temperature, for too few frames, unequal intervals, replicas that exchanged,
            and an unknown correction.
    """
    if correction not in CORRECTIONS:
        raise InputError(f"{correction!r} is no quantum correction. {did_you_mean(correction, CORRECTIONS)}")
    if not resolution > 0.0:
        raise InputError(f"a resolution of {resolution:g} 1/cm: it has to be above zero.")
    if isinstance(motion, Run | Path | str):
        motion = written_current(motion) or open_run(motion)
    origin, temperature = motion.provenance, motion.temperature
    if temperature is None:
        raise InputError(f'{origin.path} tells no temperature. Give it: --temperature "300 K".')
    if isinstance(motion, FluxSeries):
        current, volume, from_positions, source = motion[CURRENT], motion.volume, False, "fluxes.csv"
    else:
        current, from_positions = _current(motion, charges or {}, drift)
        volume = motion.volume()
        source = "differences of positions" if from_positions else "velocities of frames"
    power, width, n_independent = _spectra(current, origin, resolution)
    frequencies = width * np.arange(power.shape[1])
    if from_positions:
        power /= np.sinc(frequencies * origin.interval) ** 2
    thermal = units.KB * temperature
    factor = CORRECTIONS[correction](units.PLANCK * frequencies / thermal)
    # power is of both signs of the frequency together, twice S
    spectra = units.KM_PER_MOL * factor * power / (12.0 * units.LIGHT * units.PERMITTIVITY * thermal)
    wavenumbers = frequencies / (units.LIGHT * units.PER_CM)
    mean, error = spectra.mean(axis=0), spectra.std(axis=0, ddof=1) / math.sqrt(n_independent)
    weights = np.full(len(mean), wavenumbers[1])
    weights[0] *= 0.5
    whole = spectra @ weights
    intensity = Estimate(
        float(whole.mean()), float(whole.std(ddof=1)) / math.sqrt(n_independent), "km/mol", n_independent
    )
    return InfraredResult(
        wavenumbers, mean, error, intensity, wavenumbers[_lines(mean, error)], volume, temperature, correction, source,
        (*origin.notes, *_notes(motion, mean * weights, wavenumbers, resolution, from_positions)), origin,
    )  # fmt: skip


def written_current(
    path: Run | Path | str, stage: int | None = None, first_time: float | None = None, last_time: float | None = None
) -> FluxSeries | None:
    """The current that a run has written; None where it has none. Arguments and errors as for `read_fluxes`."""
    folder = path.path if isinstance(path, Run) else Path(path)
    if not (folder / FLUXES).exists():
        return None
    series = read_fluxes(path, stage, first_time, last_time)
    return series if CURRENT[0] in series.columns else None


def _current(
    trajectory: Trajectory, charges: Mapping[str, float], drift: str | Sequence[str]
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """(3, n_times) e Å/fs relative to what is at rest, and whether it is of differences of positions."""
    path = trajectory.provenance.path
    charged = {element: charge for element, charge in charges.items() if charge}
    if not charged:
        raise InputError(
            f"{path}: an infrared spectrum is that of charges that move, and none are known. Give them, --charges "
            'O=-0.8,H=0.4, or let a run write its current: [output] fluxes = ["current"].'
        )
    if trajectory.provenance.exchanged:
        raise InputError(
            f"{path}: atoms jump where replicas exchange, and have no velocity there. Take independent runs, without "
            "exchange_every."
        )
    check_times(trajectory, "an infrared spectrum")
    read = Velocities(trajectory, drift)
    current = np.zeros((3, read.n_times))
    for element, charge in charged.items():
        for velocities in read.of(trajectory.atoms_of([element])):
            current += charge * velocities.sum(axis=0)
    return current, read.from_positions


def _spectra(current: np.ndarray, origin: Provenance, resolution: float) -> tuple[np.ndarray, float, float]:
    """Spectra of segments (n_segments, n_frequencies), e² Å²/fs and one-sided; 1/fs between them; and how many count.

    `current` is (3, n_times) e Å/fs.
    """
    n_times, interval = current.shape[1], origin.interval
    wanted = math.ceil(1.0 / (resolution * units.LIGHT * units.PER_CM * interval))
    length = min(n_times // SEGMENTS, wanted)
    if length < SEGMENTS:
        raise InputError(
            f"{origin.path}: {n_times} times are too few: {SEGMENTS} segments of {SEGMENTS} at least are needed."
        )
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(length) + 0.5) / length)
    starts = range(0, n_times - length + 1, length // 2)
    seen = [np.abs(fft.rfft(current[:, start : start + length] * window, axis=1)) ** 2 for start in starts]
    power = 2.0 * interval / float(window @ window) * np.stack(seen).sum(axis=1)
    return power, 1.0 / (length * interval), n_times / length


def _lines(mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Indices of maxima that stand clearly above what is between them."""
    peaks, found = find_peaks(mean, prominence=FAINT * mean.max())
    places: np.ndarray = peaks[found["prominences"] > CLEAR * error[peaks]]
    return places


def _notes(
    motion: Trajectory | FluxSeries, parts: np.ndarray, wavenumbers: np.ndarray, wanted: float, from_positions: bool
) -> Iterator[str]:  # fmt: skip
    if from_positions:
        yield (
            f"velocities are differences of positions: frames every {motion.provenance.interval:g} fs tell up to "
            f"{wavenumbers[-1]:.4g} 1/cm, and what is faster is missing or found at lower wavenumbers"
        )
    beyond = parts[int((1.0 - TOP) * len(parts)) :].sum() / parts.sum()
    if beyond > BEYOND:
        yield (
            f"{beyond:.0%} of the intensity are in the last tenth of the wavenumbers: there may be faster vibrations, "
            "which are then counted at lower ones. Write more often"
        )
    if motion.provenance.kind == "nvt":
        yield "a thermostat broadens lines: friction by itself over 2πc. nve is safe, Nosé–Hoover nearly so"
    if wavenumbers[1] > 1.01 * wanted:
        yield f"the series is long enough for points every {wavenumbers[1]:.3g} 1/cm, not {wanted:g}"
