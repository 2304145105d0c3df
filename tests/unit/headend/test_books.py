"""The books as a file: shared by processes, rolled back, put back to an older state, replaced."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from certs.signing import TrustedSigners
from core.errors import ConfigError, StoreCorrupt, StoreFull, StoreTooNew
from core.ids import books_born_ms, new_books_id
from headend.arrival import Stored, store
from headend.books import Books
from headend.identity import HISTORY
from headend.intake import Accepted, Intake
from headend.ledger import Space
from headend.schema import BooksReplaced, open_reader
from tests.support.gateway_double import ENTITY, T0, GatewayDouble, Keys

NOW = T0 + 60_000
Take = Callable[..., list[Stored]]


def identity(books: Books) -> tuple[str, int]:
    found: tuple[str, int] = books.connection.execute("SELECT id, n FROM books").fetchone()
    return found


def confirm(books: Books, gateway: str = "gw-0001") -> int:
    with books.transaction(NOW):
        return books.next_n(gateway, ENTITY)


def alarms(books: Books) -> list[str]:
    return [code for (code,) in books.connection.execute("SELECT code FROM alarm ORDER BY code")]


def test_new_books_have_an_id_of_their_birth(books: Books) -> None:
    books_id, n = identity(books)
    assert books_born_ms(books_id) == NOW
    assert n == NOW


def test_books_are_durable_by_their_settings(books: Books) -> None:
    assert books.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert books.connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_numbers_grow_over_restarts_and_processes(books: Books, books_path: Path) -> None:
    assert confirm(books) == NOW + 1
    other = Books(books_path, NOW)
    assert confirm(other) == NOW + 2
    assert confirm(books) == NOW + 3
    other.close()
    again = Books(books_path, NOW - 500_000)  # our clock was set back
    assert confirm(again) == NOW + 4
    assert identity(again)[0] == identity(books)[0]
    again.close()
    later = Books(books_path, NOW + 500)
    assert confirm(later) == NOW + 501
    later.close()


def test_two_collectors_on_one_file_refuse_what_the_other_has(
    keys: Keys, books: Books, books_path: Path, double: GatewayDouble
) -> None:
    other = Books(books_path, NOW)
    sides = [(one, Intake(ENTITY, TrustedSigners(keys.ca), one)) for one in (books, other)]
    messages = [double.hello(last=5), *(double.more(n, n + 3) for n in range(6, 40, 2))]
    for turn, message in enumerate(messages):
        for side, intake in (sides[turn % 2], sides[1 - turn % 2]):
            verdict = intake.judge(*message, NOW)
            assert isinstance(verdict, Accepted)
            with side.transaction(NOW):
                store(side, verdict)
    assert books.connection.execute("SELECT count(*) FROM row").fetchone()[0] == 39
    assert books.connection.execute("SELECT count(*) FROM conflict").fetchone()[0] == 0
    for side, _ in sides:
        with side.transaction(NOW):
            assert list(side.held("gw-0001", double.epoch, ENTITY, Space.DATA)) == [(1, 41)]
    other.close()


def test_transaction_that_fails_leaves_nothing_and_can_be_tried_again(
    keys: Keys, books: Books, double: GatewayDouble
) -> None:
    intake = Intake(ENTITY, TrustedSigners(keys.ca), books)
    verdict = intake.judge(*double.hello(last=5), NOW)
    assert isinstance(verdict, Accepted)

    class PulledPlug(Exception):
        pass

    def pull_the_plug() -> None:
        with books.transaction(NOW):
            assert store(books, verdict).readings == 9
            assert books.next_n("gw-0001", ENTITY) == NOW + 1
            raise PulledPlug

    with pytest.raises(PulledPlug):
        pull_the_plug()
    assert books.connection.execute("SELECT count(*) FROM row").fetchone()[0] == 0
    with books.transaction(NOW):
        assert store(books, verdict).readings == 9
        assert books.next_n("gw-0001", ENTITY) == NOW + 1
    counted = books.connection.execute("SELECT n FROM counter WHERE name='readings.stored'").fetchall()
    assert counted == [(9,)]


def test_full_disk_is_a_sentence_and_leaves_nothing(keys: Keys, books: Books, double: GatewayDouble) -> None:
    intake = Intake(ENTITY, TrustedSigners(keys.ca), books)
    verdict = intake.judge(*double.hello(last=400), NOW)
    assert isinstance(verdict, Accepted)
    pages = books.connection.execute("PRAGMA page_count").fetchone()[0]
    books.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull, match="make room"), books.transaction(NOW):
        store(books, verdict)
    books.connection.execute("PRAGMA max_page_count=1000000")
    with books.transaction(NOW):
        assert store(books, verdict).readings == 398 * 3


def test_number_that_was_never_given_means_that_the_books_went_back(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    first, _ = identity(books)
    take(double.hello())
    given = confirm(books)
    double.books, double.n = first, given
    assert not take(double.more(6, 7))[0].renewed
    double.n = given + 1
    assert take(double.more(8, 9))[0].renewed
    second, n = identity(books)
    assert second != first
    assert books_born_ms(second) > books_born_ms(first)
    assert n >= given + 1
    assert alarms(books) == ["books-restored"]
    assert books.connection.execute("SELECT id FROM books_past").fetchall() == [(first,)]


def test_number_given_to_another_gateway_was_not_given_to_this_one(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello())
    for _ in range(5):
        confirm(books, "gw-0002")
    confirm(books)
    double.books, double.n = identity(books)[0], NOW + 7
    assert take(double.more(6, 7))[0].renewed


def test_later_books_id_means_that_the_books_went_back(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    double.books, double.n = new_books_id(NOW + 500), 7
    assert take(double.hello())[0].renewed
    assert books_born_ms(identity(books)[0]) > NOW + 500


def test_earlier_books_id_is_of_books_that_are_gone(books: Books, take: Take, double: GatewayDouble) -> None:
    double.books, double.n = new_books_id(NOW - 500), 700
    assert not take(double.hello())[0].renewed
    assert alarms(books) == []


def test_books_id_of_the_far_future_changes_nothing(books: Books, take: Take, double: GatewayDouble) -> None:
    before = identity(books)
    double.books, double.n = new_books_id(NOW + 10 * 86_400_000), 1
    assert not take(double.hello())[0].renewed
    assert identity(books) == before
    assert alarms(books) == ["books-id-ahead"]


def test_one_gateway_cannot_renew_the_books_without_end(
    keys: Keys, books: Books, double: GatewayDouble
) -> None:
    double.books, double.n = identity(books)[0], 99
    verdict = Intake(ENTITY, TrustedSigners(keys.ca), books).judge(*double.hello(), NOW)
    assert isinstance(verdict, Accepted)
    before = identity(books)[0]
    with books.transaction(NOW):
        assert not store(books, verdict, may_renew=False).renewed
    assert identity(books)[0] == before
    assert alarms(books) == ["books-restored"]


def took(keys: Keys, books: Books, message: tuple[str, bytes]) -> Stored:
    verdict = Intake(ENTITY, TrustedSigners(keys.ca), books).judge(*message, NOW)
    assert isinstance(verdict, Accepted)
    with books.transaction(NOW):
        return store(books, verdict)


def lives_of_restored_books(keys: Keys, path: Path, double: GatewayDouble) -> Books:
    """Books of which a copy was made, that went on, and were put back to the copy."""
    books = Books(path, NOW)
    took(keys, books, double.hello())
    double.books, double.n = identity(books)[0], confirm(books)
    books.close()
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    books = Books(path, NOW + 1000)
    took(keys, books, double.more(6, 9))
    double.n = confirm(books)
    books.close()
    shutil.copy(copy, path)
    return Books(path, NOW + 2000)


def test_older_copy_put_back_is_betrayed_by_the_mark_beside_it(
    keys: Keys, books_path: Path, double: GatewayDouble
) -> None:
    books = lives_of_restored_books(keys, books_path, double)
    assert identity(books)[0] > double.books
    assert alarms(books) == ["books-restored"]
    # What the copy lacks comes again, and is taken.
    assert took(keys, books, double.more(6, 9)).readings == 12
    books.close()
    # The mark is now that of the new id: opening them again is no restore.
    again = Books(books_path, NOW + 3000)
    assert again.connection.execute("SELECT count(*) FROM books_past").fetchone() == (1,)
    again.close()


def test_older_copy_without_a_mark_is_betrayed_by_the_gateway_even_after_a_confirmation(
    keys: Keys, books_path: Path, double: GatewayDouble
) -> None:
    mark = books_path.with_name(f"{books_path.name}.mark")
    books = lives_of_restored_books(keys, books_path, double)
    books.close()
    shutil.copy(books_path.with_suffix(".copy"), books_path)
    mark.unlink()
    books = Books(books_path, NOW + 4000)
    assert identity(books)[0] == double.books
    confirm(books)  # its number is above the one that the gateway took of the lost state
    assert took(keys, books, double.more(10, 12)).renewed
    books.close()


def test_number_given_in_any_life_of_the_same_books_is_no_sign(
    keys: Keys, books_path: Path, double: GatewayDouble
) -> None:
    for life in range(4):
        books = Books(books_path, NOW + 1000 * life)
        if life == 0:
            took(keys, books, double.hello(last=5))
            double.books, double.n = identity(books)[0], confirm(books)
        confirm(books)
        assert not took(keys, books, double.more(6 + life, 6 + life)).renewed
        books.close()


def test_number_given_long_ago_is_no_sign(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello())
    double.books, double.n = identity(books)[0], confirm(books)
    for _ in range(HISTORY + 5):
        confirm(books)
    assert not take(double.more(6, 7))[0].renewed
    assert books.connection.execute("SELECT count(*) FROM given").fetchone() == (HISTORY,)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64, b"0000000000000-00000000 5"])
def test_mark_that_says_nothing_later_changes_nothing(books: Books, books_path: Path, content: bytes) -> None:
    before = identity(books)[0]
    books_path.with_name(f"{books_path.name}.mark").write_bytes(content)
    again = Books(books_path, NOW)
    assert identity(again)[0] == before
    again.close()


def test_file_replaced_under_the_collector_is_noticed(books: Books, books_path: Path) -> None:
    copy = books_path.with_suffix(".copy")
    shutil.copy(books_path, copy)
    os.replace(copy, books_path)
    with pytest.raises(BooksReplaced), books.transaction(NOW):
        pass


def test_file_that_is_gone_is_noticed(books: Books, books_path: Path) -> None:
    books_path.unlink()
    with pytest.raises(BooksReplaced), books.transaction(NOW):
        pass


def test_damaged_file_is_a_sentence(books_path: Path) -> None:
    books_path.write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    with pytest.raises(StoreCorrupt, match="backup"):
        Books(books_path, NOW)


def test_file_of_a_later_version_is_refused(books_path: Path) -> None:
    Books(books_path, NOW).close()
    with sqlite3.connect(books_path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreTooNew):
        Books(books_path, NOW)


def test_other_database_is_refused(books_path: Path) -> None:
    with sqlite3.connect(books_path) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(ConfigError, match="no books"):
        Books(books_path, NOW)


def test_reader_of_no_books_is_told(books_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no books"):
        open_reader(books_path)
    assert not books_path.exists()
