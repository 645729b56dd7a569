"""The input files: pydantic models whose fields are the options, read from TOML with units.

Imports neither torch nor openmm nor ase nor numpy, so that a wrong input is refused at once.
"""

from mlmd.config.read import load, load_simulate
from mlmd.config.resolve import from_resolved, physics_hash, resolved
from mlmd.config.simulate import (
    NPT,
    NVE,
    NVT,
    Analysis,
    Barostat,
    Frozen,
    Guard,
    Langevin,
    Minimize,
    NoseHoover,
    Output,
    Plumed,
    PotentialTable,
    Simulate,
    Stage,
)

__all__ = [
    "NPT",
    "NVE",
    "NVT",
    "Analysis",
    "Barostat",
    "Frozen",
    "Guard",
    "Langevin",
    "Minimize",
    "NoseHoover",
    "Output",
    "Plumed",
    "PotentialTable",
    "Simulate",
    "Stage",
    "from_resolved",
    "load",
    "load_simulate",
    "physics_hash",
    "resolved",
]
