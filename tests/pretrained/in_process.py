"""Models of others in the process of mlmd, which runs in their environment for this: what they say on both ways.

`python in_process.py QUESTIONS ANSWERS` under the Python of the environment, with mlmd on its path; `asked` does so.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

ROOT = Path(__file__).parents[2]
SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
INSTALLED = "import mlmd.engine.run; from importlib.metadata import version; version('mlmd')"


def need_mlmd(python: str, name: str, there: str = INSTALLED) -> None:
    """Skip a test where lines of Python about mlmd fail in an environment, or fail where that is required."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    tried = subprocess.run([python, "-c", there], env=variables, capture_output=True, text=True, check=False)
    if tried.returncode:
        message = f"mlmd is not installed in the environment of {name}: {tried.stderr.strip().splitlines()[-1]}"
        if name in os.environ.get("MLMD_REQUIRE_ENVS", "").split():
            pytest.fail(message)
        pytest.skip(message)


def asked(
    python: str, name: str, table: Mapping[str, Any], structures: Sequence[Atoms], folder: Path
) -> dict[str, Any]:
    """Everything that `answers` tells about the model of a table, from a process of an environment.

    The test skips where mlmd cannot be imported there, or fails where the environment is required.
    """
    need_mlmd(python, name)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    questions, answers_file = folder / "asked.json", folder / "answers.json"
    listed = [
        {"numbers": one.numbers.tolist(), "positions": one.positions.tolist(), "cell": one.cell.tolist(),
         "pbc": one.pbc.tolist()}
        for one in structures
    ]  # fmt: skip
    questions.write_text(json.dumps({"table": dict(table), "structures": listed}))
    done = subprocess.run(
        [python, __file__, str(questions), str(answers_file)],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(answers_file.read_text())
    told["said"] = done.stdout + done.stderr
    return told


def made_by(script: str, python: str, path: Path, *arguments: str) -> Path:
    """A file that a script of this folder makes in an environment: its arguments are the file, and others."""
    done = subprocess.run(
        [python, "-E", str(Path(__file__).with_name(script)), str(path), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path


MAKE = """
import importlib.util, json, sys
from ase import Atoms
spec = importlib.util.spec_from_file_location("its_file", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
told = []
for options in json.loads({options!r}):
    try:
        made = module.calculator(**options)
        told.append([float(Atoms("Li", [[0, 0, 0]], calculator=made).get_potential_energy()), module.facts(made)])
    except Exception as error:
        told.append(str(error))
print("\\n" + json.dumps(told))
"""


def made_there(kind: str, python: str, *options: Mapping[str, Any]) -> list[Any]:
    """Of every set of options the energy of a lone lithium atom and the facts, or the error, all in one process."""
    file = ROOT / "mlmd" / "pretrained" / f"{kind}.py"
    code = MAKE.format(file=str(file), options=json.dumps(options))
    done = subprocess.run([python, "-E", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def trusted(path: Path) -> str:
    """What a user writes to trust a file."""
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


class Harmful:
    """Something that makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def harmful(path: Path, canary: Path) -> Path:
    """A pickle that makes a folder when it is opened."""
    with path.open("wb") as file:
        pickle.dump(Harmful(canary), file, protocol=2)  # that which torch writes
    return path


def answers(table: Mapping[str, Any], structures: Sequence[Atoms], folder: Path) -> dict[str, Any]:
    """Of the model on mlmd's pairs, of its own calculator, of all structures at once, and of the stored model."""
    import torch

    from mlmd.neighbors import build_graph
    from mlmd.potentials import modelfile
    from mlmd.potentials.evaluate import evaluator, predictor
    from mlmd.potentials.load import build
    from mlmd.pretrained.external import External

    options = {**table, **({"path": Path(table["path"])} if "path" in table else {})}
    before, numbers, seeds = os.environ.get(SWITCH), [torch.get_default_dtype()], _seeds()
    potential = build(options.pop("kind"), options)
    told: dict[str, Any] = {"class": type(potential).__name__, "switch": [before, os.environ.get(SWITCH)]}
    told["seeds"] = [one == other for one, other in zip(seeds, _seeds(), strict=True)]
    numbers.append(torch.get_default_dtype())
    try:
        file = harmful(folder / "harmful.pt", folder / "canary")
        torch.load(file)
        told["refused"] = False
    except pickle.UnpicklingError:
        told["refused"] = not (folder / "canary").exists()
    own = potential if isinstance(potential, External) else potential.external
    told["facts"] = dict(potential.facts)
    told["native"] = [numbers_of(predictor(potential)(one)) for one in structures]
    told["own"] = [numbers_of(own.predictor().evaluate(one)) for one in structures]
    together = potential.predict(build_graph(list(structures), potential.cutoff + 0.7))
    told["together"] = [together.energy.tolist(), together.forces.tolist(), together.virial.tolist()]
    first = structures[0]
    moving = evaluator(potential, first.numbers, first.pbc, skin=0.5)
    rng = np.random.default_rng(3)
    told["moving"] = []
    for _ in range(4):  # the cell changes too, and the list of pairs is searched again on the way
        first.positions += rng.normal(0, 0.15, first.positions.shape)
        first.set_cell(first.cell.array @ (np.eye(3) + rng.normal(0, 0.01, (3, 3))), scale_atoms=True)
        pair = [moving.evaluate(first.positions, first.cell.array), own.predictor().evaluate(first)]
        told["moving"].append([numbers_of(one) for one in pair])
    if not isinstance(potential, External):
        from mlmd.pretrained.native import agree

        right = agree(potential)
        kind, says = type(potential), type(potential).predict
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "predict", lambda self, graph: _wrong(says(self, graph)))
            told["agree"] = [right, agree(potential)]
    told["stored"] = sorted(potential.state_dict()), json.dumps(potential.spec()) == json.dumps(own.spec())
    again = modelfile.restore(potential.spec(), {})
    told["again"] = [type(again).__name__, numbers_of(predictor(again)(structures[-1]))]
    told["run"] = _runs(given_table(table), structures[0], folder)
    told["trained"] = _trained(given_table(table), structures[0], folder)
    numbers.append(torch.get_default_dtype())
    told["numbers"] = [str(one) for one in numbers]
    return told


def given_table(table: Mapping[str, Any]) -> str:
    """A table as an input has it."""
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + " }"


def _runs(table: str, atoms: Atoms, folder: Path) -> dict[str, Any]:
    """Energies of a run, and whether one that stops on its way and goes on is the same to the last byte."""
    import ase.io

    from mlmd.engine.run import simulate
    from mlmd.errors import Stopped

    ase.io.write(folder / "run.extxyz", atoms, format="extxyz")
    path = folder / "run.toml"
    path.write_text(
        f'structure = "run.extxyz"\npotential = {table}\ntimestep = "0.5 fs"\nseed = 1\nvelocities = "300 K"\n'
        '[[stage]]\nkind = "nve"\nduration = "5 fs"\n'
        '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "5 fs"\n'
        '[output]\nlog_every = "0.5 fs"\ntrajectory_every = "0.5 fs"\n'
    )
    whole, parts = folder / "whole", folder / "parts"
    simulate(path, whole)

    def stop(moment: Any) -> None:
        if moment.stage.first_step + moment.step == 7:
            (parts / "STOP").touch()

    stopped = False
    try:
        simulate(path, parts, progress=stop)
    except Stopped:
        stopped = True
    (parts / "STOP").unlink(missing_ok=True)
    simulate(path, parts)
    log = np.loadtxt(whole / "log.csv", delimiter=",", skiprows=1)
    return {
        "potential": log[:11, 3].tolist(),
        "total": (log[:11, 3] + log[:11, 4]).tolist(),
        "stopped": stopped,
        "same": [(whole / one).read_bytes() == (parts / one).read_bytes() for one in ("log.csv", "trajectory.dcd")],
    }


def _trained(table: str, atoms: Atoms, folder: Path) -> dict[str, Any]:
    """A training above the model: what its file is built of, and how large it is."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    from mlmd.potentials import modelfile
    from mlmd.train.run import train

    frames = []
    for seed in range(6):
        frame = atoms.copy()
        frame.rattle(0.05, seed=seed)
        frame.calc = SinglePointCalculator(frame, energy=-20.0 + 0.1 * seed, forces=np.zeros((len(frame), 3)))
        frames.append(frame)
    ase.io.write(folder / "frames.extxyz", frames, format="extxyz")
    path = folder / "train.toml"
    path.write_text(
        f'data = "frames.extxyz"\ntest_fraction = 0.34\n[descriptor]\nlevel = 2\ncutoff = "3.5 Å"\n[fit]\n'
        f'radial = "plain"\n[baseline]\npotential = {table}\n'
    )
    model = train(path, folder / "trained", n_processes=1).model
    potential = modelfile.load(model, trust=[trusted(model)])
    return {
        "parts": [type(part).__name__ for part in potential.parts],
        "files": [*modelfile.read_spec(model)["parts"][1]["files"]],
        "bytes": model.stat().st_size,
    }


def _seeds() -> tuple[Any, ...]:
    """The states of random numbers that belong to everybody."""
    import random

    import torch

    state = np.random.get_state()  # noqa: NPY002 - which is what is looked at
    return random.getstate(), (state[1].tolist(), state[2]), torch.get_rng_state().tolist()  # type: ignore[index]


def _wrong(said: Any) -> Any:
    """A prediction with forces that are a little too large."""
    from dataclasses import replace

    return replace(said, forces=1.001 * said.forces)


def numbers_of(found: Any) -> list[Any]:
    """Energy, forces and virial."""
    return [found.energy, found.forces.tolist(), found.virial.tolist()]


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    structures = [Atoms(**one) for one in given["structures"]]
    told = answers(given["table"], structures, Path(sys.argv[2]).parent)
    Path(sys.argv[2]).write_text(json.dumps(told))
