"""A conductor for ten million steps, killed again and again: does anything change with time or with the kills?

    python benchmarks/long_run.py [--out long_run] [--steps 10000000] [--kills 8] [--plot long_run.png]
    python benchmarks/long_run.py --out long_run --show     # what there is so far

Lithium in Li3YCl6 (60 atoms, the potential that comes with mlmd) at a held temperature, then a tenth as many steps
without a thermostat, by `mlmd simulate` on one thread. The process is killed (SIGKILL) at a random moment of each of
as many equal parts as there are kills, and the same command is given again. Then: D, temperature and energy in ten
windows of time, the total energy without a thermostat, memory against steps, speed, what each kill has cost, whether
the log has every line once, what `mlmd verify` says, and whether the log is that of a run that nobody has killed, as
far as the first kill and beyond. This script too may be killed, and goes on by the same command. Linux, for the memory.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from mlmd.analysis.diffusion import diffusion
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.figures import color, label, new_figure, save
from mlmd.engine.drift import slope_of
from mlmd.engine.verify import verify
from mlmd.errors import MlmdError
from mlmd.io.log import read_log
from mlmd.io.trajectories import open_run

CRYSTAL = Path(__file__).parents[1] / "inputs" / "li3ycl6.cif"
TIMESTEP, TEMPERATURE, EQUILIBRATION, EVERY = 2.0, 900, 10_000, 500
"""fs, K, steps before the measurement, steps between lines of the log."""
N_WINDOWS = 10
LOOK, PATIENCE = 3.0, 60.0
"""Seconds between looks at a process, and the most that a kill waits for its moment: the time between checkpoints."""
SETTLING = 30.0
"""Seconds in which a process imports, reads, and allocates what it needs."""
WATCHED, KILLED = "watched.csv", "killed.csv"


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    folder: Path
    n_steps: int
    """Of the measurement."""
    kills: tuple[int, ...]
    """Steps after which the process is killed, in order."""

    @property
    def run(self) -> Path:
        return self.folder / "input.run"

    @property
    def last(self) -> int:
        """Step at which all ends."""
        return EQUILIBRATION + self.n_steps + self.n_steps // 10

    @property
    def compared(self) -> int:
        """Steps of the run that nobody kills: the first of the parts with a kill, whole, and a little."""
        return min(round(1.1 * self.last / max(len(self.kills), 1)), EQUILIBRATION + self.n_steps)


def planned(folder: Path, n_steps: int, n_kills: int) -> Plan:
    """Kills at random steps, one in each of equal parts of the run; the same for the same numbers."""
    rng = random.Random(f"{n_steps} {n_kills}")
    last = EQUILIBRATION + n_steps + n_steps // 10
    return Plan(folder, n_steps, tuple(int((n + rng.random()) * last / n_kills) for n in range(n_kills)))


def write_input(path: Path, n_steps: int, n_free: int) -> None:
    """The input of a run with so many steps of measurement, and without a thermostat."""
    shutil.copy(CRYSTAL, path.parent)
    free = f'\n[[stage]]\nkind = "nve"\nduration = "{n_free * TIMESTEP} fs"\n' if n_free else ""
    path.write_text(
        f"""structure = "{CRYSTAL.name}"
supercell = [1, 1, 2]
potential = "Li3YCl6"
timestep = "{TIMESTEP} fs"
seed = 1
velocities = "{2 * TEMPERATURE} K"

[[stage]]
kind = "nvt"
temperature = "{TEMPERATURE} K"
duration = "{EQUILIBRATION * TIMESTEP} fs"

[[stage]]
kind = "nvt"
temperature = "{TEMPERATURE} K"
thermostat = {{ kind = "nose-hoover", frequency = "10 / ps" }}
duration = "{n_steps * TIMESTEP} fs"
{free}
[output]
trajectory_every = "{EVERY * TIMESTEP} fs"
log_every = "{EVERY * TIMESTEP} fs"
""",
        encoding="utf-8",
    )


def begin(path: Path) -> subprocess.Popen[bytes]:
    """``mlmd simulate`` of an input, which continues what there is, and ends with this script."""
    words = [sys.executable, "-m", "mlmd", "simulate", path.name, "--threads", "1", "--quiet", "--tethered"]
    return subprocess.Popen(words, cwd=path.parent, stdin=subprocess.PIPE)


def run_and_kill(plan: Plan) -> None:
    """Run to the end, however often it is killed."""
    rng = random.Random()
    while not (plan.run / "final.extxyz").exists():
        process = begin(plan.folder / "input.toml")
        while process.poll() is None:
            time.sleep(LOOK)
            step = last_step(plan.run)
            memory = resident(process.pid)
            if memory:
                note(plan.folder / WATCHED, time.time(), process.pid, step, memory)
            n_killed = len(rows(plan.folder / KILLED))
            if n_killed < len(plan.kills) and step >= plan.kills[n_killed]:
                time.sleep(rng.uniform(0.0, PATIENCE))
                process.kill()
                process.wait()
                note(plan.folder / KILLED, time.time(), process.pid, last_step(plan.run), 0)
                print(f"killed at step {last_step(plan.run):,}", flush=True)
                break
        else:
            if process.returncode:
                sys.exit(f"mlmd simulate ended with code {process.returncode}; see {plan.run}")


def run_alone(plan: Plan) -> None:
    """The beginning of the same run in another folder, which nobody kills."""
    folder = plan.folder / "alone"
    folder.mkdir(exist_ok=True)
    write_input(folder / "input.toml", plan.compared - EQUILIBRATION, 0)
    if begin(folder / "input.toml").wait():
        sys.exit(f"the run in {folder} failed")


def resident(pid: int) -> float:
    """MB of memory of a process, 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def last_step(run: Path) -> int:
    """Of the log."""
    try:
        with (run / "log.csv").open("rb") as file:
            file.seek(max(-4096, -file.seek(0, os.SEEK_END)), os.SEEK_END)
            whole = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        return int(whole.partition(b",")[0])
    except (OSError, ValueError):
        return 0


def note(path: Path, moment: float, pid: int, step: int, memory: float) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{moment:.1f},{pid},{step},{memory:.1f}\n")


def rows(path: Path) -> np.ndarray:
    """(n, 4) moment, process, step, MB."""
    return np.loadtxt(path, delimiter=",", ndmin=2) if path.exists() else np.empty((0, 4))


# -- what came of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What is drawn."""

    times: np.ndarray
    """(n_windows,) ns, middles."""
    diffusion: list[Estimate]
    temperature: list[Estimate]
    energy: list[Estimate]
    """meV per atom about their mean, of the potential energy."""
    free: tuple[np.ndarray, np.ndarray]
    """ns, and meV per atom: the total energy without a thermostat."""
    watched: np.ndarray
    kills: np.ndarray


def look(plan: Plan) -> Found:
    """Print what a run has come to, and give what is drawn of it."""
    log = read_log(plan.run / "log.csv")
    n_atoms = len(open_run(plan.run).numbers)
    measured, free = log["stage"] == 2, log["stage"] == 3
    start, end = EQUILIBRATION * TIMESTEP, log["time [ps]"][measured][-1] * 1e3
    edges = np.linspace(start, end, N_WINDOWS + 1)
    times = (edges[:-1] + edges[1:]) / 2e6
    print(f"{n_atoms} atoms, {int(log['step'][-1]):,} of {plan.last:,} steps of {TIMESTEP:g} fs; in windows of "
          f"{(edges[1] - edges[0]) / 1e6:.3g} ns of the stage at {TEMPERATURE} K:\n")  # fmt: skip
    print(f"{'ns':>15}  {'D(Li), cm²/s':16}{'temperature, K':18}potential energy, meV per atom about the mean")
    mean = float(np.mean(log["potential energy [eV]"][measured]))
    found: tuple[list[Estimate], list[Estimate], list[Estimate]] = ([], [], [])
    for low, high in pairwise(edges.tolist()):
        inside = measured & (log["time [ps]"] * 1e3 > low) & (log["time [ps]"] * 1e3 <= high)
        lithium = diffusion(open_run(plan.run, 2, low, high), elements=["Li"], drift=["Y", "Cl"]).species[0]
        found[0].append(lithium.coefficient)
        found[1].append(average(log["temperature [K]"][inside], "K"))
        found[2].append(average(1e3 * (log["potential energy [eV]"][inside] - mean) / n_atoms, "meV"))
        texts = [str(column[-1]).removesuffix(f" {column[-1].unit}") for column in found]
        print(f"{low / 1e6:7.2f} – {high / 1e6:5.2f}  {texts[0]:16}{texts[1]:18}{texts[2]}")
    print()
    for name, column in zip(("D(Li)", "temperature", "potential energy"), found, strict=True):
        print(flatness(name, column, times))
    free_course = log["time [ps]"][free] / 1e3, 1e3 * log["energy per atom [eV]"][free]
    if free.sum() > 50:
        slope, error = slope_of(*free_course)
        print(f"total energy without a thermostat: {slope:+.3f} ± {error:.3f} meV per atom and ns over "
              f"{np.ptp(free_course[0]):.3g} ns; about its line {detrended(*free_course):.3f} meV")  # fmt: skip
    watched, kills = rows(plan.folder / WATCHED), rows(plan.folder / KILLED)
    tell_processes(watched)
    tell_kills(plan, kills)
    tell_files(plan, log["step"])
    if free.any():
        free_course[1][:] -= free_course[1][0]
    return Found(times, *found, free_course, watched, kills)


def flatness(name: str, column: list[Estimate], times: np.ndarray) -> str:
    """χ² of windows about their weighted mean, how probable more is by chance, and the slope of a weighted line."""
    values, errors = (np.array([getattr(one, key) for one in column]) for key in ("value", "error"))
    weights = 1.0 / errors**2
    mean = float(np.sum(weights * values) / weights.sum())
    square = float(np.sum(weights * (values - mean) ** 2))
    middle = float(np.sum(weights * times) / weights.sum())
    spread = float(np.sum(weights * (times - middle) ** 2))
    slope = float(np.sum(weights * (times - middle) * values) / spread)
    whole = Estimate(mean, 1.0 / math.sqrt(weights.sum()), column[0].unit, math.nan)
    change = Estimate(slope, 1.0 / math.sqrt(spread), f"{column[0].unit} per ns", math.nan)
    chance = chi2.sf(square, len(values) - 1)
    return f"{name}: {whole}, slope {change}, χ² {square:.1f} of {len(values)} windows (chance of more: {chance:.2f})"


def detrended(times: np.ndarray, values: np.ndarray) -> float:
    """Standard deviation about a straight line."""
    return float(np.std(values - np.polyval(np.polyfit(times - times[0], values, 1), times - times[0])))


def tell_processes(watched: np.ndarray) -> None:
    """Memory and speed of every process."""
    print(f"\n{'process':>10}{'from step':>13}{'to step':>13}{'MB at last':>12}{'MB per 10⁶ steps':>18}{'ns/day':>9}")
    for pid in dict.fromkeys(watched[:, 1].tolist()):
        own = watched[watched[:, 1] == pid]
        own = own[own[:, 0] > own[0, 0] + SETTLING]
        moments, _, steps, memory = own.T
        if len(own) < 10 or np.ptp(steps) == 0:
            continue
        growth = 1e6 * np.polyfit(steps, memory, 1)[0]
        speed = np.ptp(steps) * TIMESTEP * 1e-6 / np.ptp(moments) * 86400
        print(f"{int(pid):10}{int(steps[0]):13,}{int(steps[-1]):13,}{memory[-1]:12.1f}{growth:+18.2f}{speed:9.0f}")


def tell_kills(plan: Plan, kills: np.ndarray) -> None:
    """Steps that each kill has cost."""
    starts = {1: 0, 2: EQUILIBRATION, 3: EQUILIBRATION + plan.n_steps}
    messages = (plan.run / "messages.log").read_text(encoding="utf-8")
    again = [
        (datetime.fromisoformat(stamp).timestamp(), starts[int(stage)] + int(step.replace(",", "")))
        for stamp, stage, step in re.findall(r"(\S+)  stage (\d) \(\w+\) continues at step ([\d,]+)", messages)
    ]
    print(f"\n{len(kills)} kills (SIGKILL); log at step, continued from step:")
    for moment, _, step, _ in kills:
        # stamps are whole seconds
        from_step = next((there for stamp, there in again if stamp >= moment - 1.0), None)
        print(f"{int(step):13,}{'' if from_step is None else f'{from_step:13,}'}")


def tell_files(plan: Plan, steps: np.ndarray) -> None:
    """Whether everything is there once, and as it would be without kills."""
    missing = sorted(set(range(0, int(steps[-1]) + 1, EVERY)) - set(steps.astype(int).tolist()))
    doubled = len(steps) - len(np.unique(steps))
    print(f"\nlog: {len(steps):,} lines, {len(missing)} missing, {doubled} twice")
    try:
        problems = verify(plan.run).problems
        print(f"mlmd verify: {'every file is what it should be' if not problems else '; '.join(problems)}")
    except MlmdError as error:
        print(f"mlmd verify: {error}")
    alone = plan.folder / "alone" / "input.run" / "log.csv"
    if alone.exists():
        ours, theirs = ((path.read_bytes().split(b"\n")) for path in (plan.run / "log.csv", alone))
        n = min(len(ours), len(theirs)) - 1
        same = next((number for number in range(n) if ours[number] != theirs[number]), n)
        print(f"log of a run that nobody killed, {int(theirs[n - 1].split(b',')[0]):,} steps: {same:,} of {n:,} lines "
              "are the same, byte for byte")  # fmt: skip


def draw(found: Found, path: Path) -> None:
    """D, temperature, energies and memory against time."""
    figure, axes = new_figure(2, 2, width=9.0, height=6.0)
    for place, (estimates, factor, words) in enumerate((
        (found.diffusion, 1e5, "D(Li) (10⁻⁵ cm²/s)"), (found.temperature, 1.0, "temperature (K)"),
    )):  # fmt: skip
        values, errors = (factor * np.array([getattr(one, key) for one in estimates]) for key in ("value", "error"))
        axes[place].errorbar(found.times, values, errors, fmt="o", color=color(place), capsize=3)
        axes[place].axhline(np.average(values, weights=errors**-2), color="#999999", linewidth=1.0, zorder=0)
        label(axes[place], "time (ns)", words)
    axes[2].plot(*found.free, color=color(2), linewidth=0.8)
    label(axes[2], "time (ns)", "total energy, NVE (meV/atom)")
    per_ns = TIMESTEP * 1e-6
    for number, pid in enumerate(dict.fromkeys(found.watched[:, 1].tolist())):
        own = found.watched[found.watched[:, 1] == pid]
        own = own[np.maximum.accumulate(own[:, 2]) != own[0, 2]]  # since it has begun to move
        axes[3].plot(own[:, 2] * per_ns, own[:, 3], color=color(number % 2), linewidth=1.2)
    axes[3].set_ylim(0.0, 1.3 * found.watched[:, 3].max())
    label(axes[3], "time (ns)", "memory (MB)")
    for _, _, step, _ in found.kills:
        for one in (axes[0], axes[1], axes[3]):
            one.axvline(step * per_ns, color="#bb3333", linewidth=0.8, linestyle=":", zorder=0)
    save(figure, path)


def main() -> None:
    """Run, kill, continue; then look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("long_run"), help="folder of everything")
    parser.add_argument("--steps", type=int, default=10_000_000, help="of the measurement")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--show", action="store_true", help="run nothing, show what there is")
    given = parser.parse_args()
    plan = planned(given.out, given.steps, given.kills)
    if not given.show:
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_input(plan.folder / "input.toml", plan.n_steps, plan.n_steps // 10)
        run_and_kill(plan)
        run_alone(plan)
    found = look(plan)
    if given.plot:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
