"""Structure factors: closed forms, crystals, hard spheres, dynasor and pystog."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import ase
import ase.build
import dynasor_oracle
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run

from mlmd.analysis import write
from mlmd.analysis.scattering import partials, transforms
from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.experiment import match, read_experiment
from mlmd.analysis.scattering.result import StructureFactor
from mlmd.analysis.scattering.structure_factor import structure_factor
from mlmd.analysis.scattering.wavevectors import reciprocal, wavevectors
from mlmd.analysis.scattering.weights import neutron, x_ray
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

TRICLINIC = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])
SILICA = np.array([1 / 3, 2 / 3])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def of(atoms: ase.Atoms, positions: np.ndarray | None = None, **options: object) -> StructureFactor:
    frames = atoms.positions[None] if positions is None else positions
    return structure_factor(from_arrays(frames, atoms, interval=1.0, unwrapped=True), **options)  # type: ignore[arg-type]


def gas(rng: np.random.Generator, n_frames: int = 40) -> tuple[ase.Atoms, np.ndarray]:
    return ase.Atoms("Si60O120", cell=TRICLINIC * 1.5, pbc=True), rng.random((n_frames, 180, 3)) @ (TRICLINIC * 1.5)


def test_a_density_is_the_sum_of_its_phases(rng: np.random.Generator) -> None:
    fractional, weights = 5.0 * rng.normal(size=(301, 3)), rng.normal(size=301)
    indices = rng.integers(-9, 10, size=(4000, 3))
    whole, few = Density(indices), Density(indices[:40])  # by products of matrices, and one by one
    exact = np.exp(2j * np.pi * fractional @ indices.T)
    assert np.allclose(whole(fractional), exact.sum(axis=0), atol=1e-10)
    assert np.allclose(whole(fractional, weights), weights @ exact, atol=1e-10)  # and nothing is left of the last sum
    assert np.allclose(few(fractional), exact.sum(axis=0)[:40], atol=1e-10)


def test_the_powers_of_a_phase_stay_exact() -> None:
    fractional = np.array([[0.123456789, 0.5, -7.3]])
    found = Density(np.array([[300, 0, 0], [0, 255, 1]]))(fractional)
    assert np.allclose(found, np.exp(2j * np.pi * np.array([300 * 0.123456789, 255 * 0.5 - 7.3])), atol=1e-12)


def test_half_of_all_wavevectors_are_there_once() -> None:
    points = wavevectors(TRICLINIC, 4.0, 0.3)
    rows = reciprocal(TRICLINIC)
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(grid @ rows, axis=1)
    wanted = {tuple(one) for one in grid[(lengths > 1e-9) & (lengths <= 4.0)].tolist()}
    found = {tuple(one) for one in points.indices.tolist()}
    assert found | {(-h, -k, -m) for h, k, m in found} == wanted and 2 * len(found) == len(wanted)
    assert np.allclose(np.linalg.norm(points.indices @ rows, axis=1), points.lengths)
    assert np.allclose(points.average(points.lengths), points.q)


def test_a_draw_of_wavevectors_depends_on_its_seed_alone() -> None:
    one, same, other = (wavevectors(TRICLINIC, 6.0, 0.5, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.indices, same.indices) and not np.array_equal(one.indices, other.indices)
    everything = wavevectors(TRICLINIC, 6.0, 0.5)
    assert np.array_equal(one.n_all, everything.n_points) and one.n_points[0] == everything.n_points[0]


def test_every_wavevector_of_a_bin_is_drawn_as_often() -> None:
    times = np.zeros((2 * 40 + 1,) * 3)
    for seed in range(400):
        times[tuple(wavevectors(TRICLINIC, 5.0, 1.0, 20, seed).indices.T)] += 1
    points = wavevectors(TRICLINIC, 5.0, 1.0)
    for number, n in enumerate(points.n_points):
        drawn = times[tuple(points.indices[points.bins == number].T)] / 400
        wanted = min(1.0, 20 / n)
        assert np.abs(drawn - wanted).max() <= 5.0 * np.sqrt(wanted * (1.0 - wanted) / 400)


@pytest.mark.parametrize("method", ["direct", "rdf"])
def test_a_gas_has_structure_factors_of_one(rng: np.random.Generator, method: str) -> None:
    result = of(*gas(rng), method=method, q_max=8.0, bin_width=0.2)
    away = result.q > 2.0  # bins below have few wavevectors
    for name, limit in (("A Si-O", 1.0), ("A O-O", 1.0), ("S(q)", 1.0), ("S_NN", 1.0), ("S_CC", 2 / 9), ("S_NC", 0.0)):
        curve = result.curve(name)
        deviations = (curve.values - limit)[away]
        assert np.abs(deviations).max() < 0.1 and abs(deviations.mean()) < 0.02
        # 1.3 for errors from ten blocks; what is transformed from g(r) has few independent values
        assert np.mean((deviations / curve.error[away]) ** 2) < (2.0 if method == "direct" else 4.0)


def test_an_atom_is_no_neighbour_of_itself_in_a_gas_of_few(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Ar4", cell=[10.0] * 3, pbc=True)
    result = of(atoms, 10.0 * rng.random((400, 4, 3)), method="rdf", max_frames=400, q_max=5.0)
    shells = result.r**2
    # 1,200 pairs are counted: 3 %; divided by N² and not by N (N - 1) the mean would be 0.75
    assert (result.curve("g(r)").values * shells).sum() / shells.sum() == pytest.approx(1.0, abs=0.1)


def test_bragg_peaks_of_a_crystal_are_where_they_belong_and_nowhere_else() -> None:
    crystal = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat(3)
    points = wavevectors(crystal.cell.array, 7.0, 0.1)
    intensity = np.abs(Density(points.indices)(crystal.get_scaled_positions())) ** 2 / len(crystal)
    primitive = ase.build.bulk("Cu", "fcc", 3.6)
    turns = points.indices @ reciprocal(crystal.cell.array) @ primitive.cell.array.T / (2.0 * np.pi)
    bragg = np.abs(turns - np.rint(turns)).max(axis=1) < 1e-9
    assert bragg.sum() > 20
    assert np.allclose(intensity[bragg], len(crystal)) and np.allclose(intensity[~bragg], 0.0, atol=1e-9)
    result = of(crystal, q_max=4.0, bin_width=0.01, points_per_bin=None)
    highest = result.q[result.curve("S(q)").values > 1.0]
    assert np.allclose(highest, 2.0 * np.pi / 3.6 * np.sqrt([3.0, 4.0]), atol=1e-9)


def percus_yevick(q: np.ndarray, packing: float) -> np.ndarray:
    """S(q) of hard spheres of diameter 1 (Wertheim, Phys. Rev. Lett. 10, 321 (1963))."""
    first = (1 + 2 * packing) ** 2 / (1 - packing) ** 4
    second = -((1 + packing / 2) ** 2) / (1 - packing) ** 4
    r = np.linspace(0.0, 1.0, 2001)
    direct = -(first + 6 * packing * second * r + packing / 2 * first * r**3)
    c = 4 * np.pi * np.trapezoid(r**2 * direct * np.sinc(np.outer(q, r) / np.pi), r, axis=1)
    return 1.0 / (1.0 - 6 * packing / np.pi * c)


def hard_spheres(rng: np.random.Generator, packing: float, n_cells: int, n_frames: int) -> tuple[np.ndarray, float]:
    """Metropolis frames of spheres of diameter 1, 100 sweeps away from a crystal and two apart; edge of the cube."""
    n = 4 * n_cells**3
    edge = (n * np.pi / (6 * packing)) ** (1 / 3)
    x = ase.build.bulk("Ar", "fcc", edge / n_cells, cubic=True).repeat(n_cells).positions
    frames = []
    for sweep in range(100 + 2 * n_frames):
        moves, order = rng.uniform(-0.22, 0.22, size=(n, 3)), rng.permutation(n).tolist()
        for i in order:
            new = x[i] + moves[i]
            away = x - new
            away -= edge * np.rint(away / edge)
            near = np.einsum("ij,ij->i", away, away) < 1.0
            near[i] = False
            if not near.any():
                x[i] = new
        if sweep >= 100 and sweep % 2:
            frames.append(x.copy())
    return np.array(frames), edge


def test_hard_spheres_have_the_structure_factor_of_percus_and_yevick(rng: np.random.Generator) -> None:
    frames, edge = hard_spheres(rng, 0.3, 4, 120)
    atoms = ase.Atoms(f"Ar{frames.shape[1]}", cell=[edge] * 3, pbc=True)
    options = {"q_max": 15.0, "bin_width": 0.3, "max_frames": 200, "points_per_bin": None}
    direct = of(atoms, frames, method="direct", **options)
    # a bin of few wavevectors is not tested; the theory is good to about 0.02 at this packing
    many = direct.n_points > 20  # type: ignore[operator]
    exact, curve = percus_yevick(direct.q, 0.3), direct.curve("S(q)")
    deviations = np.abs(curve.values - exact)[many]
    assert np.all(deviations < 0.03 + 2.0 * curve.error[many]) and np.sqrt(np.mean(deviations**2)) < 0.02
    assert many.sum() > 40 and exact[many].max() > 1.4 and exact[many].min() < 0.2
    from_g = of(atoms, frames, method="rdf", end="none", **options)
    beyond = from_g.q > 3.0
    exact = percus_yevick(from_g.q, 0.3)
    # g(r) ends at half of the cell, and its oscillations are cut
    assert np.abs(from_g.curve("S(q)").values - exact)[beyond].max() < 0.05


def kept() -> tuple[np.ndarray, np.ndarray]:
    table = np.array(dynasor_oracle.KEPT)
    return table[:, :3].astype(int), table[:, [5, 4, 3]]  # Si-Si, Si-O, O-O


def ours(indices: np.ndarray) -> np.ndarray:
    """⟨ρ_a ρ_b*⟩ / N as dynasor has it, (n_q, 3)."""
    _, positions = dynasor_oracle.frames()
    density, found = Density(indices), []
    for frame in positions @ np.linalg.inv(dynasor_oracle.CELL):
        si, o = density(frame[:12]), density(frame[12:])
        found.append(np.stack([abs(si) ** 2, 2.0 * (si * o.conj()).real, abs(o) ** 2], axis=1) / 36)
    return np.asarray(np.mean(found, axis=0))


def test_numbers_that_dynasor_has_given_are_found() -> None:
    indices, values = kept()
    assert np.allclose(ours(indices), values, atol=1e-6)


def test_dynasor_gives_the_same_structure_factors(tmp_path: Path) -> None:
    atoms, positions = dynasor_oracle.frames()
    points = wavevectors(dynasor_oracle.CELL, 6.0, 0.1)
    found = dynasor_oracle.partials(tmp_path, atoms, positions, points.indices @ reciprocal(dynasor_oracle.CELL))
    theirs = np.stack([found["Si_Si"], found["O_Si"], found["O_O"]], axis=1)
    assert np.allclose(ours(points.indices), theirs, atol=1e-6)
    result = of(atoms, positions, q_max=6.0, bin_width=0.1, points_per_bin=None)
    assert np.allclose(result.curve("S_ab Si-Si").values, points.average(3.0 * theirs[:, 0]), atol=1e-6)
    assert np.allclose(result.curve("S_NN").values, points.average(theirs.sum(axis=1)), atol=1e-6)


def test_definitions_of_partials_are_ways_to_say_the_same(rng: np.random.Generator) -> None:
    atoms, positions = gas(rng, 1)
    si, o = (
        Density(np.array([[1, 2, 3]]))(one @ np.linalg.inv(atoms.cell.array))
        for one in (positions[0][:60], positions[0][60:])
    )
    al = np.array([abs(si) ** 2 / 60, (si * o.conj()).real / np.sqrt(60 * 120), abs(o) ** 2 / 120])
    number, concentration = si + o, 2 / 3 * si - 1 / 3 * o
    bt = np.array([abs(number) ** 2, (number * concentration.conj()).real, abs(concentration) ** 2]) / 180
    assert np.allclose(partials.bhatia_thornton(al, SILICA), bt)
    fz = partials.faber_ziman(al, SILICA)
    assert np.allclose(partials.ashcroft_langreth(fz, SILICA), al)
    b = np.array([[0.4], [0.6]])
    scattered = abs(0.4 * si + 0.6 * o) ** 2 / 180
    assert np.allclose(partials.distinct(fz, SILICA, b), scattered - SILICA @ b**2)


def test_totals_of_silica_have_their_limits_and_relations(rng: np.random.Generator) -> None:
    result = of(*gas(rng, 4), q_max=6.0, bin_width=0.5)
    b = np.array([0.415071, 0.58037])  # √barn: 4.15071 and 5.8037 fm of the table
    mean, square = (SILICA @ b) ** 2, SILICA @ b**2
    total = result.curve("F(q)").values
    assert np.allclose(result.curve("S(q)").values, 1 + total / mean)
    assert np.allclose(result.curve("S_self(q)").values, 1 + total / square)
    assert np.allclose(result.curve("q[S(q)-1]").values, result.q * total / mean)
    r, rho = result.r, 180 / abs(np.linalg.det(TRICLINIC * 1.5))
    g = result.curve("g(r)").values
    assert np.allclose(result.curve("G(r)").values, mean * (g - 1))
    assert np.allclose(result.curve("T(r)").values, 4 * np.pi * rho * r * mean * g)
    assert np.allclose(result.curve("D(r)").values, 4 * np.pi * rho * r * mean * (g - 1))


def test_x_rays_see_electrons() -> None:
    q = np.array([0.0, 4.0 * np.pi * 0.5])
    rows = x_ray(["Si", "O"], q).amplitudes
    # ITC vol. C, table 6.1.1.1: f at sin θ / λ = 0.5 1/Å
    assert np.allclose(rows, [[14.0, 6.24], [8.0, 2.338]], rtol=0.01)
    neutrons = neutron(["H", "O"], q, {"H": 6.671})
    assert neutrons.lengths == {"H": 6.671, "O": pytest.approx(5.803, abs=0.002)}


@pytest.mark.parametrize("r_max", [12.0, 30.0])
def test_a_gaussian_transforms_into_a_gaussian(r_max: float) -> None:
    edges, q = np.linspace(0.0, r_max, 4001), np.linspace(0.1, 8.0, 50)
    r = 0.5 * (edges[1:] + edges[:-1])
    found = transforms.to_structure_factor(1.0 - np.exp(-(r**2) / 2.0), edges, q, 0.05, "none")
    exact = 1.0 - 0.05 * (2.0 * np.pi) ** 1.5 * np.exp(-(q**2) / 2.0)
    assert np.allclose(found, exact, atol=1e-5)
    fine = np.linspace(0.01, 12.0, 1200)
    s = 1.0 - 0.05 * (2.0 * np.pi) ** 1.5 * np.exp(-(fine**2) / 2.0)
    back = transforms.to_pair_function(s, fine, r[:1000], 12.0, "none")
    assert np.allclose(back, -4.0 * np.pi * 0.05 * r[:1000] * np.exp(-(r[:1000] ** 2) / 2.0), atol=1e-5)


def test_pystog_transforms_argon_into_the_same(shared: Path) -> None:
    folder = shared / "ref_sq" / "pystog"
    lines = (folder / "argon.gr").read_text().splitlines()[4:]
    table = np.array([line.split() for line in lines], dtype=float)
    real = np.loadtxt(folder / "argon.real_space.dat", skiprows=2)
    q, s = np.loadtxt(folder / "argon.reciprocal_space.dat", skiprows=2)[:, :2].T
    density = -real[0, 2] / (4.0 * np.pi * real[0, 0])  # where g is 0
    edges = np.append(table[:, 1] - 0.025, table[-1, 1] + 0.025)
    assert np.abs(transforms.to_structure_factor(table[:, 2], edges, q, density, "none") - s).max() < 0.02
    back = transforms.to_pair_function(s, q, real[:, 0], float(q[-1]), "none")
    far = real[:, 0] > 1.0
    assert np.abs(1.0 + back / (4.0 * np.pi * density * real[:, 0]) - real[:, 1])[far].max() < 0.02


def test_both_ways_lead_to_the_same_structure_factor(rng: np.random.Generator) -> None:
    crystal = ase.build.bulk("SiC", "zincblende", 4.4, cubic=True).repeat(4)
    frames = crystal.positions + rng.normal(scale=0.5, size=(5, len(crystal), 3))
    direct, from_g = (of(crystal, frames, method=method, q_max=12.0, bin_width=0.5) for method in ("direct", "rdf"))
    far = direct.q > 6.0  # above it Bragg peaks are damped away, and what is left is the liquid-like part
    for name in ("A Si-C", "S(q)"):
        one = direct.curve(name).values[far]
        other = np.interp(direct.q[far], from_g.q, from_g.curve(name).values)
        assert np.abs(one - other).max() < 0.1
    near = (from_g.r > 1.5) & (from_g.r < 8.0)
    wide = of(crystal, frames, q_max=20.0, points_per_bin=100)
    pairs = np.interp(from_g.r[near], wide.r, wide.curve("g(r)").values)
    assert np.abs(np.convolve(pairs - from_g.curve("g(r)").values[near], np.ones(20) / 20)).max() < 0.15


def test_where_the_cell_changes_each_frame_has_its_own_lattice() -> None:
    crystal = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat(2)
    cells = np.array([crystal.cell.array * size for size in (0.98, 1.02)])
    positions = np.array([crystal.get_scaled_positions() @ cell for cell in cells])
    trajectory = from_arrays(positions, crystal, interval=1.0, unwrapped=True, cells=cells)
    result = structure_factor(trajectory, q_max=4.0, bin_width=0.01, points_per_bin=None)
    assert np.allclose(result.q[result.curve("S(q)").values > 1.0], 2.0 * np.pi / 3.6 * np.sqrt([3.0, 4.0]), atol=0.01)


def test_a_measured_curve_is_compared_in_its_own_normalisation(shared: Path) -> None:
    path = shared / "ref_sq" / "dissolve" / "SiO2_NIMROD.mint01"
    experiment = read_experiment(path, "distinct")
    assert len(experiment.q) == 1002 and experiment.errors is not None
    # at small q nothing is scattered but by the self part, ⟨b²⟩ = 0.282 barn, and what density fluctuations leave
    low = (experiment.q > 0.5) & (experiment.q < 1.0)
    assert -0.282 < experiment.values[low].min() < -0.2
    inside = (experiment.q > 0.3) & (experiment.q < 30.0)
    q = experiment.q[inside]
    same = match(experiment, q, experiment.values[inside], np.full(len(q), np.nan))
    assert (same.r_factor, same.chi_squared, same.scale) == (0.0, 0.0, 1.0)
    half = match(experiment, q, 0.5 * experiment.values[inside], np.full(len(q), np.nan))
    assert half.r_factor == pytest.approx(0.5) and half.scale == pytest.approx(2.0)
    assert "is it so normalised?" in str(half) and "is it so normalised?" not in str(same)


def test_chi_squared_counts_the_errors_of_both(tmp_path: Path) -> None:
    (tmp_path / "s.dat").write_text("# q S error\n1.0, 1.1, 0.3\n2.0, 0.9, 0.3\n3.0 1.0 0.3 left out\nend\n")
    experiment = read_experiment(tmp_path / "s.dat", "faber-ziman")
    q = np.array([1.0, 2.0, 3.0])
    found = match(experiment, q, np.array([1.6, 0.9, 1.0]), np.full(3, 0.4))
    assert found.chi_squared == pytest.approx(1.0 / 3.0) and found.n_points == 3
    assert found.r_factor == pytest.approx(0.5 / np.sqrt(0.02))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    atoms = ase.Atoms("Si8O16", positions=12.0 * rng.random((24, 3)), cell=[12.0] * 3, pbc=True)
    return write_run(tmp_path / "made.run", atoms, (stage(0, 0, 100),), 12.0 * rng.random((11, 24, 3)))


def test_the_command_says_what_its_curves_are(run: Path, tmp_path: Path) -> None:
    (tmp_path / "f.dat").write_text("".join(f"{q:.2f} {-0.01 * q} 0.01\n" for q in np.arange(0.0, 9.0, 0.1)))
    command = ("analyze", "structure-factor", run, "--q-max", "8", "--experiment", tmp_path / "f.dat")
    answer = mlmd(*command, "--normalisation", "distinct")
    assert answer.code == 0, answer.err
    for word in ("F(q)", "barn/sr/atom", "A Si-O", "periodictable", "5.8037 fm", "R = ", "χ²", "limit 1"):
        assert word in answer.out
    assert "…" not in answer.out
    data = json.loads((run / "analysis" / "structure-factor.json").read_text(), parse_constant=pytest.fail)
    assert data["definitions"].keys() >= {"A", "S_ab", "F(q)", "S(q)", "T(r)"} and data["experiment"]["n_points"] > 70
    with (run / "analysis" / "structure-factor.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert {"q [1/Å]", "F(q) [barn/sr/atom]", "S(q) error", "S_NC", "r [Å]", "T(r) [barn/Å²]"} <= set(rows[0])
    assert {len(row) for row in rows} == {len(rows[0])}
    refused = mlmd(*command)
    assert refused.code == 2 and "how the measured values are normalised" in refused.err


def test_one_element_and_x_rays_write_their_files_too(rng: np.random.Generator, tmp_path: Path) -> None:
    atoms = ase.Atoms("Ar20", cell=[10.0] * 3, pbc=True)
    for method in ("direct", "rdf"):
        result = of(atoms, 10.0 * rng.random((2, 20, 3)), radiation="x-ray", method=method, q_max=5.0)
        paths = write(result, tmp_path / method)
        assert json.loads(paths[0].read_text())["radiation"] == "x-ray"
        assert paths[2].read_bytes().startswith(b"\x89PNG") and str(result)
        with pytest.raises(KeyError):
            result.curve("T(r)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q_max": 0.01, "bin_width": 0.005}, "its smallest is"),
        ({"q_max": 3000.0}, "Give a q_max up to"),
        ({"q_max": 1.0, "bin_width": 2.0}, "0 < bin_width < q_max"),
        ({"end": "hann"}, "window 'hann' is not known"),
        ({"method": "fft"}, "'direct' or \"rdf\"|method 'fft'"),
        ({"radiation": "electron"}, "radiation 'electron'"),
        ({"lengths": {"H": 6.671}}, "there is none of it"),
        ({"lengths": {"Si": 4.1}, "radiation": "x-ray"}, "those of neutrons"),
        ({"r_max": 0.1}, "r_max = 0.1"),
        ({"points_per_bin": 0}, "at least one"),
    ],
)
def test_what_makes_no_sense_is_refused(rng: np.random.Generator, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        of(*gas(rng, 1), **options)


def test_what_has_no_density_is_refused() -> None:
    with pytest.raises(InputError, match="periodic in all three directions"):
        of(ase.Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3]]))
