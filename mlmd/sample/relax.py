"""Structures moved downhill to where no force is left, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.config import Minimize
from mlmd.engine.minimize import minimize
from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import volume
from mlmd.potentials import Potential, has_stress
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import evaluator
from mlmd.train.pool import each, pool, why_ended

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
            "structure": frame.source, "formula": frame.atoms.get_chemical_formula("metal"), "atoms": len(frame.atoms),
            "energy_eV": frame.energy, "energy_before_eV": self.energy_before, "max_force_eV_per_A": self.max_force,
            "displacement_A": self.displacement, "strain": self.strain, "steps": self.n_steps,
            "converged": self.converged,
        }  # fmt: skip


def relax(
    method: PotentialMethod,
    frames: Sequence[LabelledFrame],
    stage: Minimize,
    *,
    n_processes: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Relaxed]:
    """Relax structures, each on its own.

    Atoms that a structure file fixes stay where they are.

    Args:
        method: the potential, which every process loads for itself.
        frames: structures; their labels are not looked at.
        stage: how far, how long, whether the cell relaxes too and at which pressure.
        n_processes: structures at a time.
        progress: called with the number of structures done and of all.

    Raises:
        InputError, ModelError: for a potential or structures that cannot be used.
        SimulationError: when an energy or a force is not finite, or a process was killed.
    """
    compositions = [(frame.source, frame.atoms.get_chemical_symbols()) for frame in frames]
    potential = method.load(compositions)
    if stage.cell:
        _check_cells(potential, frames)
    found: list[Relaxed] = []
    n_processes = min(n_processes, len(frames))
    if n_processes > 1:
        del potential  # every process has one of its own
        results: Iterator[Relaxed] = _in_processes(method, frames, stage, n_processes)
    else:
        device = choose_device(method.device)
        results = (_relaxed(potential, frame, stage, device) for frame in frames)
    for one in results:
        found.append(one)
        progress(len(found), len(frames))
    return found


def _check_cells(potential: Potential, frames: Sequence[LabelledFrame]) -> None:
    if not has_stress(potential):
        raise InputError("the potential gives no stress, so that no cell can be relaxed. Leave --cell out.")
    for frame in frames:
        if not frame.atoms.pbc.all():
            raise InputError(f"{frame.source}: --cell needs a structure that is periodic in all three directions.")


def _relaxed(potential: Potential, frame: LabelledFrame, stage: Minimize, device: str) -> Relaxed:
    """One structure.

    Raises:
        InputError, SimulationError: naming it.
    """
    atoms = frame.atoms
    mobile = np.ones(len(atoms), dtype=bool)
    mobile[list(atoms.info.get("constrained", ()))] = False
    engine = evaluator(potential, atoms.numbers, atoms.pbc, device=device)
    try:
        before = engine.evaluate(atoms.positions, atoms.cell.array)
        result = minimize(stage, engine, atoms, mobile)
        last = engine.evaluate(result.positions, result.cell)
    except MlmdError as error:
        raise type(error)(f"{frame.source}: {error}") from None
    moved = atoms.copy()
    moved.set_cell(result.cell)
    moved.positions = result.positions
    periodic = bool(atoms.pbc.all())
    stress = last.virial / volume(result.cell, atoms.pbc) if periodic and has_stress(potential) else None
    # atoms go with the cell: what is left of their way are changes of their place in it
    scaled = atoms.cell.scaled_positions(atoms.positions) if periodic else None
    start = atoms.positions if scaled is None else scaled @ result.cell
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
) -> Iterator[Relaxed]:
    with pool(n_processes, _load, method.rooted(), stage) as processes:
        try:
            yield from each(processes, _next, frames)
        except BrokenProcessPool:
            raise SimulationError(f"one of {n_processes} processes ended without an answer. {why_ended()}") from None


def _load(method: PotentialMethod, stage: Minimize) -> None:
    """What a process does first."""
    _loaded.update(potential=method.load(()), stage=stage, device=choose_device(method.device))


def _next(frame: LabelledFrame) -> Relaxed:
    """One structure, in a process of `_in_processes`."""
    return _relaxed(_loaded["potential"], frame, _loaded["stage"], _loaded["device"])
