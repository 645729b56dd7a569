"""Moment tensor potentials on a GPU: their tables as `src/moments.cu` reads them, and its kernels in their order."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mlmd.kernels.gpu.neighbours import DeviceList, Program, Reach
from mlmd.kernels.gpu.nvrtc import BLOCK
from mlmd.kernels.kernel import Kernel

_REGISTERS = 144
"""Of a thread, to be filled with derivatives that all its pairs need; there are 255 in all."""
_SHARED = 48 * 1024
"""Bytes that the threads of a block share."""
ENERGY = -1
"""The number of the energy among nodes, and of what is 1, before nodes are counted."""


@dataclass
class Network:
    """Nodes that are sums of c·a·b of other nodes; those without are the sums over neighbours, which come first."""

    n_sums: int
    terms: dict[int, dict[tuple[int, int], float]] = field(default_factory=lambda: defaultdict(dict))
    """Of a node or the energy: (a, b) -> c, a ≤ b but for b = 1, which is `ENERGY`."""

    def add(self, node: int, a: int, b: int, coefficient: float) -> None:
        """Let a node be larger by c·a·b."""
        pair = (a, b) if b == ENERGY or a <= b else (b, a)
        self.terms[node][pair] = self.terms[node].get(pair, 0.0) + coefficient

    def needed(self) -> list[int]:
        """Nodes that the energy depends on, those that are made of others after these."""
        found: dict[int, None] = {}
        waiting = [(ENERGY, False)]
        while waiting:
            node, ready = waiting.pop()
            if ready:
                found[node] = None
            elif node not in found:
                waiting.append((node, True))
                waiting += [(one, False) for pair in self.terms.get(node, ()) for one in pair if one != ENERGY]
        del found[ENERGY]
        return list(found)


class MomentProgram:
    """What a program is made of, and what is computed with it."""

    def __init__(self, kernel: Kernel, present: Sequence[int]) -> None:
        """Take the kernel of a potential of the family "moments", and the species that there are of it."""
        integers = [int(one) for one in kernel.integers]
        self.n_species, self.n_functions, self.n_chebyshev, n_basic, n_products, n_scalars = integers[:6]
        rest = np.array(integers[6:])
        basic = rest[: 4 * n_basic].reshape(-1, 4)
        products = rest[4 * n_basic : 4 * (n_basic + n_products)].reshape(-1, 4)
        scalars = rest[4 * (n_basic + n_products) :]
        numbers, z = np.asarray(kernel.numbers, dtype=np.float64), self.n_species
        cutoff, shortest, scaling = numbers[:3]
        n_radial = z * z * self.n_functions * self.n_chebyshev
        radial = scaling * numbers[3 : 3 + n_radial].reshape(z, z, self.n_functions, self.n_chebyshev)
        weights, constants = numbers[3 + n_radial : 3 + n_radial + n_scalars], numbers[3 + n_radial + n_scalars :]
        assert len(scalars) == n_scalars and len(constants) == z
        there = np.asarray(present)
        radial, self.constants, self.n_species = radial[np.ix_(there, there)], constants[there], len(there)
        self.type = torch.float32 if kernel.precision == "float32" else torch.float64
        self.cutoff = kernel.cutoff
        ranks = [int(basic[basic[:, 0] == mu, 1:].sum(axis=1).max(initial=-1)) for mu in range(self.n_functions)]
        order = sorted((mu for mu in range(self.n_functions) if ranks[mu] >= 0), key=lambda mu: -ranks[mu])
        self.ranks = [ranks[mu] for mu in order]
        network, places = _basic_moments(self.ranks)
        turn = {mu: place for place, mu in enumerate(order)}
        nodes = [places[turn[mu], a, b, c] for mu, a, b, c in basic.tolist()]
        _products(network, nodes, products.tolist(), scalars.tolist(), weights.tolist())
        self.n_sums = network.n_sums
        links = _Links(network)
        functions = np.zeros((*radial.shape[:2], self.n_chebyshev, -(-len(order) // 4) * 4))
        functions[..., : len(order)] = radial[:, :, order].swapaxes(2, 3)
        lengths = [cutoff, shortest + cutoff, 2 / (cutoff - shortest), 0.0]
        self.table = np.concatenate([lengths, functions.ravel(), links.coefficients])
        per_atom = 2 * (links.sizes["N_NODES"] + 1) * (8 if self.type == torch.float64 else 4)
        self.least_lanes = next((n for n in (1, 2, 4, 8, 16) if BLOCK // n * per_atom <= _SHARED), 32)
        self.links, self._sizes = links.integers, {**links.sizes, "N_CHEBYSHEV": self.n_chebyshev}

    def macros(self, lanes: int) -> dict[str, object]:
        """Sizes by the names that the program gives them; as many lanes work on an atom."""
        words = 2 if self.type == torch.float64 else 1
        return {
            "real": "double" if words == 2 else "float",
            "LANES": lanes,
            "N_SPECIES": self.n_species,
            "N_FUNCTIONS": len(self.ranks),
            "RANKS": ", ".join(map(str, self.ranks)),
            "N_SUMS": self.n_sums,
            "KEEP": int(self.n_sums * words <= _REGISTERS),
            **self._sizes,
        }

    def reach(self, skin: float) -> Reach:
        """How far neighbours are to be listed."""
        return Reach(self.cutoff, self.cutoff, skin)

    def prepare(self, atoms: DeviceList) -> None:
        """Put the parameters on the device."""
        atoms.frame.point(
            table=torch.tensor(self.table, dtype=self.type, device=atoms.device),
            links=torch.tensor(self.links, dtype=torch.int32, device=atoms.device),
            constants=torch.tensor(self.constants, device=atoms.device),
        )

    def make_room(self, atoms: DeviceList) -> None:
        """Buffers for the list as long as it is now."""
        atoms.make_room(self.type, moments=-(-self.n_sums // 4) * 4)

    def compute(self, program: Program, atoms: DeviceList) -> None:
        """Energies, forces and virials of atoms, where `follow` has seen them."""
        grouped = atoms.n_atoms * atoms.lanes
        for kernel in ("see_pairs", "sum_up", "contract", "slope_pairs", "add_forces"):
            program.launch(kernel, grouped, atoms.frame)


def _basic_moments(ranks: list[int]) -> tuple[Network, dict[tuple[int, int, int, int], int]]:
    """Moments m[mu, a, b, c] of all powers, of sums with c < 2 (`src/moment_sums.hpp`), and which node each is."""
    network, places = Network(sum((rank + 1) ** 2 for rank in ranks)), {}
    number, begin = itertools.count(network.n_sums), 0
    for mu, rank in enumerate(ranks):
        for c in range(rank + 1):
            for n in range(c, rank + 1):
                for b in range(n - c + 1):
                    a = n - c - b
                    if c < 2:
                        places[mu, a, b, c] = begin + n * n + (n + 1 if c else 0) + b
                        continue
                    node = places[mu, a, b, c] = next(number)
                    network.add(node, places[mu, a, b, c - 2], ENERGY, 1.0)
                    network.add(node, places[mu, a + 2, b, c - 2], ENERGY, -1.0)
                    network.add(node, places[mu, a, b + 2, c - 2], ENERGY, -1.0)
        begin += (rank + 1) ** 2
    return network, places


def _products(
    network: Network, basic: list[int], products: list[list[int]], scalars: list[int], weights: list[float]
) -> None:
    """Add the moments that products make, and the energy; those that go no further are in its quadratic form alone."""
    n_basic, first = len(basic), max([*basic, *network.terms, network.n_sums - 1]) + 1

    def node(moment: int) -> int:
        return basic[moment] if moment < n_basic else first + moment - n_basic

    weight: dict[int, float] = defaultdict(float)
    for scalar, coefficient in zip(scalars, weights, strict=True):
        weight[node(scalar)] += coefficient
    operands = {node(one) for product in products for one in product[:2]}
    for a, b, coefficient, target in products:
        if node(target) in operands:
            network.add(node(target), node(a), node(b), float(coefficient))
        elif (c := weight.get(node(target), 0.0) * coefficient) != 0:
            network.add(ENERGY, node(a), node(b), c)
    made_last = {node(target) for *_, target in products} - operands
    for one, coefficient in weight.items():
        if one not in made_last:
            network.add(ENERGY, one, ENERGY, coefficient)


class _Links:
    """The tables of a network, level after level."""

    def __init__(self, network: Network) -> None:
        needed = network.needed()
        made = [one for one in needed if one >= network.n_sums]
        number = {
            **{one: one for one in range(network.n_sums)},
            **{one: network.n_sums + k for k, one in enumerate(made)},
        }
        n_nodes = number[ENERGY] = network.n_sums + len(made)
        depth = dict.fromkeys(range(network.n_sums), 0)
        up: dict[int, list[tuple[float, int, int]]] = {}
        down: dict[int, list[tuple[float, int, int]]] = {one: [] for one in range(n_nodes)}
        for node in [*made, ENERGY]:
            target, terms = number[node], network.terms[node]
            depth[target] = 1 + max(depth[number[one]] for pair in terms for one in pair if one != ENERGY)
            up[target] = [(c, number[a], number[b]) for (a, b), c in terms.items()]
            for c, a, b in up[target]:
                down[a].append((2 * c if a == b else c, b, target))
                if b not in (a, n_nodes):
                    down[b].append((c, a, target))
        energy = up.pop(n_nodes)
        del depth[n_nodes]
        n_levels = max(depth.values()) + 1
        self._entries: list[tuple[float, int, int]] = []
        self._nodes: list[int] = []
        levels = self._levels([[node for node in up if depth[node] == level] for level in range(1, n_levels)], up)
        n_up = len(levels) - 1
        backward = [[node for node in range(n_nodes) if depth[node] == level] for level in reversed(range(n_levels))]
        levels += self._levels(backward, down)
        energy_begin = len(self._entries)
        self._entries += energy
        self.coefficients = np.array([c for c, _, _ in self._entries])
        packed = [a | b << 16 for _, a, b in self._entries]
        assert n_nodes < 1 << 15
        self.integers = np.array([*levels, *self._nodes, *packed])
        self.sizes = {
            "N_NODES": n_nodes, "LEVELS": 0, "N_UP": n_up, "N_DOWN": n_levels, "NODES": len(levels),
            "LINKS": len(levels) + len(self._nodes), "ENERGY_BEGIN": energy_begin, "ENERGY_END": len(self._entries),
        }  # fmt: skip

    def _levels(self, levels: list[list[int]], lists: dict[int, list[tuple[float, int, int]]]) -> list[int]:
        """Where each level begins among the nodes; the longest lists first, so that lanes end together."""
        begins = []
        for level in levels:
            begins.append(len(self._nodes) // 2)
            for node in sorted(level, key=lambda one: (-len(lists[one]), one)):
                self._nodes += [node, len(self._entries)]
                self._entries += lists[node]
        begins.append(len(self._nodes) // 2)
        self._nodes += [0, len(self._entries)]  # where the last one ends
        return begins
