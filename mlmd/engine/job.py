"""From an input file to a job: everything read, checked and understood before a folder is made."""

from __future__ import annotations

import platform as python_platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import ase
import numpy as np
from openmm.app import Topology

import mlmd
from mlmd.bias.doubts import doubts
from mlmd.bias.hyperdynamics import PAPERS
from mlmd.bias.plumed import Said, check_script
from mlmd.bias.script import Script
from mlmd.bias.stiffness import stiff_kernels
from mlmd.config import NPT, Deposit, Minimize, Simulate, physics_hash, resolved
from mlmd.config.ending import stop_of
from mlmd.config.engine import engine_of
from mlmd.config.files import sha256
from mlmd.config.rerun import rerun_of
from mlmd.config.stages import hyperdynamics_of
from mlmd.engine.arrivals import Plan
from mlmd.engine.biases import Adaptive, kept_sources, kernel_of, papers_of, scripts_of
from mlmd.engine.flux_needs import check_fluxes
from mlmd.engine.frame import Frame, frame_of
from mlmd.engine.heat_exchange import check_exchange
from mlmd.engine.hyperdynamics import boosts_of
from mlmd.engine.lammps.cell import check_cell
from mlmd.engine.mixed import MLMM_COLUMNS, MixedEvaluator
from mlmd.engine.native.potential import check_potential
from mlmd.engine.region import Mixed, mixed_of
from mlmd.engine.replay import Replay, cell_problems, replay_of
from mlmd.engine.schedule import files_of, stage_records
from mlmd.engine.slab import plan_of
from mlmd.engine.system import Body, body_of, with_constraints
from mlmd.engine.topology import topology_name, topology_of
from mlmd.errors import InputError, SimulationError, did_you_mean
from mlmd.io.structures import file_velocities, read_structure
from mlmd.potentials import Evaluator, Potential, has_energy, has_stress
from mlmd.potentials.centres import centres_of
from mlmd.potentials.evaluate import evaluator, predictor
from mlmd.potentials.load import check_elements, check_energy, load_potential
from mlmd.potentials.nothing import Nothing
from mlmd.potentials.scaled import ScaledEvaluator
from mlmd.pretrained.external import External
from mlmd.rundir import (
    CHECKPOINTS,
    CRASH,
    DEPOSITION,
    FINAL,
    FLUXES,
    HYPER,
    LOG,
    MANIFEST,
    MESSAGES,
    PLUMED,
    STOP,
    STRUCTURE,
    TEMPERATURES,
    TOPOLOGIES,
    StageRecord,
    stage_record,
)

RESERVED = {
    *(LOG, MANIFEST, MESSAGES, STRUCTURE, FINAL, CHECKPOINTS, CRASH, STOP),
    *(DEPOSITION, FLUXES, HYPER, PLUMED, TEMPERATURES),
    *("trajectory.dcd", "trajectory.xtc", "trajectory.extxyz"),
    *TOPOLOGIES,
    *("model_devi.out", "candidates.extxyz", "analysis", "input.toml", "lock", "plumed.log", "report.html"),
}
"""Names in a run folder that are mlmd's own."""
PACKAGES = ("mlmd", "openmm", "torch", "numpy", "scipy", "ase", "mdtraj", "vesin", "plumed", "hillclimber")


@dataclass(frozen=True)
class Job:
    """An input, understood."""

    config: Simulate
    atoms: ase.Atoms
    """The structure as simulated: supercell and masses applied, user's orientation."""
    body: Body
    potential: Potential
    scripts: Mapping[int, Script]
    """PLUMED script of each stage that has one."""
    stages: tuple[StageRecord, ...]
    velocities: np.ndarray | None
    """(n_atoms, 3) Å/fs of the structure file, drift removed, where the input takes them; user's orientation."""
    cell: np.ndarray
    """(3, 3) Å in the engine's frame."""
    frame: Frame
    adaptive: Mapping[int, Adaptive]
    """Adaptive biasing force of each stage that has one."""
    deposits: Mapping[int, Plan]
    """What arrives in each stage of deposition."""
    mixed: Mixed | None = None
    """The force field with the potential in it, where the input has ``[mlmm]``."""
    boosts: Mapping[int, np.ndarray] = field(default_factory=dict)
    """(n_atoms,) bool, whose bonds are boosted in each stage of hyperdynamics."""
    topology: Topology | None = None
    """Names of atoms, residues and chains, where the structure file has them."""
    replay: Replay | None = None
    """The frames of a rerun."""

    @property
    def scale(self) -> float:
        """Factor on the energy of the potential."""
        return 1.0 if self.config.scale is None else self.config.scale

    @property
    def more_columns(self) -> tuple[str, ...]:
        """Names of what the log has beside its own columns."""
        return () if self.mixed is None else MLMM_COLUMNS

    def evaluator(self, device: str, hardware: Mapping[str, Any], body: Body | None = None) -> Evaluator:
        """What gives energy and forces of all atoms.

        Args:
            device: where the potential computes.
            hardware: what run.json says about platforms.
            body: the atoms that are there; by default those of the structure.
        """
        if self.mixed is None:
            body = body or self.body
            own = evaluator(self.potential, body.numbers, body.pbc, device=device)
            return own if self.scale == 1.0 else ScaledEvaluator(own, self.scale)
        field = hardware["force field"]
        return MixedEvaluator(self.mixed, device, field["openmm"], field["properties"])


def prepare(config: Simulate, potential: Potential | None = None) -> Job:
    """Read and check everything an input names; `potential` is that of the input, where it is loaded already.

    Raises:
        InputError, ModelError: for anything wrong; nothing is written.
    """
    if config.mlmm is None:
        atoms, mixed = read_structure(config.structure, config.supercell), None
        potential = potential or load_potential(config.potential)
        check_elements(potential, atoms.get_chemical_symbols())
        _check_modules(potential, atoms)
        body, topology = body_of(config, atoms), topology_of(config.structure, atoms)
    else:
        potential = potential or load_potential(config.potential)
        check_energy(potential)
        mixed = mixed_of(config, potential)
        atoms, topology = mixed.atoms, mixed.topology
        body = with_constraints(body_of(config, atoms), *mixed.constraints, mixed.molecules)
    velocities = _velocities_of(config, atoms, body)
    atoms.set_masses(body.masses)
    _check_cell(config, atoms)
    _check_engine(config, potential, atoms)
    _check_analysis(config, atoms)
    _check_ends(config, atoms, body)
    check_fluxes(config, potential, atoms)
    check_exchange(config, atoms, body.mobile)
    again = rerun_of(config)
    replay = None if again is None else replay_of(again, config.timestep, atoms)
    records = stage_records(config, () if replay is None else replay.steps.tolist())
    scripts, adaptive = scripts_of(config, records, atoms)
    _check_outputs(scripts)
    if mixed is None:
        _check_forces_alone(config, potential, scripts)
    if replay is not None and (
        problems := [one for script in scripts.values() for one in cell_problems(script, atoms)]
    ):
        raise InputError(problems[0])
    deposits = {
        index: plan_of(config, index + 1, atoms, body.mobile, potential)
        for index, stage in enumerate(config.stage)
        if isinstance(stage, Deposit)
    }
    boosts = boosts_of(config, atoms, body.mobile)
    cell, frame = frame_of(atoms.cell.array, atoms.pbc)
    return Job(
        config, atoms, body, potential, scripts, records, velocities, cell, frame, adaptive, deposits, mixed, boosts,
        topology, replay,
    )  # fmt: skip


def potential_name(config: Simulate) -> str:
    """What an input calls its potential, e.g. ``mtp + zbl``."""
    return " + ".join(table.kind or (table.path.name if table.path else "?") for table in config.potential)


def _check_engine(config: Simulate, potential: Potential, atoms: ase.Atoms) -> None:
    """What cannot be divided among processes, or be computed by the compiled library alone."""
    kind = engine_of(config)
    if kind == "lammps":
        centres_of(potential)
        check_cell(atoms.cell.array, atoms.pbc)
    elif kind == "native":
        check_potential(potential, potential_name(config), atoms.numbers, atoms.pbc)


def _check_modules(potential: Potential, atoms: ase.Atoms) -> None:
    """Make sure that TorchScript modules, each of which is for the atoms of one system, take those of the structure.

    They do not tell for which atoms they are: they are asked once.

    Raises:
        InputError: when one does not.
    """
    for part in (*getattr(potential, "parts", ()), *getattr(potential, "members", ())):
        _check_modules(part, atoms)
    if not isinstance(potential, External) or potential.recipe.kind != "torchscript":
        return
    try:
        predictor(potential)(atoms)
    except SimulationError as error:
        raise InputError(
            f"potential (torchscript): the module does not take the structure, which has {len(atoms)} atoms: {error}. "
            "A module is made for the atoms of one system, in their number and order: is it for another structure?"
        ) from None


def _velocities_of(config: Simulate, atoms: ase.Atoms, body: Body) -> np.ndarray | None:
    """What ``velocities = "file"`` means: taken before masses are changed, since files keep momenta."""
    velocities = file_velocities(atoms)
    atoms.set_array("momenta", None)
    if config.velocities != "file":
        return None
    if velocities is None:
        raise InputError(f'velocities = "file": {config.structure} holds no velocities.')
    velocities = velocities * body.mobile[:, None]
    if body.remove_com:
        velocities -= body.masses @ velocities / body.masses.sum()
    return velocities


def _check_analysis(config: Simulate, atoms: ase.Atoms) -> None:
    if config.analysis is None:
        return
    named = {"charges": tuple(config.analysis.charges)}
    if not isinstance(config.analysis.drift, str):
        named["drift"] = config.analysis.drift
    for key, symbols in named.items():
        absent = [symbol for symbol in symbols if symbol not in atoms.symbols]
        if absent:
            raise InputError(
                f"analysis: {key}: the structure has no {absent[0]}. {did_you_mean(absent[0], set(atoms.symbols))}"
            )


def _check_ends(config: Simulate, atoms: ase.Atoms, body: Body) -> None:
    """A stage that ends when the diffusion of an element is known needs that element, and that it may move."""
    for index, stage in enumerate(config.stage):
        stop, place = stop_of(config, index), f"stage {index + 1} ({stage.kind}): stop"
        if stop is None or stop.element is None:
            continue
        earlier = (one for one in config.stage[:index] if isinstance(one, Deposit))
        arrived = {species.element for one in earlier for species in one.species}
        if arrived & {stop.element, None}:  # None: of a molecule, which may have any
            continue
        own = atoms.symbols == stop.element
        if not own.any():
            raise InputError(
                f"{place}: the structure has no {stop.element}. {did_you_mean(stop.element, set(atoms.symbols))}"
            )
        if not body.mobile[own].any():
            raise InputError(f"{place}: all atoms of {stop.element} are frozen, and do not diffuse.")


def _check_forces_alone(config: Simulate, potential: Potential, scripts: Mapping[int, Script]) -> None:
    """What needs an energy or a stress that the potential does not have."""
    name = getattr(potential, "source", "the potential")
    if has_energy(potential):
        if not has_stress(potential):
            _check_without_stress(config, name)
        return
    problems = []
    for number, stage in enumerate(config.stage, 1):
        if isinstance(stage, Minimize):
            problems.append(f"stage {number} (minimize) goes down in energy; cool it down by nvt instead")
        if isinstance(stage, NPT):
            problems.append(f"stage {number} (npt) needs a stress; use nvt, in a cell of the right volume")
        if hyperdynamics_of(stage) is not None:
            problems.append(f"stage {number} ({stage.kind}): hyperdynamics quenches, which is going down in energy")
    for index, script in scripts.items():
        if any(statement.action == "ENERGY" for statement in script.statements):
            problems.append(f"stage {index + 1}: ENERGY in {script.path.name} is the potential energy; leave it out")
    if problems and isinstance(potential, Nothing):
        raise InputError(f"{problems[0]}, or give a potential, which has one.")
    if problems:
        raise InputError(
            f"{name} predicts forces alone (AGNI), no energy and no stress: {'; '.join(problems)}, or use a potential "
            "with an energy."
        )


def _check_without_stress(config: Simulate, name: str) -> None:
    """Stages that need a stress."""
    problems = []
    for number, stage in enumerate(config.stage, 1):
        if isinstance(stage, NPT):
            problems.append(f"stage {number} (npt): use nvt, in a cell of the right volume")
        if isinstance(stage, Minimize) and stage.cell:
            problems.append(f"stage {number} (minimize): leave cell = true out")
    if problems:
        raise InputError(f"{name} gives energy and forces, but no stress: {'; '.join(problems)}.")


def warnings_of(potential: Potential) -> tuple[str, ...]:
    """What a person should know of a run with a potential before reading its numbers."""
    if has_energy(potential) or isinstance(potential, Nothing):
        return ()
    name = getattr(potential, "source", "the potential")
    return (
        f"{name} predicts forces alone (AGNI): it has no energy, and the run conserves none. The log has no potential "
        "energy, no total energy and no pressure, no drift of the energy is told, and [guard] has forces and "
        "temperature to watch. A thermostat has to take away the heat that such forces make.",
    )


def _check_outputs(scripts: Mapping[int, Script]) -> None:
    """Two scripts may not write one file: PLUMED would move the first's away. One script in two stages goes on."""
    writer: dict[str, Path] = {}
    for index, script in scripts.items():
        for name in (*script.prints, *script.histories, *script.rewrites):
            if writer.setdefault(name, script.path) != script.path:
                raise InputError(
                    f"stage {index + 1}: {script.path.name} and {writer[name].name} both write {name}. "
                    "Give one of them another FILE=."
                )
        for name in filter(_is_reserved, script.touches):
            raise InputError(
                f"stage {index + 1}: {script.path.name} names {name}, which is a file of mlmd's own in the run folder. "
                "Give it another name."
            )


def _is_reserved(name: str) -> bool:
    """Whether a name in the run folder is mlmd's; in capitals too, which some file systems take for the same."""
    first = name.partition("/")[0].casefold()
    return first.endswith(".tmp") or first in {reserved.casefold() for reserved in RESERVED}


def check_biases(job: Job) -> tuple[Said, ...]:
    """Let PLUMED read every script, in a folder that goes again.

    Returns:
        What PLUMED says about each.

    Raises:
        InputError: for an error in a script, with its line.
    """
    said = []
    for index, script in job.scripts.items():
        target = job.stages[index].temperature
        one = check_script(
            script, masses=job.body.masses, charges=charges_of(job), timestep=job.config.timestep,
            temperature=None if target is None else target[0], kernel=kernel_of(job.config, index),
        )  # fmt: skip
        said.append(replace(one, citations=(*one.citations, *papers_of(job.adaptive.get(index)))))
    if job.boosts:
        said.append(Said("", PAPERS, ()))
    return tuple(said)


def doubtful_biases(job: Job) -> Iterator[str]:
    """Biases that would be wrong without a word, and those whose kernels the timestep cannot follow, in sentences."""
    body, positions = job.body, job.frame.to_engine(job.atoms.positions)
    cell = np.where(body.pbc[:, None], job.cell, 0.0)
    for index, script in job.scripts.items():
        target = job.stages[index].temperature
        if job.replay is None:  # else nothing moves
            yield from doubts(script, target[0] if target is not None and len(set(target)) == 1 else None)
            yield from stiff_kernels(
                script, positions=positions, cell=cell, inverse_masses=np.where(body.mobile, 1.0 / body.masses, 0.0),
                charges=charges_of(job), timestep=job.config.timestep,
                temperature=None if target is None else target[0], kernel=kernel_of(job.config, index),
            )  # fmt: skip


def what_plumed_says(said: Sequence[Said]) -> Iterator[str]:
    """Warnings of PLUMED, and what is to be cited, in sentences."""
    for warning in dict.fromkeys(warning for one in said for warning in one.warnings):
        yield f"PLUMED warns: {warning}"
    citations = list(dict.fromkeys(citation for one in said for citation in one.citations))
    if citations:
        yield f"the biases of this run ask to be cited: {'; '.join(citations)}"


def charges_of(job: Job) -> np.ndarray | None:
    """(n_atoms,) e from the structure file, for PLUMED; never guessed."""
    charges = job.atoms.arrays.get("initial_charges")
    return None if charges is None else np.array(charges, dtype=float)


def _check_cell(config: Simulate, atoms: ase.Atoms) -> None:
    for number, stage in enumerate(config.stage, 1):
        if isinstance(stage, Minimize) and stage.cell and not atoms.pbc.all():
            raise InputError(
                f"stage {number} (minimize): cell = true needs a structure that is periodic in all three directions; "
                f"{config.structure} is not."
            )
        if isinstance(stage, NPT) and not atoms.pbc.all():
            raise InputError(
                f"stage {number} (npt): the structure {config.structure} has no cell that is periodic in all three "
                "directions, so there is no volume to change. Use nvt, or give it a cell."
            )


def manifest_of(
    job: Job, *, seed: int, created: str, platform: Mapping[str, Any], said: Sequence[Said] = ()
) -> dict[str, Any]:
    """What run.json says about a run that begins; `said` is what PLUMED says of its biases."""
    citations = list(dict.fromkeys(citation for one in said for citation in one.citations))
    kind = job.config.output.trajectory_format
    return {
        "format": "mlmd-run",
        "version": 1,
        "mlmd": mlmd.__version__,
        "created": created,
        "id": uuid4().hex,  # by which what several runs share knows whose it is
        "state": "running",
        "seed": seed,
        "physics_hash": physics_hash(job.config),
        "input": resolved(job.config),
        "files": _files(job),
        "versions": versions(),
        "platform": dict(platform),
        "orientation": job.frame.rotation.tolist(),
        "stages": [stage_record(record) for record in job.stages],
        "trajectory": {"file": f"trajectory.{kind}", "format": kind},
        **({"topology": topology_name(job.topology)} if job.topology is not None else {}),
        **({"biases": biases} if (biases := _biases(job)) else {}),
        **({"models": models} if (models := models_of(job.potential)) else {}),
        **({"citations": citations} if citations else {}),
        **({"warnings": list(warnings)} if (warnings := warnings_of(job.potential)) else {}),
    }


def _biases(job: Job) -> dict[str, str]:
    """Stages, counted from 1, whose biases stand in the input, and the file written of each (`scripts_of`)."""
    stages = job.config.stage
    return {str(n + 1): one.path.name for n, one in job.scripts.items() if getattr(stages[n], "bias", None)}


def _files(job: Job) -> dict[str, dict[str, str]]:
    """What the input names: where it lies, its digest, and where a copy of it is in the run folder."""
    found = {name: {"path": str(path), "sha256": sha256(path)} for name, path in files_of(job.config).items()}
    for index, names in kept_sources(job.scripts).items():
        found[f"plumed of stage {index + 1}"]["copy"] = next(iter(names))
    return found


def models_of(potential: Potential) -> list[dict[str, Any]]:
    """What is known of the models of others that a potential is, or is built of."""
    own = getattr(potential, "described", None)
    if own is not None:
        return [own()]
    return [one for name in ("parts", "members") for part in getattr(potential, name, ()) for one in models_of(part)]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": python_platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
