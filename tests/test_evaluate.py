"""Errors of a potential: what they are errors of, what they leave out, and what they give away about the data."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from command_line import mlmd
from kernel_systems import needs_kernels
from made_potentials import random_mtp

from mlmd.ase import Calculator
from mlmd.config import PotentialTable
from mlmd.errors import InputError, SimulationError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.load import load_potential
from mlmd.potentials.pair import ZBL, LennardJones
from mlmd.train.error_table import from_json
from mlmd.train.evaluate import Labels, errors, predict, shifted
from mlmd.train.figures import LearningCurve, learning_figure, panels, parity_figure
from mlmd.train.systematic import systematic

GPA = 1 / 160.2176634
"""eV/Å³, CODATA."""


def frame(symbols: str, group: str = "", source: str = "made@0", **labels: object) -> LabelledFrame:
    """Atoms 3 Å apart in a row, periodic, with the labels given."""
    atoms = Atoms(symbols, cell=[20.0] * 3, pbc=True)
    atoms.positions[:, 0] = 3.0 * np.arange(len(atoms))
    given = {"energy": None, "forces": None, "stress": None} | labels
    return LabelledFrame(atoms=atoms, group=group, source=source, **given)  # type: ignore[arg-type]


def zeros(*frames: LabelledFrame) -> list[Labels]:
    """A potential that always says zero."""
    return [Labels(0.0, np.zeros((len(one.atoms), 3)), np.zeros((3, 3))) for one in frames]


def argon(strain: float = 0.0, **options: object) -> LennardJones:
    return LennardJones(**{"epsilon": "0.0104 eV", "sigma": f"{3.4 * (1 + strain)} Å", "cutoff": "7 Å"} | options)


def nuclei_of(*elements: str) -> ZBL:
    return ZBL(cutoff="4 Å", elements=elements)


def nuclei(precision: str = "float64") -> ZBL:
    """A potential without a kernel: it takes any element."""
    return ZBL(cutoff="7 Å", precision=precision)


def crystals(n: int = 12, seed: int = 1) -> list[LabelledFrame]:
    """Strained, distorted argon crystals with the labels of a Lennard-Jones potential."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(n):
        atoms = bulk("Ar", cubic=True, a=5.3).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        frames.append(LabelledFrame(atoms, None, None, None, "", f"argon.extxyz@{index}"))
    return labelled(frames, predict(argon(), frames))


def labelled(frames: list[LabelledFrame], labels: list[Labels]) -> list[LabelledFrame]:
    return [
        replace(one, energy=own.energy, forces=own.forces, stress=own.stress)
        for one, own in zip(frames, labels, strict=True)
    ]


# what the errors are errors of


def test_energies_are_compared_per_atom() -> None:
    frames = [frame("Ar2", energy=0.002, source="a@0"), frame("Ar4", energy=-0.012, source="a@1")]
    row = errors(frames, zeros(*frames)).row("energy")
    # 1 and 3 meV/atom
    assert (row.n, row.unit, row.where) == (2, "meV/atom", "a@1")
    assert (row.mae, row.rmse, row.largest) == pytest.approx((2.0, math.sqrt(5.0), 3.0))


def test_forces_are_compared_by_component() -> None:
    forces = np.zeros((2, 3))
    forces[0] = 0.003, 0.004, 0.0
    row = errors([frame("Ar2", forces=forces)], zeros(frame("Ar2"))).row("forces")
    assert row.n == 6
    assert (row.mae, row.rmse, row.largest) == pytest.approx((7 / 6, math.sqrt(25 / 6), 4.0))


def test_a_shear_stress_counts_once_and_is_in_megapascal() -> None:
    stress = np.zeros((3, 3))
    stress[0, 1] = stress[1, 0] = 0.3 * GPA
    row = errors([frame("Ar", stress=stress)], zeros(frame("Ar"))).row("stress")
    assert row.n == 6
    assert (row.mae, row.rmse, row.largest) == pytest.approx((50.0, 300.0 / math.sqrt(6.0), 300.0))


def test_elements_and_groups_have_errors_of_their_own() -> None:
    lithium, chlorine = [[0.1, 0, 0]], [[0, 0.2, 0]]
    frames = [
        frame("LiCl", "bulk", "a@0", energy=0.2, forces=np.array(lithium + chlorine)),
        frame("Cl", "surface", "a@1", energy=0.5, forces=np.zeros((1, 3))),
    ]
    table = errors(frames, zeros(*frames))
    assert table.row("forces", "Li").largest == pytest.approx(100.0)
    assert table.row("forces", "Cl").rmse == pytest.approx(200.0 / math.sqrt(6.0))
    assert table.row("energy", "bulk").mae == pytest.approx(100.0)
    assert table.row("energy", "surface").where == "a@1"
    with pytest.raises(KeyError, match="Did you mean 'surface'"):
        table.row("energy", "surfaces")


def test_a_group_may_be_called_as_an_element() -> None:
    frames = [frame("LiCl", "Li", forces=np.ones((2, 3))), frame("LiCl", "Cl", forces=np.zeros((2, 3)))]
    table = errors(frames, zeros(*frames))
    assert table.row("forces", "Li", by="element").rmse == pytest.approx(1000.0 / math.sqrt(2.0))
    assert table.row("forces", "Li", by="group").rmse == pytest.approx(1000.0)


def test_missing_labels_are_no_errors_of_zero() -> None:
    frames = [frame("Ar2", energy=0.02), frame("Ar2", energy=math.nan), frame("Ar2")]
    table = errors(frames, zeros(*frames))
    assert table.row("energy").n == 1
    assert table.row("energy").mae == pytest.approx(10.0)
    assert table.row("stress").n == 0
    assert math.isnan(table.row("stress").rmse)
    assert "no data" in table.text()
    assert errors([], []).row("forces").n == 0
    # of which there are none at all has one line, not one for each group
    grouped = [replace(one, group=name) for one, name in zip(frames, ("bulk", "bulk", "surface"), strict=True)]
    text = errors(grouped, zeros(*grouped)).text()
    assert text.count("surface") == 1 and text.count("no data") == 3


def test_a_prediction_that_is_not_finite_is_an_infinite_error_and_not_a_missing_one() -> None:
    wrong = replace(zeros(frame("Ar2"))[0], energy=math.nan)
    assert errors([frame("Ar2", energy=1.0)], [wrong]).row("energy").rmse == math.inf


def test_a_table_survives_json() -> None:
    frames = [frame("LiCl", "a", energy=0.1, forces=np.ones((2, 3))), frame("LiCl", "b", energy=0.2)]
    table = replace(errors(frames, zeros(*frames)), shift={"Li": -0.5})
    back = from_json(json.loads(json.dumps(table.to_json(), allow_nan=False)))
    assert back.text() == table.text()
    assert back.row("energy") == table.row("energy")
    assert "Li -0.5000" in back.text()


def test_the_printed_table_is_aligned_and_does_not_repeat_the_whole() -> None:
    frames = [frame("Ar2", "bulk", energy=0.2, forces=np.full((2, 3), 0.0123))]
    table = errors(frames, zeros(*frames))
    lines = table.text().splitlines()
    assert len(lines) == 4  # a heading and three properties; the one element and the one group are the whole
    assert {line.index("me") for line in lines[1:3]} == {lines[0].index("unit")}


# what a potential says


def test_many_structures_at_once_are_as_each_alone() -> None:
    frames = crystals(12)
    frames.append(LabelledFrame(molecule("O2"), None, None, None, "", "oxygen"))
    frames.append(
        LabelledFrame(Atoms("Ar2", [[0, 0, 0], [3.7, 0, 0]], pbc=[1, 0, 1], cell=[9, 0, 9]), *[None] * 3, "", "")
    )
    potential = argon()
    done: list[tuple[int, int]] = []
    predictions = predict(potential, frames, progress=lambda *count: done.append(count))
    assert done[-1] == (14, 14)
    for one, predicted in zip(frames, predictions, strict=True):
        atoms = one.atoms.copy()
        atoms.calc = Calculator(potential)
        # sums in another order differ by rounding
        assert predicted.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        assert predicted.forces == pytest.approx(atoms.get_forces(), abs=1e-12)
        if atoms.pbc.all():
            assert predicted.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-14)
        else:
            assert predicted.stress is None


@needs_kernels
def test_structures_that_share_a_kernel_are_as_each_with_its_own() -> None:
    # of several sizes and kinds, in two orders: what a kernel keeps from one structure to the next is room alone
    potential = Sum([random_mtp(("Ar", "Kr"), level=8), argon(elements=["Ar"], cutoff="5 Å"), nuclei_of("Ar", "Kr")])
    frames = [LabelledFrame(one.atoms.repeat((n, 1, 1)), *[None] * 3, "", "") for n in (3, 1, 2) for one in crystals(2)]
    together, backwards = predict(potential, frames), predict(potential, frames[::-1])[::-1]
    for frame, one, other in zip(frames, together, backwards, strict=True):
        (alone,) = predict(potential, [frame])
        graph = potential.predict(build_graph(frame.atoms, potential.cutoff))
        size = float(np.abs(graph.forces.numpy()).max())
        assert one.energy == pytest.approx(float(graph.energy), rel=1e-10)
        assert one.forces == pytest.approx(graph.forces.numpy(), abs=1e-10 * size)
        assert one.stress == pytest.approx(graph.stress[0].numpy(), rel=1e-9, abs=1e-12)
        for same in (alone, other):
            assert one.energy == same.energy
            assert np.array_equal(one.forces, same.forces)
            assert np.array_equal(one.stress, same.stress)


def test_nothing_to_predict_is_nothing() -> None:
    assert predict(argon(), []) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("make", [argon, nuclei], ids=["kernel", "graph"])
def test_processes_give_the_same_bits(make: Callable[..., Potential], precision: str) -> None:
    frames = crystals(40)
    potential = make(precision=precision)
    for alone, shared_out in zip(predict(potential, frames), predict(potential, frames, n_processes=2), strict=True):
        assert alone.energy == shared_out.energy
        assert np.array_equal(alone.forces, shared_out.forces)
        assert np.array_equal(alone.stress, shared_out.stress)


@pytest.mark.slow
@pytest.mark.parametrize("make", [argon, nuclei], ids=["kernel", "graph"])
def test_an_error_in_a_process_names_the_structure(make: Callable[..., Potential]) -> None:
    frames = crystals(40)
    frames[33].atoms.positions[1] = frames[33].atoms.positions[0]
    with pytest.raises(SimulationError, match=r"argon.extxyz@33: .* not finite"):
        predict(make(), frames, n_processes=2)


@pytest.mark.slow
def test_processes_end_when_the_one_they_work_for_is_killed(tmp_path: Path) -> None:
    program = """
import multiprocessing, os, signal
from test_evaluate import crystals, nuclei, predict

def kill(done, total):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    predict(nuclei(), crystals(400), n_processes=2, progress=kill)
"""
    with (tmp_path / "children").open("w") as out:  # a pipe would stay open as long as they live
        subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=out, check=False)
    children = [Path("/proc", number) for number in (tmp_path / "children").read_text().split()]
    assert len(children) == 2
    until = time.monotonic() + 20.0  # they look once a second
    while any(_lives(child) for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(_lives(child) for child in children)


def _lives(process: Path) -> bool:
    """Whether a process does anything; one that nobody has asked for its exit code does not."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_potential_that_no_file_can_hold_is_evaluated_here() -> None:
    class Borrowed:
        """Somebody else's model."""

        cutoff, elements = 7.0, ("Ar",)

        def predict(self, graph: object) -> object:
            return argon().predict(graph)  # type: ignore[arg-type]

    frames = crystals(40)
    alone, shared_out = (predict(Borrowed(), frames, n_processes=n) for n in (1, 2))  # type: ignore[arg-type]
    assert [one.energy for one in alone] == [one.energy for one in shared_out]
    # labels are those of the kernel, where there is one, which rounds differently
    assert [one.energy for one in alone] == pytest.approx([one.energy for one in frames], rel=1e-12)


def test_unknown_elements_are_named_with_their_structure() -> None:
    frames = [frame("Ar2", source="a.xyz@0"), frame("ArKr2", source="a.xyz@1"), frame("Xe", source="b.xyz@0")]
    said = r"knows Ar; a.xyz@1 also has Kr \(2 atoms\)\. .* 1 more of the 3 structures have elements that it does not"
    with pytest.raises(InputError, match=said):
        predict(argon(elements=["Ar"]), frames)


def test_a_structure_that_cannot_be_is_named() -> None:
    frames = [frame("Ar2"), frame("Ar2", source="bad.xyz@7")]
    frames[1].atoms.positions[0, 0] = math.nan
    with pytest.raises(InputError, match=r"bad.xyz@7: .* not finite"):
        predict(argon(), frames)
    frames[1].atoms.positions[:] = 0.0
    with pytest.raises(SimulationError, match=r"bad.xyz@7: .* Do atoms coincide"):
        predict(argon(), frames)


@pytest.mark.parametrize(("element", "energy", "force"), [("Li", 0.66, 0.0132), ("Cu", 0.52, 0.0135)])
def test_published_potentials_have_their_published_errors(
    shared: Path, element: str, energy: float, force: float
) -> None:
    # the authors' potentials and test sets (Zuo et al., J. Phys. Chem. A 124, 731 (2020)), evaluated by others with
    # MLIP-2; the last digit is theirs
    path = shared / "models_mvl" / element / "mtp.2020.01" / "fitted.mtp"
    potential = load_potential([PotentialTable.model_validate({"path": str(path), "elements": [element]})])
    frames = read_labelled(shared / "mlearn" / f"{element}_test.xyz.xz")
    table = errors(frames, predict(potential, frames))
    assert table.row("energy").rmse == pytest.approx(energy, abs=0.005)
    assert table.row("forces").rmse == pytest.approx(1e3 * force, abs=0.05)


# what the errors give away about the data


def test_a_shift_by_element_takes_another_zero_of_energy_away() -> None:
    rng = np.random.default_rng(3)
    frames = [frame(f"Li{a}Cl{b}", energy=-2.0 * a - 5.5 * b) for a, b in rng.integers(1, 6, size=(20, 2))]
    moved, shift = shifted(frames, zeros(*frames))
    assert shift == pytest.approx({"Li": -2.0, "Cl": -5.5})
    assert errors(frames, moved).row("energy").largest == pytest.approx(0.0, abs=1e-9)


def test_structures_of_one_composition_are_shifted_by_their_mean() -> None:
    frames = [frame("LiCl", energy=energy) for energy in (-8.1, -8.0, -7.9)]
    moved, _ = shifted(frames, zeros(*frames))
    assert [one.energy for one in moved] == pytest.approx([-8.0] * 3)


def test_good_potentials_and_poor_ones_give_no_doubt_about_the_data() -> None:
    frames = crystals()
    assert systematic(frames, predict(argon(), frames)) == []
    assert systematic(frames, predict(argon(strain=0.005), frames)) == []
    assert systematic([frame("Ar")], zeros(frame("Ar"))) == []
    # labels of another size that have nothing to do with the predictions tell no unit
    rng = np.random.default_rng(7)
    noise = [replace(one, forces=0.1 * rng.permuted(np.array(one.forces))) for one in frames]
    assert systematic(noise, predict(argon(), frames)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, energy=one.energy - 3.0 * len(one.atoms)), "counted from another zero"),
        (lambda one: replace(one, forces=-one.forces), "the forces have the opposite sign"),
        (
            lambda one: replace(one, forces=one.forces / 51.422),
            "0.0194 times those predicted: are they in hartree/bohr?",
        ),
        (lambda one: replace(one, stress=-one.stress), "positive in compression"),
        (lambda one: replace(one, stress=one.stress / GPA), "160 times those predicted: are they in GPa?"),
        (lambda one: replace(one, stress=one.stress + 0.5 * GPA * np.eye(3)), "+0.50 GPa in addition"),
    ],
)
def test_differences_that_are_no_scatter_are_told(change: object, said: str) -> None:
    frames = crystals()
    notes = systematic([change(one) for one in frames], predict(argon(strain=1e-4), frames))  # type: ignore[operator]
    assert len(notes) == 1
    assert said in notes[0]


def test_shears_in_another_order_are_told_with_their_group() -> None:
    frames = crystals()
    for index, one in enumerate(frames):
        stress = np.array(one.stress)
        if index % 2:
            xz, yz = stress[0, 2], stress[1, 2]
            stress[0, 2] = stress[2, 0] = yz
            stress[1, 2] = stress[2, 1] = xz
        frames[index] = replace(one, stress=stress, group="swapped" if index % 2 else "right")
    (note,) = systematic(frames, predict(argon(strain=1e-4), frames))
    assert "(groups swapped)" in note
    assert "what stands as yz, xz, xy agrees with the predicted xz, yz, xy" in note


# pictures


def test_a_parity_figure_shows_what_there_is() -> None:
    frames = crystals()
    predictions = predict(argon(strain=1e-3), frames)
    figure = parity_figure(frames, predictions, "argon")
    names = [axes.get_ylabel() for axes in figure.axes]
    assert names[:3] == [
        "predicted energy (eV/atom)",
        "predicted force component (eV/Å)",
        "predicted stress component (GPa)",
    ]
    rmse = errors(frames, predictions).row("forces").rmse
    assert f"RMSE {rmse:.3g} meV/Å" in figure.axes[1].texts[0].get_text()
    energies = [replace(one, forces=None, stress=None) for one in frames]
    assert len(parity_figure(energies, predictions, "argon").axes) == 2
    assert "no data" in parity_figure([], [], "nothing").axes[0].texts[0].get_text()


def test_a_parity_figure_of_many_atoms_draws_each_spot_once(tmp_path: Path) -> None:
    from mlmd.analysis.figures import save

    rng = np.random.default_rng(5)
    n = 100_000
    atoms = Atoms(numbers=rng.choice([3, 17], size=n), positions=np.zeros((n, 3)))
    forces = rng.normal(size=(n, 3))
    one = LabelledFrame(atoms, None, forces, None, "", "large")
    predicted = Labels(0.0, forces + rng.normal(scale=0.01, size=(n, 3)), None)
    figure = parity_figure([one], [predicted], "large")
    drawn = sum(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert drawn < 0.1 * forces.size
    save(figure, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size < 500_000


def test_energies_of_different_compositions_are_shown_less_that_of_the_composition() -> None:
    frames = [frame("LiCl", energy=-900.0), frame("LiCl2", energy=-1300.1), frame("Li2Cl", energy=-1400.2)]
    figure = parity_figure(frames, [Labels(one.energy or 0, np.zeros((len(one.atoms), 3)), None) for one in frames], "")
    low, high = figure.axes[0].get_xlim()
    assert high - low < 1.0
    assert "relative" in figure.axes[0].get_ylabel()


def test_a_group_has_one_colour_in_all_panels_of_a_parity_figure() -> None:
    # of few large and many small structures, the large ones have more forces and fewer energies
    many = [frame("ArAr", "small", energy=-0.1 * n, forces=np.full((2, 3), 0.1 * n)) for n in range(5)]
    few = [frame("Ar" * 20, "large", energy=-1.0 - n, forces=np.full((20, 3), 0.1 * n)) for n in range(3)]
    frames = [*many, *few]
    figure = parity_figure(frames, zeros(*frames), "argon")
    colours = [
        {str(line.get_label()): line.get_color() for line in axes.lines if line.get_label() in ("small", "large")}
        for axes in figure.axes[:2]
    ]
    assert colours[0] == colours[1] and len(set(colours[0].values())) == 2
    above = {str(line.get_label()): line.get_zorder() for line in figure.axes[1].lines}
    assert above["small"] > above["large"]  # of which there are more points


def test_errors_of_a_fit_through_all_labels_do_not_stretch_the_axis_of_a_learning_curve() -> None:
    curve = LearningCurve((1, 2, 4), (1e-8, 0.5, 1.0), (30.0, 20.0, 21.0), (20.0, 5.0, 2.0), (40.0, 24.0, 20.0), ())
    energies, forces = learning_figure(curve).axes
    low, high = energies.get_ylim()
    assert 0.1 < low < 0.5 and 20.0 < high < 100.0
    assert forces.get_ylim()[0] < 20.0 and forces.get_ylim()[1] > 40.0
    interpolating = replace(curve, train_energy=(1e-8, 1e-8, 1e-8))
    legend = learning_figure(interpolating).axes[0].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["train: nearly zero", "test"]


def test_a_learning_curve_shows_the_panels_it_has_numbers_for() -> None:
    one = LearningCurve((100,), (0.5,), (10.0,), (), (), losses=((3.0, 1.0, 0.9),))
    assert len(learning_figure(one).axes) == 1
    several = replace(one, n_frames=(50, 100), train_energy=(0.4, 0.5), train_forces=(9.0, 10.0))
    assert [axes.get_xlabel() for axes in learning_figure(several).axes] == [
        "iteration", "structures trained on", "structures trained on",
    ]  # fmt: skip
    without_energies = replace(several, train_energy=(math.nan, math.nan), test_energy=(math.nan, math.nan))
    assert ["forces" in axes.get_ylabel() for axes in learning_figure(without_energies).axes] == [False, True]
    no_steps = replace(several, losses=((0.9,),))
    assert [axes.get_xlabel() for axes in learning_figure(no_steps).axes] == ["structures trained on"] * 2


def test_a_fit_without_a_course_has_nothing_to_show() -> None:
    assert panels(LearningCurve((100,), (0.5,), (10.0,), (), (), losses=((0.9,),), step="epoch")) == []


def test_each_member_of_a_committee_has_a_line_of_its_own() -> None:
    losses = ((3.0, 1.0, 0.9), (4.0, 2.0), (3.5, 1.5, 1.0, 0.8))
    (axes,) = learning_figure(LearningCurve((), (), (), (), (), losses=losses, step="epoch")).axes
    drawn = {str(line.get_label()): tuple(line.get_data()[1]) for line in axes.lines}
    assert drawn == {f"member {number}": loss for number, loss in enumerate(losses, 1)}
    assert all(list(line.get_data()[0]) == list(range(len(line.get_data()[1]))) for line in axes.lines)
    assert len({line.get_color() for line in axes.lines}) == 3
    legend = axes.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == list(drawn)
    one = learning_figure(LearningCurve((), (), (), (), (), losses=losses[:1])).axes[0]
    many = learning_figure(LearningCurve((), (), (), (), (), losses=losses * 4)).axes[0]
    assert one.get_legend() is None and many.get_legend() is None
    assert len(many.lines) == 12


def test_the_loss_of_a_part_of_the_structures_is_told_from_that_of_all() -> None:
    curve = LearningCurve((12, 48), (0.5, 0.4), (10.0, 9.0), (), (), losses=((0.6, 0.5, 0.4),))
    both = replace(curve, losses_of_part=(0.5, 0.4, 0.35), n_of_part=12)
    part, whole = learning_figure(both).axes[0].lines
    assert (list(part.get_xdata()), list(whole.get_xdata())) == ([0, 1, 2], [2, 3, 4])
    assert (tuple(part.get_ydata()), tuple(whole.get_ydata())) == (both.losses_of_part, both.losses[0])
    assert part.get_color() != whole.get_color() and part.get_linestyle() == "--"
    legend = learning_figure(both).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["12 of 48 structures, at first", "all 48 structures"]
    assert learning_figure(curve).axes[0].get_legend() is None
    # all of it with a part: what all structures say of the end is a point
    (_, whole) = learning_figure(replace(both, losses=((0.6,),))).axes[0].lines
    assert whole.get_marker() == "o" and list(whole.get_xdata()) == [2]


# the command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "argon.extxyz"
    write_labelled(path, crystals())
    return path


def options(strain: float = 0.0) -> tuple[str, str]:
    return "--options", json.dumps({"epsilon": "0.0104 eV", "sigma": f"{3.4 * (1 + strain)} Å", "cutoff": "7 Å"})


def test_the_command_prints_a_table_and_writes_its_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    answer = mlmd("evaluate", "lennard-jones", data, *options(1e-3), "--out", out, "--predictions")
    assert (answer.code, answer.err) == (0, "")
    assert "lennard-jones on argon.extxyz: 12 structures, 96 atoms" in answer.out
    assert {path.name for path in out.iterdir()} == {"errors.json", "parity.png", "predictions.extxyz"}
    table = from_json(json.loads((out / "errors.json").read_text())["errors"])
    frames = crystals()
    expected = errors(frames, predict(argon(strain=1e-3), frames))
    assert table.row("forces").rmse == pytest.approx(expected.row("forces").rmse, rel=1e-9)
    assert expected.text().splitlines()[1] in answer.out


def test_predictions_are_never_taken_for_labels(data: Path, tmp_path: Path) -> None:
    assert mlmd("evaluate", "lennard-jones", data, *options(), "--out", tmp_path, "--predictions").code == 0
    with pytest.raises(InputError):
        read_labelled(tmp_path / "predictions.extxyz")


def test_the_command_in_json_prints_nothing_else(data: Path) -> None:
    answer = mlmd("evaluate", "lennard-jones", data, data, *options(), "--json")
    assert answer.err == ""
    result = json.loads(answer.out)
    assert result["n_frames"] == 24
    assert result["notes"] == []
    # the file holds all digits, so the potential that made the labels has no error
    assert from_json(result["errors"]).row("forces").largest < 1e-9


def test_the_command_hints_at_the_shift_and_does_it(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.extxyz"
    write_labelled(moved, [replace(one, energy=(one.energy or 0) + 8.0) for one in crystals()])
    assert (
        "Note: the energies are counted from another zero" in mlmd("evaluate", "lennard-jones", moved, *options()).out
    )
    answer = mlmd("evaluate", "lennard-jones", moved, *options(), "--shift")
    assert "Note" not in answer.out
    assert "fitted to these data (eV/atom): Ar +1.0000." in answer.out


def test_labels_are_found_under_the_names_given(data: Path) -> None:
    data.write_text(data.read_text().replace("energy=", "my_energy="))
    row = mlmd("evaluate", "lennard-jones", data, *options()).out.splitlines()[2]
    assert row.split() == ["energy", "all", "0", "no", "data"]
    answer = mlmd("evaluate", "lennard-jones", data, *options(), "--energy-key", "my_energy", "--json")
    assert from_json(json.loads(answer.out)["errors"]).row("energy").n == 12


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.mlmd", "argon.extxyz"), 2, "nothing.mlmd: no such file"),
        (("lenard-jones", "argon.extxyz"), 2, "Did you mean 'lennard-jones'"),
        (("lennard-jones", "argon.extxyz"), 2, "cutoff must be given"),
        (("lennard-jones", "none.extxyz", *options()), 2, "none.extxyz"),
        (("lennard-jones", "argon.extxyz", "--options", "{"), 2, "not JSON"),
        (("lennard-jones", "argon.extxyz", *options(), "--elements", "Kr"), 2, "argon.extxyz@0 has Ar (8 atoms)"),
        (("lennard-jones", "argon.extxyz", *options(), "--predictions"), 2, "--out"),
        (("lennard-jones", "argon.extxyz", *options(), "--device", "abacus"), 2, "not a device"),
        (("lennard-jones", "argon.extxyz", *options(), "--out", "argon.extxyz"), 4, "argon.extxyz"),
    ],
)
def test_wrong_arguments_get_one_message(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(data.parent)
    answer = mlmd("evaluate", *arguments)
    assert answer.code == code
    assert said in answer.err
    assert "Traceback" not in answer.err


# the card


def test_show_prints_the_card_of_a_trained_potential(tmp_path: Path) -> None:
    frames = crystals()
    table = errors(frames, predict(argon(strain=1e-3), frames))
    card = {
        "licence": "MIT",
        "data": {
            "files": ["a.xyz", "b.xyz"], "n_frames": 1200, "n_atoms": 34000, "digest": "0123456789abcdef",
            "frames with forces": 1200, "frames with stresses": "no data", "groups": {"bulk": 1000, "surface": 200},
        },
        "errors": {"train": table.to_json(), "test": None},
        "properties": {
            "lattice constant": {"value": 5.3, "unit": "Å", "reference": 5.31}, "elastic": {"C11": {"value": 3.0}},
        },
        "input": {"model": {"level": 12}},
        "command": "mlmd train argon.toml",
        "colour": {"of the cover": "red"},
    }  # fmt: skip
    path = tmp_path / "argon.mlmd"
    modelfile.save(argon(), path, card)
    answer = mlmd("show", path)
    assert answer.code == 0
    for expected in (
        "licence: MIT", "data: a.xyz, b.xyz; 1,200 structures; 34,000 atoms; digest 0123456789ab",
        "frames with stresses: no data; groups: bulk 1000, surface 200",
        "command: mlmd train argon.toml", "colour: of the cover red", table.text(),
        "lattice constant  5.3 Å, reference 5.31", "C11  3", "model  level 12",
    ):  # fmt: skip
        assert expected in answer.out
    assert "{" not in answer.out
    assert "frames with forces" not in answer.out  # all have
    assert answer.out.index("licence") < answer.out.index("colour")
    assert json.loads(mlmd("show", path, "--json").out)["card"]["data"]["n_frames"] == 1200
