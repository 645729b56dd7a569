"""A region by machine learning inside a force field: which atoms, and the System that OpenMM-ML makes of both."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
import openmm
from openmm import app, unit

from mlmd.config import MLMM, Simulate
from mlmd.engine.forcefield import field_system, read_forcefield, with_sites
from mlmd.engine.forces import NM
from mlmd.engine.python_force import Compute, Loaded
from mlmd.engine.topology import cell_of, molecules_of, read_named, whole, without_sites
from mlmd.errors import InputError, did_you_mean
from mlmd.io.validity import check_structure
from mlmd.potentials import Potential
from mlmd.potentials.load import check_elements

GROUP = 1
"""Force group of the potential; the force field's terms are in others."""
SEPARATED = {
    "HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "RBTorsionForce", "CMAPTorsionForce",
    "CustomBondForce", "CustomAngleForce", "CustomTorsionForce", "NonbondedForce", "CustomNonbondedForce",
}  # fmt: skip
"""Forces of which mechanical embedding takes out what is within the region."""


@dataclass(frozen=True)
class Mixed:
    """A force field with a region of the potential in it."""

    system: openmm.System
    """Atoms, sites of the force field, hydrogens that cap cut bonds; the potential in the group `GROUP`."""
    topology: app.Topology
    """Of the atoms alone."""
    atoms: ase.Atoms
    """What moves: all particles that are no virtual sites; molecules whole."""
    places: np.ndarray
    """(n_atoms,) indices of the atoms among the particles of the system."""
    region: np.ndarray
    """Indices among the atoms, of those of the potential."""
    n_caps: int
    """Bonds that leave the region, each capped by a hydrogen."""
    constraints: tuple[np.ndarray, np.ndarray]
    """(n, 2) indices among the atoms, and (n,) Å."""
    molecules: np.ndarray
    """(n_atoms,) number of the molecule of each atom."""
    compute: Compute
    """The potential, as the system's PythonForce calls it."""


def mixed_of(config: Simulate, potential: Potential) -> Mixed:
    """What ``[mlmm]`` of an input asks for.

    Raises:
        InputError: for a structure without names, a residue that the force field does not know, a region of nothing or
            of everything, elements in it that the potential does not know, and what cannot be embedded.
        ModelError: for a force field that would execute code.
    """
    options = config.mlmm
    assert options is not None
    topology, positions = read_named(config.structure)
    field = read_forcefield(options.forcefield)
    if options.nonbonded == "none":
        topology.setPeriodicBoxVectors(None)
    topology, positions = with_sites(field, topology, positions)
    bonds = [(bond.atom1.index, bond.atom2.index) for bond in topology.bonds()]
    cell = cell_of(topology)
    if cell is not None:
        positions = whole(positions, cell, bonds)
    system = field_system(options, field, topology, positions)
    places = np.array([n for n in range(system.getNumParticles()) if not system.isVirtualSite(n)])
    atoms = _atoms(topology, positions, places, cell)
    check_structure(atoms, config.structure.name)
    region = selected(options.region, topology, places)
    numbers = [atoms.symbols[n] for n in np.searchsorted(places, region)]
    check_elements(potential, numbers, "the region")
    mixed, compute, n_caps = _embedded(config, options, potential, topology, system, region)
    constraints = _constraints(mixed, places)
    molecules = molecules_of(topology.getNumAtoms(), bonds)[places]
    return Mixed(
        mixed, without_sites(topology), atoms, places, np.searchsorted(places, region), n_caps, constraints,
        np.unique(molecules, return_inverse=True)[1], compute,
    )  # fmt: skip


def _atoms(topology: app.Topology, positions: np.ndarray, places: np.ndarray, cell: np.ndarray | None) -> ase.Atoms:
    """The atoms, in OpenMM's order."""
    everyone = list(topology.atoms())
    nameless = [everyone[n] for n in places if everyone[n].element is None]
    if nameless:
        one = nameless[0]
        raise InputError(f"atom {one.name} of residue {one.residue.name} {one.residue.id} has no element in the file.")
    numbers = [everyone[n].element.atomic_number for n in places]
    return ase.Atoms(numbers, positions[places], cell=cell, pbc=cell is not None)


def selected(region: str | tuple[int, ...], topology: app.Topology, places: np.ndarray) -> list[int]:
    """Indices of the region among the particles of a topology, ascending.

    Args:
        region: a selection of mdtraj, or indices among the atoms.
        topology: with the sites of the force field.
        places: (n_atoms,) indices of the atoms among its particles.

    Raises:
        InputError: when it selects nothing, everything, sites beside atoms, or atoms that do not exist.
    """
    if isinstance(region, str):
        found = _by_words(region, topology)
    else:
        if (absent := max(region)) >= len(places):
            raise InputError(
                f"mlmm: region: there is no atom {absent}: the structure has {len(places)}, counted from 0."
            )
        found = sorted(int(places[n]) for n in region)
    if not found:
        names = {residue.name for residue in topology.residues()}
        raise InputError(
            f"mlmm: region: {region!r} selects no atom. The residues of the structure are called "
            f"{', '.join(sorted(names)[:12])}."
        )
    if sites := set(found) - set(places.tolist()):
        atom = list(topology.atoms())[min(sites)]
        raise InputError(
            f"mlmm: region: residue {atom.residue.name} {atom.residue.id} has charges beside its atoms in this force "
            "field, which a potential does not know. Leave it out of the region, or use water of three sites."
        )
    if len(found) == len(places):
        raise InputError(
            "mlmm: region: it is the whole structure, of which nothing is left to the force field. Leave [mlmm] out: "
            "the potential then acts on all atoms."
        )
    return found


def _by_words(region: str, topology: app.Topology) -> list[int]:
    import mdtraj

    seen = mdtraj.Topology.from_openmm(topology)
    try:
        return sorted(int(n) for n in seen.select(region))
    except Exception as error:  # the parser raises whatever a wrong text happens to trigger
        reason = f"{error}".partition("\n")[0][:160]
        words = ("resname", "resid", "residue", "name", "index", "chainid", "protein", "water", "backbone", "sidechain")
        wrong = [word for word in region.replace("(", " ").split() if word.isalpha() and word.islower()]
        hints = [hint for word in wrong if "Did" in (hint := did_you_mean(word, words)) and word not in words]
        raise InputError(
            f"mlmm: region: {region!r} is no selection that mdtraj understands ({reason}). "
            f"{' '.join(hints[:1]) or 'Write for example resname LIG, or chainid 1 and resid 3 to 5.'}"
        ) from None


def _embedded(
    config: Simulate, options: MLMM, potential: Potential, topology: app.Topology, system: openmm.System,
    region: list[int],
) -> tuple[openmm.System, Compute, int]:  # fmt: skip
    """OpenMM-ML's system, what computes the potential in it, and how many bonds were cut."""
    try:
        from openmmml import MLPotential
    except ImportError:
        raise InputError('mlmm needs OpenMM-ML: pip install "mlmd[openmmml]".') from None
    from mlmd.engine.openmmml import Factory

    MLPotential.registerImplFactory("mlmd", Factory())  # an installation that is older than the entry point has none
    made = MLPotential("mlmd", loaded=Loaded(config.potential, potential=potential), device="cpu")
    known = made.getSupportedEmbeddings()
    if options.embedding not in known:
        raise InputError(f"mlmm: embedding: {options.embedding!r}: {did_you_mean(options.embedding, known)}")
    kinds = {type(force).__name__ for force in system.getForces()}
    if options.embedding == "mechanical" and (others := sorted(kinds - SEPARATED)):
        raise InputError(
            f"mlmm: forcefield: it has a {others[0]}, of which mechanical embedding cannot take out what is within the "
            "region: implicit solvent and polarizable force fields do not go with it."
        )
    try:
        found: dict[str, Any] = made.createMixedSystem(
            _all_with_elements(topology), system, region, forceGroup=GROUP, embedding=options.embedding,
            returnInfo=True, mlLongRange=options.long_range,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"mlmm: {error}. {_advice(str(error))}") from None
    mixed: openmm.System = found["system"]
    if found["oldToNew"] != list(range(topology.getNumAtoms())):
        raise InputError(f"mlmm: embedding: {options.embedding!r} reorders atoms, which mlmd does not follow.")
    inside = set(region)
    cut = sum((bond.atom1.index in inside) != (bond.atom2.index in inside) for bond in topology.bonds())
    return mixed, made._impl.computes[-1], cut


def _all_with_elements(topology: app.Topology) -> app.Topology:
    """The same with an element for sites beside atoms too: OpenMM-ML 1.8 asks all particles for theirs, for no use."""
    made = copy.deepcopy(topology)
    for atom in made.atoms():
        if atom.element is None:
            atom.element = app.element.hydrogen
    return made


def _advice(text: str) -> str:
    if "link bonds" in text:
        return "Move the border of the region: two of its bonds may not end at one atom of the force field."
    return ""


def _constraints(system: openmm.System, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of atoms (n, 2) at fixed distances (n,) Å, without those that the embedding has taken out."""
    number = {int(particle): n for n, particle in enumerate(places)}
    pairs, distances = [], []
    for n in range(system.getNumConstraints()):
        one, other, distance = system.getConstraintParameters(n)
        pairs.append((number[one], number[other]))
        distances.append(distance.value_in_unit(unit.nanometer) * NM)
    return np.array(pairs, dtype=int).reshape(-1, 2), np.array(distances)
