"""Free energies of biased runs against closed forms, against PLUMED's own sum_hills, and against what was put in.

The hills, kernels and lines that a biased walker would have left are drawn by Monte Carlo from a known free energy, so
that nothing here waits for a simulation; runs of mlmd come at the end.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run
from runs import write_input

from mlmd.analysis.abf import AdaptiveForces, Axis
from mlmd.analysis.abf import write_table as table_of
from mlmd.analysis.biased import Biased, PlumedUnits, biased_run, units_in
from mlmd.analysis.course import course_of, seen_twice
from mlmd.analysis.fes import Files, biased_files, fes, free_energy
from mlmd.analysis.free_energy import FreeEnergy, summarise
from mlmd.analysis.grid import Grid
from mlmd.analysis.history_fes import offset
from mlmd.analysis.landscape import apart, basins
from mlmd.bias.plumed import find_kernel
from mlmd.bias.statement import split_statements
from mlmd.engine.run import simulate
from mlmd.errors import InputError, StorageError
from mlmd.io.frames import Provenance
from mlmd.io.plumed_table import read_plumed_table
from mlmd.potentials import POTENTIALS
from mlmd.rundir import open_run
from mlmd.units import EV_PER_KCALMOL, EV_PER_KJMOL, KB

T = 300.0
KT = KB * T
"""eV."""
KJ = KT / EV_PER_KJMOL
"""kT in kJ/mol."""


def double_well(x: Any) -> Any:
    """kT at x in PLUMED's unit: minima at ±1, a barrier of 4, the right one 0.5 higher."""
    return 4.0 * (x**2 - 1.0) ** 2 + 0.25 * x


def exact_barrier() -> tuple[float, float]:
    """kT: of the barrier from the left minimum, and of the right minimum above the left."""
    x = np.linspace(-1.5, 1.5, 30_001)
    f = double_well(x)
    left, middle, right = (f[(x > a) & (x < b)] for a, b in ((-1.5, -0.5), (-0.5, 0.5), (0.5, 1.5)))
    return float(middle.max() - left.min()), float(right.min() - left.min())


def write_table(path: Path, names: Sequence[str], rows: np.ndarray, **constants: Any) -> Path:
    """As PLUMED does it."""
    head = f"#! FIELDS {' '.join(names)}\n" + "".join(f"#! SET {key} {value}\n" for key, value in constants.items())
    path.write_text(head + "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in rows))
    return path


HILLS = {"multivariate": "false", "kerneltype": "stretched-gaussian"}


class Walker:
    """A Metropolis walker in the double well and a bias on a grid (kT)."""

    def __init__(self, seed: int) -> None:
        self.x, self.rng = -1.0, np.random.default_rng(seed)
        self.grid = np.linspace(-2.2, 2.2, 441)
        self.bias = np.zeros(441)

    def at(self, x: float) -> float:
        place = (x + 2.2) * 100.0
        low = min(int(place), 439)
        return float(self.bias[low] + (place - low) * (self.bias[low + 1] - self.bias[low]))

    def move(self, n: int) -> None:
        energy = double_well(self.x) + self.at(self.x)
        for step, chance in zip(self.rng.normal(scale=0.5, size=n).tolist(), self.rng.random(n).tolist(), strict=True):
            x = self.x + step
            if abs(x) >= 2.2:
                continue
            new = double_well(x) + self.at(x)
            if chance < math.exp(min(0.0, energy - new)):
                self.x, energy = x, new


def metadynamics(folder: Path, seed: int, n_hills: int, factor: float) -> tuple[Path, Path]:
    """HILLS and COLVAR of (well-tempered) metadynamics, kJ/mol and ps; σ 0.2, hills of 0.3 kT every 10 moves."""
    walker, sigma, height = Walker(seed), 0.2, 0.3
    hills, lines = [], []
    for number in range(n_hills):
        for part in range(2):
            walker.move(5)
            lines.append((number + 0.5 * (part + 1), walker.x, walker.at(walker.x) * KJ))
        h = height * (math.exp(-walker.at(walker.x) / (factor - 1)) if factor > 1 else 1.0)
        walker.bias += h * np.exp(-0.5 * ((walker.grid - walker.x) / sigma) ** 2)
        scale = factor / (factor - 1) if factor > 1 else 1.0
        hills.append((number + 1.0, walker.x, sigma, h * scale * KJ, factor))
    return (
        write_table(folder / "HILLS", ["time", "x", "sigma_x", "height", "biasf"], np.array(hills), **HILLS),
        write_table(folder / "COLVAR", ["time", "x", "metad.bias"], np.array(lines)),
    )


def off(result: FreeEnergy, low: float = -1.4, high: float = 1.4) -> np.ndarray:
    """Deviation from the double well in kT, the constant taken out."""
    x = result.axes[0].centres
    inside = (x > low) & (x < high)
    difference = result.values[inside] / result.kt - double_well(x[inside])
    return np.asarray(difference - difference.mean())


def by_files(
    method: str | None = None, grid: Grid | None = None, temperature: float | None = T, **files: Any
) -> FreeEnergy:
    return free_energy([biased_files(Files(**files), temperature)], method=method, grid=grid or Grid())


# -- sums ------------------------------------------------------------------------------------------------------------


def sum_hills(hills: Path, ends: Sequence[tuple[float, float]], n_bins: int) -> np.ndarray:
    """What PLUMED's own command says, kJ/mol, at n_bins + 1 points of each axis (n_bins of a periodic one)."""
    package = find_spec("plumed")
    binary = next(Path(package.submodule_search_locations[0]).rglob("bin/plumed"), None) if package else None  # type: ignore[index]
    if binary is None:
        pytest.skip("the wheel has no command line")
    root = binary.parents[1] / "lib" / "plumed"
    low, high = (",".join(str(end[side]) for end in ends) for side in (0, 1))
    bins = ",".join([str(n_bins)] * len(ends))
    places = {"LD_LIBRARY_PATH": find_kernel().parent, "PLUMED_KERNEL": find_kernel(), "PLUMED_ROOT": root}
    subprocess.run(
        [str(binary), "--no-mpi", "sum_hills", "--hills", hills.name, "--min", low, "--max", high, "--bin", bins],
        cwd=hills.parent, check=True, capture_output=True,
        env=os.environ | {key: str(value) for key, value in places.items()},
    )  # fmt: skip
    return read_plumed_table(hills.parent / "fes.dat")["file.free"]


def test_hills_add_up_as_plumed_adds_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack(
        [np.arange(1.0, 61.0), rng.normal(size=60), np.full(60, 0.2), rng.uniform(0.1, 1, 60), np.full(60, 5)]
    )
    path = write_table(tmp_path / "HILLS", ["time", "x", "sigma_x", "height", "biasf"], rows, **HILLS)
    expected = sum_hills(path, [(-3, 3)], 100)
    grid = Grid((-3.03,), (3.03,), (101,))  # whose middles of bins are PLUMED's points
    found = by_files(hills=(path,), grid=grid).values / EV_PER_KJMOL
    known = np.isfinite(found)
    assert np.allclose(found[known], expected[known] - expected.min(), atol=2e-4)  # its grid has splines between points


def test_hills_around_a_period_and_of_two_variables_add_up_as_plumed_adds_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = np.column_stack([
        np.arange(1.0, 41.0), rng.uniform(-math.pi, math.pi, 40), rng.normal(size=40), np.full(40, 0.35),
        np.full(40, 0.3), rng.uniform(0.1, 1, 40), np.full(40, 5),
    ])  # fmt: skip
    names = ["time", "t", "d", "sigma_t", "sigma_d", "height", "biasf"]
    path = write_table(tmp_path / "HILLS", names, rows, **HILLS, min_t="-pi", max_t="pi")
    expected = sum_hills(path, [("-pi", "pi"), (-3, 3)], 40).reshape(41, 40).T  # type: ignore[list-item]
    width = 2 * math.pi / 40
    grid = Grid((-math.pi, -3.075), (math.pi, 3.075), (40, 41))
    found = by_files(hills=(path,), grid=grid)
    assert found.axes[0].periodic
    # PLUMED's points are the left ends of our bins: take ours there by moving the hills
    rows[:, 1] += width / 2
    write_table(path, names, rows, **HILLS, min_t="-pi", max_t="pi")
    found = by_files(hills=(path,), grid=grid)
    values = found.values / EV_PER_KJMOL
    known = np.isfinite(values)
    assert known.mean() > 0.5
    assert np.allclose(values[known], expected[known] - expected.min(), atol=2e-3)


def test_kernels_add_up_to_the_density(tmp_path: Path) -> None:
    rows = np.array([[1, -1.0, 0.5, 2.0, 0.3], [2, 1.0, 0.25, 1.0, 0.1]])
    constants = {"action": "OPES_METAD_kernels", "biasfactor": 10, "epsilon": 1e-4, "kernel_cutoff": 4.0}
    names = ["time", "x", "sigma_x", "height", "logweight"]
    path = write_table(tmp_path / "KERNELS", names, rows, **constants)
    found = by_files(kernels=path, grid=Grid((-2.0,), (2.0,), (81,)))
    x = found.axes[0].centres
    d = [(x + 1) / 0.5, (x - 1) / 0.25]
    density = sum(
        h * np.where(abs(u) < 4, np.exp(-(u**2) / 2) - math.exp(-8), 0) for h, u in zip((2, 1), d, strict=True)
    )
    known = density > 1e-12
    f = -KT * np.log(density[known])
    assert np.allclose(found.values[known], f - f.min(), atol=1e-9)
    # what the exploring variant writes is the density that it samples, exp(-F/γkT)
    path = write_table(path, names, rows, **constants | {"action": "OPES_METAD_EXPLORE_kernels"})
    explored = by_files(kernels=path, grid=Grid((-2.0,), (2.0,), (81,)))
    assert np.allclose(explored.values[known], 10 * found.values[known], atol=1e-9)
    # a STATE holds the same after compression
    state = {"action": "OPES_METAD_state", "biasfactor": 10, "kernel_cutoff": 4.0, "zed": 1.0}
    path = write_table(tmp_path / "STATE", names[:-1], rows[:, :-1], **state)
    assert np.allclose(by_files(state=path, grid=Grid((-2.0,), (2.0,), (81,))).values[known], found.values[known])


def test_the_error_of_kernels_knows_how_they_blur(tmp_path: Path) -> None:
    width, sigma = 0.5, 0.2  # of the valley and of the kernels
    rng = np.random.default_rng(2)
    n = 20000
    rows = np.stack(
        [np.arange(1, n + 1), rng.normal(0.0, width, n), *np.full((2, n), [[sigma], [1.0]]), np.zeros(n)], 1
    )
    constants = {"action": "OPES_METAD_kernels", "biasfactor": 10, "epsilon": 1e-4, "kernel_cutoff": 6.0}
    path = write_table(tmp_path / "KERNELS", ["time", "x", "sigma_x", "height", "logweight"], rows, **constants)
    found = by_files(kernels=path, grid=Grid((-1.0,), (1.0,), (41,)))
    x = found.axes[0].centres
    off = (found.values - found.values[20]) - KT * (x**2 - x[20] ** 2) / (2 * width**2)
    told = np.hypot(found.errors, found.errors[20])
    expected = KT * x**2 / 2 * (1 / (width**2 + sigma**2) - 1 / width**2)  # what kernels do to a valley
    ends = np.abs(x) > 0.8
    assert np.allclose(off[ends], expected[ends], rtol=0.3)
    # from kernels √2 times as wide alone, it would be 1.75
    assert (np.abs(off[ends]) < 1.5 * told[ends]).all()
    assert (told[ends] < 1.5 * np.abs(off[ends])).all()


# -- answers that are known ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [6.0, 1.0, -1.0], ids=["tempered", "untempered", "untempered as PLUMED has it"])
def test_hills_give_minima_and_barrier(factor: float, tmp_path: Path) -> None:
    hills, _ = metadynamics(tmp_path, 3, 3000, factor)
    found = by_files(hills=(hills,))
    assert np.abs(off(found)).max() < 0.6  # kT; the height of the hills at the end sets the noise
    assert off(found).std() < 0.3
    barrier, difference = exact_barrier()
    assert len(found.minima) == 2 and len(found.barriers) == 1
    assert found.minima[0].position[0].value == pytest.approx(-1.0, abs=0.15)
    assert found.barriers[0].height.value / KT == pytest.approx(barrier, abs=0.5)
    assert found.minima[1].free_energy.value / KT == pytest.approx(difference, abs=0.4)
    assert found.changes[-1] < 1e-9 < found.changes[0]


def test_reweighting_takes_the_growth_of_the_bias_out(tmp_path: Path) -> None:
    hills, colvar = metadynamics(tmp_path, 4, 3000, 6.0)
    found = by_files("reweight", Grid((-1.5,), (1.5,), (30,)), hills=(hills,), colvar=(colvar,))
    assert off(found).std() < 0.25


def test_a_bias_that_is_the_same_everywhere_is_all_offset() -> None:
    # V = 0.1 eV at every point says nothing of the free energy: c(t) = V, for any γ
    totals = np.array([np.full(50, 0.05), np.full(50, 0.1)])
    for factor, scale in ((6.0, 6 / 5), (np.inf, 1.0)):
        found = offset(np.array([1.0, 1.5, 2.0]), np.array([1.0, 2.0]), scale * totals, factor, KT)
        assert np.allclose(found, [0.05, 0.075, 0.1])


def test_errors_cover_the_truth(tmp_path: Path) -> None:
    # 12 independent runs, the differences of two minima: χ² of 12 lies between 3 and 28 with a chance of 0.99; the
    # error of an error of 10 blocks is a quarter, which widens it
    chi2 = {"hills": 0.0, "reweight": 0.0}
    for seed in range(12):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        hills, colvar = metadynamics(folder, 100 + seed, 1500, 6.0)
        for method in chi2:
            found = by_files(method, Grid((-1.5,), (1.5,), (15,)), hills=(hills,), colvar=(colvar,))
            x = found.axes[0].centres
            left, right = (int(np.argmin(abs(x - place))) for place in (-1.0, 1.0))
            truth = double_well(x[right]) - double_well(x[left])
            error = math.hypot(found.errors[left], found.errors[right]) / KT
            chi2[method] += ((found.values[right] - found.values[left]) / KT - truth) ** 2 / error**2
    print(chi2)
    assert all(2.0 < value < 35.0 for value in chi2.values())


def test_a_place_that_one_block_alone_has_seen_is_no_minimum() -> None:
    # a far visit to the edge of an umbrella weighs thousands of times what lies beneath it, and has no error
    density = np.tile([1.0, 4.0, 9.0, 4.0, 1.0, 0.0], (10, 1))
    density[6, 5] = 1000.0
    course = seen_twice(course_of((Axis("x", "Å", 0.0, 6.0, 6, periodic=False),), density, KT))
    origin = Provenance("run", 1, "nvt", 0.0, 1.0, 0.1, 10)
    found = summarise(course, 300.0, "umbrella windows and MBAR", "lines", (), origin)
    assert [one.position[0].value for one in found.minima] == [2.5]
    assert found.values[2] == 0.0
    assert np.isnan([found.values[5], found.errors[5]]).all()


def test_several_walkers_are_added_up(tmp_path: Path) -> None:
    hills, _ = metadynamics(tmp_path, 5, 60, 6.0)
    table = read_plumed_table(hills)
    parts = [
        write_table(tmp_path / f"HILLS.{n}", table.names, table.rows[n::3], **HILLS) for n in range(3)
    ]  # fmt: skip
    whole, together = by_files(hills=(hills,)), by_files(hills=tuple(parts))
    assert np.allclose(whole.values, together.values, equal_nan=True)


def umbrella(folder: Path, centre: float, rng: np.random.Generator, *, script: str | None = None) -> Path:
    """A run folder that a window would leave: a harmonic well ½ 10 kT x² under ½ 40 kT (x - centre)²."""
    spread, middle = 1 / math.sqrt(50), 40 * centre / 50
    run = write_run(folder, ase.Atoms("Ar"), (stage(0, 0, 1000),), np.zeros((1, 1, 3)))
    (folder / "bias.dat").write_text(
        script
        or f"x: CUSTOM ARG=y FUNC=x PERIODIC=NO\nu: RESTRAINT ARG=x AT={centre} KAPPA={40 * KJ}\n"
        "PRINT ARG=x,u.bias STRIDE=1 FILE=COLVAR\n"
    )
    manifest = json.loads((folder / "run.json").read_text())
    manifest["input"] = {"stage": [{"plumed": None, "bias": [{"kind": "umbrella"}]}]}
    (folder / "run.json").write_text(json.dumps(manifest))
    x = rng.normal(middle, spread, 600)
    lines = np.column_stack([np.arange(600) * 0.01, x, 20 * KJ * (x - centre) ** 2])
    write_table(folder / "COLVAR", ["time", "x", "u.bias"], lines)
    return run


CENTRES = np.linspace(-1.0, 1.0, 9)


def test_umbrellas_give_the_harmonic_well_beneath_them(tmp_path: Path) -> None:
    pytest.importorskip("pymbar")
    rng = np.random.default_rng(6)
    runs = [umbrella(tmp_path / f"w{n}", c, rng) for n, c in enumerate(CENTRES)]
    found = fes(runs, grid=Grid((-0.8,), (0.8,), (16,)))
    x = found.axes[0].centres
    width = found.axes[0].width
    # mean of the Boltzmann factor in a bin
    fine = x[:, None] + width * (np.arange(20) + 0.5)[None] / 20 - width / 2
    exact = -np.log(np.exp(-5 * fine**2).mean(axis=1))
    difference = found.values / KT - exact
    difference -= difference.mean()
    print(np.abs(difference).max(), found.errors / KT)
    assert np.abs(difference).max() < 0.25
    z = difference / (found.errors / KT)
    assert 0.3 < np.sqrt(np.mean(z**2)) < 2.5
    assert not [note for note in found.notes if "overlap" in note]
    apart = fes([runs[0], runs[-1]])
    assert [note for note in apart.notes if "overlap" in note]


def test_a_folder_of_windows_is_as_good_as_their_names(tmp_path: Path) -> None:
    pytest.importorskip("pymbar")
    rng = np.random.default_rng(6)
    runs = [umbrella(tmp_path / f"w{n}", c, rng) for n, c in enumerate(CENTRES)]
    (tmp_path / "replicas.json").write_text("{}")
    answer = mlmd("analyze", "fes", tmp_path)
    assert answer.code == 0, answer.err
    assert f"{fes(runs).minima[0].position[0].value:.2f}" in answer.out
    assert (tmp_path / "analysis" / "fes.json").is_file()


def test_the_lowest_way_between_two_basins_is_found() -> None:
    # two wells in a plane, a wall between them with a gate of 3 at the upper edge and one of 2 at the lower
    x, y = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21), indexing="ij")
    values = 1.0 * np.abs(y) - np.abs(x)
    values[10] = np.where(y[10] > 0.85, 3.0, np.where(y[10] < -0.85, 2.0, 10.0))
    values[3, 10] -= 0.5
    minima, (way,) = basins(values, (False, False), 0.5)
    assert len(minima) == 2 and values.ravel()[way.top] == 2.0
    assert basins(values, (False, False), 5.0)[1] == []
    # around a period one of the walls is no wall
    ring = np.cos(2 * np.linspace(0, 2 * math.pi, 40, endpoint=False))
    assert len(basins(ring, (True,), 0.5)[1]) == 1
    assert len(basins(np.cos(np.linspace(0, 2 * math.pi, 40)), (True,), 0.5)[0]) == 1


# -- lines of a bias that changes ------------------------------------------------------------------------------------


def drawn(folder: Path, n: int, seed: int, *, kelvin: float = T, column: str = "o.bias") -> Path:
    """COLVAR of a walker in the double well (kT of 300 K) under a bias that takes 0.8 of it away; time in ps."""
    rng, x = np.random.default_rng(seed), np.linspace(-1.8, 1.8, 3601)
    chances = np.exp(-0.2 * double_well(x) * T / kelvin)
    x = rng.choice(x, n, p=chances / chances.sum()) + rng.uniform(-5e-4, 5e-4, n)
    rows = np.column_stack([np.arange(n), x, rng.normal(size=n), -0.8 * double_well(x) * KJ])
    return write_table(folder / "COLVAR", ["time", "x", "y", column], rows)


def kernels_of(colvar: Path) -> Path:
    """KERNELS that OPES would leave of every fifth line."""
    table = read_plumed_table(colvar)
    rows = np.stack([table["time"], table["x"], np.full(len(table), 0.1), *np.exp([table.rows[:, -1] / KJ] * 2)], 1)
    rows[:, 4] = table.rows[:, -1] / KJ
    constants = {"action": "OPES_METAD_kernels", "biasfactor": 10, "epsilon": 1e-4, "kernel_cutoff": 6.0}
    names = ["time", "x", "sigma_x", "height", "logweight"]
    return write_table(colvar.parent / "KERNELS", names, rows[::5], **constants)


def biased_by(folder: Path, script: str, **files: Any) -> Biased:
    """Files in a folder and PLUMED's input beside them."""
    (folder / "plumed.dat").write_text(script)
    return biased_files(Files(plumed=folder / "plumed.dat", **files), T)


OPES_X = "o: OPES_METAD ARG=x BARRIER=20 PACE=5\n"


def test_files_of_opes_are_told_by_the_last_three_quarters_of_their_lines(tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 4000, 1)
    table = read_plumed_table(colvar)
    table.rows[:900, 1] = 0.9  # what happened while the bias grew fast
    write_table(colvar, table.names, table.rows)
    for case in (
        biased_files(Files(kernels=kernels_of(colvar), colvar=(colvar,)), T),
        biased_by(tmp_path, OPES_X, kernels=kernels_of(colvar), colvar=(colvar,)),
    ):
        found = free_energy([case], grid=Grid((-1.5,), (1.5,), (30,)))
        assert found.method == "reweighted samples" and found.provenance.n_frames == 3000
        assert found.provenance.first_time == 1000e3
        assert found.fractions[0] == pytest.approx(0.25 + 0.75 / 40) and found.fractions[-1] == 1.0
        assert off(found).std() < 0.15  # kT; 100 lines in a bin


@pytest.mark.parametrize(
    ("column", "script"),
    [("wall.bias", OPES_X), ("o.bias", OPES_X.replace("ARG=x", "ARG=z")), ("o.work", OPES_X)],
    ids=["another bias", "another variable", "no bias"],
)
def test_opes_is_told_by_its_kernels_where_its_lines_do_not_tell_enough(
    column: str, script: str, tmp_path: Path
) -> None:
    colvar = drawn(tmp_path, 1000, 2, column=column)
    kernels = kernels_of(colvar)
    kernels.write_text(kernels.read_text().replace("x", script.partition("ARG=")[2][0]))
    found = free_energy([biased_by(tmp_path, script, kernels=kernels, colvar=(colvar,))], grid=Grid())
    assert found.method == "the kernels of OPES"


def test_lines_with_the_bias_are_found_among_several_files(tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 2000, 3)
    rows = np.zeros((10, 3))
    walls = write_table(tmp_path / "WALLS", ["time", "x", "wall.bias"], rows)
    files = {"kernels": kernels_of(colvar), "colvar": (walls, colvar)}
    found = free_energy([biased_by(tmp_path, OPES_X, **files)], grid=Grid((-1.5,), (1.5,), (15,)))
    assert found.provenance.n_frames == 1500 and found.provenance.last_time == 1999e3


@pytest.mark.parametrize(
    "script",
    ["r: RESTRAINT ARG=y AT=0 KAPPA=1\n" + OPES_X, OPES_X.replace("ARG=x", "ARG=(x|z)")],
    ids=["order", "regex"],
)
def test_the_free_energy_of_opes_is_along_what_opes_biases(script: str, tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 1000, 4)
    case = biased_by(tmp_path, script, kernels=kernels_of(colvar), colvar=(colvar,))
    found = free_energy([case], grid=Grid())
    assert [axis.name for axis in found.axes] == ["x"] and found.method == "reweighted samples"


def test_lines_of_an_expanded_ensemble_are_weighed_by_its_bias(tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 4000, 5)
    script = "e: ECV_UMBRELLAS_LINE ARG=x CV_MIN=-1 CV_MAX=1 SIGMA=1 BARRIER=9\no: OPES_EXPANDED ARG=e.* PACE=5\n"
    case = biased_by(tmp_path, script, colvar=(colvar,))
    found = free_energy([case], variables=("x",), grid=Grid((-1.5,), (1.5,), (30,)))
    assert found.provenance.n_frames == 3000 and off(found).std() < 0.15
    with pytest.raises(InputError, match=r"which variables\? Name one to three with --cv: x, y"):
        free_energy([case], grid=Grid())


def test_c_of_t_is_that_of_one_bias_that_grows_alone_and_of_its_hills(tmp_path: Path) -> None:
    hills, colvar = metadynamics(tmp_path, 6, 100, 6.0)
    script = "metad: METAD ARG=x SIGMA=0.2 HEIGHT=1 PACE=1 BIASFACTOR=6\n"
    for more, files, words in (
        ("", {}, r"plumed\.dat: line 1: c\(t\) .* is that of its hills\. Give them with --hills"),
        ("other: METAD ARG=y SIGMA=1 PACE=1\n", {"hills": (hills,)}, "METAD metad and METAD other grow .*Run with one"),
    ):  # fmt: skip
        write_table(colvar, ["time", "x", "metad.bias", "other.bias"], np.ones((9, 4)) * np.arange(9)[:, None])
        case = biased_by(tmp_path, script + more, colvar=(colvar,), **files)
        with pytest.raises(InputError, match=words):
            free_energy([case], method="reweight", grid=Grid())
    with pytest.raises(InputError, match="grow beside each other"):
        free_energy([case], grid=Grid())


def test_lines_without_plumeds_input_are_taken_for_those_of_a_bias_that_stays_and_it_is_told(tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 1000, 7)
    found = free_energy([biased_files(Files(colvar=(colvar,)), T)], grid=Grid())
    assert found.provenance.n_frames == 1000
    assert any("of metadynamics give --hills too, of OPES --kernels" in note for note in found.notes)


@pytest.mark.parametrize(("n_crossings", "told"), [(2, True), (400, False)])
def test_an_error_of_blocks_that_are_too_short_is_told_of(n_crossings: int, told: bool, tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 4000, 12)
    table = read_plumed_table(colvar)
    side = np.arange(4000) * (n_crossings + 1) // 4000 % 2  # from one side to the other, so often
    table.rows[:, 1] = np.abs(table.rows[:, 1]) * (1 - 2 * side)
    write_table(colvar, table.names, table.rows)
    found = free_energy([biased_files(Files(colvar=(colvar,)), T)], grid=Grid())
    assert any("still grows" in note for note in found.notes) == told


@pytest.mark.parametrize("n_lines", [1000, 3000])
def test_few_lines_make_wide_bins_and_no_minima_by_chance(n_lines: int, tmp_path: Path) -> None:
    """Two valleys in a plane, of which a bias takes nine tenths away up to 6 kT: each line an independent sample."""

    def valleys(x: Any, y: Any) -> Any:
        return 3.2 * (x**2 - 1.0) ** 2 + 6.0 * (y - 0.5 * x) ** 2

    places = np.linspace(-2.0, 2.0, 201)
    x, y = (one.ravel() for one in np.meshgrid(places, places, indexing="ij"))
    bias = -0.9 * np.minimum(valleys(x, y), 6.0)
    chances = np.exp(-valleys(x, y) - bias)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        seen = rng.choice(len(x), n_lines, p=chances / chances.sum())
        spread = rng.uniform(-0.01, 0.01, (2, n_lines))
        rows = np.column_stack([np.arange(n_lines), x[seen] + spread[0], y[seen] + spread[1], bias[seen] * KJ])
        colvar = write_table(tmp_path / "COLVAR", ["time", "x", "y", "o.bias"], rows)
        found = free_energy([biased_files(Files(colvar=(colvar,)), T)], variables=("x", "y"), grid=Grid())
        assert len(found.minima) == 2


def test_a_valley_behind_bins_that_nobody_saw_is_told(tmp_path: Path) -> None:
    table = read_plumed_table(drawn(tmp_path, 8000, 5))
    notes = []
    for gap in (0.0, 0.2):
        rows = table.rows[np.abs(table["x"]) >= gap / 2]
        colvar = write_table(tmp_path / "COLVAR", table.names, rows)
        found = free_energy([biased_files(Files(colvar=(colvar,)), T)], variables=("x",), grid=Grid())
        notes.append([note for note in found.notes if "is not in the table" in note])
        assert len(found.minima) == (1 if gap else 2)
    assert not notes[0] and "a valley at x 0.9" in notes[1][0]


def test_a_piece_of_a_slope_is_no_valley() -> None:
    values = np.array([0.0, 1.0, 2.0, np.nan, 3.0, 4.0, 5.0, np.nan, 4.0, 2.0, 3.0])
    assert apart(values, [False], 1.0) == [9]
    assert apart(values, [False], 3.0) == []
    assert apart(values, [True], 1.0) == []  # around the period it goes down to the lowest point


def test_walkers_with_the_same_hills_are_told_once(tmp_path: Path) -> None:
    hills, _ = metadynamics(tmp_path, 7, 200, 6.0)
    cases = [replace(biased_files(Files(hills=(hills,)), T), path=f"walker-{number}") for number in range(2)]
    found = free_energy(cases, grid=Grid())
    alone = free_energy(cases[:1], grid=Grid())
    assert np.array_equal(found.values, alone.values, equal_nan=True) and "walker-1" in str(found.provenance)
    (tmp_path / "other").mkdir()
    other = biased_files(Files(hills=(metadynamics(tmp_path / "other", 8, 200, 6.0)[0],)), T)
    with pytest.raises(InputError, match="one of them will do"):
        free_energy([cases[0], other], grid=Grid())


def test_numbers_that_are_none_are_refused_where_they_count(tmp_path: Path) -> None:
    table = read_plumed_table(drawn(tmp_path, 2000, 5))
    for column, name in ((1, "x"), (3, r"o\.bias")):
        rows = table.rows.copy()
        rows[1000, column] = math.nan
        case = biased_files(Files(colvar=(write_table(tmp_path / "COLVAR", table.names, rows),)), T)
        with pytest.raises(InputError, match=rf"{name} is nan in one line, first at time 1000: numbers are needed"):
            free_energy([case], variables=("x",), grid=Grid())
        assert free_energy([case], variables=("x",), grid=Grid(), last_time=9.99e5).provenance.n_frames == 1000
        assert free_energy([case], variables=("y",), grid=Grid(), last_time=9.99e5).provenance.n_frames == 1000
    hills, _ = metadynamics(tmp_path, 7, 50, 6.0)
    table = read_plumed_table(hills)
    table.rows[20, 3] = math.nan
    with pytest.raises(InputError, match="height is nan in one line, first at time 21"):
        by_files(hills=(write_table(hills, table.names, table.rows, **HILLS),))


def test_a_bias_made_for_another_temperature_is_told(tmp_path: Path) -> None:
    hills, colvar = metadynamics(tmp_path, 7, 50, 6.0)
    for kelvin, more, told in ((600, "BIASFACTOR=6", True), (300, "BIASFACTOR=6", False), (600, "", False)):
        script = tmp_path / "p.dat"
        script.write_text(f"x: DISTANCE ATOMS=1,2\nmetad: METAD ARG=x SIGMA=0.2 HEIGHT=1 PACE=1 TEMP={kelvin} {more}\n")
        for method in ("hills", "reweight"):
            found = by_files(method, hills=(hills,), colvar=(colvar,), plumed=script)
            assert any(f"METAD has TEMP={kelvin}, and the run 300 K" in note for note in found.notes) == told


def test_kernels_that_end_early_are_told(tmp_path: Path) -> None:
    colvar = drawn(tmp_path, 500, 1)
    kernels = kernels_of(colvar)  # which end at 6 widths
    for text, told in ((kernels.read_text(), False), (kernels.read_text().replace("cutoff 6.0", "cutoff 3.48"), True)):
        kernels.write_text(text)
        for method in ("kernels", "reweight"):
            found = by_files(method, kernels=kernels, colvar=(colvar,))
            assert any("kernels of OPES that end at 3.48 widths" in note for note in found.notes) == told


def test_a_temperature_beside_that_of_the_thermostat_is_refused(tmp_path: Path) -> None:
    run = umbrella(tmp_path / "a", 0.0, np.random.default_rng(9))
    assert fes([run], method="reweight", temperature=300.0).temperature == 300.0
    with pytest.raises(InputError, match=r"stage 1 \(nvt\) held 300 K, and --temperature says 600 K"):
        fes([run], method="reweight", temperature=600.0)


def test_a_part_of_a_period_has_all_lines_that_lie_in_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    angle = rng.uniform(-math.pi, math.pi, 5000)
    rows = np.column_stack([np.arange(5000), angle, np.zeros(5000)])
    colvar = write_table(tmp_path / "COLVAR", ["time", "t", "o.bias"], rows, min_t="-pi", max_t="pi")
    case = biased_files(Files(colvar=(colvar,)), T)
    # from 0 to 4.5, of which what is beyond pi is written as -pi to -1.78
    found = free_energy([case], variables=("t",), grid=Grid((0.0,), (4.5,), (9,)))
    assert np.isfinite(found.values).all() and found.values.max() < 0.3 * KT


def test_times_that_go_back_are_told(tmp_path: Path) -> None:
    hills, _ = metadynamics(tmp_path, 8, 60, 6.0)
    before = by_files(hills=(hills,))
    with hills.open("a") as file:
        file.write("".join(hills.read_text().splitlines(keepends=True)[-5:]))
    after = by_files(hills=(hills,))
    assert not any("go back" in note for note in before.notes)
    assert any("HILLS: times go back after 60 ps" in note for note in after.notes)


def two_stages(folder: Path, first: dict[str, Any], second: dict[str, Any], **manifest: Any) -> Path:
    """A run with two biased stages of 4 ps, the first at 600 K."""
    atoms = ase.Atoms("Ar")
    stages = (stage(0, 0, 2000, temperature=(600.0, 600.0)), stage(1, 2000, 2000))
    inputs = {"stage": [{"plumed": None, "bias": [one]} for one in (first, second)]}
    return write_run(folder, atoms, stages, np.zeros((1, 1, 3)), input=inputs, **manifest)


def test_lines_of_another_ensemble_are_left_out(tmp_path: Path) -> None:
    run = two_stages(tmp_path / "run", {"kind": "umbrella"}, {"kind": "umbrella"})
    (run / "bias.dat").write_text("o: RESTRAINT ARG=x AT=0 KAPPA=1\nPRINT ARG=x,o.bias STRIDE=1 FILE=COLVAR\n")
    parts = []
    for kelvin in (600.0, 300.0):
        parts.append(read_plumed_table(drawn(run, 4000, 9, kelvin=kelvin)).rows)
    rows = np.concatenate(parts)
    rows[:, 0] = 1e-3 * np.arange(8000)
    rows[:4000, 1] = np.abs(rows[:4000, 1])
    write_table(run / "COLVAR", ["time", "x", "y", "o.bias"], rows)
    found = fes([run], method="reweight", grid=Grid((-1.5,), (1.5,), (30,)))
    assert off(found).std() < 0.15  # half a kT with the lines at 600 K, all on the right
    assert found.provenance.first_time == 4000.0
    assert any("stage 1 (nvt, 600 K) has the same bias: its lines" in note for note in found.notes)


def test_a_walker_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    abf: dict[str, Any] = {"kind": "abf", "cv": []}
    run = two_stages(tmp_path / "run", abf, abf)
    with pytest.raises(InputError, match="run is given twice"):
        fes([run, tmp_path / "." / "run"])


def test_each_stage_is_told_from_its_own_file(tmp_path: Path) -> None:
    abf, hyper = {"kind": "abf", "cv": []}, {"kind": "hyperdynamics"}
    # the springs of an extended variable follow the temperature, so that one table is two files
    run = two_stages(tmp_path / "a", abf, abf, biases={"1": "bias.dat", "2": "bias-2.dat"})
    # and hyperdynamics has none, which runs from before the manifest told have to be read by
    other = two_stages(tmp_path / "b", hyper, abf)
    for folder, names in ((run, ("bias.dat", "bias-2.dat")), (other, ("bias.dat",))):
        for name in names:
            (folder / name).write_text("PRINT ARG=x FILE=COLVAR\n")
    cases = [biased_run(open_run(run), number) for number in (1, 2)]
    assert [one.abf for one in cases] == [run / "abf.dat", run / "abf-2.dat"]
    assert not any(one.notes or one.since > 0 for one in cases)
    assert biased_run(open_run(other)).abf == other / "abf.dat"


# -- units -----------------------------------------------------------------------------------------------------------


def test_units_are_those_of_the_plumed_input(tmp_path: Path) -> None:
    rows = np.array([[1, 0.2, 0.02, 1.0, 5], [2, 0.3, 0.02, 0.5, 5]])
    path = write_table(tmp_path / "HILLS", ["time", "d", "sigma_d", "height", "biasf"], rows, **HILLS)
    values = {}
    for name, line, length, energy in (
        ("own", "", 10.0, EV_PER_KJMOL), ("real", "UNITS LENGTH=A ENERGY=kcal/mol TIME=fs\n", 1.0, EV_PER_KCALMOL),
        ("numbers", "UNITS LENGTH=0.1 ENERGY=4.184\n", 1.0, EV_PER_KCALMOL),
    ):  # fmt: skip
        script = tmp_path / f"{name}.dat"
        script.write_text(f"{line}d: DISTANCE ATOMS=1,2\nMETAD ARG=d SIGMA=0.02 HEIGHT=1 PACE=1 FILE=HILLS\n")
        found = by_files(hills=(path,), plumed=script)
        assert found.axes[0].unit == "Å"
        assert found.minima[0].position[0].value == pytest.approx(0.2 * length, abs=0.01 * length)
        values[name] = np.nanmax(found.values) / energy
    assert values["own"] == pytest.approx(values["real"], rel=1e-9) == pytest.approx(values["numbers"], rel=1e-9)


def test_the_cosine_of_a_torsion_is_no_angle(tmp_path: Path) -> None:
    script = tmp_path / "p.dat"
    script.write_text("t: TORSION ATOMS=1,2,3,4\nc: TORSION ATOMS=1,2,3,4 COSINE\n")
    case = biased_files(Files(hills=(script,), plumed=script), T)
    assert case.shown("t") == ("deg", pytest.approx(180 / math.pi)) and case.shown("c") == ("", 1.0)


def test_windows_may_have_units_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("pymbar")
    found = []
    for units in ("", "UNITS LENGTH=A ENERGY=kcal/mol\n"):
        rng, runs = np.random.default_rng(6), []
        for number, centre in enumerate(CENTRES):
            mixed, head = (0.1, units) if units and number % 2 else (1.0, "")  # of an angstrom, or a nanometre
            kappa = 40 * KJ * (mixed**2 / 4.184 if head else 1.0)
            script = (
                f"{head}x: DISTANCE ATOMS=1,2\nu: RESTRAINT ARG=x AT={centre / mixed} KAPPA={kappa}\n"
                "PRINT ARG=x,u.bias STRIDE=1 FILE=COLVAR\n"
            )
            runs.append(umbrella(tmp_path / f"{bool(units)}{number}", centre, rng, script=script))
            table = read_plumed_table(runs[-1] / "COLVAR")
            write_table(runs[-1] / "COLVAR", table.names, table.rows / [1.0, mixed, 1.0])
        found.append(fes(runs, grid=Grid((-8.0,), (8.0,), (16,))))
    assert found[0].axes[0].unit == "Å"
    assert np.allclose(found[0].values, found[1].values, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("UNITS ENERGY=eV", 1.0), ("UNITS ENERGY=Ha", 27.211386), ("UNITS ENERGY=j/mol", EV_PER_KJMOL / 1000), ("", None)],
)
def test_energies_have_the_size_of_their_unit(line: str, expected: float | None) -> None:
    found = units_in(tuple(split_statements(Path("p.dat"), line)))
    assert found == PlumedUnits() if expected is None else found.energy == pytest.approx(expected, rel=1e-6)


# -- wrong inputs ----------------------------------------------------------------------------------------------------


def test_wrong_inputs_are_explained(tmp_path: Path) -> None:
    hills, colvar = metadynamics(tmp_path, 7, 50, 6.0)
    plain = write_run(tmp_path / "plain", ase.Atoms("Ar"), (stage(0, 0, 1000),), np.zeros((1, 1, 3)))
    with pytest.raises(InputError, match="no bias acted in this run"):
        fes([plain])
    with pytest.raises(InputError, match=rf"is not a run folder of mlmd.*--hills {hills} --colvar {colvar} --temp"):
        fes([tmp_path])
    with pytest.raises(InputError, match=rf"is a file, and no run folder. Give it with --hills {hills} --temp"):
        fes([hills])
    with pytest.raises(InputError, match=rf"Give it with --colvar {colvar} --temp"):
        fes([colvar])
    with pytest.raises(InputError, match="HILLS is given twice, and would count twice"):
        by_files(hills=(hills, hills))
    (tmp_path / "opes").mkdir()
    kernels = kernels_of(drawn(tmp_path / "opes", 100, 1))
    with pytest.raises(InputError, match="KERNELS has kernels of OPES, and no hills"):
        by_files(hills=(kernels,))
    with pytest.raises(InputError, match=r"--cv x --cv x: a variable is named twice"):
        free_energy([biased_files(Files(colvar=(colvar,)), T)], variables=("x", "x"), grid=Grid())
    with pytest.raises(InputError, match=r"COLVAR: of its 100 lines, from 0.5 to 50 ps, 0 lie between --from and --to"):
        free_energy([biased_files(Files(colvar=(colvar,)), T)], variables=("x",), grid=Grid(), first_time=1e6)
    with pytest.raises(InputError, match="KERNELS: of its 20 kernels, from 0 to 95 ps, 0 lie between"):
        free_energy([biased_files(Files(kernels=kernels), T)], method="kernels", grid=Grid(), first_time=1e6)
    assert "--stage 2: stages are" in mlmd("analyze", "fes", "--hills", hills, "--temperature", 300, "--stage", 2).err
    with pytest.raises(InputError, match="does not tell the temperature"):
        by_files(hills=(hills,), temperature=None)
    script = tmp_path / "other.dat"
    script.write_text("d: DISTANCE ATOMS=1,2\nMETAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=1\n")
    with pytest.raises(InputError, match=r"is of x, and .*biases d"):
        by_files(hills=(hills,), plumed=script)
    for name, text, reason in (
        ("empty", "", "is empty"), ("header", "#! FIELDS time x sigma_x height biasf\n", "no lines of numbers yet"),
        ("prose", "It was a dark night.\n", "does not begin with"),
        ("short", "#! FIELDS time x sigma_x height biasf\n1 2 3\n2 3 4 5 6\n", "line 2 has 3 numbers for 5"),
        ("words", "#! FIELDS time x sigma_x height biasf\n1 2 3 a b\n", "has numbers only"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=reason):
            by_files(hills=(tmp_path / name,))
    with pytest.raises(StorageError, match="does not exist yet"):
        by_files(hills=(tmp_path / "nowhere",))
    with pytest.raises(InputError, match=r"no column 'y'.*"):
        free_energy([biased_files(Files(colvar=(colvar,)), T)], method="reweight", variables=("y",), grid=Grid())
    with pytest.raises(InputError, match="Did you mean 'hills'"):
        by_files("hill", hills=(hills,))
    with pytest.raises(InputError, match="2 given for 1 variables"):
        by_files(hills=(hills,), grid=Grid((0.0, 1.0), (), ()))
    with pytest.raises(InputError, match="no point of the grid was visited"):
        by_files(hills=(hills,), grid=Grid((50.0,), (60.0,), (10,)))
    with pytest.raises(InputError, match="NATURAL"):
        units_in(tuple(split_statements(Path("p.dat"), "UNITS NATURAL")))


def test_an_adaptive_force_has_its_own_temperature_and_no_times(tmp_path: Path) -> None:
    axis = Axis("x", "Å", -1.0, 1.0, 4, False)
    path = tmp_path / "abf.dat"
    table = AdaptiveForces((axis,), T, 100, 1e4, np.full(4, 50.0), np.array([[-0.1, -0.05, 0.05, 0.1]]))
    path.write_text(table_of(table))
    assert by_files(abf=path, temperature=None).temperature == T
    with pytest.raises(InputError, match=r"abf\.dat is of 300 K, and --temperature says 600 K"):
        by_files(abf=path, temperature=600.0)
    case = biased_files(Files(abf=path), None)
    with pytest.raises(InputError, match="no times are kept of adaptive biasing forces"):
        free_energy([case], grid=Grid(), first_time=10.0)


def test_a_window_of_something_else_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    first = umbrella(tmp_path / "a", 0.0, rng)
    metad = umbrella(
        tmp_path / "b", 0.0, rng, script="x: CUSTOM ARG=y FUNC=x PERIODIC=NO\nMETAD ARG=x SIGMA=1 PACE=1\n"
    )
    other = umbrella(tmp_path / "c", 0.0, rng, script="RESTRAINT ARG=z AT=0 KAPPA=1\nPRINT ARG=z FILE=COLVAR\n")
    with pytest.raises(InputError, match=r"is no umbrella window.*METAD"):
        fes([first, metad])
    with pytest.raises(InputError, match=r"restrains z, .* x"):
        fes([first, other])


def test_a_run_that_goes_on_says_so_and_its_unfinished_line_is_left_out(tmp_path: Path) -> None:
    run = umbrella(tmp_path / "a", 0.0, np.random.default_rng(9))
    manifest = json.loads((run / "run.json").read_text()) | {"state": "running"}
    (run / "run.json").write_text(json.dumps(manifest))
    before = fes([run])
    with (run / "COLVAR").open("a") as file:
        file.write(" 20.0 0.1")
    descriptor = os.open(run / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        after = fes([run])
    finally:
        os.close(descriptor)
    assert np.allclose(before.values, after.values, equal_nan=True)
    assert any("still going on" in note for note in after.notes)
    assert not any("still going on" in note for note in before.notes)


def test_the_command_prints_a_table_and_writes_its_files(tmp_path: Path) -> None:
    hills, _ = metadynamics(tmp_path, 10, 800, 6.0)
    answer = mlmd("analyze", "fes", "--hills", hills, "--temperature", 300, "--out", tmp_path / "o")
    assert answer.code == 0, answer.err
    for word in ("the hills of metadynamics", "800 hills", "minimum 2", "barrier 1 to 2", "F (kT)", "has changed by"):
        assert word in answer.out
    data = json.loads((tmp_path / "o" / "fes.json").read_text())
    assert data["kT_eV"] == pytest.approx(KT) and data["minima"]["minimum 2"]["free_energy_in_kT"]["error"] > 0
    assert (tmp_path / "o" / "fes.csv").read_text().startswith("x,free energy [eV],error [eV]")
    assert (tmp_path / "o" / "fes.png").exists()
    assert mlmd("analyze", "fes", "--hills", hills).code == 2
    assert mlmd("analyze", "fes").code == 2
    assert "commas" in mlmd("analyze", "fes", "--hills", hills, "--temperature", 300, "--min", "a").err


# -- runs ------------------------------------------------------------------------------------------------------------

WELL = (
    "p: POSITION ATOM=1 NOPBC\nwell: CUSTOM ARG=p.x FUNC=10*((x/0.1)^2-1)^2 PERIODIC=NO\n"
    "tube: CUSTOM ARG=p.y,p.z VAR=y,z FUNC=2000*(y^2+z^2) PERIODIC=NO\nfield: BIASVALUE ARG=well,tube\n"
)
X = '{ kind = "position", atom = 0, axis = "x" }'
BIASES = {
    "metad": (f'kind = "metadynamics", cv = {X}, width = "0.15 Å", height = "0.1 kJ/mol", every = "400 fs", '
              'bias_factor = 4'),
    "opes": f'kind = "opes", cv = {X}, barrier = "25 kJ/mol", every = "500 fs"',
    "abf": f'kind = "abf", cv = {X}, minimum = "-1.4 Å", maximum = "1.4 Å", width = "0.1 Å", write_every = "20 ps"',
}  # fmt: skip


def run_of(folder: Path, bias: str, duration: str) -> Path:
    """A particle in the double well of PLUMED's making, biased by what the input says."""
    stages = (
        '[[stage]]\nkind = "nvt"\ntemperature = 300\nthermostat = { kind = "langevin", friction = "2 / ps" }\n'
        f'duration = "{duration}"\nplumed = "field.dat"\nbias = {{ {bias} }}\n'
    )
    path = write_input(
        folder, stages, atoms=ase.Atoms("Ar", [[-1.0, 0.0, 0.0]]), potential='{ kind = "trap", stiffness = 0.0 }',
        options='remove_com_motion = false\ntimestep = "20 fs"\n[guard]\nenabled = false',
        output='log_every = "200 fs"\ntrajectory_every = "20 ps"',
    )  # fmt: skip
    (folder / "field.dat").write_text(WELL)
    return simulate(path, folder / "run", threads=1).path


@pytest.fixture
def _trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")


@pytest.mark.slow
@pytest.mark.usefixtures("_trap")
@pytest.mark.parametrize("kind", BIASES)
def test_runs_give_the_double_well_within_a_fifth_of_kt(kind: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, BIASES[kind], "5 ns" if kind == "opes" else "1 ns")
    for way in ("kernels", "reweight") if kind == "opes" else (None,):
        found = fes([run], method=way)
        x = found.axes[0].centres
        inside = np.abs(x) < 1.25
        assert found.axes[0].unit == "Å"
        difference = (found.values[inside] - 10 * EV_PER_KJMOL * (x[inside] ** 2 - 1) ** 2) / found.kt
        difference -= difference.mean()
        height, other = found.barriers[0].height, found.minima[1].free_energy
        print(kind, way, "rms", difference.std(), "largest", np.abs(difference).max(), "barrier", height)
        assert difference.std() < 0.2
        assert other.consistent_with_zero or abs(other.value) < 0.2 * found.kt
        # single bins of reweighted lines scatter more than sums of kernels, and say so
        limit = 0.5 if way != "reweight" else max(0.5, 3.0 * height.error / EV_PER_KJMOL)
        assert height.value / EV_PER_KJMOL == pytest.approx(10.0, abs=limit) and height.error / EV_PER_KJMOL < 0.6


@pytest.mark.usefixtures("_trap")
def test_a_biased_run_shows_its_free_energy_in_its_report(tmp_path: Path) -> None:
    run = run_of(tmp_path, BIASES["metad"], "40 ps")
    assert isinstance(biased_run(open_run(run)), Biased)
    assert mlmd("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "Free energy" in page and "100 hills" in page and "analyse again" not in page
    assert (run / "analysis" / "fes.png").exists()


@pytest.mark.usefixtures("_trap")
def test_a_run_keeps_the_plumed_files_that_it_was_given(tmp_path: Path) -> None:
    stages = '[[stage]]\nkind = "nvt"\ntemperature = 300\nduration = "20 ps"\nplumed = "given/metad.dat"\n'
    path = write_input(
        tmp_path, stages, atoms=ase.Atoms("Ar", [[-1.0, 0.0, 0.0]]), potential='{ kind = "trap", stiffness = 0.1 }',
        options='remove_com_motion = false\ntimestep = "20 fs"\n[guard]\nenabled = false',
    )  # fmt: skip
    given = tmp_path / "given" / "metad.dat"
    (given.parent / "parts").mkdir(parents=True)
    given.write_text(
        "UNITS LENGTH=A ENERGY=eV\nINCLUDE FILE=parts/variable.dat\n"
        "METAD ARG=x SIGMA=0.2 HEIGHT=0.001 PACE=20 FILE=HILLS\n"
    )
    (given.parent / "parts" / "variable.dat").write_text("p: POSITION ATOM=1 NOPBC\nx: COMBINE ARG=p.x PERIODIC=NO\n")
    run = simulate(path, tmp_path / "run", threads=1).path
    before = fes([run])
    given.parent.rename(tmp_path / "elsewhere")
    after = fes([run])
    assert np.array_equal(before.values, after.values, equal_nan=True)
    assert after.axes[0].unit == "Å"  # as the copy says, and nm would be without it
    (run / "plumed" / "stage1" / "metad.dat").write_text("METAD ARG=x SIGMA=0.2 HEIGHT=0.001 PACE=20 FILE=HILLS\n")
    with pytest.raises(InputError, match=r"metad\.dat is gone, and only it tells the units"):
        fes([run])
