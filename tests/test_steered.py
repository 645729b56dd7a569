"""Steered runs: the work that is done on a variable is known, also of a continued run, and tells the free energy.

The free energy is asked of pulls in the double well 10 kJ/mol ((x/Å)² - 1)² at 300 K, made here by Brownian dynamics.
"""

from __future__ import annotations

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from made_runs import stage, write_run
from runs import run_in_parts, write_input

from mlmd.analysis.fes import fes
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.plumed_table import read_plumed_table
from mlmd.units import EV_PER_KJMOL, KB

KT = KB * 300.0 / EV_PER_KJMOL
"""kJ/mol."""
SPRING, N_RUNS, N_TIMES = 200.0, 60, 150
"""kJ/mol/Å², pulls, and lines of each."""


def pulls(seed: int, n_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places (Å) of the restraint, and of particles it pulls from -1.2 to 1.2 Å with the work (kJ/mol), at N_TIMES."""
    rng, step, x = np.random.default_rng(seed), 2e-4, np.full(N_RUNS, -1.2)  # a step is 2 D Δt/kT Å²/(kJ/mol)
    every, work = n_steps // (N_TIMES - 1), np.zeros(N_RUNS)
    centres = np.concatenate([np.full(2000, -1.2), np.linspace(-1.2, 1.2, every * (N_TIMES - 1) + 1)])
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for number, (place, before) in enumerate(zip(centres, np.roll(centres, 1), strict=True)):
        if number > 2000:
            work += 0.5 * SPRING * ((x - place) ** 2 - (x - before) ** 2)
        if number >= 2000 and (number - 2000) % every == 0:
            kept.append((x.copy(), work.copy()))
        slope = 40 * x * (x**2 - 1) + SPRING * (x - place)
        x = x - step * slope + np.sqrt(2 * step * KT) * rng.standard_normal(N_RUNS)
    return centres[2000::every], *(np.array(one).T for one in zip(*kept, strict=True))


def run_of(folder: Path, centres: np.ndarray, values: np.ndarray, work: np.ndarray) -> Path:
    """The folder that a steered run would leave, in PLUMED's units."""
    run = write_run(folder, ase.Atoms("Ar"), (stage(0, 0, 1000),), np.zeros((1, 1, 3)))
    (folder / "bias.dat").write_text(
        "x: DISTANCE ATOMS=1,2\nw: MOVINGRESTRAINT ARG=x STEP0=0 AT0=-0.12 KAPPA0=20000 STEP1=1000 AT1=0.12\n"
        "PRINT ARG=x,w.* STRIDE=1 FILE=COLVAR\n"
    )
    manifest = json.loads((folder / "run.json").read_text())
    manifest["input"] = {"stage": [{"plumed": None, "bias": [{"kind": "steered"}]}]}
    (folder / "run.json").write_text(json.dumps(manifest))
    rows = np.column_stack(
        [0.01 * np.arange(len(values)), values / 10, centres / 10, work, np.full(len(values), 100 * SPRING)]
    )
    lines = "".join(" ".join(f"{one:.10g}" for one in row) + "\n" for row in rows)
    (folder / "COLVAR").write_text(f"#! FIELDS time x w.x_cntr w.x_work w.x_kappa\n{lines}")
    return run


def test_the_work_of_fast_pulls_gives_the_free_energy(tmp_path: Path) -> None:
    centres, values, work = pulls(1, 6_000)
    runs = [run_of(tmp_path / str(n), centres, values[n], work[n]) for n in range(N_RUNS)]
    kt = 300.0 * KB  # of these folders, too
    found = fes(runs)
    assert found.temperature == 300.0
    lost = work[:, -1].mean() / KT
    x = found.axes[0].centres
    inside = (np.abs(x) < 1.1) & np.isfinite(found.values)
    off = found.values[inside] / kt - 10 * (x[inside] ** 2 - 1) ** 2 / KT
    off -= off.mean()
    errors = found.errors[inside] / kt
    print("lost as heat", lost, "kT; off by", np.abs(off).max(), "rms", off.std(), "error", errors.mean(), "kT", found)
    assert lost > 1.0  # where the free energy of both ends is the same
    assert off.std() < 0.3
    assert 0.3 < np.sqrt(np.mean((off / errors) ** 2)) < 2.0


def steered(folder: Path) -> Path:
    table = (
        '[[stage]]\nkind = "nvt"\ntemperature = "80 K"\nduration = "500 fs"\n'
        'bias = { kind = "steered", cv = { kind = "distance", atoms = [0, 1] }, at = ["3.6 Å", "5 Å"], '
        'times = ["50 fs", "400 fs"], spring = "500 kJ/mol/nm^2" }\n'
    )
    atoms = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 2.0, 3.0]], cell=[20.0] * 3, pbc=True)
    return write_input(folder, table, atoms=atoms, output='log_every = "5 fs"\n[guard]\nenabled = false')


def test_the_work_of_a_continued_run_is_that_of_one_run(tmp_path: Path) -> None:
    path = steered(tmp_path)
    one = simulate(path, tmp_path / "one", threads=1).path
    parts = run_in_parts(path, tmp_path / "parts", [33, 70], threads=1).path
    rows = [
        [line for line in (run / "COLVAR").read_text().splitlines() if line[0] != "#"] for run in (one, parts)
    ]  # fmt: skip
    total, since = (read_plumed_table(parts / "COLVAR")[name] for name in ("steered1_work", "steered1.distance1_work"))
    table = read_plumed_table(one / "COLVAR")
    assert np.array_equal(total, table["steered1_work"])
    assert since[-1] != total[-1]  # PLUMED counts anew
    assert len(rows[0]) == len(rows[1]) == 101
    # the same from places and forces line by line, which are printed at every step, with six digits
    force = -500 * (table["distance1"] - table["steered1.distance1_cntr"])
    moves = np.diff(table["steered1.distance1_cntr"])
    integral = np.sum(0.5 * (force[1:] + force[:-1]) * moves)
    assert abs(integral) > 0.1
    assert total[-1] == pytest.approx(integral, rel=1e-3)
    said = (parts / "messages.log").read_text()
    assert "does not keep the memory" not in said
    (line,) = [line for line in said.splitlines() if "of work on distance1" in line]
    assert float(line.partition("has done ")[2].split()[0]) == pytest.approx(total[-1] * EV_PER_KJMOL, rel=1e-4)


def test_one_pull_tells_its_work_and_asks_for_more(tmp_path: Path) -> None:
    run = simulate(steered(tmp_path), tmp_path / "run", threads=1)
    found = fes([run])
    assert found.method == "the work of steered runs"
    assert any("one run tells its work" in note for note in found.notes)
    assert np.isnan(found.errors).all()


def test_pulls_along_other_ways_are_refused(tmp_path: Path) -> None:
    centres, values, work = pulls(2, 600)
    one = run_of(tmp_path / "one", centres, values[0], work[0])
    other = run_of(tmp_path / "other", centres + 0.1, values[1], work[1])
    with pytest.raises(InputError, match="does not go the way"):
        fes([one, other])


def test_a_work_that_plumed_counted_anew_is_not_believed(tmp_path: Path) -> None:
    centres, values, work = pulls(2, 600)
    run = run_of(tmp_path / "run", centres, values[0], work[0])
    with (tmp_path / "run" / "COLVAR").open("a") as file:
        file.write("#! FIELDS time x w.x_cntr w.x_work w.x_kappa\n2.0 0.12 0.12 0.0 20000\n")
    with pytest.raises(InputError, match="w_before: CONSTANT VALUE=0"):
        fes([run])
