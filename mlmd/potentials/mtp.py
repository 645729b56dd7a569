"""Moment tensor potentials of MLIP-2 and MLIP-3: their `.mtp` files, read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from mlmd.descriptors.moment_basis import MomentBasis
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.species import check_symbols
from mlmd.errors import InputError, ModelError
from mlmd.fitting.linear import Linear
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import cannot_be_written
from mlmd.precision import dtype_of

MAGIC = "MTP"
"""The first line of a file."""


def load(path: Path | str, elements: Sequence[str] | None = None, precision: str = "float64") -> LearnedPotential:
    """A moment tensor potential from an MLIP-2 or MLIP-3 file.

    Args:
        path: the file; what it is called does not matter.
        elements: symbols in the order of the file's species, which it does not name.
        precision: "float64" or "float32".

    Raises:
        InputError: when the elements are missing or not as many as the file's species.
        ModelError: when the file is damaged or of another kind, with the line.
    """
    path = Path(path)
    file = _File(path)
    n_species = file.integer("species_count")
    symbols = _elements(path, elements, n_species)
    basis = _basis(file)
    radial = file.radial(n_species)
    descriptor = Moments(
        elements=symbols,
        cutoff=file.number("max_dist", "max"),
        min_distance=file.number("min_dist", "min"),
        basis=basis,
        n_chebyshev=radial.shape[3],
        scaling=file.number("scaling") if file.has("scaling") else 1.0,
    )
    regressor = Linear(n_features=len(basis.scalars), n_kinds=n_species)
    with torch.no_grad():
        descriptor.radial.coefficients.copy_(radial)
        regressor.coefficients.copy_(file.numbers("moment_coeffs", len(basis.scalars)))
        regressor.constants.copy_(file.numbers("species_coeffs", n_species))
    potential = LearnedPotential(descriptor, regressor)
    return potential.to(dtype_of(precision))


def save(potential: LearnedPotential, path: Path | str) -> None:
    """Write moments × linear as an MLIP-2 file, with all digits; the elements' names are not part of it.

    Raises:
        InputError: when the potential is something else.
    """
    moments, linear = potential.descriptor, potential.regressor
    if not (isinstance(moments, Moments) and isinstance(linear, Linear)):
        raise cannot_be_written(potential, ".mtp")
    Path(path).write_text("\n".join(_lines(moments, linear)) + "\n", encoding="ascii")


def is_mtp(start: bytes) -> bool:
    """Whether a file that begins with these bytes is an `.mtp` file."""
    return start.split(b"\n", 1)[0].strip() == MAGIC.encode()


def _elements(path: Path, elements: Sequence[str] | None, n_species: int) -> tuple[str, ...]:
    """The elements given by the user, as many as the file has species."""
    example = ", ".join(f'"{symbol}"' for symbol in ("Li", "Y", "Cl", "O", "S", "P", "Si", "Cu")[:n_species])
    hint = f"Give them in the file's order, e.g. elements = [{example}]."
    if not elements:
        raise InputError(f"{path} has {n_species} species and does not say which elements they are. {hint}")
    if len(elements) != n_species:
        raise InputError(f"{path} has {n_species} species, {len(elements)} elements were given. {hint}")
    return check_symbols(elements)


class _File:
    """The entries of an `.mtp` file, each with the line it stands on."""

    def __init__(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path} does not exist.") from None
        if not is_mtp(content[:64]):
            raise ModelError(f"{path}: line 1: not a moment tensor potential: its first line is not {MAGIC!r}.")
        # what follows a '#' is the state of MLIP's active learning, partly binary
        lines = content.split(b"#", 1)[0].decode("utf-8", errors="replace").splitlines()
        self.path, self.n_lines = path, len(lines)
        self._entries: dict[str, tuple[int, str]] = {}
        self._rows: list[tuple[int, str]] = []
        for number, line in enumerate(lines[1:], start=2):
            key, equals, value = (part.strip() for part in line.partition("="))
            if equals:
                self._entries[key] = (number, value)
            elif key.startswith("{"):
                self._rows.append((number, key))
        self._check_kind()

    def error(self, number: int, message: str) -> ModelError:
        """A refusal that names file and line."""
        return ModelError(f"{self.path}: line {number}: {message}")

    def has(self, key: str) -> bool:
        """Whether an entry is there."""
        return key in self._entries

    def entry(self, *keys: str) -> tuple[int, str]:
        """Line and value of an entry that may have one of several names."""
        for key in keys:
            if key in self._entries:
                return self._entries[key]
        raise self.error(self.n_lines, f"the file ends without {keys[0]!r}: it is truncated, or was not trained.")

    def integer(self, key: str) -> int:
        """A positive integer."""
        number, text = self.entry(key)
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
            raise self.error(number, f"{key} = {text[:40]!r} is not a positive integer.")
        return int(text)

    def number(self, *keys: str) -> float:
        """One finite number."""
        number, text = self.entry(*keys)
        return self._floats(number, text, keys[0], 1)[0]

    def numbers(self, key: str, count: int) -> torch.Tensor:
        """(count,) float64."""
        number, text = self.entry(key)
        return torch.tensor(self._floats(number, text, key, count), dtype=torch.float64)

    def table(self, key: str, width: int) -> list[tuple[int, ...]]:
        """Rows of `width` integers, not negative: ``{{0, 1}, {2, 3}}``."""
        number, text = self.entry(key)
        if not re.fullmatch(r"\{[0-9{},\s]*\}", text):
            raise self.error(number, f"{key} is not a complete table of integers.")
        values = [int(word) for word in re.findall(r"[0-9]+", text)]
        count = self._entries.get(f"{key}_count", (0, ""))[1]
        if len(values) % width or (count and count != str(len(values) // width)):
            raise self.error(number, f"{key} has {len(values)} numbers, {count or 'some'} rows of {width} are needed.")
        return [tuple(values[start : start + width]) for start in range(0, len(values), width)]

    def radial(self, n_species: int) -> torch.Tensor:
        """Radial coefficients (n_species, n_species, n_radial_functions, n_chebyshev)."""
        n_functions, _ = self.integer("radial_funcs_count"), self.entry("radial_basis_type")
        n_chebyshev = self.integer("radial_basis_size" if self.has("radial_basis_size") else "size")
        needed = n_species * n_species * n_functions
        if len(self._rows) != needed:
            last = self._rows[-1][0] if self._rows else self.n_lines
            raise self.error(
                last, f"{len(self._rows)} rows of radial coefficients, {needed} are needed: damaged, or not trained."
            )
        rows = [self._floats(number, text, "radial_coeffs", n_chebyshev) for number, text in self._rows]
        return torch.tensor(rows, dtype=torch.float64).view(n_species, n_species, n_functions, n_chebyshev)

    def _floats(self, number: int, text: str, key: str, count: int) -> list[float]:
        words = text.strip().removeprefix("{").removesuffix("}").split(",")
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise self.error(number, f"{key} has something that is not a number.") from None
        if not all(map(math.isfinite, values)):
            raise self.error(number, f"{key} has a number that is not finite.")
        if len(values) != count or (text.startswith("{") and not text.endswith("}")):
            raise self.error(number, f"{key} has {len(values)} numbers, {count} are needed.")
        return values

    def _check_kind(self) -> None:
        number, kind = self.entry("radial_basis_type")
        if kind != "RBChebyshev":
            raise self.error(number, f"radial basis {kind[:40]!r} is not supported, only RBChebyshev.")
        if self.has("magnetic_basis_type"):
            raise self.error(self.entry("magnetic_basis_type")[0], "magnetic potentials are not supported.")


def _basis(file: _File) -> MomentBasis:
    """The tables of moments, products and scalars, checked against each other."""
    number, _ = file.entry("alpha_moment_mapping")
    basis = MomentBasis(
        basic=tuple((mu, a, b, c) for mu, a, b, c in file.table("alpha_index_basic", 4)),
        products=tuple((first, second, c, to) for first, second, c, to in file.table("alpha_index_times", 4)),
        scalars=tuple(row[0] for row in file.table("alpha_moment_mapping", 1)),
    )
    try:
        basis.check()
    except ValueError as error:
        raise file.error(number, f"the tables of moments do not fit: {error}.") from None
    for key, count in (
        ("alpha_scalar_moments", len(basis.scalars)),
        ("alpha_moments_count", basis.n_moments),
        ("radial_funcs_count", basis.n_radial_functions),
    ):
        if file.integer(key) < count or (key == "alpha_scalar_moments" and file.integer(key) != count):
            raise file.error(file.entry(key)[0], f"{key} does not fit the tables of moments, which have {count}.")
    return basis


def _lines(moments: Moments, linear: Linear) -> Iterator[str]:
    """The lines of an MLIP-2 file."""
    basis, radial = moments.basis, moments.radial.coefficients.double().cpu()
    n_species, _, n_functions, n_chebyshev = radial.shape
    yield from (MAGIC, "version = 1.1.0", "potential_name = MTP1m", f"scaling = {moments.radial.scaling:.16e}")
    yield from (f"species_count = {n_species}", "potential_tag =", "radial_basis_type = RBChebyshev")
    yield from (f"\tmin_dist = {moments.min_distance:.16e}", f"\tmax_dist = {moments.cutoff:.16e}")
    yield from (f"\tradial_basis_size = {n_chebyshev}", f"\tradial_funcs_count = {n_functions}", "\tradial_coeffs")
    for i in range(n_species):
        for j in range(n_species):
            yield f"\t\t{i}-{j}"
            yield from (f"\t\t\t{_braces(row)}" for row in radial[i, j].tolist())
    yield f"alpha_moments_count = {basis.n_moments}"
    for name, table in (("alpha_index_basic", basis.basic), ("alpha_index_times", basis.products)):
        yield f"{name}_count = {len(table)}"
        yield f"{name} = {{{', '.join(_braces(row) for row in table)}}}"
    yield f"alpha_scalar_moments = {len(basis.scalars)}"
    yield f"alpha_moment_mapping = {_braces(basis.scalars)}"
    yield f"species_coeffs = {_braces(linear.constants.double().tolist())}"
    yield f"moment_coeffs = {_braces(linear.coefficients.double().tolist())}"


def _braces(values: Sequence[float]) -> str:
    return "{" + ", ".join(str(v) if isinstance(v, int) else f"{v:.16e}" for v in values) + "}"
