"""Energies, forces and stresses of many structures, by processes that may die at any moment.

The labels are kept in a journal beside the output until all are there; then the output is written at once, in the
order of the structures. The same call again continues, and what comes out is the same, byte for byte, however
often it was interrupted and however many processes worked on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

import mlmd
from mlmd import errors
from mlmd.config.files import sha256
from mlmd.engine.stop import StopRequest, stop_requests
from mlmd.errors import InputError, InUseError, SimulationError, Stopped, StorageError
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.rundir import STOP, reserved, sync_folder, write_atomically
from mlmd.sample.journal import (
    FAILED,
    OUTPUT,
    SCRATCH,
    Journal,
    Record,
    begun,
    check_free,
    clear,
    differences,
    open_journal,
)
from mlmd.sample.method import Label, Method
from mlmd.sample.structures import read_structures
from mlmd.sample.worker import Order, Ready, Refused
from mlmd.sample.workers import Worker, end, start

ENDINGS = (".extxyz", ".xyz")
N_ATTEMPTS = 2
"""A structure at which so many processes died has no label."""
_FORMAT = {"format": "mlmd-labels", "version": 1}
_LOOK = 0.2
"""Seconds between two looks whether somebody wants this to stop."""
_N_SHOWN = 5
CONVENTIONS = {
    "energy": "eV, of the whole structure; the free energy where the calculator has one: forces are its derivatives",
    "forces": "eV/Å",
    "stress": "eV/Å³, positive in tension; with full periodicity only",
}


@dataclass(frozen=True)
class Failure:
    """A structure without a label."""

    structure: str
    """Its name, e.g. ``frames.extxyz@12``."""
    message: str


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    done: int
    """Structures with a label or without hope."""
    total: int
    failed: int
    seconds_left: float | None
    """None before the first structure of this call."""


@dataclass(frozen=True)
class Labelling:
    """What has been labelled."""

    path: Path
    """The labelled structures."""
    record: Path
    """JSON: from what, and by what."""
    n_labelled: int
    failures: tuple[Failure, ...]
    n_new: int
    """Structures that were computed by this call."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "labelled": str(self.path), "record": str(self.record), "n_labelled": self.n_labelled, "n_new": self.n_new,
            "failures": [{"structure": one.structure, "message": one.message} for one in self.failures],
        }  # fmt: skip


def label(
    structures: Sequence[Path | str],
    out: Path | str,
    method: Method,
    *,
    n_processes: int = 1,
    keep_going: bool = False,
    retry: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Labelling:
    """Label all structures of some files and write them, in their order, to one extended XYZ file.

    Args:
        structures: files of structures, those of extended XYZ with any number of frames. Labels that are in them are
            dropped, groups (``config_type``) kept.
        out: the file to write. Beside it stand ``<out>.part/`` until all is done, and afterwards a record of what was
            labelled and how (the same name with the ending .json).
        method: what gives the labels.
        n_processes: structures that are computed at the same time; with more than one, each uses one thread of torch.
        keep_going: write the output although some structures have no label, without them.
        retry: try structures that failed in an earlier call once more.
        progress: called after each structure.
        tell: called with remarks for the user.

    Raises:
        InputError: for structures and methods that cannot be used, or others than those that were begun with.
        SimulationError: when structures have no label and `keep_going` is not set; the labels of the others are kept.
        Stopped: on a signal, or a file STOP in ``<out>.part``; the same call continues.
        InUseError: when another process labels into the same file.
        StorageError: when something cannot be written, or the output exists and is something else.
    """
    out = _checked_output(Path(out))
    frames = read_structures(structures)
    plan = {"structures": _identity(frames), "method": method.identity()}
    part = out.with_name(out.name + ".part")
    if (finished := _finished(out, part, plan)) is not None:
        if retry and finished.failures:
            raise InputError(
                f"{out} was written without the {len(finished.failures)} structures that failed. Label them alone into "
                f"another file, or remove {out} and {finished.record} to label all again."
            )
        tell(f"{out} is complete; nothing is left to do.")
        _leave(part)
        return finished
    check_free(part)  # a folder of somebody else is not even locked
    with reserved(part):
        if (finished := _finished(out, part, plan)) is not None:  # by the process that held the lock before
            clear(part)
            return finished
        journal = open_journal(part, plan, [len(frame.atoms) for frame in frames])
        try:
            _tell_what_was_found(journal, retry, tell)
            n_before = len(journal.records)
            _compute(frames, method, journal, n_processes, progress)
        finally:
            journal.close()
            shutil.rmtree(part / SCRATCH, ignore_errors=True)
            if not journal.records:  # nothing that the next command, which may be another one, should find
                clear(part)
        result = _hand_out(frames, structures, journal, plan, method, out, keep_going, len(frames) - n_before)
        clear(part)
    return result


def _checked_output(out: Path) -> Path:
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"--out {out}: labels are written as extended XYZ. Give a name with the ending .extxyz.")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder. Give the name of a file, e.g. {out / 'labelled.extxyz'}.")
    return out


def _record_of(out: Path) -> Path:
    return out.with_suffix(".json")


def _identity(frames: Sequence[LabelledFrame]) -> dict[str, Any]:
    """Number and digest of the structures, whatever the names of their files."""
    digest = hashlib.sha256()
    for frame in frames:
        atoms = frame.atoms
        digest.update(f"{len(atoms)} {frame.group}\0".encode())
        for values in (atoms.numbers.astype("<i8"), atoms.positions, atoms.cell.array, np.asarray(atoms.pbc)):
            digest.update(np.ascontiguousarray(values).tobytes())
    return {"n": len(frames), "digest": digest.hexdigest()}


def _finished(out: Path, part: Path, plan: Mapping[str, Any]) -> Labelling | None:
    """What an earlier call has completed; None when there is something left to do.

    Raises:
        StorageError: when the output is something else, or was changed.
    """
    if begun(part) is not None:
        return None
    record = _record_of(out)
    if not out.exists() and not record.exists():
        return None
    try:
        entries = json.loads(record.read_text(encoding="utf-8"))
        known = {key: entries.get(key) for key in _FORMAT} == _FORMAT
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        there = out if out.exists() else record
        raise StorageError(f"{there} exists already and no record tells what it is. Give another --out, or remove it.")
    if different := differences(entries["plan"], plan):
        raise StorageError(f"{out} was labelled with something else: {different}. Give another --out, or remove it.")
    if not out.exists() or sha256(out) != entries["sha256"]:
        state = "was changed since it was written" if out.exists() else "is not there any more"
        raise StorageError(f"{out} {state}. Give another --out, or remove it and {record} to label again.")
    failures = tuple(Failure(**one) for one in entries["failed"])
    return Labelling(out, record, entries["n_labelled"], failures, 0)


def _tell_what_was_found(journal: Journal, retry: bool, tell: Callable[[str], None]) -> None:
    if journal.n_damaged:
        tell(f"{journal.n_damaged} records in {journal.folder} are damaged; these structures are computed again.")
    if journal.records:
        tell(f"Continuing: {len(journal.records):,} structures are done.")
    if retry:
        journal.forget_failures()


def _compute(
    frames: Sequence[LabelledFrame], method: Method, journal: Journal, n_processes: int,
    progress: Callable[[Progress], None],
) -> None:  # fmt: skip
    """Fill the journal."""
    todo = deque(number for number in range(len(frames)) if number not in journal.records)
    if not todo:
        return
    with stop_requests(journal.folder / STOP) as request:
        crew = _Crew(frames, method.rooted(), journal, todo, min(n_processes, len(todo)))
        try:
            crew.work(request, progress)
        finally:
            end(crew.workers)


class _Crew:
    """Processes, what each is doing, and what is left to do."""

    def __init__(
        self, frames: Sequence[LabelledFrame], method: Method, journal: Journal, todo: deque[int], n_processes: int
    ) -> None:
        self.frames, self.journal, self.todo = frames, journal, todo
        self._deaths: Counter[int] = Counter()
        self._n_failed = sum(isinstance(record, str) for record in journal.records.values())
        by_elements = {frozenset(frame.atoms.numbers.tolist()): frame for frame in reversed(frames)}
        compositions = tuple((one.source, one.atoms.get_chemical_symbols()) for one in by_elements.values())
        self._order = (method, compositions, n_processes == 1)
        shutil.rmtree(journal.folder / SCRATCH, ignore_errors=True)
        self.workers: list[Worker] = []
        for _ in range(n_processes):
            self._hire()

    def work(self, request: StopRequest, progress: Callable[[Progress], None]) -> None:
        """Go on until every structure has its record."""
        began, n_before = time.monotonic(), len(self.journal.records)
        n_known = -1
        while len(self.journal.records) < len(self.frames):
            if reason := request.reason():
                (self.journal.folder / STOP).unlink(missing_ok=True)
                raise Stopped(
                    f"labelling was stopped by {reason} after {len(self.journal.records):,} of {len(self.frames):,} "
                    "structures, which are kept. The same command continues."
                )
            by_connection = {worker.connection: worker for worker in self.workers}
            for connection in wait(list(by_connection), _LOOK):
                self._attend(by_connection[connection])  # type: ignore[index]
            if len(self.journal.records) != n_known:
                n_known = len(self.journal.records)
                progress(self._progress(n_known - n_before, time.monotonic() - began))

    def _progress(self, n_new: int, seconds: float) -> Progress:
        done, total = len(self.journal.records), len(self.frames)
        return Progress(done, total, self._n_failed, seconds / n_new * (total - done) if n_new else None)

    def _attend(self, worker: Worker) -> None:
        """Take a worker's answer and give it the next structure."""
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if isinstance(answer, Refused):
            raise getattr(errors, answer.error)(answer.message)
        if isinstance(answer, Ready):
            worker.ready = True
        elif worker.task is not None:
            self._keep(worker.task, answer, worker.folder)
            worker.task = None
        if self.todo:
            number = self.todo.popleft()
            worker.ask(number, self.frames[number].atoms)

    def _bury(self, worker: Worker) -> None:
        """Another worker takes the place of one that died; a structure is given up when two died of it."""
        self.workers.remove(worker)
        end([worker])
        if not worker.ready:
            raise SimulationError(
                f"the process that loads {self._order[0].name} {worker.how_it_ended()} before it computed anything. "
                f"Its last words:\n{worker.last_words()}"
            )
        number = worker.task
        if number is not None:
            self._deaths[number] += 1
            if self._deaths[number] < N_ATTEMPTS:
                self.todo.appendleft(number)
            else:
                times = "twice" if N_ATTEMPTS == 2 else f"{N_ATTEMPTS} times"
                self._keep(number, f"the process that computed it {worker.how_it_ended()}, {times}", worker.folder)
        if self.todo:
            self._hire()

    def _hire(self) -> None:
        method, compositions, alone = self._order
        place = self.journal.folder / SCRATCH
        place.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="process", dir=place)).absolute()
        self.workers.append(start(Order(method, compositions, folder, os.getpid(), alone)))

    def _keep(self, number: int, record: Record, folder: Path) -> None:
        """Write a record; what a structure without a label left behind is kept beside it."""
        if isinstance(record, str) and (folder / str(number)).exists():
            place = self.journal.folder / FAILED / str(number)
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(exist_ok=True)
            with suppress(OSError):
                (folder / str(number)).replace(place)
        self._n_failed += isinstance(record, str)
        self.journal.add(number, record)


def _hand_out(
    frames: Sequence[LabelledFrame], files: Sequence[Path | str], journal: Journal, plan: Mapping[str, Any],
    method: Method, out: Path, keep_going: bool, n_new: int,
) -> Labelling:  # fmt: skip
    """Write the output and its record, each at once."""
    labelled, failures = [], []
    for number, frame in enumerate(frames):
        record = journal.records[number]
        if isinstance(record, Label):
            labelled.append(
                LabelledFrame(frame.atoms, record.energy, record.forces, record.stress, frame.group, frame.source)
            )
        else:
            failures.append(Failure(frame.source, record))
    if failures and (not keep_going or not labelled):
        raise SimulationError(_about(failures, len(frames), journal.folder))
    content = journal.folder / OUTPUT
    try:
        write_labelled(content, labelled)
    except InputError as error:
        raise StorageError(f"{error} The labels are kept; the same command writes them.") from None
    with content.open("rb") as file:
        os.fsync(file.fileno())
    digest = sha256(content)
    if out.exists() and sha256(out) != digest:
        raise StorageError(f"{out} was written by something else meanwhile. Move it away; the same command continues.")
    content.replace(out)
    sync_folder(out.parent)
    entries = _FORMAT | {
        "output": out.name, "sha256": digest, "n_labelled": len(labelled),
        "failed": [{"structure": one.structure, "message": one.message} for one in failures],
        "conventions": CONVENTIONS, "plan": plan,
        "files": [{"path": str(path), "sha256": sha256(Path(path))} for path in files if Path(path).is_file()],
        **method.provenance(),
        "versions": {"mlmd": mlmd.__version__, "ase": version("ase"), "python": platform.python_version()},
    }  # fmt: skip
    write_atomically(_record_of(out), json.dumps(entries, indent=1, ensure_ascii=False).encode() + b"\n")
    return Labelling(out, _record_of(out), len(labelled), tuple(failures), n_new)


def _about(failures: Sequence[Failure], n_structures: int, part: Path) -> str:
    """Which structures have no label and why, and what to do."""
    lines = [f"  {one.structure}: {one.message}" for one in failures[:_N_SHOWN]]
    if len(failures) > _N_SHOWN:
        lines.append(f"  and {len(failures) - _N_SHOWN:,} more")
    kept = f"The labels of the others are kept in {part}. " if len(failures) < n_structures else ""
    go_on = "--keep-going to write the others, " if kept else ""
    files = f" What their calculators printed and left is in {part / FAILED}." if (part / FAILED).exists() else ""
    return (
        f"{len(failures):,} of {n_structures:,} structures have no label:\n" + "\n".join(lines) + f"\n{kept}The same "
        f"command with {go_on}--retry to try these again.{files}"
    )


def _leave(part: Path) -> None:
    """Remove what a killed process left behind when its labels were written; another one may be just doing that."""
    if part.is_dir():
        with suppress(InUseError, StorageError):
            check_free(part)
            with reserved(part):
                clear(part)
