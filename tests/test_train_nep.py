"""Training of radial functions with a network: moments, gradients, and that nep.txt holds what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from command_line import mlmd
from kept_states import check_every_state
from made_data import copper_and_silver
from random_networks import random_nep
from test_nep import calorine, crystal
from training_checks import assert_gradient_is_difference_quotient, loss_by_prediction

from mlmd.config import load_train
from mlmd.descriptors.harmonics import harmonics, harmonics_and_slopes
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.radial_moments import features_of, neighbours_of
from mlmd.errors import InputError
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile, nep_save
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.nep_file import load
from mlmd.train import embedded_fit
from mlmd.train.embedded_fit import EmbeddedTraining
from mlmd.train.job import prepare
from mlmd.train.run import train

SMALL = 'kind = "nep"\ncutoff = "4.5 Å"\nangular_cutoff = "4 Å"\nn_radial = 4\nn_angular = 3\nn_chebyshev = 5'


def write_input(folder: Path, fit: str = "epochs = 6", top: str = "") -> Path:
    path = folder / "in.toml"
    fit = f'[fit]\nkind = "network"\nn_neurons = [8]\n{fit}\n'
    path.write_text(f'data = "data.extxyz"\n{top}\n[descriptor]\n{SMALL}\n{fit}', encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; every other atom is called silver."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", copper_and_silver())
    return tmp_path


@pytest.mark.parametrize("l_max", [1, 4, 8])
def test_slopes_of_harmonics_are_those_of_autograd(l_max: int) -> None:
    directions = torch.randn((3, 5), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values, slopes = harmonics_and_slopes(directions, l_max)
    assert torch.equal(values, harmonics(directions, l_max))
    expected = torch.autograd.functional.jacobian(lambda at: harmonics(at, l_max).sum(dim=1), directions)
    assert (slopes - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize("sizes", [{}, {"l_max": 6, "angular_cutoff": "5 Å"}, {"cutoff": ["5 Å", "4.5 Å", "6 Å"]}])
def test_moments_give_the_features_energies_forces_and_stress_of_the_potential(sizes: dict[str, Any]) -> None:
    if isinstance(sizes.get("cutoff"), list):
        sizes = sizes | {"angular_cutoff": ["4 Å", "4.5 Å", "3 Å"]}
    potential = random_nep(("Li", "Cl", "Y"), **sizes)
    graph = build_graph(crystal(potential.elements, 2.4), potential.cutoff)
    near = neighbours_of(potential.descriptor, graph, torch.float64)
    moments = near.moments()
    values = moments.values.requires_grad_(True)
    features = features_of(potential.descriptor, values, near.kinds)
    assert (features - potential.descriptor.features(graph)).abs().max() < 1e-12
    (slopes,) = torch.autograd.grad(potential.regressor.energies(features, near.kinds).sum(), values)
    gradient, virial = moments.pull(slopes)
    expected = potential.predict(graph)
    assert (gradient + expected.forces).abs().max() < 1e-12
    assert (virial - expected.virial[0]).abs().max() < 1e-11
    # the product with the Jacobian is the transpose of that with its transpose
    generator = torch.Generator().manual_seed(3)
    displacements, strain = (torch.randn((n, 3), generator=generator, dtype=torch.float64) for n in (27, 3))
    pushed = float((moments.push(displacements, strain) * slopes).sum())
    assert pushed == pytest.approx(float((gradient * displacements).sum() + (virial * strain).sum()), rel=1e-10)


@pytest.mark.parametrize("baseline", ["", 'baseline = { Cu = -3.5, Ag = "-3 eV" }'])
def test_the_gradient_of_the_loss_is_its_difference_quotient(
    place: Path, monkeypatch: pytest.MonkeyPatch, baseline: str
) -> None:
    monkeypatch.setattr(embedded_fit, "_DTYPE", torch.float64)
    training = EmbeddedTraining(prepare(write_input(place, top=baseline)), n_threads=2)
    assert_gradient_is_difference_quotient(training)


def test_training_lowers_the_loss_and_moves_radial_functions(place: Path) -> None:
    source = write_input(place, "epochs = 40")
    before = prepare(source).potential.descriptor
    result = train(source, n_processes=1)
    potential = modelfile.load(result.model)
    loss, still = loss_by_prediction(source, result.model)
    # steps are made in single precision
    assert modelfile.read_card(result.model)["loss"] == pytest.approx(loss, rel=1e-4)
    assert still < 0.25
    assert isinstance(before, RadialAngular) and isinstance(potential.descriptor, RadialAngular)
    for one, other in zip(before.parameters(), potential.descriptor.parameters(), strict=True):
        assert (one - other).abs().max() > 1e-3


def test_what_was_trained_is_written_for_gpumd_with_the_same_numbers(place: Path) -> None:
    """The oracle is calorine's NEP_CPU; constants of copper and silver differ, and files have one for both."""
    model = train(write_input(place, top='baseline = { Cu = -3.5, Ag = "-3 eV" }'), n_processes=1).model
    answer = mlmd("export", model, place / "nep.txt")
    assert answer.code == 0, answer.err
    assert "GPUMD reads it as `potential nep.txt`" in answer.out
    atoms = crystal(("Cu", "Ag"), 2.6)
    found, again = predictor(modelfile.load(model))(atoms), predictor(load(place / "nep.txt"))(atoms)
    energy, forces, virial = calorine(place / "nep.txt", atoms)
    # all in double precision, rounding is all that differs
    for other in ((again.energy, again.forces, again.virial), (energy, forces, virial)):
        assert other[0] == pytest.approx(found.energy, abs=1e-9)
        assert np.abs(other[1] - found.forces).max() < 1e-10
        assert np.abs(other[2] - found.virial).max() < 1e-9
    assert np.abs(found.forces).max() > 0.01
    for symbol, alone in (("Cu", -3.5), ("Ag", -3.0)):
        atom = Atoms(symbol, cell=[30, 30, 30], pbc=True)
        assert calorine(place / "nep.txt", atom)[0] == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize(
    "sizes", [{}, {"common": True}, {"precision": "float32"}, {"l_max": 6, "n_radial": 12, "five_body": False}]
)
def test_any_radial_angular_network_has_the_numbers_of_calorine_when_it_is_written(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    potential = random_nep(("Li", "Cl", "Y"), **sizes)
    biases = potential.regressor.biases
    biases.copy_(torch.linspace(-1.0, 1.0, biases.numel()).view_as(biases))
    nep_save.save(potential, tmp_path / "nep.txt")
    atoms = crystal(potential.elements, 2.4)
    atoms.symbols[:4] = "Li"  # constants of elements do not cancel
    energy, forces, virial = calorine(tmp_path / "nep.txt", atoms)
    found = predictor(potential)(atoms)
    # what is computed in single precision differs from what double precision makes of the same numbers
    close = 1e-10 if sizes.get("precision") != "float32" else 1e-5
    assert found.energy == pytest.approx(energy, abs=close * len(atoms))
    assert np.abs(found.forces - forces).max() < close
    assert np.abs(found.virial - virial).max() < 10 * close


@pytest.mark.parametrize(
    "name",
    ["models_nep/Si_2022_NEP4_5body.txt", "models_nep/Li3PS4/nepA_nep.txt", "llzo_nep/models/NEP25-ZBL_train/nep.txt"],
)
def test_a_file_that_was_read_is_written_again_to_the_last_bit(shared: Path, tmp_path: Path, name: str) -> None:
    potential = load(shared / name)
    answer = mlmd("export", shared / name, tmp_path / "nep.txt")
    assert answer.code == 0, answer.err
    again = load(tmp_path / "nep.txt")
    assert again.spec() == potential.spec()
    kept = again.state_dict()
    assert all(torch.equal(one, kept[key]) for key, one in potential.state_dict().items())


def test_repulsion_of_pairs_is_written_with_the_numbers_of_calorine(shared: Path, tmp_path: Path) -> None:
    potential = load(shared / "llzo_nep/models/NEP25-ZBL_train/nep.txt")
    assert potential.repulsion is not None
    potential.repulsion.table[..., 2::2] *= 1.1  # no universal function any more
    nep_save.save(potential, tmp_path / "nep.txt")
    assert "zbl 0 0" in (tmp_path / "nep.txt").read_text()
    atoms = crystal(potential.elements, 1.7)
    energy, forces, _ = calorine(tmp_path / "nep.txt", atoms)
    found = predictor(potential)(atoms)
    assert found.energy == pytest.approx(energy, abs=1e-8)
    assert np.abs(found.forces - forces).max() < 1e-9 * np.abs(forces).max()


def test_what_readers_of_nep_files_have_no_room_for_is_refused(tmp_path: Path) -> None:
    cases = [
        (random_nep(("Si",), n_angular=16, l_max=8), "at most 103 features; this has 169"),
        (random_nep(("Si",), n_radial_basis=20), "at most 17 functions of a kind; this has 20"),
    ]
    for potential, said in cases:
        with pytest.raises(InputError, match=said):
            nep_save.save(potential, tmp_path / "nep.txt")
    assert not (tmp_path / "nep.txt").exists()


def test_every_state_that_is_kept_leads_to_the_same_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_input(place, "epochs = 2\npatience = 2")
    check_every_state(source, place / "whole", monkeypatch, lambda n: (0, n // 2, n - 1), n_processes=2)


def test_a_neuroevolution_potential_has_defaults_of_its_own(place: Path) -> None:
    path = place / "in.toml"
    path.write_text('data = "data.extxyz"\ndescriptor = "nep"\nfit = "network"\n')
    fit: Any = load_train(path).fit
    assert (fit.n_neurons, fit.activation) == ((30,), "tanh")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'kind = "network"\nn_neurons = [8]\nepochs = 6',
            'kind = "linear"',
            "the radial functions of nep are learned by",
        ),
        ("n_neurons = [8]", "n_neurons = [8, 8]", "has one hidden layer of tanh"),
        ("epochs = 6", 'activation = "silu"', "has one hidden layer of tanh"),
        (
            "epochs = 6",
            'optimiser = "kalman"',
            'radial functions of nep have too many for it. Give optimiser = "adamw"',
        ),
        ("epochs = 6", "members = 2", "the radial functions of nep are learned with one network only"),
        ("4 Å", "4.6 Å", "angular_cutoff: 4.6 Å is above the cutoff, 4.5 Å"),
    ],
    ids=["linear", "layers", "activation", "kalman", "committee", "cutoff"],
)
def test_what_does_not_go_together_is_refused(place: Path, old: str, new: str, said: str) -> None:
    source = write_input(place)
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        train(source, n_processes=1)
    assert said in str(caught.value)
