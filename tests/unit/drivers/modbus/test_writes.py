"""Orders as requests: the hold first, limits as the device has them, times that travel in an order."""

from decimal import Decimal
from typing import Any

import pytest

from drivers.modbus.registers import decode_point
from drivers.modbus.writes import Write, clock_write, hold_write, writes_of
from drivers.points import HoldRegister, PointType
from drivers.types import load_type
from tests.support.points import point

HOLD = {"table": "holding", "address": 1, "type": "uint16", "max": 600}
LIMIT: dict[str, Any] = {"function": "register", "min": 6, "max": 16, "also": [0], "default": 16}


def limit(**write: Any) -> PointType:
    return point("ALimit", address=9, write={**LIMIT, **write})


def test_hold_is_armed_before_the_order() -> None:
    for hold in ("timer", "watchdog"):
        made = limit(hold=hold, hold_register=HOLD)
        assert writes_of(made, 8, 60) == (Write("register", 1, (60,)), Write("register", 9, (8,)))


def test_going_back_to_the_default_needs_no_hold() -> None:
    assert writes_of(limit(hold="timer", hold_register=HOLD), 16) == (Write("register", 9, (16,)),)


def test_order_to_a_device_with_a_timer_names_its_time() -> None:
    with pytest.raises(ValueError, match="for how many seconds"):
        writes_of(limit(hold="timer", hold_register=HOLD), 8)


def test_watchdog_may_be_set_already() -> None:
    assert writes_of(limit(hold="watchdog", hold_register=HOLD), 8) == (Write("register", 9, (8,)),)


def test_hold_is_refused_where_the_device_keeps_every_order() -> None:
    with pytest.raises(ValueError, match="keeps the order until the next"):
        writes_of(limit(), 8, 60)
    assert writes_of(limit(), 8) == (Write("register", 9, (8,)),)


@pytest.mark.parametrize(("value", "fits"), [(0, True), (6, True), (16, True), (3, False), (17, False)])
def test_charger_takes_0_or_its_range_and_nothing_between(value: int, fits: bool) -> None:
    if fits:
        assert writes_of(limit(), value) == (Write("register", 9, (value,)),)
    else:
        with pytest.raises(ValueError, match=f"{value} is not one of 0 or 6 to 16"):
            writes_of(limit(), value)


def test_hold_register_has_a_scale_a_shortest_time_and_a_function_of_its_own() -> None:
    heidelberg = HoldRegister.model_validate(
        {**HOLD, "scale": "0.001", "min": 5, "max": "65.535", "function": "registers"}
    )
    assert hold_write(heidelberg, 15) == Write("registers", 1, (15_000,))
    assert hold_write(heidelberg, Decimal("5.0009")) == Write("registers", 1, (5000,))
    for seconds in (4, 66, 0):
        with pytest.raises(ValueError, match=r"is not within 5 to 65\.535 s"):
            hold_write(heidelberg, seconds)


def test_wide_hold_register_is_written_most_significant_first() -> None:
    wide = HoldRegister.model_validate({**HOLD, "type": "uint32", "max": 100_000, "function": "registers"})
    assert hold_write(wide, 65_537) == Write("registers", 1, (1, 1))


def test_relay_with_a_timed_output_is_sent_order_and_time_in_one_request() -> None:
    """Waveshare's page: 05 0200 0007 switches relay 0 on for 700 ms, 05 0201 0008 relay 1 for 800 ms."""
    board = load_type("waveshare-rtu-relay-d")
    first, second = board.point("Relay1"), board.point("Relay2")
    assert writes_of(first, 1, Decimal("0.7")) == (Write("timed-coil", 0x0200, (7,), 0),)
    assert writes_of(second, True, Decimal("0.8")) == (Write("timed-coil", 0x0201, (8,), 1),)
    assert writes_of(first, 0) == (Write("coil", 0, (0,)),)
    assert writes_of(first, 1, Decimal("3276.7"))[0].words == (0x7FFF,)
    for seconds in (Decimal("0.09"), Decimal("3276.8"), 0, -1):
        with pytest.raises(ValueError, match=r"holds for 0\.1 to 3276\.7 s"):
            writes_of(first, 1, seconds)


def test_functions_are_those_of_the_requests() -> None:
    assert [Write(kind, 0, (0,)).function for kind in ("coil", "timed-coil", "register", "registers")] == [
        5,
        5,
        6,
        16,
    ]


def clock(**fields: Any) -> PointType:
    spec = {"since": "2000-01-01", "max_offset": "60s", "set": "registers"}
    plain = {"type": "uint32", "unit": "s", "address": 4, "sense": {"clock": spec}}
    return point("Clock", **{**plain, **fields})


@pytest.mark.parametrize(
    ("fields", "ms", "shown"),
    [
        ({}, 1_499, 1),
        ({}, 1_501, 2),
        ({"word_order": "little"}, 90_000_000, 90_000),
        ({"scale": "0.001"}, 1_501, 1_501),
        ({"scale": "0.5"}, 1_700, 15),
        ({"scale": "10"}, 26_000, 3),
    ],
)
def test_a_clock_is_set_to_the_nearest_of_its_steps(fields: dict[str, Any], ms: int, shown: int) -> None:
    made = clock(**fields)
    write = clock_write(made, 946_684_800_000 + ms)
    chunk = b"".join(word.to_bytes(2, "big") for word in write.words)
    assert (write.function, write.register) == (16, "holding:4")
    assert decode_point(made, chunk)[0] == shown


def test_an_instant_that_a_register_cannot_hold_is_not_written() -> None:
    with pytest.raises(ValueError, match="does not hold that instant"):
        clock_write(clock(), 946_684_800_000 - 1_000)
