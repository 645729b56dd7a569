"""No potential at all: what a rerun has that looks at collective variables alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.potentials import Evaluation, Prediction


class Nothing:
    """Knows all elements, and neither forces nor energies of them: forces are zero, energies nan."""

    cutoff = 0.0
    elements: tuple[str, ...] = ()
    has_energy = False

    def __init__(self, precision: str = "float64") -> None:
        """Nothing is rounded, so that the precision has to be the usual one."""
        if precision != "float64":
            raise InputError("precision: there is nothing to compute. Leave it out.")

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "none"}

    def predict(self, graph: Graph) -> Prediction:
        """Zero forces of every structure in the graph."""
        unknown = torch.full((graph.n_structures, 3, 3), torch.nan, dtype=torch.float64)
        energies = torch.full((graph.n_structures,), torch.nan, dtype=torch.float64)
        return Prediction(energies, torch.zeros((graph.n_atoms, 3), dtype=torch.float64), unknown, unknown)

    def evaluator(self, numbers: np.ndarray, pbc: np.ndarray, **options: Any) -> NothingEvaluator:
        """What the engine calls; no pair is looked for."""
        return NothingEvaluator()


class NothingEvaluator:
    """Zero forces."""

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy nan, forces zero and virial nan at positions (n_atoms, 3) Å."""
        return Evaluation(float("nan"), np.zeros_like(positions), np.full((3, 3), np.nan))

    def state(self) -> dict[str, np.ndarray]:
        """There are no pairs."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """There is nothing to continue."""
