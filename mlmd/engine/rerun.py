"""A rerun: frame after frame of a trajectory through the potential and PLUMED, as `plumed driver` does; nothing moves.

PLUMED is asked once for each frame, at the step that the frame had, and updated then: hills are deposited and lines
printed where that step is a multiple of their stride. What a run writes and how it continues is as in any other.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mlmd import units
from mlmd.bias import memory_of
from mlmd.bias.plumed import PlumedBias, copy_inputs, working_in
from mlmd.bias.written import flush
from mlmd.config import Rerun
from mlmd.engine import observe
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.commit import Commit, machine_of
from mlmd.engine.deviation import CANDIDATES, MODEL_DEVI, Deviations
from mlmd.engine.forces import NM
from mlmd.engine.frame import IDENTITY
from mlmd.engine.job import Job, warnings_of
from mlmd.engine.mixed import why_inexact
from mlmd.engine.observe import Moment
from mlmd.engine.outputs import NEEDS_ENERGY, ExtXYZ, Log, Snapshot, log_columns, to_atoms
from mlmd.engine.replay import cell_notes
from mlmd.engine.resume import restore_evaluator
from mlmd.engine.stage_bias import Biased
from mlmd.engine.stage_files import StageFiles
from mlmd.engine.stop import StopRequest
from mlmd.engine.system import PS
from mlmd.engine.topology import whole
from mlmd.engine.watch import watch_of
from mlmd.errors import SimulationError, Stopped
from mlmd.io.recording import Frame
from mlmd.potentials import Evaluation, has_energy, has_stress
from mlmd.potentials.nothing import Nothing
from mlmd.potentials.on_gpu import why_slow
from mlmd.potentials.scaled import scale_of
from mlmd.pretrained.external import reaches_in, recall_reaches
from mlmd.rundir import FINAL, LOG, Messages, Run, write_atomically


@dataclass(frozen=True)
class Answer:
    """What potential and bias say of a frame."""

    step: int
    """Of the dynamics that the frame is of."""
    frame: Frame
    potential: Evaluation
    """Energy and virial are zero where the potential knows none."""
    bias: float
    """eV."""
    bias_forces: np.ndarray
    """(n_atoms, 3) eV/Å."""
    bias_virial: np.ndarray
    """(3, 3) eV."""


class Rerunning:
    """Runs the frames that are left."""

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
        assert job.replay is not None
        self.job, self.run, self.messages, self.request, self.progress = job, run, messages, request, progress
        self.folder, self.replay, (self.record,) = run.path, job.replay, run.stages
        stage = job.config.stage[0]
        assert isinstance(stage, Rerun)
        self.stage = stage
        self._device, self._given = hardware["device"], hardware
        self.watch = watch_of(job, messages, self._device)
        self.commit = Commit(run, job.scripts.values(), machine_of(job, hardware), messages, (MODEL_DEVI, CANDIDATES))
        self._has_energy = has_energy(job.potential)
        self._evaluator = job.evaluator(self._device, self._given)
        self._bias: PlumedBias | None = None

    def go(self) -> None:
        """Run to the end.

        Raises:
            SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
            InputError: when a frame is none of the structure.
        """
        saved, script = self.commit.load(), self.job.scripts.get(0)
        self._begin(saved)
        if saved is None:
            if script is not None:
                copy_inputs(script, self.folder)
            saved = Checkpoint({"stage": 0, "step": 0, "frame": 0, "stopped": False, **_UNTURNED}, _nothing(self.job))
            self.commit.write(saved)  # before there is a line in the log, or a file of PLUMED
        elif saved.header["frame"]:
            self.commit.same_machine(saved)
        n_done = int(saved.header["frame"])
        if n_done < self.replay.n_frames and not saved.header["stopped"]:
            with working_in(self.folder) if script is not None else nullcontext():
                n_done = self._frames(saved, n_done)
        self._finish(n_done)

    def _begin(self, saved: Checkpoint | None) -> None:
        """Say what a person should know."""
        slow = why_slow(self.job.potential, self._device)
        said = [slow] if slow else []
        if self.job.mixed is not None and (inexact := why_inexact(self._given["force field"])):
            said.append(inexact)
        if saved is None:
            said += [*warnings_of(self.job.potential), *self.replay.notes]
            said += [note for script in self.job.scripts.values() for note in cell_notes(script, self.job.atoms)]
        for text in said:
            self.messages(text)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _frames(self, saved: Checkpoint, n_done: int) -> int:
        """Go through the frames that are left; how many are done in the end."""
        n_frames, first, clock = self.replay.n_frames, n_done, time.perf_counter()
        begins = f"begins: {n_frames:,} frames" if not n_done else f"continues after {n_done:,} of {n_frames:,} frames"
        self.messages(f"stage 1 (rerun) {begins}")
        self._start_bias(saved, n_done)
        files = self._open_files(saved.position[1] if n_done else int(self.replay.steps[0]))
        stopped = False
        try:
            while n_done < n_frames and not stopped:
                answer = self._ask(n_done)
                self._write(answer, files)
                n_done += 1
                if self._bias is not None:
                    self._bias.update()
                    flush()  # its lines are there as soon as those of the log
                    stopped = self._bias.stopped
                    if n_done == 1:
                        self.messages(self._bias.begins())
                self._tell(answer, n_done, (time.perf_counter() - clock) / (n_done - first))
                self._pause(answer, files, n_done, stopped=stopped)
        finally:
            files.close()
        if stopped:
            self.messages(f"PLUMED ends the rerun at step {answer.step:,}, after {n_done:,} of {n_frames:,} frames")
        seconds = time.perf_counter() - clock
        self.messages(f"stage 1 (rerun) done: {n_done - first:,} frames in {seconds:.1f} s")
        return n_done

    def _ask(self, number: int) -> Answer:
        """Potential and bias of a frame.

        Raises:
            SimulationError: when energy or forces are not finite.
        """
        frame, step = self.replay.frame(number), int(self.replay.steps[number])
        positions = np.ascontiguousarray(frame.positions, dtype=float)
        result = self._evaluator.evaluate(self._whole(positions, frame.cell), np.ascontiguousarray(frame.cell))
        if not self._has_energy:
            result = replace(result, energy=0.0, virial=np.zeros((3, 3)))
        if not (np.isfinite(result.energy) and np.isfinite(result.forces).all()):
            raise SimulationError(
                f"{self._place(number)}: the potential gave a result that is not finite: energy {result.energy} eV. "
                "Are atoms on top of each other? Leave the frame out with first, last or every."
            )
        start = np.nan_to_num(result.virial)  # of a potential that knows none the bias has one all the same
        forces, virial, bias = result.forces.copy(), start.copy(), 0.0
        if self._bias is not None:
            bias = self._bias.compute(step, positions, self._box(frame.cell), result.energy, forces, virial)
            if not (np.isfinite(bias) and np.isfinite(forces).all()):
                raise SimulationError(f"{self._place(number)}: the bias is not finite: {bias} eV.")
        return Answer(step, frame, result, bias, forces - result.forces, virial - start)

    def _whole(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """(n_atoms, 3) Å in which no bond of a force field crosses the cell: it knows no images of bonds."""
        mixed = self.job.mixed
        if mixed is None or not mixed.atoms.pbc.all():
            return positions
        return whole(positions, cell, [(bond.atom1.index, bond.atom2.index) for bond in mixed.topology.bonds()])

    def _place(self, number: int) -> str:
        return f"frame {self.replay.rows[number]} (counted from 0) of {self.replay.recording.path.name}"

    def _box(self, cell: np.ndarray) -> np.ndarray:
        """(3, 3) Å as PLUMED gets it: rows of zeros for open directions."""
        return np.ascontiguousarray(np.where(self.job.body.pbc[:, None], cell, 0.0))

    def _start_bias(self, saved: Checkpoint, n_done: int) -> None:
        """PLUMED, and the pairs of atoms that the potential knows, as they were after the last frame."""
        script, job = self.job.scripts.get(0), self.job
        if n_done:
            recall_reaches(job.potential, saved.arrays)
            asked = self._whole(saved.arrays["positions"] * NM, saved.arrays["cell"]) / NM
            restore_evaluator(self._evaluator, saved.header, {**saved.arrays, "positions": asked})
        if script is None:
            return
        biased, resumed = Biased(job, self.run, self.messages), n_done > 0
        started = biased.bias(self.record, self._evaluator, job.atoms.cell.array, saved.arrays, resumed=resumed)
        assert isinstance(started, PlumedBias)
        self._bias = started
        if not resumed:
            return
        for message in started.loses(resumed=True):
            self.messages(message)
        arrays, energy = saved.arrays, float(saved.header["potential_energy"])
        with self.commit.without_prints():  # PLUMED deposits nothing in a first step, and this one has been printed
            started.compute(
                saved.position[1], arrays["positions"] * NM, self._box(arrays["cell"]), energy,
                np.zeros_like(arrays["positions"]), np.zeros((3, 3)),
            )  # fmt: skip
            started.update()

    # -- what is written ---------------------------------------------------------------------------------------------

    def _open_files(self, step: int) -> StageFiles:
        """Files to write to, after a step that is written."""
        job, steps = self.job, self.replay.steps

        def multiples(stride: int, before: int, now: int) -> int:
            return int(np.count_nonzero(steps[(steps > before) & (steps <= now)] % stride == 0))

        columns = [*job.more_columns, *(() if self.watch is None else self.watch.columns)]
        if self._bias is not None:
            self._bias.open(self.folder, step, multiples)
        return StageFiles(
            Log(self.folder / LOG, columns, has_energy=self._has_energy),
            ExtXYZ(self.run.trajectory, job.atoms) if self.stage.forces else None,
            None if self.watch is None
            else Deviations(self.folder, job.config.uncertainty, job.atoms, self.messages),
            book=None,
            bias=self._bias,
        )  # fmt: skip

    def _write(self, answer: Answer, files: StageFiles) -> None:
        """The line of the log, the frame where it is asked for, and what the potential says of its errors."""
        found, frame = None, answer.frame
        if self.watch is not None:
            found = self.watch.look(frame.positions, frame.cell, spread=True)
        more = [*(answer.potential.parts or {}).values()]
        if self.watch is not None and found is not None:
            more += self.watch.row(found)
        files.log.row(answer.step, 1, [*self._row(answer), *more])
        moment = self._moment(answer)
        told = moment if found is None else observe.with_uncertainty(moment, found)
        if isinstance(files.trajectory, ExtXYZ):
            files.trajectory.structure(self._atoms(answer, told))
        if self.watch is not None and found is not None:
            if files.deviations is not None:
                files.deviations.take(found, told)
            self.watch.check(found, answer.step, self._time(answer))

    def _row(self, answer: Answer) -> list[float]:
        """The columns of log.csv after step and stage: those of atoms at rest, as no velocities are known."""
        body, potential = self.job.body, answer.potential
        volume = abs(float(np.linalg.det(answer.frame.cell))) if body.pbc.all() else float("nan")
        pressure = -float(np.trace(potential.virial + answer.bias_virial)) / (3.0 * volume)
        target = self.stage.temperature
        values = {
            "time": self._time(answer) / PS,
            "potential energy [eV]": potential.energy,
            "kinetic": float("nan"),
            "energy per atom [eV]": (potential.energy + answer.bias) / body.n_atoms,
            "temperature": float("nan"),
            "pressure [bar]": pressure / units.BAR,
            "volume": volume,
            "density": body.masses.sum() / volume * units.DENSITY,
            "target": float("nan") if target is None else target,
            "bias": answer.bias,
        }
        assert len(values) == len(log_columns(has_energy=True)) - 2
        return [value for name, value in values.items() if self._has_energy or name not in NEEDS_ENERGY]

    def _time(self, answer: Answer) -> float:
        """fs."""
        return answer.step * self.record.timestep

    def _moment(self, answer: Answer) -> Snapshot:
        known = not isinstance(self.job.potential, Nothing)
        return Snapshot(
            answer.step, self._time(answer), answer.frame.positions, answer.frame.cell,
            energy=answer.potential.energy if self._has_energy else None,
            forces=answer.potential.forces if known else None, scale=scale_of(self._evaluator),
        )  # fmt: skip

    def _atoms(self, answer: Answer, moment: Snapshot) -> ase.Atoms:
        """A frame with what potential and bias say."""
        atoms, periodic = to_atoms(moment, self.job.atoms), bool(self.job.body.pbc.all())
        if periodic and self.job.mixed is None and has_stress(self.job.potential):
            assert isinstance(atoms.calc, SinglePointCalculator)
            atoms.calc.results["stress"] = _voigt(answer.potential.virial / atoms.get_volume())
        if self._bias is not None:
            atoms.info["bias_energy"] = answer.bias
            atoms.set_array("bias_forces", answer.bias_forces)
            if periodic and self.job.mixed is None:
                atoms.info["bias_stress"] = (answer.bias_virial / atoms.get_volume()).ravel()
        return atoms

    def _tell(self, answer: Answer, n_done: int, seconds: float) -> None:
        """A live line; `seconds` is for a frame."""
        n_frames, potential = self.replay.n_frames, answer.potential
        energy = (potential.energy + answer.bias) / self.job.body.n_atoms if self._has_energy else None
        left = (n_frames - n_done) * seconds
        self.progress(Moment(self.record, answer.step, float("nan"), energy, 0.0, left, (n_done, n_frames)))

    # -- checkpoints and the end -------------------------------------------------------------------------------------

    def _pause(self, answer: Answer, files: StageFiles, n_done: int, *, stopped: bool) -> None:
        """Make a checkpoint where one is due, and stop where that is asked for."""
        reason, ended = self.request.reason(), stopped or n_done == self.replay.n_frames
        due = time.monotonic() - self.commit.saved_at >= self.job.config.output.checkpoint_every
        if ended or due or reason:
            files.commit()
            files.finish_bias(answer.step)
            self.commit.write(self._kept(answer, n_done, stopped=stopped))
        if reason and not ended:
            raise Stopped(
                f"stopped by {reason} at step {answer.step:,} ({self._time(answer) / PS:g} ps), after {n_done:,} of "
                f"{self.replay.n_frames:,} frames and a checkpoint. The same command continues."
            )

    def _kept(self, answer: Answer, n_done: int, *, stopped: bool) -> Checkpoint:
        """Everything that the frames which are left need."""
        potential, frame = answer.potential, answer.frame
        header = {
            "stage": 0, "step": answer.step, "frame": n_done, "stopped": stopped, **_UNTURNED,
            "energy": potential.energy + answer.bias, "potential_energy": potential.energy,
        }  # fmt: skip
        arrays = {
            **_nothing(self.job), "positions": frame.positions / NM, "cell": frame.cell,
            "forces": potential.forces + answer.bias_forces, "virial": potential.virial + answer.bias_virial,
        }  # fmt: skip
        if not self._has_energy:
            arrays["potential_forces"] = potential.forces
        arrays |= {f"evaluator/{name}": array for name, array in self._evaluator.state().items()}
        arrays |= memory_of(self._bias) | reaches_in(self.job.potential)
        return Checkpoint(header, arrays)

    def _finish(self, n_done: int) -> None:
        frame, step = self.replay.frame(n_done - 1), int(self.replay.steps[n_done - 1])
        last = Snapshot(step, step * self.record.timestep, frame.positions, frame.cell)
        text = io.StringIO()
        ase.io.write(text, to_atoms(last, self.job.atoms), format="extxyz")
        write_atomically(self.folder / FINAL, text.getvalue().encode())
        self.messages(f"finished: {n_done:,} frames")


_UNTURNED = {"lattice": IDENTITY.lattice.tolist(), "barostat": None}
"""What stages of dynamics keep of the cell: frames are in the axes of their file."""


def _nothing(job: Job) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint before any frame."""
    zero = np.zeros((job.body.n_atoms, 3))
    return {"positions": job.atoms.positions / NM, "velocities": zero, "cell": job.atoms.cell.array}


def _voigt(stress: np.ndarray) -> np.ndarray:
    """xx, yy, zz, yz, xz, xy of a symmetric tensor (3, 3)."""
    return stress[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
