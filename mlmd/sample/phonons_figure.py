"""The picture of phonons: bands along the special points, and the density of states beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, new_figure

if TYPE_CHECKING:
    from mlmd.sample.phonons import Phonons


def phonons_figure(result: Phonons) -> Figure:
    """Bands on the left, density of states on the right."""
    figure, (bands, density) = new_figure(1, 2)
    bands.plot(result.path, result.bands, color=color(0), linewidth=1.0)
    bands.axhline(0.0, color="#7F7F7F", linewidth=0.8)
    places: dict[float, str] = {}
    for at, name in result.labels:  # where the path jumps, two points stand in one place
        shown = name.replace("G", "Γ")
        places[at] = f"{places[at]}|{shown}" if at in places else shown
    bands.set_xticks(list(places), list(places.values()))
    bands.set_xlim(result.path[0], result.path[-1])
    label(bands, "wave vector", "frequency (THz)")
    density.plot(result.density, result.frequencies, color=color(0), linewidth=1.2)
    density.set_ylim(bands.get_ylim())
    density.set_xlim(left=0.0)
    label(density, "modes per THz", "frequency (THz)")
    return figure
