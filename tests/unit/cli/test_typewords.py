"""Why a device would not fall back by itself, as its points show it."""

from decimal import Decimal

from cli.typewords import guessed_in_orders, hold_warnings, order_points, sense_words
from drivers.points import SenseSpec
from drivers.types import load_type

RELAYS = load_type("wirenboard-wb-mr6c")


def test_points_that_tell_of_a_hold_are_those_that_orders_name() -> None:
    names = {f"{kind}K{number}" for kind in ("Safe", "Falls") for number in range(1, 7)}
    assert order_points(RELAYS) == names | {"SafetyS"}
    assert order_points(load_type("keba-p40")) == {"AFailsafe", "FailsafeS"}
    assert order_points(load_type("heidelberg-energy-control")) == {"AFailsafe", "WatchdogMs"}
    assert order_points(load_type("eastron-sdm630")) == frozenset()


def test_device_that_is_set_to_fall_back_is_warned_of_by_nobody() -> None:
    values = {f"FallsK{number}": Decimal(1) for number in range(1, 7)} | {"SafetyS": Decimal(60)}
    assert list(hold_warnings(RELAYS, values)) == []


def test_nothing_is_said_of_what_was_not_read() -> None:
    assert list(hold_warnings(RELAYS, {})) == []


def test_relay_that_is_not_told_to_fall_back_and_watchdog_that_is_off_are_warned_of() -> None:
    values = {"FallsK2": Decimal(0), "SafetyS": Decimal(0)}
    found = list(hold_warnings(RELAYS, values))
    assert "K2 does not fall back: FallsK2 is 0, set it to 1 at commissioning" in found
    assert "K1 does not fall back: its watchdog is switched off, SafetyS is 0" in found
    assert len(found) == 7


def test_guesses_in_orders_are_named_by_point() -> None:
    assert guessed_in_orders(load_type("keba-p40")) == {"ALimitSet": ["default"]}
    assert guessed_in_orders(load_type("sg-ready-relay"))["SG1"] == ["min_on_s", "min_off_s"]


def test_what_is_said_over_time_is_said_in_words() -> None:
    sense = SenseSpec.model_validate(
        {"max_rate": "0.5", "refresh": "200ms", "frozen": "1h", "substituted": [0], "guessed": ["frozen"]}
    )
    assert sense_words(sense, "V") == (
        "at most 0.5 V a second, as old as 200ms, frozen after 1h (guessed), 0 stands for no measurement"
    )
