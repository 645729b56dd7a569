"""DeepPot-SE: the numbers of DeePMD-kit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from deepmd_oracle import Expected, learned, published, run

from mlmd.io.labelled import read_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import LearnedPotential

WATER = ("O", "H")


@pytest.fixture(scope="module")
def reference(shared: Path) -> Any:
    """A small model of water, as DeePMD-kit's own test has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is the form in which the model is there
        return torch.jit.load(str(shared / "ref_deepmd" / "deeppot_sea.pth"), map_location="cpu")


def check(potential: LearnedPotential, expected: Expected) -> None:
    """Rounding: energies are some hundred eV, and their parts are added in another order."""
    graph = build_graph(expected.atoms, potential.cutoff)
    energies = potential.atomic_energies(graph).detach().numpy()
    assert energies == pytest.approx(expected.atomic_energies, rel=1e-13)
    said = potential.predict(graph)
    assert said.forces.numpy() == pytest.approx(expected.forces, rel=1e-8, abs=1e-12)
    if expected.atoms.pbc.all():
        virial = -said.stress[0].numpy() * expected.atoms.get_volume()
        assert virial == pytest.approx((expected.virial + expected.virial.T) / 2, rel=1e-8, abs=1e-11)


def test_the_published_numbers_of_deepmd_kit_are_reproduced(shared: Path, reference: Any) -> None:
    potential = learned(reference, WATER)
    cases = published(shared / "ref_deepmd" / "deeppot-testcase.yaml", WATER)
    assert len(cases) == 3
    for case in cases:
        check(potential, case)
    descriptor = potential.descriptor.features(build_graph(cases[0].atoms, potential.cutoff)).detach().numpy()
    assert descriptor == pytest.approx(cases[0].descriptor, rel=1e-12, abs=1e-14)


def test_liquid_water_has_the_energy_and_forces_that_deepmd_kit_gives_it(shared: Path, reference: Any) -> None:
    potential = learned(reference, WATER)
    for frame in read_labelled(shared / "deepmd_water" / "data_3.xyz.xz")[:2]:
        check(potential, run(reference, frame.atoms, WATER))
