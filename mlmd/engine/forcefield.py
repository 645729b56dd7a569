"""Force fields of OpenMM: found by name, read without executing what stands in them, applied to a topology."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from io import BytesIO
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from mlmd.config import MLMM
from mlmd.engine.forces import NM
from mlmd.engine.topology import cell_of
from mlmd.errors import InputError, ModelError

SHIPPED = Path(app.__file__).parent / "data"
_EXECUTED = ("Script", "InitializationScript")
"""Elements of a force field whose text OpenMM executes as Python."""
_CONSTRAINTS = {"none": None, "hydrogens": app.HBonds, "bonds": app.AllBonds}


def shipped() -> list[str]:
    """Names of the force fields that OpenMM comes with."""
    names = (file.relative_to(SHIPPED).as_posix() for file in SHIPPED.rglob("*.xml"))
    return sorted(name for name in names if not name.startswith(("residues", "pdbNames", "hydrogens")))


def read_forcefield(names: Sequence[str]) -> app.ForceField:
    """A force field of one or more files. The user's own are read once: what was checked is what is loaded.

    Args:
        names: absolute paths of the user's own, and names of those that OpenMM comes with.

    Raises:
        InputError: for names that OpenMM does not know, and for damaged files.
        ModelError: for files that would execute code.
    """
    files = [_file_of(name) for name in names]
    try:
        return app.ForceField(*files)
    except Exception as error:
        listed = ", ".join(Path(name).name for name in names)
        raise InputError(f"mlmm: forcefield: {listed}: {_line(error)}") from None


def _file_of(name: str) -> str | BytesIO:
    """The file of a name, or the content of a user's own.

    OpenMM gets no bare name: it would look into the present folder first.
    """
    if Path(name).is_absolute():
        return BytesIO(_own(name))
    for folder in _folders():
        file = folder / name
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return str(file)
    close = get_close_matches(name, shipped(), n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Those of OpenMM lie in {SHIPPED}."
    raise InputError(f"mlmm: forcefield: {name!r} is neither a file beside the input nor one of OpenMM's. {hint}")


def _folders() -> Iterator[Path]:
    """Where force fields lie that are installed: OpenMM's, and those of other packages (openmmforcefields)."""
    yield SHIPPED
    for entry in entry_points(group="openmm.forcefielddir"):
        yield Path(entry.load()())


def _own(name: str) -> bytes:
    """The content of a file of the user's, which holds parameters alone."""
    try:
        content = Path(name).read_bytes()
        root = ET.fromstring(content)
    except (OSError, ET.ParseError) as error:
        raise InputError(f"mlmm: forcefield: {name} cannot be read as XML: {error}.") from None
    if root.tag != "ForceField":
        raise InputError(f"mlmm: forcefield: {name} begins with <{root.tag}>; a force field begins with <ForceField>.")
    for tag in _EXECUTED:
        if root.find(f".//{tag}") is not None:
            raise ModelError(f"{name} has a <{tag}>, which OpenMM would execute as Python. Remove it from the file.")
    if (include := root.find("Include")) is not None:
        raise ModelError(
            f"{name} includes {include.get('file')}. Name that in forcefield too, and remove the <Include>."
        )
    return content


def with_sites(field: app.ForceField, topology: app.Topology, positions: np.ndarray) -> tuple[app.Topology, np.ndarray]:
    """Topology and positions (n_particles, 3) Å with sites beside atoms where the force field wants them (TIP4P)."""
    if not _unmatched(field, topology):
        return topology, positions
    modeller = app.Modeller(topology, positions / NM * unit.nanometer)
    try:
        modeller.addExtraParticles(field)
    except Exception:
        return topology, positions  # when it makes the system, the force field says what it misses
    return modeller.topology, np.array(modeller.positions.value_in_unit(unit.angstrom))


def _unmatched(field: app.ForceField, topology: app.Topology) -> list[app.topology.Residue]:
    """Residues that no template fits.

    Raises:
        InputError: for a residue that several different ones fit.
    """
    try:
        return list(field.getUnmatchedResidues(topology))
    except Exception as error:
        raise InputError(f"mlmm: forcefield: {_line(error)}") from None


def field_system(options: MLMM, field: app.ForceField, topology: app.Topology, positions: np.ndarray) -> openmm.System:
    """A System by a force field alone.

    Bonds of fixed length have their energy too, which is zero at that length, so that a minimization that knows of
    no constraints keeps them.

    Args:
        options: of the input.
        field: of `read_forcefield`.
        topology: with its cell where there is one.
        positions: (n_particles, 3) Å, for messages only.

    Raises:
        InputError: for a residue that the force field does not know, and where pairs and cell do not fit together.
    """
    unmatched = _unmatched(field, topology)
    method, constraints = _method(options, topology), _CONSTRAINTS[options.constraints]
    # an option that no term of the field asks about is an error of OpenMM's
    rigid = constraints is not None or (options.rigid_water and any(r.name == "HOH" for r in topology.residues()))
    flexible = {"flexibleConstraints": True} if rigid else {}
    try:
        system = field.createSystem(
            topology, nonbondedMethod=method, nonbondedCutoff=options.cutoff / NM * unit.nanometer,
            constraints=constraints, rigidWater=options.rigid_water, removeCMMotion=False, **flexible,
        )  # fmt: skip
    except Exception as error:
        if not unmatched:
            raise InputError(f"mlmm: forcefield: {_line(error)}") from None
        first, more = unmatched[0], len(unmatched) - 1
        named = f"{first.name} {first.id} of chain {first.chain.id}" + (f" (and {more} more)" if more else "")
        fields = ", ".join(Path(one).name for one in options.forcefield)
        if "Multiple non-identical" in str(error):
            raise InputError(
                f"mlmm: forcefield: more than one template of {fields} fits residue {named} together with its "
                f"neighbours, with different parameters: {_line(error)} Nothing is missing in the structure; take a "
                "force field that knows it once (charmm36_2024.xml in place of charmm36.xml), or a file of your own "
                "without the other template."
            ) from None
        raise InputError(
            f"mlmm: forcefield: no template of {fields} fits residue "
            f"{named}: {_line(error)} Hydrogens must be there (PDBFixer and openmm.app.Modeller add them), water needs "
            "a file of its own such as amber14/tip3p.xml, and a ligand the XML file of its parameters."
        ) from None
    return system


def _method(options: MLMM, topology: app.Topology) -> object:
    """OpenMM's name of how pairs are summed."""
    cell = cell_of(topology)
    if options.nonbonded == "none" or (options.nonbonded == "auto" and cell is None):
        return app.NoCutoff
    if options.nonbonded == "cutoff" and cell is None:
        return app.CutoffNonPeriodic
    if cell is None:
        raise InputError('mlmm: nonbonded: pme needs a cell, and the structure has none. Use "cutoff" or "none".')
    shortest = float(np.diag(cell).min())  # of OpenMM's form: lower triangular, so these are the heights
    if shortest < 2 * options.cutoff:
        raise InputError(
            f"mlmm: cutoff: {options.cutoff:g} Å is more than half of the cell, {shortest:.4g} Å at its narrowest. "
            'Make it shorter or the cell larger, or use nonbonded = "none", which leaves the cell out.'
        )
    return app.CutoffPeriodic if options.nonbonded == "cutoff" else app.PME


def _line(error: Exception) -> str:
    return f"{error}".strip().partition("\n")[0].rstrip(".") + "."
