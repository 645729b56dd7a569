"""Adaptive biasing forces around PLUMED: it computes variables, what `extended` and `plain` collect acts on them.

Both behave to the engine as `PlumedBias` does: computed as often as asked, updated once per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlmd import units
from mlmd.bias.extended import EXTENDED, ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.bias.plumed import PlumedBias
from mlmd.bias.script import Script
from mlmd.bias.write import statements_of


class _Adaptive:
    """What both have in common."""

    def __init__(self, plumed: PlumedBias, abf: Any) -> None:
        self._plumed, self.abf = plumed, abf
        self.script, self.restarted, self.kernel = plumed.script, plumed.restarted, plumed.kernel
        self.record: Callable[[int], None] = lambda step: None
        """Called once for each step that was collected, with the step."""
        self._step = -1

    def update(self) -> None:
        """Let PLUMED deposit and print, and collect forces, for the configuration computed last: once per step."""
        if not self._plumed.pending:
            return
        self._plumed.update()
        if self._step > self.abf.last_step:
            self.abf.update(self._step)
            self.record(self._step)

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint needs of it, after `update`."""
        found: dict[str, np.ndarray] = self.abf.state()
        return found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.abf.restore(state)

    @property
    def pending(self) -> bool:
        """Whether a configuration was computed that has not been updated."""
        return self._plumed.pending

    @property
    def version(self) -> str:
        """PLUMED's."""
        return self._plumed.version


class ExtendedBias(_Adaptive):
    """PLUMED with extended variables, which it knows as values that are PUT."""

    def __init__(self, script: Script, abf: ExtendedABF, **options: Any) -> None:
        """`options` are those of `PlumedBias`."""
        puts = {
            one.label + EXTENDED: (abf.values[n : n + 1], abf.forces[n : n + 1]) for n, one in enumerate(abf.dimensions)
        }
        gets = {one.label: abf.xi[n : n + 1] for n, one in enumerate(abf.dimensions)}
        super().__init__(PlumedBias(script, puts=puts, gets=gets, **options), abf)
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

    def close(self) -> None:
        """Close PLUMED's files."""
        self._plumed.close()


class PlainBias(_Adaptive):
    """PLUMED, and a second one that knows the variables alone and tells their gradients."""

    def __init__(self, script: Script, abf: PlainABF, variables: str, **options: Any) -> None:
        """`variables` are the lines that define them; `options` are those of `PlumedBias`."""
        super().__init__(PlumedBias(script, **options), abf)
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
        """Close PLUMED's files."""
        self._plumed.close()
        self._probe.close()
