"""Energies that an input gives single atoms, or that the data have for them, are those of the potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from made_data import label, strained, thermal

from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.train import kernel_fit
from mlmd.train.environments import lone_rows
from mlmd.train.equations import equations
from mlmd.train.job import Job, prepare
from mlmd.train.optimise import prior_of
from mlmd.train.run import train

GIVEN = {"Cu": -3.5, "Ag": -2.0}
SOAP = '{ kind = "soap", cutoff = "4 Å", n_max = 2, l_max = 1 }'
ACSF = '{ kind = "acsf", cutoff = "4.5 Å", n_radial = 4, n_angular = 1 }'
MTP = '{ kind = "mtp", level = 4, cutoff = "4.5 Å", n_chebyshev = 4 }'
DESCRIPTORS = {
    "acsf": ACSF,
    "soap": SOAP,
    "snap": '{ kind = "snap", cutoff = "4.5 Å", twojmax = 2 }',
    "acsf and soap": f"[{ACSF}, {SOAP}]",
    "mtp and soap": f"[{MTP}, {SOAP}]",
}
FITS = {
    "linear": '{ kind = "linear" }',
    "evidence": '{ kind = "linear", regularisation = "evidence" }',
    "quadratic": '{ kind = "linear", quadratic = true }',
    "random features": '{ kind = "random-features", n_random = 40 }',
    "arc-cosine": '{ kind = "random-features", n_random = 40, function = "arc-cosine-2" }',
    "gap": '{ kind = "gap", n_sparse = 20 }',
    "gap evidence": '{ kind = "gap", n_sparse = 20, regularisation = "evidence" }',
    "kernel": '{ kind = "kernel" }',
    "kernel linear": '{ kind = "kernel", kernel = "linear" }',
    "network": '{ kind = "network", n_neurons = [4], epochs = 2 }',
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT's copper and silver, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", alloys())
    return tmp_path


def alloys() -> list[LabelledFrame]:
    """Copper, and alloys with silver, labelled by EMT."""
    frames = [*thermal(5, repeat=1, amplitude=0.1), *strained(4)]
    for frame in frames[2:]:
        frame.atoms.numbers[::2] = 47
    return [label(frame.atoms, frame.source) for frame in frames]


def write_input(descriptor: str, fit: str, baseline: str = "{ Cu = -3.5, Ag = -2 }") -> Path:
    path = Path("in.toml")
    if "mtp" in descriptor and "linear" in fit:
        fit = fit.replace(" }", ", max_iterations = 2 }")
    path.write_text(
        f'data = "data.extxyz"\ntest_fraction = 0\nbaseline = {baseline}\ndescriptor = {descriptor}\nfit = {fit}\n'
        "uncertainty = { grade = false }\n",
        encoding="utf-8",
    )
    return path


PAIRS = [
    *(("soap", fit) for fit in FITS),
    *(("acsf", fit) for fit in FITS if "evidence" not in fit),
    *(("snap", fit) for fit in ("quadratic", "gap")),
    *((several, fit) for several in ("acsf and soap", "mtp and soap") for fit in ("linear", "gap", "kernel")),
]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("descriptor", "fit"), PAIRS)
def test_single_atoms_have_the_energies_that_the_input_gives(descriptor: str, fit: str) -> None:
    potential = modelfile.load(train(write_input(DESCRIPTORS[descriptor], FITS[fit]), n_processes=1).model)
    for element, energy in GIVEN.items():
        found = potential.predict(build_graph(Atoms(element), potential.cutoff)).energy
        assert float(found) == pytest.approx(energy, abs=1e-6)


@pytest.mark.parametrize("fit", ["linear", "gap", "kernel"])
def test_single_atoms_of_the_data_have_their_energies(place: Path, fit: str) -> None:
    frames = alloys()
    for element, energy in GIVEN.items():
        frames.append(LabelledFrame(Atoms(element), energy, np.zeros((1, 3)), None, "", f"alone@{element}"))
    write_labelled(place / "data.extxyz", frames)
    potential = modelfile.load(train(write_input(SOAP, FITS[fit], '"isolated"'), n_processes=1).model)
    for element, energy in GIVEN.items():
        found = potential.predict(build_graph(Atoms(element), potential.cutoff)).energy
        assert float(found) == pytest.approx(energy, abs=1e-6)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("baseline", ['"fit"', '"average"'])
@pytest.mark.parametrize("fit", ["linear", "gap", "kernel"])
def test_nothing_is_asked_of_single_atoms_whose_energies_are_not_given(baseline: str, fit: str) -> None:
    job = prepare(write_input(SOAP, FITS[fit], baseline))
    assert job.problem.lone is None
    if isinstance(job.potential.regressor, GaussianProcess):
        assert job.potential.regressor.n_points == sum(len(frame.atoms) for frame in job.train)
        whole = kernel_fit.solve_all(job, 1, lambda step: None)
        assert whole.bounds[-1] == job.problem.n_equations


def _rows(job: Job) -> np.ndarray:
    frames = [frame for shard in job.problem.shards() for frame in shard]
    baseline = np.zeros(2)
    return equations(job.potential, frames, job.problem.sigma, baseline, nonlinear=False).numpy()


@pytest.mark.usefixtures("place")
def test_a_fit_with_given_single_atoms_is_the_best_of_all_that_have_them() -> None:
    # in the space of all solutions that have them, with constants free and energies as they are
    source = write_input(SOAP, FITS["gap"])
    job = prepare(source)
    rows, prior = _rows(job), prior_of(job.potential)
    assert prior is not None
    a, y, n = rows[:, :-1], rows[:, -1], job.potential.expansion.n_basis
    alone = lone_rows(job.potential.descriptor)
    functions = job.potential.expansion.basis(alone, torch.arange(2)).detach().numpy()
    fixed = np.concatenate([functions, np.eye(2)], axis=1)  # energies of single atoms
    energies = [GIVEN[element] for element in job.potential.elements]
    _, _, axes = np.linalg.svd(fixed)
    start, free = np.linalg.lstsq(fixed, energies, rcond=None)[0], axes[2:].T
    whole = np.concatenate([a, np.pad(prior.numpy(), ((0, 0), (0, 2)))])
    target = np.concatenate([y, np.zeros(n)]) - whole @ start
    x = start + free @ np.linalg.lstsq(whole @ free, target, rcond=1e-15)[0]
    potential = modelfile.load(train(source, n_processes=1).model)
    found = torch.cat([potential.expansion.coefficients, potential.expansion.constants]).detach().numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(a @ found, a @ x, rtol=0, atol=1e-5 * np.abs(a @ x).max())
    np.testing.assert_allclose(fixed @ found, energies, rtol=0, atol=1e-8)


@pytest.mark.usefixtures("place")
def test_the_process_with_given_single_atoms_is_conditioned_on_them() -> None:
    # all covariances at once, those of single atoms without an error: their energies are known
    job = prepare(write_input(SOAP, FITS["kernel"]))
    result = kernel_fit.fit(job, Path(), 1, lambda step: None)
    model = job.potential.regressor
    assert isinstance(model, GaussianProcess)
    frames = [frame for shard in job.problem.shards() for frame in shard]
    alone = lone_rows(job.potential.descriptor)
    none = torch.zeros((1, model.n_features, 0), dtype=torch.float64)
    each = [model.environments(alone[[kind]], torch.tensor([kind]), none, 1.0) for kind in range(2)]
    each += [kernel_fit.environments_of(job.potential, frame, job.problem.sigma) for frame in frames]
    k = np.block([[model.covariances(a, b).numpy() for b in each] for a in each])
    y = [0.0, 0.0]
    for frame in frames:
        symbols = frame.atoms.get_chemical_symbols()
        above = frame.energy - sum(GIVEN[symbol] for symbol in symbols)
        stress = frame.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / job.problem.sigma.stress
        y += [above / (len(symbols) * 1e-3), *frame.forces.ravel() / 0.05, *stress]
    noise = np.diag(np.concatenate([np.zeros(2), np.ones(len(y) - 2)]))
    alpha = np.linalg.solve(k + noise, np.array(y))
    expected = (k @ alpha)[2:]
    bare = GaussianProcess.restore(model.spec(), {})
    bare.put(each, torch.from_numpy(alpha), torch.from_numpy(job.problem.baseline))
    assert result.facts["rows"] == len(y) - 2 == job.problem.n_equations
    assert result.facts["loss"] == pytest.approx(float(np.sqrt(np.mean(alpha[2:] ** 2))), rel=1e-4)
    assert result.facts["loss"] == pytest.approx(float(np.sqrt(np.mean((expected - y[2:]) ** 2))), rel=1e-4)
    for frame in frames[:3]:
        graph = build_graph(frame.atoms, job.potential.cutoff)
        one = job.potential.predict(graph)
        job.potential.regressor = bare
        other = job.potential.predict(graph)
        job.potential.regressor = model
        np.testing.assert_allclose(one.energy, other.energy, rtol=0, atol=1e-5)
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-5)
