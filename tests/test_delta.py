"""Delta-learning: what a given potential knows is subtracted, and the result is the sum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import mlmd
from made_data import strained, thermal

from mlmd.config import Train
from mlmd.errors import InputError, StorageError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import ZBL, Morse
from mlmd.potentials.uncertainty import Judge, knows
from mlmd.train.calibration import calibrated
from mlmd.train.evaluate import errors, predict
from mlmd.train.job import prepare
from mlmd.train.run import train

MORSE = Morse(depth="0.2 eV", width="0.7 Å", r0="2.6 Å", cutoff="4 Å", elements=["Cu"])
TABLE = 'potential = { kind = "morse", depth = "0.2 eV", width = "0.7 Å", r0 = "2.6 Å", cutoff = "4 Å" }'
FITS = {
    "moments": '[descriptor]\nlevel = 6\ncutoff = "4.5 Å"\n[fit]\nradial = "plain"\n',
    "snap": '[descriptor]\nkind = "snap"\ntwojmax = 4\ncutoff = "4.5 Å"\n',
    "network": '[descriptor]\nkind = "acsf"\ncutoff = "4.5 Å"\n[fit]\nkind = "network"\nn_neurons = [6]\nepochs = 5\n',
}


def with_morse(frame: LabelledFrame) -> LabelledFrame:
    """Labels with those of the Morse potential on top."""
    (said,) = predict(MORSE, [frame])
    assert frame.energy is not None and frame.forces is not None and frame.stress is not None
    return replace(
        frame, energy=frame.energy + said.energy, forces=frame.forces + said.forces, stress=frame.stress + said.stress
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with copper as EMT has it, and with a Morse potential on top."""
    frames = [*thermal(6), *strained(6)]
    write_labelled(tmp_path / "emt.extxyz", frames)
    write_labelled(tmp_path / "both.extxyz", [with_morse(frame) for frame in frames])
    return tmp_path


def write(place: Path, data: str, fit: str, baseline: str = "") -> Path:
    """An input."""
    path = place / f"{Path(data).stem}.toml"
    table = f"[baseline]\n{baseline}\n" if baseline else ""
    path.write_text(f'data = "{data}"\ntest_fraction = 0.25\n{FITS[fit]}{table}', encoding="utf-8")
    return path


@pytest.mark.parametrize("fit", FITS)
def test_what_the_given_potential_adds_to_the_labels_is_not_learned_but_added(place: Path, fit: str) -> None:
    plain = train(write(place, "emt.extxyz", fit), place / "plain", n_processes=1)
    delta = train(write(place, "both.extxyz", fit, TABLE), place / "delta", n_processes=1)
    atoms = thermal(1, seed=7)[0].atoms
    alone, whole, given = (predictor(one)(atoms) for one in (
        modelfile.load(plain.model), modelfile.load(delta.model), MORSE))  # fmt: skip
    # the file of data has labels of 8 digits, and a fit multiplies their rounding by its condition
    assert whole.energy - alone.energy == pytest.approx(given.energy, abs=1e-5 * len(atoms))
    assert np.abs(whole.forces - alone.forces - given.forces).max() < 1e-4
    assert np.abs(whole.virial - alone.virial - given.virial).max() < 1e-4 * len(atoms)
    assert np.abs(given.forces).max() > 0.1


def test_the_errors_are_those_of_the_sum_with_the_labels(place: Path) -> None:
    result = train(write(place, "both.extxyz", "snap", TABLE), n_processes=1, out=place / "run")
    job = prepare(place / "both.toml")
    potential = modelfile.load(result.model)
    assert isinstance(potential, Sum)
    for name, frames in (("train", job.train), ("test", job.test)):
        table = errors(frames, predict(potential, frames))
        assert modelfile.read_card(result.model)["errors"][name] == table.to_json()
        assert (place / "run" / f"parity_{name}.png").exists()
    # those of the part that was fitted would be the forces of the Morse potential besides
    alone = errors(job.test, predict(potential.parts[0], job.test)).row("forces").rmse
    assert result.errors["test"].row("forces").rmse < 0.5 * alone


def test_the_file_holds_both_and_runs_without_the_file_of_the_given_one(place: Path) -> None:
    modelfile.save(MORSE, place / "given.mlmd")
    result = train(
        write(place, "both.extxyz", "moments", 'potential = "given.mlmd"'), place / "run", n_processes=1
    )  # fmt: skip
    assert modelfile.read_card(result.model)["input"]["baseline"]["potential"][0]["path"] == "given.mlmd"
    (place / "given.mlmd").unlink()
    thermal(1)[0].atoms.write(place / "start.extxyz")
    (place / "run.toml").write_text(
        f'structure = "start.extxyz"\npotential = "{result.model}"\ntimestep = "2 fs"\n'
        '[[stage]]\nkind = "nvt"\ntemperature = "100 K"\nduration = "10 fs"\n'
    )
    answer = mlmd("simulate", place / "run.toml", "--out", place / "md", "--quiet")
    assert answer.code == 0, answer.err


def test_the_spread_of_a_given_potential_whose_errors_are_learned_counts_no_more(place: Path) -> None:
    fit = '[descriptor]\nkind = "acsf"\ncutoff = "4.5 Å"\n[fit]\nkind = "gap"\nn_sparse = {}\n'
    head = 'data = "emt.extxyz"\ntest_fraction = 0.25\n'
    (place / "given.toml").write_text(head + fit.format(4), encoding="utf-8")
    given = train(place / "given.toml", place / "given", n_processes=1)
    more = f'[baseline]\npotential = "{given.model}"\n'
    (place / "delta.toml").write_text(head + fit.format(20) + more, encoding="utf-8")
    potential = modelfile.load(train(place / "delta.toml", place / "delta", n_processes=1).model)
    test = prepare(place / "delta.toml").test
    assert "spread" in knows(modelfile.load(given.model))
    # it was calibrated with these structures
    found = calibrated(Judge(potential), test, predict(potential, test))
    assert found is not None and found.factor == pytest.approx(1.0, rel=1e-9)


def test_zbl_gets_the_elements_of_the_data_so_that_it_has_a_kernel(place: Path) -> None:
    table = 'potential = { kind = "zbl", cutoff = "1.5 Å" }'
    job = prepare(write(place, "emt.extxyz", "snap", table))
    assert isinstance(job.given, ZBL) and job.given.elements == ("Cu",)
    assert isinstance(job.result, Sum) and job.result.kernels()


def test_a_fit_beside_zbl_is_repulsive_where_there_are_no_data(place: Path) -> None:
    path = write(place, "emt.extxyz", "snap", 'potential = { kind = "zbl", cutoff = "2 Å", onset = "1 Å" }')
    potential = modelfile.load(train(path, place / "run", n_processes=1).model)
    atoms = thermal(1)[0].atoms
    atoms.positions[1] = atoms.positions[0] + [0.5, 0, 0]
    # the closest atoms of the data are 2.2 Å apart; what is felt at 0.5 Å is the nuclei
    pull = predictor(ZBL(cutoff="2 Å", onset="1 Å", elements=["Cu"]))(atoms).forces[1, 0]
    assert pull > 1000
    assert predictor(potential)(atoms).forces[1, 0] > 0.5 * pull


def test_another_given_potential_is_other_data_for_a_folder(place: Path) -> None:
    modelfile.save(MORSE, place / "given.mlmd")
    path = write(place, "both.extxyz", "snap", 'potential = "given.mlmd"')
    train(path, place / "run", n_processes=1)
    weaker = Morse(depth="0.1 eV", width="0.7 Å", r0="2.6 Å", cutoff="4 Å", elements=["Cu"])
    modelfile.save(weaker, place / "given.mlmd")
    with pytest.raises(StorageError, match="belongs to other data"):
        train(path, place / "run", n_processes=1)


def test_another_kernel_of_the_given_potential_is_no_other_data(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(place, "both.extxyz", "snap", TABLE)
    compiled = prepare(path)
    monkeypatch.setattr("mlmd.potentials.evaluate.kernels_of", lambda potential: [])
    in_torch = prepare(path)
    left = [[frame.forces for frame in job.problem.frames] for job in (compiled, in_torch)]
    assert any((one != other).any() for one, other in zip(*left, strict=True))  # by rounding
    assert compiled.digest == in_torch.digest


def test_a_potential_that_makes_the_forces_much_larger_is_doubted(place: Path) -> None:
    table = 'potential = { kind = "lennard-jones", epsilon = "1 eV", sigma = "3 Å", cutoff = "5 Å" }'
    findings = prepare(write(place, "emt.extxyz", "snap", table)).findings
    assert any("which the fit has to undo" in finding.text for finding in findings)
    assert prepare(write(place, "both.extxyz", "snap", TABLE)).findings == ()


class Bare:
    """A potential that no file of mlmd can hold."""

    cutoff, elements = 3.0, ("Cu",)


WRONG = [
    ('potential = { kind = "zbl" }', 2, "baseline: potential (zbl): cutoff must be given"),
    ('potential = { kind = "zlb", cutoff = 2 }', 2, "Did you mean 'zbl'?"),
    ('potential = "silicon.mlmd"', 2, "baseline: potential: it knows Si; the data also have Cu"),
    ('potential = "bare.pt"', 6, "PyTorch"),
]


@pytest.mark.parametrize(("baseline", "code", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_a_given_potential_that_cannot_be_used_is_one_message(place: Path, baseline: str, code: int, said: str) -> None:
    modelfile.save(ZBL(cutoff=2, elements=["Si"]), place / "silicon.mlmd")
    (place / "bare.pt").write_bytes(b"PK\x03\x04")
    answer = mlmd("train", write(place, "emt.extxyz", "snap", baseline), "--out", place / "run", "--quiet")
    assert answer.code == code
    assert said in answer.err
    assert not (place / "run" / "train.json").exists()


def test_a_given_potential_that_no_file_can_hold_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmd.train.delta.load_potential", lambda tables: Bare())
    with pytest.raises(InputError, match="a Bare cannot be stored in the file of the potential"):
        prepare(write(place, "emt.extxyz", "snap", TABLE))


def test_the_average_energy_per_atom_is_a_baseline(place: Path) -> None:
    job = prepare(write(place, "emt.extxyz", "snap", 'energies = "average"'))
    energies = [frame.energy / len(frame.atoms) for frame in job.train if frame.energy is not None]
    assert job.problem.baseline == pytest.approx([np.mean(energies)])
    assert not job.free_constants


def test_labels_that_are_not_there_stay_absent(place: Path) -> None:
    frames = read_labelled(place / "both.extxyz")
    bare = [replace(frame, forces=None) if n % 2 else replace(frame, stress=None) for n, frame in enumerate(frames)]
    write_labelled(place / "both.extxyz", bare)
    job = prepare(write(place, "both.extxyz", "snap", TABLE))
    for frame, left in zip(job.train, job.problem.frames, strict=True):
        assert [getattr(left, name) is None for name in ("energy", "forces", "stress")] == [
            getattr(frame, name) is None for name in ("energy", "forces", "stress")
        ]


def test_the_input_of_a_baseline_may_be_a_word_energies_or_a_table() -> None:
    data = {"data": "a.xyz"}
    for short, long in (
        ("average", {"energies": "average"}),
        ({"Cu": "-0.2 eV"}, {"energies": {"Cu": -0.2}}),
        ({"potential": "Cu"}, {"energies": "fit", "potential": ["Cu"]}),
    ):
        assert Train.model_validate(data | {"baseline": short}) == Train.model_validate(data | {"baseline": long})
