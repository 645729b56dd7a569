"""One self-contained HTML page about runs: no other file, no network, nothing from a file that is not escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlmd
from mlmd.io.frames import biased
from mlmd.io.log import read_log
from mlmd.io.trajectories import bias_of
from mlmd.report.course import Log, course, course_figure
from mlmd.report.curves import names_of
from mlmd.report.methods import Methods, methods
from mlmd.report.origin import commands, facts, failure, messages, text_of
from mlmd.report.results import Section, not_writable, sections
from mlmd.report.stages import Table, stage_table
from mlmd.report.structure import View, legend_of, packed, structure_figure, views
from mlmd.rundir import Run, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report.html"
STATES = ("done", "running", "stopped", "failed")
SCRIPTS = ("page.js", "plot.js", "structure.js")
STYLE = "page.css"


@dataclass(frozen=True)
class Picture:
    """What is looked at: a static picture, and where a script runs what it is drawn from."""

    source: str
    """Of the picture, as a data URI."""
    alternative: str
    """In words, for those who do not see it."""
    data: str
    """JSON for the script."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """All that the page says about one run."""

    title: str
    key: str
    """For addresses within the page."""
    state: str
    state_class: str
    subtitle: str
    failure: str | None
    tiles: tuple[tuple[str, str], ...]
    """Values and names."""
    warnings: tuple[str, ...]
    methods: Methods
    stages: Table
    course: Picture | None
    structure: Picture | None
    elements: tuple[tuple[str, str], ...]
    analyses: tuple[tuple[Section, str | None, tuple[Picture, ...]], ...]
    """Each with its picture as a data URI, and its curves."""
    input_text: str
    resolved: str
    messages: str
    messages_note: str
    commands: str
    facts: tuple[tuple[str, str], ...]


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
    one = chapter(run, folder or run.path)
    return write_page(folder or run.path, title=one.title, chapters=(one,))


def write_page(folder: Path, **contents: Any) -> Path:
    """Write the page that the template makes of its contents."""
    path = folder / REPORT
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, render(**contents).encode())
    except OSError as error:
        raise not_writable(path.parent, error) from None
    return path


def render(**contents: Any) -> str:
    """The page as text; its policy lets the browser run these scripts, and load nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("mlmd.report", "."), autoescape=True, undefined=StrictUndefined)
    source = {name: (Path(__file__).parent / name).read_text(encoding="utf-8") for name in (*SCRIPTS, STYLE)}
    script, style = "\n".join(source[name] for name in SCRIPTS), source[STYLE]
    return environment.get_template("page.html.j2").render(
        style=style, script=script, style_digest=_digest(style), script_digest=_digest(script),
        version=mlmd.__version__, **({"overview": None, "shared": ()} | contents),
    )  # fmt: skip


def chapter(run: Run, folder: Path, *, key: str = "run", title: str | None = None) -> Chapter:
    """What there is to say about a run.

    Args:
        run: an open run folder.
        folder: for analyses that are done now.
        key: of its addresses in the page.
        title: by default the name of the folder.
    """
    log = read_log(run.log) if run.log.exists() else {}
    found = tuple(sections(run, folder))
    state = str(run.manifest.get("state", "unknown"))
    shown = views(run)
    said, note = messages(run)
    return Chapter(
        title or run.path.resolve().name, key, state, state if state in STATES else "", _subtitle(run),
        failure(run) if state == "failed" else None, _tiles(run, log, found),
        tuple(_warnings(run)), methods(run, [one.name for one in found if one.origin or one.tables]),
        stage_table(run, log), _course(run, log),
        _structure(run, shown) if shown else None, legend_of(shown), tuple(map(shown_section, found)),
        text_of(run.path / "input.toml"), json.dumps(run.manifest.get("input", {}), indent=2, ensure_ascii=False),
        said, note, commands(run), tuple(facts(run)),
    )  # fmt: skip


def _digest(text: str) -> str:
    """Of an inline script or style, as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _subtitle(run: Run) -> str:
    kinds = " → ".join(stage.kind for stage in run.stages)
    n = len(run.atoms)
    return f"{run.atoms.get_chemical_formula('metal')}, {n:,} atom{'' if n == 1 else 's'}; {kinds}"


def _structure(run: Run, shown: Sequence[View]) -> Picture:
    names = " and ".join(one.name for one in shown)
    words = f"The structure, {run.atoms.get_chemical_formula('metal')}: {names}"
    notes = tuple(dict.fromkeys(one.note for one in shown if one.note))
    return Picture(uri(structure_figure(shown)), words, packed(shown), notes)


def _warnings(run: Run) -> Iterator[str]:
    """What was told when the run began, and stages whose numbers do not belong to the potential alone."""
    yield from map(str, run.manifest.get("warnings", ()))
    for number, stage in enumerate(run.stages, 1):
        name = bias_of(run, stage)
        if name is not None:
            yield f"Stage {number}: {biased(name)}."


def _tiles(run: Run, log: Log, found: Sequence[Section]) -> tuple[tuple[str, str], ...]:
    planned = sum(stage.n_steps * stage.timestep for stage in run.stages) / 1e3
    reached = float(log["time [ps]"][-1]) if log and len(log["step"]) else 0.0
    first = (f"{reached:,.6g} ps", f"simulated, of {planned:,.6g} ps planned")
    return (first, *((value, name) for one in found for name, value in one.headlines))


def _course(run: Run, log: Log) -> Picture | None:
    if not log or len(log["step"]) < 2:
        return None
    plot = course(run, log)
    return Picture(uri(course_figure(plot)), names_of(plot), plot.packed(), plot.notes)


def shown_section(one: Section) -> tuple[Section, str | None, tuple[Picture, ...]]:
    """An analysis with its picture as a data URI, and its curves for the script."""
    curves = tuple(Picture("", names_of(plot), plot.packed()) for plot in one.plots)
    return one, None if one.picture is None else _png(one.picture), curves


def uri(figure: Figure) -> str:
    """A figure as the data URI of a PNG."""
    content = BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return _png(content.getvalue())


def _png(content: bytes) -> str:
    """A data URI; with 256 colours, which a plot does not exceed to the eye, it is a third of the size."""
    from PIL import Image

    small = BytesIO()
    with Image.open(BytesIO(content)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(min(content, small.getvalue(), key=len)).decode()
