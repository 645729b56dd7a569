"""The heat flux, and the flows of matter that it has to be freed of.

A heat flux carries with each atom its energy, whose zero is arbitrary: e₀ more for every atom of an element adds
e₀ Σ v of that element, and κ depends on it wherever elements diffuse. What does not is the conductivity without
flows of matter, of the heat flux freed of the fluxes of all elements (Bertossa, Grasselli, Ercole, Baroni, Phys. Rev.
Lett. 122, 255901, 2019), and of the electric current where it is another one. Of N elements N - 1 fluxes are
independent where momentum is conserved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlmd.errors import InputError
from mlmd.io.fluxes import FluxSeries
from mlmd.rundir import open_run

HEAT = tuple(f"heat flux {axis} [eV Å/fs]" for axis in "xyz")
CURRENT = tuple(f"current {axis} [e Å/fs]" for axis in "xyz")
THE_CURRENT = "the electric current"
NUMBER_FLUX = re.compile(r"number flux (\w+) x \[Å/fs\]")
STILL = 1e-6
"""e Å/fs or Å/fs: what does less is conserved but for rounding; one uranium atom at 1 K does a hundred times more."""
REDUNDANT = 1e-6
"""Of its variance: a flux with less that is not told by others is a sum of these."""


def heat_and_flows(series: Sequence[FluxSeries]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The heat flux and the independent flows of matter, (1 + n_flows, n_components, n_times), and names of the flows.

    Args:
        series: of one length; several are more components.

    Raises:
        InputError: without a heat flux, and when a flow is known of some runs only.
    """
    heat = together(series, HEAT)
    flows = {name: together(series, columns) for name, columns in _flows(series).items()}
    names = independent({name: flow for name, flow in flows.items() if np.ptp(flow, axis=1).max() > STILL})
    return np.stack([heat, *(flows[name] for name in names)]), names


def together(series: Sequence[FluxSeries], columns: Sequence[str]) -> np.ndarray:
    """(n_series × n_columns, n_times) of one flux, several runs as more components of it."""
    return np.concatenate([one[columns] for one in series])


def _flows(series: Sequence[FluxSeries]) -> dict[str, tuple[str, ...]]:
    """Columns of the flows of matter, by their names."""
    each = [_flows_of(one) for one in series]
    names = dict.fromkeys(name for one in each for name in one)
    for name in names:
        for one, there in zip(series, each, strict=True):
            if name not in there:
                other = next(two for two, known in zip(series, each, strict=True) if name in known)
                raise InputError(
                    f"{one.provenance.path} has no column of {name}, and {other.provenance.path} has. The heat flux of "
                    "runs that are averaged is freed of the same flows: give only runs that have the same columns."
                )
    return each[0]


def _flows_of(one: FluxSeries) -> dict[str, tuple[str, ...]]:
    found = {THE_CURRENT: CURRENT} if CURRENT[0] in one.columns else {}
    for column in one.columns:
        if match := NUMBER_FLUX.fullmatch(column):
            axes = tuple(column.replace(" x [", f" {axis} [") for axis in "xyz")
            found[f"the number flux of {match[1]}"] = axes
    return found


def independent(flows: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Names of fluxes (n_components, n_times) that are no sums of the others, by Gram and Schmidt.

    One element's flux is that of the others where momentum is conserved, and a current is a sum of fluxes where
    charges are those of elements.
    """
    rest = {name: flow - flow.mean(axis=1, keepdims=True) for name, flow in flows.items()}
    rest = {name: flow / np.linalg.norm(flow) for name, flow in rest.items()}
    chosen = []
    while rest:
        sizes = {name: float(np.vdot(flow, flow)) for name, flow in rest.items()}
        largest = max(sizes, key=lambda name: sizes[name])
        if sizes[largest] < REDUNDANT:
            break
        direction = rest.pop(largest) / np.sqrt(sizes[largest])
        rest = {name: flow - np.vdot(direction, flow) * direction for name, flow in rest.items()}
        chosen.append(largest)
    return tuple(name for name in flows if name in chosen)


def zero_of_energies(series: Sequence[FluxSeries], freed: Sequence[str]) -> list[str]:
    """What to know where the fluxes of elements are not written, so that κ may depend on the zero of energies."""
    if any(NUMBER_FLUX.fullmatch(column) for column in series[0].columns):
        return []
    folder = Path(series[0].provenance.path)
    elements = tuple(dict.fromkeys(open_run(folder).atoms.symbols)) if folder.is_dir() else ()
    # freed of a current the heat flux is freed of the one independent flux that two elements have
    most = 1 + len(freed)
    if 0 < len(elements) <= most:
        return []
    who = ", ".join(elements) or f"several elements (more than {most})"
    return [
        f"the heat flux is not freed of the number fluxes of elements, which are not written: if {who} diffuse, this κ "
        "depends on the arbitrary zero of the energy of atoms and means nothing; where none diffuse it is right. A new "
        'run with [output] fluxes = ["heat"] writes them'
    ]
