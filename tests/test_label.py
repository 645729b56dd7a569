"""Labels of structures by potentials and by ASE calculators."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from command_line import mlmd

from mlmd.errors import InputError, SimulationError
from mlmd.io.labelled import read_labelled
from mlmd.potentials.pair import LennardJones
from mlmd.sample.label import Progress, label
from mlmd.sample.method import CalculatorMethod, PotentialMethod, parse_options

EMT_NAME = "ase.calculators.emt:EMT"

CALCULATORS = '''
import os, signal
from pathlib import Path
import numpy as np
from ase.calculators.calculator import Calculator

class Careful(Calculator):
    """Energy = number of atoms; odd things happen with some numbers of atoms."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, place=".", **options):
        super().__init__(**options)
        self.place = Path(place)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        assert os.listdir() == ["output.txt"], os.listdir()
        Path("WAVECAR").write_text("from one structure to the next")
        n = len(atoms)
        print("computing", n, "atoms")
        with (self.place / "calls").open("a") as calls:
            calls.write(f"{n}\\n")
        if n == 3 and not (self.place / "repaired").exists():
            raise RuntimeError("the density does not converge")
        if n == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        if n == 5 and (self.place / "calls").read_text().split().count("5") == 1:
            os._exit(1)
        if n == 7:
            n = float("nan")
        self.results = {"energy": float(n), "forces": np.zeros((len(atoms), 3))}

class Smeared(Careful):
    implemented_properties = ["energy", "free_energy"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.results = {"energy": -1.0, "free_energy": -2.0}

class Slow(Careful):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        import time
        time.sleep(0.05)
        super().calculate(atoms, properties, system_changes)

class Mortal(Careful):
    def __init__(self, **options):
        os._exit(7)

number = 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with a module of calculators."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calculators.py").write_text(CALCULATORS)
    return tmp_path


def copper(n: int) -> list[ase.Atoms]:
    """Small cells of copper, the atoms off their places."""
    frames = []
    for seed in range(n):
        atoms = ase.build.bulk("Cu", "fcc", 3.6, cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info["config_type"] = "hot" if seed % 2 else "cold"
        frames.append(atoms)
    return frames


def chains(*sizes: int) -> list[ase.Atoms]:
    """Chains of argon atoms, 4 Å apart."""
    return [ase.Atoms("Ar" * n, [[4.0 * i, 0.0, 0.0] for i in range(n)]) for n in sizes]


def write(path: Path, frames: list[ase.Atoms]) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def careful(**options: Any) -> CalculatorMethod:
    return CalculatorMethod("calculators:Careful", {"place": f"{Path.cwd()}/", **options})


def test_labels_are_what_the_calculator_says(here: Path) -> None:
    path = write(here / "cu.extxyz", copper(3))
    result = label([path], here / "out.extxyz", CalculatorMethod(EMT_NAME))
    assert (result.n_labelled, result.n_new, result.failures) == (3, 3, ())
    for structure, labelled in zip(ase.io.read(path, ":"), read_labelled(here / "out.extxyz"), strict=True):
        structure.calc = EMT()
        assert labelled.energy == structure.get_potential_energy()
        assert labelled.forces is not None and np.array_equal(labelled.forces, structure.get_forces())
        assert labelled.stress is not None and np.array_equal(labelled.stress, structure.get_stress(voigt=False))


def test_a_potential_of_mlmd_labels_as_it_computes_in_a_run(here: Path) -> None:
    from mlmd.ase import Calculator

    options = {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 6.0}
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    cluster = chains(3)[0]
    path = write(here / "ar.extxyz", [atoms, cluster])
    label([path], here / "out.extxyz", PotentialMethod("lennard-jones", options=options))
    crystal, open_one = read_labelled(here / "out.extxyz")
    structure = ase.io.read(path, 0)
    structure.calc = Calculator(LennardJones(**options))
    # the pairs are summed in one order, so the numbers agree to the last bits
    assert crystal.energy == pytest.approx(structure.get_potential_energy(), rel=1e-14)
    np.testing.assert_allclose(crystal.forces, structure.get_forces(), atol=1e-15)
    np.testing.assert_allclose(crystal.stress, structure.get_stress(voigt=False), atol=1e-15)
    assert open_one.stress is None and open_one.forces is not None


def test_a_file_of_a_potential_is_loaded_and_named_in_the_record(here: Path) -> None:
    from mlmd.potentials.modelfile import save

    save(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0), here / "ar.mlmd", {"licence": "CC0"})
    answer = mlmd("label", write(here / "a.extxyz", chains(2)), "--out", "out.extxyz", "--potential", "ar.mlmd")
    assert answer.code == 0, answer.err
    record = json.loads((here / "out.json").read_text())
    assert record["card"]["licence"] == "CC0"
    assert record["plan"]["method"]["potential"] == "ar.mlmd"
    assert len(record["plan"]["method"]["sha256"]) == 64


def test_labels_of_the_input_are_dropped_and_groups_are_kept(here: Path) -> None:
    frames = copper(2)
    for atoms in frames:
        atoms.info["energy"] = float("nan")
        atoms.info["REF_energy"] = 17.0
        atoms.arrays["forces"] = np.full((4, 3), 9.0)
    path = write(here / "cu.extxyz", frames)
    packed = here / "more.xyz.gz"
    packed.write_bytes(gzip.compress(write(here / "more.xyz", copper(1)).read_bytes()))
    ase.io.write(here / "one.cif", ase.build.bulk("Cu", "fcc", 3.6, cubic=True))
    label([path, packed, "one.cif"], here / "out.extxyz", CalculatorMethod(EMT_NAME))
    labelled = read_labelled(here / "out.extxyz")
    assert [one.group for one in labelled] == ["cold", "hot", "cold", ""]
    assert all(one.energy is not None and abs(one.energy) < 2.0 for one in labelled)
    assert "REF" not in (here / "out.extxyz").read_text()


def test_the_energy_is_the_one_whose_derivatives_are_the_forces(here: Path) -> None:
    label([write(here / "a.extxyz", chains(1))], here / "out.extxyz", CalculatorMethod("calculators:Smeared"))
    (one,) = read_labelled(here / "out.extxyz")
    assert one.energy == -2.0
    assert one.forces is None


def test_the_output_does_not_depend_on_the_number_of_processes(here: Path) -> None:
    path = write(here / "cu.extxyz", copper(12))
    for n in (1, 3):
        label([path], here / f"by{n}.extxyz", CalculatorMethod(EMT_NAME), n_processes=n)
    assert (here / "by1.extxyz").read_bytes() == (here / "by3.extxyz").read_bytes()


def test_progress_counts_to_the_end(here: Path) -> None:
    seen: list[Progress] = []
    label([write(here / "a.extxyz", chains(1, 2, 6))], here / "out.extxyz", careful(), progress=seen.append)
    assert [one.done for one in seen][-1] == 3
    assert {one.total for one in seen} == {3}
    assert seen[-1].seconds_left == 0.0


def test_the_same_command_on_a_finished_output_changes_nothing(here: Path) -> None:
    arguments = ["label", write(here / "cu.extxyz", copper(2)), "--out", "out.extxyz", "--ase", EMT_NAME]
    assert mlmd(*arguments).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in here.iterdir()}
    assert set(before) == {"calculators.py", "cu.extxyz", "out.extxyz", "out.json"}
    answer = mlmd(*arguments)
    assert answer.code == 0
    assert "complete" in answer.err
    assert {path.name: path.stat().st_mtime_ns for path in here.iterdir()} == before


def test_another_method_or_other_structures_never_mix_with_labels_that_are_there(here: Path) -> None:
    path, out = write(here / "a.extxyz", chains(1, 3)), here / "out.extxyz"
    with pytest.raises(SimulationError):
        label([path], out, careful())
    before = (here / "out.extxyz.part" / "records").read_bytes()
    for paths, method, message in (
        ([path], careful(label="other"), 'method options label: null, now "other"'),
        ([path], CalculatorMethod(EMT_NAME), 'method ase: "calculators:Careful", now "ase.calculators.emt:EMT"'),
        ([write(here / "b.extxyz", chains(1, 3, 1))], careful(), "structures n: 2, now 3"),
    ):
        with pytest.raises(InputError, match=message.replace("(", ".")):
            label(paths, out, method)
    assert (here / "out.extxyz.part" / "records").read_bytes() == before
    label([path], out, careful(), keep_going=True)
    answer = mlmd("label", path, "--out", out, "--ase", EMT_NAME)
    assert answer.code == 4
    assert "was labelled with something else: method ase" in answer.err


def test_a_file_that_an_option_names_belongs_to_the_method(here: Path) -> None:
    (here / "model").write_text("one")
    method = CalculatorMethod("calculators:Careful", {"place": "./", "label": "./model"})
    first = method.identity()
    assert first["options"]["label"] == "./model"
    (here / "model").write_text("other")
    assert method.identity() != first
    assert method.rooted().options["label"] == str(here / "model")
    bare = CalculatorMethod("calculators:Careful", {"label": "model"})
    assert bare.rooted().options["label"] == "model"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nequix", {"path": "w.bin"}),
        ("ase", {"calculator": "./w.bin:Careful", "arguments": {"cutoff": 5.0}}),
        ("ase", {"calculator": "m:C", "arguments": {"models": ["./w.bin", "other"]}}),
        ("committee", {"members": ["Cu", {"kind": "mace", "path": "w.bin"}]}),
        ("metatomic", {"path": "model.pt", "extensions": "./w.bin"}),
    ],
)
def test_files_that_the_options_of_a_potential_name_are_part_of_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.pt").write_text("model")
    Path("w.bin").write_text("one")
    first = PotentialMethod(kind, options=options).identity()
    assert PotentialMethod(kind, options=options | {"trust": "sha256:" + "0" * 64}).identity() == first
    Path("w.bin").write_text("two")
    assert PotentialMethod(kind, options=options).identity() != first
    Path("w.bin").write_text("one")
    assert PotentialMethod(kind, options=options).identity() == first
    json.dumps(first)


def test_nothing_that_exists_is_overwritten(here: Path) -> None:
    path = write(here / "cu.extxyz", copper(1))
    for name in ("out.extxyz", "out.json"):
        (here / name).write_text("mine")
        answer = mlmd("label", path, "--out", "out.extxyz", "--ase", EMT_NAME)
        assert answer.code == 4
        assert name in answer.err and "exists already" in answer.err
        assert (here / name).read_text() == "mine"
        (here / name).unlink()
    assert mlmd("label", path, "--out", "out.extxyz", "--ase", EMT_NAME).code == 0
    (here / "out.extxyz").write_text("changed")
    answer = mlmd("label", path, "--out", "out.extxyz", "--ase", EMT_NAME)
    assert answer.code == 4
    assert "was changed since" in answer.err
    assert mlmd("label", path, "--out", path, "--ase", EMT_NAME).code == 4


def test_a_folder_of_somebody_else_where_the_labels_would_be_kept_is_not_touched(here: Path) -> None:
    path, part = write(here / "cu.extxyz", copper(1)), here / "out.extxyz.part"
    arguments = ["label", path, "--out", "out.extxyz", "--ase", EMT_NAME]
    part.mkdir()
    (part / "notes.txt").write_text("mine")
    answer = mlmd(*arguments)
    assert answer.code == 4
    assert "holds something else: notes.txt" in answer.err
    assert [one.name for one in part.iterdir()] == ["notes.txt"]
    assert not (here / "out.extxyz").exists()

    (here / "away").mkdir()
    part.rename(here / "away" / part.name)
    assert mlmd(*arguments).code == 0
    (here / "away" / part.name).rename(part)
    assert mlmd(*arguments).code == 0  # complete: the folder is not needed
    assert [one.name for one in part.iterdir()] == ["notes.txt"]
    (here / "out.extxyz").unlink()
    (here / "out.json").unlink()
    (part / "notes.txt").unlink()
    part.rmdir()
    part.write_text("mine")
    assert mlmd(*arguments).code == 4
    assert part.read_text() == "mine"


def test_a_file_that_somebody_puts_beside_the_labels_on_their_way_stays(here: Path) -> None:
    path, part = write(here / "a.extxyz", chains(1, 3)), here / "out.extxyz.part"
    with pytest.raises(SimulationError):
        label([path], here / "out.extxyz", careful())
    (part / "notes.txt").write_text("mine")
    label([path], here / "out.extxyz", careful(), keep_going=True)
    assert {one.name for one in part.iterdir()} <= {"notes.txt", "lock"}
    assert (part / "notes.txt").read_text() == "mine"


def test_what_a_process_left_that_was_killed_in_the_end_is_cleared_up_but_not_under_the_hands_of_another(
    here: Path,
) -> None:
    from mlmd.rundir import reserved

    path, part = write(here / "cu.extxyz", copper(1)), here / "out.extxyz.part"
    label([path], here / "out.extxyz", CalculatorMethod(EMT_NAME))
    part.mkdir()
    (part / "records").write_text("")
    with reserved(part):
        assert label([path], here / "out.extxyz", CalculatorMethod(EMT_NAME)).n_new == 0
        assert (part / "records").exists()
    label([path], here / "out.extxyz", CalculatorMethod(EMT_NAME))
    assert not part.exists()


def test_the_output_may_stand_in_a_new_folder(here: Path) -> None:
    path = write(here / "cu.extxyz", copper(1))
    label([path], here / "new" / "deep" / "out.extxyz", CalculatorMethod(EMT_NAME))
    assert {one.name for one in (here / "new" / "deep").iterdir()} == {"out.extxyz", "out.json"}
    with pytest.raises(InputError):
        label([path], here / "other" / "out.extxyz", CalculatorMethod("calculators:number"))
    assert not (here / "other").exists()


def test_a_structure_that_fails_is_named_and_the_others_are_kept(here: Path) -> None:
    path = write(here / "a.extxyz", chains(1, 3, 2, 7, 6))
    arguments = ["label", path, "--out", "out.extxyz", "--ase", "calculators:Careful"]
    arguments += ["--options", json.dumps({"place": f"{here}/"})]
    answer = mlmd(*arguments)
    assert answer.code == 3
    assert "2 of 5 structures have no label" in answer.err
    assert "a.extxyz@1: RuntimeError: the density does not converge" in answer.err
    assert "a.extxyz@3: not a finite number: energy" in answer.err
    assert not (here / "out.extxyz").exists()
    failed = here / "out.extxyz.part" / "failed" / "1"
    assert "computing 3 atoms" in (failed / "output.txt").read_text()
    assert "Traceback" in (failed / "error.txt").read_text()

    assert mlmd(*arguments).code == 3
    assert (here / "calls").read_text().split() == ["1", "3", "2", "7", "6"]  # nothing was computed twice

    answer = mlmd(*arguments, "--keep-going", "--json")
    assert answer.code == 0
    assert [one["structure"] for one in json.loads(answer.out)["failures"]] == ["a.extxyz@1", "a.extxyz@3"]
    assert [len(one.atoms) for one in read_labelled("out.extxyz")] == [1, 2, 6]
    assert len(json.loads((here / "out.json").read_text())["failed"]) == 2
    assert not (here / "out.extxyz.part").exists()


def test_failed_structures_are_tried_again_on_request(here: Path) -> None:
    path, out = write(here / "a.extxyz", chains(1, 3)), here / "out.extxyz"
    with pytest.raises(SimulationError):
        label([path], out, careful())
    (here / "repaired").touch()
    with pytest.raises(SimulationError):
        label([path], out, careful())
    assert label([path], out, careful(), retry=True).n_new == 1
    assert [one.energy for one in read_labelled(out)] == [1.0, 3.0]


def test_a_process_that_dies_costs_at_most_the_structure_it_dies_of(here: Path) -> None:
    path, out = write(here / "a.extxyz", chains(1, 4, 2, 5, 6)), here / "out.extxyz"
    result = label([path], out, careful(), keep_going=True, n_processes=2)
    # five atoms end the process once, four atoms each time
    assert [one.structure for one in result.failures] == ["a.extxyz@1"]
    assert "ended by SIGSEGV, twice" in result.failures[0].message
    assert [len(one.atoms) for one in read_labelled(out)] == [1, 2, 5, 6]
    assert sorted((here / "calls").read_text().split()) == ["1", "2", "4", "4", "5", "5", "6"]


def test_a_record_that_was_changed_is_computed_again(here: Path) -> None:
    path = write(here / "a.extxyz", chains(1, 2, 3))
    with pytest.raises(SimulationError):
        label([path], here / "out.extxyz", careful())
    records = here / "out.extxyz.part" / "records"
    content = records.read_bytes()
    assert content.count(b"\n") == 3
    records.write_bytes(content.replace(b'"energy": 2.0', b'"energy": 5.0'))
    (here / "repaired").touch()
    told: list[str] = []
    result = label([path], here / "out.extxyz", careful(), retry=True, tell=told.append)
    assert result.n_new == 2
    assert any("1 records" in text and "damaged" in text for text in told)
    assert [one.energy for one in read_labelled(here / "out.extxyz")] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kept", range(0, 300, 23))
def test_a_torn_record_does_not_count(here: Path, kept: int) -> None:
    from mlmd.sample.journal import open_journal
    from mlmd.sample.method import Label

    labels = [Label(-1.5 * n, np.full((1, 3), 0.1 * n), None) for n in range(3)]
    journal = open_journal(here, {}, [1, 1, 1])
    for number, one in enumerate(labels):
        journal.add(number, one)
    journal.close()
    content = (here / "records").read_bytes()
    (here / "records").write_bytes(content[:kept])
    again = open_journal(here, {}, [1, 1, 1])
    n_whole = content[:kept].count(b"\n")
    assert list(again.records) == list(range(n_whole))
    for number in range(n_whole, 3):
        again.add(number, labels[number])
    again.close()
    assert (here / "records").read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ase", "calculators:Carefull"], "calculators has no 'Carefull'"),
        (["--ase", "calculators:number"], "not a class or a function"),
        (["--ase", "ase.build:bulk", "--options", '{"name": "Cu"}'], "is a Atoms, not an ASE calculator"),
        (["--ase", "no_such_module:X"], "there is no module 'no_such_module' in "),
        (["--ase", "calculators"], "is not module:Class"),
        (["--ase", EMT_NAME, "--options", "{"], "is not JSON"),
        (["--ase", EMT_NAME, "--options", "[1]"], "names with values are needed"),
        (["--ase", EMT_NAME, "--options", '{"x": NaN}'], "is not JSON"),
        (["--ase", "calculators:Careful", "--options", '{"place": 3}'], "TypeError"),
        (["--ase", EMT_NAME, "--elements", "Cu"], "--elements belongs to --potential"),
        (["--potential", "cu.mtp"], "cu.mtp: no such file"),
        (["--potential", "lennard-jons"], "Did you mean 'lennard-jones'?"),
        (["--potential", "lennard-jones", "--keep-calculator"], "--keep-calculator belongs to --ase"),
        (["--potential", "lennard-jones"], "must be given"),
        ([], "Give either --potential FILE or --ase MODULE:CLASS"),
    ],
)
def test_a_method_that_cannot_be_used_is_refused_and_nothing_is_left_behind(
    arguments: list[str], message: str, here: Path
) -> None:
    path = write(here / "a.extxyz", chains(2))
    before = set(here.iterdir())
    answer = mlmd("label", path, "--out", "out.extxyz", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert {path for path in here.iterdir() if path.name != "__pycache__"} == before


def test_elements_that_a_potential_does_not_know_are_refused_before_anything_is_computed(here: Path) -> None:
    from mlmd.potentials.modelfile import save

    save(LennardJones(epsilon=0.01, sigma=3.4, cutoff=6.0, elements=("Ar",)), here / "ar.mlmd")
    path = write(here / "a.extxyz", [*chains(1, 2), ase.Atoms("ArNe", [[0, 0, 0], [4, 0, 0]])])
    answer = mlmd("label", path, "--out", "out.extxyz", "--potential", "ar.mlmd")
    assert answer.code == 2
    assert "ar.mlmd knows Ar; a.extxyz@2 also has Ne (1 atom)" in answer.err


def test_a_process_that_dies_before_it_computes_anything_is_not_started_again_and_again(here: Path) -> None:
    path = write(here / "a.extxyz", chains(1))
    began = time.monotonic()
    with pytest.raises(SimulationError, match="ended with exit code 7 before it computed anything"):
        label([path], here / "out.extxyz", CalculatorMethod("calculators:Mortal"))
    assert time.monotonic() - began < 30.0


def test_missing_and_empty_files_are_refused(here: Path) -> None:
    write(here / "argon.extxyz", chains(1))
    (here / "empty.extxyz").touch()
    for name, message in (("argon.extxy", "Did you mean 'argon.extxyz'?"), ("empty.extxyz", "no structures at all")):
        answer = mlmd("label", name, "--out", "out.extxyz", "--ase", EMT_NAME)
        assert answer.code == 2
        assert message in answer.err


def test_a_line_of_progress_says_how_far_how_long_and_what_failed() -> None:
    from mlmd.cli.sample import describe

    assert describe(Progress(5, 20, 1, 65.0)) == "5 of 20 structures   25%  0:01:05 left  1 failed"


def test_the_help_says_what_a_kept_calculator_costs() -> None:
    assert "depend on what they computed before" in " ".join(mlmd("label", "--help").out.split())


def test_options_are_read_as_json() -> None:
    assert parse_options('{"kpts": [2, 2, 2], "xc": "PBE"}') == {"kpts": [2, 2, 2], "xc": "PBE"}
