"""L-BFGS on functions whose minima are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlmd.train import lbfgs


def quadratic(n: int) -> tuple[lbfgs.Function, np.ndarray, list[float]]:
    """½ (x - c)'A(x - c) + 1 with curvatures from 1 to 1000, its minimum c, and the values it was asked for."""
    random = np.random.default_rng(n)
    axes, _ = np.linalg.qr(random.normal(size=(n, n)))
    matrix, minimum = axes @ np.diag(np.logspace(0, 3, n)) @ axes.T, random.normal(size=n)
    asked: list[float] = []

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        asked.append(1 + 0.5 * float((x - minimum) @ matrix @ (x - minimum)))
        return asked[-1], matrix @ (x - minimum)

    return function, minimum, asked


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """A curved valley, with the minimum 0 at (1, 1)."""
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return float(a * a + 100 * b * b), np.array([-2 * a - 400 * x[0] * b, 200 * b])


def minimised(function: lbfgs.Function, x: np.ndarray, most: int = 500) -> tuple[np.ndarray, list[float]]:
    """Where it ends by itself, and the values after each step."""
    memory: dict[str, np.ndarray] = {}
    values = []
    for _ in range(most):
        found = lbfgs.step(x, memory, function)
        if found is None:
            return x, values
        x, memory = found
        values.append(float(memory["value"][0]))
    raise AssertionError(f"not done after {most} steps")


def test_the_minimum_of_a_quadratic_is_reached() -> None:
    function, minimum, asked = quadratic(20)
    x, values = minimised(function, np.zeros(20))
    # a decrease of 1e-12 of the value is called rounding: with curvatures of at least 1, √(2e-12) away from the minimum
    assert x == pytest.approx(minimum, abs=2e-6)
    assert all(later < before for before, later in itertools.pairwise(values))
    assert len(asked) < 2 * len(values) + 30  # hardly more than one evaluation a step


def test_a_curved_valley_is_followed_to_its_end() -> None:
    x, values = minimised(rosenbrock, np.array([-1.2, 1.0]))
    assert x == pytest.approx([1.0, 1.0], abs=1e-6)
    assert len(values) < 60  # steepest descent needs thousands


def test_steps_satisfy_the_strong_wolfe_conditions() -> None:
    x, memory = np.array([-1.2, 1.0]), {}
    for _ in range(20):
        value, gradient = rosenbrock(x)
        found = lbfgs.step(x, memory, rosenbrock)
        assert found is not None
        step = found[0] - x
        x, memory = found
        assert float(memory["value"][0]) <= value + 1e-4 * gradient @ step
        assert abs(memory["gradient"] @ step) <= 0.9 * abs(gradient @ step)


def test_what_it_remembers_is_all_that_the_next_step_depends_on() -> None:
    function, _, _ = quadratic(20)
    x, memory = np.zeros(20), {}
    for _ in range(5):
        x, memory = lbfgs.step(x, memory, function)  # type: ignore[misc]
    again = {name: values.copy() for name, values in memory.items()}
    one, other = lbfgs.step(x, memory, function), lbfgs.step(x.copy(), again, function)
    assert one is not None and other is not None
    assert np.array_equal(one[0], other[0])


def test_numbers_that_are_not_finite_are_stepped_back_from() -> None:
    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        if abs(float(x[0])) > 1:
            return float("nan"), np.array([np.nan])
        return float(-x[0]), np.array([-1.0])  # the longest step is too long, whatever it is

    x, _ = np.array([0.0]), None
    memory: dict[str, np.ndarray] = {}
    for _ in range(40):
        found = lbfgs.step(x, memory, function)
        if found is None:
            break
        x, memory = found
    assert 0.9 < float(x[0]) <= 1.0
