"""The full Gaussian process: covariances of all labels with each other, Cholesky's decomposition, and the solution.

Rows are labels divided by their expected errors σ, so that (K + 1) α = y and α is the residual of each. Structures
stand in the order in which they are dealt into shards: the decomposition of the first rows, which is the first part of
that of all of them, is the fit to the first structures, and so the learning curve costs solutions only.

Where the energies of single atoms are given, these stand before all structures, as labels without an error: the process
is the one that has these energies, whatever else is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.linearised import Linearised, linearised
from mlmd.descriptors.species import species
from mlmd.errors import InputError, SimulationError
from mlmd.fitting import cholesky
from mlmd.fitting.gaussian_process import Environments, GaussianProcess
from mlmd.graph import VOIGT
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.threads import in_threads
from mlmd.train.curve import curve_of_shards
from mlmd.train.environments import lone_rows
from mlmd.train.equations import Sigma
from mlmd.train.figures import Fitted
from mlmd.train.job import Job
from mlmd.train.run import Clock, Progress, Step


def fit(job: Job, folder: Path, n_threads: int, progress: Progress) -> Fitted:
    """Find the coefficients of the potential of a job; nothing of an interrupted one is kept.

    Args:
        job: its potential gets the coefficients.
        folder: of the training.
        n_threads: at work on the covariances.
        progress: called with every structure and every block of columns.

    Raises:
        SimulationError: when there is no finite solution.
    """
    whole = solve_all(job, n_threads, progress)
    shards = job.problem.shards()
    starts = list(accumulate(map(len, shards), initial=0))
    losses: list[float] = []

    def solve(n_shards: int) -> None:
        progress(Step("learning curve", n_shards, len(shards)))
        losses.append(whole.put(starts[n_shards]))

    curve = curve_of_shards(job, solve)
    loss = losses[-1]
    rows = whole.bounds[-1] - len(whole.lone)
    return Fitted(curve=replace(curve, losses=((loss,),)), facts={"loss": loss, "rows": rows})


@dataclass(frozen=True)
class Whole:
    """The decomposition for all structures, of which that for the first ones is a part."""

    job: Job
    frames: tuple[LabelledFrame, ...]
    lone: Tensor
    """Features of single atoms, (n_elements, n_features), where these have given energies; otherwise none."""
    environments: list[Environments]
    """Of the single atoms, and of the structures."""
    bounds: list[int]
    """Rows before each of them, and all of them."""
    factor: Tensor
    """L below the diagonal and on it."""

    def put(self, n_frames: int) -> float:
        """Put the solution for the first structures into the potential; gives the loss: root mean square of residuals.

        Raises:
            SimulationError: when it is not finite.
        """
        job, n_lone, regressor = self.job, len(self.lone), _regressor(self.job.potential)
        n_rows, some = self.bounds[n_lone + n_frames], self.frames[:n_frames]
        n_elements = regressor.n_kinds
        y = torch.cat([self.lone.new_zeros(n_lone), *(_targets(job, frame) for frame in some)])
        h = torch.cat([self.lone.new_zeros((n_lone, n_elements)), *(_counts(job, frame) for frame in some)])
        n_free = n_elements if job.free_constants else 0
        right = torch.cat([y[:, None], h[:, :n_free]], dim=1)
        solved = cholesky.solve(self.factor[:n_rows, :n_rows], right)
        of_y, of_h = solved[:, 0], solved[:, 1:]
        normal, target = right[:, 1:].T @ of_h, right[:, 1:].T @ of_y[:, None]
        # the smallest constants where compositions do not tell elements apart
        constants = torch.linalg.lstsq(normal, target, driver="gelsd").solution[:, 0]
        alpha = of_y - of_h @ constants
        loss = float(torch.linalg.vector_norm(alpha[n_lone:])) / math.sqrt(n_rows - n_lone)
        if not math.isfinite(loss):
            raise SimulationError("the Gaussian process has no finite solution: are labels or weights extreme?")
        above = torch.from_numpy(job.problem.baseline).clone()
        above[:n_free] += constants
        regressor.put(self.environments, alpha, above)
        if n_lone:  # what rounding leaves
            with torch.no_grad():
                regressor.constants.sub_(regressor.energies(self.lone, torch.arange(n_lone)) - above)
        return loss


def solve_all(job: Job, n_threads: int, progress: Progress) -> Whole:
    """Decompose the covariances of all labels and solve for them; arguments and errors are those of `fit`."""
    frames = tuple(frame for shard in job.problem.shards() for frame in shard)
    regressor = _regressor(job.potential)
    lone = lone_rows(job.potential.descriptor) if job.pinned else torch.zeros((0, regressor.n_features)).double()
    none, weight = lone.new_zeros((1, regressor.n_features, 0)), 1 / job.problem.sigma.energy
    environments = [
        regressor.environments(row[None], torch.tensor([kind]), none, weight) for kind, row in enumerate(lone)
    ]
    for done, frame in enumerate(frames):
        progress(Step("derivatives of features", done, len(frames)))
        environments.append(environments_of(job.potential, frame, job.problem.sigma))
    bounds = np.cumsum([0, *(one.n_rows for one in environments)]).tolist()
    matrix, clock = torch.empty((bounds[-1], bounds[-1]), dtype=torch.float64), Clock()
    for row in range(len(environments)):

        def block(column: int, row: int = row) -> None:
            of_row, of_column = (slice(bounds[one], bounds[one + 1]) for one in (row, column))
            matrix[of_row, of_column] = regressor.covariances(environments[row], environments[column])

        in_threads(block, range(row + 1), n_threads)
        part = (bounds[row + 1] / bounds[-1]) ** 2
        progress(Step("covariances", row + 1, len(environments), clock(part)))
    variances = torch.ones(bounds[-1], dtype=torch.float64)
    variances[: len(lone)] = (matrix.diagonal()[: len(lone)] == 0).double()  # a row of zeros is the constant already
    matrix.diagonal().add_(variances)
    clock = Clock()
    try:
        cholesky.factorise(
            matrix,
            each=lambda function, items: in_threads(function, items, n_threads),
            progress=lambda done, total: progress(
                Step("columns decomposed", done, total, clock(1 - (1 - done / total) ** 3))
            ),
        )
    except InputError as error:
        raise SimulationError(f"{error} Are labels or sigmas extreme? A smaller amplitude helps.") from None
    whole = Whole(job, frames, lone, environments, bounds, matrix)
    whole.put(len(frames))
    return whole


def environments_of(potential: LearnedPotential, frame: LabelledFrame, sigma: Sigma) -> Environments:
    """What a structure contributes to the covariances: rows of energy, force components, stress xx yy zz yz xz xy."""
    regressor = _regressor(potential)
    graph = build_graph([frame.atoms], pair_cutoff(potential.descriptor))
    kinds = species(graph.numbers, potential.species_table)
    for_energy, for_forces, for_stress = sigma.of(frame)
    work = linearised(potential.descriptor, graph)
    columns: list[Tensor] = []
    still, unstrained = torch.zeros((graph.n_atoms, 3), dtype=torch.float64), torch.zeros((3, 3), dtype=torch.float64)
    if frame.forces is not None:
        for place in range(3 * graph.n_atoms):
            moved = still.clone()
            moved.view(-1)[place] = -1 / for_forces
            columns.append(work.push(moved, unstrained))
    if frame.stress is not None:
        columns += _strained(work, still, 1 / (float(graph.volumes[0]) * for_stress))
    jacobian = torch.stack(columns, dim=2) if columns else work.values.new_zeros((*work.values.shape, 0))
    energy = None if frame.energy is None else 1 / (graph.n_atoms * for_energy)
    return regressor.environments(work.values, kinds, jacobian, energy)


def _strained(work: Linearised, still: Tensor, factor: float) -> list[Tensor]:
    """Derivatives of the features by the six strains, times a factor."""
    columns = []
    for row, column in zip(*VOIGT, strict=True):
        strain = torch.zeros((3, 3), dtype=torch.float64)
        strain[row, column] += 0.5 * factor
        strain[column, row] += 0.5 * factor
        columns.append(work.push(still, strain))
    return columns


def _targets(job: Job, frame: LabelledFrame) -> Tensor:
    """Labels above the baseline over their expected errors, in the order of `environments_of`."""
    for_energy, for_forces, for_stress = job.problem.sigma.of(frame)
    parts: list[np.ndarray] = []
    if frame.energy is not None:
        numbers = [job.potential.elements.index(symbol) for symbol in frame.atoms.symbols]
        above = frame.energy - job.problem.baseline[numbers].sum()
        parts.append(np.array([above / (len(frame.atoms) * for_energy)]))
    if frame.forces is not None:
        parts.append(frame.forces.ravel() / for_forces)
    if frame.stress is not None:
        parts.append(frame.stress[VOIGT] / for_stress)
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0))


def _counts(job: Job, frame: LabelledFrame) -> Tensor:
    """H, how many atoms of each element count in each row."""
    rows = len(_targets(job, frame))
    counts = torch.zeros((rows, len(job.potential.elements)), dtype=torch.float64)
    if frame.energy is not None:
        for_energy, _, _ = job.problem.sigma.of(frame)
        for symbol in frame.atoms.symbols:
            counts[0, job.potential.elements.index(symbol)] += 1 / (len(frame.atoms) * for_energy)
    return counts


def _regressor(potential: LearnedPotential) -> GaussianProcess:
    assert isinstance(potential.regressor, GaussianProcess)
    return potential.regressor
