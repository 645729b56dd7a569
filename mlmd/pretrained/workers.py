"""Who computes: a calculator in this process, or one in a process of another Python, over shared memory."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes

from mlmd.errors import InputError, SimulationError
from mlmd.pretrained import serve

Found = tuple[float, np.ndarray, np.ndarray | None]
"""Energy (eV), forces (n_atoms, 3) eV/Å, and stress (3, 3) eV/Å³ or None."""
_LAST_WORDS = 1500
"""Characters of what a process said before it ended."""
_PATIENCE = 5.0
"""Seconds that a process has to end by itself."""


@dataclass(frozen=True)
class Recipe:
    """How a calculator is made."""

    kind: str
    """Of the potential: "ase", or a framework, which has a file of this name beside this one."""
    calculator: str | None = None
    """Of kind "ase": ``module:name``, or ``/folder/file.py:name``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of the calculator, JSON-able."""
    python: str | None = None
    """The interpreter of another environment; None for this process."""
    moves: bool = False
    """Whether the calculator takes ``device``."""
    keeps: bool = True
    """Whether the calculator is told what has changed since the last step, so that it may keep the rest, such as lists
    of neighbours; else it is told that all has. What is kept may change the last digits, and so exact restarts."""
    install: str | None = None
    """What a user types to install the framework."""

    @property
    def target(self) -> str:
        """What `mlmd.pretrained.serve.build` is asked for."""
        own = Path(serve.__file__).with_name(f"{self.kind}.py")
        return self.calculator if self.calculator is not None else f"{own}:calculator"

    @property
    def name(self) -> str:
        """For a person."""
        return self.calculator if self.calculator is not None else self.kind

    def on(self, device: str) -> dict[str, Any]:
        """The arguments, with the device where it is taken."""
        return {**self.arguments, "device": device} if self.moves else dict(self.arguments)

    def failed(self, why: str) -> InputError:
        """What is told when it cannot be made."""
        where = f" in {self.python}" if self.python else ""
        hint = ""
        if self.install and "there is no module" in why:
            pip = f"{self.python} -m pip install" if self.python else "pip install"
            hint = f" Install it: {pip} {self.install}."
            why = why.partition(": pip install")[0]
        return InputError(f"{self.name}{where}: {why.rstrip('.')}.{hint}")


def interpreter(python: str | None) -> str | None:
    """The Python of another environment, as its file; its links are not followed, since they tell the environment.

    Raises:
        InputError: when there is none.
    """
    if python is None:
        return None
    found = shutil.which(python) if isinstance(python, str) else None
    if found is None:
        where = "env/bin/python"
        raise InputError(f"python: {python}: no such program. Give the interpreter of an environment, e.g. {where}.")
    return str(Path(found).absolute())


class Worker(Protocol):
    """Something that computes."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the calculator tells of itself."""
        ...

    def ask(self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Found:
        """Energy, forces and stress of one structure.

        Raises:
            SimulationError: when the calculator fails.
        """
        ...


def worker(recipe: Recipe, device: str) -> Worker:
    """Somebody who computes by a recipe.

    Raises:
        InputError: when the calculator cannot be made.
    """
    return Here(recipe, device) if recipe.python is None else Elsewhere(recipe, device)


class Here:
    """A calculator in this process."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        """Find and build it."""
        try:
            self._calculator = serve.build(recipe.target, recipe.on(device))
            self.facts = serve.facts(recipe.target, self._calculator)
        except serve.Unusable as error:
            raise recipe.failed(str(error)) from None
        self._recipe = recipe
        self._system: tuple[bytes, bytes] | None = None
        self._atoms = Atoms()
        self._changes = tuple(all_changes)

    def ask(self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Found:
        """Energy, forces and stress of one structure."""
        if (system := (numbers.tobytes(), pbc.tobytes())) != self._system:
            self._atoms, self._system = Atoms(numbers=numbers, pbc=pbc), system
            self._changes = tuple(all_changes)
        self._atoms.set_cell(cell)
        self._atoms.set_positions(positions)
        try:
            energy, forces, stress = serve.ask(self._calculator, self._atoms, self._changes)
        except Exception as error:  # whatever a calculator does with a structure that it does not like
            raise _failed(self._recipe, serve.reason(error)) from error
        if forces is None:
            raise _failed(self._recipe, "the calculator gives no forces")
        if self._recipe.keeps:
            self._changes = serve.MOVED
        return energy, forces, stress


class Elsewhere:
    """A calculator in a process of another Python, which ends with this one."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        """Start the process and let it build the calculator."""
        self._recipe = recipe
        self._folder = Path(tempfile.mkdtemp(prefix="mlmd-model-"))
        self._system: tuple[bytes, bytes] | None = None
        self._said = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by `_end`
        self._process = self._start(str(recipe.python))
        try:
            answer = self._send(json.dumps({"open": [recipe.target, recipe.on(device), recipe.keeps]}).encode())
        except SimulationError as error:
            raise recipe.failed(str(error)) from None
        if "error" in answer:
            raise recipe.failed(answer["error"])
        self.facts = answer["facts"]

    def ask(self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Found:
        """Energy, forces and stress of one structure."""
        if (system := (numbers.tobytes(), pbc.tobytes())) != self._system:
            self._share(numbers, pbc)
            self._system = system
        shared = self._shared
        shared.cell[:], shared.positions[:] = cell, positions
        answer = self._send(b"")
        if "error" in answer:
            raise _failed(self._recipe, answer["error"])
        stress = shared.stress.copy() if shared.known[0] else None
        return float(shared.energy[0]), shared.forces.copy(), stress

    def _share(self, numbers: np.ndarray, pbc: np.ndarray) -> None:
        """Memory for a system."""
        size = serve.Layout.size(len(numbers))
        fast = Path("/dev/shm")  # memory, where the system shows it as a folder
        place = fast if fast.is_dir() and os.access(fast, os.W_OK) else self._folder
        handle, file = tempfile.mkstemp(prefix="mlmd-shared-", dir=place)
        try:
            with os.fdopen(handle, "r+b") as stream:
                stream.truncate(size)
                self._shared = serve.Layout(mmap.mmap(stream.fileno(), size), len(numbers))
            self._shared.numbers[:], self._shared.pbc[:] = numbers, pbc
            answer = self._send(json.dumps({"system": [len(numbers), file]}).encode())
        finally:  # both have it by now, and need no name for it
            Path(file).unlink()
        if "error" in answer:
            raise _failed(self._recipe, answer["error"])

    def _start(self, python: str) -> subprocess.Popen[bytes]:
        """The process, with its two pipes; what it says goes to a file.

        It does not look at PYTHONPATH and the like, which are meant for the Python that runs here.
        """
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            process = subprocess.Popen(
                [python, "-Eu", serve.__file__, str(theirs_in), str(theirs_out)],
                stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT, cwd=self._folder,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,  # Ctrl-C is for this process alone, which ends the other when it is done
            )  # fmt: skip
        except OSError as error:
            for pipe in (ours_in, ours_out):
                os.close(pipe)
            raise self._recipe.failed(f"python: it cannot be started: {error.strerror}") from None
        finally:
            for pipe in (theirs_in, theirs_out):
                os.close(pipe)
        self._to, self._from = os.fdopen(ours_out, "wb", buffering=0), os.fdopen(ours_in, "rb")
        weakref.finalize(self, _end, process, self._folder, self._to, self._from, self._said)
        return process

    def _send(self, line: bytes) -> dict[str, Any]:
        """One question and its answer."""
        with suppress(BrokenPipeError):
            self._to.write(line + b"\n")
        answer = self._from.readline()
        if not answer:
            raise SimulationError(self._why_ended())
        return json.loads(answer) if len(answer) > 1 else {}

    def _why_ended(self) -> str:
        """What is known of a process that has gone."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code = self._process.returncode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        return f"its process ended {how}" + (f". Its last words:\n{words}" if words else "")


def _end(process: subprocess.Popen[bytes], folder: Path, *files: Any) -> None:
    """Close the pipes, which ends the process; it is killed where it does not listen."""
    for file in files:
        with suppress(OSError):
            file.close()
    try:
        process.wait(_PATIENCE if not sys.is_finalizing() else 0.1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _failed(recipe: Recipe, why: str) -> SimulationError:
    """A calculator that does not like a structure."""
    return SimulationError(f"the potential failed ({recipe.name}): {why}")
