"""What only long runs meet: memory that grows, files left open, steps beyond 32 bits, times of many digits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from runs import read_log, write_input

from mlmd.engine import checkpoint
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.observe import Moment
from mlmd.engine.outputs import measure
from mlmd.engine.run import simulate
from mlmd.errors import Stopped
from mlmd.potentials import POTENTIALS
from mlmd.rundir import CHECKPOINTS, LOG, STOP

GAS = ase.Atoms("Ar4", [[-2, 0, 0], [2, 0, 0], [0, 2.5, 0], [0, 0, 3]])
TRAP = '{ kind = "trap", stiffness = 0.001 }'
BIAS = (
    'bias = [{ kind = "metadynamics", cv = { kind = "distance", atoms = [0, 1] }, width = "0.2 Å", height = "0.2 meV", '
    'every = "500 fs", bias_factor = 5, minimum = "0 Å", maximum = "60 Å" }]\n'
)


@pytest.fixture(autouse=True)
def _trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")


def resident() -> float:
    """MB of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.row("R26")
@pytest.mark.parametrize(
    ("n_steps", "most", "bias"),
    [
        (20_000, 5.0, ""),
        pytest.param(20_000, 5.0, BIAS, id="metadynamics"),  # benchmarks/metadynamics_cost.py --leak goes on for longer
        pytest.param(1_000_000, 20.0, "", marks=pytest.mark.slow),
    ],
)
def test_nothing_leaks(
    n_steps: int, most: float, bias: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = f'[[stage]]\nkind = "nvt"\ntemperature = "20 K"\nduration = "{5 * n_steps} fs"\n{bias}'
    path = write_input(
        tmp_path, stage, atoms=GAS, potential=TRAP, options="remove_com_motion = false",
        output='log_every = "500 fs"\ntrajectory_every = "500 fs"\ncheckpoint_every = "0.1 s"\n[guard]\n'
        'min_distance = "off"\nmax_temperature = "off"',
    )  # fmt: skip
    seen: list[tuple[float, int]] = []

    def look(moment: Moment) -> None:
        if moment.step % (n_steps // 20) == 0:
            seen.append((resident(), open_files()))

    simulate(path, tmp_path / "run", threads=1, platform="Reference", progress=look)
    memory, files = np.transpose(seen)
    grown = memory[-1] - memory[1]  # of the first part everything is new
    biased = " of metadynamics" if bias else ""
    record_property(f"MB grown in {n_steps:,} steps{biased}", f"{grown:.1f}")
    assert not bias or (tmp_path / "run" / "HILLS").read_text().count("\n") > n_steps / 100
    assert grown < most
    assert files[-1] <= files[0]


@pytest.mark.row("R26")
def test_steps_beyond_32_bits_have_their_exact_time(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # a run of ten microseconds, told that it has come to step 6,000,000,000
    begin = 6_000_000_000
    stage = '[[stage]]\nkind = "nve"\nduration = "10 us"\n'
    path = write_input(
        tmp_path, 'velocities = "20 K"\n' + stage, atoms=GAS, potential=TRAP,
        options='timestep = "0.3 fs"\nremove_com_motion = false',
        output='log_every = "0.3 fs"\ntrajectory_every = "1 ns"\n[guard]\nmin_distance = "off"',
    )  # fmt: skip
    out = tmp_path / "run"

    def stop_at(step: int) -> Callable[[Moment], None]:
        def look(moment: Moment) -> None:
            if moment.step >= step:
                (out / STOP).touch()

        return look

    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stop_at(10))
    saved, _ = checkpoint.newest(out / CHECKPOINTS)
    assert saved is not None
    header: dict[str, Any] = {**saved.header, "step": begin, "machine": {**saved.header["machine"], "openmm": "0"}}
    (out / LOG).write_text((out / LOG).read_text().splitlines()[0] + "\n")
    header["files"] = measure(out, saved.header["appended"])
    checkpoint.write(out / CHECKPOINTS, Checkpoint(header, saved.arrays))
    for step in (begin + 50, begin + 100):
        with pytest.raises(Stopped, match=f"step {step:,} "):
            simulate(path, out, threads=1, progress=stop_at(step))
    words = [line.split(",")[2] for line in (out / LOG).read_text().splitlines()[1:]]
    steps = read_log(out)["step"].astype(np.int64)
    assert np.array_equal(steps, begin + np.arange(1, 101))
    assert words == [
        f"{3 * int(step) // 10_000}.{3 * int(step) % 10_000:04d}".rstrip("0").rstrip(".") for step in steps
    ]
    saved, _ = checkpoint.newest(out / CHECKPOINTS)
    assert saved is not None and saved.position == (0, begin + 100)
    record_property("last step", f"{int(steps[-1]):,}")
