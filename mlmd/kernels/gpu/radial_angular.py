"""Radial-angular networks on a GPU: parameters as `src/radial_angular.cu` reads them, and the order of its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mlmd.kernels.gpu.neighbours import DeviceList, Program, Reach
from mlmd.kernels.kernel import Kernel

_REGISTERS = 144
"""Of a thread, to be filled with sums; there are 255 in all."""


@dataclass(frozen=True)
class Sizes:
    """What `Kernel.integers` of the family says."""

    n_species: int
    n_radial: int
    n_radial_basis: int
    n_angular: int
    n_angular_basis: int
    l_max: int
    four_body: int
    five_body: int
    n_neurons: int
    common: int
    repulsive: int

    @property
    def n_features(self) -> int:
        """Of an atom."""
        return self.n_radial + self.n_angular * (self.l_max + self.four_body + self.five_body)

    @property
    def n_moments(self) -> int:
        """Of an atom, in whole vectors of memory."""
        return _up((self.l_max**2 + 2 * self.l_max) * self.n_angular)


class RadialAngularProgram:
    """What a program is made of, and what is computed with it."""

    least_lanes = 1

    def __init__(self, kernel: Kernel, present: Sequence[int]) -> None:
        """Take the kernel of a potential of the family "radial-angular", and the species that there are of it."""
        sizes, there = Sizes(*(int(one) for one in kernel.integers)), np.asarray(present)
        self.type = torch.float32 if kernel.precision == "float32" else torch.float64
        z, numbers = sizes.n_species, np.asarray(kernel.numbers, dtype=np.float64)
        n_networks = 1 if sizes.common else z
        shapes = [
            (z,), (z,), (z, z, sizes.n_radial, sizes.n_radial_basis), (z, z, sizes.n_angular, sizes.n_angular_basis),
            (sizes.n_features,), (n_networks, sizes.n_neurons, sizes.n_features), (n_networks, sizes.n_neurons),
            (n_networks, sizes.n_neurons), (z,), *([(z, z, 10)] if sizes.repulsive else []),
        ]  # fmt: skip
        bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
        assert bounds[-1] == len(numbers)
        parts = [
            numbers[first:last].reshape(shape) for first, last, shape in zip(bounds, bounds[1:], shapes, strict=False)
        ]
        own, pairs = there if n_networks > 1 else np.array([0]), np.ix_(there, there)
        outer, inner, constants = (parts[k][there] for k in (0, 1, 8))
        radial, angular, scaling = parts[2][pairs], parts[3][pairs], parts[4]
        weights, biases, output = (parts[k][own] for k in (5, 6, 7))
        self.sizes = sizes = replace(sizes, n_species=len(there), common=int(n_networks == 1))
        neurons = np.concatenate([_padded(weights * scaling), biases[..., None], output[..., None]], axis=-1)
        pieces = [
            _padded(_means(outer)), _padded(_means(inner)), _padded(radial), _padded(angular),
            np.concatenate([neurons, np.zeros((*neurons.shape[:2], 2))], axis=-1),
            *([_padded(parts[9][pairs])] if sizes.repulsive else []),
        ]  # fmt: skip
        self.table, self.constants = np.concatenate([one.ravel() for one in pieces]), constants
        self.cutoff, self.near_cutoff = float(outer.max()), float(inner.max()) if sizes.l_max else 0.0

    def macros(self, lanes: int) -> dict[str, object]:
        """Sizes by the names that the program gives them; as many lanes work on an atom."""
        sizes, words = self.sizes, 2 if self.type == torch.float64 else 1
        per_function = max(1, (sizes.l_max**2 + 2 * sizes.l_max) * words)
        n_pieces = -(-sizes.n_angular // max(1, _REGISTERS // per_function))
        return {
            "real": "double" if words == 2 else "float",
            "LANES": lanes,
            "N_SPECIES": sizes.n_species,
            "N_RADIAL": sizes.n_radial,
            "N_RADIAL_BASIS": sizes.n_radial_basis,
            "N_ANGULAR": sizes.n_angular,
            "N_ANGULAR_BASIS": sizes.n_angular_basis,
            "L_MAX": sizes.l_max,
            "FOUR_BODY": sizes.four_body,
            "FIVE_BODY": sizes.five_body,
            "N_FEATURES": sizes.n_features,
            "N_NEURONS": sizes.n_neurons,
            "N_NETWORKS": 1 if sizes.common else sizes.n_species,
            "REPULSIVE": sizes.repulsive,
            "AT_ONCE": -(-sizes.n_angular // n_pieces),
            "KEEP": int(sizes.n_moments * words <= _REGISTERS),
        }

    def reach(self, skin: float) -> Reach:
        """How far neighbours are to be listed."""
        return Reach(self.cutoff, self.near_cutoff, skin)

    def prepare(self, atoms: DeviceList) -> None:
        """Put the parameters on the device."""
        atoms.frame.point(
            table=torch.tensor(self.table, dtype=self.type, device=atoms.device),
            constants=torch.tensor(self.constants, device=atoms.device),
        )

    def make_room(self, atoms: DeviceList) -> None:
        """Buffers for the list as long as it is now."""
        sizes = self.sizes
        weights = sizes.n_species * _up(sizes.n_radial_basis)
        atoms.make_room(self.type, features=sizes.n_radial, moments=sizes.n_moments, weights=weights)

    def compute(self, program: Program, atoms: DeviceList) -> None:
        """Energies, forces and virials of atoms, where `follow` has seen them."""
        frame, n, grouped = atoms.frame, atoms.n_atoms, atoms.n_atoms * atoms.lanes
        program.launch("see_near", grouped, frame)
        if self.sizes.l_max:
            program.launch("sum_up", grouped, frame)
        program.launch("ask", n, frame)
        program.launch("slope_far", grouped, frame)
        if self.sizes.l_max:
            program.launch("slope_near", grouped, frame)
        program.launch("add_forces", grouped, frame)


def _up(length: int) -> int:
    """The next multiple of four."""
    return -(-length // 4) * 4


def _padded(rows: np.ndarray) -> np.ndarray:
    """With zeros behind the last column, so that rows are whole vectors of memory."""
    more = _up(rows.shape[-1]) - rows.shape[-1]
    return np.concatenate([rows, np.zeros((*rows.shape[:-1], more))], axis=-1)


def _means(of_species: np.ndarray) -> np.ndarray:
    """Of all pairs of species, flattened."""
    return (0.5 * (of_species[:, None] + of_species)).ravel()
