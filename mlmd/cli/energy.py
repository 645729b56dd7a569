"""``mlmd energy`` and ``mlmd relax``: structures and any potential, without an input file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.evaluate import bar, trust_option, with_trust
from mlmd.cli.inline import name_and_options
from mlmd.errors import InputError, SimulationError, Stopped, StorageError, some_of

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame
    from mlmd.sample.method import PotentialMethod
    from mlmd.sample.relax import Relaxed
    from mlmd.sample.single_point import Failed, SinglePoint


def structure_options(command: Callable[..., None]) -> Callable[..., None]:
    """What both commands take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
        click.option("--device", default="auto", show_default=True, help="Where it computes: cpu, cuda, cuda:0."),
        click.option("--options", default="{}", metavar="JSON", help="Of the potential, as in an input's table."),
        click.option("--elements", metavar="LIST", help="Elements in the order of an .mtp file, e.g. Li,Y,Cl."),
        click.option(
            "--potential",
            required=True,
            metavar="FILE",
            help="A file, a name of `mlmd models`, a kind, or a table as in an input: '{ kind = \"chgnet\" }'.",
        ),
        click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return trust_option(command)


@click.command()
@structure_options
@click.option("--out", type=click.Path(path_type=Path), help="File for the structures with energy, forces and stress.")
def energy(
    structures: tuple[Path, ...], potential: str, elements: str | None, options: str, device: str, as_json: bool,
    trust: tuple[str, ...], out: Path | None,
) -> None:  # fmt: skip
    """Energy, largest force and pressure of all STRUCTURES, with what the potential says of its errors.

    Structures that fail are named; the exit code is 3 then. Ctrl-C and SIGTERM end it with exit code 75. What was done
    is told and written.
    """
    _check_output(out)
    method, frames = read_given(structures, potential, elements, options, device, trust)
    from mlmd.potentials.device import choose_device
    from mlmd.sample.single_point import single_points

    def points() -> Iterator[tuple[int, SinglePoint | Failed]]:
        model = method.load([(frame.source, frame.atoms.get_chemical_symbols()) for frame in frames])
        yield from enumerate(single_points(model, frames, choose_device(device, model)))

    _hand_out(points(), len(frames), out, _ENERGY, as_json)


@click.command()
@structure_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File for the relaxed structures.")
@click.option("--cell", is_flag=True, help="Relax the cell too.")
@click.option("--pressure", default="0 bar", show_default=True, help="At which the cell is relaxed.")
@click.option("--max-force", default="0.01 eV/Å", show_default=True, help="Done when no atom feels a larger one.")
@click.option("--max-steps", default=2000, show_default=True, type=click.IntRange(min=1), help="Give up after these.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1), help="Structures at a time.")
def relax(
    structures: tuple[Path, ...], potential: str, elements: str | None, options: str, device: str, as_json: bool,
    trust: tuple[str, ...], out: Path, cell: bool, pressure: str, max_force: str, max_steps: int, processes: int,
) -> None:  # fmt: skip
    """Move the atoms of all STRUCTURES downhill until no force is left, and with --cell the cell too.

    Structures that are not there after --max-steps are written as they are and named, those that fail are named; the
    exit code is 3 then. Ctrl-C and SIGTERM end it with exit code 75; structures that were done are written.
    """
    _check_output(out)
    from pydantic import ValidationError

    from mlmd.config import Minimize
    from mlmd.config.explain import explain

    data = {"kind": "minimize", "cell": cell, "max_force": max_force, "max_steps": max_steps, "pressure": pressure}
    try:
        stage = Minimize.model_validate(data)
    except ValidationError as error:
        lines = "; ".join(explain(error, Minimize, data))
        raise InputError("--" + lines.replace("max_force", "max-force", 1)) from None
    if not cell and stage.pressure:
        raise InputError("--pressure acts on the cell, which stays as it is. Give --cell too, or leave it out.")
    method, frames = read_given(structures, potential, elements, options, device, trust)
    from mlmd.sample.relax import note_on_held
    from mlmd.sample.relax import relax as relax_all

    if note := note_on_held(frames):
        click.echo(f"Note: {note}.", err=as_json)
    columns = _RELAXED if cell else [one for one in _RELAXED if one[0] != "strain"]
    found = _hand_out(relax_all(method, frames, stage, n_processes=processes), len(frames), out, columns, as_json)
    if lost := [one["structure"] for one in found if not one["converged"]]:
        raise SimulationError(
            f"after {max_steps:,} steps a force above {max_force} is left in {some_of(lost, 5)}. Give more "
            "--max-steps, or look at the structure."
        )


_ENERGY = [
    ("structure", "structure", "{}"), ("formula", "formula", "{}"), ("atoms", "atoms", "{:,}"),
    ("energy_eV", "energy [eV]", "{:.6f}"), ("energy_eV_per_atom", "per atom [eV]", "{:.6f}"),
    ("max_force_eV_per_A", "max force [eV/Å]", "{:.4g}"), ("pressure_bar", "pressure [bar]", "{:,.0f}"),
    ("spread_eV_per_A", "spread [eV/Å]", "{:.3g}"), ("grade", "grade γ", "{:.3g}"), ("error", "", "failed, see below"),
]  # fmt: skip
_RELAXED = [
    ("structure", "structure", "{}"), ("formula", "formula", "{}"), ("atoms", "atoms", "{:,}"),
    ("steps", "steps", "{:,}"), ("energy_before_eV", "energy before [eV]", "{:.6f}"),
    ("energy_eV", "energy [eV]", "{:.6f}"), ("max_force_eV_per_A", "max force [eV/Å]", "{:.3g}"),
    ("displacement_A", "displacement [Å]", "{:.3g}"), ("strain", "volume", "{:+.2%}"),
    ("error", "", "failed, see below"),
]  # fmt: skip
"""Columns: the key in JSON, the heading, how a value is written."""
_N_TOLD = 5
"""Failed structures whose reasons are told at the end."""


def _check_output(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() not in (".extxyz", ".xyz"):
        raise InputError(f"--out {out}: structures are written as extended XYZ. Give a name with the ending .extxyz.")
    if out.exists():
        raise StorageError(f"{out} exists already; nothing was written. Give another --out.")


def read_given(
    structures: tuple[Path, ...],
    potential: str,
    elements: str | None,
    options: str,
    device: str,
    trust: tuple[str, ...],
) -> tuple[PotentialMethod, list[LabelledFrame]]:
    """The potential, not loaded yet, and the structures."""
    from mlmd.sample.method import PotentialMethod, parse_options
    from mlmd.sample.structures import read_structures

    symbols = None if elements is None else tuple(elements.replace(",", " ").split())
    name, own = name_and_options(potential)
    given = with_trust(own | parse_options(options), trust)
    return PotentialMethod(name, symbols, given, device), read_structures(structures)


def _hand_out(
    results: Iterator[tuple[int, SinglePoint | Failed]] | Iterator[tuple[int, Relaxed | Failed]],
    total: int,
    out: Path | None,
    columns: Sequence[tuple[str, str, str]],
    as_json: bool,
) -> list[dict[str, Any]]:
    """Collect results, and tell and write those that are there, in the order of the structures, however it ends.

    Returns:
        Those of structures that did not fail, as they are in JSON.

    Raises:
        SimulationError: when structures failed.
        Stopped: on Ctrl-C or SIGTERM.
    """
    from mlmd.train.interrupt import sigterm_interrupts

    found: dict[int, Any] = {}
    stopped = False

    def tell() -> list[dict[str, Any]]:
        return _tell([found[number] for number in sorted(found)], out, columns, as_json)

    try:
        with sigterm_interrupts(), bar(hush=as_json) as progress:
            for number, one in results:
                found[number] = one
                progress(len(found), total)
    except KeyboardInterrupt:
        stopped = True
    except Exception:
        if found:
            tell()
        raise
    rows = tell()
    good, failed = [row for row in rows if row["error"] is None], [row for row in rows if row["error"] is not None]
    written = f"; the others are in {out}" if good and out is not None else ""
    if stopped:
        rest = " Give the others alone, with another --out." if written else ""
        raise Stopped(
            f"on request after {len(rows):,} of {total:,} structures{written.replace('the others', 'they')}.{rest}"
        )
    if failed:
        reasons = "".join(f"\n  {row['structure']}: {row['error']}" for row in failed[:_N_TOLD])
        more = f"\n  and {len(failed) - _N_TOLD:,} more" if len(failed) > _N_TOLD else ""
        raise SimulationError(f"{len(failed):,} of {total:,} structures failed{written}:{reasons}{more}")
    return good


def _tell(
    found: Sequence[Any], out: Path | None, columns: Sequence[tuple[str, str, str]], as_json: bool
) -> list[dict[str, Any]]:
    """Write the structures that did not fail, and print what is known of all, which is returned."""
    from mlmd.sample.single_point import Failed

    good = [one for one in found if not isinstance(one, Failed)]
    known = dict.fromkeys([key for one in good[:1] for key in one.to_json()] or [key for key, _, _ in columns])
    rows = [known | one.to_json() for one in found]
    if out is not None and good:
        from mlmd.io.labelled import write_labelled

        write_labelled(out, [one.frame for one in good])
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, allow_nan=False))
    elif rows:
        _print(columns, rows)
        if out is not None and good:
            click.echo(f"Written: {out}")
    return rows


def _print(columns: Sequence[tuple[str, str, str]], rows: Sequence[dict[str, Any]]) -> None:
    """A table, without columns of which nothing is known."""
    from rich.markup import escape
    from rich.table import Table

    from mlmd.cli.inspect import console

    known = [one for one in columns if any(row[one[0]] is not None for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading, _ in known:
        table.add_column(escape(heading), justify="left" if key in ("structure", "formula", "error") else "right")
    for row in rows:
        # what happened may be long, and stands in full below the table
        table.add_row(
            *(
                ("" if key == "error" else "–") if row[key] is None else escape(how.format(row[key]))
                for key, _, how in known
            )
        )
    console().print(table)
