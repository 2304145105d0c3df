"""What comes of an order: at once, late, not at all, for a time of the device's own, or not in the cold."""

from decimal import Decimal

import pytest

from simulator.effect import Behaviour, Cause, Effect

ON, OFF = Decimal(1), Decimal(0)


class Contactor:
    """An effect that is told orders and time."""

    def __init__(self, behaviour: Behaviour = Behaviour()) -> None:
        self.effect = Effect(OFF, behaviour)
        self.order, self.ordered_s = OFF, 0.0

    def give(self, order: Decimal, at_s: float) -> None:
        if order != self.order:
            self.order, self.ordered_s = order, at_s
        self.at(at_s)

    def at(self, now_s: float, *, stuck: bool = False, water_c: float | None = None) -> Cause | None:
        return self.effect.follow(self.order, self.ordered_s, now_s, stuck=stuck, water_c=water_c)


def test_an_order_takes_effect_at_once_and_its_time_is_counted_exactly() -> None:
    contactor = Contactor()
    contactor.give(ON, 100.0)
    assert contactor.effect.active
    contactor.order, contactor.ordered_s = OFF, 110.0
    assert contactor.at(110.4) is Cause.ORDER  # seen later than it was given
    assert (contactor.effect.cycles, contactor.effect.away_s(200.0)) == (1, 10.0)


def test_an_order_takes_effect_late_when_the_device_lags() -> None:
    contactor = Contactor(Behaviour(delay_s=5))
    contactor.give(ON, 100.0)
    assert contactor.at(104.9) is None
    assert contactor.at(105.0) is Cause.ORDER
    contactor.give(OFF, 110.0)
    assert contactor.effect.active
    assert contactor.at(115.0) is Cause.ORDER
    assert contactor.effect.away_s(200.0) == 10.0


def test_an_order_taken_back_before_it_took_effect_never_does() -> None:
    contactor = Contactor(Behaviour(delay_s=5))
    contactor.give(ON, 100.0)
    contactor.give(OFF, 103.0)
    for at_s in (105.0, 108.0, 120.0):
        assert contactor.at(at_s) is None
    assert contactor.effect.cycles == 0


def test_a_device_that_ignores_orders_stays_as_it_is() -> None:
    contactor = Contactor(Behaviour(ignores=True))
    contactor.give(ON, 100.0)
    assert not contactor.effect.active


def test_a_contactor_that_is_stuck_follows_when_it_is_free_again() -> None:
    contactor = Contactor()
    contactor.order, contactor.ordered_s = ON, 100.0
    assert contactor.at(100.0, stuck=True) is None
    assert contactor.at(150.0) is Cause.ORDER
    assert contactor.effect.active


def test_the_effect_stays_for_a_minimum_of_time_whatever_the_order() -> None:
    contactor = Contactor(Behaviour(at_least_s=60))
    contactor.give(ON, 100.0)
    contactor.give(OFF, 110.0)
    assert contactor.at(159.9) is None
    assert contactor.at(160.0) is Cause.ORDER
    contactor.give(ON, 161.0)
    assert not contactor.effect.active
    assert contactor.at(220.0) is Cause.ORDER


def test_the_effect_ends_by_a_timer_while_the_order_stands_and_begins_with_the_next_order() -> None:
    contactor = Contactor(Behaviour(at_most_s=30))
    contactor.give(ON, 100.0)
    assert contactor.at(129.9) is None
    assert contactor.at(130.5) is Cause.TIMER
    assert contactor.at(200.0) is None
    assert contactor.effect.away_s(300.0) == 30.0
    contactor.give(OFF, 210.0)
    contactor.give(ON, 220.0)
    assert contactor.effect.active


def test_a_thermostat_overrides_an_order_while_the_water_is_cold() -> None:
    contactor = Contactor(Behaviour(warm_c=45))
    contactor.order, contactor.ordered_s = ON, 100.0
    assert contactor.at(100.0, water_c=44.0) is None
    assert contactor.at(110.0, water_c=46.0) is None  # not until it is clearly warmer
    assert contactor.at(120.0, water_c=47.5) is Cause.ORDER
    assert contactor.at(130.0, water_c=45.5) is None
    assert contactor.at(140.0, water_c=44.9) is Cause.THERMOSTAT
    assert not contactor.effect.active


def test_without_a_temperature_there_is_no_thermostat() -> None:
    contactor = Contactor(Behaviour(warm_c=45))
    contactor.give(ON, 100.0)
    assert contactor.effect.active


@pytest.mark.parametrize("back_s", [105.0, 1000.0])
def test_a_power_cut_ends_the_effect_and_a_standing_order_begins_anew_with_the_power(back_s: float) -> None:
    contactor = Contactor()
    contactor.give(ON, 100.0)
    assert contactor.effect.lose(104.0)
    assert not contactor.effect.active
    assert contactor.at(back_s) is Cause.ORDER
    assert contactor.effect.away_s(back_s) == 4.0
    assert contactor.effect.cycles == 2


def test_a_power_cut_without_an_effect_changes_nothing() -> None:
    assert not Contactor().effect.lose(100.0)
