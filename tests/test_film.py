"""Films: lattices, layers, surfaces and faces are found where they are known, and growth is counted exactly."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from scipy.stats import binom
from slabs import STAGE, argon_slab, book, deposit_input

from mlmd.analysis.common_neighbours import structure_types
from mlmd.analysis.deposition import deposition
from mlmd.analysis.deposition_notes import of_arrivals, of_the_lattice
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.growth_rate import growth_rate
from mlmd.analysis.height_map import height_map
from mlmd.analysis.layers import kernel_for, layer_spacing, layers_along, top_layer
from mlmd.analysis.sticking import Sticking, sticking
from mlmd.analysis.surface_similarity import FACES, lattice_constant, surface_similarity
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.growing import open_growing_file, open_growth
from mlmd.report import write_report
from mlmd.rundir import open_run

LABELLED = Path(__file__).with_name("common_neighbours.extxyz")
"""Rattled fcc, bcc, hcp, an icosahedron and a slab; `ovito` is its adaptive common neighbour analysis (OVITO 3.17)."""
A = {"fcc": 3.62, "bcc": 3.5}
BARE = ase.build.fcc100("Cu", (4, 4, 4), a=A["fcc"], periodic=False)
BARE = ase.Atoms(BARE.numbers, BARE.positions, cell=[*BARE.cell.array[:2], [0.0, 0.0, 60.0]], pbc=(True, True, False))
SPACING = A["fcc"] / 2


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def site(layer: int, number: int) -> np.ndarray:
    """Position of a place in a layer (1 is the first above the slab), which continues the crystal."""
    lower = BARE.positions.reshape(4, 16, 3)[3 - layer % 2]
    return np.array([*lower[number, :2], (3 + layer) * SPACING])


def grow(path: Path, rng: np.random.Generator, per_frame: int = 2, drift: float = 0.0) -> Path:
    """48 atoms come to lattice places, layer after layer, and one flies far above, in every frame."""
    frames = []
    for frame in range(1 + 48 // per_frame):
        n_there = frame * per_frame
        added = [site(1 + number // 16, number % 16) for number in range(n_there)]
        flying = np.array([[0.0, 0.0, 30.0]])
        positions = np.concatenate([BARE.positions, flying, np.reshape(added, (-1, 3))])[
            : len(BARE) + n_there + (frame > 0)
        ]
        positions = positions + [0.0, 0.0, drift * frame] + 0.02 * rng.normal(size=positions.shape)
        atoms = ase.Atoms(f"Cu{len(positions)}", positions, cell=BARE.cell.array, pbc=BARE.pbc)
        atoms.set_array("id", np.arange(len(atoms)))
        shuffled = rng.permutation(len(atoms))
        frames.append(atoms[shuffled])
    ase.io.write(path, frames, format="extxyz")
    return path


def test_structure_types_are_those_of_ovito() -> None:
    for atoms in ase.io.iread(LABELLED, index=":"):
        found = structure_types(atoms.positions, atoms.cell.array, atoms.pbc)
        assert np.array_equal(found, atoms.arrays["ovito"])


def test_layers_are_counted_until_their_atoms_overlap(rng: np.random.Generator) -> None:
    heights = np.repeat(1.5 * np.arange(8), 50)
    found = layers_along(heights + 0.2 * rng.normal(size=400), 1, 0.3)
    assert found.n_layers == 8
    assert np.abs(found.edges[1:-1] - (0.75 + 1.5 * np.arange(7))).max() < 0.25  # of 50 atoms on both sides
    assert np.trapezoid(found.density, found.heights) == pytest.approx(400, rel=1e-6)
    assert layers_along(heights + 1.0 * rng.normal(size=400), 1, 0.3).n_layers < 4  # 2 √(1.0² + 0.3²) > 1.5


LOW_INDEX = {
    "fcc100": 16, "fcc110": 16, "fcc111": 16, "bcc100": 16, "bcc110": 16, "bcc111": 16,
}  # fmt: skip
"""Atoms of a layer of 4 x 4 cells: all faces have one atom in a cell."""


@pytest.mark.parametrize("face", LOW_INDEX)
def test_a_monolayer_is_the_top_layer_of_every_low_index_face_cold_and_warm(
    face: str, rng: np.random.Generator
) -> None:
    element, a = ("Cu", 3.62) if face.startswith("fcc") else ("Fe", 2.87)
    atoms = getattr(ase.build, face)(element, (4, 4, 9), a=a, vacuum=8)
    for displacement in (0.0, 0.1):  # of copper at 300 K
        heights = atoms.positions[:, 2] + displacement * rng.normal(size=len(atoms))
        top = top_layer(heights)
        assert np.flatnonzero(top).tolist() == list(range(8 * 16, 9 * 16))
    with_adatoms = np.append(heights, heights.max() + np.array([0.9, 1.0, 2.6]))
    assert np.array_equal(np.flatnonzero(top_layer(with_adatoms)), np.flatnonzero(top))


def test_a_glass_has_no_monolayer_and_a_sheet_is_one(rng: np.random.Generator) -> None:
    assert top_layer(0.4 * rng.random(32)).all()
    with pytest.raises(InputError, match="no layers along z"):
        top_layer(12.0 * rng.random(3000))


@pytest.mark.parametrize("face", LOW_INDEX)
def test_the_kernel_that_is_taken_tells_the_layers_of_every_low_index_face_apart(
    face: str, rng: np.random.Generator
) -> None:
    element, a = ("Cu", 3.62) if face.startswith("fcc") else ("Fe", 2.87)
    atoms = getattr(ase.build, face)(element, (4, 4, 9), a=a, vacuum=8)
    width = kernel_for(layer_spacing(atoms.positions[:, 2]))
    # less than SCATTER, at which minima are as deep as they have to be: 320 atoms of a layer tell them to a tenth
    frames = atoms.positions[:, 2] + 0.18 * rng.normal(size=(20, len(atoms)))
    assert layers_along(frames.ravel(), 20, width).n_layers == 9
    # (0.3 · 0.83 Å)² - (0.2 Å)², of a distance that is known to 0.02 Å
    assert width == pytest.approx(0.148 if face == "bcc111" else 0.3, abs=0.01)


def iron_on_iron(path: Path, rng: np.random.Generator) -> Path:
    """Two layers on the (111) face of bcc iron, 0.83 Å apart, all at once."""
    whole = ase.build.bcc111("Fe", (4, 4, 9), a=2.87, periodic=False)
    whole = whole[np.argsort(whole.positions[:, 2], kind="stable")]
    whole.set_cell([*whole.cell.array[:2], [0.0, 0.0, 60.0]])
    whole.pbc = (True, True, False)
    whole.info.clear()
    whole.set_array("id", np.arange(len(whole)))
    grown = whole.copy()
    grown.positions += 0.1 * rng.normal(size=grown.positions.shape)
    ase.io.write(path, [whole[: 7 * 16], grown], format="extxyz")
    return path


def test_layers_of_111_of_bcc_are_told_apart_and_look_like_it(tmp_path: Path, rng: np.random.Generator) -> None:
    film = open_growing_file(iron_on_iron(tmp_path / "film.extxyz", rng), interval=1000.0)
    result = deposition(film, last=1)
    grown = [layer for layer in result.layers if layer.number > 0]
    assert [layer.filling.value for layer in grown] == [1.0, 1.0] and result.monolayer == 16
    assert [layer.face for layer in grown] == ["111", "111"]
    assert "layers of the slab are 0.83 Å apart: cut by a kernel of 0.15 Å" in result.notes
    merged = deposition(film, last=1, kernel=0.3)
    (only,) = merged.layers
    assert only.similarity and only.face is None
    assert any("lower the kernel" in note for note in merged.notes)
    assert any("0, are several that move across each other" in note for note in merged.notes)
    assert not any("several" in note for note in result.notes)


def test_the_height_map_is_the_highest_ball_at_every_point_of_a_skew_cell(rng: np.random.Generator) -> None:
    cell = np.array([[9.0, 0.0, 0.0], [4.0, 8.0, 0.0], [0.0, 0.0, 30.0]])
    positions = rng.random((40, 3)) @ np.diag([1, 1, 0.2]) @ cell + [20.0, -30.0, 0.0]
    found = height_map(positions, cell, 2.5, 0.7)
    n_a, n_b = found.heights.shape
    images = np.array([[i, j] for i in range(-8, 9) for j in range(-8, 9)]) @ cell[:2, :2]
    for a, b in ((0, 0), (3, 5), (n_a - 1, n_b - 1), (7, 2)):
        point = np.array([a / n_a, b / n_b]) @ cell[:2, :2]
        apart = positions[:, None, :2] + images - point
        square = 2.5**2 - (apart**2).sum(axis=-1)
        reached = positions[:, 2][:, None] + np.sqrt(np.where(square > 0, square, np.nan))
        expected = np.nan if np.isnan(reached).all() else np.nanmax(reached)
        assert found.heights[a, b] == pytest.approx(expected, nan_ok=True)


def test_two_terraces_are_as_rough_as_half_a_step() -> None:
    flat = ase.build.fcc100("Cu", (40, 4, 1), a=A["fcc"], vacuum=5).positions
    cell = np.diag([40 * A["fcc"] / math.sqrt(2), 4 * A["fcc"] / math.sqrt(2), 30.0])
    step = 20.0
    raised = flat + np.where(np.arange(len(flat))[:, None] % 40 < 20, [0.0, 0.0, step], 0.0)
    own = height_map(flat, cell, 2.56, 0.3).roughness
    assert 0.05 < own < 0.3  # the corrugation of a flat face: 0.29 of a bond from top to hollow
    # the two edges of the upper terrace are as broad as a ball, 2 × 2.56 of 102 Å
    assert height_map(raised, cell, 2.56, 0.3).roughness == pytest.approx(math.hypot(own, step / 2), rel=0.02)


def slab(lattice: str, face: str) -> ase.Atoms:
    """Six layers of 36 atoms."""
    atoms: ase.Atoms = getattr(ase.build, lattice + face)("Li", (6, 6, 6), a=A[lattice], vacuum=8)
    return atoms


def likeness(atoms: ase.Atoms, lattice: str, width: float, top: np.ndarray) -> dict[str, float]:
    found = surface_similarity(
        atoms.positions[top], atoms.positions[~top], atoms.cell.array, lattice=lattice,
        constant=1.02 * A[lattice], width=width,
    )  # fmt: skip
    return {face: one.similarity for face, one in found.items()}


@pytest.mark.parametrize("lattice", ["bcc", "fcc"])
@pytest.mark.parametrize("face", FACES)
def test_a_layer_looks_like_its_own_face_also_when_its_atoms_are_displaced(
    lattice: str, face: str, rng: np.random.Generator
) -> None:
    atoms = slab(lattice, face)
    heights = np.unique(atoms.positions[:, 2].round(3))
    top, width = atoms.positions[:, 2] > heights[-1] - 0.1, float(np.diff(heights)[-1])
    perfect = likeness(atoms, lattice, width, top)
    assert perfect[face] == pytest.approx(1.0, abs=1e-4)  # the strain is searched to 5e-4
    assert max(perfect, key=lambda one: perfect[one]) == face
    atoms.positions += 0.2 * rng.normal(size=atoms.positions.shape)
    displaced = likeness(atoms, lattice, width, top)
    assert max(displaced, key=lambda one: displaced[one]) == face


def test_a_gas_looks_like_no_face(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Li370", 20.0 * rng.random((370, 3)), cell=[20.0, 20.0, 60.0])
    found = likeness(atoms, "bcc", 2.5, atoms.positions[:, 2] > 17.5)
    assert max(found.values()) < 0.6


def test_the_lattice_constant_is_that_of_the_bond() -> None:
    for lattice, a in A.items():
        distances = ase.build.bulk("Li", lattice, a).repeat(3).get_all_distances(mic=True)
        assert lattice_constant(lattice, distances[distances > 0].min()) == pytest.approx(a)


def test_layers_are_whole_numbers_in_the_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    result = deposition(open_growing_file(grow(tmp_path / "film.extxyz", rng), interval=1000.0), last=1)
    one = next(layer for layer in result.layers if layer.similarity)
    layers = tuple(layer if layer is one else replace(layer, similarity={}) for layer in result.layers)
    axes = replace(result, layers=layers).figure().axes[4]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [one.number]


def test_growth_on_lattice_places_is_counted_exactly(tmp_path: Path, rng: np.random.Generator) -> None:
    growth = open_growing_file(grow(tmp_path / "film.extxyz", rng), interval=1000.0)
    result = deposition(growth, last=1)
    assert result.monolayer == 16
    assert np.allclose(result.course.coverage, 2 * np.arange(25) / 16)
    assert result.course.flying.tolist() == [0.0] + [1.0] * 24
    assert result.rate.value == pytest.approx(2 / 16 * 1e3)  # ML/ns, two atoms every picosecond
    assert result.rate.error < 1e-6
    assert [layer.number for layer in result.layers] == [*range(-3, 4)]
    third = result.course.filling[:, -1]
    assert np.allclose(third, np.clip((2 * np.arange(25) - 32) / 16, 0, 1))
    # of a flat (100) of fcc the upper layer has 8 neighbours, and all below it 12
    assert [round(layer.coordination.value, 6) for layer in result.layers] == [8, *[12] * 5, 8]
    assert [layer.structures["fcc"].value for layer in result.layers] == [0, *[1] * 5, 0]
    assert {layer.face for layer in result.layers if layer.number >= 0} == {"100"}
    assert result.exposed.value == 16
    (grain,) = result.grains
    assert len(grain.atoms) == 5 * 16 and grain.face[0] == "100"
    assert result.thickness.value == pytest.approx(3 * SPACING, abs=0.05)
    assert result.roughness.value == pytest.approx(result.bare_roughness, abs=0.05)


def test_a_slab_wrapped_across_the_cell_is_the_same_slab(tmp_path: Path, rng: np.random.Generator) -> None:
    path = grow(tmp_path / "film.extxyz", rng, 16, drift=7.0)
    frames = ase.io.read(path, index=":")
    for atoms in frames:
        atoms.pbc = True
        atoms.cell[2] = [2.0, 1.0, 60.0]
    ase.io.write(tmp_path / "whole.extxyz", frames, format="extxyz")
    for atoms in frames:
        atoms.positions[:, 2] -= 2.5  # two layers of four are above the border
        atoms.wrap()
    ase.io.write(tmp_path / "wrapped.extxyz", frames, format="extxyz")
    whole, wrapped = (
        deposition(open_growing_file(tmp_path / f"{name}.extxyz", interval=1000.0), last=2, lattice="none")
        for name in ("whole", "wrapped")
    )
    assert wrapped.monolayer == 16 and np.allclose(wrapped.course.coverage, [0, 1, 2, 3])
    # the height map's grid begins at the origin, where the atoms are not the same: 0.4 Å of corrugation
    assert wrapped.thickness.value == pytest.approx(whole.thickness.value, abs=0.05)
    assert wrapped.roughness.value == pytest.approx(whole.roughness.value, abs=0.05)
    assert [one.filling.value for one in wrapped.layers] == [one.filling.value for one in whole.layers]


def write_dump(path: Path, frames: list[list[int]], columns: str = "id element xs ys zs ix iy iz") -> Path:
    """A text dump of atoms in these orders; who has the number k is at (k, 0, k) Å in a cell of 10 Å from -1 Å."""
    lines = []
    for step, ids in enumerate(frames):
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(ids))]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *["-1 9"] * 3, f"ITEM: ATOMS {columns}"]
        for one in ids:
            place = (one + 1) / 10
            told = {"id": one, "element": "Cu", "xs": place, "ys": 0.1, "zs": place - 1, "ix": 0, "iy": 0, "iz": 1}
            lines.append(" ".join(str(told[word]) for word in columns.split()))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_atoms_of_a_dump_keep_their_identity_when_one_leaves(tmp_path: Path) -> None:
    growth = open_growing_file(write_dump(tmp_path / "a.lammpstrj", [[1, 2, 3], [5, 1, 3]]), interval=1.0)
    for moment, ids in zip(growth.moments(), ([1, 2, 3], [5, 1, 3]), strict=True):
        assert moment.ids.tolist() == ids and moment.numbers.tolist() == [29] * 3
        assert np.allclose(moment.positions, [[one, 0.0, one] for one in ids])
        assert np.allclose(moment.cell, 10.0 * np.eye(3)) and moment.pbc.all()


def test_atoms_without_identities_may_come_but_not_go(tmp_path: Path) -> None:
    columns = "element xs ys zs ix iy iz"
    path = write_dump(tmp_path / "a.lammpstrj", [[1, 2], [1, 2, 3]], columns)
    assert [len(one.ids) for one in open_growing_file(path, interval=1.0).moments()] == [2, 3]
    with pytest.raises(InputError, match="frame 2 has 2 atoms, the one before 3, and its atoms have no id"):
        open_growing_file(write_dump(path, [[1, 2], [1, 2, 3], [1, 3]], columns), interval=1.0)
    bare = [ase.Atoms("Cu2"), ase.Atoms("Cu")]
    ase.io.write(tmp_path / "a.extxyz", bare, format="extxyz")
    ase.io.write(tmp_path / "a.traj", bare)
    for name in ("a.extxyz", "a.traj"):
        with pytest.raises(InputError, match="no id"):
            open_growing_file(tmp_path / name, interval=1.0)


def test_an_adatom_at_the_beginning_is_no_monolayer(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = ase.io.read(grow(tmp_path / "film.extxyz", rng, 16), index=":")
    for atoms in frames:
        extra = ase.Atoms("Cu", [site(2, 5)], cell=atoms.cell, pbc=atoms.pbc)
        extra.set_array("id", np.array([10_000]))
        atoms.extend(extra)
    frames[0].positions[frames[0].arrays["id"] == 10_000] = site(1, 5)
    ase.io.write(tmp_path / "more.extxyz", frames[:2], format="extxyz")
    result = deposition(open_growing_file(tmp_path / "more.extxyz", interval=1000.0), last=1, lattice="none")
    assert result.monolayer == 16 and result.coverage.value == pytest.approx(1.0)
    assert any("on the top layer of the bare slab at the beginning: 1;" in note for note in result.notes)


def test_a_rest_after_growth_and_an_atom_that_leaves_change_no_rate() -> None:
    times = 1e3 * np.arange(1001.0)  # 1 ns
    coverage = np.clip(np.floor(times / 1250.0) / 16, 0.0, 5.0)  # 5 ML in 100 ps
    coverage[990:] -= 1 / 16
    found = growth_rate(times, coverage)
    assert found.value == pytest.approx(50.0, rel=0.01) and found.error < 1.0
    assert growth_rate(times, coverage, [(0.0, 1e6)]).value == pytest.approx(50.0, rel=0.01)


def test_few_arrivals_have_the_rate_at_which_they_come() -> None:
    times = 1e2 * np.arange(521.0)
    # 20 in 40 ps after 4 ps, which land 1.5 ps later; 36 are a layer, and all are there for the last 8 ps
    coverage = np.clip(np.floor((times - 5500.0) / 2000.0 + 1.0 + 1e-9), 0, 20) / 36
    assert growth_rate(times, coverage, [(4e3, 48e3)]).value == pytest.approx(1e3 / 2 / 36, rel=0.01)


def test_the_time_between_two_stages_of_deposition_does_not_count() -> None:
    times = 1e3 * np.arange(61.0)
    coverage = np.interp(times, [0, 20e3, 40e3, 60e3], [0.0, 1.0, 1.0, 2.0])
    assert growth_rate(times, coverage, [(0, 20e3), (40e3, 60e3)]).value == pytest.approx(50.0)


def test_the_error_of_a_rate_is_its_scatter(rng: np.random.Generator) -> None:
    times = 1e3 * np.arange(401.0)
    found = [growth_rate(times, rng.poisson(0.5, 401).cumsum() / 16) for _ in range(200)]
    scatter = np.std([one.value for one in found])
    claimed = math.sqrt(np.mean([one.error**2 for one in found]))
    assert np.mean([one.value for one in found]) == pytest.approx(500 / 16, rel=0.02)  # 0.5 %: of 200 runs
    assert claimed == pytest.approx(scatter, rel=0.15)  # 5 % of scatter of 200, 3 % of ten parts


def test_notes_tell_what_the_words_do_not_mean() -> None:
    (note,) = of_arrivals([Sticking("H2O", Estimate(1.0, 0.1, "", 1.0), (0.2, 1.0), 1, 0, 0, 0)])
    assert "a flux in ML counts molecules: one H2O adds 3 atoms" in note
    assert not of_arrivals([Sticking("Cu", Estimate(1.0, 0.1, "", 1.0), (0.2, 1.0), 1, 0, 0, 0)])
    crystals = {name: ase.build.bulk("Ti", name, a=a).repeat(6) for name, a in (("hcp", 2.95), ("fcc", 4.1))}
    types = {name: structure_types(one.positions, one.cell.array, one.pbc) for name, one in crystals.items()}
    assert "no fcc or bcc lattice, and none was given" in of_the_lattice(None, None, types["hcp"])[0]
    assert "of hcp none are told" in of_the_lattice(None, None, types["hcp"])[1]
    (note,) = of_the_lattice("none", None, types["fcc"])
    assert "as asked" in note
    assert not of_the_lattice(None, "fcc", types["fcc"])


def test_a_film_of_another_metal_is_looked_at_by_its_own_measure(tmp_path: Path, rng: np.random.Generator) -> None:
    copper = ase.build.fcc100("Cu", (8, 8, 3), a=A["fcc"], periodic=False)
    side = 8 * A["fcc"] / math.sqrt(2)
    lithium = ase.build.bcc100("Li", (6, 6, 4), a=side / 6).positions  # fits: a = 3.41 Å
    lithium[:, 2] += copper.positions[:, 2].max() + 2.4 - lithium[:, 2].min()
    frames = []
    for n_layers in (0, 4):
        positions = np.concatenate([copper.positions, lithium[: 36 * n_layers]])
        symbols = ["Cu"] * len(copper) + ["Li"] * 36 * n_layers
        positions = positions + 0.03 * rng.normal(size=positions.shape)
        frames.append(ase.Atoms(symbols, positions, cell=[side, side, 60.0], pbc=(True, True, False)))
    ase.io.write(tmp_path / "film.extxyz", frames, format="extxyz")
    result = deposition(open_growing_file(tmp_path / "film.extxyz", interval=1000.0), last=1)
    assert result.lattice == "bcc"
    assert [layer.face for layer in result.layers] == [None] * 3 + ["100"] * 4
    assert [layer.composition for layer in result.layers] == [{"Cu": 1.0}] * 3 + [{"Li": 1.0}] * 4
    assert result.coverage.value == pytest.approx(4 * 36 / 64)
    coordination = [layer.coordination.value for layer in result.layers]
    assert (coordination[0], coordination[1]) == (8, 12)  # fcc, one shell
    assert (coordination[5], coordination[6]) == (13, 9)  # bcc, two shells; one below the top, and the top


def test_a_slab_that_drifts_has_the_same_layers(tmp_path: Path, rng: np.random.Generator) -> None:
    growth = open_growing_file(grow(tmp_path / "film.extxyz", rng, 16, drift=0.7), interval=1000.0)
    result = deposition(growth, last=2, lattice="none")
    assert np.allclose(result.course.coverage, [0, 1, 2, 3])
    assert [round(layer.filling.value, 6) for layer in result.layers] == [1, 1, 1, 1, 1, 1, 0.5]
    assert result.layers[3].height.value == pytest.approx(3 * SPACING, abs=0.03)
    assert any("not compared" in note for note in result.notes)


def test_an_interval_of_sticking_covers_the_truth_as_often_as_it_says(tmp_path: Path) -> None:
    n, covered = 20, {}
    for stuck in range(n + 1):
        (found,) = sticking(write_book(tmp_path / "book.csv", (stuck, n - stuck)), 0.0, 1e9)
        assert found.coefficient.value == stuck / n and 0.0 < found.coefficient.error < 0.12
        covered[stuck] = found.interval
    for truth in (0.5, 0.8, 0.9, 0.95):
        inside = sum(binom.pmf(k, n, truth) for k, (low, high) in covered.items() if low <= truth <= high)
        assert inside > 0.91  # 0.95 on average over truths; counts are whole numbers


def write_book(path: Path, *stages: tuple[int, int]) -> Path:
    """A book of stages whose arrivals appear one after the other, bounce, and stick or leave; one of each is undecided.

    Each stage, with so many that stick and that leave, is a nanosecond after the one before and counts from 1 again.
    """
    rows = ["step,time [ps],arrival,what,species,atoms,x [Å],y [Å],z [Å],vx [Å/ps],vy [Å/ps],vz [Å/ps],tries"]
    for stage, (stuck, lost) in enumerate(stages):
        for number in range(1, stuck + lost + 2):
            fate = ["inserted", "reflected", "stuck" if number <= stuck else "escaped"]
            for what in fate[: 3 if number <= stuck + lost else 1]:
                rows.append(f"{number},{1000 * stage + number},{number},{what},Cu,{number},0,0,0,0,0,0,")
        rows.append("1,1,0,escaped,Cu,1,0,0,0,0,0,0,")  # an atom of the slab
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_arrivals_of_two_stages_with_the_same_numbers_are_different_ones(tmp_path: Path) -> None:
    path = write_book(tmp_path / "book.csv", (10, 0), (0, 10))
    (found,) = sticking(path, 0.0, 1e9)
    assert (found.stuck, found.lost, found.undecided) == (10, 10, 2)
    (second,) = sticking(path, 1e6, 1e9)
    assert (second.stuck, second.lost, second.undecided) == (0, 10, 1)
    (first,) = sticking(path, 0.0, 1e6)
    assert (first.stuck, first.lost, first.undecided) == (10, 0, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deposit")
    options = 'frozen = { below = 2 }\nanalysis = { run = ["deposition"] }\n'
    around = [f'[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "{time} ps"\n' for time in (0.1, 0.5)]
    return simulate(deposit_input(folder, STAGE.join(around), options=options), folder / "run", threads=1).path


def test_a_run_is_analysed_from_its_deposition_to_its_end(run: Path) -> None:
    result = deposition(open_growth(run), last=3)
    rows = book(run)
    fates = [set(rows["what"][rows["arrival"] == number]) for number in range(1, 17)]
    stuck, lost = (
        sum(what in one and (what == "stuck" or "stuck" not in one) for one in fates) for what in ("stuck", "escaped")
    )
    total = result.sticking[-1]
    assert (total.species, total.stuck, total.lost, total.undecided) == ("all", stuck, lost, 16 - stuck - lost)
    assert {one.species for one in result.sticking} == {"Ar", "He", "all"}
    assert result.monolayer == len(argon_slab()) // 4
    assert open_growth(run).depositing == ((100.0, 2100.0),)
    assert result.course.times[-1] == pytest.approx(2600.0)
    arrived = ase.io.read(run / "final.extxyz").arrays["id"] >= len(argon_slab())
    held = result.course.coverage[-1] * result.monolayer + result.course.flying[-1]
    assert round(held) == arrived.sum()


def test_an_input_may_ask_for_it_and_the_report_shows_it(run: Path, tmp_path: Path) -> None:
    page = write_report(open_run(run), tmp_path).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "analysis" / "deposition.json").read_text())["monolayer_atoms"] == 18
    assert "Deposition" in page and "roughness" in page and "not done" not in page


def test_the_command_writes_its_files_and_names_faces(run: Path, tmp_path: Path) -> None:
    answer = mlmd("analyze", "deposition", run, "--out", tmp_path / "a", "--last", 2)
    assert answer.code == 0, answer.err
    for word in ("Stage 2 (deposit)", "sticking of Ar", "roughness", "ML/ns", "(100)"):
        assert word in answer.out
    data = json.loads((tmp_path / "a" / "deposition.json").read_text())
    assert {layer["number"] for layer in data["layers"]} >= {-3, -2, -1, 0}
    assert (tmp_path / "a" / "deposition.png").exists()
    head, first, *_ = (tmp_path / "a" / "deposition.csv").read_text().splitlines()
    assert head.startswith("time [ps],coverage [ML]") and len(head.split(",")) == len(first.split(","))


def test_what_cannot_be_analysed_is_one_message(run: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    film = grow(tmp_path / "film.extxyz", rng, 16)
    bulk = ase.build.bulk("Cu", cubic=True).repeat(2)
    ase.io.write(tmp_path / "upright.extxyz", bulk, format="extxyz")
    bulk.rotate(20, "x", rotate_cell=True)
    ase.io.write(tmp_path / "bulk.extxyz", bulk, format="extxyz")
    ase.io.write(
        tmp_path / "gas.extxyz", ase.Atoms("Ar2", [[0, 0, 0], [9, 9, 9]], cell=[50] * 3, pbc=True), format="extxyz"
    )
    for arguments, message in (
        ((film,), "--interval"),
        (
            (tmp_path / "upright.extxyz", "--interval", "1 ps"),
            "there is no vacuum: along z the cell repeats every 7.22",
        ),
        ((film, "--interval", "1 ps", "--lattice", "sc"), "'sc' is not known"),
        ((film, "--interval", "1 ps", "--stage", 1), "is a file"),
        ((film, "--interval", "1 ps", "--from", "1 ns"), "no frame lies between"),
        ((film, "--interval", "1 ps", "--kernel", 0), "positive"),
        ((tmp_path / "bulk.extxyz", "--interval", "1 ps"), "plane of x and y"),
        ((tmp_path / "gas.extxyz", "--interval", "1 ps"), "no slab"),
        ((run, "--stage", 9), "no stage 9"),
    ):
        answer = mlmd("analyze", "deposition", *arguments)
        assert answer.code == 2 and message in answer.err


def test_a_run_in_which_nothing_arrives_is_refused(tmp_path: Path) -> None:
    plain = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.1 ps"\n'
    run = simulate(deposit_input(tmp_path, plain), tmp_path / "run", threads=1)
    with pytest.raises(InputError, match="nothing arrives"):
        open_growth(run.path)
