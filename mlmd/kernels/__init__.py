"""Compiled loops over atoms and their neighbours: potentials of the fused kind, and the search for pairs.

`mlmd/kernels/src` holds the C++; it is compiled when mlmd is installed, once for each instruction set. Where there was
no compiler, `library()` is None and potentials are evaluated by torch.
"""

from mlmd.kernels.kernel import Fused, Kernel, KernelHandle
from mlmd.kernels.native import CHOICE, describe, library, shortcoming

__all__ = ["CHOICE", "Fused", "Kernel", "KernelHandle", "describe", "library", "shortcoming"]
