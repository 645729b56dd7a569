"""What stands in for OpenMM-Torch where it is not installed: the same interface, around OpenMM's PythonForce.

Written as ``openmmtorch.py`` into a folder that both the run and its self-test look in. `WAYS` are the ways of a plugin
that was built for another PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import pytest

WORKS = """
import warnings
import numpy as np, openmm, torch

class TorchForce(openmm.PythonForce):
    def __init__(self, module):
        if isinstance(module, str):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = torch.jit.load(module)
        self.periodic = False
        def ask(state):
            of = {"dtype": torch.float64}
            positions = torch.tensor(state.getPositions(asNumpy=True)._value, **of).requires_grad_(True)
            box = [torch.tensor(state.getPeriodicBoxVectors(asNumpy=True)._value, **of)] if self.periodic else []
            energy = module(positions, *box)
            (gradient,) = torch.autograd.grad(energy, positions)
            return energy.item(), SIGN * gradient.numpy()
        super().__init__(ask)
    def setUsesPeriodicBoundaryConditions(self, periodic):
        self.periodic = periodic
        super().setUsesPeriodicBoundaryConditions(periodic)
    def setOutputsForces(self, outputs):
        assert not outputs
"""
WAYS = {
    "crash": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "its process was ended by SIGSEGV"),
    "import": ("raise ImportError('libtorch_cuda.so: cannot open shared object file')\n", "cannot open shared object"),
    "numbers": (WORKS.replace("SIGN", "(-1.0 if len(gradient) == 1 else -1.001)"), "differs by 0 eV, and its forces"),
    "exit": ("raise SystemExit(0)\n", "its process ended without an answer"),
}
"""What goes wrong -> its source, and what is said of it."""


def stand_in(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plugin of a source be found, here and in processes that are started."""
    folder.mkdir()
    (folder / "openmmtorch.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def working(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works."""
    stand_in(WORKS.replace("SIGN", "-1.0"), folder, monkeypatch)
