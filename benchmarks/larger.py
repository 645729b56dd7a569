"""Larger potentials of copper, nickel and silicon than those that come with mlmd, beside the published ones.

    python benchmarks/larger.py --data FOLDER --out FOLDER                   # hours on two cores; continues
    python benchmarks/larger.py --data FOLDER --out FOLDER --elements Cu

The first FOLDER holds Cu_train.xyz.xz, Cu_test.xyz.xz, ... of mlearn as extended XYZ (Y. Zuo et al., J. Phys. Chem. A
124, 731, 2020). Nothing is chosen by the test set: every fifth training structure is held back, potentials learn from
the others, and what is chosen has the least sum of energy and force error for those held back, each in parts of what
the first has. Settings follow one after the other: the cutoff, at level 16; the level, which rises while the sum falls;
the cutoff again, which rises while the sum falls; the weight of energies; and a Gaussian approximation potential. Then
members of a mean (`mlmd committee`) join one by one while the sum falls. The best potential and the members learn again
from all training structures, and these are the errors of the second table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from accuracy import MTP, RMSE, SNAP, rmse
from machine import machine

from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.committee import Committee
from mlmd.train.run import n_cores, train

ELEMENTS = ("Cu", "Ni", "Si")
HELD_BACK = 5
"""One structure of so many."""
CUTOFFS, LEVELS = (4.2, 4.7, 5.2), (20, 22, 24, 26)
FARTHER, WIDER = 0.6, 3
"""Å, and how often a cutoff may rise at the level chosen: more moments can tell more neighbours apart."""
ENERGY, MORE_ENERGY = 0.5, 0.2
"""meV/atom, of `loss`: the smaller, the more energies count."""
MOST = 5
"""Members of a mean."""


@dataclass(frozen=True)
class Settings:
    """Of one potential; a level of 0 stands for a Gaussian approximation potential."""

    cutoff: float
    """Å."""
    level: int = 16
    energy: float = ENERGY

    @property
    def name(self) -> str:
        """For tables and folders."""
        if not self.level:
            return f"gap {self.cutoff:g} Å"
        return f"level {self.level}, {self.cutoff:g} Å, {self.energy:g} meV"

    @property
    def text(self) -> str:
        """Lines of an input."""
        if not self.level:
            return (
                f'descriptor = {{ kind = "soap", cutoff = "{self.cutoff} Å", n_max = 8, l_max = 6 }}\n'
                'fit = { kind = "gap", n_sparse = 1000 }\n'
            )
        return (
            f'descriptor = {{ kind = "mtp", level = {self.level}, cutoff = "{self.cutoff} Å" }}\n'
            f'loss = {{ energy = "{self.energy} meV" }}\n'
        )


@dataclass(frozen=True)
class Trainings:
    """Those of an element: of a part of the training set, or of all of it."""

    data: Path
    element: str
    folder: Path
    n_processes: int

    def of(self, settings: Settings) -> Potential:
        """Train, unless it is there."""
        stem = settings.name.replace(" ", "").replace(",", "-").replace("Å", "A")
        source = self.folder / f"{stem}.toml"
        source.write_text(f"{self._data()}test_fraction = 0.0\nseed = 1\n{settings.text}")
        return modelfile.load(train(source, self.folder / stem, n_processes=self.n_processes).model)

    def _data(self) -> str:
        """Data of an input; only stresses that are right are used."""
        if self.element != "Si":
            return f'data = {{ path = "{self.data.absolute()}", stress = "none" }}\n'
        path, others = (
            f'path = "{self.data.absolute()}"',
            'groups = ["AIMD-NVT", "Surface", "Vacancy"], stress = "none"',
        )
        return f'data = [{{ {path}, groups = ["Elastic"] }}, {{ {path}, {others} }}]\n'  # as inputs/train_si.toml


class Choice:
    """Settings by the errors for structures that are held back."""

    def __init__(self, trainings: Trainings, held_back: Sequence[LabelledFrame]) -> None:
        """Take where to train, and what to compare with."""
        self.of = cache(trainings.of)
        self.held_back = list(held_back)
        self.errors: dict[Settings, RMSE] = {}

    def cost(self, errors: RMSE) -> float:
        """Of both errors, each in parts of those of the first potential that was asked for."""
        first = next(iter(self.errors.values()))
        return errors.energy / first.energy + errors.forces / first.forces

    def best(self, several: Sequence[Settings]) -> Settings:
        """The one with the least cost; prints all."""
        for one in several:
            if one not in self.errors:
                start = time.perf_counter()
                self.errors[one] = rmse(self.of(one), self.held_back)
                found, seconds = self.errors[one], time.perf_counter() - start
                print(f"| {one.name} | {found.energy:.2f} | {found.forces:.4f} | {seconds:.0f} |", flush=True)
        return min(several, key=lambda one: self.cost(self.errors[one]))

    def mean(self, pool: Sequence[Settings]) -> list[Settings]:
        """Members that join one by one, the most helpful first, while the sum falls."""
        members = [self.best(pool)]
        least = self.cost(self.errors[members[0]])
        while len(members) < MOST:
            found = {
                one: self.cost(rmse(Committee([self.of(each) for each in (*members, one)]), self.held_back))
                for one in pool
                if one not in members
            }
            one = min(found, key=found.__getitem__, default=None)
            if one is None or found[one] >= least:
                break
            members.append(one)
            least = found[one]
        return members


def chosen(choice: Choice) -> tuple[Settings, list[Settings]]:
    """The best settings, and members of a mean."""
    base = choice.best([Settings(cutoff) for cutoff in CUTOFFS])
    pool = [base]
    for level in LEVELS:
        pool.append(replace(base, level=level))
        if choice.best(pool) != pool[-1]:
            break
    for _ in range(WIDER):
        best = choice.best(pool)
        pool.append(replace(best, cutoff=round(best.cutoff + FARTHER, 1)))
        if choice.best(pool) != pool[-1]:
            break
    pool += [replace(choice.best(pool), energy=MORE_ENERGY), Settings(base.cutoff, level=0)]
    return choice.best(pool), choice.mean(pool)


def split(element: str, data: Path, folder: Path) -> tuple[Path, list[LabelledFrame]]:
    """A file of what is learned from at first, and the structures held back."""
    frames = read_labelled(data / f"{element}_train.xyz.xz")
    path = folder / f"{element}_part.xyz"
    if not path.is_file():
        write_labelled(path, [one for number, one in enumerate(frames) if number % HELD_BACK])
    return path, frames[::HELD_BACK]


def line(element: str, name: str, errors: RMSE) -> str:
    """Of the second table."""
    mtp, snap = MTP[element], SNAP[element]
    return (
        f"| {element} | {name} | {errors.energy:.2f} | {mtp.energy:.2f} | {snap.energy:.2f} "
        f"| {errors.forces:.4f} | {mtp.forces:.4f} | {snap.forces:.4f} |"
    )


def main() -> None:
    """Train what is not there, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--elements", nargs="+", choices=ELEMENTS, default=list(ELEMENTS))
    parser.add_argument("--processes", type=int, default=n_cores())
    given = parser.parse_args()
    print(f"{machine()}, {given.processes} processes\n")
    rows: list[str] = []
    for element in given.elements:
        part, whole = (given.out / f"{element}-{which}" for which in ("part", "whole"))
        for folder in (part, whole):
            folder.mkdir(parents=True, exist_ok=True)
        print(f"\n| {element}, held back | energy (meV/atom) | forces (eV/Å) | s |")
        print("| --- | ---: | ---: | ---: |", flush=True)
        data, held_back = split(element, given.data, given.out)
        best, members = chosen(Choice(Trainings(data, element, part, given.processes), held_back))
        of = cache(Trainings(given.data / f"{element}_train.xyz.xz", element, whole, given.processes).of)
        test = read_labelled(given.data / f"{element}_test.xyz.xz")
        rows.append(line(element, best.name, rmse(of(best), test)))
        if len(members) > 1:
            names = "; ".join(one.name for one in members)
            rows.append(line(element, f"mean of {names}", rmse(Committee([of(one) for one in members]), test)))
        print("", *rows, sep="\n", flush=True)
    print("\n| RMSE | potential | energy (meV/atom) | MTP | SNAP | forces (eV/Å) | MTP | SNAP |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
