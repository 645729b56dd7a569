"""Models that every claim of `test_contract.py` is made of, each in the environment of its framework."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from elsewhere import assert_same
from in_process import made_by, trusted
from salts import (
    lithium_chloride,
    lithium_chlorides,
    lithium_fluoride,
    open_above,
    sodium_chloride,
    thin,
    water,
)

from mlmd.potentials import Evaluation

SALTS = [sodium_chloride(), lithium_fluoride(), open_above(sodium_chloride(2))]


@dataclass(frozen=True)
class Case:
    """A model and what it is tried on."""

    kind: str
    """Of the potential, and the name of the environment."""
    own: str
    """Lines of Python that make ``calculator``, of what stands in the table."""
    structures: list[Atoms]
    """The first of them is a crystal."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What its table says, besides the file."""
    made: tuple[str, ...] = ()
    """Script that makes its file of random numbers, the name of the file, and further arguments."""
    named: str | None = None
    """Command of Python that prints the file which its framework has for the name."""
    graph: str | None = None
    """Class that asks it on the pairs of mlmd."""
    single: bool = False
    """Whether it computes in single precision."""
    moving: tuple[float, float] | None = None
    """How close energy (eV) and, as part of the largest, virial are in motion, where less is asked for than else."""
    quiet: bool = True
    """Whether nothing is said in its environment, also by other packages in a training and a run."""

    def __str__(self) -> str:
        """What tells it from others."""
        return "-".join([self.kind, *map(str, self.given.values()), *self.made[2:]])

    def table(self, python: str, folder: Path) -> dict[str, Any]:
        """What an input says of it, for the process of the framework."""
        table: dict[str, Any] = {"kind": self.kind, **self.given}
        if self.made:
            script, name, *arguments = self.made
            file = folder / name
            if not file.exists():
                made_by(script, python, file, *arguments)
            table |= {"path": str(file), "trust": [trusted(file)]}
        return table

    def file(self, python: str) -> Path:
        """That which the framework has for the name."""
        assert self.named is not None
        done = subprocess.run([python, "-Ec", self.named], capture_output=True, text=True, check=True)
        return Path(done.stdout.splitlines()[-1])

    @property
    def crystal(self) -> Atoms:
        """The first structure."""
        return self.structures[0].copy()

    def another(self, seed: int) -> Atoms:
        """The same ions at other places."""
        return (sodium_chloride if "Na" in self.crystal.symbols else lithium_chloride)(seed)

    def assert_same(self, found: Evaluation, expected: Evaluation, atoms: Atoms) -> None:
        """Two ways to ask the model have the same answer."""
        assert_same(found, expected, atoms, energy=1e-5 if self.single else 1e-9)
        if not self.single:
            assert found.forces == pytest.approx(expected.forces, abs=1e-9)
            if not np.isnan([found.virial, expected.virial]).any():
                assert found.virial == pytest.approx(expected.virial, abs=1e-9)

    def assert_same_in_motion(self, found: Evaluation, expected: Evaluation) -> None:
        """The same on the pairs of a list that is kept from step to step."""
        if self.moving is None:
            self.assert_same(found, expected, self.crystal)
            return
        assert found.energy == pytest.approx(expected.energy, abs=self.moving[0])
        assert np.abs(found.forces - expected.forces).max() < 1e-4
        assert np.abs(found.virial - expected.virial).max() < self.moving[1] * np.abs(expected.virial).max()

    def assert_same_on_pairs(self, told: Mapping[str, Any]) -> None:
        """On mlmd's pairs it says what its calculator says (see `in_process`), however it is asked.

        One structure after the other, all at once, and in motion with a list of pairs that is kept.
        """
        energies, forces, virials = told["together"]
        ends = np.cumsum([0] + [len(one) for one in self.structures])
        for n, atoms in enumerate(self.structures):
            native = evaluation(told["native"][n])
            self.assert_same(native, evaluation(told["own"][n]), atoms)
            self.assert_same(evaluation([energies[n], forces[ends[n] : ends[n + 1]], virials[n]]), native, atoms)
            if not atoms.pbc.any():
                virial = -atoms.positions.T @ native.forces
                assert native.virial == pytest.approx(virial, abs=1e-4 if self.single else 1e-9)
        for moving, by_calculator in told["moving"]:
            self.assert_same_in_motion(evaluation(moving), evaluation(by_calculator))
        assert len({moving[0] for moving, _ in told["moving"]}) == len(told["moving"]) == 4


def evaluation(numbers: Sequence[Any]) -> Evaluation:
    """What an environment told: energy, forces and virial."""
    return Evaluation(numbers[0], np.array(numbers[1]), np.array(numbers[2]))


CHGNET = """
from chgnet.model.dynamics import CHGNetCalculator
from chgnet.model.model import CHGNet
calculator = CHGNetCalculator(CHGNet.load(model_name={name!r}, use_device="cpu"), use_device="cpu")
"""
CHGNET_FILE = "import chgnet, pathlib; print(*pathlib.Path(chgnet.__file__).parent.glob('pretrained/{}/*.tar'))"
SEVENNET = """
from sevenn.calculator import SevenNetCalculator
calculator = SevenNetCalculator({name!r}, device="cpu", modal={modal!r})
"""
SEVENNET_FILE = "from sevenn import _const; print(_const.{})"
MACE = """
from mace.calculators import MACECalculator
calculator = MACECalculator(model_paths=[{path!r}], default_dtype={precision!r})
"""
NEQUIP = """
import torch
from nequip.integrations.ase import NequIPCalculator
from nequip.utils.global_state import set_global_state
set_global_state()
path = {path!r}
make = NequIPCalculator.from_compiled_model if ".nequip.p" in path else NequIPCalculator._from_saved_model
calculator = make(path, chemical_species_to_atom_type_map=True)
"""
METATOMIC = """
from metatomic_ase import MetatomicCalculator
calculator = MetatomicCalculator({path!r})
"""
DOUBLE = {"precision": "float64"}


def _chgnet(name: str) -> Case:
    return Case(
        "chgnet", CHGNET, [*SALTS, thin()], {"name": name}, named=CHGNET_FILE.format(name), graph="CHGNetGraph",
        single=True, moving=(3e-5, 5e-5), quiet=False,
    )  # fmt: skip


def _sevennet(name: str, constant: str, **modal: str) -> Case:
    apart = water()
    apart.set_cell([9, 9, 9])
    return Case(
        "sevennet", SEVENNET, [*SALTS, apart], {"name": name, **modal}, named=SEVENNET_FILE.format(constant),
        graph="SevenNetGraph", single=True,
    )  # fmt: skip


def _random(kind: str, own: str, file: str, *arguments: str, graph: str | None) -> Case:
    made = (f"random_{kind}.py", file, *arguments)
    return Case(kind, own, lithium_chlorides(), DOUBLE, made, graph=graph)


CASES = [
    _chgnet("0.3.0"),
    _chgnet("0.2.0"),
    _sevennet("7net-0", "SEVENNET_0_11Jul2024"),
    _sevennet("7net-mf-0", "SEVENNET_MF_0", modal="PBE"),
    _random("mace", MACE, "random.model", graph="MaceGraph"),
    _random("nequip", NEQUIP, "salt.nequip.zip", "nequip", graph="NequipGraph"),
    _random("nequip", NEQUIP, "salt.nequip.pth", "allegro", graph="NequipGraph"),
    _random("metatomic", METATOMIC, "random.pt", graph="MetatomicGraph"),
    _random("metatomic", METATOMIC, "half.pt", "half", graph="MetatomicGraph"),
]
ON_PAIRS = [case for case in CASES if case.graph is not None]
NAMED = [case for case in CASES if case.named is not None]
