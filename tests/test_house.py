"""The plan of the house: who may import whom, how large a module may be, and what is never called."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from mlmd.analysis import ANALYSES
from mlmd.cli import COMMANDS
from mlmd.descriptors import DESCRIPTORS
from mlmd.fitting import REGRESSORS
from mlmd.potentials import POTENTIALS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlmd"
MODULES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"config", "units", "errors", "registry", "models", "cores"}
"""What everything may read."""

IMPORTS = {
    "cli": {"sample", "report", "ase"},
    "sample": {"engine", "train", "analysis"},
    "report": {"engine", "train", "analysis"},
    "engine": {"potentials", "ase", "pretrained", "bias", "rundir", "analysis"},
    "train": {"potentials", "pretrained", "io", "analysis"},
    "ase": {"potentials"},
    "pretrained": {"potentials"},
    "potentials": {"descriptors", "fitting", "kernels", "neighbors"},
    "analysis": {"io", "rundir", "descriptors", "bias", "neighbors"},
    "descriptors": {"kernels", "graph", "precision"},
    "fitting": {"kernels", "precision"},
    "neighbors": {"graph", "pairs"},
    "pairs": {"kernels"},
    "graph": set(),
    "kernels": {"graph"},
    "precision": set(),
    "bias": set(),
    "io": {"rundir"},
    "rundir": set(),
    "config": set(),
    "models": set(),
    "units": set(),
    "errors": set(),
    "registry": set(),
    "cores": set(),
}
"""Part of the package -> what it stands on directly; it may also import what those stand on."""

ONLY_IN = {
    "openmm": {"engine"}, "openmmtorch": {"engine"}, "lammps": {"engine"}, "mpi4py": {"engine"}, "plumed": {"bias"},
    "rich": {"cli"}, "click": {"cli"},
}  # fmt: skip
"""Libraries that one part of the package knows."""

NEVER_IN_CONFIG = {"torch", "openmm", "ase", "numpy", "scipy"}
SLOW = ("torch", "openmm", "numpy", "ase", "scipy", "mdtraj", "matplotlib", "pydantic")
"""Imports that would delay the answer of ``mlmd --help``."""

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "torch.jit.load"}
AFTER_TRUST = {("pretrained", "torch.jit.load")}
"""Calls that a part of the package makes for files that the user trusts by their digest."""
SHADES = {"utils", "util", "helpers", "common", "core", "manager", "base", "misc", "tools"}
"""Names that say nothing about what is inside."""


def part(module: Path) -> str:
    """The part of the package that a file belongs to: ``mlmd/engine/run.py`` is of ``engine``."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imported(module: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, wherever the import stands, with its line."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import; write the name in full"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own_part(name: str) -> str | None:
    """The part of the package that ``mlmd.part.module`` names; None for other packages and ``mlmd.__version__``."""
    names = name.split(".")
    return names[1] if names[0] == "mlmd" and len(names) > 1 and not names[1].startswith("__") else None


def below(name: str) -> set[str]:
    """Everything that a part of the package may import."""
    reached, waiting = {name} | FOUNDATION, [name]
    while waiting:
        new = IMPORTS[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def test_nothing_imports_upward() -> None:
    wrong = [
        f"{module.relative_to(ROOT)}:{line}: {part(module)} imports {name}"
        for module in MODULES
        if part(module) in IMPORTS
        for name, line in imported(module)
        if (other := own_part(name)) is not None and other not in below(part(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_part_of_the_package_has_its_place_in_the_plan() -> None:
    parts = {part(module) for module in MODULES if not part(module).startswith("__")}
    assert parts <= IMPORTS.keys()


def test_a_library_is_known_where_it_belongs_and_nowhere_else() -> None:
    # `mlmd doctor` looks at all of them, and OpenMM-ML makes systems of OpenMM
    modules = [module for module in MODULES if module.name not in ("surroundings.py", "openmmml.py")]
    wrong = [
        f"{module.relative_to(ROOT)}:{line}: {name}"
        for module in modules
        for name, line in imported(module)
        if part(module) not in ONLY_IN.get(name.split(".")[0], {part(module)})
    ]
    assert not wrong, "\n".join(wrong)


def test_the_config_needs_nothing_slow() -> None:
    config = [module for module in MODULES if part(module) in FOUNDATION]
    assert not [f"{m}:{line}" for m in config for name, line in imported(m) if name.split(".")[0] in NEVER_IN_CONFIG]


def code_lines(module: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, documented):
            for one in node.body:  # docstrings, also those below an attribute
                if (
                    isinstance(one, ast.Expr)
                    and isinstance(one.value, ast.Constant)
                    and isinstance(one.value.value, str)
                ):
                    prose |= set(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with module.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in silent]
    lines = {line for token in tokens[1:] for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - prose)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_holds_one_idea(module: Path) -> None:
    assert code_lines(module) <= 400


def test_names_say_what_is_inside() -> None:
    assert not [module for module in MODULES if SHADES & {*module.relative_to(PACKAGE).with_suffix("").parts}]


def unsafe(call: ast.Call) -> bool:
    """Whether a call could execute what stands in a file."""
    name = dotted(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return (
        name in UNSAFE_CALLS
        or "XmlSerializer" in name.split(".")
        or (name == "torch.load" and given.get("weights_only") != "True")
        or given.get("allow_pickle", "False") != "False"
    )


def only_writes(module: Path, name: str) -> bool:
    """Whether a module uses pickle for nothing but to write one, which other programs want."""
    uses = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Name) and node.id == "pickle"]
    writes = [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "pickle.dumps"
    ]
    return name == "pickle" and len(uses) == len(writes) > 0


@pytest.mark.row("R23")
def test_no_file_can_make_mlmd_execute_code() -> None:
    calls = [
        f"{module.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and unsafe(node) and (part(module), dotted(node.func)) not in AFTER_TRUST
    ]
    modules = [
        f"{module.relative_to(ROOT)}:{line}: {name}"
        for module in MODULES
        for name, line in imported(module)
        if name.split(".")[0] in UNSAFE_MODULES and not only_writes(module, name)
    ]
    assert calls + modules == []


def test_only_commands_print() -> None:
    prints = [
        f"{module.relative_to(ROOT)}:{node.lineno}"
        for module in MODULES
        if part(module) != "cli"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and dotted(node.func) == "print"
    ]
    assert prints == []


def test_only_few_read_the_environment() -> None:
    """The searches for PLUMED and kernels, torch's safe loading, put back or needed off, mpirun, and glibc's memory."""
    readers = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        if part(module) != "cli"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv"}
    }
    known = {"bias/plumed.py", "kernels/native.py", "pretrained/serve.py", "pretrained/mace.py"}
    assert readers <= known | {"engine/lammps/processes.py", "potentials/memory.py"}


def test_help_imports_nothing_slow() -> None:
    report = (
        "import sys; from click.testing import CliRunner; from mlmd.cli import group; "
        "answer = CliRunner().invoke(group, ['--help']); assert answer.exit_code == 0, answer.output; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(SLOW) & set(answer.stdout.split())


def test_analyses_start_without_torch() -> None:
    """Which takes seconds; the layers of a film are told apart by a descriptor of it."""
    modules = sorted({target.split(":")[0] for name, target in ANALYSES.items() if name != "deposition"})
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "vesin"} & set(answer.stdout.split())


def test_every_command_is_listed_by_the_help() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "mlmd", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert [name for name in COMMANDS if f"  {name} " not in answer.stdout] == []


REGISTERED = [*POTENTIALS.values(), *DESCRIPTORS.values(), *REGRESSORS.values(), *(one for one, _ in COMMANDS.values())]


@pytest.mark.parametrize("target", REGISTERED)
def test_every_registered_name_leads_somewhere(target: str) -> None:
    module, _, attribute = target.partition(":")
    assert callable(getattr(import_module(module), attribute))
