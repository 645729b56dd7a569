"""Potentials of mlmd as models of metatomic, for what runs these: ASE, LAMMPS, i-PI, GROMACS and more.

Energies of atoms are traced by torch, as for `mlmd.potentials.scripted`, for a fixed number of atoms; systems of any
size are worked through so many at a time. The energy of an atom depends on the vectors to its neighbours and their
elements alone, so that behind these atoms one of each element stands for all neighbours of this element.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.data import atomic_numbers
from torch import Tensor

from mlmd.errors import InputError, StorageError
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.potentials.scripted import compare, energies_of_atoms, quietly, unscriptable
from mlmd.pretrained import metatomic

INSTALL = "metatomic-torch metatomic-ase"
AT_ONCE = 64
"""Atoms: more need more memory, fewer more calls."""
_SPACING = 2.5
"""Å between the atoms of the crystal that energies are traced of."""


def save(potential: Potential, path: Path) -> None:
    """Write the model of a potential, which knows all elements of the potential.

    Raises:
        InputError: for a potential that is not made of energies of atoms in PyTorch or knows any element, a name with
            another ending, where metatomic is not installed, and where its calculator finds something else in the
            file than the potential: nothing is written then.
        StorageError: when the file exists already, or cannot be written.
    """
    if path.suffix != ".pt":
        raise InputError(f"{path}: a model of metatomic is a .pt file. Give such a name.")
    if path.exists():
        raise StorageError(f"{path} exists already; nothing was written. Give another name.")
    if kind := unscriptable(potential):
        raise InputError(
            f"a potential of kind {kind!r} cannot be written for metatomic: it is not made of energies of atoms that "
            "PyTorch computes from mlmd's pairs."
        )
    if not potential.elements:
        raise InputError(
            "a model of metatomic names its elements, and this potential takes any. Give elements = [...]."
        )
    try:
        import metatomic_ase  # noqa: F401 - which is asked what was written
        from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput

        from mlmd.pretrained.metatomic_module import Exported
    except ImportError:
        raise InputError(f"metatomic is not installed here: pip install {INSTALL}.") from None
    numbers = torch.tensor([atomic_numbers[symbol] for symbol in potential.elements])
    with quietly():
        module = Exported(traced(potential), numbers, float(potential.cutoff), AT_ONCE)
        can = ModelCapabilities(
            outputs={"energy": ModelOutput(unit="eV", sample_kind="system")},
            atomic_types=numbers.tolist(),
            interaction_range=float(potential.cutoff),
            length_unit="angstrom",
            supported_devices=["cpu"],
            dtype="float64",
        )
        description = f"a potential of mlmd of kind {potential.spec()['kind']}"
        model = AtomisticModel(module.eval(), ModelMetadata(name=path.stem, description=description), can)
        try:
            # beside it, since a file is moved as a whole within one folder only
            with TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
                written = Path(folder) / path.name
                model.save(str(written))
                _compare(written, potential)
                written.rename(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}.") from None


def _compare(file: Path, potential: Potential) -> None:
    """Ask metatomic's own calculator for a crystal that is worked through in parts, and for a molecule.

    Raises:
        InputError: where it does not say what the potential says.
    """
    asked = metatomic.calculator(str(file))

    def answer(atoms: Atoms) -> tuple[float, Tensor]:
        asked.calculate(atoms, ["energy", "forces"], all_changes)
        return float(asked.results["energy"]), torch.from_numpy(np.array(asked.results["forces"], dtype=float))

    crystal = _crystal(potential)
    molecule = crystal[: max(4, len(potential.elements))]
    molecule.pbc = False
    for atoms in (crystal.repeat((2, 1, 1)), molecule):
        compare(answer, potential, atoms, "the model for metatomic")


def traced(potential: Potential) -> Any:
    """Energies (n,) eV, n = `AT_ONCE` + n_elements, of atomic numbers (n,), pairs and vectors, as TorchScript.

    Raises:
        InputError: when torch cannot trace it.
    """
    cast(torch.nn.Module, potential).to("cpu")
    for parameter in cast(torch.nn.Module, potential).parameters():
        parameter.requires_grad_(False)
    elements = potential.elements
    graph = build_graph(_crystal(potential), float(potential.cutoff))
    own = torch.tensor([atomic_numbers[symbol] for symbol in elements])
    places = AT_ONCE + torch.arange(AT_ONCE) % len(elements)
    pairs = torch.stack([graph.pairs[0], places[graph.pairs[1]]])
    example = (torch.cat([graph.numbers, own]), pairs, graph.vectors.clone().requires_grad_(True))
    try:
        return torch.jit.trace(_OfAtoms(potential, len(example[0])), example, check_trace=False)
    except (RuntimeError, ValueError, TypeError) as error:
        kind = potential.spec()["kind"]
        raise InputError(
            f"a potential of kind {kind!r} cannot be traced by torch {torch.__version__}: {error}"
        ) from None


def _crystal(potential: Potential) -> Atoms:
    """`AT_ONCE` atoms of all elements, as far as there is room, near the places of a simple cubic lattice."""
    elements = potential.elements
    corners = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return Atoms(
        [elements[index % len(elements)] for index in range(AT_ONCE)],
        positions=_SPACING * corners + np.random.default_rng(0).normal(0.0, 0.1, (AT_ONCE, 3)),
        cell=[4 * _SPACING] * 3,
        pbc=True,
    )


class _OfAtoms(torch.nn.Module):
    """What is traced."""

    def __init__(self, potential: Potential, n_atoms: int) -> None:
        super().__init__()
        # not as a submodule: its numbers become constants of the trace
        self._behind = (potential, n_atoms)

    def forward(self, numbers: Tensor, pairs: Tensor, vectors: Tensor) -> Tensor:
        """(n_atoms,) eV."""
        potential, n_atoms = self._behind
        zeros, cell = torch.zeros((n_atoms, 3), dtype=torch.float64), torch.eye(3, dtype=torch.float64)
        graph = Graph(
            numbers=numbers, positions=zeros, cells=cell[None],
            pbc=torch.ones((1, 3), dtype=torch.bool), pairs=pairs, shifts=torch.zeros_like(vectors), vectors=vectors,
            owner=torch.zeros(n_atoms, dtype=torch.int64), volumes=cell.det()[None],
        )  # fmt: skip
        return energies_of_atoms(potential, graph)
