"""Which judgement counts: precedence first, within one the latest; what is later and worse reopens."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.quality import GOOD_CODE, Precedence, code_of
from headend.books import Books
from headend.journal import GOOD, Entry, badness, current, is_code

D, G, H, S, V = Precedence
VALID = "1.0.0"


def entry(precedence: Precedence, at: int, code: str = VALID, *names: str) -> Entry:
    return Entry(code_of(names) if names else code, names, "rule", "who.example", precedence, at)


def test_nothing_said_is_good() -> None:
    assert current([], 5, []) == GOOD
    assert GOOD.code == GOOD_CODE


def test_reasons_in_the_row_and_later_ones_of_the_gateway_add_up() -> None:
    found = current(["clock-unsure"], 5, [entry(G, 9, "", "stale")])
    assert found.reasons == ("clock-unsure", "stale")
    assert found.code == "1.5.258"
    assert found.by is G


@pytest.mark.parametrize(("high", "low"), [(V, S), (V, H), (S, H), (H, G), (V, G)])
def test_higher_precedence_counts_whatever_came_first(high: Precedence, low: Precedence) -> None:
    for first, second in ((1, 2), (2, 1)):
        found = current([], 0, [entry(low, first, "", "stale"), entry(high, second)])
        assert (found.code, found.by) == (VALID, high)


def test_within_one_precedence_the_latest_counts() -> None:
    found = current([], 0, [entry(V, 2, "", "stale"), entry(V, 1)])
    assert found.reasons == ("stale",)


def test_later_and_worse_of_lower_precedence_reopens_and_changes_nothing() -> None:
    found = current([], 0, [entry(V, 1), entry(G, 2, "", "stale")])
    assert (found.code, found.reopened) == (VALID, True)


def test_earlier_or_better_of_lower_precedence_reopens_nothing() -> None:
    assert not current([], 0, [entry(V, 2), entry(G, 1, "", "stale")]).reopened
    assert not current([], 0, [entry(V, 1, "", "stale"), entry(S, 2)]).reopened


def test_row_that_arrives_bad_after_the_verdict_reopens() -> None:
    assert current(["timeout"], 5, [entry(V, 1)]).reopened
    assert not current(["timeout"], 1, [entry(V, 5)]).reopened


entries = st.builds(
    lambda precedence, at, name: entry(precedence, at, VALID, *([name] if name else [])),
    st.sampled_from(Precedence),
    st.integers(0, 20),
    st.sampled_from(["", "stale", "timeout", "clock-unsure"]),
)


@given(st.lists(entries, max_size=6))
def test_order_of_looking_does_not_matter(every: list[Entry]) -> None:
    distinct = list({(one.precedence, one.known_ms): one for one in every}.values())
    shuffled = sorted(distinct, key=lambda one: (one.known_ms, -one.precedence))
    first, second = current([], 0, distinct), current([], 0, shuffled)
    assert (first.code, first.by, first.reopened) == (second.code, second.by, second.reopened)


def test_badness_orders_valid_reasons_and_unknown_codes() -> None:
    assert badness(VALID, []) == 0
    assert badness("", ["timeout"]) > badness("", ["stale"]) > badness("7.7.7", []) > 0
    assert badness("1.5.258", []) == badness("", ["decreased"])


def test_code_has_three_numbers() -> None:
    assert is_code("5.0.0")
    assert not any(is_code(text) for text in ("", "5.0", "a.b.c", "1.0.0.0", "1.0.0 "))


def test_journal_is_appended_to_alone(books: Books) -> None:
    books.connection.execute(
        "INSERT INTO quality_entry VALUES (1,'g','d','',0,1,'',0,0,0,'[]','1.0.0','[]','r','e','w',5,0)"
    )
    for statement in ("UPDATE quality_entry SET code='2.0.0'", "DELETE FROM quality_entry"):
        with pytest.raises(sqlite3.IntegrityError, match="appended"):
            books.connection.execute(statement)
