"""Transport coefficients from the fluctuations of fluxes in equilibrium (Green 1954, Kubo 1957).

    η = V / (k_B T) ∫ ⟨P_ab(0) P_ab(t)⟩ dt      over the five independent components of the traceless pressure tensor
    κ = 1 / (V k_B T²) ∫ ⟨Q_a(0) Q_a(t)⟩ dt     with Q = V J, the heat flux times the volume
    σ = 1 / (V k_B T) ∫ ⟨I_a(0) I_a(t)⟩ dt      with I = Σ q v

each averaged over its components, t from 0 to ∞. The integral is half the spectrum at zero frequency, which is found
from the cepstrum with its error (`mlmd.analysis.cepstrum`); the integral as it runs with the time is given beside it,
with the error of blocks, and read where the correlation first is within two errors of zero. The heat flux is freed of
the flows of matter (`mlmd.analysis.heat_flux`): κ is without these, as it is measured, and the running integral, which
is that of the flux with them, is not read then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from mlmd import units
from mlmd.analysis.cepstrum import ZeroFrequency, zero_frequency
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.heat_flux import CURRENT, heat_and_flows, together, zero_of_energies
from mlmd.analysis.once import check_each_once
from mlmd.errors import InputError
from mlmd.io.fluxes import FluxSeries, read_fluxes
from mlmd.io.frames import Provenance
from mlmd.rundir import FLUXES, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BLOCKS = 10
"""Parts of the series whose scatter gives the error of the running integral."""
ROWS = 1000
"""Most of the CSV file, at growing distances."""
APART = 4.0
"""Standard errors between both estimates from which on a reader is told."""
PRESSURE = tuple(f"pressure {axes} [bar]" for axes in ("xx", "yy", "zz", "yz", "xz", "xy"))


@dataclass(frozen=True)
class GreenKubo:
    """A transport coefficient."""

    name: str
    symbol: str
    coefficient: Estimate
    running: Estimate
    """The integral up to `cutoff_time`, error of blocks; not determined for a flux that was freed of others."""
    cutoff_time: float
    """fs, where the correlation first is within two errors of zero; nan where that is not seen."""
    lags: np.ndarray
    """(n,) fs."""
    correlation: np.ndarray
    """(n,) of the flux with itself, 1 at zero."""
    integral: np.ndarray
    """(n,) in the unit of the coefficient."""
    integral_error: np.ndarray
    """(n,)."""
    spectrum: ZeroFrequency
    scale: float
    """The coefficient for a spectrum of 1."""
    temperature: float
    """K."""
    volume: float
    """Å³."""
    freed_of: tuple[str, ...]
    """Flows of matter that the flux was freed of; not in `correlation` and `integral`."""
    notes: tuple[str, ...]
    provenance: tuple[Provenance, ...]
    """Of each run."""

    def __str__(self) -> str:
        """The coefficient, and the running integral beside it."""
        running = f"; integral up to {self.cutoff_time / 1e3:.3g} ps {self.running}" if self.running.determined else ""
        return "\n".join([f"{self.name} {self.coefficient} at {self.temperature:.4g} K{running}", *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, how they were found, and provenance."""
        return {
            "analysis": self.name,
            "coefficient": self.coefficient.to_dict(),
            "running_integral": self.running.to_dict(),
            "running_integral_until_fs": None if math.isnan(self.cutoff_time) else self.cutoff_time,
            "freed_of": list(self.freed_of),
            "cepstral_coefficients": self.spectrum.n_coefficients,
            "cutoff_frequency_THz": 1e3 * self.spectrum.cutoff,
            "temperature_K": self.temperature,
            "volume_A3": self.volume,
            "notes": list(self.notes),
            **self._origin(),
        }

    def _origin(self) -> dict[str, Any]:
        """Where the fluxes are from: of one run as its provenance, of several a list."""
        origins = [{**asdict(one), "counted": "lines of fluxes"} for one in self.provenance]
        return {"provenance": origins[0]} if len(origins) == 1 else {"provenance": None, "runs": origins}

    def to_csv(self) -> str:
        """The correlation and its integral, at growing distances of time."""
        rows = np.unique(np.geomspace(1, len(self.lags), ROWS).astype(int)) - 1
        columns = (self.lags, self.correlation, self.integral, self.integral_error)
        unit, which = self.coefficient.unit, " not freed" if self.freed_of else ""
        head = f"t [fs],correlation{which},{self.symbol}(t){which} [{unit}],error [{unit}]\n"
        return head + "".join(",".join(f"{column[row]:.8g}" for column in columns) + "\n" for row in rows)

    def figure(self) -> Figure:
        """The integral against time, and the spectrum."""
        from mlmd.analysis.green_kubo_figure import green_kubo_figure

        return green_kubo_figure(self)


@dataclass(frozen=True)
class _Kind:
    """What makes a flux a coefficient."""

    name: str
    symbol: str
    unit: str
    fluxes: Callable[[Sequence[FluxSeries]], tuple[np.ndarray, tuple[str, ...]]]
    """(n_fluxes, n_components, n_times), and what those after the first are."""
    factor: Callable[[float, float], float]
    """Of the integral, from temperature (K) and volume (Å³)."""


def viscosity(runs: Sequence[Run | Path | str] | Run | Path | str, **options: Any) -> GreenKubo:
    """Shear viscosity in mPa s; arguments and errors as for `green_kubo`."""
    return green_kubo(_VISCOSITY, runs, **options)


def thermal_conductivity(runs: Sequence[Run | Path | str] | Run | Path | str, **options: Any) -> GreenKubo:
    """Thermal conductivity in W/(m K); arguments and errors as for `green_kubo`."""
    return green_kubo(_THERMAL, runs, **options)


def conductivity(runs: Sequence[Run | Path | str] | Run | Path | str, **options: Any) -> GreenKubo:
    """Ionic conductivity in S/cm, with the correlation between ions; arguments and errors as for `green_kubo`."""
    return green_kubo(_IONIC, runs, **options)


def green_kubo(
    kind: _Kind, runs: Sequence[Run | Path | str] | Run | Path | str, *, stage: int | None = None,
    first_time: float | None = None, last_time: float | None = None, cutoff: float | None = None,
) -> GreenKubo:  # fmt: skip
    """A transport coefficient of one system from one run or several that are independent.

    Args:
        kind: which.
        runs: run folders that write fluxes, or files with the columns of fluxes.csv. Of several the longest time that
            all have is used, and they count as further components.
        stage: number of the stage, counted from 1; by default the last with fluxes.
        first_time, last_time: fs since the beginning of the run; by default all.
        cutoff: THz, the highest frequency that is used; by default where the spectrum has fallen for good.

    Raises:
        InputError: without fluxes or a volume, out of equilibrium, for runs of different states, the same one twice,
            and a series that is too short.
    """
    given = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    series = [read_fluxes(one, stage, first_time, last_time) for one in given]
    _check_same_state(series)
    interval = series[0].provenance.interval
    n_times = min(one.provenance.n_frames for one in series)
    fluxes, freed_of = kind.fluxes([_beginning(one, n_times) for one in series])
    temperature, volume = (float(np.mean([getattr(one, name) for one in series])) for name in ("temperature", "volume"))
    if not volume > 0.0:
        raise InputError(f"{series[0].provenance.path}: {kind.name} needs a volume: a cell periodic in all directions.")
    found = zero_frequency(fluxes, interval, None if cutoff is None else 1e-3 * cutoff)
    factor = kind.factor(temperature, volume)
    value = 0.5 * factor * found.value
    lags, correlation, error_of_it, integral, error = running(fluxes[0], interval)
    until = _decorrelated(correlation, error_of_it)
    read = Estimate(math.nan, math.nan, kind.unit, math.nan)
    if until is not None and not freed_of:
        read = Estimate(factor * integral[until], factor * error[until], kind.unit, float(N_BLOCKS))
    coefficient = Estimate(value, value * found.relative_error, kind.unit, found.n_independent)
    return GreenKubo(
        name=kind.name, symbol=kind.symbol, coefficient=coefficient, running=read,
        cutoff_time=float(lags[until]) if until is not None and read.determined else math.nan,
        lags=lags, correlation=correlation / correlation[0], integral=factor * integral, integral_error=factor * error,
        spectrum=found, scale=0.5 * factor, temperature=temperature, volume=volume,
        freed_of=freed_of,
        notes=(
            *_notes(series, coefficient, read, found, until),
            *_freed(freed_of),
            *(zero_of_energies(series, freed_of) if kind is _THERMAL else ()),
        ),
        provenance=tuple(one.provenance for one in series),
    )  # fmt: skip


def running(flux: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The correlation of a flux and its integral by the trapezoidal rule, with errors from `N_BLOCKS` blocks.

    Args:
        flux: (n_components, n_times).
        interval: fs.

    Returns:
        Lags (n,) fs up to half a block, the correlation (n,) and its error, the integral (n,) and its error.
    """
    length = flux.shape[1] // N_BLOCKS
    n_lags = length // 2
    size = fft.next_fast_len(length + n_lags, real=True)
    centred = flux - flux.mean(axis=1, keepdims=True)
    blocks = []
    for number in range(N_BLOCKS):
        part = centred[:, number * length : (number + 1) * length]
        powers = np.sum(np.abs(fft.rfft(part, size, axis=1)) ** 2, axis=0)
        blocks.append(fft.irfft(powers, size)[:n_lags] / (len(flux) * (length - np.arange(n_lags))))
    correlations = np.stack(blocks)
    steps = 0.5 * interval * (correlations[:, 1:] + correlations[:, :-1])
    integrals = np.concatenate([np.zeros((N_BLOCKS, 1)), np.cumsum(steps, axis=1)], axis=1)
    (correlation, integral), (one, other) = (
        [getattr(np, how)(each, axis=0, **more) for each in (correlations, integrals)]
        for how, more in (("mean", {}), ("std", {"ddof": 1}))
    )
    root = math.sqrt(N_BLOCKS)
    return interval * np.arange(n_lags), correlation, one / root, integral, other / root


def _decorrelated(correlation: np.ndarray, error: np.ndarray) -> int | None:
    """The first lag at which a correlation is within two errors of zero."""
    inside = np.flatnonzero(correlation <= 2.0 * error)
    return int(inside[0]) if len(inside) else None


def _check_same_state(series: Sequence[FluxSeries]) -> None:
    """Runs that are averaged are of one state, and at the same intervals."""
    if not series:
        raise InputError("no run is given.")
    first = series[0]
    check_each_once(list(map(_file, series)), [each.provenance.path for each in series])
    for other in series[1:]:
        for what, one, two, apart in (
            ("the interval of their fluxes", first.provenance.interval, other.provenance.interval, 1e-3),
            ("temperature", first.temperature, other.temperature, 0.05),
            ("volume", first.volume, other.volume, 0.01),
        ):
            if abs(one - two) > apart * abs(one):
                raise InputError(
                    f"{first.provenance.path} and {other.provenance.path} differ in {what}: {one:.5g} and {two:.5g}. "
                    "Runs that are averaged are of one system in one state; analyse others each for itself."
                )


def _file(series: FluxSeries) -> Path:
    """Where its lines are, whatever it is called."""
    path = Path(series.provenance.path).resolve()
    return (path / FLUXES).resolve() if path.is_dir() else path


def _beginning(series: FluxSeries, n_times: int) -> FluxSeries:
    return replace(series, columns={name: values[:n_times] for name, values in series.columns.items()})


def _freed(flows: Sequence[str]) -> tuple[str, ...]:
    if not flows:
        return ()
    return (
        f"the heat flux was freed of {' and '.join(flows)}, as in a measurement without such flows; the running "
        "integral in the files is that of the heat flux with them",
    )


def _notes(
    series: Sequence[FluxSeries], coefficient: Estimate, read: Estimate, found: ZeroFrequency, until: int | None
) -> tuple[str, ...]:
    notes = [note for one in series for note in one.provenance.notes]
    kinds = {one.provenance.kind for one in series}
    if "npt" in kinds:
        notes.append("the volume changes by moves that break the correlation in time: run nve at the mean volume")
    if "nvt" in kinds:
        notes.append(
            "a thermostat changes fluxes: friction ends their correlation after its own time. nve is safe, "
            "Nosé–Hoover nearly so"
        )
    if found.aliased:
        notes.append(
            "the spectrum has not fallen at the highest frequency that the interval allows: fluxes are written too "
            "rarely (every), and what is faster is counted at lower frequencies"
        )
    if until is None:
        notes.append("the correlation is not seen to end: the series is too short for it")
    elif read.determined and abs(read.value - coefficient.value) > APART * math.hypot(read.error, coefficient.error):
        notes.append(
            f"the running integral, {read}, is far from the value of the spectrum, {coefficient}: look at the picture, "
            "and choose the highest frequency with --cutoff"
        )
    return tuple(dict.fromkeys(notes))


def _traceless(series: Sequence[FluxSeries]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Five components of the pressure in eV/Å³, independent and of one variance in a fluid."""
    parts = []
    for one in series:
        xx, yy, zz, yz, xz, xy = units.BAR * one[PRESSURE]
        parts += [yz, xz, xy, 0.5 * (xx - yy), (2.0 * zz - xx - yy) / math.sqrt(12.0)]
    return np.stack(parts)[None], ()


_VISCOSITY = _Kind(
    "viscosity", "η", "mPa s", _traceless, lambda temperature, volume: units.MPA_S * volume / (units.KB * temperature)
)
_THERMAL = _Kind(
    "thermal-conductivity", "κ", "W/(m K)", heat_and_flows,
    lambda temperature, volume: units.W_PER_MK / (volume * units.KB * temperature**2),
)  # fmt: skip
_IONIC = _Kind(
    "conductivity", "σ", "S/cm", lambda series: (together(series, CURRENT)[None], ()),
    lambda temperature, volume: units.S_PER_CM / (volume * units.KB * temperature),
)  # fmt: skip
