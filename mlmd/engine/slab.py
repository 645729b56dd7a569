"""A slab on which something can be deposited: what an input says of it is checked here, before anything is written."""

from __future__ import annotations

import ase
import numpy as np

from mlmd.analysis.layers import top_layer
from mlmd.config import Bath, Deposit, Simulate, Species
from mlmd.config.deposit import layers
from mlmd.engine.arrivals import NEIGHBOURS, Plan, arrival, surface_of, typical_speed
from mlmd.errors import InputError, did_you_mean
from mlmd.io.structures import read_structure
from mlmd.potentials import Potential
from mlmd.potentials.load import check_elements
from mlmd.units import with_unit

FLAT = 1e-6
"""Å by which vectors of the cell may leave the plane that they should lie in."""


def plan_of(config: Simulate, number: int, atoms: ase.Atoms, mobile: np.ndarray, potential: Potential) -> Plan:
    """Understand a stage of deposition.

    Args:
        config: the input.
        number: of the stage, counted from 1.
        atoms: with which the run begins, in the user's orientation.
        mobile: (n_atoms,) bool.
        potential: which must know all elements.

    Raises:
        InputError: for a cell that is no slab's, elements that are not known, a region that is not above the cell,
            a layer without atoms, too thin a vacuum, a beam too fast for the guard, no time for all arrivals, and no
            room for the first.
    """
    stage, place = config.stage[number - 1], f"stage {number} (deposit)"
    assert isinstance(stage, Deposit)
    try:
        kinds = tuple(_kind(config, one) for one in stage.species)
        check_elements(potential, [symbol for kind in kinds for symbol in kind.get_chemical_symbols()])
        _check_cell(atoms)
        _check_size(stage, kinds)
        _check_speed(config, stage, kinds)
        surface = _surface(stage, atoms)
        corner, edges = _region(stage, atoms)
        area = abs(float(np.linalg.det(edges)))
        interval = _interval(stage, atoms, area) / config.timestep
        names = tuple(kind.get_chemical_formula() for kind in kinds)
        bottom = float(atoms.positions[:, 2].min())
        plan = Plan(stage, kinds, names, interval, corner, edges, bottom, float(potential.cutoff))
        _check_schedule(plan, stage.n_steps(config.timestep), config.timestep)
        if stage.bath is not None:
            _check_layer(stage.bath, atoms, mobile, kinds)
        check_vacuum(plan, surface + stage.height, atoms.cell.array, atoms.pbc)
        _check_room(plan, atoms, surface)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return plan


def in_layer(bath: Bath, numbers: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Which atoms (n_atoms,) are of the layer that is thermostatted, by atomic number and z in Å."""
    inside = heights < bath.below
    if bath.above is not None:
        inside &= heights >= bath.above
    if bath.elements:
        inside &= np.isin(numbers, [ase.data.atomic_numbers[symbol] for symbol in bath.elements])
    return inside


def check_vacuum(plan: Plan, height: float, cell: np.ndarray, pbc: np.ndarray) -> None:
    """Where the cell repeats upwards, nothing below the ceiling may feel the image of the slab above it.

    Raises:
        InputError: when it could.
    """
    ceiling = height + plan.stage.ceiling
    if pbc[2] and ceiling + plan.cutoff > plan.bottom + cell[2, 2]:
        needed = ceiling + plan.cutoff - plan.bottom
        raise InputError(
            f"the cell repeats along z every {cell[2, 2]:.4g} Å, and below the ceiling at {ceiling:.4g} Å atoms would "
            f"feel the bottom of the next slab within the cutoff of {plan.cutoff:g} Å. Give the structure a cell of at "
            f'least {needed:.4g} Å along z, or let it not repeat there: pbc="T T F".'
        )


def describe(plan: Plan, n_steps: int, timestep: float) -> str:
    """The schedule in words, for a person."""
    n_events = plan.n_events(n_steps)
    what = " or ".join(plan.names)
    every = with_unit(round(plan.interval * timestep, 6), "time")
    flux = 1.0 / (plan.interval * timestep * plan.area) * 1e8
    return f"{n_events:,} × {what}, one every {every} ({plan.interval:.6g} steps), {flux:.4g} per nm² and ns"


def _kind(config: Simulate, one: Species) -> ase.Atoms:
    """An atom or a molecule about its centre of mass."""
    if one.file is not None:
        found = read_structure(one.file)
        kind = ase.Atoms(found.numbers, found.positions)
        kind.set_masses(found.get_masses())
        if found.has("initial_charges"):
            kind.set_initial_charges(found.get_initial_charges())
    else:
        kind = ase.Atoms([one.element])
    if config.hydrogen_mass is not None:
        masses = kind.get_masses()
        masses[kind.numbers == 1] = config.hydrogen_mass
        kind.set_masses(masses)
    kind.positions -= kind.get_center_of_mass()
    return kind


def _check_cell(atoms: ase.Atoms) -> None:
    if not atoms.pbc[:2].all():
        raise InputError(
            "the structure has to repeat along its first two cell vectors, like a slab: "
            f"its periodicity is {' '.join('FT'[int(one)] for one in atoms.pbc)}."
        )
    cell = atoms.cell.array
    if np.abs(cell[:2, 2]).max() > FLAT:
        raise InputError("things arrive along -z, so the first two cell vectors have to lie in the plane of x and y.")
    if atoms.pbc[2] and (np.abs(cell[2, :2]).max() > FLAT or cell[2, 2] < 0.0):
        raise InputError(
            "things arrive along -z, so the third cell vector has to point along +z where the structure repeats; it is "
            f"{', '.join(f'{value:.4g}' for value in cell[2])} Å."
        )


def _check_size(stage: Deposit, kinds: tuple[ase.Atoms, ...]) -> None:
    """A molecule appears with its lowest atom at the height, however it is turned."""
    for kind in kinds:
        length = float(kind.get_all_distances().max())
        if length > stage.ceiling:
            raise InputError(
                f"ceiling: {kind.get_chemical_formula()} is {length:.4g} Å long and would reach through the ceiling, "
                f"{stage.ceiling:g} Å above the height at which it appears. Raise ceiling."
            )


def _check_speed(config: Simulate, stage: Deposit, kinds: tuple[ase.Atoms, ...]) -> None:
    """What flies farther in a step than the guard allows would end the run as it arrives."""
    limit = config.guard.max_displacement
    if not config.guard.enabled or limit is None:
        return
    for kind in kinds:
        mass = float(kind.get_masses().sum())
        move = typical_speed(stage.beam, mass) * config.timestep
        if move > limit:
            raise InputError(
                f"beam: {kind.get_chemical_formula()} flies {move:.3g} Å in a step of {config.timestep:g} fs, above "
                f"[guard] max_displacement = {limit:g} Å. Shorten the timestep."
            )


def _surface(stage: Deposit, atoms: ase.Atoms) -> float:
    if stage.surface is not None:
        return stage.surface
    found = surface_of(atoms.positions, stage.contact, atoms.cell.array, atoms.pbc)
    if found is None:
        raise InputError(
            f"contact: no atom of the structure has {NEIGHBOURS} others within {stage.contact:g} Å, so there is no "
            "surface. Raise contact, or give the height of the surface, surface = ..."
        )
    return found


def _region(stage: Deposit, atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Corner (2,) and edges (2, 2) of what things appear above, Å: the cell, or a rectangle within it."""
    plane = atoms.cell.array[:2, :2]
    if stage.x is None and stage.y is None:
        return np.zeros(2), plane
    corners = np.array([[0.0, 0.0], plane[0], plane[1], plane[0] + plane[1]])
    whole = [(float(values.min()), float(values.max())) for values in corners.T]
    (x_low, x_high), (y_low, y_high) = (given or one for given, one in zip((stage.x, stage.y), whole, strict=True))
    rectangle = np.array([[x, y] for x in (x_low, x_high) for y in (y_low, y_high)])
    inside = rectangle @ np.linalg.inv(plane)
    if inside.min() < -FLAT or inside.max() > 1.0 + FLAT:
        raise InputError(
            f"x, y: the region {x_low:g} to {x_high:g} Å by {y_low:g} to {y_high:g} Å is not within the cell, whose "
            f"corners are at {', '.join(f'({x:.4g}, {y:.4g})' for x, y in corners)} Å."
        )
    return np.array([x_low, y_low]), np.diag([x_high - x_low, y_high - y_low])


def _interval(stage: Deposit, atoms: ase.Atoms, area: float) -> float:
    """fs between two arrivals; of a molecule, ML count it as one."""
    if stage.every is not None:
        return stage.every
    assert stage.flux is not None
    if isinstance(stage.flux, float):
        return 1.0 / (stage.flux * area)
    try:
        top = int(top_layer(atoms.positions[:, 2]).sum())
    except InputError as error:
        raise InputError(f'flux: {error} Give arrivals per area, "5 / nm^2 / ns".') from None
    return 1.0 / (layers(stage.flux) * top * area / abs(float(np.linalg.det(atoms.cell.array[:2, :2]))))


def _check_schedule(plan: Plan, n_steps: int, timestep: float) -> None:
    every = with_unit(plan.interval * timestep, "time")
    if plan.interval < 1.0:
        raise InputError(f"one arrival every {every} is more than one in a step. Lower the flux.")
    found, wanted = plan.n_events(n_steps), plan.stage.total
    if wanted is not None and found < wanted:
        needed = with_unit((plan.step_of(wanted - 1) + 1) * timestep, "time")
        raise InputError(
            f"total: {wanted} arrivals, one every {every}, need {needed}; the duration has time for {found}."
        )


def _check_layer(bath: Bath, atoms: ase.Atoms, mobile: np.ndarray, kinds: tuple[ase.Atoms, ...]) -> None:
    known = {*atoms.symbols, *(symbol for kind in kinds for symbol in kind.symbols)}
    for symbol in bath.elements:
        if symbol not in known:
            raise InputError(f"bath: elements: there is no {symbol}. {did_you_mean(symbol, known)}")
    heights = atoms.positions[:, 2]
    if not (in_layer(bath, atoms.numbers, heights) & mobile).any():
        above = "" if bath.above is None else f" and at or above z = {bath.above:g} Å"
        raise InputError(
            f"bath: no atom that moves is below z = {bath.below:g} Å{above}"
            f"{' and of ' + ', '.join(bath.elements) if bath.elements else ''}; those that move are between "
            f"{heights[mobile].min():.4g} and {heights[mobile].max():.4g} Å."
        )


def _check_room(plan: Plan, atoms: ase.Atoms, surface: float) -> None:
    """Room for what comes first."""
    stage = plan.stage
    plane = atoms.cell.array[:2, :2]
    width = abs(float(np.linalg.det(plane))) / float(np.linalg.norm(plane, axis=1).max())
    if stage.min_distance > width:
        raise InputError(
            f"min_distance: {stage.min_distance:g} Å is more than the width of the cell, {width:.4g} Å: what arrives "
            "is nearer to its own image."
        )
    for seed in range(2 * len(plan.kinds)):  # a mixture has large and small ones
        rng = np.random.default_rng(seed)
        if arrival(plan, rng, surface + stage.height, atoms.positions, atoms.cell.array, atoms.pbc) is None:
            raise InputError(
                f"min_distance: {stage.tries} places {stage.height:g} Å above the surface at {surface:.4g} Å were "
                f"tried, and all have an atom within {stage.min_distance:g} Å. Lower min_distance or raise height."
            )
