"""Building the kernels: without a compiler, for every instruction set, and with sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from classical import carbide, embedded, tetrahedral
from kernel_systems import needs_kernels
from made_potentials import random_mtp
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from random_symmetry import random_symmetry

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
        "radial-angular": random_nep(("Li", "Cl")),
        "radial-angular, one cutoff": random_nep(("Li", "Cl"), "float32", angular_cutoff="5 Å"),
        "bispectrum": random_snap(("Li", "Cl"), 6),
        "bispectrum, quadratic": random_snap(("Li", "Cl"), 5, "float32", quadratic=True),
        "soap": random_soap(("Li", "Cl")),
        "soap32": random_soap(("Li", "Cl"), "float32", products="with-sum", normalised=False, taper="none"),
        "symmetry": random_symmetry(("Li", "Cl")),
        "symmetry32": random_symmetry(("Li", "Cl"), "float32"),
        "eam": embedded(fs=True),
        "stillinger-weber": tetrahedral(),
        "tersoff": carbide("float32"),
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


def built(folder: Path, *arguments: object, **environment: str) -> Path:
    """The package as setup.py builds it into a folder."""
    places = ("egg_info", "--egg-base", folder, "build", "--build-base", folder / "base", "--build-lib", folder / "lib")
    done = child("setup.py", "-q", *places, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return folder / "lib"


def short_run(folder: Path) -> Path:
    """The input of two short stages."""
    shutil.copy(ROOT / "inputs/argon.extxyz", folder)
    (folder / "argon.toml").write_text(
        'structure = "argon.extxyz"\ntimestep = "2 fs"\nvelocities = "50 K"\n'
        'potential = { kind = "lennard-jones", epsilon = "10.4 meV", sigma = "3.4 Å", cutoff = "7 Å" }\n'
        '[[stage]]\nkind = "nve"\nduration = "10 fs"\n[[stage]]\nkind = "nve"\nduration = "10 fs"\n'
        '[guard]\nenabled = false\n'
    )  # fmt: skip
    return folder / "argon.toml"


@pytest.mark.slow
def test_without_a_compiler_everything_works_and_is_told_to_be_slow(tmp_path: Path) -> None:
    stale = tmp_path / "lib/mlmd/kernels/_v3.so"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"compiled of other sources")
    package = built(tmp_path, CC="false", CXX="false")
    assert not list(package.rglob("*.so"))
    installed = {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1", CHOICE: ""}
    told = "not compiled: potentials run on torch, which is many times slower. Install a C++ compiler"
    doctor = child("-m", "mlmd", "doctor", **installed, COLUMNS="400")
    assert told in doctor.stdout, doctor.stdout + doctor.stderr
    done = child("-m", "mlmd", "simulate", short_run(tmp_path), "--out", tmp_path / "run", **installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join((done.stdout + done.stderr).split()).count(told) == 1


@pytest.mark.slow
@needs_compiler
def test_a_compiler_without_openmp_and_wide_vectors_leaves_kernels_that_say_so(
    tmp_path: Path, parameters: Path
) -> None:
    compiler = tmp_path / "old-compiler"
    refuses = 'case " $* " in *" -mavx2 "*|*" -fopenmp "*) echo unknown flag >&2; exit 1;; esac'
    compiler.write_text(f'#!/bin/sh\n{refuses}\nexec "{COMPILER}" "$@" -O0\n')  # the last -O counts: to be quick
    compiler.chmod(0o755)
    package = built(tmp_path, CC=str(compiler), CXX=str(compiler))
    libraries = list(package.rglob("*.so"))
    assert [path.name for path in libraries] == ["_generic.so"]
    installed = {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1", CHOICE: ""}
    told = "generic, vectors of 128 bits"
    if "v3" in supported():
        best = supported()[-1]
        told += f"; {best}, which this processor has, is not there: the compiler did not know it"
    told += "; one thread only: the compiler had no OpenMP"
    doctor = child("-m", "mlmd", "doctor", **installed, COLUMNS="400")
    assert told in doctor.stdout, doctor.stdout + doctor.stderr
    run = tmp_path / "run"
    done = child("-m", "mlmd", "simulate", short_run(tmp_path), "--out", run, "--threads", "2", **installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join((done.stdout + done.stderr).split()).count(told) == 1
    # threads that are asked for and not there change nothing
    tests = ("tests/test_kernels_moments.py", "-k", "threads", "-p", "no:cacheprovider")
    done = child("-m", "pytest", "-q", *tests, **{CHOICE: str(libraries[0])})
    assert " passed" in done.stdout, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    done = child(ROOT / "tests/fuzz_kernels.py", parameters, **{CHOICE: str(libraries[0])})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_one_wheel_without_sources_serves_every_python_of_a_platform(tmp_path: Path) -> None:
    made = ("bdist_wheel", "--bdist-dir", tmp_path / "wheel", "--dist-dir", tmp_path / "dist")
    built(tmp_path, *made, CC="false", CXX="false")
    (wheel,) = (tmp_path / "dist").iterdir()
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"mlmd/py.typed", "mlmd/models/Cu.mlmd", "mlmd/kernels/native.py"} <= {*names}
    assert "mlmd/kernels/gpu/src/frame.cuh" in names  # compiled at run time
    assert not [name for name in names if name.startswith("tests") or name.endswith(("pp", ".so"))]


@pytest.mark.slow
def test_a_source_distribution_holds_what_is_compiled_and_what_is_tested(tmp_path: Path) -> None:
    built(tmp_path, "sdist", "--dist-dir", tmp_path / "dist", CC="false", CXX="false")
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    sources = [*(ROOT / "mlmd/kernels/src").glob("*pp"), *(ROOT / "tests").glob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in sources} <= names
    assert {"setup.py", "constraints.txt", "inputs/quickstart.toml", "tests/kernel_driver.cpp"} <= names


def test_without_kernels_a_run_says_so_once_and_goes_on(tmp_path: Path) -> None:
    done = child("-m", "mlmd", "simulate", short_run(tmp_path), "--out", tmp_path / "run", **{CHOICE: "off"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("many times slower") == 1


def test_without_kernels_a_check_says_that_the_run_will_be_slow(tmp_path: Path) -> None:
    slow = "potentials run on torch, which is many times slower"
    done = child("-m", "mlmd", "check", short_run(tmp_path), **{CHOICE: "off"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"Note: kernels are switched off by {CHOICE}: {slow}.\n") == 1
    doctor = child("-m", "mlmd", "doctor", "--json", **{CHOICE: "off"})
    assert slow in doctor.stdout


@needs_kernels
def test_with_kernels_a_check_says_nothing_about_them(tmp_path: Path) -> None:
    assert "slower" not in child("-m", "mlmd", "check", short_run(tmp_path)).stdout


@needs_compiler
def test_a_library_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    library = tmp_path / "older.so"
    subprocess.run([str(COMPILER), "-shared", "-x", "c++", os.devnull, "-o", str(library)], check=True)
    done = child("-m", "mlmd", "simulate", short_run(tmp_path), "--out", tmp_path / "run", **{CHOICE: str(library)})
    assert done.returncode == 70
    assert "of another version of mlmd. Install mlmd again" in " ".join(done.stderr.split())


def test_an_unknown_choice_of_kernels_is_refused() -> None:
    done = child("-c", "from mlmd.kernels import library; library()", **{CHOICE: "v5"})
    assert done.returncode != 0
    assert "'v5' is not a library" in done.stderr


@needs_kernels
def test_kernels_of_a_larger_processor_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    beyond = [level for level in LEVELS if level not in supported() and (ROOT / f"mlmd/kernels/_{level}.so").is_file()]
    if not beyond:
        pytest.skip("this processor has the instructions of everything that is compiled here")
    run = tmp_path / "run"
    done = child("-m", "mlmd", "simulate", short_run(tmp_path), "--out", run, **{CHOICE: beyond[0]})
    assert done.returncode == 2, done.stdout + done.stderr
    assert "this processor has not its instructions" in " ".join(done.stderr.split())
    assert not (run / "run.json").exists()


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
def test_impossible_systems_and_parameters_are_refused_by_every_build(level: str, parameters: Path) -> None:
    if not (ROOT / f"mlmd/kernels/_{level}.so").is_file() or level not in supported():
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
@pytest.mark.timeout(2400)  # most of it is compiling
@needs_compiler
def test_sanitizers_find_nothing(parameters: Path, tmp_path: Path) -> None:
    library = tmp_path / "sanitized.so"
    sources = sorted((ROOT / "mlmd/kernels/src").glob("*.cpp"))
    flags = ["-O1", "-g1", "-std=c++17", "-fopenmp", "-fPIC", "-Wno-psabi", "-DMLMD_VECTOR_BYTES=16"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = [tmp_path / f"{source.stem}.o" for source in sources]

    def compiled(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
        command = [str(COMPILER), *flags, *checks, "-c", str(source), "-o", str(target)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(compiled, sources, objects))
    assert not [one.stderr for one in made if one.returncode]
    linked = [str(COMPILER), "-shared", *flags, *checks, *map(str, objects), "-o", str(library)]
    subprocess.run(linked, capture_output=True, check=True)
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
