"""The state of the installation, for ``mlmd doctor``."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlmd
import mlmd.errors

REQUIRED = {
    "openmm": ("openmm", "8.5"),
    "torch": ("torch", "2.10"),
    "numpy": ("numpy", "2.0"),
    "scipy": ("scipy", "1.13"),
    "ase": ("ase", "3.25"),
    "mdtraj": ("mdtraj", "1.10"),
    "click": ("click", "8.1"),
    "rich": ("rich", "13.7"),
    "pydantic": ("pydantic", "2.8"),
    "jinja2": ("jinja2", "3.1"),
    "matplotlib": ("matplotlib", "3.9"),
    "safetensors": ("safetensors", "0.5"),
    "vesin": ("vesin", "0.3"),
}
"""Distribution -> module and the oldest version that works."""
PLUGINS = ("openmmtorch", "acellera-openmmtorch-cpu", "acellera-openmmtorch", "openmm-torch")
"""Distributions of the plugin OpenMM-Torch."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: str
    """ok, missing or broken; optional for what is not installed and not needed by every run."""
    version: str | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def survey() -> list[Finding]:
    """Everything that a run may need, in the order of importance."""
    findings = [Finding("python", "ok", platform.python_version(), platform.platform())]
    findings.append(Finding("mlmd", "ok", mlmd.__version__, str(Path(mlmd.__file__).parent)))
    findings += [_package(name, *needed) for name, needed in REQUIRED.items()]
    findings += [_kernels(), *_openmm_platforms(), *_gpu(), _openmm_torch(), _plumed(), *_unsafe_loading()]
    return findings


def _package(name: str, module: str, oldest: str) -> Finding:
    """A required package: installed, importable, new enough."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "missing", None, f'pip install "{name}>={oldest}"')
    try:
        import_module(module)
    except Exception as error:  # a package that is there and does not load fails in its own ways
        return Finding(name, "broken", found, f"cannot be imported: {error}".partition("\n")[0])
    if _numbers(found) < _numbers(oldest):
        return Finding(name, "broken", found, f'too old: pip install "{name}>={oldest}"')
    return Finding(name, "ok", found)


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers = []
    for part in text.split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _attempt(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Findings, or that looking failed (the package itself is reported elsewhere)."""
    try:
        return list(look())
    except Exception as error:
        return [Finding(name, "optional", None, f"not available: {error}".partition("\n")[0])]


def _kernels() -> Finding:
    """Whether potentials run compiled."""
    from mlmd import kernels

    try:
        return Finding("compiled kernels", "ok" if kernels.library() else "optional", None, kernels.describe())
    except (OSError, AttributeError, mlmd.errors.MlmdError) as error:
        return Finding("compiled kernels", "broken", None, str(error).partition("\n")[0])


def _openmm_platforms() -> list[Finding]:
    """Where OpenMM can compute, and plugins that failed to load."""

    def look() -> Iterator[Finding]:
        import openmm

        names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
        yield Finding("OpenMM platforms", "ok", None, ", ".join(names))
        if not hasattr(openmm, "PythonForce"):
            yield Finding("OpenMM PythonForce", "missing", None, 'pip install "openmm>=8.5"')

    return _attempt("OpenMM platforms", look)


def _gpu() -> list[Finding]:
    """What torch sees."""

    def look() -> Iterator[Finding]:
        import torch

        if not torch.cuda.is_available():
            yield Finding("GPU", "optional", None, f"torch sees none ({torch.get_num_threads()} CPU threads)")
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            yield Finding("GPU", "ok", None, f"cuda:{index} {torch.cuda.get_device_name(index)}, {memory:.0f} GiB")

    return _attempt("GPU", look)


def _openmm_torch() -> Finding:
    """The plugin that lets OpenMM ask TorchScript modules, and whether it works with the PyTorch that is here."""
    without = "TorchScript modules are asked by PythonForce, which gives the same numbers"
    if find_spec("openmmtorch") is None:
        return Finding("openmm-torch", "optional", None, f"not installed: {without}")
    found = next((one for one in map(_version, PLUGINS) if one is not None), None)
    try:
        from mlmd.engine.torch_force import tested

        answer = tested()
    except Exception as error:
        return Finding("openmm-torch", "broken", found, str(error).partition("\n")[0])
    if isinstance(answer, str):
        return Finding("openmm-torch", "optional", found, f"{answer}: {without}")
    return Finding("openmm-torch", "ok", found, "TorchForce gives the energy and force of one atom")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _plumed() -> Finding:
    """PLUMED's Python module and kernel: needed where a stage has a bias."""
    from mlmd.errors import MlmdError

    try:
        from mlmd.bias.plumed import find_kernel

        kernel = find_kernel()
        return Finding("plumed", "ok", _kernel_version(kernel), f"kernel {kernel}")
    except MlmdError as error:
        return Finding("plumed", "optional", None, str(error))
    except Exception as error:
        return Finding("plumed", "broken", None, str(error).partition("\n")[0])


def _kernel_version(kernel: Path) -> str | None:
    """The version that the kernel writes at the head of its log."""
    from mlmd.bias.plumed import start

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        plumed = start(kernel)
        plumed.cmd("setNatoms", 1)
        plumed.cmd("setLogFile", str(log))
        plumed.cmd("init")
        plumed.finalize()
        for line in log.read_text(errors="replace").splitlines():
            if "Version:" in line:
                return line.partition("Version:")[2].split()[0]
    return None


def _unsafe_loading() -> list[Finding]:
    """The variable that makes torch execute code from model files (importing some packages sets it)."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name) in (None, "", "0"):
        return []
    return [Finding(name, "broken", None, "is set: other programs may execute code from model files; unset it")]
