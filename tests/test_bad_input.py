"""Everything that can be wrong with an input: its exit code, one message with place and hint, nothing written."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_line import mlmd
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlmd import config
from mlmd.config.replicas import has_replicas, load_replicas
from mlmd.errors import InputError

STRUCTURE = """2
Lattice="12 0 0 0 12 0 0 0 12" Properties=species:S:1:pos:R:3 pbc="T T T"
Ar 0 0 0
Ar 3.8 0 0
"""
LJ = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "5 Å" }'
INPUT = f"""structure = "argon.extxyz"
potential = {LJ}
timestep = "2 fs"
seed = 1

[[stage]]
kind = "nvt"
temperature = "10 K"
duration = "20 fs"
"""
NPT = INPUT.replace("nvt", "npt") + 'pressure = "1 bar"\n'
BIAS = "d: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=0.4 KAPPA=10\n"
METAD = (
    'bias = [{ kind = "metadynamics", cv = { kind = "distance", atoms = [%s] }, width = "0.1 Å", bias_factor = -8 }]\n'
)
CIF = """data_x
_cell_length_a 9
_cell_length_b 9
_cell_length_c 9
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ar1 Ar 0 0 0 0.5
"""


def from_file(name: str) -> str:
    """The input with a potential read from a file."""
    return INPUT.replace(LJ, f'"{name}"')


def modelfile(version: int) -> bytes:
    """The head of a potential file in some version of the format, and no numbers."""
    metadata = {"format": "mlmd-potential", "version": str(version), "spec": "{}", "card": "{}", "digest": "0"}
    header = json.dumps({"__metadata__": metadata}).encode()
    return len(header).to_bytes(8, "little") + header


@dataclass(frozen=True)
class Case:
    """Something wrong: what the files say, the exit code, and words of the message."""

    name: str
    code: int
    said: tuple[str, ...]
    text: str | bytes = INPUT
    files: dict[str, str | bytes] = field(default_factory=dict)


def structure(name: str, said: str, text: str, code: int = 2, run: str = INPUT) -> Case:
    """A wrong structure file."""
    return Case(name, code, ("argon.extxyz", said), run, {"argon.extxyz": text})


CASES = [
    Case("unknown key", 2, ("in.toml: 'timstep'", "Did you mean 'timestep'?"), INPUT.replace("timestep", "timstep")),
    Case(
        "unknown key of a stage",
        2,
        ("stage 1 (nvt): 'temperatur'", "Did you mean"),
        INPUT.replace("temperature", "temperatur"),
    ),
    Case("unknown table", 2, ("'outputs'", "Did you mean 'output'?"), INPUT + "[outputs]\n"),
    Case("key of the top", 2, ("stage 1 (nvt)", "belongs to the top of the file"), INPUT + 'velocities = "300 K"\n'),
    Case("key of another stage", 2, ("stage 1 (nvt)", 'use kind = "npt"'), INPUT + 'pressure = "1 bar"\n'),
    Case(
        "wrong unit",
        2,
        ("stage 1 (nvt): temperature", "'bar' is not a unit of temperature"),
        INPUT.replace("10 K", "10 bar"),
    ),
    Case("not a number", 2, ("stage 1 (nvt): temperature: nan",), INPUT.replace('"10 K"', "nan")),
    Case("negative time", 2, ("stage 1 (nvt): duration", "above 0"), INPUT.replace("20 fs", "-20 fs")),
    Case("truth for a number", 2, ("timestep: True is not a time",), INPUT.replace('"2 fs"', "true")),
    Case(
        "stage shorter than a step", 2, ("stage 1 (nvt): duration: 1.0 fs is shorter",), INPUT.replace("20 fs", "1 fs")
    ),
    Case("unknown stage", 2, ("'nvtt' is not a kind of stage", "Did you mean 'nvt'?"), INPUT.replace("nvt", "nvtt")),
    Case("missing key", 2, ("'structure' is missing",), INPUT.replace('structure = "argon.extxyz"\n', "")),
    Case("capitals", 2, ("Did you mean 'nvt'?",), INPUT.replace('"nvt"', '"NVT"')),
    Case(
        "text without quotes",
        2,
        ("line 1", "stand in quotes, as text does"),
        INPUT.replace('"argon.extxyz"', "argon.extxyz"),
    ),
    Case("steps in a stage", 2, ('a time: duration = "10 ps"',), INPUT + "steps = 10\n"),
    Case("steps at the top", 2, ('a time: duration = "10 ps"',), "steps = 10\n" + INPUT),
    Case("a temperature at the top", 2, ("'temperature'", "below [[stage]]"), "temperature = 300\n" + INPUT),
    Case("double brackets", 2, ("output: ", "[output] with single"), INPUT + "[[output]]\n"),
    Case("one analysis", 2, ('a list is needed, ["rdf"]',), INPUT + '[analysis]\nrun = "rdf"\n'),
    Case("misspelt parameter", 2, ("'cutof' is not an option. Did you mean",), INPUT.replace("cutoff", "cutof")),
    Case("no quotes", 2, ("line 3", "stand in quotes"), INPUT.replace('"2 fs"', "2 fs")),
    Case("not text", 2, ("in.toml: line 1 is not UTF-8",), b"\xff\xfe\x00"),
    Case(
        "nve without velocities", 2, ("velocities",), INPUT.replace("nvt", "nve").replace('temperature = "10 K"\n', "")
    ),
    Case("frozen atoms in npt", 2, ("stage 1 (npt): NPT scales all positions",), NPT + "[frozen]\nindices = [0]\n"),
    Case("frozen atom that is not there", 2, ("there is no atom 7",), INPUT + "[frozen]\nindices = [7]\n"),
    Case("frozen element that is not there", 2, ("has no Xe",), INPUT + '[frozen]\nelements = ["Xe"]\n'),
    Case("everything frozen", 2, ("every atom is frozen",), INPUT + '[frozen]\nelements = ["Ar"]\n'),
    Case("no velocities in the file", 2, ("holds no velocities",), 'velocities = "file"\n' + INPUT),
    Case("no structure file", 2, ("none.cif", "no such file"), INPUT.replace("argon.extxyz", "none.cif")),
    Case("unknown format", 2, ("a.xlsx", "Known: .extxyz"), INPUT.replace("argon.extxyz", "a.xlsx"), {"a.xlsx": "x"}),
    Case(
        "partial occupancy", 2, ("a.cif", "Ar 0.5 at (0, 0, 0)"), INPUT.replace("argon.extxyz", "a.cif"), {"a.cif": CIF}
    ),
    structure("position that is no number", "atom 1 has a position", STRUCTURE.replace("3.8", "nan")),
    structure("empty structure", "has no atoms", "0\n\n"),
    structure("cell without volume", "no volume", STRUCTURE.replace('0 0 0 12"', '0 12 12 0"')),
    structure("left-handed cell", "left-handed", STRUCTURE.replace('0 12"', '0 -12"')),
    structure("overlapping atoms", "atoms 0 (Ar) and 1 (Ar) are 0.38 Å apart", STRUCTURE.replace("3.8", "0.38")),
    structure("unknown element", "cannot be read", STRUCTURE.replace("Ar 3.8", "Qq 3.8")),
    structure("element X", "atom 1 has no known element", STRUCTURE.replace("Ar 3.8", "X 3.8")),
    structure("torn structure file", "cannot be read", STRUCTURE[:-12]),
    structure("several structures", "Choose one", STRUCTURE * 2),
    structure(
        "npt without a cell", "periodic in all three", "1\n\nAr 0 0 0\n", run="remove_com_motion = false\n" + NPT
    ),
    structure(
        "cell relaxed without a cell",
        "minimize",
        "1\n\nAr 0 0 0\n",
        run=INPUT.replace("[[stage]]", '[[stage]]\nkind = "minimize"\ncell = true\n\n[[stage]]'),
    ),
    structure(
        "supercell without a cell",
        "not periodic along cell vector 1",
        "1\n\nAr 0 0 0\n",
        run="supercell = [2, 1, 1]\n" + INPUT,
    ),
    Case(
        "unknown potential", 2, ("'lenard-jones'", "Did you mean 'lennard-jones'?"), INPUT.replace("lennard", "lenard")
    ),
    Case("unknown parameter", 2, ("'sigm'", "Did you mean 'sigma'?"), INPUT.replace("sigma", "sigm")),
    Case(
        "parameter in a wrong unit", 2, ("epsilon", "is not a unit of energy"), INPUT.replace("0.0104 eV", "0.0104 K")
    ),
    Case("no potential file", 2, ("none.mlmd", "no such file"), from_file("none.mlmd")),
    Case("misspelt potential file", 2, ("potential", "Did you mean 'Ar.mtp'?"), from_file("ar.mpt"), {"Ar.mtp": "MTP"}),
    Case(
        "misspelt structure file",
        2,
        ("structure", "Did you mean 'argon.extxyz'?"),
        INPUT.replace("argon.ext", "Argon."),
    ),
    Case(
        "trust",
        2,
        ("trust", '"sha256:0" is not a digest', "sha256sum FILE"),
        INPUT.replace("epsilon", 'trust = "sha256:0", epsilon'),
    ),
    Case("charge of an element that is not there", 2, ("Lu",), INPUT + "[analysis]\ncharges = { Lu = 1 }\n"),
    Case("drift of an element that is not there", 2, ("Xe",), INPUT + '[analysis]\ndrift = ["Xe"]\n'),
    Case(
        "element the potential does not know",
        2,
        ("knows Kr; the structure has Ar (2 atoms)", 'elements = ["Kr"] was given', "Use a potential that knows Ar"),
        INPUT.replace("epsilon", 'elements = ["Kr"], epsilon'),
    ),
    Case(
        "damaged mtp",
        6,
        ("a.mtp",),
        INPUT.replace(LJ, '{ path = "a.mtp", elements = ["Ar"] }'),
        {"a.mtp": "MTP\nspecies_count = 1\nmax_dist = x\n"},
    ),
    Case("damaged potential", 6, ("a.mlmd",), from_file("a.mlmd"), {"a.mlmd": modelfile(1)[:60]}),
    Case(
        "potential of a future version",
        6,
        ("a.mlmd", "version 7", "Update mlmd"),
        from_file("a.mlmd"),
        {"a.mlmd": modelfile(7)},
    ),
    Case("empty potential file", 6, ("a.mlmd", "empty"), from_file("a.mlmd"), {"a.mlmd": b""}),
    Case("pickle", 6, ("a.pt", "can execute code"), from_file("a.pt"), {"a.pt": pickle.dumps({"a": 1})}),
    Case("web page", 6, ("a.mlmd", "failed download"), from_file("a.mlmd"), {"a.mlmd": "<!DOCTYPE html><html></html>"}),
    Case("replica without replicas", 2, ('"replica"', "no table [replicas]"), INPUT.replace('"10 K"', '"replica"')),
    Case("bias factor below one", 2, ("bias_factor: -8: more than 1.0 is needed, or", "off"), INPUT + METAD % "0, 1"),
    Case(
        "atom of a variable below zero",
        2,
        ("cv: atoms: item 2: -1: at least 0 is needed, or a list.",),
        INPUT + (METAD % "0, -1").replace("-8", "8"),
    ),
    Case("no plumed file", 2, ("none.dat", "cannot be read"), INPUT + 'plumed = "none.dat"\n'),
    Case(
        "plumed syntax",
        2,
        ("p.dat: line 2", "KAPA"),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": BIAS.replace("KAPPA", "KAPA")},
    ),
    Case(
        "plumed atom that is not there",
        2,
        ("p.dat: line 1",),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": BIAS.replace("1,2", "1,99")},
    ),
    Case(
        "plumed that loads code",
        2,
        ("p.dat: line 1: LOAD", "allow_unsafe"),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": "LOAD FILE=x.so\n" + BIAS},
    ),
    Case(
        "plumed that leaves the folder",
        2,
        ("p.dat: line 3", "/tmp/out"),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": BIAS + "PRINT ARG=d FILE=/tmp/out\n"},
    ),
    Case(
        "plumed that loads code in small letters",
        2,
        ("p.dat: line 1: LOAD", "allow_unsafe"),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": "load file=x.so\n" + BIAS},
    ),
    *(
        Case(
            f"plumed that writes {name}",
            2,
            ("p.dat names", "file of mlmd's own"),
            INPUT + 'plumed = "p.dat"\n',
            {"p.dat": f"{BIAS}PRINT ARG=d FILE={name}\n"},
        )
        for name in (
            "log.csv",
            "./log.csv",
            "checkpoint/x",
            "./checkpoint//x",
            "LOG.csv",
            "run.json",
            "run.json.tmp",
            "STOP",
            "trajectory.dcd",
            "trajectory.xtc",
            "trajectory.extxyz",
            "crash/x",
            "analysis/x",
            "{lock}",
            "@replicas:log.csv",
        )
    ),
    Case(
        "plumed state over the log",
        2,
        ("p.dat names log.csv",),
        INPUT + 'plumed = "p.dat"\n',
        {"p.dat": BIAS + "OPES_METAD ARG=d PACE=5 BARRIER=10 TEMP=10 STATE_WFILE=./log.csv STATE_WSTRIDE=5\n"},
    ),
    Case(
        "plumed that needs a temperature where there is none",
        2,
        ("p.dat: line 3", "TEMP"),
        INPUT.replace("seed = 1", 'seed = 1\nvelocities = "10 K"')
        .replace("nvt", "nve")
        .replace('\ntemperature = "10 K"', '\nplumed = "p.dat"'),
        {"p.dat": BIAS + "METAD ARG=d PACE=5 HEIGHT=1 SIGMA=0.1 BIASFACTOR=5\n"},
    ),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a valid input, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "argon.extxyz").write_text(STRUCTURE)
    (tmp_path / "in.toml").write_text(INPUT)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and the folders."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def write(path: Path, content: str | bytes) -> None:
    """Text or bytes."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("verb", ["check", "simulate"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.row("R14")
def test_a_wrong_input_is_one_message_and_leaves_nothing_behind(place: Path, case: Case, verb: str) -> None:
    write(place / "in.toml", case.text)
    for name, content in case.files.items():
        write(place / name, content)
    before = contents(place)
    answer = mlmd(verb, "in.toml")
    assert answer.code == case.code, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    for words in case.said:
        assert words in answer.err
    assert contents(place) == before


def test_a_published_mtp_without_its_elements_is_refused_with_an_example(place: Path, shared: Path) -> None:
    path = shared / "models_mvl" / "Cu" / "mtp.2020.01" / "fitted.mtp"
    (place / "in.toml").write_text(from_file(str(path)))
    answer = mlmd("check", "in.toml")
    assert answer.code == 2
    assert "has 1 species" in answer.err
    assert "elements = [" in answer.err


def finished(place: Path) -> None:
    """A run that is over."""
    assert mlmd("simulate", "in.toml", "--quiet").code == 0


def other_input(place: Path) -> None:
    """A run of another input stands where this one would go."""
    finished(place)
    (place / "in.toml").write_text(INPUT.replace("10 K", "11 K"))


def other_structure(place: Path) -> None:
    """The run was made with another structure of the same name."""
    finished(place)
    (place / "argon.extxyz").write_text(STRUCTURE.replace("3.8", "3.9"))


def strangers(place: Path) -> None:
    """The folder holds something that is no run."""
    (place / "in.run").mkdir()
    (place / "in.run" / "thesis.tex").write_text("x")


def damaged_manifest(place: Path) -> None:
    """run.json is torn."""
    finished(place)
    path = place / "in.run" / "run.json"
    path.write_bytes(path.read_bytes()[:100])


def future_run(place: Path) -> None:
    """run.json was written by a later mlmd."""
    finished(place)
    path = place / "in.run" / "run.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9', 1))


def trained(place: Path) -> None:
    """A potential, alone and in the folder of a training, and inputs that name the folder."""
    from mlmd.potentials.modelfile import save
    from mlmd.potentials.pair import LennardJones

    save(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=5.0), place / "lj.mlmd")
    (place / "lj.run").mkdir()
    (place / "lj.run" / "train.json").write_text("{}")
    (place / "lj.run" / "lj.mlmd").write_bytes((place / "lj.mlmd").read_bytes())
    (place / "folder.toml").write_text(INPUT.replace(LJ, '"lj.run"'))
    (place / "model.toml").write_text('data = "argon.extxyz"\ndescriptor = { model = "lj.run" }\n')


def damaged_model(place: Path) -> None:
    """A potential of which the beginning is lost."""
    trained(place)
    (place / "lj.mlmd").write_bytes((place / "lj.mlmd").read_bytes()[100:])


def text_of_mlip(place: Path) -> None:
    """A potential that is text."""
    (place / "a.mtp").write_text("MTP\nversion = 1.1.0\npotential_name = MTP1m\n")


COMMANDS: list[tuple[str, Callable[[Path], None] | None, tuple[str, ...], int, str]] = [
    ("no such input", None, ("simulate", "none.toml"), 2, "no such file"),
    ("a folder as input", None, ("check", "."), 2, "is a folder"),
    (
        "a folder of another input",
        other_input,
        ("simulate", "in.toml"),
        4,
        "stage 1.temperature: was 10.0 K, is 11.0 K",
    ),
    ("a folder of another structure", other_structure, ("simulate", "in.toml"), 4, "argon.extxyz"),
    ("a folder of something else", strangers, ("simulate", "in.toml"), 4, "thesis.tex"),
    ("a damaged run folder", damaged_manifest, ("simulate", "in.toml"), 4, "damaged"),
    ("a run of a later version", future_run, ("simulate", "in.toml"), 4, "Install a newer mlmd"),
    ("a file as run folder", None, ("simulate", "in.toml", "--out", "argon.extxyz"), 4, "is a file"),
    ("a run folder below a file", None, ("simulate", "in.toml", "--out", "in.toml/run"), 4, "in.toml/run"),
    ("a read-only place", None, ("simulate", "in.toml", "--out", "/proc/mlmd.run"), 4, "/proc/mlmd.run"),
    ("an unknown platform", None, ("simulate", "in.toml", "--platform", "Abacus"), 2, "It has"),
    ("an unknown device", None, ("check", "in.toml", "--device", "abacus"), 2, "not a device"),
    ("a device of another maker", None, ("check", "in.toml", "--device", "mps"), 2, "only cpu and cuda"),
    ("a GPU that is not there", None, ("check", "in.toml", "--device", "cuda:99"), 2, "CUDA device"),
    ("an unknown command", None, ("simulte", "in.toml"), 2, "Did you mean 'simulate'?"),
    ("an unknown analysis", None, ("analyze", "difusion"), 2, "Did you mean 'diffusion'?"),
    ("an unknown kind of input", None, ("new", "simulte"), 2, "Did you mean 'simulate'?"),
    ("an unknown flag", None, ("simulate", "in.toml", "--stepz", "3"), 2, "--stepz"),
    ("a structure as input", None, ("simulate", "argon.extxyz"), 2, "An input file (.toml) is needed"),
    ("a potential as input", trained, ("simulate", "lj.mlmd"), 2, 'Write potential = "lj.mlmd" in the input'),
    ("a potential to check", trained, ("check", "lj.mlmd"), 2, "lj.mlmd: this is a potential, not an input file"),
    ("a potential to train", trained, ("train", "lj.mlmd"), 2, "lj.mlmd: this is a potential, not an input file"),
    ("a potential as text", text_of_mlip, ("simulate", "a.mtp"), 2, "a.mtp: this is a potential, not an input file"),
    ("a damaged potential as input", damaged_model, ("simulate", "lj.mlmd"), 2, "this is a potential, not an input"),
    ("a training as potential", trained, ("simulate", "folder.toml"), 2, 'Give the file in it: "'),
    ("a training as descriptor", trained, ("train", "model.toml"), 2, "lj.run is the folder of a training, not a file"),
    ("to analyze nothing", None, ("analyze", "rdf", "none.run"), 4, "not a run folder: it does not exist"),
    ("to analyze a file", None, ("analyze", "rdf", "in.toml"), 2, "in.toml: not a trajectory format that is read"),
    ("to show nothing", None, ("show", "none.cif"), 2, "no such file"),
    ("to show a folder that is no run", None, ("show", "."), 4, "not a run folder"),
    ("to write over a file", None, ("new", "simulate", "-o", "in.toml"), 4, "exists already"),
]


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "said"), [c[1:] for c in COMMANDS], ids=[c[0] for c in COMMANDS]
)
@pytest.mark.row("R09")
def test_a_wrong_command_is_one_message_and_changes_nothing(
    place: Path, prepare: Callable[[Path], None] | None, arguments: tuple[str, ...], code: int, said: str
) -> None:
    if prepare is not None:
        prepare(place)
    before = contents(place)
    answer = mlmd(*arguments)
    assert answer.code == code, answer.err
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert contents(place) == before


def test_a_run_folder_in_use_is_refused_with_its_owner(place: Path) -> None:
    from mlmd.rundir import reserved

    with reserved(place / "in.run"):
        answer = mlmd("simulate", "in.toml")
        assert answer.code == 5
        assert "in use by process" in answer.err


FULL = (
    'supercell = [2, 1, 3]\nvelocities = "800 K"\nhydrogen_mass = "3 amu"\n'
    + INPUT.replace('"10 K"', '["10 K", "600 K"]')
    + 'thermostat = { kind = "nose-hoover", frequency = "7 / ps" }\nplumed = "p.dat"\n'
    + '[output]\ntrajectory_every = "1 ps"\n[guard]\nmax_temperature = "2.5x"\n'
    + '[analysis]\nrun = ["diffusion"]\ncharges = { Li = 1 }\ndrift = ["Cl"]\n'
)
PIECES = [
    "nan",
    "inf",
    "-1",
    "1e999",
    "true",
    "[",
    "]",
    "{",
    "}",
    '"',
    "=",
    "\n",
    "9" * 40,
    "9" * 5000,
    "[" * 3000,
    "\x00",
    "\ufeff",
    "é",
    "#",
    "'''",
    ".",
]


def plain(name: str) -> str:
    """An input that comes with mlmd, its comments left out."""
    text = (Path(__file__).parents[1] / "inputs" / name).read_text(encoding="utf-8")
    return "".join(line.split("  #")[0].rstrip() + "\n" for line in text.splitlines() if line.strip()[:1] != "#")


def reread(path: Path) -> None:
    """Read the input of a run, which its resolved form has to give again."""
    run = config.load_simulate(path)
    assert config.from_resolved(json.loads(json.dumps(config.resolved(run)))) == run


def read_replicas(path: Path) -> None:
    """Read an input as `mlmd simulate` does."""
    (load_replicas if has_replicas(path) else config.load_simulate)(path)


VALID: dict[str, tuple[str, Callable[[Path], object]]] = {
    "every table": (FULL, reread),
    "deposition": (plain("deposit_copper.toml"), reread),
    "bias": (plain("eabf.toml"), reread),
    "replicas": (plain("replicas.toml"), read_replicas),
    "training": (plain("train_cu.toml"), config.load_train),
}
"""Inputs of all kinds, and what reads them."""
PLACED = re.compile(r"line \d+|in\.toml: ['\w]|nested too deeply|such file|cannot be read")
"""How a message says where something is wrong, or that the whole file is no input."""


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("n_mutations", [60, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.row("R12")
def test_a_mutated_input_is_read_or_refused_at_once(
    name: str, n_mutations: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    text, read = VALID[name]
    path, refused = tmp_path / "in.toml", list[str]()
    path.write_text(text)
    read(path)

    # the time of the processor: on a busy machine the clock on the wall tells of other programs
    @given(data=st.data())
    @settings(
        max_examples=n_mutations, deadline=None, phases=[Phase.reuse, Phase.generate]
    )  # few changes: none to leave out
    def mutate(data: st.DataObject) -> None:
        raw = bytearray(text.encode())
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(raw)))
            if data.draw(st.booleans()):
                raw[at : at + data.draw(st.integers(0, 30))] = data.draw(st.sampled_from(PIECES)).encode()
            else:
                raw[at : at + 1] = data.draw(st.binary(max_size=3))
        path.write_bytes(raw)
        start = time.process_time()
        try:
            read(path)
        except InputError as error:
            assert str(error).startswith("in.toml") or str(path) in str(error)
            refused.append(str(error))
        assert time.process_time() - start < 2.0

    mutate()
    placed = sum(PLACED.search(message) is not None for message in refused)
    assert placed >= 0.95 * len(refused), [message for message in refused if not PLACED.search(message)]
    record_property(f"{name}: refused with their place", f"{placed}/{len(refused)} of {n_mutations}")
