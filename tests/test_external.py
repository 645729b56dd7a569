"""Calculators of others as potentials: their own numbers, in this process or another's, and nothing run unasked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from command_line import mlmd
from made_data import thermal
from runs import assert_same_run, read_log, run_in_parts, write_input

from mlmd.ase import Calculator
from mlmd.config import PotentialTable
from mlmd.config.needed import files_of_table
from mlmd.engine.run import simulate
from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import Evaluation, has_stress, modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.load import load_potential
from mlmd.pretrained.external import External
from mlmd.pretrained.memory import Memory
from mlmd.train.evaluate import predict
from mlmd.train.run import train

EMT_TABLE = {"kind": "ase", "calculator": "ase.calculators.emt:EMT"}
WHERE = [pytest.param({}, id="here"), pytest.param({"python": sys.executable}, id="elsewhere")]
CALCULATORS = """
import os, sys
from pathlib import Path
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

Path(__file__).with_name("opened").touch()


class WithoutStress(EMT):
    implemented_properties = ["energy", "free_energy", "forces"]


class Fails(EMT):
    def calculate(self, *arguments):
        raise RuntimeError("this structure is too strange")


class Dies(EMT):
    def calculate(self, *arguments):
        print("out of memory, somewhere deep")
        sys.stdout.flush()
        os._exit(9)


class LeavesAChild(EMT):
    def calculate(self, *arguments):
        import subprocess
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        Path(__file__).with_name("child").write_text(str(child.pid))
        os._exit(3)


class PromisesStress(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results.pop("stress", None)


class Counts(LennardJones):
    def calculate(self, *arguments):
        with Path(__file__).with_name("count").open("a") as file:
            file.write("x")
        super().calculate(*arguments)


class Doubled(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results["forces"] = 2 * self.results["forces"]


class NotExtensive(EMT):
    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results["energy"] = self.results["free_energy"] = self.results["energy"] + 0.2


class Charged(EMT):
    def calculate(self, atoms, *arguments):
        super().calculate(atoms, *arguments)
        self.results["energy"] = self.results["free_energy"] = atoms.info["charge"]


def make(epsilon=1.0):
    print("words on standard output")
    return LennardJones(epsilon=epsilon)
"""


def load(**table: Any) -> Any:
    return load_potential([PotentialTable.model_validate(table)])


def copper(repeat: int = 2) -> ase.Atoms:
    atoms = ase.build.bulk("Cu", cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=1)
    return atoms


def digest(path: Path) -> str:
    return f"sha256:{sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A file of calculators."""
    path = tmp_path / "own.py"
    path.write_text(CALCULATORS)
    return path


def own(module: Path, name: str, **table: Any) -> dict[str, Any]:
    """The table of a calculator of this file, trusted."""
    return {"kind": "ase", "calculator": f"{module}:{name}", "trust": digest(module), **table}


@pytest.mark.parametrize("where", WHERE)
def test_the_numbers_are_those_of_the_calculator(where: dict[str, str]) -> None:
    potential = load(**EMT_TABLE, **where)
    for atoms in (copper(), ase.build.fcc111("Cu", (2, 2, 3), vacuum=8.0), ase.build.molecule("H2O")):
        atoms.calc = EMT()
        found = predictor(potential)(atoms)
        assert found.energy == atoms.get_potential_energy()
        assert np.array_equal(found.forces, atoms.get_forces())
        by_graph = potential.predict(build_graph([atoms, atoms], potential.cutoff))
        assert by_graph.energy.tolist() == [found.energy] * 2
        assert np.array_equal(by_graph.forces.numpy(), np.concatenate([found.forces] * 2))
        if atoms.pbc.all():
            virial = atoms.get_stress(voigt=False) * atoms.get_volume()
            assert np.abs(found.virial - virial).max() < 1e-12 * np.abs(virial).max()
            assert np.abs(by_graph.stress[1].numpy() - atoms.get_stress(voigt=False)).max() < 1e-14


def test_the_virial_of_a_cluster_is_that_of_its_forces() -> None:
    """Σ r ⊗ dE/dr is the derivative of the energy by a strain of the cluster."""
    potential = load(kind="ase", calculator="ase.calculators.lj:LennardJones", arguments={"rc": 8.0, "smooth": True})
    atoms = ase.Atoms("Ar4", [[0, 0, 0], [1.2, 0.1, 0], [0.3, 1.1, 0.2], [0.1, 0.2, 1.3]])
    answer = predictor(potential)
    virial, step = answer(atoms).virial, 1e-5
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                energies.append(answer(ase.Atoms("Ar4", atoms.positions @ strain)).energy)
            assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(virial[i, j], abs=1e-6)


@pytest.mark.parametrize("where", WHERE)
def test_a_run_is_the_same_in_parts_and_in_one(tmp_path: Path, where: dict[str, str]) -> None:
    python = f', python = "{where["python"]}"' if where else ""
    table = f'{{ kind = "ase", calculator = "ase.calculators.emt:EMT"{python} }}'
    stages = (
        '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "50 fs"\n'
        '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "100 fs"\n'
    )
    source = write_input(
        tmp_path, stages, atoms=copper(), potential=table, output='log_every = "5 fs"\ntrajectory_every = "25 fs"'
    )
    simulate(source, tmp_path / "whole")
    run_in_parts(source, tmp_path / "parts", [15])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    models = json.loads((tmp_path / "whole" / "run.json").read_text())["models"]
    assert models[0]["calculator"] == "ase.calculators.emt.EMT"
    assert models[0]["versions"]["ase"] == ase.__version__


def test_the_energy_is_conserved(tmp_path: Path) -> None:
    table = f'{{ kind = "ase", calculator = "ase.calculators.emt:EMT", python = "{sys.executable}" }}'
    source = write_input(
        tmp_path, '[[stage]]\nkind = "nve"\nduration = "250 fs"\n', atoms=copper(), potential=table,
        options='velocities = "300 K"\ntimestep = "2 fs"', output='log_every = "2 fs"\ntrajectory_every = "50 fs"',
    )  # fmt: skip
    simulate(source, tmp_path / "run")
    rows = read_log(tmp_path / "run")
    assert np.ptp(rows["energy per atom"]) < 2e-4
    assert np.ptp(rows["kinetic energy"]) > 0.1


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.row("R23")
def test_nothing_of_a_file_is_run_before_it_is_trusted(module: Path, where: dict[str, str]) -> None:
    table = own(module, "make") | where
    canary = module.with_name("opened")
    with pytest.raises(ModelError, match=f'own.py: a calculator may execute .* write trust = "{digest(module)}"'):
        load(**{key: value for key, value in table.items() if key != "trust"})
    with pytest.raises(ModelError, match="it is not the file that is trusted: its digest is sha256:"):
        load(**table | {"trust": "sha256:" + "0" * 64})
    assert not canary.exists()
    assert load(**table).facts["class"] == "ase.calculators.lj.LennardJones"
    assert canary.exists()


def test_files_among_the_arguments_have_to_be_trusted_too(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"a pickle")
    table = {**EMT_TABLE, "arguments": {"label": str(weights)}}
    with pytest.raises(ModelError, match=r"weights\.pt: a calculator may execute"):
        load(**table)
    assert list(load(**table, trust=digest(weights)).files) == [str(weights)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"calculator": "os:system"}, "os is a module of Python itself"),
        ({"calculator": "subprocess:run", "arguments": {"args": "ls"}}, "subprocess is a module of Python itself"),
        ({"calculator": "ase.calculators.emt"}, "is not module:Class"),
        ({"calculator": "ase.calculators.emt:EMZ"}, "has no 'EMZ'"),
        ({"calculator": "no_such_framework:Model"}, "there is no module 'no_such_framework' in "),
        ({"calculator": "ase.build:bulk", "arguments": {"name": "Cu"}}, "this is a Atoms, not an ASE calculator"),
        ({"calculator": "ase.calculators.lj:LennardJones", "arguments": {"rc": "far"}}, "with arguments"),
        ({"calculator": "ase.calculators.emt:EMT", "python": "/no/python"}, "no such program"),
        ({"calculator": "ase.calculators.emt:EMT", "precision": "float32"}, "the calculator decides"),
        ({}, "calculator must be given"),
        ({"calculator": "ase.calculators.emt:EMT", "argument": {}}, "Did you mean 'arguments'"),
    ],
)
def test_what_cannot_be_made_is_told(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(kind="ase", **table)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["mace", "nequix"])  # whose weights are opened with trust, and without
def test_an_empty_file_of_weights_is_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty.model").touch()
    with pytest.raises(ModelError, match="the file is empty"):
        load(kind=kind, path=tmp_path / "empty.model")


def test_another_python_that_lacks_ase_is_told_with_its_last_words(tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(InputError, match=r"(?s)its process ended with exit code 1\. Its last words:.*No module named"):
        load(**EMT_TABLE, python=str(tmp_path / "bare" / "bin" / "python"))


@pytest.mark.parametrize("where", WHERE)
def test_a_calculator_that_fails_ends_a_run_with_its_words(tmp_path: Path, module: Path, where: dict[str, str]) -> None:
    python = f', python = "{where["python"]}"' if where else ""
    table = f'{{ kind = "ase", calculator = "./own.py:Fails", trust = "{digest(module)}"{python} }}'
    source = write_input(
        tmp_path, '[[stage]]\nkind = "nve"\nduration = "50 fs"\n', atoms=copper(), potential=table,
        options='velocities = "300 K"',
    )  # fmt: skip
    answer = mlmd("simulate", source, "--out", tmp_path / "run")
    assert answer.code == 3
    assert "RuntimeError: this structure is too strange" in answer.err
    assert "Traceback" not in answer.err


def test_a_process_that_dies_is_told_with_its_last_words(module: Path) -> None:
    potential = load(**own(module, "Dies", python=sys.executable))
    with pytest.raises(SimulationError, match=r"(?s)ended with exit code 9\. Its last words:.*somewhere deep"):
        predictor(potential)(copper())


class _Interrupted(Exception):
    pass


def test_after_an_interrupt_no_answer_belongs_to_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    potential = load(**EMT_TABLE, python=sys.executable)
    answer, one, other = predictor(potential), copper(1), copper(2)
    expected = answer(other).energy
    worker = potential._workers[potential.device]
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_read", lambda: (_ for _ in ()).throw(_Interrupted))
        with pytest.raises(_Interrupted):
            answer(one)
    assert answer(other).energy == expected
    assert answer(one).energy != expected


def test_a_process_that_dies_is_noticed_though_a_child_of_it_lives(module: Path) -> None:
    potential = load(**own(module, "LeavesAChild", python=sys.executable))
    start = time.monotonic()
    with pytest.raises(SimulationError, match="ended with exit code 3"):
        predictor(potential)(copper())
    assert time.monotonic() - start < 15  # the child sleeps for a minute
    child = int(module.with_name("child").read_text())
    del potential
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_the_folder_of_the_other_process_goes_with_it(module: Path) -> None:
    potential = load(**own(module, "make", python=sys.executable))
    folder = potential._workers[potential.device]._process.folder
    assert folder.is_dir()
    del potential
    assert not folder.exists()
    with pytest.raises(InputError):
        load(**own(module, "nothing", python=sys.executable))
    assert not [one for one in folder.parent.glob("mlmd-model-*") if one.stat().st_mtime > time.time() - 1]


def test_the_other_process_ends_when_this_one_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, sys\nfrom mlmd.config import PotentialTable\n"
        "from mlmd.potentials.load import load_potential\n"
        f"table = {EMT_TABLE | {'python': sys.executable}!r}\n"
        "p = load_potential([PotentialTable.model_validate(table)])\n"
        "process = p._workers[p.device]._process\n"
        "print(process.running.pid, process.folder, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False).stdout.split()
    deadline = time.monotonic() + 15
    while (Path(f"/proc/{told[0]}").exists() or Path(told[1]).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{told[0]}").exists()
    assert not Path(told[1]).exists()


def test_the_other_process_ends_with_the_potential(module: Path) -> None:
    potential = load(**own(module, "make", python=sys.executable))
    process = potential._workers[potential.device]._process.running
    assert process.poll() is None
    del potential
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is not None


def test_without_a_stress_there_is_no_barostat(tmp_path: Path, module: Path) -> None:
    assert not has_stress(load(**own(module, "WithoutStress")))
    table = f'{{ kind = "ase", calculator = "./own.py:WithoutStress", trust = "{digest(module)}" }}'
    npt = '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "50 fs"\n'
    source = write_input(tmp_path, npt, atoms=copper(), potential=table)
    with pytest.raises(InputError, match=r"no stress: stage 1 \(npt\): use nvt"):
        simulate(source, tmp_path / "run")
    nvt = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "50 fs"\n'
    simulate(write_input(tmp_path, nvt, atoms=copper(), potential=table), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Doubled", "the forces of the potential are not the slope of its energy"),
        ("NotExtensive", "two cells do not have twice the energy of one"),
        ("make", "Cu–Cu at 1.32 Å have a lower energy"),
        ("WithoutStress", None),
    ],
)
def test_a_check_looks_whether_it_is_a_potential(tmp_path: Path, module: Path, name: str, message: str | None) -> None:
    table = f'{{ kind = "ase", calculator = "./own.py:{name}", trust = "{digest(module)}" }}'
    stage = '[[stage]]\nkind = "nve"\nduration = "50 fs"\n'
    source = write_input(tmp_path, stage, atoms=copper(), potential=table, options='velocities = "300 K"')
    answer = mlmd("check", source)
    assert answer.code == 0, answer.err
    phrases = ["not the slope", "do not have twice", "have a lower energy"]
    assert [phrase in answer.out for phrase in phrases] == [phrase in (message or "") for phrase in phrases]
    assert message is None or message in " ".join(answer.out.split())


def test_a_stress_that_is_promised_and_not_given_is_told(module: Path) -> None:
    with pytest.raises(SimulationError, match="said that it gives a stress, and gave none"):
        predictor(load(**own(module, "PromisesStress")))(copper())


def test_a_committee_has_a_stress_if_all_members_have() -> None:
    from mlmd.potentials.committee import Committee

    sound = load(**EMT_TABLE)
    assert has_stress(Committee([sound, sound]))
    sound.has_stress = False
    assert not has_stress(Committee([sound, load(**EMT_TABLE)]))


@pytest.mark.parametrize("name", ["evil.pt", "folder", "folder/*.pt", "./evil.pt"])
@pytest.mark.row("R23")
def test_no_way_to_name_a_file_goes_round_the_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "evil.pt", tmp_path / "folder" / "evil.pt"):
        path.write_bytes(b"a pickle")
    with pytest.raises(ModelError, match=r"evil\.pt: a calculator may execute"):
        load(**EMT_TABLE, arguments={"label": name})


@pytest.mark.parametrize("text", ["a block of input. " * 40, "x/" + "y" * 300, "**x", "pair_coeff * * Cu.eam Cu"])
def test_a_text_that_can_be_no_file_is_no_file(text: str) -> None:
    assert load(**EMT_TABLE, arguments={"label": text}).files == {}


def test_more_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(CALCULATORS)
    with pytest.raises(ModelError, match=r"own\.py: a calculator may execute"):
        load(kind="ase", calculator="own.py:make")
    with pytest.raises(InputError, match="fetched from elsewhere"):
        load(**EMT_TABLE, arguments={"label": "https://example.org/weights.pt"})
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\ntouch canary\n")
    script.chmod(0o755)
    with pytest.raises(InputError, match="is a script, not an interpreter"):
        load(**EMT_TABLE, python="./python")
    assert not (tmp_path / "canary").exists() and not (tmp_path / "opened").exists()


def test_a_baseline_with_other_weights_is_another_training(tmp_path: Path) -> None:
    write_labelled(tmp_path / "d.extxyz", thermal(4))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.txt").write_text("1")
    path = tmp_path / "in.toml"

    def write() -> None:
        path.write_text(
            'data = "d.extxyz"\ntest_fraction = 0.25\n[descriptor]\nlevel = 4\ncutoff = "4.5 Å"\n[fit]\n'
            'radial = "plain"\n[baseline]\npotential = { kind = "ase", calculator = "ase.calculators.emt:EMT", '
            f'arguments = {{ label = "./weights" }}, trust = "{digest(tmp_path / "weights" / "w.txt")}" }}\n'
        )

    write()
    model = train(path, tmp_path / "run", n_processes=1).model
    trust = [digest(model)]
    (tmp_path / "weights" / "w.txt").write_text("2")
    with pytest.raises(ModelError, match=r"w\.txt is not the file any more"):
        modelfile.load(model, trust=trust)
    write()
    answer = mlmd("train", path, "--out", tmp_path / "run")
    assert answer.code == 4 and "belongs to" in answer.err


def test_charge_and_spin_reach_the_calculator(module: Path) -> None:
    for where in ({}, {"python": sys.executable}):
        table = own(module, "Charged", info={"charge": -2}) | where
        assert predictor(load(**table))(copper()).energy == -2.0


def test_elements_are_those_that_are_given() -> None:
    potential = load(**EMT_TABLE, elements=["Cu", "Al"])
    assert potential.elements == ("Cu", "Al")
    with pytest.raises(InputError, match="knows Cu, Al; the structure has Au"):
        gold = ase.build.bulk("Au", cubic=True)
        gold.calc = Calculator(potential)
        gold.get_potential_energy()


def test_it_is_one_part_of_a_sum() -> None:
    emt, zbl = PotentialTable.model_validate(EMT_TABLE), PotentialTable.model_validate({"kind": "zbl", "cutoff": 3.0})
    atoms = copper()
    both, alone, wall = (predictor(load_potential(one))(atoms) for one in ([emt, zbl], [emt], [zbl]))
    assert both.energy == pytest.approx(alone.energy + wall.energy, rel=1e-12)
    assert np.abs(both.forces - alone.forces - wall.forces).max() < 1e-12
    assert np.abs(wall.forces).max() > 1e-3


def test_labels_and_errors_are_made_with_it(tmp_path: Path) -> None:
    write_labelled(tmp_path / "d.extxyz", thermal(2))
    options = json.dumps({"calculator": "ase.calculators.emt:EMT", "python": sys.executable})
    answer = mlmd("evaluate", "ase", tmp_path / "d.extxyz", "--options", options, "--json")
    assert answer.code == 0
    forces = next(row for row in json.loads(answer.out)["errors"]["rows"] if row["property"] == "forces")
    assert forces["rmse"] < 1e-3  # meV/Å: the labels of these structures are EMT's, to eight digits
    answer = mlmd(
        "label", tmp_path / "d.extxyz", "--out", tmp_path / "l.extxyz", "--potential", "ase", "--options", options
    )
    assert answer.code == 0, answer.err
    atoms = ase.io.read(tmp_path / "l.extxyz")
    energy, atoms.calc = atoms.get_potential_energy(), EMT()
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "ase", "calculator": "ase.calculators.emt:EMT"},
        {"kind": "lennard-jones", "epsilon": "0.01 eV", "sigma": "3.4 Å", "cutoff": "6 Å"},
        {"kind": "committee", "members": ["Cu", EMT_TABLE]},
    ],
)
@pytest.mark.row("R23")
def test_a_trust_that_is_compared_with_nothing_is_refused(table: dict[str, Any]) -> None:
    assert load(**table)
    with pytest.raises(InputError, match=r"trust: sha256:0+: compared with nothing, since no file"):
        load(**table, trust="sha256:" + "0" * 64)


def test_members_of_a_committee_have_a_trust_of_their_own(module: Path) -> None:
    trusted = own(module, "Counts", arguments={"sigma": 2.2, "epsilon": 0.1, "rc": 4.0})
    assert load(kind="committee", members=[trusted, trusted])
    with pytest.raises(InputError, match=r"Each of its members has a trust of its own"):
        load(kind="committee", members=[trusted, trusted], trust=digest(module))


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    names = ["a/one/w.pt", "a/two/w.pt", "b/two/w.pt", "c.pt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    arguments = {name: str(tmp_path / name) for name in names}
    found = files_of_table("potential", PotentialTable(kind="ase", calculator="m:C", arguments=arguments))
    assert {key: file.read_text() for key, file in found.items()} == {
        "potential: one/w.pt": names[0], "potential: a/two/w.pt": names[1], "potential: b/two/w.pt": names[2],
        "potential: c.pt": names[3],
    }  # fmt: skip


@pytest.fixture
def delta(tmp_path: Path, module: Path) -> Path:
    """An input that learns what a Lennard-Jones potential of others leaves."""
    write_labelled(tmp_path / "d.extxyz", thermal(8))
    path = tmp_path / "delta.toml"
    path.write_text(
        'data = "d.extxyz"\ntest_fraction = 0.25\n[descriptor]\nlevel = 6\ncutoff = "4.5 Å"\n[fit]\nradial = "plain"\n'
        f'[baseline]\npotential = {{ kind = "ase", calculator = "./own.py:Counts", trust = "{digest(module)}", '
        "arguments = { sigma = 2.2, epsilon = 0.1, rc = 4.0, smooth = true } }\n"
    )
    return path


def test_a_baseline_is_asked_once_about_each_structure(delta: Path) -> None:
    count = delta.with_name("count")
    result = train(delta, delta.with_name("run"), n_processes=2)
    assert len(count.read_text()) == 8
    frames = thermal(8)
    potential = modelfile.load(result.model, trust=[digest(result.model)])
    fitted, given = potential.parts
    assert isinstance(given, External)
    whole = predict(potential, frames, n_processes=2)
    parts = zip(predict(fitted, frames), predict(given, frames), strict=True)
    for one, (a, b) in zip(whole, parts, strict=True):
        assert one.energy == pytest.approx(a.energy + b.energy, abs=1e-10)
    assert result.errors["train"].row("forces").rmse < 0.5 * 1e3 * np.std([f for one in frames for f in one.forces])
    train(delta, delta.with_name("run"))  # done: what it said is read
    assert len(count.read_text()) == 8 + 8 * 2


def test_a_sweep_asks_it_once_for_all_its_trainings(delta: Path) -> None:
    text = delta.read_text().replace("level = 6", "level = 4")
    delta.write_text(text + "[sweep]\ndescriptor.cutoff = ['4 Å', '4.5 Å']\n")
    answer = mlmd("sweep", delta, "--out", delta.with_name("sweep"))
    assert answer.code == 0, answer.err
    (kept,) = delta.with_name("sweep").glob("**/baseline.answers*")
    assert kept.parent == delta.with_name("sweep")
    asked = len(delta.with_name("count").read_text())
    answer = mlmd("sweep", delta, "--out", delta.with_name("sweep"))
    assert answer.code == 0, answer.err
    assert len(delta.with_name("count").read_text()) == asked


def test_what_was_said_is_kept_when_a_training_is_interrupted(delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = delta.with_name("count")
    ask = External.ask

    def three(self: External, *arguments: Any) -> Evaluation:
        if count.exists() and len(count.read_text()) == 3:
            raise KeyboardInterrupt
        return ask(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(External, "ask", three)
        assert mlmd("train", delta, "--out", delta.with_name("run")).code == 75
    assert mlmd("train", delta, "--out", delta.with_name("run")).code == 0
    assert len(count.read_text()) == 8


def test_a_check_of_a_training_does_not_ask_about_all(delta: Path) -> None:
    answer = mlmd("check", delta)
    assert "it is asked about 8 structures first" in answer.out
    assert len(delta.with_name("count").read_text()) == 2


@pytest.mark.row("R23")
def test_a_file_with_such_a_part_runs_nothing_before_it_is_trusted(delta: Path) -> None:
    model = train(delta, delta.with_name("run"), n_processes=1).model
    count = delta.with_name("count")
    count.unlink()
    answer = mlmd("evaluate", model, delta.with_name("d.extxyz"))
    assert answer.code == 6
    assert f'trust = "{digest(model)}"' in answer.err
    answer = mlmd("show", model)
    assert answer.code == 0
    assert f'trust = "{digest(model)}"' in answer.out
    assert not count.exists()
    options = json.dumps({"trust": digest(model)})
    assert mlmd("evaluate", model, delta.with_name("d.extxyz"), "--options", options).code == 0
    assert len(count.read_text()) == 8
    delta.with_name("own.py").write_text(CALCULATORS + "\n# changed\n")
    with pytest.raises(ModelError, match=r"own\.py is not the file any more"):
        modelfile.load(model, trust=[digest(model)])


def test_the_descriptor_of_a_file_with_such_a_part_needs_no_trust(delta: Path) -> None:
    model = train(delta, delta.with_name("run"), n_processes=1).model
    delta.with_name("opened").unlink()
    delta.with_name("own.py").rename(delta.with_name("gone.py"))  # nor the other part itself
    again = delta.with_name("again.toml")
    again.write_text(f'data = "d.extxyz"\n[descriptor]\nkind = "trained"\nmodel = "{model}"\n')
    result = train(again, delta.with_name("next"), n_processes=1)
    learned = modelfile.load(model, only_own=True).parts[0]
    assert modelfile.load(result.model).descriptor.spec() == learned.descriptor.spec()
    assert not delta.with_name("opened").exists()
    with pytest.raises(RuntimeError, match="was left out"):
        modelfile.load(model, only_own=True).predict(build_graph([copper()], 4.5))
    with pytest.raises(ModelError, match="computed by"):
        modelfile.load(model)


def test_every_command_takes_a_digest_that_is_trusted(delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = train(delta, delta.with_name("run"), n_processes=1).model
    monkeypatch.chdir(delta.parent)
    commands: dict[str, list[Any]] = {
        "energy": ["d.extxyz@0", "--potential", model],
        "relax": ["d.extxyz@0", "--potential", model, "--out", "r.extxyz", "--max-force", "9 eV/Å"],
        "evaluate": [model, "d.extxyz"],
        "label": ["d.extxyz", "--potential", model, "--out", "l.extxyz"],
        "describe": ["d.extxyz", "--model", model, "--out", "f.npz"],
        "select": ["d.extxyz", "--model", model, "--out", "s.extxyz", "-n", "2"],
        "show": [model],
        "committee": ["Cu", model, "--out", "c.mlmd"],
        "export": [model, "e.mtp"],
    }
    wrong = "sha256:" + "0" * 64
    for command, arguments in commands.items():
        if command != "show":
            assert "sha256:" in (answer := mlmd(command, *arguments)).err and answer.code == 6, command
        answer = mlmd(command, *arguments, "--trust", wrong)
        assert answer.code in (2, 6) and wrong in answer.err, command
        answer = mlmd(command, *arguments, "--trust", digest(model))
        if command == "export":  # now it is opened; no such file can hold it
            assert answer.code == 2 and "trust" not in answer.err
        else:
            assert answer.code == 0, (command, answer.err)
    assert (
        "--trust belongs to --potential"
        in mlmd("label", "d.extxyz", "--ase", "m:C", "--out", "x.extxyz", "--trust", wrong).err
    )
    assert (
        "--trust belongs to --model"
        in mlmd("describe", "d.extxyz", "--descriptor", delta, "--out", "g.npz", "--trust", wrong).err
    )
    joined = mlmd(
        "energy", "d.extxyz@0", "--potential", model, "--options", json.dumps({"trust": wrong}), "--trust",
        digest(model),
    )  # fmt: skip
    assert joined.code == 0, joined.err


def test_a_kind_is_shown_with_its_options() -> None:
    answer = mlmd("show", "ase", "--options", '{"calculator": "ase.calculators.emt:EMT"}', "--json")
    facts = json.loads(answer.out)
    assert facts["calculator"] == "ase.calculators.emt.EMT"
    assert facts["gives"] == "energy, forces, stress"
    assert facts["licence"].startswith("of the weights: not known; of the package ase: LGPL")


def test_a_memory_holds_whole_answers_only(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    systems = [(np.array([29] * n), np.ones(3, bool), np.full((n, 3), 0.5), np.eye(3)) for n in (1, 2, 3)]
    memory = Memory(path, "a model")
    for n, system in enumerate(systems):
        memory.keep(*system, Evaluation(float(n), np.full((len(system[0]), 3), n + 0.25), np.full((3, 3), -1.0)))
    again = Memory(path, "a model")
    assert len(again) == 3
    kept = again.find(*systems[2])
    assert kept is not None and (kept.energy, kept.forces[2, 1], kept.virial[0, 0]) == (2.0, 2.25, -1.0)
    moved = (*systems[2][:2], systems[2][2] + 1e-15, systems[2][3])
    assert again.find(*moved) is None
    content = path.read_bytes()
    for cut in range(1, 60, 7):
        path.write_bytes(content[:-cut])
        assert len(Memory(path, "a model")) == 2
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = Memory(path, "a model")
    assert len(damaged) == 2
    damaged.keep(*systems[2], Evaluation(5.0, np.zeros((3, 3)), np.zeros((3, 3))))
    assert len(Memory(path, "a model")) == 3
    assert len(Memory(path, "another model")) == 0
