"""Builds the compiled kernels: one shared library for each instruction set, chosen when mlmd runs.

Everything else about the package stands in pyproject.toml. A library that cannot be compiled is left out: mlmd works
without any, on torch, and says so.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("mlmd/kernels/src")
# No -ffast-math: it takes out checks for NaN, and linking with it changes rounding in the whole process.
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast",
         "-fvisibility=hidden", "-Wno-psabi", "-g0"]  # fmt: skip
# What mlmd_best_level looks for, by name: compilers before GCC 11 and Clang 12 do not know x86-64-v3 and -v4.
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
LEVELS = {
    "v4": [*AVX512, "-mprefer-vector-width=512", "-DMLMD_VECTOR_BYTES=64"],
    "v3": [*AVX2, "-DMLMD_VECTOR_BYTES=32"],
    "generic": ["-DMLMD_VECTOR_BYTES=16"],
}
"""AVX-512, AVX2, and what every processor of the kind has. The vectors are as wide as the registers: wider ones cost
several times more."""

if sys.platform == "darwin":  # Pythons for both processors of Macs would compile for both, and AVX has only one
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")


def extensions() -> list[Extension]:
    """One library for each instruction set that this kind of processor may have."""
    target = os.environ.get("ARCHFLAGS") or platform.machine().lower()
    x86 = ("x86_64" in target or "amd64" in target) and "arm64" not in target
    return [
        Extension(
            f"mlmd.kernels._{name}",
            [str(path) for path in sorted(SOURCES.glob("*.cpp"))],
            depends=[str(path) for path in sorted(SOURCES.glob("*.hpp"))],
            extra_compile_args=[*FLAGS, *flags],
            language="c++",
            optional=True,
        )
        for name, flags in LEVELS.items()
        if x86 or name == "generic"
    ]


def _length(source: Path) -> int:
    """Of a source and of its own header, which compiling takes time for."""
    return sum(path.stat().st_size for path in (source, source.with_suffix(".hpp")) if path.exists())


class BuildKernels(build_ext):
    """Plain shared libraries instead of Python modules: ctypes loads them, whatever the version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def run(self) -> None:
        # What was compiled before, maybe of other sources, must not stand in for what does not compile now.
        folders = [Path(self.build_lib, "mlmd/kernels"), *([SOURCES.parent] if self.inplace else [])]
        for path in [path for folder in folders for path in folder.glob("_*.so")]:
            path.unlink()
        super().run()

    def build_extensions(self) -> None:
        """Compile all sources of all libraries, as many at a time as there are cores, and link what compiled."""
        self._choose_compiler()
        openmp = self._openmp()
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        objects: dict[str, list[Future[str]]] = {ext.name: [] for ext in self.extensions}
        with ThreadPoolExecutor(n_cores) as pool:
            for source in sorted(SOURCES.glob("*.cpp"), key=_length, reverse=True):  # the longest is not to be the last
                for ext in self.extensions:
                    objects[ext.name].append(pool.submit(self._compile, ext, str(source), openmp))
        for ext in self.extensions:
            with self._filter_build_errors(ext):
                for one in objects["mlmd.kernels._generic"]:
                    one.result()  # without the generic library, which says what the processor has, none is chosen
                self.compiler.link_shared_object(
                    [one.result() for one in objects[ext.name]],
                    self.get_ext_fullpath(ext.name),
                    extra_postargs=openmp,
                    target_lang="c++",
                )

    def _compile(self, ext: Extension, source: str, openmp: list[str]) -> str:
        """The object file of a source, in a folder of the library."""
        folder = Path(self.build_temp, ext.name.rpartition(".")[2])
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        arguments = [*ext.extra_compile_args, *openmp]
        return str(self.compiler.compile([source], output_dir=str(folder), extra_postargs=arguments)[0])

    def _choose_compiler(self) -> None:
        """Take any C++ compiler, where the one that Python was built with is not there."""
        others = [found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))]
        if others and not shutil.which(self.compiler.compiler_so_cxx[0]):
            self.compiler.set_executables(
                compiler_cxx=[others[0]], compiler_so_cxx=[others[0], "-fPIC"], linker_so_cxx=[others[0], "-shared"]
            )

    def _openmp(self) -> list[str]:
        """The flag for threads, where the compiler knows it and has what it needs."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.cpp")
            source.write_text("#include <omp.h>\nint threads() { return omp_get_max_threads(); }\n")
            command = [*self.compiler.compiler_so_cxx, "-fopenmp", "-shared", str(source), "-o", f"{folder}/openmp.so"]
            try:
                made = subprocess.run(command, capture_output=True, check=False)
            except OSError:
                return []
        return ["-fopenmp"] if made.returncode == 0 else []


class Wheel(bdist_wheel):
    """One wheel for each kind of machine, since nothing in it depends on the version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


if sys.platform == "win32" or os.environ.get("MLMD_KEEP_KERNELS"):
    # The sources need the vector extensions of GCC and Clang. A checkout that has its kernels keeps them where it is
    # installed, editable, into one more environment.
    setup()
else:
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel})
