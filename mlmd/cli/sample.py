"""``mlmd sample`` and ``mlmd label``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.analyze.options import Time
from mlmd.cli.evaluate import trust_option, with_trust
from mlmd.cli.inline import name_and_options
from mlmd.cli.progress import shown, time_left
from mlmd.errors import InputError
from mlmd.units import parse

if TYPE_CHECKING:
    from mlmd.sample.decorrelate import Part
    from mlmd.sample.label import Labelling, Progress
    from mlmd.sample.method import Method


class Length(click.ParamType):
    """A length with a unit, in Å; a bare number is Å."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        return parse(value, "length")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File of frames to write (.extxyz).")
@click.option("--n", "n", type=click.IntRange(min=1), help="Frames in all [default: all that are independent].")
@click.option("--interval", type=Time(), help='Least time between frames, e.g. "1 ps" [default: 2τ of the energy].')
@click.option("--every", type=click.IntRange(min=1), help="The same in frames.")
@click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with frames].")
@click.option("--from", "first_time", type=Time(), help='Begin here, e.g. "20 ps" [default: where it is equilibrated].')
@click.option("--to", "last_time", type=Time(), help="Leave out frames after.")
@click.option("--structure", type=click.Path(path_type=Path), help="Elements and cell, for DCD and XTC files.")
@click.option("--strain", default=0.0, help="Strain each cell at random, components up to this, e.g. 0.03.")
@click.option(
    "--rattle", default="0 Å", type=Length(), help='Displace atoms at random (standard deviation), e.g. "0.05 Å".'
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of strains and displacements.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, and nothing else.")
def sample(
    runs: tuple[Path, ...], out: Path, n: int | None, interval: float | None, every: int | None, stage: int | None,
    first_time: float | None, last_time: float | None, structure: Path | None, strain: float, rattle: float, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Frames of run folders or trajectory files that know nothing of each other, to be labelled and learned from.

    Two frames are at least two autocorrelation times of the potential energy apart; what comes before equilibrium is
    left out. Several runs are pooled; the group (config_type) of a frame is the name of its run and the temperature.
    """
    from mlmd.sample.decorrelate import check_output, write_sample
    from mlmd.sample.decorrelate import sample as take

    check_output(out)
    result = take(
        runs, n=n, interval=interval, every=every, stage=stage, first_time=first_time, last_time=last_time,
        structure=structure, strain=strain, rattle=rattle, seed=seed,
    )  # fmt: skip
    write_sample(out, result)
    if as_json:
        click.echo(json.dumps({"sample": str(out), **result.to_json()}, ensure_ascii=False))
        return
    _print_parts(result.parts)
    for note in result.notes:
        click.echo(f"Note: {note}.")
    click.echo(f"{len(result.frames):,} frame{'s' * (len(result.frames) != 1)} written: {out}")


def _print_parts(parts: tuple[Part, ...]) -> None:
    """What was taken from each run."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mlmd.sample.decorrelate import amount

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "frames", "left out", "2τ", "independent", "apart", "taken"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for part in parts:
        memory = "–" if part.tau is None else amount(2.0 * part.tau, part.unit)
        independent = "–" if part.n_independent is None else f"{part.n_independent:.0f}"
        table.add_row(
            escape(part.group), f"{part.n_frames:,}", amount(part.discarded, part.unit), memory, independent,
            amount(part.interval, part.unit), f"{part.n_taken:,}",
        )  # fmt: skip
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


@click.command()
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File of labelled structures (.extxyz).")
@click.option("--potential", metavar="FILE", help="A potential of mlmd: its file, its name, or a kind (lennard-jones).")
@click.option("--elements", metavar="LIST", help="Elements in the order of an .mtp file, e.g. Li,Y,Cl.")
@click.option(
    "--ase", metavar="MODULE:CLASS",
    help="An ASE calculator, e.g. ase.calculators.emt:EMT. It is imported: name only code that you trust.",
)  # fmt: skip
@click.option(
    "--options", default="{}", metavar="JSON",
    help='Of the calculator or the kind of potential, e.g. \'{"kpts": [2, 2, 2]}\'. Paths need a slash: ./pseudo.',
)  # fmt: skip
@trust_option
@click.option(
    "--keep-calculator", is_flag=True,
    help="Build it once per process, not for each structure (large models). Calculators that start from their last "
    "structure may then give last digits that depend on what they computed before.",
)  # fmt: skip
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1), help="Structures at a time.")
@click.option("--device", default="auto", show_default=True, help="Where a potential computes: cpu, cuda, cuda:0.")
@click.option("--keep-going", is_flag=True, help="Write the output without structures that fail (else exit code 3).")
@click.option("--retry", is_flag=True, help="Try structures that failed before once more.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def label(
    structures: tuple[Path, ...], out: Path, potential: str | None, elements: str | None, ase: str | None,
    options: str, trust: tuple[str, ...], keep_calculator: bool, processes: int, device: str, keep_going: bool,
    retry: bool, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Energies, forces and stresses of all STRUCTURES, by a potential or by any ASE calculator.

    The same command again continues where it stopped: Ctrl-C, SIGTERM or a file STOP in OUT.part end it with exit
    code 75, and a process that is killed loses the structures it was computing and nothing else. A calculator works
    in a folder of its own for each structure; what it printed where it failed is kept in OUT.part/failed.
    """
    method = _method(potential, elements, ase, options, trust, keep_calculator, device)
    from mlmd.sample.label import label as label_all

    with shown(describe, hush=quiet or as_json) as (progress, tell):
        result = label_all(
            structures, out, method, n_processes=processes, keep_going=keep_going, retry=retry,
            progress=progress, tell=tell,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result.to_json(), ensure_ascii=False))
    elif not quiet:
        _tell_labelling(result)


def _method(
    potential: str | None,
    elements: str | None,
    ase: str | None,
    options: str,
    trust: tuple[str, ...],
    keep: bool,
    device: str,
) -> Method:
    from mlmd.sample.method import CalculatorMethod, PotentialMethod, parse_options

    given = parse_options(options)
    if (potential is None) == (ase is None):
        raise InputError("what gives the labels? Give either --potential FILE or --ase MODULE:CLASS.")
    if ase is not None:
        if elements is not None:
            raise InputError("--elements belongs to --potential; an ASE calculator sees the elements themselves.")
        if trust:
            raise InputError("--trust belongs to --potential; what --ase names is executed anyway. Leave it out.")
        return CalculatorMethod(ase, given, keep)
    if keep:
        raise InputError("--keep-calculator belongs to --ase; a potential is always loaded once.")
    symbols = None if elements is None else tuple(word for word in elements.replace(",", " ").split())
    name, own = name_and_options(str(potential))
    return PotentialMethod(name, symbols, with_trust(own | given, trust), device)


def _tell_labelling(result: Labelling) -> None:
    count = f"{result.n_labelled:,} structure{'s' * (result.n_labelled != 1)} labelled"
    if result.n_new not in (0, result.n_labelled):
        count += f", {result.n_new:,} of them now"
    click.echo(f"{count}: {result.path} (how: {result.record})")
    if result.failures:
        click.echo(f"{len(result.failures):,} have no label and are left out:", err=True)
        for failure in result.failures[:5]:
            click.echo(f"  {failure.structure}: {failure.message}", err=True)


def describe(progress: Progress) -> str:
    """One line: how many are done, how many failed, how long still."""
    text = f"{progress.done:,} of {progress.total:,} structures  {progress.done / progress.total:4.0%}"
    if progress.seconds_left is not None:
        text += f"  {time_left(progress.seconds_left)}"
    return text + (f"  {progress.failed:,} failed" if progress.failed else "")
