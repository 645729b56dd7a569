"""The kernels of Arm processors: cross-compiled as setup.py compiles them, run by an emulator, compared with torch."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from kernel_systems import STEEP, TOLERANCES, Tolerance, assert_sums_are_those_of, system
from made_potentials import random_mtp
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from test_kernels_classical import FAMILIES

from mlmd.descriptors.species import species, species_table
from mlmd.kernels.kernel import Kernel, Sums
from mlmd.neighbors import build_graph

ROOT = Path(__file__).parents[1]
COMPILER, DISASSEMBLER = shutil.which("aarch64-linux-gnu-g++"), shutil.which("aarch64-linux-gnu-objdump")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (COMPILER and DISASSEMBLER and EMULATOR),
        reason="Arm needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian's g++-aarch64-linux-gnu and qemu-user)",
    ),
]


LEARNED: dict[str, tuple[Any, tuple[str, ...], Tolerance]] = {
    "moments": (lambda p: random_mtp(("Li", "Y", "Cl"), 10, p), ("Li", "Y", "Cl"), STEEP),
    "moments-16": (lambda p: random_mtp(("Si",), 16, p), ("Si",), STEEP),
    "radial-angular": (lambda p: random_nep(("Li", "Y", "Cl"), p), ("Li", "Y", "Cl"), TOLERANCES["float32"]),
    "radial-angular-8": (lambda p: random_nep(("Si",), p, l_max=8), ("Si",), TOLERANCES["float32"]),
    "snap": (lambda p: random_snap(("Si", "O"), 6, p), ("Si", "O"), TOLERANCES["float32"]),
    "soap": (lambda p: random_soap(("Si", "O"), p), ("Si", "O"), TOLERANCES["float32"]),
    "snap-quadratic": (lambda p: random_snap(("W", "Be"), 4, p, quadratic=True), ("W", "Be"), TOLERANCES["float32"]),
}
NAMES = ("liquid", "skewed", "slab", "cluster", "one atom")
CASES = [
    (family, precision, name)
    for family in [*FAMILIES, *LEARNED]
    for precision in ("float64", "float32")
    for name in NAMES
]


def case(family: str, precision: str, name: str) -> tuple[Any, Any, Atoms, Tolerance]:
    """A potential, its float64 reference, atoms, and what may differ."""
    make, spacing = FAMILIES[family] if family in FAMILIES else (LEARNED[family][0], 2.4)
    float32 = LEARNED[family][2] if family in LEARNED else TOLERANCES["float32"]
    reference = make("float64")
    atoms = system(name, reference.elements, spacing)
    return make(precision), reference, atoms, TOLERANCES["float64"] if precision == "float64" else float32


def has_features(family: str, precision: str) -> bool:
    return family.startswith("moments") and precision == "float64"


def directions(atoms: Atoms, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """A displacement of every atom and a weight of every feature."""
    generator = np.random.default_rng(5)
    return generator.standard_normal((len(atoms), 3)), generator.standard_normal((len(atoms), n_features))


def packed(potential: Any, atoms: Atoms, n_features: int, n_threads: int) -> Iterator[np.ndarray]:
    """What the driver reads of a case."""
    kernel = potential.kernel()
    assert isinstance(kernel, Kernel)
    elements = potential.elements
    kinds = np.zeros(len(atoms), dtype=int)
    if elements:
        kinds = species(torch.tensor(atoms.numbers), species_table(elements)).numpy()
    sizes = (kernel.precision == "float32", n_threads, max(1, len(elements)), len(kernel.integers), len(kernel.numbers))
    letters = kernel.family.encode()
    yield np.array([len(letters), *letters, *sizes, len(atoms), n_features, *atoms.pbc], dtype=np.int64)
    yield np.concatenate([kernel.integers, kinds]).astype(np.int64)
    yield np.concatenate([[0.5], kernel.numbers, atoms.positions.ravel(), atoms.cell.array.ravel()])
    if n_features:
        yield from (one.ravel() for one in directions(atoms, n_features))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, of all sources of the kernels and `kernel_driver.cpp`."""
    folder = tmp_path_factory.mktemp("arm")
    assignments = [one for one in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(one, ast.Assign)]
    flags = next(ast.literal_eval(one.value) for one in assignments if ast.unparse(one.targets[0]) == "FLAGS")
    flags = [*flags, "-fopenmp", "-DMLMD_VECTOR_BYTES=16"]
    sources = [*(ROOT / "mlmd/kernels/src").glob("*.cpp"), ROOT / "tests/kernel_driver.cpp"]

    def compiled(source: Path) -> str:
        made = folder / f"{source.stem}.o"
        run(COMPILER, *flags, "-c", source, "-o", made)
        return str(made)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    run(COMPILER, "-static", "-fopenmp", *objects, "-o", folder / "driver")
    return folder / "driver"


def run(*command: object) -> str:
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


Found = dict[tuple[str, str, str], tuple[Sums, list[np.ndarray]]]


@pytest.fixture(scope="module")
def found(driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the emulated kernels give for every case, with features where there are any."""
    folder = tmp_path_factory.mktemp("cases")
    shapes: list[list[tuple[int, ...]]] = []
    with (folder / "in").open("wb") as file:
        for number, (family, precision, name) in enumerate(CASES):
            potential, _, atoms, _ = case(family, precision, name)
            n = len(atoms)
            n_features = potential.descriptor.n_features if has_features(family, precision) else 0
            for array in packed(potential, atoms, n_features, n_threads=1 + number % 2):
                file.write(array.tobytes())
            sums: list[tuple[int, ...]] = [(1,), (3, 3), (n,), (n, 3)]
            shapes.append([*sums, (n, n_features), (n, n_features), (n, 3), (3, 3)] if n_features else sums)
    run(EMULATOR, driver, folder / "in", folder / "out")
    numbers, at = np.fromfile(folder / "out"), 0
    results: Found = {}
    for key, wanted in zip(CASES, shapes, strict=True):
        arrays = []
        for shape in wanted:
            size = int(np.prod(shape))
            arrays.append(numbers[at : at + size].reshape(shape))
            at += size
        energy, virial, energies, forces = arrays[:4]
        results[key] = (Sums(float(energy[0]), forces, virial, energies, None, (0.0, 0.0)), arrays[4:])
    assert at == len(numbers)
    return results


@pytest.mark.parametrize(("family", "precision", "name"), CASES)
def test_kernels_of_arm_are_the_reference(family: str, precision: str, name: str, found: Found) -> None:
    _, reference, atoms, tolerance = case(family, precision, name)
    assert_sums_are_those_of(reference, atoms, found[family, precision, name][:1], tolerance)


@pytest.mark.parametrize(("family", "precision", "name"), [one for one in CASES if has_features(*one[:2])])
def test_features_of_arm_and_their_derivatives_are_those_of_autograd(
    family: str, precision: str, name: str, found: Found
) -> None:
    potential, _, atoms, _ = case(family, precision, name)
    values, changes, gradient, virial = found[family, precision, name][1]
    moved, weights = directions(atoms, values.shape[1])
    graph = build_graph(atoms, potential.cutoff)
    vectors = graph.vectors.clone().requires_grad_(True)
    expected = potential.descriptor.features(graph.with_vectors(vectors))
    (slopes,) = torch.autograd.grad(expected, vectors, torch.from_numpy(weights))
    slope = torch.zeros((len(atoms), 3), dtype=torch.float64)
    slope.index_add_(0, graph.pairs[1], slopes).index_add_(0, graph.pairs[0], slopes, alpha=-1.0)
    for given, of_torch in ((values, expected.detach()), (gradient, slope), (virial, graph.vectors.T @ slopes)):
        reference = of_torch.numpy()
        # of an atom and its own images the gradient is a sum of large numbers that cancel
        size = max(np.abs(reference).max(), 1e-3 if given is not gradient else float(slopes.abs().max()))
        assert np.abs(given - reference).max() <= 1e-10 * size
    # the change along the displacements is the transpose of the gradient
    size = np.abs(weights * changes).sum() + np.abs(gradient * moved).sum() + float(slopes.abs().max())
    assert abs((weights * changes).sum() - (gradient * moved).sum()) <= 1e-11 * size


@pytest.mark.parametrize("precision", ["2d", "4s"])
@pytest.mark.parametrize("family", ["radial_angular", "snap"])
def test_arm_multiplies_and_adds_vectors(family: str, precision: str, driver: Path) -> None:
    listing = run(DISASSEMBLER, "-d", "--no-show-raw-insn", driver.parent / f"{family}.o")
    vectors = len(re.findall(rf"\sfml[as]\s+v\d+\.{precision},", listing))
    scalars = len(re.findall(r"\sfn?m(?:add|sub)\s+[ds]\d+,", listing))  # of sums over threads and virials of atoms
    assert vectors > 10 * scalars > 0
