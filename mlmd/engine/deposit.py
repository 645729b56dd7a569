"""Deposition: who arrives, sticks, bounces and leaves in the course of a stage, and the book that is kept of it.

A stage is a chain of segments of the same atoms, each an ordinary stage of dynamics that its engine takes up anew.
Between them something arrives or is removed. Both happen at steps that depend on nothing else: arrivals on their
schedule, and whoever has left is looked for every `LOOK_EVERY` steps. Random numbers of a segment follow from the seed
and its number, those of an arrival from the seed and its own, so that a continued run is the run that never stopped.

- **stuck**: it has touched the slab, or what has stuck to it (`contact`), without a break for the time `settle`;
- **reflected**: it touched and let go again before that; it may come back and stick;
- **escaped**: it, or an atom of the slab, was removed beyond the ceiling, or below the slab;
- **flying**: none of these, yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.engine.arrivals import Arrival, Plan, arrival, distances, leaving, surface_of
from mlmd.engine.forces import NM
from mlmd.engine.outputs import AppendOnly
from mlmd.engine.present import Present, with_more, without
from mlmd.engine.slab import check_vacuum, in_layer
from mlmd.engine.stage import DynamicsStage, Particles
from mlmd.engine.system import PS
from mlmd.errors import InputError, SimulationError

LOOK_EVERY = 10
"""Steps between looks at who touches, who has left, and who is in the layer that is thermostatted."""
FLYING, STUCK, REFLECTED, ESCAPED, ABSENT = range(5)
FATES = ("flying", "stuck", "reflected", "escaped", "absent")
NEVER = -1
HEADER = "step,time [ps],arrival,what,species,atoms,x [Å],y [Å],z [Å],vx [Å/ps],vy [Å/ps],vz [Å/ps],tries\n"


class DepositFailure(SimulationError):
    """Nothing can arrive any more."""


class Book(AppendOnly):
    """deposition.csv: a row for everything that happens to whatever arrives."""

    def header(self) -> bytes:
        """Names with units."""
        return HEADER.encode()


@dataclass(frozen=True)
class Change:
    """Who is there from now on, and where."""

    present: Present
    particles: Particles


class Deposition:
    """One stage of deposition in its course."""

    def __init__(
        self, plan: Plan, present: Present, seeds: tuple[int, int], path: Path, tell: Callable[[str], None]
    ) -> None:
        """
        Args:
            plan: of the stage.
            present: who is there when it begins, or at its checkpoint.
            seeds: of the run, and the index of the stage.
            path: of the book, which `open_book` opens.
            tell: called with what a person should know.
        """
        self.plan, self.present, self._seeds, self._path, self._tell = plan, present, seeds, path, tell
        self._book: Book | None = None
        self.n_done = 0
        """Arrivals that have had their turn."""
        self.segment = 0
        """Times that the number of atoms has changed."""
        self._judged = NEVER
        """Step at which it was last seen who sticks."""
        self._height = -np.inf
        """z at which things appear, Å; it never goes down."""
        self._of = np.full(present.body.n_atoms, NEVER)
        """(n_atoms,) the arrival that an atom came with."""
        self._since = np.zeros(0, dtype=np.int64)
        """(n_done,) step since which an arrival touches others."""
        self._fate = np.zeros(0, dtype=np.int64)
        """(n_done,) index in `FATES`."""
        self._lost = np.zeros(0, dtype=bool)
        self._layer = np.zeros(present.body.n_atoms, dtype=bool)

    def open_book(self) -> Book:
        """Open the file in which a row is written for everything that happens."""
        self._book = Book(self._path)
        return self._book

    # -- when ----------------------------------------------------------------------------------------------------------

    def seed(self) -> np.random.SeedSequence:
        """Of the segment that begins."""
        return np.random.SeedSequence([*self._seeds, 2, self.segment])

    def next_look(self, step: int) -> int:
        """The first step after one at which there is something to do."""
        grid = step + LOOK_EVERY - step % LOOK_EVERY
        due = self._due()
        return grid if due is None or due <= step else min(grid, due)

    def _due(self) -> int | None:
        """Step of the next arrival."""
        total = self.plan.stage.total
        return None if total is not None and self.n_done >= total else self.plan.step_of(self.n_done)

    # -- what happens --------------------------------------------------------------------------------------------------

    def set_up(self, stage: DynamicsStage) -> None:
        """Make a new segment know its layer and its wall."""
        self._find_layer(stage, self._positions(stage), always=True)
        self._set_wall(stage)

    def look(self, stage: DynamicsStage) -> bool:
        """See who sticks and who is gone; whether the number of atoms has to change now.

        At one step it can be called again and finds the same.
        """
        step, due = stage.step, self._due()
        if step % LOOK_EVERY and step != due:
            return False
        positions = self._positions(stage)
        self._find_layer(stage, positions)
        if step != self._judged:  # once: who has just stuck is one that others touch at the next look
            self._judge(stage, positions)
            self._judged = step
        self._lost = self._gone(positions, stage)
        return bool(step < stage.record.n_steps and (step == due or self._lost.any()))

    def change(self, stage: DynamicsStage) -> Change | None:
        """Let go who has left and let arrive what is due; None when nobody comes or goes.

        Raises:
            DepositFailure: when no place is found and the input wants to stop then, or the vacuum is used up.
        """
        if not self.look(stage):
            return None
        before, to_user, to_engine = self.present, stage.frame.to_user, stage.frame.to_engine
        particles = stage.particles()
        positions, velocities = to_user(particles.positions), to_user(particles.velocities)
        if self._lost.any():
            self._dismiss(stage, positions, velocities)
            positions, velocities = positions[~self._lost], velocities[~self._lost]
            self._of = self._of[~self._lost]
            self.present = without(self.present, self._lost)
        while stage.step == self._due():
            new = self._arrive(stage, positions)
            if new is not None:
                positions = np.concatenate([positions, new.positions])
                velocities = np.concatenate([velocities, np.tile(new.velocity, (len(new.positions), 1))])
        if self.present is before:
            self._set_wall(stage)
            return None
        self.segment += 1
        moved = Particles(to_engine(positions), to_engine(velocities), particles.cell, particles.frame)
        return Change(self.present, moved)

    def _arrive(self, stage: DynamicsStage, positions: np.ndarray) -> Arrival | None:
        """The arrival that is due: it appears, or there is no room for it."""
        plan, cell, pbc = self.plan, stage.frame.user_cell(stage.forces.cell), self.present.body.pbc
        number = self.n_done
        self._raise_plane(positions, cell, pbc)
        rng = np.random.default_rng(np.random.SeedSequence([*self._seeds, 1, number]))
        new = arrival(plan, rng, self._height, positions, cell, pbc)
        self.n_done += 1
        self._since = np.append(self._since, NEVER)
        self._fate = np.append(self._fate, ABSENT if new is None else FLYING)
        if new is None:
            self._write(stage, number, "absent", "", (), np.full(3, np.nan), np.full(3, np.nan), plan.stage.tries)
            text = (
                f"at step {stage.global_step:,} ({stage.time / PS:g} ps) no place was found for arrival {number + 1} "
                f"in {plan.stage.tries} tries at a height of {self._height:.4g} Å"
            )
            if plan.stage.when_full == "stop":
                raise DepositFailure(f'{text} (when_full = "stop"). Lower min_distance or the flux, or raise height.')
            if (self._fate == ABSENT).sum() == 1:
                self._tell(f"{text}. It is left out, and so will be others like it; the end of the stage counts them.")
            return None
        thing = plan.kinds[new.kind]
        self.present = with_more(self.present, thing)
        self._of = np.concatenate([self._of, np.full(len(thing), number)])
        ids, centre = self.present.ids[-len(thing) :], thing.get_masses() @ new.positions / thing.get_masses().sum()
        self._write(stage, number, "inserted", plan.names[new.kind], ids, centre, new.velocity, new.tries)
        return new

    def _raise_plane(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> None:
        """Keep the height at which things appear above the surface, which may have grown."""
        stage = self.plan.stage
        surface = stage.surface
        if surface is None:
            surface = surface_of(positions[self._settled], stage.contact, cell, pbc)
        if surface is not None:
            self._height = max(self._height, surface + stage.height)
        try:
            check_vacuum(self.plan, self._height, cell, pbc)
        except InputError as error:
            raise DepositFailure(f"the film has used up the vacuum: {error}") from None

    def _judge(self, stage: DynamicsStage, positions: np.ndarray) -> None:
        """Who has stuck and who has bounced."""
        settle, contact = self.plan.stage.settle / stage.record.timestep, self.plan.stage.contact
        cell, pbc = stage.frame.user_cell(stage.forces.cell), self.present.body.pbc
        settled, heights = self._settled, positions[:, 2]
        for number in np.flatnonzero((self._fate == FLYING) | (self._fate == REFLECTED)).tolist():
            own = self._of == number
            low, high = heights[own].min() - contact, heights[own].max() + contact
            near = settled & (heights > low) & (heights < high)  # for most of its way nobody is
            touches = near.any() and distances(positions[own], positions[near], cell, pbc).min() < contact
            if not touches and self._since[number] != NEVER:
                self._since[number], self._fate[number] = NEVER, REFLECTED
                self._happened(stage, positions, own, number, "reflected")
            elif touches and self._since[number] == NEVER:
                self._since[number] = stage.step
            if touches and stage.step - self._since[number] >= settle:
                self._fate[number] = STUCK
                self._happened(stage, positions, own, number, "stuck")

    @property
    def _settled(self) -> np.ndarray:
        """(n_atoms,) bool: the slab and what has stuck to it."""
        slab = self._of == NEVER
        slab[~slab] = self._fate[self._of[~slab]] == STUCK
        return slab

    def _gone(self, positions: np.ndarray, stage: DynamicsStage) -> np.ndarray:
        """(n_atoms,) bool: who is removed, beyond the ceiling or below the slab."""
        top = self._height + self.plan.stage.ceiling
        up = positions[:, 2] > top if self.plan.stage.at_ceiling == "remove" and np.isfinite(top) else np.False_
        gone = np.asarray(up | (positions[:, 2] < self.plan.floor))
        if not gone.any():
            return gone
        cell, pbc = stage.frame.user_cell(stage.forces.cell), self.present.body.pbc
        held = np.flatnonzero(~self.present.body.mobile)
        slab = held[0] if len(held) else np.argsort(positions[:, 2], kind="stable")[len(positions) // 2]
        return leaving(gone, self._of, int(slab), positions, self.plan.stage.contact, cell, pbc)

    def _dismiss(self, stage: DynamicsStage, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Write down who is removed: each arrival in a row, and each atom of the slab."""
        for number in np.unique(self._of[self._lost]):
            own = self._lost & (self._of == number)
            if number == NEVER:
                for atom in np.flatnonzero(own):
                    self._happened(stage, positions, np.arange(len(own)) == atom, NEVER, "escaped", velocities)
                continue
            self._fate[number] = ESCAPED
            self._happened(stage, positions, own, int(number), "escaped", velocities)

    # -- the layer, the wall, the book ---------------------------------------------------------------------------------

    def _positions(self, stage: DynamicsStage) -> np.ndarray:
        """(n_atoms, 3) Å in the user's orientation."""
        return stage.frame.to_user(stage.positions() * NM)

    def _find_layer(self, stage: DynamicsStage, positions: np.ndarray, *, always: bool = False) -> None:
        bath = self.plan.stage.bath
        if bath is None:
            return
        layer = in_layer(bath, self.present.body.numbers, positions[:, 2])
        if always or not np.array_equal(layer, self._layer):
            self._apply_layer(stage, layer)

    def _apply_layer(self, stage: DynamicsStage, layer: np.ndarray) -> None:
        self._layer = layer
        stage.set_layer(layer)
        stage.guard_layer(layer)

    def _set_wall(self, stage: DynamicsStage) -> None:
        if self.plan.stage.at_ceiling == "reflect" and np.isfinite(self._height):
            stage.set_wall(self._height + self.plan.stage.ceiling)

    def _happened(
        self, stage: DynamicsStage, positions: np.ndarray, own: np.ndarray, number: int, what: str,
        velocities: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """A row about some atoms, at their centre of mass."""
        if velocities is None:
            velocities = stage.frame.to_user(stage.velocities())
        masses = self.present.body.masses[own]
        centre, velocity = (masses @ values[own] / masses.sum() for values in (positions, velocities))
        name = self.present.atoms[own].get_chemical_formula()
        self._write(stage, number, what, name, self.present.ids[own], centre, velocity, None)

    def _write(
        self, stage: DynamicsStage, number: int, what: str, name: str, ids: Any, centre: np.ndarray,
        velocity: np.ndarray, tries: int | None,
    ) -> None:  # fmt: skip
        """One row; arrivals are counted from 1, and 0 stands for the atoms that were there before."""
        when = [str(stage.global_step), f"{stage.time / PS:.10g}"]
        where = [f"{value:.8g}" for value in (*centre, *(velocity * PS))]
        row = [*when, str(number + 1), what, name, " ".join(map(str, ids)), *where]
        assert self._book is not None
        self._book.append((",".join([*row, "" if tries is None else str(tries)]) + "\n").encode())

    def summary(self) -> str:
        """How many arrived and what became of them."""
        count = Counter(FATES[fate] for fate in self._fate)
        arrived = self.n_done - count["absent"]
        fates = ", ".join(f"{count[name]:,} {name}" for name in ("stuck", "reflected", "escaped", "flying"))
        absent = f"; {count['absent']:,} found no room" if count["absent"] else ""
        return f"{arrived:,} arrived: {fates}{absent}; {self.present.body.n_atoms:,} atoms are there"

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        return {
            "deposit/counts": np.array([self.n_done, self.segment, self._judged]),
            "deposit/height": np.array([self._height]),
            "deposit/of": self._of,
            "deposit/since": self._since,
            "deposit/fate": self._fate,
            "deposit/layer": self._layer,
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        self.n_done, self.segment, self._judged = (int(count) for count in arrays["deposit/counts"])
        self._height = float(arrays["deposit/height"][0])
        self._of, self._since = arrays["deposit/of"], arrays["deposit/since"]
        self._fate, self._layer = arrays["deposit/fate"], arrays["deposit/layer"]

    def resumed(self, stage: DynamicsStage) -> None:
        """Give a segment that goes on from a checkpoint the layer and the wall that it had."""
        if self.plan.stage.bath is not None:
            self._apply_layer(stage, self._layer)
        self._set_wall(stage)
