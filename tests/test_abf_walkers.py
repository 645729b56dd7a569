"""Walkers of adaptive biasing forces fill one free energy together, and what each of them collects counts once.

A particle of 40 amu in the double well 10 kJ/mol ((x/Å)² - 1)² at 300 K (barrier 4 kT) is moved by the middle scheme of
Langevin dynamics here, without OpenMM and PLUMED, whose part it is to compute the variable and its gradient.
Statistical errors of these runs, rms: 1.2 (two walkers) and 1.0 kJ/mol/Å (alone) of the gradient by CZAR, which has the
noise of a histogram, 0.25 and 0.30 by time derivatives; allowed is twice as much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlmd.analysis.abf import AdaptiveForces, together
from mlmd.bias.bins import Dimension
from mlmd.bias.extended import ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.bias.shared import Left, Walker, read_left, write_left
from mlmd.engine.adaptive_tables import collected
from mlmd.errors import InputError, StorageError
from mlmd.units import EV_PER_KJMOL, KB

KT = KB * 300.0 / EV_PER_KJMOL
"""kJ/mol."""
MASS, STEP, FRICTION, EVERY = 40.0, 0.02, 2.0, 100
"""amu, ps, 1/ps, and steps between looks at the other walker."""
X = Dimension("x", -0.14, 0.14, 28, None, KT / 0.01**2, KT / 0.01**2, "Å", 0.1)
GRADIENT = np.array([[[0.1, 0.0, 0.0]]])  # nm per Å


def abf_of(extended: bool, seed: int, dimension: Dimension = X) -> ExtendedABF | PlainABF:
    if extended:
        return ExtendedABF(
            [dimension], timestep=1e3 * STEP, temperature=300.0, friction=1e-3 * FRICTION, period=400.0,
            full_samples=200, reflect=True, rng=np.random.default_rng([seed, 1]),
        )  # fmt: skip
    return PlainABF(
        [dimension], timestep=1e3 * STEP, temperature=300.0, friction=1e-3 * FRICTION, full_samples=200,
        inverse_masses=np.array([1 / MASS]), remove_com=False,
    )  # fmt: skip


class Particle:
    """In the double well, with an adaptive force and perhaps walkers beside it."""

    def __init__(self, abf: ExtendedABF | PlainABF, seed: int, walker: Walker | None = None) -> None:
        self.abf, self.walker, self.step = abf, walker, 0
        self.x, self.v, self.rng = -0.1, 0.0, np.random.default_rng([seed, 2])
        self.keep = float(np.exp(-FRICTION * STEP))
        self.noise = float(np.sqrt((1 - self.keep**2) * KT / MASS))

    def run(self, n_steps: int) -> None:
        for _ in range(n_steps):
            force = -40 * self.x / 0.01 * ((self.x / 0.1) ** 2 - 1) + self.biased()
            self.abf.update(self.step)
            if self.walker is not None:
                self.walker.update(self.step)
            self.step += 1
            self.v += STEP * force / MASS
            self.x += 0.5 * STEP * self.v
            self.v = self.keep * self.v + self.noise * self.rng.standard_normal()
            self.x += 0.5 * STEP * self.v

    def biased(self) -> float:
        """kJ/mol/nm, of the adaptive force or of the spring to the extended variable."""
        abf = self.abf
        abf.xi[0] = self.x
        if isinstance(abf, PlainABF):
            return float(abf.look(GRADIENT)[0])
        if not abf.begun:
            abf.begin()
        abf.forces[0] = -X.spring * (abf.values[0] - self.x)
        return -float(abf.forces[0])

    @property
    def found(self) -> AdaptiveForces:
        return collected(self.abf, self.abf.last_step, 1e3 * STEP * self.step)


def pair(folder: Path, extended: bool) -> list[Particle]:
    """Two walkers; the second knows of the first, which will look for it."""
    particles = []
    for number in (0, 1):
        abf = abf_of(extended, number)
        particles.append(Particle(abf, number, Walker(abf, folder, "abf", number, 2, EVERY, f"run {number}")))
    return particles


def taking_turns(particles: list[Particle], n_steps: int) -> None:
    for _ in range(n_steps // EVERY):
        for particle in particles:
            particle.run(EVERY)


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_two_walkers_give_the_gradients_of_one_run_of_twice_the_length(extended: bool, tmp_path: Path) -> None:
    n_steps = 30_000
    walkers, alone = pair(tmp_path, extended), Particle(abf_of(extended, 7), 7)
    taking_turns(walkers, n_steps)
    alone.run(2 * n_steps)
    both = together([one.found for one in walkers])
    assert both.samples.sum() == pytest.approx(alone.found.samples.sum(), rel=0.02)  # a few are beyond the walls
    x = both.axes[0].centres
    inside = np.abs(x) < 1.25
    exact = 40 * x * (x**2 - 1)  # kJ/mol/Å, up to 28
    for name, table in (("walkers", both), ("alone", alone.found)):
        error = (table.gradient[0] / EV_PER_KJMOL - exact)[inside]
        off = (table.free_energy / EV_PER_KJMOL - 10 * (x**2 - 1) ** 2)[inside] / KT
        print(
            name, "gradient", np.sqrt(np.mean(error**2)), "kJ/mol/Å, free energy", np.abs(off - off.mean()).max(), "kT"
        )
        assert np.sqrt(np.mean(error**2)) < (2.0 if extended else 0.6)
        assert np.abs(off - off.mean()).max() < 0.25


def test_a_walker_is_pushed_by_what_another_has_collected(tmp_path: Path) -> None:
    first, second = pair(tmp_path, extended=False)
    first.run(5_000)
    assert isinstance(second.abf, PlainABF)
    second.abf.xi[0] = -0.085
    assert second.abf.look(GRADIENT)[0] == 0.0
    assert second.walker is not None
    second.walker.read()
    pushed = second.abf.look(GRADIENT)[0]
    assert pushed == pytest.approx(400 * -0.85 * (0.85**2 - 1), rel=0.2)  # kJ/mol/nm, up the well
    assert second.found.samples.sum() == 0


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_what_a_walker_has_collected_counts_once_also_when_it_goes_on(extended: bool, tmp_path: Path) -> None:
    first, second = pair(tmp_path, extended)
    taking_turns([first, second], 1_000)
    kept = first.abf.state()
    taking_turns([first, second], 500)  # lost with the first walker, which is killed
    assert read_left(tmp_path / "abf.0").step > 999
    abf = abf_of(extended, 0)
    again = Particle(abf, 0, Walker(abf, tmp_path, "abf", 0, 2, EVERY, "run 0"))
    abf.restore(kept)
    again.step, again.x = 1_000, first.x
    assert again.walker is not None and second.walker is not None
    before = (tmp_path / "abf.0").read_bytes()
    again.run(300)  # still behind its own file, which stays
    assert (tmp_path / "abf.0").read_bytes() == before
    again.run(300)
    for walker in (again.walker, second.walker):
        walker.leave()
    for walker in (again.walker, second.walker):
        walker.read()
    for own, other in ((again.abf, second.abf), (second.abf, again.abf)):
        counts, sums = own.bins.known(slice(None))
        assert np.array_equal(counts, own.bins.counts + other.bins.counts)
        assert np.allclose(sums, own.bins.sums + other.bins.sums)
    total = again.abf.bins.counts.sum()
    assert total <= again.step
    if extended:  # reflected, so that no step is outside
        assert total == again.step


def test_another_run_does_not_write_over_the_file_of_a_walker(tmp_path: Path) -> None:
    first, _ = pair(tmp_path, extended=False)
    first.run(200)
    with pytest.raises(InputError, match=r"of another run .run 0., and this run .run 5. does not write over"):
        Walker(abf_of(False, 5), tmp_path, "abf", 0, 2, EVERY, "run 5")
    # nor where both have begun before there was a file
    abf = abf_of(False, 1)
    late = Particle(abf, 1, Walker(abf, tmp_path, "abf", 1, 2, EVERY, "run 6"))
    pair(tmp_path, extended=False)[1].run(200)
    kept = (tmp_path / "abf.1").read_bytes()
    with pytest.raises(InputError, match="of another run"):
        late.run(200)
    assert (tmp_path / "abf.1").read_bytes() == kept


def test_walkers_with_another_grid_are_refused(tmp_path: Path) -> None:
    pair(tmp_path, extended=False)[0].run(200)
    finer = Dimension("x", -0.14, 0.14, 56, None, 0.0, 0.0, "Å", 0.1)
    with pytest.raises(InputError, match=r"abf\.0 has n_bins \[28\], and this run has \[56\]"):
        Walker(abf_of(False, 1, finer), tmp_path, "abf", 1, 2, EVERY, "run 1")
    with pytest.raises(InputError, match="has extended False, and this run has True"):
        Walker(abf_of(True, 1), tmp_path, "abf", 1, 2, EVERY, "run 1")


WRONG: dict[str, tuple[Callable[[Left], Left], str]] = {
    "grid": (lambda left: replace(left, grid=[1]), r"abf\.0 is no file of a walker: its grid is no table"),
    "name": (lambda left: replace(left, bins={"other": left.bins["true"]}), "its true variable do not fit its grid"),
    "length": (lambda left: replace(left, bins={"true": tuple(one[:-1] for one in left.bins["true"])}), "of 28 bins"),
    "text": (lambda left: replace(left, bins={"true": tuple(one.astype(str) for one in left.bins["true"])}), "run 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_whole_file_that_is_of_no_walker_is_refused(name: str, tmp_path: Path) -> None:
    wrong, told = WRONG[name]
    first, second = pair(tmp_path, extended=False)
    first.run(200)
    write_left(tmp_path / "abf.0", wrong(read_left(tmp_path / "abf.0")))
    assert second.walker is not None
    with pytest.raises(StorageError, match=told):
        second.walker.read()


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:300] + b"\x01" + b[301:], lambda b: b""])
def test_a_file_that_cannot_be_read_counts_as_it_did_before(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    first, second = pair(tmp_path, extended=False)
    taking_turns([first, second], 500)
    assert second.walker is not None
    second.walker.read()
    known = second.abf.bins.known(slice(None))[0]
    path = tmp_path / "abf.0"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match="damaged"):
        read_left(path)
    second.walker.read()
    assert np.array_equal(second.abf.bins.known(slice(None))[0], known)
