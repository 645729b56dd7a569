"""``mlmd train``: labelled structures in, one potential file with its errors and figures out."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import mlmd
from mlmd.config import Train, load_train, resolved, training_hash
from mlmd.errors import InputError, Stopped, StorageError
from mlmd.rundir import MESSAGES, Messages, reserved, sha256, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from mlmd.io.labelled import LabelledFrame
    from mlmd.potentials.learned import LearnedPotential
    from mlmd.train.error_table import ErrorTable
    from mlmd.train.examine import Finding
    from mlmd.train.figures import LearningCurve
    from mlmd.train.optimise import State
    from mlmd.train.shards import Solver

MANIFEST = "train.json"
ERRORS = "errors.json"
_BEGUN = {"lock", "input.toml", MESSAGES, MANIFEST + ".tmp"}
_CLOSER = 0.95
"""Radial functions begin at this part of the shortest distance in the data: atoms will come a little closer."""

_NOISE = 0.1
"""Standard deviation of the random part of the first radial coefficients: elements must not stay alike."""


@dataclass(frozen=True)
class Step:
    """Where a training stands."""

    what: str
    done: int
    total: int
    seconds_left: float | None
    """Of what is being done now."""
    loss: float | None
    """Root mean square of the residuals in units of their sigma."""


@dataclass(frozen=True)
class Training:
    """A finished training."""

    path: Path
    """Its folder."""
    model: Path
    errors: Mapping[str, ErrorTable | None]
    """Of ``"train"`` and ``"test"``."""
    findings: Sequence[Finding]
    """What is odd about the data."""


@dataclass(frozen=True)
class Data:
    """What the input's files hold."""

    train: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]
    elements: tuple[str, ...]
    digest: str


def default_folder(input_path: Path) -> Path:
    """``<input stem>.run`` beside where one stands."""
    return Path(input_path.stem + ".run")


def train(
    input_file: Path | str,
    out: Path | str | None = None,
    *,
    n_processes: int | None = None,
    progress: Callable[[Step], None] = lambda step: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Training:
    """Train the potential of an input file, or continue where the training stopped; a finished one is left as it is.

    The file of the potential is the same, bit for bit, whenever the same data are trained on again with the same
    versions, whatever the number of processes and however often the training was interrupted.

    Args:
        input_file: the TOML file.
        out: folder, by default ``<input stem>.run`` in the current folder.
        n_processes: by default one for each core.
        progress: called with every step.
        tell: called with every message for a person.

    Raises:
        InputError: the input or its data are wrong; nothing is written.
        StorageError: the folder belongs to another training, or cannot be written.
        InUseError: another process is training in the folder.
        SimulationError: no finite solution was found.
        Stopped: by a signal; the same call continues.
    """
    from mlmd.train.dataset import baseline

    source = Path(input_file)
    config = load_train(source)
    folder = (Path(out) if out is not None else default_folder(source)).absolute()
    _existing(folder, config)  # a folder of somebody else is not even locked
    with reserved(folder), _stoppable(source):
        manifest = _existing(folder, config)
        progress(Step("reading the data", 0, 1, None, None))
        data = load_data(config)
        if manifest is not None and manifest["digest"] != data.digest:
            raise StorageError(
                f"{folder} belongs to other data: the content of the files is not what it was. Give another --out."
            )
        findings = examine_data(config, data)
        energies = baseline(data.train, data.elements, config.baseline)
        potential = start(config, data.train, data.elements)
        if manifest is None:  # nothing is written before all is known to be right
            manifest = _begin(source, config, data, folder)
        messages = Messages(folder, tell)
        for finding in findings:
            messages(f"{finding.severity}: {finding.text}")
        if manifest["state"] == "done":
            return _finished(folder, config, findings)
        n_processes = n_processes or n_cores()
        return _train(
            source, config, data, energies, potential, folder, manifest, n_processes, findings, progress
        )  # fmt: skip


def _train(
    source: Path,
    config: Train,
    data: Data,
    energies: np.ndarray,
    potential: LearnedPotential,
    folder: Path,
    manifest: dict[str, Any],
    n_processes: int,
    findings: Sequence[Finding],
    progress: Callable[[Step], None],
) -> Training:
    """From data to the file of the potential."""
    from mlmd.potentials import modelfile
    from mlmd.train import figures
    from mlmd.train.evaluate import errors, predict
    from mlmd.train.shards import Problem, solver

    problem = Problem(data.train, sigma_of(config), energies, potential.spec())
    n_processes = min(n_processes, len(problem.shards(config.seed)))
    with solver(problem, config.seed, n_processes) as compute:
        state = _fit(config, problem, potential, folder, manifest["digest"], compute, progress)
        set_coefficients(potential, state, energies)
        curve = _learning_curve(config, data, problem, potential, state, energies, compute, progress)
    tables: dict[str, ErrorTable | None] = {"train": None, "test": None}
    for name, frames in (("train", data.train), ("test", data.test)):
        if frames:
            progress(Step(f"errors of the {name} set", 0, len(frames), None, None))
            labels = predict(potential, frames)
            table = tables[name] = errors(frames, labels)
            title = f"{config.card.name or source.stem}: {name} set, {len(frames)} structures"
            _save(figures.parity_figure(frames, labels, title), folder / f"parity_{name}.png")
    _save(figures.learning_figure(curve), folder / "learning_curve.png")
    model = folder / f"{config.card.name or source.stem}.mlmd"
    as_json = {name: table and table.to_json() for name, table in tables.items()}
    write_atomically(folder / ERRORS, json.dumps(as_json, indent=1, ensure_ascii=False).encode())
    modelfile.save(potential, model, _card(source, config, data, potential, as_json, state))
    _write_manifest(folder, {**manifest, "state": "done", "model": model.name, "sha256": sha256(model)})
    return Training(folder, model, tables, findings)


def start(config: Train, frames: Sequence[LabelledFrame], elements: Sequence[str]) -> LearnedPotential:
    """The potential that a training begins with.

    Its radial functions are plain polynomials; where they are to be optimised random numbers from the seed are added.

    Raises:
        InputError: when no atoms of the data are within the cutoff of each other.
    """
    import numpy as np
    import torch

    from mlmd.descriptors.moments import Moments
    from mlmd.fitting.linear import Linear
    from mlmd.potentials.learned import LearnedPotential
    from mlmd.train.dataset import smallest_distance

    model = config.model
    closest = model.min_distance
    if not isinstance(closest, float):
        closest = round(_CLOSER * smallest_distance(frames), 3)
    if closest >= model.cutoff:
        raise InputError(
            f"model: cutoff: {model.cutoff:g} Å, but no two atoms of the data are closer than {closest:g} Å: nothing "
            "can be learned. Give a longer cutoff; is the unit of length right?"
        )
    moments = Moments(
        elements=elements,
        cutoff=model.cutoff,
        min_distance=closest,
        level=model.level,
        n_chebyshev=model.n_chebyshev,
        scaling=1 / (model.cutoff - closest) ** 2,  # radial functions of order one
    )
    if config.fit.radial == "optimise":
        coefficients = moments.radial.coefficients
        noise = np.random.default_rng(config.seed).standard_normal(coefficients.shape)
        with torch.no_grad():
            coefficients += _NOISE * torch.from_numpy(noise)
    return LearnedPotential(moments, Linear(n_features=moments.n_features, n_kinds=len(elements)))


def set_coefficients(potential: LearnedPotential, state: State, energies: np.ndarray) -> None:
    """Give a potential the best coefficients found, and the baseline (n_elements,) eV back to its constants."""
    import torch

    from mlmd.train.optimise import put

    assert state.best_radial is not None and state.best_linear is not None
    put(potential, state.best_radial, state.best_linear)
    with torch.no_grad():
        potential.regressor.constants.add_(torch.from_numpy(energies))  # type: ignore[union-attr]


def load_data(config: Train) -> Data:
    """Read and split.

    Raises:
        InputError: what is wrong with the files, or elements that are not those of the input.
    """
    from mlmd.train.dataset import digest, elements_of, load_frames, split

    frames = load_frames(config.data)
    if config.test is not None:
        training, test = frames, load_frames(config.test)
    else:
        training, test = split(frames, config.test_fraction, config.seed)
    found = elements_of(training)
    elements = config.elements or found
    missing = [element for element in found if element not in elements]
    if missing:
        raise InputError(
            f"elements: {', '.join(elements)} are given; the data also have {', '.join(missing)}. Add them, or leave "
            "elements out."
        )
    return Data(training, test, tuple(elements), digest([*training, *test]))


def examine_data(config: Train, data: Data) -> list[Finding]:
    """What is odd about the data.

    Raises:
        InputError: for what makes training impossible, all of it in one message.
    """
    from mlmd.train.examine import examine

    findings = examine(data.train, data.test, config.model.cutoff)
    fatal = [finding.text for finding in findings if finding.severity == "error"]
    if fatal:
        raise InputError("\n".join(fatal))
    groups = {frame.group for frame in data.train}
    for group in config.sigma.groups:
        if group not in groups:
            from mlmd.errors import did_you_mean

            raise InputError(f"sigma: groups: no structure is of group {group!r}. {did_you_mean(group, groups - {''})}")
    return findings


def _fit(
    config: Train,
    problem: Any,
    potential: LearnedPotential,
    folder: Path,
    key: str,
    compute: Solver,
    progress: Callable[[Step], None],
) -> State:
    """Find the coefficients, from where a killed training stood."""
    from mlmd.train import checkpoint
    from mlmd.train.optimise import begin, iterate

    radial = config.fit.radial == "optimise"
    n_shards = len(problem.shards(config.seed))
    n_rows = sum(
        (frame.energy is not None)
        + (0 if frame.forces is None else frame.forces.size)
        + (0 if frame.stress is None else 6)
        for frame in problem.frames
    )
    state = checkpoint.read(folder, key) or begin(potential, n_shards, n_rows, radial=radial)
    clock = _Clock()

    def told(now: State) -> None:
        loss = now.best if math.isfinite(now.best) else (now.history[-1] if now.history else None)
        whole = "" if now.n_shards == n_shards else f" on {now.n_shards} of {n_shards} parts of the data"
        what = f"iteration {now.n_steps + 1}{whole}" if radial else "linear fit"
        progress(Step(what, len(now.outcomes), now.n_shards, clock(len(now.outcomes), now.n_shards), loss))

    return iterate(
        potential,
        state,
        compute,
        n_shards=n_shards,
        radial=radial,
        max_iterations=config.fit.max_iterations,
        tolerance=config.fit.tolerance,
        regularisation=config.fit.regularisation,
        keep=lambda now: checkpoint.write(folder, now, key),
        told=told,
    )


class _Clock:
    """Seconds left of a pass over the data, from those of the parts that are done."""

    def __init__(self) -> None:
        self._begin, self._at = time.monotonic(), 0

    def __call__(self, done: int, total: int) -> float | None:
        if done <= self._at:
            self._begin, self._at = time.monotonic(), done
            return None
        return (time.monotonic() - self._begin) / (done - self._at) * (total - done)


def _learning_curve(
    config: Train,
    data: Data,
    problem: Any,
    potential: LearnedPotential,
    state: State,
    energies: np.ndarray,
    compute: Solver,
    progress: Callable[[Step], None],
) -> LearningCurve:
    """Errors of linear fits to the first parts of the data, all with the radial functions that were found last."""
    import torch

    from mlmd.fitting.least_squares import combine, solve
    from mlmd.train.evaluate import errors, predict
    from mlmd.train.figures import LearningCurve
    from mlmd.train.optimise import n_linear, put
    from mlmd.train.shards import Task, state_of

    assert state.best_radial is not None and state.best_linear is not None
    shards = problem.shards(config.seed)
    numbers = state_of(potential)
    outcomes = []
    for outcome in compute([Task(shard, numbers, nonlinear=False) for shard in range(len(shards))]):
        outcomes.append(outcome)
        progress(Step("learning curve", len(outcomes), len(shards), None, None))
    sizes = sorted({n for power in range(8) if (n := 2**power) < len(shards)} | {len(shards)})
    penalty = torch.full((n_linear(potential),), config.fit.regularisation, dtype=torch.float64)
    counts: list[int] = []
    columns: dict[tuple[str, str], list[float]] = {(s, p): [] for s in ("train", "test") for p in ("energy", "forces")}
    for size in sizes:
        factor = combine(torch.from_numpy(outcome.factor) for outcome in outcomes[:size])
        linear = solve(factor, penalty=penalty).x.numpy()
        put(potential, state.best_radial, linear)
        with torch.no_grad():
            potential.regressor.constants.add_(torch.from_numpy(energies))  # type: ignore[union-attr]
        some = [frame for shard in shards[:size] for frame in shard]
        counts.append(len(some))
        for name, frames in (("train", some), ("test", data.test)):
            table = errors(frames, predict(potential, frames)) if frames else None
            for quantity in ("energy", "forces"):
                columns[name, quantity].append(table.row(quantity).rmse if table else math.nan)
    set_coefficients(potential, state, energies)
    return LearningCurve(
        n_frames=tuple(counts),
        train_energy=tuple(columns["train", "energy"]),
        train_forces=tuple(columns["train", "forces"]),
        test_energy=tuple(columns["test", "energy"]),
        test_forces=tuple(columns["test", "forces"]),
        loss=state.history,
    )


def _card(
    source: Path,
    config: Train,
    data: Data,
    potential: LearnedPotential,
    tables: Mapping[str, Any],
    state: State,
) -> dict[str, Any]:
    """What a person should know about the potential; the same whenever and wherever it is trained."""
    from importlib.metadata import version

    written = resolved(config)
    for key in ("data", "test"):  # where the files lay says nothing
        written[key] = [{**table, "path": Path(table["path"]).name} for table in written.get(key) or []]
    facts = {key: value for key, value in written.pop("card").items() if value}
    sets = {}
    for name, frames in (("data", data.train), ("test", data.test)):
        sets[name] = _described(frames) | {"files": [table["path"] for table in written[name] or written["data"]]}
    return {
        **facts,
        **sets,
        "digest": data.digest,
        "errors": tables,
        "loss": state.best,
        "iterations": state.n_steps,
        "input": written,
        "command": f"mlmd train {source.name}",
        "versions": {"mlmd": mlmd.__version__, **{name: version(name) for name in ("torch", "numpy")}},
    }


def _described(frames: Sequence[LabelledFrame]) -> dict[str, Any]:
    """How much there is of what."""
    labels = {
        "energies": sum(frame.energy is not None for frame in frames),
        "forces": sum(frame.forces is not None for frame in frames),
        "stresses": sum(frame.stress is not None for frame in frames),
    }
    groups: dict[str, int] = {}
    for frame in frames:
        groups[frame.group] = groups.get(frame.group, 0) + 1
    return {
        "n_frames": len(frames),
        "n_atoms": sum(len(frame.atoms) for frame in frames),
        **{f"frames with {name}": count or "no data" for name, count in labels.items()},
        "groups": groups if any(groups) else "no data",
    }


def sigma_of(config: Train) -> Any:
    """The accuracy aimed at, in eV, eV/Å and eV/Å³."""
    from mlmd.train.equations import Sigma
    from mlmd.units import BAR

    given = config.sigma
    return Sigma(energy=given.energy, forces=given.forces, stress=given.stress * BAR, groups=dict(given.groups))


def _existing(folder: Path, config: Train) -> dict[str, Any] | None:
    """The manifest of this training, None if the folder is free.

    Raises:
        StorageError: when the folder holds something else, or another training.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file; a folder is needed for the training. Give another --out.")
    path = folder / MANIFEST
    if not path.exists():
        strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in _BEGUN)
        if strangers:
            raise StorageError(
                f"{folder} is not empty and not the folder of a training (it holds {', '.join(strangers[:3])}). "
                "Give another --out; nothing was touched."
            )
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        same = manifest["training_hash"] == training_hash(config)
        manifest["digest"], manifest["state"]
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{path} is damaged. Give another --out, or remove the folder.") from None
    if not same:
        raise StorageError(
            f"{folder} belongs to another input. A changed input needs a folder of its own: give another --out, or "
            f"restore the input (a copy of the old one is {folder / 'input.toml'})."
        )
    return manifest


def _begin(source: Path, config: Train, data: Data, folder: Path) -> dict[str, Any]:
    """What stands in a folder before the first step; the manifest last."""
    shutil.copyfile(source, folder / "input.toml")
    manifest = {
        "state": "running",
        "mlmd": mlmd.__version__,
        "training_hash": training_hash(config),
        "digest": data.digest,
        "input": resolved(config),
    }
    _write_manifest(folder, manifest)
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def _finished(folder: Path, config: Train, findings: Sequence[Finding]) -> Training:
    """A training that was done before."""
    from mlmd.train.error_table import from_json

    manifest = json.loads((folder / MANIFEST).read_text())
    tables = json.loads((folder / ERRORS).read_text())
    return Training(
        path=folder,
        model=folder / manifest["model"],
        errors={name: from_json(table) if table else None for name, table in tables.items()},
        findings=findings,
    )


def _save(figure: Any, path: Path) -> None:
    from mlmd.analysis.figures import save

    save(figure, path)


@contextmanager
def _stoppable(source: Path) -> Iterator[None]:
    """SIGTERM and Ctrl-C end a training, which has kept every part that was done."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what was done is kept. The same command continues: mlmd train {source}") from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
