"""Spread of forces and grade of extrapolation: against Bayes by brute force, against errors that were made, in runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from command_line import mlmd
from made_data import label, strained, thermal
from runs import assert_same_run, read_log, run_in_parts
from runs import write_input as write_run

from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_sets import evenly_spaced
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError
from mlmd.fitting.network import Network
from mlmd.fitting.random_features import RandomFeatures
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.kernels import library
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.pair import LennardJones
from mlmd.potentials.uncertainty import Judge, knows, linear_in_parameters, predict
from mlmd.rundir import MESSAGES
from mlmd.train.calibration import calibration, calibration_figure
from mlmd.train.job import Job, prepare
from mlmd.train.run import train

DESCRIPTORS = {
    "acsf": 'kind = "acsf"\ncutoff = "4.5 Å"\nn_radial = 4\nn_angular = 2',
    "mtp": 'kind = "mtp"\nlevel = 6\ncutoff = "4.5 Å"\nn_chebyshev = 4',
}
HOT = 'kind = "nvt"\ntemperature = "300 K"\nduration = "0.2 ps"'
OUTPUT = 'log_every = "10 fs"\ntrajectory_every = "50 fs"\nspread_every = "20 fs"\ntrajectory_format = "extxyz"'


def write_input(folder: Path, descriptor: str, fit: str, more: str = "", name: str = "in") -> Path:
    folder.mkdir(exist_ok=True)
    write_labelled(folder / "data.extxyz", [*thermal(9, amplitude=0.08), *strained(5)])
    path = folder / f"{name}.toml"
    text = f'data = "data.extxyz"\ntest_fraction = 0.2\n[descriptor]\n{DESCRIPTORS[descriptor]}\n[fit]\n{fit}\n{more}\n'
    path.write_text(text, encoding="utf-8")
    return path


def trained(folder: Path, *arguments: str) -> tuple[LearnedPotential, Job, Path]:
    """A potential that was trained on copper, the job of it, and its file."""
    path = write_input(folder, *arguments)
    with pytest.MonkeyPatch.context() as patch:  # several blocks of environments, as in a large training set
        patch.setattr("mlmd.train.uncertainty._LEAST_BLOCK", 40)
        result = train(path, folder / "training", n_processes=1)
    potential = modelfile.load(result.model)
    assert isinstance(potential, LearnedPotential)
    return potential, prepare(path), result.model


@pytest.fixture(scope="module")
def gap(tmp_path_factory: pytest.TempPathFactory) -> tuple[LearnedPotential, Job, Path]:
    """A sparse Gaussian process of 12 points, which has a spread and a grade."""
    return trained(tmp_path_factory.mktemp("gap"), "acsf", 'kind = "gap"\nn_sparse = 12\namplitude = "1 eV"')


@pytest.fixture(scope="module")
def mtp(tmp_path_factory: pytest.TempPathFactory) -> tuple[LearnedPotential, Job, Path]:
    """A moment tensor potential, which has a grade."""
    return trained(tmp_path_factory.mktemp("mtp"), "mtp", 'radial = "plain"')


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[LearnedPotential, Job, Path]:
    """A network of two layers, which has a spread by its last one and a grade."""
    fit = 'kind = "network"\nn_neurons = [8, 6]\nepochs = 40\nbatch = 4'
    return trained(tmp_path_factory.mktemp("network"), "acsf", fit)


def columns_by_prediction(potential: LearnedPotential, frame: LabelledFrame) -> np.ndarray:
    """(1 + 3 n_atoms + 6, n_parameters): what is predicted, with one parameter one and all others zero each."""
    n_atoms, expansion = len(frame.atoms), potential.expansion
    graph = build_graph(frame.atoms, potential.cutoff)
    columns = []
    before = expansion.coefficients.clone(), expansion.constants.clone()
    for parameters in (expansion.coefficients, expansion.constants):
        for index in range(len(parameters)):
            expansion.coefficients.zero_()
            expansion.constants.zero_()
            parameters[index] = 1.0
            said = potential.predict(graph)
            stress = said.stress[0].numpy()[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
            columns.append(np.concatenate([said.energy.numpy() / n_atoms, said.forces.numpy().ravel(), stress]))
    expansion.coefficients.copy_(before[0])
    expansion.constants.copy_(before[1])
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("kind", ["gap", "network"])
def test_the_spread_of_a_process_and_of_a_last_layer_is_that_of_bayesian_regression_by_brute_force(
    kind: str, request: pytest.FixtureRequest
) -> None:
    judged, job, _ = request.getfixturevalue(kind)
    potential = linear_in_parameters(judged)
    expansion, sigma = potential.expansion, job.problem.sigma
    prior = expansion.prior().numpy()
    precision = np.zeros((expansion.n_basis + 1,) * 2)
    precision[:-1, :-1] = prior.T @ prior
    for frame in job.train:
        sigmas = [sigma.energy, *[sigma.forces] * (3 * len(frame.atoms)), *[sigma.stress] * 6]
        rows = columns_by_prediction(potential, frame) / np.array(sigmas)[:, None]
        precision += rows.T @ rows
    covariance = np.linalg.inv(precision)
    for atoms in (thermal(1, seed=7)[0].atoms, thermal(1, seed=8, amplitude=0.3)[0].atoms):
        rows = columns_by_prediction(potential, LabelledFrame(atoms, None, None, None, "", "new"))[1:-6]
        variance = np.einsum("ia,ab,ib->i", rows, covariance, rows).reshape(-1, 3)
        spread = Judge(judged)(atoms, ("spread",)).spread
        assert spread is not None
        # the inverse of the precision is known to its condition number, about 1e9, times rounding
        expected = potential.calibration * np.sqrt(variance.mean(axis=1))
        assert spread.numpy() == pytest.approx(expected, rel=1e-5)


def test_energies_of_single_atoms_that_are_given_are_no_unknowns_of_a_spread(tmp_path: Path) -> None:
    fit = 'kind = "network"\nn_neurons = [8, 6]\nepochs = 10'
    judged, job, _ = trained(tmp_path, "acsf", fit, "[baseline]\nenergies = { Cu = -3.5 }")
    potential, sigma = linear_in_parameters(judged), job.problem.sigma
    n_basis = potential.expansion.n_basis
    atom = LabelledFrame(Atoms("Cu", cell=[20, 20, 20], pbc=True), None, None, None, "", "one")
    of_atom = columns_by_prediction(potential, atom)[0, :n_basis]
    prior = potential.expansion.prior().numpy()
    precision = prior.T @ prior
    for frame in job.train:
        sigmas = [sigma.energy, *[sigma.forces] * (3 * len(frame.atoms)), *[sigma.stress] * 6]
        rows = columns_by_prediction(potential, frame)[:, :n_basis]
        rows[0] -= of_atom  # the constant is -3.5 eV less what the network says of a single atom
        rows /= np.array(sigmas)[:, None]
        precision += rows.T @ rows
    atoms = thermal(1, seed=7)[0].atoms
    rows = columns_by_prediction(potential, LabelledFrame(atoms, None, None, None, "", "new"))[1:-6, :n_basis]
    variance = np.einsum("ia,ab,ib->i", rows, np.linalg.inv(precision), rows).reshape(-1, 3)
    spread = Judge(judged)(atoms, ("spread",)).spread
    assert spread is not None
    expected = potential.calibration * np.sqrt(variance.mean(axis=1))
    assert spread.numpy() == pytest.approx(expected, rel=1e-5)


def test_errors_of_data_from_the_prior_are_as_large_as_their_spread() -> None:
    functions = evenly_spaced(("Cu",), "4.5 Å", n_radial=4, n_angular=2)
    random = RandomFeatures(n_features=len(functions), n_random=30, amplitude=0.5)
    potential = LearnedPotential(Symmetry(elements=("Cu",), functions=functions), random)
    frames = thermal(7, amplitude=0.15)
    features = torch.cat([potential.descriptor.features(build_graph(one.atoms, 4.5)) for one in frames])
    random.standardise(features)
    random.randomise(torch.Generator().manual_seed(3))
    *seen, new = (potential.design(build_graph(one.atoms, 4.5)).forces[..., :30].flatten(0, 1) for one in frames)
    sigma, generator = 0.02, np.random.default_rng(4)
    rows, asked = torch.cat(seen).numpy() / sigma, new.numpy()
    precision = rows.T @ rows + np.eye(30)
    random.set_factor(torch.linalg.qr(torch.from_numpy(np.concatenate([rows, np.eye(30)])), mode="r").R)
    spread = Judge(potential)(frames[-1].atoms).spread
    assert spread is not None
    truth = generator.standard_normal((30, 2000))
    found = np.linalg.solve(precision, rows.T @ (rows @ truth + generator.standard_normal((len(rows), 2000))))
    errors = (asked @ (found - truth)).T.reshape(2000, -1, 3)
    squares = (errors**2).mean(axis=2) / spread.numpy() ** 2
    # 2000 draws of three components or fewer that are independent: 3 % at most
    assert squares.mean(axis=0) == pytest.approx(np.ones(len(spread)), rel=0.12)
    seen_by = calibration(np.tile(spread.numpy(), 2000), errors.reshape(-1, 3))
    assert seen_by is not None and seen_by.factor == pytest.approx(1.0, abs=0.03)
    # components of one atom have different variances, so that coverage is a little above the normal one
    assert seen_by.within_one == pytest.approx(0.69, abs=0.03)


@pytest.mark.parametrize("name", ["gap", "mtp"])
def test_no_training_environment_extrapolates_and_a_squeezed_crystal_does(
    name: str, request: pytest.FixtureRequest
) -> None:
    potential, job, _ = request.getfixturevalue(name)
    judge = Judge(potential)
    grades = torch.cat([judge(frame.atoms, ("grade",)).grade for frame in job.train])
    # the tolerance of the selection is 1e-3; some environments are the active set itself
    assert float(grades.max()) <= 1 + 1.1e-3
    assert float(grades.max()) == pytest.approx(1.0, abs=1.1e-3)
    for change in (0.85, 1.2):
        atoms = bulk("Cu", cubic=True, a=3.6 * change)
        found = judge(atoms, ("grade",)).grade
        assert found is not None and float(found.min()) > 2, change


def test_spread_and_grade_are_the_same_bits_after_saving_and_loading(
    gap: tuple[LearnedPotential, Job, Path], tmp_path: Path
) -> None:
    potential, _, file = gap
    modelfile.save(potential, tmp_path / "again.mlmd")
    atoms = thermal(1, seed=7)[0].atoms
    first = Judge(potential)(atoms)
    assert first.spread is not None and first.grade is not None
    for path in (file, tmp_path / "again.mlmd"):
        other = Judge(modelfile.load(path))(atoms)
        assert torch.equal(first.spread, other.spread) and torch.equal(first.grade, other.grade)
    single = modelfile.load(file, precision="float32")
    rounded = Judge(single)(atoms)
    assert isinstance(single, LearnedPotential) and next(single.parameters()).dtype == torch.float32
    assert torch.equal(single.expansion.factor, potential.expansion.factor)  # type: ignore[arg-type]
    assert torch.equal(single.inverses, potential.inverses)  # type: ignore[arg-type]
    assert rounded.spread is not None and rounded.spread.dtype == torch.float64
    # points and scales in single precision; the covariance and the active sets are not rounded
    assert rounded.spread.numpy() == pytest.approx(first.spread.numpy(), rel=1e-3)
    assert rounded.grade.numpy() == pytest.approx(first.grade.numpy(), rel=1e-3)


def test_two_descriptors_keep_their_spread_and_constants_that_data_leave_open_have_no_part_in_it(
    tmp_path: Path,
) -> None:
    frames = []
    for number in range(8):  # of one composition: the constants of the two elements are never told apart
        atoms = bulk("Cu", cubic=True, a=3.8).repeat((2, 1, 1))
        atoms.symbols[[0, 2, 5, 7]] = "Au"
        atoms.positions += np.random.default_rng(number).normal(0, 0.12, (8, 3))
        frames.append(label(atoms, f"alloy.xyz@{number}"))
    write_labelled(tmp_path / "data.extxyz", frames)
    (tmp_path / "in.toml").write_text(
        'data = "data.extxyz"\ntest_fraction = 0.25\n[[descriptor]]\nkind = "acsf"\ncutoff = "4.5 Å"\nn_radial = 4\n'
        'n_angular = 0\n[[descriptor]]\nkind = "soap"\ncutoff = "4 Å"\nn_max = 3\nl_max = 2\n'
        '[fit]\nkind = "gap"\nn_sparse = 10\nregularisation = "evidence"\n',
        encoding="utf-8",
    )
    potential = modelfile.load(train(tmp_path / "in.toml", tmp_path / "run", n_processes=1).model)
    assert isinstance(potential, LearnedPotential) and set(knows(potential)) == {"spread", "grade"}
    expansion = potential.expansion
    assert expansion.factor is not None
    n = expansion.n_basis
    # of constants that may be anything, rows are left of what those cannot explain
    basis, sizes, _ = torch.linalg.svd(expansion.factor[:, n:], full_matrices=False)
    basis = basis[:, sizes > 1e-3 * sizes[0]]
    assert basis.shape[1] == 1
    rest = torch.linalg.qr(expansion.factor[:, :n] - basis @ (basis.T @ expansion.factor[:, :n]), mode="r").R
    rows = potential.design(build_graph(frames[0].atoms, potential.cutoff)).forces[..., :n].flatten(0, 1)
    expected = torch.linalg.vector_norm(torch.linalg.solve_triangular(rest.T, rows.T, upper=False), dim=0)
    # the condition of the whole is 1e10
    np.testing.assert_allclose(expansion.deviations(rows), expected, rtol=1e-6)


def test_potentials_without_a_factor_know_nothing_of_their_errors_and_their_files_are_as_before(tmp_path: Path) -> None:
    functions = evenly_spaced(("Cu",), "4.5 Å", n_radial=4, n_angular=2)
    descriptor = Symmetry(elements=("Cu",), functions=functions)
    potential = LearnedPotential(descriptor, RandomFeatures(n_features=len(functions), n_random=5))
    assert set(potential.spec()) == {"kind", "descriptor", "regressor"}
    assert not [name for name in potential.state_dict() if name in ("regressor.factor", "inverses")]
    modelfile.save(potential, tmp_path / "old.mlmd")
    old = modelfile.load(tmp_path / "old.mlmd")
    assert knows(old) == ()
    found = Judge(old)(bulk("Cu"))
    assert found.spread is None and found.grade is None


class Members(torch.nn.Module):
    """Networks whose mean is the energy."""

    accepts = ("atom",)

    def __init__(self, n_features: int, n_members: int) -> None:
        super().__init__()
        self.n_features = n_features
        networks = [Network(n_features=n_features, n_neurons=(5,), n_kinds=1) for _ in range(n_members)]
        for seed, one in enumerate(networks):
            one.randomise(torch.Generator().manual_seed(seed))
        self.members = torch.nn.ModuleList(networks)

    def energies(self, features: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        return torch.stack([one.energies(features, kinds) for one in self.members]).mean(dim=0)  # type: ignore[operator]


def test_the_spread_of_a_committee_is_the_standard_deviation_of_its_forces() -> None:
    functions = evenly_spaced(("Cu",), "4.5 Å", n_radial=4, n_angular=2)
    descriptor = Symmetry(elements=("Cu",), functions=functions)
    committee = Members(len(functions), 4)
    potential = LearnedPotential(descriptor, committee, calibration=1.5)  # type: ignore[arg-type]
    atoms = thermal(1)[0].atoms
    graph = build_graph(atoms, 4.5)
    forces = np.stack([LearnedPotential(descriptor, one).predict(graph).forces.numpy() for one in committee.members])  # type: ignore[arg-type]
    expected = 1.5 * np.sqrt(np.sum((forces - forces.mean(axis=0)) ** 2, axis=0).mean(axis=1) / 3)
    assert knows(potential) == ("spread",)
    found = predict(potential, atoms)
    assert found.spread is not None and found.grade is None
    assert found.spread.numpy() == pytest.approx(expected, rel=1e-9)
    assert found.forces.numpy() == pytest.approx(forces.mean(axis=0), abs=1e-10)


def test_a_sum_is_as_sure_as_its_learned_part(gap: tuple[LearnedPotential, Job, Path]) -> None:
    potential, _, _ = gap
    pair = LennardJones(epsilon="0.01 eV", sigma="2.3 Å", cutoff="4 Å")
    atoms = thermal(1)[0].atoms
    alone, both = Judge(potential)(atoms), Judge(Sum([pair, potential]))(atoms)
    twice = Judge(Sum([potential, potential]))(atoms)
    assert knows(Sum([pair, potential])) == ("spread", "grade") and knows(Sum([pair])) == ()
    assert alone.spread is not None and both.spread is not None and twice.spread is not None
    assert both.spread.numpy() == pytest.approx(alone.spread.numpy(), rel=1e-14)
    assert twice.spread.numpy() == pytest.approx(np.sqrt(2) * alone.spread.numpy(), rel=1e-14)
    assert torch.equal(both.grade, alone.grade) and torch.equal(twice.grade, alone.grade)  # type: ignore[arg-type]


def test_a_calibration_counts_errors_in_units_of_their_spread() -> None:
    spread = np.array([0.1, 0.1, 0.2, 1e-17])
    errors = np.array([[0.1, 0.0, -0.1], [0.3, 0.0, 0.0], [0.0, 0.2, np.nan], [1e-16, 0.0, 0.0]])
    found = calibration(spread, errors)
    assert found is not None
    # without the unknown one and the one whose force is zero by symmetry: z² are 1 0 1 and 9 0 0
    assert found.n_atoms == 2 and found.factor == pytest.approx(np.sqrt(11 / 6))
    assert found.within_two == pytest.approx(5 / 6)
    assert sum(one.n_atoms for one in found.bins) == 2
    assert calibration(spread[-1:], errors[-1:] * np.nan) is None


def test_a_picture_of_a_calibration_has_the_same_numbers_on_both_axes() -> None:
    spread = np.geomspace(0.01, 0.1, 500)
    found = calibration(spread, np.full((500, 3), 0.04))
    assert found is not None
    (axes,) = calibration_figure(found, "made").axes
    assert axes.get_xlim() == axes.get_ylim() and axes.get_aspect() == 1.0
    drawn = np.concatenate([np.ravel(line.get_data()) for line in axes.lines])
    low, high = axes.get_xlim()
    assert low <= drawn.min() and drawn.max() <= high


def test_forces_held_at_zero_by_symmetry_do_not_calibrate_a_spread() -> None:
    # as of crystals in the data: labels are known to 0.1 meV/Å there, and the potential is as symmetric as they are
    generator = np.random.default_rng(2)
    spread = generator.uniform(0.2, 2.0, 3000)
    errors = 0.07 * spread[:, None] * generator.standard_normal((3000, 3))
    still, rounding = generator.uniform(1e-6, 5e-5, 2000), 1e-4 * generator.standard_normal((2000, 3))
    found = calibration(np.concatenate([still, spread]), np.concatenate([rounding, errors]))
    assert found is not None
    assert found.factor == pytest.approx(0.07, rel=0.03)
    assert (found.n_atoms, found.n_without) == (3000, 2000)
    assert "2,000 whose forces are zero by symmetry are left out" in found.text()
    # nor is anything left out where all errors are small
    small = calibration(1e-6 * spread, 1e-6 * errors)
    assert small is not None and (small.n_atoms, small.factor) == (3000, pytest.approx(0.07, rel=0.03))


def test_a_few_errors_that_the_spread_knows_nothing_of_do_not_calibrate_it() -> None:
    # as of copper by a Gaussian process: a part of the error is the descriptor's, and is there where the spread is not
    generator = np.random.default_rng(3)
    spread = np.concatenate([np.full(100, 0.02), generator.uniform(0.2, 2.0, 3000)])
    expected = np.concatenate([np.full(100, 0.05), 0.07 * spread[100:]])
    errors = expected[:, None] * generator.standard_normal((3100, 3))
    found = calibration(spread, errors)
    assert found is not None and found.n_without == 0
    assert math.sqrt(float(np.mean((errors / spread[:, None]) ** 2))) > 6 * 0.07
    # one bin of ten holds them, and is twice too high there: 2^(1/10)
    assert found.factor == pytest.approx(0.07, rel=0.1)
    again = calibration(found.factor * spread, errors)
    assert again is not None and again.factor == pytest.approx(1.0, rel=1e-9)
    assert again.within_one == pytest.approx(0.683, abs=0.03)


def test_training_scales_the_spread_by_the_errors_of_the_test_set_and_says_so(
    gap: tuple[LearnedPotential, Job, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    potential, job, file = gap
    told = modelfile.read_card(file)["uncertainty"]
    assert told["spread"]["factor"] == potential.calibration and "test set" in told["spread"]["calibrated with"]
    write_labelled(tmp_path / "test.extxyz", job.test)
    monkeypatch.chdir(tmp_path)
    answer = mlmd("evaluate", str(file), "test.extxyz", "--out", "errors", "--json")
    found = json.loads(answer.out)["calibration"]
    assert found["factor"] == pytest.approx(1.0, abs=1e-9)
    assert (tmp_path / "errors" / "calibration.png").stat().st_size > 5000
    assert "times the spread" in mlmd("evaluate", str(file), "test.extxyz").out
    assert "calibration" not in json.loads(mlmd("evaluate", str(file), "test.extxyz", "--no-spread", "--json").out)
    assert "grade of extrapolation" in mlmd("show", str(file)).out


def test_evaluate_tells_which_structures_are_outside_of_what_was_learned(
    mtp: tuple[LearnedPotential, Job, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    potential, job, file = mtp
    pressed = job.train[0].atoms.copy()
    pressed.set_cell(0.8 * pressed.cell, scale_atoms=True)
    strange = replace(job.train[0], atoms=pressed)
    write_labelled(tmp_path / "known.extxyz", job.train)
    write_labelled(tmp_path / "mixed.extxyz", [job.train[1], strange, job.train[2]])
    monkeypatch.chdir(tmp_path)
    assert "no structure is above 2" in mlmd("evaluate", str(file), "known.extxyz").out
    known = json.loads(mlmd("evaluate", str(file), "known.extxyz", "--json").out)["grade"]
    assert known["largest"] <= 1.001 and known["structures above 2"] == 0
    told = mlmd("evaluate", str(file), "mixed.extxyz", "--out", "out", "--predictions").out
    assert "1 of 3 structures, 1 of them above 10: mixed.extxyz@1\n" in told
    mixed = json.loads((tmp_path / "out" / "errors.json").read_text())["grade"]
    grades = Judge(potential)(pressed).grade
    assert grades is not None and grades.max() > 10
    assert mixed["largest"] == pytest.approx(float(grades.max()), rel=1e-4)  # positions have eight digits
    assert mixed["largest in"] == "mixed.extxyz@1"
    assert (mixed["structures above 2"], mixed["structures above 10"]) == (1, 1)
    written = ase.io.read(tmp_path / "out" / "predictions.extxyz", index=1).arrays["grade"]
    assert written == pytest.approx(grades.numpy(), rel=1e-4)
    assert "rade" not in mlmd("evaluate", str(file), "mixed.extxyz", "--no-grade").out


def test_without_a_test_set_nothing_is_calibrated_and_what_is_not_wanted_is_not_kept(tmp_path: Path) -> None:
    text = write_input(tmp_path, "acsf", 'kind = "random-features"\nn_random = 20', "[uncertainty]\ngrade = false")
    text.write_text(text.read_text().replace("test_fraction = 0.2", "test_fraction = 0.0"))
    file = train(text, tmp_path / "training", n_processes=1).model
    potential = modelfile.load(file)
    assert knows(potential) == ("spread",)
    assert isinstance(potential, LearnedPotential) and potential.calibration == 1.0
    assert modelfile.read_card(file)["uncertainty"]["spread"]["calibrated with"].startswith("nothing")


def test_a_linear_potential_has_a_spread_where_it_is_asked_for(tmp_path: Path) -> None:
    potential, _, _ = trained(
        tmp_path, "mtp", 'radial = "optimise"\nmax_iterations = 2', "[uncertainty]\nspread = true"
    )
    assert knows(potential) == ("spread", "grade")
    spreads = [Judge(potential)(one.atoms).spread for one in thermal(2, seed=8)]
    assert all(one is not None and bool((one > 0).all()) for one in spreads)


def test_one_network_is_less_sure_of_what_is_less_like_its_data(
    network: tuple[LearnedPotential, Job, Path],
) -> None:
    potential, _, _ = network
    assert knows(potential) == ("spread", "grade")
    spreads = [Judge(potential)(thermal(1, seed=8, amplitude=one)[0].atoms).spread for one in (0.08, 0.2, 0.4)]
    means = [float(one.mean()) for one in spreads if one is not None]
    assert len(means) == 3 and 0 < 1.5 * means[0] < means[1] and 1.5 * means[1] < means[2]


def test_a_learned_descriptor_without_a_kernel_has_the_spread_of_its_network_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    path = write_input(tmp_path, "acsf", 'kind = "network"\nn_neurons = [4]\nepochs = 1')
    small = 'kind = "deeppot-se"\ncutoff = "4.5 Å"\nn_neurons = [2, 4]\nn_axes = 2'
    text = path.read_text().replace(DESCRIPTORS["acsf"], small)
    for wanted, known in (("auto", ("grade",)), (True, ("spread", "grade"))):
        path.write_text(f"{text}[uncertainty]\nspread = {json.dumps(wanted)}\n")
        potential = modelfile.load(train(path, tmp_path / str(wanted), n_processes=1).model)
        assert knows(potential) == known
    spread = Judge(potential)(thermal(1, seed=8)[0].atoms).spread
    assert spread is not None and bool((spread > 0).all())


def test_the_covariance_of_a_network_stays_in_double_precision_and_is_left_out_where_it_is_not_wanted(
    network: tuple[LearnedPotential, Job, Path], tmp_path: Path
) -> None:
    potential, _, file = network
    single = modelfile.load(file).to(torch.float32)
    assert single.regressor.output.dtype == torch.float32 and single.regressor.factor.dtype == torch.float64
    assert torch.equal(single.regressor.factor, potential.regressor.factor)
    fit = 'kind = "network"\nepochs = 1'
    without, _, _ = trained(tmp_path, "acsf", fit, "[uncertainty]\nspread = false")
    assert knows(without) == ("grade",)


def test_a_network_that_is_too_wide_for_a_spread_says_so(tmp_path: Path) -> None:
    path = write_input(
        tmp_path, "acsf", 'kind = "network"\nn_neurons = [2, 1000]\nepochs = 1', "[uncertainty]\ngrade = false"
    )
    told: list[str] = []
    result = train(path, tmp_path / "run", n_processes=1, tell=told.append)
    assert knows(modelfile.load(result.model)) == ()
    assert any("no spread of forces is kept: the last layer has 1,000 neurons" in one for one in told)


def test_a_process_of_all_labels_is_not_asked_how_sure_it_is(tmp_path: Path) -> None:
    path = write_input(tmp_path, "acsf", 'kind = "kernel"', "[uncertainty]\nspread = true")
    with pytest.raises(InputError, match='"kernel" does not keep'):
        prepare(path)


def hot_run(folder: Path, file: Path, extra: str = "", temperature: str = "300 K", output: str = OUTPUT) -> Path:
    """An input of copper with a trained potential."""
    atoms = bulk("Cu", cubic=True, a=3.6).repeat(2)
    stage = HOT.replace("300 K", temperature)
    return write_run(
        folder, f"[[stage]]\n{stage}\n{extra}", atoms=atoms, potential=f'"{file}"', output=output,
        options='timestep = "2 fs"',
    )  # fmt: skip


@pytest.mark.parametrize("name", ["gap", "mtp"])
def test_the_log_tells_spread_and_grade_and_a_run_in_parts_is_the_same(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    potential, _, file = request.getfixturevalue(name)
    whole = simulate(hot_run(tmp_path, file), tmp_path / "whole", threads=1)
    parts = run_in_parts(tmp_path / "input.toml", tmp_path / "parts", [35, 60], threads=1)
    assert_same_run(whole.path, parts.path)
    log, frames = read_log(whole), ase.io.read(whole.trajectory, index=":")
    for row, frame in ((5 * one, frames[one]) for one in range(len(frames))):
        found = Judge(potential)(frame)
        # positions in the file have eight digits
        assert frame.arrays["grade"] == pytest.approx(found.grade.numpy(), rel=1e-4, abs=1e-6)
        assert log["max grade"][row] == pytest.approx(frame.arrays["grade"].max(), rel=1e-4)
    if name == "gap":
        lines = np.arange(21)  # every second one, and those of the frames
        assert np.array_equal(np.isfinite(log["max spread"]), (lines % 2 == 0) | (lines % 5 == 0))
        assert log["max spread"][20] == pytest.approx(frames[-1].arrays["spread"].max(), rel=1e-4)
    else:
        assert "max spread" not in log


def test_a_watched_run_is_the_run_that_is_not_watched(mtp: tuple[LearnedPotential, Job, Path], tmp_path: Path) -> None:
    _, _, file = mtp
    blind = modelfile.load(file)
    assert isinstance(blind, LearnedPotential)
    blind.inverses = None
    modelfile.save(blind, tmp_path / "blind.mlmd")
    runs = []
    for folder, model in (("a", file), ("b", tmp_path / "blind.mlmd")):
        path = hot_run(tmp_path / folder, model, output='log_every = "10 fs"')
        runs.append(simulate(path, tmp_path / folder / "run", threads=1).path)
    seen, unseen = ((run / "log.csv").read_text().splitlines() for run in runs)
    assert [line.rpartition(",")[0] for line in seen] == unseen
    assert (runs[0] / "final.extxyz").read_bytes() == (runs[1] / "final.extxyz").read_bytes()


@pytest.mark.row("R17")
def test_a_run_that_extrapolates_is_warned_of_once_and_stopped_where_that_is_wanted(
    mtp: tuple[LearnedPotential, Job, Path], tmp_path: Path
) -> None:
    _, _, file = mtp
    free = simulate(hot_run(tmp_path / "free", file, temperature="2000 K"), tmp_path / "free" / "run", threads=1)
    grades = read_log(free)["max grade"]
    messages = (free.path / MESSAGES).read_text()
    assert grades.max() > 3 and messages.count("the potential extrapolates:") == 1
    assert messages.count("the potential extrapolates far:") == (grades.max() > 10)
    limit = 0.5 * (grades[0] + grades.max())
    path = hot_run(tmp_path / "stopped", file, f"[guard]\nmax_grade = {limit}", temperature="2000 K")
    with pytest.raises(SimulationError, match="max_grade"):
        simulate(path, tmp_path / "stopped" / "run", threads=1)
    log = read_log(tmp_path / "stopped" / "run")["max grade"]
    first = int(np.argmax(grades > limit))
    assert np.array_equal(log, grades[: first + 1])
    assert (tmp_path / "stopped" / "run" / "crash" / "last.extxyz").exists()


_SPREAD = """
import sys
import torch
from ase import Atoms
from ase.build import bulk
from mlmd.descriptors.soap import Soap
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.potentials import uncertainty
from mlmd.potentials.learned import LearnedPotential

alloy = sys.argv[1] == "network"
descriptor = Soap(elements=("Cu", "Au") if alloy else ("Cu",), cutoff=4.5, n_max=4, l_max=3)
n = descriptor.n_features
regressor = {
    "network": lambda: Network(n_features=n, n_neurons=(16, 16), n_kinds=2),
    "linear": lambda: Linear(n_features=n),
    "quadratic": lambda: Polynomial(n_features=n, order=2),
    "random features": lambda: RandomFeatures(n_features=n, n_random=400),
}[sys.argv[1]]()
regressor.set_factor(torch.eye(regressor.n_basis, dtype=torch.float64))
potential = LearnedPotential(descriptor, regressor)
sizes = []
for n_cells in (1, int(sys.argv[2])):  # what is loaded and begun with the first one does not count
    atoms = bulk("Cu", cubic=True).repeat(n_cells)
    atoms.numbers[::2] += 50 * alloy
    uncertainty.Judge(potential)(atoms, ("spread",))
    lines = open("/proc/self/status").read().splitlines()  # ru_maxrss would count what the process was forked from
    sizes.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))))
print(sizes[1] - sizes[0], uncertainty._bytes_of_spread(potential, len(atoms)))
"""


@pytest.mark.skipif(library() is None, reason="without kernels all derivatives of pairs are kept besides")
@pytest.mark.skipif(sys.platform != "linux", reason="the largest size of a process is read as Linux tells it")
@pytest.mark.parametrize(
    ("regressor", "n_cells"), [("linear", 10), ("quadratic", 4), ("random features", 5), ("network", 7)]
)
def test_the_memory_that_a_spread_is_refused_for_is_what_it_takes(regressor: str, n_cells: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SPREAD, regressor, str(n_cells)], check=True, capture_output=True, text=True
    )
    taken, counted = map(int, done.stdout.split())
    assert counted > 50e6
    # some MB of neighbours, features and what the allocator keeps come on top
    assert 0.75 < taken / counted < 1.35
