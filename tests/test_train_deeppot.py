"""Training of DeepPot-SE: its splines, its gradient, that it continues to the same bits, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from kept_states import check_every_state
from made_data import copper_and_silver
from random_deeppot import random_deeppot
from training_checks import assert_gradient_is_difference_quotient, loss_by_prediction

from mlmd.config import load_train
from mlmd.descriptors import embedding_table
from mlmd.descriptors.embedding import DeepPotSE
from mlmd.descriptors.embedding_table import Moments, features_of, knots_for, neighbours_of, spline_coefficients
from mlmd.errors import InputError
from mlmd.fitting.network import Network
from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.sample.features import read_descriptor
from mlmd.train import embedded_fit
from mlmd.train.embedded_fit import EmbeddedTraining
from mlmd.train.job import prepare
from mlmd.train.preview import preview
from mlmd.train.run import train

SMALL = 'kind = "deeppot-se"\ncutoff = "4.5 Å"\nn_neurons = [4, 8]\nn_axes = 3'


def write_input(folder: Path, fit: str = "", descriptor: str = "", top: str = "") -> Path:
    path = folder / "in.toml"
    fit = f'[fit]\nkind = "network"\nn_neurons = [8, 8]\n{fit or "epochs = 6"}\n'
    path.write_text(f'data = "data.extxyz"\n{top}\n[descriptor]\n{SMALL}\n{descriptor}\n{fit}', encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; every other atom is called silver."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", copper_and_silver())
    return tmp_path


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in double precision."""
    monkeypatch.setattr(embedded_fit, "_DTYPE", torch.float64)


@pytest.mark.parametrize("type_one_side", [True, False])
def test_splines_give_what_the_networks_give(monkeypatch: pytest.MonkeyPatch, type_one_side: bool) -> None:
    potential = random_deeppot(("Si", "O"), type_one_side=type_one_side)
    descriptor, network = potential.descriptor, potential.regressor
    assert isinstance(descriptor, DeepPotSE) and isinstance(network, Network)
    atoms = Atoms("Si4O8", cell=[[6, 0, 0], [1, 6, 0], [0, 2, 5]], pbc=True)
    atoms.set_scaled_positions(np.random.default_rng(4).uniform(size=(12, 3)))
    graph = build_graph(atoms, potential.cutoff)
    exact = potential.predict(graph)
    errors = []
    for step in (0.08, 0.04):
        monkeypatch.setattr(embedding_table, "_STEP", step)
        knots = knots_for(descriptor, float(graph.distances.min()))
        near = neighbours_of(descriptor, knots, graph, torch.float64)
        moments = Moments(near)
        values = moments.values.requires_grad_(True)
        features = features_of(descriptor, values, near.kinds, spline_coefficients(descriptor, knots, torch.float64))
        energies = network.energies(features, near.kinds)
        (slopes,) = torch.autograd.grad(energies.sum(), values)
        gradient, virial = moments.pull(slopes)
        stress = virial / graph.volumes[0]
        errors.append(
            [
                abs(float(energies.detach().sum() - exact.energy)) / float(energies.detach().abs().max()),
                float((gradient + exact.forces).abs().max() / exact.forces.abs().max()),
                float((stress - exact.stress[0]).abs().max() / exact.stress.abs().max()),
            ]
        )
    assert max(errors[0]) < 1e-5
    # quintic splines are of the sixth order in the distance of the knots, their slopes of the fifth
    assert (np.array(errors[1]) < np.array(errors[0]) / 16).all(), errors


def test_the_statistics_of_water_are_those_of_deepmd_kit(shared: Path) -> None:
    # its model in the reference data was made with other frames of the same liquid
    frames = read_labelled(shared / "deepmd_water" / "data_3.xyz.xz")[:2]
    descriptor = DeepPotSE(elements=("O", "H"), cutoff=6.0, onset=0.5, n_places=(46, 92))
    descriptor.standardise([build_graph(frame.atoms, 6.0) for frame in frames])
    assert descriptor.mean.tolist() == pytest.approx([0.0503, 0.0481], rel=0.01)
    expected = np.array([[0.1398, 0.0858], [0.1239, 0.0767]])
    assert descriptor.deviation.numpy() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("baseline", ["", 'baseline = { Cu = -3.5, Ag = "-3 eV" }'])
@pytest.mark.parametrize("type_one_side", ["true", "false"])
def test_the_gradient_of_the_loss_is_its_difference_quotient(
    place: Path, doubled: None, type_one_side: str, baseline: str
) -> None:
    source = write_input(place, descriptor=f"type_one_side = {type_one_side}", top=baseline)
    training = EmbeddedTraining(prepare(source), n_threads=2)
    assert_gradient_is_difference_quotient(training)


# L-BFGS with as many passes lowers the loss as a whole further, but that of forces less
@pytest.mark.parametrize(
    ("fit", "left"), [("epochs = 150\nlearning_rate = 0.01", 0.1), ('epochs = 100\noptimiser = "l-bfgs"', 0.2)]
)
def test_training_lowers_the_loss_which_is_that_of_the_potential_that_is_written(
    place: Path, fit: str, left: float
) -> None:
    source = write_input(place, fit)
    result = train(source, n_processes=1)
    loss, still = loss_by_prediction(source, result.model)
    # steps are made in single precision, with splines in the place of the networks
    assert modelfile.read_card(result.model)["loss"] == pytest.approx(loss, rel=1e-4)
    assert still < left


@pytest.mark.parametrize("fit", ["epochs = 2", "epochs = 2\npatience = 2", 'epochs = 9\noptimiser = "l-bfgs"'])
def test_every_state_that_is_kept_leads_to_the_same_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    check_every_state(write_input(place, fit), place / "whole", monkeypatch, lambda n: (0, 8, n - 1), n_processes=2)


def test_an_isolated_atom_has_the_energy_of_the_baseline_that_is_given(place: Path) -> None:
    potential = modelfile.load(
        train(write_input(place, top='baseline = { Cu = "-3.5 eV", Ag = "-2 eV" }'), n_processes=1).model
    )
    for symbol, energy in (("Cu", -3.5), ("Ag", -2.0)):
        atom = Atoms(symbol, cell=[20, 20, 20], pbc=True)
        said = float(potential.predict(build_graph(atom, potential.cutoff)).energy)
        assert said == pytest.approx(energy, abs=1e-9)


def test_a_network_of_deeppot_has_defaults_of_its_own_that_can_be_changed(place: Path) -> None:
    path = place / "in.toml"
    path.write_text('data = "data.extxyz"\ndescriptor = "deeppot-se"\nfit = "network"\n')
    fit: Any = load_train(path).fit
    assert (fit.n_neurons, fit.residual, fit.activation, fit.learning_rate) == ((240, 240, 240), True, "tanh", 2e-3)
    path.write_text('data = "data.extxyz"\ndescriptor = "deeppot-se"\nfit = { kind = "network", residual = false }\n')
    fit = load_train(path).fit
    assert (fit.n_neurons, fit.residual) == ((240, 240, 240), False)
    # those of adamw are no options of another optimiser
    path.write_text(
        'data = "data.extxyz"\ndescriptor = "deeppot-se"\nfit = { kind = "network", optimiser = "l-bfgs" }\n'
    )
    fit = load_train(path).fit
    assert (fit.n_neurons, fit.n_epochs) == ((240, 240, 240), 1000)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "network"\nn_neurons = [8, 8]\nepochs = 6', 'kind = "linear"', "learned by gradient descent together"),
        ('kind = "network"\nn_neurons = [8, 8]\nepochs = 6', 'kind = "gap"', "not with gap"),
        ("n_axes = 3", "n_axes = 9", "n_axes: 9 is more than the last layer of n_neurons has, 8"),
        ("n_axes = 3", 'cutoff_smooth = "4.5 Å"', "is not below the cutoff"),
        ("n_axes = 3", "axis_neuron = 3", "'axis_neuron' is not an option"),
        ("epochs = 6", 'optimiser = "kalman"', 'too many for it. Give optimiser = "adamw" or "l-bfgs".'),
        ("epochs = 6", 'optimiser = "kalman"\nbatch = 3', "in.toml: fit: optimiser: a Kalman filter holds"),
        ("epochs = 6", "members = 2", "fit: members: the embeddings of deeppot-se are learned with one network only"),
        ("epochs = 6", 'optimiser = "l-bfgs"\nlearning_rate = 0.1', "learning_rate: l-bfgs has no use for it"),
    ],
    ids=["linear", "gap", "axes", "smooth", "name", "kalman", "kalman and more", "committee", "rate"],
)
def test_what_does_not_go_together_is_refused_and_nothing_is_written(
    place: Path, old: str, new: str, said: str
) -> None:
    source = write_input(place)
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        train(source, n_processes=1)
    assert said in str(caught.value)
    assert not (place / "in.run").exists()


def test_learned_embeddings_do_not_go_into_another_fit(place: Path) -> None:
    modelfile.save(random_deeppot(("Cu", "Ag")), place / "learned.mlmd")
    path = place / "other.toml"
    path.write_text('data = "data.extxyz"\ndescriptor = { model = "learned.mlmd" }\nfit = "gap"\n')
    with pytest.raises(InputError, match="were learned together with its network"):
        train(path, n_processes=1)
    assert not (place / "other.run").exists()


def test_features_are_those_of_a_potential_not_of_a_table(place: Path) -> None:
    path = place / "descriptor.toml"
    path.write_text(SMALL, encoding="utf-8")
    with pytest.raises(InputError, match="has numbers that are fitted: give the potential"):
        read_descriptor(path, read_labelled(place / "data.extxyz"))


def test_a_check_counts_the_weights_and_writes_nothing(place: Path) -> None:
    source = write_input(place, "epochs = 70")
    before = sorted(place.iterdir())
    found = preview(source)
    assert found.n_linear == sum(one.numel() for one in prepare(source).potential.parameters())
    assert found.max_iterations == 70
    assert sorted(place.iterdir()) == before
