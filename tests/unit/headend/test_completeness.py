"""Every tick is a row, or in a gap, or unreported; every sequence is covered, lost, or a hole."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from certs.signing import TrustedSigners
from core.records import Gap, Record
from headend.arrival import Stored, store
from headend.books import Books
from headend.completeness import completeness
from headend.intake import Accepted, Intake
from tests.support.gateway_double import ENTITY, EVERY_MS, T0, GatewayDouble, Keys, group

NOW = T0 + 60_000
Take = Callable[..., list[Stored]]


def gap(seq: int, first: int, last: int, reason: str = "crashed") -> Gap:
    """A gap over the ticks numbered first..last from T0."""
    return Gap(
        seq=seq,
        group=1,
        first_tick=T0 + first * EVERY_MS,
        last_tick=T0 + last * EVERY_MS,
        ticks=last - first + 1,
        reason=reason,
    )


def test_rows_without_a_break_are_complete(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=12))
    found = completeness(books.connection)
    one = found.groups[0]
    assert (one.due, one.with_row, one.in_gaps, one.unreported, one.percent) == (10, 10, 0, 0, 100.0)
    assert (one.first_tick, one.last_tick) == (T0, T0 + 9 * EVERY_MS)
    assert found.holds


def test_tick_that_is_neither_row_nor_gap_is_unreported(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    late = double.row(6, T0 + 6 * EVERY_MS)
    take(double.hello(last=5), double.sealed(6, 6, [late]))
    found = completeness(books.connection)
    assert found.groups[0].unreported == 3
    assert found.groups[0].unreported_ticks == [(T0 + 3 * EVERY_MS, T0 + 5 * EVERY_MS)]
    assert not found.holds


def test_gap_accounts_for_its_ticks(books: Books, take: Take, double: GatewayDouble) -> None:
    late = double.row(7, T0 + 6 * EVERY_MS)
    take(double.hello(last=5), double.sealed(6, 7, [late], [gap(6, 3, 5)]))
    one = completeness(books.connection).groups[0]
    assert (one.due, one.with_row, one.in_gaps, one.unreported) == (7, 4, 3, 0)
    assert one.reasons == {"crashed": 3}


def test_reasons_shown_add_up_to_the_ticks_in_gaps(books: Books, take: Take, double: GatewayDouble) -> None:
    late = double.row(8, T0 + 8 * EVERY_MS)
    take(double.hello(last=5), double.sealed(6, 8, [late], [gap(6, 0, 7, "store-lost"), gap(7, 3, 4)]))
    one = completeness(books.connection).groups[0]
    assert (one.with_row, one.in_gaps, one.reasons) == (4, 5, {"store-lost": 8, "crashed": 2})
    assert one.told == {"crashed": 2, "store-lost": 3}


def both(keys: Keys) -> GatewayDouble:
    """A gateway with two groups, one a device."""
    return GatewayDouble(keys.stream(), groups=(group(), group(2, "second")))


def test_group_that_ends_well_before_its_gateway_is_open_and_lacks_nothing(
    books: Books, take: Take, keys: Keys
) -> None:
    double = both(keys)
    rows = [double.row(seq, T0 + seq * EVERY_MS, number=2) for seq in range(6, 60)]
    take(double.hello(last=5), double.sealed(6, 59, rows))
    for device in ("", "meter"):  # also where the other device is not asked for
        found = completeness(books.connection, device=device)
        one = found.groups[0]
        assert (one.open_since, one.unreported, found.holds) == (T0 + 3 * EVERY_MS, 0, True)
        assert found.up_to == T0 + 2 * EVERY_MS
    assert completeness(books.connection, device="second").groups[0].open_since is None


def test_gap_ends_what_was_open(books: Books, take: Take, keys: Keys) -> None:
    double = both(keys)
    rows = [double.row(seq, T0 + seq * EVERY_MS, number=2) for seq in range(6, 60)]
    take(double.hello(last=5), double.sealed(6, 60, rows, [gap(60, 3, 59, "no-answer")]))
    found = completeness(books.connection)
    assert [one.open_since for one in found.groups] == [None, None]
    assert found.up_to == T0 + 59 * EVERY_MS


def test_group_whose_interval_is_long_is_not_open(books: Books, take: Take, keys: Keys) -> None:
    import msgspec

    slow = msgspec.structs.replace(group(2, "slow"), every_ms=60 * EVERY_MS, phase_ms=T0 % (60 * EVERY_MS))
    double = GatewayDouble(keys.stream(), groups=(group(), slow))
    rows = [double.row(3, T0, number=2), *(double.row(seq, T0 + seq * EVERY_MS) for seq in range(4, 150))]
    take(double.sealed(1, 149, rows, [double.start(), double.manifest_record()], cert=True))
    assert [one.open_since for one in completeness(books.connection).groups] == [None, None]


def test_device_that_was_taken_off_the_gateway_is_not_open(books: Books, take: Take, keys: Keys) -> None:
    old = GatewayDouble(keys.stream(), groups=(group(), group(2, "second")))
    take(old.sealed(1, 3, [old.row(3, T0, number=2)], [old.start(), old.manifest_record()], cert=True))
    new = GatewayDouble(keys.stream())
    records: list[Record] = [new.start(at=T0 + 9000, ended="stop"), new.manifest_record()]
    take(new.sealed(1, 60, new.rows(3, 60), records, cert=True))
    found = completeness(books.connection)
    assert [(one.device, one.goes_on, one.open_since) for one in found.groups] == [
        ("meter", True, None),
        ("second", False, None),
    ]
    assert found.up_to == T0 + 57 * EVERY_MS


def test_gap_over_ticks_that_have_rows_takes_nothing_away(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello(last=5), double.sealed(6, 6, [], [gap(6, 0, 3, "store-lost")]))
    one = completeness(books.connection).groups[0]
    assert (one.due, one.with_row, one.in_gaps, one.unreported) == (4, 3, 1, 0)


def test_group_goes_on_under_a_new_manifest(books: Books, take: Take, keys: Keys) -> None:
    old = GatewayDouble(keys.stream())
    new = GatewayDouble(keys.stream(), groups=(group(), group(2, "second")))
    take(old.hello(last=5))
    records: list[Record] = [new.start(at=T0 + 9000, ended="set-aside"), new.manifest_record()]
    take(new.sealed(1, 4, new.rows(3, 4, T0 + 3 * EVERY_MS), records, cert=True))
    found = completeness(books.connection)
    assert [(one.key, one.due, one.unreported) for one in found.groups] == [("meter/1000/p0", 5, 0)]


def test_tick_that_occurs_twice_is_due_once(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=5), double.sealed(6, 6, [double.row(6, T0)]))
    one = completeness(books.connection).groups[0]
    assert (one.due, one.with_row, one.unreported) == (3, 3, 0)


def test_grid_begins_at_its_phase(books: Books, take: Take, keys: Keys) -> None:
    import msgspec

    shifted = msgspec.structs.replace(group(), phase_ms=250)
    double = GatewayDouble(keys.stream(), groups=(shifted,))
    rows = [double.row(seq, T0 + 250 + seq * EVERY_MS) for seq in (3, 4, 6)]
    take(double.sealed(1, 6, rows, [double.start(), double.manifest_record()], cert=True))
    one = completeness(books.connection).groups[0]
    assert (one.due, one.unreported) == (4, 1)
    assert one.unreported_ticks == [(T0 + 250 + 5 * EVERY_MS, T0 + 250 + 5 * EVERY_MS)]


def test_hole_in_a_running_epoch_is_shown(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=5), double.more(9, 12))
    found = completeness(books.connection)
    assert [(one.holes, one.missing, one.closed) for one in found.epochs] == [([(6, 8)], 3, False)]
    assert not found.holds


def test_gap_of_an_unknown_group_does_not_hold(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.sealed(1, 1, [], [gap(1, 0, 3)], cert=True))
    found = completeness(books.connection)
    assert (found.unresolved_gaps, found.holds) == (1, False)


def test_other_gateways_are_left_out_when_one_is_named(books: Books, take: Take, keys: Keys) -> None:
    other = GatewayDouble(keys.stream("gw-0002"), gateway="gw-0002")
    take(GatewayDouble(keys.stream()).hello(), other.hello())
    found = completeness(books.connection, "gw-0002")
    assert {one.gateway for one in found.groups} == {one.gateway for one in found.epochs} == {"gw-0002"}


@settings(max_examples=30)
@given(
    st.sets(st.integers(0, 40), min_size=1),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=4),
)
def test_tally_agrees_with_counting_tick_by_tick(
    keys: Keys, rows: set[int], gaps: list[tuple[int, int]]
) -> None:
    double = GatewayDouble(keys.stream())
    order = sorted(rows, key=lambda tick: (tick * 7) % 13)
    content = [double.row(3 + n, T0 + tick * EVERY_MS) for n, tick in enumerate(order)]
    begin = 3 + len(content)
    records: list[Record] = [gap(begin + n, tick, tick + more) for n, (tick, more) in enumerate(gaps)]
    with TemporaryDirectory() as directory:
        books = Books(Path(directory) / "books.db", NOW)
        intake = Intake(ENTITY, TrustedSigners(keys.ca), books)
        first: list[Record] = [double.start(), double.manifest_record()]
        verdict = intake.judge(
            *double.sealed(1, begin + len(gaps), content, [*first, *records], cert=True), NOW
        )
        assert isinstance(verdict, Accepted)
        with books.transaction(NOW):
            store(books, verdict)
        one = completeness(books.connection).groups[0]
        books.close()
    excused = {tick + n for tick, more in gaps for n in range(more + 1)}
    known = rows | excused
    due = range(min(known), max(known) + 1)
    assert one.due == len(due)
    assert one.with_row == len(rows)
    assert one.in_gaps == len(excused - rows)
    assert one.unreported == len([tick for tick in due if tick not in known])
