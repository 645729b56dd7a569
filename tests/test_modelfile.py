"""The file of a trained potential: whole, readable at a glance, unable to execute anything."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from safetensors.torch import load_file, save_file

from mlmd.ase import Calculator
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError, ModelError
from mlmd.fitting.linear import Linear
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.load import check_elements, describe, load_potential, recognise
from mlmd.potentials.mtp import save as save_mtp
from mlmd.potentials.pair import LennardJones


@dataclass
class Table:
    """One potential of an input file."""

    kind: str | None = None
    path: Path | None = None
    elements: tuple[str, ...] | None = None
    precision: str = "float64"
    trust: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def potential() -> LearnedPotential:
    moments = Moments(elements=("Si", "O"), cutoff=5.0, min_distance=1.5, level=8, scaling=0.1)
    linear = Linear(n_features=moments.n_features, n_kinds=2)
    linear.coefficients.data = torch.linspace(-1, 1, moments.n_features, dtype=torch.float64)
    return LearnedPotential(moments, linear)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    modelfile.save(potential(), tmp_path / "si.mlmd", {"licence": "MIT", "energy_rmse": "1.2 meV/atom"})
    return tmp_path / "si.mlmd"


def test_the_card_can_be_read_without_the_potential(file: Path) -> None:
    card = modelfile.read_card(file)
    assert card["licence"] == "MIT"
    assert card["elements"] == ["Si", "O"]
    assert card["cutoff"] == "5.0 Å"
    assert card["units"]["energy"] == "eV"


def test_a_file_is_replaced_whole_and_leaves_nothing_behind(file: Path) -> None:
    modelfile.save(potential(), file, {"licence": "BSD"})
    assert modelfile.read_card(file)["licence"] == "BSD"
    assert [path.name for path in file.parent.iterdir()] == ["si.mlmd"]


def test_the_same_potential_is_the_same_file_to_the_byte_and_as_readable_as_others(file: Path) -> None:
    content = file.read_bytes()
    for _ in range(5):
        modelfile.save(potential(), file, {"licence": "MIT", "energy_rmse": "1.2 meV/atom"})
        assert file.read_bytes() == content
    file.with_name("other").touch()
    assert file.stat().st_mode == file.with_name("other").stat().st_mode


def test_a_card_takes_more_and_the_potential_stays(file: Path) -> None:
    before, state = modelfile.read_card(file), modelfile.load(file).state_dict()
    modelfile.update_card(file, {"properties": {"a": {"value": 5.43, "unit": "Å"}}, "licence": "BSD"})
    assert modelfile.read_card(file) == before | {"properties": {"a": {"value": 5.43, "unit": "Å"}}, "licence": "BSD"}
    after = modelfile.load(file).state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert [path.name for path in file.parent.iterdir()] == ["si.mlmd"]


def test_what_belongs_to_the_potential_is_not_changed_in_its_card(file: Path) -> None:
    content = file.read_bytes()
    with pytest.raises(InputError, match="cutoff and elements of the card belong to the potential"):
        modelfile.update_card(file, {"elements": ["Ge"], "cutoff": "6 Å", "licence": "MIT"})
    assert file.read_bytes() == content


def test_a_damaged_file_gets_no_new_card(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        modelfile.update_card(file, {"licence": "MIT"})
    assert file.read_bytes() == content


def test_a_potential_may_be_loaded_in_another_precision(file: Path) -> None:
    single = modelfile.load(file, precision="float32")
    assert single.descriptor.radial.coefficients.dtype == torch.float32
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=1)
    graph = build_graph(atoms, 5.0)
    assert torch.allclose(single.predict(graph).forces, potential().predict(graph).forces, atol=1e-4)


def rewritten(file: Path, **changes: str) -> Path:
    """The same tensors with other metadata."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = dict(opened.metadata())
    save_file(load_file(file), file, metadata=metadata | changes)
    return file


@pytest.mark.row("R14")
def test_a_future_version_asks_for_an_update(file: Path) -> None:
    with pytest.raises(ModelError, match=r"version 2 .* Update mlmd"):
        modelfile.load(rewritten(file, version="2"))


@pytest.mark.parametrize("version", ["", "-1", "one", "1e9", "0"])
def test_a_version_that_is_none_is_refused(file: Path, version: str) -> None:
    with pytest.raises(ModelError, match="is not a version"):
        modelfile.load(rewritten(file, version=version))


def test_another_safetensors_file_is_not_taken_for_a_potential(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "llm.safetensors")
    with pytest.raises(ModelError, match="not an mlmd potential"):
        modelfile.load(tmp_path / "llm.safetensors")


def test_changed_metadata_are_noticed(file: Path) -> None:
    with pytest.raises(ModelError, match="digest"):
        modelfile.load(rewritten(file, card=json.dumps({"licence": "mine"})))


@pytest.mark.row("R14")
def test_any_flipped_byte_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for place in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        file.write_bytes(bytes(damaged))
        with pytest.raises(ModelError):
            load_potential([Table(path=file)])


@pytest.mark.row("R14")
def test_any_truncation_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for length in (0, 1, 7, 8, 9, 40, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ModelError):
            load_potential([Table(path=file)])


@pytest.mark.row("R23")
def test_a_header_that_claims_to_be_huge_is_refused_at_once(file: Path) -> None:
    file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(ModelError):
        modelfile.load(file)


def forged(file: Path, spec: dict[str, Any], state: dict[str, torch.Tensor]) -> Path:
    """A file whose digest is right, but not its contents."""
    texts = {"spec": json.dumps(spec), "card": "{}"}
    digest = modelfile._digest(texts, state)
    save_file(state, file, metadata={"format": modelfile.FORMAT, "version": "1", **texts, "digest": digest})
    return file


def _without(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "regressor.constants"}


def _reshaped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"regressor.coefficients": torch.zeros(4, dtype=torch.float64)}


def _not_finite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"regressor.coefficients": state["regressor.coefficients"] * float("nan")}


def _wild_index(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    products = state["descriptor.products"].clone()
    products[0, 0] = 10**6
    return state | {"descriptor.products": products}


def _integers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"regressor.constants": torch.zeros(2, dtype=torch.int64)}


@pytest.mark.parametrize("change", [_without, _reshaped, _not_finite, _wild_index, _integers])
def test_tensors_that_do_not_fit_the_spec_are_refused(file: Path, change: Any) -> None:
    state = change(load_file(file))
    with pytest.raises(ModelError, match="do not fit together"):
        modelfile.load(forged(file, potential().spec(), state))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        [],
        {"kind": "os.system"},
        {"kind": "mtp"},
        {"kind": "learned", "descriptor": {"kind": "nothing"}, "regressor": {"kind": "linear"}},
        {"kind": "sum", "parts": []},
        {"kind": "lennard-jones", "cutoff": "8 Å", "file": "/etc/passwd"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(file: Path, spec: Any) -> None:
    with pytest.raises(ModelError, match="do not fit together"):
        modelfile.load(forged(file, spec, {}))


class Payload:
    """What a pickle can do when it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("kind", [None, "mlmd", "mtp"])
@pytest.mark.parametrize("disguise", ["pickle0", "pickle5", "torch", "zip"])
@pytest.mark.row("R23")
def test_a_file_that_can_execute_code_is_refused_unopened(tmp_path: Path, kind: str | None, disguise: str) -> None:
    file, canary = tmp_path / "model.mlmd", tmp_path / "canary"
    if disguise == "torch":
        torch.save(Payload(canary), file)
    elif disguise == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("code/__torch__.py", "import os")
    else:
        file.write_bytes(pickle.dumps(Payload(canary), protocol=int(disguise[-1])))
    with pytest.raises(ModelError):
        load_potential([Table(path=file, kind=kind, elements=("Si",) if kind == "mtp" else None)])
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"Version https://git-lfs", "not the file of a potential"),
        (b"PK\x03\x04", "zip archive"),
        (b"\x80\x05", "pickle"),
    ],
)
@pytest.mark.row("R14")
def test_a_file_that_is_no_potential_is_described(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.mlmd").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        recognise(tmp_path / "x.mlmd")


def test_the_kind_of_a_file_is_known_from_its_content(file: Path, tmp_path: Path) -> None:
    save_mtp(potential(), tmp_path / "fitted.mtp.PBE")
    assert recognise(file) == "mlmd"
    assert recognise(tmp_path / "fitted.mtp.PBE") == "mtp"
    assert load_potential([Table(path=tmp_path / "fitted.mtp.PBE", elements=("Si", "O"))]).elements == ("Si", "O")
    with pytest.raises(ModelError, match="of kind 'mtp', not 'mlmd'"):
        load_potential([Table(kind="mlmd", path=tmp_path / "fitted.mtp.PBE")])


def test_several_tables_are_added_up(file: Path) -> None:
    tables = [Table(path=file), Table(kind="zbl", options={"cutoff": "2 Å"})]
    both = load_potential(tables)
    assert both.spec()["kind"] == "sum"
    assert both.elements == ("Si", "O")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Table(), "needs a path or a kind"),
        (Table(kind="lenard-jones"), "Did you mean 'lennard-jones'"),
        (Table(kind="lennard-jones", options={"sigma": "3 Å"}), "cutoff must be given"),
        (Table(kind="mtp"), "path must be given"),
        (Table(path=Path("nowhere.mlmd")), "nowhere.mlmd: no such file"),
        (Table(path=Path()), "not a file"),
    ],
)
def test_a_wrong_table_is_an_input_error(table: Table, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_potential([table])


def test_an_option_of_a_file_that_does_not_exist_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"potential \(mlmd\): 'cutof' is not an option"):
        load_potential([Table(path=file, options={"cutof": 3})])


@pytest.mark.row("R14")
def test_missing_elements_are_named_and_counted(file: Path) -> None:
    loaded = load_potential([Table(path=file)])
    check_elements(loaded, ["Si", "O", "O"])
    with pytest.raises(InputError) as caught:
        check_elements(loaded, ["Si"] + ["H"] * 48, "slab.xyz")
    expected = "si.mlmd knows Si, O; slab.xyz also has H (48 atoms). Use a potential that knows H."
    assert str(caught.value) == expected


def test_of_a_sum_the_part_that_lacks_an_element_is_named(file: Path) -> None:
    """Its own elements are those that all parts know, which do not tell whose the gap is."""
    everything = Table(kind="lennard-jones", options={"epsilon": 1.0, "sigma": 2.0, "cutoff": 5.0})
    loaded = load_potential([everything, Table(path=file)])
    with pytest.raises(InputError, match=r"Of its 2 potentials number 2 \(si\.mlmd\) does not know H\. Use a"):
        check_elements(loaded, ["Si", "H"])


def test_a_potential_describes_itself(file: Path) -> None:
    facts = describe(load_potential([Table(path=file)]), file)
    assert facts["elements"] == ["Si", "O"]
    assert facts["cutoff [Å]"] == 5.0
    assert facts["precision"] == "float64"
    assert facts["parameters"] == 2 * 2 * 2 * 8 + 9 + 2
    assert facts["card"]["licence"] == "MIT"


def test_what_cannot_be_built_again_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        modelfile.save(torch.nn.Linear(2, 2), tmp_path / "x.mlmd")
    assert not list(tmp_path.iterdir())


def test_ase_gets_energy_forces_and_stress_of_any_structure_in_turn() -> None:
    calculator = Calculator(potential())
    for atoms in (bulk("Si"), Atoms("SiO", [[0, 0, 0], [0, 0, 1.6]]), bulk("Si", cubic=True)):
        atoms.rattle(0.05, seed=1)
        atoms.calc = calculator
        found = evaluator(potential(), atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
        assert atoms.get_potential_energy() == found.energy
        assert (atoms.get_forces() == found.forces).all()
        assert atoms.get_potential_energies().sum() == pytest.approx(found.energy)
        if atoms.pbc.all():
            assert (atoms.get_stress(voigt=False) == found.virial / atoms.get_volume()).all()
        else:
            with pytest.raises(NotImplementedError):
                atoms.get_stress()
    atoms.symbols[0] = "H"
    with pytest.raises(InputError, match="H"):
        atoms.get_potential_energy()


def test_a_potential_of_pairs_can_be_stored_too(tmp_path: Path) -> None:
    argon = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8 Å")
    modelfile.save(argon, tmp_path / "ar.mlmd")
    assert modelfile.load(tmp_path / "ar.mlmd").spec() == argon.spec()
    assert io.BytesIO((tmp_path / "ar.mlmd").read_bytes()).read(9)[8:] == b"{"
