"""Alanine dipeptide in a box of water, as `alanine.pdb` beside this file: built from bond lengths and angles.

    python inputs/alanine.py

The dipeptide stands at φ, ψ = -80°, 80° (C7eq); OpenMM adds water, minimizes, and runs 20 ps at 300 K and 1 bar with
Amber ff14SB and TIP3P. Another version of OpenMM makes another box of the same kind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

ATOMS = [  # name, residue, bonded to, angle with, dihedral with; Å and degrees
    ("CH3", "ACE", None, None, None, 0.0, 0.0, 0.0),
    ("C", "ACE", "ACE CH3", None, None, 1.51, 0.0, 0.0),
    ("O", "ACE", "ACE C", "ACE CH3", None, 1.23, 121.0, 0.0),
    ("N", "ALA", "ACE C", "ACE CH3", "ACE O", 1.34, 116.0, 180.0),
    ("CA", "ALA", "ALA N", "ACE C", "ACE CH3", 1.45, 122.0, 180.0),
    ("C", "ALA", "ALA CA", "ALA N", "ACE C", 1.52, 111.0, -80.0),
    ("N", "NME", "ALA C", "ALA CA", "ALA N", 1.34, 116.0, 80.0),
    ("C", "NME", "NME N", "ALA C", "ALA CA", 1.45, 122.0, 180.0),
    ("O", "ALA", "ALA C", "ALA CA", "NME N", 1.23, 121.0, 180.0),
    ("CB", "ALA", "ALA CA", "ALA N", "ALA C", 1.53, 110.0, -122.0),
    ("HA", "ALA", "ALA CA", "ALA N", "ALA C", 1.09, 109.0, 119.0),
    ("H", "ALA", "ALA N", "ALA CA", "ACE C", 1.01, 118.0, 180.0),
    ("H", "NME", "NME N", "NME C", "ALA C", 1.01, 118.0, 180.0),
    *((f"H{n + 1}", "ACE", "ACE CH3", "ACE C", "ACE O", 1.09, 109.5, 120.0 * n) for n in range(3)),
    *((f"HB{n + 1}", "ALA", "ALA CB", "ALA CA", "ALA N", 1.09, 109.5, 60.0 + 120.0 * n) for n in range(3)),
    *((f"H{n + 1}", "NME", "NME C", "NME N", "ALA C", 1.09, 109.5, 60.0 + 120.0 * n) for n in range(3)),
]
SIDE = 2.24
"""nm, of the box to begin with."""


def dipeptide() -> tuple[app.Topology, np.ndarray]:
    """Topology and positions (22, 3) Å."""
    placed: dict[str, np.ndarray] = {}
    for name, residue, bond, angle, dihedral, length, degrees, turn in ATOMS:
        if bond is None:
            placed[f"{residue} {name}"] = np.zeros(3)
            continue
        a = placed[bond]
        b = placed[angle] if angle else a + np.array([-1.0, 0.0, 0.0])
        c = placed[dihedral] if dihedral else b + np.array([0.0, 1.0, 0.0])
        placed[f"{residue} {name}"] = beyond(a, b, c, length, np.radians(degrees if angle else 180.0), np.radians(turn))
    topology = app.Topology()
    chain = topology.addChain()
    order = []
    for residue in ("ACE", "ALA", "NME"):
        made = topology.addResidue(residue, chain)
        for name in (one for one, of, *_ in ATOMS if of == residue):
            topology.addAtom(name, app.Element.getBySymbol(name[0]), made)
            order.append(placed[f"{residue} {name}"])
    topology.createStandardBonds()
    return topology, np.array(order)


def beyond(a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, dihedral: float) -> np.ndarray:
    """The point x with |xa|, the angle xab and the dihedral xabc."""
    along = (a - b) / np.linalg.norm(a - b)
    normal = np.cross(b - c, along)
    normal /= np.linalg.norm(normal)
    across = np.cross(normal, along)
    local = np.array([-np.cos(angle), np.sin(angle) * np.cos(dihedral), np.sin(angle) * np.sin(dihedral)])
    point: np.ndarray = a + length * (local[0] * along + local[1] * across + local[2] * normal)
    return point


def main() -> None:
    """Write `alanine.pdb`."""
    topology, positions = dipeptide()
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    box = app.Modeller(topology, (positions / 10.0) * unit.nanometer)
    box.addSolvent(field, model="tip3p", boxSize=openmm.Vec3(SIDE, SIDE, SIDE) * unit.nanometer)
    system = field.createSystem(
        box.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, constraints=app.HBonds
    )
    barostat = openmm.MonteCarloBarostat(1.0, 300.0)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("CPU")
    run = app.Simulation(box.topology, system, integrator, platform, {"Threads": "1"})
    run.context.setPositions(box.positions)
    run.minimizeEnergy()
    run.context.setVelocitiesToTemperature(300.0, 1)
    run.step(10_000)
    state = run.context.getState(positions=True, enforcePeriodicBox=True)
    box.topology.setPeriodicBoxVectors(state.getPeriodicBoxVectors())
    with (Path(__file__).parent / "alanine.pdb").open("w") as file:
        app.PDBFile.writeFile(box.topology, state.getPositions(), file)


if __name__ == "__main__":
    main()
