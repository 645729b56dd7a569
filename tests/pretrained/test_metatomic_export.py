"""Potentials of mlmd as models of metatomic, which are asked by metatomic's own calculator in its own environment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from elsewhere import ROOT, evaluate, own_answers, python_of
from in_process import need_mlmd, trusted
from made_potentials import random_mtp
from random_deeppot import random_deeppot
from random_networks import random_nep
from random_snap import random_snap
from salts import lithium_chloride, lithium_chlorides

from mlmd.potentials import Potential, modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import ZBL
from mlmd.pretrained.metatomic import load

OWN = """
from metatomic_ase import MetatomicCalculator
calculator = MetatomicCalculator({path!r})
"""
LICL = ("Li", "Cl")
POTENTIALS: dict[str, Callable[[], Potential]] = {
    "mtp-and-zbl": lambda: Sum([random_mtp(LICL, 8), ZBL(cutoff="3 Å", onset="1 Å", elements=LICL)]),
    "nep": lambda: random_nep(LICL),
    "snap": lambda: random_snap(LICL, 4, quadratic=True),
    "deeppot-se": lambda: random_deeppot(LICL),
    "mtp-float32": lambda: random_mtp(LICL, 8, "float32"),
}


def exported(potential: Potential, python: str, folder: Path) -> Path:
    """The model that `mlmd export` writes in the environment, whose Python has what mlmd needs."""
    modelfile.save(potential, folder / "own.mlmd")
    command = [python, "-m", "mlmd", "export", "own.mlmd", "model.pt", "--to", "metatomic"]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    if "No module named" in done.stderr:
        pytest.skip("mlmd is not in the environment of metatomic (environments.py --with-mlmd)")
    assert done.returncode == 0, done.stderr
    assert "Written: model.pt" in done.stdout
    return folder / "model.pt"


def asked() -> list[Atoms]:
    """More atoms than are worked on together, fewer, a cluster, one element alone, and a single atom."""
    large = lithium_chloride().repeat((3, 2, 2))
    large.rattle(0.1, seed=5)
    cluster = lithium_chloride()
    cluster.pbc = False
    chlorine = Atoms("Cl3", [[0, 0, 0], [2.0, 0, 0], [0, 2.3, 0.4]], cell=[12.0] * 3, pbc=True)
    return [*lithium_chlorides(), large, cluster, chlorine, Atoms("Li", cell=[20.0] * 3, pbc=True)]


@pytest.mark.parametrize("name", POTENTIALS)
def test_metatomic_gives_the_energy_and_forces_of_the_potential(name: str, tmp_path: Path) -> None:
    python, potential = python_of("metatomic"), POTENTIALS[name]()
    model = exported(potential, python, tmp_path)
    # in double precision all that differs is the order of sums; in single the kernel is another way to round
    close = 1e-9 if "float32" not in name else 2e-4
    answer = predictor(potential)
    for atoms, found in zip(asked(), own_answers(python, OWN.format(path=str(model)), asked(), tmp_path), strict=True):
        own = answer(atoms)
        size = max(1.0, float(np.abs(own.forces).max()))
        assert found.energy == pytest.approx(own.energy, abs=close * len(atoms) * size)
        assert np.abs(found.forces - own.forces).max() < close * size
        if atoms.pbc.all():
            assert np.abs(found.virial - own.virial).max() < 10 * close * size * len(atoms)


def test_what_was_exported_is_a_potential_of_mlmd_again(tmp_path: Path) -> None:
    python, potential = python_of("metatomic"), random_nep(LICL)
    model = exported(potential, python, tmp_path)
    again = load(path=model, python=python, trust=[trusted(model)])
    assert again.elements == LICL and again.cutoff == pytest.approx(potential.cutoff)
    found, own = evaluate(again, lithium_chloride()), predictor(potential)(lithium_chloride())
    assert found.energy == pytest.approx(own.energy, abs=1e-9)
    assert found.forces == pytest.approx(own.forces, abs=1e-9)


KNOWS_HOW_MANY = """
import sys
from pathlib import Path
from mlmd.errors import InputError
from mlmd.potentials.pair import LennardJones
from mlmd.pretrained.metatomic_save import save

class KnowsHowMany(LennardJones):
    def atomic_energies(self, graph):
        return super().atomic_energies(graph) / len(graph.numbers)

try:
    save(KnowsHowMany(epsilon=0.01, sigma=3.0, cutoff=6.0, elements=["Li", "Cl"]), Path("model.pt"))
except InputError as error:
    print(error)
"""


def test_a_model_that_is_not_the_potential_is_not_written(tmp_path: Path) -> None:
    """Whose energies of atoms depend on more than their neighbours, so that some at a time are not all together."""
    python = python_of("metatomic")
    need_mlmd(python, "metatomic", "import mlmd.pretrained.metatomic_save")
    done = subprocess.run(
        [python, "-c", KNOWS_HOW_MANY], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "the model for metatomic of the potential of kind" in done.stdout, done.stderr
    assert "is not the potential" in done.stdout and "Nothing was written." in done.stdout
    assert not list(tmp_path.iterdir())
