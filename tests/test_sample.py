"""Frames of runs that know nothing of each other."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from made_runs import EVERY, TIMESTEP, stage, walk, write_run, write_trajectory

from mlmd.engine.outputs import LOG_HEADER
from mlmd.errors import InputError
from mlmd.io.labelled import read_labelled
from mlmd.rundir import StageRecord
from mlmd.sample.decorrelate import correlation, sample
from mlmd.sample.perturb import rattled, strained
from mlmd.sample.sources import Series

FRAME = TIMESTEP * EVERY
"""fs between frames, and between lines of the log."""


def remembering(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    """n values of unit variance with ρ(t) = φᵗ and 2τ = (1 + φ) / (1 - φ) = memory."""
    phi = (memory - 1.0) / (memory + 1.0)
    values = rng.normal(size=n)
    for k in range(1, n):
        values[k] = phi * values[k - 1] + np.sqrt(1.0 - phi**2) * values[k]
    return values


def make_run(
    folder: Path, n_frames: int, energies: np.ndarray | None = None, temperature: float = 300.0, seed: int = 1
) -> Path:
    """A run of four argon atoms with a frame and an energy every `FRAME` fs; the x of atom 0 counts frames."""
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    rng = np.random.default_rng(seed)
    positions = atoms.positions + walk(rng, n_frames, 4)
    positions[:, 0, 0] = np.arange(n_frames)
    stages = (stage(0, 0, (n_frames - 1) * EVERY, temperature=(temperature, temperature)),)
    write_run(folder, atoms, stages, positions)
    write_energies(folder, stages, remembering(rng, n_frames, 8.0) if energies is None else energies)
    return folder


def write_energies(folder: Path, stages: tuple[StageRecord, ...], energies: np.ndarray) -> None:
    rows = [
        f"{EVERY * k},{stages[-1].index + 1},{FRAME * k / 1e3:.10g},{energy:.10g},1,0,300,0,1000,1,300,0"
        for k, energy in enumerate(energies)
    ]
    (folder / "log.csv").write_text(LOG_HEADER + "\n".join(rows) + "\n", encoding="utf-8")


def numbers_of(frames: tuple) -> np.ndarray:  # type: ignore[type-arg]
    """Numbers of the frames in their run, as their positions tell."""
    return np.array([round(float(frame.atoms.positions[0, 0])) for frame in frames])


@pytest.mark.parametrize("memory", [1.0, 5.0, 40.0])
def test_the_memory_of_a_series_with_a_known_one_is_found(memory: float) -> None:
    n = 50_000
    energies = remembering(np.random.default_rng(7), n, memory)
    found = correlation(Series(2.0 * np.arange(n), energies))
    # the statistical error of τ from n values is about √(2 · memory / n) · (a few), here below 8 %
    assert 2.0 * found.tau == pytest.approx(2.0 * memory, rel=0.15)
    assert found.n_independent == pytest.approx(n / memory, rel=0.15)


def test_what_comes_before_equilibrium_is_left_out() -> None:
    n, relaxation = 4000, 100.0
    noise = remembering(np.random.default_rng(3), n, 5.0)
    energies = noise + 30.0 * np.exp(-np.arange(n) / relaxation)
    found = correlation(Series(np.arange(n, dtype=float), energies))
    # after 3.4 relaxation times the energy is one standard deviation above its mean, after 8 nothing is left
    assert 3.4 * relaxation < found.start < 8.0 * relaxation
    at_once = correlation(Series(np.arange(n, dtype=float), noise))
    assert at_once.start < 0.2 * n


def test_frames_are_two_autocorrelation_times_apart_and_evenly_so(tmp_path: Path) -> None:
    result = sample([make_run(tmp_path / "a.run", 2000)])
    (part,) = result.parts
    assert part.tau is not None and part.n_independent is not None
    assert 2.0 * part.tau == pytest.approx(8.0 * FRAME, rel=0.4)  # 250 independent energies
    gaps = np.diff(numbers_of(result.frames))
    assert gaps.min() == gaps.max() == np.ceil(2.0 * part.tau / FRAME) == part.interval / FRAME
    assert len(result.frames) == part.n_taken
    assert part.n_taken == pytest.approx(part.n_independent, rel=0.15)


def test_frames_of_the_equilibration_are_not_taken(tmp_path: Path) -> None:
    energies = remembering(np.random.default_rng(3), 2000, 5.0) + 50.0 * np.exp(-np.arange(2000) / 60.0)
    result = sample([make_run(tmp_path / "a.run", 2000, energies)])
    assert result.parts[0].discarded >= 3 * 60 * FRAME
    assert numbers_of(result.frames)[0] * FRAME >= result.parts[0].discarded
    given = sample([tmp_path / "a.run"], first_time=0.0)
    assert numbers_of(given.frames)[0] == 0


def test_a_number_of_frames_is_spread_over_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 2000)
    every = sample([run])
    few = sample([run], n=10)
    numbers = numbers_of(few.frames)
    assert len(numbers) == 10
    assert numbers[0] == numbers_of(every.frames)[0] and numbers[-1] == numbers_of(every.frames)[-1]
    assert np.ptp(np.diff(numbers)) <= 1
    assert not few.notes


@pytest.mark.parametrize("n", [1, 2, 3, 50, 99, 100])
def test_thinning_never_brings_frames_closer(n: int, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 300)
    numbers = numbers_of(sample([run], n=n, every=3, first_time=0.0).frames)
    assert len(numbers) == n
    assert np.diff(numbers).min(initial=3) >= 3


def test_more_frames_than_are_independent_are_not_given_and_it_is_said(tmp_path: Path) -> None:
    result = sample([make_run(tmp_path / "a.run", 400)], n=300)
    assert len(result.frames) < 100
    assert any(f"{len(result.frames)} frames instead of 300" in note for note in result.notes)


def test_runs_are_pooled_in_proportion_and_named_with_their_temperature(tmp_path: Path) -> None:
    long = make_run(tmp_path / "melt.run", 1500, temperature=900.0)
    short = make_run(tmp_path / "crystal.run", 500, temperature=300.0, seed=2)
    result = sample([long, short], every=5, first_time=0.0, n=100)
    groups = [frame.group for frame in result.frames]
    assert (groups.count("melt 900 K"), groups.count("crystal 300 K")) == (75, 25)
    again = make_run(tmp_path / "b" / "melt.run", 200, temperature=900.0)
    assert {part.group for part in sample([long, again], every=5).parts} == {
        f"{tmp_path.name}/melt 900 K",
        "b/melt 900 K",
    }


def test_a_given_interval_replaces_the_memory_and_closer_frames_are_remarked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 1000)
    close = sample([run], interval=2 * FRAME, first_time=0.0)
    assert np.all(np.diff(numbers_of(close.frames)) == 2)
    assert any("much the same" in note for note in close.notes)
    far = sample([run], interval=29.5 * FRAME, first_time=0.0)
    assert np.all(np.diff(numbers_of(far.frames)) == 30)
    assert not far.notes


def test_a_run_that_is_too_short_is_told_to_be(tmp_path: Path) -> None:
    drifting = np.linspace(0.0, 1.0, 100)
    result = sample([make_run(tmp_path / "a.run", 100, drifting)])
    assert any("run longer" in note for note in result.notes)
    with pytest.raises(InputError, match="has 10 energies"):
        sample([make_run(tmp_path / "b.run", 10)])
    assert len(sample([tmp_path / "b.run"], every=2).frames) == 5


def test_a_frame_is_what_stands_in_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 50)
    result = sample([run], every=7, first_time=0.0)
    atoms = ase.io.read(run / "structure.extxyz")
    for frame in result.frames:
        assert frame.energy is None and frame.forces is None and frame.stress is None
        assert np.array_equal(frame.atoms.numbers, atoms.numbers)
        assert frame.atoms.pbc.all()
        np.testing.assert_allclose(frame.atoms.cell.array, atoms.cell.array)
    assert result.frames[1].source == "a@7"


def test_extended_xyz_with_energies_is_a_run_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frames = []
    for energy in remembering(rng, 400, 6.0):
        atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.info["energy"] = energy
        frames.append(atoms)
    ase.io.write(tmp_path / "md.extxyz", frames, format="extxyz")
    result = sample([tmp_path / "md.extxyz"])
    (part,) = result.parts
    assert part.unit == "frames" and part.group == "md"
    assert part.tau is not None and 2.0 * part.tau == pytest.approx(6.0, rel=0.5)  # 67 independent energies
    with pytest.raises(InputError, match="--every"):
        sample([tmp_path / "md.extxyz"], interval=10.0)


def test_positions_alone_need_a_structure_and_an_interval(tmp_path: Path) -> None:
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    ase.io.write(tmp_path / "ar.extxyz", atoms, format="extxyz")
    positions = atoms.positions + walk(np.random.default_rng(1), 30, 4)
    write_trajectory(tmp_path / "md.dcd", atoms, positions, np.broadcast_to(atoms.cell.array, (30, 3, 3)))
    with pytest.raises(InputError, match="--structure"):
        sample([tmp_path / "md.dcd"], every=10)
    with pytest.raises(InputError, match="no energies"):
        sample([tmp_path / "md.dcd"], structure=tmp_path / "ar.extxyz")
    result = sample([tmp_path / "md.dcd"], structure=tmp_path / "ar.extxyz", every=10)
    for frame, expected in zip(result.frames, positions[::10], strict=True):
        np.testing.assert_allclose(frame.atoms.positions, expected, atol=1e-5)  # DCD keeps single precision


def test_strains_are_symmetric_and_within_their_bounds() -> None:
    rng = np.random.default_rng(2)
    atoms = ase.build.bulk("Cu", "fcc", 3.6).repeat(2)
    seen = []
    for _ in range(300):
        other = strained(atoms, 0.03, rng)
        epsilon = np.linalg.solve(atoms.cell.array, other.cell.array) - np.eye(3)
        np.testing.assert_allclose(epsilon, epsilon.T, atol=1e-12)
        np.testing.assert_allclose(
            other.get_scaled_positions(wrap=False), atoms.get_scaled_positions(wrap=False), atol=1e-9
        )
        seen.append(epsilon[np.triu_indices(3)])
    assert 0.029 < np.abs(seen).max() <= 0.03
    # uniform between -0.03 and 0.03; the standard error of a standard deviation of 300 values is 3 %
    np.testing.assert_allclose(np.std(seen, axis=0), 0.03 / np.sqrt(3.0), rtol=0.12)


def test_displacements_have_the_standard_deviation_that_was_asked_for() -> None:
    atoms = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat(6)
    moved = rattled(atoms, 0.05, np.random.default_rng(2), "copper").positions - atoms.positions
    assert moved.std() == pytest.approx(0.05, rel=0.05)  # 2,592 components
    with pytest.raises(InputError, match=r"after --rattle 0\.9 Å"):
        rattled(atoms, 0.9, np.random.default_rng(2), "copper")


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 100)
    cells = [
        np.array(
            [frame.atoms.cell.array for frame in sample([run], every=10, strain=0.03, rattle=0.02, seed=seed).frames]
        )
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(cells[0], cells[1])
    assert not np.array_equal(cells[0], cells[2])


def test_the_command_writes_frames_that_label_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a.run", 1000)
    answer = mlmd("sample", "a.run", "--out", "frames.extxyz", "--n", 6, "--strain", 0.01, "--rattle", "0.01 Å")
    assert answer.code == 0, answer.err
    assert "a 300 K" in answer.out and "6 frames written: frames.extxyz" in answer.out
    frames = read_labelled("frames.extxyz", need_labels=False)
    assert [frame.group for frame in frames] == ["a 300 K"] * 6
    assert all(frame.energy is None for frame in frames)

    before = (tmp_path / "frames.extxyz").read_bytes()
    answer = mlmd("sample", "a.run", "--out", "frames.extxyz")
    assert answer.code == 4 and "exists already" in answer.err
    assert (tmp_path / "frames.extxyz").read_bytes() == before

    answer = mlmd("sample", "a.run", "--out", "more.extxyz", "--json")
    summary = json.loads(answer.out)
    assert summary["n_frames"] == summary["runs"][0]["n_taken"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.run", "frames.extxyz", "more.extxyz"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["b.run"], 2, "b.run: no such file"),
        (["a.run", "--interval", "1 Å"], 2, "not a unit of time"),
        (["a.run", "--interval", "-1 ps"], 2, "above 0"),
        (["a.run", "--interval", "1 ps", "--every", "2"], 2, "Give one of them"),
        (["a.run", "--stage", "3"], 2, "no frames of a stage 3"),
        (["a.run", "--strain", "3"], 2, "--strain 3"),
        (["a.run", "--rattle", "2 Å"], 2, "--rattle 2"),
        (["a.run/structure.extxyz", "--stage", "1"], 2, "belong to run folders"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a.run", 100)
    answer = mlmd("sample", *arguments, "--out", "frames.extxyz")
    assert answer.code == code
    assert message in answer.err and "Traceback" not in answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"a.run"}


def test_an_output_of_another_kind_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a.run", 100)
    assert mlmd("sample", run, "--out", tmp_path / "frames.cif").code == 2
    assert mlmd("sample", run, "--out", tmp_path / "no" / "frames.extxyz").code == 4
