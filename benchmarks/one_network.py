"""One radial-angular network with random parameters in other programs: a prototype kernel in C++, and plain torch.

The network has 8 radial and 6 angular functions of 8 Chebyshev polynomials, harmonics up to l = 4, and 32 neurons:
32 features. The prototype has these numbers as constants, and its formulas are those of mlmd up to the order of the
features, so that both get the same parameters and must give the same forces. It gets its list of neighbours ready-made
and is never asked to follow or search it; mlmd follows its list at every call.
"""

from __future__ import annotations

import ctypes
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from peers import clock
from torch import Tensor

from mlmd.descriptors.radial_angular import RadialAngular, harmonics, invariants
from mlmd.fitting.network import Network
from mlmd.graph import Graph
from mlmd.kernels import describe
from mlmd.kernels.pairs import find_pairs
from mlmd.potentials.nep import NEP
from mlmd.precision import dtype_of

CUTOFF = 5.0  # Å
LATTICE = 3.27  # Å: an fcc crystal has 54 neighbours within the cutoff
N_RADIAL, N_ANGULAR, N_BASIS, L_MAX, N_NEURONS = 8, 6, 8, 4, 32
FLOPS_PER_PAIR = 2100
"""Of the prototype, counted by hand from its source; an atom has 54 pairs."""
VECTORS = {
    512: "-march=x86-64-v4 -mprefer-vector-width=512 -DVB=64",
    256: "-march=x86-64-v3 -DVB=32",
    128: "-DVB=16",
}
"""Width of vectors in bits -> what compiles other programs for the same instructions as mlmd's kernels."""


def network(precision: str = "float64", element: str = "Cu") -> NEP:
    """A potential of an element, in name only."""
    generator = torch.Generator().manual_seed(1)
    descriptor = RadialAngular(
        elements=(element,), cutoff=CUTOFF, n_radial=N_RADIAL, n_radial_basis=N_BASIS,
        n_angular=N_ANGULAR, n_angular_basis=N_BASIS, l_max=L_MAX,
    )  # fmt: skip
    head = Network(n_features=descriptor.n_features, n_neurons=N_NEURONS)
    with torch.no_grad():
        for tensor in (
            descriptor.radial.coefficients,
            descriptor.angular.coefficients,
            head.weights,
            head.biases,
            head.output,
        ):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        descriptor.scaling.copy_(torch.tensor([0.1] * N_RADIAL + [0.05] * (N_ANGULAR * L_MAX)))
    return NEP(descriptor, head).to(dtype_of(precision))


def compiled(source: Path) -> ctypes.CDLL:
    """A C++ file compiled for the vectors of mlmd's kernels."""
    width = next(width for width in VECTORS if f"{width} bits" in describe())
    folder = Path(tempfile.mkdtemp(prefix="kernel-"))
    flags = shlex.split(f"-O3 -std=c++17 {VECTORS[width]} -ffast-math -DKCH=2 -fopenmp -fPIC -w")
    subprocess.run(["g++", *flags, "-c", str(source), "-o", str(folder / "k.o")], check=True)
    # linked without -ffast-math, which would flush small numbers to zero in the whole process
    subprocess.run(["g++", "-shared", "-fopenmp", str(folder / "k.o"), "-o", str(folder / "k.so")], check=True)
    return ctypes.CDLL(str(folder / "k.so"))


def peak(threads: int, precision: str) -> float:
    """Fused multiply-adds that the processor can do, GFLOP/s."""
    global _peak  # noqa: PLW0603
    _peak = _peak or compiled(Path(__file__).with_name("fma_peak.cpp"))
    function = getattr(_peak, f"peak_f{precision[-2:]}")
    function.restype = ctypes.c_double
    return float(function(threads))


_peak: ctypes.CDLL | None = None


class Prototype:
    """The prototype with the parameters of `network`."""

    def __init__(self, library: ctypes.CDLL, potential: NEP, atoms: Atoms, precision: str, threads: int) -> None:
        """Take the compiled library, the potential in float64, atoms in a cubic cell, "float64" or "float32"."""
        kind, self.threads, self._now = np.dtype(precision), threads, clock(threads)
        self._run = getattr(library, f"run_f{precision[-2:]}")
        self._run.restype = ctypes.c_double
        self._cell = float(atoms.cell.array[0, 0])
        self._real = ctypes.c_double if kind == np.float64 else ctypes.c_float
        self._rows = rows(atoms)
        descriptor, head = potential.descriptor, potential.regressor
        # mlmd's angular features are sorted by l, then n; the prototype's by n, then l
        angular = np.arange(N_ANGULAR * L_MAX).reshape(L_MAX, N_ANGULAR).T.ravel()
        order = np.concatenate([np.arange(N_RADIAL), N_RADIAL + angular])
        tensors = {
            "radial": descriptor.radial.coefficients[0, 0], "angular": descriptor.angular.coefficients[0, 0],
            "scaling": descriptor.scaling[order], "weights": head.weights[0][:, order],
            "biases": head.biases[0], "output": head.output[0],
        }  # fmt: skip
        self._tensors = {k: np.ascontiguousarray(v.detach().numpy(), dtype=kind) for k, v in tensors.items()}
        self._squares = weights_of_squares().astype(kind)
        self._positions, self._forces = np.empty((len(atoms), 3), kind), np.empty((len(atoms), 3), kind)

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Forces, seconds, and nothing for the list, at positions whose neighbours are those of the start."""
        self._positions[:] = positions
        t = self._tensors
        pointers = [t["radial"], t["angular"], self._squares, t["scaling"], t["weights"], t["biases"], t["output"]]
        start = self._now()
        self._run(
            ctypes.c_long(len(positions)), self._rows.shape[1], _pointer(self._positions), self._real(self._cell),
            _pointer(self._rows), *map(_pointer, pointers), self._real(CUTOFF), _pointer(self._forces), self.threads,
        )  # fmt: skip
        return self._forces.astype(np.float64), self._now() - start, 0.0


def rows(atoms: Atoms) -> np.ndarray:
    """(n_atoms, most neighbours) int32 neighbours within the cutoff; the atom itself where there is none."""
    (centres, neighbours), _ = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    counts = np.bincount(centres, minlength=len(atoms))
    table = np.repeat(np.arange(len(atoms), dtype=np.int32)[:, None], counts.max(), axis=1)
    table[centres, np.arange(len(centres)) - (np.cumsum(counts) - counts)[centres]] = neighbours
    return table


def weights_of_squares() -> np.ndarray:
    """(24,) squares of the factors that make the prototype's harmonics orthonormal."""
    directions = np.random.default_rng(0).normal(size=(3, 1))
    directions /= np.linalg.norm(directions)
    x, y, z = directions[:, 0]
    c2, s2 = x * x - y * y, 2 * x * y
    c3, s3 = (x * x - 3 * y * y) * x, (3 * x * x - y * y) * y
    c4, s4 = c2 * c2 - s2 * s2, 2 * c2 * s2
    p, q, a = 7 * z * z - 3, 7 * z * z - 1, 5 * z * z - 1
    bare = [
        z, x, y, 3 * z * z - 1, x * z, y * z, c2, s2, (5 * z * z - 3) * z, a * x, a * y, c2 * z, s2 * z, c3, s3,
        (35 * z * z - 30) * z * z + 3, p * x * z, p * y * z, q * c2, q * s2, c3 * z, s3 * z, c4, s4,
    ]  # fmt: skip
    return (harmonics(torch.tensor(directions), L_MAX)[:, 0].numpy() / bare) ** 2


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def edge_list(potential: NEP, graph: Graph) -> Tensor:
    """Forces (n_atoms, 3) by plain torch over a list of pairs, as most programs do it: index_add and autograd."""
    descriptor, shape = potential.descriptor, potential.descriptor.shape
    centres, neighbours = graph.pairs
    vectors = graph.vectors.detach().to(descriptor.scaling.dtype).requires_grad_(True)
    distances = vectors.norm(dim=1)
    y = 1 - distances / descriptor.cutoff
    wave = torch.sin(0.5 * torch.pi * y)
    chebyshev = [torch.ones_like(y), y]
    while len(chebyshev) < max(shape.n_radial_basis, shape.n_angular_basis):
        chebyshev.append(2 * y * chebyshev[-1] - chebyshev[-2])
    functions = (torch.stack(chebyshev, dim=1) * wave[:, None]) ** 2
    radial = functions[:, : shape.n_radial_basis] @ descriptor.radial.coefficients[0, 0].T
    angular = functions[:, : shape.n_angular_basis] @ descriptor.angular.coefficients[0, 0].T
    spherical = harmonics((vectors / distances[:, None]).T, shape.l_max).T
    products = angular[:, :, None] * spherical[:, None, :]
    sums = vectors.new_zeros(graph.n_atoms, shape.n_radial).index_add(0, centres, radial)
    moments = products.new_zeros(graph.n_atoms, *products.shape[1:]).index_add(0, centres, products)
    features = torch.cat([sums, invariants(moments, shape).flatten(1)], dim=1) * descriptor.scaling
    energy = potential.regressor.energies(features, torch.zeros_like(graph.numbers)).sum()
    (gradient,) = torch.autograd.grad(energy, vectors)
    forces = graph.positions.new_zeros(graph.n_atoms, 3)
    return forces.index_add(0, centres, gradient.double()).index_add(0, neighbours, -gradient.double())


def chunked(potential: NEP, graph: Graph) -> Tensor:
    """Forces by mlmd's torch path, some atoms at a time."""
    return potential.predict(graph).forces


TORCH: dict[str, Callable[[NEP, Graph], Tensor]] = {"edge list": edge_list, "mlmd": chunked}
