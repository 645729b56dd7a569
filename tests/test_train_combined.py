"""Trainings on several descriptors, on those of trained potentials and on chosen functions, through the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from command_line import mlmd
from made_data import strained, thermal

from mlmd.descriptors.combined import Combined
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.train.run import Training, train

TWO = """[[descriptor]]
kind = "acsf"
cutoff = "5 Å"
n_radial = 5
n_angular = 0
[[descriptor]]
kind = {other}
"""
SNAP = '"snap"\ncutoff = "4 Å"\ntwojmax = 4'
SOAP = '"soap"\ncutoff = "4 Å"\nn_max = 3\nl_max = 2'
MTP = '"mtp"\nlevel = 6\ncutoff = "4.5 Å"\nn_chebyshev = 4'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(8), *strained(8)])
    write_labelled(tmp_path / "test.extxyz", thermal(3, seed=9))
    return tmp_path


def trained(name: str, descriptor: str, fit: str) -> Training:
    """What is left of an input with these tables."""
    Path(f"{name}.toml").write_text(
        f'data = "data.extxyz"\ntest = "test.extxyz"\n{descriptor}\n[fit]\n{fit}\n', encoding="utf-8"
    )
    return train(f"{name}.toml", f"{name}.run", n_processes=1)


def error(training: Training) -> float:
    """Root mean squared error of the forces on the test structures, in units of their size."""
    table = training.errors["test"]
    assert table is not None
    forces = np.concatenate([_forces(frame) for frame in read_labelled(Path("test.extxyz"))])
    return table.row("forces").rmse / 1e3 / float(np.sqrt(np.mean(forces**2)))


def _forces(frame: LabelledFrame) -> np.ndarray:
    assert frame.forces is not None
    return frame.forces


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("other", "fit", "bound"),
    [
        (SNAP, 'kind = "linear"', 0.1),
        (SOAP, 'kind = "gap"\nn_sparse = 40', 0.1),
        (SNAP, 'kind = "network"\nn_neurons = [8]\nepochs = 40', 0.3),
    ],
)
def test_two_descriptors_learn_copper_and_run(other: str, fit: str, bound: float) -> None:
    training = trained("two", TWO.format(other=other), fit)
    assert error(training) < bound
    potential: Any = modelfile.load(training.model)
    assert isinstance(potential.descriptor, Combined)
    assert [part.cutoff for part in potential.descriptor.parts] == [5.0, 4.0]
    # the run evaluates what was fitted
    write("copper.extxyz", bulk("Cu", cubic=True, a=3.6) * 2)
    Path("run.toml").write_text(
        f'structure = "copper.extxyz"\npotential = "{training.model}"\nseed = 1\ntimestep = "2 fs"\n'
        'velocities = "300 K"\n[[stage]]\nkind = "nve"\nduration = "40 fs"\n[output]\nlog_every = "2 fs"\n'
    )
    answer = mlmd("simulate", "run.toml", "--out", "moved")
    assert answer.code == 0, answer.err
    with (Path("moved") / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    potential_energy, kinetic = (
        np.array([float(row[f"{name} energy [eV]"]) for row in rows]) for name in ("potential", "kinetic")
    )
    assert len(rows) == 21
    # with other forces than those of the energy, the part of it that comes and goes would not come back
    assert np.ptp(potential_energy + kinetic) < 0.02 * np.ptp(kinetic)


@pytest.mark.usefixtures("place")
def test_radial_functions_are_optimised_beside_another_descriptor() -> None:
    plain = trained("plain", TWO.format(other=MTP), 'radial = "plain"')
    best = trained("best", TWO.format(other=MTP), 'radial = "optimise"\nmax_iterations = 6')
    assert error(best) < 0.8 * error(plain)
    facts = json.loads(mlmd("check", "best.toml", "--json").out)["inputs"][0]
    assert facts["n_radial"] == 2 * 4  # two radial functions of four Chebyshev polynomials


@pytest.mark.usefixtures("place")
def test_the_descriptor_of_a_trained_potential_keeps_its_radial_functions() -> None:
    first: Any = modelfile.load(trained("first", f"[descriptor]\nkind = {MTP}", "max_iterations = 3").model)
    tables = '[[descriptor]]\nmodel = "first.run/first.mlmd"\n[[descriptor]]\nkind = "acsf"\nn_angular = 0'
    training = trained("second", tables, 'kind = "network"\nn_neurons = [6]\nepochs = 5')
    second: Any = modelfile.load(training.model)
    moments = second.descriptor.parts[0]
    assert moments.spec() == first.descriptor.spec()
    assert (moments.radial.coefficients == first.descriptor.radial.coefficients).all()
    # also where a linear fit could optimise them
    third: Any = modelfile.load(trained("third", 'descriptor = { model = "first.run/first.mlmd" }', "").model)
    assert (third.descriptor.radial.coefficients == first.descriptor.radial.coefficients).all()


@pytest.mark.usefixtures("place")
def test_a_trained_potential_of_other_elements_is_refused() -> None:
    trained("first", f"[descriptor]\nkind = {MTP}", 'radial = "plain"')
    frames = thermal(4, repeat=1)
    for frame in frames:
        frame.atoms.numbers[::2] = 47
    write_labelled(Path("data.extxyz"), frames)
    write_labelled(Path("test.extxyz"), frames[:1])
    with pytest.raises(
        InputError, match=r"first\.mlmd knows Cu, in this order; the elements of the training are Cu, Ag"
    ):
        trained("second", 'descriptor = { model = "first.run/first.mlmd" }', "")


@pytest.mark.usefixtures("place")
def test_chosen_functions_are_shown_and_the_same_again() -> None:
    table = '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nfunctions = "selected"\nn_functions = 12'
    one, other = trained("one", table, 'kind = "linear"'), trained("other", table, 'kind = "linear"')
    assert error(one) < 0.1
    specs = [modelfile.read_spec(training.model)["descriptor"]["functions"] for training in (one, other)]
    assert specs[0] == specs[1]
    shown = json.loads(mlmd("show", one.model, "--json").out)["symmetry functions"]
    assert len(shown) == len(specs[0]) == 12
    assert shown[0].startswith("G2 of Cu-Cu: η ")
    assert shown[0] in mlmd("show", one.model).out


@pytest.mark.usefixtures("place")
def test_two_descriptors_describe_and_are_shown() -> None:
    Path("two.toml").write_text(TWO.format(other=SNAP), encoding="utf-8")
    answer = mlmd("describe", "test.extxyz", "--descriptor", "two.toml", "-o", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz") as arrays:
        features, spec = arrays["features"], json.loads(str(arrays["spec"]))
    parts = []
    for number, kind in enumerate(("acsf", "snap")):
        text = TWO.format(other=SNAP).split("[[descriptor]]\n")[1 + number]
        assert kind in text
        Path("one.toml").write_text(text, encoding="utf-8")
        assert mlmd("describe", "test.extxyz", "--descriptor", "one.toml", "-o", f"{kind}.npz").code == 0
        with np.load(f"{kind}.npz") as arrays:
            parts.append(arrays["features"])
    np.testing.assert_array_equal(features, np.concatenate(parts, axis=1))
    assert [part["kind"] for part in spec["parts"]] == ["symmetry", "bispectrum"]
    training = trained("fit", TWO.format(other=SNAP), 'kind = "linear"')
    frame = read_labelled(Path("test.extxyz"))[0]
    said = predictor(modelfile.load(training.model))(frame.atoms)
    assert float(np.abs(said.forces - _forces(frame)).max()) < 0.1 * float(np.abs(_forces(frame)).max())
    assert "symmetry functions" in mlmd("show", training.model).out
    checked = mlmd("check", "fit.toml").out
    assert "features of acsf and snap, linear, up to 5 Å" in checked
