"""What a device does by itself when nobody speaks to it any more."""

from decimal import Decimal

import pytest

from simulator.control import Control, Hold

ON = Decimal(1)
OFF = Decimal(0)


def control(hold: Hold) -> Control:
    return Control(default=OFF, hold=hold)


def test_a_timer_falls_back_when_its_seconds_are_over_and_not_before() -> None:
    relay = control(Hold.TIMER)
    relay.write_hold(10, 100.0)
    relay.write(ON, 101.0)
    assert not relay.settle(110.9)
    assert relay.value == ON
    assert relay.settle(111.0)
    assert (relay.value, relay.hold_s(111.0), relay.changed_s) == (OFF, 0.0, 111.0)
    assert not relay.settle(112.0)


def test_the_hold_register_counts_down_while_a_timer_runs_and_only_then() -> None:
    relay = control(Hold.TIMER)
    relay.write_hold(10, 100.0)
    assert relay.hold_s(105.0) == 10
    relay.write(ON, 105.0)
    assert relay.hold_s(109.0) == 6


@pytest.mark.parametrize(("seconds", "ends"), [(3, 108.0), (60, 165.0)])
def test_writing_the_hold_register_again_shortens_or_extends_a_running_timer(
    seconds: int, ends: float
) -> None:
    relay = control(Hold.TIMER)
    relay.write_hold(10, 100.0)
    relay.write(ON, 100.0)
    relay.write_hold(seconds, 105.0)
    assert not relay.settle(ends - 0.1)
    assert relay.settle(ends)


def test_writing_the_value_again_does_not_extend_a_running_timer() -> None:
    relay = control(Hold.TIMER)
    relay.write_hold(10, 100.0)
    relay.write(ON, 100.0)
    relay.write(ON, 106.0)
    assert relay.changed_s == 100.0
    assert relay.settle(110.0)


def test_a_timer_without_seconds_falls_back_at_once() -> None:
    relay = control(Hold.TIMER)
    relay.write(ON, 100.0)
    assert relay.value == OFF


def test_going_back_to_the_default_forgets_the_hold() -> None:
    relay = control(Hold.TIMER)
    relay.write_hold(10, 100.0)
    relay.write(ON, 100.0)
    relay.write(OFF, 104.0)
    assert relay.hold_s(104.0) == 0.0
    relay.write(ON, 105.0)
    assert relay.value == OFF


def test_a_watchdog_falls_back_only_when_nobody_asks_any_more() -> None:
    charger = control(Hold.WATCHDOG)
    charger.write_hold(10, 100.0)
    charger.write(ON, 100.0)
    for at in (105.0, 112.0, 119.0):
        charger.feed(at)
        assert not charger.settle(at)
    assert charger.hold_s(120.0) == 10
    assert not charger.settle(128.9)
    assert charger.settle(129.0)
    assert charger.value == OFF


def test_a_watchdog_of_zero_seconds_is_off() -> None:
    charger = control(Hold.WATCHDOG)
    charger.write(ON, 100.0)
    assert not charger.settle(1e9)


def test_without_a_hold_the_value_stays() -> None:
    switch = control(Hold.NONE)
    switch.write(ON, 100.0)
    switch.feed(101.0)
    assert not switch.settle(1e9)
    assert switch.active


@pytest.mark.parametrize("hold", list(Hold))
def test_without_power_an_order_and_what_is_left_of_its_timer_are_forgotten(hold: Hold) -> None:
    switch = control(hold)
    switch.write_hold(60, 100.0)
    switch.write(ON, 100.0)
    assert switch.lose(110.0)
    assert (switch.value, switch.changed_s) == (OFF, 110.0)
    assert not switch.settle(1e9)
    assert switch.hold_s(110.0) == (60.0 if hold is not Hold.TIMER else 0.0)
    assert not switch.lose(111.0)


def test_a_timer_that_wants_its_order_again_is_not_prolonged_by_its_register_alone() -> None:
    relay = Control(default=OFF, hold=Hold.TIMER, fed_by="value")
    relay.write_hold(10, 100.0)
    relay.write(ON, 100.0)
    relay.write_hold(10, 105.0)
    assert relay.hold_s(105.0) == 5
    relay.write(ON, 106.0)
    assert relay.hold_s(106.0) == 10
    assert relay.settle(116.0)


def test_a_watchdog_that_wants_its_register_again_is_not_fed_by_any_request() -> None:
    charger = Control(default=OFF, hold=Hold.WATCHDOG, fed_by="hold")
    charger.write_hold(10, 100.0)
    charger.write(ON, 100.0)
    charger.feed(109.0)
    assert charger.settle(110.0)
