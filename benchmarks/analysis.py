"""What analyses cost beside other programs that do the same, in turns in one process.

    python benchmarks/analysis.py structure-factor [--atoms 10000] [--wavevectors 2000]
    python benchmarks/analysis.py msd [--atoms 10000] [--frames 1000] --python PYTHON
    python benchmarks/analysis.py rdf [--atoms 10000] [--frames 50] --python PYTHON
    python benchmarks/analysis.py streaming [--atoms 10000] [--gigabytes 1]

dynasor is compared with where it is installed (`pip install dynasor`), freud and MDAnalysis in an environment of their
own (`pip install freud-analysis MDAnalysis tidynamics`), whose Python is named.
"""

from __future__ import annotations

import argparse

import beside_others
import streaming
import structure_factors
from machine import machine

PARTS = {"structure-factor": structure_factors, "msd": beside_others, "rdf": beside_others, "streaming": streaming}
"""Name -> what adds its options and runs it."""


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        part.add_options(commands.add_parser(name, help=part.__doc__))
    options = parser.parse_args()
    print(machine())
    PARTS[options.part].run(options)


if __name__ == "__main__":
    main()
