"""What each layer of a film is like: how full, of what, how ordered, and which face of a crystal it resembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, reference_states

from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.film import Film
from mlmd.analysis.layers import Layers
from mlmd.analysis.recognition import CNA, Recognition
from mlmd.analysis.surface_similarity import FACES, LATTICES, Likeness, lattice_constant, surface_similarity
from mlmd.errors import InputError, did_you_mean

FULL_ENOUGH = 0.3
"""ML: with fewer atoms a layer is not compared with faces."""
ALIKE = 0.6
"""S with the face that a layer is told to be like; of a gas it is less."""
COMPARED = 3
"""Frames, from the last ones, in which layers are compared with faces: a second for each layer of each."""


@dataclass(frozen=True)
class FilmLayer:
    """One layer, in the last frames."""

    number: int
    """0 is the top layer of the bare slab, 1 the first above it."""
    height: Estimate
    """Å, mean z of its atoms."""
    filling: Estimate
    """ML."""
    composition: Mapping[str, float]
    """Fraction of its atoms, by element."""
    coordination: Estimate
    """Mean number of neighbours."""
    structures: Mapping[str, Estimate]
    """Fraction of its atoms, by what lattice they are part of; all types are there."""
    similarity: Mapping[str, Estimate]
    """S with each face, by its indices; empty where it was not compared."""
    references: Mapping[str, Likeness]
    """What the reference was in the last frame."""

    @property
    def face(self) -> str | None:
        """The face that it is most like; none where that is as little as a gas is like one."""
        best = max(self.similarity, key=lambda face: self.similarity[face].value, default=None)
        return None if best is None or self.similarity[best].value < ALIKE else best

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "number": self.number,
            **{name: getattr(self, name).to_dict() for name in ("height", "filling", "coordination")},
            "composition": dict(self.composition),
            "structures": {name: one.to_dict() for name, one in self.structures.items()},
            "similarity": {face: one.to_dict() for face, one in self.similarity.items()},
            "strain": {face: [one.in_plane, one.normal] for face, one in self.references.items()},
            "displacement_A": {face: one.displacement for face, one in self.references.items()},
            "face": self.face,
        }


def lattice_of(film: Film, given: str | None) -> str | None:
    """The lattice whose faces layers are compared with.

    Raises:
        InputError: when something else than "fcc", "bcc" or "none" is given.
    """
    if given is not None:
        if given not in (*LATTICES, "none"):
            raise InputError(f"lattice = {given!r} is not known. {did_you_mean(given, (*LATTICES, 'none'))}")
        return None if given == "none" else given
    return lattice_of_element(_main_element(film))


def lattice_of_element(number: int) -> str | None:
    """fcc or bcc, where the element with an atomic number has one of these at room conditions."""
    state = reference_states[number]
    lattice = None if state is None else str(state["symmetry"])
    return lattice if lattice in LATTICES else None


def film_layers(
    films: Sequence[Film], profile: Layers, zero: int, monolayer: int, lattice: str | None,
    recognition: Recognition = CNA,
) -> tuple[FilmLayer, ...]:  # fmt: skip
    """Describe every layer.

    Args:
        films: of the last frames.
        profile: which tells where layers end.
        zero: index of the layer that is the top of the bare slab.
        monolayer: atoms of a full layer.
        lattice: with whose faces layers are compared.
        recognition: how it is told of which lattice an atom is.
    """
    kinds = [recognition.of(film.positions, film.cell, film.pbc).types for film in films]
    names = recognition.names
    layers = [np.clip(profile.of(film.positions[:, 2]), 0, profile.n_layers - 1) for film in films]
    found = []
    for index in range(profile.n_layers):
        atoms = [own == index for own in layers]
        some = [place for place, one in enumerate(atoms) if one.any()]
        types = {name: np.array([(kinds[p][atoms[p]] == kind).mean() for p in some]) for name, kind in names.items()}
        filling = average(np.array([one.sum() / monolayer for one in atoms]), "ML")
        likeness: list[dict[str, Likeness]] = []
        if lattice is not None and index >= zero and filling.value >= FULL_ENOUGH:
            compared = [_likeness(films[p], layers[p], index, profile, lattice) for p in some[-COMPARED:]]
            likeness = [one for one in compared if one]
        found.append(
            FilmLayer(
                index - zero,
                average(np.array([films[p].positions[atoms[p], 2].mean() for p in some]), "Å"),
                filling,
                _composition(np.concatenate([films[p].numbers[atoms[p]] for p in some])),
                average(np.array([films[p].pairs.coordination[atoms[p]].mean() for p in some]), ""),
                {name: average(share, "") for name, share in types.items()},
                {
                    face: average(np.array([one[face].similarity for one in likeness]), "")
                    for face in FACES if likeness
                },
                likeness[-1] if likeness else {},
            )
        )  # fmt: skip
    return tuple(found)


def _likeness(film: Film, layers: np.ndarray, index: int, profile: Layers, lattice: str) -> dict[str, Likeness]:
    """With each face, of a layer: what is of the elements of the film; empty where that is too little."""
    film_only = np.isin(film.numbers, film.numbers[film.arrived] if film.arrived.any() else film.numbers)
    layer, below = (layers == index) & film_only, (layers < index) & film_only
    if layer.sum() < 0.5 * (layers == index).sum():
        return {}
    # From peak to peak; an edge of the whole profile lies in the vacuum.
    spacings = np.diff(profile.peaks)
    width = float(spacings[min(max(index - 1, 0), len(spacings) - 1)]) if len(spacings) else 0.0
    constant = lattice_constant(lattice, film.bond(float(np.median(film.pairs.distances))))
    return surface_similarity(
        film.positions[layer], film.positions[below], film.cell, lattice=lattice, constant=constant, width=width
    )


def _main_element(film: Film) -> int:
    """Atomic number of the element of which most has arrived, or of which most there is."""
    numbers = film.numbers[film.arrived] if film.arrived.any() else film.numbers
    return int(np.bincount(numbers).argmax())


def _composition(numbers: np.ndarray) -> dict[str, float]:
    kinds, counts = np.unique(numbers, return_counts=True)
    return {chemical_symbols[kind]: float(count / len(numbers)) for kind, count in zip(kinds, counts, strict=True)}
