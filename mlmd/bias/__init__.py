"""Biases: what acts on all atoms of a stage besides the potential. PLUMED is known here, and only here.

`Bias` is what the engine knows of one; PLUMED scripts (`plumed`), adaptive biasing forces (`adaptive`) and
hyperdynamics (`hyperdynamics`) are such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from mlmd.errors import SimulationError


class BiasFailure(SimulationError):
    """A bias could not be computed, whatever the potential says."""


class Bias(Protocol):
    """What acts on all atoms besides the potential: computed as often as asked, updated once per step.

    In the course of a stage: it is set up, given back what it remembers (`restore`), passes the first step again where
    its files have that step already, opens its files, and is updated step by step. At a checkpoint what it has written
    is made durable (`commit`), the step is updated, what should be there is looked at (`finish`), and its `state` is
    kept. Where a method says what "most" do, a bias that does the same need not have it.
    """

    name: str
    """Under which a checkpoint remembers it; two stages whose biases have one name go on with one memory."""
    restarted: bool
    """Whether it goes on with files of an earlier start."""
    pending: bool
    """Whether a configuration was computed that has not been updated."""
    independent: bool = False
    """Whether nothing of the potential matters to it, neither its answer nor that it is asked at the same time."""

    def compute(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> float:
        """Add the bias to forces and virial.

        Args:
            step: global step.
            positions: (n_atoms, 3) Å, unwrapped, C order.
            cell: (3, 3) Å, zero rows where not periodic.
            energy: of the potential, eV; nan where the bias is `independent` and it is not known yet.
            forces: (n_atoms, 3) eV/Å, of the potential or, where the bias is `independent`, zeros; changed in place.
            virial: (3, 3) eV, Σ r ⊗ dE/dr, likewise.

        Returns:
            The bias energy, eV.
        """
        ...

    def update(self) -> None:
        """Let the configuration computed last be that of a step: once per step."""
        ...

    def begins(self) -> str:
        """What it is, in words, when its first step was updated."""
        ...

    def loses(self, *, resumed: bool) -> Iterator[str]:
        """What is not as it was where it goes on, in words; `resumed` from a checkpoint, or from a stage before.

        Most lose nothing.
        """
        yield from ()

    def measures(self, step: int) -> Mapping[str, float]:
        """Names of columns of the log -> what stands there at a global step; most have none."""
        return {}

    def ends(self, step: int) -> str | None:
        """What it has to say of a stage that has ended at a global step; most have nothing."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """What it remembers and no file of its keeps, exact, after `update`; most remember nothing."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray], *, same_stage: bool) -> None:
        """Continue from a `state` of this stage, or of one before."""
        return

    def open(self, folder: Path, step: int) -> None:
        """Begin to write into a run folder, from a global step on."""
        ...

    def commit(self) -> None:
        """Make durable what mlmd, and not PLUMED, has written for it; most have nothing of this kind."""
        return

    def finish(self, step: int) -> None:
        """See that everything is written until a global step, which was updated.

        Raises:
            StorageError: when something is missing.
        """
        ...

    def close(self) -> None:
        """Close its files."""
        ...


def memory_of(bias: Bias | None) -> dict[str, np.ndarray]:
    """What a checkpoint keeps of a bias: its state, under its name."""
    return {} if bias is None else {f"bias/{bias.name}/{key}": array for key, array in bias.state().items()}


def recall(bias: Bias, memory: Mapping[str, np.ndarray], *, same_stage: bool) -> None:
    """Give a bias back what it remembered, of this stage or one before, where there is anything."""
    start = f"bias/{bias.name}/"
    state = {name.removeprefix(start): array for name, array in memory.items() if name.startswith(start)}
    if state:
        bias.restore(state, same_stage=same_stage)
