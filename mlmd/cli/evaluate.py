"""``mlmd evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.inline import is_table, table_of
from mlmd.errors import InputError, counted

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame
    from mlmd.potentials import Potential
    from mlmd.train.calibration import Calibration
    from mlmd.train.evaluate import Labels
    from mlmd.train.grades import Grades

LABELS = ("energy", "forces", "stress", "virial", "group")


def key_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the labels are called in the data."""
    command = click.option("--type-map", metavar="LIST", help="Elements of DeePMD's types, e.g. O,H.")(command)
    for name in reversed(LABELS):
        text = f"Name of the {name} in the data [default: found by itself]; none leaves it out."
        command = click.option(f"--{name}-key", metavar="NAME", help=text)(command)
    return command


def trust_option(command: Callable[..., None]) -> Callable[..., None]:
    """Digests of files that execute code."""
    text = "Digest of a file that executes code when it is opened, from somebody you trust; may be given again."
    return click.option("--trust", multiple=True, metavar="sha256:...", help=text)(command)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--elements", metavar="LIST", help="Elements in the order of an .mtp file, e.g. Li,Y,Cl.")
@click.option("--options", default="{}", metavar="JSON", help="Of a kind of potential, as in an input's table.")
@trust_option
@key_options
@click.option("--property-key", metavar="NAME", help="Name in the data of what a model of structures predicts.")
@click.option("--shift", is_flag=True, help="Fit the zero of energy of each element to the data before comparing.")
@click.option("--device", default="auto", show_default=True, help="Where the potential computes: cpu, cuda, cuda:0.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1), help="On the CPU.")
@click.option("--spread/--no-spread", default=True, help="Compare errors with the spread, of a potential that has one.")
@click.option("--grade/--no-grade", default=True, help="Tell the extrapolation grade, of a potential that has one.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for errors.json and parity.png.")
@click.option("--predictions", is_flag=True, help="Write predictions.extxyz into the folder as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the errors as JSON, and nothing else.")
def evaluate(
    model: str, data: tuple[Path, ...], elements: str | None, options: str, trust: tuple[str, ...],
    energy_key: str | None, forces_key: str | None, stress_key: str | None, virial_key: str | None,
    group_key: str | None,
    type_map: str | None, property_key: str | None, shift: bool, device: str, processes: int, spread: bool,
    grade: bool, out: Path | None, predictions: bool, as_json: bool,
) -> None:  # fmt: skip
    """Errors of MODEL, a potential or a model of structures, for the labelled structures of DATA.

    MODEL is a file, the name of a potential that comes with mlmd, a kind (with --options), or a table as in an input,
    such as '{ kind = "chgnet" }'. DATA are extended XYZ files, files with results that ASE reads, or DeePMD folders.

    Energies are compared per atom, forces by component, stress by its six components; as a whole, by element and by
    group of the data. Differences that are no scatter, such as another zero of energy, another unit or another order
    of the stress, are told as notes. Of a potential that knows the spread of its forces it is told how errors
    follow it; of one that knows grades of extrapolation, how far the structures are from those it was trained on.

    Of a model that predicts a property of whole structures, its values are compared.
    """
    if predictions and out is None:
        raise InputError("--predictions needs a folder to write to: give --out FOLDER.")
    keys = keys_of((energy_key, forces_key, stress_key, virial_key, group_key), type_map)
    from mlmd.potentials.load import load_property

    if not is_table(model) and (of_structures := load_property(Path(model))) is not None:
        from mlmd.cli.predict import evaluate_property

        if shift or elements is not None:
            raise InputError(f"{model} predicts a property of whole structures: leave --shift and --elements out.")
        evaluate_property(of_structures, model, data, keys, property_key, out, predictions, as_json)
        return
    if property_key is not None:
        raise InputError(f"{model} is a potential: it predicts no property. Leave --property-key out.")
    potential = load_model(model, elements, options, device, trust)
    from dataclasses import replace

    from mlmd.io.labelled import forces_alone, read_labelled
    from mlmd.potentials import has_energy
    from mlmd.train.evaluate import errors, predict, shifted
    from mlmd.train.systematic import systematic

    frames = [frame for path in data for frame in read_labelled(path, keys=keys)]
    if not has_energy(potential):
        frames = forces_alone(frames)
    with bar(hush=as_json) as progress:
        found = predict(potential, frames, n_processes=processes, progress=progress)
        errors_by_spread = _calibration(potential, frames, found, progress) if spread else None
        grades = _grades(potential, frames, progress) if grade else None
    moved: Mapping[str, float] = {}
    if shift:
        found, moved = shifted(frames, found)
    table = replace(errors(frames, found), shift=moved)
    notes = systematic(frames, found)
    n_atoms = sum(len(frame.atoms) for frame in frames)
    result = {
        "model": model,
        "data": [str(path) for path in data],
        "n_frames": len(frames),
        "n_atoms": n_atoms,
        "errors": table.to_json(),
        "notes": notes,
    }
    if errors_by_spread is not None:
        result["calibration"] = errors_by_spread.to_json()
    if grades is not None:
        result["grade"] = grades.to_json()
    if not as_json:
        names_of_data = ", ".join(path.name for path in data)
        size = f"{counted(len(frames), 'structure')}, {counted(n_atoms, 'atom')}"
        told = [f"{model} on {names_of_data}: {size}"]
        told += [table.text(), *(one.text() for one in (errors_by_spread, grades) if one is not None)]
        click.echo("\n".join([*told, *(f"Note: {note}." for note in notes)]))
    written = [] if out is None else _write(out, result, frames, found, predictions, grades)
    if out is not None and errors_by_spread is not None:
        written.append(_write_calibration(out, errors_by_spread, Path(model).name))
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
    elif written:
        click.echo(f"Written: {', '.join(map(str, written))}")


def keys_of(names: Sequence[str | None], type_map: str | None) -> dict[str, str]:
    """What was given by `key_options`, in the order of `LABELS`, as `read_labelled` takes it."""
    given = dict(zip(LABELS, names, strict=True)) | {"type_map": type_map}
    return {name: value for name, value in given.items() if value is not None}


def with_trust(options: Mapping[str, Any], trust: Sequence[str]) -> dict[str, Any]:
    """Options of a potential with digests that are given besides."""
    if not trust:
        return dict(options)
    own = options.get("trust", ())
    return {**options, "trust": [*(own if isinstance(own, list | tuple) else [own]), *trust]}


def trust_of_each(models: Sequence[str], trust: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which of the digests are those of the files of each of several potentials.

    Raises:
        InputError: when one is that of none.
    """
    from mlmd.config.files import files_of_potential, sha256
    from mlmd.config.potential import PotentialTable, file_or_kind
    from mlmd.potentials.trust import PREFIX

    found: dict[str, tuple[str, ...]] = {}
    for model in models:
        path = PotentialTable.model_validate(file_or_kind(model)).path if trust else None
        files = [] if path is None else [file for file in files_of_potential(path) if file.is_file()]
        own = {PREFIX + sha256(file) for file in files}
        found[model] = tuple(one for one in trust if one in own)
    if lost := [one for one in trust if not any(one in share for share in found.values())]:
        raise InputError(
            f"--trust {lost[0]}: none of {', '.join(models)} has this digest. Was a file changed, or exchanged? "
            "(sha256sum FILE)"
        )
    return found


def load_model(model: str, elements: str | None, options: str, device: str, trust: Sequence[str] = ()) -> Potential:
    """The potential of a file or a kind, on its device; `trust` is joined with what the options trust."""
    from mlmd.config.potential import file_or_kind
    from mlmd.sample.method import parse_options

    table: dict[str, Any] = {**table_of(model)} if is_table(model) else {**file_or_kind(model)}
    if elements is not None:
        table["elements"] = elements.replace(",", " ").split()
    return load_table(table | with_trust(parse_options(options), trust), model, device)


def load_table(table: Mapping[str, Any], model: str, device: str) -> Potential:
    """The potential of a table as an input has it, on its device; `model` is what it is called in a message."""
    import torch
    from pydantic import ValidationError

    from mlmd.config.explain import explain
    from mlmd.config.potential import PotentialTable
    from mlmd.potentials.device import choose_device
    from mlmd.potentials.load import load_potential

    try:
        checked = PotentialTable.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{model}: {'; '.join(explain(error, PotentialTable, table))}") from None
    potential = load_potential((checked,))
    where = choose_device(device, potential)
    if isinstance(potential, torch.nn.Module):
        potential.to(where)
    return potential


def _calibration(
    potential: Potential, frames: Sequence[LabelledFrame], found: Sequence[Labels], progress: Callable[[int, int], None]
) -> Calibration | None:
    """How errors of forces follow their spread; None where the potential knows none, and without forces."""
    from mlmd.potentials.uncertainty import SPREAD, Judge, knows
    from mlmd.train.calibration import calibrated

    return calibrated(Judge(potential), frames, found, progress) if SPREAD in knows(potential) else None


def _grades(
    potential: Potential, frames: Sequence[LabelledFrame], progress: Callable[[int, int], None]
) -> Grades | None:
    """How far the structures are from what it was trained on; None where the potential does not know."""
    from mlmd.potentials.uncertainty import Judge
    from mlmd.train.grades import graded

    return graded(Judge(potential), frames, progress)


def _write_calibration(folder: Path, found: Calibration, name: str) -> Path:
    """The figure of --out."""
    from mlmd.analysis.figures import save
    from mlmd.train.calibration import calibration_figure

    path = folder / "calibration.png"
    save(calibration_figure(found, f"{name}, {found.n_atoms:,} atoms"), path)
    return path


@contextmanager
def bar(hush: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if hush or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("structures", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _write(
    folder: Path, result: Mapping[str, Any], frames: Sequence[LabelledFrame], found: Sequence[Labels], all_of_it: bool,
    grades: Grades | None,
) -> list[Path]:  # fmt: skip
    """The files of --out."""
    from mlmd.analysis.figures import save
    from mlmd.train.figures import parity_figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "errors.json", folder / "parity.png"]
    content = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(content + "\n", encoding="utf-8")
    title = f"{Path(result['model']).name}, {counted(result['n_frames'], 'structure')}"
    save(parity_figure(frames, found, title), paths[1])
    if all_of_it:
        paths.append(folder / "predictions.extxyz")
        _write_predictions(paths[-1], frames, found, grades)
    return paths


def _write_predictions(
    path: Path, frames: Sequence[LabelledFrame], found: Sequence[Labels], grades: Grades | None
) -> None:
    """Labels and predictions beside each other, under names that nobody takes for labels of a training set."""
    import ase.io

    structures = []
    for index, (frame, predicted) in enumerate(zip(frames, found, strict=True)):
        atoms = frame.atoms.copy()
        atoms.info |= {"source": frame.source, "predicted_energy": predicted.energy}
        atoms.arrays["predicted_forces"] = predicted.forces
        for name, value in (("group", frame.group or None), ("reference_energy", frame.energy)):
            if value is not None:
                atoms.info[name] = value
        if frame.forces is not None:
            atoms.arrays["reference_forces"] = frame.forces
        if grades is not None:
            atoms.arrays["grade"] = grades.of_atoms[index]
        for name, tensor in (("reference_stress", frame.stress), ("predicted_stress", predicted.stress)):
            if tensor is not None:
                atoms.info[name] = tensor.ravel()  # xx xy xz yx ...
        structures.append(atoms)
    ase.io.write(path, structures, format="extxyz")
