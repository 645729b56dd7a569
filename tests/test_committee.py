"""Committees: the mean of their members, kept in one file, trained one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_systems import system
from made_data import strained, thermal
from random_symmetry import random_symmetry

from mlmd.errors import InputError
from mlmd.fitting.committee import Committee
from mlmd.fitting.network import Network
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.job import prepare
from mlmd.train.network_fit import Training
from mlmd.train.run import train


def member(seed: int, n_features: int = 3) -> Network:
    network = Network(n_features=n_features, n_neurons=[4, 3], n_kinds=2, activation="silu")
    network.randomise(torch.Generator().manual_seed(seed))
    return network


def potential() -> LearnedPotential:
    """Symmetry functions with three networks."""
    descriptor = random_symmetry(("Si",), taper="septic", onset=0.25, n_neurons=6).descriptor
    networks = []
    for seed in range(3):
        networks.append(Network(n_features=descriptor.n_features, n_neurons=6))
        networks[-1].randomise(torch.Generator().manual_seed(seed))
    return LearnedPotential(descriptor, Committee(networks))


def test_its_energy_is_the_mean_of_its_members() -> None:
    members = [member(seed) for seed in range(4)]
    features, kinds = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    expected = np.mean([one.energies(features, kinds).numpy() for one in members], axis=0)
    assert Committee(members).energies(features, kinds).numpy() == pytest.approx(expected, rel=1e-14)


def test_a_file_gives_the_same_committee_again(tmp_path: Path) -> None:
    one = potential()
    modelfile.save(one, tmp_path / "si.mlmd")
    again = modelfile.load(tmp_path / "si.mlmd")
    assert again.spec() == one.spec()
    assert isinstance(again, LearnedPotential) and len(again.regressor.members) == 3  # type: ignore[arg-type]
    graph = build_graph(system("liquid", ("Si",), 2.3), one.cutoff)
    assert torch.equal(again.predict(graph).forces, one.predict(graph).forces)


def test_a_run_feels_the_mean_of_the_forces_of_the_members() -> None:
    one = potential()
    atoms = system("liquid", ("Si",), 2.3)
    found = evaluator(one, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    graph = build_graph(atoms, one.cutoff)
    alone = [LearnedPotential(one.descriptor, each).predict(graph) for each in one.regressor.members]  # type: ignore[arg-type]
    assert found.forces == pytest.approx(np.mean([said.forces.numpy() for said in alone], axis=0), abs=1e-10)
    assert found.energy == pytest.approx(float(np.mean([float(said.energy) for said in alone])), rel=1e-12)


def test_members_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InputError, match="committee of 1"):
        Committee([member(0)])
    with pytest.raises(InputError, match="3 of atom, 5 of atom"):
        Committee([member(0), member(1, n_features=5)])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(8, repeat=1), *strained(8)])
    return tmp_path


def write_input(folder: Path, more: str) -> Path:
    path = folder / "in.toml"
    path.write_text(
        'data = "data.extxyz"\n[descriptor]\nkind = "acsf"\ncutoff = "4.5 Å"\nn_radial = 4\nn_angular = 1\n'
        f'[fit]\nkind = "network"\nn_neurons = [4]\nepochs = 5\n{more}\n'
    )
    return path


def test_members_are_trained_from_other_weights_and_the_first_as_if_it_were_alone(place: Path) -> None:
    several = modelfile.load(train(write_input(place, "members = 3"), place / "several", n_processes=1).model)
    single = modelfile.load(train(write_input(place, ""), place / "single", n_processes=1).model)
    assert isinstance(several, LearnedPotential) and isinstance(single, LearnedPotential)
    members = list(several.regressor.members)  # type: ignore[arg-type]
    for name, value in single.regressor.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(members[0].get_parameter(name), value)
        assert name == "constants" or not torch.equal(members[1].get_parameter(name), members[2].get_parameter(name))


def test_the_loss_of_a_committee_is_that_of_its_mean_and_not_above_that_of_its_members(place: Path) -> None:
    training = Training(prepare(write_input(place, "members = 3")), n_threads=1)
    state = training.begin()
    while not state.finished:
        state = training.after(state)
    weights = np.vstack([state.done, state.best])
    alone = [training.loss(one, training.all) for one in weights]
    # of squares the mean is at least the square of the mean (Jensen)
    assert 0 < training.loss(weights, training.all) < np.sqrt(np.mean(np.square(alone)))
    assert [len(history) for history in (*state.earlier, state.history)] == [5, 5, 5]
    assert state.n_epochs == 15


def test_bootstrap_gives_each_member_other_structures(place: Path) -> None:
    training = Training(prepare(write_input(place, "members = 3\nbootstrap = true")), n_threads=1)
    drawn = [[id(one) for one in training._drawn(index)] for index in range(3)]
    assert all(len(one) == len(training.used) and len({*one}) < len(one) for one in drawn)
    assert drawn[0] != drawn[1] != drawn[2]
    with pytest.raises(InputError, match="one network has nothing to differ from"):
        prepare(write_input(place, "bootstrap = true"))
