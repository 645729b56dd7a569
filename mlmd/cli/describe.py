"""``mlmd describe``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlmd.cli.evaluate import trust_option
from mlmd.errors import InputError


@click.command()
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File of features to write (.npz).")
@click.option(
    "--descriptor", type=click.Path(path_type=Path), help="TOML file of a descriptor, or input of a training."
)
@click.option("--model", metavar="MODEL", help="A learned potential, whose descriptor is taken: its file or its name.")
@click.option(
    "--elements", metavar="LIST",
    help="Elements of the descriptor, e.g. Li,Y,Cl [default: those of the structures]; of an .mtp file, in its order.",
)  # fmt: skip
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON, and nothing else.")
def describe(
    structures: tuple[Path, ...], out: Path, descriptor: Path | None, model: str | None, elements: str | None,
    trust: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Features of all STRUCTURES, by any descriptor, as NumPy arrays.

    The descriptor is that of a potential (--model) or of a TOML file (--descriptor): a kind with its options, for
    atoms as in the input of a training (mtp, acsf, snap, ...), for whole structures coulomb and mbtr.

    The file holds features (a row for each atom or structure), structure (the number of the structure of each row),
    source (what each structure is called), for rows of atoms numbers (atomic numbers), kind (what a row is of), and
    spec (the descriptor as JSON). Fingerprints of agni have three rows for each atom, along x, y and z, and axis (0, 1
    or 2 for each row).
    """
    if (descriptor is None) == (model is None):
        raise InputError("what describes the structures? Give either --descriptor FILE or --model MODEL.")
    if trust and model is None:
        raise InputError("--trust belongs to --model; a descriptor executes nothing. Leave it out.")
    from mlmd.cli.evaluate import load_model
    from mlmd.config.pairs import DESCRIPTORS_IN_FILES
    from mlmd.potentials.load import load_property
    from mlmd.sample import features
    from mlmd.sample.structures import read_structures

    features.check_output(out)
    symbols = None if elements is None else elements.replace(",", " ").split()
    if model is not None:
        learned = load_property(Path(model)) or load_model(model, elements, "{}", "cpu", trust)
        chosen = features.descriptor_of(learned, model)
        frames = read_structures(structures)
    else:
        assert descriptor is not None
        frames = read_structures(structures)
        chosen = features.read_descriptor(descriptor, frames, symbols)
    found = features.describe(chosen, frames)
    features.write_features(out, found)
    n_rows, n_features = found.values.shape
    if as_json:
        summary = {"features": str(out), "kind": found.kind, "n_structures": len(frames), "n_rows": n_rows}
        click.echo(json.dumps(summary | {"n_features": n_features, "spec": found.spec}, ensure_ascii=False))
        return
    kind = found.spec["kind"]
    click.echo(f"Written: {out}, {n_features:,} features of {found.rows}, by {DESCRIPTORS_IN_FILES.get(kind, kind)}")
