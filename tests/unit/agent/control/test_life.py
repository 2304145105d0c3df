"""The table of a control's life: every state can be reached, every touched one leads back to the default."""

from agent.control.life import ENDED, FOLLOWS, TOUCHED, State, may_follow


def reached(begin: State) -> set[State]:
    found, new = set(), {begin}
    while new:
        found |= new
        new = {after for state in new for after in FOLLOWS[state]} - found
    return found


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(FOLLOWS) == set(State)
    assert reached(State.ACCEPTED) == set(State)


def test_from_wherever_the_device_was_touched_a_way_leads_to_restored() -> None:
    assert all(State.RESTORED in reached(state) for state in TOUCHED)


def test_nothing_that_touched_the_device_ends_but_restored_or_taken_over() -> None:
    ends = {after for state in TOUCHED for after in FOLLOWS[state]} & ENDED
    assert ends == {State.RESTORED, State.SUPERSEDED}


def test_nothing_is_written_twice() -> None:
    assert State.DISPATCHED not in {after for state in reached(State.DISPATCHED) for after in FOLLOWS[state]}


def test_what_is_ended_stays_ended() -> None:
    assert {State.REFUSED, State.CANCELLED, State.RESTORED, State.SUPERSEDED, State.DONE} == ENDED
    assert not any(may_follow(state, after) for state in ENDED for after in State)
