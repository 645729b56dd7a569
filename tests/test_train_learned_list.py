"""Trainings of learned descriptors beside others: gradients, forces, what stays as it is, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from command_line import mlmd
from kept_states import check_every_state
from made_data import copper_and_silver
from random_networks import random_nep
from training_checks import assert_gradient_is_difference_quotient, loss_by_prediction

from mlmd.config import load_train
from mlmd.descriptors.combined import Combined
from mlmd.errors import InputError
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.train import embedded_fit
from mlmd.train.embedded_fit import EmbeddedTraining
from mlmd.train.job import prepare
from mlmd.train.run import train

DEEPPOT = '{ kind = "deeppot-se", cutoff = "4.5 Å", n_neurons = [4, 8], n_axes = 3 }'
NEP = '{ kind = "nep", cutoff = "4.5 Å", angular_cutoff = "4 Å", n_radial = 3, n_angular = 2, n_chebyshev = 4 }'
ACSF = '{ kind = "acsf", cutoff = "5 Å", n_radial = 3, n_angular = 0 }'
SNAP = '{ kind = "snap", cutoff = "4 Å", twojmax = 3 }'
MIXED = [(DEEPPOT, ACSF), (SNAP, NEP), (DEEPPOT, NEP)]
NAMES = ["deeppot-se and acsf", "snap and nep", "two that are learned"]


def write_input(descriptor: str, fit: str = "epochs = 6", top: str = "", name: str = "in") -> Path:
    path = Path(f"{name}.toml")
    path.write_text(
        f'data = "data.extxyz"\ntest_fraction = 0\n{top}\ndescriptor = {descriptor}\n[fit]\nkind = "network"\n'
        f"n_neurons = [8]\n{fit}\n",
        encoding="utf-8",
    )
    return path


def trained(descriptor: str, fit: str = "epochs = 6", top: str = "", name: str = "in") -> Any:
    return modelfile.load(train(write_input(descriptor, fit, top, name), n_processes=1).model)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; every other atom is called silver."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", copper_and_silver())
    return tmp_path


def crystal() -> Atoms:
    """Copper and silver away from their sites, in a skewed cell."""
    atoms = bulk("Cu", cubic=True, a=3.7).repeat((2, 1, 1))
    atoms.numbers[::2] = 47
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.03, 0], [0, 1, 0.05], [0.01, 0, 1]]), scale_atoms=True)
    atoms.positions += np.random.default_rng(5).normal(0, 0.1, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("parts", MIXED, ids=NAMES)
@pytest.mark.parametrize("top", ["", 'baseline = { Cu = -3.5, Ag = "-3 eV" }'], ids=["free", "pinned"])
def test_the_gradient_of_the_loss_is_its_difference_quotient(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[str, str], top: str
) -> None:
    monkeypatch.setattr(embedded_fit, "_DTYPE", torch.float64)
    training = EmbeddedTraining(prepare(write_input(f"[{', '.join(parts)}]", top=top)), n_threads=2)
    assert_gradient_is_difference_quotient(training)


@pytest.mark.parametrize("parts", MIXED, ids=NAMES)
def test_the_loss_of_the_training_is_that_of_the_potential_that_is_written(parts: tuple[str, str]) -> None:
    source = write_input(f"[{', '.join(parts)}]", top="baseline = { Cu = -3.5, Ag = -2 }")
    result = train(source, n_processes=1)
    potential = modelfile.load(result.model)
    # steps are made in single precision, with splines in the place of embedding networks
    loss, _ = loss_by_prediction(source, result.model)
    assert modelfile.read_card(result.model)["loss"] == pytest.approx(loss, rel=1e-4)
    for symbol, energy in (("Cu", -3.5), ("Ag", -2.0)):
        atom = build_graph(Atoms(symbol, cell=[20, 20, 20], pbc=True), potential.cutoff)
        assert float(potential.predict(atom).energy) == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("parts", MIXED, ids=NAMES)
def test_forces_and_stress_are_derivatives_of_the_energy_which_turns_with_the_crystal(parts: tuple[str, str]) -> None:
    potential = trained(f"[{', '.join(parts)}]")
    evaluate, atoms = predictor(potential), crystal()

    def energy(moved: Atoms) -> float:
        return float(evaluate(moved).energy)

    found, generator, step = evaluate(atoms), np.random.default_rng(6), 1e-5
    along = generator.standard_normal(atoms.positions.shape)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * along
        ends.append(energy(moved))
    size = float(np.abs(found.forces).max())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-float((found.forces * along).sum()), abs=1e-5 * size)
    strain = generator.standard_normal((3, 3))
    strain, ends = strain + strain.T, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        ends.append(energy(moved))
    work = float((found.virial * strain).sum())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(work, abs=1e-5 * float(np.abs(found.virial).max()))
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3), rotate_cell=True)
    assert energy(turned[::-1]) == pytest.approx(found.energy, abs=1e-9)


@pytest.mark.parametrize("learned", [DEEPPOT, NEP], ids=["deeppot-se", "nep"])
def test_a_list_of_one_is_that_one(learned: str) -> None:
    alone, listed = trained(learned, name="alone"), trained(f"[{learned}]", name="listed")
    assert isinstance(listed.descriptor, Combined)
    numbers = {name.replace("parts.0.", ""): one for name, one in listed.state_dict().items()}
    assert numbers.keys() == alone.state_dict().keys()
    assert all(torch.equal(numbers[name], one) for name, one in alone.state_dict().items())


@pytest.mark.parametrize(
    ("parts", "fit"),
    [(MIXED[0], "epochs = 2"), (MIXED[1], "epochs = 2\npatience = 2")],
)
def test_every_state_that_is_kept_leads_to_the_same_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, str], fit: str
) -> None:
    source = write_input(f"[{', '.join(parts)}]", fit)
    check_every_state(source, place / "whole", monkeypatch, lambda n: (0, n // 2, n - 1), n_processes=2)


def test_only_what_is_learned_changes_and_that_of_a_model_does_not() -> None:
    before: Any = random_nep(("Cu", "Ag"))
    modelfile.save(before, Path("before.mlmd"))
    source = write_input(f'[{{ model = "before.mlmd" }}, {NEP}]')
    start: Any = prepare(source).potential.descriptor
    after: Any = modelfile.load(train(source, n_processes=1).model).descriptor  # type: ignore[attr-defined]
    kept, learned = after.parts
    assert all(torch.equal(one, kept.state_dict()[name]) for name, one in before.descriptor.state_dict().items())
    assert not torch.equal(learned.radial.coefficients, start.parts[1].radial.coefficients)


def test_a_trained_list_is_shown_described_and_evaluated() -> None:
    result = train(write_input(f"[{DEEPPOT}, {ACSF}]"), n_processes=1)
    assert mlmd("show", result.model).code == 0
    answer = mlmd("describe", "data.extxyz", "--model", result.model, "-o", "features.npz")
    assert answer.code == 0, answer.err
    answer = mlmd("evaluate", result.model, "data.extxyz", "--out", "evaluated")
    assert answer.code == 0, answer.err
    facts = json.loads(mlmd("check", "in.toml", "--json").out)["inputs"][0]
    potential: Any = modelfile.load(result.model)
    assert facts["n_linear"] == sum(one.numel() for one in potential.regressor.parameters()) + sum(
        one.numel() for one in potential.descriptor.parts[0].parameters()
    )


def test_a_network_of_a_list_has_the_defaults_of_its_first_learned_part() -> None:
    path = Path("in.toml")
    for descriptor, sizes in (('["acsf", "deeppot-se", "nep"]', (240, 240, 240)), ('["nep", "deeppot-se"]', (30,))):
        path.write_text(f'data = "data.extxyz"\ndescriptor = {descriptor}\nfit = "network"\n')
        fit: Any = load_train(path).fit
        assert (fit.n_neurons, fit.activation) == (sizes, "tanh")


@pytest.mark.parametrize(
    ("descriptor", "fit", "said"),
    [
        ('["acsf", "deeppot-se"]', '"linear"', "the embeddings of deeppot-se are learned by gradient descent together"),
        ('["nep", "soap"]', '"gap"', "the radial functions of nep are learned by gradient descent together"),
        ('["acsf", "nep"]', '{ kind = "network", optimiser = "kalman" }', "a Kalman filter holds the covariance"),
        ('["acsf", "nep"]', '{ kind = "network", members = 2 }', "are learned with one network only"),
        ('["acsf", "nep"]', '{ kind = "kernel-ridge", kernel = "rematch" }', 'cannot compare what "nep" gives'),
        ('{ kind = "average", of = ["acsf", "nep"] }', '"linear"', 'of: "nep" cannot be averaged'),
    ],
)
def test_what_does_not_go_together_is_refused(descriptor: str, fit: str, said: str) -> None:
    path = Path("in.toml")
    path.write_text(f'data = "data.extxyz"\ndescriptor = {descriptor}\nfit = {fit}\n')
    with pytest.raises(InputError) as caught:
        load_train(path)
    assert said in str(caught.value)


def test_embeddings_of_a_trained_list_do_not_go_into_another_fit() -> None:
    modelfile.save(trained(f"[{DEEPPOT}, {ACSF}]"), Path("learned.mlmd"))
    Path("other.toml").write_text('data = "data.extxyz"\ndescriptor = { model = "learned.mlmd" }\nfit = "gap"\n')
    with pytest.raises(InputError, match="were learned together with its network"):
        train(Path("other.toml"), n_processes=1)
