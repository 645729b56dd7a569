"""A model of DeePMD-kit as TorchScript, which plain torch runs, and the same numbers in parts of mlmd."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlmd.descriptors.embedding import DeepPotSE
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential


@dataclass(frozen=True)
class Expected:
    """What DeePMD-kit gives for a structure."""

    atoms: Atoms
    atomic_energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    """(3, 3) eV: Σ r ⊗ F, which is -V·stress."""
    descriptor: np.ndarray | None


def published(path: Path, elements: tuple[str, ...]) -> list[Expected]:
    """The structures of a test case of DeePMD-kit with their results; the few lines of YAML there are lists."""
    found = []
    for block in path.read_text().split("- coord:")[1:]:
        numbers: dict[str, np.ndarray] = {}
        for name, text in re.findall(r"(\w+):\s*\[([^\]]*)\]", f"coord: {block}"):
            numbers[name] = np.array([float(word) for word in text.replace(",", " ").split()])
        kinds = numbers["atype"].astype(int)
        atoms = Atoms([elements[kind] for kind in kinds], positions=numbers["coord"].reshape(-1, 3))
        if "box" in numbers:
            atoms.set_cell(numbers["box"].reshape(3, 3))
            atoms.pbc = True
        found.append(
            Expected(
                atoms,
                numbers["atomic_energy"],
                numbers["force"].reshape(-1, 3),
                numbers["atomic_virial"].reshape(-1, 3, 3).sum(axis=0),
                numbers["descriptor"].reshape(len(kinds), -1) if "descriptor" in numbers else None,
            )
        )
    return found


def run(model: Any, atoms: Atoms, elements: tuple[str, ...]) -> Expected:
    """What the model itself gives for a periodic structure."""
    kinds = torch.tensor([[elements.index(symbol) for symbol in atoms.symbols]])
    positions = torch.from_numpy(atoms.positions)[None]
    said = model(positions, kinds, torch.from_numpy(np.asarray(atoms.cell.array)).reshape(1, 9))
    numbers = {name: value.detach().numpy()[0] for name, value in said.items()}
    return Expected(atoms, numbers["atom_energy"].ravel(), numbers["force"], numbers["virial"].reshape(3, 3), None)


def learned(model: Any, elements: tuple[str, ...]) -> LearnedPotential:
    """The potential of a model of `se_e2_a`, with its settings and numbers."""
    state, own = model.state_dict(), model.atomic_model.descriptor.sea
    # all of these are in the settings that DeePMD-kit's test case prints
    descriptor = DeepPotSE(
        elements=elements, cutoff=6.0, onset=0.5, n_places=(46, 92), n_neurons=(3, 6, 12), n_axes=2
    )  # fmt: skip
    network = Network(
        n_features=24, n_neurons=(10, 10, 10), n_kinds=2, activation="tanh", residual=True, timestep=True
    )  # fmt: skip
    fitting = "atomic_model.fitting_net.filter_layers._networks"
    embedding = "atomic_model.descriptor.sea.filter_layers._networks"
    with torch.no_grad():
        descriptor.mean.copy_(own.mean[:, 0, 0])
        descriptor.deviation.copy_(own.stddev[:, 0, :2])
        for kind in range(2):
            for layer, (weights, biases) in enumerate(descriptor.layers):
                weights[kind] = state[f"{embedding}.{kind}.layers.{layer}.matrix"].T
                biases[kind] = state[f"{embedding}.{kind}.layers.{layer}.bias"]
            for layer, ((weights, biases), steps) in enumerate(zip(network.hidden, network.steps, strict=True)):
                weights[kind] = state[f"{fitting}.{kind}.layers.{layer}.matrix"].T
                biases[kind] = state[f"{fitting}.{kind}.layers.{layer}.bias"]
                if steps is not None:
                    steps[kind] = state[f"{fitting}.{kind}.layers.{layer}.idt"]
            network.output[kind] = state[f"{fitting}.{kind}.layers.3.matrix"][:, 0]
            network.constants[kind] = state[f"{fitting}.{kind}.layers.3.bias"][0]
        network.constants += state["atomic_model.fitting_net.bias_atom_e"][:, 0]
    return LearnedPotential(descriptor, network)
