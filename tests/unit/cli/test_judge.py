"""The judge finds each planted fault, and passes what is whole."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli.evidence import Identity, NoEvidence
from cli.gathered import Evidence
from cli.judge import Verdict, judge
from tests.support.judged_files import (
    FIRST,
    GATEWAY,
    METER,
    SECOND,
    A,
    B,
    Poll,
    Said,
    Site,
    clean_site,
    gap,
    request,
    tick_ms,
)

METER_ROWS = 10
READINGS = METER_ROWS * 3  # a counter's value and two of the meter at each tick


def judged(site: Site, directory: Path, **more: object) -> Verdict:
    site.write(directory)
    return judge(
        {GATEWAY: site.store_path(directory)},
        site.books_paths(directory),
        site.plant_path(directory),
        **more,  # type: ignore[arg-type]
    )


def meter_row(rows: list[Poll], at: int) -> int:
    """Return the place of the meter's row of a tick."""
    return next(n for n, row in enumerate(rows) if row.group == METER.group and row.tick == tick_ms(at))


def test_whole_site_passes(tmp_path: Path) -> None:
    verdict = judged(clean_site(), tmp_path)
    assert verdict.faults == ()
    assert verdict.ok
    assert (verdict.committed, verdict.confirmed, verdict.lost, verdict.unseen) == (READINGS, READINGS, 0, 0)
    # One poll of both devices was answered and died with the agent, before its commit.
    assert verdict.polled == READINGS + 3
    assert verdict.gaps == 6
    assert verdict.counts_answered == 11
    assert [(one.entity, one.entitled, one.in_books) for one in verdict.entities] == [
        (A, 30, 30),
        (B, 20, 20),
    ]


def test_verdict_as_plain_values_says_whether_it_is_ok(tmp_path: Path) -> None:
    plain = judged(clean_site(), tmp_path).as_dict()
    assert plain["ok"] is True
    assert plain["entities"][0]["entity"] == A  # type: ignore[index]


@pytest.mark.parametrize("entity", [A, B])
def test_lost_row_is_found_in_the_books_of_either_owner(tmp_path: Path, entity: str) -> None:
    site = clean_site()
    rows = site.books[entity].rows
    del rows[meter_row(rows, 3)]
    verdict = judged(site, tmp_path)
    assert (verdict.lost, verdict.ok) == (2, False)
    assert {one.entity: one.lost for one in verdict.entities}[entity] == 2
    assert verdict.unreported_gaps == 1


def test_lost_last_row_is_found(tmp_path: Path) -> None:
    site = clean_site()
    del site.books[A].rows[-1]
    assert judged(site, tmp_path).lost == 2


def test_doubled_row_is_found(tmp_path: Path) -> None:
    site = clean_site()
    site.books[A].rows.append(site.books[A].rows[4])
    verdict = judged(site, tmp_path)
    assert verdict.duplicates > 0
    assert not verdict.ok


def test_row_doubled_under_another_identity_is_found(tmp_path: Path) -> None:
    site = clean_site()
    rows = site.books[A].rows
    rows.append(replace(rows[meter_row(rows, 12)], seq=900))
    verdict = judged(site, tmp_path)
    assert (verdict.duplicates, verdict.unseen, verdict.ok) == (2, 2, False)


def test_count_that_stands_at_two_ticks_is_doubled(tmp_path: Path) -> None:
    site = clean_site()
    site.books[A].rows.append(Poll(SECOND, 900, 1, tick_ms(13), [11]))
    verdict = judged(site, tmp_path)
    assert (verdict.duplicates, verdict.ok) == (1, False)


def test_tick_without_row_and_gap_is_found(tmp_path: Path) -> None:
    site = clean_site()
    for rows in (site.rows, site.books[A].rows, site.books[B].rows):
        del rows[meter_row(rows, 2)]
    verdict = judged(site, tmp_path)
    assert (verdict.lost, verdict.unreported_gaps, verdict.ok) == (0, 1, False)


@pytest.mark.parametrize("entity", [A, B])
def test_gap_that_did_not_reach_the_books_is_found(tmp_path: Path, entity: str) -> None:
    site = clean_site()
    books = site.books[entity]
    books.records = [one for one in books.records if one.record != gap(METER.group, 6, 8)]
    verdict = judged(site, tmp_path)
    assert (verdict.unreported_gaps, verdict.ok) == (3, False)


def test_gap_that_is_too_short_is_found(tmp_path: Path) -> None:
    site = clean_site()
    for records in (site.records, site.books[A].records, site.books[B].records):
        at = next(n for n, one in enumerate(records) if one.record == gap(METER.group, 6, 8))
        records[at] = Said(SECOND, records[at].seq, gap(METER.group, 6, 7))
    assert judged(site, tmp_path).unreported_gaps == 1


def test_answered_count_outside_every_gap_is_found(tmp_path: Path) -> None:
    site = clean_site()
    # The plant answered once more between ticks 10 and 11, and nobody speaks of it.
    site.counts = {count + (count > 9): ms for count, ms in site.counts.items()}
    site.counts[10] = tick_ms(10) + 500
    for rows in (site.rows, site.books[A].rows):
        for n, row in enumerate(rows):
            if row.group == 1 and row.tick >= tick_ms(11):
                rows[n] = replace(row, values=[row.values[0] + 1])  # type: ignore[operator]
    verdict = judged(site, tmp_path)
    assert (verdict.counts_unproved, verdict.counts_answered, verdict.ok) == (1, 12, False)


def test_more_counts_than_a_gap_has_ticks_are_found(tmp_path: Path) -> None:
    site = clean_site()
    later = {count: ms for count, ms in site.counts.items() if count > 7}
    site.counts = {count: ms for count, ms in site.counts.items() if count <= 7}
    site.counts |= {count: tick_ms(8) + count for count in range(8, 12)}
    site.counts |= {count + 4: ms for count, ms in later.items()}
    for rows in (site.rows, site.books[A].rows):
        for n, row in enumerate(rows):
            if row.group == 1 and row.epoch == SECOND:
                rows[n] = replace(row, values=[row.values[0] + 4])  # type: ignore[operator]
    # Counts 7 to 11 are missing: five polls, where three ticks lie in the Gap.
    assert judged(site, tmp_path).counts_unproved == 2


def test_only_the_poll_under_way_may_follow_the_last_row(tmp_path: Path) -> None:
    site = clean_site()
    site.counts[12] = tick_ms(13) + 4
    assert judged(site, tmp_path).ok
    site.counts[13] = tick_ms(14) + 4
    assert judged(site, tmp_path).counts_unproved == 1


def test_count_that_no_device_gave_is_found(tmp_path: Path) -> None:
    site = clean_site()
    del site.counts[4]
    assert judged(site, tmp_path).counts_invented == 1


def test_reordered_point_is_found(tmp_path: Path) -> None:
    site = clean_site()
    rows = site.books[B].rows
    early, late = meter_row(rows, 1), meter_row(rows, 2)
    rows[early], rows[late] = (
        replace(rows[early], tick=tick_ms(2)),
        replace(rows[late], tick=tick_ms(1)),
    )
    verdict = judged(site, tmp_path)
    assert (verdict.disordered_rows, verdict.changed, verdict.ok) == (1, 4, False)


def test_count_that_goes_back_is_out_of_order(tmp_path: Path) -> None:
    site = clean_site()
    rows = site.books[A].rows
    at = next(n for n, row in enumerate(rows) if row.group == 1 and row.tick == tick_ms(10))
    rows[at] = replace(rows[at], values=[2])
    assert judged(site, tmp_path).disordered_rows == 1


@pytest.mark.parametrize("value", [233, "232", 232.0, True, None])
def test_changed_value_is_found(tmp_path: Path, value: object) -> None:
    site = clean_site()
    rows = site.books[A].rows
    at = meter_row(rows, 2)
    rows[at] = replace(rows[at], values=[value, 5000])
    verdict = judged(site, tmp_path)
    assert (verdict.changed, verdict.lost, verdict.ok) == (2, 0, False)


def test_reading_with_somebody_who_does_not_own_it_is_found(tmp_path: Path) -> None:
    site = clean_site()
    site.books[B].rows.append(site.rows[0])
    verdict = judged(site, tmp_path)
    assert (verdict.undue, verdict.ok) == (1, False)


def test_conflict_in_the_books_is_a_fault(tmp_path: Path) -> None:
    site = clean_site()
    site.books[A].conflicts = 1
    verdict = judged(site, tmp_path)
    assert (verdict.conflicts, verdict.ok) == (1, False)


def test_redelivered_is_summed_over_the_books(tmp_path: Path) -> None:
    site = clean_site()
    site.books[A].redelivered, site.books[B].redelivered = 7, 4
    verdict = judged(site, tmp_path)
    assert (verdict.redelivered, verdict.ok) == (11, True)


def test_confirmed_is_what_every_owner_confirmed(tmp_path: Path) -> None:
    site = clean_site()
    # Records 1 to 5: start, manifest, counter and meter of tick 0, counter of tick 1.
    site.held[B] = [(1, 5)]
    verdict = judged(site, tmp_path)
    assert verdict.confirmed == METER_ROWS + 2
    assert [one.confirmed for one in verdict.entities] == [READINGS, 2]


def test_delivered_is_what_every_owner_was_passed(tmp_path: Path) -> None:
    site = clean_site()
    everything = {Identity(GATEWAY, row.epoch, row.seq) for row in site.rows}
    assert judged(site, tmp_path).delivered is None
    assert judged(site, tmp_path, delivered={A: everything, B: everything}).delivered == READINGS
    assert judged(site, tmp_path, delivered={A: everything, B: set()}).delivered == METER_ROWS


def test_what_the_gateway_tells_as_gone_is_not_lost(tmp_path: Path) -> None:
    site = clean_site()
    at = meter_row(site.rows, 3)
    dropped = [site.rows[at].seq, site.rows[at].seq]
    told = {"type": "gap", "group": 0, "epoch": FIRST, "dropped": [dropped], "reason": "quota"}
    for entity in (A, B):
        del site.books[entity].rows[meter_row(site.books[entity].rows, 3)]
        site.books[entity].records.append(Said(SECOND, 800, told))
    verdict = judged(site, tmp_path)
    assert (verdict.lost, verdict.gone, verdict.unreported_gaps, verdict.ok) == (0, 2, 0, True)


def test_row_that_left_the_store_is_remembered(tmp_path: Path) -> None:
    site = clean_site().write(tmp_path)
    evidence = Evidence()
    evidence.observe(GATEWAY, site.store_path(tmp_path))
    for rows in (site.rows, site.books[A].rows, site.books[B].rows):
        del rows[meter_row(rows, 3)]
    verdict = judged(site, tmp_path, evidence=evidence)
    assert (verdict.committed, verdict.lost) == (READINGS, 2)


def test_row_taken_by_hand_has_to_lie_in_a_gap(tmp_path: Path) -> None:
    site = clean_site().write(tmp_path)
    evidence = Evidence()
    evidence.observe(GATEWAY, site.store_path(tmp_path))
    for rows in (site.rows, site.books[A].rows, site.books[B].rows):
        del rows[meter_row(rows, 5)]
    site.write(tmp_path)
    evidence.put_back(GATEWAY, site.store_path(tmp_path))
    verdict = judged(site, tmp_path, evidence=evidence)
    assert (verdict.lost, verdict.taken, verdict.unreported_gaps, verdict.ok) == (0, 2, 1, False)
    for records in (site.records, site.books[A].records, site.books[B].records):
        records.append(Said(SECOND, 801, gap(METER.group, 5, 5, "store-lost")))
    verdict = judged(site, tmp_path, evidence=evidence)
    assert (verdict.taken, verdict.unreported_gaps, verdict.ok) == (2, 0, True)


def test_time_that_is_lived_twice_is_no_duplicate_when_the_clock_record_says_so(tmp_path: Path) -> None:
    site = clean_site()
    for where in (site, site.books[A], site.books[B]):
        where.rows = [row for row in where.rows if row.epoch == FIRST or row.group == METER.group]
        where.records.append(Said(SECOND, 500, {"type": "clock", "at": 0, "step_ms": -3000}))
        where.rows.append(Poll(SECOND, 501, METER.group, tick_ms(11), [1, 2]))
    site.counts = {count: ms for count, ms in site.counts.items() if count <= 6}
    assert judged(site, tmp_path).faults == ()
    for where in (site, site.books[A], site.books[B]):
        where.records.pop()
    verdict = judged(site, tmp_path)
    assert (verdict.duplicates, verdict.disordered_rows) == (4, 2)


def test_polled_counts_the_points_of_the_group_that_asked(tmp_path: Path) -> None:
    site = clean_site()
    # The plant's type has a third point in the hole that nobody polls, and counts it.
    site.requests = [request("meter", 4, 0, 2, 3, 5), request("counter", 3, 0, 2, 1, 5)]
    assert judged(site, tmp_path).polled == 5 * 2 + 5
    # A request that no group explains counts as the plant has it; writes count nothing.
    site.requests = [request("meter", 4, 0, 3, 3, 5), request("meter", 6, 0, 1, 1, 5)]
    assert judged(site, tmp_path).polled == 15


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    site = clean_site().write(tmp_path)
    with pytest.raises(NoEvidence, match="there is no file"):
        judge({GATEWAY: tmp_path / "absent.db"}, {}, None)
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises(NoEvidence, match="cannot be judged"):
        judge({}, {A: tmp_path / "broken.db"}, None)
    with pytest.raises(NoEvidence, match="plant's log"):
        judge({GATEWAY: site.store_path(tmp_path)}, {}, tmp_path / "absent.jsonl")


def test_judge_loads_nothing_of_what_it_judges() -> None:
    program = (
        "import sys, cli.judge\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'agent', 'headend', 'simulator'}))"
    )
    root = Path(__file__).parent.parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"
