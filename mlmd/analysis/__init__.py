"""Properties of trajectories: every analysis is a function that returns its own result, with errors and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlmd.errors import InputError
from mlmd.registry import find

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlmd.rundir import Run

FOLDER = "analysis"
"""Where in a run folder results are written."""

ANALYSES: dict[str, str] = {
    "diffusion": "mlmd.analysis.diffusion:diffusion",
    "rdf": "mlmd.analysis.rdf:rdf",
    "van-hove": "mlmd.analysis.van_hove:van_hove",
    "density": "mlmd.analysis.density:density",
    "sites": "mlmd.analysis.sites:sites",
    "rotation": "mlmd.analysis.rotation:rotation",
    "structure-factor": "mlmd.analysis.scattering.structure_factor:structure_factor",
    "profile": "mlmd.analysis.profile:profile",
    "deposition": "mlmd.analysis.deposition:deposition",
    "adatoms": "mlmd.analysis.adatoms:adatoms",
    "vacf": "mlmd.analysis.vacf:vacf",
    "elastic": "mlmd.analysis.strain_fluctuations:strain_fluctuations",
    "infrared": "mlmd.analysis.infrared:infrared",
    "viscosity": "mlmd.analysis.green_kubo:viscosity",
    "thermal-conductivity": "mlmd.analysis.green_kubo:thermal_conductivity",
    "conductivity": "mlmd.analysis.green_kubo:conductivity",
    "nemd": "mlmd.analysis.nemd:nemd",
    "adf": "mlmd.analysis.adf:adf",
    "coordination": "mlmd.analysis.coordination:coordination",
    "order": "mlmd.analysis.order:order",
    "bonds": "mlmd.analysis.lifetimes:lifetimes",
    "rings": "mlmd.analysis.rings:rings",
    "dynamic-structure-factor": "mlmd.analysis.scattering.dynamic:dynamic_structure_factor",
    "protein": "mlmd.analysis.protein:protein",
    "fes": "mlmd.analysis.fes:fes",
    "arrhenius": "mlmd.analysis.arrhenius:arrhenius",
}
"""Name -> the function that does it."""
OF_RUNS = {"fes", "arrhenius", "viscosity", "thermal-conductivity", "conductivity", "nemd"}
"""Those that take run folders; others take a trajectory."""
OF_ONE_RUN = {"infrared"}
"""And those that take one."""
GROWING = {"deposition"}
"""And those that take one in which atoms come."""


class Result(Protocol):
    """What an analysis returns. `str` of it is a line or a few for a person."""

    @property
    def name(self) -> str:
        """Of the analysis; results are written under this name."""

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, units and provenance."""

    def to_csv(self) -> str:
        """The curves, a column each, units in the header."""

    def figure(self) -> Figure:
        """A picture of the curves."""


@dataclass(frozen=True)
class Unavailable:
    """An analysis that could not be done, and why: a run that has finished is not to fail because of it."""

    name: str
    reason: str

    def __str__(self) -> str:
        """The name and the reason."""
        return f"{self.name}: not done. {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """The name and the reason."""
        return {"analysis": self.name, "error": self.reason}


def run_all(
    run: Run, names: Sequence[str], *, charges: Mapping[str, float] | None = None,
    drift: str | Sequence[str] = "cell", folder: Path | None = None,
) -> list[Result | Unavailable]:  # fmt: skip
    """Do some analyses of the last stage of a run and write their results into its folder.

    Args:
        run: an open run folder.
        names: of `ANALYSES`.
        charges: e, by element, for the conductivity.
        drift: what is taken to be at rest where atoms move away.
        folder: for the results; by default `FOLDER` of the run.

    Returns:
        The results in the order of the names; `Unavailable` where the trajectory does not allow an analysis.

    Raises:
        InputError: for a name that is not known.
        StorageError: when the trajectory cannot be read.
    """
    of_drift = {name: {"drift": drift} for name in ("van-hove", "density", "vacf")}
    options: dict[str, dict[str, Any]] = {**of_drift, "diffusion": {"charges": charges, "drift": drift}}
    options["infrared"] = options["diffusion"]
    options["profile"] = {"charges": charges or None, "drift": drift if isinstance(drift, str) else list(drift)}
    results: list[Result | Unavailable] = []
    for name in names:
        analysis = find("mlmd.analyses", name, ANALYSES)
        try:
            result: Result = analysis(_subject(run, name), **options.get(name, {}))
        except InputError as error:
            results.append(Unavailable(name, str(error)))
        else:
            write(result, folder or run.path / FOLDER)
            results.append(result)
    return results


def _subject(run: Run, name: str) -> Any:
    """What an analysis of the last stage of a run takes."""
    from mlmd.io.growing import open_growth
    from mlmd.io.trajectories import open_run

    if name in OF_RUNS:
        return [run]
    if name in OF_ONE_RUN:
        return run
    return open_growth(run) if name in GROWING else open_run(run)


def write(result: Result, folder: Path) -> tuple[Path, Path, Path]:
    """Write NAME.json, NAME.csv and NAME.png of a result, making the folder where needed.

    A result whose numbers need other formats (cube files) has a method `more_files`, of their names and texts.
    """
    import json

    from mlmd.analysis.figures import save

    paths = folder / f"{result.name}.json", folder / f"{result.name}.csv", folder / f"{result.name}.png"
    content = json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(content + "\n", encoding="utf-8")
    paths[1].write_text(result.to_csv(), encoding="utf-8")
    save(result.figure(), paths[2])
    for name, text in getattr(result, "more_files", dict)().items():
        (folder / name).write_text(text, encoding="utf-8")
    return paths
