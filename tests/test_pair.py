"""Pair potentials: closed forms, mixing, smoothness, and what an input table may say."""

from __future__ import annotations

import math

import lammps_oracle
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers

from mlmd import units
from mlmd.descriptors.cutoffs import quadratic, quintic
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials.combine import Sum, SumEvaluator
from mlmd.potentials.evaluate import GraphEvaluator, evaluator
from mlmd.potentials.pair import COULOMB, ZBL, LennardJones, Morse


def energy(potential: object, symbols: str, distance: float) -> float:
    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, distance]])
    return float(potential.predict(build_graph(atoms, potential.cutoff)).energy)


def argon(**changes: object) -> LennardJones:
    return LennardJones(**({"epsilon": "10.4 meV", "sigma": "3.4 Å", "cutoff": "10 Å"} | changes))


def test_lennard_jones_has_its_minimum_of_depth_epsilon() -> None:
    minimum = 2 ** (1 / 6) * 3.4
    assert energy(argon(), "Ar2", minimum) == pytest.approx(-0.0104, rel=1e-12)
    assert energy(argon(), "Ar2", 3.4) == pytest.approx(0.0, abs=1e-15)


def test_morse_has_its_minimum_of_the_given_depth_and_curvature() -> None:
    morse = Morse(depth="2 eV", width="0.5 Å", r0="1.5 Å", cutoff="8 Å")
    assert energy(morse, "H2", 1.5) == pytest.approx(-2.0, rel=1e-12)
    curvature = (energy(morse, "H2", 1.501) - 2 * energy(morse, "H2", 1.5) + energy(morse, "H2", 1.499)) / 1e-6
    assert curvature == pytest.approx(2 * 2.0 / 0.5**2, rel=1e-4)


def test_zbl_is_the_coulomb_repulsion_of_nuclei_at_short_distance() -> None:
    zbl = ZBL(cutoff="3 Å", onset="1 Å")
    assert pytest.approx(14.3996454, rel=1e-7) == COULOMB
    assert energy(zbl, "HeW", 1e-6) == pytest.approx(COULOMB * 2 * 74 / 1e-6, rel=1e-4)


def test_zbl_equals_the_published_formula_for_silicon() -> None:
    x = 1.0 * 2 * 14**0.23 / 0.46850
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    screening = sum(c * math.exp(-d * x) for c, d in terms)
    assert energy(ZBL(cutoff=3, onset=1.5), "Si2", 1.0) == pytest.approx(COULOMB * 196 * screening, rel=1e-12)


LAMMPS_ZBL = [("Si",), ("W", "He")]


@pytest.mark.parametrize("elements", LAMMPS_ZBL, ids=["one", "two"])
def test_zbl_with_the_switching_of_lammps_is_its_pair_style(elements: tuple[str, ...]) -> None:
    lammps_oracle.require_lammps()
    generator = np.random.default_rng(2)
    atoms = bulk("Cu", cubic=True, a=2.6).repeat(2)  # neighbours before the onset, within it and beyond the cutoff
    atoms.positions += generator.normal(0, 0.1, (len(atoms), 3))
    atoms.symbols = generator.choice(elements, len(atoms))
    zbl = ZBL(cutoff="2.8 Å", onset="2 Å", switching="lammps", elements=elements)
    charges = [atomic_numbers[element] for element in elements]
    pairs = [(i, j) for i in range(len(charges)) for j in range(i, len(charges))]
    coefficients = [f"{i + 1} {j + 1} {charges[i]} {charges[j]}" for i, j in pairs]
    expected = lammps_oracle.evaluate(atoms, elements, "zbl 2.0 2.8", coefficients)
    found = zbl.predict(build_graph(atoms, zbl.cutoff))
    # LAMMPS' e² has eight digits
    assert float(found.energy) == pytest.approx(expected.energy, rel=1e-7)
    assert np.abs(found.forces.numpy() - expected.forces).max() < 1e-7 * np.abs(expected.forces).max()
    assert np.abs(found.virial[0].numpy() - expected.virial).max() < 1e-7 * np.abs(expected.virial).max()
    # times a step it is something else
    times = ZBL(cutoff="2.8 Å", onset="2 Å", elements=elements).predict(build_graph(atoms, 2.8))
    assert abs(float(times.energy) - expected.energy) > 1e-3 * expected.energy


def test_zbl_with_the_switching_of_lammps_ends_with_two_derivatives_at_zero() -> None:
    zbl = ZBL(cutoff=3, onset=2, switching="lammps")
    near = [energy(zbl, "Si2", 3 - step) for step in (1e-3, 2e-3)]
    # what is left is the third power of the distance from the cutoff
    assert 0 < abs(near[0]) < 1e-8
    assert near[1] / near[0] == pytest.approx(8, rel=0.02)
    assert energy(zbl, "Si2", 3.0 + 1e-9) == 0.0


def test_unlike_elements_mix_by_lorentz_and_berthelot() -> None:
    own = {"Ar": {"epsilon": 0.01, "sigma": 3.0}, "Kr": {"epsilon": 0.04, "sigma": 4.0}}
    mixture = LennardJones(pairs=own, cutoff=12)
    assert energy(mixture, "ArKr", 2 ** (1 / 6) * 3.5) == pytest.approx(-0.02, rel=1e-12)
    assert energy(mixture, "KrAr", 2 ** (1 / 6) * 3.5) == pytest.approx(-0.02, rel=1e-12)
    assert energy(mixture, "Kr2", 2 ** (1 / 6) * 4.0) == pytest.approx(-0.04, rel=1e-12)
    given = LennardJones(pairs=own | {"Kr-Ar": {"epsilon": "0.5 eV", "sigma": "3 Å"}}, cutoff=12)
    assert energy(given, "ArKr", 2 ** (1 / 6) * 3.0) == pytest.approx(-0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epsilon": 1, "sigma": 3, "cutof": 8, "cutoff": 8}, "'cutof' is not a parameter"),
        ({"epsilon": 1, "cutoff": 8}, "sigma must be given"),
        ({"epsilon": "1 K", "sigma": 3, "cutoff": 8}, "epsilon: .*not a unit of energy"),
        ({"epsilon": -1, "sigma": 3, "cutoff": 8}, "epsilon: -1 must be positive"),
        ({"epsilon": 1, "sigma": 3, "cutoff": 8, "onset": 9}, "onset 9 Å must lie below"),
        ({"epsilon": 1, "sigma": 3, "cutoff": "nan"}, "cutoff"),
        ({"epsilon": 1, "sigma": 3, "cutoff": True}, "cutoff: True"),
        ({"pairs": {"Ar-Kr": {"epsilon": 1, "sigma": 3}}, "cutoff": 8}, "pair Ar-Ar has no parameters"),
        ({"pairs": {"Ar-Kr-Xe": {"epsilon": 1, "sigma": 3}}, "cutoff": 8}, "'Ar-Kr-Xe' is not a pair"),
        ({"pairs": {"Ar": {"epsilom": 1, "sigma": 3}}, "cutoff": 8}, "Ar: 'epsilom' .*Did you mean 'epsilon'"),
        ({"pairs": {"Ar": 3}, "cutoff": 8}, "table of tables"),
        ({"pairs": {"Qq": {"epsilon": 1, "sigma": 3}}, "cutoff": 8}, "'Qq' is not a chemical element"),
        (
            {"pairs": {"Ar": {"epsilon": 1, "sigma": 3}, "Ar-Ar": {"epsilon": 1, "sigma": 3}}, "cutoff": 8},
            "given twice",
        ),
        ({"epsilon": 1, "sigma": 3, "cutoff": 8, "precision": "float16"}, "'float16' is not a precision"),
        ({"epsilon": 1, "sigma": 3, "cutoff": 8, "precision": "single"}, "Did you mean 'float32'"),
    ],
)
def test_a_wrong_table_is_refused_with_a_hint(table: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LennardJones(**table)


def test_morse_has_no_mixing_rule() -> None:
    own = {"depth": 1, "width": 1, "r0": 2}
    with pytest.raises(InputError, match="pair Cu-Ni has no parameters"):
        Morse(pairs={"Cu": own, "Ni": own}, cutoff=5)


def test_a_spec_builds_the_same_potential() -> None:
    own = {"Ar": {"epsilon": "1 kJ/mol", "sigma": "3.405 Å"}, "Kr": {"epsilon": "167 K" and 0.0144, "sigma": 3.65}}
    nuclei = [ZBL(cutoff=2, elements=["Si"]), ZBL(cutoff=2, onset=1.5, switching="lammps")]
    for potential in (argon(), LennardJones(pairs=own, cutoff="8.5 Å"), *nuclei):
        again = type(potential).restore(potential.spec(), {})
        assert again.spec() == potential.spec()
        assert energy(again, "Si2" if isinstance(potential, ZBL) else "Ar2", 1.9) == energy(
            potential, "Si2" if isinstance(potential, ZBL) else "Ar2", 1.9
        )


def test_the_quintic_step_has_two_continuous_derivatives() -> None:
    r = torch.tensor([1.0, 1.0 + 1e-9, 2.0 - 1e-9, 2.0], dtype=torch.float64, requires_grad=True)
    value = quintic(r, 2.0, 1.0)
    (first,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    assert value.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-15)
    assert first.tolist() == pytest.approx([0] * 4, abs=1e-15)
    assert second.tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert float(quintic(torch.tensor(1.5), 2.0, 1.0)) == 0.5
    with pytest.raises(InputError, match="onset"):
        quintic(r, 2.0, 2.0)


def test_cutoff_functions_vanish_beyond_the_cutoff() -> None:
    far = torch.tensor([3.0, 3.5])
    for values in (quadratic(far, 3.0), quintic(far, 3.0, 2.0)):
        assert values.tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert float(quadratic(torch.tensor(1.0), 3.0)) == 4.0


def test_the_energy_of_an_argon_crystal_agrees_with_ase() -> None:
    from ase.calculators.lj import LennardJones as Oracle

    atoms = bulk("Ar", a=5.3, cubic=True) * 2
    atoms.rattle(0.1, seed=1)
    # without a smooth region in reach: no atom between onset and cutoff of either
    ours = argon(cutoff="40 Å", onset="39.9 Å")
    atoms.calc = Oracle(epsilon=0.0104, sigma=3.4, rc=9.0)
    cluster = Atoms(atoms.symbols[:12], positions=atoms.positions[:12])
    cluster.calc = Oracle(epsilon=0.0104, sigma=3.4, rc=1e4)
    prediction = ours.predict(build_graph(cluster, ours.cutoff))
    assert float(prediction.energy) == pytest.approx(cluster.get_potential_energy(), abs=1e-10)
    assert np.allclose(prediction.forces.numpy(), cluster.get_forces(), atol=1e-12)


def test_an_unknown_switching_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match="Did you mean 'lammps'"):
        ZBL(cutoff=2, switching="lamps")


def test_a_sum_knows_the_elements_that_all_parts_know() -> None:
    one = LennardJones(pairs={"Ar": {"epsilon": 1, "sigma": 3}, "Kr": {"epsilon": 1, "sigma": 3}}, cutoff=8)
    assert Sum([one, ZBL(cutoff=2)]).elements == ("Ar", "Kr")
    assert Sum([one, ZBL(cutoff=2, elements=["Kr"])]).elements == ("Kr",)
    assert Sum([one, ZBL(cutoff=2)]).cutoff == 8.0
    with pytest.raises(InputError, match="potentials of a sum have no element in common"):
        Sum([one, ZBL(cutoff=2, elements=["Si"])])
    with pytest.raises(InputError, match="at least one"):
        Sum([])


class Bringing(LennardJones):
    """A potential with an evaluator of its own."""

    def evaluator(self, numbers: np.ndarray, pbc: np.ndarray, *, skin: float, device: str) -> GraphEvaluator:
        return GraphEvaluator(self, numbers, pbc, skin + 0.1, device)


def test_a_part_that_brings_an_evaluator_uses_it_in_a_sum() -> None:
    bringing = Bringing(epsilon=0.01, sigma=3.0, cutoff=7)
    whole = Sum([bringing, argon(), ZBL(cutoff=3)])
    atoms = Atoms("Ar3", [[0, 0, 0], [0, 0, 2.8], [0, 3.1, 1]])
    parts = evaluator(whole, atoms.numbers, atoms.pbc, skin=0.3)
    assert isinstance(parts, SumEvaluator)
    own = parts.parts[0]
    assert isinstance(own, GraphEvaluator)
    assert (own.potential, own.pairs.skin) == (bringing, 0.4)
    result = parts.evaluate(atoms.positions, atoms.cell.array)
    expected = whole.predict(build_graph(atoms, whole.cutoff))
    assert result.energy == pytest.approx(float(expected.energy), rel=1e-12)
    assert np.allclose(result.forces, expected.forces.numpy(), rtol=1e-12)
    again = evaluator(whole, atoms.numbers, atoms.pbc, skin=0.3)
    again.restore(parts.state())
    assert again.evaluate(atoms.positions, atoms.cell.array).energy == result.energy


def test_parameters_keep_every_digit_through_their_units() -> None:
    potential = LennardJones(epsilon="0.996 kJ/mol", sigma="0.3405 nm", cutoff="1.2 nm")
    assert float(potential.epsilon) == units.parse("0.996 kJ/mol", "energy")
    again = LennardJones.restore(potential.spec(), {})
    assert torch.equal(again.epsilon, potential.epsilon)
