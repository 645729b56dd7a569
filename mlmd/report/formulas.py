"""What each analysis computes, in a line, and where the method comes from; the report also shows those not listed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """An analysis for its reader."""

    title: str
    formula: str = ""
    papers: tuple[str, ...] = ()
    """Keys of `mlmd.report.references.PAPERS`."""


MEANINGS = {
    "diffusion": Meaning(
        "Diffusion",
        "D = lim ⟨|r(t₀ + t) − r(t₀)|²⟩ / 2dt, from the slope of the mean squared displacement where it is linear, by "
        "generalised least squares with the covariance of overlapping windows, its error from its slow fluctuations in "
        "time; σ = Σ N q² D / V kT (Nernst–Einstein), of all ions together lim d/dt ⟨|Σ q Δr|²⟩ / 6V kT",
        ("bayesian-msd",),
    ),
    "rdf": Meaning(
        "Radial distribution functions",
        "g_ab(r) = ⟨n_ab(r)⟩ / (N_a ρ_b 4πr² dr); the coordination number is its integral, ρ_b ∫ g_ab 4πr² dr",
    ),
    "fes": Meaning("Free energy", "F(s) = −kT ln P(s) + const., of the unbiased distribution P of the variables s"),
    "arrhenius": Meaning("Activation energy", "D(T) = D₀ exp(−E_a / kT); σ T = A exp(−E_a / kT)"),
    "van-hove": Meaning(
        "Van Hove functions",
        "G_s(r, t) = ⟨δ(r − |r_i(t) − r_i(0)|)⟩, G_d(r, t) the same of other atoms; α₂ = 3⟨Δr⁴⟩ / 5⟨Δr²⟩² − 1",
        ("van-hove",),
    ),
    "density": Meaning("Probability density", "ρ(r) = ⟨Σ_i δ(r − r_i)⟩, whose integral is the number of atoms"),
    "sites": Meaning("Sites and jumps", "jump rate ν = jumps / (atoms × time); D_J = Σ l² / (2d N t)"),
    "rotation": Meaning("Rotation", "C_l(t) = ⟨P_l(u(0) · u(t))⟩ of the bond vectors u"),
    "adf": Meaning("Angular distribution", "P(θ) of the angles between two neighbours of an atom"),
    "coordination": Meaning("Coordination", "neighbours of an atom within the cutoff"),
    "order": Meaning(
        "Bond-orientational order", "q_l² = 4π / (2l + 1) Σ_m |⟨Y_lm⟩|², means over neighbours (Steinhardt)"
    ),
    "bonds": Meaning(
        "Bond lifetimes", "S(t): share of the bonds that were never broken up to t; C(t): of those that are there at t"
    ),
    "rings": Meaning("Rings", "closed paths of bonds without a short cut between any two of their atoms", ("rings",)),
    "conductivity": Meaning("Ionic conductivity", "σ = 1 / 3VkT ∫ ⟨J(0) · J(t)⟩ dt (Green–Kubo)", ("kubo",)),
    "structure-factor": Meaning(
        "Structure factor", "S(q) = ⟨|Σ_j exp(i q · r_j)|²⟩ / N, and its partials and weighted sums", ("keen",)
    ),
    "dynamic-structure-factor": Meaning(
        "Dynamic structure factor", "F(q, t) = ⟨ρ(q, t) ρ(−q, 0)⟩ / N, S(q, ω) = ∫ F(q, t) exp(iωt) dt / 2π",
        ("van-hove",),
    ),
    "deposition": Meaning(
        "Deposition",
        "coverage = atoms of the film / atoms of a layer of the slab; sticking = stuck / (stuck + lost)",
        ("cna", "soap"),
    ),
    "adatoms": Meaning(
        "Adatoms", "D = lim ⟨|Δr|²⟩ / 4t in the plane; of hops D_J = Σ l² / 4Nt; rate = hops / (adatoms × time)"
    ),
    "profile": Meaning(
        "Profiles",
        "ρ(z) = ⟨Σ_i δ(z − z_i)⟩ / area; an interface is ρ = ½(ρ₁ + ρ₂) − ½(ρ₁ − ρ₂) tanh((z − z₀) / w)",
    ),
    "protein": Meaning("Protein", "structure of the protein against time", ("mdtraj", "dssp")),
    "viscosity": Meaning(
        "Viscosity",
        "η = V / kT ∫ ⟨P_ab(0) P_ab(t)⟩ dt (Green–Kubo), a mean over the five components of the traceless tensor",
        ("kubo",),
    ),
    "thermal-conductivity": Meaning(
        "Thermal conductivity", "κ = 1 / (3V kT²) ∫ ⟨Q(0) · Q(t)⟩ dt (Green–Kubo), Q the heat flux times the volume",
        ("kubo", "heat-flux"),
    ),
    "nemd": Meaning(
        "Thermal conductivity out of equilibrium",
        "κ = P / (2A |dT/dz|), P the power from the cold slab to the hot one, A the area of the cell",
        ("hex",),
    ),
    "elastic": Meaning(
        "Elastic constants from fluctuations",
        "C = kT / V · ⟨Δε Δε⟩⁻¹, ε the strain of the cell against its mean in Voigt order",
        ("strain-fluctuations",),
    ),
    "infrared": Meaning(
        "Infrared spectrum",
        "α n = ∫ ⟨J(0) · J(t)⟩ exp(−2πiνt) dt / (6 c ε₀ V kT), J = Σ q v the current of the charges",
    ),
    "vacf": Meaning(
        "Velocity autocorrelation",
        "C(t) = ⟨v(0) · v(t)⟩ / ⟨v²⟩; its Fourier transform is the vibrational density of states",
        ("dickey",),
    ),
}  # fmt: skip


def meaning(name: str) -> Meaning:
    """Of an analysis; of one that is not listed its name as words."""
    return MEANINGS.get(name) or Meaning(name[:1].upper() + name[1:].replace("-", " ").replace("_", " "))
