"""Structures moved downhill to where no force is left, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.config import Minimize
from mlmd.engine.minimize import minimize
from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.io.fixed import held, held_in_part
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials import Potential, has_stress
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import evaluator
from mlmd.sample.single_point import Failed, facts, finite_stress
from mlmd.train.pool import each, each_when_done, pool, why_ended

if TYPE_CHECKING:
    from mlmd.sample.method import PotentialMethod


@dataclass(frozen=True)
class Relaxed:
    """Where a structure came to rest."""

    frame: LabelledFrame
    """The relaxed structure with its energy (eV), forces (eV/Å) and stress (eV/Å³)."""
    energy_before: float
    """eV, of the structure as it was."""
    max_force: float
    """eV/Å; with the cell relaxed, the generalised forces too."""
    displacement: float
    """Å, the largest of an atom; with the cell relaxed, besides the strain."""
    strain: float
    """Relative change of the volume; 0 where the cell stayed."""
    n_steps: int
    converged: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        frame = self.frame
        return {
            **facts(frame),
            "energy_eV": frame.energy, "energy_before_eV": self.energy_before, "max_force_eV_per_A": self.max_force,
            "displacement_A": self.displacement, "strain": self.strain, "steps": self.n_steps,
            "converged": self.converged, "error": None,
        }  # fmt: skip


def relax(
    method: PotentialMethod, frames: Sequence[LabelledFrame], stage: Minimize, *, n_processes: int = 1
) -> Iterator[tuple[int, Relaxed | Failed]]:
    """Relax structures, each on its own.

    Atoms that a structure file fixes, in one direction or in all, stay where they are. A structure that fails, also by
    an energy or a force that is not finite or by the end of the process that relaxes it, does not keep the others from
    being relaxed.

    Args:
        method: the potential, which every process loads for itself.
        frames: structures; their labels are not looked at.
        stage: how far, how long, whether the cell relaxes too and at which pressure.
        n_processes: structures at a time.

    Returns:
        The number of each structure and where it came to rest, as soon as it has, in any order.

    Raises:
        InputError, ModelError: for a potential or structures that cannot be used.
        SimulationError: when no process can be started.
    """
    compositions = [(frame.source, frame.atoms.get_chemical_symbols()) for frame in frames]
    potential = method.load(compositions)
    if stage.cell:
        _check_cells(potential, frames)
    n_processes = min(n_processes, len(frames))
    if n_processes > 1:
        del potential  # every process has one of its own
        yield from _in_processes(method, frames, stage, n_processes)
        return
    device = choose_device(method.device, potential)
    for number, frame in enumerate(frames):
        yield number, _relaxed(potential, frame, stage, device)


def note_on_held(frames: Sequence[LabelledFrame]) -> str | None:
    """That atoms are held in all directions which their files fix in some; None where there are none."""
    found = [(frame.source, n) for frame in frames if (n := len(held_in_part(frame.atoms)))]
    if not found:
        return None
    name, n = found[0]
    more = f" and others in {len(found) - 1:,} more structures" if len(found) > 1 else ""
    return f"{n:,} atoms of {name}{more} are fixed in some directions only: here they are held in all"


def _check_cells(potential: Potential, frames: Sequence[LabelledFrame]) -> None:
    if not has_stress(potential):
        raise InputError("the potential gives no stress, so that no cell can be relaxed. Leave --cell out.")
    for frame in frames:
        if not frame.atoms.pbc.all():
            raise InputError(f"{frame.source}: --cell needs a structure that is periodic in all three directions.")


def _relaxed(potential: Potential, frame: LabelledFrame, stage: Minimize, device: str) -> Relaxed | Failed:
    """One structure."""
    try:
        return _moved(potential, frame, stage, device)
    except MlmdError as error:
        return Failed(frame, str(error))


def _moved(potential: Potential, frame: LabelledFrame, stage: Minimize, device: str) -> Relaxed:
    """One structure.

    Raises:
        InputError, SimulationError: when it fails.
    """
    atoms = frame.atoms
    mobile = np.ones(len(atoms), dtype=bool)
    mobile[list(held(atoms))] = False
    engine = evaluator(potential, atoms.numbers, atoms.pbc, device=device)
    before = engine.evaluate(atoms.positions, atoms.cell.array)
    result = minimize(stage, engine, atoms, mobile)
    last = engine.evaluate(result.positions, result.cell)
    moved = atoms.copy()
    moved.set_cell(result.cell)
    moved.positions = result.positions
    periodic = bool(atoms.pbc.all())
    # atoms go with the cell: what is left of their way are changes of their place in it
    scaled = atoms.cell.scaled_positions(atoms.positions) if periodic else None
    start = atoms.positions if scaled is None else scaled @ result.cell
    stress = finite_stress(last.virial, moved) if periodic and has_stress(potential) else None
    return Relaxed(
        frame=LabelledFrame(moved, last.energy, last.forces, stress, frame.group, frame.source),
        energy_before=before.energy,
        max_force=result.max_force,
        displacement=float(np.linalg.norm(result.positions - start, axis=1).max()),
        strain=float(abs(np.linalg.det(result.cell)) / atoms.get_volume() - 1.0) if periodic else 0.0,
        n_steps=result.n_steps,
        converged=result.converged,
    )


_loaded: dict[str, Any] = {}  # in a process of `_in_processes`


def _in_processes(
    method: PotentialMethod, frames: Sequence[LabelledFrame], stage: Minimize, n_processes: int
) -> Iterator[tuple[int, Relaxed | Failed]]:
    """All structures; one that ends a process is tried alone, and given up when it ends that one too."""
    todo = dict(enumerate(frames))
    rooted = method.rooted()
    while todo:
        numbers = list(todo)
        try:
            with pool(min(n_processes, len(todo)), _load, rooted, stage) as processes:
                for n, one in each_when_done(processes, _next, list(todo.values())):
                    del todo[numbers[n]]
                    yield numbers[n], one
        except BrokenProcessPool:
            for first in list(todo)[:1]:
                yield first, _alone(rooted, todo.pop(first), stage)


def _alone(method: PotentialMethod, frame: LabelledFrame, stage: Minimize) -> Relaxed | Failed:
    """One structure, in a process that may end.

    Raises:
        SimulationError: when it ends before it is asked.
    """
    ready = False
    try:
        with pool(1, _load, method, stage) as processes:
            ready = next(each(processes, _is_loaded, [()]))
            return next(each(processes, _next, [frame]))
    except BrokenProcessPool:
        if not ready:
            raise SimulationError(
                f"the process that loads {method.name} ended without an answer. {why_ended()}"
            ) from None
        return Failed(frame, f"the process that relaxed it ended without an answer. {why_ended()}")


def _load(method: PotentialMethod, stage: Minimize) -> None:
    """What a process does first."""
    potential = method.load(())
    _loaded.update(potential=potential, stage=stage, device=choose_device(method.device, potential))


def _is_loaded(nothing: tuple[()]) -> bool:
    """Whether `_load` came to its end."""
    return bool(_loaded)


def _next(frame: LabelledFrame) -> Relaxed | Failed:
    """One structure, in a process of `_in_processes`."""
    return _relaxed(_loaded["potential"], frame, _loaded["stage"], _loaded["device"])
