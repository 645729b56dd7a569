"""PLUMED as a bias: forces, virial, once-per-step updates, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlmd.bias import BiasFailure
from mlmd.bias.plumed import PlumedBias, _failure, check, find_kernel, working_in
from mlmd.bias.script import read_script
from mlmd.bias.written import flush
from mlmd.errors import InputError, StorageError

METAD = """
# a comment
d: DISTANCE ATOMS=1,2
METAD ...
  ARG=d PACE=5 HEIGHT=1.0 SIGMA=0.05 FILE=HILLS
  BIASFACTOR=10 TEMP=300 LABEL=m
... METAD
r: RESTRAINT ARG=d AT=0.3 KAPPA=20000
PRINT ARG=d,m.bias,r.bias STRIDE=1 FILE=COLVAR
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plumed.dat"
    path.write_text(text)
    return path


@pytest.fixture
def bias(tmp_path):
    script = read_script(write(tmp_path, METAD))
    with working_in(tmp_path):
        yield PlumedBias(script, masses=np.full(3, 40.0), timestep=2.0, temperature=300.0)


CELL = np.array([[20.0, 0, 0], [3.0, 21.0, 0], [1.0, 2.0, 22.0]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [2.4, 1.1, 0.9], [9.0, 9.0, 9.0]])


def run(bias, positions, cell=CELL, step=0):
    forces, virial = np.zeros((3, 3)), np.zeros((3, 3))
    energy = bias.compute(step, np.ascontiguousarray(positions), np.ascontiguousarray(cell), 0.0, forces, virial)
    return energy, forces, virial


def deposit(bias):
    for step in range(12):
        run(bias, POSITIONS * (1 + 0.01 * step), step=step)
        bias.update()


def test_bias_forces_are_the_gradient_of_the_bias_energy(bias):
    deposit(bias)
    _, forces, _ = run(bias, POSITIONS, step=12)
    assert abs(forces).max() > 0.01
    h = 1e-4
    for atom in range(3):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = POSITIONS.copy()
                moved[atom, axis] += sign * h
                energies.append(run(bias, moved, step=12)[0])
            assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_the_energy_elsewhere_is_told_only_after_the_step_has_ended_and_deposits_nothing(bias):
    run(bias, POSITIONS)
    with pytest.raises(AssertionError):  # else the update of this step would deposit there
        bias.energy_at(0, 1.1 * POSITIONS, CELL, 0.0)
    bias.update()
    lines = Path("COLVAR").read_text()
    assert bias.energy_at(0, 1.1 * POSITIONS, CELL, 0.0) > 0.0
    bias.update()
    assert Path("COLVAR").read_text() == lines


def test_bias_virial_is_the_strain_derivative_of_the_bias_energy(bias):
    deposit(bias)
    _, _, virial = run(bias, POSITIONS, step=12)
    h = 1e-5
    for a in range(3):
        for b in range(a + 1):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h / 2
                strain[b, a] += sign * h / 2
                energies.append(run(bias, POSITIONS @ strain, CELL @ strain, step=12)[0])
            assert virial[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_trial_evaluations_neither_print_nor_deposit(bias, tmp_path):
    for step in range(11):
        run(bias, POSITIONS * 1.1, step=step)
        run(bias, POSITIONS, step=step)
        bias.update()
        bias.update()  # a second update of the same step does nothing
    flush()
    rows = [line for line in (tmp_path / "COLVAR").read_text().splitlines() if not line.startswith("#")]
    hills = [line for line in (tmp_path / "HILLS").read_text().splitlines() if not line.startswith("#")]
    assert [float(row.split()[0]) for row in rows] == pytest.approx([0.002 * step for step in range(11)])
    assert len(hills) == 2
    distance = np.linalg.norm(POSITIONS[1] - POSITIONS[0]) / 10
    assert float(hills[0].split()[1]) == pytest.approx(distance, abs=1e-12)


@pytest.mark.row("R26")
def test_steps_beyond_32_bits_keep_their_time(bias, tmp_path):
    run(bias, POSITIONS, step=3_000_000_001)
    bias.update()
    flush()
    last = (tmp_path / "COLVAR").read_text().splitlines()[-1]
    assert float(last.split()[0]) == pytest.approx(3_000_000_001 * 0.002, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("d: DISTANC ATOMS=1,2", 1, "DISTANC"),
        ("d: DISTANCE ATOMS=1,2\n\nPRINT ARG=e FILE=COLVAR", 3, "e"),
        ("d: DISTANCE ATOMS=1,9", 1, "atom"),
        ("LOAD FILE=evil.so", 1, "executes code"),
        ("x: LOAD FILE=evil.so", 1, "executes code"),
        ("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=/etc/passwd", 2, "leaves the run folder"),
        ("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=../COLVAR", 2, "leaves the run folder"),
        ("METAD ...\nARG=d", 1, "never closed"),
    ],
)
def test_errors_name_the_line(tmp_path, text, line, words):
    with pytest.raises(InputError) as caught:
        check(write(tmp_path, text), masses=np.ones(3))
    assert f"line {line}:" in str(caught.value)
    assert words in str(caught.value)


def test_a_script_says_which_files_it_reads_and_writes(tmp_path):
    (tmp_path / "ref.pdb").write_text("END\n")
    script = read_script(
        write(
            tmp_path,
            METAD + "s: RMSD REFERENCE=ref.pdb\nOPES_METAD ARG=d PACE=7 STATE_WFILE=STATE STATE_WSTRIDE=70",
        )
    )
    assert script.reads == ("ref.pdb",)
    assert script.prints == ("COLVAR",)
    assert script.histories == ("HILLS", "KERNELS")
    assert script.rewrites == ("STATE",)


@pytest.mark.parametrize(
    "text",
    [
        "load file=canary.so",
        "Load File=canary.so",
        "{LOAD} FILE=canary.so",
        "LO{}AD FILE=canary.so",
        "x: load FILE=canary.so",
        "x:LOAD FILE=canary.so",
        "x: LOAD ...\nFILE=canary.so\n...",
        "load ...\nfile=canary.so\n... load",
        "PLUMED FILE=inner.dat",
        "p: plumed file=inner.dat",
        "Include FILE=inner.dat",
        "INCLUDE ...\nfile=inner.dat\n...",
        "MOLINFO STRUCTURE=ref.pdb PYTHON_BIN={touch canary}",
        "MOLINFO STRUCTURE=ref.pdb python_bin={touch canary}",
        "MOLINFO ...\nSTRUCTURE=ref.pdb {PYTHON_BIN=touch canary}\n...",
        "g: GROUP ATOMS={@mdt:{water}}",
        "g: GROUP ATOMS={@mda:{name Ar}}",
        "g: group atoms=@vmd:all",
        "g: GROUP ATOMS=@vmdexec:all",
        "g: GROUP ATOMS={@mda{}:{name Ar}}",
        "g: GROUP ATOMS=@python:all",
    ],
)
@pytest.mark.row("R23")
def test_nothing_in_a_script_executes_code_however_it_is_written(tmp_path, monkeypatch, text):
    # PLUMED ignores case and takes braces out of words; a library that is not there must not even be looked for
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.dat").write_text("LOAD FILE=canary.so\n")
    (tmp_path / "ref.pdb").write_text("END\n")
    with pytest.raises(InputError, match=r"line 1: .*allow_unsafe = true"):
        check(write(tmp_path, text), masses=np.ones(3))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "name",
    [
        "FILE={out}/canary",
        "file={out}/canary",
        "{{FILE={out}/canary}}",
        "FILE={{{out}/canary}}",
        "FILE={{ {out}/canary }}",
        'FILE="{out}/canary"',
        "FILE=({out}/canary)",
        "FILE=@replicas:{out}/canary",
        "FILE=@Replicas:{out}/canary",
        "FILE={{@replicas:{{{out}/canary}}}}",
        "FI{{}}LE={out}/canary",
        "FILE=COLVAR,{out}/canary",
        "FILE=~/canary",
        "FILE=../canary",
        "FILE=a/../../canary",
        "FILE=@replicas:../canary",
    ],
)
@pytest.mark.row("R23")
def test_nothing_in_a_script_writes_outside_the_run_folder(tmp_path, name):
    out, inside = tmp_path / "out", tmp_path / "in"
    out.mkdir()
    inside.mkdir()
    script = write(inside, "d: DISTANCE ATOMS=1,2\nPRINT ARG=d " + name.format(out=out))
    with pytest.raises(InputError, match=r"line 2: .*leaves the run folder"):
        check(script, masses=np.ones(3))
    assert not list(out.iterdir())
    assert not (tmp_path / "canary").exists()


def test_words_that_only_look_dangerous_are_allowed(tmp_path):
    text = (
        "load: DISTANCE ATOMS=1,2\nc: CUSTOM ARG=load FUNC=(1/(x+1))/2 PERIODIC=NO\n"
        "k: COORDINATION GROUPA=1 GROUPB=2,3 SWITCH={RATIONAL R_0=0.3}\nPRINT ARG=load,c,k FILE=./COLVAR\n"
    )
    assert check(write(tmp_path, text), masses=np.ones(3)).prints == ("COLVAR",)


def test_files_of_a_bias_are_known_however_it_is_written(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/bias.dat").write_text("metad ...\narg=d pace=5 height=1 sigma=0.1\n...\nInclude file=print.dat\n")
    (tmp_path / "sub/print.dat").write_text("print arg=d file=./values\n")
    text = "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=1,3\ninclude file={sub/bias.dat}\n"
    script = check(write(tmp_path, text + "pb: PBMETAD ARG=d,e SIGMA=0.1,0.1 HEIGHT=1 PACE=5\n"), masses=np.ones(3))
    assert script.histories == ("HILLS", "HILLS.d", "HILLS.e")
    assert script.prints == ("values",)
    assert [statement.action for statement in script.statements][2:4] == ["METAD", "PRINT"]


def test_the_usual_file_of_a_bias_is_not_claimed_when_it_names_another(tmp_path):
    script = read_script(write(tmp_path, METAD.replace("FILE=HILLS", "FILE=first.hills")))
    assert script.histories == ("first.hills",)


def test_pbmetad_with_a_pattern_must_name_its_files(tmp_path):
    with pytest.raises(InputError, match=r"line 1: PBMETAD .* needs FILE="):
        read_script(write(tmp_path, "PBMETAD ARG=d.* SIGMA=0.1 HEIGHT=1 PACE=5"))


def test_a_loop_of_includes_is_named(tmp_path):
    (tmp_path / "a.dat").write_text("INCLUDE FILE=b.dat\n")
    (tmp_path / "b.dat").write_text("# nothing\nInclude File=./plumed.dat\n")
    with pytest.raises(
        InputError, match=r"b\.dat: line 2: .*plumed\.dat includes a\.dat includes b\.dat includes plumed\.dat"
    ):
        read_script(write(tmp_path, "INCLUDE FILE=a.dat"))


def test_errors_in_an_included_file_name_it(tmp_path):
    (tmp_path / "inner.dat").write_text("\nd: DISTANCE ATOMS=1,9\n")
    with pytest.raises(InputError, match=r"inner\.dat: line 2: "):
        check(write(tmp_path, "INCLUDE FILE=inner.dat"), masses=np.ones(3))
    (tmp_path / "inner.dat").unlink()
    with pytest.raises(InputError, match=r"inner\.dat, which .*plumed\.dat includes, cannot be read"):
        read_script(tmp_path / "plumed.dat")


def test_a_mistyped_action_gets_a_hint(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'METAD'"):
        check(write(tmp_path, "METADD ARG=d"), masses=np.ones(3))


def test_actions_that_lose_their_memory_are_named(tmp_path):
    text = METAD + "h: histogram ARG=d\ne: EDS ARG=d\nf: EDS ARG=d IN_RESTART=eds.dat\na: AVERAGE ARG=d\n"
    assert read_script(write(tmp_path, text)).forgetful == ("HISTOGRAM", "EDS", "AVERAGE")
    assert read_script(write(tmp_path, METAD)).forgetful == ()


def test_well_tempered_metadynamics_without_a_temperature_is_refused(tmp_path):
    path = write(tmp_path, METAD.replace(" TEMP=300", ""))
    check(path, masses=np.ones(3), temperature=300.0)
    with pytest.raises(InputError, match="specify it using TEMP"):
        check(path, masses=np.ones(3), temperature=None)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("(tools/OFile.cpp:90) size_t PLMD::OFile::llwrite\n+++ assertion failed", StorageError),
        ("(tools/Grid.cpp:7) the profile of the bias is outside of the grid", BiasFailure),
    ],
)
def test_a_failure_of_a_running_script_is_of_storage_only_where_plumed_failed_at_a_file(tmp_path, message, kind):
    script = read_script(write(tmp_path, METAD))
    assert type(_failure(script, RuntimeError(message))) is kind


def test_a_relative_kernel_is_meant_from_where_the_command_was_started(tmp_path, monkeypatch):
    (tmp_path / "kernel.so").write_bytes(b"")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUMED_KERNEL", "kernel.so")
    with working_in(tmp_path / "run"):
        assert find_kernel() == tmp_path / "kernel.so"


def test_check_leaves_nothing_behind(tmp_path):
    check(write(tmp_path, METAD), masses=np.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["plumed.dat"]


def test_masses_and_charges_are_given_at_each_step_after_it(bias):
    """Kernels before 2.10 refuse them before a step has been told, and forget them at the next (its Atoms.cpp)."""
    told, command = [], bias._plumed.cmd

    class Listening:
        def cmd(self, name, *values):
            told.append(name)
            return command(name, *values)

        def __getattr__(self, name):
            return getattr(command.__self__, name)

    bias._plumed = Listening()
    for step in range(2):
        run(bias, POSITIONS, step=step)
    steps = " ".join(told).split("setStepLongLong")[1:]
    assert len(steps) == 2
    for words in steps:
        before = words.partition("prepareCalc")[0].split()
        assert {"setMasses", "setCharges"} <= set(before)


@pytest.mark.parametrize(
    "line",
    [
        "PRINT ARG=d STRIDE=10 FILE=COLVAR.gz",
        "METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=5 FILE=COLVAR.gz",
        "DUMPATOMS ATOMS=1-2 FILE=COLVAR.gz",
    ],
)
def test_files_that_grow_are_not_compressed(tmp_path, line):
    with pytest.raises(InputError, match=r"line 2: FILE=COLVAR\.gz: .* Write COLVAR, and"):
        read_script(write(tmp_path, f"d: DISTANCE ATOMS=1,2\n{line}"))


def test_walkers_without_a_common_folder_are_refused(tmp_path):
    walker = "METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=5 WALKERS_N=2 WALKERS_ID=0"
    with pytest.raises(InputError, match="line 2: WALKERS_N needs WALKERS_DIR"):
        read_script(write(tmp_path, f"d: DISTANCE ATOMS=1,2\n{walker}"))
    assert read_script(write(tmp_path, f"d: DISTANCE ATOMS=1,2\n{walker} WALKERS_DIR=hills")).shared == ("hills",)
