"""What a device said becomes a type that reads it: names, scales, markers, orders with their timers."""

import asyncio
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import Undecodable
from core.manifest import Value
from drivers.modbus.plan import plan
from drivers.modbus.registers import encode
from drivers.modbus.values import GroupDecoder
from drivers.patientread import PatientReader
from drivers.probe import with_scales
from drivers.sunspec.devicetype import Described, describe
from drivers.sunspec.discovery import discover
from drivers.types import DeviceType, faults_of, load_type
from drivers.typetext import save_type
from tests.support.sunspec import (
    Registers,
    chain,
    common,
    controls_123,
    der_704,
    inverter_103,
    meter_203,
    mppt_160,
)

TODAY = date(2026, 11, 22)
Model = tuple[int, list[int]]


def described(*models: Model, largest: int = 125) -> Described:
    link = Registers(chain(models), largest=largest)
    return describe(asyncio.run(discover(PatientReader(link, 1))), "site", TODAY)


def polled(kind: DeviceType, link: Registers, names: list[str]) -> dict[str, tuple[Value, str | None]]:
    """Read points as the agent does: planned, answered, decoded."""

    async def ask() -> list[bytes | str]:
        await link.connect()
        return [await link.read(1, request) for request in requests]

    points = with_scales(kind, [kind.point(name) for name in names])
    requests = plan(points, kind.limits, kind.blocks)
    values, reasons = GroupDecoder(points, requests).decode(asyncio.run(ask()))
    found: dict[str, tuple[Value, str | None]] = {}
    for index, (point, value) in enumerate(zip(points, values, strict=True)):
        exact = Decimal(value).scaleb(point.steps.exp) if isinstance(value, int) else value
        shown = format(exact, "f") if isinstance(exact, Decimal) else exact
        found[point.name] = (shown, reasons.get(str(index), reasons.get("*", [None]))[0])
    return {name: found[name] for name in names}


def nameplate_120(power: int, scale: int) -> Model:
    return 120, [4, power, scale % 0x10000, *[0x8000] * 23]


def test_energy_of_an_inverter_grows_no_faster_than_its_nameplate_allows() -> None:
    made = described(common(), inverter_103(), nameplate_120(826, 1), meter_203()).type
    sense = made.point("WH").sense
    assert sense is not None
    assert sense.max_rate == Decimal("2.754")  # 1.2 times 8260 W, in Wh a second
    assert (sense.refresh_ms, sense.guessed, sense.modulus) == (10_000, ("refresh",), None)
    assert made.point("TotWhExp").sense is None  # what the meter at the grid counts is not the inverter's
    assert made.point("W").sense is None


def test_inverter_without_a_nameplate_has_no_greatest_rate() -> None:
    for models in ((), (nameplate_120(0xFFFF, 1),), (nameplate_120(826, -0x8000),), (nameplate_120(0, 0),)):
        assert described(common(), inverter_103(), *models).type.point("WH").sense is None


def test_values_are_those_of_the_device() -> None:
    models = (common(), inverter_103(), meter_203(), mppt_160())
    kind = described(*models).type
    found = polled(
        kind,
        Registers(chain(models)),
        ["A", "PhVphB", "W", "Hz", "WH", "TmpCab", "W_203"],
    )
    assert found == {
        "A": ("22.70", None),
        "PhVphB": ("230.2", None),
        "W": ("5230", None),
        "Hz": ("49.98", None),
        "WH": ("123456", None),
        "TmpCab": ("41.2", None),
        "W_203": ("-1500", None),
    }
    more = polled(
        kind,
        Registers(chain(models)),
        ["TotWhImp", "DCA_1", "DCW_2", "IDStr_2", "SN"],
    )
    assert more == {
        "TotWhImp": ("20000020", None),
        "DCA_1": ("4.01", None),
        "DCW_2": ("2600", None),
        "IDStr_2": ("String 2", None),
        "SN": ("SN-42", None),
    }


def test_type_survives_its_file(tmp_path: Path) -> None:
    made = described(common(), inverter_103(), controls_123(), mppt_160(), meter_203(), der_704())
    assert faults_of(made.type) == []
    save_type(tmp_path / "site.toml", made.type, made.heading, made.notes)
    assert load_type("site", [tmp_path]) == made.type
    text = (tmp_path / "site.toml").read_text()
    assert text.startswith("# Sunny S-8000, as it described itself on 2026-11-22.\n")
    assert "# --- model 203: wye-connect three phase (abcn) meter, at " in text


def test_type_says_who_the_device_is_and_what_was_read() -> None:
    kind = described(common("Maker", "M-1"), meter_203()).type
    assert (kind.manufacturer, kind.model, kind.kind, kind.source.edition) == (
        "Maker",
        "M-1",
        "meter",
        "firmware 1.2.3",
    )
    assert kind.source.where.startswith("sunspec/models: json/model_1.json (commit ")
    assert described(common(), inverter_103(), meter_203()).type.kind == "inverter"


def test_points_without_a_value_are_there_but_not_read_by_default() -> None:
    kind = described(common(), inverter_103()).type
    assert not kind.point("PPVphAB").default
    assert not kind.point("TmpSnk").default
    assert kind.point("PhVphA").default


def test_mandatory_points_of_a_sleeping_inverter_are_read_by_default() -> None:
    model, body = inverter_103()
    kind = described(common(), (model, [0xFFFF, *body[1:]])).type
    assert kind.point("A").default


def test_points_whose_scale_factor_has_no_value_are_left_out_and_told() -> None:
    model, body = inverter_103()
    body[13] = 0x8000  # W_SF
    made = described(common(), (model, body))
    with pytest.raises(KeyError):
        made.type.point("W")
    assert made.remarks == ("model 103 at 40070, left out, since W_SF says no value: W",)


def test_impossible_scale_factor_is_told() -> None:
    model, body = inverter_103()
    body[13] = 77
    assert "since W_SF says 77: W" in described(common(), (model, body)).remarks[0]


def test_scale_factor_that_changes_scales_the_values_of_its_own_poll() -> None:
    kind = described(common(), inverter_103(power=523, power_scale=1)).type
    assert (kind.point("W").scale, kind.point("W").scale_by) == (1, "W_SF")
    for power, scale, shown in [(523, 1, "5230"), (5231, 0, "5231"), (-1205, -2, "-12"), (3, 3, "3000")]:
        later = Registers(chain([common(), inverter_103(power=power, power_scale=scale)]))
        assert polled(kind, later, ["W"])["W"] == (shown, None)


def test_value_whose_scale_factor_has_none_is_no_value() -> None:
    kind = described(common(), inverter_103()).type
    model, body = inverter_103()
    for says, reason in [(0x8000, "not-available"), (77, "undecodable")]:
        body[13] = says
        found = polled(kind, Registers(chain([common(), (model, body)])), ["W", "Hz"])
        assert found["W"] == (None, reason)
        assert found["Hz"] == ("49.98", None)


def test_scale_factor_is_read_by_default_where_something_needs_it() -> None:
    kind = described(common(), inverter_103(), controls_123()).type
    assert kind.point("W_SF").default
    assert kind.point("WMaxLimPct_SF").default
    with pytest.raises(KeyError):
        kind.point("VArPct_SF")
    needed = {point.scale_by for point in kind.points if point.default and point.scale_by}
    assert needed <= {point.name for point in kind.points if point.default}


def test_order_is_refused_while_the_device_counts_in_other_steps() -> None:
    point = described(common(), inverter_103(), controls_123()).type.point("WMaxLimPct")
    assert encode(point, Decimal("50.5"), power=-1) == [505]
    for power in (0, None):
        with pytest.raises(ValueError, match="the device counts otherwise now"):
            encode(point, 50, power)


def test_static_scale_factors_are_no_points() -> None:
    names = {point.name for point in described(common(), der_704()).type.points}
    assert "WMaxLimPct" in names
    assert not any(name.endswith("_SF") for name in names)


def test_orders_have_limits_and_the_reversion_timer_as_hold() -> None:
    kind = described(common(), inverter_103(), controls_123()).type
    write = kind.point("WMaxLimPct").write
    assert write is not None
    assert (write.min, write.max, write.step, write.default) == (0, 100, Decimal("0.1"), 100)
    assert (write.function, write.hold, write.feedback) == ("registers", "timer", "WMaxLimPct")
    hold = write.hold_register
    assert hold is not None
    assert (hold.address, hold.type.value, hold.max) == (40122 + 2 + 5, "uint16", 65534)
    assert all(kind.point(name).default for name in ("Conn", "WMaxLimPct", "WMaxLim_Ena"))


def test_order_of_the_newer_models_has_a_timer_of_two_registers() -> None:
    write = described(common(), der_704()).type.point("WMaxLimPct").write
    assert write is not None
    assert write.hold_register is not None
    assert (write.hold_register.address, write.hold_register.type.value) == (40070 + 2 + 16, "uint32")


def test_order_without_its_timer_says_that_the_device_keeps_it() -> None:
    made = described(common(), inverter_103(), controls_123(timers=False))
    write = made.type.point("WMaxLimPct").write
    assert write is not None
    assert (write.hold, write.hold_register) == ("none", None)
    assert "keeps the last order for ever: Conn, WMaxLimPct, WMaxLim_Ena" in made.remarks[0]


def test_points_that_are_not_implemented_are_no_orders() -> None:
    kind = described(common(), inverter_103(), controls_123()).type
    names = {point.name for point in kind.points if point.write is not None}
    assert names == {"Conn", "WMaxLimPct", "WMaxLim_Ena", "OutPFSet", "OutPFSet_Ena", "VArPct_Ena"}


def test_counters_are_cumulative_and_ratings_are_not() -> None:
    kind = described(common(), inverter_103(), meter_203(), mppt_160()).type
    counters = {point.name for point in kind.points if point.cumulative}
    assert {"WH", "TotWhImp", "TotWhExp", "DCWH_1", "DCWH_2"} <= counters
    assert not {"W", "St", "Evt1", "A_SF", "Hz"} & counters


def test_clock_of_a_device_is_compared_with_ours(tmp_path: Path) -> None:
    status_122 = (122, [0] * 39 + [0x32B0, 0x1234] + [0] * 3)
    kind = described(common(), inverter_103(), status_122).type
    clock = kind.point("Tms")
    assert faults_of(kind) == []
    assert clock.sense is not None
    assert clock.sense.clock is not None
    assert (clock.unit, clock.sense.clock.since, clock.sense.clock.max_offset_ms) == (
        "s",
        "2000-01-01",
        60_000,
    )
    save_type(tmp_path / "site.toml", kind)
    assert load_type("site", (tmp_path,)).point("Tms") == clock


def test_second_meter_of_a_device_has_names_of_its_own() -> None:
    kind = described(common(), meter_203(100), meter_203(200)).type
    link = Registers(chain([common(), meter_203(100), meter_203(200)]))
    found = polled(kind, link, ["W", "W_203"])
    assert (found["W"], found["W_203"]) == (("100", None), ("200", None))
    assert kind.point("W_203").quantity == "W"


def test_inputs_are_as_many_as_the_device_says_and_there_is_room_for() -> None:
    def inputs(model: Model) -> int:
        return sum(point.quantity == "DCW" for point in described(common(), model).type.points)

    assert inputs(mppt_160(2)) == 2
    assert inputs(mppt_160(4, said=3)) == 3
    assert inputs(mppt_160(2, said=9)) == 2
    assert inputs(mppt_160(2, said=0xFFFF)) == 2


def test_floats_have_a_resolution_and_not_a_number_as_marker() -> None:
    number = [0x42C8, 0x0000]  # 100.0
    body = [*number * 23, *[0x7FC0, 0] * 4, 4, 0xFFFF, *[0, 0] * 2, *[0xFFFF] * 8]
    kind = described(common(), (113, body[:60])).type
    assert kind.point("PhVphA").resolution == Decimal("0.01")
    assert kind.point("PhVphA").nan_is_marker
    assert kind.point("WH").cumulative


def test_small_reads_and_refused_registers_become_limits() -> None:
    models = (common(), inverter_103())
    held = chain(models)
    del held[40072 + 30]
    link = Registers(held, largest=20)
    made = describe(asyncio.run(discover(PatientReader(link, 1))), "site", TODAY)
    assert made.type.limits.max_registers <= 20
    assert [(bar.first, bar.last) for bar in made.type.limits.forbidden] == [(40102, 40102)]
    assert faults_of(made.type) == []


def test_text_longer_than_a_read_is_left_out() -> None:
    made = described(common(), inverter_103(), largest=12)
    assert made.type.limits.max_registers < 16
    assert faults_of(made.type) == []
    assert any("longer than a read may be: Mn, Md, SN" in remark for remark in made.remarks)


def test_map_without_a_known_model_is_no_type() -> None:
    with pytest.raises(Undecodable, match="none of the device's SunSpec models"):
        described((64100, [1, 2, 3]))
