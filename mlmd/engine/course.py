"""The course of a run: from the newest checkpoint through the stages that are left, with one commit point."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ase.io
import numpy as np

from mlmd.bias.plumed import PlumedBias, working_in
from mlmd.config import Minimize
from mlmd.engine import checkpoint as checkpoints
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.folder import Messages
from mlmd.engine.forces import NM, ForceFailure, Forces
from mlmd.engine.frame import Frame, frame_of
from mlmd.engine.guard import ADVICE, save_crash
from mlmd.engine.job import Job
from mlmd.engine.minimize import minimize
from mlmd.engine.outputs import DCD, Log, Snapshot, measure, open_trajectory, rewind, to_atoms
from mlmd.engine.stage import DynamicsStage, Hardware, Moment, Particles, particles_at
from mlmd.engine.stop import StopRequest
from mlmd.engine.system import PS, maxwell_boltzmann
from mlmd.errors import SimulationError, Stopped
from mlmd.potentials import Evaluator
from mlmd.potentials.evaluate import evaluator
from mlmd.rundir import CHECKPOINTS, FINAL, LOG, Run, StageRecord, write_atomically


class Course:
    """Runs the stages that are left, makes checkpoints, and ends with final.extxyz."""

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
        self._hardware = hardware
        self._saved_at = time.monotonic()
        self._mutable = {LOG: 0, run.trajectory.name: DCD.mutable if run.trajectory.suffix == ".dcd" else 0}
        self._prints = _names(script.prints for script in job.scripts.values())
        self._histories = _names(script.histories for script in job.scripts.values())
        self._rewrites = _names(script.rewrites for script in job.scripts.values())

    def go(self) -> None:
        """Run to the end.

        Raises:
            SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
        """
        # PLUMED opens its files in the current folder
        with working_in(self.folder):
            saved = self._load()
            particles = self._start() if saved is None else particles_at(saved, self._rotation)
            for record in self.run.stages:
                if saved is not None and record.index < saved.position[0]:
                    continue
                here = saved if saved is not None and record.index == saved.position[0] else None
                if here is not None and here.position[1] >= record.n_steps:
                    continue
                particles = self._stage(record, particles, here)
            self._finish(particles)

    # -- stages ----------------------------------------------------------------------------------------------

    def _stage(self, record: StageRecord, particles: Particles, saved: Checkpoint | None) -> Particles:
        stage = self.job.config.stage[record.index]
        name = f"stage {record.index + 1} ({record.kind})"
        if isinstance(stage, Minimize):
            self.messages(f"{name} begins")
            return self._minimize(stage, record, particles)
        resumed = f" continues at step {saved.position[1]:,} of" if saved is not None else " begins:"
        self.messages(f"{name}{resumed} {record.n_steps:,} steps, {record.n_steps * record.timestep / PS:g} ps")
        return self._dynamics(record, particles, saved)

    def _minimize(self, stage: Minimize, record: StageRecord, particles: Particles) -> Particles:
        job, frame = self.job, particles.frame
        atoms = job.atoms.copy()
        atoms.set_cell(frame.user_cell(particles.cell))
        atoms.positions = frame.to_user(particles.positions)
        result = minimize(stage, self._evaluator(), atoms, job.body.mobile, self._interrupt)
        how = "converged" if result.converged else "did NOT converge"
        self.messages(
            f"stage {record.index + 1} (minimize) {how} in {result.n_steps} steps: energy {result.energy:.6f} eV, "
            f"largest force {result.max_force:.3g} eV/Å"
        )
        moved = self._relaxed(result.positions, result.cell, particles)
        self._write_checkpoint(_between_stages(record, moved))
        return moved

    def _relaxed(self, positions: np.ndarray, cell: np.ndarray, before: Particles) -> Particles:
        """A minimum in the engine's frame; the orientation stays, since a turned crystal is the same crystal."""
        reduced, frame = frame_of(cell, self.job.atoms.pbc)
        return Particles(
            frame.to_engine(positions),
            before.velocities,
            reduced,
            Frame(before.frame.rotation, frame.lattice),
        )

    def _dynamics(self, record: StageRecord, particles: Particles, saved: Checkpoint | None) -> Particles:
        stage = self._set_up(record, particles, restart=saved is not None)
        if saved is not None:
            exact = self._same_machine(saved)
            stage.resume(saved, exact=exact)
        log = Log(self.folder / LOG)
        frame_time = record.trajectory_every * record.timestep
        trajectory = open_trajectory(
            self.folder / self.run.trajectory.name, str(self.run.manifest["trajectory"]["format"]), self.job.atoms,
            frame_time,
        )  # fmt: skip

        def commit() -> None:
            log.commit()
            trajectory.commit()

        def pause(stage: DynamicsStage) -> bool:
            reason = self.request.reason()
            due = time.monotonic() - self._saved_at >= self.job.config.output.checkpoint_every
            ended = stage.step == record.n_steps
            if ended or due or reason:
                commit()
                self._checkpoint(stage)
            if reason and not ended:
                raise Stopped(
                    f"stopped by {reason} at step {stage.global_step:,} ({stage.time / PS:g} ps), after a checkpoint. "
                    "The same command continues."
                )
            return False

        try:
            if saved is None:
                commit()
                self._checkpoint(stage)
            stage.run(log, trajectory, pause=pause, progress=self.progress)
        except SimulationError as error:
            raise self._explain(stage, error) from None
        finally:
            trajectory.close()
            log.close()
            if stage.forces.bias is not None:
                stage.forces.bias.close()
        return stage.particles()

    def _set_up(self, record: StageRecord, particles: Particles, *, restart: bool) -> DynamicsStage:
        job, config = self.job, self.job.config
        stage = config.stage[record.index]
        assert not isinstance(stage, Minimize)
        guard = config.guard
        open_cell = None if job.body.pbc.all() else np.where(job.body.pbc[:, None], particles.cell, 0.0)
        forces = Forces(
            self._evaluator(), particles.cell, bias=self._bias(record, restart=restart),
            max_force=guard.max_force if guard.enabled else None, first_step=record.first_step, bias_cell=open_cell,
        )  # fmt: skip
        return DynamicsStage(
            stage, record, job.body, forces, particles, template=job.atoms,
            hardware=Hardware(self._hardware["openmm"], self._hardware["properties"]),
            seed=np.random.SeedSequence([int(self.run.manifest["seed"]), record.index]), guard=guard,
            start_time=sum(r.n_steps * r.timestep for r in self.run.stages[: record.index]),
            first=all(r.n_steps == 0 for r in self.run.stages[: record.index]),
        )  # fmt: skip

    def _bias(self, record: StageRecord, *, restart: bool) -> PlumedBias | None:
        script = self.job.scripts.get(record.index)
        if script is None:
            return None
        plumed = getattr(self.job.config.stage[record.index], "plumed")  # noqa: B009 (only stages of dynamics have it)
        # a script that an earlier stage has used already goes on with its bias and its files
        earlier = [s for index, s in self.job.scripts.items() if index < record.index and s.path == script.path]
        return PlumedBias(
            script, masses=self.job.body.masses, charges=_charges(self.job), timestep=record.timestep,
            temperature=record.temperature[0] if record.temperature else None, kernel=plumed.kernel,
            log=self.folder / "plumed.log", restart=restart or bool(earlier),
        )  # fmt: skip

    def _evaluator(self) -> Evaluator:
        body = self.job.body
        return evaluator(self.job.potential, body.numbers, body.pbc, device=self._hardware["device"])

    def _interrupt(self, step: int) -> None:
        reason = self.request.reason()
        if reason:
            raise Stopped(f"stopped by {reason} in step {step} of a minimization, which the same command begins anew.")

    def _explain(self, stage: DynamicsStage, error: SimulationError) -> SimulationError:
        """Leave the last good and the bad frame, and say where they are."""
        message = str(error)
        good = bad = None
        if isinstance(error, ForceFailure):
            step = stage.forces.step if stage.forces.step is not None else stage.global_step
            when = stage.time + (step - stage.global_step) * stage.record.timestep
            message = f"at step {step:,} ({when / PS:g} ps) {message}"
            bad = replace(stage.failed_snapshot(error), step=step, time=when)
        answer = stage.forces.answer
        if answer is not None:
            good = Snapshot(
                stage.global_step, stage.time, stage.frame.to_user(answer.positions * NM),
                stage.frame.user_cell(answer.cell), energy=answer.evaluation.energy,
                forces=stage.frame.to_user(answer.evaluation.forces),
            )  # fmt: skip
        path = save_crash(self.folder, self.job.atoms, good, bad, message)
        self.messages(message)
        return SimulationError(f"{message} The last good and the bad frame are in {path}. {ADVICE}")

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _checkpoint(self, stage: DynamicsStage) -> None:
        """The commit point: outputs durable, bias updated, then one atomic file that remembers all sizes.

        What a bias deposits at this step goes into its history now, and a continued run takes the forces of this
        step from the checkpoint, so that it does not matter that PLUMED deposits nothing in a first step. What
        PLUMED prints at this step is cut away again when the stage continues, because PLUMED then prints it anew.
        """
        content = stage.checkpoint()
        before = measure(self.folder, self._prints)
        stage.forces.finish_step()
        self._write_checkpoint(content, prints=before)

    def _write_checkpoint(self, content: Checkpoint, prints: dict[str, Any] | None = None) -> None:
        names = self._mutable | self._prints | self._histories
        header = {
            **content.header,
            "files": measure(self.folder, names),
            "prints": prints or {},
            "rewritten": [name for name in self._rewrites if (self.folder / name).exists()],
            "machine": self._machine(),
        }
        copies = {
            f"file/{name}": np.frombuffer((self.folder / name).read_bytes(), np.uint8) for name in header["rewritten"]
        }
        checkpoints.write(self.folder / CHECKPOINTS, Checkpoint(header, {**content.arrays, **copies}))
        self._saved_at = time.monotonic()

    def _load(self) -> Checkpoint | None:
        """The newest valid checkpoint, all files cut back to it."""
        saved, problems = checkpoints.newest(self.folder / CHECKPOINTS)
        for problem in problems:
            self.messages(f"{problem} The one before it is used.")
        recorded: dict[str, Any] = {}
        if saved is not None:
            recorded = dict(saved.header["files"])
            stage, step = saved.position
            if step < self.run.stages[stage].n_steps:  # the stage goes on, and prints this step again
                for name in self._prints:
                    recorded.pop(name, None)
                recorded |= saved.header["prints"]
        for line in rewind(self.folder, recorded, self._mutable | self._prints | self._histories):
            self.messages(line)
        for name in self._rewrites:
            if saved is not None and name in saved.header["rewritten"]:
                write_atomically(self.folder / name, saved.arrays[f"file/{name}"].tobytes())
            else:
                (self.folder / name).unlink(missing_ok=True)
        return saved

    def _machine(self) -> dict[str, Any]:
        versions = self.run.manifest["versions"]
        return {
            "platform": self._hardware["openmm"], "device": self._hardware["device"],
            "threads": self._hardware["threads"], "openmm": versions["openmm"], "torch": versions["torch"],
        }  # fmt: skip

    def _same_machine(self, saved: Checkpoint) -> bool:
        """Whether OpenMM's own checkpoint can be used; says so when the continuation is statistical only."""
        then, now = saved.header["machine"], self._machine()
        changed = [f"{key}: {then[key]} before, {now[key]} now" for key in now if then.get(key) != now[key]]
        if changed:
            self.messages("the run continues statistically, not bit for bit: " + "; ".join(changed))
        return bool(then["platform"] == now["platform"] and then["openmm"] == now["openmm"])

    # -- beginning and end -----------------------------------------------------------------------------------

    @property
    def _rotation(self) -> np.ndarray:
        return self.job.frame.rotation

    def _start(self) -> Particles:
        job, frame = self.job, self.job.frame
        if job.config.velocities == "file":
            from ase import units as ase_units

            velocities = job.atoms.get_velocities() * ase_units.fs * job.body.mobile[:, None]
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
        temporary = self.folder / (FINAL + ".tmp")
        ase.io.write(temporary, to_atoms(snapshot, self.job.atoms), format="extxyz")
        os.replace(temporary, self.folder / FINAL)  # noqa: PTH105
        self.messages(f"finished: {last.last_step:,} steps, {end / PS:g} ps")


def _names(groups: Any) -> dict[str, int]:
    return {name: 0 for group in groups for name in group}


def _charges(job: Job) -> np.ndarray | None:
    """(n_atoms,) e from the structure file, for PLUMED; never guessed."""
    charges = job.atoms.arrays.get("initial_charges")
    return None if charges is None else np.array(charges, dtype=float)


def _between_stages(record: StageRecord, particles: Particles) -> Checkpoint:
    header = {"stage": record.index, "step": 0, "lattice": particles.frame.lattice.tolist()}
    arrays = {
        "positions": particles.positions / NM,
        "velocities": particles.velocities,
        "cell": particles.cell,
    }
    return Checkpoint(header, arrays)
