"""How sure a potential is of what it says: the spread of forces, and the grade of extrapolation.

Spread, of models that are linear in their parameters α with covariance (R'R)⁻¹ (Bartók and Csányi, IJQC 115, 1051,
2015), of networks as far as their last layer is (`mlmd.fitting.last_layer`), and of committees of m members (Peterson,
Christensen and Khorshidi, PCCP 19, 10978, 2017):

    s_i = c √(⅓ Σ_axis var F_i,axis),    var F = ‖R^(-T) ∂F/∂α‖²    or    Σ_members (F - F̄)² / (m - 1),

the standard deviation of a component of the force on atom i, c the calibration that training found. It is what the data
leave open of the parameters: where every basis function is constant, as kernels are far from all representative atoms
and neurons of tanh are where they saturate, forces are wrong and the spread is small. The grade tells such atoms.

Grade, with the active set A of the element of atom i (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171, 2017; by
element as Lysogorskiy et al., Phys. Rev. Mater. 7, 043801, 2023):

    γ_i = max |b(D_i) A⁻¹|,    b = (basis functions of the element, 1)    or    (D, 1)

for linear and quadratic functions of the features D, or for any other. Up to one is interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import torch
from torch import Tensor

from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.linearised import Linearised, linearised, values
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.species import species
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.last_layer import LastLayer
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, Prediction
from mlmd.potentials.committee import Committee
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.threads import undivided

SPREAD, GRADE = "spread", "grade"
EXTRAPOLATES, BREAKS = 2.0, 10.0
"""Grades above which a structure is worth labelling, and above which a run is best stopped (Novikov, Gubaev,
Podryabinkin and Shapeev, Mach. Learn.: Sci. Technol. 2, 025002, 2021)."""
_MOST_BYTES = 2**32
"""At once for a spread."""
_COPIES = 4
"""Of the rows of all forces: as they come, with those of other terms, of constants, and solved."""


@dataclass(frozen=True)
class Deviation:
    """How far the members of a committee are from their mean: ⟨|x_m - ⟨x⟩|²⟩^½ over the members, as in DeePMD."""

    forces: Tensor
    """(n_atoms,) eV/Å, of whole vectors."""
    virial: Tensor
    """(9,) eV, of the components, divided by the number of atoms."""


@dataclass(frozen=True)
class Uncertainty:
    """What a potential says of its own errors for the atoms of a structure; None for what it does not know."""

    spread: Tensor | None = None
    """(n_atoms,) eV/Å, standard deviation of a component of the force."""
    grade: Tensor | None = None
    """(n_atoms,) γ, dimensionless; at most about one within what was trained on."""
    deviation: Deviation | None = None
    """Of a committee, and not calibrated."""


def knows(potential: Potential) -> tuple[str, ...]:
    """What a potential can tell of its errors: ``"spread"``, ``"grade"``, both or nothing."""
    if isinstance(potential, LearnedPotential):
        told = {SPREAD: _has_spread(potential), GRADE: potential.inverses is not None}
        return tuple(name for name, known in told.items() if known)
    if isinstance(potential, Committee):
        graded = all(GRADE in knows(member) for member in potential.members)
        return (SPREAD,) * (potential.calibration > 0) + (GRADE,) * graded
    of_parts = [knows(part) for part in getattr(potential, "parts", ())]
    return tuple(name for name in (SPREAD, GRADE) if any(name in one for one in of_parts))


class Judge:
    """Asks a potential about its errors.

    Learned ones are asked on the CPU and in float64, wherever and in whatever they compute forces; models of other
    programs where they compute forces.
    """

    def __init__(self, potential: Potential, device: torch.device | str | None = None) -> None:
        """Take any potential, or a sum of some, and where it will compute if not where it is.

        It `knows` what its parts do.
        """
        self.knows = knows(potential)
        device = _place(potential) if device is None else device
        known = [part for part in _parts(potential) if knows(part)]
        self._parts = [_in_float64(part, device) if isinstance(part, LearnedPotential) else part for part in known]
        self._committees = {id(part): _Members(part, device) for part in self._parts if isinstance(part, Committee)}

    def fits(self, n_atoms: int) -> bool:
        """Whether a spread can be told of so many atoms, for what it needs of memory."""
        return all(
            isinstance(part, Committee) or _bytes_of_spread(part, n_atoms) <= _MOST_BYTES for part in self._parts
        )

    def __call__(self, atoms: ase.Atoms, what: Sequence[str] = (SPREAD, GRADE)) -> Uncertainty:
        """Spread and grade of the atoms of a structure.

        Of several parts, errors add up as independent ones do, and the greatest grade counts.

        Args:
            atoms: a structure.
            what: of ``"spread"`` and ``"grade"``.

        Raises:
            InputError: for an element that is not known, a structure that is impossible, or too large for a spread.
        """
        found = [
            self._committees[id(part)](atoms, what) if isinstance(part, Committee) else _of_learned(part, atoms, what)
            for part in self._parts
        ]
        spreads = [one.spread for one in found if one.spread is not None]
        grades = [one.grade for one in found if one.grade is not None]
        deviations = [one.deviation for one in found if one.deviation is not None]
        return Uncertainty(
            deviation=deviations[0] if len(found) == 1 and deviations else None,
            spread=torch.stack(spreads).square().sum(dim=0).sqrt() if spreads else None,
            grade=torch.stack(grades).amax(dim=0) if grades else None,
        )


class _Members:
    """Asks the members of a committee."""

    def __init__(self, committee: Committee, device: torch.device | str) -> None:
        self._calibration, self._graded = committee.calibration, GRADE in knows(committee)
        self._predictors = [
            predictor(_in_float64(one, device)) if isinstance(one, LearnedPotential) else predictor(one, device)
            for one in committee.members
        ]
        self._judges = [Judge(member, device) for member in committee.members] if self._graded else []

    def __call__(self, atoms: ase.Atoms, what: Sequence[str]) -> Uncertainty:
        """The standard deviation of the members' forces, and the greatest grade: what one knows nothing of counts."""
        spread = grade = deviation = None
        if SPREAD in what and self._calibration > 0:
            answers = [one(atoms) for one in self._predictors]
            forces = torch.stack([torch.from_numpy(one.forces) for one in answers])
            spread = forces.var(dim=0).mean(dim=1).sqrt() * self._calibration
            virials = torch.stack([torch.from_numpy(one.virial).flatten() for one in answers])
            deviation = Deviation(
                forces.var(dim=0, correction=0).sum(dim=1).sqrt(),
                virials.var(dim=0, correction=0).sqrt() / len(atoms),
            )
        if GRADE in what and self._judges:
            grades = [judge(atoms, (GRADE,)).grade for judge in self._judges]
            grade = torch.stack([one for one in grades if one is not None]).amax(dim=0)
        return Uncertainty(spread, grade, deviation)


def predict(potential: Potential, atoms: ase.Atoms) -> Prediction:
    """Energy, forces and stress of a structure, with spread and grade of its atoms where the potential knows them.

    Raises:
        InputError: as `Judge`.
    """
    found = Judge(potential)(atoms)
    prediction = potential.predict(build_graph(atoms, potential.cutoff))
    return replace(prediction, spread=found.spread, grade=found.grade)


def environment_rows(regressor: Regressor, features: Tensor, kinds: Tensor, kind: int) -> Tensor:
    """b of atoms of one kind, (n, n_columns), float64; features (n, n_features) and kinds (n,) are all of that kind."""
    rows = features
    if isinstance(regressor, Expansion) and regressor.relative:
        rows = regressor.basis(features, kinds)[:, regressor.columns(kind)]
    return torch.cat([rows.double(), torch.ones((len(rows), 1), dtype=torch.float64)], dim=1)


def n_environment_columns(regressor: Regressor) -> int:
    """How many numbers `environment_rows` makes of an atom, at most."""
    if isinstance(regressor, Expansion) and regressor.relative:
        columns = (regressor.columns(kind) for kind in range(regressor.n_kinds))
        return 1 + max(one.stop - one.start for one in columns)
    return 1 + regressor.n_features


def _of_learned(potential: LearnedPotential, atoms: ase.Atoms, what: Sequence[str]) -> Uncertainty:
    descriptor, regressor = potential.descriptor, potential.regressor
    graph = build_graph(atoms, pair_cutoff(descriptor) or potential.design_cutoff)
    kinds = species(graph.numbers, potential.species_table)
    spread = grade = None
    with undivided(), torch.no_grad():
        if SPREAD in what and _has_spread(potential):
            spread = _spread(potential, graph, kinds) * potential.calibration
        if GRADE in what and potential.inverses is not None:
            grade = _grades(regressor, values(descriptor, graph), kinds, potential.inverses)
    return Uncertainty(spread, grade)


def _has_spread(potential: LearnedPotential) -> bool:
    """Not where the calibration is zero: then it is the given part of a sum, whose errors the other part learned."""
    regressor = potential.regressor
    return potential.calibration > 0 and _may_have_spread(regressor)


def _may_have_spread(regressor: Regressor) -> bool:
    return getattr(regressor, "factor", None) is not None or len(getattr(regressor, "members", ())) > 1


def _spread(potential: LearnedPotential, graph: Graph, kinds: Tensor) -> Tensor:
    """(n_atoms,) eV/Å, before calibration."""
    regressor = potential.regressor
    members: Sequence[Regressor] = tuple(getattr(regressor, "members", ()))
    if len(members) > 1:
        work = linearised(potential.descriptor, graph, keep=False)  # few products, and the structure may be large
        forces = torch.stack([-_gradient(work, member, kinds) for member in members])
        return forces.var(dim=0).mean(dim=1).sqrt()
    potential = linear_in_parameters(potential)
    if (n_bytes := _bytes_of_spread(potential, graph.n_atoms)) > _MOST_BYTES:
        raise InputError(
            f"the spread of the forces on {graph.n_atoms:,} atoms would need {n_bytes / 1e9:.1f} GB of memory "
            f"for {potential.expansion.n_basis:,} parameters. Ask about fewer atoms, or about the grade only."
        )
    rows = potential.design(graph).forces
    factor = potential.expansion.factor
    assert factor is not None
    of_components = potential.expansion.deviations(rows[..., : len(factor)].flatten(0, 1))
    return of_components.view(-1, 3).square().mean(dim=1).sqrt()


def linear_in_parameters(potential: LearnedPotential) -> LearnedPotential:
    """The same potential with a network as the linear function of its last layer that it is."""
    if not isinstance(potential.regressor, Network):
        return potential
    return LearnedPotential(potential.descriptor, LastLayer(potential.regressor), potential.calibration)


def _bytes_of_spread(potential: LearnedPotential, n_atoms: int) -> int:
    """At once for a spread by a covariance, with compiled kernels: slopes of the basis by the features, then forces."""
    potential = linear_in_parameters(potential)
    if not _has_spread(potential) or not isinstance(potential.regressor, Expansion):
        return 0
    of_forces = 3 * potential.expansion.n_basis
    of_slopes = [
        # once as the regressor has them and once as the kernel reads them; linear functions are the features
        term.n_basis * term.n_features * (1 if isinstance(term, Linear) else 2)
        for part, term, _ in potential.terms()
        if not (isinstance(part, Moments) and isinstance(term, Linear))
    ]
    return 8 * n_atoms * max(_COPIES * of_forces, of_forces + max(of_slopes, default=0))


def _gradient(work: Linearised, regressor: Regressor, kinds: Tensor) -> Tensor:
    """(n_atoms, 3) eV/Å, derivative of the energy by the positions."""
    with torch.enable_grad():
        features = work.values.clone().requires_grad_(True)
        (weights,) = torch.autograd.grad(regressor.energies(features, kinds).sum(), features)
    return work.pull(weights)[0]


def _grades(regressor: Regressor, features: Tensor, kinds: Tensor, inverses: Tensor) -> Tensor:
    """(n_atoms,) γ."""
    found = features.new_zeros(len(features), dtype=torch.float64)
    for kind in kinds.unique().tolist():
        own = (kinds == kind).nonzero().squeeze(1)
        rows = environment_rows(regressor, features[own], kinds[own], kind)
        found[own] = (rows @ inverses[kind]).abs().amax(dim=1)
    return found


def _parts(potential: Potential) -> list[LearnedPotential | Committee]:
    """The learned potentials and the committees that a potential is, or is the sum of."""
    if isinstance(potential, LearnedPotential | Committee):
        return [potential]
    return [one for part in getattr(potential, "parts", ()) for one in _parts(part)]


def _place(potential: Potential) -> torch.device:
    """Where a potential is."""
    if not isinstance(potential, torch.nn.Module):
        return torch.device("cpu")
    return next((one.device for one in (*potential.parameters(), *potential.buffers())), torch.device("cpu"))


def _in_float64(potential: LearnedPotential, device: torch.device | str) -> LearnedPotential:
    """The same potential, or a copy on the CPU in float64 where it is not, or will be moved away."""
    tensors = [*potential.parameters(), *potential.buffers()]
    stays = torch.device(device).type == "cpu"
    if stays and all(one.device.type == "cpu" and one.dtype != torch.float32 for one in tensors):
        return potential
    state = {name: tensor.cpu() for name, tensor in potential.state_dict().items()}
    copy = type(potential).restore(potential.spec(), state).double()
    copy.load_state_dict(state)
    return copy


def largest(values: Tensor | None) -> float:
    """The greatest number; nan of none."""
    return math.nan if values is None or not len(values) else float(values.max())
