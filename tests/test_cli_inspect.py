"""``mlmd new``, ``check``, ``show`` and ``doctor`` as a user meets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import mlmd
from made_data import thermal
from random_snap import random_snap

from mlmd import config
from mlmd.config.pairs import (
    ATOM_FITS,
    DESCRIPTORS_IN_FILES,
    FITS_IN_FILES,
    OF_ATOMS,
    OF_STRUCTURES,
    STRUCTURE_FITS,
)
from mlmd.descriptors import DESCRIPTORS
from mlmd.fitting import REGRESSORS
from mlmd.io.labelled import write_labelled
from mlmd.train.job import prepare

ARGON = """2
Lattice="12 0 0 0 12 0 0 0 12" Properties=species:S:1:pos:R:3 pbc="T T T"
Ar 0 0 0
Ar 3.8 0 0
"""
INPUT = """structure = "argon.extxyz"
potential = { kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "5 Å" }
timestep = "2 fs"
[[stage]]
kind = "nvt"
temperature = ["10 K", "20 K"]
duration = "1 ps"
"""


@pytest.fixture
def argon(tmp_path: Path) -> Path:
    """A valid input of two atoms."""
    (tmp_path / "argon.extxyz").write_text(ARGON)
    path = tmp_path / "argon.toml"
    path.write_text(INPUT)
    return path


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.rglob("*")}


@pytest.mark.parametrize("full", [[], ["--full"]])
def test_new_prints_a_valid_input(tmp_path: Path, full: list[str]) -> None:
    answer = mlmd("new", "simulate", *full)
    assert answer.code == 0
    path = tmp_path / "a.toml"
    path.write_text(answer.out)
    assert len(config.load_simulate(path).stage) == 3


def test_new_writes_a_file_and_never_overwrites_one(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    assert mlmd("new", "simulate", "-o", path).code == 0
    before = path.read_bytes()
    answer = mlmd("new", "simulate", "--full", "-o", path)
    assert answer.code == 4
    assert "exists already" in answer.err
    assert path.read_bytes() == before
    assert mlmd("new", "simulate", "-o", tmp_path / "no" / "a.toml").code == 4


def test_check_describes_the_run_and_writes_nothing(argon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(argon.parent)
    before = names(argon.parent)
    answer = mlmd("check", argon)
    assert (answer.code, answer.err) == (0, "")
    for expected in ("Ar2", "cutoff 5 Å", "nvt 10→20 K 1 ps", "500 steps", "ns/day", "The input is valid."):
        assert expected in answer.out
    assert names(argon.parent) == before


def test_check_json_holds_numbers_and_nothing_else_is_printed(argon: Path) -> None:
    answer = mlmd("check", argon, "--json")
    assert answer.err == ""
    (entry,) = json.loads(answer.out)["inputs"]
    assert entry["ok"]
    assert entry["n_steps"] == 500
    assert entry["seconds_per_step"] > 0
    assert entry["ns_per_day"] == pytest.approx(86400 / entry["seconds_per_step"] * 2e-6)
    # the pair at 3.8 Å, from the formula; the density from two atoms of 39.95 amu in 12³ Å³
    sixth = (3.4 / 3.8) ** 6
    assert entry["energy_eV_per_atom"] == pytest.approx(4 * 0.0104 * sixth * (sixth - 1) / 2)
    assert entry["density_g_per_cm3"] == pytest.approx(2 * 39.95 * 1.66054 / 12**3, rel=1e-3)


def test_check_of_several_inputs_is_a_table_and_ends_with_the_first_error(argon: Path) -> None:
    wrong = argon.with_name("wrong.toml")
    wrong.write_text(INPUT.replace("timestep", "timstep"))
    answer = mlmd("check", argon, wrong)
    assert answer.code == 2
    assert "lennard-jones" in answer.out
    assert "InputError: wrong.toml: 'timstep' is not an option. Did you mean 'timestep'?" in answer.err
    answer = mlmd("check", wrong, argon, "--json")
    assert answer.code == 2
    assert [entry["ok"] for entry in json.loads(answer.out)["inputs"]] == [False, True]


def test_check_warns_of_forces_above_the_guard(argon: Path) -> None:
    (argon.parent / "argon.extxyz").write_text(ARGON.replace("3.8", "1.9"))
    assert "begin with a minimize stage" in mlmd("check", argon).out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "3.8",
            "2.4",
            "eV/Å: are the elements of the potential in the order of its file, are the lengths of the structure in Å?",
        ),
        ("12 0 0 0 12 0 0 0 12", "5 0 0 0 2.6 0 0 0 2.6", "bar: are the elements"),
    ],
)
def test_check_doubts_structures_with_large_forces_or_pressures(argon: Path, old: str, new: str, said: str) -> None:
    assert "in the order" not in mlmd("check", argon).out
    (argon.parent / "argon.extxyz").write_text(ARGON.replace(old, new))
    assert said in mlmd("check", argon).out


def test_check_doubts_structures_whose_atoms_are_all_alone(argon: Path) -> None:
    assert "within the cutoff" not in mlmd("check", argon).out
    (argon.parent / "argon.extxyz").write_text(
        ARGON.replace("12 0 0 0 12 0 0 0 12", "120 0 0 0 120 0 0 0 120").replace("3.8", "38")
    )
    assert "no atom has another within the cutoff" in mlmd("check", argon).out


def test_check_doubts_long_timesteps_and_broken_durations(argon: Path) -> None:
    assert "Note: the timestep" not in mlmd("check", argon).out
    argon.write_text(INPUT.replace("2 fs", "11 fs"))
    assert "the timestep, 11 fs, is long" in mlmd("check", argon).out
    argon.write_text(INPUT.replace('"2 fs"', "0.002"))
    assert "the timestep, 0.002 fs, is very short: was it meant in ps?" in mlmd("check", argon).out
    argon.write_text(INPUT.replace("1 ps", "1.001 ps"))
    assert "1001 fs is no whole number of steps; it will be 500 steps, 1000 fs" in mlmd("check", argon).out


def test_check_doubts_long_timesteps_with_hydrogen_unless_it_is_heavy(argon: Path) -> None:
    (argon.parent / "argon.extxyz").write_text(ARGON.replace("Ar", "H"))
    assert "long for hydrogen" not in mlmd("check", argon).out
    argon.write_text(INPUT.replace("2 fs", "4 fs"))
    assert "long for hydrogen" in mlmd("check", argon).out
    argon.write_text('hydrogen_mass = "3 amu"\n' + INPUT.replace("2 fs", "4 fs"))
    assert "long for hydrogen" not in mlmd("check", argon).out


def test_check_lets_plumed_read_its_file(argon: Path) -> None:
    argon.write_text(INPUT + 'plumed = "p.dat"\n')
    (argon.parent / "p.dat").write_text("d: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=0.4 KAPA=10\n")
    answer = mlmd("check", argon)
    assert answer.code == 2
    assert "line 2" in answer.err
    (argon.parent / "p.dat").write_text("d: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=0.4 KAPPA=10\n")
    assert mlmd("check", argon).code == 0


def test_show_recognises_a_structure(argon: Path) -> None:
    answer = mlmd("show", argon.parent / "argon.extxyz")
    assert answer.code == 0
    for expected in ("structure", "Ar2", "density [g/cm^3]", "0 (Ar) and 1 (Ar)", "3.8", "yes"):
        assert expected in answer.out
    facts = json.loads(mlmd("show", argon.parent / "argon.extxyz", "--json").out)
    assert facts["atoms"] == 2
    assert facts["their distance [Å]"] == pytest.approx(3.8)


def test_show_recognises_a_run(argon: Path) -> None:
    folder = argon.parent / "argon.run"
    assert mlmd("simulate", argon, "--out", folder, "--quiet").code == 0
    facts = json.loads(mlmd("show", folder, "--json").out)
    assert facts["what"] == "run"
    assert facts["state"] == "done"
    assert facts["atoms"] == 2
    expected = {"stage": 1, "kind": "nvt", "steps": 500, "timestep [fs]": 2.0, "temperature [K]": [10.0, 20.0]}
    assert facts["stages"] == [expected]
    assert facts["last line of the log"]["step"] == 500
    assert facts["last line of the log"]["time [ps]"] == 1.0
    assert "argon.run" in mlmd("show", folder).out


def test_a_run_that_was_killed_is_shown_as_interrupted_and_its_lock_is_left_alone(argon: Path) -> None:
    from mlmd.rundir import MANIFEST, reserved

    folder = argon.parent / "argon.run"
    assert mlmd("simulate", argon, "--out", folder, "--quiet").code == 0
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"done"', '"running"'))
    before = (folder / "lock").read_bytes()
    assert json.loads(mlmd("show", folder, "--json").out)["state"] == "interrupted"
    assert (folder / "lock").read_bytes() == before
    with reserved(folder):
        assert json.loads(mlmd("show", folder, "--json").out)["state"] == "running"


def test_show_prints_the_card_of_a_potential_without_braces_and_empty_rows(tmp_path: Path) -> None:
    from mlmd.potentials import modelfile
    from mlmd.potentials.pair import LennardJones

    path = tmp_path / "argon.mlmd"
    potential = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å")
    modelfile.save(potential, path, {"licence": "MIT", "errors": {"forces [eV/Å]": 0.05}, "training set": ""})
    out = mlmd("show", path).out
    for expected in ("licence: MIT", "errors: forces [eV/Å] 0.05", "units: energy eV, length Å", "parameters", "8.5"):
        assert expected in out
    assert "{" not in out
    assert "training set" not in out
    assert json.loads(mlmd("show", path, "--json").out)["cutoff [Å]"] == 8.5


def test_show_names_the_parts_of_a_sum_with_their_kinds_and_sizes(tmp_path: Path) -> None:
    from mlmd.descriptors.combined import Combined
    from mlmd.descriptors.soap import Soap
    from mlmd.fitting.linear import Linear
    from mlmd.potentials import modelfile
    from mlmd.potentials.combine import Sum
    from mlmd.potentials.learned import LearnedPotential
    from mlmd.potentials.pair import LennardJones

    soap = Soap(elements=("Ar",), cutoff=4.0, n_max=3, l_max=2)
    both = Combined([soap, Soap(elements=("Ar",), cutoff=5.0, n_max=2, l_max=0)])
    learned = LearnedPotential(both, Linear(n_features=both.n_features))
    given = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å", elements=("Ar",))
    modelfile.save(Sum([given, learned]), tmp_path / "sum.mlmd", {})
    facts = json.loads(mlmd("show", tmp_path / "sum.mlmd", "--json").out)
    first, second = facts["parts"]
    assert (first["kind"], first["cutoff [Å]"]) == ("lennard-jones", 8.5)
    assert (second["kind"], second["parameters"]) == ("learned", sum(one.numel() for one in learned.parameters()))
    # n radial functions give n(n + 1)/2 pairs, for each l from zero
    assert second["descriptor"] == ["soap, 18 features, up to 4 Å", "soap, 3 features, up to 5 Å"]
    assert second["fit"] == "linear, 21 functions"
    modelfile.save(learned, tmp_path / "learned.mlmd", {})
    out = mlmd("show", tmp_path / "learned.mlmd").out
    assert "soap, 18 features, up to 4 Å" in out and "linear, 21 functions" in out


SMALL = {
    "mtp": "level = 4",
    "snap": "twojmax = 2",
    "soap": "n_max = 2\nl_max = 1",
    "deeppot-se": "n_neurons = [4]\nn_axes = 2",
}
"""Options that keep descriptors small."""
PAIRS = [
    *(("soap", fit) for fit in ATOM_FITS if fit != "agni"),
    *((kind, "linear") for kind in OF_ATOMS if kind not in ("agni", "deeppot-se", "nep", "trained", "combined")),
    ("agni", "agni"),
    ("deeppot-se", "network"),
    ("nep", "network"),
]


@pytest.mark.parametrize(("descriptor", "fit"), PAIRS, ids=[" ".join(pair) for pair in PAIRS])
def test_show_calls_descriptor_and_fit_as_the_input_does(descriptor: str, fit: str, tmp_path: Path) -> None:
    from mlmd.potentials import modelfile

    write_labelled(tmp_path / "data.extxyz", thermal(12, repeat=1))
    (tmp_path / "in.toml").write_text(
        f'data = "data.extxyz"\n[descriptor]\nkind = "{descriptor}"\ncutoff = "4 Å"\n{SMALL.get(descriptor, "")}\n'
        f'[fit]\nkind = "{fit}"\n',
        encoding="utf-8",
    )
    modelfile.save(prepare(tmp_path / "in.toml").potential, tmp_path / "made.mlmd")
    facts = json.loads(mlmd("show", tmp_path / "made.mlmd", "--json").out)
    assert facts["descriptor"].partition(",")[0] == descriptor
    assert facts["fit"].partition(",")[0] == fit
    answer = mlmd("describe", tmp_path / "data.extxyz", "--model", tmp_path / "made.mlmd", "-o", tmp_path / "rows.npz")
    assert answer.out.rstrip().endswith(f"by {descriptor}"), answer.err


def test_show_says_that_a_fit_is_quadratic(tmp_path: Path) -> None:
    from mlmd.potentials import modelfile

    modelfile.save(random_snap(("W",), 2, quadratic=True), tmp_path / "made.mlmd")
    facts = json.loads(mlmd("show", tmp_path / "made.mlmd", "--json").out)
    assert facts["descriptor"].startswith("snap, 5 features")
    assert facts["fit"] == "linear, quadratic, 20 functions"  # and 15 products


def test_every_kind_of_part_that_an_input_can_ask_for_has_a_word_of_the_input() -> None:
    without = {"combined", "likeness"}  # of several, of a kernel of structures
    descriptors = {DESCRIPTORS_IN_FILES.get(kind, kind) for kind in DESCRIPTORS.keys() - without}
    assert descriptors == {*OF_ATOMS, *OF_STRUCTURES} - {"combined", "trained"}
    fits = {FITS_IN_FILES.get(kind, kind) for kind in REGRESSORS.keys() - {"sum", "committee"}}
    assert fits == {*ATOM_FITS, *STRUCTURE_FITS}


def test_show_recognises_a_published_potential(shared: Path) -> None:
    answer = mlmd("show", shared / "models_mvl" / "Cu" / "mtp.2020.01" / "fitted.mtp", "--json")
    assert answer.code == 0
    facts = json.loads(answer.out)
    assert (facts["what"], facts["kind"]) == ("potential", "mtp")
    assert facts["parameters"] > 0
    assert facts["cutoff [Å]"] == 3.9
    assert facts["elements"] == "1, which the file does not name"


def test_show_sends_input_files_to_check_and_refuses_the_rest(argon: Path) -> None:
    assert "mlmd check" in mlmd("show", argon).err
    assert mlmd("show", argon.parent / "none.cif").code == 2
    assert mlmd("show", argon.parent).code == 4


def test_doctor_reports_every_package_and_platform() -> None:
    answer = mlmd("doctor", "--json")
    findings = {entry["name"]: entry for entry in json.loads(answer.out)}
    for name in ("openmm", "openmm-torch", "torch", "ase", "mdtraj", "numpy", "click", "plumed", "GPU"):
        assert name in findings
    assert "Reference" in findings["OpenMM platforms"]["note"]
    assert answer.code == (2 if any(f["state"] in ("missing", "broken") for f in findings.values()) else 0)
    assert "openmm" in mlmd("doctor").out


def test_doctor_tells_what_to_install_and_fails_when_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlmd.cli import surroundings

    monkeypatch.setitem(surroundings.REQUIRED, "no-such-package", ("no_such_package", "1.0"))
    monkeypatch.setitem(surroundings.REQUIRED, "numpy", ("numpy", "99.0"))
    answer = mlmd("doctor")
    assert answer.code == 2
    assert 'pip install "no-such-package>=1.0"' in answer.out
    assert "too old" in answer.out


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "GOMP_SPINCOUNT = '1000'"), ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
     ({"OMP_WAIT_POLICY": "passive"}, "GOMP_SPINCOUNT = '0'")],
)  # fmt: skip
def test_threads_sleep_soon_when_they_wait_unless_the_user_says_otherwise(own: dict[str, str], expected: str) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    others = {name: value for name, value in os.environ.items() if name not in names}
    told = subprocess.run(
        [sys.executable, "-m", "mlmd", "show", "Cu"], capture_output=True, text=True, check=True,
        env={**others, **own, "OMP_DISPLAY_ENV": "verbose"},
    ).stderr  # fmt: skip
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("the threads here are not those of GNU's OpenMP")
    assert set(re.findall("GOMP_SPINCOUNT = '[0-9]+'", told)) == {expected}
