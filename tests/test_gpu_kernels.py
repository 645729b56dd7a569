"""Kernels for a GPU against those for processors, compiled for the processor, and on a GPU where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from classical import silicon
from kernel_systems import SYSTEMS, TOLERANCES, Tolerance, needs_kernels, system
from random_networks import random_nep
from test_kernels_classical import FAMILIES as CLASSICAL

from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.kernels.gpu.evaluate import DeviceKernel
from mlmd.kernels.gpu.host import HostProgram
from mlmd.kernels.kernel import Sums
from mlmd.kernels.native import GPU_CHOICE
from mlmd.models import path
from mlmd.potentials import Evaluation, on_gpu
from mlmd.potentials.compared import SAME, ComparedEvaluator, difference
from mlmd.potentials.evaluate import GraphEvaluator
from mlmd.potentials.fused import FusedEvaluator, kinds_of
from mlmd.potentials.modelfile import load
from mlmd.potentials.on_gpu import GpuEvaluator, gpu_evaluator, gpu_kernel_of, why_slow, why_torch

SKIN = 0.8
ROUGH = Tolerance(5e-6, 5e-6, 1e-5)
"""Of moment tensors in float32, whose terms are larger than what they add up to; seen: 2e-6 of forces."""

Make = Callable[[str, Mapping[str, object]], HostProgram]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
pytestmark = [
    needs_kernels,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Programs for the processor, each compiled once."""
    made: dict[str, HostProgram] = {}

    def program(file: str, macros: Mapping[str, object]) -> HostProgram:
        key = f"{file} {macros}"
        if key not in made:
            made[key] = HostProgram(file, macros, tmp_path_factory.mktemp("program"))
        return made[key]

    return program


def on_processor(potential: Any, atoms: Atoms, make: Make, lanes: int = 1) -> DeviceKernel:
    """A system whose kernels for a GPU run on the processor."""
    species = kinds_of(potential.elements, atoms.numbers)
    return DeviceKernel(potential.kernel(), species, atoms.pbc, SKIN, torch.device("cpu"), make, lanes)


def on_card(potential: Any, atoms: Atoms) -> GpuEvaluator:
    return gpu_evaluator(potential.kernel(), potential.elements, atoms.numbers, atoms.pbc, SKIN, "cuda")


def own(potential: Any, atoms: Atoms) -> Sums:
    """What the kernel for processors says."""
    fused = FusedEvaluator(potential.kernel(), potential.elements, atoms.numbers, atoms.pbc, SKIN)
    return fused.sums(atoms.positions, atoms.cell.array, details=True)


def assert_same(found: Sums, expected: Sums, tolerance: Tolerance) -> None:
    for name, allowed in (
        ("energies", tolerance.energy), ("energy", tolerance.energy), ("forces", tolerance.forces),
        ("virial", tolerance.virial), ("virials", tolerance.virial),
    ):  # fmt: skip
        one, other = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        size = max(1.0, float(np.abs(other).max()))
        if name == "energy":  # of terms that may cancel
            size += float(np.abs(expected.energies).sum())
        assert np.abs(one - other).max() <= allowed * size, name


def shipped(name: str, precision: str = "float64") -> Any:
    return load(path(name)).to(getattr(torch, precision))


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_networks_are_those_of_the_processor_on_all_kinds_of_systems(name: str, precision: str, make: Make) -> None:
    potential = random_nep(("Li", "Y", "Cl"), precision)
    atoms = system(name, potential.elements, 2.4)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES[precision])


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("model", ["Cu", "Li3YCl6"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_moment_tensors_are_those_of_the_processor_on_all_kinds_of_systems(
    name: str, model: str, precision: str, make: Make
) -> None:
    potential = shipped(model, precision)
    atoms = system(name, potential.elements, 2.6)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES[precision] if precision == "float64" else ROUGH)


@pytest.mark.parametrize("name", ["liquid", "tiny", "wire"])
@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, "float64") for family in ("lennard-jones-mixture", "morse", "zbl", "zbl-of-lammps", "finnis-sinclair")]
    + [("lennard-jones-mixture", "float32"), ("eam-alloy", "float32")],
)
def test_classical_potentials_are_those_of_the_processor(family: str, precision: str, name: str, make: Make) -> None:
    construct, spacing = CLASSICAL[family]
    potential = construct(precision)
    atoms = system(name, potential.elements, spacing)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES[precision])


SIZES: dict[str, dict[str, Any]] = {
    "cutoffs of the elements": {"cutoff": ["5 Å", "4.2 Å"], "angular_cutoff": ["3 Å", "4.2 Å"]},
    "one function, one polynomial": {"n_radial": 1, "n_radial_basis": 1, "n_angular": 1, "n_angular_basis": 1},
    "radial only": {"l_max": 0, "four_body": False, "five_body": False},
    "functions in pieces": {"n_angular": 8, "n_angular_basis": 3, "common": True},
    "degree 1": {"l_max": 1, "four_body": False},
    "degree 8": {"l_max": 8, "n_angular": 2},
}


@pytest.mark.parametrize("sizes", SIZES)
def test_networks_of_all_sizes_are_those_of_the_processor(sizes: str, make: Make) -> None:
    potential = random_nep(("Si", "O"), **SIZES[sizes])
    atoms = system("liquid", potential.elements, 2.2)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES["float64"])


@pytest.mark.parametrize("lanes", [4, 8, 32])
@pytest.mark.parametrize("model", ["network", "moments"])
def test_threads_that_work_together_change_rounding_alone(lanes: int, model: str, make: Make) -> None:
    potential = random_nep(("Li", "Y", "Cl")) if model == "network" else shipped("Li3YCl6")
    atoms = system("tiny", potential.elements, 2.6) * (2, 1, 1)
    found = on_processor(potential, atoms, make, lanes).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES["float64"])


def test_elements_that_are_not_there_change_nothing(make: Make) -> None:
    potential = random_nep(("Li", "Y", "Cl"))
    atoms = system("liquid", ("Li", "Cl"), 2.4)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES["float64"])


@pytest.mark.parametrize("name", ["liquid", "slab", "skewed"])
def test_no_pair_is_missed_while_atoms_and_cell_move(name: str, make: Make) -> None:
    potential = random_nep(("Li", "Cl"))
    atoms = system(name, potential.elements, 2.4)
    generator = np.random.default_rng(3)
    velocities = 0.03 * generator.normal(size=atoms.positions.shape)
    moving = on_processor(potential, atoms, make)
    n_steps = 24
    for step in range(n_steps):
        found = moving.compute(atoms.positions, atoms.cell.array, details=True)
        assert_same(found, own(potential, atoms), TOLERANCES["float64"])
        atoms.positions += velocities
        if step % 2:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 2e-3 * generator.normal(size=(3, 3))), scale_atoms=True)
    assert 2 <= moving.atoms.n_searches < n_steps / 2


def test_a_restart_continues_with_the_same_bits(make: Make) -> None:
    potential = random_nep(("Li", "Cl"))
    atoms = system("liquid", potential.elements, 2.4)
    cell, first, second = atoms.cell.array, on_processor(potential, atoms, make), on_processor(potential, atoms, make)
    first.compute(atoms.positions, cell)
    second.restore(first.state())
    found = [one.compute(atoms.positions + 0.01, cell) for one in (first, second)]
    assert (found[0].forces == found[1].forces).all()
    assert found[0].energy == found[1].energy


@pytest.mark.parametrize("step", [0, 1])
def test_a_position_that_is_not_finite_is_told(step: int, make: Make) -> None:
    potential = random_nep(("Li", "Cl"))
    atoms = system("crystal", potential.elements, 2.4)
    moving, cell = on_processor(potential, atoms, make), atoms.cell.array
    if step:
        moving.compute(atoms.positions, cell)
    atoms.positions[5, 1] = np.nan
    with pytest.raises(SimulationError, match="of atom 5 is not finite"):
        moving.compute(atoms.positions, cell)


def test_the_forces_on_all_atoms_add_up_to_nothing(make: Make) -> None:
    # every pair is counted from both ends, or from none
    potential = shipped("Li3YCl6")
    atoms = system("skewed", potential.elements, 2.6)
    found = on_processor(potential, atoms, make).compute(atoms.positions, atoms.cell.array)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-11 * np.abs(found.forces).max()


def compared(potential: Any, atoms: Atoms, make: Callable[[], Any]) -> ComparedEvaluator:
    other = GraphEvaluator(potential, atoms.numbers, atoms.pbc, SKIN)
    return ComparedEvaluator("kernels", make, other, potential.kernel().precision)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("model", ["network", "moments"])
def test_kernels_are_within_a_tenth_of_what_may_differ_from_pytorch(model: str, precision: str, make: Make) -> None:
    potential = random_nep(("Li", "Y", "Cl"), precision) if model == "network" else shipped("Li3YCl6", precision)
    atoms = system("liquid", potential.elements, 2.6)
    ready = compared(potential, atoms, lambda: GpuEvaluator(on_processor(potential, atoms, make)))
    found = ready.evaluate(atoms.positions, atoms.cell.array)
    assert isinstance(ready.taken, GpuEvaluator)
    expected = GraphEvaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    assert difference(found, expected, 0.1 * SAME[precision]) is None


@pytest.mark.parametrize("wrong", ["energy", "forces", "virial", "nan", "the third step", "failed", "no program"])
def test_kernels_that_are_wrong_are_given_up_for_pytorch(wrong: str) -> None:
    potential = random_nep(("Li", "Cl"))
    atoms = system("tiny", potential.elements, 2.4)
    cell, n_asked = atoms.cell.array, 0

    class Wrong(GraphEvaluator):
        def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
            nonlocal n_asked
            n_asked += 1
            if wrong == "failed":
                raise MlmdError("CUDA refuses the program.")
            right = super().evaluate(positions, cell)
            if wrong in ("nan", "the third step"):
                bad = 1e-6 if wrong == "the third step" and n_asked > 2 else np.nan if wrong == "nan" else 0.0
                return replace(right, forces=right.forces + bad)
            return replace(right, **{wrong: getattr(right, wrong) + 2e-9 * len(right.forces)})

    def made() -> GraphEvaluator:
        if wrong == "no program":
            raise MlmdError("NVRTC does not compile mlmd's program.")
        return Wrong(potential, atoms.numbers, atoms.pbc, SKIN)

    right = GraphEvaluator(potential, atoms.numbers, atoms.pbc, SKIN).evaluate(atoms.positions, cell)
    with pytest.warns(RuntimeWarning, match=r"kernels are not used: .* PyTorch computes\."):
        found = (ready := compared(potential, atoms, made)).evaluate(atoms.positions, cell)
    assert (found.forces == right.forces).all() and found.energy == right.energy
    asked = n_asked
    assert type(ready.taken) is GraphEvaluator
    ready.evaluate(atoms.positions + 0.01, cell)
    assert n_asked == asked <= 3


def test_kernels_go_on_alone_where_they_were_before(make: Make) -> None:
    potential = random_nep(("Li", "Cl"))
    atoms = system("liquid", potential.elements, 2.4)
    cell = atoms.cell.array
    first = GpuEvaluator(on_processor(potential, atoms, make))
    first.evaluate(atoms.positions, cell)
    second = compared(potential, atoms, lambda: GpuEvaluator(on_processor(potential, atoms, make)))
    second.restore(first.state())
    one, other = (each.evaluate(atoms.positions + 0.01, cell) for each in (first, second))
    assert (one.forces == other.forces).all() and one.energy == other.energy
    assert (second.state()["positions"] == atoms.positions).all()


def test_kernels_are_taken_on_a_gpu_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    potential = random_nep(("Si",))
    monkeypatch.setattr(on_gpu, "shortcoming", lambda: None)  # as on a machine with a GPU
    for choice, taken in ((None, False), ("", False), ("off", False), ("on", True)):
        monkeypatch.delenv(GPU_CHOICE, raising=False)
        if choice is not None:
            monkeypatch.setenv(GPU_CHOICE, choice)
        assert (gpu_kernel_of(potential, "cuda") is not None) == taken
        assert gpu_kernel_of(potential, "cpu") is None
        assert why_slow(potential, "cuda") is None
    monkeypatch.setenv(GPU_CHOICE, "onn")
    with pytest.raises(InputError, match=r"MLMD_GPU_KERNELS = 'onn'\. Did you mean 'on'\?"):
        gpu_kernel_of(potential, "cuda")


def test_a_potential_without_kernels_for_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_CHOICE, "on")
    told = why_torch(silicon())
    assert told is not None
    assert "no kernels for a GPU of the kind stillinger-weber" in told
    assert gpu_kernel_of(silicon(), "cuda") is None


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built for CUDA")
def test_torch_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_CHOICE, "on")
    potential = random_nep(("Si",))
    assert gpu_kernel_of(potential, "cuda") is None
    assert str(why_torch(potential)).startswith("kernels for a GPU need torch built for CUDA.")


def test_kernels_that_are_switched_off_stay_off_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_CHOICE, "on")
    monkeypatch.setenv("MLMD_KERNELS", "off")
    potential = random_nep(("Si",))
    assert gpu_kernel_of(potential, "cuda") is None
    assert "switched off by MLMD_KERNELS" in str(why_torch(potential))


@needs_gpu
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_gpu_gives_the_numbers_of_the_processor(name: str, precision: str) -> None:
    for potential, tolerance in (
        (random_nep(("Li", "Y", "Cl"), precision), TOLERANCES),
        (shipped("Li3YCl6", precision), None),
    ):
        atoms = system(name, potential.elements, 2.6)
        expected = own(potential, atoms)
        ready = on_card(potential, atoms)
        for _ in range(3):  # the third time it is a replay
            found = ready.sums(atoms.positions, atoms.cell.array, details=True)
            allowed = tolerance[precision] if tolerance else TOLERANCES[precision] if precision == "float64" else ROUGH
            assert_same(found, expected, allowed)


@needs_gpu
@pytest.mark.parametrize("lanes", [8, 16, 32])
def test_how_many_threads_work_on_an_atom_changes_rounding_alone(lanes: int) -> None:
    potential = random_nep(("Li", "Y", "Cl"))
    atoms = system("liquid", potential.elements, 2.4)
    species = kinds_of(potential.elements, atoms.numbers)
    made = DeviceKernel(potential.kernel(), species, atoms.pbc, SKIN, torch.device("cuda", 0), lanes=lanes)
    found = made.compute(atoms.positions, atoms.cell.array, details=True)
    assert_same(found, own(potential, atoms), TOLERANCES["float64"])


@needs_gpu
def test_a_gpu_gives_the_same_bits_twice() -> None:
    potential = random_nep(("Li", "Cl"), "float32")
    atoms = system("liquid", potential.elements, 2.4) * (6, 6, 6)
    ready = [on_card(potential, atoms) for _ in range(2)]
    one, other = (
        [made.evaluate(atoms.positions + 0.02 * step, atoms.cell.array) for step in range(4)] for made in ready
    )
    for a, b in zip(one, other, strict=True):
        assert (a.forces == b.forces).all()
        assert (a.virial == b.virial).all()
        assert a.energy == b.energy
