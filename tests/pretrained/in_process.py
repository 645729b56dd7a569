"""Models of others in the process of mlmd, which runs in their environment for this: what they say on both ways.

`python in_process.py QUESTIONS ANSWERS` under the Python of the environment, with mlmd on its path; `asked` does so.
"""

from __future__ import annotations

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


def asked(
    python: str, name: str, table: Mapping[str, Any], structures: Sequence[Atoms], folder: Path
) -> dict[str, Any]:
    """Everything that `answers` tells about the model of a table, from a process of an environment.

    The test skips where mlmd cannot be imported there, or fails where the environment is required.
    """
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    tried = subprocess.run(
        [python, "-c", "import mlmd.engine.run"], env=variables, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        message = f"mlmd cannot be imported in the environment of {name}: {tried.stderr.strip().splitlines()[-1]}"
        if name in os.environ.get("MLMD_REQUIRE_ENVS", "").split():
            pytest.fail(message)
        pytest.skip(message)
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

    options = {**table, "path": Path(table["path"])}
    before = os.environ.get(SWITCH)
    potential = build(options.pop("kind"), options)
    told: dict[str, Any] = {"class": type(potential).__name__, "switch": [before, os.environ.get(SWITCH)]}
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
        network, kind = type(potential).atomic_energies, type(potential)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "atomic_energies", lambda self, graph: 1.001 * network(self, graph))
            told["agree"] = [right, agree(potential)]
    told["stored"] = sorted(potential.state_dict()), json.dumps(potential.spec()) == json.dumps(own.spec())
    again = modelfile.restore(potential.spec(), {})
    told["again"] = [type(again).__name__, numbers_of(predictor(again)(structures[-1]))]
    return told


def numbers_of(found: Any) -> list[Any]:
    """Energy, forces and virial."""
    return [found.energy, found.forces.tolist(), found.virial.tolist()]


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    structures = [Atoms(**one) for one in given["structures"]]
    told = answers(given["table"], structures, Path(sys.argv[2]).parent)
    Path(sys.argv[2]).write_text(json.dumps(told))
