"""Exceptions poll after poll: of a device that is not there, of one that refuses all, and now and then."""

from agent.refusing import Refusing

OK = b"\0\1"


def polls(*made: dict[int, bytes | int | str], group: int = 1, device: Refusing | None = None) -> Refusing:
    """Judge polls in which each request brought bytes, an exception's code, or a reason."""
    found = device or Refusing()
    for poll in made:
        codes = {index: got for index, got in poll.items() if isinstance(got, int)}
        answers = {index: f"exception-{got}" if isinstance(got, int) else got for index, got in poll.items()}
        found.judge(group, answers, codes)
    return found


def test_three_polls_that_a_gateway_answers_are_an_absent_device() -> None:
    assert not polls({0: 11}, {0: 10}).absent
    found = polls({0: 11}, {0: 10}, {0: 11, 1: 11})
    assert (found.absent, found.refuses) == (True, False)
    assert "exception 10 (gateway path unavailable), 11 (gateway target gave no response)" in found.absence


def test_three_polls_that_are_refused_are_told_once() -> None:
    found = polls({0: 2, 1: 3}, {0: 2, 1: 3}, {0: 2, 1: 2})
    assert (found.absent, found.refuses) == (False, True)
    news = found.news()
    assert news is not None
    assert "exception 2 (illegal data address), 3 (illegal data value)" in news[1]
    assert found.news() is None
    assert polls({0: OK, 1: 2}, device=found).news() == (False, "does not refuse everything any more")


def test_one_value_is_enough() -> None:
    found = polls(*[{0: 2, 1: OK}] * 9)
    assert (found.absent, found.refuses) == (False, False)


def test_polls_without_an_answer_count_neither_way() -> None:
    assert polls({0: 11}, {0: "timeout"}, {0: 11}, {0: "timeout", 1: 11}, {0: 11}).absent
    assert not polls({0: "timeout"}, {0: "timeout"}, {0: "timeout"}, {}).absent


def test_device_that_comes_back_and_refuses_is_absent_no_more() -> None:
    found = polls({0: 11}, {0: 11}, {0: 11}, {0: 2})
    assert (found.absent, found.refuses) == (False, False)
    assert polls({0: 2}, {0: 2}, device=found).refuses


def test_device_whose_other_group_has_values_does_not_refuse_everything() -> None:
    found = polls({0: OK}, group=2)
    assert not polls(*[{0: 2}] * 9, device=found).refuses
    assert polls({0: 2}, group=2, device=found).refuses
