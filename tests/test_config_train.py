"""The input of a training: what it accepts, what it fills in, and how it answers mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from ase import Atoms

from mlmd import config
from mlmd.config.descriptors import CutoffFunction
from mlmd.config.toml import document, inline
from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.linearised import values
from mlmd.descriptors.moment_basis import LEVELS
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.symmetry import Symmetry
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.train.atom_descriptor import make_descriptor
from mlmd.units import BAR

DATA = 'data = "cu.extxyz"\n'


def load(folder: Path, text: str) -> config.Train:
    """The input with this text."""
    path = folder / "in.toml"
    path.write_text(text, encoding="utf-8")
    return config.load_train(path)


def message(folder: Path, text: str) -> str:
    """What is said about a wrong input."""
    with pytest.raises(InputError) as caught:
        load(folder, text)
    return str(caught.value)


def test_the_data_are_all_that_must_be_given(tmp_path: Path) -> None:
    train = load(tmp_path, DATA)
    assert [source.path for source in train.data] == [tmp_path / "cu.extxyz"]
    assert train.test is None
    assert (train.test_fraction, train.baseline.energies, train.descriptor.min_distance) == (0.1, "fit", "auto")


def test_numbers_are_kept_in_angstrom_electronvolt_and_bar(tmp_path: Path) -> None:
    train = load(
        tmp_path,
        DATA
        + 'baseline = { Cu = "-100 meV" }\n[descriptor]\ncutoff = "0.5 nm"\nmin_distance = 1.5\n'
        + '[loss]\nenergy = "2 meV"\nforces = "100 meV/Å"\nstress = "1 eV/Å³"\n',
    )
    assert train.baseline.energies == {"Cu": -0.1}
    assert (train.descriptor.cutoff, train.descriptor.min_distance) == (5.0, 1.5)
    assert (train.loss.energy, train.loss.forces) == (2e-3, 0.1)
    assert train.loss.stress * BAR == pytest.approx(1.0, rel=1e-12)


def test_one_source_or_a_list_of_names_and_tables_is_data(tmp_path: Path) -> None:
    one = load(tmp_path, 'data = "a.xyz"\ntest = ["t.xyz"]\n')
    assert load(tmp_path, 'data = { path = "a.xyz" }\ntest = "t.xyz"\n') == one
    two = load(tmp_path, 'data = ["a.xyz", { path = "sub/b.xyz", group = "B" }]\n').data
    assert [source.path for source in two] == [tmp_path / "a.xyz", tmp_path / "sub" / "b.xyz"]
    assert [source.group for source in two] == [None, "B"]


def test_names_of_labels_are_handed_on_only_where_they_are_given(tmp_path: Path) -> None:
    text = 'data = [{ path = "a", energy = "E", forces = "F", virial = "W", group_key = "kind", type_map = ["O", "H"] }'
    named, plain = load(tmp_path, text + ', "b"]').data
    assert named.keys == {"energy": "E", "forces": "F", "virial": "W", "group": "kind", "type_map": "O,H"}
    assert plain.keys == {}
    left_out = load(tmp_path, 'data = { path = "a", stress = "none", virial = "none" }').data[0]
    assert left_out.keys == {"stress": "none", "virial": "none"}
    assert load(tmp_path, text.replace('["O", "H"]', '"O,H"') + ', "b"]').data[0] == named


FULL = (
    'seed = 7\nelements = ["Li", "Cl"]\nbaseline = { Li = "-0.2 eV", Cl = -0.1 }\n'
    'data = ["a.xyz", { path = "b.xyz", energy = "REF_energy", stress = "s", group = "B" }]\ntest = "t.xyz"\n'
    '[descriptor]\nlevel = 16\nmin_distance = "1.4 Å"\n[fit]\nradial = "plain"\nregularisation = 0\n'
    '[loss]\nstress = "1 kbar"\ngroups = { Elastic = 0.5, Liquid = { forces = 2 } }\n'
    '[card]\nname = "LiCl"\nlicence = "MIT"\n'
)


@pytest.mark.parametrize("text", [FULL, DATA, DATA + "test_fraction = 0\n"])
def test_the_resolved_input_loads_as_the_same_model(tmp_path: Path, text: str) -> None:
    train = load(tmp_path, text)
    stored = json.loads(json.dumps(config.resolved(train)))
    assert config.Train.model_validate(stored) == train


def test_the_resolved_input_fills_in_every_default_with_its_unit(tmp_path: Path) -> None:
    stored = config.resolved(load(tmp_path, DATA))
    assert stored["descriptor"] == {
        "kind": "mtp", "level": 12, "cutoff": "5.0 Å", "min_distance": "auto", "n_chebyshev": 8,
    }  # fmt: skip
    assert stored["loss"] == {"energy": "0.001 eV", "forces": "0.05 eV/Å", "stress": "1000.0 bar", "groups": {}}


def test_a_factor_of_a_group_is_one_for_all_labels_or_one_for_each(tmp_path: Path) -> None:
    text = DATA + "[loss.groups]\nElastic = 2\nLiquid = { energy = 0.5, stress = 10.0 }\n"
    groups = load(tmp_path, text).loss.groups
    assert groups["Elastic"] == config.Factors(energy=2.0, forces=2.0, stress=2.0)
    assert groups["Liquid"] == config.Factors(energy=0.5, forces=1.0, stress=10.0)


def test_a_potential_of_the_baseline_that_is_not_there_is_answered_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "cu.extxyz").touch()
    train = load(tmp_path, DATA + 'baseline = { potential = ["a.mlmd", { kind = "zbl", cutoff = 2 }] }\n')
    with pytest.raises(InputError, match=r"^in\.toml: baseline: potential 1: .*a\.mlmd: no such file\.$"):
        config.check_files(train, tmp_path / "in.toml")


def test_another_card_or_folder_is_the_same_training(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    here, moved = load(tmp_path, DATA), load(tmp_path / "moved", DATA + '[card]\nname = "Cu"\n')
    assert config.training_hash(here) == config.training_hash(moved)


@pytest.mark.parametrize(
    "text",
    [
        DATA.replace("cu", "au"),
        DATA + "seed = 2\n",
        DATA + "test_fraction = 0\n",
        DATA + 'baseline = "isolated"\n',
        DATA + "[descriptor]\nlevel = 14\n",
        DATA + '[loss]\nenergy = "2 meV"\n',
        DATA + "[loss.groups]\nElastic = { forces = 2 }\n",
        DATA + 'baseline = { potential = { kind = "zbl", cutoff = "2 Å" } }\n',
        DATA + "[fit]\nmax_iterations = 51\n",
    ],
)
def test_whatever_changes_the_numbers_is_another_training(tmp_path: Path, text: str) -> None:
    assert config.training_hash(load(tmp_path, text)) != config.training_hash(load(tmp_path, DATA))


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_that_there_is_a_basis_for_can_be_asked_for(tmp_path: Path, level: int) -> None:
    assert load(tmp_path, f"{DATA}[descriptor]\nlevel = {level}\n").descriptor.level == level


SNAP = DATA + '[descriptor]\nkind = "snap"\ncutoff = "5 Å"\n'
SOAP = DATA + '[descriptor]\nkind = "soap"\ncutoff = "5 Å"\n'
ACSF = DATA + '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\n'

WRONG = [
    ("", "'data' is missing (labelled structures"),
    ("data = []", "data: the list is empty"),
    ("data = 3", "data: 3: a table is needed"),
    ('dat = "a"', "'dat' is not an option. Did you mean 'data'?"),
    ('data = { file = "a" }', "data: 'file' is not an option here. Did you mean 'path'?"),
    ('data = ["a", { path = "b", enrgy = "E" }]', "data 2: 'enrgy' is not an option. Did you mean 'energy'?"),
    ('data = { path = "b", energy = 3 }', "data: energy: 3: text in quotes is needed"),
    ('data = { path = "b", type_map = ["li"] }', 'data: type_map: "li" is not a chemical symbol'),
    ('data = { path = "b", stress = "s", virial = "v" }', "data: stress and virial are the same label"),
    ('data = { path = "b", group = "g", group_key = "k" }', "data: group puts all structures into one group"),
    (DATA + 'test = ""', 'test: path: "" is not a file name'),
    (DATA + 'test = "t.xyz"\ntest_fraction = 0.1', "test and test_fraction"),
    (DATA + "test_fraction = 1", "test_fraction: 1: less than 1"),
    (DATA + "test_fraction = -0.1", "test_fraction: -0.1: at least 0"),
    (DATA + 'seed = "1"', 'seed: "1": a whole number is needed'),
    (DATA + 'elements = ["Cu", "Cu"]', "elements: ['Cu', 'Cu'] names an element twice"),
    (DATA + 'baseline = "fitt"', 'baseline: "fitt" is not a baseline'),
    (DATA + 'baseline = "fitt"', "Did you mean 'fit'?"),
    (DATA + "baseline = {}", "baseline: the table is empty"),
    (DATA + 'baseline = { Cu = "3 K" }', "baseline: Cu: '3 K': 'K' is not a unit of energy"),
    (DATA + "baseline = { cu = 1 }", 'baseline: "cu" is not a chemical symbol'),
    (DATA + 'elements = ["Li", "Cl"]\nbaseline = { Li = 1 }', "baseline: Cl has no energy"),
    (DATA + "[descriptor]\nlevel = 13", "descriptor: level: 13: an even number from 2 to 28 is needed"),
    (DATA + "[descriptor]\nlevel = 30", "descriptor: level: 30: an even number from 2 to 28 is needed"),
    (DATA + "[descriptor]\nlevel = 12.0", "descriptor: level: 12.0: a whole number is needed"),
    (DATA + '[descriptor]\nkind = "mpt"', "descriptor: 'mpt' is not a kind of descriptor. Did you mean 'mtp'?"),
    (DATA + '[descriptor]\ncutoff = "5 eV"', "descriptor: cutoff: '5 eV': 'eV' is not a unit of length"),
    (DATA + '[descriptor]\nmin_distance = "atuo"', "descriptor: min_distance: 'atuo' is not a length. "),
    (DATA + '[descriptor]\nmin_distance = "5 Å"', "descriptor: min_distance: 5.0 Å is not below the cutoff, 5.0 Å"),
    (DATA + '[fit]\nradial = "plane"', "fit: radial: \"plane\" is not known here. Did you mean 'plain'?"),
    (DATA + "[fit]\nmax_iterations = 0", "fit: max_iterations: 0: at least 1"),
    (DATA + "[fit]\nregularisation = -1", "fit: regularisation: -1: at least 0"),
    (DATA + '[loss]\nenergy = "0 eV"', 'loss: energy: "0 eV": an energy above 0.0 eV is needed'),
    (DATA + '[loss]\nforces = "1 GPa"', "loss: forces: '1 GPa': 'GPa' is not a unit of force"),
    (DATA + "[loss]\ngroups = { A = 0 }", "loss: groups: A: 0.0: a factor above 0 is needed"),
    (DATA + "[loss]\ngroups = { A = { forces = 0 } }", "loss: groups: A: forces: 0.0: a factor above 0 is needed"),
    (DATA + "[loss]\ngroups = { A = { force = 2 } }", "Did you mean 'forces'?"),
    (DATA + "[loss]\ngroups = { A = {} }", "loss: groups: A: the table is empty"),
    (DATA + "level = 12", "'level' is not an option here. It belongs to the table [descriptor]."),
    (DATA + "learning_rate = 0.1", "'learning_rate' is not an option here. It belongs to the table [fit]."),
    (DATA + 'descriptor = "bispectrum"', "Did you mean 'snap'?"),
    (DATA + 'fit = "krr"', "Did you mean 'kernel-ridge'?"),
    (DATA + 'fit = "ridge"', "Did you mean 'linear'?"),
    (DATA + '[sigma]\nenergy = "1 meV"', "'sigma' is not an option here. Its table is called [loss]."),
    (DATA + '[baseline]\nenergy = "fit"', "baseline: 'energy' is not an option. Did you mean 'energies'?"),
    (DATA + '[baseline]\nenergies = "avrage"', "Did you mean 'average'?"),
    (DATA + "[baseline]\npotential = []", "baseline: potential: the list is empty"),
    (DATA + "[baseline]\npotential = { cutoff = 3 }", 'a potential needs path = "file" or kind'),
    (DATA + "[loss]\ngroups = { A = true }", "loss: groups: A: True: a number is needed"),
    (ACSF + "zetas = []", "descriptor: zetas: []: at least 1 in the list is needed."),
    (DATA + '[uncertainty]\nspread = "yes"', 'uncertainty: spread: "yes": true, false or "auto" is needed.'),
    (DATA + "[uncertainty]\ngrade = 1", 'uncertainty: grade: 1: true, false or "auto" is needed.'),
    (DATA + "[card]\nlicense = 'MIT'", "card: 'license' is not an option. Did you mean 'licence'?"),
    (DATA + "[card]\nname = 3", "card: name: 3: text in quotes is needed"),
    (DATA + '[card]\nname = "../Cu"', 'card: name: "../Cu" cannot be the name of a file'),
    (DATA + f'[card]\nname = "{"C" * 101}"', "is too long for the name of a file: at most 100 bytes"),
    (DATA + f'[card]\nname = "{"Ä" * 60}"', "is too long for the name of a file"),
    (DATA + '[descriptor]\ncutoff = "150 Å"', 'descriptor: cutoff: "150 Å": at most 30.0 Å is possible here'),
    (DATA + "[descriptor]\ncutoff = 1e9", "at most 30.0 Å is possible here"),
    (SNAP + "radii = { Cu = 1000 }", "radius 1000 see each other up to 10000.0 Å; at most 30.0 Å is possible"),
    (SNAP + "radii = { Cu = 0.3 }\nrmin0 = 3.5", "rmin0: 3.5 Å is not below the cutoff: two atoms of radius 0.3 see"),
    (SNAP + "rmin0 = 5", "rmin0: 5.0 Å is not below the cutoff: two atoms of radius 0.5 see each other up to 5.0 Å"),
    (
        DATA + 'descriptor = ["acsf", "agni"]',
        "'agni' cannot be one of several descriptors: it describes directions, for forces without an energy. Give it "
        "alone and without a list. Several can be mtp, acsf, soap, snap, deeppot-se, nep and trained.",
    ),
    (DATA + 'descriptor = ["mbtr", "acsf"]', "'mbtr' cannot be one of several descriptors: it describes whole struc"),
    (
        DATA + 'descriptor = ["acsf", "coulomb"]',
        'such as the average of one of atoms, { kind = "average", of = "acsf" }',
    ),
    (
        DATA + 'descriptor = ["coulomb", "coulomb"]\nfit = "gap"',
        '"coulomb + coulomb" describes whole structures. Fit by',
    ),
    (
        DATA + 'descriptor = ["coulomb", "coulomb"]\nfit = { kind = "kernel-ridge", width = [1, 2, 3] }',
        "fit: width: a list of 3 is given, and 2 descriptors are given. Give a list with one for each.",
    ),
    (
        DATA + 'descriptor = "coulomb"\nfit = { kind = "kernel-ridge", width = [1] }',
        "fit: width: a list of 1 is given, and one descriptor is. Give one.",
    ),
    (
        DATA + 'descriptor = ["coulomb", "coulomb"]\nfit = { kind = "kernel-ridge", width = [1, -2] }',
        "a number above 0",
    ),
    (
        DATA + 'descriptor = [{ kind = "coulomb", form = "random", noise = 1, n_draws = 3 }, '
        '{ kind = "coulomb", form = "random", noise = 2, n_draws = 4 }]',
        "n_draws: random matrices of 3 and of 4 draws stand side by side",
    ),
    (DATA + 'descriptor = ["coulomb", { kind = "average", of = "agni" }]', 'descriptor 2 (average): of: "agni" cannot'),
    (
        DATA + 'descriptor = { kind = "average", of = ["agni", "soap"] }',
        "directions, for forces without an energy. Several can be",
    ),
    (
        DATA + 'fit = "rematch"',
        '\'rematch\' is a kernel, not a kind of fit: fit = { kind = "kernel-ridge", kernel = "r',
    ),
    (DATA + '[fit]\nkind = "average"', 'fit = { kind = "kernel-ridge", kernel = "average" }'),
    (
        ACSF + 'cutoff_function = "septik"',
        "descriptor: cutoff_function: \"septik\" is not known here. Did you mean 'septic'?",
    ),
    (ACSF + 'cutoff_smooth = "5 Å"', "descriptor: cutoff_smooth: 5.0 Å is not below the cutoff, 5.0 Å."),
    (SOAP + "cutoff_smooth = 6", "descriptor: cutoff_smooth: 6.0 Å is not below the cutoff, 5.0 Å."),
    (
        SOAP + 'cutoff_function = "tanh"\ncutoff_smooth = 2',
        'the cutoff function "tanh" falls from 0 Å on. Leave it out',
    ),
    (SOAP + "sigma = 0.09", "descriptor: sigma: 0.09 Å: at least 0.1 Å, a 50th of the cutoff of 5.0 Å, is needed"),
    (SOAP + 'sigma = 1e-6\nbasis = "polynomial"', "narrower Gaussians hardly overlap"),
    (DATA + 'structure = "a.cif"', "'structure' is not an option"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text[-60:] or "nothing" for text, _ in WRONG])
def test_a_mistake_is_answered_with_its_place_and_a_hint(tmp_path: Path, text: str, said: str) -> None:
    answer = message(tmp_path, text)
    assert said in answer
    assert len(answer.splitlines()) == 1
    assert answer.startswith("in.toml: ")


IDLE = [
    ("acsf", 'kind = "linear"\nradial = "plain"', "radial: a linear fit of acsf has no use for it. Remove it, or give"),
    ("acsf", "max_iterations = 7", "max_iterations: a linear fit of acsf has no use for it. "),
    (["acsf", "soap"], "tolerance = 0.1", "tolerance: a linear fit of acsf and soap has no use for it. "),
    ({"model": "a.mlmd"}, 'radial = "optimise"', "radial: a linear fit of trained descriptors has no use for it. "),
    ("mtp", 'radial = "plain"\nmax_iterations = 7', 'max_iterations: radial = "plain" has no use for it. Remove it'),
    ("mtp", 'radial = "plain"\ntolerance = 0.1', 'or give descriptor = "mtp" with radial = "optimise".'),
    ("acsf", 'kind = "gap"\npower = 3', "power: the gaussian kernel has no use for it. Remove it, or give k"),
    ("soap", 'kind = "gap"\nwidth = 3', "width: the polynomial kernel has no use for it. Remove it, or give k"),
    ("soap", 'kind = "gap"\nkernel = "gaussian"\npower = 3', "power: the gaussian kernel has no use for it. "),
    (["acsf", "mtp"], 'kind = "gap"\npower = [2, 3]', "power: the gaussian kernel has no use for it. "),
    (
        "soap",
        'kind = "kernel"\nkernel = "linear"\nwidth = 3',
        'it. Remove it, or give kernel = "gaussian" or "laplacian".',
    ),
    ("acsf", 'kind = "kernel"\nkernel = "laplacian"\npower = 3', "power: the laplacian kernel has no use for it. "),
    (["soap", "soap"], 'kind = "kernel"\npower = 3', "power: the gaussian kernel has no use for it. "),
    (["mtp"], "quadratic = true", "quadratic: moment tensors hold the products of their moments already"),
    ("deeppot-se", 'kind = "network"\noptimiser = "kalman"', "optimiser: a Kalman filter holds the covariance"),
]
"""Descriptor, fit with an option that would be ignored, answer."""
USED = [
    ("mtp", 'max_iterations = 7\ntolerance = 0.1\nradial = "optimise"'),
    (["mtp", "acsf"], "max_iterations = 7"),
    (["acsf", "soap"], 'kind = "gap"\nwidth = [3, 4]\npower = [2, 3]'),
    ("acsf", 'kind = "gap"\nkernel = "polynomial"\npower = 3'),
    ({"model": "a.mlmd"}, 'kind = "gap"\nwidth = 2\npower = 3'),  # its kernels are known when the file is read
    ("soap", 'kind = "kernel"\nkernel = "laplacian"\nwidth = 2'),
]


@pytest.mark.parametrize(("descriptor", "fit", "said"), IDLE)
def test_an_option_that_would_be_ignored_is_refused(tmp_path: Path, descriptor: object, fit: str, said: str) -> None:
    answer = message(tmp_path, f"{DATA}descriptor = {inline(descriptor)}\n[fit]\n{fit}\n")
    assert said in answer
    assert answer.startswith("in.toml: fit: ")
    assert len(answer.splitlines()) == 1


@pytest.mark.parametrize(("descriptor", "fit"), USED)
def test_an_option_that_is_used_somewhere_is_kept(tmp_path: Path, descriptor: object, fit: str) -> None:
    train = load(tmp_path, f"{DATA}descriptor = {inline(descriptor)}\n[fit]\n{fit}\n")
    written = config.resolved(train)["fit"]
    assert {line.partition(" = ")[0] for line in fit.splitlines()} <= written.keys()


@pytest.mark.parametrize("fit", ["linear", "gap", "kernel", "random-features", "network"])
@pytest.mark.parametrize("descriptor", ["mtp", "acsf", "soap", ["mtp", "soap"], {"model": "a.mlmd"}])
def test_what_is_written_of_any_pair_loads_as_the_same(tmp_path: Path, descriptor: object, fit: str) -> None:
    train = load(tmp_path, f'{DATA}descriptor = {inline(descriptor)}\nfit = "{fit}"\n')
    (tmp_path / "again.toml").write_text(document(config.resolved(train)), encoding="utf-8")
    assert config.load_train(tmp_path / "again.toml") == train


TABLES = {
    "trained": '{ model = "x.mlmd" }',
    "combined": '["acsf", "soap"]',
    "average": '{ kind = "average", of = "soap" }',
    "mbtr": '{ kind = "mbtr", terms = [{ geometry = "distance", minimum = 0, maximum = 6, n_points = 9, width = 1, '
    'cutoff = 5, weighting = "smooth_cutoff" }] }',
}


@pytest.mark.parametrize("kind", ["soap", "acsf", "trained", "combined", "deeppot-se", "nep", "agni"])
def test_all_that_is_suggested_instead_of_a_fit_of_structures_is_possible(tmp_path: Path, kind: str) -> None:
    descriptor = TABLES.get(kind, f'"{kind}"')
    answer = message(tmp_path, DATA + f'descriptor = {descriptor}\nfit = "kernel-ridge"\n')
    fits, _, rest = answer.partition("Fit by ")[2].partition("; or describe structures by ")
    for fit in words(fits):
        load(tmp_path, DATA + f'descriptor = {descriptor}\nfit = "{fit}"\n')
    structures, _, example = rest.rstrip(".").partition("; or compare")[0].partition(", for example ")
    for given in [TABLES.get(one, f'"{one}"') for one in words(structures)] + [example] * bool(example):
        load(tmp_path, DATA + f'descriptor = {given}\nfit = "kernel-ridge"\n')
    assert ('kernel = "rematch"' in answer) == (kind not in ("deeppot-se", "nep", "agni"))


@pytest.mark.parametrize("fit", ["gap", "kernel", "network", "agni"])
def test_all_that_is_suggested_instead_of_a_descriptor_of_structures_is_possible(tmp_path: Path, fit: str) -> None:
    answer = message(tmp_path, DATA + f'descriptor = "coulomb"\nfit = "{fit}"\n')
    fits, _, atoms = answer.partition("Fit by ")[2].rstrip(".").partition("; or describe atoms by ")
    for other in words(fits):
        load(tmp_path, DATA + f'descriptor = "coulomb"\nfit = "{other}"\n')
    assert len(words(atoms)) == {"agni": 1, "network": 8}.get(fit, 6)
    for descriptor in words(atoms):
        load(tmp_path, DATA + f"descriptor = {TABLES.get(descriptor, repr(descriptor))}\nfit = '{fit}'\n")


def words(listed: str) -> list[str]:
    """What a sentence lists."""
    return listed.replace(" or ", ", ").split(", ")


def test_radii_of_snap_may_be_larger_where_the_cutoff_is_shorter(tmp_path: Path) -> None:
    given = load(tmp_path, SNAP.replace("5 Å", "2 Å") + "radii = { Cu = 1.25 }\nrmin0 = 3").descriptor
    assert isinstance(given, config.SNAP) and given.radii == {"Cu": 1.25}


def test_every_cutoff_function_can_be_asked_for(tmp_path: Path) -> None:
    assert {*get_args(CutoffFunction)} == {*TAPERS}
    for text in (ACSF, SOAP):
        for name in TAPERS:
            given = load(tmp_path, text + f'cutoff_function = "{name}"').descriptor
            descriptor = make_descriptor(config.Train(data="none", descriptor=given), (), 1.0, ["Cu"])
            assert isinstance(descriptor, Symmetry | Soap) and descriptor.taper == name
        given = load(tmp_path, text + 'cutoff_function = "cosine"\ncutoff_smooth = "4.5 Å"').descriptor
        descriptor = make_descriptor(config.Train(data="none", descriptor=given), (), 1.0, ["Cu"])
        assert isinstance(descriptor, Symmetry | Soap)
        assert (descriptor.taper, descriptor.onset) == ("cosine", pytest.approx(0.9))


@pytest.mark.parametrize("basis", ["gto", "polynomial", "quip"])
def test_the_narrowest_gaussians_of_soap_are_possible_in_every_basis(tmp_path: Path, basis: str) -> None:
    given = load(tmp_path, SOAP + f'sigma = "0.1 Å"\nbasis = "{basis}"').descriptor
    assert isinstance(given, config.SOAP)
    soap = Soap(elements=["Cu"], cutoff=given.cutoff, sigma=given.sigma, basis=basis)
    graph = build_graph(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]]), given.cutoff)
    found = values(soap, graph)  # by the compiled kernel, where there is one
    np.testing.assert_allclose(found, soap.features(graph), atol=1e-8)


@pytest.mark.parametrize("full", [False, True])
def test_the_template_is_a_valid_input(tmp_path: Path, full: bool) -> None:
    train = load(tmp_path, config.template("train", full=full))
    assert train == load(tmp_path, 'data = "data.extxyz"\n')


def test_every_commented_option_of_the_full_template_is_valid_alone(tmp_path: Path) -> None:
    lines = config.template("train", full=True).partition("# A property")[0].splitlines()
    commented = [number for number, line in enumerate(lines) if line.startswith("# ") and " = " in line]
    assert len(commented) > 10
    for number in commented:
        chosen = [line[2:] if number == at else line for at, line in enumerate(lines)]
        if chosen[number].startswith("test = "):  # either the test structures or a fraction
            chosen = [line for line in chosen if not line.startswith("test_fraction")]
        load(tmp_path, "\n".join(chosen))


def test_the_full_template_has_a_property_in_place_of_a_potential_as_a_comment(tmp_path: Path) -> None:
    potential, _, block = config.template("train", full=True).partition("# A property of whole structures")
    start = potential[: potential.index("[descriptor]")]
    lines = [line.removeprefix("# ") for line in block.splitlines()[1:]]
    given = load(tmp_path, "\n".join([start, *lines]))
    expected = 'data = "data.extxyz"\nproperty = "gap"\ndescriptor = "coulomb"\nfit = "kernel-ridge"\n'
    assert given == load(tmp_path, expected)
    commented = [number for number, line in enumerate(lines) if line.startswith("# ")]
    assert len(commented) > 8
    for number in commented:
        option = lines[number].partition(" = ")[0].removeprefix("# ")
        assert option in {
            key
            for table in (config.Property, config.CoulombMatrix, config.KernelRidgeFit)
            for key in table.model_fields
        }


def test_the_option_table_has_a_meaning_for_every_key() -> None:
    listed = config.options("train")
    assert all(option.description for option in listed)
    assert {"data", "type_map", "level", "radial", "groups", "licence"} <= {option.key for option in listed}
    assert '| `cutoff` | `"5 Å"` | distance up to which' in config.option_table("train")


def test_a_command_without_an_input_file_is_answered_with_those_that_have_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'train'"):
        config.template("trian")


def test_an_input_of_another_command_is_answered_with_that_command(tmp_path: Path) -> None:
    path = tmp_path / "in.toml"
    path.write_text(config.template("simulate"), encoding="utf-8")
    assert config.command_of(path) == "simulate"
    with pytest.raises(InputError, match=r"^in\.toml is an input of another command: mlmd simulate .*in\.toml$"):
        config.load_train(path)
    path.write_text(config.template("train"), encoding="utf-8")
    assert config.command_of(path) == "train"
    with pytest.raises(InputError, match="mlmd train"):
        config.load_simulate(path)


def test_missing_data_are_answered_with_their_place(tmp_path: Path) -> None:
    train = load(tmp_path, 'data = ["a.xyz", "b.xyz"]\ntest = "t.xyz"\n')
    for name, place in (("a.xyz", "data 1"), ("b.xyz", "data 2"), ("t.xyz", "test")):
        with pytest.raises(InputError, match=rf"^in\.toml: {place}: .*{name}: no such file\.$"):
            config.check_files(train, tmp_path / "in.toml")
        (tmp_path / name).mkdir()  # DeePMD's data are folders
    with pytest.raises(InputError, match=r"^in\.toml: data: .*\*\.xyz: no such file; patterns are not expanded"):
        config.check_files(load(tmp_path, 'data = "*.xyz"'), tmp_path / "in.toml")
    config.check_files(train, tmp_path / "in.toml")
