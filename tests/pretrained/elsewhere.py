"""Environments of other frameworks, what their own calculators say there, and what every model has to obey.

`environments.py` makes the environments; MLMD_TEST_ENVS names the folder that holds them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from in_process import need_mlmd
from runs import read_log, write_input

from mlmd.engine.run import simulate
from mlmd.potentials import Evaluation, Potential
from mlmd.potentials.evaluate import predictor

ROOT = Path(__file__).parents[2]
OWN = """
import json, sys
import numpy as np
from ase import Atoms
{make}
answers = []
for one in json.load(open(sys.argv[1])):
    atoms = Atoms(**one)
    atoms.calc = calculator
    stress = atoms.get_stress(voigt=False).tolist() if atoms.pbc.all() and {stress} else None
    answers.append([float(atoms.get_potential_energy()), np.array(atoms.get_forces(), dtype=float).tolist(), stress])
json.dump(answers, open(sys.argv[2], "w"))
"""


def python_of(name: str) -> str:
    """The Python of an environment; a test that needs it skips where it is absent.

    With its name in MLMD_REQUIRE_ENVS the absence is a failure instead.
    """
    folder = os.environ.get("MLMD_TEST_ENVS", "")
    python = Path(folder) / name / "bin" / "python"
    if folder and python.exists():
        return str(python)
    message = f"no environment of {name} (set MLMD_TEST_ENVS to the folder of tests/pretrained/environments.py)"
    if name in os.environ.get("MLMD_REQUIRE_ENVS", "").split():
        pytest.fail(message)
    pytest.skip(message)


def own_answers(
    python: str, make: str, structures: Sequence[Atoms], folder: Path, *, stress: bool = True
) -> list[Evaluation]:
    """What the framework's own calculator says in its environment.

    Args:
        python: of the environment.
        make: lines of Python that make ``calculator``.
        structures: that it is asked about.
        folder: for questions and answers.
        stress: whether it is asked for stresses of crystals.
    """
    answers = _asked(python, [OWN.format(make=make, stress=stress)], structures, folder, {})
    found = []
    for atoms, (energy, forces, tensor) in zip(structures, answers, strict=True):
        virial = np.full((3, 3), np.nan) if tensor is None else np.array(tensor) * atoms.get_volume()
        found.append(Evaluation(energy, np.array(forces), virial))
    return found


INSIDE = """
import json, sys
from pathlib import Path
import numpy as np
from ase import Atoms
from {module} import load
potential = load(**json.loads(sys.argv[3]))
answers = []
for one in json.load(open(sys.argv[1])):
    found = potential.predictor().evaluate(Atoms(**one))
    answers.append([found.energy, found.forces.tolist(), found.virial.tolist()])
json.dump(answers, open(sys.argv[2], "w"))
"""


def answers_inside(
    python: str, module: str, arguments: dict[str, Any], structures: Sequence[Atoms], folder: Path
) -> list[Evaluation]:
    """What `load(**arguments)` of a module of mlmd says without another Python, run in the framework's environment."""
    need_mlmd(python, module.rpartition(".")[2], "import mlmd.pretrained.external")
    script = INSIDE.format(module=module)
    answers = _asked(python, [script, json.dumps(arguments)], structures, folder, {"PYTHONPATH": str(ROOT)})
    return [Evaluation(energy, np.array(forces), np.array(virial)) for energy, forces, virial in answers]


def _asked(
    python: str, script: Sequence[str], structures: Sequence[Atoms], folder: Path, variables: dict[str, str]
) -> list[Any]:
    """What a script (its text, further arguments) writes about structures."""
    asked = [
        {"numbers": one.numbers.tolist(), "positions": one.positions.tolist(), "cell": one.cell.tolist(),
         "pbc": one.pbc.tolist()}
        for one in structures
    ]  # fmt: skip
    questions, answers = folder / "questions.json", folder / "answers.json"
    questions.write_text(json.dumps(asked))
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", script[0], str(questions), str(answers), *script[1:]],
        capture_output=True, text=True, check=False, cwd=folder, env={**surroundings, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(answers.read_text()))


def evaluate(potential: Potential, atoms: Atoms) -> Evaluation:
    """What a potential of mlmd says."""
    return predictor(potential)(atoms)


def assert_same(found: Evaluation, expected: Evaluation, atoms: Atoms, *, energy: float = 1e-5) -> None:
    """Energies to 1e-5 eV, forces to 1e-4 eV/Å, stresses to 1e-4 GPa."""
    assert found.energy == pytest.approx(expected.energy, abs=energy)
    assert np.abs(found.forces - expected.forces).max() <= 1e-4
    if atoms.cell.rank == 3 and not np.isnan(expected.virial).any():
        gpa = 160.21766208 / atoms.get_volume()
        assert np.abs(found.virial - expected.virial).max() * gpa <= 1e-4


def assert_forces_are_derivatives(potential: Potential, atoms: Atoms, *, step: float, close: float) -> None:
    """Central differences of the energy in Å `step` along a random direction, within eV/Å `close`."""
    direction = np.random.default_rng(5).normal(size=(len(atoms), 3))
    direction /= np.linalg.norm(direction)
    energies = [evaluate(potential, _moved(atoms, sign * step * direction)).energy for sign in (1, -1)]
    along = float((evaluate(potential, atoms).forces * direction).sum())
    assert abs(along) > 20 * close  # or the comparison says nothing
    assert along == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=close)


def assert_stress_is_derivative(potential: Potential, atoms: Atoms, *, step: float, close: float) -> None:
    """Central differences of the energy by a random symmetric strain of size `step`, within eV `close`."""
    strain = np.random.default_rng(6).normal(size=(3, 3))
    strain += strain.T
    strain /= np.linalg.norm(strain)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        energies.append(evaluate(potential, strained).energy)
    along = float((evaluate(potential, atoms).virial * strain).sum())
    assert abs(along) > 20 * close
    assert along == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=close)


def assert_extensive(potential: Potential, atoms: Atoms, repeat: tuple[int, int, int] = (2, 1, 1)) -> None:
    """A supercell has its energy in proportion, and the forces of the cell."""
    cell, supercell = evaluate(potential, atoms), evaluate(potential, atoms * repeat)
    n = int(np.prod(repeat))
    assert supercell.energy == pytest.approx(n * cell.energy, rel=1e-6)
    assert supercell.forces == pytest.approx(np.tile(cell.forces, (n, 1)), abs=2e-4)


def assert_runs(folder: Path, atoms: Atoms, table: str, *, npt: bool = True) -> None:
    """`mlmd simulate`: eight steps of 0.25 fs keep the energy to 2 % of what is exchanged, and NPT comes to its end."""
    stages = '[[stage]]\nkind = "nve"\nduration = "2 fs"\n'
    if npt:
        stages += '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "1 fs"\n'
    path = write_input(
        folder, stages, atoms=atoms, potential=table,
        options='timestep = "0.25 fs"\nvelocities = "300 K"', output='log_every = "0.25 fs"',
    )  # fmt: skip
    log = read_log(simulate(path, folder / "run"))
    assert log["stage"].max() == (2 if npt else 1)
    assert np.isfinite([log["potential energy"], log["temperature"]]).all()
    assert np.isfinite(log["pressure"][log["stage"] == 2]).all()
    first = log["stage"] == 1
    total = (log["potential energy"] + log["kinetic energy"])[first]
    assert np.ptp(total) < 0.02 * np.ptp(log["potential energy"][first])


def _moved(atoms: Atoms, by: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += by
    return moved
