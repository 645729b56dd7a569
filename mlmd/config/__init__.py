"""The input files: pydantic models whose fields are the options, read from TOML with units.

Imports neither torch nor openmm nor ase nor numpy, so that a wrong input is refused at once.
"""

from mlmd.config.baseline import Baseline
from mlmd.config.deposit import Bath, Beam, Deposit, Species
from mlmd.config.descriptors import (
    ACSF,
    AGNI,
    MTP,
    NEP,
    SNAP,
    SOAP,
    Combination,
    DeepPotSE,
    Trained,
    learned_parts,
    parts_of,
)
from mlmd.config.document import Option, option_table, options, template
from mlmd.config.files import check_files, no_such_file, no_such_potential
from mlmd.config.fits import AGNIFit, GAPFit, KernelFit, KernelRidgeFit, LinearFit, NetworkFit, RandomFeaturesFit
from mlmd.config.loss import Factors, Loss
from mlmd.config.mlmm import MLMM
from mlmd.config.pairs import of_structures
from mlmd.config.potential import PotentialTable, file_or_kind
from mlmd.config.read import command_of, load, load_simulate, load_train, naming, unnamed
from mlmd.config.resolve import from_resolved, physics_hash, resolved, training_hash
from mlmd.config.simulate import Analysis, Frozen, Guard, Output, Simulate, UncertaintyLimits
from mlmd.config.stages import (
    NPT,
    NVE,
    NVT,
    Barostat,
    Dynamics,
    Langevin,
    Minimize,
    NoseHoover,
    Plumed,
    Rerun,
    Schedule,
    Stage,
)
from mlmd.config.structures import (
    Average,
    CoulombMatrix,
    ManyBodyTensor,
    MBTRTerm,
    Property,
    StructureCombination,
    structure_parts,
)
from mlmd.config.timed import Timed
from mlmd.config.train import Card, DataTable, Train, Uncertainty

__all__ = [
    "ACSF",
    "AGNI",
    "MLMM",
    "MTP",
    "NEP",
    "NPT",
    "NVE",
    "NVT",
    "SNAP",
    "SOAP",
    "AGNIFit",
    "Analysis",
    "Average",
    "Barostat",
    "Baseline",
    "Bath",
    "Beam",
    "Card",
    "Combination",
    "CoulombMatrix",
    "DataTable",
    "DeepPotSE",
    "Deposit",
    "Dynamics",
    "Factors",
    "Frozen",
    "GAPFit",
    "Guard",
    "KernelFit",
    "KernelRidgeFit",
    "Langevin",
    "LinearFit",
    "Loss",
    "MBTRTerm",
    "ManyBodyTensor",
    "Minimize",
    "NetworkFit",
    "NoseHoover",
    "Option",
    "Output",
    "Plumed",
    "PotentialTable",
    "Property",
    "RandomFeaturesFit",
    "Rerun",
    "Schedule",
    "Simulate",
    "Species",
    "Stage",
    "StructureCombination",
    "Timed",
    "Train",
    "Trained",
    "Uncertainty",
    "UncertaintyLimits",
    "check_files",
    "command_of",
    "file_or_kind",
    "from_resolved",
    "learned_parts",
    "load",
    "load_simulate",
    "load_train",
    "naming",
    "no_such_file",
    "no_such_potential",
    "of_structures",
    "option_table",
    "options",
    "parts_of",
    "physics_hash",
    "resolved",
    "structure_parts",
    "template",
    "training_hash",
    "unnamed",
]
