"""SNAP: its formulas, its files, and LAMMPS with the same coefficients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import lammps_oracle
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from kernel_systems import system
from made_potentials import random_mtp
from random_snap import make_symmetric, random_snap

from mlmd.config import load_simulate, physics_hash
from mlmd.config.files import files_of_potential
from mlmd.descriptors.bispectrum import Bispectrum, Expansion, mirrored, wigner
from mlmd.descriptors.coupling import clebsch_gordan, components, coupled
from mlmd.descriptors.hyperspherical import wigner_weights
from mlmd.engine.run import simulate
from mlmd.errors import InputError, ModelError, StorageError
from mlmd.fitting.network import Network
from mlmd.neighbors import build_graph
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.load import build, load_potential, recognise
from mlmd.potentials.mtp import save as save_mtp
from mlmd.potentials.snap import load, save

BCC, FCC, DIAMOND = ("bcc", 3.2), ("fcc", 3.6), ("diamond", 5.4)
PUBLISHED = {
    "Ta06A": BCC,  # linear, 2J = 6
    "W_2940_2017_2": BCC,  # linear, 2J = 8
    "WBe_Wood_PRB2019": BCC,  # two elements
    "Mo_Chen_PRM2017": BCC,
    "Si_Zuo_JPCA2020": DIAMOND,
    "Ni_Zuo_JPCA2020": FCC,
    "Si_Zuo_JPCA2020.quadratic": DIAMOND,  # 2J = 8
    "Cu_Zuo_JPCA2020.quadratic": FCC,  # 2J = 6
    "Li_Zuo_JPCA2020.quadratic": BCC,
    "InP_JCPA2020": DIAMOND,  # two densities
}
"""Files that come with LAMMPS, and a crystal to try each on."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"switchflag": False},
    {"bzeroflag": False},
    {"bnormflag": True},
    {"rmin0": 0.8, "rfac0": 0.9},
    {"rmin0": 2.4},
    {"sinner": (2.1, 2.4), "dinner": (0.5, 0.3)},
    {"chemflag": True},
    {"chemflag": True, "wselfallflag": True, "bnormflag": True},
)
"""One thing each that is not LAMMPS' default."""


def disturbed(elements: tuple[str, ...], structure: str, constant: float) -> Atoms:
    """A sheared crystal off its places, of all elements."""
    crystal = bulk("X", structure, constant, cubic=True)
    crystal = crystal * ((2, 2, 2) if len(crystal) == 2 else (2, 2, 1))
    crystal.set_cell(crystal.cell.array @ [[1, 0.04, 0], [0, 0.98, 0.03], [0.02, 0, 1]], scale_atoms=True)
    crystal.rattle(0.1, seed=3)
    crystal.symbols = np.random.default_rng(4).choice(list(elements), len(crystal))
    return crystal


def assert_lammps_agrees(potential: LearnedPotential, path: Path, atoms: Atoms, *, forces: float = 1e-9) -> None:
    """Energies to 1e-9 eV, forces in eV/Å; by torch, and by the kernel where there is one."""
    files = f"{path} {path.with_suffix('.snapparam')}"
    expected = lammps_oracle.evaluate(atoms, potential.elements, "snap", f"* * {files} {' '.join(potential.elements)}")
    found = potential.predict(build_graph(atoms, potential.cutoff))
    assert found.energies is not None
    assert np.abs(found.energies.numpy() - expected.energies).max() < 1e-9
    assert np.abs(found.forces.numpy() - expected.forces).max() < forces
    assert np.abs(found.virial[0].numpy() - expected.virial).max() < 100 * forces
    fused = evaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    assert fused.energy == pytest.approx(expected.energy, abs=1e-9 * len(atoms))
    assert np.abs(fused.forces - expected.forces).max() < forces
    assert np.abs(fused.virial - expected.virial).max() < 100 * forces


@pytest.mark.parametrize("name", PUBLISHED)
def test_lammps_gives_the_same_for_published_potentials(name: str) -> None:
    path = lammps_oracle.potentials() / f"{name}.snapcoeff"
    potential = load(path)
    # the last digits of the coefficients of two densities are not those of `make_symmetric`
    forces = 1e-6 if potential.descriptor.n_densities > 1 else 1e-9
    assert_lammps_agrees(potential, path, disturbed(potential.elements, *PUBLISHED[name]), forces=forces)


def test_lammps_gives_the_same_for_an_alloy_of_four(shared: Path, tmp_path: Path) -> None:
    lammps_oracle.require_lammps()
    published = next((shared / "models_mvl" / "MoNbTaW").rglob("*.snapcoeff"))
    potential = load(published)
    path = tmp_path / "alloy.snapcoeff"
    path.write_bytes(published.read_bytes())
    # LAMMPS reads files with this line no more, mlmd does
    settings = published.with_suffix(".snapparam").read_text().replace("diagonalstyle 3", "")
    path.with_suffix(".snapparam").write_text(settings)
    assert_lammps_agrees(potential, path, disturbed(potential.elements, *BCC))


@pytest.mark.parametrize("name", ["tiny", "skewed", "slab", "cluster"])
def test_lammps_gives_the_same_in_any_cell(name: str, tmp_path: Path) -> None:
    lammps_oracle.require_lammps()
    potential, path = random_snap(("W", "Be"), 4), tmp_path / "made.snapcoeff"
    save(potential, path)
    assert_lammps_agrees(load(path), path, system(name, potential.elements, 2.5))


def computed(atoms: Atoms, descriptor: Bispectrum) -> np.ndarray:
    """(n_atoms, n_features) of LAMMPS' ``compute sna/atom`` with the settings of a descriptor."""
    given, n = descriptor.expansion, len(descriptor.elements)
    words: list[object] = ["sna/atom", given.rcutfac, given.rfac0, given.twojmax]
    words += [*descriptor.radii, *descriptor.weights, "rmin0", given.rmin0]
    for flag in ("bzeroflag", "switchflag", "bnormflag"):
        words += [flag, int(getattr(given, flag))]
    if given.chemflag:
        words += ["chem", n, *range(n), "wselfallflag", int(given.wselfallflag)]
    if given.sinner:
        words += ["switchinnerflag", 1, "sinner", *given.sinner, "dinner", *given.dinner]
    return lammps_oracle.of_atoms(atoms, descriptor.elements, " ".join(map(str, words)), descriptor.cutoff)


@pytest.mark.parametrize("name", ["tiny", "skewed", "slab", "cluster"])
@pytest.mark.parametrize("settings", [{}, *SETTINGS], ids=str)
def test_components_are_those_of_lammps(settings: dict[str, Any], name: str) -> None:
    lammps_oracle.require_lammps()
    potential = random_snap(("W", "Be"), 6, **settings)
    # no two atoms are closer than any rmin0, where LAMMPS jumps: components of odd j1 + j2 + j change their sign
    atoms = system(name, potential.elements, 3.0)
    ours = potential.descriptor.features(build_graph(atoms, potential.cutoff)).numpy()
    theirs = computed(atoms, potential.descriptor)
    assert ours.shape == theirs.shape
    # sums of thousands of products
    assert np.abs(ours - theirs).max() < 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
def test_lammps_gives_the_same_with_every_setting(settings: dict[str, Any], quadratic: bool, tmp_path: Path) -> None:
    lammps_oracle.require_lammps()
    potential, path = random_snap(("W", "Be"), 4, quadratic=quadratic, **settings), tmp_path / "made.snapcoeff"
    make_symmetric(potential)
    save(potential, path)
    again = load(path)
    assert again.spec() == potential.spec()
    assert_lammps_agrees(again, path, disturbed(potential.elements, *BCC))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
def test_what_is_written_is_read_again_to_the_last_bit(quadratic: bool, precision: str, tmp_path: Path) -> None:
    inner = {"sinner": (2.1, 2.4), "dinner": (1 / 3, 0.3)}
    potential = random_snap(("W", "Be"), 4, precision, quadratic=quadratic, rfac0=0.1 + 0.2, **inner)
    save(potential, tmp_path / "made.snapcoeff")
    again = load(tmp_path / "made.snapcoeff", precision=precision)
    assert again.spec() == potential.spec()
    for name in ("coefficients", "constants"):
        assert torch.equal(getattr(again.regressor, name), getattr(potential.regressor, name))


def test_every_setting_is_written_whatever_its_default(files: Path) -> None:
    # defaults of another version of LAMMPS must not change the potential
    written = {line.split()[0] for line in files.with_suffix(".snapparam").read_text().splitlines()[1:]}
    assert written == {field.name for field in fields(Expansion)} - {"sinner", "dinner"} | {
        "quadraticflag",
        "switchinnerflag",
    }


def test_lammps_refuses_what_is_written_in_other_units(files: Path) -> None:
    lammps_oracle.require_lammps()
    atoms = Atoms("WBe", [[0, 0, 0], [2.4, 0, 0]])
    coefficients = f"* * {files} {files.with_suffix('.snapparam')} W Be"
    files.write_text(files.read_text().replace("UNITS: metal", "UNITS: real", 1))
    with pytest.raises(Exception, match="requires real units"):
        lammps_oracle.evaluate(atoms, ["W", "Be"], "snap", coefficients)


def test_only_a_snap_that_is_linear_is_written(files: Path) -> None:
    before = files.read_bytes()
    with pytest.raises(
        InputError, match=r"linear fit of snap can be .* this is mtp with linear. It can be written as \.mtp\.$"
    ):
        save(random_mtp(("Si",), 4), files)
    with pytest.raises(InputError, match=r"linear fit of mtp can be .* this is snap with linear. .* as \.snapcoeff\.$"):
        save_mtp(load(files), files.with_name("other.mtp"))
    network = Network(n_features=load(files).descriptor.n_features, n_kinds=2, n_neurons=(3,))
    with pytest.raises(InputError, match=r"this is snap with network\. It remains a \.mlmd file\.$"):
        save(LearnedPotential(load(files).descriptor, network), files)
    with pytest.raises(InputError, match=r"other.txt: .* ends in .snapcoeff"):
        save(load(files), files.with_name("other.txt"))
    assert files.read_bytes() == before


def test_clebsch_gordan_coefficients_are_orthogonal() -> None:
    for j1, j2 in ((3, 2), (8, 8), (7, 4)):
        tables = [clebsch_gordan(j1, j2, j).flatten(0, 1) for j in coupled(j1, j2, j1 + j2)]
        matrix = torch.cat(tables, dim=1)
        assert torch.allclose(matrix.T @ matrix, torch.eye(matrix.shape[1], dtype=torch.float64), atol=1e-12)
    half = 0.5**0.5
    assert torch.allclose(clebsch_gordan(1, 1, 0)[:, :, 0], torch.tensor([[0, -half], [half, 0]], dtype=torch.float64))


def test_wigner_matrices_represent_rotations() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    a, b = torch.complex(x[:, 0], x[:, 1]), torch.complex(x[:, 2], x[:, 3])
    # the product of two rotations, from the last row of their 2 x 2 matrices (conj(a), -conj(b); b, a)
    a_both, b_both = a[0] * a[1] - b[0].conj() * b[1], b[0] * a[1] + a[0].conj() * b[1]
    parts = wigner(torch.cat([a, a_both[None]]), torch.cat([b, b_both[None]]), 8)
    for j, half in enumerate(parts):
        first, second, both = torch.cat([half, mirrored(half)]).permute(2, 0, 1)
        assert torch.allclose(first @ first.conj().T, torch.eye(j + 1, dtype=first.dtype), atol=1e-12)
        assert torch.allclose(second @ first, both, atol=1e-12)


def test_wigner_matrices_are_sums_of_hyperspherical_harmonics() -> None:
    c, x, y, z = torch.nn.functional.normalize(torch.randn(4, 5, dtype=torch.float64), dim=0)
    sine = (1 - c * c).sqrt()

    def gegenbauer(n: int, order: float, x: torch.Tensor) -> torch.Tensor:
        before, now = torch.zeros_like(x), torch.ones_like(x)
        for k in range(n):
            step = k * (k + 2 * order - 1) / (4 * (k + order) * (k + order - 1)) if k else 0.0
            before, now = now, x * now - step * before
        return now

    def harmonic(l: int, m: int) -> torch.Tensor:  # noqa: E741
        around = torch.complex(x, y if m > 0 else -y) / sine
        return gegenbauer(l - abs(m), abs(m) + 0.5, z / sine) * around ** abs(m)

    for j, u in enumerate(wigner(torch.complex(c, -z), torch.complex(y, -x), 6)):
        for row in range(j // 2 + 1):
            for column in range(j + 1):
                total, m = torch.zeros_like(u[0, 0]), row - column
                for l, weight in enumerate(wigner_weights(j, row, column), start=abs(m)):  # noqa: E741
                    radial = sine**l * gegenbauer(j - l, l + 1, c)
                    total = total + (-1j) ** l * weight * radial * harmonic(l, m)
                assert torch.allclose(u[row, column], total, atol=1e-12)


def test_there_are_as_many_components_as_the_paper_says() -> None:
    # Thompson et al., J. Comput. Phys. 285, 316, 2015, section 2.1
    assert [len(components(twojmax)) for twojmax in (0, 2, 4, 6, 8)] == [1, 5, 14, 30, 55]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A `.snapcoeff` file, with its `.snapparam`."""
    path = tmp_path / "made.snapcoeff"
    save(random_snap(("W", "Be"), 2), path)
    return path


def test_a_file_is_recognised_by_what_is_in_it(files: Path, tmp_path: Path) -> None:
    other = tmp_path / "without_suffix"
    other.write_text("# a comment\n\n" + files.read_text())
    assert recognise(other) == "snap"
    potential = build("snap", {"path": other, "parameters": files.with_suffix(".snapparam"), "precision": "float32"})
    assert potential.elements == ("W", "Be")
    assert potential.descriptor.weight.dtype == torch.float32


def test_a_run_knows_the_parameters_of_a_file_of_coefficients(files: Path, tmp_path: Path) -> None:
    beside = files.with_suffix(".snapparam")
    assert files_of_potential(files) == [files, beside]
    assert files_of_potential(beside) == [beside]
    other = beside.rename(tmp_path / "other.snapparam")
    assert files_of_potential(files) == [files]
    assert files_of_potential(files, {"parameters": str(other)}) == [files, other]


def test_a_run_is_not_continued_with_other_parameters(files: Path) -> None:
    path, parameters = short_run(files, ""), files.with_suffix(".snapparam")
    simulate(path, files.parent / "run")
    named = json.loads((files.parent / "run/run.json").read_text())["files"]["potential: made.snapparam"]
    assert Path(named["path"]) == parameters
    parameters.write_text(parameters.read_text() + "# changed\n")
    path.write_text(path.read_text().replace("2 fs", "4 fs"))
    with pytest.raises(StorageError, match=r"made\.snapparam: the content of .* is not what it was"):
        simulate(path, files.parent / "run")


def test_parameters_count_from_the_input_and_may_move_with_it(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.with_suffix(".snapparam").rename(tmp_path / "other.snapparam")
    config = load_simulate(short_run(files, ', parameters = "other.snapparam"'))
    monkeypatch.chdir("/")
    assert load_potential(config.potential).elements == ("W", "Be")
    (moved := tmp_path / "moved").mkdir()
    again = load_simulate((tmp_path / "in.toml").rename(moved / "in.toml"))
    assert again.potential != config.potential
    assert physics_hash(again) == physics_hash(config)


def short_run(files: Path, options: str) -> Path:
    """An input beside a file of coefficients: two steps of two atoms."""
    Atoms("WBe", [[0, 0, 0], [2.4, 0, 0]]).write(files.parent / "pair.extxyz")
    path = files.parent / "in.toml"
    path.write_text(
        'structure = "pair.extxyz"\ntimestep = "1 fs"\nseed = 1\nvelocities = "300 K"\n'
        f'potential = {{ path = "{files.name}"{options} }}\n'
        '[guard]\nenabled = false\n[[stage]]\nkind = "nve"\nduration = "2 fs"\n'
    )
    return path


def test_elements_may_be_chosen_and_ordered(files: Path) -> None:
    both, turned, one = load(files), load(files, elements=["Be", "W"]), load(files, elements=["Be"])
    atoms = Atoms("Be3", [[0, 0, 0], [2, 0.3, 0], [0.1, 2, 0.2]])
    energies = [float(one.predict(build_graph(atoms, one.cutoff)).energy) for one in (both, turned, one)]
    assert energies == pytest.approx([energies[0]] * 3, rel=1e-14)
    assert one.cutoff < both.cutoff


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("2 6", "2 6 1"), r"line 2: '2 6 1' is not a number of elements"),
        (replaced("2 6", "3 6"), r"line 16: '' is not an element"),
        (replaced("2 6", "2 7"), r"line 10: 'Be .*' after 6 of 7 coefficients of W"),
        (replaced("Be 0.45", "Be 0.45 0.1"), r"line 10: .* is not an element with radius and weight"),
        (replaced("Be 0.45", "Be nan"), r"line 10: 'nan' is not a finite number"),
        (replaced("Be 0.45", "Be -0.45"), r"positive radius \(0.5, -0.45\)"),
        (replaced("Be 0.45", "W 0.45"), r"element W is given twice"),
        (lambda text: text[: 2 * len(text) // 3], r"truncated or damaged"),
        (lambda text: text + "1.0\n", r"line 17: '1.0' after the last coefficient"),
    ],
)
def test_damaged_coefficients_are_refused(files: Path, change: Callable[[str], str], message: str) -> None:
    files.write_text(change(files.read_text()))
    with pytest.raises(ModelError, match=message):
        load(files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("twojmax", "twojmx"), r"line 3: 'twojmx' is not a parameter of SNAP. Did you mean 'twojmax'"),
        (replaced("twojmax 2", ""), "twojmax must be given"),
        (replaced("twojmax 2", "twojmax 2.5"), r"line 3: twojmax = '2.5' is not possible"),
        (replaced("twojmax 2", "twojmax 40"), r"twojmax = 40 is not between"),
        (replaced("twojmax 2", "twojmax 4"), r"W has 6 coefficients; a linear function of 14 .* has 15"),
        (replaced("quadraticflag 0", "quadraticflag 1"), r"a quadratic function of 5 bispectrum components has 21"),
        (replaced("quadraticflag 0", "quadraticflag yes"), r"quadraticflag = 'yes' is not possible"),
        (replaced("rfac0 0.99363", "rfac0 -1"), r"rfac0 = -1 is not above 0"),
        (replaced("rmin0 0.0", "rmin0 4.5"), r"rmin0 = 4.5 Å is not below the smallest cutoff"),
        (replaced("rmin0 0.0", "rmin0 0 1"), r"rmin0 needs one value, 2 were given"),
        (replaced("switchinnerflag 0", "switchinnerflag 1"), r"switchinnerflag 1 needs sinner and dinner"),
        (replaced("switchinnerflag 0", "switchinnerflag 1\nsinner 1\ndinner 1"), r"need 2 numbers each"),
        (replaced("twojmax 2", "twojmax 2\ntwojmax 2"), r"line 4: twojmax is given twice"),
        (replaced("twojmax 2", "twojmax 2\ndiagonalstyle 2"), r"diagonalstyle = '2' is not possible"),
    ],
)
def test_impossible_parameters_are_refused(files: Path, change: Callable[[str], str], message: str) -> None:
    parameters = files.with_suffix(".snapparam")
    parameters.write_text(change(parameters.read_text()))
    with pytest.raises(ModelError, match=message):
        load(files)


def test_what_is_missing_is_named(files: Path) -> None:
    with pytest.raises(InputError, match=r"has no Li, it has W, Be"):
        load(files, elements=["Li"])
    with pytest.raises(InputError, match=r"absent.snapparam: does not exist"):
        load(files, parameters=files.with_name("absent.snapparam"))
    files.with_suffix(".snapparam").unlink()
    with pytest.raises(InputError, match=r"needs its parameters: .*made.snapparam does not exist"):
        load(files)
    with pytest.raises(InputError, match="does not exist"):
        load(files.with_name("absent.snapcoeff"))
