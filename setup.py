"""Builds the compiled kernels: one shared library for each instruction set, chosen when mlmd runs.

Everything else about the package stands in pyproject.toml. A library that cannot be compiled is left out: mlmd works
without any, on torch, and says so.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("mlmd/kernels/src")
# No -ffast-math: it takes out checks for NaN, and linking with it changes rounding in the whole process.
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast",
         "-fvisibility=hidden", "-Wno-psabi", "-g0"]  # fmt: skip
LEVELS = {
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512", "-DMLMD_VECTOR_BYTES=64"],
    "v3": ["-march=x86-64-v3", "-DMLMD_VECTOR_BYTES=32"],
    "generic": ["-DMLMD_VECTOR_BYTES=16"],
}
"""AVX-512, AVX2, and what every processor of the kind has. The vectors are as wide as the registers: wider ones cost
several times more."""


def extensions() -> list[Extension]:
    """One library for each instruction set that this kind of processor may have."""
    x86 = platform.machine().lower() in ("x86_64", "amd64") and "arm64" not in os.environ.get("ARCHFLAGS", "")
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


class BuildKernels(build_ext):
    """Plain shared libraries instead of Python modules; each compiles into a folder of its own, side by side."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = os.cpu_count() or 1

    def build_extensions(self) -> None:
        self.openmp = self._openmp()
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp) / ext.name.rpartition(".")[2]
        objects = self.compiler.compile(
            ext.sources,
            output_dir=str(folder),
            extra_postargs=[*ext.extra_compile_args, *self.openmp],
            depends=ext.depends,
        )
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(ext.name), extra_postargs=self.openmp, target_lang="c++"
        )

    def _openmp(self) -> list[str]:
        """The flag for threads, where the compiler knows it."""
        command = [*(getattr(self.compiler, "compiler_so_cxx", None) or self.compiler.compiler_so), "-fopenmp"]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.cpp")
            source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
            try:
                compiled = subprocess.run(
                    [*command, "-c", str(source), "-o", str(source.with_suffix(".o"))], capture_output=True, check=False
                )
            except OSError:
                return []
        return ["-fopenmp"] if compiled.returncode == 0 else []


if sys.platform == "win32":  # the sources need the vector extensions of GCC and Clang
    setup()
else:
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
