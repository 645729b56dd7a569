"""Make an environment for each framework whose models mlmd can ask, as a user would, for tests and benchmarks.

    python tests/pretrained/environments.py chgnet sevennet --folder envs [--with-mlmd]
    MLMD_TEST_ENVS=envs python -m pytest tests/pretrained

With ``--with-mlmd`` mlmd is installed there too, so that models are also asked in its own process. An environment that
exists is brought up to what stands here. Networks that come without weights are made of random numbers by the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0"
"""Installed first where it is needed: what comes after it takes the one that is there."""

ENVIRONMENTS: dict[str, list[str]] = {
    "chgnet": [TORCH, "chgnet==0.4.2"],
    "sevennet": [TORCH, "sevenn==0.13.0"],
    "mace": [TORCH, "mace-torch==0.3.16"],
    "nequip": [TORCH, "nequip==0.19.1", "nequip-allegro==0.8.3"],
    "metatomic": [TORCH, "metatomic-torch==0.1.19", "metatomic-ase==0.1.4", "ase==3.29.0"],
}
"""Names, and what pip is given one after the other."""


def python_in(folder: Path, name: str) -> Path:
    """The Python of an environment."""
    return folder.absolute() / name / "bin" / "python"


def commands(name: str, folder: Path, *, with_mlmd: bool = False) -> list[list[str]]:
    """What is run to make an environment. What is installed later may not replace what was before it."""
    python = str(python_in(folder, name))
    wanted = ENVIRONMENTS[name]
    made = [[sys.executable, "-m", "venv", str(folder.absolute() / name)]]
    made += [[python, "-m", "pip", "install", *wanted[: n + 1]] for n in range(len(wanted))]
    if with_mlmd:
        constraints = ["-c", str(ROOT / "constraints.txt")]
        made.append(
            [python, "-m", "pip", "install", *constraints, *wanted, "pytest", "pytest-timeout", "-e", str(ROOT)]
        )
    return made


def main() -> None:
    """Make the environments that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(ENVIRONMENTS), metavar="NAME", help=", ".join(ENVIRONMENTS))
    parser.add_argument("--folder", type=Path, default=Path("envs"), help="holds one folder for each (default: envs)")
    parser.add_argument("--with-mlmd", action="store_true", help="install mlmd and pytest there too")
    options = parser.parse_args()
    for name in options.names:
        for command in commands(name, options.folder, with_mlmd=options.with_mlmd):
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
