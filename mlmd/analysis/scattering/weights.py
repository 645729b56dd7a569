"""How strongly atoms scatter: neutrons by their nuclei, X-rays by their electrons.

Both tables are those of the package periodictable (Kienzle, NIST): bound coherent scattering lengths of the natural
elements and of isotopes (Neutron News 3(3), 26 (1992), with later corrections and, for absorbing rare earths, Lynn and
Seeger, At. Data Nucl. Data Tables 44, 191 (1990)), and the form factors of free neutral atoms of Waasmaier and Kirfel,
Acta Cryst. A51, 416 (1995).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.errors import InputError

BARN_PER_FM2 = 0.01
"""Cross sections of neutrons are in barn, lengths in fm."""
ABSORBING = 0.02
"""Imaginary part of a scattering length, of its real part, from which on a user is told."""


@dataclass(frozen=True)
class Weights:
    """What each element contributes to the amplitude that is scattered."""

    radiation: str
    """"neutron" or "x-ray"."""
    elements: tuple[str, ...]
    amplitudes: np.ndarray
    """(n_elements, n_q) √barn for neutrons, electrons for X-rays."""
    unit: str
    """Of products of two amplitudes, per atom."""
    source: str
    lengths: Mapping[str, float]
    """Scattering lengths, fm; empty for X-rays."""
    notes: tuple[str, ...] = ()


def neutron(elements: Sequence[str], q: np.ndarray, lengths: Mapping[str, float] | None = None) -> Weights:
    """Bound coherent scattering lengths b, the same at every q.

    Args:
        elements: symbols.
        q: (n_q,) 1/Å.
        lengths: fm, by element, in the place of those of the natural elements, e.g. of an isotope.

    Raises:
        InputError: for a length of an element that is not there, or an element without one in the table.
    """
    import periodictable

    given = dict(lengths or {})
    for element in given:
        if element not in elements:
            raise InputError(f"A scattering length of {element} is given, and there is none of it: {_list(elements)}.")
    notes = []
    for element in elements:
        if element in given:
            continue
        table = getattr(periodictable, element).neutron
        if table.b_c is None:
            raise InputError(
                f"No scattering length of {element} is known. Give it in fm: --scattering-length {element}=..."
            )
        given[element] = float(table.b_c)
        if abs(table.b_c_complex.imag) > ABSORBING * abs(table.b_c):
            notes.append(f"{element} absorbs neutrons: its scattering length has an imaginary part, which is left out")
        if element == "H":
            notes.append("hydrogen is taken as the natural element; for deuterium give --scattering-length H=6.671")
    amplitudes = np.array([[given[one]] for one in elements]) * np.sqrt(BARN_PER_FM2) * np.ones(len(q))
    source = f"periodictable {periodictable.__version__}, bound coherent scattering lengths"
    return Weights(
        "neutron",
        tuple(elements),
        amplitudes,
        "barn/sr/atom",
        source,
        {one: given[one] for one in elements},
        tuple(notes),
    )


def x_ray(elements: Sequence[str], q: np.ndarray) -> Weights:
    """Form factors f(q) of free neutral atoms, without anomalous dispersion.

    Raises:
        InputError: for an element without a form factor in the table.
    """
    import periodictable
    from periodictable.cromermann import fxrayatq

    rows = []
    for element in elements:
        try:
            rows.append(fxrayatq(element, q))
        except KeyError:
            raise InputError(f"No X-ray form factor of {element} is known.") from None
    source = f"periodictable {periodictable.__version__}, form factors of Waasmaier and Kirfel (1995), neutral atoms"
    return Weights("x-ray", tuple(elements), np.array(rows), "electrons²/atom", source, {})


def weights_of(
    radiation: str, elements: Sequence[str], q: np.ndarray, lengths: Mapping[str, float] | None = None
) -> Weights:
    """Weights of a radiation by its name.

    Raises:
        InputError: for another radiation than "neutron" and "x-ray", or scattering lengths with X-rays.
    """
    if radiation == "neutron":
        return neutron(elements, q, lengths)
    if radiation != "x-ray":
        raise InputError(f'radiation {radiation!r} is not known. Needed is "neutron" or "x-ray".')
    if lengths:
        raise InputError("Scattering lengths are those of neutrons; X-rays are scattered by electrons.")
    return x_ray(elements, q)


def _list(elements: Sequence[str]) -> str:
    return ", ".join(elements)
