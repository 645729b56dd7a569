"""TorchScript modules as a force of OpenMM-Torch, where its plugin works; by mlmd's own PythonForce where it does not.

The plugin is not imported here before it has passed a test in a process of its own (`mlmd.engine.torch_plugin`): one
atom, and then the module for the structure of the run, with the energy and forces that Python gives. OpenMM then asks
the module without Python between. What a run needs besides, the virial of volume moves and the log, and energies and
forces of frames, is asked in Python at those steps.
"""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openmm

from mlmd.engine import torch_plugin
from mlmd.engine.forces import NM
from mlmd.errors import InputError, MlmdError
from mlmd.potentials import Evaluation, Potential
from mlmd.potentials.evaluate import evaluator
from mlmd.units import EV_PER_KJMOL

if TYPE_CHECKING:
    from mlmd.engine.job import Job

PLUGIN = "openmmtorch"
"""The module of the plugin."""
LONGEST = 300.0
"""Seconds that the test may take."""
SAME = 1e-5
"""By how much the two ways may differ: eV/Å beside the largest force, and the same part of the energy."""
_NO_WORDS = ("frame #", "Exception raised from", "<omitting")
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception): ")
_SAID = 300
"""Characters of what a failing plugin said."""


@dataclass(frozen=True)
class Route:
    """How OpenMM asks a module."""

    name: str
    """ "torchforce" or "python"."""
    why: str
    """In words."""

    @property
    def force(self) -> str:
        """OpenMM's name of the force."""
        return "TorchForce" if self.name == "torchforce" else "PythonForce"

    def record(self) -> dict[str, str]:
        """What run.json says."""
        return {"name": self.force, "why": self.why}

    def __str__(self) -> str:
        return f"forces by {self.force}: {self.why}"


def route_of(job: Job, platform: str, properties: Mapping[str, str], device: str) -> Route | None:
    """How a run asks its TorchScript module; None for runs without one.

    Args:
        job: the input, with its potential.
        platform: of OpenMM.
        properties: of the platform.
        device: where the potential computes.

    Raises:
        InputError: where ``route = "torchforce"`` is asked for and cannot be had.
    """
    tables = [table for table in job.config.potential if table.kind == "torchscript"]
    if not tables:
        return None
    wanted = next((table.options["route"] for table in tables if table.options.get("route", "auto") != "auto"), "auto")
    if wanted == "python":
        return Route("python", 'route = "python" in the input')
    obstacle = _obstacle(job, platform, device) or _failure(job, platform, properties, device)
    if obstacle is None:
        return Route("torchforce", f"the plugin {PLUGIN} gives the energy and the forces of the structure")
    if wanted == "torchforce":
        raise InputError(
            f'potential (torchscript): route = "torchforce" cannot be taken: {obstacle}. Leave route out: PythonForce '
            "gives the same numbers."
        )
    return Route("python", obstacle)


def _obstacle(job: Job, platform: str, device: str) -> str | None:
    """Why a run cannot have its forces from the plugin, before the plugin is asked."""
    table, biased = job.config.potential[0], {*job.scripts, *job.boosts}
    reasons = {
        "the module is one part of a sum": len(job.config.potential) > 1,
        "the module acts on a region inside a force field": job.mixed is not None,
        "its energy is scaled": job.config.scale not in (None, 1.0),
        "the module runs in another environment": table.options.get("python") is not None,
        f'precision = "{table.precision}" is asked for, and OpenMM gives its own': table.precision != "float64",
        f"the bias of stage {min(biased, default=0) + 1} is added in Python at every step": bool(biased),
        f"the module computes on {device}, and OpenMM on its platform {platform}": (device != "cpu")
        != (platform in ("CUDA", "HIP")),
        f"the plugin {PLUGIN} is not installed": find_spec(PLUGIN) is None,
    }
    return next((why for why, true in reasons.items() if true), None)


def _failure(job: Job, platform: str, properties: Mapping[str, str], device: str) -> str | None:
    """What the plugin does wrong; None where it gives what Python gives."""
    start, cell = job.frame.to_engine(job.atoms.positions), job.cell
    own = evaluator(job.potential, job.body.numbers, job.body.pbc, device=device)
    try:
        expected = own.evaluate(start, cell)
    except MlmdError:
        return "the module gives no answer in Python either"
    found = tested(
        platform, properties, module=_module(job.potential, device), positions=start,
        box=cell if job.body.pbc.all() else None, returns_forces=_returns_forces(job.potential, device),
    )  # fmt: skip
    if isinstance(found, str):
        return found
    return _difference(found, expected)


def _difference(found: Evaluation, expected: Evaluation) -> str | None:
    """What is not the same; nan is never the same."""
    worst = float(np.abs(found.forces - expected.forces).max())
    energy = abs(found.energy - expected.energy)
    largest = float(np.abs(expected.forces).max())
    if worst <= SAME * max(1.0, largest) and energy <= SAME * max(1.0, abs(expected.energy)):
        return None
    return (
        f"the plugin {PLUGIN} failed its self-test: its energy differs by {energy:.3g} eV, and its forces by up to "
        f"{worst:.3g} eV/Å from those of Python"
    )


def tested(
    platform: str = "Reference",
    properties: Mapping[str, str] | None = None,
    *,
    module: Any = None,
    positions: np.ndarray | None = None,
    box: np.ndarray | None = None,
    returns_forces: bool = False,
) -> Evaluation | str:
    """What the plugin says in a process of its own, or why it says nothing.

    Args:
        platform: of OpenMM.
        properties: of the platform.
        module: a TorchScript module; without, only one atom in a parabola is asked for.
        positions: (n_atoms, 3) Å.
        box: (3, 3) Å, or None.
        returns_forces: whether the module does.

    Returns:
        Energy and forces, without a virial (nan); or what went wrong, in words.
    """
    with tempfile.TemporaryDirectory(prefix="mlmd-") as folder:
        question, answer, name = Path(folder, "question.npz"), Path(folder, "answer.npz"), None
        if module is not None:
            name = str(Path(folder, "module.pt"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                module.save(name)
        settings = {"platform": platform, "properties": dict(properties or {}), "module": name}
        np.savez(
            question, settings=json.dumps({**settings, "returns_forces": returns_forces}),
            positions=np.zeros((1, 3)) if positions is None else positions / NM,
            box=np.zeros(0) if box is None else box / NM,
        )  # fmt: skip
        why = _run([sys.executable, torch_plugin.__file__, str(question), str(answer)])
        if why is None and not answer.is_file():
            why = "its process ended without an answer"
        if why is not None:
            return f"the plugin {PLUGIN} failed its self-test: {why}"
        with np.load(answer) as found:
            energy, forces = float(found["energy"]), found["forces"]
    return Evaluation(energy * EV_PER_KJMOL, forces * EV_PER_KJMOL / NM, np.full((3, 3), np.nan))


def _run(command: list[str]) -> str | None:
    """Why a process failed; None when it did not."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LONGEST,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer after {LONGEST:g} s"
    if done.returncode == 0:
        return None
    said = _last_words(done.stderr)
    if done.returncode < 0:
        return f"its process was ended by {_signal(-done.returncode)}{': ' * bool(said)}{said}"
    return said or f"its process ended with exit code {done.returncode}"


def _last_words(text: str) -> str:
    """The last line that says something; PyTorch ends with where in its own code it was."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_NO_WORDS)]
    return next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1] if lines else "")[:_SAID]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def torch_force(potential: Potential, periodic: bool, device: str) -> openmm.Force:
    """The force of a module, for one System; only after the plugin has passed its test."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # of an old name of OpenMM, which it uses
        import openmmtorch

    force: openmm.Force = openmmtorch.TorchForce(_module(potential, device))
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setOutputsForces(_returns_forces(potential, device))
    return force


def _module(potential: Any, device: str) -> Any:
    """The module that was loaded and trusted: its file is not opened again."""
    return potential.calculator_on(device).module


def _returns_forces(potential: Any, device: str) -> bool:
    return bool(potential.calculator_on(device).returns_forces)
