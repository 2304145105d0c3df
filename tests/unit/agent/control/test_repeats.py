"""Messages that are not taken are answered some times at once, then now and then."""

from agent.control.repeats import AT_ONCE, ENTITIES, EVERY_S, Repeats


def test_some_are_answered_at_once_then_one_in_so_long() -> None:
    repeats = Repeats()
    assert [repeats.answered("esco1", 0.0) for _ in range(AT_ONCE + 3)] == [True] * AT_ONCE + [False] * 3
    assert [repeats.answered("esco1", EVERY_S) for _ in range(2)] == [True, False]
    assert not repeats.answered("esco1", EVERY_S * 1.9)
    assert repeats.answered("esco1", EVERY_S * 2)


def test_a_long_silence_gives_no_more_than_those_at_once() -> None:
    repeats = Repeats()
    for _ in range(AT_ONCE):
        repeats.answered("esco1", 0.0)
    later = 1000 * EVERY_S
    assert sum(repeats.answered("esco1", later) for _ in range(3 * AT_ONCE)) == AT_ONCE


def test_one_entity_costs_another_nothing_and_their_number_is_bounded() -> None:
    repeats = Repeats()
    for _ in range(2 * AT_ONCE):
        repeats.answered("esco1", 0.0)
    assert repeats.answered("esco2", 0.0)
    answered = [repeats.answered(f"entity-{number}", 0.0) for number in range(ENTITIES)]
    assert sum(answered) == ENTITIES - 2
