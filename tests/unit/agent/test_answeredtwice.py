"""A second device with the same unit id is told once, and once that it is gone."""

from agent.answeredtwice import MANY, POLLS, AnsweredTwice, CountsSurplus
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.links import open_link


def test_it_is_told_after_some_polls_with_a_frame_too_many_and_once() -> None:
    twice = AnsweredTwice("bus")
    news = [twice.polled(3, "meter", frames) for frames in range(1, 30)]
    said = news[MANY - 1]
    assert said is not None
    assert said[0]
    assert "unit id 3 on line bus" in said[1]
    assert said[2] == "meter"
    assert [one for one in news if one is not None] == [said]
    assert twice.frames == {3: 29}


def test_a_frame_too_many_now_and_then_is_no_second_device() -> None:
    twice = AnsweredTwice("bus")
    assert {twice.polled(3, "meter", poll // 3) for poll in range(100)} == {None}


def test_it_ends_when_none_came_in_as_many_polls_as_count() -> None:
    twice = AnsweredTwice("bus")
    for frames in range(1, MANY + 1):
        twice.polled(3, "meter", frames)
    news = [twice.polled(3, "meter", MANY) for _ in range(POLLS)]
    assert news[:-1] == [None] * (POLLS - 1)
    assert news[-1] == (False, "unit id 3 on line bus answers each request once again", "meter")


def test_units_of_a_line_are_judged_apart() -> None:
    twice = AnsweredTwice("bus")
    for poll in range(1, MANY + 1):
        assert twice.polled(4, "relay", 0) is None
        found = twice.polled(3, "meter", poll)
    assert found is not None
    assert twice.frames == {3: MANY}


def test_the_end_is_told_of_the_device_that_the_alarm_named() -> None:
    twice = AnsweredTwice("bus")
    for frames in range(1, MANY + 1):
        twice.polled(3, "meter", frames)
    news = [twice.polled(3, "same-meter", MANY) for _ in range(POLLS)][-1]
    assert news is not None
    assert (news[0], news[2]) == (False, "meter")


def test_lines_of_rtu_frames_count_and_those_with_numbered_answers_need_not() -> None:
    urls = ("modbus+rtu:///dev/ttyUSB0", "modbus+rtu+tcp://192.0.2.1:4001", "modbus+tcp://192.0.2.1")
    found = [isinstance(open_link(LinkUrl.parse(url)), CountsSurplus) for url in urls]
    assert found == [True, True, False]
