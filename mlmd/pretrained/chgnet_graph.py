"""Networks of CHGNet on mlmd's pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlmd.graph import Graph
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, within


class CHGNetGraph(Native):
    """A network of CHGNet, on bonds and angles made of the pairs, differentiated once and in one direction.

    The framework's calculator builds them in Python at every step, and keeps what a training would need.
    """

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process.

        Raises:
            ValueError: when its energy is no sum over atoms.
        """
        made: Any = external.calculator
        network = made.model.requires_grad_(False).eval()
        super().__init__(external, network, next(network.parameters()).dtype)
        if not network.mlp_first:
            raise ValueError("its energy is no sum over atoms")
        self._reach = float(network.graph_converter.bond_graph_cutoff)
        known = network.atom_embedding.embedding.num_embeddings
        self._free = torch.zeros(known, dtype=torch.float64)
        if network.composition_model is not None:
            self._free = network.composition_model.fc.weight.reshape(known).double().cpu()

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV; differentiable with respect to ``graph.vectors``."""
        graph, to_bond, of_bond = with_reverses(within(graph, self.cutoff))
        network: Any = self.network(graph.positions.device)
        vectors = graph.vectors.to(self.dtype)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        first, second = angles_of(graph, self._reach)
        units = vectors / lengths[:, None]
        corners = units.index_select(0, first), units.index_select(0, second)
        basis, bond_lengths = network.bond_basis_expansion, lengths.index_select(0, of_bond)
        near, close = basis.rbf_expansion_ag(bond_lengths), basis.rbf_expansion_bg(bond_lengths)
        atoms, bonds = network.atom_embedding(graph.numbers - 1), network.bond_embedding(near)
        angles = network.angle_embedding(network.angle_basis_expansion(*corners))
        weights, close_weights = network.bond_weights_ag(near), network.bond_weights_bg(close)
        centre, neighbour = graph.pairs
        corner, arm, other = centre[first], to_bond[first], to_bond[second]
        bent = _with_angles(graph, of_bond, corner)
        for n, layer in enumerate(network.atom_conv_layers):
            said = gated(layer.twoBody_atom, (atoms, centre), (bonds, to_bond), (atoms, neighbour))
            said = said * weights.index_select(0, to_bond)
            atoms = _updated(layer, layer.atom_norm, atoms, said, centre)
            if n == len(network.atom_conv_layers) - 1 or not len(first):
                continue
            if (of_bonds := network.bond_conv_layers[n]) is not None:
                said = gated(of_bonds.twoBody_bond, (bonds, arm), (bonds, other), (angles, None), (atoms, corner))
                said = said * close_weights.index_select(0, arm) * close_weights.index_select(0, other)
                new = _updated(of_bonds, of_bonds.bond_norm, bonds, said, arm)
                bonds = new if bent is None else torch.where(bent, new, bonds)
                if (of_angles := network.angle_layers[n]) is not None:
                    new = gated(of_angles.twoBody_bond, (bonds, arm), (bonds, other), (angles, None), (atoms, corner))
                    angles = new + angles if of_angles.resnet else new
                    angles = angles if of_angles.angle_norm is None else of_angles.angle_norm(angles)
        if network.readout_norm is not None:
            atoms = network.readout_norm(atoms)
        free = self._free.to(graph.positions.device)[graph.numbers - 1]
        return network.mlp(atoms).squeeze(1).double() + free


def gated(network: Any, *parts: tuple[Tensor, Tensor | None]) -> Tensor:
    """A gated network (`GatedMLP`) of rows that are put together of rows of several tables.

    The first layer is applied to the tables, and what comes out is put together: tables are shorter than what is made
    of them, and both halves of the network are one product.

    Args:
        network: of the framework.
        parts: tables (n, width) and which of their rows; all in their order where this is None.
    """
    halves = [half.layers for half in (network.mlp_core, network.mlp_gate)]
    begin = next(n for n, layer in enumerate(halves[0]) if isinstance(layer, torch.nn.Linear))
    weight = torch.cat([half[begin].weight for half in halves]).T
    rows, done = None, 0
    for table, which in parts:
        width = table.shape[1]
        made = table @ weight[done : done + width]
        if done == 0 and halves[0][begin].bias is not None:
            made = made + torch.cat([half[begin].bias for half in halves])
        made = made if which is None else made.index_select(0, which)
        rows, done = made if rows is None else rows + made, done + width
    assert rows is not None
    core, gate = (
        half[begin + 1 :](one) for half, one in zip(halves, rows.chunk(2, dim=1), strict=True)
    )  # fmt: skip
    if network.norm is not None:
        core, gate = network.bn1(core), network.bn2(gate)
    return network.activation(core) * network.sigmoid(gate)


def _updated(layer: Any, norm: Any, rows: Tensor, said: Tensor, to: Tensor) -> Tensor:
    """A table to whose rows something was said, as `AtomConv` and `BondConv` end."""
    new = torch.zeros_like(rows).index_add_(0, to, said)
    if layer.use_mlp_out:
        new = layer.mlp_out(new)
    if layer.resnet:
        new = new + rows
    return new if norm is None else norm(new)


def with_reverses(graph: Graph) -> tuple[Graph, Tensor, Tensor]:
    """A bond is two pairs, one of which is the other seen from its neighbour.

    Where rounding has left only one of them within the cutoff, it goes too: at the cutoff it does not count.

    Returns:
        the graph, whose pairs have all a reverse; (n_pairs,) the bond of a pair; (n_bonds,) one of the pairs of a bond.
    """
    shifts = graph.shifts.long()
    widest = int(shifts.abs().max()) if len(shifts) else 0
    span = 2 * widest + 1
    crossed = ((shifts[:, 0] + widest) * span + shifts[:, 1] + widest) * span + shifts[:, 2] + widest
    centre, neighbour = graph.pairs
    key = (centre * graph.n_atoms + neighbour) * span**3 + crossed  # ascending, as pairs are
    back = (neighbour * graph.n_atoms + centre) * span**3 + span**3 - 1 - crossed
    reverse = torch.searchsorted(key, back).clamp_(max=max(len(key) - 1, 0))
    whole = key[reverse] == back
    if not bool(whole.all()):
        kept = whole.nonzero().squeeze(1)
        return with_reverses(
            replace(graph, pairs=graph.pairs[:, kept], shifts=graph.shifts[kept], vectors=graph.vectors[kept])
        )
    here = torch.arange(len(reverse), device=reverse.device)
    of_bond = (here < reverse).nonzero().squeeze(1)
    to_bond = torch.empty_like(reverse)
    to_bond[of_bond] = to_bond[reverse[of_bond]] = here[: len(of_bond)]
    return graph, to_bond, of_bond


def angles_of(graph: Graph, reach: float) -> tuple[Tensor, Tensor]:
    """All ordered choices of two different pairs of the same centre, both shorter than `reach` (Å): which pairs."""
    short = (graph.distances < reach).nonzero().squeeze(1)
    centres = graph.pairs[0][short]
    n_of = torch.bincount(centres, minlength=graph.n_atoms)
    begin, choices = (n_of.cumsum(0) - n_of)[centres], n_of[centres]
    first = torch.repeat_interleave(choices)
    second = torch.arange(len(first), device=first.device) - (choices.cumsum(0) - choices)[first] + begin[first]
    different = (first != second).nonzero().squeeze(1)
    return short[first[different]], short[second[different]]


def _with_angles(graph: Graph, of_bond: Tensor, corner: Tensor) -> Tensor | None:
    """(n_bonds, 1) whether the structure of a bond has angles; None where all have.

    A network whose bonds are updated by a constant too does so only in structures that have angles.
    """
    has = torch.zeros(graph.n_structures, dtype=torch.bool, device=corner.device)
    has[graph.owner[corner]] = True
    return None if graph.n_structures == 1 or bool(has.all()) else has[graph.owner[graph.pairs[0][of_bond]]][:, None]
