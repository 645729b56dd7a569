"""One self-contained HTML page about a run: no other file, no network, nothing from a file that is not escaped."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mlmd
from mlmd import analysis
from mlmd.analysis.estimate import average, from_dict
from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.io.log import read_log
from mlmd.rundir import MESSAGES, Run, StageRecord, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT = "report.html"
TITLES = {"diffusion": "Diffusion", "rdf": "Radial distribution functions"}
STATES = ("done", "running", "stopped", "failed")
_LAST_MESSAGES = 200
_MAX_POINTS = 2000

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


def write_report(run: Run) -> Path:
    """Write report.html into a run folder.

    Analyses that have been done are shown as they stand in RUN/analysis; those that have not are done first.

    Returns:
        The path of the page.

    Raises:
        StorageError: when files of the run cannot be read or the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("mlmd"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.j2").render(_contents(run))
    path = run.path / REPORT
    write_atomically(path, page.encode())
    return path


def _contents(run: Run) -> dict[str, Any]:
    """Everything the template names."""
    log = read_log(run.log) if run.log.exists() else {}
    sections = tuple(_sections(run))
    state = str(run.manifest.get("state", "unknown"))
    return {
        "title": run.path.resolve().name,
        "state": state,
        "state_class": state if state in STATES else "",
        "subtitle": _subtitle(run),
        "tiles": _tiles(run, log, sections),
        "stages": _stage_table(run, log),
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
    return f"{run.atoms.get_chemical_formula('hill')}, {len(run.atoms):,} atoms; {kinds}"


def _tiles(run: Run, log: Log, sections: tuple[Section, ...]) -> list[dict[str, str]]:
    planned = sum(stage.n_steps * stage.timestep for stage in run.stages) / 1e3
    reached = float(log["time [ps]"][-1]) if log and len(log["step"]) else 0.0
    tiles = [{"value": f"{reached:,.6g} ps", "name": f"simulated, of {planned:,.6g} ps planned"}]
    return tiles + [{"value": value, "name": name} for one in sections for name, value in one.headlines]


def _stage_table(run: Run, log: Log) -> Table:
    heads = (
        "stage", "target", "time (ps)", "temperature (K)", "potential energy (eV/atom)", "pressure (bar)",
        "volume (Å³)", "energy drift (meV/atom/ns)",
    )  # fmt: skip
    return Table(heads, tuple(_stage_row(number, stage, log, run) for number, stage in enumerate(run.stages, 1)))


def _stage_row(number: int, stage: StageRecord, log: Log, run: Run) -> tuple[str, ...]:
    duration = f"{stage.n_steps * stage.timestep / 1e3:,.6g}" if stage.n_steps else "–"
    first = (f"{number} {stage.kind}", _target(stage), duration)
    rows = log["stage"] == stage.index if log else np.zeros(0, bool)
    ramped = any(pair is not None and pair[0] != pair[1] for pair in (stage.temperature, stage.pressure))
    if rows.sum() < 2 or ramped:
        return (*first, *["–"] * 5)
    columns = (
        log["temperature [K]"], log["potential energy [eV]"] / len(run.atoms), log["pressure [bar]"],
        log["volume [Å^3]"],
    )  # fmt: skip
    return (*first, *(_mean(column[rows]) for column in columns), _energy_drift(stage, log, rows))


def _mean(column: np.ndarray) -> str:
    mean = average(column, "")
    if not np.isfinite(mean.value):
        return "–"
    return f"{mean.value:.6g}" if mean.error == 0.0 else str(mean)


def _target(stage: StageRecord) -> str:
    pairs = ((stage.temperature, "K"), (stage.pressure, "bar"))
    texts = [
        f"{pair[0]:g} {unit}" if pair[0] == pair[1] else f"{pair[0]:g} → {pair[1]:g} {unit}"
        for pair, unit in pairs
        if pair is not None
    ]
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
    time, n_atoms = log["time [ps]"][few], len(run.atoms)
    panels = [
        ("temperature (K)", log["temperature [K]"]),
        ("potential energy (eV/atom)", log["potential energy [eV]"] / n_atoms),
        ("total energy (eV/atom)", log["energy per atom [eV]"]),
        ("pressure (bar)", log["pressure [bar]"]),
        ("volume (Å³)", log["volume [Å^3]"]),
        ("bias energy (eV)", log["bias energy [eV]"]),
    ]
    panels = [(name, column) for name, column in panels[:3] + [one for one in panels[3:] if np.ptp(one[1]) > 0.0]]
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


def _sections(run: Run) -> Iterator[Section]:
    """The analyses in the order of their table, then what else stands in the folder."""
    folder = run.path / analysis.FOLDER
    wanted: Mapping[str, Any] = run.manifest.get("input", {}).get("analysis") or {}
    missing = [name for name in analysis.ANALYSES if not (folder / f"{name}.json").exists()]
    options = {key: wanted[key] for key in ("charges", "drift") if key in wanted}
    failed = {
        one.name: str(one) for one in analysis.run_all(run, missing, **options) if isinstance(one, analysis.Unavailable)
    }
    others = sorted({path.stem for path in folder.glob("*.json")} - analysis.ANALYSES.keys())
    for name in (*analysis.ANALYSES, *others):
        if name in failed:
            yield Section(TITLES.get(name, name), "", None, (), (failed[name],), ())
        else:
            yield _section(run, name, folder)


def _section(run: Run, name: str, folder: Path) -> Section:
    title = TITLES.get(name, name)
    try:
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        groups = {key: group for key, group in data.items() if _is_group(group)}
        notes = [str(note) for note in data.get("notes", [])]
        for group in groups.values():
            notes += [f"{key}: {note}" for key, entry in group.items() for note in entry.get("notes", [])]
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
    rows = (
        (name, *(str(from_dict(entry[column])) if _is_estimate(entry.get(column)) else "–" for column in columns))
        for name, entry in group.items()
    )
    return Table(("", *map(_words, columns)), tuple(rows))


def _words(key: str) -> str:
    """``first_peak`` as words; an index, as in ``D_x``, stays one."""
    return re.sub(r"_(?=\w\w)", " ", key)


def _headlines(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Diffusion coefficients and numbers about the whole system."""
    whole = [(_words(key), str(from_dict(value))) for key, value in data.items() if _is_estimate(value)]
    elements = data.get("elements") or {}
    return (*((f"D of {name}", str(from_dict(entry["D"]))) for name, entry in elements.items() if "D" in entry), *whole)


def _origin(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    return (
        f"Stage {provenance['stage']} ({provenance['kind']}), {provenance['first_time'] / 1e3:g} to "
        f"{provenance['last_time'] / 1e3:g} ps, {provenance['n_frames']} frames."
    )


def _stale(run: Run, data: Mapping[str, Any]) -> list[str]:
    """A remark where the run has gone on in the analysed stage since."""
    from mlmd.errors import InputError
    from mlmd.io.trajectories import open_run

    seen = data.get("provenance", {})
    try:
        now = open_run(run, seen.get("stage")).provenance.last_time
    except InputError:
        return []
    last = seen.get("last_time", now)
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
