"""Functions from their gradients on a grid, and the free energies and tables made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlmd import units
from mlmd.analysis.abf import AdaptiveForces, Axis, read_tables, write_table
from mlmd.analysis.gradients import integrate_gradient
from mlmd.errors import InputError


def grid(*counts: int, period: float = 2 * np.pi) -> list[np.ndarray]:
    """Coordinates of the middles of bins around a period along each axis."""
    return list(np.meshgrid(*(period * (np.arange(n) + 0.5) / n for n in counts), indexing="ij"))


@pytest.mark.parametrize("counts", [(200,), (60, 80), (24, 20, 28)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("periodic", [True, False], ids=["periodic", "open"])
def test_a_function_comes_back_from_its_gradient(counts: tuple[int, ...], periodic: bool) -> None:
    x = grid(*counts)
    function = sum(np.sin(one + number) for number, one in enumerate(x)) + np.prod([np.cos(one) for one in x], axis=0)
    slopes = np.array(
        [
            np.cos(one + n) - np.sin(one) * np.prod([np.cos(other) for m, other in enumerate(x) if m != n], axis=0)
            for n, one in enumerate(x)
        ]
    )
    widths = [2 * np.pi / n for n in counts]
    found = integrate_gradient(slopes, widths, known=np.ones(counts, bool), periodic=[periodic] * len(counts))
    # the trapezoidal rule makes waves of length 2π smaller by w²/12, and is less exact at open ends
    error = found - (function - function.min())
    assert np.abs(error).max() < (0.1 if periodic else 0.3) * max(widths) ** 2 * np.ptp(function)
    assert found.min() == 0.0


def test_what_does_not_close_around_a_circle_is_spread_evenly() -> None:
    slopes = np.cos(grid(100)[0]) + 0.1
    found = integrate_gradient(slopes[None], [2 * np.pi / 100], known=np.ones(100, bool), periodic=[True])
    wanted = np.sin(grid(100)[0])
    assert np.abs(found - (wanted - wanted.min())).max() < 1e-3


def test_rotation_in_a_gradient_changes_nothing() -> None:
    # the curl of noise is orthogonal to every gradient
    x, y = grid(40, 40)
    width = 2 * np.pi / 40
    slopes = np.array([np.cos(x), 0 * y])
    swirl = np.array([np.sin(y), np.sin(x)])  # each constant along its own axis, and periodic: no sum along rows
    options = {"known": np.ones((40, 40), bool), "periodic": [True, True]}
    calm, stirred = (integrate_gradient(one, [width, width], **options) for one in (slopes, slopes + swirl))
    assert np.abs(calm - stirred).max() < 1e-10


def test_only_the_largest_region_is_known() -> None:
    known = np.ones(20, bool)
    known[[7, 15]] = False
    found = integrate_gradient(np.ones((1, 20)), [0.5], known=known, periodic=[False])
    assert (
        np.isfinite(found).tolist() == [False] * 8 + [True] * 7 + [False] * 5
        or np.isfinite(found).tolist() == [True] * 7 + [False] * 13
    )
    nothing = integrate_gradient(np.ones((1, 5)), [0.5], known=np.zeros(5, bool), periodic=[False])
    assert np.isnan(nothing).all()


def gaussian_forces(spring: float, k: float, temperature: float = 300.0) -> AdaptiveForces:
    """What an extended variable on a spring k collects, without noise, of a harmonic energy with a flat λ.

    ξ given λ is Gaussian around k λ / (k + K); with λ uniform, ρ(z) ∝ exp(-K z²/2kT) ∫ exp(-k (z - λ)²/2kT) dλ and
    ⟨λ⟩_z = z away from the ends, under the bias that makes λ uniform: exp(+A(λ)/kT) with A = ½ kK/(k + K) λ².
    """
    kt = units.KB * temperature
    axis = Axis("x", "Å", -1.0, 1.0, 100, False)
    z, wide = axis.centres, np.linspace(-1, 1, 4001)
    bias = 0.5 * k * spring / (k + spring) * wide**2
    joint = np.exp((bias[None] - 0.5 * spring * z[:, None] ** 2 - 0.5 * k * (z[:, None] - wide[None]) ** 2) / kt)
    rho, mean = joint.sum(axis=1), joint @ wide / joint.sum(axis=1)
    samples = np.rint(1e9 * rho / rho.sum())
    force = k * (mean - z)
    return AdaptiveForces((axis,), temperature, 10, 20.0, samples, force[None], np.full(100, 5), np.zeros((1, 100)))


def test_czar_takes_the_spring_away() -> None:
    # a spring so soft that the free energy of λ is far from that of ξ
    stiffness, soft = 2.0, 4.0
    found = gaussian_forces(stiffness, soft)
    seen = found.samples > 1e4
    x = found.axes[0].centres[seen]
    assert x.max() > 0.8  # beyond k / (k + K) = 2/3 too, where λ is at its end and ρ falls steeply
    error = found.free_energy[seen] - 0.5 * stiffness * x**2
    assert np.ptp(error) < 2e-3 * 0.5 * stiffness  # trapezoid and whole samples
    assert np.abs(found.gradient[0][seen] - stiffness * x)[1:-1].max() < 0.02 * stiffness


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = gaussian_forces(2.0, 1.0)
    found.samples[:3] = 0
    path = tmp_path / "abf_history.dat"
    path.write_text(write_table(found, only_sampled=True) + write_table(found))
    first, second = read_tables(path)
    for table in (first, second):
        assert table.axes == found.axes
        assert (table.step, table.time, table.temperature) == (10, 20.0, 300.0)
        assert np.array_equal(table.samples, found.samples)
        np.testing.assert_allclose(table.free_energy, found.free_energy, rtol=1e-8, atol=1e-8)
    path.write_text("step,time\n1,2\n")
    with pytest.raises(InputError, match="is not a table of adaptive biasing forces"):
        list(read_tables(path))
    path.write_text(write_table(found)[:-30] + "x\n")
    with pytest.raises(InputError, match="damaged"):
        list(read_tables(path))
