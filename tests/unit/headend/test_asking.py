"""What the books know before a gateway is asked: that nobody can answer, or why there may be no answer."""

from collections.abc import Callable

import pytest

from core.ranges import RangeSet
from headend.arrival import Stored
from headend.asking import SILENT_MS, Unanswerable, Wanted, doubts
from headend.books import Books
from headend.epochs import mark_lost
from tests.support.gateway_double import ENTITY, EVERY_MS, T0, GatewayDouble

NOW = T0 + 60_000
Take = Callable[..., list[Stored]]


@pytest.fixture
def asked(books: Books, take: Take, double: GatewayDouble) -> Callable[..., tuple[str, ...]]:
    """The doubts about a question, in books that hold 1..5 and 12 of one epoch of one gateway."""
    take(double.hello(last=5), double.sealed(12, 12, [double.row(12, T0 + 12 * EVERY_MS)]))

    def ask(
        first: int,
        last: int,
        *,
        gateway: str = double.gateway,
        epoch: str = double.epoch,
        entity: str = ENTITY,
        now_ms: int = NOW,
    ) -> tuple[str, ...]:
        return doubts(books.connection, Wanted(gateway, epoch, first, last), entity, now_ms)

    return ask


Ask = Callable[..., tuple[str, ...]]


def test_sequences_that_the_books_lack_leave_no_doubt(asked: Ask) -> None:
    assert asked(6, 9) == ()


@pytest.mark.parametrize(
    ("gateway", "told"), [("gw-0002", "did you mean gw-0001"), ("elsewhere", "they know gw-0001")]
)
def test_gateway_that_the_books_do_not_know_is_not_asked(asked: Ask, gateway: str, told: str) -> None:
    with pytest.raises(Unanswerable, match=f"send .* 6..9 again.*no gateway {gateway}.*{told}"):
        asked(6, 9, gateway=gateway)


def test_empty_books_know_no_gateway(books: Books) -> None:
    with pytest.raises(Unanswerable, match="nor any other"):
        doubts(books.connection, Wanted("gw-0001", "0" * 16, 1, 2), ENTITY, NOW)


def test_epoch_of_another_gateway_is_not_asked_for(
    books: Books, take: Take, asked: Ask, double: GatewayDouble
) -> None:
    with books.transaction(NOW):
        books.seen("gw-0009")
    with pytest.raises(Unanswerable, match=f"is of {double.gateway}, ask that one"):
        asked(6, 9, gateway="gw-0009")


def test_epoch_that_the_books_do_not_know_is_doubtful(asked: Ask) -> None:
    (doubt,) = asked(6, 9, epoch="ab" * 8)
    assert "only if its store has it" in doubt


def test_entity_to_which_nothing_came_is_doubtful(asked: Ask) -> None:
    (doubt,) = asked(6, 9, entity="other.example")
    assert "only if it has a route to it" in doubt


def test_what_is_there_already_is_told(asked: Ask) -> None:
    (doubt,) = asked(4, 9)
    assert "hold 4..5 already" in doubt


def test_what_lies_beyond_all_that_came_is_doubtful(asked: Ask) -> None:
    assert asked(900_000, 900_009) == ("the books know this epoch up to 12: it may have no 900000..900009",)
    (there, beyond) = sorted(asked(12, 14), reverse=True)
    assert "up to 12: it may have no 13..14" in there
    assert "hold 12..12 already" in beyond


def test_gateway_that_was_not_heard_for_long_is_doubtful(asked: Ask) -> None:
    (doubt,) = asked(6, 9, now_ms=NOW + SILENT_MS + 1)
    assert "was heard last at 2026-09-21T" in doubt


def test_what_the_gateway_no_longer_has_is_told_and_asked_for_only_with_more(
    books: Books, asked: Ask, double: GatewayDouble
) -> None:
    with books.transaction(NOW):
        mark_lost(books, double.gateway, double.epoch, RangeSet([(7, 8)]))
        books.connection.execute("UPDATE epoch SET low = 3, closed_last = 20")
    (doubt, there) = asked(6, 30)
    assert "hold 12..12 already" in there
    assert doubt.endswith("no longer has 7..8, 21..30, and the epoch ended with 20")
    for first, last in ((7, 8), (21, 22), (1, 2)):
        with pytest.raises(Unanswerable, match="has none of these"):
            asked(first, last)
