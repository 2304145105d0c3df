"""What arrives is in the books once, in any order, doubled and split as it may be; nothing is overwritten."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.signing import TrustedSigners
from core.ranges import RangeSet
from core.records import Alarm, Gap
from core.topics import Lane
from headend.arrival import Stored, store
from headend.books import Books
from headend.intake import Accepted, Intake
from headend.ledger import Space
from headend.verify import verify
from tests.support.gateway_double import ENTITY, EVERY_MS, T0, GatewayDouble, Keys, group, owned

NOW = T0 + 60_000
LAST = 40
Take = Callable[..., list[Stored]]


def counts(books: Books) -> dict[str, int]:
    return dict(books.connection.execute("SELECT name, sum(n) FROM counter GROUP BY name").fetchall())


def alarms(books: Books) -> dict[str, int]:
    return dict(books.connection.execute("SELECT code, sum(count) FROM alarm GROUP BY code").fetchall())


spans = st.tuples(st.integers(1, LAST), st.integers(0, 12)).map(lambda s: (s[0], min(LAST, s[0] + s[1])))


@settings(max_examples=40)
@given(st.lists(st.lists(spans, max_size=4), max_size=12), st.booleans())
def test_any_order_doubling_and_splitting_leaves_each_row_once(
    keys: Keys, batches: list[list[tuple[int, int]]], reopen: bool
) -> None:
    double = GatewayDouble(keys.stream())
    with TemporaryDirectory() as directory:
        path = Path(directory) / "books.db"
        books = Books(path, NOW)
        intake = Intake(ENTITY, TrustedSigners(keys.ca), books)
        assert isinstance(intake.judge(*double.hello(), NOW), Accepted)  # its key and manifest are known
        sent = RangeSet()
        readings = redelivered = 0
        for batch in [*batches, [(1, LAST)]]:
            verdicts = []
            for first, last in batch:
                rows = [double.row(seq, T0 + seq * EVERY_MS) for seq in range(first, last + 1) if seq % 5]
                verdict = intake.judge(*double.sealed(first, last, rows), NOW)
                assert isinstance(verdict, Accepted)
                verdicts.append(verdict)
                fresh = [seq for seq in range(first, last + 1) if seq % 5 and seq not in sent]
                readings += 3 * len(fresh)
                redelivered += 3 * (len(rows) - len(fresh))
                sent.add(first, last)
            with books.transaction(NOW):
                for verdict in verdicts:
                    store(books, verdict)
                # What would be confirmed in this transaction is exactly what arrived.
                assert books.held(double.gateway, double.epoch, ENTITY, Space.DATA) == sent
            if reopen:
                books.close()
                books = Books(path, NOW)
                intake = Intake(ENTITY, TrustedSigners(keys.ca), books)
                intake.judge(*double.hello(), NOW)
        stored = books.connection.execute("SELECT seq, tick, body FROM row ORDER BY seq").fetchall()
        assert [seq for seq, _, _ in stored] == [seq for seq in range(1, LAST + 1) if seq % 5]
        assert all(tick == T0 + seq * EVERY_MS for seq, tick, _ in stored)
        assert [json.loads(body)[1][0] for _, _, body in stored] == [seq * 10 for seq, _, _ in stored]
        assert counts(books).get("readings.stored", 0) == readings
        assert counts(books).get("readings.redelivered", 0) == redelivered
        assert books.connection.execute("SELECT count(*) FROM conflict").fetchone()[0] == 0
        assert list(verify(books.connection)) == []
        books.close()


def test_redelivered_readings_are_counted_and_not_stored(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello(last=5))
    again = take(double.hello(last=5))[0]
    assert (again.readings, again.redelivered, again.conflicts) == (0, 9, 0)
    assert counts(books)["readings.redelivered"] == 9


def test_of_a_partly_known_message_the_new_part_is_stored(take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=5))
    assert (lambda one: (one.readings, one.redelivered))(take(double.more(4, 8))[0]) == (9, 6)


def test_other_content_under_a_known_identity_is_kept_beside_the_first(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello(last=5))
    forged = double.sealed(5, 6, [double.row(5, T0 + 2000, [7, 7, 7]), double.row(6, T0 + 3000)])
    assert take(forged)[0].conflicts == 1
    assert take(forged)[0].conflicts == 1
    kept = books.connection.execute("SELECT seq, arrived, stored, arrivals FROM conflict").fetchall()
    assert len(kept) == 1
    seq, arrived, stored, arrivals = kept[0]
    assert (seq, arrivals) == (5, 2)
    assert json.loads(arrived)[2] == [[5], [7, 7, 7]]
    assert json.loads(stored)[2] == [[5], [50, 51, 52]]
    first = books.connection.execute("SELECT body FROM row WHERE seq=5").fetchone()[0]
    assert json.loads(first)[1] == [50, 51, 52]
    assert alarms(books)["conflicting-content"] == 2
    assert books.connection.execute("SELECT count(*) FROM row").fetchone()[0] == 4


def test_other_tick_under_a_known_identity_is_a_conflict(take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=5))
    assert take(double.sealed(5, 5, [double.row(5, T0 + 9000)]))[0].conflicts == 1


def test_content_where_coverage_said_there_was_none_is_a_conflict(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello(last=5), double.sealed(6, 6))
    assert take(double.more(6, 6))[0].conflicts == 1
    assert books.connection.execute("SELECT stored FROM conflict").fetchone()[0] is None


def test_other_record_under_a_known_identity_is_a_conflict(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    gap = Gap(seq=6, group=1, first_tick=T0, last_tick=T0, ticks=1, reason="overrun")
    other = Gap(seq=6, group=1, first_tick=T0, last_tick=T0, ticks=1, reason="stopped")
    take(double.hello(last=5), double.sealed(6, 6, [], [gap]))
    assert take(double.sealed(6, 6, [], [gap]))[0].conflicts == 0
    assert take(double.sealed(6, 6, [], [other]))[0].conflicts == 1
    assert books.connection.execute("SELECT reason FROM gap").fetchall() == [("overrun",)]


def test_row_read_by_two_entities_of_one_head_end_is_stored_once(keys: Keys, books: Books) -> None:
    joint = (owned(ENTITY, "customer"),)
    one = GatewayDouble(keys.stream(), groups=(group(owners=joint),))
    two = GatewayDouble(keys.stream(), groups=(group(owners=joint),), entity="customer", epoch=one.epoch)
    for double, entity in ((one, ENTITY), (two, "customer")):
        intake = Intake(entity, TrustedSigners(keys.ca), books)
        verdict = intake.judge(*double.hello(last=5), NOW)
        assert isinstance(verdict, Accepted)
        with books.transaction(NOW):
            assert store(books, verdict).conflicts == 0
    assert books.connection.execute("SELECT count(*) FROM row").fetchone()[0] == 3
    assert books.connection.execute("SELECT count(*) FROM coverage").fetchone()[0] == 2


def test_control_and_data_have_sequences_of_their_own(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    alarm = Alarm(seq=1, at=T0, code="door", raised=True, text="open", device="box")
    take(double.hello(last=5), double.sealed(1, 1, [], [alarm], lane=Lane.CONTROL))
    with books.transaction(NOW):
        assert list(books.held(double.gateway, double.epoch, ENTITY, Space.CONTROL)) == [(1, 1)]
    seen = books.connection.execute("SELECT code, raised, text, device FROM gateway_alarm").fetchall()
    assert seen == [("door", 1, "open", "box")]


def test_gap_that_came_before_its_manifest_finds_its_group_later(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    gap = Gap(seq=3, group=1, first_tick=T0, last_tick=T0, ticks=1, reason="crashed")
    take(double.sealed(3, 3, [], [gap], cert=True))
    assert books.connection.execute("SELECT grp_no FROM gap").fetchone() == (None,)
    take(double.sealed(1, 2, [], [double.start(), double.manifest_record()]))
    found = books.connection.execute("SELECT key FROM gap JOIN grp ON grp.no = grp_no").fetchall()
    assert found == [("meter/1000/p0",)]


def test_sequences_that_the_quota_took_count_as_lost_and_not_as_holes(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    gone = Gap(
        seq=9,
        group=0,
        first_tick=0,
        last_tick=0,
        ticks=0,
        reason="quota",
        epoch=double.epoch,
        dropped=[(6, 8)],
    )
    take(double.hello(last=5), double.sealed(9, 9, [], [gone]))
    assert books.connection.execute("SELECT lost FROM epoch").fetchone() == ("[[6,8]]",)
    assert books.connection.execute("SELECT count(*) FROM gap").fetchone() == (0,)


def test_certificate_is_kept_for_old_signatures(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello())
    kept = books.connection.execute("SELECT kid, subject, role, der FROM certificate").fetchall()
    assert kept == [(double.key.kid.hex(), "gw-0001", "stream", double.key.certificate_der)]


def test_tick_far_ahead_of_our_clock_is_taken_with_an_alarm(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello(last=5), double.sealed(6, 6, [double.row(6, T0 + 365 * 86_400_000)]))
    assert books.connection.execute("SELECT count(*) FROM row").fetchone() == (4,)
    assert "impossible-time" in alarms(books)


@pytest.mark.parametrize("table", ["row", "record"])
def test_what_is_stored_cannot_be_changed(
    books: Books, take: Take, double: GatewayDouble, table: str
) -> None:
    take(double.hello())
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        books.connection.execute(f"UPDATE {table} SET body = '[]'")
