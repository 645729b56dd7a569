"""Diffusion and conductivity against temperature: activation energies, regimes, and values at other temperatures.

Of a diffusion coefficient ln D is fitted, of an ionic conductivity ln σT (Nernst–Einstein: σT ∝ D), as of ions that are
independent and of all ions together (`mlmd.analysis.collective`), which is what is measured and known far less well.
The laws, and how one is chosen, are those of `mlmd.analysis.temperature_laws`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.symbols import Symbols

from mlmd.analysis.activation import Activation, Point, activation, divided, kelvins_of, listed, told
from mlmd.analysis.diffusion import D_UNIT, DiffusionResult, diffusion
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.once import check_each_once
from mlmd.errors import InputError
from mlmd.io.frames import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AMBIENT = 300.0
"""K, where everybody wants to know."""
CONDUCTIVITY, TOGETHER = "conductivity", "collective conductivity"
"""What is told with charges: Nernst–Einstein's, and that of all ions together."""


@dataclass(frozen=True)
class ArrheniusResult:
    """Activation energies of a series of runs, or of a table."""

    activations: tuple[Activation, ...]
    charges: Mapping[str, float]
    """e, by element."""
    notes: tuple[str, ...]

    name = "arrhenius"

    def __str__(self) -> str:
        """A line for each quantity, one for each prediction, and the notes."""
        lines = []
        for one in self.activations:
            lines.append(f"{one.quantity}: {one.law.name}, {', '.join(told(one.law))}")
            lines += [f"{one.quantity} at {each.temperature:g} K = {each}" for each in one.predictions]
            lines += [f"{one.quantity}: {note}" for note in one.notes]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """All laws with their parameters, which was chosen and why, the points and the predictions."""
        return {
            "analysis": self.name,
            "quantities": {one.quantity: _json(one) for one in self.activations},
            "charges_e": dict(self.charges),
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """The points: temperature, value, error, what the chosen law gives there, and whether it is in the fit."""
        rows = ["quantity,temperature [K],value,error,unit,law,run,in the fit"]
        for one in self.activations:
            for point in sorted((*one.points, *one.left_out), key=_kelvin):
                fitted = one.curve(one.law, np.array([point.temperature]))[0][0]
                rows.append(
                    f"{one.quantity},{point.temperature:.8g},{point.value.value:.8g},{point.value.error:.8g},"
                    f'{point.value.unit},{fitted:.8g},"{point.source}",{int(point in one.points)}'
                )
        return "\n".join(rows) + "\n"

    def figure(self) -> Figure:
        """The points and the laws over 1000/T."""
        from mlmd.analysis.arrhenius_figure import arrhenius_figure

        return arrhenius_figure(self)


def arrhenius(
    runs: Sequence[Path | str],
    *,
    elements: Sequence[str] | None = None,
    charges: Mapping[str, float] | None = None,
    drift: str | Sequence[str] = "cell",
    stage: int | None = None,
    first_time: float | None = None,
    last_time: float | None = None,
    at: Sequence[float] = (AMBIENT,),
) -> ArrheniusResult:
    """Activation energies of D, and with charges of both conductivities, from runs at several temperatures.

    Args:
        runs: run folders, and folders of replicas, all of whose runs count.
        elements: by default all that diffuse at two temperatures or more.
        charges: e, by element, for the conductivities; that of all ions together is left out, and that is told,
            where fewer than two temperatures have one.
        drift: what is taken to be at rest, as in `mlmd.analysis.diffusion.diffusion`.
        stage: number of the stage in every run; by default the last with frames.
        first_time, last_time: fs between which frames count.
        at: K, where values are predicted.

    Raises:
        InputError: for fewer than two temperatures, the same run twice, and what the analysis of a run refuses, with
            its name.
    """
    from mlmd.io.trajectories import open_run

    folders = [folder for run in runs for folder in runs_in(Path(run))]
    check_each_once(folders, how=", alone or in its folder")
    points: dict[str, list[Point]] = {}
    pressures: dict[str, Path] = {}
    compositions: dict[str, Path] = {}
    for folder in folders:
        try:
            trajectory = open_run(folder, stage, first_time, last_time)
            if not trajectory.temperature:
                raise InputError("the run has no temperature")
            present = [one for one in elements or trajectory.elements if one in trajectory.elements]
            if missing := sorted({*(elements or ())} - {*present}):
                raise InputError(f"there is no {', '.join(missing)} in it")
            origin = trajectory.provenance
            if origin.scale not in (None, 1.0):
                raise InputError(f"its potential was scaled by {origin.scale:g}, so that its temperature is another")
            found = diffusion(trajectory, elements=present, charges=charges, drift=drift)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        pressures.setdefault(_pressure(folder, origin), folder)
        compositions.setdefault(_composition(trajectory.numbers), folder)
        kelvin, name = trajectory.temperature, str(folder)
        for one in found.species:
            if elements is None or one.element in elements:
                point = Point(kelvin, one.coefficient, name, (*one.notes, *origin.notes), origin)
                points.setdefault(f"D({one.element})", []).append(point)
        for quantity, value, said in _conductivities(found) if charges else ():
            points.setdefault(quantity, []).append(Point(kelvin, value, name, said, origin))
    for found_in, are in ((compositions, "of different compositions"), (pressures, "at different pressures")):
        if len(found_in) > 1:
            told_of = ", ".join(f"{value} in {folder}" for value, folder in found_in.items())
            raise InputError(f"the runs are {are} ({told_of}): give those of one.")
    _check_temperatures(points, folders)
    asked = {f"D({element})" for element in elements or ()} | ({CONDUCTIVITY} if charges else set())
    able = {name: own for name, own in points.items() if name in asked or len(kelvins_of(divided(own)[0])) > 1}
    if not able:
        raise InputError(
            "nothing diffuses at two temperatures or more: no diffusion coefficient is larger than its error. Run "
            "longer, or at higher temperatures."
        )
    still = sorted(points.keys() - able.keys() - {TOGETHER})
    notes = [f"not shown, since they do not diffuse: {', '.join(still)}"] if still else []
    if TOGETHER in points and TOGETHER not in able:
        notes.append(_why_not(points[TOGETHER]))
    activations = [
        activation(name, sorted(own, key=_kelvin), at, times_temperature=name in (CONDUCTIVITY, TOGETHER))
        for name, own in able.items()
    ]
    return ArrheniusResult(tuple(activations), dict(charges or {}), tuple(notes))


def _kelvin(point: Point) -> float:
    return point.temperature


def _why_not(points: Sequence[Point]) -> str:
    """Why there is no line through the conductivities of all ions together."""
    reasons = dict.fromkeys(note for point in points for note in point.notes)
    kelvins = listed(kelvins_of(divided(points)[0]))
    return (
        f"{TOGETHER}: larger than twice its error at {kelvins}, and two temperatures are needed: "
        f"{'; '.join(reasons) or 'run longer'}"
    )


def _conductivities(found: DiffusionResult) -> list[tuple[str, Estimate, tuple[str, ...]]]:
    """Name, value and notes of the conductivities of a run."""
    unknown = Estimate(math.nan, math.nan, "S/cm", 0.0)
    one = found.collective
    said = () if one is None else one.notes
    alone = tuple(note for note in found.notes if note not in said)
    of_it = tuple(note.removeprefix(f"{TOGETHER}: ") for note in said)
    return [
        (CONDUCTIVITY, found.conductivity or unknown, alone),
        (TOGETHER, unknown if one is None else one.conductivity, (*of_it, *found.provenance.notes)),
    ]


def runs_in(folder: Path) -> list[Path]:
    """A run, or the runs of a folder of replicas, by name.

    Raises:
        InputError: when it is neither.
    """
    from mlmd.rundir import MANIFEST

    if (folder / MANIFEST).is_file():
        return [folder]
    found = sorted(one.parent for one in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder} is neither a run folder nor a folder of runs.")
    return found


def _composition(numbers: np.ndarray) -> str:
    """The formula, divided by what all its numbers have in common: the same for every supercell."""
    return str(Symbols(numbers).formula.reduce()[0].format("hill"))


def _pressure(folder: Path, origin: Provenance) -> str:
    """Of the stage that was analysed, in words."""
    from mlmd.rundir import open_run

    target = open_run(folder).stages[(origin.stage or 1) - 1].pressure
    return "no pressure" if target is None else f"{target[0]:g} bar"


def read_table(path: Path, *, at: Sequence[float] = (AMBIENT,)) -> ArrheniusResult:
    """Activation energies of values from elsewhere.

    Args:
        path: comma-separated, with a header: temperature in K, value, and its standard error if it is known. The
            header of the value is its name, with the unit in brackets: ``T [K], D [cm²/s], error``. A value called σ
            or conductivity is multiplied by the temperature.
        at: K, where values are predicted.

    Raises:
        InputError: when it is no such table.
    """
    try:
        header, *lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = np.array([[float(cell) for cell in line.split(",")[:3]] for line in lines])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from None
    except ValueError:
        raise InputError(f"{path} is no table of numbers below a header: T [K], D [cm²/s], error.") from None
    if rows.ndim != 2 or rows.shape[1] < 2 or (rows[:, 0] <= 0.0).any() or not np.isfinite(rows).all():
        raise InputError(f"{path}: rows of a temperature above 0 K, a value and its error are needed.")
    if header.count(",") < 1:
        raise InputError(f"{path}: the header {header!r} does not name a temperature and a value: T [K], D [cm²/s].")
    name, _, unit = header.split(",")[1].strip().rstrip("]").partition("[")
    errors = rows[:, 2] if rows.shape[1] > 2 else np.full(len(rows), math.nan)
    points = [
        Point(float(row[0]), Estimate(float(row[1]), float(error), unit.strip() or D_UNIT, math.nan), str(path))
        for row, error in zip(rows, errors, strict=True)
    ]
    name = name.strip() or "D"
    conducts = name.lower().startswith(("conductivity", "σ", "sigma"))
    found = activation(name, sorted(points, key=_kelvin), at, times_temperature=conducts)
    return ArrheniusResult((found,), {}, ())


def _check_temperatures(points: Mapping[str, Sequence[Point]], folders: Sequence[Path]) -> None:
    kelvins = kelvins_of([point for own in points.values() for point in own])
    if len(kelvins) < 2:
        raise InputError(
            f"{len(folders)} {'run' if len(folders) == 1 else 'runs'} at {listed(kelvins)}: an activation "
            "energy needs two temperatures or more."
        )


def _json(one: Activation) -> dict[str, Any]:
    return {
        "law": one.law.name,
        "p_value": None if math.isnan(one.choice.p_value) else one.choice.p_value,
        "errors_multiplied_by": _number(one.choice.scatter),
        "laws": {
            law.name: {
                "parameters": {
                    key: {name: _number(value) for name, value in asdict(parameter).items()}
                    for key, parameter in law.parameters.items()
                },
                "chi2": law.chi2,
                "bic": law.bic,
                "degrees_of_freedom": law.n_free,
            }
            for law in one.choice.laws
        },
        "at": [
            {
                "temperature_K": each.temperature, "value": each.value.to_dict(), "interval_95": [each.low, each.high],
                "other_laws": dict(each.others),
            }
            for each in one.predictions
        ],
        "points": [_point(point) for point in one.points],
        "left_out": [_point(point) for point in one.left_out],
        "notes": list(one.notes),
    }  # fmt: skip


def _point(point: Point) -> dict[str, Any]:
    return {
        "temperature_K": point.temperature, "value": point.value.to_dict(), "run": point.source,
        "notes": list(point.notes),
        "provenance": None if point.provenance is None else asdict(point.provenance),
    }  # fmt: skip


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
