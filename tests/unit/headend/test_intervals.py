"""Billing intervals from the books, and that the edge makes the same of the same readings."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from typer.testing import CliRunner

from agent.sense import Later, Ticket
from agent.store.look import Look
from agent.store.registers import RegisterLook
from agent.store_cli import app as store_app
from core.codec import row_body, row_bytes
from core.errors import ConfigError
from core.intervals import (
    LENGTHS,
    METER_CHANGE,
    NO_START,
    TRANSFORMER_CHANGE,
    Completeness,
    Interval,
    intervals,
)
from core.manifest import Extra, Group, Manifest, Point, ValueKind
from core.quality import Precedence
from core.records import ManifestRecord, Record
from headend.arrival import Stored
from headend.books import Books
from headend.cli import app as headend_app
from headend.intervals import billing_intervals
from headend.judgement import Judgement, append_judgement
from headend.readings import Selection
from headend.terms import UsagePointTerm, add_usage_point
from tests.support.gateway_double import ENTITY, T0, GatewayDouble, Keys, owned
from tests.unit.agent.store.store_made import birth, opened

NOW = T0 + 60_000
START = 1_790_002_800_000
"""A full hour a little after T0."""
POLL = 10_000
QUARTER = 900_000
MINUTE = 60_000
ACTUAL, PARTIAL, MISSING = Completeness.ACTUAL, Completeness.PARTIAL, Completeness.MISSING
Take = Callable[..., list[Stored]]
Polled = tuple[int, int | None, list[str]]
"""Tick, steps, reasons."""


def meter(
    device: str = "meter", number: int = 1, extra: Extra | None = None, usage_point: str = "", exp: int = -1
) -> Group:
    points = (
        Point("Hz", "Hz", "Hz", ValueKind.INTEGER, exp=-2),
        Point("TotWhImp", "TotWhImp", "Wh", ValueKind.INTEGER, exp=exp, cumulative=True),
    )
    return Group(number, device, "t", POLL, points, (owned(ENTITY),), x=extra or {}, usage_point=usage_point)


def polls(first: int = 0, last: int = 720, steps: int = 7, base: int = 100) -> list[Polled]:
    """A poll each ten seconds from START on, both ends included."""
    return [(START + number * POLL, base + number * steps, []) for number in range(first, last + 1)]


async def stored(
    directory: Path,
    group: Group,
    rows: Iterable[Polled],
    judged: tuple[int, int, str] | None = None,
    born: int = START - 1,
) -> None:
    """Write rows as an agent does; a later judgement covers the rows of two indexes, both included."""
    async with opened(directory, Manifest("gw-0001", (group,)), born=birth(now_ms=born)) as store:
        tickets = []
        for tick, steps, reasons in rows:
            body = row_body(tick, group.group, [5], [5000, steps], {"1": reasons} if reasons else {})
            tickets.append(Ticket())
            assert store.append_row(group.group, tick, 2, body, 0.0, "overrun", tickets[-1])
        if judged is not None:
            first, _, reason = judged
            assert store.append_judgement(1, Later(1, reason, "made", tickets[first]), START)


def sent(directory: Path, keys: Keys, take: Take) -> None:
    """Take everything of a store into the books, as a route would bring it."""
    with Look(directory) as look:
        low, top = look.edges()
        for epoch, after in zip(look.epochs, [*look.epochs[1:], None], strict=True):
            last = top if after is None else after.base
            rows: list[bytes] = []
            records: list[Record] = []
            manifest = None
            for one in look.records(max(low, epoch.base + 1), last):
                if one.grp > 0:
                    rows.append(row_bytes(one.id - epoch.base, one.body))
                elif one.grp == 0:
                    records.append(msgspec.json.decode(one.body, type=Record))
                else:
                    manifest = look.manifests[one.body.decode()]
                    records.append(ManifestRecord(one.id - epoch.base, manifest.hash(), manifest))
            assert manifest is not None
            double = GatewayDouble(keys.stream(), groups=manifest.groups, epoch=epoch.epoch)
            take(double.sealed(1, last - epoch.base, rows, records, cert=True))


def at_the_edge(
    directory: Path, every_ms: int, begin: int | None = None, end: int | None = None
) -> list[Interval]:
    with Look(directory) as look:
        samples = RegisterLook(look, "meter", "TotWhImp").samples(-(1 << 62), 1 << 62)
        return list(intervals(samples, every_ms, begin, end))


def billed(books: Books, every_ms: int, **selection: object) -> list[Interval]:
    chosen = Selection(**{"device": "meter", "point": "TotWhImp", **selection})  # type: ignore[arg-type]
    return list(billing_intervals(books.connection, chosen, every_ms).intervals)


def short(found: list[Interval]) -> list[tuple[int | None, Completeness]]:
    return [(one.steps, one.completeness) for one in found]


async def test_edge_and_headend_agree_on_a_day_with_everything_that_happens(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    rows = polls()
    for number in range(90, 100):
        rows[number] = (rows[number][0], None, ["timeout"])  # the edge at a quarter past is missing
    rows[180] = (rows[180][0], rows[180][1], ["rate"])  # the edge at half past is the next poll
    for number in range(400, 720):
        rows[number] = (rows[number][0], (rows[number][1] or 0) - 2900, ["reset"] if number == 400 else [])
    del rows[500:530]  # nothing at all for five minutes
    await stored(tmp_path / "store", meter(), rows[:650], judged=(600, 649, "frozen"))
    await stored(tmp_path / "store", meter(), rows[650:], born=rows[650][0] - 1)
    sent(tmp_path / "store", keys, take)
    for every_ms in set(LENGTHS.values()):
        edge, head = at_the_edge(tmp_path / "store", every_ms), billed(books, every_ms)
        assert edge == head
        assert len(edge) == 7_200_000 // every_ms
    found = at_the_edge(tmp_path / "store", QUARTER)
    kinds = [one.completeness for one in found]
    assert kinds == [PARTIAL, PARTIAL, ACTUAL, ACTUAL, PARTIAL, ACTUAL, PARTIAL, PARTIAL]
    assert "timeout" in found[1].reasons
    assert "reset" in found[4].reasons
    assert "frozen" in {reason for one in found[6:] for reason in one.reasons}
    bounds = START + 3_600_000, START + 5_400_000
    assert at_the_edge(tmp_path / "store", QUARTER, *bounds) == found[4:6]
    assert billed(books, QUARTER, from_ms=bounds[0], to_ms=bounds[1]) == found[4:6]


async def test_edge_and_headend_agree_on_ticks_that_a_clock_set_back_made_occur_twice(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    again = [(tick, (steps or 0) + 3, ["clock-back"]) for tick, steps, _ in polls(40, 100, base=450)]
    rows = [*polls(0, 100), *again, *polls(101, 200, base=520)]
    await stored(tmp_path / "store", meter(), rows)
    sent(tmp_path / "store", keys, take)
    edge = at_the_edge(tmp_path / "store", QUARTER)
    assert edge == billed(books, QUARTER)
    assert short(edge) == [(630, ACTUAL), (630 + 420, ACTUAL)]
    assert [one.reasons for one in edge] == [("clock-back",), ("clock-back",)]


async def test_sums_are_the_register_difference_and_longer_intervals_the_sum_of_shorter_ones(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    await stored(tmp_path / "store", meter(), polls())
    sent(tmp_path / "store", keys, take)
    for every_ms in set(LENGTHS.values()):
        found = billed(books, every_ms)
        assert {one.completeness for one in found} == {ACTUAL}
        assert sum(one.steps or 0 for one in found) == 720 * 7


async def test_day_on_which_the_clocks_change_has_a_hundred_quarters_here_and_there(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    begin = int(datetime(2026, 10, 25, tzinfo=berlin).timestamp()) * 1000
    end = int(datetime(2026, 10, 26, tzinfo=berlin).timestamp()) * 1000
    rows: list[Polled] = [(tick, (tick - begin) // 1000, []) for tick in range(begin, end + 1, 5 * MINUTE)]
    await stored(tmp_path / "store", meter(), rows, born=begin - 1)
    sent(tmp_path / "store", keys, take)
    edge = at_the_edge(tmp_path / "store", QUARTER, begin, end)
    assert edge == billed(books, QUARTER, from_ms=begin, to_ms=end)
    assert short(edge) == [(900, ACTUAL)] * 100


async def test_change_of_ratio_is_partial_here_and_there_and_each_side_has_its_own(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    def ratio(ct: str) -> Extra:
        return {
            "transformer_from": [None],
            "transformer_ct": [ct],
            "transformer_vt": ["1"],
            "transformer_points": {"TotWhImp": "ct"},
        }

    await stored(tmp_path / "store", meter(extra=ratio("20")), polls(0, 120))
    finer = [(tick, (steps or 0) * 10 * 2, reasons) for tick, steps, reasons in polls(121, 270)]
    await stored(tmp_path / "store", meter(extra=ratio("40"), exp=-2), finer, born=START + 121 * POLL - 1)
    sent(tmp_path / "store", keys, take)
    edge = at_the_edge(tmp_path / "store", QUARTER)
    assert edge == billed(books, QUARTER)
    assert short(edge) == [(6300, ACTUAL), (30 * 70 + 59 * 140, PARTIAL), (90 * 140, ACTUAL)]
    assert TRANSFORMER_CHANGE in edge[1].reasons


async def test_validators_verdict_counts_in_bills_and_not_at_the_edge(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    rows = polls(0, 181)
    rows[90] = (rows[90][0], rows[90][1], ["rate"])
    rows[91] = (rows[91][0], rows[91][1], ["rate"])
    await stored(tmp_path / "store", meter(), rows)
    sent(tmp_path / "store", keys, take)
    assert [one.completeness for one in billed(books, QUARTER)] == [PARTIAL, PARTIAL]
    with books.transaction(NOW + 5):
        append_judgement(
            books,
            Judgement(
                "gw-0001", "meter", "TotWhImp", START + QUARTER, START + QUARTER + POLL, "1.0.0", "", "VEE",
                ENTITY, "ann", Precedence.VALIDATOR,
            ),
            ENTITY,
        )  # fmt: skip
    assert short(billed(books, QUARTER)) == [(630, ACTUAL), (630, ACTUAL)]
    assert [one.completeness for one in at_the_edge(tmp_path / "store", QUARTER)] == [PARTIAL, PARTIAL]


async def test_verdict_by_a_code_alone_takes_a_reading_out(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    await stored(tmp_path / "store", meter(), polls(0, 181))
    sent(tmp_path / "store", keys, take)
    with books.transaction(NOW + 5):
        append_judgement(
            books,
            Judgement(
                "gw-0001", "meter", "", START + QUARTER, START + QUARTER + 2 * POLL, "3.5.256", "", "VEE",
                ENTITY, "ann", Precedence.VALIDATOR,
            ),
            ENTITY,
        )  # fmt: skip
    found = billed(books, QUARTER)
    assert [one.completeness for one in found] == [PARTIAL, PARTIAL]
    assert found[1].reasons == (NO_START, "3.5.256")


async def test_replaced_meter_goes_on_under_its_usage_point_and_is_never_subtracted_from_the_old_one(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    await stored(tmp_path / "old", meter("old", usage_point="up-1"), polls(0, 130))
    await stored(tmp_path / "new", meter("new"), polls(131, 271, steps=3, base=10))
    for one in ("old", "new"):
        sent(tmp_path / one, keys, take)
    with books.transaction(NOW + 5):
        add_usage_point(
            books.connection,
            UsagePointTerm("up-1", "gw-0001", "new", START + 131 * POLL, None, NOW, "person"),
        )
    found = billed(books, QUARTER, device="", usage_point="up-1")
    assert short(found) == [(630, ACTUAL), (40 * 7 + 49 * 3, PARTIAL), (270, ACTUAL)]
    assert found[1].reasons == (METER_CHANGE,)


async def test_two_meters_that_measure_one_usage_point_at_a_time_are_refused(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    for name in ("one", "two"):
        await stored(tmp_path / name, meter(name, usage_point="up-1"), polls(0, 91))
        sent(tmp_path / name, keys, take)
    with pytest.raises(ConfigError, match=r"measure at the same time .*name one by --device"):
        billed(books, QUARTER, device="", usage_point="up-1")
    assert short(billed(books, QUARTER, device="one", usage_point="up-1")) == [(630, ACTUAL)]


async def test_what_is_no_register_is_refused_with_a_sentence(
    tmp_path: Path, books: Books, take: Take, keys: Keys
) -> None:
    await stored(tmp_path / "store", meter(), polls(0, 5))
    sent(tmp_path / "store", keys, take)
    for selection, sentence in (
        ({"point": "Hz"}, "no register that only grows"),
        ({"point": "W"}, "there is no point 'W'"),
        ({"device": "boiler"}, "know no such usage point or device"),
        ({"device": ""}, "name them"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            billed(books, QUARTER, **selection)
    with Look(tmp_path / "store") as look:
        with pytest.raises(ConfigError, match="there is meter"):
            RegisterLook(look, "boiler", "TotWhImp")
        with pytest.raises(ConfigError, match="registers of it: TotWhImp"):
            RegisterLook(look, "meter", "W")


async def test_both_commands_print_the_same_amounts(
    tmp_path: Path, books: Books, books_path: Path, take: Take, keys: Keys
) -> None:
    await stored(tmp_path / "store", meter(), polls(0, 200))
    sent(tmp_path / "store", keys, take)
    chosen = ["--device", "meter", "--point", "TotWhImp", "--every", "15min"]
    edge = CliRunner().invoke(store_app, ["intervals", str(tmp_path / "store"), *chosen, "--json"])
    head = CliRunner().invoke(headend_app, ["intervals", "--books", str(books_path), *chosen, "--json"])
    assert (edge.exit_code, head.exit_code) == (0, 0), edge.output + head.output
    told = [json.loads(line) for line in edge.output.splitlines()]
    billed_ = [json.loads(line) for line in head.output.splitlines()]
    assert [one.pop("device") for one in told] == ["meter"] * 2
    assert [one.pop("point") for one in told] == ["TotWhImp"] * 2
    assert told == billed_
    assert [Decimal(one["amount"]) for one in told] == [63, 63]
    assert [one["start"] for one in told] == ["2026-09-21T15:00:00Z", "2026-09-21T15:15:00Z"]
    for csv_of, arguments in (
        (store_app, ["intervals", str(tmp_path / "store"), *chosen, "--csv"]),
        (headend_app, ["intervals", "--books", str(books_path), *chosen, "--csv"]),
    ):
        lines = CliRunner().invoke(csv_of, arguments).output.splitlines()
        assert len(lines) == 3
        assert ",63.0,Wh,actual,,90" in lines[1]
    plain = CliRunner().invoke(headend_app, ["intervals", "--books", str(books_path), *chosen])
    assert plain.output.splitlines()[0].split()[1:] == ["63.0", "Wh", "actual"]
    wrong = CliRunner().invoke(
        headend_app, ["intervals", "--books", str(books_path), *chosen, "--every", "7min"]
    )
    assert isinstance(wrong.exception, ConfigError)
