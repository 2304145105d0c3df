"""Who is due a confirmation, when, and what is left out of it."""

from core.ranges import RangeSet
from headend.confirm import (
    ASK_SPACING_S,
    ASKS_IN_ONE_GO,
    EPOCHS_IN_ONE,
    EPOCHS_WAITING,
    GATE_S,
    RANGES_IN_ONE,
    SPACING_S,
    STRANGERS,
    TELL_SPACING_S,
    Confirmer,
    cut,
)

UP = {0}


def touch(
    confirmer: Confirmer,
    now_s: float,
    *,
    gateway: str = "gw",
    epoch: str = "e",
    within_s: float = 0.0,
    knows_us: bool = True,
    wants_cert: bool = False,
    fresh: bool = True,
    introduces: bool = False,
) -> None:
    confirmer.touch(
        gateway,
        0,
        epoch,
        within_s,
        now_s,
        fresh=fresh,
        knows_us=knows_us,
        introduces=introduces,
        wants_cert=wants_cert,
    )


def settle(confirmer: Confirmer, now_s: float) -> None:
    for plan in confirmer.plan(now_s, UP):
        confirmer.sent(plan, now_s)


def test_nothing_is_due_before_anything_came() -> None:
    confirmer = Confirmer()
    assert confirmer.plan(100.0, UP) == []
    assert confirmer.next_s(UP) == float("inf")


def test_confirmation_is_due_at_once_without_a_wish() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0)
    plan = confirmer.plan(100.0, UP)[0]
    assert (plan.gateway, plan.epochs, plan.with_cert) == ("gw", ("e",), True)


def test_confirmations_to_one_gateway_are_spaced() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0)
    settle(confirmer, 100.0)
    touch(confirmer, 100.01)
    assert confirmer.plan(100.01, UP) == []
    assert confirmer.next_s(UP) == 100.0 + SPACING_S
    assert len(confirmer.plan(100.0 + SPACING_S, UP)) == 1


def test_first_confirmation_waits_for_a_message_written_in_our_life() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, fresh=False)
    assert confirmer.plan(100.0 + GATE_S - 0.1, UP) == []
    assert len(confirmer.plan(100.0 + GATE_S, UP)) == 1
    touch(confirmer, 101.0, fresh=True)
    assert len(confirmer.plan(101.0, UP)) == 1
    settle(confirmer, 101.0)
    touch(confirmer, 102.0, fresh=False)
    assert len(confirmer.plan(102.0, UP)) == 1


def test_smallest_wish_since_the_first_message_counts() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, within_s=60)
    touch(confirmer, 110.0, within_s=20)
    touch(confirmer, 115.0, within_s=60)
    assert confirmer.next_s(UP) == 120.0
    assert confirmer.plan(119.9, UP) == []
    assert len(confirmer.plan(120.0, UP)) == 1


def test_nothing_is_planned_without_a_connection() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0)
    assert confirmer.plan(200.0, set()) == []
    assert confirmer.next_s(set()) == float("inf")


def test_certificate_goes_along_once_and_when_it_is_wanted() -> None:
    confirmer = Confirmer()
    seen = []
    for at, wants in ((100.0, False), (101.0, False), (102.0, True), (103.0, False)):
        touch(confirmer, at, wants_cert=wants)
        seen.append(confirmer.plan(at, UP)[0].with_cert)
        settle(confirmer, at)
    assert seen == [True, False, True, False]


def test_gateway_that_could_not_read_the_last_confirmation_hears_of_everything() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, epoch="before")
    settle(confirmer, 100.0)
    touch(confirmer, 101.0, epoch="after", wants_cert=True)
    plan = confirmer.plan(101.0, UP)[0]
    assert (plan.whole, plan.with_cert) == (True, True)


def test_gateway_that_started_again_gets_the_certificate_in_its_own_time() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0)
    settle(confirmer, 100.0)
    touch(confirmer, 101.0, within_s=60, introduces=True)
    assert confirmer.plan(102.0, UP) == []
    assert confirmer.plan(161.0, UP)[0].with_cert


def test_gateway_that_knows_other_books_hears_of_everything() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, knows_us=False)
    assert confirmer.plan(100.0, UP)[0].whole
    settle(confirmer, 100.0)
    touch(confirmer, 101.0)
    assert not confirmer.plan(101.0, UP)[0].whole


def test_after_a_restore_every_gateway_hears_of_everything() -> None:
    confirmer = Confirmer()
    for gateway in ("a", "b"):
        touch(confirmer, 100.0, gateway=gateway)
    settle(confirmer, 100.0)
    confirmer.everybody(105.0)
    assert {(plan.gateway, plan.whole) for plan in confirmer.plan(105.0, UP)} == {("a", True), ("b", True)}


def test_many_epochs_are_told_in_turns() -> None:
    confirmer = Confirmer()
    for number in range(EPOCHS_IN_ONE + 5):
        touch(confirmer, 100.0, epoch=f"e{number}")
    first = confirmer.plan(100.0, UP)[0].epochs
    settle(confirmer, 100.0)
    second = confirmer.plan(101.0, UP)[0].epochs
    settle(confirmer, 101.0)
    assert (len(first), len(second)) == (EPOCHS_IN_ONE, 5)
    assert not set(first) & set(second)
    assert confirmer.plan(102.0, UP) == []


def test_epochs_that_wait_are_bounded() -> None:
    confirmer = Confirmer()
    for number in range(EPOCHS_WAITING + 10):
        touch(confirmer, 100.0, epoch=f"e{number}")
    assert confirmer.dropped == 10


def test_confirmation_that_did_not_go_is_owed_again() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, knows_us=False)
    plan = confirmer.plan(100.0, UP)[0]
    confirmer.sent(plan, 100.0)
    confirmer.unsent(plan, 100.0)
    again = confirmer.plan(101.0, UP)[0]
    assert (again.epochs, again.whole, again.with_cert) == (("e",), True, True)


def test_flush_plans_all_that_is_owed() -> None:
    confirmer = Confirmer()
    touch(confirmer, 100.0, within_s=600)
    assert len(confirmer.plan(100.0, UP, flush=True)) == 1


def test_questions_are_spaced_and_put_once() -> None:
    confirmer = Confirmer()
    confirmer.ask("gw", 0, "hash-1", False, "")
    confirmer.ask("gw", 0, "hash-2", True, "")
    first = confirmer.questions(100.0, UP)
    assert [(one.manifests, one.want_cert) for one in first] == [(("hash-1", "hash-2"), True)]
    confirmer.ask("gw", 0, "hash-1", False, "")
    assert confirmer.questions(101.0, UP) == []
    assert len(confirmer.questions(100.0 + ASK_SPACING_S, UP)) == 1


def test_refusal_is_told_seldom() -> None:
    confirmer = Confirmer()
    for at, told in ((100.0, 1), (101.0, 0), (100.0 + TELL_SPACING_S, 1)):
        confirmer.ask("gw", 0, "", False, "bad-row: why")
        assert len(confirmer.questions(at, UP)) == told


def test_question_for_a_certificate_falls_away_when_it_came() -> None:
    confirmer = Confirmer()
    confirmer.ask("gw", 0, "", True, "")
    touch(confirmer, 100.0)
    assert confirmer.questions(100.0, UP) == []


def test_strangers_and_their_questions_are_bounded() -> None:
    confirmer = Confirmer()
    for number in range(STRANGERS + 50):
        confirmer.ask(f"gw-{number}", 0, "", True, "")
    assert len(confirmer.questions(100.0, UP)) == ASKS_IN_ONE_GO
    total = ASKS_IN_ONE_GO
    while asked := len(confirmer.questions(100.0, UP)):
        total += asked
    assert total == STRANGERS


def test_long_ranges_are_cut_to_a_part_of_what_is_held() -> None:
    held = RangeSet((n * 10, n * 10 + 3) for n in range(1, 500))
    part = cut(held)
    assert len(part) == RANGES_IN_ONE
    assert all(held.covers(first, last) for first, last in part)
    assert (part[0], part[-1]) == ((10, 13), (4990, 4993))
