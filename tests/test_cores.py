"""Cores that a process may use: those of its affinity, and of its quota in a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlmd import cli, cores

PLACES = {
    "in a container": {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"},
    "a group of its own": {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "200000 100000"},
    "a group above": {
        "proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "200000 100000",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000",
    },
    "version 1": {
        "proc/self/cgroup": "9:memory:/x\n4:cpu,cpuacct:/docker/x\n0::/",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "170000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    },
}  # fmt: skip
UNLIMITED = {
    "nothing is known": {},
    "no limit": {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"},
    "no limit in version 1": {
        "proc/self/cgroup": "4:cpu:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    },
    "of another group": {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/b/cpu.max": "100000 100000"},
    "of memory": {"proc/self/cgroup": "4:memory:/", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"},
    "not understood": {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000"},
}  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """One of eight cores, with files of control groups."""
    for name, text in request.param.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(cores, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that what was there comes back
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize("machine", [pytest.param(one, id=name) for name, one in PLACES.items()], indirect=True)
@pytest.mark.usefixtures("machine")
def test_a_quota_limits_cores_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.n_cores() == 2
    cli.threads_that_are_paid_for()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    cli.threads_that_are_paid_for()
    assert os.environ["OMP_NUM_THREADS"] == "5"  # the user's choice


@pytest.mark.parametrize("machine", [pytest.param(one, id=name) for name, one in UNLIMITED.items()], indirect=True)
@pytest.mark.usefixtures("machine")
def test_without_a_quota_the_affinity_counts() -> None:
    assert cores.n_cores() == 8
    cli.threads_that_are_paid_for()
    assert "OMP_NUM_THREADS" not in os.environ
