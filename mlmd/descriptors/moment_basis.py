"""Which moments, products of moments and scalars make a moment tensor potential of a given level.

A basis function is a full contraction of up to four moment tensors M_{μ,ν}: a multigraph whose nodes are the
tensors, whose edges are contracted indices and whose node degrees are the ranks ν. The level of a tensor is
2 + 4μ + ν, that of a basis function the sum over its tensors (Shapeev, Multiscale Model. Simul. 14, 1153,
2016; Novikov et al., Mach. Learn. Sci. Technol. 2, 025002, 2021).

Contractions are done two operands at a time, and basis functions share their intermediate tensors.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from mlmd.errors import InputError

MAX_TENSORS = 4
"""Tensors in one basis function at most: five-body terms, as in MLIP."""
LEVELS = tuple(range(2, 30, 2))
"""Levels a basis is made for; the number of basis functions triples every four levels."""


@dataclass(frozen=True)
class MomentBasis:
    """Tables of a moment tensor potential, with the meaning they have in an MLIP file."""

    basic: tuple[tuple[int, int, int, int], ...]
    """(μ, a, b, c) of each basic moment Σ_j f_μ(r_ij) x^a y^b z^c, (x, y, z) the unit vector from i to j."""
    products: tuple[tuple[int, int, int, int], ...]
    """(first, second, c, target): moment[target] += c · moment[first] · moment[second]."""
    scalars: tuple[int, ...]
    """Indices of the moments that are basis functions."""

    @property
    def n_moments(self) -> int:
        """Basic moments and intermediates together."""
        return max([len(self.basic), *(row[3] + 1 for row in self.products)])

    @property
    def n_radial_functions(self) -> int:
        """How many f_μ there are."""
        return 1 + max(row[0] for row in self.basic)

    @property
    def level(self) -> int:
        """The largest level of a basis function."""
        levels = [2 + 4 * mu + a + b + c for mu, a, b, c in self.basic]
        levels += [0] * (self.n_moments - len(levels))
        for first, second, _, target in self.products:
            levels[target] = levels[first] + levels[second]
        return max(levels[scalar] for scalar in self.scalars)

    def check(self) -> None:
        """Make sure that every index leads somewhere and no moment is used before it is complete.

        Raises:
            ValueError: saying what is wrong.
        """
        n_basic, n_moments = len(self.basic), self.n_moments
        if not (self.basic and self.scalars):
            raise ValueError("there is no basic moment or no basis function")
        if min(min(row) for row in (*self.basic, *self.products, self.scalars)) < 0:
            raise ValueError("there is a negative index")
        if len(set(self.basic)) < n_basic:
            raise ValueError("a basic moment is there twice")
        complete = {row[3]: index for index, row in enumerate(self.products)}
        for index, (first, second, _, target) in enumerate(self.products):
            if target < n_basic or any(n >= n_basic and complete.get(n, index) >= index for n in (first, second)):
                raise ValueError(f"product {index} uses a moment that is not complete")
        if max(self.scalars) >= n_moments:
            raise ValueError("a basis function is not among the moments")


Powers = tuple[int, int, int]
Tensor = tuple[int, int]  # μ and the number of free indices
Component = tuple[int, Powers]  # μ and how many of the free indices are x, y, z
Edges = tuple[int, ...]  # contracted indices between nodes (0, 1), (0, 2), ..., (1, 2), ...
Node = TypeVar("Node", Tensor, Component)
Contraction = tuple[tuple[Tensor, ...], Edges]
Moment = tuple[tuple[Component, ...], Edges]


@cache
def moment_basis(level: int) -> MomentBasis:
    """The basis of all contractions up to a level.

    Numbers of basis functions at levels 2, 4, ..., 24: 1, 2, 5, 9, 16, 29, 52, 92, 163, 288, 500, 864, as
    in MLIP. At level 26 there are 1466 different contractions, of which the file shipped with MLIP has 1464;
    at level 28 there are 2455.

    Raises:
        InputError: for a level that is odd or beyond `LEVELS`.
    """
    if level not in LEVELS:
        raise InputError(f"level {level} is not possible: give an even number from {LEVELS[0]} to {LEVELS[-1]}.")
    planner = _Planner()
    return planner.tables([planner.scalar(ranks, edges) for ranks, edges in scalar_graphs(level)])


def scalar_graphs(level: int) -> list[tuple[tuple[Tensor, ...], Edges]]:
    """Tensors (μ, ν) and contracted indices of every basis function up to a level, lowest levels first."""
    found: dict[Contraction, None] = {}
    for tensors in _tensor_sets(level):
        ranks = tuple(rank for _, rank in tensors)
        for edges in _multigraphs(ranks):
            found[_canonical(tensors, edges)] = None
    return sorted(found, key=lambda graph: (sum(map(_level, graph[0])), len(graph[0]), graph))


def _level(tensor: Tensor) -> int:
    return 2 + 4 * tensor[0] + tensor[1]


def _tensor_sets(level: int) -> Iterator[tuple[Tensor, ...]]:
    """Sorted sets of one to `MAX_TENSORS` tensors of which the levels sum to at most `level`."""
    choice = sorted((mu, rank) for mu in range(level // 4 + 1) for rank in range(level) if 4 * mu + rank + 2 <= level)

    def extend(chosen: tuple[Tensor, ...], start: int, left: int) -> Iterator[tuple[Tensor, ...]]:
        for index in range(start, len(choice)):
            if _level(choice[index]) <= left:
                longer = (*chosen, choice[index])
                yield longer
                if len(longer) < MAX_TENSORS:
                    yield from extend(longer, index, left - _level(choice[index]))

    return extend((), 0, level)


def _multigraphs(degrees: tuple[int, ...]) -> Iterator[Edges]:
    """Numbers of edges between each two nodes that give every node its degree."""
    pairs = list(itertools.combinations(range(len(degrees)), 2))

    def extend(edges: Edges, left: tuple[int, ...]) -> Iterator[Edges]:
        if len(edges) == len(pairs):
            if not any(left):
                yield edges
            return
        i, j = pairs[len(edges)]
        for n in range(min(left[i], left[j]) + 1):
            rest = tuple(d - n if node in (i, j) else d for node, d in enumerate(left))
            yield from extend((*edges, n), rest)

    return extend((), degrees) if sum(degrees) % 2 == 0 else iter(())


def _canonical(nodes: tuple[Node, ...], edges: Edges) -> tuple[tuple[Node, ...], Edges]:
    """The same graph with its nodes in the smallest order: equal graphs become equal keys."""
    return min(_subgraph(nodes, edges, order) for order in itertools.permutations(range(len(nodes))))


def _subgraph(nodes: tuple[Node, ...], edges: Edges, chosen: tuple[int, ...]) -> tuple[tuple[Node, ...], Edges]:
    """Some nodes in a given order, with the edges among them."""
    number = dict(zip(itertools.combinations(range(len(nodes)), 2), edges, strict=True))
    inner = tuple(number[min(i, j), max(i, j)] for i, j in itertools.combinations(chosen, 2))
    return tuple(nodes[i] for i in chosen), inner


class _Planner:
    """Numbers moments as they are asked for, and writes each contraction as products of two smaller ones."""

    def __init__(self) -> None:
        self._number: dict[Moment, int] = {}
        self._recipes: list[Counter[tuple[int, int]]] = []
        self._operands: dict[Contraction, tuple[Contraction, Contraction]] = {}

    def scalar(self, tensors: tuple[Tensor, ...], edges: Edges) -> int:
        """Number of the moment that contracts all indices of the tensors along the edges."""
        return self._moment(tuple((mu, (0, 0, 0)) for mu, _ in tensors), edges)

    def tables(self, scalars: list[int]) -> MomentBasis:
        """Everything asked for so far, basic moments first, every operand before its product."""
        moments = list(self._number)
        basic = [index for index, (nodes, _) in enumerate(moments) if len(nodes) == 1]
        basic.sort(key=lambda index: _basic_order(moments[index][0][0]))
        order = basic + [index for index, recipe in enumerate(self._recipes) if recipe]
        place = {index: new for new, index in enumerate(order)}
        return MomentBasis(
            basic=tuple((mu, *powers) for index in basic for mu, powers in moments[index][0]),
            products=tuple(
                (min(place[a], place[b]), max(place[a], place[b]), coefficient, place[index])
                for index in order
                for (a, b), coefficient in self._recipes[index].items()
            ),
            scalars=tuple(place[scalar] for scalar in scalars),
        )

    def _moment(self, nodes: tuple[Component, ...], edges: Edges) -> int:
        moment = _canonical(nodes, edges)
        if moment not in self._number:
            recipe = self._recipe(*moment) if len(nodes) > 1 else Counter()
            self._number[moment] = len(self._recipes)
            self._recipes.append(recipe)
        return self._number[moment]

    def _recipe(self, nodes: tuple[Component, ...], edges: Edges) -> Counter[tuple[int, int]]:
        """Products of two moments that sum to this one, with their coefficients."""
        parts = self._parts(tuple((mu, sum(powers)) for mu, powers in nodes), edges)
        cut = _cut(parts[0], len(nodes), edges)
        recipe: Counter[tuple[int, int]] = Counter()
        for shares in itertools.product(*(_shares(n) for _, _, n in cut)):
            opened = list(nodes)
            for (i, j, _), share in zip(cut, shares, strict=True):
                opened[i], opened[j] = _add(opened[i], share), _add(opened[j], share)
            first, second = (self._moment(*_subgraph(tuple(opened), edges, part)) for part in parts)
            recipe[min(first, second), max(first, second)] += math.prod(map(_multiplicity, shares))
        return recipe

    def _parts(self, tensors: tuple[Tensor, ...], edges: Edges) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Nodes of the two operands: the cheapest division when first asked, ever after the same one."""
        contraction = _canonical(tensors, edges)
        divisions = _divisions(len(tensors))
        operands = [_operands(tensors, edges, parts) for parts in divisions]
        if contraction not in self._operands:
            cost = [self._cost(tensors, edges, parts) for parts in divisions]
            self._operands[contraction] = min(zip(cost, operands, strict=True))[1]
        return divisions[operands.index(self._operands[contraction])]

    def _cost(self, tensors: tuple[Tensor, ...], edges: Edges, parts: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
        """Products to be added if all components of a contraction were made by this division."""
        cut = _cut(parts[0], len(tensors), edges)
        shares = math.prod(_n_components(n) for *_, n in cut)
        own = math.prod(_n_components(rank) for _, rank in tensors) * shares
        return own + sum(self._cheapest(*operand) for operand in _operands(tensors, edges, parts))

    def _cheapest(self, tensors: tuple[Tensor, ...], edges: Edges) -> int:
        """Products to be added for all components of a contraction; none for those that are there."""
        if len(tensors) == 1 or (tensors, edges) in self._operands:
            return 0
        return min(self._cost(tensors, edges, parts) for parts in _divisions(len(tensors)))


@cache
def _divisions(n_nodes: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """All ways to put nodes into two parts."""
    nodes = range(n_nodes)
    halves = [part for size in range(1, n_nodes) for part in itertools.combinations(nodes, size) if 0 in part]
    return tuple((part, tuple(node for node in nodes if node not in part)) for part in halves)


def _cut(part: tuple[int, ...], n_nodes: int, edges: Edges) -> list[tuple[int, int, int]]:
    """(node, node, contracted indices) of the edges that leave a part."""
    pairs = itertools.combinations(range(n_nodes), 2)
    return [(i, j, n) for (i, j), n in zip(pairs, edges, strict=True) if (i in part) != (j in part) and n]


def _operands(
    tensors: tuple[Tensor, ...], edges: Edges, parts: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[Contraction, Contraction]:
    """What is contracted when a graph is cut in two: cut indices become free."""
    free = [rank for _, rank in tensors]
    for i, j, n in _cut(parts[0], len(tensors), edges):
        free[i] += n
        free[j] += n
    opened = tuple((mu, rank) for (mu, _), rank in zip(tensors, free, strict=True))
    first, second = (_canonical(*_subgraph(opened, edges, part)) for part in parts)
    return min(first, second), max(first, second)


@cache
def _shares(n: int) -> tuple[Powers, ...]:
    """All ways to give n contracted indices the values x, y and z."""
    return tuple((a, b, n - a - b) for a in range(n, -1, -1) for b in range(n - a, -1, -1))


def _n_components(rank: int) -> int:
    """Independent components of a symmetric tensor in three dimensions."""
    return math.comb(rank + 2, 2)


def _multiplicity(powers: Powers) -> int:
    """Index sequences that have these numbers of x, y and z."""
    return math.factorial(sum(powers)) // math.prod(math.factorial(power) for power in powers)


def _add(node: Component, share: Powers) -> Component:
    mu, (a, b, c) = node
    return mu, (a + share[0], b + share[1], c + share[2])


def _basic_order(node: Component) -> tuple[int, ...]:
    """MLIP's order: by μ, then rank, then powers of x, y, z descending."""
    mu, powers = node
    return (mu, sum(powers), *(-power for power in powers))
