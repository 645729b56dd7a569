"""The course of a run: from the newest checkpoint through the stages that are left to final.extxyz."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import ase.io
import numpy as np

from mlmd.bias import BiasFailure, memory_of
from mlmd.bias.plumed import copy_inputs, working_in
from mlmd.bias.written import flush
from mlmd.config import Minimize
from mlmd.engine import observe
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.columns import exchanges_heat, more_columns
from mlmd.engine.commit import Commit, machine_of
from mlmd.engine.deposit import Change, DepositFailure, Deposition
from mlmd.engine.descent import between_stages, go_down
from mlmd.engine.deviation import CANDIDATES, MODEL_DEVI, Deviations
from mlmd.engine.device import device_error
from mlmd.engine.early_end import EarlyEnd, Ends, as_header, early_end, ends_in, with_told
from mlmd.engine.flux_needs import charges_for_current
from mlmd.engine.fluxes import Fluxes
from mlmd.engine.forces import ForceFailure
from mlmd.engine.guard import ADVICE, save_crash
from mlmd.engine.heat_exchange import Temperatures
from mlmd.engine.job import Job, warnings_of
from mlmd.engine.mixed import why_inexact
from mlmd.engine.observe import Moment
from mlmd.engine.outputs import Log, Snapshot, open_trajectory, to_atoms
from mlmd.engine.present import Present, arrays_of, at_start, restored
from mlmd.engine.resume import checkpoint_of, particles_at, resume
from mlmd.engine.ring import Ring
from mlmd.engine.stage import DynamicsStage, Particles
from mlmd.engine.stage_bias import Biased
from mlmd.engine.stage_files import StageFiles
from mlmd.engine.stage_maker import StageMaker
from mlmd.engine.stop import StopRequest
from mlmd.engine.system import PS, maxwell_boltzmann
from mlmd.engine.watch import watch_of
from mlmd.errors import SimulationError, Stopped
from mlmd.potentials import has_energy
from mlmd.potentials.on_gpu import why_slow
from mlmd.pretrained.external import reaches_in, recall_reaches
from mlmd.rundir import (
    DEPOSITION,
    FINAL,
    FLUXES,
    HYPER,
    LOG,
    TEMPERATURES,
    Messages,
    Run,
    StageRecord,
    write_atomically,
)

ToNextExchange = Generator[None, None, None]
"""Goes on to the next exchange each time."""


class Course:
    """Runs the stages that are left."""

    maker_of = StageMaker
    """What makes its stages."""

    def __init__(
        self,
        job: Job,
        run: Run,
        hardware: dict[str, Any],
        messages: Messages,
        request: StopRequest,
        progress: Callable[[Moment], None],
        ring: Ring | None = None,
    ) -> None:
        """`run` is an open folder whose lock is held; `hardware` is what run.json says about platform and threads.

        `ring` is what exchanges its configurations with those of others.
        """
        self.job, self.run, self.messages, self.request, self.progress = job, run, messages, request, progress
        self.folder = run.path
        self.present: Present = at_start(job.body, job.atoms, numbered=bool(job.deposits))
        self._device, self._given, self._force = hardware["device"], hardware, hardware.get("force")
        self.watch = watch_of(job, messages, self._device)
        self.maker = self.maker_of(job, hardware, self.watch, messages, alone=ring is None)
        more = (MODEL_DEVI, CANDIDATES, *((DEPOSITION,) if job.deposits else ()), *((HYPER,) if job.boosts else ()))
        more += (FLUXES,) if job.config.output.fluxes else ()
        more += (TEMPERATURES,) if exchanges_heat(job) else ()
        self.commit = Commit(run, job.scripts.values(), machine_of(job, hardware), messages, more)
        self._biased = Biased(job, run, messages)
        self._memory: dict[str, np.ndarray] = {}
        """What biases remember beyond PLUMED's files, also of stages before."""
        self._ring = ring
        self._ends: Ends = {}
        self._early: EarlyEnd | None = None
        """What may end the stage that goes on before its last step."""
        self._open: tuple[DynamicsStage, StageFiles, Deposition | None] | None = None
        """The stage that goes on."""
        self.saved: str | None = None
        """Name of the last checkpoint."""

    def go(self) -> None:
        """Run to the end.

        Raises:
            SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
        """
        for _ in self.turns():
            pass

    def turns(self) -> ToNextExchange:
        """Run to the end, with a rest wherever others have to come to the same exchange first."""
        saved = self.commit.load() if self._ring is None else self._ring.load(self)
        self.saved = None if saved is None else saved.name
        self._ends = ends_in(saved, self.job.stages, self.job.config)
        self._tell_ends()
        slow = why_slow(self.job.potential, self._device)
        if slow:
            self.messages(slow)
        if self._force:
            self.messages(f"forces by {self._force['name']}: {self._force['why']}")
        if self.job.mixed is not None and (inexact := why_inexact(self._given["force field"])):
            self.messages(inexact)
        if saved is None:
            for warning in warnings_of(self.job.potential):
                self.messages(warning)
            for script in self.job.scripts.values():
                copy_inputs(script, self.folder)
        else:
            self._memory = {name: array for name, array in saved.arrays.items() if name.startswith("bias/")}
            recall_reaches(self.job.potential, saved.arrays)
            self._follow(restored(self.present, saved.arrays))
        particles = self._start() if saved is None else particles_at(saved, self.job.frame.rotation)
        reached = (0, -1) if saved is None else saved.position
        for index in range(len(self.run.stages)):
            record = self.run.stages[index]  # one before it may have ended early
            if record.index < reached[0] or (record.index == reached[0] and reached[1] >= record.n_steps):
                continue
            # PLUMED opens its files in the current folder; who takes turns is put there at each of them
            own = record.index in self.job.scripts and self._ring is None
            with working_in(self.folder) if own else nullcontext():
                particles = yield from self._stage(record, particles, saved if record.index == reached[0] else None)
        self._finish(particles)

    # -- stages ------------------------------------------------------------------------------------------------------

    def _stage(
        self, record: StageRecord, particles: Particles, saved: Checkpoint | None
    ) -> Generator[None, None, Particles]:
        stage = self.job.config.stage[record.index]
        name = f"stage {record.index + 1} ({record.kind})"
        if isinstance(stage, Minimize):
            self.messages(f"{name} begins")
            return self._minimize(stage, record, particles)
        begins = "begins:" if saved is None else f"continues at step {saved.position[1]:,} of"
        self.messages(f"{name} {begins} {record.n_steps:,} steps, {record.n_steps * record.timestep / PS:g} ps")
        clock, first = time.perf_counter(), 0 if saved is None else saved.position[1]
        dynamics = yield from self._dynamics(record, particles, saved)
        seconds = time.perf_counter() - clock
        n_done = dynamics.step - first
        speed = n_done * record.timestep * 1e-6 * 86400 / seconds
        moves = "" if dynamics.barostat is None else f"; {dynamics.barostat.describe()}"
        self.messages(f"{name} done: {n_done:,} steps in {seconds:.1f} s, {speed:.3g} ns/day{moves}")
        if (end := self._ends.get(record.index)) is not None:
            self.messages(f"{name} ended at step {end.step:,} of {end.planned:,}: {end.why}")
        bias = dynamics.forces.bias
        if bias is not None and (summary := bias.ends(dynamics.global_step)) is not None:
            self.messages(f"{name}: {summary}")
        self.messages(f"time of {name}: {observe.where_time_went(dynamics, seconds)}", echo=False)
        return dynamics.particles()

    def _minimize(self, stage: Minimize, record: StageRecord, particles: Particles) -> Particles:
        moved = go_down(
            stage, record, particles, self.job, self.maker.evaluator(self.present.body), self.present, self.folder,
            self.messages, self._interrupt,
        )  # fmt: skip
        self._write(between_stages(record, moved))
        if self._ring is not None:
            self._ring.commit()
        return moved

    def _interrupt(self, step: int) -> None:
        reason = self.request.reason()
        if reason:
            raise Stopped(f"stopped by {reason} in step {step} of a minimization, which the same command begins anew.")

    def _dynamics(
        self, record: StageRecord, particles: Particles, saved: Checkpoint | None
    ) -> Generator[None, None, DynamicsStage]:
        deposition = self._deposition(record, saved)
        stage = self._set_up(record, particles, deposition, restart=saved is not None)
        if saved is not None:
            self._resume(stage, saved)
            if deposition is not None:
                deposition.resumed(stage)
        self._pass_again(stage, resumed=saved is not None)
        files = self._open_files(stage, deposition)
        self._open = stage, files, deposition
        self._early = None
        if deposition is None and self._ring is None:
            self._early = early_end(self.run, self.job.config, record, stage.forces.bias, files, self.messages)
        try:
            if saved is None:
                self._save(stage, files, deposition)
                if stage.forces.bias is not None:
                    self.messages(stage.forces.bias.begins())
                if self._ring is not None:
                    self._ring.commit()
            stage = yield from self._to_the_end(stage, files, deposition)
        except SimulationError as error:
            raise self.failure(error) from None
        finally:
            files.close()
            self._open = None
        if deposition is not None:
            self.messages(f"stage {record.index + 1} (deposit): {deposition.summary()}")
        return stage

    def _resume(self, stage: DynamicsStage, saved: Checkpoint) -> None:
        resume(stage, saved, exact=self.commit.same_machine(saved))

    def _to_the_end(
        self, stage: DynamicsStage, files: StageFiles, deposition: Deposition | None
    ) -> Generator[None, None, DynamicsStage]:
        """Run a stage; another one is given back where atoms have come or gone."""
        record, look = stage.record, self._ring or deposition or self._early
        while True:
            if deposition is not None and (change := deposition.change(stage)) is not None:
                stage = self._changed(record, change, deposition, stage)
                files.follow(self.present.atoms)
                self._open = stage, files, deposition
            while self._ring is not None and self._ring.waits(record, stage.step):
                yield
            if self._has_ended(stage):
                return stage
            pause = partial(self._pause, stage, files, deposition)
            assert files.trajectory is not None
            stage.run(files.log, files.trajectory, pause=pause, progress=self.progress, look=look)

    def _has_ended(self, stage: DynamicsStage) -> bool:
        """Whether a stage is at its end, be it an early one, which its checkpoint then tells."""
        end = None if self._early is None else self._early.end
        if end is not None:
            self._ends[stage.record.index] = end
        return end is not None or stage.step == stage.record.n_steps

    def _tell_ends(self) -> None:
        """Let the manifest say how stages have ended; a checkpoint has said so before."""
        self.run = self.commit.run = with_told(self.run, self.job.stages, self._ends)
        self._biased = replace(self._biased, run=self.run)

    def failure(self, error: SimulationError) -> BaseException:
        """What a failure of the stage that goes on is to a person."""
        if self.request.insisted:  # a signal that arrives as OpenMM calls us comes back as a failure of OpenMM
            return KeyboardInterrupt()
        if device_error(error, 0, self._device) is not None:  # no matter of physics
            return error
        return error if self._open is None else self._explain(self._open[0], error)

    # -- what is written ---------------------------------------------------------------------------------------------

    def _open_files(self, stage: DynamicsStage, deposition: Deposition | None) -> StageFiles:
        job, record, bias = self.job, stage.record, stage.forces.bias
        if bias is not None:
            bias.open(self.folder, stage.global_step)
        columns = [*more_columns(job), *(() if self.watch is None else self.watch.columns)]
        log = Log(self.folder / LOG, columns, has_energy=has_energy(job.potential))
        kind, frame_time = self.run.manifest["trajectory"]["format"], record.trajectory_every * record.timestep
        trajectory = open_trajectory(self.run.trajectory, kind, self.present.atoms, frame_time)
        if self.watch is not None:
            stage.deviations = Deviations(self.folder, job.config.uncertainty, self.present.atoms, self.messages)
        if job.config.output.fluxes:
            charges = charges_for_current(job.config, job.atoms)
            stage.fluxes = Fluxes(self.folder, job.config.output.fluxes, charges, job.atoms.get_chemical_symbols())
        if stage.exchange is not None:
            stage.exchange.file = Temperatures(self.folder, stage.exchange.n_slabs)
        return StageFiles(
            log, trajectory, stage.deviations,
            book=None if deposition is None else deposition.open_book(),
            bias=bias, fluxes=stage.fluxes, temperatures=None if stage.exchange is None else stage.exchange.file,
        )  # fmt: skip

    @property
    def open_stage(self) -> DynamicsStage | None:
        """The stage of dynamics that goes on."""
        return None if self._open is None else self._open[0]

    def save(self) -> None:
        """Make a checkpoint, unless the last one is of this moment."""
        if self._open is None:
            return
        stage = self._open[0]
        moment = Checkpoint(self._numbered({"stage": stage.record.index, "step": stage.step}), {})
        if moment.name != self.saved:
            self._save(*self._open)

    def _write(self, content: Checkpoint, deposition: Deposition | None = None) -> None:
        content = self._kept(content, deposition)
        self.commit.write(content)
        self.saved = content.name

    def _numbered(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """The header of a checkpoint, with how stages have ended, and the number of exchanges where there are any."""
        return {**header, **as_header(self._ends), **({} if self._ring is None else {"exchanges": self._ring.n_done})}

    def _save(self, stage: DynamicsStage, files: StageFiles, deposition: Deposition | None) -> None:
        files.commit()
        content = checkpoint_of(stage)
        stage.forces.finish_step()
        files.finish_bias(stage.global_step)
        self._memory |= memory_of(stage.forces.bias)
        self._write(content, deposition)

    def _pause(self, stage: DynamicsStage, files: StageFiles, deposition: Deposition | None) -> None:
        """Make a checkpoint where one is due, and stop where that is asked for."""
        flush()  # who follows the files of a bias sees lines as soon as those of the log
        ended = self._has_ended(stage)
        if self._ring is not None:
            self._ring.pause(ended=ended)
            return
        reason = self.request.reason()
        due = time.monotonic() - self.commit.saved_at >= self.job.config.output.checkpoint_every
        if ended or due or reason:
            self._save(stage, files, deposition)
        if ended:
            self._tell_ends()
        if reason and not ended:
            when = f"step {stage.global_step:,} ({stage.time / PS:g} ps)"
            raise Stopped(f"stopped by {reason} at {when}, after a checkpoint. The same command continues.")

    def _kept(self, content: Checkpoint, deposition: Deposition | None = None) -> Checkpoint:
        """A checkpoint with what belongs to the run, and not to a stage: what biases remember, what was tried of
        calculators, and who is there where that can change.
        """
        arrays = {**content.arrays, **self._memory, **reaches_in(self.job.potential)}
        if self.job.deposits:
            arrays |= arrays_of(self.present)
        if deposition is not None:
            arrays |= deposition.state()
        return replace(content, header=self._numbered(content.header), arrays=arrays)

    # -- who comes and goes ------------------------------------------------------------------------------------------

    def _deposition(self, record: StageRecord, saved: Checkpoint | None) -> Deposition | None:
        """What comes and goes in a stage of deposition; None in any other."""
        plan = self.job.deposits.get(record.index)
        if plan is None:
            return None
        seeds = (int(self.run.manifest["seed"]), record.index)
        deposition = Deposition(plan, self.present, seeds, self.folder / DEPOSITION, self.messages)
        if saved is not None:
            deposition.restore(saved.arrays)
        return deposition

    def _changed(
        self, record: StageRecord, change: Change, deposition: Deposition, before: DynamicsStage
    ) -> DynamicsStage:
        """The segment that begins as someone has come or gone."""
        self._follow(change.present)
        after = self._set_up(record, change.particles, deposition, restart=False, step=before.step)
        after.deviations = before.deviations
        for kind, seconds in before.seconds.items():
            after.seconds[kind] += seconds
        for kind, seconds in before.forces.seconds.items():
            after.forces.seconds[kind] += seconds
        return after

    def _follow(self, present: Present) -> None:
        """Know who is there from now on."""
        self.present = present
        if self.watch is not None:
            self.watch.follow(present.body.numbers)

    # -- setting up --------------------------------------------------------------------------------------------------

    def _set_up(
        self, record: StageRecord, particles: Particles, deposition: Deposition | None, *, restart: bool, step: int = 0
    ) -> DynamicsStage:
        return self.maker.stage(
            record, particles, self.present, self._biased, self._memory, deposition, restart=restart, step=step
        )

    def _pass_again(self, stage: DynamicsStage, *, resumed: bool) -> None:
        """Let a bias that goes on pass its first step, if it has deposited and printed for that step before."""
        bias = stage.forces.bias
        if bias is None or not bias.restarted:
            return
        for line in bias.loses(resumed=resumed):
            self.messages(line)
        if resumed or self._biased.goes_on(stage.record):
            stage.answer()
            with self.commit.without_prints():
                stage.forces.finish_step()

    def _explain(self, stage: DynamicsStage, error: SimulationError) -> SimulationError:
        """Leave the last good and the bad frame, and say where they are."""
        message, bad = str(error), None
        if isinstance(error, ForceFailure):
            bad = observe.failed(stage, error)
            message = f"at step {bad.step:,} ({bad.time / PS:g} ps) {message}"
        good = observe.last_good(stage)
        if good is not None and len(good.positions) != len(self.present.atoms):
            good = None  # of before somebody came or went
        advice = "" if isinstance(error, DepositFailure | BiasFailure) else ADVICE
        told = save_crash(self.folder, self.present.atoms, good, bad, message, advice)
        self.messages(message, echo=False)
        return SimulationError(told)

    # -- beginning and end -------------------------------------------------------------------------------------------

    def _start(self) -> Particles:
        job, frame = self.job, self.job.frame
        if job.velocities is not None:
            velocities = job.velocities
        else:
            rng = np.random.default_rng(np.random.SeedSequence([int(self.run.manifest["seed"]), 2**31]))
            velocities = maxwell_boltzmann(job.body, job.config.start_temperature or 0.0, rng)
        return Particles(frame.to_engine(job.atoms.positions), frame.to_engine(velocities), job.cell, frame)

    def _finish(self, particles: Particles) -> None:
        last, to_user = self.run.stages[-1], particles.frame.to_user
        end = sum(r.n_steps * r.timestep for r in self.run.stages)
        snapshot = Snapshot(
            last.last_step, end, to_user(particles.positions), particles.frame.user_cell(particles.cell),
            to_user(particles.velocities),
        )  # fmt: skip
        text = io.StringIO()
        ase.io.write(text, to_atoms(snapshot, self.present.atoms), format="extxyz")
        write_atomically(self.folder / FINAL, text.getvalue().encode())
        self.messages(f"finished: {last.last_step:,} steps, {end / PS:g} ps")
