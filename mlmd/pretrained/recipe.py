"""How a calculator of somebody else is made, and what is said when that fails."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained import serve

Found = tuple[float, np.ndarray, np.ndarray | None]
"""Energy (eV), forces (n_atoms, 3) eV/Å, and stress (3, 3) eV/Å³ or None."""


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
    keeps: bool | Literal["lists"] = False
    """Whether the calculator is told what has changed since the last step, so that it may keep the rest, such as lists
    of neighbours; else it is told that all has. What is kept may change the last digits, and so exact restarts; where
    only lists may be kept, it does not (`mlmd.pretrained.window`)."""
    partly_periodic: bool = True
    """Whether it computes what is periodic in some directions; else it is not asked about that, since frameworks that
    do not look at it take such a structure for something else."""
    install: str | None = None
    """What a user types after ``pip install`` to have the framework; what needs another line stands after " && "."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What calculators read in ``atoms.info``, such as charge and spin."""

    @property
    def target(self) -> str:
        """What `mlmd.pretrained.serve.build` is asked for."""
        own = Path(serve.__file__).with_name(f"{self.kind}.py")
        return self.calculator if self.calculator is not None else f"{own}:calculator"

    @property
    def name(self) -> str:
        """For a person."""
        return self.calculator if self.calculator is not None else self.kind

    @property
    def may_change_folder(self) -> bool:
        """Whether it may change the current folder of this process while it computes, as some do that write files."""
        return self.kind == "ase" and self.python is None

    @property
    def library(self) -> str:
        """The package of the framework, whose version tells which numbers to expect; empty where there is none."""
        words = [word for word in (self.install or "").split() if not word.startswith("-")]
        return words[0].partition("==")[0] if words else ""

    def on(self, device: str) -> dict[str, Any]:
        """The arguments, with the device where it is taken."""
        return {**self.arguments, "device": device} if self.moves else dict(self.arguments)

    def to_open(self, device: str, n_threads: int) -> list[Any]:
        """What another process is told."""
        return [self.target, self.on(device), bool(self.keeps), dict(self.info), n_threads]

    def failed(self, why: str, *, file: bool = False) -> InputError | ModelError:
        """What is told when it cannot be made; `file` where that may be for the file of weights, if one is given."""
        where = f" in {self.python}" if self.python else ""
        hint = ""
        if self.install and "there is no module" in why:
            pip = f"{self.python} -m pip install" if self.python else "pip install"
            lines = " && ".join(f"{pip} {line}" for line in self.install.split(" && "))
            other = "" if self.python else ' With python = "env/bin/python" it runs in another environment that has it.'
            hint = f"{other} Install it: {lines}."
            why = why.partition(": pip install")[0]
        elif file and "path" in self.arguments and self.calculator is None:
            why = why.rstrip(".")
            return ModelError(f"{self.name}{where}: {why}. Is the file whole, and one of this framework?")
        return InputError(f"{self.name}{where}: {why.rstrip('.')}.{hint}")


def failed(recipe: Recipe, why: str) -> SimulationError:
    """A calculator that does not like a structure."""
    return SimulationError(f"the potential failed ({recipe.name}): {why.rstrip('.')}.")


_CALLED = re.compile(r"(python|pypy)[\d.]*t?(\.exe)?", re.IGNORECASE)
"""Names of interpreters."""
_QUESTION = "import sys; print('Python', *sys.version_info[:2])"
_OLDEST = (3, 10)
"""Version that `mlmd.pretrained.serve` needs."""
_PATIENCE = 120.0
"""Seconds until an interpreter, perhaps of a slow file system, has told its version."""
_EXAMPLE = "Give the interpreter of an environment, e.g. env/bin/python."


def interpreter(python: str | None) -> str | None:
    """The Python of another environment, as its file; its links are not followed, since they tell the environment.

    It is a program that an input starts. So nothing is started unless it is called like an interpreter (also where its
    links lead), is no script, and nobody but its owner and its group may write to it; and then it has to answer as one.
    What its environment holds is trusted as all that is installed: who is given an input together with an environment
    is given a program.

    Raises:
        InputError: when there is none, or it is something else.
    """
    if python is None:
        return None
    found = shutil.which(python) if isinstance(python, str) else None
    if found is None:
        raise InputError(f"python: {python}: no such program. {_EXAMPLE}")
    file = Path(found).resolve()
    with file.open("rb") as stream:
        if stream.read(2) == b"#!":
            raise InputError(f"python: {python} is a script, not an interpreter. {_EXAMPLE}")
    if not _CALLED.fullmatch(file.name):
        raise InputError(f"python: {python} is the program {file}, which is not called as an interpreter. {_EXAMPLE}")
    if file.stat().st_mode & stat.S_IWOTH:
        raise InputError(f"python: {file} may be changed by everybody, so it is not started. Run: chmod o-w {file}")
    _check_answer(python, found)
    return str(Path(found).absolute())


def _check_answer(python: str, found: str) -> None:
    """Make sure that a program is Python, of a version that will do.

    Raises:
        InputError: when it is not.
    """
    try:
        done = subprocess.run(
            [found, "-I", "-c", _QUESTION], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
        said = (done.stdout.strip() or done.stderr.strip() or f"nothing, with exit code {done.returncode}")[:200]
    except OSError as error:
        raise InputError(f"python: {python} cannot be started: {error.strerror}. {_EXAMPLE}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"python: {python} did not tell its version in {_PATIENCE:g} s. {_EXAMPLE}") from None
    version = re.fullmatch(r"Python (\d+) (\d+)", said)
    if version is None:
        raise InputError(f"python: {python} is no interpreter: asked for its version it said {said!r}. {_EXAMPLE}")
    if (own := tuple(map(int, version.groups()))) < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise InputError(f"python: {python} is Python {own[0]}.{own[1]}; {needed} or later is needed.")
