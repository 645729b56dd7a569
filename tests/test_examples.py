"""The examples run, are short, and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlmd.config.replicas import load_replicas
from mlmd.io.structures import read_structure

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))

DEPOSITION = EXAMPLES / "deposition" / "deposition.py"


def output(script: Path, *arguments: object, folder: Path) -> str:
    """What a script prints, which must not fail or warn."""
    command = [sys.executable, "-W", "error::UserWarning", str(script), *map(str, arguments)]
    environment = {"PYTHONPATH": str(EXAMPLES.parent), "PATH": "", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_numbered_without_gaps() -> None:
    assert [script.name[:3] for script in SCRIPTS] == [f"{number:02d}_" for number in range(1, len(SCRIPTS) + 1)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_is_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < 80


def test_the_force_is_the_difference_of_energies(tmp_path: Path) -> None:
    text = output(EXAMPLES / "01_energy_and_forces.py", "--short", folder=tmp_path)
    assert re.search(r"largest force 0\.\d+ eV/Å", text)


def test_a_published_potential_gives_forces_too(shared: Path, tmp_path: Path) -> None:
    fitted = shared / "models_mvl" / "Cu" / "mtp.2020.01" / "fitted.mtp"
    copper = EXAMPLES.parent / "inputs" / "copper.extxyz"
    script = EXAMPLES / "01_energy_and_forces.py"
    text = output(script, "--short", "--mtp", fitted, "--elements", "Cu", "--structure", copper, folder=tmp_path)
    energy = float(re.findall(r"as read\s+(\S+) eV/atom", text)[0])
    assert -4.2 < energy < -4.0  # copper's is -4.10 eV in these data; the atoms are rattled


def test_a_thermostat_holds_its_temperature(tmp_path: Path) -> None:
    text = output(EXAMPLES / "02_nvt.py", "--short", folder=tmp_path)
    assert 60 < float(re.findall(r"temperature (\S+) K", text)[0]) < 130  # 94.4 K ± 4 standard errors of 1 ps


def test_metadynamics_fills_a_well(tmp_path: Path) -> None:
    text = output(EXAMPLES / "03_metadynamics.py", "--short", folder=tmp_path)
    assert float(re.findall(r"deviation (\S+) kJ/mol", text)[0]) < 16  # the depth of the well: hills were summed


@pytest.mark.slow
def test_metadynamics_finds_the_exact_free_energy(tmp_path: Path) -> None:
    text = output(EXAMPLES / "03_metadynamics.py", folder=tmp_path)
    # 400 hills of 1 kJ/mol with bias factor 8 scatter by about 1 kJ/mol; the barrier is 16
    assert float(re.findall(r"deviation (\S+) kJ/mol", text)[0]) < 2.0


def test_silica_is_melted_quenched_and_compared_with_what_was_measured(shared: Path, tmp_path: Path) -> None:
    from lammps_oracle import potentials

    measured = shared / "ref_sq" / "dissolve" / "SiO2_NIMROD.mint01"
    potential = potentials() / "SiO.tersoff"
    options = ("--experiment", measured, "--supercell", 1, "--rate", 2000, "--out", tmp_path / "silica")
    text = output(EXAMPLES / "silica" / "silica.py", potential, *options, folder=tmp_path)
    # 24 atoms, quenched within 2 ps, have their neighbours; each of their few wavevectors has an intensity of its own,
    # and R says nothing yet
    assert 1.5 < float(re.findall(r"g\(Si–O\): first peak at (\S+) Å", text)[0]) < 1.8
    assert re.search(r"\(F\(q\)\): R = \d\.\d+, χ² = \S+ a point at 5\d\d points", text)
    assert (tmp_path / "silica" / "silica.run" / "analysis" / "structure-factor.png").exists()


def test_the_error_of_a_diffusion_coefficient_is_its_scatter(tmp_path: Path) -> None:
    text = output(EXAMPLES / "04_diffusion.py", "--short", folder=tmp_path)
    # the scatter of ten values is known to 1 / √18: 0.24, four of which are allowed
    assert 0.05 < float(re.findall(r"(\S+) of the errors given", text)[0]) < 2.0


def test_a_run_has_a_diffusion_coefficient(tmp_path: Path) -> None:
    output(EXAMPLES / "02_nvt.py", "--short", "--out", tmp_path / "nvt.run", folder=tmp_path)
    text = output(EXAMPLES / "04_diffusion.py", tmp_path / "nvt.run", folder=tmp_path)
    # a picosecond may be too short to tell; then the line says so
    assert len(re.findall(r"^D\(Ar\)(?: = \S+ cm²/s|:? not determined)", text, re.MULTILINE)) == 3


def test_a_potential_learns_from_a_calculator_what_it_is_then_run_with(tmp_path: Path) -> None:
    text = output(EXAMPLES / "05_train_a_potential.py", "--short", "--out", tmp_path / "all", folder=tmp_path)
    # forces at 900 K are 1 eV/Å; five iterations bring their error to a hundredth of that
    assert float(re.findall(r"forces within (\S+) meV/Å", text)[0]) < 50
    # 0.04 meV/atom is the leapfrog's scatter at 3 fs: forces that were no derivatives would drift by far more
    assert float(re.findall(r"scatters by (\S+) meV/atom", text)[0]) < 0.3
    assert {"frames.extxyz", "labelled.extxyz", "fitted.run"} <= {path.name for path in (tmp_path / "all").iterdir()}


def test_the_barriers_have_three_temperatures_and_their_variable_is_x_of_the_one_atom_above_the_slab() -> None:
    runs = [one.config for one in load_replicas(EXAMPLES / "barriers" / "adatom.toml")]
    assert sorted({run.stage[-1].temperature[0] for run in runs}) == [200.0, 300.0, 400.0]
    heights = read_structure(runs[0].structure).positions[:, 2]
    biases = [one for one in runs[0].stage[-1].bias if one.kind == "metadynamics"]
    assert [(one.cv[0].atom, one.cv[0].axis) for one in biases] == [(int(heights.argmax()), "x")]
    assert sorted(heights)[-1] > sorted(heights)[-2] + 1.0  # Å


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metal", "given"), [("Cu", ()), ("Ni", ("--metal", "Ni", "--lattice", "3.53", "--potential", "Ni"))]
)
def test_a_metal_that_arrives_at_itself_sticks(metal: str, given: tuple[str, ...], tmp_path: Path) -> None:
    text = output(DEPOSITION, "--face", "100", "--arrivals", "4", *given, folder=tmp_path)
    assert re.search(r"coverage 0\.1\d*(\(\d+\))? ML", text)  # 4 of 36, should none fly away
    assert f"sticking of {metal}: 1.0" in text
    assert (tmp_path / "films" / "films.png").exists()
