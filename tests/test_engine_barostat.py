"""Volume moves sample the isothermal-isobaric ensemble: closed forms first, then OpenMM's barostats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from argon_in_openmm import CUTOFF, EPSILON, SIGMA, Argon, system
from ase.geometry import cell_to_cellpar
from averages import Measured, mean, variance
from mdtraj.formats import DCDTrajectoryFile
from runs import fcc_argon, write_input

from mlmd.engine.barostat import Barostat
from mlmd.engine.forces import Forces
from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS, Evaluation
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.pair import LennardJones
from mlmd.units import KB

T = 300.0
KT = KB * T


@pytest.fixture(autouse=True)
def _argon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "argon in openmm", "argon_in_openmm:Argon")


class OfCell:
    """A potential whose energy depends on the cell alone."""

    def __init__(self, energy: Callable[[np.ndarray], float]) -> None:
        """`energy` in eV of a cell (3, 3) Å."""
        self._energy = energy

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The energy; no forces."""
        return Evaluation(self._energy(cell), np.zeros_like(positions), np.zeros((3, 3)))


def cells(kind: str, energy: Callable[[np.ndarray], float], n_atoms: int, pressure: float, n_moves: int) -> np.ndarray:
    """Cells (n_moves, 3, 3) Å visited from a cube of 10 Å; pressure in eV/Å³."""
    forces = Forces(OfCell(energy), 10.0 * np.eye(3))  # type: ignore[arg-type]
    barostat = Barostat(kind, np.random.default_rng(1))
    barostat.sizes[:] = 0.1  # cells of so few atoms fluctuate much
    positions, visited = np.random.default_rng(2).random((n_atoms, 3)), np.empty((n_moves, 3, 3))
    for n in range(n_moves):
        moved = barostat.move(forces, positions, 0, T, pressure)
        positions = positions if moved is None else moved
        visited[n] = forces.cell
    return visited[n_moves // 10 :]


@pytest.mark.row("R19")
def test_an_ideal_gas_has_the_volume_of_its_gamma_distribution() -> None:
    # p(V) ∝ V^N exp(-PV/kT): mean (N + 1) kT/P, variance (N + 1) (kT/P)²
    n_atoms, pressure = 20, 21 * KT / 1000.0
    volumes = np.linalg.det(cells("isotropic", lambda cell: 0.0, n_atoms, pressure, 60_000))
    wanted = KT / pressure
    assert mean(volumes).error < 0.01 * 21 * wanted
    assert mean(volumes).agrees_with((n_atoms + 1) * wanted)
    assert variance(volumes).error < 0.06 * 21 * wanted**2
    assert variance(volumes).agrees_with((n_atoms + 1) * wanted**2)


def test_an_isotropic_cell_keeps_its_shape() -> None:
    visited = cells("isotropic", lambda cell: 0.0, 4, 5 * KT / 1000.0, 200)
    np.testing.assert_allclose(visited, visited[:, :1, :1] * np.eye(3), rtol=1e-12)


def test_the_lengths_of_an_anisotropic_cell_follow_their_own_distribution() -> None:
    # p(L) ∝ L^N exp(-k (L - L0)² / 2kT) for each direction, with another spring each
    n_atoms, rest, stiffness = 3, np.array([8.0, 10.0, 12.0]), KT * np.array([1.0, 1.5, 2.0])

    def energy(cell: np.ndarray) -> float:
        return float(0.5 * stiffness @ (np.diag(cell) - rest) ** 2)

    visited = cells("anisotropic", energy, n_atoms, 0.0, 60_000)
    assert np.array_equal(visited, visited * np.eye(3))
    grid = np.linspace(0.01, 40.0, 4000)
    for axis in range(3):
        weights = grid**n_atoms * np.exp(-0.5 * stiffness[axis] * (grid - rest[axis]) ** 2 / KT)
        average = float(weights @ grid / weights.sum())
        spread = float(weights @ (grid - average) ** 2 / weights.sum())
        lengths = visited[:, axis, axis]
        assert mean(lengths).error < 0.05
        assert mean(lengths).agrees_with(average)
        assert variance(lengths).agrees_with(spread)


def soft(cell: np.ndarray) -> float:
    """A spring on the metric tensor of the cell, the same for all orientations; strains of some ten percent."""
    strain = cell @ cell.T / 100.0 - np.eye(3)
    return float(15.0 * KT * np.sum(strain * strain))


def all_matrices(n_atoms: int, pressure: float) -> np.ndarray:
    """∫ d⁹h V^(N-2) exp(-(U + PV)/kT) by plain Metropolis on all nine components, no orientation chosen."""
    rng, n_walkers = np.random.default_rng(3), 2000
    walkers, kept = np.tile(10.0 * np.eye(3), (n_walkers, 1, 1)), []

    def log_weight(h: np.ndarray) -> np.ndarray:
        volume = np.linalg.det(h)
        strain = h @ h.transpose(0, 2, 1) / 100.0 - np.eye(3)
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = (n_atoms - 2) * np.log(volume) - 15.0 * (strain**2).sum((1, 2)) - pressure * volume / KT
        return np.where(volume > 0, weight, -np.inf)

    now = log_weight(walkers)
    for step in range(3000):
        trial = walkers + rng.uniform(-0.4, 0.4, walkers.shape)
        then = log_weight(trial)
        accepted = np.log(rng.random(n_walkers)) < then - now
        walkers[accepted], now[accepted] = trial[accepted], then[accepted]
        if step >= 500 and step % 10 == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)


def shape(h: np.ndarray) -> dict[str, np.ndarray]:
    """Volume, lengths and cosines of cells (n, 3, 3)."""
    lengths = np.linalg.norm(h, axis=2)
    cosines = np.einsum("nij,nkj->nik", h, h) / lengths[:, :, None] / lengths[:, None, :]
    names = {f"length {i}": lengths[:, i] for i in range(3)}
    names |= {f"cos² {i}{j}": cosines[:, i, j] ** 2 for i, j in ((0, 1), (0, 2), (1, 2))}
    return {"volume": np.linalg.det(h), "volume²": np.linalg.det(h) ** 2, **names}


def test_a_flexible_cell_samples_all_matrices_alike_in_its_lower_triangle() -> None:
    n_atoms, pressure = 5, 2 * KT / 1000.0
    visited = cells("flexible", soft, n_atoms, pressure, 100_000)
    assert np.array_equal(visited, np.tril(visited))
    expected = shape(all_matrices(n_atoms, pressure))
    for name, series in shape(visited).items():
        got, wanted = mean(series), mean(expected[name])
        assert got.error < 0.01 * abs(wanted.value) or "cos" in name
        assert got.agrees_with(wanted), f"{name}: {got} and not {wanted}"


def test_a_flexible_cell_has_no_preferred_vector() -> None:
    # nothing distinguishes a, b and c but the orientation in which the moves are made
    series = shape(cells("flexible", soft, 2, 0.0, 100_000))
    a, b, c = (mean(series[f"length {i}"]) for i in range(3))
    assert a.agrees_with(b) and b.agrees_with(c) and a.agrees_with(c), (a, b, c)


def test_a_trial_of_infinite_energy_is_refused_and_leaves_everything_as_it_was() -> None:
    forces = Forces(OfCell(lambda cell: 0.0 if cell[0, 0] == 10.0 else np.inf), 10.0 * np.eye(3))  # type: ignore[arg-type]
    barostat, positions = Barostat("isotropic", np.random.default_rng(1)), np.zeros((4, 3))
    for _ in range(20):
        assert barostat.move(forces, positions, 0, T, 0.0) is None
    assert np.array_equal(forces.cell, 10.0 * np.eye(3))
    assert barostat.totals.tolist() == [20, 0]


# -- against OpenMM ---------------------------------------------------------------------------------------------------

FLUID = {"temperature": 180.0, "pressure": 800.0, "lattice": 6.2}
"""K, bar, Å; supercritical, so that the crystal of the start is forgotten at once."""
CRYSTAL = {"temperature": 30.0, "pressure": 2000.0, "lattice": 5.2}
N_STEPS, EVERY = 40_000, 3
LENGTHS, ANGLES = [0, 1, 2], [3, 4, 5]
"""Columns of a cell given by lengths and angles."""


@pytest.mark.row("R20")
def test_openmm_gives_argon_the_same_energy_and_forces() -> None:
    atoms = fcc_argon(3, 5.6)
    potential = LennardJones(epsilon=EPSILON, sigma=SIGMA, cutoff=CUTOFF)
    ours = evaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    theirs = Argon().evaluator(atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    assert abs(ours.energy - theirs.energy) < 1e-5  # OpenMM's CPU platform has single precision
    np.testing.assert_allclose(ours.forces, theirs.forces, rtol=0, atol=1e-6)


def ours(folder: Path, kind: str, state: dict[str, float]) -> np.ndarray:
    """Cell lengths and angles (n_frames, 6) of a run by mlmd."""
    stage = (
        f'[[stage]]\nkind = "npt"\ntemperature = {state["temperature"]}\npressure = {state["pressure"]}\n'
        f'thermostat = {{ kind = "langevin", friction = "1 / ps" }}\nduration = "{8 * N_STEPS} fs"\n'
        f'barostat = {{ kind = "{kind}", every = {EVERY} }}'
    )
    path = write_input(
        folder, stage, atoms=fcc_argon(3, state["lattice"]), potential='{ kind = "argon in openmm" }',
        options='timestep = "8 fs"', output='log_every = "80 fs"\ntrajectory_every = "80 fs"',
    )  # fmt: skip
    run = simulate(path, folder / "run", platform="Reference", threads=1)
    with DCDTrajectoryFile(str(run.trajectory)) as file:
        _, lengths, angles = file.read()
    return np.hstack([lengths, angles])[N_STEPS // 100 :].astype(float)


def theirs(kind: str, state: dict[str, float]) -> np.ndarray:
    """Cell lengths and angles (n_frames, 6) of the same run by OpenMM with its own barostat."""
    atoms = fcc_argon(3, state["lattice"])
    made, pressure, temperature = system(atoms.get_masses(), atoms.cell.array), state["pressure"], state["temperature"]
    barostat = {
        "isotropic": lambda: openmm.MonteCarloBarostat(pressure, temperature, EVERY),
        "anisotropic": lambda: openmm.MonteCarloAnisotropicBarostat(
            [pressure] * 3, temperature, True, True, True, EVERY
        ),
        "flexible": lambda: openmm.MonteCarloFlexibleBarostat(pressure, temperature, EVERY),
    }[kind]()
    barostat.setRandomNumberSeed(1)
    made.addForce(barostat)
    made.addForce(openmm.CMMotionRemover(1))
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.008)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(made, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(atoms.positions / 10)
    context.setVelocitiesToTemperature(temperature, 1)
    frames = []
    for _ in range(N_STEPS // 10):
        integrator.step(10)
        frames.append(cell_to_cellpar(context.getState().getPeriodicBoxVectors(asNumpy=True)._value * 10))
    return np.array(frames)[N_STEPS // 100 :]


def volumes(frames: np.ndarray) -> np.ndarray:
    """Å³ of cells given by lengths and angles (n, 6)."""
    cosines = np.cos(np.radians(frames[:, 3:]))
    gram = 1 - (cosines**2).sum(1) + 2 * cosines.prod(1)
    return frames[:, :3].prod(1) * np.sqrt(gram)


def spread(frames: np.ndarray) -> Measured:
    """Variance of several columns (n, k) that are alike."""
    return mean(((frames - frames.mean()) ** 2).mean(1))


@pytest.mark.slow
@pytest.mark.row("R20")
def test_a_fluid_has_the_volume_and_its_fluctuation_that_openmm_finds(tmp_path: Path) -> None:
    one, other = volumes(ours(tmp_path, "isotropic", FLUID)), volumes(theirs("isotropic", FLUID))
    assert mean(one).error < 0.005 * one.mean()
    assert mean(one).agrees_with(mean(other))
    assert variance(one).error < 0.2 * one.var()
    assert variance(one).agrees_with(variance(other))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anisotropic", "flexible"])
def test_a_crystal_has_the_lengths_and_their_fluctuations_that_openmm_finds(kind: str, tmp_path: Path) -> None:
    one, other = ours(tmp_path, kind, CRYSTAL), theirs(kind, CRYSTAL)
    assert mean(volumes(one)).error < 0.001 * volumes(one).mean()
    assert mean(volumes(one)).agrees_with(mean(volumes(other)))
    assert variance(volumes(one)).error < 0.15 * volumes(one).var()
    assert variance(volumes(one)).agrees_with(variance(volumes(other)))
    # a, b and c are alike, and so are the angles: together they have a third of the variance
    alike = (LENGTHS, ANGLES) if kind == "flexible" else (LENGTHS,)
    for columns in alike:
        assert mean(one[:, columns].mean(1)).agrees_with(mean(other[:, columns].mean(1)))
        assert spread(one[:, columns]).error < 0.15 * one[:, columns].var()
        assert spread(one[:, columns]).agrees_with(spread(other[:, columns]))
    if kind == "anisotropic":
        assert np.allclose(one[:, ANGLES], 90.0)
