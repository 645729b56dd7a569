"""Committees of any potentials: the mean, what it expects of its errors, and one file for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner
from made_data import thermal
from random_soap import random_soap

from mlmd import models
from mlmd.cli import group
from mlmd.config.files import sha256
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, Prediction, modelfile
from mlmd.potentials.committee import Committee
from mlmd.potentials.evaluate import compiled_predictor, evaluator, predictor
from mlmd.potentials.uncertainty import Judge, knows
from mlmd.train.calibration import calibrated
from mlmd.train.evaluate import predict
from mlmd.train.mean import write


class Foreign:
    """A potential of somebody else."""

    cutoff, elements = 5.0, ("Cu",)

    def predict(self, graph: Graph) -> Prediction:
        raise NotImplementedError

    def spec(self) -> dict[str, object]:
        return {"kind": "foreign"}


def copper(seed: int = 1) -> Atoms:
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=seed)
    return atoms


def members() -> list[Potential]:
    """One with a whole kernel, one with kernel features."""
    return [modelfile.load(models.path("Cu")), random_soap(("Cu",), n_neurons=4)]


def test_energy_forces_and_stress_are_the_means_by_every_way() -> None:
    some, atoms = members(), copper()
    committee = Committee(some)
    each = [one.predict(build_graph(atoms, one.cutoff)) for one in some]
    energy = np.mean([float(one.energy[0]) for one in each])
    forces = np.mean([one.forces.numpy() for one in each], axis=0)
    stress = np.mean([one.stress.numpy()[0] for one in each], axis=0)
    by_graph = committee.predict(build_graph(atoms, committee.cutoff))
    assert float(by_graph.energy[0]) == pytest.approx(energy, abs=1e-9)
    assert by_graph.stress.numpy()[0] == pytest.approx(stress, abs=1e-10)
    assert compiled_predictor(committee) is not None
    ran = evaluator(committee, atoms.numbers, atoms.pbc)
    for found in (predictor(committee)(atoms), ran.evaluate(atoms.positions, atoms.cell.array)):
        assert found.energy == pytest.approx(energy, abs=1e-8)
        assert found.forces == pytest.approx(forces, abs=1e-8)
        assert found.virial / atoms.get_volume() == pytest.approx(stress, abs=1e-9)
    assert by_graph.forces.numpy() == pytest.approx(forces, abs=1e-9)


def test_the_spread_is_the_standard_deviation_of_the_members_forces() -> None:
    some, atoms = members(), copper()
    committee = Committee(some)
    assert knows(committee) == ("spread",)
    spread = Judge(committee)(atoms).spread
    assert spread is not None
    forces = np.array([predictor(one)(atoms).forces for one in some])
    expected = np.sqrt(forces.var(axis=0, ddof=1).mean(axis=1))
    assert spread.numpy() == pytest.approx(expected, rel=1e-10)
    assert knows(Committee(some, calibration=0.0)) == ()


def test_its_file_says_the_same_and_names_the_members(tmp_path: Path) -> None:
    atoms = copper()
    committee = write({"folder/Cu.mlmd": members()[0], "soap.mlmd": members()[1]}, tmp_path / "mean.mlmd")
    again = modelfile.load(tmp_path / "mean.mlmd")
    assert np.array_equal(predictor(again)(atoms).forces, predictor(committee)(atoms).forces)
    assert modelfile.read_card(tmp_path / "mean.mlmd")["made of"] == ["Cu.mlmd", "soap.mlmd"]
    single = modelfile.load(tmp_path / "mean.mlmd", "float32")
    assert predictor(single)(atoms).forces == pytest.approx(predictor(committee)(atoms).forces, abs=1e-4)


def test_a_command_writes_it_and_a_run_has_its_spread(tmp_path: Path) -> None:
    modelfile.save(random_soap(("Cu",)), tmp_path / "soap.mlmd")
    out = tmp_path / "mean.mlmd"
    answer = CliRunner().invoke(group, ["committee", "Cu", str(tmp_path / "soap.mlmd"), "-o", str(out)])
    assert answer.exit_code == 0, answer.output
    shown = CliRunner().invoke(group, ["show", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "committee" in shown.output
    assert "soap.mlmd" in shown.output
    assert "spread of forces, not calibrated" in shown.output
    assert "not calibrated" in answer.output
    assert modelfile.read_card(out)["uncertainty"]["spread"]["calibrated with"].startswith("nothing: not calibrated")
    copper().write(tmp_path / "cu.extxyz")
    (tmp_path / "in.toml").write_text(
        'structure = "cu.extxyz"\npotential = "mean.mlmd"\ntimestep = "1 fs"\nvelocities = "100 K"\nseed = 1\n'
        '[[stage]]\nkind = "nve"\nduration = "20 fs"\n[output]\nlog_every = "5 fs"\nspread_every = "5 fs"\n'
    )
    simulate(tmp_path / "in.toml", tmp_path / "run")
    assert "spread" in (tmp_path / "run" / "log.csv").read_text().splitlines()[0]


def test_a_member_may_be_a_table_as_an_input_has_it(tmp_path: Path) -> None:
    """Models of other programs have options, and are stored by how they are made."""
    emt, out = '{ kind = "ase", calculator = "ase.calculators.emt:EMT", elements = ["Cu"] }', tmp_path / "mean.mlmd"
    answer = CliRunner().invoke(group, ["committee", "Cu", emt, "-o", str(out)])
    assert answer.exit_code == 0, answer.output
    assert modelfile.read_card(out)["made of"] == ["Cu", emt]
    atoms, alone = copper(), copper()
    alone.calc = EMT()
    expected = 0.5 * (predictor(members()[0])(atoms).energy + alone.get_potential_energy())
    assert predictor(modelfile.load(out, trust=[f"sha256:{sha256(out)}"]))(atoms).energy == pytest.approx(expected)


@pytest.mark.parametrize("member", ['{ kind = "ase", ', '{ kind = "ase" } and more', '{ kind = "acse" }', "{}"])
def test_a_table_that_is_none_is_one_message(member: str, tmp_path: Path) -> None:
    answer = CliRunner().invoke(group, ["committee", "Cu", member, "-o", str(tmp_path / "mean.mlmd")])
    assert isinstance(answer.exception, InputError)
    assert not (tmp_path / "mean.mlmd").exists()


def test_data_calibrate_its_spread_so_that_errors_are_as_large_as_it(tmp_path: Path) -> None:
    modelfile.save(random_soap(("Cu",)), tmp_path / "soap.mlmd")
    frames = thermal(5, repeat=1)
    data, out = tmp_path / "known.extxyz", tmp_path / "mean.mlmd"
    write_labelled(data, frames)
    arguments = ["committee", "Cu", str(tmp_path / "soap.mlmd"), "-o", str(out), "--data", str(data)]
    answer = CliRunner().invoke(group, arguments)
    assert answer.exit_code == 0, answer.output
    committee: Any = modelfile.load(out)
    assert f"calibrated by a factor of {committee.calibration:.3g}" in answer.output
    assert committee.calibration != 1.0
    found = calibrated(Judge(committee), frames, predict(committee, frames))
    assert found is not None
    assert found.factor == pytest.approx(1.0, abs=1e-9)
    told = modelfile.read_card(out)["uncertainty"]["spread"]
    n_atoms = sum(len(frame.atoms) for frame in frames)
    assert told == {"factor": committee.calibration, "calibrated with": f"forces on {n_atoms} atoms of known.extxyz"}
    shown = CliRunner().invoke(group, ["show", str(out)])
    assert "spread of forces" in shown.output
    assert "not calibrated" not in shown.output


def test_data_without_forces_calibrate_nothing(tmp_path: Path) -> None:
    frames = [replace(frame, forces=None) for frame in thermal(2, repeat=1)]
    some = dict(zip(("a", "b"), members(), strict=True))
    with pytest.raises(InputError, match="nothing to calibrate the spread with: no structure has forces"):
        write(some, tmp_path / "mean.mlmd", frames)
    assert not (tmp_path / "mean.mlmd").exists()


def test_what_cannot_be_a_committee_is_refused(tmp_path: Path) -> None:
    cu = members()[0]
    with pytest.raises(InputError, match="two potentials or more"):
        Committee([cu])
    with pytest.raises(InputError, match=r"potentials of a committee have no element in common: \(Cu\) and \(Li\)"):
        Committee([cu, modelfile.load(models.path("Li"))])
    with pytest.raises(InputError, match=r"stored as \.mlmd"):
        write({"a": cu, "b": cu}, tmp_path / "a.mtp")
    with pytest.raises(InputError, match="b: a Foreign cannot be stored"):
        write({"a": cu, "b": Foreign()}, tmp_path / "a.mlmd")
    (tmp_path / "there.mlmd").touch()
    with pytest.raises(InputError, match="exists already"):
        write({"a": cu, "b": cu}, tmp_path / "there.mlmd")
