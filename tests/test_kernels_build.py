"""Building the kernels: without a compiler, for every instruction set, and with sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_systems import needs_kernels
from made_potentials import random_mtp
from random_networks import random_symmetry

from mlmd.kernels import CHOICE, Kernel
from mlmd.kernels.native import LEVELS
from mlmd.potentials import Potential
from mlmd.potentials.pair import LennardJones

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("g++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def child(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of Python that sees this checkout."""
    paths = [str(ROOT), str(ROOT / "tests")]
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )  # fmt: skip


def potentials() -> dict[str, Potential]:
    """One of each family that the fuzz runs."""
    made: dict[str, Potential] = {
        "moments": random_mtp(("Li", "Cl"), 8),
        "moments32": random_mtp(("Li", "Cl"), 8, "float32"),
        "symmetry": random_symmetry(("Li", "Cl")),
        "lennard-jones": LennardJones(epsilon="10.4 meV", sigma="3.4 Å", cutoff="7 Å"),
    }
    return made


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of kernels that the fuzz reads."""
    path, content = tmp_path_factory.mktemp("fuzz") / "kernels.npz", {}
    for name, potential in potentials().items():
        kernel = potential.kernel()  # type: ignore[attr-defined]
        assert isinstance(kernel, Kernel)
        for key in ("family", "cutoff", "integers", "numbers", "precision"):
            content[f"{name}/{key}"] = np.asarray(getattr(kernel, key))
        content[f"{name}/n_species"] = np.asarray(max(1, len(potential.elements)))
    np.savez(path, **content)
    return path


@pytest.mark.slow
def test_without_a_compiler_the_package_is_built_all_the_same(tmp_path: Path) -> None:
    done = child(
        "setup.py", "-q", "build", "--build-base", tmp_path / "base", "--build-lib", tmp_path / "lib",
        CC="false", CXX="false",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lib/mlmd/kernels/native.py").is_file()
    assert not list((tmp_path / "lib").rglob("*.so"))


def test_without_kernels_a_run_says_so_once_and_goes_on(tmp_path: Path) -> None:
    shutil.copy(ROOT / "inputs/argon.extxyz", tmp_path)
    (tmp_path / "argon.toml").write_text(
        'structure = "argon.extxyz"\ntimestep = "2 fs"\nvelocities = "50 K"\n'
        'potential = { kind = "lennard-jones", epsilon = "10.4 meV", sigma = "3.4 Å", cutoff = "7 Å" }\n'
        '[[stage]]\nkind = "nve"\nduration = "10 fs"\n[[stage]]\nkind = "nve"\nduration = "10 fs"\n'
        '[guard]\nenabled = false\n'
    )  # fmt: skip
    done = child("-m", "mlmd", "simulate", tmp_path / "argon.toml", "--out", tmp_path / "run", **{CHOICE: "off"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("many times slower") == 1


def test_an_unknown_choice_of_kernels_is_refused() -> None:
    done = child("-c", "from mlmd.kernels import library; library()", **{CHOICE: "v5"})
    assert done.returncode != 0
    assert "'v5' is not a library" in done.stderr


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
def test_impossible_systems_and_parameters_are_refused_by_every_build(level: str, parameters: Path) -> None:
    built = list((ROOT / "mlmd/kernels").glob(f"_{level}.*.so"))
    if not built or level not in supported():
        pytest.skip(f"{level} is not compiled here, or this processor has it not")
    done = child(ROOT / "tests/fuzz_kernels.py", parameters, **{CHOICE: level})
    assert done.returncode == 0, done.stderr


def supported() -> list[str]:
    """Instruction sets of this processor, where the flags are told."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return ["generic"]
    return ["generic", *(["v3"] if "avx2" in flags else []), *(["v4"] if "avx512vl" in flags else [])]


@pytest.mark.slow
@needs_compiler
def test_sanitizers_find_nothing(parameters: Path, tmp_path: Path) -> None:
    library = tmp_path / "sanitized.so"
    sources = sorted((ROOT / "mlmd/kernels/src").glob("*.cpp"))
    flags = ["-O1", "-g1", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi", "-DMLMD_VECTOR_BYTES=16"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    made = subprocess.run(
        [str(COMPILER), *flags, *checks, *map(str, sources), "-o", str(library)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    runtimes = [
        subprocess.run([str(COMPILER), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in ("libasan.so", "libubsan.so")
    ]
    done = child(
        ROOT / "tests/fuzz_kernels.py", parameters,
        LD_PRELOAD=" ".join(one.stdout.strip() for one in runtimes), ASAN_OPTIONS="detect_leaks=0",
        **{CHOICE: str(library)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "runtime error" not in done.stderr
