"""One stage of dynamics: OpenMM in blocks that end where something is due, the same whether resumed or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import ase
import numpy as np
import openmm

from mlmd import units
from mlmd.config import NPT, NVE, NVT, Deposit, Guard
from mlmd.config.heat import heat_exchange_of
from mlmd.engine import observe
from mlmd.engine.barostat import Barostat, Molecules
from mlmd.engine.deviation import Deviations
from mlmd.engine.drift import EnergyDrift
from mlmd.engine.fluxes import Fluxes
from mlmd.engine.forces import NM, Answer, Forces
from mlmd.engine.frame import Frame
from mlmd.engine.guard import Thermometer, check_distances
from mlmd.engine.heat_exchange import Exchange
from mlmd.engine.layer import set_layer, set_wall
from mlmd.engine.observe import Moment
from mlmd.engine.outputs import Log, Trajectory, log_columns
from mlmd.engine.system import (
    SPEED,
    TOLERANCE,
    Body,
    make_context,
    make_integrator,
    positions_of,
    set_cell,
    velocities_of,
)
from mlmd.engine.warmth import Warmth
from mlmd.engine.watch import SPREAD_EVERY, Watch
from mlmd.errors import SimulationError
from mlmd.potentials.uncertainty import Uncertainty
from mlmd.rundir import StageRecord

RAMP_EVERY = 10
"""Steps between changes of a target that is ramped."""
LONGEST_BLOCK = 0.5
"""Wall-clock seconds after which a request to stop is looked at."""


@dataclass(frozen=True)
class Particles:
    """Where everything is between stages, in the engine's frame."""

    positions: np.ndarray
    """(n_atoms, 3) Å."""
    velocities: np.ndarray
    """(n_atoms, 3) Å/fs."""
    cell: np.ndarray
    """(3, 3) Å."""
    frame: Frame


@dataclass(frozen=True)
class Hardware:
    """Where the stage runs."""

    platform: str
    properties: dict[str, str]


class Look(Protocol):
    """What looks at a stage at steps of its own choice."""

    def next_look(self, step: int) -> int:
        """The next step after one, both counted from the start of the stage."""
        ...

    def look(self, stage: DynamicsStage) -> bool:
        """Whether the stage has to be left at this step: atoms come or go, or an exchange is due."""
        ...


class DynamicsStage:
    """A stage of dynamics that has been set up and can be run to its end or to a request to stop."""

    def __init__(
        self,
        stage: NVE | NVT | NPT | Deposit,
        record: StageRecord,
        body: Body,
        forces: Forces,
        start: Particles,
        *,
        template: ase.Atoms,
        hardware: Hardware,
        seed: np.random.SeedSequence,
        guard: Guard,
        usual_temperature: float | None,
        start_time: float,
        first: bool,
        watch: Watch | None = None,
        drift: EnergyDrift | None = None,
        warmth: Warmth | None = None,
        spread_every: int = SPREAD_EVERY,
        in_frames: bool = False,
        more: Callable[[DynamicsStage], list[float]] = lambda stage: [],
        first_step: int = 0,
        force: openmm.Force | None = None,
    ) -> None:
        """
        Args:
            stage: of the input.
            record: its steps, intervals and targets.
            body: masses and mobility.
            forces: potential and bias of this stage.
            start: positions and velocities.
            template: numbers, masses and periodicity of the structure.
            hardware: OpenMM platform.
            seed: of this stage.
            guard: of the input.
            usual_temperature: K that the guard compares with where the stage has no thermostat.
            start_time: fs at which the stage begins.
            first: whether this is the first stage with dynamics (it then writes its step 0).
            watch: asks the potential about its errors, where it knows them.
            drift: looks at the total energy, in NVE.
            warmth: looks at the mean temperature, where a thermostat holds it.
            spread_every: lines of the log from one spread to the next.
            in_frames: whether spread and grade of atoms are written with every frame of the trajectory.
            more: what else is written in every line of the log.
            first_step: step of the stage at which these atoms begin, where others were there before them.
            force: of OpenMM, which gives what `forces` gives and is asked in its place where atoms move.
        """
        self.stage, self.record, self.body, self.forces, self.template = stage, record, body, forces, template
        self.frame = start.frame
        self.step = first_step
        self._first, self._start_time, self._usual_temperature = first, start_time, usual_temperature
        integrator_seed, barostat_seed = seed.spawn(2)
        self.elsewhere = force is not None
        """Whether OpenMM asks something else than `forces` where atoms move."""
        self._take_up(start, int(integrator_seed.generate_state(1)[0] >> 1) or 1, hardware, force)
        self.barostat = None
        if isinstance(stage, NPT):
            self.barostat = Barostat(stage.barostat.kind, np.random.default_rng(barostat_seed))
        table = heat_exchange_of(stage)
        self.exchange = None if table is None else Exchange(table, record.timestep)
        self._molecules = None if body.molecules is None else Molecules(body.molecules, body.masses)
        self._thermometer = Thermometer(guard, body.n_dof)
        self._guard, self._guarded = guard, guard.enabled
        self._layer: np.ndarray | None = None
        self._warmth = warmth
        self._drift, self.watch, self._spread_every, self._in_frames = drift, watch, spread_every, in_frames
        self._more = more
        self.deviations: Deviations | None = None
        """Writes what the watch finds, and is told of it."""
        self.fluxes: Fluxes | None = None
        self.seconds = {"steps": 0.0, "output": 0.0, "uncertainty": 0.0, "lists": 0.0}
        """Wall-clock time spent: in steps with the forces in them, on log and trajectory, on the errors, and on lists
        of neighbours of which the evaluator does not know."""

    def _take_up(self, start: Particles, seed: int, hardware: Hardware, force: openmm.Force | None) -> None:
        """Give OpenMM the particles; `seed` is of random forces, `force` what is asked in the place of `forces`."""
        body = self.body
        self.integrator = make_integrator(self.stage, self.record.timestep, seed)
        self.context = make_context(body, self.forces, self.integrator, hardware.platform, hardware.properties, force)
        self.context.setPositions(start.positions / NM)
        self.context.setVelocities(start.velocities / SPEED)
        self.context.setStepCount(self.step)
        if len(body.constraints[0]):
            self.context.applyConstraints(TOLERANCE)
            if self._first:  # as drawn, they stretch bonds
                self.context.applyVelocityConstraints(TOLERANCE)

    # -- running ---------------------------------------------------------------------------------------------

    def run(
        self,
        log: Log,
        trajectory: Trajectory,
        *,
        pause: Callable[[], None],
        progress: Callable[[Moment], None],
        look: Look | None = None,
    ) -> None:
        """Go on to the end of the stage, or to where the number of atoms has to change.

        Args:
            log, trajectory: what is written to.
            pause: called at every boundary; makes checkpoints, and ends the run by raising.
            progress: called at every line of the log.
            look: says when there is something to look at besides, and whether these atoms stay.

        Raises:
            SimulationError: when the physics has failed.
        """
        clock, clock_step, seconds_per_step = time.perf_counter(), self.step, 0.0
        if self.step == 0 and self._first:
            self._write(log, trajectory)
        while self.step < self.record.n_steps:
            block = self._next_boundary(seconds_per_step, look) - self.step
            self._set_targets()
            self._advance(block)
            self._boundary(log, trajectory)
            elapsed = time.perf_counter() - clock
            seconds_per_step = elapsed / (self.step - clock_step)
            if self.step % self.record.log_every == 0 or self.step == self.record.n_steps:
                progress(observe.moment(self, seconds_per_step))
            changes = look is not None and look.look(self)
            pause()
            if changes:
                return

    def _next_boundary(self, seconds_per_step: float, look: Look | None) -> int:
        """The next step at which something is due; where a block ends changes nothing of the dynamics."""
        grids = [self.record.log_every, self.record.trajectory_every]
        if self.barostat is not None and isinstance(self.stage, NPT):
            grids.append(self.stage.barostat.every)
        if self._ramped:
            grids.append(RAMP_EVERY)
        if self.record.fluxes_every:
            grids.append(self.record.fluxes_every)
        if self.exchange is not None:
            grids += [self.exchange.every, self.exchange.write_every]
        longest = max(1, int(LONGEST_BLOCK / seconds_per_step)) if seconds_per_step else 1
        due = [self.step + grid - self.step % grid for grid in grids]
        if self._guarded:
            due.append(max(self.step + 1, self._thermometer.next_look - self.record.first_step))
        if look is not None:
            due.append(look.next_look(self.step))
        return min(*due, self.step + longest, self.record.n_steps)

    def _advance(self, n_steps: int) -> None:
        clock = time.perf_counter()
        with self._inside_openmm():
            self.integrator.step(n_steps)
        self.seconds["steps"] += time.perf_counter() - clock
        self.step += n_steps

    @contextmanager
    def _inside_openmm(self) -> Iterator[None]:
        """Raise what was raised where OpenMM called us; OpenMM itself passes on only the text."""
        try:
            yield
        except Exception as error:
            if self.forces.failure is not None:
                raise self.forces.failure from None
            raise SimulationError(f"OpenMM stopped at step {self.global_step:,}: {error}") from None

    @property
    def _flows(self) -> bool:
        """Whether fluxes are written at this step."""
        every = self.record.fluxes_every
        return self.fluxes is not None and bool(every) and self.step % every == 0

    def _boundary(self, log: Log, trajectory: Trajectory) -> None:
        if self.fluxes is not None and self._flows:  # before others ask for less, and the potential computes twice
            self.answer(details=self.fluxes.details)
        if self.elsewhere:
            self._look()
        if self.barostat is not None and isinstance(self.stage, NPT) and self.step % self.stage.barostat.every == 0:
            self._change_volume()
        if self.exchange is not None:
            self.exchange.take_turn(self)
        if self._guarded and self.global_step >= self._thermometer.next_look:
            usual = self.target_temperature or self._usual_temperature
            someone = self._layer is None or self._layer.any()
            self._thermometer.look(self.guarded_temperature() if someone else 0.0, usual, self.global_step, self.time)
            answer = self.answer()
            check_distances(answer.positions * NM, answer.cell, self.template, self._guard, self.global_step, self.time)
        self._write(log, trajectory)

    def set_layer(self, layer: np.ndarray) -> None:
        """Let the bath of a deposition act on some atoms (n_atoms,) bool from now on."""
        assert isinstance(self.integrator, openmm.CustomIntegrator)
        set_layer(self.integrator, layer)

    def set_wall(self, height: float) -> None:
        """Let atoms of a deposition turn back at a height in Å from now on."""
        assert isinstance(self.integrator, openmm.CustomIntegrator)
        set_wall(self.integrator, height, self.body.n_atoms)

    def guard_layer(self, layer: np.ndarray) -> None:
        """Let the guard look at the temperature of some atoms (n_atoms,) bool: others may be hot for good reasons."""
        self._layer = layer & self.body.mobile
        self._thermometer.count(3 * int(self._layer.sum()))

    def guarded_temperature(self) -> float:
        """K, of what the guard looks at, from the velocities as the integrator holds them; nan of nothing."""
        velocities = self.velocities()
        if self._layer is None:
            return self.body.temperature(self.body.kinetic_energy(velocities))
        n_dof = 3 * int(self._layer.sum())
        kinetic = self.body.kinetic_energy(velocities * self._layer[:, None])
        return 2.0 * kinetic / (n_dof * units.KB) if n_dof else float("nan")

    def _look(self) -> None:
        """Forces that are computed elsewhere are looked at now and then."""
        positions = self.positions()
        if not np.isfinite(positions).all():
            atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
            raise SimulationError(
                f"the position of atom {atom} (counted from 0) is not finite at step {self.global_step:,}, "
                f"{self.time / 1e3:g} ps."
            )
        if self._guarded:
            self.answer()

    def _write(self, log: Log, trajectory: Trajectory) -> None:
        """The row and the frame due at this step; step 0 belongs to the stage before, if there is one."""
        clock = time.perf_counter()
        in_log, in_trajectory = (
            self.step % every == 0 for every in (self.record.log_every, self.record.trajectory_every)
        )
        found = self._uncertainty(in_log=in_log, in_frame=in_trajectory and self._in_frames)
        done = time.perf_counter()
        self.seconds["uncertainty"] += done - clock
        if in_log:
            uncertain = [] if self.watch is None or found is None else self.watch.row(found)
            row = observe.row(self)
            more = [*observe.parts(self), *self._more(self), *uncertain]
            log.row(self.global_step, self.record.index + 1, row + more)
            told = dict(zip(log_columns(has_energy=self.forces.has_energy)[2:], row, strict=True))
            if self._drift is not None:
                self._drift.look(row[0], told["energy per atom [eV]"])
            if self._warmth is not None and self.step:
                self._warmth.look(row[0], told["temperature [K]"])
        if in_trajectory:
            frame = observe.snapshot(self)
            trajectory.frame(observe.with_uncertainty(frame, found) if self._in_frames and found else frame)
        if self.fluxes is not None and self._flows:
            self.fluxes.take(self)
        self.seconds["output"] += time.perf_counter() - done
        if self.deviations is not None and found is not None:
            self.deviations.take(found, observe.with_uncertainty(observe.snapshot(self), found))
        if self.watch is not None and found is not None:  # with the line and the frame that tell of it
            self.watch.check(found, self.global_step, self.time)

    def _uncertainty(self, *, in_log: bool, in_frame: bool) -> Uncertainty | None:
        """What the potential says of its errors at this step, where something of it is written."""
        if self.watch is None or not (in_log or in_frame):
            return None
        line = self.step // self.record.log_every
        spread = in_frame or (in_log and line % self._spread_every == 0)
        answer = self.answer()
        return self.watch.look(answer.positions * NM, self.forces.cell, spread=spread)

    def _change_volume(self) -> None:
        assert self.barostat is not None and self.target_temperature is not None
        pressure = self._target_pressure * units.BAR
        moved = self.barostat.move(
            self.forces, self.positions(), self.global_step, self.target_temperature, pressure,
            self._molecules,
        )  # fmt: skip
        if moved is None:
            return
        cell, frame = self.frame.reduce(self.forces.cell)
        if frame.lattice is not self.frame.lattice and not np.array_equal(frame.lattice, self.frame.lattice):
            self.frame = frame
            self.forces.change_lattice(cell)
        self._move_to(moved)

    def _move_to(self, positions: np.ndarray) -> None:
        """Let atoms be at positions (n_atoms, 3) nm, in the cell of `forces`."""
        set_cell(self.context, self.forces.cell)
        self.context.setPositions(positions)

    def _set_targets(self) -> None:
        """Set the thermostat for the block that begins; a ramp changes on a fixed grid of steps."""
        if (self._ramped and self.step % RAMP_EVERY == 0) or self.step == 0:
            self.set_thermostat()

    def set_thermostat(self) -> None:
        """Give the thermostat the target of this step."""
        if self.target_temperature is not None and isinstance(
            self.integrator, openmm.LangevinMiddleIntegrator | openmm.NoseHooverIntegrator
        ):
            self.integrator.setTemperature(self.target_temperature)

    @property
    def _ramped(self) -> bool:
        return self.record.ramped

    @property
    def _share(self) -> float:
        """Of the stage, as far as a ramp has followed."""
        return (self.step - self.step % RAMP_EVERY) / self.record.n_steps

    @property
    def _target_pressure(self) -> float:
        """bar, at this step."""
        assert self.record.pressure is not None
        first, last = self.record.pressure
        return first + (last - first) * self._share

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def global_step(self) -> int:
        """Steps since the run began."""
        return self.record.first_step + self.step

    @property
    def time(self) -> float:
        """fs since the run began."""
        return self._start_time + self.step * self.record.timestep

    @property
    def target_temperature(self) -> float | None:
        """K, at this step; None without a thermostat."""
        return self.record.target_temperature(self._share)

    def answer(self, *, details: bool = False) -> Answer:
        """Energy and forces at the present positions, with details if wanted; the next step uses them again."""
        return self.forces.at(self.positions(), self.global_step, details=details)

    def sums(self) -> Answer:
        """Energy and virial at the present positions; forces and positions may be missing where many have them."""
        return self.answer()

    def held_kinetic_energy(self) -> float:
        """eV, of the velocities as the integrator holds them."""
        return self.body.kinetic_energy(self.velocities())

    def kinetic_energy(self) -> float:
        """eV, at the time of the positions for leapfrog integrators."""
        with self._inside_openmm():
            state = self.context.getState(energy=True)
        kinetic: float = state.getKineticEnergy()._value
        return kinetic * units.EV_PER_KJMOL

    def positions(self) -> np.ndarray:
        """(n_atoms, 3) nm, unwrapped."""
        return positions_of(self.context)

    def velocities(self) -> np.ndarray:
        """(n_atoms, 3) Å/fs as the integrator holds them (leapfrog: half a step back)."""
        return velocities_of(self.context)

    def set_velocities(self, velocities: np.ndarray) -> None:
        """Let the integrator hold others, (n_atoms, 3) Å/fs."""
        self.context.setVelocities(velocities / SPEED)

    def particles(self) -> Particles:
        """Where everything is now, for the stage that follows."""
        return Particles(self.positions() * NM, self.velocities(), self.forces.cell, self.frame)

    # -- stopped and continued -------------------------------------------------------------------------------

    def engine_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint keeps for the engine to go on bit for bit: what is small, and arrays."""
        return {}, {"openmm": np.frombuffer(self.context.createCheckpoint(), dtype=np.uint8)}

    def go_to(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, exact: bool) -> None:
        """Be where a checkpoint is, as `step`, `frame` and the cell of `forces` are already; exactly, if so asked."""
        if exact:
            self.context.loadCheckpoint(arrays["openmm"].tobytes())
        else:
            self.context.setPositions(arrays["positions"])
            self.context.setVelocities(arrays["velocities"] / SPEED)
            self.context.setStepCount(self.step)
            if self.body.pbc.all():
                set_cell(self.context, self.forces.cell)
        self.set_thermostat()
