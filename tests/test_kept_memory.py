"""Memory that a step frees is there for the next one."""

import os
import subprocess
import sys

import pytest

from mlmd.potentials.memory import VARIABLES

PROGRAM = """
import resource, torch
from mlmd.potentials.memory import keep_freed_memory
{prepare}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    several = [torch.ones(500_000, dtype=torch.float64) for _ in range(5)]
    return sum(several)
for _ in range(10):  # until the heap has found its place, which differs from process to process
    step()
before = faults()
for _ in range(20):
    step()
print((faults() - before) / 20)
"""
PAGES = 6 * 500_000 * 8 / 4096
"""Of the arrays of a step."""


def faults(prepare: str, **variables: str) -> float:
    """Page faults of a step in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(prepare=prepare)],
        env=clean | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="needs glibc"
)


def test_steps_take_the_memory_of_the_step_before() -> None:
    assert faults("assert keep_freed_memory()") < 0.05 * PAGES


def test_another_process_keeps_it_by_variables() -> None:
    assert faults("", **VARIABLES) < 0.05 * PAGES


def test_without_it_the_system_gives_new_pages() -> None:
    """Otherwise the two above say nothing; in one process of four the heap happens to keep most of them."""
    assert any(faults("") > 0.2 * PAGES for _ in range(5))


def test_what_the_user_has_set_stays() -> None:
    assert faults("assert not keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="0") > 0.2 * PAGES
