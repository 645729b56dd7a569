"""Rows of the least-squares problem of a moment tensor potential: what it predicts, and how that changes."""

from __future__ import annotations

from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlmd.descriptors.moments import Moments
from mlmd.fitting.least_squares import solve
from mlmd.fitting.linear import Linear
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials import Prediction
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.mtp import save
from mlmd.train.equations import Sigma, equations, triangle

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
CASES = [(("Cu",), 8), (("Cu",), 12), (("Cu", "Ag"), 10)]


def potential(elements: tuple[str, ...], level: int, cutoff: float = 4.5) -> LearnedPotential:
    """A potential with random coefficients of all kinds."""
    generator = torch.Generator().manual_seed(level)
    moments = Moments(elements=elements, cutoff=cutoff, min_distance=1.8, level=level, n_chebyshev=5, scaling=0.1)
    radial = moments.radial.coefficients
    radial.copy_(0.3 * torch.randn(radial.shape, generator=generator, dtype=torch.float64))
    linear = Linear(n_features=moments.n_features, n_kinds=len(elements))
    linear.coefficients.copy_(0.1 * torch.randn(moments.n_features, generator=generator, dtype=torch.float64))
    return LearnedPotential(moments, linear)


def structures(elements: tuple[str, ...]) -> list[Atoms]:
    """A long and a sheared cell; an atom of the second is its own neighbour."""
    first = ase.build.bulk("Cu", cubic=True) * (2, 1, 1)
    first.rattle(0.2, seed=3)
    second = ase.build.bulk("Cu", cubic=True)
    second.rattle(0.3, seed=4)
    shear = np.eye(3) + 0.03 * np.random.default_rng(0).standard_normal((3, 3))
    second.set_cell(second.cell.array @ shear, scale_atoms=True)
    if len(elements) > 1:
        first.symbols[::3] = second.symbols[1:2] = elements[1]
    return [first, second]


def virial(prediction: Prediction) -> torch.Tensor:
    return torch.stack([prediction.virial[:, a, b] for a, b in VOIGT], dim=1)


@pytest.mark.parametrize(("elements", "level"), CASES)
def test_rows_times_weights_are_the_prediction(elements: tuple[str, ...], level: int) -> None:
    model = potential(elements, level)
    model.regressor.constants.copy_(torch.arange(1.0, 1.0 + len(elements), dtype=torch.float64))
    graph = build_graph(structures(elements), model.cutoff)
    design, prediction = model.design(graph), model.predict(graph)
    x = torch.cat([model.regressor.coefficients, model.regressor.constants])
    scale = float(prediction.forces.abs().max())
    assert (design.energy @ x).numpy() == pytest.approx(prediction.energy.numpy(), rel=1e-12)
    assert (design.forces @ x).numpy() == pytest.approx(prediction.forces.numpy(), abs=1e-13 * scale)
    assert (design.virial @ x).numpy() == pytest.approx(virial(prediction).numpy(), abs=1e-12 * scale)


@pytest.mark.parametrize(("elements", "level"), CASES)
def test_rows_of_radial_coefficients_are_derivatives_of_the_prediction(elements: tuple[str, ...], level: int) -> None:
    model = potential(elements, level)
    graph = build_graph(structures(elements), model.cutoff)
    design = model.design(graph, nonlinear=True)
    first = model.descriptor.n_features + len(elements)
    numbers = model.descriptor.radial.coefficients.view(-1)
    assert design.energy.shape[1] == first + numbers.numel()
    step = 1e-4
    for index in range(0, numbers.numel(), 3):
        value = float(numbers[index])
        ends = []
        for sign in (1, -1):
            numbers[index] = value + sign * step
            ends.append(model.predict(graph))
        numbers[index] = value
        up, down = ends
        for found, high, low in (
            (design.energy, up.energy, down.energy),
            (design.forces, up.forces, down.forces),
            (design.virial, virial(up), virial(down)),
        ):
            expected = (high - low) / (2 * step)
            # differences of second order in the step: 1e-8 times third derivatives
            assert (found[..., first + index] - expected).abs().max() < 1e-5 * (1e-2 + expected.abs().max())


def labelled(seed: int, n: int = 6, elements: tuple[str, ...] = ("Cu",)) -> list[LabelledFrame]:
    """Small crystals of EMT atoms, rattled and strained."""
    frames = []
    for index in range(n):
        atoms = ase.build.bulk("Cu", cubic=True) * (2, 1, 1)
        generator = np.random.default_rng(100 * seed + index)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * generator.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.1 * generator.standard_normal(atoms.positions.shape)
        if len(elements) > 1:
            atoms.symbols[index % 3 :: 3] = elements[1]
        atoms.calc = EMT()
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        atoms.calc = None
        frames.append(LabelledFrame(atoms, float(labels[0]), labels[1], labels[2], "", f"made@{index}"))
    return frames


def test_the_linear_solution_is_that_of_scipy_from_predictions_alone() -> None:
    # columns are made by predicting with one weight at a time: nothing of the design matrix is used
    from scipy.linalg import lstsq

    model = potential(("Cu", "Ag"), 8)
    frames = labelled(1, elements=("Cu", "Ag"))
    sigma = Sigma(energy=2e-3, forces=0.05, stress=1e-3)
    columns = []
    weights = [model.regressor.coefficients, model.regressor.constants]
    n_parameters = sum(w.numel() for w in weights)
    for index in range(n_parameters):
        for w in weights:
            w.zero_()
        (weights[0] if index < weights[0].numel() else weights[1])[index % weights[0].numel()] = 1.0
        column = []
        for frame in frames:
            said = model.predict(build_graph(frame.atoms, model.cutoff))
            column += [
                said.energy.numpy() / len(frame.atoms) / sigma.energy,
                said.forces.numpy().ravel() / sigma.forces,
            ]
            column += [said.stress[0].numpy()[tuple(zip(*VOIGT, strict=True))] / sigma.stress]
        columns.append(np.concatenate(column))
    target = []
    for frame in frames:
        assert frame.energy is not None and frame.forces is not None and frame.stress is not None
        target += [[frame.energy / len(frame.atoms) / sigma.energy], frame.forces.ravel() / sigma.forces]
        target += [frame.stress[tuple(zip(*VOIGT, strict=True))] / sigma.stress]
    matrix, right = np.stack(columns, axis=1), np.concatenate(target)
    expected = lstsq(matrix, right)[0]
    factor, n_rows = triangle(model, frames, sigma, np.zeros(2), nonlinear=False)
    found = solve(factor).x.numpy()
    assert n_rows == len(right)
    assert matrix @ found == pytest.approx(matrix @ expected, abs=1e-6 * np.abs(right).max())
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(expected).max())


def test_the_linear_solution_is_that_of_moteps_trainer(tmp_path: Path) -> None:
    from motep.io.mlip.mtp import read_mtp
    from motep.loss import LossFunction, LossSetting
    from motep.optimizers.lls import LLSOptimizer

    model = potential(("Cu",), 10)
    frames = labelled(2)
    sigma = Sigma(energy=2e-3, forces=0.05)
    save(model, tmp_path / "start.mtp")
    images = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        images.append(atoms)
    data = read_mtp(tmp_path / "start.mtp")
    data.species = [29]
    setting = LossSetting(
        energy_weight=sigma.energy**-2, forces_weight=sigma.forces**-2, energy_per_atom=True, forces_per_atom=False,
        energy_per_conf=False, forces_per_conf=False, stress_per_conf=False,
    )  # fmt: skip
    trainer = LLSOptimizer(
        LossFunction(images, data, setting),
        minimized=["energy", "forces"],
        optimized=["species_coeffs", "moment_coeffs"],
    )
    trainer.optimize()
    without_stress = [
        LabelledFrame(frame.atoms, frame.energy, frame.forces, None, frame.group, frame.source) for frame in frames
    ]
    factor, _ = triangle(model, without_stress, sigma, np.zeros(1), nonlinear=False)
    found = solve(factor).x.numpy()
    expected = np.concatenate([data.moment_coeffs, data.species_coeffs])
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(expected).max())


def test_the_gradient_of_the_full_loss_is_that_of_finite_differences() -> None:
    model = potential(("Cu", "Ag"), 8)
    frames = labelled(3, n=3, elements=("Cu", "Ag"))
    sigma, baseline = Sigma(), np.array([-3.0, -2.5])
    parameters = [model.regressor.coefficients, model.regressor.constants, model.descriptor.radial.coefficients]
    linear = torch.cat([one.flatten() for one in parameters[:2]])

    def loss() -> float:
        rows = equations(model, frames, sigma, baseline, nonlinear=False)
        now = torch.cat([one.flatten() for one in parameters[:2]])
        return float(((rows[:, :-1] @ now - rows[:, -1]) ** 2).sum())

    factor, _ = triangle(model, frames, sigma, baseline, nonlinear=True)
    residual = factor[:, : len(linear)] @ linear - factor[:, -1]
    gradient = 2 * factor[:, :-1].T @ residual
    numbers = torch.cat([torch.arange(one.numel()) for one in parameters])
    owners = [one.view(-1) for one in parameters for _ in range(one.numel())]
    for place in range(0, len(owners), 5):
        owner, index = owners[place], int(numbers[place])
        value, step = float(owner[index]), 1e-5
        ends = []
        for sign in (1, -1):
            owner[index] = value + sign * step
            ends.append(loss())
        owner[index] = value
        expected = (ends[0] - ends[1]) / (2 * step)
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-5, abs=1e-7 * float(gradient.abs().max()))


def test_labels_that_are_missing_have_no_rows() -> None:
    model = potential(("Cu",), 6)
    whole = labelled(4, n=1)[0]
    parts = [
        LabelledFrame(whole.atoms, whole.energy, None, None, "", "e"),
        LabelledFrame(whole.atoms, None, whole.forces, None, "", "f"),
        LabelledFrame(whole.atoms, None, None, whole.stress, "", "s"),
        LabelledFrame(whole.atoms, None, None, None, "", "nothing"),
    ]
    apart = torch.cat([equations(model, [part], Sigma(), np.zeros(1), nonlinear=False) for part in parts])
    together = equations(model, [whole], Sigma(), np.zeros(1), nonlinear=False)
    assert torch.allclose(apart, together, rtol=1e-12)
    assert len(together) == 1 + 3 * len(whole.atoms) + 6


def test_a_factor_of_a_group_weighs_its_rows() -> None:
    model = potential(("Cu",), 6)
    frame = labelled(5, n=1)[0]
    in_group = LabelledFrame(frame.atoms, frame.energy, frame.forces, frame.stress, "Elastic", "x")
    plain = equations(model, [frame], Sigma(), np.zeros(1), nonlinear=False)
    weighed = equations(model, [in_group], Sigma(groups={"Elastic": (0.5, 0.5, 0.5)}), np.zeros(1), nonlinear=False)
    assert torch.allclose(weighed, 2 * plain)
    each = equations(model, [in_group], Sigma(groups={"Elastic": (0.5, 4.0, 1.0)}), np.zeros(1), nonlinear=False)
    factors = torch.ones(len(plain))
    factors[0], factors[1:-6] = 2.0, 0.25  # the energy, forces, six components of the stress
    assert torch.allclose(each, factors[:, None] * plain)
