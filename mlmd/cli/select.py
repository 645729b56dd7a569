"""``mlmd select``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.evaluate import trust_option
from mlmd.cli.progress import shown
from mlmd.errors import InputError
from mlmd.units import parse

if TYPE_CHECKING:
    from mlmd.descriptors import Descriptor
    from mlmd.io.labelled import LabelledFrame
    from mlmd.sample.select import Selection

_METHODS = ("farthest", "cur", "maxvol", "committee")
_SHOWN = 5


@click.command()
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="File of chosen structures (.extxyz)."
)
@click.option("-n", "--n", "n", type=click.IntRange(min=1), help="How many; at most so many by maxvol and committee.")
@click.option("--method", type=click.Choice(_METHODS), default="farthest", show_default=True, help="How to choose.")
@click.option(
    "--known",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Structures that are there already; may be repeated.",
)
@click.option(
    "--descriptor", type=click.Path(path_type=Path), help="TOML file of a descriptor, or input of a training [default: "
    "symmetry functions]."
)  # fmt: skip
@click.option(
    "--model", "models", multiple=True, metavar="MODEL",
    help="A learned potential, whose descriptor is taken; for a committee two or more, each with --model.",
)  # fmt: skip
@trust_option
@click.option("--least", default="0 eV/Å", help='Committee: leave out smaller deviations, e.g. "50 meV/Å".')
@click.option("--most", help="Committee: leave out larger deviations, of structures that are not of this world.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draws of cur.")
@click.option("--json", "as_json", is_flag=True, help="Print what was chosen as JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def select(
    structures: tuple[Path, ...], out: Path, n: int | None, method: str, known: tuple[Path, ...],
    descriptor: Path | None, models: tuple[str, ...], trust: tuple[str, ...], least: str, most: str | None,
    seed: int, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Choose of many STRUCTURES those that are worth a label, or a place in the training; labels that are there stay.

    farthest takes each time the structure that differs most from all before, cur draws by leverage, maxvol takes what
    widens the range of a linear potential, committee what several potentials disagree about. The file holds them in the
    order of choice, the most valuable first.
    """
    from mlmd.cli.evaluate import load_model, trust_of_each
    from mlmd.sample.decorrelate import check_output
    from mlmd.sample.select import by_committee, by_features
    from mlmd.sample.structures import read_structures

    check_output(out)
    _check(method, n, models, descriptor, known)
    shares = trust_of_each(models, trust)
    bounds = parse(least, "force"), math.inf if most is None else parse(most, "force")
    frames = read_structures(structures, labels=True)
    before = read_structures(known) if known else []
    with shown(lambda moment: f"{moment[0]:,} of {moment[1]:,}", hush=quiet or as_json) as (progress, _):
        if method == "committee":
            potentials = [load_model(name, None, "{}", "cpu", shares[name]) for name in models]
            result = by_committee(
                frames, potentials, n=n, least=bounds[0], most=bounds[1], progress=lambda *moment: progress(moment)
            )
        else:
            chosen = _descriptor(descriptor, shares, [*before, *frames])
            result = by_features(
                frames, before, chosen, method, n=n, seed=seed,  # type: ignore[arg-type]
                progress=lambda *moment: progress(moment),
            )  # fmt: skip
    _write(out, frames, result, as_json, quiet)


def _check(
    method: str, n: int | None, models: tuple[str, ...], descriptor: Path | None, known: tuple[Path, ...]
) -> None:
    """Refuse options that do not go together, before anything is read.

    Raises:
        InputError: naming them.
    """
    if method == "committee":
        if len(models) < 2:
            raise InputError("a committee needs two potentials or more: give --model for each of them.")
        if descriptor is not None or known:
            raise InputError("--descriptor and --known are not for a committee: its potentials know what they learned.")
    elif len(models) + (descriptor is not None) > 1:
        raise InputError("one descriptor is needed: give --descriptor FILE or --model MODEL, once.")
    if n is None and method in ("farthest", "cur"):
        raise InputError(f"how many? {method} needs a number: give -n.")


def _descriptor(path: Path | None, models: Mapping[str, tuple[str, ...]], frames: list[LabelledFrame]) -> Descriptor:
    """That of a potential (with the digests that are trusted of it) or a file, or symmetry functions."""
    from mlmd.cli.evaluate import load_model
    from mlmd.sample import features

    for name, trust in models.items():
        return features.descriptor_of(load_model(name, None, "{}", "cpu", trust), name)
    if path is not None:
        return features.read_descriptor(path, frames)
    return features.of_training({"kind": "acsf"}, frames)


def _write(out: Path, frames: list[LabelledFrame], result: Selection, as_json: bool, quiet: bool) -> None:
    """The chosen structures, and what is told of them."""
    from mlmd.sample.decorrelate import write_frames

    if not result.numbers:
        raise InputError(
            "no structure was chosen; nothing was written. " + " ".join(f"{note}." for note in result.notes)
        )
    write_frames(out, [frames[number] for number in result.numbers])
    if as_json:
        click.echo(json.dumps({"selection": str(out), **result.to_json(frames)}, ensure_ascii=False))
        return
    if quiet:
        return
    for note in result.notes:
        click.echo(f"Note: {note}.")
    for number, score in list(zip(result.numbers, result.scores, strict=True))[:_SHOWN]:
        click.echo(f"  {frames[number].source}" + ("" if math.isnan(score) else f"  {score:.4g}"))
    if len(result.numbers) > _SHOWN:
        click.echo("  ...")
    click.echo(f"{len(result.numbers):,} of {len(frames):,} structures written: {out} (numbers: {result.meaning})")
