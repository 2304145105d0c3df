"""A new epoch closes those before it, and betrays stores that went back and boxes with one id."""

from collections.abc import Callable

from core.records import Before
from headend.arrival import Stored
from headend.books import Books
from headend.completeness import completeness
from tests.support.gateway_double import T0, GatewayDouble, Keys

NOW = T0 + 60_000
LATER = T0 + 30_000
Take = Callable[..., list[Stored]]


def alarms(books: Books) -> list[str]:
    return [code for (code,) in books.connection.execute("SELECT code FROM alarm ORDER BY code")]


def hello_after(keys: Keys, old: GatewayDouble, last: int, **more: object) -> tuple[str, bytes]:
    new = GatewayDouble(keys.stream())
    before = [Before(epoch=old.epoch, last=last, **more)]  # type: ignore[arg-type]
    return new.sealed(
        1, 2, [], [new.start(at=LATER, ended="crash", before=before), new.manifest_record()], cert=True
    )


def test_start_record_is_entered(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello())
    found = books.connection.execute("SELECT started_ms, ended, boot, clock, software FROM epoch").fetchall()
    assert found == [(T0, "first", "boot", "synchronised", "test")]


def test_closed_epoch_that_is_covered_is_whole(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=9), hello_after(keys, double, 9))
    data = [one for one in completeness(books.connection).epochs if one.epoch == double.epoch]
    assert [(one.space.value, one.closed, one.whole, one.last) for one in data] == [("data", True, True, 9)]
    assert alarms(books) == []


def test_end_of_a_closed_epoch_that_did_not_arrive_is_a_hole(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=9), hello_after(keys, double, 20))
    data = next(one for one in completeness(books.connection).epochs if one.epoch == double.epoch)
    assert (data.missing, data.holes) == (11, [(10, 20)])
    take(double.more(10, 20))
    assert completeness(books.connection).holds
    assert alarms(books) == []


def test_what_the_gateway_lost_is_no_hole(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=9), hello_after(keys, double, 20, lost=[(10, 20)]))
    data = next(one for one in completeness(books.connection).epochs if one.epoch == double.epoch)
    assert (data.missing, data.lost, data.whole) == (0, 11, True)


def test_epoch_never_heard_of_but_named_is_all_hole(books: Books, take: Take, keys: Keys) -> None:
    never = GatewayDouble(keys.stream())
    take(hello_after(keys, never, 7))
    data = next(one for one in completeness(books.connection).epochs if one.epoch == never.epoch)
    assert data.holes == [(1, 7)]


def test_store_that_went_back_is_an_alarm_and_all_is_kept(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=9), hello_after(keys, double, 6))
    assert alarms(books) == ["store-restored"]
    assert books.connection.execute("SELECT max(seq) FROM row").fetchone() == (9,)


def test_running_epoch_unknown_to_the_next_start_is_an_alarm(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    new = GatewayDouble(keys.stream())
    take(double.hello(last=9), new.hello(at=LATER, ended="restored"))
    assert alarms(books) == ["store-restored"]


def test_store_set_aside_knows_nothing_before_it(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    new = GatewayDouble(keys.stream())
    take(double.hello(last=9), new.hello(at=LATER, ended="set-aside"))
    assert alarms(books) == []


def test_old_epoch_that_grows_beyond_its_end_is_two_boxes(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=9), hello_after(keys, double, 9))
    take(double.more(10, 12))
    assert alarms(books) == ["two-gateways-one-id"]
    assert books.connection.execute("SELECT max(seq) FROM row").fetchone() == (12,)


def test_backlog_of_a_closed_epoch_is_no_alarm(
    books: Books, take: Take, keys: Keys, double: GatewayDouble
) -> None:
    take(double.hello(last=5), hello_after(keys, double, 12))
    take(double.more(6, 12))
    take(double.more(10, 12))
    assert alarms(books) == []


def test_what_the_store_has_no_more_is_no_hole(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.sealed(1, 2, [], [double.start(), double.manifest_record()], cert=True))
    take(double.sealed(10, 12, double.rows(10, 12), low=8))
    data = completeness(books.connection).epochs[0]
    assert (data.lost, data.holes) == (5, [(8, 9)])
