"""Structure factors by dynasor, where it is installed, and some that it has given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.io
import ase.units
import numpy as np
import pytest

CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.5, 2.5, 10.0]])
"""Å."""

KEPT = (
    # h, k, l, and ⟨ρ_a ρ_b*⟩ / N of O-O, O-Si and Si-Si
    (1, 0, 0, 0.30213613176, 0.156905308503, 0.175859193984),
    (0, 0, 1, 0.415601119183, 0.142202749418, 0.315500205315),
    (1, -1, 2, 0.953336936423, -0.26022502203, 0.112318180535),
    (2, 3, -1, 0.818540838626, 0.584510116844, 0.241658864162),
    (-4, 1, 0, 0.72501245482, 0.002041216485, 0.16527863203),
    (0, -5, 3, 0.879910519414, 0.270252665618, 0.121419496465),
    (6, 6, 6, 0.478202086674, 0.484200573269, 0.180256423262),
    (10, -7, 4, 1.089899915418, 0.29512551086, 0.345040294859),
)
"""Of `frames`, by dynasor 2.5; both orders of unlike elements together."""


def frames() -> tuple[ase.Atoms, np.ndarray]:
    """Twelve Si and 24 O at random in a triclinic cell, three frames."""
    rng = np.random.default_rng(7)
    atoms = ase.Atoms("Si12O24", cell=CELL, pbc=True)
    return atoms, rng.random((3, 36, 3)) @ CELL


def trajectory(folder: Path, atoms: ase.Atoms, positions: np.ndarray) -> tuple[Any, Any]:
    """The module dynasor, and its trajectory of these positions; skips where dynasor is not installed."""
    dynasor: Any = pytest.importorskip("dynasor")
    images = [ase.Atoms(atoms.numbers, positions=one, cell=atoms.cell, pbc=True) for one in positions]
    ase.io.write(folder / "frames.extxyz", images)
    members = {one: np.flatnonzero(atoms.symbols == one).tolist() for one in dict.fromkeys(atoms.symbols)}
    return dynasor, dynasor.Trajectory(
        str(folder / "frames.extxyz"), trajectory_format="extxyz", atomic_indices=members, length_unit="Angstrom"
    )


def partials(folder: Path, atoms: ase.Atoms, positions: np.ndarray, q: np.ndarray) -> dict[str, np.ndarray]:
    """⟨ρ_a ρ_b*⟩ / N at each q (n_q, 3) 1/Å; both orders of unlike elements together."""
    dynasor, frames = trajectory(folder, atoms, positions)
    sample = dynasor.compute_static_structure_factors(frames, q)
    names = [name for name in sample.available_correlation_functions if name.startswith("Sq_")]
    return {name.removeprefix("Sq_"): sample[name].ravel() for name in names}


def intermediate(
    folder: Path, atoms: ase.Atoms, positions: np.ndarray, q: np.ndarray, n_lags: int
) -> dict[str, np.ndarray]:
    """F(q, t), collective and of single atoms, as dynasor names them, (n_q, n_lags)."""
    dynasor, frames = trajectory(folder, atoms, positions)
    sample = dynasor.compute_dynamic_structure_factors(
        frames, q, dt=1.0, window_size=n_lags - 1, calculate_incoherent=True
    )
    return {name: sample[name] for name in sample.available_correlation_functions if name.startswith("Fqt_")}


def transverse(
    folder: Path, atoms: ase.Atoms, positions: np.ndarray, velocities: np.ndarray, q: np.ndarray, n_lags: int
) -> np.ndarray:
    """C_T(q, t) Å²/fs² of all atoms, which are alike, (n_q, n_lags); velocities in Å/fs."""
    dynasor: Any = pytest.importorskip("dynasor")
    images = [ase.Atoms(atoms.numbers, positions=one, cell=atoms.cell, pbc=True) for one in positions]
    for image, moving in zip(images, velocities, strict=True):
        image.set_velocities(moving / ase.units.fs)
    ase.io.write(folder / "frames.traj", images)
    names = {atoms.symbols[0]: list(range(len(atoms)))}
    frames = dynasor.Trajectory(
        str(folder / "frames.traj"), trajectory_format="ase", atomic_indices=names, length_unit="Angstrom",
        time_unit="fs",
    )  # fmt: skip
    sample = dynasor.compute_dynamic_structure_factors(
        frames, q, dt=1.0, window_size=n_lags - 1, calculate_currents=True
    )
    return np.asarray(sample[f"Ctqt_{atoms.symbols[0]}_{atoms.symbols[0]}"]).real
