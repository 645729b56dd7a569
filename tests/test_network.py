"""Networks of one and of several hidden layers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from kernel_systems import system
from random_deeppot import random_deeppot
from random_networks import random_nep
from random_symmetry import random_symmetry

from mlmd.descriptors.combined import Combined
from mlmd.descriptors.linearised import linearised
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.errors import InputError
from mlmd.fitting.last_layer import LastLayer
from mlmd.fitting.network import ACTIVATIONS, Network
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.nep import NEP

FUNCTIONS = {
    "tanh": math.tanh,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "gaussian": lambda x: math.exp(-0.5 * x * x),
    "linear": lambda x: x,
}


def test_a_network_is_layers_of_functions_of_sums() -> None:
    network = Network(n_features=3, n_neurons=[4, 2], n_kinds=2, activation=["tanh", "softplus"])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = np.array([0.3, -0.7, 1.1])
    expected = []
    for kind in range(2):
        w1, b1, w2, b2, v = (
            getattr(network, name)[kind].numpy() for name in ("weights", "biases", "weights_2", "biases_2", "output")
        )
        hidden = np.tanh(w1 @ x + b1)
        expected.append(v @ np.log1p(np.exp(w2 @ hidden + b2)) + float(network.constants[kind]))
    energies = network.energies(torch.tensor(np.array([x, x])), torch.tensor([1, 0]))
    assert energies.tolist() == pytest.approx(expected[::-1], rel=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_what_they_are_called(name: str) -> None:
    x = torch.tensor([-30.0, -1.0, 0.0, 0.4, 30.0], dtype=torch.float64)
    expected = [FUNCTIONS[name](value) for value in x.tolist()]
    assert ACTIVATIONS[name](x).tolist() == pytest.approx(expected, rel=1e-13)


def test_one_layer_of_tanh_is_written_as_it_was_before_there_were_others() -> None:
    network = Network(n_features=3, n_neurons=4, n_kinds=2)
    spec = {"kind": "network", "n_features": 3, "n_neurons": 4, "n_kinds": 2, "common": False}
    assert network.spec() == spec == Network(n_features=3, n_neurons=[4], n_kinds=2).spec()
    assert {*network.state_dict()} == {"weights", "biases", "output", "constants"}


@pytest.mark.parametrize(
    "settings",
    [
        {"n_neurons": 6},
        {"n_neurons": [6], "activation": "silu"},
        {"n_neurons": [6, 5, 4], "activation": ["tanh", "softplus", "gaussian"], "common": True},
    ],
    ids=str,
)
def test_a_file_gives_the_same_potential_again(tmp_path: Path, settings: dict[str, Any]) -> None:
    potential = random_symmetry(("Si",), taper="septic", onset=0.25, **settings)
    modelfile.save(potential, tmp_path / "si.mlmd")
    again = modelfile.load(tmp_path / "si.mlmd")
    assert again.spec() == potential.spec()

    graph = build_graph(system("liquid", ("Si",), 2.3), potential.cutoff)
    assert torch.equal(again.predict(graph).forces, potential.predict(graph).forces)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_neurons": []}, "impossible"),
        ({"n_neurons": [3, 0]}, "impossible"),
        ({"activation": "relu6"}, "not an activation"),
        ({"n_neurons": [3, 3], "activation": ["tanh"]}, "1 activations were given for 2"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Network(**{"n_features": 3, "n_neurons": 4, **settings})


def test_a_nep_has_one_layer_of_tanh() -> None:
    assert random_nep(("Si",)).regressor.activations == ("tanh",)
    descriptor = RadialAngular(elements=("Si",), cutoff=5.0)
    network = Network(n_features=descriptor.n_features, n_neurons=[4, 4])
    with pytest.raises(InputError, match="one hidden layer"):
        NEP(descriptor, network)


@pytest.mark.parametrize(
    "given",
    [
        {"n_neurons": 5},
        {"n_neurons": [6, 6, 12], "residual": True, "timestep": True, "activation": ["tanh", "silu", "gaussian"]},
        {"n_neurons": [4, 3], "common": True, "activation": "softplus"},
    ],
    ids=["one", "residual", "common"],
)
def test_a_network_is_a_linear_function_of_its_last_layer(given: dict[str, Any]) -> None:
    """Energies, and slopes of the neurons, which torch differentiates."""
    network = Network(n_features=4, n_kinds=2, **given)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn((5, 4), generator=generator, dtype=torch.float64)
    directions = torch.randn((5, 4, 3), generator=generator, dtype=torch.float64)
    kinds = torch.tensor([0, 1, 1, 0, 1])
    last = LastLayer(network)
    assert last.energies(features, kinds).numpy() == pytest.approx(network.energies(features, kinds).numpy(), abs=1e-13)
    expected = torch.autograd.functional.jacobian(
        lambda step: last.basis(features + directions @ step, kinds), torch.zeros(3, dtype=torch.float64)
    )  # type: ignore[no-untyped-call]
    slopes = last.slopes(features, kinds, directions)
    assert slopes.numpy() == pytest.approx(expected.numpy(), abs=1e-12)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside symmetry functions"])
def test_rows_of_few_functions_are_those_by_the_derivatives_of_all_features(beside: bool) -> None:
    """Of a network of learned embeddings, which has no kernel, and of two kinds of atoms."""
    atoms = bulk("Cu", cubic=True, a=3.7).repeat((3, 2, 2))  # more atoms than are differentiated together
    atoms.numbers[::3] = 47
    atoms.positions += np.random.default_rng(5).normal(0, 0.1, atoms.positions.shape)
    descriptor = random_deeppot(("Cu", "Ag")).descriptor
    if beside:
        descriptor = Combined([descriptor, random_symmetry(("Cu", "Ag")).descriptor])
    network = Network(n_features=descriptor.n_features, n_neurons=(4, 4), n_kinds=2)
    network.randomise(torch.Generator().manual_seed(1))
    graph = build_graph(atoms, descriptor.cutoff)
    kinds, last = torch.from_numpy((atoms.numbers == 47).astype(int)), LastLayer(network)
    whole, few = (linearised(descriptor, graph, keep=keep) for keep in (True, False))
    assert last.n_basis < descriptor.n_features
    expected = whole.rows(partial(last.slopes, whole.values, kinds), last.n_basis)
    found = few.rows(partial(last.slopes, few.values, kinds), last.n_basis)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-12 * float(other.abs().max()))
