"""``mlmd predict``, and ``mlmd evaluate`` of models that predict a property of structures."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd import models
from mlmd.errors import InputError, StorageError, counted

if TYPE_CHECKING:
    import numpy as np

    from mlmd.io.labelled import LabelledFrame
    from mlmd.potentials.property import PropertyModel

_ENDINGS = (".csv", ".extxyz")


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write (.csv, .extxyz) [default: print].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
def predict(model: Path, structures: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """The property that MODEL has learned, of all STRUCTURES.

    MODEL is what `mlmd train` leaves where its descriptor is of whole structures. Energies, forces and stresses by a
    potential are given by `mlmd label --potential`.
    """
    _check_output(out)
    from mlmd.potentials.load import load_property, recognise
    from mlmd.sample.structures import read_structures

    learned = load_property(model)
    if learned is None:
        recognise(models.find(str(model)) or model)  # says what is wrong with a file that is nothing
        raise InputError(
            f"{model} is a potential: `mlmd label FILE... --potential {model} --out labelled.extxyz` gives its "
            "energies, forces and stresses."
        )
    frames = read_structures(structures)
    values = learned.values([frame.atoms for frame in frames], [frame.source for frame in frames])
    quantity = learned.quantity
    if out is not None:
        _write(out, learned, frames, values)
    if as_json:
        rows = [{"structure": frame.source, "value": float(value)} for frame, value in zip(frames, values, strict=True)]
        click.echo(json.dumps({"property": quantity.name, "unit": quantity.unit, "values": rows}, ensure_ascii=False))
    elif out is not None:
        click.echo(f"Written: {out}, {quantity.title} of {len(frames):,} structure{'s' * (len(frames) != 1)}")
    else:
        width = max(len(frame.source) for frame in frames)
        click.echo(f"{'structure'.ljust(width)}  {quantity.title}")
        for frame, value in zip(frames, values, strict=True):
            click.echo(f"{frame.source.ljust(width)}  {value:.8g}")


def evaluate_property(
    model: PropertyModel, name: str, data: Sequence[Path], keys: Mapping[str, str], key: str | None,
    out: Path | None, predictions: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare the values of a model with those of labelled structures, and write what is asked for.

    Args:
        model: loaded.
        name: of its file.
        data: files.
        keys: label -> name in them, as the options say.
        key: what they call the property, where that is not its own name.
        out: folder to write to.
        predictions: whether to write them there too.
        as_json: print JSON, and nothing else.
    """
    from mlmd.io.labelled import read_labelled
    from mlmd.train.examine import Finding
    from mlmd.train.property_errors import property_errors, property_figure
    from mlmd.train.property_job import labels_of, with_values

    quantity, findings = model.quantity, list[Finding]()
    names = {**labels_of(quantity, key), **keys}
    frames = with_values([frame for path in data for frame in read_labelled(path, keys=names)], quantity, findings)
    if not frames:
        raise InputError(f"no structure of {', '.join(map(str, data))} has {quantity.name}. Name it: --property-key.")
    found = model.values([frame.atoms for frame in frames], [frame.source for frame in frames])
    table = property_errors(frames, found, quantity)
    result: dict[str, Any] = {
        "model": name,
        "data": [str(path) for path in data],
        "n_frames": len(frames),
        "n_atoms": sum(len(frame.atoms) for frame in frames),
        "errors": table.to_json(),
        "notes": [finding.text for finding in findings],
    }
    if not as_json:
        click.echo(f"{name} on {', '.join(path.name for path in data)}: {counted(len(frames), 'structure')}")
        click.echo(table.text())
        for note in result["notes"]:
            click.echo(f"Note: {note}")
    written = []
    if out is not None:
        from mlmd.analysis.figures import save

        out.mkdir(parents=True, exist_ok=True)
        written = [out / "errors.json", out / "parity.png"]
        content = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        written[0].write_text(content + "\n", encoding="utf-8")
        title = f"{Path(name).name}, {counted(len(frames), 'structure')}"
        save(property_figure(frames, found, quantity, title), written[1])
        if predictions:
            written.append(out / "predictions.extxyz")
            _write(written[-1], model, frames, found)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    elif written:
        click.echo(f"Written: {', '.join(map(str, written))}")


def _check_output(path: Path | None) -> None:
    """Refuse a name that cannot be written to, before anything is computed."""
    if path is None:
        return
    if path.suffix not in _ENDINGS:
        raise InputError(
            f"{path}: values are written as {' or '.join(_ENDINGS)}. Give a name with one of these endings."
        )
    if path.exists():
        raise StorageError(f"{path} exists already; nothing was written. Give another name.")
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no folder {path.parent}.")


def _write(path: Path, model: PropertyModel, frames: Sequence[LabelledFrame], values: np.ndarray) -> None:
    """A table, or structures with their values; whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".csv":
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["structure", "formula", model.quantity.title])
                for frame, value in zip(frames, values, strict=True):
                    writer.writerow([frame.source, frame.atoms.get_chemical_formula(), repr(float(value))])
        else:
            _write_structures(partial, model.quantity.name, frames, values)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_structures(path: Path, name: str, frames: Sequence[LabelledFrame], values: np.ndarray) -> None:
    """Extended XYZ, under names that nobody takes for labels of a training set."""
    import ase.io

    structures = []
    for frame, value in zip(frames, values, strict=True):
        atoms = frame.atoms.copy()
        atoms.info |= {"source": frame.source, f"predicted_{name}": float(value)}
        if frame.group:
            atoms.info["group"] = frame.group
        if frame.value is not None:
            atoms.info[f"reference_{name}"] = frame.value
        structures.append(atoms)
    ase.io.write(path, structures, format="extxyz")
