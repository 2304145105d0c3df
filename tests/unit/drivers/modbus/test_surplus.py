"""More frames than requests are counted, late ones are not."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.surplus import MOST_OPEN, Surplus


def test_a_second_answer_to_each_request_is_counted() -> None:
    surplus = Surplus()
    for _ in range(5):
        surplus.asked(1)
        surplus.came(1)
        surplus.came(1)
    assert (surplus.of(1), surplus.of(2)) == (5, 0)


@given(st.lists(st.booleans(), max_size=60))
def test_whoever_answers_no_more_often_than_asked_is_never_counted(late: list[bool]) -> None:
    surplus, owed = Surplus(), 0
    for is_late in late:
        surplus.asked(1)
        owed = min(owed + 1, MOST_OPEN)
        if not is_late:
            for _ in range(owed):
                surplus.came(1)
            owed = 0
    assert surplus.of(1) == 0


def test_frames_of_a_unit_that_nobody_asked_are_those_of_another_master() -> None:
    surplus = Surplus()
    surplus.came(7)
    assert surplus.of(7) == 0


def test_what_was_never_answered_hides_a_second_device_for_a_few_requests_and_not_for_ever() -> None:
    surplus = Surplus()
    for _ in range(1000):
        surplus.asked(1)
    for _ in range(MOST_OPEN + 5):
        surplus.asked(1)
        surplus.came(1)
        surplus.came(1)
    assert surplus.of(1) == 5 + 1
