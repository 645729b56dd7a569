"""What a potential says about labelled structures, and how far that is from their labels."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.graph import VOIGT
from mlmd.neighbors import batch, build_graph, volume
from mlmd.potentials import Potential, has_energy, modelfile
from mlmd.potentials.evaluate import CompiledPredictor, compiled_predictor
from mlmd.potentials.learned import ATOMS_AT_ONCE, ATOMS_AT_ONCE_GPU
from mlmd.potentials.load import check_elements
from mlmd.potentials.threads import undivided
from mlmd.train.equations import batches
from mlmd.train.error_table import UNITS, ErrorRow, ErrorTable, Part, Property
from mlmd.train.pool import each, pool, why_ended
from mlmd.units import BAR

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame

_IN_TABLE: Mapping[str, float] = {"energy": 1e3, "forces": 1e3, "stress": 0.1 / BAR}
"""eV, eV/Å and eV/Å³ in the units of an `ErrorTable`."""


@dataclass(frozen=True)
class Labels:
    """What a potential says about one structure."""

    energy: float
    """eV, of the whole structure."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å."""
    stress: np.ndarray | None
    """(3, 3) eV/Å³, positive in tension; None without full periodicity."""


def predict(
    potential: Potential,
    frames: Sequence[LabelledFrame],
    *,
    n_processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Labels]:
    """Energy, forces and stress of structures; the same numbers whatever the number of processes.

    A potential with a compiled kernel is asked about one structure after the other, in as many threads of this process
    as there may be processes. Others are asked about some structures at a time, about 256 atoms together on a CPU; in
    processes of their own work those that a `.mlmd` file can hold, the rest in this process alone.

    Args:
        potential: on the device where it is to compute.
        frames: their labels are not looked at.
        n_processes: on the CPU, each with one thread; threads, where a kernel computes.
        progress: called with the number of structures done and of all.

    Returns:
        In the order of the frames.

    Raises:
        InputError: for elements that the potential does not know and for impossible structures, naming them.
        SimulationError: when an energy or a force is not finite, or a process was killed.
    """
    _check_elements(potential, frames)
    device = _device(potential)
    makes = compiled_predictor(potential, device)
    if makes is not None:
        labels = []
        for label in _by_kernels(makes, frames, min(n_processes, len(frames))):
            labels.append(label)
            if progress is not None:
                progress(len(labels), len(frames))
        return labels
    some = list(batches(frames, ATOMS_AT_ONCE if device.type == "cpu" else ATOMS_AT_ONCE_GPU))
    n_processes = min(n_processes, len(some))
    labels = []
    with tempfile.TemporaryDirectory(prefix="mlmd-") as folder:
        copy = Path(folder) / "potential.mlmd"
        precision = _save_copy(potential, copy) if n_processes > 1 and device.type == "cpu" else None
        if precision is None:
            results: Iterable[list[Labels]] = (_predict_batch(potential, one, device) for one in some)
        else:
            results = _in_processes(copy, precision, some, n_processes)
        for one in results:
            labels += one
            if progress is not None:
                progress(len(labels), len(frames))
    return labels


def errors(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> ErrorTable:
    """How far predictions are from the labels, for each property as a whole, by element (forces) and by group.

    Energies are compared per atom, (E_predicted - E_label) / n_atoms, forces by Cartesian component, stress by
    its six components. Labels that are missing or not finite are left out; a property without any has n = 0.

    Args:
        frames: (n,) with labels.
        predictions: (n,) of the same structures.
    """
    of_frames = np.arange(len(frames))
    of_atoms = np.repeat(of_frames, [len(frame.atoms) for frame in frames])
    groups = np.array([frame.group for frame in frames], dtype=object)
    symbols = np.array([symbol for frame in frames for symbol in frame.atoms.symbols], dtype=object)
    owners: dict[Property, np.ndarray] = {"energy": of_frames, "forces": of_atoms, "stress": of_frames}
    rows = []
    for name, owner in owners.items():
        error = _absolute_errors(frames, predictions, name)
        parts: list[tuple[Part, str, np.ndarray]] = [("all", "all", np.ones(len(owner), dtype=bool))]
        if name == "forces":
            parts += [("element", symbol, symbols == symbol) for symbol in sorted(set(symbols))]
        if any(groups):
            parts += [("group", group, groups[owner] == group) for group in sorted(set(groups))]
        rows += [_row(name, part, by, error[own], owner[own], frames) for by, part, own in parts]
    return ErrorTable(tuple(rows))


def compared(
    frames: Sequence[LabelledFrame], predictions: Sequence[Labels], name: Property
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of a property as arrays of equal shape, nan where there is no label.

    Returns:
        energy: (n_frames, 1) eV/atom; forces: (n_atoms of all frames, 3) eV/Å; stress: (n_frames, 6) eV/Å³.
    """
    pairs = [_compared(frame, one, name) for frame, one in zip(frames, predictions, strict=True)]
    if not pairs:
        return np.zeros((0, 1)), np.zeros((0, 1))
    reference, predicted = (np.concatenate(arrays).astype(float) for arrays in zip(*pairs, strict=True))
    return np.where(np.isfinite(reference), reference, np.nan), predicted


def shifted(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> tuple[list[Labels], dict[str, float]]:
    """Predictions with the energy of each element moved to the zero of the labels.

    Energies of different methods have different zeros. The shift ε_e of element e minimises
    Σ_frames [(E_predicted + Σ_e n_e ε_e - E_label) / n_atoms]²; of several such shifts, as for structures that
    all have one composition, it is the smallest.

    Returns:
        The predictions, and the shift by element in eV per atom; empty when no structure has an energy.
    """
    reference, predicted = (column[:, 0] for column in compared(frames, predictions, "energy"))
    known = np.isfinite(reference)
    if not known.any():
        return list(predictions), {}
    numbers = np.unique(np.concatenate([frame.atoms.numbers for frame in frames]))
    counts = np.array([(frame.atoms.numbers[:, None] == numbers).sum(axis=0) for frame in frames])
    fractions = counts / counts.sum(axis=1, keepdims=True)
    shift, *_ = np.linalg.lstsq(fractions[known], (reference - predicted)[known], rcond=None)
    moved = [replace(one, energy=one.energy + float(n @ shift)) for one, n in zip(predictions, counts, strict=True)]
    return moved, {chemical_symbols[number]: float(value) for number, value in zip(numbers, shift, strict=True)}


def _compared(frame: LabelledFrame, predicted: Labels, name: Property) -> tuple[np.ndarray, np.ndarray]:
    """One structure's label and prediction as rows; see `compared`."""
    n_atoms = len(frame.atoms)
    if name == "energy":
        energy = np.nan if frame.energy is None else frame.energy
        return np.array([[energy / n_atoms]]), np.array([[predicted.energy / n_atoms]])
    if name == "forces":
        return (np.full((n_atoms, 3), np.nan) if frame.forces is None else frame.forces), predicted.forces
    nothing = np.full((1, 6), np.nan)
    if frame.stress is None or predicted.stress is None:
        return nothing, nothing
    return frame.stress[VOIGT][None], predicted.stress[VOIGT][None]


def _absolute_errors(frames: Sequence[LabelledFrame], predictions: Sequence[Labels], name: Property) -> np.ndarray:
    """In the units of the table, rows as `compared`; nan without a label, inf for a prediction that is not finite."""
    reference, predicted = compared(frames, predictions, name)
    error = np.abs(np.where(np.isfinite(predicted), predicted, np.inf) - reference)
    return error * _IN_TABLE[name]


def _row(
    name: Property, part: str, by: Part, error: np.ndarray, owner: np.ndarray, frames: Sequence[LabelledFrame]
) -> ErrorRow:
    """A row from absolute errors (n, components) and the frames (n,) that they belong to."""
    unit = UNITS[name]
    known = error[~np.isnan(error)]
    if not len(known):
        return ErrorRow(name, part, by, 0, math.nan, math.nan, math.nan, unit)
    worst = owner[np.nanargmax(error) // error.shape[1]]
    rmse = math.sqrt(float(np.mean(known**2)))
    return ErrorRow(
        name, part, by, len(known), float(known.mean()), rmse, float(known.max()), unit, frames[worst].source
    )


def _check_elements(potential: Potential, frames: Sequence[LabelledFrame]) -> None:
    """All elements must be known; the first structure with others is named, and how many more there are.

    Raises:
        InputError: when some are not.
    """
    if not potential.elements:
        return
    known = [atomic_numbers[symbol] for symbol in potential.elements]
    strange = [frame for frame in frames if not np.isin(frame.atoms.numbers, known).all()]
    if not strange:
        return
    try:
        check_elements(potential, strange[0].atoms.get_chemical_symbols(), strange[0].source)
    except InputError as error:
        more = len(strange) - 1
        also = f" {more} more of the {len(frames)} structures have elements that it does not know." if more else ""
        raise InputError(f"{error}{also}") from None


def _by_kernels(
    makes: Callable[[], CompiledPredictor], frames: Sequence[LabelledFrame], n_threads: int
) -> Iterator[Labels]:
    """What kernels say about structures, in their order; every thread has kernels of its own.

    Raises:
        InputError, SimulationError: naming the structure.
    """
    if n_threads <= 1:
        potential = makes()
        yield from (_predict_one(potential, frame) for frame in frames)
        return
    idle: SimpleQueue[CompiledPredictor] = SimpleQueue()
    for _ in range(n_threads):
        idle.put(makes())

    def ask(frame: LabelledFrame) -> Labels:
        potential = idle.get()
        try:
            return _predict_one(potential, frame)
        finally:
            idle.put(potential)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="mlmd") as threads:
        yield from threads.map(ask, frames)


def _predict_one(potential: CompiledPredictor, frame: LabelledFrame) -> Labels:
    """One structure.

    Raises:
        InputError, SimulationError: naming it.
    """
    try:
        found = potential.evaluate(frame.atoms)
    except MlmdError as error:
        raise type(error)(f"{frame.source}: {error}") from None
    _check_finite(frame, found.energy, found.forces)
    periodic = bool(frame.atoms.pbc.all())
    return Labels(
        found.energy, found.forces, found.virial / volume(frame.atoms.cell.array, frame.atoms.pbc) if periodic else None
    )


def _check_finite(frame: LabelledFrame, energy: float, forces: np.ndarray) -> None:
    if not (math.isfinite(energy) and np.isfinite(forces).all()):
        raise SimulationError(
            f"{frame.source}: the potential gives an energy or a force that is not finite. Do atoms coincide?"
        )


def _predict_batch(
    potential: Potential, frames: Sequence[LabelledFrame], device: torch.device | str = "cpu"
) -> list[Labels]:
    """Some structures as one graph.

    Raises:
        InputError, SimulationError: naming the structure.
    """
    graphs = []
    for frame in frames:
        try:
            graphs.append(build_graph(frame.atoms, potential.cutoff, device))
        except MlmdError as error:
            raise type(error)(f"{frame.source}: {error}") from None
    try:
        with undivided():
            prediction = potential.predict(batch(graphs))
    except Exception as error:
        error.add_note(f"The potential was asked about {frames[0].source} to {frames[-1].source}.")
        raise
    energy, stress = prediction.energy.cpu().tolist(), prediction.stress.double().cpu().numpy()
    ends = np.cumsum([len(frame.atoms) for frame in frames])
    forces = np.split(prediction.forces.double().cpu().numpy(), ends[:-1])
    for frame, total, own in zip(frames, energy, forces, strict=True):
        _check_finite(frame, total if has_energy(potential) else 0.0, own)
    periodic = [bool(frame.atoms.pbc.all()) for frame in frames]
    tensors = (one.copy() if whole else None for one, whole in zip(stress, periodic, strict=True))
    return [Labels(*parts) for parts in zip(energy, (own.copy() for own in forces), tensors, strict=True)]


def _device(potential: Potential) -> torch.device:
    """Where the potential computes."""
    if isinstance(potential, torch.nn.Module):
        for tensor in (*potential.parameters(), *potential.buffers()):
            return tensor.device
    return torch.device("cpu")


def _save_copy(potential: Potential, path: Path) -> str | None:
    """Write a file from which other processes read the same potential, and tell the precision to read it in.

    None for a potential that such a file cannot hold, or holds in one of its several precisions only.
    """
    if not isinstance(potential, torch.nn.Module) or modelfile.externals(potential.spec()):
        return None
    precisions = {tensor.dtype for tensor in potential.state_dict().values() if tensor.is_floating_point()}
    precisions |= {part.dtype for part in potential.modules() if isinstance(getattr(part, "dtype", None), torch.dtype)}
    if len(precisions) != 1:
        return None
    try:
        modelfile.save(potential, path)
    except InputError:
        return None
    return str(precisions.pop()).removeprefix("torch.")


def _in_processes(
    copy: Path, precision: str, some: Sequence[Sequence[LabelledFrame]], n_processes: int
) -> Iterator[list[Labels]]:
    """What several processes say about batches, in their order.

    Raises:
        SimulationError: when a process ends by itself.
    """
    with pool(n_processes, _load, copy, precision) as processes:
        try:
            yield from each(processes, _answer, some)
        except BrokenProcessPool:
            raise SimulationError(f"one of {n_processes} processes ended without an answer. {why_ended()}") from None


_loaded: dict[str, Potential] = {}  # in a process of `_in_processes`


def _load(copy: Path, precision: str) -> None:
    """What a process does first."""
    _loaded["potential"] = modelfile.load(copy, precision)


def _answer(frames: Sequence[LabelledFrame]) -> list[Labels]:
    """One batch, in a process of `_in_processes`."""
    return _predict_batch(_loaded["potential"], frames)
