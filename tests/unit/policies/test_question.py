"""What is worked out once for all conditions, at its edges: instants, how far a control reaches, who owns."""

import pytest

from policies.forms import LAST_MS
from policies.grant import Grant
from policies.question import Question, local_text
from policies.when import Span, local_time
from tests.unit.policies.made import (
    GRANT,
    HEATER,
    LIMITING,
    NOW_MS,
    H,
    S,
    Table,
    ask,
    assignment,
    at,
    book,
    command,
    facts,
    instant_text,
    limiting,
    moment,
)


@pytest.mark.parametrize(
    ("now_ms", "known"), [(-1, None), (0, 0), (LAST_MS - 1, LAST_MS - 1), (LAST_MS, None)]
)
def test_an_instant_outside_of_the_calendar_is_none(now_ms: int, known: int | None) -> None:
    assert Question(command(), book(), moment(now_ms)).now_ms == known


def test_a_control_that_ended_before_it_began_reaches_over_an_instant() -> None:
    late = Question(command(start=instant_text(NOW_MS)), book(), moment(NOW_MS + 2 * H))
    found = late.extent()
    assert found is not None
    assert found.span == Span(NOW_MS + 2 * H, NOW_MS + 2 * H + 1)


def test_without_a_duration_a_control_lasts_no_longer_than_the_device_holds_it() -> None:
    for asked in (command(duration=None), limiting(duration=None)):
        found = Question(asked, book(), facts()).extent()
        assert found is not None
        assert (found.span, found.longest_s) == (Span(NOW_MS, NOW_MS + 1), 0)
    assert Question(limiting(), book(), facts()).held_s() == 0


def test_random_times_and_a_late_begin_lengthen_what_a_control_may_reach() -> None:
    grant = Grant.model_validate(GRANT | {"randomise": {"start": "5min", "end": "10min"}})
    found = Question(command(), book(), moment(NOW_MS)).extent(grant)
    assert found is not None
    assert found.span == Span(NOW_MS, NOW_MS + H + 900 * S)
    assert found.longest_s == 3600 + 600


def owned(*terms: Table) -> Question:
    """Return the question about a heater that is owned so."""
    device = HEATER | {"ownership": list(terms)}
    return Question(command(), book(site=assignment("g", devices=(device,))), facts())


def test_owners_are_known_in_whatever_order_their_terms_stand() -> None:
    first = {"owners": ["customer-17"], "valid": {"until": "2026-11-24T15:30:00Z"}}
    then = {"owners": ["customer-18"], "valid": {"from": "2026-11-24T15:30:00Z"}}
    span = Span(NOW_MS, NOW_MS + H)
    half = at("2026-11-24T15:30:00Z")
    wanted = [("customer-17", Span(NOW_MS, half)), ("customer-18", Span(half, NOW_MS + H))]
    assert owned(first, then).owners(span) == owned(then, first).owners(span) == wanted


def test_an_open_term_begins_before_everything() -> None:
    terms = owned({"owners": ["customer-17"]}).terms(Span(0, 10))
    assert terms is not None
    assert len(terms) == 1


def test_a_consent_is_asked_for_as_long_as_its_owner_owns_and_no_longer() -> None:
    half = "2026-11-24T15:30:00Z"
    moved = HEATER | {
        "ownership": [
            {"owners": ["customer-17"], "valid": {"until": half}},
            {"owners": ["customer-18"], "valid": {"from": half}},
        ]
    }
    plain = {"grant": "g", "revision": 1, "evidence": "form 1"}
    consents = (
        plain | {"owner": "customer-17", "valid": {"until": half}},
        plain | {"owner": "customer-18", "valid": {"from": half}},
    )
    assert ask(book(site=assignment("g", devices=(moved,), consents=consents))).allowed


def test_a_local_time_is_written_with_seconds_where_there_are_some() -> None:
    zone = book(LIMITING).zone
    assert local_text(local_time(NOW_MS, zone)) == "Tue 2026-11-24 10:00 EST"
    assert local_text(local_time(NOW_MS + S, zone)) == "Tue 2026-11-24 10:00:01 EST"
