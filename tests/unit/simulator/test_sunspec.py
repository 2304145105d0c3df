"""A type that was discovered on a SunSpec device is played like any other, its scale factors included."""

import asyncio
from datetime import date

from drivers.patientread import PatientReader
from drivers.sunspec.devicetype import describe
from drivers.sunspec.discovery import discover
from tests.support.sunspec import Registers, chain, common, inverter_103
from tests.unit.simulator.test_device import Bench


def test_scale_factors_are_those_by_which_the_values_are_encoded() -> None:
    link = Registers(chain([common(), inverter_103(power=523, power_scale=1)]))
    found = asyncio.run(discover(PatientReader(link, 1)))
    kind = describe(found, "site", date(2026, 11, 22)).type
    measured = kind.model_copy(update={"points": tuple(point for point in kind.points if point.default)})
    row = Bench(measured, {"W": 3210.0, "Hz": 50.02, "PhVphA": 231.4}).row()
    assert (row["W"], row["Hz"], row["PhVphA"]) == (3210, 5002, 2314)
    assert (row["W_SF"], row["Hz_SF"], row["V_SF"]) == (0, -2, -1)
