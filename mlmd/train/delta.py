"""Delta-learning: a potential that is subtracted from the labels before a fit, and added to what is fitted.

    E = E_given + E_fitted, the latter fitted to E_label - E_given (forces and stress likewise)

(Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087, 2015). A repulsion keeps atoms apart where there are no data,
and of what a simpler potential knows, nothing has to be learned.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mlmd.config import PotentialTable
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials import Potential, has_stress
from mlmd.potentials.combine import Sum
from mlmd.potentials.committee import Committee
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.load import check_energy, load_potential
from mlmd.pretrained.external import External
from mlmd.pretrained.memory import Memory
from mlmd.pretrained.native import Native
from mlmd.train.evaluate import predict
from mlmd.train.folder import ANSWERS

_GROWN = 5.0
"""Root mean square of the forces that are left over that of the labels, from which a potential is in the way."""


def load_given(tables: Sequence[PotentialTable], elements: Sequence[str]) -> Potential:
    """The potential that is given in the baseline.

    Args:
        tables: one or more potentials of an input file, which are added.
        elements: of the data; ZBL, which takes any element, gets them, because its compiled kernel needs them.

    Raises:
        InputError: for wrong tables, elements that it does not know, and potentials that no `.mlmd` file can hold.
        ModelError: for damaged files.
    """
    given = [
        table.model_copy(update={"elements": tuple(elements)}) if table.kind == "zbl" and not table.elements else table
        for table in tables
    ]
    try:
        # by their calculators, whose answers are kept; on the pairs of mlmd they would be asked again and again
        parts = [part.external if isinstance(part, Native) else part for part in _parts(load_potential(given))]
        potential = parts[0] if len(parts) == 1 else Sum(parts)
        check_energy(potential)
    except InputError as error:
        raise InputError(f"baseline: {error}") from None
    unknown = [element for element in elements if potential.elements and element not in potential.elements]
    if unknown:
        raise InputError(
            f"baseline: potential: it knows {', '.join(potential.elements)}; the data also have {', '.join(unknown)}. "
            "Use one that knows all elements of the data."
        )
    for part in _parts(potential):
        if not isinstance(part, torch.nn.Module) or not hasattr(type(part), "restore"):
            raise InputError(
                f"baseline: potential: a {type(part).__name__} cannot be stored in the file of the potential. Use a "
                "kind that mlmd knows."
            )
        for one in part.modules():
            if isinstance(
                one, LearnedPotential | Committee
            ):  # its errors are learned: what it expects of them counts no more
                one.calibration = 0.0
    return potential


def slow_parts(given: Potential) -> list[External]:
    """The models of others that a potential is, or is built of: asking them takes long."""
    return (
        [part for part in given.modules() if isinstance(part, External)] if isinstance(given, torch.nn.Module) else []
    )


def remember(given: Potential, folder: Path) -> None:
    """Keep what the models of others say in files of a folder, from where the next call takes it.

    Raises:
        StorageError: when a file cannot be read.
    """
    for part in slow_parts(given):
        identity = json.dumps([part.spec(), dict(part.facts)], sort_keys=True)
        name = f"{ANSWERS}.{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        part.memory = Memory(folder / name, identity)


def cost(given: Potential, frames: Sequence[LabelledFrame]) -> str:
    """How long the models of others will take for all structures, by one of them."""
    first, n_atoms = frames[0], sum(len(frame.atoms) for frame in frames)
    ready = [part.predictor() for part in slow_parts(given)]
    for _ in range(2):  # the first call is slower than others
        start = time.perf_counter()
        for one in ready:
            one.evaluate(first.atoms)
        seconds = (time.perf_counter() - start) / len(first.atoms) * n_atoms
    return (
        f"baseline: potential: it is asked about {len(frames):,} structures first, about {seconds / 60:.2g} min; what "
        "it says is kept in the folder of the training"
    )


def above(
    frames: Sequence[LabelledFrame], given: Potential, progress: Callable[[int, int], None] | None = None
) -> tuple[LabelledFrame, ...]:
    """Frames whose labels, where they have them, are what a potential leaves of them.

    A stress is left out where the potential has none.

    Raises:
        InputError, SimulationError: as `mlmd.train.evaluate.predict`.
    """
    left, has = [], has_stress(given)
    for frame, said in zip(frames, predict(given, frames, progress=progress), strict=True):
        stress = said.stress if has else None
        left.append(
            replace(
                frame,
                energy=None if frame.energy is None else frame.energy - said.energy,
                forces=None if frame.forces is None else frame.forces - said.forces,
                stress=None if frame.stress is None or stress is None else frame.stress - stress,
            )
        )
    return tuple(left)


def joined(fitted: LearnedPotential, given: Potential | None) -> Potential:
    """What a training results in."""
    return fitted if given is None else Sum([fitted, *_parts(given)])


def in_the_way(labelled: Sequence[LabelledFrame], left: Sequence[LabelledFrame]) -> str | None:
    """Whether a potential leaves far larger forces than there were, which is then hard to learn."""
    before, after = _size(labelled), _size(left)
    if before == 0 or after < _GROWN * before:
        return None
    return (
        f"baseline: potential: of forces of {before:.3g} eV/Å it leaves {after:.3g} eV/Å (root mean squares), which "
        "the fit has to undo. Are its parameters and their units right? A repulsion should end before the first "
        "neighbours."
    )


def _parts(potential: Potential) -> tuple[Potential, ...]:
    return potential.parts if isinstance(potential, Sum) else (potential,)


def _size(frames: Sequence[LabelledFrame]) -> float:
    """Root mean square of all components of forces, eV/Å; 0 without any."""
    components = [frame.forces.ravel() for frame in frames if frame.forces is not None]
    return float(np.sqrt(np.square(np.concatenate(components)).mean())) if components else 0.0
