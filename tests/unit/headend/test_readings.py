"""Readings looked up: exact values, filters, order, owners, usage points and quality as it counts now."""

import itertools
from collections.abc import Callable
from decimal import Decimal

import pytest

from core.errors import ConfigError
from core.manifest import Group, Point, ValueKind
from core.quality import Precedence
from core.records import QualityRecord, Record
from headend.arrival import Stored
from headend.books import Books
from headend.judgement import Judgement, append_judgement
from headend.readings import PIECE_ROWS, Reading, Selection, readings
from headend.terms import UsagePointTerm, add_usage_point
from tests.support.gateway_double import ENTITY, EVERY_MS, T0, GatewayDouble, Keys, group, owned

NOW = T0 + 60_000
Take = Callable[..., list[Stored]]


def found(books: Books, **selection: object) -> list[Reading]:
    return list(readings(books.connection, Selection(**selection)))  # type: ignore[arg-type]


def values(every: list[Reading]) -> list[Decimal | str | bool | None]:
    return [one.value for one in every]


def test_reading_has_all_that_is_known_of_it(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=3))
    one = found(books)[1]
    assert (one.gateway, one.epoch, one.seq, one.index) == ("gw-0001", double.epoch, 3, 1)
    assert (one.device, one.point, one.quantity, one.unit) == ("meter", "p1", "W", "W")
    assert one.value == Decimal("3.1")
    assert (one.tick_ms, one.answered_ms, one.received_ms, one.delay_ms) == (T0, T0 + 5, NOW, 59_995)
    assert (one.owners, one.steward, one.validator) == ((ENTITY,), ENTITY, ENTITY)
    assert (one.quality.code, one.quality.reasons) == ("1.0.0", ())


def test_values_are_exact(books: Books, take: Take, keys: Keys) -> None:
    points = (
        Point("energy", "TotWhImp", "Wh", ValueKind.INTEGER, exp=2),
        Point("big", "Cnt", "1", ValueKind.INTEGER),
        Point("volts", "PhVphA", "V", ValueKind.DECIMAL),
        Point("name", "Nam", "", ValueKind.TEXT),
        Point("on", "On", "", ValueKind.BOOLEAN),
    )
    double = GatewayDouble(keys.stream(), groups=(Group(1, "m", "t", 1000, points, (owned(ENTITY),)),))
    row = double.row(3, T0, [1234567, "18446744073709551615", 230.1, "Zähler", True])
    records: list[Record] = [double.start(), double.manifest_record()]
    take(double.sealed(1, 3, [row], records, cert=True))
    assert [str(value) for value in values(found(books))] == [
        "1.234567E+8", "18446744073709551615", "230.1", "Zähler", "True",
    ]  # fmt: skip


def test_filters_narrow_by_time_device_point_and_gateway(books: Books, take: Take, keys: Keys) -> None:
    two = (group(1, "one", 2), group(2, "two", 2))
    double = GatewayDouble(keys.stream(), groups=two)
    rows = [double.row(seq, T0 + (seq // 2) * EVERY_MS, [seq, -seq], 1 + seq % 2) for seq in range(4, 12)]
    take(double.sealed(1, 11, rows, [double.start(), double.manifest_record()], cert=True))
    assert len(found(books)) == 16
    assert {one.device for one in found(books, device="two")} == {"two"}
    assert {one.point for one in found(books, point="p1")} == {"p1"}
    assert found(books, gateway="gw-0002") == found(books, device="three") == found(books, point="p9") == []
    ticks = {one.tick_ms for one in found(books, from_ms=T0 + 3000, to_ms=T0 + 5000)}
    assert ticks == {T0 + 3000, T0 + 4000}


@pytest.mark.parametrize("newest_first", [False, True])
def test_order_is_by_tick_over_all_series_and_pieces(
    books: Books, take: Take, keys: Keys, newest_first: bool
) -> None:
    double = GatewayDouble(keys.stream(), groups=(group(1, "one", 1), group(2, "two", 1)))
    last = 2 * PIECE_ROWS + 301
    rows = [double.row(seq, T0 + (seq // 2) * EVERY_MS, [seq], 1 + seq % 2) for seq in range(4, last + 1)]
    # The later half first: arrival is not the order.
    take(double.sealed(1, 3, [], [double.start(), double.manifest_record()], cert=True))
    take(double.sealed(600, last, rows[596:]), double.sealed(4, 599, rows[:596]))
    every = list(readings(books.connection, Selection(), newest_first=newest_first))
    ticks = [one.tick_ms for one in every]
    assert ticks == sorted(ticks, reverse=newest_first)
    assert sorted(one.seq for one in every) == list(range(4, last + 1))


def test_tick_that_occurs_twice_is_shown_twice(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=3), double.sealed(4, 5, [double.row(4, T0), double.row(5, T0)]))
    assert [one.seq for one in found(books, point="p0")] == [3, 4, 5]


def test_listing_is_lazy(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(last=900))
    assert len(list(itertools.islice(readings(books.connection, Selection()), 5))) == 5


def test_owner_is_the_one_at_the_tick(books: Books, take: Take, keys: Keys) -> None:
    terms = (
        owned(ENTITY, "ann", end=T0 + EVERY_MS),
        owned(ENTITY, "bob", begin=T0 + EVERY_MS),
    )
    double = GatewayDouble(keys.stream(), groups=(group(points=1, owners=terms),))
    take(double.hello(last=4))
    assert [one.owners for one in found(books)] == [(ENTITY, "ann"), (ENTITY, "bob")]
    assert [one.tick_ms for one in found(books, entity="ann")] == [T0]


def test_change_of_owner_today_leaves_yesterdays_readings_alone(books: Books, take: Take, keys: Keys) -> None:
    old = GatewayDouble(keys.stream(), groups=(group(points=1, owners=(owned(ENTITY, "ann"),)),))
    new = GatewayDouble(keys.stream(), groups=(group(points=1, owners=(owned(ENTITY, "bob"),)),))
    take(old.hello(last=3))
    take(new.sealed(1, 2, [], [new.start(at=T0 + 5000, ended="set-aside"), new.manifest_record()], cert=True))
    take(old.more(4, 4), new.sealed(3, 3, [new.row(3, T0 + 9000)]))
    assert [one.owners[1] for one in found(books)] == ["ann", "ann", "bob"]


def test_replaced_meter_and_gateway_keep_the_series_of_the_usage_point(
    books: Books, take: Take, keys: Keys
) -> None:
    old = GatewayDouble(keys.stream(), groups=(group(points=1, usage_point="up-17"),))
    new = GatewayDouble(
        keys.stream("gw-0002"), gateway="gw-0002", groups=(group(points=1, device="new-meter"),)
    )
    take(old.hello(last=5))
    take(new.sealed(1, 4, new.rows(3, 4, T0 + 10_000), [new.start(), new.manifest_record()], cert=True))
    assert [one.device for one in found(books, usage_point="up-17")] == ["meter"] * 3
    with books.transaction(NOW):
        term = UsagePointTerm("up-17", "gw-0002", "new-meter", T0 + 11_000, None, NOW, "person")
        add_usage_point(books.connection, term)
    series = found(books, usage_point="up-17")
    assert [(one.gateway, one.tick_ms - T0) for one in series] == [
        ("gw-0001", 0), ("gw-0001", 1000), ("gw-0001", 2000), ("gw-0002", 11_000),
    ]  # fmt: skip


def test_usage_point_entered_later_by_a_person_overrules_the_gateways(
    books: Books, take: Take, keys: Keys
) -> None:
    double = GatewayDouble(keys.stream(), groups=(group(points=1, usage_point="up-1"),))
    take(double.hello(last=5))
    with books.transaction(NOW):
        add_usage_point(
            books.connection, UsagePointTerm("up-2", "gw-0001", "meter", T0, T0 + 2000, NOW, "person")
        )
    assert [one.usage_point for one in found(books)] == ["up-2", "up-2", "up-1"]
    assert len(found(books, usage_point="up-1")) == 1


def test_reasons_of_a_row_are_by_point(books: Books, take: Take, double: GatewayDouble) -> None:
    row = b'[4,1,%d,[5],[1,null,3],{"1":["timeout"],"*":["clock-unsure"]}]' % (T0 + 1000)
    take(double.hello(last=3), double.sealed(4, 4, [row]))
    shown = [(one.value, one.quality.code, one.quality.reasons) for one in found(books, from_ms=T0 + 1000)]
    assert shown[0] == (Decimal("0.1"), "2.1.9", ("clock-unsure",))
    assert shown[1] == (None, "2.5.259", ("clock-unsure", "timeout"))


def test_judgement_that_comes_before_its_rows_holds_for_them(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    record = QualityRecord(
        seq=9,
        at=T0,
        epoch=double.epoch,
        first=4,
        last=5,
        group=1,
        reasons=["stale"],
        rule="frozen",
        points=[2],
    )
    take(double.hello(last=3), double.sealed(9, 9, [], [record], manifest=double.manifest.hash()))
    take(double.more(4, 6))
    stale = [(one.seq, one.index) for one in found(books) if one.quality.reasons == ("stale",)]
    assert stale == [(4, 2), (5, 2)]


def judge(books: Books, precedence: Precedence, entity: str, **changes: object) -> None:
    fields: dict[str, object] = {
        "gateway": "gw-0001",
        "device": "meter",
        "point": "p0",
        "from_ms": T0 + 1000,
        "to_ms": T0 + 2000,
        "code": "1.0.0",
        "reason": "",
        "rule": "VEE",
        "entity": entity,
        "who": "ann",
        "precedence": precedence,
    }
    with books.transaction(NOW + 5):
        append_judgement(books, Judgement(**{**fields, **changes}), ENTITY)  # type: ignore[arg-type]


def test_validators_verdict_overrules_the_gateways_for_its_period_and_point(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    bad = [b'[%d,1,%d,[5],[1,2,3],{"*":["stale"]}]' % (seq, T0 + (seq - 3) * 1000) for seq in (3, 4, 5)]
    take(double.sealed(1, 5, bad, [double.start(), double.manifest_record()], cert=True))
    judge(books, Precedence.VALIDATOR, ENTITY)
    valid = [(one.seq, one.point) for one in found(books) if one.quality.code == "1.0.0"]
    assert valid == [(4, "p0")]


def test_only_the_named_validator_and_steward_may_judge(
    books: Books, take: Take, double: GatewayDouble
) -> None:
    take(double.hello())
    for precedence in (Precedence.VALIDATOR, Precedence.STEWARD):
        with pytest.raises(ConfigError, match=r"esco\.example is not the"):
            judge(books, precedence, "esco.example")
    with pytest.raises(ConfigError, match=r"only dso\.example"):
        judge(books, Precedence.HEADEND, "esco.example")
    with pytest.raises(ConfigError, match="in their streams"):
        judge(books, Precedence.GATEWAY, ENTITY)
    assert books.connection.execute("SELECT count(*) FROM quality_entry").fetchone() == (0,)


def test_judgement_is_checked(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello())
    wrong: list[tuple[dict[str, object], str]] = [
        ({"code": "good"}, "needs --reason"),
        ({"code": "", "reason": "odd"}, "closed list"),
        ({"to_ms": T0}, "ends before"),
        ({"device": "toaster"}, "know no"),
        ({"point": "p9"}, "know no"),
    ]
    for changes, fault in wrong:
        with pytest.raises(ConfigError, match=fault):
            judge(books, Precedence.VALIDATOR, ENTITY, **changes)
