"""What a person has to know beside the numbers of a film: what was left out, and what the words do not mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.formula import Formula

from mlmd.analysis.film import Film
from mlmd.analysis.film_layers import FilmLayer
from mlmd.analysis.layers import NARROW, WIDEST, Layers, kernel_for, layer_spacing, layers_along
from mlmd.analysis.recognition import Lattices, Recognition
from mlmd.analysis.sticking import Sticking
from mlmd.analysis.template_matching import OTHER, TYPES
from mlmd.io.growing import Moment

OVERFULL = 1.5
"""ML: a layer with more is not one."""


def of_the_slab(bare: Moment, surface: np.ndarray, profile: Layers, kernel: float) -> tuple[str, ...]:
    """What a monolayer is not, given the heights of the top layer of the bare slab, the layers of the film, and the
    kernel that cut them.
    """
    notes = []
    spacing = layer_spacing(bare.positions[:, 2])
    if kernel_for(spacing) < WIDEST:
        notes.append(f"layers of the slab are {spacing:.2f} Å apart: cut by a kernel of {kernel:.2g} Å")
    above = int((bare.positions[:, 2] > surface.max()).sum())
    if above:
        notes.append(
            f"atoms on the top layer of the bare slab at the beginning: {above}; beside its {len(surface)} they are no "
            "layer"
        )
    n_layers = layers_along(bare.positions[:, 2], 1, NARROW).n_layers
    if profile.n_layers < n_layers:
        notes.append(
            f"the bare slab has {n_layers} layers, and of slab and film only {profile.n_layers} can be told apart: "
            "what is told of layers is of several; lower the kernel"
        )
    return tuple(notes)


def of_the_layers(layers: Sequence[FilmLayer]) -> tuple[str, ...]:
    """Which layers are several."""
    overfull = [str(layer.number) for layer in layers if layer.filling.value > OVERFULL]
    if not overfull:
        return ()
    return (
        f"layers with more than {OVERFULL} ML, {', '.join(overfull)}, are several that move across each other: their "
        "height, filling and face are those of all together",
    )


def of_the_film(films: Sequence[Film]) -> tuple[str, ...]:
    """What is left out in the last frames."""
    notes = []
    if len(films) < 2:
        notes.append("one frame has no scatter: errors of what is told of the film are not known")
    if not films[-1].arrived.any():
        notes.append("nothing that arrived holds on to the slab: what is told is of the slab")
    flying = films[-1].n_flying
    if flying:
        notes.append(f"{flying} atoms hold on to nothing in the last frame and are left out")
    holes = float(np.isnan(films[-1].map.heights).mean())
    if holes:
        notes.append(f"there is no atom below {holes:.1%} of the plane: roughness and thickness are of the rest")
    return tuple(notes)


def of_arrivals(stuck: Sequence[Sticking]) -> tuple[str, ...]:
    """What sticking and coverage count."""
    notes = []
    undecided = sum(one.undecided for one in stuck if one.species != "all")
    if undecided:
        notes.append(f"{undecided} arrivals neither stuck nor left by the last frame; sticking does not count them")
    molecules = [one.species for one in stuck if one.species != "all" and len(Formula(one.species)) > 1]
    if molecules:
        notes.append(
            f"coverage and growth count the atoms of {', '.join(molecules)}, while a flux in ML counts molecules: one "
            f"{molecules[0]} adds {len(Formula(molecules[0]))} atoms"
        )
    return tuple(notes)


def of_the_lattice(given: str | None, compared: str | None, types: np.ndarray) -> tuple[str, ...]:
    """What is not told of crystals.

    Args:
        given: whose faces were asked for.
        compared: whose faces layers were compared with.
        types: (n_atoms,) numbers of `template_matching.TYPES`, in the last frame.
    """
    notes = []
    if given == "none":
        notes.append('layers were not compared with faces, as asked by lattice = "none"')
    elif compared is None:
        notes.append("layers were not compared with faces: the element has no fcc or bcc lattice, and none was given")
    for name in ("hcp", "hexagonal-diamond", "graphene"):
        if (types == TYPES.index(name)).sum() > 0.5 * (types != OTHER).sum():
            notes.append(
                f"most atoms in a lattice are of {name}; grains are of cubic lattices, and of {name} none are told"
            )
    return tuple(notes)


def of_templates(recognition: Recognition, found: Lattices) -> tuple[str, ...]:
    """What was compared, and how far atoms are from the cutoff, from the lattices of the last frame."""
    if found.rmsd is None or not np.isfinite(found.rmsd).any():
        return ()
    low, middle, high = np.quantile(found.rmsd[np.isfinite(found.rmsd)], [0.05, 0.5, 0.95])
    return (
        f"structure types by {recognition}; the RMSD of 5, 50 and 95 % of atoms of the last frame is below {low:.2f}, "
        f"{middle:.2f} and {high:.2f}",
    )
