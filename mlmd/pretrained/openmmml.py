"""Whatever OpenMM-ML knows by name: AIMNet2, FeNNix, MACE, ANI, Orb, TorchMD-Net and what packages add to them.

OpenMM-ML makes a System of OpenMM for atoms, and a Context of it on the platform CPU is asked for energy and forces.
(The neighbours of the platform Reference are not all found in skewed cells: OpenMM 8.6.) There is no stress. Molecules
may have a charge, as `arguments = { charge = -1 }` says for those potentials that take one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "openmmml"
ENERGY = 1 / 96.48533212331
"""eV of a kJ/mol (CODATA 2018)."""
_STEP = 0.02
"""Å, of all atoms together, for a derivative."""
_SMALL = 0.2
"""eV/Å: forces that are not compared with the energy."""
_NOISE = 1e-5
"""Of energies in single precision, of which a difference should be clear."""
PACKAGES = ("openmmml", "openmm", "torch", "torchani", "aimnet", "fennol", "mace-torch", "orb-models", "torchmd-net")
"""Whose versions are told, where they are there."""


class Named(Calculator):
    """A potential of OpenMM-ML; its System is made again for other atoms."""

    def __init__(self, name: str, arguments: Mapping[str, Any], device: str) -> None:
        """Find the potential.

        Raises:
            ValueError: when OpenMM-ML does not know it.
        """
        import openmm.app
        from openmmml import MLPotential

        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self._openmm = openmm
        factories = MLPotential._implFactories
        if name not in factories:
            close = get_close_matches(name, factories, cutoff=0.4) or sorted(factories)
            raise ValueError(f"OpenMM-ML has no potential {name!r}. Is it one of {', '.join(close)}?")
        self._given = {**arguments, "device": device}
        self._potential = MLPotential(name, **_taken(factories[name].createImpl, arguments))
        self._name = name
        self._context: Any = None
        self._made_for: Any = None
        self._checked = False

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Energy (eV) and forces (eV/Å).

        Raises:
            ValueError: when the forces are not derivatives of the energy.
        """
        turn = np.eye(3)
        vectors = None
        if atoms.pbc.all():
            vectors, turn = reduced(atoms.cell.array)
        made_for = (atoms.numbers.tobytes(), atoms.pbc.tobytes())
        if made_for != self._made_for:
            self._context, self._made_for = self._new_context(atoms.numbers, vectors), made_for
        if vectors is not None:
            self._context.setPeriodicBoxVectors(*(self._openmm.Vec3(*one) for one in 0.1 * vectors))
        positions = atoms.positions @ turn
        energy, forces = self._ask(positions)
        if not self._checked:
            self._check(positions, energy, forces)
        self.results = {"energy": energy, "forces": forces @ turn.T}

    def _ask(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy (eV) and forces (eV/Å) of the context."""
        unit = self._openmm.unit
        self._context.setPositions(0.1 * positions)
        state = self._context.getState(getEnergy=True, getForces=True)
        energy = float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
        return energy * ENERGY, np.array(forces) * ENERGY

    def _check(self, positions: np.ndarray, energy: float, forces: np.ndarray) -> None:
        """Compare the first forces that are not small with the energy at both sides of the positions along them.

        OpenMM-ML 1.8 gives a tenth of ANI's forces: those for Å, where nm are meant.

        Raises:
            ValueError: when they differ by more than a factor of two. Some models predict forces beside the energy,
                which are no exact derivatives.
        """
        size = float(np.linalg.norm(forces))
        if 2 * _STEP * size < _NOISE * abs(energy) or size < _SMALL:
            return
        ahead, behind = (self._ask(positions + sign * _STEP * forces / size)[0] for sign in (1, -1))
        ratio = (behind - ahead) / (2 * _STEP * size)
        if not 0.5 < ratio < 2:
            raise ValueError(
                f"the energy of {self._name!r} falls {ratio:.3g} times as much along its forces as these say: they are "
                'wrong in this release of OpenMM-ML. Is there another way to this model, such as kind = "ani"?'
            )
        self._checked = True

    def _new_context(self, numbers: np.ndarray, vectors: np.ndarray | None) -> Any:
        """A Context for atoms in a cell (3, 3) Å of OpenMM's form, or in the open."""
        openmm = self._openmm
        topology = openmm.app.Topology()
        residue = topology.addResidue("X", topology.addChain())
        for number in numbers:
            element = openmm.app.Element.getByAtomicNumber(int(number))
            topology.addAtom(element.symbol, element, residue)
        if vectors is not None:
            topology.setPeriodicBoxVectors([openmm.Vec3(*one) for one in 0.1 * vectors])
        given = _taken(self._potential._impl.addForces, self._given)
        system = self._potential.createSystem(topology, removeCMMotion=False, **given)
        platform = openmm.Platform.getPlatformByName("CPU")
        return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def reduced(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the same lattice in the form that OpenMM asks for, and how space is turned to get there.

    With vectors a, b, c in rows: a along x, b in the plane of x and y, and |b_x| ≤ a_x / 2, |c_x| ≤ a_x / 2,
    |c_y| ≤ b_y / 2.

    Args:
        cell: (3, 3) Å, rows are vectors.

    Returns:
        Vectors (3, 3) Å, and the rotation (3, 3), for ``positions @ rotation``.
    """
    right = cell if np.linalg.det(cell) > 0 else cell * [[1], [1], [-1]]
    rotation, lower = np.linalg.qr(right.T)
    signs = np.sign(np.diag(lower))
    rotation, vectors = rotation * signs, lower.T * signs
    for low, high in ((1, 2), (0, 2), (0, 1)):
        vectors[high] -= vectors[low] * np.round(vectors[high, low] / vectors[low, low])
    return np.tril(vectors), rotation


def _taken(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return {name: value for name, value in arguments.items() if every or name in parameters}


def calculator(name: str, arguments: Mapping[str, Any] | None = None, device: str = "cpu") -> Named:
    """An ASE calculator of a potential.

    Args:
        name: as OpenMM-ML knows it, e.g. ``"aimnet2"``.
        arguments: of the potential and of its `createSystem`: each takes what it knows.
        device: of torch.
    """
    return Named(name, arguments or {}, device)


def facts(made: Named) -> dict[str, Any]:
    """Versions of what computes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"versions": found}


def load(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
) -> External:
    """A potential of OpenMM-ML.

    Args:
        name: as OpenMM-ML knows it, e.g. ``"aimnet2"``, ``"ani2x"`` or ``"mace"``.
        arguments: for it, e.g. ``{ charge = 1 }``, or ``{ modelPath = "my.model" }`` for those that take a file.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: is the potential's matter.
        trust: digests of the files among the arguments: they may execute code.

    Raises:
        InputError: when the framework does not know the name, or cannot make the potential.
        ModelError: for files that are not trusted.
    """
    from mlmd.config.files import files_in
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework

    if arguments is not None and not isinstance(arguments, Mapping):
        raise InputError(f"arguments: {arguments!r} is not a table of the potential's keywords.")
    given = {"name": name, "arguments": dict(arguments or {}) or None}
    return framework(
        "openmmml", given, install=INSTALL, python=python, elements=elements, files=list(files_in(arguments)),
        executes="a model for OpenMM-ML may execute code when it is opened", trust=trust,
        partly_periodic=False,  # OpenMM has a box, or none
    )  # fmt: skip
