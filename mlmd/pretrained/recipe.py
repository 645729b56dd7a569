"""How a calculator of somebody else is made, and what is said when that fails."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.errors import InputError, SimulationError
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
    keeps: bool = False
    """Whether the calculator is told what has changed since the last step, so that it may keep the rest, such as lists
    of neighbours; else it is told that all has. What is kept may change the last digits, and so exact restarts."""
    install: str | None = None
    """What a user types to install the framework."""
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

    def on(self, device: str) -> dict[str, Any]:
        """The arguments, with the device where it is taken."""
        return {**self.arguments, "device": device} if self.moves else dict(self.arguments)

    def to_open(self, device: str) -> list[Any]:
        """What another process is told."""
        return [self.target, self.on(device), self.keeps, dict(self.info)]

    def failed(self, why: str) -> InputError:
        """What is told when it cannot be made."""
        where = f" in {self.python}" if self.python else ""
        hint = ""
        if self.install and "there is no module" in why:
            pip = f"{self.python} -m pip install" if self.python else "pip install"
            hint = f" Install it: {pip} {self.install}."
            why = why.partition(": pip install")[0]
        return InputError(f"{self.name}{where}: {why.rstrip('.')}.{hint}")


def failed(recipe: Recipe, why: str) -> SimulationError:
    """A calculator that does not like a structure."""
    return SimulationError(f"the potential failed ({recipe.name}): {why}")


def interpreter(python: str | None) -> str | None:
    """The Python of another environment, as its file; its links are not followed, since they tell the environment.

    Raises:
        InputError: when there is none, or it is a script.
    """
    if python is None:
        return None
    found = shutil.which(python) if isinstance(python, str) else None
    example = "Give the interpreter of an environment, e.g. env/bin/python."
    if found is None:
        raise InputError(f"python: {python}: no such program. {example}")
    with Path(found).open("rb") as file:
        if file.read(2) == b"#!":
            raise InputError(f"python: {python} is a script, not an interpreter. {example}")
    return str(Path(found).absolute())
