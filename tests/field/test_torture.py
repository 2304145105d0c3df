"""The torture in its short form, its strict walk over ticks and counts, and a disk that is really full."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.evidence import GapRecord, Identity, Row, SeriesKey
from cli.plans import GatewayPlan, RoutePlan, StandPlan
from cli.process import wait_until
from cli.stand import Stand
from core.manifest import Group
from tests.support.balance import wait_balanced, wait_rows
from tests.support.gateway_double import group as made_group
from tests.support.torture import strict
from tests.support.torture.fullable_disk import FullableDisk, why_not
from tests.support.torture.misfortunes import KINDS
from tests.torture import FOR_ALL, deal, torture

SHORT = ("kill-agent", "kill-broker", "kill-collector", "older-store", "older-books")
EVERY_MS = 200


@pytest.mark.timeout(180)
def test_three_rounds_of_kills_and_older_copies_lose_nothing(tmp_path: Path) -> None:
    findings = torture(tmp_path, 3, 5, SHORT, say=False)
    assert findings.faults == []
    assert findings.ok
    assert findings.left_out == {}
    assert set(findings.played) == set(SHORT)


@pytest.mark.parametrize("rounds", [1, 3, FOR_ALL, 25])
def test_every_kind_comes_in_ten_rounds_and_none_again_before_all_came(rounds: int) -> None:
    hands = deal(rounds, KINDS, random.Random(1))
    assert len(hands) == rounds
    assert all(1 <= len(hand) <= 2 for hand in hands)
    played = [kind.name for hand in hands for kind in hand]
    first = played[: len(KINDS)]
    assert len(set(first)) == len(first)
    if rounds >= FOR_ALL:
        assert set(played) == {kind.name for kind in KINDS}


def test_the_same_seed_deals_the_same_rounds() -> None:
    assert deal(10, KINDS, random.Random(7)) == deal(10, KINDS, random.Random(7))


# --- a disk that is really full


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FullableDisk]:
    """A small file system of its own."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with FullableDisk(tmp_path / "disk") as mounted:
        yield mounted


def test_an_agent_on_a_full_disk_says_so_in_sentences_and_goes_on_when_there_is_room(
    disk: FullableDisk, tmp_path: Path
) -> None:
    plan = GatewayPlan(
        every="200ms",
        routes=(RoutePlan(keys={"resend_after": "2s"}),),
        keys={"reserve": "128KiB"},
        data_dir=disk.path / "gw",
    )
    stand = Stand(tmp_path, StandPlan(gateways=(plan,)))
    agent = stand.agent
    try:
        stand.start()
        wait_balanced(stand, more_than=8)
        agent.kill9()
        agent.start(wait=False)
        wait_until(
            # filled again and again: whatever the agent gives up on its way is somebody else's at once
            lambda: disk.fill() >= 0 and (not agent.running or "no room on the disk" in agent.said()),
            30,
            lambda: f"nothing about the disk: {agent.said()[-2000:]}",
            0.01,
        )
        assert "no room on the disk" in agent.said()
        assert "Traceback" not in agent.said()
        assert agent.exit_code in (None, 1, 2)
        disk.give_room()
        if not agent.running:
            agent.start()
        wait_rows(stand, 20)
        wait_balanced(stand, more_than=20)
    finally:
        stand.kill()


def test_a_full_disk_has_no_room_for_one_more_byte_until_it_is_given(disk: FullableDisk) -> None:
    (disk.path / "before").write_bytes(b"x" * 10_000)
    disk.shrink(1 << 20)
    assert disk.fill() == 1 << 20
    with pytest.raises(OSError, match="No space left"):
        (disk.path / "after").write_bytes(b"x" * 4096)
    disk.give_room()
    (disk.path / "after").write_bytes(b"x" * 4096)
    assert (disk.path / "before").stat().st_size == 10_000


# --- the strict walk

SERIES = SeriesKey("gw", "counter/200/PollCount")
GROUP: Group = made_group(1, every_ms=EVERY_MS)


def row(epoch: str, seq: int, number: int, count: int | None = None) -> Row:
    return Row(Identity("gw", epoch, seq), SERIES, GROUP, number * EVERY_MS, b"", count)


def gap(epoch: str, seq: int, first: int, last: int, ticks: int | None = None) -> GapRecord:
    many = last - first + 1 if ticks is None else ticks
    return GapRecord(
        Identity("gw", epoch, seq), SERIES, GROUP, first * EVERY_MS, last * EVERY_MS, many, "crashed"
    )


def found(
    rows: list[Row],
    gaps: list[GapRecord],
    *,
    steps: frozenset[Identity] = frozenset(),
    starts: dict[tuple[str, str], int] | None = None,
    taken: frozenset[Identity] = frozenset(),
    counts: list[int] | None = None,
) -> list[tuple[str, int]]:
    told = strict.Told({"gw": ["a", "b"]}, steps, starts or {}, taken)
    answered = {GROUP.device: counts} if counts else {}
    return [(fault.kind, fault.many) for fault in strict.faults(rows, gaps, told, answered)]


def test_rows_that_follow_each_other_need_no_gap() -> None:
    assert found([row("a", 2, 11), row("a", 1, 10), row("b", 1, 12)], []) == []


def test_ticks_between_two_rows_must_lie_in_a_gap_told_between_them() -> None:
    rows = [row("a", 3, 10), row("a", 5, 14)]
    assert found(rows, []) == [(strict.UNREPORTED, 3)]
    assert found(rows, [gap("a", 4, 11, 13)]) == []
    assert found(rows, [gap("a", 4, 12, 13)]) == [(strict.UNREPORTED, 1)]
    assert found(rows, [gap("a", 2, 11, 13)]) == [(strict.UNREPORTED, 3)]


def test_the_gap_of_a_clock_that_jumped_hides_nothing_that_is_missed_later() -> None:
    rows = [row("a", 1, 10), row("a", 3, 9000), row("a", 5, 12), row("a", 6, 15)]
    gaps = [gap("a", 2, 11, 8999)]
    assert found(rows, gaps, steps=frozenset({Identity("gw", "a", 4)})) == [(strict.UNREPORTED, 2)]


def test_a_tick_before_an_earlier_one_needs_a_step_of_the_clock() -> None:
    rows = [row("a", 1, 10), row("b", 1, 8)]
    assert found(rows, []) == [(strict.BACKWARDS, 1)]
    assert found(rows, [], steps=frozenset({Identity("gw", "a", 2)})) == []
    assert found(rows, [], starts={("gw", "b"): 8 * EVERY_MS}) == []
    under_way = [row("a", 1, 10), row("a", 3, 11), row("a", 4, 8)]
    assert found(under_way, [], steps=frozenset({Identity("gw", "a", 2)})) == []
    assert found(under_way, []) == [(strict.BACKWARDS, 1)]


def test_a_gap_lies_over_no_row_but_one_that_was_taken_with_a_store() -> None:
    rows = [row("a", 1, 10), row("b", 3, 14)]
    assert found(rows, [gap("b", 2, 9, 13)]) == [(strict.OVERLAID, 1)]
    assert found(rows, [gap("b", 2, 9, 13)], taken=frozenset({rows[0].id})) == []


def test_a_gap_counts_its_ticks_rightly() -> None:
    rows = [row("a", 1, 10), row("a", 3, 14)]
    assert found(rows, [gap("a", 2, 11, 13, ticks=2)]) == [(strict.MISCOUNTED, 1)]


def test_an_answered_count_without_a_row_needs_a_tick_in_a_gap_or_a_row_that_says_why() -> None:
    rows = [row("a", 1, 10, 100), row("a", 4, 13, 103)]
    gaps = [gap("a", 3, 11, 12)]
    counts = [100, 101, 102, 103]
    assert found(rows, gaps, counts=counts) == []
    late = [rows[0], row("a", 2, 11), row("a", 4, 12, 103)]
    assert found(late, [], counts=counts) == [(strict.UNPROVED, 1)]
    assert found(late, [], counts=[100, 101, 103]) == []
    assert found(rows, gaps, counts=[*counts, 104, 105]) == [(strict.UNPROVED, 2)]


def test_a_poll_lost_where_the_clock_went_back_needs_a_gap_of_unknown_extent() -> None:
    rows = [row("a", 1, 90, 5), row("b", 3, 10, 8)]
    starts = {("gw", "b"): 10 * EVERY_MS}
    assert found(rows, [], starts=starts, counts=[5, 6, 7, 8]) == [(strict.UNPROVED, 2)]
    assert found(rows, [gap("b", 2, 91, 91)], starts=starts, counts=[5, 6, 7, 8]) == []
