"""The descriptors that ``mlmd train`` fits with: a kind, with its parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlmd.config.quantities import Quantity, refuse
from mlmd.config.table import Table, of_kind
from mlmd.units import with_unit

Cutoff = Annotated[float, Quantity("length", above=0.0, most=30.0)]  # there, 10⁴ neighbours


def _even(level: int) -> int:
    """A level of moment tensor potentials."""
    if level % 2 or not 2 <= level <= 26:
        raise refuse(f"{level}: an even number from 2 to 26 is needed.")
    return level


class MTP(Table):
    """Moments of the neighbours, contracted: moment tensor potentials."""

    kind: Literal["mtp"] = Field(default="mtp", description="kind of descriptor: moment tensors")
    level: Annotated[int, AfterValidator(_even)] = Field(
        default=12, description="size of the basis, an even number from 2 to 26: more is more accurate and slower"
    )
    cutoff: Cutoff = Field(default=5.0, description="distance up to which atoms see each other")
    min_distance: Annotated[float | str, Quantity("length", least=0.0, words=(("auto", "auto"),))] = Field(
        default="auto",
        description='distance at which the radial functions begin; "auto": from the closest atoms in the data',
    )
    n_chebyshev: int = Field(default=8, ge=2, le=64, description="Chebyshev polynomials in each radial function")

    @model_validator(mode="after")
    def _has_room(self) -> MTP:
        """The radial functions live between the two distances."""
        if isinstance(self.min_distance, float) and self.min_distance >= self.cutoff:
            shown = with_unit(self.min_distance, "length"), with_unit(self.cutoff, "length")
            raise refuse(f"min_distance: {shown[0]} is not below the cutoff, {shown[1]}.")
        return self


class ACSF(Table):
    """Atom-centred symmetry functions of Behler and Parrinello, evenly spaced."""

    kind: Literal["acsf"] = Field(default="acsf", description="kind of descriptor: symmetry functions")
    cutoff: Cutoff = Field(default=6.0, description="distance up to which atoms see each other")
    n_radial: int = Field(default=8, ge=1, le=64, description="radial functions (G2) for every element")
    n_angular: int = Field(
        default=3, ge=0, le=32, description="widths of angular functions for every two elements; 0 for none"
    )
    zetas: Annotated[
        tuple[Annotated[float, Field(strict=False, ge=1.0, le=1024.0)], ...], Field(strict=False, min_length=1)
    ] = Field(default=(1.0, 4.0), description="exponents ζ of the angular functions: more see angles more sharply")
    angular: Literal["G4", "G5"] = Field(
        default="G4", description="angular functions with (G4) or without (G5) the distance between the two neighbours"
    )


class SOAP(Table):
    """Smooth overlap of atomic positions: the power spectrum of the density of neighbours."""

    kind: Literal["soap"] = Field(default="soap", description="kind of descriptor: power spectra of the density")
    cutoff: Cutoff = Field(default=5.0, description="distance up to which atoms see each other")
    n_max: int = Field(default=8, ge=1, le=20, description="radial functions")
    l_max: int = Field(default=6, ge=0, le=20, description="highest degree of the spherical harmonics")
    sigma: Annotated[float, Quantity("length", above=0.0)] = Field(
        default=0.5, description="width of the Gaussians that atoms are"
    )
    basis: Literal["gto", "polynomial"] = Field(default="gto", description="radial functions")
    products: Literal["all", "same-element", "with-sum"] = Field(
        default="all",
        description="which densities are multiplied: of all elements, of the same one, or each with their sum",
    )


class SNAP(Table):
    """Bispectrum components of the density of neighbours, with the hyperparameters of LAMMPS."""

    kind: Literal["snap"] = Field(default="snap", description="kind of descriptor: bispectrum components")
    cutoff: Cutoff = Field(
        default=5.0, description="distance up to which two atoms of radius 0.5 see each other (rcutfac)"
    )
    twojmax: int = Field(default=8, ge=0, le=16, description="twice the highest angular momentum: more is finer")
    radii: dict[str, Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        examples=[{"Si": 0.5}],
        description="radius R of elements, 0.5 by default; atoms see each other up to cutoff · (R_i + R_j)",
    )
    weights: dict[str, Annotated[float, Field(strict=False, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        examples=[{"Si": 1.0}],
        description="weight of elements in the density, 1 by default; elements of equal weight look alike",
    )
    rmin0: Annotated[float, Quantity("length", least=0.0)] = Field(
        default=0.0, description="distance below which the density does not tell distances apart"
    )
    rfac0: Annotated[float, Field(strict=False, gt=0.0, le=1.0)] = Field(
        default=0.99363, description="part of the sphere that is used"
    )

    @model_validator(mode="after")
    def _begins_inside(self) -> SNAP:
        """The density needs room."""
        if self.rmin0 >= self.cutoff:
            shown = with_unit(self.rmin0, "length"), with_unit(self.cutoff, "length")
            raise refuse(f"rmin0: {shown[0]} is not below the cutoff, {shown[1]}.")
        return self


class AGNI(Table):
    """Directional fingerprints of the neighbours, for forces without an energy."""

    kind: Literal["agni"] = Field(default="agni", description="kind of descriptor: directional fingerprints")
    cutoff: Cutoff = Field(default=8.0, description="distance up to which atoms see each other")
    n_radial: int = Field(
        default=8, ge=1, le=64, description="widths of Gaussians for every element, from 0.8 Å to twice the cutoff"
    )


DescriptorTable = Annotated[MTP | ACSF | SOAP | SNAP | AGNI, Field(discriminator="kind"), of_kind("mtp")]
