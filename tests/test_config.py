"""The input file: what it accepts, what it fills in, and how it answers mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from mlmd import config
from mlmd.analysis import ANALYSES
from mlmd.config.simulate import AnalysisName
from mlmd.errors import InputError

HEAD = 'structure = "a.cif"\npotential = "b.mtp"\ntimestep = "2 fs"\n'
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "1 ps"\n'
NPT = '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "1 ps"\n'


def load(folder: Path, text: str | bytes) -> config.Simulate:
    """The input with this text."""
    path = folder / "in.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load_simulate(path)


def message(folder: Path, text: str | bytes) -> str:
    """What is said about a wrong input."""
    with pytest.raises(InputError) as caught:
        load(folder, text)
    return str(caught.value)


def test_numbers_are_kept_in_fs_kelvin_bar_and_per_fs(tmp_path: Path) -> None:
    run = load(
        tmp_path,
        HEAD
        + '[[stage]]\nkind = "npt"\ntemperature = ["300 K", 600]\npressure = "0.1 GPa"\nduration = "20 ps"\n'
        + 'thermostat = { kind = "langevin", friction = "2 / ps" }\n[output]\ncheckpoint_every = "5 min"\n',
    )
    stage = run.stage[0]
    assert isinstance(stage, config.NPT)
    assert run.timestep == 2.0
    assert stage.temperature == (300.0, 600.0)
    assert stage.pressure == pytest.approx((1000.0, 1000.0))
    assert stage.n_steps(run.timestep) == 10_000
    assert isinstance(stage.thermostat, config.Langevin)
    assert stage.thermostat.friction == 2e-3
    assert run.output.checkpoint_every == 300.0


def test_paths_count_from_the_folder_of_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    run = load(tmp_path, HEAD + NVT + 'plumed = "sub/p.dat"\n')
    assert run.structure == tmp_path / "a.cif"
    assert run.potential[0].path == tmp_path / "b.mtp"
    stage = run.stage[0]
    assert isinstance(stage, config.NVT)
    assert stage.plumed is not None
    assert stage.plumed.file == tmp_path / "sub" / "p.dat"


def test_a_bare_string_stands_for_the_table_with_its_main_key(tmp_path: Path) -> None:
    short = HEAD + NPT + 'thermostat = "nose-hoover"\nbarostat = "flexible"\nplumed = "p.dat"\n'
    long = (
        HEAD.replace('"b.mtp"', '[{ path = "b.mtp" }]')
        + NPT
        + 'thermostat = { kind = "nose-hoover" }\nbarostat = { kind = "flexible" }\n'
        + 'plumed = { file = "p.dat" }\n'
    )
    assert load(tmp_path, short) == load(tmp_path, long)


def test_parameters_of_a_kind_of_potential_are_its_options(tmp_path: Path) -> None:
    table = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", precision = "float32" }'
    potential = load(tmp_path, HEAD.replace('"b.mtp"', table) + NVT).potential[0]
    assert potential.kind == "lennard-jones"
    assert potential.precision == "float32"
    assert potential.options == {"epsilon": "0.0104 eV", "sigma": "3.4 Å"}


FULL = (
    'supercell = [2, 1, 3]\nseed = 7\nvelocities = "file"\n'
    + 'hydrogen_mass = "3 amu"\nremove_com_motion = false\n'
    + HEAD.replace('"b.mtp"', '["b.mtp", { kind = "zbl", inner = "0.7 Å", table = { a = [1, 2.5, true] } }]')
    + '[[stage]]\nkind = "minimize"\ncell = true\n[[stage]]\nkind = "nve"\nduration = 100\n'
    + NVT.replace('"300 K"', '["300 K", "301 K"]')
    + 'thermostat = { kind = "nose-hoover", frequency = "7 / ps", chain_length = 5 }\n'
    + 'plumed = { file = "p.dat", allow_unsafe = true, kernel = "k.so" }\n'
    + '[frozen]\nindices = [0, 3]\nelements = ["Cl"]\nbelow = "2 Å"\n'
    + '[output]\ntrajectory_format = "xtc"\n[guard]\nmax_force = "off"\nmax_temperature = "2.5x"\n'
    + '[analysis]\nrun = ["diffusion"]\ncharges = { Li = 1, O = -2.0 }\ndrift = ["Y", "Cl"]\nreport = false\n'
)


@pytest.mark.parametrize("text", [FULL, HEAD + NVT, HEAD + NPT])
def test_the_resolved_input_loads_as_the_same_model(tmp_path: Path, text: str) -> None:
    run = load(tmp_path, text)
    stored = json.loads(json.dumps(config.resolved(run)))
    assert config.from_resolved(stored) == run


def test_the_resolved_input_fills_in_every_default_with_its_unit(tmp_path: Path) -> None:
    stored = config.resolved(load(tmp_path, HEAD + NVT))
    assert stored["output"] == {
        "trajectory_every": "500.0 fs",
        "trajectory_format": "dcd",
        "log_every": "100.0 fs",
        "checkpoint_every": "60.0 s",
    }
    assert stored["guard"] == {
        "enabled": True, "max_force": "100.0 eV/Å", "max_temperature": "5x", "max_displacement": "0.5 Å",
        "min_distance": "0.5 Å",
    }  # fmt: skip
    assert stored["stage"][0]["thermostat"] == {"kind": "langevin", "friction": "1.0 1/ps"}
    assert stored["structure"] == str(tmp_path / "a.cif")


def test_a_longer_duration_and_another_folder_are_the_same_physics(tmp_path: Path) -> None:
    here = load(tmp_path, HEAD + NVT)
    longer = load(tmp_path, HEAD + NVT.replace("1 ps", "5 ps") + '[output]\ncheckpoint_every = "9 s"\n')
    (tmp_path / "moved").mkdir()
    moved = load(tmp_path / "moved", HEAD + NVT + '[analysis]\nrun = ["rdf"]\n')
    assert config.physics_hash(here) == config.physics_hash(longer) == config.physics_hash(moved)


@pytest.mark.parametrize(
    ("old", "new"),
    [("300 K", "301 K"), ("2 fs", "1 fs"), ("a.cif", "c.cif"), ("nvt", "npt"), ("b.mtp", "c.mtp")],
)
def test_another_temperature_timestep_or_file_is_other_physics(tmp_path: Path, old: str, new: str) -> None:
    text = HEAD + NVT
    changed = text.replace(old, new) + ('pressure = "1 bar"\n' if new == "npt" else "")
    assert config.physics_hash(load(tmp_path, text)) != config.physics_hash(load(tmp_path, changed))


def test_the_limit_of_the_temperature_is_a_multiple_or_a_number_or_off() -> None:
    assert config.Guard().temperature_limit(300.0) == 1500.0
    assert config.Guard.model_validate({"max_temperature": "2000 K"}).temperature_limit(300.0) == 2000.0
    assert config.Guard.model_validate({"max_temperature": "off"}).temperature_limit(300.0) is None


def test_velocities_start_at_the_first_temperature_unless_given(tmp_path: Path) -> None:
    ramp = NVT.replace('"300 K"', '["10 K", "600 K"]')
    assert load(tmp_path, HEAD + '[[stage]]\nkind = "minimize"\n' + ramp).start_temperature == 10.0
    assert load(tmp_path, 'velocities = "800 K"\n' + HEAD + ramp).start_temperature == 800.0
    assert load(tmp_path, 'velocities = "file"\n' + HEAD + ramp).start_temperature is None


WRONG = [
    (
        HEAD + NPT.replace("pressure", "presure"),
        "stage 1 (npt): 'presure' is not an option. Did you mean 'pressure'?",
    ),
    (HEAD + NVT.replace("300 K", "300 bar"), "stage 1 (nvt): temperature: '300 bar': 'bar' is not a unit"),
    (HEAD + NVT.replace('"300 K"', "true"), "stage 1 (nvt): temperature: True is not a temperature"),
    (HEAD + NVT.replace('"300 K"', "nan"), "stage 1 (nvt): temperature: nan"),
    (HEAD + NVT.replace('"300 K"', "-inf"), "stage 1 (nvt): temperature: -inf"),
    (HEAD.replace('"b.mtp"', '{ kind = "zbl", inner = [1, nan] }') + NVT, "potential: inner: item 2: nan"),
    (HEAD + NVT.replace("300 K", "0 K"), 'stage 1 (nvt): temperature: "0 K": a temperature above 0.0 K'),
    (HEAD + NVT.replace('"300 K"', "[1, 2, 3]"), "a ramp has two values"),
    (HEAD + NVT.replace("1 ps", "-1 ps"), 'stage 1 (nvt): duration: "-1 ps": a time above 0.0 fs'),
    (HEAD + NVT.replace("1 ps", "0.5 fs"), "stage 1 (nvt): duration: 0.5 fs is shorter than one step"),
    (HEAD + NVT.replace("1 ps", "1e40 s"), "stage 1 (nvt): duration: 1"),
    (
        HEAD + NVT.replace('temperature = "300 K"\n', ""),
        "stage 1 (nvt): 'temperature' is missing (temperature",
    ),
    (HEAD + NVT.replace("nvt", "nvtt"), "stage 1 (nvtt): 'nvtt' is not a kind of stage. Did you mean 'nvt'?"),
    (HEAD + NVT.replace('kind = "nvt"\n', ""), "stage 1: 'kind' is missing"),
    (HEAD + NVT.replace("[[stage]]", "[stage]"), "write [[stage]] with double brackets"),
    (HEAD + NVT.replace("[[stage]]", "[[stages]]"), "'stages' is not an option. Did you mean 'stage'?"),
    (HEAD, "'stage' is missing"),
    (HEAD + "stage = []", "stage: the list is empty"),
    (
        HEAD + NVT + 'pressure = "1 bar"',
        "'pressure' is not an option here. NVT has a fixed cell; use kind = \"npt\".",
    ),
    (
        HEAD + NVT + 'thermostat = "langevn"',
        "thermostat: 'langevn' is not a kind of thermostat. Did you mean",
    ),
    (
        HEAD + NVT + 'thermostat = { kind = "langevin", chain_length = 3 }',
        "thermostat: 'chain_length' is not an option",
    ),
    (HEAD + NPT + "barostat = { evry = 3 }", "barostat: 'evry' is not an option. Did you mean 'every'?"),
    (HEAD + NPT + '[frozen]\nelements = ["Cu"]', "stage 1 (npt): NPT scales all positions"),
    (HEAD + NVT + "[frozen]", "frozen: nothing is selected"),
    (
        HEAD + NVT + '[[stage]]\nkind = "minimize"\nplumed = "p.dat"',
        "stage 2 (minimize): 'plumed' is not an option here",
    ),
    (HEAD + '[[stage]]\nkind = "nve"\nduration = "1 ps"', "a run that starts with nve needs them"),
    (
        HEAD + NVT + '[output]\nlog_every = "1 fs"',
        "output: log_every: 1.0 fs is shorter than the timestep, 2.0 fs",
    ),
    (
        HEAD + NVT + '[output]\ntrajectory_format = "dvd"',
        'output: trajectory_format: "dvd" is not known here. Did you mean',
    ),
    (HEAD + NVT + '[outputs]\nlog_every = "1 ps"', "'outputs' is not an option. Did you mean 'output'?"),
    (HEAD + NVT + '[guard]\nmax_temperature = "0.5x"', 'guard: max_temperature: "0.5x": a multiple above 1'),
    (
        HEAD + NVT + '[analysis]\nrun = ["difusion"]',
        'analysis: run: item 1: "difusion" is not known here. Did you mean',
    ),
    (HEAD + NVT + "[analysis]\ncharges = { li = 1 }", '"li" is not a chemical symbol'),
    (
        HEAD.replace('"b.mtp"', '{ path = "b.mtp", trust = "sha256:0" }') + NVT,
        'potential: trust: "sha256:0" is not a digest. Write "sha256:" and 64 hexadecimal digits',
    ),
    ("seed = true\n" + HEAD + NVT, "seed: True: a whole number is needed"),
    ("seed = -1\n" + HEAD + NVT, "seed: -1: at least 0 is needed"),
    ("supercell = [2, 0, 2]\n" + HEAD + NVT, "supercell: [2, 0, 2]: three whole numbers from 1"),
    ("hydrogen_mass = 0.2\n" + HEAD + NVT, "hydrogen_mass: 0.2: at least 1.0 amu"),
    (
        HEAD.replace('"b.mtp"', '{ path = "b.mtp", precision = "Single" }') + NVT,
        """potential: precision: "Single" is not known here. Did you mean 'float32'?""",
    ),
    (
        HEAD.replace('"b.mtp"', '{ path = "b.mtp", precision = "double" }') + NVT,
        """potential: precision: "double" is not known here. Did you mean 'float64'?""",
    ),
    (HEAD.replace("b.mtp", "") + NVT, 'potential: path: "" is not a file name'),
    (HEAD.replace('"b.mtp"', '{ elements = ["Li"] }') + NVT, "potential: a potential needs path"),
    (
        HEAD.replace('"b.mtp"', '["b", { path = "c", elements = ["li"] }]') + NVT,
        'potential 2: elements: "li"',
    ),
    (
        HEAD.replace('"2 fs"', "2 fs") + NVT,
        "(at line 3, column 14). The line is `timestep = 2 fs`. Values with a unit",
    ),
    (HEAD + HEAD + NVT, "Cannot overwrite a value (at line 4"),
    ("x = " + "[" * 5000, "nested too deeply"),
    ("potential" + ".a" * 5000 + " = 1", "nested too deeply"),
    ("seed = " + "9" * 5000, "a value cannot be read"),
    ("seed = 0x" + "f" * 5000, "seed: a whole number of more than 64 bits"),
    ("seed = 2020-01-01", "seed: 2020-01-01 is a date"),
    (b"seed = \xff", "line 1 is not UTF-8"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said[:60] for _, said in WRONG])
def test_a_mistake_is_answered_with_its_place_and_a_hint(tmp_path: Path, text: str | bytes, said: str) -> None:
    answer = message(tmp_path, text)
    assert said in answer
    assert all(line.startswith("in.toml: ") for line in answer.splitlines())


def test_several_mistakes_are_listed_one_a_line(tmp_path: Path) -> None:
    answer = message(tmp_path, "sed = 1\n" + HEAD.replace("2 fs", "2 f") + NVT.replace("300 K", "300 F"))
    assert len(answer.splitlines()) == 3


def test_a_misspelt_required_key_is_one_mistake_and_not_two(tmp_path: Path) -> None:
    assert len(message(tmp_path, HEAD + NPT.replace("pressure", "presure")).splitlines()) == 1


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + (HEAD + NVT).encode()) == load(tmp_path, HEAD + NVT)


def test_missing_files_folders_and_huge_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        config.load_simulate(tmp_path / "none.toml")
    with pytest.raises(InputError, match="is a folder"):
        config.load_simulate(tmp_path)
    with pytest.raises(InputError, match="not an input file"):
        load(tmp_path, b"#" * 3_000_000)


def test_a_missing_file_is_answered_with_its_key_and_the_names_beside_it(tmp_path: Path) -> None:
    (tmp_path / "A.CIF").write_text("")
    (tmp_path / "b.mpt").write_text("")
    run = load(tmp_path, HEAD + NVT)
    with pytest.raises(InputError, match=r"^in\.toml: structure: .*a\.cif: no such file\. Did you mean 'A\.CIF'\?$"):
        config.check_files(run, tmp_path / "in.toml")
    (tmp_path / "a.cif").write_text("")
    with pytest.raises(InputError, match=r"^in\.toml: potential: .*b\.mtp: no such file\. Did you mean 'b\.mpt'\?$"):
        config.check_files(run, tmp_path / "in.toml")
    (tmp_path / "b.mtp").write_text("")
    config.check_files(run, tmp_path / "in.toml")
    config.check_files(load(tmp_path, HEAD.replace("a.cif", "a.cif@-1") + NVT), tmp_path / "in.toml")


@pytest.mark.parametrize("full", [False, True])
def test_the_template_is_a_valid_input(tmp_path: Path, full: bool) -> None:
    run = load(tmp_path, config.template("simulate", full=full))
    assert [stage.kind for stage in run.stage] == ["minimize", "nvt", "npt"]


def test_every_commented_option_of_the_full_template_is_valid_alone(tmp_path: Path) -> None:
    lines = config.template("simulate", full=True).splitlines()
    commented = [number for number, line in enumerate(lines) if line.startswith("# ") and " = " in line]
    assert len(commented) > 15
    for number in commented:
        chosen = [line[2:] if number == at else line for at, line in enumerate(lines)]
        if "frozen" in chosen[number]:  # does not go with the npt stage
            chosen = [line for line in chosen if "pressure" not in line]
            chosen = [line.replace('"npt"', '"nvt"').replace("# barostat", "#") for line in chosen]
        if chosen[number].startswith("stop ="):  # needs frames enough for an error
            chosen = [line.replace('"10 ps"', '"100 ps"') for line in chosen]
        if chosen[number].startswith("every ="):  # of fluxes, which are chosen in the line above
            chosen[number - 1] = lines[number - 1][2:]
        load(tmp_path, "\n".join(chosen))


def test_the_option_table_has_a_meaning_for_every_key() -> None:
    listed = config.options()
    assert all(option.description for option in listed)
    assert {"timestep", "friction", "chain_length", "checkpoint_every", "drift"} <= {o.key for o in listed}
    assert '| `friction` | `"1 ps^-1"` | coupling to the heat bath (bare number: 1/ps) |' in config.option_table()


def test_reading_an_input_imports_no_heavy_package() -> None:
    code = "import sys, mlmd.config; print([m for m in ('torch','openmm','ase','numpy') if m in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_analysis_but_those_that_must_be_told_more_can_be_asked_for_in_an_input() -> None:
    assert set(ANALYSES) - set(get_args(AnalysisName)) == {"sites", "rotation", "rings", "adatoms", "arrhenius"}
    assert set(get_args(AnalysisName)) <= set(ANALYSES)
