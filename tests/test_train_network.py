"""Training of networks: its gradient, that it continues to the same bits, and what single atoms have for energies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from kept_states import check_every_state, set_back
from made_data import copper_and_silver, strained, thermal
from training_checks import assert_gradient_is_difference_quotient, loss_by_prediction

from mlmd.descriptors import compiled, linearised
from mlmd.errors import InputError, SimulationError, StorageError
from mlmd.fitting.network import Network
from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import fused, modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train import adamw, checkpoint
from mlmd.train import preview as train_preview
from mlmd.train.job import prepare
from mlmd.train.network_fit import Training
from mlmd.train.network_loss import decorrelating, residuals, sensitivities
from mlmd.train.network_state import NetworkState, kept
from mlmd.train.preview import preview
from mlmd.train.run import train

DESCRIPTORS = {
    "acsf": 'kind = "acsf"\ncutoff = "4.5 Å"\nn_radial = 4\nn_angular = 1',
    "snap": 'kind = "snap"\ncutoff = "4 Å"\ntwojmax = 2',
    "mtp": 'kind = "mtp"\nlevel = 4\ncutoff = "4.5 Å"',
}


def write_input(folder: Path, fit: str = "", descriptor: str = "acsf", top: str = "") -> Path:
    path = folder / "in.toml"
    batch = "" if "l-bfgs" in fit else "batch = 3"
    fit = f'[fit]\nkind = "network"\nn_neurons = [5, 4]\n{batch}\n{fit or "epochs = 6"}\n'
    path.write_text(f'data = "data.extxyz"\n{top}\n[descriptor]\n{DESCRIPTORS[descriptor]}\n{fit}', encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; every other atom is called silver."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", copper_and_silver())
    return tmp_path


@pytest.mark.parametrize("baseline", ["", 'baseline = { Cu = -3.5, Ag = "-3 eV" }'])
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_the_gradient_of_the_loss_is_its_difference_quotient(
    place: Path, route: str, descriptor: str, baseline: str
) -> None:
    training = Training(prepare(write_input(place, descriptor=descriptor, top=baseline)), n_threads=2)
    assert_gradient_is_difference_quotient(training, away=0.1)


@pytest.mark.parametrize("baseline", ["", 'baseline = { Cu = -3.5, Ag = "-3 eV" }'])
def test_the_sensitivities_of_the_kalman_filter_are_difference_quotients(
    place: Path, route: str, baseline: str
) -> None:
    training = Training(prepare(write_input(place, top=baseline)), n_threads=1)
    generator = np.random.default_rng(3)
    weights = training.begin().weights
    weights = weights + 0.1 * generator.standard_normal(weights.shape)
    along = generator.standard_normal(weights.shape)
    sample = next(one for one in training.used if len(set(one.kinds.tolist())) == 2)
    rows = range(sample.n_rows)  # energy, forces and stress

    def at(step: float) -> tuple[np.ndarray, np.ndarray]:
        given = (training.network, sample, rows, training.scaling, training.alone, training.parameters)
        values, slopes = training._differentiably(weights + step * along, lambda: sensitivities(*given))
        whole = residuals(training.network, [sample], training.scaling, training.alone, differentiable=False)
        assert values.numpy() == pytest.approx(whole.numpy(), rel=1e-12)
        return values.numpy(), slopes.numpy()

    step = 1e-5
    quotient = (8 * (at(step)[0] - at(-step)[0]) - (at(2 * step)[0] - at(-2 * step)[0])) / (12 * step)
    expected = at(0.0)[1] @ along
    assert expected == pytest.approx(quotient, rel=1e-6, abs=1e-7 * float(np.abs(quotient).max()))


@pytest.mark.parametrize("optimiser", ["adamw", "kalman", "l-bfgs"])
def test_every_optimiser_lowers_the_loss(place: Path, optimiser: str) -> None:
    epochs = {"adamw": 60, "kalman": 8, "l-bfgs": 60}[optimiser]
    training = Training(prepare(write_input(place, f'optimiser = "{optimiser}"\nepochs = {epochs}')), n_threads=1)
    state = training.begin()
    before = training.loss(state.best, training.all)
    while not state.finished:
        state = training.after(state)
    assert training.loss(state.best, training.all) < before / 5


def test_one_wild_gradient_does_not_carry_the_weights_away() -> None:
    def trained(factor: float) -> np.ndarray:
        """The path of ten weights towards zero, with a gradient at step 200 that is larger by a factor."""
        generator = np.random.default_rng(2)
        weights = np.ones(10)
        memory, path = adamw.begin(weights), []
        for n in range(600):
            gradient = (weights + 0.3 * generator.standard_normal(10)) * (factor if n == 200 else 1)
            weights, memory = adamw.step(weights, memory, gradient, n_done=n, rate=1e-2, decay=np.zeros(10))
            path.append(weights)
        return np.array(path)

    usual, wild = trained(1.0), trained(1e4)
    assert wild[:200] == pytest.approx(usual[:200], abs=0)
    assert np.abs(wild - usual).max() < 0.1
    assert np.abs(wild[-200:] - usual[-200:]).max() < 0.03


def test_jacobians_beyond_what_may_be_kept_give_the_same_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", lambda: None)
    job = prepare(write_input(place))
    sizes = [
        linearised.jacobian_size(job.potential.descriptor, build_graph(one.atoms, job.potential.cutoff))
        for one in job.train
    ]
    found = {}
    for name, budget in (("all", sum(sizes)), ("half", sum(sizes) / 2), ("none", 0.0)):
        training = Training(prepare(write_input(place)), n_threads=1, jacobians=budget)
        held = sum(
            one.work._slopes.numel() * 8  # type: ignore[attr-defined]
            for one in training.all
            if hasattr(one.work, "_slopes")
        )
        assert held <= budget and (held > 0 or name == "none")
        found[name] = training.gradient(training.begin().weights, training.used)[1]
    # sums in another order
    assert found["half"] == pytest.approx(found["all"], rel=1e-9, abs=1e-12)
    assert found["none"] == pytest.approx(found["all"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_the_loss_is_that_of_what_the_potential_that_is_written_predicts(
    place: Path, route: str, descriptor: str
) -> None:
    # an independent way: the file is read again, its kernels predict, and residuals are those that the input defines
    source = write_input(place, descriptor=descriptor)
    result = train(source, n_processes=1)
    # the features of moment tensors are large numbers, of which digits are lost
    expected, _ = loss_by_prediction(source, result.model)
    assert modelfile.read_card(result.model)["loss"] == pytest.approx(expected, rel=1e-8)
    assert modelfile.read_card(result.model)["epochs"] == 6


@pytest.mark.parametrize(
    "fit",
    [
        "epochs = 6",
        "epochs = 6\npatience = 6",
        'epochs = 6\noptimiser = "kalman"\ncomponents = 5\npatience = 6',
        'epochs = 25\noptimiser = "l-bfgs"',
        "epochs = 3\nmembers = 3\nbootstrap = true",
        'epochs = 9\noptimiser = "l-bfgs"\nmembers = 3\npatience = 8',
    ],
)
def test_every_state_that_is_kept_leads_to_the_same_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    _, states = check_every_state(
        write_input(place, fit), place / "whole", monkeypatch, lambda n: (0, 7, 13, n - 1), n_processes=2
    )
    assert len(states) > 20


def test_a_training_that_is_stopped_keeps_what_was_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_input(place)
    whole = train(source, place / "whole", n_processes=1)
    after, n_calls = Training.after, 0

    def interrupted(self: Training, state: NetworkState) -> NetworkState:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 9:
            raise KeyboardInterrupt
        return after(self, state)

    monkeypatch.setattr(Training, "after", interrupted)
    with pytest.raises(Exception, match="every part that was done is kept"):
        train(source, place / "stopped", n_processes=1)
    key = json.loads((place / "stopped" / "train.json").read_text())["digest"]
    state = kept(place / "stopped", key)
    assert state is not None and state.n_steps == 8
    assert train(source, place / "stopped", n_processes=1).model.read_bytes() == whole.model.read_bytes()


def test_a_damaged_state_is_refused_by_name(place: Path) -> None:
    source = write_input(place)
    result = train(source, n_processes=1)
    content = (result.path / checkpoint.FILE).read_bytes()
    set_back(result.path, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors is damaged"):
        train(source, n_processes=1)


def test_a_state_that_joins_the_histories_of_members_is_refused_and_without_it_the_fit_begins_anew(place: Path) -> None:
    source = write_input(place, "epochs = 3\nmembers = 3")
    result = train(source, n_processes=1)
    expected = result.model.read_bytes()
    set_back(result.path)
    key = json.loads((result.path / "train.json").read_text())["digest"]
    found = checkpoint.read_numbers(result.path, lambda arrays, numbers: (arrays, numbers), key)
    assert found is not None
    arrays, numbers = found
    assert [len(history) for history in numbers["earlier"]] == [3, 3]
    numbers["earlier"] = [loss for history in numbers["earlier"] for loss in history]
    checkpoint.write_numbers(result.path, arrays, numbers, key)
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors was kept by another version of mlmd\. Remove it"):
        train(source, n_processes=1)
    (result.path / checkpoint.FILE).unlink()
    assert train(source, n_processes=1).model.read_bytes() == expected


def test_patience_ends_a_training_and_the_best_average_is_what_is_kept(place: Path) -> None:
    # with hardly any steps of a useful size, noise soon makes an epoch no better than the one before
    source = write_input(place, "epochs = 400\npatience = 3\nlearning_rate = 0.5")
    training = Training(prepare(source), n_threads=1)
    state = training.begin()
    while not state.finished:
        state = training.after(state)
    best = int(np.argmin(state.held_out))
    assert len(state.held_out) == best + 1 + 3 < 400
    assert training.loss(state.best, training.apart) == state.held_out[best]
    apart = {id(sample) for sample in training.apart}
    assert apart and not apart & {id(sample) for sample in training.used}


@pytest.mark.parametrize("ema", [0.0, 0.6])
def test_what_is_written_is_the_moving_average_of_the_weights(place: Path, ema: float) -> None:
    source = write_input(place, f"epochs = 10\nema = {ema}")
    training = Training(prepare(source), n_threads=1)
    state = training.begin()
    begun, weights = state.average, []
    while not state.finished:
        state = training.after(state)
        weights.append(state.weights)
    # a sum over all steps: each counts (1 - kept) at first, and kept of that at every later step
    kept = [min(ema, n / (n + 9)) for n in range(1, len(weights) + 1)]
    assert (kept[-1] == ema) and len(kept) == 10 * training.n_batches
    parts = [(1 - kept[n]) * float(np.prod(kept[n + 1 :])) for n in range(len(kept))]
    expected = sum(part * one for part, one in zip(parts, weights, strict=True)) + float(np.prod(kept)) * begun
    assert state.best == pytest.approx(expected, rel=1e-9, abs=1e-12)
    potential = modelfile.load(train(source, n_processes=1).model)
    assert isinstance(potential, LearnedPotential) and isinstance(potential.regressor, Network)
    training.finish(state)
    assert potential.regressor.output.numpy() == pytest.approx(training.network.output.numpy(), rel=1e-9)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_an_isolated_atom_has_the_energy_of_the_baseline_that_is_given(place: Path, descriptor: str) -> None:
    source = write_input(place, descriptor=descriptor, top='baseline = { Cu = "-3.5 eV", Ag = "-2 eV" }')
    potential = modelfile.load(train(source, n_processes=1).model)
    for symbol, energy in (("Cu", -3.5), ("Ag", -2.0)):
        atom = Atoms(symbol, cell=[20, 20, 20], pbc=True)
        said = float(potential.predict(build_graph(atom, potential.cutoff)).energy)
        assert said == pytest.approx(energy, abs=1e-9)


def test_a_feature_that_does_not_vary_has_no_weights(place: Path) -> None:
    # no atom of the data has such neighbours: what it would do to the energy is not known
    frames = read_labelled(place / "data.extxyz")
    write_labelled(place / "data.extxyz", [frames[0], *(frame for frame in strained(8))])
    source = write_input(place, top='elements = ["Cu"]')
    training = Training(prepare(source), n_threads=1)
    rows = torch.cat([sample.work.values for sample in training.all])
    widened = torch.cat([rows, torch.full((len(rows), 1), 3.0, dtype=torch.float64)], dim=1)
    scaling = decorrelating(widened, torch.zeros(len(rows), dtype=torch.long), 1)
    assert not scaling.axes[0, -1].any()
    assert scaling.axes[0, :-1].any(dim=1).all()


def test_a_training_whose_numbers_are_not_finite_is_given_up(place: Path) -> None:
    frames = [replace(frame, energy=1e200) for frame in read_labelled(place / "data.extxyz")]
    job = prepare(write_input(place))
    with pytest.raises(SimulationError, match="smaller learning_rate"):
        training = Training(replace(job, problem=replace(job.problem, frames=tuple(frames))), n_threads=1)
        training.after(training.begin())


def test_wrong_settings_are_refused_and_nothing_is_written(place: Path) -> None:
    for fit, said in (
        ("n_neurons = []", "n_neurons"),
        ("n_neurons = [0]", "n_neurons"),
        ('activation = "tahn"', "Did you mean 'tanh'?"),
        ("learning_rate = 0", "learning_rate"),
        ("ema = 1", "ema"),
        ("patience = 0", "patience"),
        ("epoch = 5", "Did you mean 'epochs'?"),
        ('radial = "plain"', "'radial' is not an option"),
        ('optimiser = "adam"', "optimiser"),
        ('optimiser = "kalman"\nlearning_rate = 0.1', "learning_rate: kalman has no use for it"),
        ('optimiser = "l-bfgs"\nema = 0.9', "ema: l-bfgs has no use for it"),
        ("components = 5", "components: adamw has no use for it"),
        ("members = 0", "members"),
    ):
        source = write_input(place, fit)
        if fit.startswith("n_neurons"):
            source.write_text(source.read_text().replace("n_neurons = [5, 4]\n", ""))
        with pytest.raises(InputError) as caught:
            train(source, n_processes=1)
        assert said in str(caught.value)
        assert not (place / "in.run").exists()
    write_labelled(place / "data.extxyz", thermal(7, repeat=1))
    with pytest.raises(InputError, match="patience: a tenth of the"):
        train(write_input(place, "patience = 5"), n_processes=1)
    assert not (place / "in.run").exists()


def test_a_check_counts_the_weights_and_writes_nothing(place: Path) -> None:
    source = write_input(place, "epochs = 70")
    before = sorted(place.iterdir())
    found = preview(source)
    potential = prepare(source).potential
    assert found.n_linear == sum(one.numel() for one in potential.parameters())
    assert (found.max_iterations, found.n_radial) == (70, 0)
    assert found.hours == pytest.approx(70 * found.seconds_per_iteration / 3600)
    assert found.step == "epoch" and found.n_members == 1
    assert sorted(place.iterdir()) == before


def test_a_check_knows_committees_and_what_an_optimiser_needs(place: Path) -> None:
    single = preview(write_input(place, "epochs = 70"))
    several = preview(write_input(place, 'epochs = 70\nmembers = 3\noptimiser = "l-bfgs"'))
    assert several.n_linear == 3 * single.n_linear and several.n_members == 3 and several.step == "iteration"
    assert several.hours == pytest.approx(3 * 70 * several.seconds_per_iteration / 3600)


def test_a_check_says_what_jacobians_take_and_that_kernels_are_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_input(place)
    assert not any("Jacobians" in note or "kernels are" in note for note in preview(source).notes)
    for module in (compiled, fused):
        monkeypatch.setattr(module, "library", lambda: None)
    monkeypatch.setattr(train_preview, "JACOBIANS", 1e3)
    notes = preview(source).notes
    assert any("are not kept but taken anew for every step" in note for note in notes)
    assert any(note.startswith("kernels are ") for note in notes)
