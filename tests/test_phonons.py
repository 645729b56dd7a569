"""Phonons through phonopy: frozen phonons, sound, closed forms of thermodynamics, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from classical import silicon
from command_line import mlmd

from mlmd import units
from mlmd.ase import Calculator
from mlmd.errors import InputError
from mlmd.potentials.pair import LennardJones
from mlmd.sample.elastic import elastic
from mlmd.sample.phonons import Phonons, phonons

ARGON = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8 Å", onset="6 Å")


@pytest.fixture(scope="module")
def of_silicon() -> Phonons:
    pytest.importorskip("phonopy")
    return phonons(silicon(), ase.build.bulk("Si", "diamond", 5.43), repeats=(4, 4, 4))


def test_the_optical_frequency_is_that_of_the_frozen_phonon(of_silicon: Phonons) -> None:
    # both sublattices against each other: E = k u² / 2 with the reduced mass m / 2
    atoms, step, energies = of_silicon.atoms, 0.01, []
    for move in (-step, 0.0, step):
        moved = atoms.copy()
        moved.positions[1, 0] += move
        moved.calc = Calculator(silicon())
        energies.append(moved.get_potential_energy())
    stiffness = (energies[0] - 2 * energies[1] + energies[2]) / step**2
    mass = 0.5 * atoms.get_masses()[0] * units.KINETIC
    frozen = 1e3 * np.sqrt(stiffness / mass) / (2 * np.pi)
    at_gamma = of_silicon.bands[int(np.argmin(of_silicon.path))]
    assert at_gamma[-3:] == pytest.approx(frozen, rel=2e-3)
    assert np.abs(at_gamma[:3]).max() < 1e-3
    assert of_silicon.quantities["highest frequency"].error < 0.02


def test_long_waves_are_the_sound_of_the_elastic_constants(of_silicon: Phonons) -> None:
    tensor = elastic(silicon(), of_silicon.atoms, relax=False, with_equation=False).tensor
    density = 2 * of_silicon.atoms.get_masses()[0] / of_silicon.atoms.get_volume() * units.DENSITY * 1e3  # kg/m³
    (start, first), (end, last) = of_silicon.labels[:2]
    assert (first, last) == ("G", "X")  # along [100], C11 carries the longitudinal and C44 the transverse wave
    row = int(np.searchsorted(of_silicon.path, 0.12 * (end - start)))
    waves = of_silicon.bands[row][:3] / of_silicon.path[row] * 100  # THz Å in m/s
    sound = np.sqrt(np.array([tensor[3, 3], tensor[3, 3], tensor[0, 0]]) * 1e9 / density)
    assert waves == pytest.approx(sound, rel=0.03)  # waves of finite length are slower


def test_the_heat_capacity_goes_to_dulong_and_petit_and_the_free_energy_begins_at_the_zero_point(
    of_silicon: Phonons,
) -> None:
    assert of_silicon.density @ np.gradient(of_silicon.frequencies) == pytest.approx(6.0, rel=0.02)
    assert of_silicon.free_energy[0] == pytest.approx(of_silicon.quantities["zero-point energy"].value, rel=2e-3)
    assert of_silicon.heat_capacity[0] == 0.0 and np.all(np.diff(of_silicon.heat_capacity) > 0.0)
    x = units.PLANCK * of_silicon.bands.max() * 1e-3 / (units.KB * of_silicon.temperatures[-1])
    assert 3.0 * (1 - x**2 / 12) < of_silicon.heat_capacity[-1] < 3.0
    assert of_silicon.stable and not of_silicon.notes


def test_a_crystal_that_falls_apart_has_imaginary_frequencies() -> None:
    pytest.importorskip("phonopy")
    cubic = ase.Atoms("Ar", cell=[3.55] * 3, pbc=True)
    found = phonons(ARGON, cubic, relax=False, repeats=(4, 4, 4))
    assert not found.stable
    assert any("not stable" in note for note in found.notes)


def test_a_small_supercell_and_a_stress_are_told() -> None:
    pytest.importorskip("phonopy")
    argon = ase.build.bulk("Ar", "fcc", 5.1, cubic=True)
    small = phonons(ARGON, argon, repeats=(2, 2, 2), relax=False)
    assert any("10.2 Å high, less than twice the cutoff of the potential (8 Å)" in note for note in small.notes)
    assert any("GPa is left in the cell" in note for note in small.notes)
    usual = phonons(ARGON, ase.build.bulk("Ar", "fcc", 5.25, cubic=True))
    assert usual.repeats == (4, 4, 4) and not usual.notes


def test_the_command_writes_bands_and_thermodynamics(tmp_path: Path) -> None:
    pytest.importorskip("phonopy")
    ase.io.write(tmp_path / "cu.extxyz", ase.build.bulk("Cu"))
    options = ("--potential", "Cu", "--supercell", "3,3,3", "--out", tmp_path / "out")
    answer = mlmd("phonons", tmp_path / "cu.extxyz", *options, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["stable"] and found["zero_point_energy"]["unit"] == "eV/atom"
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".csv", ".png"}
    assert mlmd("phonons", tmp_path / "cu.extxyz", *options[:2], "--supercell", "3,x,3").code == 2


def test_what_has_no_phonons_is_refused() -> None:
    pytest.importorskip("phonopy")
    with pytest.raises(InputError, match="periodic in all three directions"):
        phonons(silicon(), ase.Atoms("Si"))
    with pytest.raises(InputError, match="three whole numbers"):
        phonons(silicon(), ase.build.bulk("Si"), relax=False, repeats=(2, 0, 2))


def test_without_phonopy_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "phonopy", None)
    with pytest.raises(InputError, match=r"mlmd\[phonons\]"):
        phonons(silicon(), ase.build.bulk("Si"))
