"""The course of a run: from the newest checkpoint through the stages that are left to final.extxyz."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import ase.io
import numpy as np
import openmm

from mlmd.bias.plumed import PlumedBias, copy_inputs, working_in
from mlmd.bias.written import Written
from mlmd.config import NVE, Minimize
from mlmd.config.stages import Dynamics
from mlmd.engine import observe
from mlmd.engine.biases import AdaptiveTables, AnyBias, kernel_of, memory_of, recall, start_bias
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.commit import Commit
from mlmd.engine.deviation import CANDIDATES, MODEL_DEVI, Deviations
from mlmd.engine.device import device_error
from mlmd.engine.drift import EnergyDrift
from mlmd.engine.forces import NM, ForceFailure, Forces
from mlmd.engine.frame import Frame, frame_of
from mlmd.engine.guard import ADVICE, question, save_crash
from mlmd.engine.job import Job, charges_of, versions, warnings_of
from mlmd.engine.minimize import Minimum, minimize
from mlmd.engine.observe import Moment
from mlmd.engine.outputs import Log, Snapshot, open_trajectory, to_atoms
from mlmd.engine.resume import checkpoint_of, particles_at, resume
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.engine.stop import StopRequest
from mlmd.engine.system import PS, maxwell_boltzmann
from mlmd.engine.torch_force import torch_force
from mlmd.engine.watch import SPREAD_EVERY, watch_of
from mlmd.errors import SimulationError, Stopped
from mlmd.kernels import describe
from mlmd.potentials import Evaluator, has_energy
from mlmd.potentials.fused import why_slow
from mlmd.rundir import FINAL, LOG, Messages, Run, StageRecord, write_atomically


class Course:
    """Runs the stages that are left."""

    def __init__(
        self,
        job: Job,
        run: Run,
        hardware: dict[str, Any],
        messages: Messages,
        request: StopRequest,
        progress: Callable[[Moment], None],
    ) -> None:
        """`run` is an open folder whose lock is held; `hardware` is what run.json says about platform and threads."""
        self.job, self.run, self.messages, self.request, self.progress = job, run, messages, request, progress
        self.folder = run.path
        self._hardware = Hardware(hardware["openmm"], hardware["properties"])
        self._device, self._given, self._force = hardware["device"], hardware, hardware.get("force")
        present = versions()
        machine = {
            "platform": hardware["openmm"], "device": hardware["device"], "threads": hardware["threads"],
            "openmm": present["openmm"], "torch": present["torch"], "mlmd": present["mlmd"], "kernels": describe(),
            **({"force": self._force["name"]} if self._force else {}),
        }  # fmt: skip
        if job.mixed is not None:
            machine["force field"] = hardware["force field"]
        body = job.body
        self.watch = None  # what a potential says of its errors is of whole systems
        if job.mixed is None:
            self.watch = watch_of(job.potential, body.numbers, body.pbc, job.config.guard, messages)
        self.commit = Commit(run, job.scripts.values(), machine, messages, (MODEL_DEVI, CANDIDATES))
        self._memory: dict[str, np.ndarray] = {}
        """What biases remember beyond PLUMED's files, also of stages before."""

    def go(self) -> None:
        """Run to the end.

        Raises:
            SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
        """
        saved = self.commit.load()
        slow = why_slow(self.job.potential) if self._device == "cpu" else None
        if slow:
            self.messages(slow)
        if self._force:
            self.messages(f"forces by {self._force['name']}: {self._force['why']}")
        if saved is None:
            for warning in warnings_of(self.job.potential):
                self.messages(warning)
            for script in self.job.scripts.values():
                copy_inputs(script, self.folder)
        else:
            self._memory = {name: array for name, array in saved.arrays.items() if name.startswith("bias/")}
        particles = self._start() if saved is None else particles_at(saved, self.job.frame.rotation)
        reached = (0, -1) if saved is None else saved.position
        for record in self.run.stages:
            if record.index < reached[0] or (record.index == reached[0] and reached[1] >= record.n_steps):
                continue
            # PLUMED opens its files in the current folder
            with working_in(self.folder) if record.index in self.job.scripts else nullcontext():
                particles = self._stage(record, particles, saved if record.index == reached[0] else None)
        self._finish(particles)

    # -- stages ------------------------------------------------------------------------------------------------------

    def _stage(self, record: StageRecord, particles: Particles, saved: Checkpoint | None) -> Particles:
        stage = self.job.config.stage[record.index]
        name = f"stage {record.index + 1} ({record.kind})"
        if isinstance(stage, Minimize):
            self.messages(f"{name} begins")
            return self._minimize(stage, record, particles)
        begins = "begins:" if saved is None else f"continues at step {saved.position[1]:,} of"
        self.messages(f"{name} {begins} {record.n_steps:,} steps, {record.n_steps * record.timestep / PS:g} ps")
        clock, first = time.perf_counter(), 0 if saved is None else saved.position[1]
        dynamics = self._dynamics(record, particles, saved)
        seconds = time.perf_counter() - clock
        speed = (record.n_steps - first) * record.timestep * 1e-6 * 86400 / seconds
        moves = "" if dynamics.barostat is None else f"; {dynamics.barostat.describe()}"
        self.messages(f"{name} done: {record.n_steps - first:,} steps in {seconds:.1f} s, {speed:.3g} ns/day{moves}")
        self.messages(f"time of {name}: {observe.where_time_went(dynamics, seconds)}", echo=False)
        return dynamics.particles()

    def _minimize(self, stage: Minimize, record: StageRecord, particles: Particles) -> Particles:
        frame, atoms = particles.frame, self.job.atoms.copy()
        atoms.set_cell(frame.user_cell(particles.cell))
        atoms.positions = frame.to_user(particles.positions)
        result = minimize(stage, self._evaluator(), atoms, self.job.body.mobile, self._interrupt)
        self._check_minimum(result)
        how = "converged" if result.converged else "did NOT converge"
        self.messages(
            f"stage {record.index + 1} (minimize) {how} in {result.n_steps} steps: energy {result.energy:.6f} eV, "
            f"largest force {result.max_force:.3g} eV/Å"
        )
        # the orientation stays what it was at the start: a crystal that is turned as a whole is the same crystal
        reduced, found = frame_of(result.cell, self.job.atoms.pbc)
        frame = Frame(frame.rotation, found.lattice)
        moved = Particles(found.to_engine(result.positions), particles.velocities, reduced, frame)
        self.commit.write(self._with_memory(_between_stages(record, moved)))
        return moved

    def _check_minimum(self, result: Minimum) -> None:
        """Forces that no dynamics could begin with are a failure here already."""
        limit = self.job.config.guard.max_force
        if self.job.config.guard.enabled and limit is not None and result.max_force > limit:
            where = Snapshot(0, 0.0, result.positions, result.cell)
            message = (
                f"the minimization ended after {result.n_steps} steps at {result.energy:.6g} eV with a force of "
                f"{result.max_force:.3g} eV/Å: {question(self.job.config)}"
            )
            path = save_crash(self.folder, self.job.atoms, None, where, message)
            self.messages(message, echo=False)
            raise SimulationError(f"{message} The last frame is in {path}.")

    def _interrupt(self, step: int) -> None:
        reason = self.request.reason()
        if reason:
            raise Stopped(f"stopped by {reason} in step {step} of a minimization, which the same command begins anew.")

    def _dynamics(self, record: StageRecord, particles: Particles, saved: Checkpoint | None) -> DynamicsStage:
        stage = self._set_up(record, particles, restart=saved is not None)
        if saved is not None:
            resume(stage, saved, exact=self.commit.same_machine(saved))
        self._restart_bias(stage, resumed=saved is not None)
        bias = stage.forces.bias
        written = None if bias is None else Written(bias.script, self.folder, stage.global_step)
        more = [*self.job.more_columns, *(() if self.watch is None else self.watch.columns)]
        log = Log(self.folder / LOG, more, has_energy=has_energy(self.job.potential))
        kind, frame_time = self.run.manifest["trajectory"]["format"], record.trajectory_every * record.timestep
        trajectory = open_trajectory(self.run.trajectory, kind, self.job.atoms, frame_time)
        if self.watch is not None:
            stage.deviations = Deviations(self.folder, self.job.config.uncertainty, self.job.atoms, self.messages)

        tables = self._tables(stage)

        def save() -> None:
            log.commit()
            trajectory.commit()
            if stage.deviations is not None:
                stage.deviations.commit()
            content = checkpoint_of(stage)
            stage.forces.finish_step()
            if written is not None:
                written.check(stage.global_step)
            self._memory |= memory_of(stage.forces.bias)
            if tables is not None:
                tables.renew()
            self.commit.write(self._with_memory(content))

        def pause() -> None:
            reason, ended = self.request.reason(), stage.step == record.n_steps
            due = time.monotonic() - self.commit.saved_at >= self.job.config.output.checkpoint_every
            if ended or due or reason:
                save()
            if reason and not ended:
                when = f"step {stage.global_step:,} ({stage.time / PS:g} ps)"
                raise Stopped(f"stopped by {reason} at {when}, after a checkpoint. The same command continues.")

        try:
            if saved is None:
                save()
                self._name_bias(stage)
            stage.run(log, trajectory, pause=pause, progress=self.progress)
        except SimulationError as error:
            if self.request.insisted:  # a signal that arrives as OpenMM calls us comes back as a failure of OpenMM
                raise KeyboardInterrupt from None
            if device_error(error, 0, self._device) is not None:  # no matter of physics
                raise
            raise self._explain(stage, error) from None
        finally:
            trajectory.close()
            log.close()
            if stage.deviations is not None:
                stage.deviations.close()
            if stage.forces.bias is not None:
                stage.forces.bias.close()
        return stage

    def _with_memory(self, content: Checkpoint) -> Checkpoint:
        return replace(content, arrays={**content.arrays, **self._memory})

    def _tables(self, stage: DynamicsStage) -> AdaptiveTables | None:
        """The files of an adaptive biasing force."""
        bias, adaptive = stage.forces.bias, self.job.adaptive.get(stage.record.index)
        if adaptive is None or bias is None or isinstance(bias, PlumedBias):
            return None
        start = sum(r.n_steps * r.timestep for r in self.run.stages[: stage.record.index])
        return AdaptiveTables(self.folder, adaptive, bias, stage.record, start)

    def _set_up(self, record: StageRecord, particles: Particles, *, restart: bool) -> DynamicsStage:
        job, config = self.job, self.job.config
        stage, guard = config.stage[record.index], config.guard
        assert not isinstance(stage, Minimize)
        open_cell = None if job.body.pbc.all() else np.where(job.body.pbc[:, None], particles.cell, 0.0)
        forces = Forces(
            self._evaluator(), particles.cell, bias=self._bias(record, restart=restart),
            max_force=guard.max_force if guard.enabled else None,
            max_displacement=guard.max_displacement if guard.enabled else None,
            first_step=record.first_step, bias_cell=open_cell, has_energy=has_energy(job.potential),
        )  # fmt: skip
        earlier = self.run.stages[: record.index]
        return DynamicsStage(
            stage, record, job.body, forces, particles, template=job.atoms, hardware=self._hardware,
            seed=np.random.SeedSequence([int(self.run.manifest["seed"]), record.index]), guard=guard,
            usual_temperature=self._usual_temperature(record), first=all(r.n_steps == 0 for r in earlier),
            start_time=sum(r.n_steps * r.timestep for r in earlier),
            watch=self.watch, drift=self._drift(stage), spread_every=self._spread_every(record),
            in_frames=self.watch is not None and self.run.manifest["trajectory"]["format"] == "extxyz",
            force=self._torch_force(),
        )  # fmt: skip

    def _drift(self, stage: Dynamics) -> EnergyDrift | None:
        """Where the total energy should not change, and there is one."""
        conserves = isinstance(stage, NVE) and self.job.config.guard.enabled and has_energy(self.job.potential)
        return EnergyDrift(self.messages) if conserves else None

    def _spread_every(self, record: StageRecord) -> int:
        """Lines of the log from one spread of forces to the next."""
        wanted = self.job.config.output.spread_every
        if wanted is None:
            return SPREAD_EVERY
        return max(1, round(wanted / (record.log_every * record.timestep)))

    def _usual_temperature(self, record: StageRecord) -> float | None:
        """K: what a stage without a thermostat is measured by: the last target before it, or how the run began."""
        targets = [r.temperature[1] for r in self.run.stages[: record.index] if r.temperature is not None]
        return targets[-1] if targets else self.job.config.start_temperature

    def _bias(self, record: StageRecord, *, restart: bool) -> AnyBias | None:
        script, stage = self.job.scripts.get(record.index), self.job.config.stage[record.index]
        if script is None or isinstance(stage, Minimize):
            return None
        # a script that an earlier stage has used already goes on with its bias and its files
        earlier = [s for index, s in self.job.scripts.items() if index < record.index and s.path == script.path]
        bias = start_bias(
            script, self.job.adaptive.get(record.index), stage, record, self.job.body,
            seed=int(self.run.manifest["seed"]), charges=charges_of(self.job),
            kernel=kernel_of(self.job.config, record.index), log=self.folder / "plumed.log",
            restart=restart or bool(earlier),
        )  # fmt: skip
        recall(bias, self._memory)
        return bias

    def _restart_bias(self, stage: DynamicsStage, *, resumed: bool) -> None:
        """Let a bias that goes on pass its first step, if it has deposited and printed for that step before."""
        bias = stage.forces.bias
        if bias is None or not bias.restarted:
            return
        for action in bias.script.forgetful:
            self.messages(
                f"{bias.script.path.name}: PLUMED does not keep the memory of {action}, which starts anew here: "
                "the run continues statistically, without what it had accumulated or adapted"
            )
        if resumed and bias.script.shared:
            self.messages(
                f"the hills that walkers share in {', '.join(bias.script.shared)} are not cut back to the checkpoint, "
                "as others may have read them: the run continues statistically"
            )
        before = [r.index for r in self.run.stages[: stage.record.index] if r.n_steps > 0]
        last = self.job.scripts.get(before[-1]) if before else None
        if resumed or (last is not None and last.path == bias.script.path):
            stage.answer()
            with self.commit.without_prints():
                stage.forces.finish_step()

    def _name_bias(self, stage: DynamicsStage) -> None:
        bias = stage.forces.bias
        if bias is not None:
            self.messages(f"bias of {bias.script.path.name} by PLUMED {bias.version}, kernel {bias.kernel}")

    def _evaluator(self) -> Evaluator:
        return self.job.evaluator(self._device, self._given)

    def _torch_force(self) -> openmm.Force | None:
        """What OpenMM asks in the place of Python, where a run does so."""
        if not self._force or self._force["name"] != "TorchForce":
            return None
        return torch_force(self.job.potential, bool(self.job.body.pbc.all()), self._device)

    def _explain(self, stage: DynamicsStage, error: SimulationError) -> SimulationError:
        """Leave the last good and the bad frame, and say where they are."""
        message, bad = str(error), None
        if isinstance(error, ForceFailure):
            bad = observe.failed(stage, error)
            message = f"at step {bad.step:,} ({bad.time / PS:g} ps) {message}"
        path = save_crash(self.folder, self.job.atoms, observe.last_good(stage), bad, message)
        self.messages(message, echo=False)
        return SimulationError(f"{message} The last good and the bad frame are in {path}. {ADVICE}")

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
        ase.io.write(text, to_atoms(snapshot, self.job.atoms), format="extxyz")
        write_atomically(self.folder / FINAL, text.getvalue().encode())
        self.messages(f"finished: {last.last_step:,} steps, {end / PS:g} ps")


def _between_stages(record: StageRecord, particles: Particles) -> Checkpoint:
    header = {"stage": record.index, "step": 0, "lattice": particles.frame.lattice.tolist()}
    arrays = {"positions": particles.positions / NM, "velocities": particles.velocities, "cell": particles.cell}
    return Checkpoint(header, arrays)
