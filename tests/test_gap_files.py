"""Gaussian approximation potentials of QUIP: its own numbers, and refusals that help."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from command_line import mlmd
from kernel_systems import needs_kernels, system
from quip_oracle import answer, columns, fitted, power_spectra, require_quip
from random_gap import gap_file, random_gap

from mlmd.cli.show import facts_of
from mlmd.config.files import files_of_potential, sha256
from mlmd.descriptors.soap import Soap
from mlmd.engine.run import simulate
from mlmd.errors import InputError, MlmdError, ModelError, StorageError
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.evaluate import compiled_predictor, predictor
from mlmd.potentials.gap import load
from mlmd.potentials.load import recognise

SPECTRA = (
    "soap l_max=4 n_max=6 atom_sigma=0.5 cutoff=3.8 cutoff_transition_width=0.7 zeta=2 covariance_type=dot_product"
)


def crystal(seed: int, n_cells: int = 2) -> Atoms:
    """Carbon and hydrogen off the places of rock salt in a cell without right angles."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("CH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.9, 3.1, 3.3, 80, 95, 102], pbc=True)
    atoms = atoms.repeat(n_cells)
    atoms.positions += rng.normal(scale=0.12, size=(len(atoms), 3))
    return atoms


def slab(seed: int) -> Atoms:
    """The crystal, periodic in two directions."""
    atoms = crystal(seed)
    atoms.pbc = (True, True, False)
    return atoms


def cluster(seed: int) -> Atoms:
    """A molecule off its places."""
    atoms = molecule("C6H6")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return atoms


def predicted(potential: Potential, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and, in ASE's sign, the stress."""
    found = predictor(potential)(atoms)
    return found.energy, found.forces, found.virial / (atoms.get_volume() if atoms.cell.rank == 3 else np.nan)


def assert_quip_agrees(file: Path, potential: Potential, atoms: Atoms) -> None:
    """To rounding: coefficients of a fit are large and cancel."""
    theirs, (energy, forces, stress) = answer(file, atoms), predicted(potential, atoms)
    assert energy == pytest.approx(theirs.energy, abs=1e-8 * len(atoms))
    assert forces == pytest.approx(theirs.forces, abs=1e-6)
    if atoms.pbc.all():
        assert stress == pytest.approx(theirs.stress, abs=1e-8)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("l_max=6 n_max=8 atom_sigma=0.5 cutoff=4.0 cutoff_transition_width=0.5", {"onset": 1 - 0.5 / 4.0}),
        (
            "l_max=3 n_max=5 atom_sigma=0.3 cutoff=4.0 cutoff_transition_width=2.0 central_weight=0.4",
            {"n_max": 5, "l_max": 3, "sigma": 0.3, "onset": 0.5, "central_weight": 0.4},
        ),
    ],
    ids=["usual", "sharp"],
)
def test_power_spectra_are_those_of_quip(periodic: bool, settings: str, options: dict[str, float]) -> None:
    require_quip()
    atoms = crystal(1) if periodic else cluster(1)
    if not periodic:
        atoms.center(vacuum=10.0)
    given = {"n_max": 8, "l_max": 6, "sigma": 0.5, **options}
    soap = Soap(elements=("H", "C"), cutoff=4.0, basis="quip", taper="cosine", **given)  # type: ignore[arg-type]
    theirs = power_spectra(atoms, ("H", "C"), settings)[:, columns(2, int(given["n_max"]), int(given["l_max"]))]
    ours = soap.features(build_graph(atoms, 4.0)).numpy()
    # QUIP counts a product of two channels once with the factor √2, as mlmd does
    assert ours == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize(
    "terms",
    [
        f"{SPECTRA} n_sparse=20 sparse_method=cur_points delta=0.5 add_species",
        "distance_2b cutoff=3.6 cutoff_transition_width=0.8 covariance_type=ard_se theta_uniform=0.7 delta=1.0 "
        "n_sparse=10 sparse_method=uniform add_species",
        "distance_2b cutoff=3.6 cutoff_transition_width=0.8 covariance_type=ard_se theta_uniform=0.7 delta=1.0 "
        f"n_sparse=10 sparse_method=uniform add_species : {SPECTRA} n_sparse=20 sparse_method=cur_points delta=0.2 "
        "covariance_sigma0=0.3 add_species",
        "distance_2b cutoff=3.6 cutoff_transition_width=0.8 covariance_type=ard_se theta_uniform=0.7 delta=1.0 f0=0.4 "
        f"n_sparse=10 sparse_method=uniform add_species : {SPECTRA} n_sparse=20 sparse_method=cur_points delta=0.2 "
        "f0=0.6 add_species",
    ],
    ids=["soap", "distance_2b", "both", "means"],
)
def test_what_gap_fit_writes_has_the_energies_forces_and_stresses_of_quip(terms: str, tmp_path: Path) -> None:
    require_quip()
    file = fitted(tmp_path, terms, [*(crystal(seed) for seed in range(3)), *(crystal(9, 3) for _ in range(1))])
    potential = load(file)
    assert set(potential.elements) == {"C", "H"}
    assert_quip_agrees(file, potential, crystal(20))
    assert_quip_agrees(file, potential, slab(20))
    assert_quip_agrees(file, potential, cluster(20))


@pytest.mark.parametrize("name", ["crystal", "skewed", "tiny", "slab", "wire", "cluster"])
@pytest.mark.parametrize(("sigma0", "mean"), [(0.0, 0.0), (0.3, 0.8)])
def test_a_made_file_has_the_energies_forces_and_stresses_of_quip(
    name: str, sigma0: float, mean: float, tmp_path: Path
) -> None:
    require_quip()
    file = gap_file(tmp_path, sigma0=sigma0, mean=mean)
    assert_quip_agrees(file, load(file), system(name, ("Si", "O"), 2.1))


def test_points_beside_the_file_are_those_in_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    inside, beside = gap_file(tmp_path / "one"), gap_file(tmp_path, beside=True)
    atoms = system("crystal", ("Si", "O"), 2.1)
    assert "</sparseX>" not in beside.read_text()
    expected, found = (predicted(load(file), atoms) for file in (inside, beside))
    assert found[0] == expected[0]
    assert np.array_equal(found[1], expected[1])
    if find_spec("quippy"):
        assert_quip_agrees(beside, load(beside), atoms)


def test_the_published_potential_of_molybdenum_has_the_numbers_of_quip(shared: Path, tmp_path: Path) -> None:
    """And the errors that its authors' example has, 0.16 meV/atom and 0.04 eV/Å for structures it was trained on."""
    folder = shared / "ref_gap_mlearn"
    potential = load(folder / "soap.xml", elements=["Mo"])
    known = json.loads((folder / "data.json").read_text())
    errors = []
    for index, one in enumerate(known[:3]):
        sites = one["structure"]["sites"]
        atoms = Atoms(
            [site["label"] for site in sites], [site["xyz"] for site in sites],
            cell=one["structure"]["lattice"]["matrix"], pbc=True,
        )  # fmt: skip
        energy, forces, _ = predicted(potential, atoms)
        errors.append((energy - one["outputs"]["energy"]) / len(atoms))
        assert np.abs(forces - np.array(one["outputs"]["forces"])).mean() < 0.045
        if index == 0 and find_spec("quippy"):
            assert_quip_agrees(_copied(folder, tmp_path), potential, atoms)
    assert np.abs(errors).max() < 0.2e-3


def _copied(folder: Path, to: Path) -> Path:
    """QUIP wants to write an index beside the file."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to / "soap.xml"


@needs_kernels
def test_the_compiled_form_is_the_reference() -> None:
    potential, atoms = random_gap(), system("crystal", ("Si", "O"), 2.3)
    expected = potential.predict(build_graph(atoms, potential.cutoff))
    energy, forces, stress = predicted(potential, atoms)
    assert compiled_predictor(potential) is not None
    assert energy == pytest.approx(float(expected.energy[0]), abs=1e-9 * len(atoms))
    assert forces == pytest.approx(expected.forces.numpy(), abs=1e-8)
    assert stress * atoms.get_volume() == pytest.approx(expected.virial.numpy()[0], abs=1e-7)


def test_it_is_recognised_loaded_by_an_input_and_kept_in_a_file_of_mlmd(tmp_path: Path) -> None:
    file = gap_file(tmp_path, name="any.name")
    assert recognise(file) == "gap"
    potential = load(file)
    modelfile.save(potential, tmp_path / "kept.mlmd", {})
    again = modelfile.load(tmp_path / "kept.mlmd")
    atoms = Atoms("Si2O2", positions=[[0, 0, 0], [2.2, 0, 0], [1, 1.4, 0], [1.2, 0.3, 1.5]], cell=[9, 9, 9], pbc=True)
    ours, kept = predicted(potential, atoms), predicted(again, atoms)
    assert kept[0] == ours[0]
    assert np.array_equal(kept[1], ours[1])


def test_forces_are_the_slopes_of_the_energy() -> None:
    potential = random_gap()
    atoms = Atoms("Si2O2", positions=[[0, 0, 0], [2.2, 0, 0], [1, 1.4, 0], [1.2, 0.3, 1.5]], cell=[9, 9, 9], pbc=True)
    h, (_, forces, _) = 1e-4, predicted(potential, atoms)
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(predicted(potential, moved)[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-5)


def truncated(text: str) -> str:
    return text[: len(text) // 2]


DAMAGES = [
    (truncated, ModelError, "truncated or damaged"),
    (lambda text: text.replace("distance_2b", "angle_3b", 1), ModelError, "angle_3b is not read"),
    (lambda text: text.replace('zeta="3.0000000000000000"', 'zeta="2.5"', 1), ModelError, "power of 2.5 is not read"),
    (lambda text: text.replace("n_max=3", "n_max=4", 1), ModelError, "points of"),
    (
        lambda text: text.replace('covariance_type="1"', 'covariance_type="4"', 1),
        ModelError,
        "covariance pp is not read",
    ),
    (lambda text: text.replace('alpha="', 'alpha="x', 1), ModelError, "is not a number"),
    (lambda text: text.replace('do_core="F"', 'do_core="T"', 1), ModelError, "core potential"),
    (lambda text: text.replace('n_coordinate="5"', 'n_coordinate="6"', 1), ModelError, "5 of 6 descriptors"),
    (lambda text: text.replace("atom_sigma=0.5", "atom_sigma=0", 1), ModelError, "must be positive"),
    (
        lambda text: f'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>\n{text}',
        ModelError,
        "line 1: a document type",
    ),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES, ids=[message for _, _, message in DAMAGES])
def test_what_cannot_be_read_is_refused_with_file_and_place(
    damage: object, error: type[MlmdError], message: str, tmp_path: Path
) -> None:
    file = gap_file(tmp_path)
    before = file.read_text()
    file.write_text(damage(before))  # type: ignore[operator]
    assert file.read_text() != before
    with pytest.raises(error, match=message) as raised:
        load(file)
    assert str(raised.value).startswith(str(file))


def test_points_beside_the_file_are_checked(shared: Path, tmp_path: Path) -> None:
    folder = shared / "ref_gap_mlearn"
    file = tmp_path / "soap.xml"
    file.write_bytes((folder / "soap.xml").read_bytes())
    with pytest.raises(InputError, match=r"needs its points: .* does not exist"):
        load(file, elements=["Mo"])
    text = file.read_text()
    name = text.split('sparseX_filename="')[1].split('"')[0]
    file.write_text(text.replace(name, "../elsewhere"))
    with pytest.raises(ModelError, match="read from the folder of the file alone"):
        load(file, elements=["Mo"])


def of_points(file: Path) -> list[Path]:
    """The files of points beside a made file."""
    return sorted(file.parent.glob("gap.xml.sparseX.*"))


def test_points_with_another_md5_sum_are_refused_by_name(tmp_path: Path) -> None:
    file = gap_file(tmp_path, beside=True)
    points = of_points(file)[1]
    points.write_text(points.read_text().replace("1.2", "1.3", 1))
    with pytest.raises(ModelError, match=r"sparseX\.GAP_made2: damaged, .* MD5 sum is \w{32}; gap\.xml was written"):
        load(file)


def test_points_without_an_md5_sum_are_counted(tmp_path: Path) -> None:
    file = gap_file(tmp_path, beside=True)
    file.write_text(re.sub(' sparseX_md5sum="[^"]*"', "", file.read_text()))
    load(file)
    points = of_points(file)[1]
    points.write_text("".join(points.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ModelError, match=r"sparseX\.GAP_made2: 4 numbers instead of 5: truncated or damaged"):
        load(file)


def test_elements_are_those_of_the_data_where_the_descriptors_name_none(tmp_path: Path) -> None:
    file = gap_file(tmp_path, kinds=["distance_2b"])
    text = re.sub(" Z1=[0-9]+ Z2=[0-9]+", "", file.read_text())
    file.write_text(text)
    with pytest.raises(InputError, match=r'does not say which elements .* elements = \["Si"\]'):
        load(file)
    lines = ["2", 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3', "O   0.0 0.0 0.0", "Si  1.6 0.0 0.0"]
    data = "\n".join(f"<![CDATA[{line}]]>" for line in lines)
    file.write_text(text.replace("</GAP_params>", f"<XYZ_data>\n{data}\n</XYZ_data>\n</GAP_params>"))
    potential, atoms = load(file), system("crystal", ("Si", "O"), 2.1)
    assert potential.elements == ("O", "Si")
    given = load(file, elements=["Si", "O"])
    assert predicted(potential, atoms)[0] == pytest.approx(predicted(given, atoms)[0], abs=1e-9)
    if find_spec("quippy"):
        assert_quip_agrees(file, potential, atoms)


def test_a_fit_to_one_element_that_carries_its_data_needs_nothing_else(tmp_path: Path) -> None:
    require_quip()
    frames = [crystal(seed) for seed in range(2)]
    for atoms in frames:
        atoms.numbers[:] = 6
    file = fitted(
        tmp_path, f"{SPECTRA} n_sparse=5 sparse_method=cur_points delta=0.2 add_species=F", frames, copy_data=True
    )
    assert "species_Z" not in file.read_text()
    potential, unseen = load(file), crystal(20)
    assert potential.elements == ("C",)
    unseen.numbers[:] = 6
    assert_quip_agrees(file, potential, unseen)


def test_elements_are_asked_for_where_the_file_names_none_of_its_own(tmp_path: Path) -> None:
    file = gap_file(tmp_path)
    with pytest.raises(InputError, match="has Si, O; elements = Si, H was given"):
        load(file, elements=["Si", "H"])
    missing = tmp_path / "missing.xml"
    with pytest.raises(InputError, match="does not exist"):
        load(missing)


def short_run(folder: Path) -> Path:
    """An input for two atoms in a folder that has a `gap.xml`."""
    Atoms("SiO", positions=[[0, 0, 0], [1.7, 0, 0]], cell=[9, 9, 9], pbc=True).write(folder / "two.extxyz")
    path = folder / "in.toml"
    path.write_text(
        'structure = "two.extxyz"\npotential = "gap.xml"\ntimestep = "0.2 fs"\nvelocities = "50 K"\nseed = 1\n'
        '[[stage]]\nkind = "nve"\nduration = "20 fs"\n[output]\nlog_every = "2 fs"\n'
    )
    return path


def test_it_runs_from_an_input_as_any_potential(tmp_path: Path) -> None:
    gap_file(tmp_path)
    simulate(short_run(tmp_path), tmp_path / "run")
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)
    energy = log["energy_per_atom_eV"]
    assert len(energy) > 5
    assert np.ptp(energy) < 1e-4


def test_the_files_of_a_potential_are_its_xml_and_the_points_beside_it(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    file = gap_file(folder, beside=True)
    for stranger in (tmp_path / "outside", folder / "gap.xml.sparseX.of_another"):
        stranger.write_text("1\n")
    points = [folder / f"gap.xml.sparseX.GAP_made{n}" for n in range(1, 6)]
    assert files_of_potential(file) == [file, *points]
    points[2].unlink()
    assert files_of_potential(file) == [file, *points[:2], *points[3:]]
    file.write_text(file.read_text().replace(points[0].name, "../outside"))
    assert files_of_potential(file) == [file, points[1], *points[3:]]
    file.write_text(f"<!DOCTYPE a>\n{file.read_text()}")
    assert files_of_potential(file) == [file]
    other = folder / "page.xml"
    other.write_text(f'<html><gpCoordinates sparseX_filename="{points[1].name}"/></html>')
    assert files_of_potential(other) == [other]
    inside = gap_file(tmp_path)
    assert files_of_potential(inside) == [inside]


def test_a_run_is_not_continued_with_other_points(tmp_path: Path) -> None:
    file = gap_file(tmp_path, beside=True)
    file.write_text(re.sub(' sparseX_md5sum="[^"]*"', "", file.read_text()))
    path, points = short_run(tmp_path), of_points(file)[1]
    simulate(path, tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["files"]
    assert [name for name in recorded if name.startswith("potential")] == [
        "potential", *(f"potential: {one.name}" for one in of_points(file)),
    ]  # fmt: skip
    assert recorded[f"potential: {points.name}"] == {"path": str(points), "sha256": sha256(points)}
    path.write_text(path.read_text().replace("20 fs", "24 fs"))
    before = points.read_text()
    points.write_text(before.replace("1.2", "1.3", 1))
    with pytest.raises(StorageError, match=rf"{points.name}: the content of .* is not what it was"):
        simulate(path, tmp_path / "run")
    points.write_text(before)
    simulate(path, tmp_path / "run")


def test_show_names_the_points_and_check_says_which_are_not_there(tmp_path: Path) -> None:
    file = gap_file(tmp_path, beside=True)
    path, points = short_run(tmp_path), of_points(file)
    assert facts_of(file)["files"] == [file.name, *(one.name for one in points)]
    assert "files" not in facts_of(gap_file(tmp_path, name="inside.xml"))
    answer = mlmd("check", str(path))
    assert answer.code == 0, answer.err
    points[3].unlink()
    answer = mlmd("check", str(path))
    assert answer.code == 2
    assert f"{points[3]} does not exist. Copy it from where the file is from." in answer.err.replace("\n", " ")
