"""A stage into a checkpoint and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.forces import NM, Answer
from mlmd.engine.frame import Frame
from mlmd.engine.stage import DynamicsStage, Particles
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation, Evaluator


def checkpoint_of(stage: DynamicsStage) -> Checkpoint:
    """Everything a stage needs to go on bit for bit, and positions and velocities for any other platform.

    The forces belong to it: they may have been summed over the pairs of an earlier search than the one the next
    step uses (a trial volume searches too), and a bias may have grown since.
    """
    answer, (header_of_engine, arrays_of_engine) = stage.answer(), stage.engine_state()
    header: dict[str, Any] = {
        "stage": stage.record.index,
        "step": stage.step,
        "lattice": stage.frame.lattice.tolist(),
        "energy": answer.evaluation.energy,
        "potential_energy": answer.potential.energy,
        "barostat": None if stage.barostat is None else stage.barostat.state(),
        **header_of_engine,
    }
    arrays = {
        "positions": answer.positions,
        "velocities": stage.velocities(),
        "cell": stage.forces.cell,
        "forces": answer.evaluation.forces,
        "virial": answer.evaluation.virial,
        **arrays_of_engine,
    }
    if not stage.forces.has_energy:  # what the potential is recognised by when the run continues
        arrays["potential_forces"] = answer.potential.forces
    arrays |= {f"evaluator/{name}": array for name, array in stage.forces.evaluator.state().items()}
    return Checkpoint(header, arrays)


def resume(stage: DynamicsStage, checkpoint: Checkpoint, *, exact: bool) -> None:
    """Go on from a checkpoint of this stage.

    Args:
        stage: newly set up.
        checkpoint: of the same stage.
        exact: whether platform and versions are those of the checkpoint; else only positions, velocities and the
            cell are taken, a statistical continuation.

    Raises:
        SimulationError: when the potential gives another energy than it gave then, or other forces where it has none.
    """
    header, arrays = checkpoint.header, checkpoint.arrays
    stage.step = int(header["step"])
    stage.frame = Frame(stage.frame.rotation, np.array(header["lattice"]))
    stage.forces.cell = arrays["cell"]
    if stage.barostat is not None:
        stage.barostat.restore(header["barostat"])
    restore_evaluator(stage.forces.evaluator, header, arrays)
    stage.go_to(header, arrays, exact=exact)
    if exact:
        evaluation = Evaluation(float(header["energy"]), arrays["forces"], arrays["virial"])
        # of the potential alone only the energy is needed: no frame is written at this step again
        potential = replace(evaluation, energy=float(header["potential_energy"]))
        step = stage.global_step
        stage.forces.resume(Answer(arrays["positions"], arrays["cell"], evaluation, potential, step), step)


def restore_evaluator(evaluator: Evaluator, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """The potential must say what it said; afterwards its pair list is what it was."""
    saved = {name.removeprefix("evaluator/"): a for name, a in arrays.items() if name.startswith("evaluator/")}
    evaluator.restore(saved)
    found = evaluator.evaluate(arrays["positions"] * NM, arrays["cell"])
    evaluator.restore(saved)
    if (forces := arrays.get("potential_forces")) is not None:
        _same_forces(found.forces, forces)
        return
    now, then = found.energy, float(header["potential_energy"])
    if not abs(now - then) <= 1e-6 * max(1.0, abs(then)):
        raise SimulationError(
            f"the potential gives {now:.9g} eV at the checkpoint, where it gave {then:.9g} eV: it is not the same "
            "potential, or computes differently here."
        )


def _same_forces(now: np.ndarray, then: np.ndarray) -> None:
    difference = float(np.abs(now - then).max())
    if not difference <= 1e-5 * max(1.0, float(np.abs(then).max())):
        raise SimulationError(
            f"forces at the checkpoint differ by up to {difference:.3g} eV/Å from those that the potential gave there: "
            "it is not the same potential, or computes differently here."
        )


def particles_at(checkpoint: Checkpoint, rotation: np.ndarray) -> Particles:
    """Where everything was at a checkpoint."""
    arrays, lattice = checkpoint.arrays, np.array(checkpoint.header["lattice"])
    return Particles(arrays["positions"] * NM, arrays["velocities"], arrays["cell"], Frame(rotation, lattice))
