"""What has grown on a slab: layers, coverage, growth, sticking, roughness, structure, and which faces layers look like.

Heights are along z. A film is who holds on to the slab (`mlmd.analysis.film`). Its layers lie between the minima of the
density along z (`layers`); a monolayer, ML, is as many atoms as the top layer of the bare slab has (`top_layer`).
Coverage and growth count atoms that were not there at first, of molecules too; growth is a slope (`growth_rate`). The
roughness is that of the height map (`height_map`). Layers, structure types (`recognition`) and the similarity with
faces (`surface_similarity`) are those of the last frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.columns import csv_of
from mlmd.analysis.deposition_notes import (
    of_arrivals,
    of_templates,
    of_the_film,
    of_the_lattice,
    of_the_layers,
    of_the_slab,
)
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.film import Film, Scale, below_the_vacuum, check_plane, film_of
from mlmd.analysis.film_layers import FilmLayer, film_layers, lattice_of, lattice_of_element
from mlmd.analysis.grains import Grain, grains
from mlmd.analysis.growth_rate import growth_rate
from mlmd.analysis.height_map import HeightMap
from mlmd.analysis.layers import Layers, density_along, kernel_for, layer_spacing, layers_along, top_layer
from mlmd.analysis.recognition import CNA, Recognition
from mlmd.analysis.sticking import Sticking, sticking
from mlmd.analysis.surroundings import bond_length
from mlmd.errors import InputError
from mlmd.io.frames import Provenance
from mlmd.io.growing import Growth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_GRAINS = 4
"""Told in words; all are in the JSON file."""
_TOUCH = 1.4
"""Bonds: below this atoms touch, where the run does not say."""
_SHELL = {"fcc": 1.25, "bcc": 1.42}
"""Bonds: up to half way from the neighbours that count to the next; of bcc two shells count."""


@dataclass(frozen=True)
class Course:
    """What is counted in each frame."""

    times: np.ndarray
    """(n_frames,) fs."""
    coverage: np.ndarray
    """(n_frames,) ML, of atoms that arrived and hold on."""
    flying: np.ndarray
    """(n_frames,) atoms that hold on to nothing."""
    thickness: np.ndarray
    """(n_frames,) Å by which the mean height is above that of the bare slab."""
    roughness: np.ndarray
    """(n_frames,) Å."""
    exposed: np.ndarray
    """(n_frames,) atoms of the surface."""
    filling: np.ndarray
    """(n_frames, n_layers) ML: all atoms of each layer."""


@dataclass(frozen=True)
class DepositionResult:
    """A film and how it grew."""

    monolayer: int
    """Atoms of a monolayer."""
    course: Course
    layers: tuple[FilmLayer, ...]
    """From below; 0 is the top layer of the bare slab."""
    coverage: Estimate
    """ML, in the last frames."""
    thickness: Estimate
    """Å, likewise."""
    roughness: Estimate
    """Å, likewise."""
    bare_roughness: float
    """Å, of the slab before anything arrived."""
    exposed: Estimate
    """Atoms of the surface, in the last frames."""
    rate: Estimate
    """ML/ns, from the first rise of the coverage to its plateau, while something arrives."""
    sticking: tuple[Sticking, ...]
    """Empty where no book of the arrivals was kept."""
    profile: Layers
    """The density along z in the last frames, and where layers end."""
    by_element: Mapping[str, np.ndarray]
    """Atoms per Å³ at the heights of the profile."""
    map: HeightMap
    """Of the last frame."""
    grains: tuple[Grain, ...]
    """Of film and slab in the last frame, the largest first."""
    lattice: str | None
    """With whose faces layers were compared."""
    n_last: int
    """Frames that count as the last."""
    recognition: Recognition
    """How structure types were told."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "deposition"

    @property
    def n_grown(self) -> int:
        """Film layers that are at least half full."""
        return sum(layer.number > 0 and layer.filling.value >= 0.5 for layer in self.layers)

    def __str__(self) -> str:
        """A few lines for a person."""
        lines = [
            f"coverage {self.coverage}, {self.n_grown} layers at least half full; growth {self.rate}",
            f"thickness {self.thickness}, roughness {self.roughness} (bare slab: {self.bare_roughness:.2f} Å)",
            *(
                f"sticking of {one.species}: {one.coefficient} ({one.stuck} of {one.stuck + one.lost})"
                for one in self.sticking
            ),
        ]  # fmt: skip
        if self.grains:
            shown = [
                f"{one.lattice}, {len(one.atoms)} atoms, ({face}) tilted by {tilt:.1f}°"
                for one in self.grains[:_MOST_GRAINS]
                for face, tilt in [one.face]
            ]
            more = len(self.grains) - len(shown)
            lines.append(f"grains: {'; '.join(shown)}{f'; and {more} more' if more else ''}")
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, units and provenance, the layers and the profile; the course is in the CSV file."""
        estimates = ("coverage", "thickness", "roughness", "exposed", "rate")
        every = max(1, round(0.1 / float(np.diff(self.profile.heights[:2])[0])))
        return {
            "analysis": self.name,
            "monolayer_atoms": self.monolayer,
            **{name: getattr(self, name).to_dict() for name in estimates},
            "bare_roughness_A": self.bare_roughness,
            "sticking": [one.to_json() for one in self.sticking],
            "lattice": self.lattice,
            "layers": [one.to_json() for one in self.layers],
            "grains": [one.to_json() for one in self.grains],
            "profile": {
                "z_A": np.round(self.profile.heights[::every], 4).tolist(),
                **{f"{name}_per_A3": np.round(rho[::every], 6).tolist() for name, rho in self.by_element.items()},
            },
            "n_last_frames": self.n_last,
            "structure_types": self.recognition.to_json(),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Coverage, thickness, roughness and the filling of each layer, frame by frame."""
        course = self.course
        numbers = [layer.number for layer in self.layers]
        names = ["time [ps]", "coverage [ML]", "flying", "thickness [Å]", "roughness [Å]", "surface atoms"]
        columns = [
            course.times / 1e3, course.coverage, course.flying, course.thickness, course.roughness, course.exposed,
            *course.filling.T,
        ]  # fmt: skip
        return csv_of([*names, *(f"layer {number} [ML]" for number in numbers)], columns)

    def figure(self) -> Figure:
        """Growth, profile, layers, and the map of heights."""
        from mlmd.analysis.deposition_figure import deposition_figure

        return deposition_figure(self)


def deposition(
    growth: Growth, *, kernel: float | None = None, last: int = 10, contact: float | None = None, grid: float = 0.4,
    lattice: str | None = None, max_frames: int = 500, recognition: Recognition = CNA,
) -> DepositionResult:  # fmt: skip
    """Analyse what has grown on a slab.

    Args:
        growth: the frames; the slab is who was there at first.
        kernel: width of the Gaussians that give the density along z, Å; by default 0.3 Å, or what tells the layers of
            the bare slab apart where these are closer than 1.2 Å (`mlmd.analysis.layers.kernel_for`).
        last: frames at the end by which the film is described.
        contact: Å below which atoms touch; by default what the run says, or 1.4 bonds of the slab.
        grid: spacing of the height map, Å.
        lattice: with whose faces layers are compared, "fcc" or "bcc", or "none"; by default that of the element of
            which most has arrived, at room conditions.
        max_frames: at most so many frames, at equal distances in time, are used for the course.
        recognition: how structure types, and with templates the axes of grains, are told.

    Raises:
        InputError: for a cell without a plane, lengths that are not positive, a slab without neighbours.
        StorageError: when the frames or the book of arrivals cannot be read.
    """
    if not (
        (kernel is None or kernel > 0.0)
        and grid > 0.0
        and last >= 1
        and max_frames >= 1
        and (contact is None or contact > 0.0)
    ):
        raise InputError("kernel, grid, contact, last and max_frames have to be positive.")
    bare, path = growth.bare, growth.provenance.path
    check_plane(bare, path)
    bond = bond_length(bare.positions, bare.cell, bare.pbc)
    if not np.isfinite(bond):
        raise InputError(f"{path}: most atoms of the slab have fewer than six others within 12 Å: that is no slab.")
    touch = contact or growth.contact or _TOUCH * bond
    try:
        bare = below_the_vacuum(bare, touch)
        top = top_layer(bare.positions[:, 2])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    monolayer, surface = int(top.sum()), bare.positions[top, 2]
    final = np.arange(max(0, growth.n_frames - last), growth.n_frames)
    everyone = {int(number) for one in growth.moments([0, growth.n_frames - 1]) for number in one.numbers}
    everyone |= set(bare.numbers.tolist())
    look = Scale(bond, touch, dict.fromkeys(everyone, bond), grid)
    films = [film_of(one, bare, look) for one in growth.moments(final)]
    faces = lattice_of(films[-1], lattice)
    grown = set(films[-1].numbers[films[-1].arrived].tolist())
    bonds = {number: films[-1].bond(bond) if number in grown else bond for number in everyone}
    shells = {number: _SHELL[lattice_of_element(number) or "fcc"] * length for number, length in bonds.items()}
    look = Scale(films[-1].bond(bond), touch, shells, grid)  # now that it is known what has grown
    films = [film_of(one, bare, look) for one in growth.moments(final)]
    start = film_of(bare, bare, look)
    width = kernel_for(layer_spacing(bare.positions[:, 2])) if kernel is None else kernel
    profile = layers_along(np.concatenate([film.positions[:, 2] for film in films]), len(films), width)
    frames = np.unique(np.linspace(0, growth.n_frames - 1, min(max_frames, growth.n_frames)).astype(int))
    course = np.array([_counts(film_of(one, bare, look), start, profile, monolayer) for one in growth.moments(frames)])
    ends = np.array([_counts(film, start, profile, monolayer) for film in films])
    book = growth.book if growth.book is not None and growth.book.exists() else None
    origin = growth.provenance
    stuck = () if book is None else sticking(book, growth.begin, origin.last_time)
    coverage, _, thickness, roughness, exposed = (
        average(series, unit) for series, unit in zip(ends.T[:5], ("ML", "", "Å", "Å", ""), strict=True)
    )
    times = growth.times[frames]
    final_film = films[-1]
    found = recognition.of(final_film.positions, final_film.cell, final_film.pbc)
    layers = film_layers(films, profile, int(profile.of(np.median(surface))[()]), monolayer, faces, recognition)
    return DepositionResult(
        monolayer, _course(times, course), layers,
        coverage, thickness, roughness, start.map.roughness, exposed,
        growth_rate(times, course[:, 0], growth.depositing), stuck, profile, _by_element(films, profile, width),
        final_film.map, grains(final_film.positions, final_film.cell, final_film.pbc, found.types, found.axes),
        faces, len(films), recognition,
        (
            *of_the_slab(bare, surface, profile, width), *of_the_layers(layers), *of_the_film(films),
            *of_arrivals(stuck), *of_the_lattice(lattice, faces, found.types), *of_templates(recognition, found),
        ), origin,
    )  # fmt: skip


def _counts(film: Film, start: Film, profile: Layers, monolayer: int) -> np.ndarray:
    """The course in a frame: coverage, flying, thickness, roughness, surface atoms, filling of each layer."""
    layers = np.clip(profile.of(film.positions[:, 2]), 0, profile.n_layers - 1)
    filling = np.bincount(layers, minlength=profile.n_layers) / monolayer
    arrived = film.arrived.sum() / monolayer
    rise = film.map.mean - start.map.mean
    return np.array([arrived, film.n_flying, rise, film.map.roughness, film.exposed.sum(), *filling])


def _course(times: np.ndarray, counts: np.ndarray) -> Course:
    """From what `_counts` gave of each frame."""
    coverage, flying, thickness, roughness, exposed = counts.T[:5]
    return Course(times, coverage, flying, thickness, roughness, exposed, counts[:, 5:])


def _by_element(films: Sequence[Film], profile: Layers, kernel: float) -> dict[str, np.ndarray]:
    """Atoms per Å³ along z, by element."""
    from ase.data import chemical_symbols

    numbers = np.concatenate([film.numbers for film in films])
    heights = np.concatenate([film.positions[:, 2] for film in films])
    area = abs(float(np.linalg.det(films[-1].cell[:2, :2])))
    return {
        chemical_symbols[number]: density_along(heights[numbers == number], profile.heights, kernel)
        / (len(films) * area)
        for number in dict.fromkeys(numbers.tolist())
    }
