"""A calculator in a process of another Python: questions and answers by two pipes and memory that both share."""

from __future__ import annotations

import errno
import json
import mmap
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlmd.errors import SimulationError, StorageError
from mlmd.potentials.memory import VARIABLES
from mlmd.potentials.trust import Digest, unchanged
from mlmd.pretrained import serve
from mlmd.pretrained.recipe import Found, Recipe, failed

_LAST_WORDS = 1500
"""Characters of what a process said before it ended."""
_PATIENCE = 5.0
"""Seconds that a process has to end by itself."""
_LOOK = 1.0
"""Seconds between two looks whether it still lives, while it computes."""
_MOST_SAID = 2**20
"""Bytes of what it says that are kept, about."""
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_SHARED = Path("/dev/shm")
"""Memory, where the system shows it as a folder."""


@dataclass
class _Process:
    """What has to be given back, however far it came."""

    folder: Path
    """Where it works; it goes with the process."""
    running: subprocess.Popen[bytes] | None = None
    files: list[int] = field(default_factory=list)
    """Descriptors."""

    @property
    def crashed(self) -> bool:
        """Whether it ended by what memory does when it is read wrong, as of a damaged program."""
        return self.running is not None and -(self.running.returncode or 0) in _CRASHES


class Elsewhere:
    """A calculator of another environment. Its process ends with this one, and has as many threads."""

    def __init__(self, recipe: Recipe, device: str, files: Sequence[Digest] = ()) -> None:
        """Start the process and let it build the calculator, of files that are as they were read.

        Raises:
            InputError: when it cannot be made.
            ModelError: when a file has changed, or is not whole.
        """
        self._recipe, self._device, self._files = recipe, device, files
        self.facts: Mapping[str, Any] = {}
        self._close: Callable[[], object] = lambda: None
        self._asking, self._unread, self._n_answers = False, b"", 0
        self._system: tuple[bytes, bytes] | None = None
        self._n_threads = 0
        self._shared: serve.Layout
        self._begin()

    def ask(
        self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray, *, anew: bool
    ) -> Found:
        """As `mlmd.pretrained.workers.Worker.ask`.

        Raises:
            SimulationError: when the calculator fails, or its process has ended.
            StorageError: when there is no memory for a system.
        """
        if self._asking:  # the answer to the last question was not read: an interrupt, after which the user went on
            self._begin()
        if (n_threads := torch.get_num_threads()) != self._n_threads:
            self._answer(json.dumps({"threads": n_threads}).encode())
            self._n_threads = n_threads
        if (system := (numbers.tobytes(), pbc.tobytes())) != self._system:
            self._share(numbers, pbc)
            self._system = system
        elif anew and self._recipe.keeps:
            self._answer(json.dumps({"anew": True}).encode())
        shared = self._shared
        shared.cell[:], shared.positions[:] = cell, positions
        answer = self._answer(b"")
        if "error" in answer:
            raise failed(self._recipe, answer["error"])
        stress = shared.stress.copy() if shared.known[0] else None
        return float(shared.energy[0]), shared.forces.copy(), stress

    def _begin(self) -> None:
        """A new process, in the place of one that there may have been."""
        self._close()
        self._asking, self._unread, self._system = True, b"", None  # until it is made, there is none to be asked
        self._process = _Process(Path(tempfile.mkdtemp(prefix=serve.FOLDER)))
        self._close = weakref.finalize(self, _end, self._process)
        self._said = os.open(self._process.folder / "said", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._process.files.append(self._said)
        self._n_threads = torch.get_num_threads()
        recipe = self._recipe
        with unchanged(self._files):
            self._start(str(recipe.python))
            try:
                answer = self._send(json.dumps({"open": recipe.to_open(self._device, self._n_threads)}).encode())
            except SimulationError as error:
                raise recipe.failed(str(error), file=self._process.crashed) from None
        if "error" in answer:
            self._asking = True
            raise recipe.failed(answer["error"], file=answer["file"])
        self.facts = answer["facts"]

    def _start(self, python: str) -> None:
        """The process, with its two pipes; what it says goes to a file.

        It does not look at PYTHONPATH and the like, which are meant for the Python that runs here.
        """
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._process.files += [self._to, self._from]
        try:
            self._process.running = subprocess.Popen(
                [python, "-Eu", serve.__file__, str(theirs_in), str(theirs_out)],
                stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT, cwd=self._process.folder,
                env={**VARIABLES, **serve.surroundings(self._n_threads)}, pass_fds=(theirs_in, theirs_out),
                start_new_session=True,  # Ctrl-C is for this process alone, which ends the other when it is done
            )  # fmt: skip
        except OSError as error:
            raise self._recipe.failed(f"python: it cannot be started: {error.strerror}") from None
        finally:
            for pipe in (theirs_in, theirs_out):
                os.close(pipe)

    def _share(self, numbers: np.ndarray, pbc: np.ndarray) -> None:
        """Memory for a system."""
        size = serve.Layout.size(len(numbers))
        handle, file = _room(size, self._process.folder)
        try:
            with os.fdopen(handle, "r+b") as stream:
                self._shared = serve.Layout(mmap.mmap(stream.fileno(), size), len(numbers))
            self._shared.numbers[:], self._shared.pbc[:] = numbers, pbc
            answer = self._answer(json.dumps({"system": [len(numbers), str(file)]}).encode())
        finally:  # both have it by now, and need no name for it
            file.unlink()
        if "error" in answer:
            raise failed(self._recipe, answer["error"])

    def _answer(self, line: bytes) -> dict[str, Any]:
        """One question and its answer, in a run."""
        try:
            return self._send(line)
        except SimulationError as error:
            raise failed(self._recipe, str(error)) from None

    def _send(self, line: bytes) -> dict[str, Any]:
        """One question and its answer."""
        self._asking = True
        rest = line + b"\n"
        with suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(self._to, rest) :]
        while b"\n" not in self._unread:
            more = self._read()
            if not more:
                raise SimulationError(self._why_ended())
            self._unread += more
        answer, _, self._unread = self._unread.partition(b"\n")
        self._asking = False
        self._n_answers += 1
        if self._n_answers % 100 == 0 and os.fstat(self._said).st_size > _MOST_SAID:
            os.ftruncate(self._said, 0)
        return json.loads(answer) if answer else {}

    def _read(self) -> bytes:
        """What comes next; nothing when it has ended, also where a child of it still holds its end of the pipe."""
        running = self._process.running
        assert running is not None
        while not select.select([self._from], [], [], _LOOK)[0]:
            if running.poll() is not None and not select.select([self._from], [], [], 0)[0]:
                return b""
        return os.read(self._from, 65536)

    def _why_ended(self) -> str:
        """What is known of a process that has gone."""
        running = self._process.running
        assert running is not None
        with suppress(subprocess.TimeoutExpired):
            running.wait(_PATIENCE)
        code = running.returncode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        end = os.fstat(self._said).st_size
        words = os.pread(self._said, 4 * _LAST_WORDS, max(0, end - 4 * _LAST_WORDS)).decode(errors="replace").strip()
        return f"its process ended {how}" + (f". Its last words:\n{words[-_LAST_WORDS:]}" if words else "")


def _room(size: int, folder: Path) -> tuple[int, Path]:
    """A file of so many bytes that are really there, in memory if it has room.

    Raises:
        StorageError: when there is no room.
    """
    for place in (_SHARED, folder):
        if not (place.is_dir() and os.access(place, os.W_OK)):
            continue
        handle, file = tempfile.mkstemp(prefix="mlmd-shared-", dir=place)
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            os.close(handle)
            Path(file).unlink()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            continue
        return handle, Path(file)
    raise StorageError(f"there is no room for {size / 1e6:,.0f} MB in {_SHARED} or {folder}. Free some.")


def _end(process: _Process) -> None:
    """Close the pipes, which ends the process; it is killed where it does not listen, with all that it has begun."""
    for one in process.files:
        with suppress(OSError):
            os.close(one)
    running = process.running
    if running is not None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(_PATIENCE if not sys.is_finalizing() else 0.1)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    shutil.rmtree(process.folder, ignore_errors=True)
