"""Options that several analyses have: which frames, of which file; charges; what is at rest; where results go."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked
from mlmd.errors import InputError
from mlmd.units import parse

if TYPE_CHECKING:
    from mlmd.io.frames import Trajectory

FILE = click.Path(path_type=Path)
_PICTURES = (".png", ".pdf", ".svg")
Options = tuple[Callable[[Callable[..., None]], Callable[..., None]], ...]


class Time(click.ParamType):
    """A time with a unit, in fs; a bare number is fs."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        return parse(value, "time")


class Picture(click.ParamType):
    """A file for a figure, whose ending says its format."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Refuse endings that mean no format."""
        if Path(value).suffix.lower() not in _PICTURES:
            raise InputError(f"--figure {value}: a file that ends with {', '.join(_PICTURES)} is needed.")
        return Path(value)


class Temperature(click.ParamType):
    """A temperature, in K."""

    name = "temperature"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        kelvin = parse(value, "temperature")
        if kelvin <= 0.0:
            raise InputError(f"--temperature {value}: a temperature above 0 K is needed.")
        return kelvin


FRAMES: Options = (
    click.argument("run", type=FILE),
    click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with frames]."),
    click.option("--from", "first_time", type=Time(), help='Leave out frames before, e.g. "20 ps" of the run.'),
    click.option("--to", "last_time", type=Time(), help="Leave out frames after."),
    click.option("--structure", type=FILE, help="For a file of another program: its atoms, in its order."),
    click.option("--interval", type=Time(), help='Likewise, time between its frames: "10 fs".'),
    click.option(
        "--unwrapped/--wrapped", default=None,
        help="Likewise: atoms that leave the cell keep going, or come back on the other side.",
    ),
    click.option("--temperature", type=Temperature(), help="Likewise, where the analysis needs one."),
)  # fmt: skip


def of_frames(command: Callable[..., None], *, averaged: bool = False, paths: bool = True) -> Callable[..., None]:
    """A command of the frames of RUN, a run folder or a trajectory of another program.

    The command gets `trajectory` and `answer` in the place of the options that say which frames, and where to.

    Args:
        command: to be given options.
        averaged: whether it averages over frames, each for itself, and so needs neither times nor paths.
        paths: whether it matters which way atoms went.
    """

    @functools.wraps(command)
    def with_trajectory(
        *, run: Path, stage: int | None, first_time: float | None, last_time: float | None, structure: Path | None,
        interval: float | None, unwrapped: bool | None, temperature: float | None, asked: Asked, **rest: Any,
    ) -> None:  # fmt: skip
        foreign = {"--structure": structure, "--interval": interval, "--unwrapped/--wrapped": unwrapped}
        if run.is_file():
            if stage is not None:
                raise InputError(f"--stage {stage}: stages are those of a run folder, and {run} is a file.")
            from mlmd.io.trajectories import open_trajectory

            trajectory = open_trajectory(
                run, structure, unwrapped=unwrapped, interval=interval, temperature=temperature, first_time=first_time,
                last_time=last_time, averaged=averaged, paths=paths,
            )  # fmt: skip
        else:
            given = [option for option, value in foreign.items() if value is not None]
            if given:
                raise InputError(f"{', '.join(given)}: for files of other programs; {run} is no file.")
            trajectory = _of_run(run, stage, first_time, last_time)
            if temperature is not None:
                trajectory = replace(trajectory, temperature=temperature)
        folder = Path(FOLDER) if run.is_file() else run / FOLDER
        command(trajectory=trajectory, answer=asked.answer(folder), **rest)

    return with_options(FRAMES, with_asked(f"RUN/{FOLDER}, of a file: {FOLDER}")(with_trajectory))


of_single_frames = functools.partial(of_frames, averaged=True)
"""As `of_frames`, for averages over frames, each for itself."""
of_neighbours = functools.partial(of_frames, paths=False)
"""As `of_frames`, for who is near whom and when."""


def with_asked(folder: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What gives a command `asked` in the place of the options that say where results go.

    Args:
        folder: where they go by default, in words; `Asked.answer` is told it in the command.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def answering(
            *, as_json: bool, out: Path | None, csv: Path | None, figure: Path | None, **rest: Any
        ) -> None:  # fmt: skip
            _check_places(csv, figure, [path for value in rest.values() for path in _paths(value)])
            command(asked=Asked(out, as_json, csv, figure), **rest)

        options: Options = (
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."),
            click.option("--csv", type=FILE, help="Write the columns to this file, too."),
            click.option("--figure", type=Picture(), help="Draw the figure to this file, too: .png, .pdf or .svg."),
            click.option("--out", type=FILE, help=f"Folder for the results [default: {folder}]."),
        )
        return with_options(options, answering)

    return decorated


def _check_places(csv: Path | None, figure: Path | None, read: Sequence[Path]) -> None:
    """Refuse, before anything is worked out, files that cannot be written, and those that are read or written already.

    Raises:
        InputError: for a missing folder, a folder in the place of a file, "-", a file among `read`, one that a run
            wrote for itself, and one file for both.
    """
    for name, path in (("--csv", csv), ("--figure", figure)):
        if path is None:
            continue
        if str(path) == "-":
            raise InputError(f"{name} -: a file is needed; the terminal has the table, or with --json the result.")
        if not path.absolute().parent.is_dir():
            raise InputError(f"{name} {path}: there is no folder {path.parent}.")
        if path.is_dir():
            raise InputError(f"{name} {path}: this is a folder. Give a file.")
        place = path.resolve()
        if place in [one.resolve() for one in read]:
            raise InputError(f"{name} {path}: the analysis reads this file, which would be lost. Give another one.")
    if csv is not None and _is_of_a_run(csv):
        raise InputError(f"--csv {csv}: the run wrote this file, which would be lost. Give another one.")
    if csv is not None and figure is not None and csv.resolve() == figure.resolve():
        raise InputError(f"--csv and --figure are both {csv}, and one would be lost. Give two files.")


def _is_of_a_run(path: Path) -> bool:
    """Whether there is such a file in a run folder, and it is none of a user's own tables."""
    from mlmd.rundir import DEPOSITION, FLUXES, HYPER, LOG, MANIFEST, TEMPERATURES

    own = path.suffix == ".csv" and path.name not in (DEPOSITION, FLUXES, HYPER, LOG, TEMPERATURES)
    return path.exists() and (path.parent / MANIFEST).is_file() and not own


def _paths(value: object) -> list[Path]:
    """Those that an option or an argument has been given."""
    return [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, Path)]


def with_options(options: Options, command: Callable[..., None]) -> Callable[..., None]:
    """A command with some options, which its help shows in their order."""
    for option in reversed(options):
        command = option(command)
    return command


elements_option = click.option("--element", "elements", multiple=True, help="Only this element (may be repeated).")


def _charges(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    """``("Li=1", "Cl=-1")`` or ``("Li=1,Cl=-1",)`` by element."""
    charges = {}
    for text in (part for one in texts for part in one.split(",")):
        element, _, charge = text.partition("=")
        try:
            value = float(charge)
        except ValueError:
            raise InputError(f"--charges {text!r} is not ELEMENT=CHARGE. Write for example --charges Li=1.") from None
        if not math.isfinite(value):
            raise InputError(f"--charges {text!r}: a charge is a finite number in units of e.")
        charges[element.strip()] = value
    return charges


def _drift(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> str | list[str]:
    """``("P", "S")`` or ``("P,S",)`` as elements; one ``"cell"`` or ``"none"`` as it is."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if not {"cell", "none"}.intersection(words):
        return words
    if len(set(words)) > 1:
        raise InputError(f'--drift {",".join(words)}: "cell" and "none" stand alone. Give either, or elements.')
    return words[0]


charges_option = click.option(
    "--charges", multiple=True, callback=_charges, metavar="ELEMENT=CHARGE",
    help='Of atoms in units of e, e.g. "Li=1" (repeatable).',
)  # fmt: skip
drift_option = click.option(
    "--drift", multiple=True, default=("cell",), show_default=True, callback=_drift,
    help='What is at rest: "cell", "none", or elements, e.g. "P,S" (repeatable).',
)  # fmt: skip


RECOGNITION: Options = (
    click.option(
        "--structure-types", "method", type=click.Choice(["cna", "ptm"]), default="cna", show_default=True,
        help='How the lattice of an atom is told: common neighbours, or templates (pip install "mlmd[ptm]").',
    ),
    click.option(
        "--templates", metavar="NAME,...",
        help="For ptm: fcc, hcp, bcc, icosahedral, sc, diamond, hexagonal-diamond, graphene [default: all but this].",
    ),
    click.option("--rmsd", type=float, help="For ptm, largest deviation of an atom of a lattice [default: 0.1]."),
)  # fmt: skip


def with_recognition(command: Callable[..., None]) -> Callable[..., None]:
    """A command that gets `recognition` in the place of the options that say how the lattice of an atom is told."""

    @functools.wraps(command)
    def told(*, method: str, templates: str | None, rmsd: float | None, **rest: Any) -> None:
        from mlmd.analysis.recognition import Recognition

        names = None if templates is None else tuple(name.strip() for name in templates.split(","))
        command(recognition=Recognition(method, names, rmsd), **rest)

    return with_options(RECOGNITION, told)


def numbers(
    context: click.Context | None, parameter: click.Parameter, text: str | None, number: type = float
) -> tuple[Any, ...]:
    """``2,-180`` as numbers."""
    try:
        found = tuple(number(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(f"{parameter.opts[0]} {text}: numbers with commas between are needed.") from None
    if not all(math.isfinite(one) for one in found):
        raise InputError(f"{parameter.opts[0]} {text}: finite numbers are needed.")
    return found


def counts(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """``100,72`` as integers."""
    return numbers(context, parameter, text, int)


def _of_run(run: Path, stage: int | None, first_time: float | None, last_time: float | None) -> Trajectory:
    from mlmd.io.trajectories import open_run

    return open_run(run, stage, first_time, last_time)
