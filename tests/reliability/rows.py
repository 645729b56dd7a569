"""The scorecard: what a run has to stand, how much each row weighs, and by which tests a mutation of it is seen.

A test belongs to a row by ``@pytest.mark.row("R03")``; a number that it measures goes into ``record_property``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One row."""

    title: str
    weight: int
    seen_by: str
    """Tests that fail under the mutation of this row (an expression of ``pytest -k``)."""
    note: str = ""
    """What of the row is not tested, and why."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Further mutations, by name, and the tests that fail under each."""

    def mutations(self, name: str) -> dict[str, str]:
        """All mutations of the row that has this name, and the tests that fail under each."""
        return {name: self.seen_by, **self.also}


ROWS = {
    "R01": Row("exact resume, NVE", 5, "another_process"),
    "R02": Row(
        "exact resume, thermostats, barostats, ramps", 4, "same_as_one_run and langevin and CPU",
        "on graphics cards it is tried where there is one",
    ),
    "R03": Row("killed at any moment", 10, "every_change_once and kill"),
    "R04": Row(
        "killed while PLUMED or an adaptive force biases", 8, "killed_at_every_write_is_whole and opes",
        also={"R04 adaptive": "adaptive_force_killed_at_every_write_is_whole"},
    ),
    "R05": Row("restart from an older checkpoint", 3, "cut_back_to_the_one_before"),
    "R06": Row("damaged checkpoints", 6, "every_damage"),
    "R07": Row("modified outputs", 4, "edited_before"),
    "R08": Row("full disk", 6, "plumed_cannot_write and COLVAR"),
    "R09": Row("paths that cannot be written, odd names", 2, "cannot_be_a_run_folder"),
    "R10": Row("signals, --max-hours, STOP", 4, "a_signal_ends"),
    "R11": Row("two runs in one folder", 3, "begun_at_once"),
    "R12": Row("malformed inputs", 3, "mutated_input"),
    "R13": Row("malformed structures", 4, "unsound or mutated_structure"),
    "R14": Row("wrong elements, wrong model", 3, "wrong_input and element"),
    "R15": Row("non-finite energies and forces", 5, "non_finite and 17 and Reference"),
    "R16": Row("explosions", 3, "explosion"),
    "R17": Row("extrapolation", 2, "extrapolates"),
    "R18": Row("energy conservation in NVE", 3, "smooth_potential"),
    "R19": Row("equipartition and ensembles", 3, "velocities_at_the_start"),
    "R20": Row("virial and pressure", 2, "pressure_is_the_derivative"),
    "R21": Row("forces and symmetries", 2, "gradient_of_the_energy and crystal"),
    "R22": Row("right free energies under a bias", 3, "metadynamics_recovers_the_double_well"),
    "R23": Row("malicious files", 6, "before_it_is_trusted and not delta"),
    "R24": Row("determinism", 2, "same_seed"),
    "R25": Row("failure of a graphics card", 2, "told_as_such", "the failure is simulated"),
    "R26": Row("leaks and long counters", 1, "beyond_32_bits_have"),
    "R27": Row("versions and copies", 1, "shuffled"),
}  # fmt: skip
"""The rows; their weights add up to 100."""
