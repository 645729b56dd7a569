"""``mlmd sweep``: a training for every combination of values, and which of them are worth their time.

All trainings are of potentials, or all of one property of whole structures.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlmd.config import naming, of_structures, parts_of, resolved, structure_parts, training_hash, unnamed
from mlmd.config.files import SWEEP
from mlmd.config.sweep import Choice, load_sweep
from mlmd.config.toml import document
from mlmd.config.train import Train
from mlmd.errors import InputError, SimulationError, Stopped, StorageError
from mlmd.rundir import write_atomically
from mlmd.train.error_table import ErrorTable
from mlmd.train.folder import MANIFEST, write_json
from mlmd.train.run import Step, train

RESULTS = SWEEP
INPUTS = "inputs"
_LONGEST_LABEL = 60
_PREDICTED = 50
"""Structures whose prediction is timed."""
_FORMAT = {"format": "mlmd-sweep", "version": 1}


OF_POTENTIALS = ("energy", "forces", "stress")
"""Errors of an outcome that a property has not."""


@dataclass(frozen=True)
class Outcome:
    """What came of one combination; None where a number is not known."""

    label: str
    """The values that were chosen."""
    descriptor: str
    """Its kind."""
    fit: str
    """Its kind."""
    folder: str = ""
    """Of the training, within that of the sweep."""
    model: str = ""
    """The potential, or the model of a property, within the folder of the sweep."""
    energy: float | None = None
    """RMSE for the test structures, meV/atom."""
    forces: float | None = None
    """RMSE, meV/Å."""
    stress: float | None = None
    """RMSE, MPa."""
    mae: float | None = None
    """Mean absolute error of a property for the test structures, in its unit."""
    rmse: float | None = None
    """The same, root mean square."""
    quantity: str = ""
    """What is learned of whole structures, with its unit; empty for potentials."""
    seconds: float | None = None
    """Of the training, by the clock; of all parts of it where it was stopped."""
    microseconds: float | None = None
    """Of an evaluation for each atom, one thread; of a property, of predicting test structures."""
    best: bool = False
    """Whether no other is both faster and more accurate."""
    problem: str = ""
    """Why there is no model."""


@dataclass(frozen=True)
class Sweep:
    """All outcomes, in the order of the input."""

    path: Path
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class SweepStep:
    """Where a sweep stands."""

    number: int
    """Of the training; combinations that do not go together are not counted."""
    total: int
    label: str
    step: Step


def sweep(
    input_file: Path | str,
    out: Path | str | None = None,
    *,
    n_processes: int | None = None,
    progress: Callable[[SweepStep], None] = lambda step: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Sweep:
    """Train every combination of an input, or continue where it stopped; trainings that are done are left as they are.

    Each training has its input in ``inputs/`` and a folder of its own, named by its values. More values in the lists
    are added to what was trained.

    In a script, the call stands under ``if __name__ == "__main__":``, as several processes import the script.

    Args:
        input_file: the TOML file, see `mlmd.config.sweep`.
        out: folder, by default ``<input stem>.sweep`` in the current folder.
        n_processes: of each training, by default one for each core.
        progress: called with every step.
        tell: called with every message for a person, once.

    Raises:
        InputError: the input is wrong, no structures are kept for the test, or no combination can be trained.
        StorageError: the folder holds something else, or cannot be written.
        InUseError, Stopped: as `mlmd.train.run.train`.
    """
    source = Path(input_file)
    combinations = load_sweep(source)
    with naming(source):
        check_test(combinations)
    # what writes the results imports torch, which cannot be imported again after a signal came while it was
    from mlmd.train import figures  # noqa: F401

    folder = (Path(out) if out is not None else Path(f"{source.stem}.sweep")).absolute()
    known = _begin(folder)
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            tell(text)

    blanks = [_blank(one) for one in combinations]

    def keep(outcome: Outcome) -> None:
        if outcome.folder:
            known[outcome.folder] = outcome
        _write(folder, blanks, known)

    outcomes: list[Outcome] = []
    n_trainings, number = sum(one.config is not None for one in combinations), 0
    for one, blank in zip(combinations, blanks, strict=True):
        outcome = blank
        if one.config is not None:
            number += 1

            def at(step: Step, number: int = number, label: str = one.label) -> None:
                progress(SweepStep(number, n_trainings, label, step))

            outcome = _trained(
                blank,
                one.config,
                folder,
                known.get(blank.folder),
                n_processes=n_processes,
                progress=at,
                tell=once,
                keep=keep,
            )
        outcomes.append(outcome)
        if outcome.problem:
            once(f"{outcome.label}: left out: {outcome.problem}")
        keep(outcome)
    if not any(one.model for one in outcomes):
        with naming(source):
            raise InputError("\n".join(f"{one.label}: {one.problem}" for one in outcomes))
    return Sweep(folder, tuple(pareto(outcomes)))


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same, those marked for which no other is both faster and more accurate; in the order given."""
    costs = [(one.microseconds, error_of(one)) for one in outcomes]

    def beaten(own: tuple[float | None, float | None]) -> bool:
        return any(
            None not in other and other[0] <= own[0] and other[1] <= own[1] and other != own  # type: ignore[operator]
            for other in costs
        )

    fields = [
        {**asdict(one), "best": None not in own and not beaten(own)} for one, own in zip(outcomes, costs, strict=True)
    ]
    return [Outcome(**one) for one in fields]


def error_of(outcome: Outcome) -> float | None:
    """What is judged by: the error of forces, or of energies where the test has no forces; the MAE of a property."""
    if outcome.quantity:
        return outcome.mae
    return outcome.energy if outcome.forces is None else outcome.forces


def check_test(combinations: Sequence[Choice]) -> None:
    """Errors of structures that were trained on would choose what fits most closely, not what is right.

    Raises:
        InputError: when nothing is kept for the test.
    """
    config = next(one.config for one in combinations if one.config)
    if config.test is None and config.test_fraction == 0:
        raise InputError("test_fraction: 0 leaves no structures to compare the models on. Leave it out, or give test.")


def _begin(folder: Path) -> dict[str, Outcome]:
    """What is known from an earlier call, by the folder of the training.

    Raises:
        StorageError: when the folder holds something else.
    """
    if folder.is_file():
        raise StorageError(f"{folder} is a file; a folder is needed for the sweep. Give another --out.")
    file = folder / RESULTS
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise StorageError(f"{folder} is not empty and not the folder of a sweep. Give another --out.")
        (folder / INPUTS).mkdir(parents=True, exist_ok=True)
        write_json(file, {**_FORMAT, "outcomes": []})
        return {}
    outcomes, others = _read(file)
    return {one.folder: one for one in (*outcomes, *others) if one.folder}


def read_sweep(folder: Path) -> Sweep:
    """What a sweep has found so far, by its folder.

    Raises:
        StorageError: when its file is damaged.
    """
    return Sweep(folder, _read(folder / RESULTS)[0])


def _read(file: Path) -> tuple[tuple[Outcome, ...], tuple[Outcome, ...]]:
    """The outcomes of the last call, and those of earlier ones with other values."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT["format"]:
            raise KeyError("format")
        outcomes, others = ([Outcome(**one) for one in found.get(key, ())] for key in ("outcomes", "others"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{file} is damaged ({type(error).__name__}: {error}). Give another --out.") from None
    return tuple(outcomes), tuple(others)


def _blank(one: Choice) -> Outcome:
    """What is known of a combination before it is trained."""
    if one.config is None:
        return Outcome(one.label, "", "", problem=one.problem.replace("\n", " "))
    parts = parts_of(one.config.descriptor) or structure_parts(one.config.descriptor)
    descriptor = " + ".join(part.kind for part in parts)
    return Outcome(one.label, descriptor, one.config.fit.kind, folder=_name(one.label, one.config))


def _trained(
    blank: Outcome,
    config: Train,
    folder: Path,
    before: Outcome | None,
    *,
    n_processes: int | None,
    progress: Callable[[Step], None],
    tell: Callable[[str], None],
    keep: Callable[[Outcome], None],
) -> Outcome:
    """Train one combination, or take what is known of it from before; what is known while it lasts is kept."""
    name = blank.folder
    source = folder / INPUTS / f"{name}.toml"
    write_atomically(source, document(resolved(config)).encode())
    before = before or blank
    done = _is_done(folder / name)
    spent = 0.0 if before.model or before.seconds is None else before.seconds
    clock = time.monotonic()
    try:
        training = train(
            source, folder / name, n_processes=n_processes, progress=progress, tell=tell, answers=folder
        )  # fmt: skip
    except Stopped:
        if not done:
            keep(replace(blank, seconds=spent + time.monotonic() - clock))
        raise
    except (InputError, SimulationError) as error:
        return replace(blank, problem=unnamed(error, source))
    seconds: float | None = spent + time.monotonic() - clock
    if done:  # only its data were read again; that of one that ended after all of the sweep was killed is not known
        seconds = before.seconds if before.model else None
    table = training.errors["test"]
    errors: dict[str, Any]
    if of_structures(config.descriptor, config.fit):
        errors = _of_property(table)
    else:
        errors = {key: None if table is None else _known(table.row(key).rmse) for key in OF_POTENTIALS}
    model = f"{name}/{training.model.name}"
    outcome = replace(blank, seconds=seconds, microseconds=before.microseconds, model=model, **errors)
    if outcome.microseconds is None:
        keep(outcome)
        progress(Step("time of an evaluation", 0, 1))
        outcome = replace(outcome, microseconds=_microseconds(training.model, config))
    return outcome


def _of_property(table: ErrorTable | None) -> dict[str, Any]:
    """Errors of what is learned of whole structures, and what that is."""
    if table is None:
        return {}
    row = next(one for one in table.rows if one.by == "all")
    quantity = f"{row.property} [{row.unit}]" if row.unit else row.property
    return {"mae": _known(row.mae), "rmse": _known(row.rmse), "quantity": quantity}


def _is_done(folder: Path) -> bool:
    """Whether a training ended before."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["state"] == "done")
    except (OSError, ValueError, KeyError, TypeError):  # what is damaged is told by the training
        return False


def _name(label: str, config: Train) -> str:
    """A folder that tells the values, and differs whenever the trainings do."""
    words = re.sub(r"[^A-Za-z0-9.=]+", "-", label).strip("-.")[:_LONGEST_LABEL]
    return f"{words}-{training_hash(config)[:6]}"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _microseconds(model: Path, config: Train) -> float:
    """Of an evaluation for each atom of a structure of the data, repeated to some hundred atoms; see `time_of`."""
    from mlmd.config.files import sha256
    from mlmd.potentials import modelfile
    from mlmd.potentials.trust import PREFIX
    from mlmd.train.dataset import load_frames

    if of_structures(config.descriptor, config.fit):
        return _microseconds_of_property(model, config)
    frames = load_frames(config.test or config.data)
    largest = max(frames, key=lambda frame: len(frame.atoms))
    # it was made here, by what the input names: nothing new is executed
    return time_of(modelfile.load(model, trust=[PREFIX + sha256(model)]), largest.atoms)


def _microseconds_of_property(model: Path, config: Train) -> float:
    """Of predicting test structures, or those of the data, for each atom: one thread, the least of some tries."""
    from mlmd.potentials.load import load_property
    from mlmd.train.dataset import load_frames
    from mlmd.train.property_job import ENERGY, labels_of

    loaded = load_property(model)
    assert loaded is not None
    quantity = loaded.quantity
    frames = load_frames(config.test or config.data, labels_of(ENERGY if config.property is None else quantity))
    some = [frame.atoms for frame in frames if frame.value is not None or config.property is None][:_PREDICTED]
    return 1e6 * _least(lambda: loaded.values(some), 2.0) / sum(map(len, some))


def _least(work: Callable[[], object], budget: float) -> float:
    """Seconds of the processor for some work, the least of at least two tries within a budget of seconds."""
    taken: list[float] = []
    begin = time.monotonic()
    while len(taken) < 2 or (time.monotonic() - begin < budget and len(taken) < 100):
        clock = time.thread_time()
        work()
        taken.append(time.thread_time() - clock)
    return min(taken)


def time_of(potential: Any, atoms: Any, *, n_atoms: int = 500, budget: float = 2.0) -> float:
    """Microseconds for each atom of an evaluation of forces: one thread, neighbours known already, the least of some.

    Args:
        potential: as `mlmd simulate` runs it.
        atoms: a structure; a periodic one is repeated to at least `n_atoms`.
        n_atoms: so many.
        budget: seconds for all tries together, but at least two are made.
    """
    import numpy as np
    import torch

    from mlmd.potentials.evaluate import evaluator

    atoms = atoms.copy()
    while atoms.pbc.all() and len(atoms) < n_atoms:
        atoms = atoms.repeat([2 if axis == int(np.argmin(atoms.cell.lengths())) else 1 for axis in range(3)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ready = evaluator(potential, atoms.numbers, atoms.pbc)
        ready.evaluate(atoms.positions, atoms.cell.array)  # the first one searches the neighbours
        seconds = _least(lambda: ready.evaluate(atoms.positions, atoms.cell.array), budget)
    finally:
        torch.set_num_threads(threads)
    return 1e6 * seconds / len(atoms)


def _write(folder: Path, blanks: Sequence[Outcome], known: Mapping[str, Outcome]) -> None:
    """The results so far: JSON, CSV and a picture; others, for a later call, in the JSON alone.

    Args:
        folder: of the sweep.
        blanks: the combinations of the input, in its order.
        known: by the folder of the training; also of parts of trainings, and of values that the input has no more.
    """
    from mlmd.analysis.figures import save
    from mlmd.train.figures import pareto_figure

    of_input = [known.get(one.folder, one) for one in blanks]
    judged = pareto([one for one in of_input if one.model or one.problem])
    shown = {one.folder for one in judged}
    rows = [asdict(one) for one in judged]
    others = [{**asdict(one), "best": False} for one in known.values() if one.folder not in shown]
    write_json(folder / RESULTS, {**_FORMAT, "outcomes": rows, "others": others})
    text = io.StringIO(newline="")
    quantity = next((one.quantity for one in judged if one.quantity), "")
    units = {"energy": "energy (meV/atom)", "forces": "forces (meV/Å)", "stress": "stress (MPa)",
             "mae": f"MAE, {quantity}", "rmse": f"RMSE, {quantity}",
             "seconds": "training (s)", "microseconds": "evaluation (µs/atom)"}  # fmt: skip
    others_have = {*OF_POTENTIALS} if quantity else {"mae", "rmse"}
    keys = [key for key in asdict(blanks[0]) if key not in {*others_have, "quantity"}]
    writer = csv.writer(text)
    writer.writerow([units.get(key, key) for key in keys])
    writer.writerows([row[key] for key in keys] for row in rows)
    write_atomically(folder / "sweep.csv", text.getvalue().encode())
    if any(one.best for one in judged):
        save(pareto_figure(judged), folder / "pareto.png")
