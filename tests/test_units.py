"""Units: what users write becomes mlmd's numbers, exactly and reversibly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmd import units
from mlmd.errors import InputError


@pytest.mark.parametrize(
    ("text", "quantity", "value"),
    [
        ("2 fs", "time", 2.0),
        ("0.5 ps", "time", 500.0),
        ("1ns", "time", 1e6),
        (3, "time", 3.0),
        ("5 min", "wall time", 300.0),
        ("300 K", "temperature", 300.0),
        ("1 / ps", "rate", 1e-3),
        (1, "rate", 1e-3),
        ("2 ps⁻¹", "rate", 2e-3),
        ("1 atm", "pressure", 1.01325),
        ("1e-1 GPa", "pressure", 1000.0),
        ("3.4 Å", "length", 3.4),
        ("0.34 nm", "length", 3.4),
        (".5 eV", "energy", 0.5),
        ("3 amu", "mass", 3.0),
    ],
)
def test_numbers_are_read_in_their_units(text: object, quantity: str, value: float) -> None:
    assert units.parse(text, quantity) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "wrong",
    [
        True,
        None,
        [],
        "",
        "fs",
        "1 bar",
        "1 fs 2",
        "nan",
        "inf fs",
        math.nan,
        math.inf,
        10**400,
        "1e999 fs",
        "1_000",
        "0x1",
    ],
)
def test_what_is_not_a_time_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(InputError, match=r"fs"):
        units.parse(wrong, "time")


def test_a_misspelt_unit_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean 'eV/Å'"):
        units.parse("1 ev/Å", "force")


@given(st.floats(min_value=1e-12, max_value=1e12), st.sampled_from(sorted(units.DEFAULT_UNIT)))
def test_a_written_value_reads_back_as_the_same_float(value: float, quantity: str) -> None:
    assert units.parse(units.with_unit(value, quantity), quantity) == value


def test_a_decimal_number_stays_one() -> None:
    assert units.with_unit(units.parse("1.001 ps", "time"), "time") == "1001.0 fs"
    assert units.with_unit(units.parse("0.3 /ps", "rate"), "rate") == "0.3 1/ps"


def test_the_default_unit_of_every_quantity_is_known() -> None:
    assert all(unit in units.units_of(quantity) for quantity, unit in units.DEFAULT_UNIT.items())


def test_constants_agree_with_codata_2022() -> None:
    # scipy is the independent source; the tolerance covers its older CODATA edition of the mass constant
    from scipy import constants

    electron_volt = constants.e
    assert pytest.approx(constants.k / electron_volt, rel=1e-12) == units.KB
    assert pytest.approx(1e3 / (constants.N_A * electron_volt), rel=1e-12) == units.EV_PER_KJMOL
    assert pytest.approx(constants.atomic_mass * 1e10 / electron_volt, rel=1e-8) == units.KINETIC
    assert pytest.approx(constants.bar * 1e-30 / electron_volt, rel=1e-12) == units.BAR
    assert pytest.approx(constants.atomic_mass * 1e3 / 1e-24, rel=1e-8) == units.DENSITY


def test_units_agree_with_ase() -> None:
    # ASE uses CODATA 2014; relative differences are below 1e-7
    from ase import units as ase_units

    assert pytest.approx(ase_units.kB, rel=1e-6) == units.KB
    assert pytest.approx(ase_units.GPa, rel=1e-6) == units.parse("1 GPa", "pressure") * units.BAR
    assert pytest.approx(ase_units.kJ / ase_units.mol, rel=1e-6) == units.EV_PER_KJMOL
    assert pytest.approx(ase_units.kcal / ase_units.mol, rel=1e-6) == units.parse("1 kcal/mol", "energy")
    assert pytest.approx(ase_units.Hartree, rel=1e-6) == units.parse("1 hartree", "energy")
    assert pytest.approx(ase_units.Bohr, rel=1e-6) == units.parse("1 bohr", "length")
    assert pytest.approx(ase_units.bar, rel=1e-6) == units.parse("1 bar", "pressure") * units.BAR
    assert pytest.approx(1 / ase_units.bar, rel=1e-6) == units.parse("1 eV/Å³", "pressure")
    assert pytest.approx(ase_units.kJ / ase_units.mol / 10, rel=1e-6) == units.parse("1 kJ/mol/nm", "force")
