"""Make an environment for each framework whose models mlmd can ask, as a user would, for tests and benchmarks.

    python tests/pretrained/environments.py ani matgl --folder envs [--with-mlmd]
    MLMD_TEST_ENVS=envs python -m pytest tests/pretrained

With ``--with-mlmd`` mlmd is installed there too, so that models are also asked in its own process. An environment that
exists is brought up to what stands here. Networks that come without weights are made of random numbers by the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0"
"""Installed first where it is needed: what comes after it takes the one that is there."""
ALONE = "--no-deps"

# fmt: off
ENVIRONMENTS: dict[str, list[str]] = {
    "chgnet": [TORCH, "chgnet==0.4.2"],
    "sevennet": [TORCH, "sevenn==0.13.0"],
    "mace": [TORCH, "mace-torch==0.3.16"],
    "nequip": [TORCH, "nequip==0.19.1", "nequip-allegro==0.8.3"],
    "metatomic": [TORCH, "metatomic-torch==0.1.19", "metatomic-ase==0.1.4", "ase==3.29.0"],
    "nequix": [
        "jax==0.10.2", "e3nn-jax==0.21.0", "equinox==0.13.8", "jraph==0.0.6.dev0", "optax==0.2.8", "matscipy==1.3.1",
        "ase==3.29.0", "ase-db-backends==0.11.0", "pyyaml==6.0.4", "tqdm==4.70.1", f"{ALONE} nequix==0.4.5",
    ],
    "ani": [TORCH, "torchani==2.9.0", "ase==3.29.0"],
    "matgl": [
        TORCH, f"{ALONE} matgl==2.0.4", "torch-geometric==2.8.1", "lightning==2.6.6", "pymatgen==2026.10.24",
        "boto3==1.44.8", "ase==3.29.0",
    ],
    "deepmd": ["tensorflow-cpu==2.21.0", "deepmd-kit==3.2.0", "ase==3.29.0"],
    "openmmml": [TORCH, "openmm==8.6.1", "openmmml==1.8", "ase==3.29.0"],
    # the plugin of OpenMM-Torch that is built for PyTorch 2.10 to 2.12; with CUDA's libraries 4.8 GB
    "torchforce": ["torch==2.12.0", "openmm==8.6.1", "acellera-openmmtorch-cpu==1.10"],
    # and one that was built for another PyTorch
    "torchforce-mismatched": [TORCH, "openmm==8.6.1", f"{ALONE} acellera-openmmtorch-cpu==1.10"],
    "orb": [TORCH, "orb-models==0.5.5", "ase==3.29.0"],
    "mattersim": [
        TORCH, f"{ALONE} mattersim==1.2.3", "ase==3.29.0", "e3nn==0.6.0", "torch-runstats==0.2.0", "torch-ema==0.3",
        "torchmetrics==1.9.0", "torch-geometric==2.8.1", "pymatgen==2026.10.24", "deprecated==1.3.1", "loguru==0.7.3",
        "opt-einsum-fx==0.1.4", "phonopy==4.10.0", "scikit-learn==1.9.1", "pandas==3.1.1",
    ],
}
# fmt: on
"""Names, and what pip is given one after the other; what is to come without what it asks for begins with `ALONE`."""
OF_PLUGINS = ("torchforce", "torchforce-mismatched")
"""Those of ways to run a potential; the others are called as a kind of potential."""


def python_in(folder: Path, name: str) -> Path:
    """The Python of an environment."""
    return folder.absolute() / name / "bin" / "python"


def commands(name: str, folder: Path, *, with_mlmd: bool = False) -> list[list[str]]:
    """What is run to make an environment. What is installed later may not replace what was before it."""
    python = str(python_in(folder, name))
    wanted = ENVIRONMENTS[name]
    made = [[sys.executable, "-m", "venv", str(folder.absolute() / name)]]
    for n, one in enumerate(wanted):
        before = [other for other in wanted[:n] if not other.startswith(ALONE)]
        made.append([python, "-m", "pip", "install", *(one.split() if one.startswith(ALONE) else [*before, one])])
    if with_mlmd:
        others = [one for one in wanted if not one.startswith(ALONE)]
        # an environment with another PyTorch has other versions of what goes with it
        other_torch = any(one.startswith("torch==") and one != TORCH for one in others)
        constraints = [] if other_torch else ["-c", str(ROOT / "constraints.txt")]
        made.append(
            [python, "-m", "pip", "install", *constraints, *others, "pytest", "pytest-timeout", "-e", str(ROOT)]
        )
    return made


def main() -> None:
    """Make the environments that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(ENVIRONMENTS), metavar="NAME", help=", ".join(ENVIRONMENTS))
    parser.add_argument("--folder", type=Path, default=Path("envs"), help="holds one folder for each (default: envs)")
    parser.add_argument("--with-mlmd", action="store_true", help="install mlmd and pytest there too")
    options = parser.parse_args()
    compiled = any((ROOT / "mlmd" / "kernels").glob("_*.so"))  # and need not be compiled again for each of them
    surroundings = os.environ | ({"MLMD_KEEP_KERNELS": "1"} if compiled else {})
    for name in options.names:
        for command in commands(name, options.folder, with_mlmd=options.with_mlmd):
            subprocess.run(command, check=True, env=surroundings)


if __name__ == "__main__":
    main()
