"""Adaptive biasing forces around PLUMED: it computes variables, what `extended` and `plain` collect acts on them.

What they have collected goes into tables, which somebody else writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlmd import units
from mlmd.bias import Bias
from mlmd.bias.extended import EXTENDED, ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.bias.plumed import PlumedBias
from mlmd.bias.script import Script
from mlmd.bias.shared import Walker
from mlmd.bias.write import statements_of


class Tables(Protocol):
    """The files that tell what was collected."""

    def add(self, abf: ExtendedABF | PlainABF, step: int) -> None:
        """Add to what is kept of earlier steps where something is due; called once for each step."""
        ...

    def renew(self, abf: ExtendedABF | PlainABF) -> None:
        """Write what was collected until now."""
        ...


class _Adaptive(Bias):
    """What both have in common."""

    def __init__(self, plumed: PlumedBias, abf: Any, tables: Tables, walker: Walker | None) -> None:
        self._plumed, self.abf, self._tables, self._walker = plumed, abf, tables, walker
        self.name, self.restarted, self.independent = plumed.name, plumed.restarted, plumed.independent
        self._step = -1

    def update(self) -> None:
        """Let PLUMED deposit and print, and collect forces, for the configuration computed last: once per step."""
        if not self._plumed.pending:
            return
        self._plumed.update()
        if self._step > self.abf.last_step:
            self.abf.update(self._step)
            self._tables.add(self.abf, self._step)
            if self._walker is not None:
                self._walker.update(self._step)

    def state(self) -> dict[str, np.ndarray]:
        """What the ABF has collected, and what moves with it; and what PLUMED forgets."""
        return {**self._plumed.state(), **self.abf.state()}

    def restore(self, state: Mapping[str, np.ndarray], *, same_stage: bool) -> None:
        """Continue from a `state`, in which stage it may have been made."""
        self._plumed.restore(state, same_stage=same_stage)
        self.abf.restore(state)

    def ends(self, step: int) -> str | None:
        """PLUMED's words."""
        return self._plumed.ends(step)

    @property
    def plumed(self) -> PlumedBias:
        """What computes the variables, and whatever else the script says."""
        return self._plumed

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """PLUMED's."""
        return self._plumed.pending

    def begins(self) -> str:
        """PLUMED's words."""
        return self._plumed.begins()

    def loses(self, *, resumed: bool) -> Iterator[str]:
        """What PLUMED loses; and what other walkers have collected meanwhile acts here at once."""
        yield from self._plumed.loses(resumed=resumed)
        if resumed and self._walker is not None:
            yield (
                f"what the walkers in {self._walker.folder} have collected by now acts from here on: the run continues "
                "statistically"
            )

    def open(self, folder: Path, step: int) -> None:
        """As PLUMED does."""
        self._plumed.open(folder, step)

    def finish(self, step: int) -> None:
        """See that PLUMED has written what it should have, renew the table, and leave it to other walkers."""
        self._plumed.finish(step)
        self._tables.renew(self.abf)
        if self._walker is not None:
            self._walker.leave()

    def close(self) -> None:
        """Close PLUMED's files."""
        self._plumed.close()


def plumed_of(bias: Bias | None) -> PlumedBias | None:
    """The PLUMED in a bias; None where there is none."""
    return bias.plumed if isinstance(bias, _Adaptive) else bias if isinstance(bias, PlumedBias) else None


class ExtendedBias(_Adaptive):
    """PLUMED with extended variables, which it knows as values that are PUT."""

    def __init__(self, script: Script, abf: ExtendedABF, tables: Tables, walker: Walker | None, **options: Any) -> None:
        """`options` are those of `PlumedBias`."""
        puts = {
            one.label + EXTENDED: (abf.values[n : n + 1], abf.forces[n : n + 1]) for n, one in enumerate(abf.dimensions)
        }
        gets = {one.label: abf.xi[n : n + 1] for n, one in enumerate(abf.dimensions)}
        super().__init__(PlumedBias(script, puts=puts, gets=gets, **options), abf, tables, walker)
        self._placed = False

    def compute(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> float:
        """As `PlumedBias.compute`; the springs are part of the energy."""
        if not self._placed:
            # a first time, or after steps without this bias, the extended variables begin where the variables are
            if step > self.abf.last_step + 1 or not self.abf.begun:
                self._plumed.compute(step, positions, cell, energy, np.zeros_like(positions), np.zeros((3, 3)))
                self.abf.begin()
            self._placed = True
        self._step = step
        return self._plumed.compute(step, positions, cell, energy, forces, virial)


class PlainBias(_Adaptive):
    """PLUMED, and a second one that knows the variables alone and tells their gradients."""

    def __init__(
        self, script: Script, abf: PlainABF, tables: Tables, walker: Walker | None, variables: str, **options: Any
    ) -> None:
        """`variables` are the lines that define them; `options` are those of `PlumedBias`."""
        super().__init__(PlumedBias(script, **options), abf, tables, walker)
        n = len(abf.dimensions)
        self._weights, unused = np.zeros(n), np.zeros(n)
        lines, puts = [variables], {}
        for number, one in enumerate(abf.dimensions):
            weight = f"{one.label}_weight"
            lines.append(
                f"{weight}: PUT UNIT=number SHAPE=0 PERIODIC=NO MUTABLE\n"
                f"{one.label}_weighted: CUSTOM ARG={one.label},{weight} FUNC=x*y PERIODIC=NO\n"
                f"BIASVALUE ARG={one.label}_weighted\n"
            )
            puts[weight] = (self._weights[number : number + 1], unused[number : number + 1])
        gets = {one.label: abf.xi[number : number + 1] for number, one in enumerate(abf.dimensions)}
        probe = Script(Path(script.path.name), statements_of(script.path.name, "".join(lines)))
        self._probe = PlumedBias(probe, puts=puts, gets=gets, **(options | {"log": None, "restart": False}))

    def compute(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> float:
        """As `PlumedBias.compute`; the adaptive force has no energy."""
        n = len(self._weights)
        slopes, virials = np.zeros((n, *positions.shape)), np.zeros((n, 3, 3))
        for number in range(n):
            self._weights[:] = 0.0
            self._weights[number] = 1.0
            self._probe.compute(step, positions, cell, 0.0, slopes[number], virials[number])
        # PLUMED gave the forces of the energy 1 kJ/mol per unit of the variable
        along = self.abf.look(slopes / -units.EV_PER_KJMOL)
        self._step = step
        bias = self._plumed.compute(step, positions, cell, energy, forces, virial)
        forces -= np.tensordot(along, slopes, 1)
        virial -= np.tensordot(along, virials, 1)
        return bias

    def close(self) -> None:
        """Close the files of both."""
        super().close()
        self._probe.close()
