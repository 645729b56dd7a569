"""What people call potentials of other programs or by their formula, and what an input calls them."""

from __future__ import annotations

import re

_WRITTEN = {
    ("ani", "torchani"): 'kind = "ani", name = "ANI2x"',
    ("chgnet",): 'kind = "chgnet"',
    ("d3", "dftd3"): 'kind = "d3", method = "pbe"',
    ("deepmd", "dp", "dpa", "deeppot"): 'kind = "deepmd", path = "FILE"',
    ("gap", "quip", "quippy"): 'kind = "gap", path = "FILE.xml"',
    ("hdnnp", "n2p2", "runner"): 'kind = "hdnnp", path = "FOLDER"',
    ("lj",): 'kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "8.5 Å"',
    ("mace",): 'kind = "mace", path = "FILE.model"',
    ("matgl", "m3gnet", "tensornet", "qet"): 'kind = "matgl", path = "FOLDER"',
    ("mattersim",): 'kind = "mattersim", path = "FILE.pth"',
    ("metatomic", "pet", "upet"): 'kind = "metatomic", path = "FILE.pt"',
    ("mlip", "mtp"): 'kind = "mtp", path = "FILE.mtp"',
    ("nep", "gpumd"): 'kind = "nep", path = "nep.txt"',
    ("nequip", "allegro"): 'kind = "nequip", path = "FILE"',
    ("nequix",): 'kind = "nequix", path = "FILE.nqx"',
    ("orb",): 'kind = "orb", name = "MODEL"',
    ("sevennet", "sevenn", "7net"): 'kind = "sevennet", name = "7net-0"',
    ("snap", "fitsnap"): 'kind = "snap", path = "FILE.snapcoeff"',
    ("zbl",): 'kind = "zbl", onset = "1 Å", cutoff = "2 Å"',
}
"""By the first words of the names of programs and of their models."""
_TABLES = {word: table for words, table in _WRITTEN.items() for word in words}


def written_as(name: str) -> str:
    """How an input writes a potential that somebody calls so, as a sentence; empty for other names."""
    first = re.match(r"7net|m3gnet|n2p2|d3|dftd3|[a-z]+", name.lower())
    table = _TABLES.get(first[0]) if first else None
    return f"For {name} write for example potential = {{ {table} }}." if table else ""
