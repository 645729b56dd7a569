"""Embedded-atom potentials: their files, their splines, LAMMPS, and published crystals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from classical import embedded
from lammps_oracle import evaluate, potentials

from mlmd.errors import InputError, ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.eam import EAM, cubics, load
from mlmd.potentials.load import recognise
from mlmd.potentials.setfl import read

FILES = (
    ("Cu_u3.eam", "eam", ("Cu",)),
    ("Cu_mishin1.eam.alloy", "eam/alloy", ("Cu",)),
    ("CuNi.eam.alloy", "eam/alloy", ("Ni", "Cu")),
    ("NiAlH_jea.eam.alloy", "eam/alloy", ("Ni", "Al", "H")),
    ("NiAlH_jea.eam.fs", "eam/fs", ("Ni", "Al", "H")),
    ("AlFe_mm.eam.fs", "eam/fs", ("Al", "Fe")),
    ("FeP_mm.eam.fs", "eam/fs", ("Fe", "P")),
)


def metal(elements: tuple[str, ...], constant: float) -> Atoms:
    """A strained fcc crystal of 32 atoms off their places, elements at random."""
    generator = np.random.default_rng(1)
    atoms = bulk("Cu", a=constant, cubic=True) * 2
    atoms.symbols = generator.choice(elements, len(atoms))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + generator.normal(0, 0.05, (3, 3))), scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.mark.parametrize("constant", [3.7, 2.8], ids=["near equilibrium", "above the densities of the table"])
@pytest.mark.parametrize(("file", "style", "elements"), FILES, ids=[one[0] for one in FILES])
def test_energies_forces_and_stress_are_those_of_lammps(
    file: str, style: str, elements: tuple[str, ...], constant: float
) -> None:
    path = potentials() / file
    potential, atoms = load(path), metal(elements, constant)
    assert potential.elements == elements
    found = potential.predict(build_graph(atoms, potential.cutoff))
    expected = evaluate(atoms, elements, style, f"* * {path} {'' if style == 'eam' else ' '.join(elements)}")
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.virial[0], expected.virial, rtol=0, atol=1e-6 * len(atoms))


def test_copper_of_foiles_has_its_published_cohesive_energy() -> None:
    potential = load(potentials() / "Cu_u3.eam")
    crystal = bulk("Cu", a=3.615)
    assert float(potential.predict(build_graph(crystal, potential.cutoff)).energy) == pytest.approx(-3.54, abs=5e-7)


def test_files_are_recognised_by_their_content(tmp_path: Path) -> None:
    copy = tmp_path / "anything.txt"
    for file, _, _ in FILES:
        copy.write_bytes((potentials() / file).read_bytes())
        assert recognise(copy) == "eam"


def test_cubics_go_through_the_values_and_are_smooth() -> None:
    values = np.random.default_rng(1).normal(size=9)
    a, b, c, d = cubics(values).unbind(-1)
    np.testing.assert_allclose(a, values[:-1])
    np.testing.assert_allclose(a + b + c + d, values[1:], atol=1e-12)
    np.testing.assert_allclose((b + 2 * c + 3 * d)[:-1], b[1:], atol=1e-12)


def test_cubics_repeat_a_quadratic_function_inside() -> None:
    x = np.arange(12.0)
    middle = cubics(3 - 2 * x + 0.5 * x**2)[2:-2, :] @ torch.tensor([1, 0.5, 0.25, 0.125], dtype=torch.float64)
    np.testing.assert_allclose(middle, [3 - 2 * t + 0.5 * t**2 for t in x[2:-3] + 0.5], atol=1e-12)


def test_an_alloy_is_the_special_case_of_finnis_and_sinclair_with_equal_receivers() -> None:
    alloy, atoms = embedded(), metal(("Cu", "Ni"), 3.6)
    same = EAM.restore(alloy.spec(), {**alloy.state_dict(), "density": alloy.density.expand(-1, 2, -1, -1)})
    graph = build_graph(atoms, alloy.cutoff)
    assert torch.equal(same.predict(graph).forces, alloy.predict(graph).forces)


def test_a_model_file_holds_the_tables(tmp_path: Path) -> None:
    potential = load(potentials() / "CuNi.eam.alloy", precision="float32")
    modelfile.save(potential, tmp_path / "CuNi.mlmd")
    again = modelfile.load(tmp_path / "CuNi.mlmd", precision="float32")
    assert isinstance(again, EAM)
    assert again.dtype == torch.float32
    assert again.spec() == potential.spec()


def setfl(n_rho: int = 6, n_r: int = 7, *, n_values: int | None = None) -> str:
    """A small file of one element."""
    count = n_rho + 2 * n_r if n_values is None else n_values
    return f"a\nb\nc\n1 Cu\n{n_rho} 0.1 {n_r} 0.5 3.0\n29 63.5 3.6 fcc\n" + "\n".join(["0.5"] * count) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-4], "line 25: the tables have 23 entries, 24 are needed.*truncated"),
        (lambda text: text + "1.0", "line 27: the tables have 25 entries.*of another kind"),
        (lambda text: text.replace("0.5\n0.5\n", "0.5\n0,5\n", 1), "line 8: '0,5' in F of Cu is not a finite"),
        (lambda text: text.replace("0.5\n0.5\n", "0.5\nnan\n", 1), "line 8: 'nan' in F of Cu is not a finite"),
        (lambda text: text.replace("1 Cu", "1 Qq"), "line 4: 'Qq' is not a chemical element"),
        (lambda text: text.replace("1 Cu", "2 Cu"), "not an EAM file"),
        (lambda text: text.replace(" 0.5 3.0", " -0.5 3.0"), "line 5: d_rho, d_r and cutoff must be positive"),
        (lambda text: text.replace("6 0.1", "3 0.1"), "line 5: n_rho = 3"),
        (lambda text: text.replace("6 0.1", "6 x"), "line 5: .* is not n_rho d_rho n_r d_r cutoff"),
        (lambda _: "", "not an EAM file"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = tmp_path / "x.eam.alloy"
    path.write_text(change(setfl()))
    with pytest.raises(ModelError, match=rf"x\.eam\.alloy: .*{message}"):
        read(path)


def test_a_file_that_is_not_there_is_an_error_of_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "no.eam")


def test_an_undamaged_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(setfl())
    assert read(path).embedding.tolist() == [[0.5] * 6]
