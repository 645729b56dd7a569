"""One self-contained HTML page about a run: no other file, no network, nothing from a file that is not escaped."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mlmd
from mlmd import analysis
from mlmd.analysis.biased import has_free_energy
from mlmd.analysis.estimate import average, from_dict
from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.errors import InputError, StorageError
from mlmd.io.frames import biased
from mlmd.io.log import read_log
from mlmd.io.trajectories import bias_of
from mlmd.rundir import CRASH, MESSAGES, Run, StageRecord, describe_targets, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT = "report.html"
TITLES = {
    "diffusion": "Diffusion", "rdf": "Radial distribution functions", "fes": "Free energy",
    "van-hove": "Van Hove functions", "density": "Probability densities", "sites": "Sites and jumps",
    "rotation": "Rotation", "adf": "Angles between neighbours", "coordination": "Coordination numbers",
    "bonds": "Lifetimes of bonds", "order": "Bond-orientational order",
}  # fmt: skip
STATES = ("done", "running", "stopped", "failed")
_LAST_MESSAGES = 200
_MAX_POINTS = 2000
_OF_STAGES = {
    "temperature (K)": "temperature [K]",
    "potential energy (eV/atom)": "potential energy [eV]",
    "pressure (bar)": "pressure [bar]",
    "volume (Å³)": "volume [Å^3]",
}
"""Columns of the table of stages, and those of the log whose means they are."""
_DRIFT = "energy drift (meV/atom/ns)"

Log = dict[str, np.ndarray]


@dataclass(frozen=True)
class Table:
    """Words and numbers as they are shown."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One analysis."""

    title: str
    origin: str
    picture: str | None
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    headlines: tuple[tuple[str, str], ...]
    """Names and values worth the top of the page."""


def write_report(run: Run, folder: Path | None = None) -> Path:
    """Write report.html into a run folder.

    Analyses that have been done are shown as they stand in RUN/analysis; those that the input asks for and that have
    not been done are done first, unless the run failed.

    Args:
        run: an open run folder.
        folder: for the page and for analyses that are done now; by default the run's.

    Returns:
        The path of the page.

    Raises:
        StorageError: when files of the run cannot be read or the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("mlmd"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.j2").render(_contents(run, folder or run.path))
    path = (folder or run.path) / REPORT
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page.encode())
    except OSError as error:
        raise _not_writable(path.parent, error) from None
    return path


def _not_writable(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"{folder} cannot be written: {error.strerror}. Give another folder with --out.")


def _contents(run: Run, folder: Path) -> dict[str, Any]:
    """Everything the template names."""
    log = read_log(run.log) if run.log.exists() else {}
    sections = tuple(_sections(run, folder))
    state = str(run.manifest.get("state", "unknown"))
    return {
        "title": run.path.resolve().name,
        "state": state,
        "state_class": state if state in STATES else "",
        "subtitle": _subtitle(run),
        "failure": _failure(run) if state == "failed" else None,
        "crashed": (run.path / CRASH / "why.txt").exists(),
        "tiles": _tiles(run, log, sections),
        "stages": _stage_table(run, log),
        "warnings": tuple(_warnings(run)),
        "timeline": _data_uri(_timeline(run, log)) if log and len(log["step"]) > 1 else None,
        "analyses": sections,
        "input_text": _text(run.path / "input.toml"),
        "resolved": json.dumps(run.manifest.get("input", {}), indent=2, ensure_ascii=False),
        "messages": "\n".join(_text(run.path / MESSAGES).splitlines()[-_LAST_MESSAGES:]),
        "facts": tuple(_facts(run)),
        "version": mlmd.__version__,
    }


def _subtitle(run: Run) -> str:
    kinds = " → ".join(stage.kind for stage in run.stages)
    return f"{run.atoms.get_chemical_formula('metal')}, {len(run.atoms):,} atoms; {kinds}"


def _failure(run: Run) -> str:
    """Why the run failed: what the crash folder says, or the last message."""
    why = _text(run.path / CRASH / "why.txt").strip()
    messages = _text(run.path / MESSAGES).strip().splitlines()
    return why or (messages[-1] if messages else "There is no message about the reason.")


def _warnings(run: Run) -> Iterator[str]:
    """What was told when the run began, and stages whose numbers do not belong to the potential alone."""
    yield from map(str, run.manifest.get("warnings", ()))
    for number, stage in enumerate(run.stages, 1):
        name = bias_of(run, stage)
        if name is not None:
            yield f"Stage {number}: {biased(name)}."


def _tiles(run: Run, log: Log, sections: tuple[Section, ...]) -> list[dict[str, str]]:
    planned = sum(stage.n_steps * stage.timestep for stage in run.stages) / 1e3
    reached = float(log["time [ps]"][-1]) if log and len(log["step"]) else 0.0
    tiles = [{"value": f"{reached:,.6g} ps", "name": f"simulated, of {planned:,.6g} ps planned"}]
    return tiles + [{"value": value, "name": name} for one in sections for name, value in one.headlines]


def _stage_table(run: Run, log: Log) -> Table:
    shown = {name: column for name, column in _OF_STAGES.items() if not log or column in log}
    drift = (_DRIFT,) if not log or "energy per atom [eV]" in log else ()
    rows = (_stage_row(number, stage, log, run, shown, drift) for number, stage in enumerate(run.stages, 1))
    return Table(("stage", "target", "time (ps)", *shown, *drift), tuple(rows))


def _stage_row(
    number: int, stage: StageRecord, log: Log, run: Run, shown: Mapping[str, str], drift: Sequence[str]
) -> tuple[str, ...]:
    """A stage with the means of what is shown of its log."""
    duration = f"{stage.n_steps * stage.timestep / 1e3:,.6g}" if stage.n_steps else "–"
    first = (f"{number} {stage.kind}", _target(stage), duration)
    rows = log["stage"] == stage.index + 1 if log else np.zeros(0, bool)
    if rows.sum() < 2 or stage.ramped:
        return (*first, *["–"] * (len(shown) + len(drift)))
    sizes = {name: _n_atoms(run, log)[rows] if name.endswith("(eV/atom)") else 1 for name in shown}
    means = (_mean(log[column][rows] / sizes[name]) for name, column in shown.items())
    return (*first, *means, *(_energy_drift(stage, log, rows) for _ in drift))


def _n_atoms(run: Run, log: Log) -> np.ndarray:
    """Atoms in each line of the log; there is a column where their number changes."""
    return log.get("atoms", np.full(len(log["step"]), len(run.atoms)))


def _mean(column: np.ndarray) -> str:
    mean = average(column, "")
    return str(mean) if mean.determined else "–"


def _target(stage: StageRecord) -> str:
    told = ((stage.temperature, "K"), (stage.pressure, "bar"))
    texts = [f"{describe_targets(targets, ' → ')} {unit}" for targets, unit in told if targets is not None]
    return ", ".join(texts) or "–"


def _energy_drift(stage: StageRecord, log: Log, rows: np.ndarray) -> str:
    """Slope of the total energy where it is to be conserved."""
    if stage.kind != "nve":
        return "–"
    slope = np.polyfit(log["time [ps]"][rows] / 1e3, 1e3 * log["energy per atom [eV]"][rows], 1)[0]
    return f"{slope:+.2g}"


def _timeline(run: Run, log: Log) -> Figure:
    """Temperature, energies, pressure and what else changes against time, with the borders of the stages."""
    few = np.unique(np.linspace(0, len(log["step"]) - 1, _MAX_POINTS).astype(int))
    time, n_atoms = log["time [ps]"][few], _n_atoms(run, log)
    always = [("temperature (K)", log["temperature [K]"])]
    if "potential energy [eV]" in log:  # AGNI has none
        always.append(("potential energy (eV/atom)", log["potential energy [eV]"] / n_atoms))
        always.append(("total energy (eV/atom)", log["energy per atom [eV]"]))
    others = {"pressure (bar)": "pressure [bar]", "volume (Å³)": "volume [Å^3]", "bias energy (eV)": "bias energy [eV]"}
    others["atoms"] = "atoms"
    changing = [(name, log[key]) for name, key in others.items() if key in log and np.ptp(log[key]) > 0.0]
    panels = [*always, *changing]
    n_rows = (len(panels) + 1) // 2
    figure, axes = new_figure(n_rows, 2, height=2.7 * n_rows)
    for one, (name, column) in zip(axes, panels, strict=False):
        one.plot(time, column[few], color=color(0), linewidth=0.8)
        label(one, "time (ps)", name)
        one.ticklabel_format(axis="y", useOffset=False)
        _mark_stages(one, run)
        one.set_xlim(float(time[0]), max(float(time[-1]), float(time[0]) + 1e-9))
    for one in axes[len(panels) :]:
        one.set_visible(False)
    target = log["target temperature [K]"][few]
    if np.isfinite(target).any():
        axes[0].plot(time, target, color="black", linewidth=1.0, linestyle="--", label="target")
        legend(axes[0])
    return figure


def _mark_stages(axes: Axes, run: Run) -> None:
    ends = np.cumsum([stage.n_steps * stage.timestep for stage in run.stages])[:-1] / 1e3
    for end in np.unique(ends):
        axes.axvline(float(end), color="#777777", linewidth=0.9, linestyle=":")


def _sections(run: Run, folder: Path) -> Iterator[Section]:
    """The analyses that were asked for or done, in the order of their table, then what else stands there."""
    done = {
        path.stem: path.parent
        for place in (folder, run.path)
        for path in (place / analysis.FOLDER).glob("*.json")
    }  # fmt: skip
    wanted: Mapping[str, Any] = run.manifest.get("input", {}).get("analysis") or {}
    asked = [*wanted.get("run", ())]
    if "fes" not in asked and "fes" not in done and has_free_energy(run):
        asked.append("fes")
    failed = _do(run, [name for name in asked if name not in done], wanted, folder / analysis.FOLDER)
    known = [name for name in analysis.ANALYSES if name in done or name in asked]
    for name in (*known, *sorted((done.keys() | set(asked)) - set(known))):
        if name in failed:
            yield Section(TITLES.get(name, name), "", None, (), (failed[name],), ())
        else:
            yield _section(run, name, done.get(name, folder / analysis.FOLDER))


def _do(run: Run, names: Sequence[str], wanted: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Do analyses; what could not be done, by name, and why."""
    if run.manifest.get("state") == "failed":
        return dict.fromkeys(names, "Not done: the run failed.")
    options = {key: wanted[key] for key in ("charges", "drift") if key in wanted}
    try:
        results = analysis.run_all(run, names, **options, folder=folder)
    except OSError as error:
        raise _not_writable(folder, error) from None
    return {one.name: str(one) for one in results if isinstance(one, analysis.Unavailable)}


def _section(run: Run, name: str, folder: Path) -> Section:
    title = TITLES.get(name, name)
    try:
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        groups = {key: group for key, group in data.items() if _is_group(group)}
        notes = [str(note) for note in data.get("notes", [])]
        for group in groups.values():
            notes += [f"{key}: {note}" for key, entry in group.items() for note in entry.get("notes", [])]
        bias = data.get("provenance", {}).get("bias")
        if bias is not None and biased(str(bias)) not in notes:
            notes.insert(0, biased(str(bias)))
        picture = folder / f"{name}.png"
        return Section(
            title, _origin(data.get("provenance", {})), _png(picture.read_bytes()) if picture.exists() else None,
            tuple(_table(group) for group in groups.values()), (*notes, *_stale(run, data)), _headlines(data),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Section(title, "", None, (), (f"{folder / name}.json is damaged: {error!r}. Analyse again.",), ())


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "error", "unit", "n_independent"}


def _is_group(value: Any) -> bool:
    """Entries by name, e.g. elements, of which at least one has an estimate."""
    return isinstance(value, dict) and any(
        isinstance(entry, dict) and any(map(_is_estimate, entry.values())) for entry in value.values()
    )


def _table(group: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = list(
        dict.fromkeys(key for entry in group.values() for key, value in entry.items() if _is_estimate(value))
    )
    rows = ((name, *(_number(entry.get(column)) or "–" for column in columns)) for name, entry in group.items())
    return Table(("", *map(_words, columns)), tuple(rows))


def _number(value: Any) -> str | None:
    """An estimate as text; None where there is no value."""
    estimate = from_dict(value) if _is_estimate(value) else None
    return str(estimate) if estimate is not None and estimate.determined else None


def _words(key: str) -> str:
    """``first_peak`` as words; an index, as in ``D_x``, stays one."""
    return re.sub(r"_(?=\w\w)", " ", key)


def _headlines(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Diffusion coefficients and numbers about the whole system, where they were determined."""
    elements = data.get("elements") or {}
    values = [(f"D of {name}", entry.get("D")) for name, entry in elements.items()]
    values += [(_words(key), value) for key, value in data.items()]
    return tuple((name, text) for name, value in values if (text := _number(value)) is not None)


def _origin(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    return (
        f"Stage {provenance['stage']} ({provenance['kind']}), {provenance['first_time'] / 1e3:g} to "
        f"{provenance['last_time'] / 1e3:g} ps, {provenance['n_frames']} {provenance.get('counted', 'frames')}."
    )


def _stale(run: Run, data: Mapping[str, Any]) -> list[str]:
    """A remark where the run has gone on in the analysed stage since."""
    from mlmd.io.trajectories import open_run

    seen = data.get("provenance", {})
    try:
        now = open_run(run, seen.get("stage")).provenance.last_time
    except (InputError, StorageError):
        return []
    last = seen.get("last_time", now)
    if "counted" in seen:  # no frames, so that the last of them may lie an interval before
        last += seen["interval"]
    return [f"The stage now reaches {now / 1e3:g} ps: analyse again."] if now > last + 1e-6 else []


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    manifest = run.manifest
    yield "mlmd", str(manifest.get("mlmd", "unknown"))
    yield "created", str(manifest.get("created", "unknown"))
    yield "seed", str(manifest.get("seed", "unknown"))
    yield "hash of the physics", str(manifest.get("physics_hash", "unknown"))
    for name, entry in manifest.get("files", {}).items():
        yield str(name), f"{entry.get('path')}  sha256 {entry.get('sha256')}"
    for name, value in manifest.get("platform", {}).items():
        yield str(name), json.dumps(value) if isinstance(value, dict) else str(value)
    yield "versions", ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _data_uri(figure: Figure) -> str:
    content = BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return _png(content.getvalue())


def _png(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
