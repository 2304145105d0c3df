"""What was committed is there, and every tick that was due is a row or lies in a Gap."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.journal import dealt_with
from agent.store.recordfile import RecordFile
from agent.store.store import Store
from core.errors import ConfigError, StoreError, StoreTooNew
from core.records import Alarm, Clock
from tests.unit.agent.store.store_made import (
    EVERY_MS,
    add,
    at,
    birth,
    committed,
    contents,
    files_of,
    manifest,
    opened,
    put_back,
    until,
)


async def test_a_new_store_begins_with_a_start_record_and_the_manifest(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await store.read(store.data, 1, 10, 10)
    assert [(record.id, record.grp) for record in stored] == [(1, 0), (2, -1)]
    assert stored[1].body.decode() == manifest().hash()
    (start,) = contents(tmp_path).starts()
    assert (start["seq"], start["ended"], start.get("before", [])) == (1, "first", [])


async def test_rows_appended_within_the_window_are_one_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        tops: list[int] = []
        store.data.listeners.append(tops.append)
        for number in range(10):
            assert add(store, 1, at(number))
        assert store.data.writer.waiting_rows == 10
        await committed(store)
        assert store.data.writer.counts.commits == 1
        assert tops == [12]
        assert [record.tick for record in await store.read(store.data, 3, 99, 99)] == [
            at(number) for number in range(10)
        ]


async def test_a_window_that_is_over_commits_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path, window_s=0.01) as store:
        add(store, 1, at(0))
        await until(lambda: store.data.top == 3, "committed")
        assert store.data.writer.counts.longest_durable_s >= 0.009


async def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 2, at(5))
        top = await committed(store)
        (stored,) = await store.read(store.data, top, top, 1)
    value = at(5) % 1_000_003
    assert stored.body == b"2,%d,[7],[%d,%d,%d]]" % (at(5), value, value + 1, value + 2)
    assert (stored.id, stored.grp, stored.tick) == (top, 2, at(5))


async def test_what_waits_is_committed_at_an_orderly_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
    assert contents(tmp_path).ticks(1) == [at(0)]


@pytest.mark.parametrize(
    ("orderly", "ended", "reason"), [(True, "stop", "stopped"), (False, "crash", "crashed")]
)
async def test_ticks_between_two_lives_are_a_gap_with_their_reason(
    tmp_path: Path, orderly: bool, ended: str, reason: str
) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        await committed(store)
        files = await files_of(store)
    if not orderly:
        put_back(files)
    async with opened(tmp_path) as store:
        assert store.ended_before == ended
        assert store.data.writer.ticks == {1: at(0), 2: at(-1)}  # group 2 was begun, without a row yet
        add(store, 1, at(5))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["group"], gap["first_tick"], gap["last_tick"], gap["ticks"]) == (1, at(1), at(4), 4)
    assert gap["reason"] == reason
    start = contents(tmp_path).starts()[-1]
    assert start["ended"] == ended
    assert start["ticks"] == {"meter-1/1000/p0": at(0), "meter-2/1000/p0": at(-1)}


async def test_a_tick_that_follows_needs_no_gap_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
    async with opened(tmp_path) as store:
        add(store, 1, at(1))
        add(store, 1, at(3))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["first_tick"], gap["reason"]) == (at(2), "overrun")


async def test_a_gap_at_a_clock_step_is_of_unknown_extent(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        add(store, 1, at(3), reason="clock-step")
    (gap,) = contents(tmp_path).gaps()
    assert (gap["reason"], gap["unknown_extent"]) == ("clock-step", True)


async def test_ticks_lived_twice_are_no_gap(tmp_path: Path) -> None:
    async with opened(tmp_path, born=birth(now_ms=at(10) - 1)) as store:
        for number in (10, 11, 5, 6, 7):
            add(store, 1, at(number))
    assert contents(tmp_path).gaps() == []


async def test_a_clock_that_went_back_between_two_lives_leaves_a_gap_of_unknown_extent(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, born=birth(now_ms=at(10) - 1)) as store:
        add(store, 1, at(10))
    async with opened(tmp_path) as store:
        add(store, 1, at(4))
        add(store, 1, at(5))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["first_tick"], gap["ticks"], gap["unknown_extent"]) == (at(11), 1, True)


async def test_a_shorter_interval_is_another_group_and_has_no_gap_to_the_old_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
    async with opened(tmp_path, manifest(1, 2, every_ms=500), born=birth(now_ms=at(5) - 1)) as store:
        add(store, 1, at(5))
    assert contents(tmp_path).gaps() == []


async def test_a_new_group_is_accounted_for_from_its_start_on(tmp_path: Path) -> None:
    async with opened(tmp_path, manifest(1)) as store:
        add(store, 1, at(3))
        await committed(store)
    (gap,) = contents(tmp_path).gaps()
    assert (gap["first_tick"], gap["last_tick"], gap["ticks"]) == (at(0), at(2), 3)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_life_in_which_nothing_of_a_new_group_was_committed_lies_in_a_gap(
    tmp_path: Path, killed: bool
) -> None:
    async with opened(tmp_path, manifest(1)) as store:
        files = await files_of(store)
    if killed:
        put_back(files)
    async with opened(tmp_path, manifest(1), born=birth(now_ms=at(8) - 1)) as store:
        add(store, 1, at(8))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["first_tick"], gap["last_tick"], gap["ticks"]) == (at(0), at(7), 8)
    assert gap["reason"] == ("crashed" if killed else "stopped")


async def test_a_group_keeps_its_ticks_when_its_number_changes(tmp_path: Path) -> None:
    async with opened(tmp_path, manifest(1, 2)) as store:
        add(store, 2, at(0))
    other = manifest(1, 2)
    renumbered = type(other)(other.gateway, (other.groups[1], other.groups[0]))
    swapped = tuple(
        type(group)(**{name: getattr(group, name) for name in group.__struct_fields__} | {"group": number})
        for number, group in enumerate(renumbered.groups, 1)
    )
    async with opened(tmp_path, type(other)(other.gateway, swapped)) as store:
        add(store, 1, at(2))
    (gap,) = contents(tmp_path).gaps()
    assert (gap["group"], gap["first_tick"], gap["ticks"]) == (1, at(1), 1)


async def test_sequences_are_contiguous_and_carry_their_own_number(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in (0, 2, 5):
            add(store, 1, at(number))
        store.append_record(at(6), lambda seq: Clock(seq, at(6), "boot-1", "synchronised"))
        await committed(store)
        ids = [record.id for record in await store.read(store.data, 1, 99, 99)]
    assert ids == list(range(1, 9))
    found = contents(tmp_path)
    assert [(id_, record["seq"]) for id_, record in found.records] == [(1, 1), (4, 4), (6, 6), (8, 8)]


async def test_a_second_agent_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(ConfigError, match=r"another agent is using .*data_dir of its own"):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path):
        pass  # free again


async def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    import sqlite3

    with sqlite3.connect(tmp_path / "readings.db") as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("ALTER TABLE record RENAME TO rows_of_later")
    db.close()
    before = (tmp_path / "readings.db").read_bytes()
    with pytest.raises(StoreTooNew, match="later version of Portico"):
        async with opened(tmp_path):
            pass
    assert (tmp_path / "readings.db").read_bytes() == before
    assert not list(tmp_path.glob("*.aside-*"))


async def test_a_directory_whose_name_has_signs_of_an_address_works(tmp_path: Path) -> None:
    async with opened(tmp_path / "what? 100% #1") as store:
        add(store, 1, at(0))
        await committed(store)
        assert len(await store.read(store.data, 1, 9, 9)) == 3


async def test_a_file_where_the_directory_should_be_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data_dir .* cannot be used"):
        async with opened(tmp_path / "file"):
            pass


async def test_alarms_of_the_control_lane_are_committed_without_a_window(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.append_control(at(0), lambda seq: Alarm(seq, at(0), "x", True, "text"))
        await until(lambda: store.control.top == 1, "the alarm is committed")
        (stored,) = await store.read(store.control, 1, 9, 9)
        assert b'"code":"x"' in stored.body


async def test_control_sequences_begin_at_one_in_each_epoch(tmp_path: Path) -> None:
    for _ in range(2):
        async with opened(tmp_path) as store:
            store.append_control(at(0), lambda seq: Alarm(seq, at(0), "x", True, "text"))
            await until(lambda store=store: store.control.writer.counts.commits == 1, "committed")
    assert [record["seq"] for _, record in contents(tmp_path, "control.db").records] == [1, 1]


async def test_a_journal_in_which_nothing_was_told_yet_is_not_lost_and_one_that_is_gone_is(
    tmp_path: Path,
) -> None:
    for _ in range(3):
        async with opened(tmp_path) as store:
            assert not store.control_lost
    for path in tmp_path.glob("control.db*"):
        path.unlink()
    for _ in range(2):  # until somebody has dealt with it
        async with opened(tmp_path) as store:
            assert store.control_lost
    async with opened(tmp_path) as store:
        await store.call(store.control, lambda file: dealt_with(file.db))
    async with opened(tmp_path) as store:
        assert not store.control_lost


async def test_manifest_at_is_the_one_in_force_for_the_row(tmp_path: Path) -> None:
    async with opened(tmp_path, manifest(1)) as store:
        add(store, 1, at(0))
    async with opened(tmp_path, manifest(1, 2)) as store:
        assert store.manifest_at(3).hash() == manifest(1).hash()
        assert store.manifest_at(store.data.epoch.base + 1).hash() == manifest(1, 2).hash()


async def test_a_start_record_names_the_epochs_before_and_their_last_sequences(tmp_path: Path) -> None:
    lives = []
    for number in range(3):
        async with opened(tmp_path) as store:
            add(store, 1, at(number))
            lives.append(store.epoch)
    start = contents(tmp_path).starts()[-1]
    assert start["before"] == [
        {"epoch": lives[1], "last": 3, "control_last": 0, "lost": []},
        {"epoch": lives[0], "last": 3, "control_last": 0, "lost": []},
    ]
    assert len({epoch for epoch, _ in contents(tmp_path).epochs}) == 3


async def test_audit_says_when_the_agent_started_and_stopped(tmp_path: Path) -> None:
    import sqlite3

    async with opened(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "audit.db")
    assert [kind for (kind,) in db.execute("SELECT kind FROM event ORDER BY id")] == ["start", "stop"]
    db.close()


async def test_a_closed_store_refuses_rows_and_jobs(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    assert not add(store, 1, at(0))
    with pytest.raises(StoreError, match="closing"):
        await store.call(store.data, lambda file: file.top)


Act = tuple[str, int, int]
acts = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(1, 2), st.sampled_from([1, 1, 1, 1, 2, 3, 40, 0, -1, -7])),
        st.tuples(st.sampled_from(["commit", "stop", "kill"]), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)


class Truth:
    """What should be in the store: rows committed and the ticks between them, by group."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {1: at(-1), 2: at(-1)}
        self.rows: dict[int, list[int]] = {1: [], 2: []}
        self.missed: Counter[tuple[int, int]] = Counter()
        self.waiting: list[tuple[int, int]] = []
        self.seen: set[int] = set()
        """Groups with a row committed in this life."""

    def commit(self) -> None:
        for grp, tick in self.waiting:
            last = self.last.get(grp)
            if last is not None and tick <= last and grp not in self.seen:
                # the clock went back between two lives: what the first one polled last, nobody knows
                self.missed[grp, last + EVERY_MS] += 1
            elif last is not None:
                self.missed.update((grp, between) for between in range(last + EVERY_MS, tick, EVERY_MS))
            self.rows[grp].append(tick)
            self.last[grp] = tick
            self.seen.add(grp)
        self.waiting.clear()


async def _play(directory: Path, played: list[Act]) -> Truth:
    truth = Truth()
    tick = {1: at(0), 2: at(0)}
    store: Store | None = None
    context = None
    for what, grp, step in [*played, ("stop", 0, 0)]:
        if store is None:
            context = opened(directory)
            truth.seen.clear()
            store = await context.__aenter__()
        match what:
            case "row":
                tick[grp] += step * EVERY_MS
                assert add(store, grp, tick[grp])
                truth.waiting.append((grp, tick[grp]))
            case "commit":
                await committed(store)
                truth.commit()
            case "stop":
                assert context is not None
                await context.__aexit__(None, None, None)
                truth.commit()
                store = None
            case "kill":
                assert context is not None
                files = await files_of(store)
                await context.__aexit__(None, None, None)
                put_back(files)
                truth.waiting.clear()
                store = None
    return truth


@settings(max_examples=60)
@given(acts)
def test_every_due_tick_is_a_row_or_lies_in_a_gap_over_any_lives(played: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as name:
        truth = asyncio.run(_play(Path(name), played))
        found = contents(Path(name))
    for grp in (1, 2):
        assert found.ticks(grp) == truth.rows[grp]
        expected = Counter({tick: many for (one, tick), many in truth.missed.items() if one == grp})
        assert Counter(found.gap_ticks(grp)) == expected
    ends = [base for _, base in found.epochs[1:]] + [1 << 60]
    ids = sorted([id_ for id_, _, _ in found.rows] + [id_ for id_, _ in found.records])
    assert len(ids) == len(set(ids))
    assert len({epoch for epoch, _ in found.epochs}) == len(found.epochs)
    for (_, base), end in zip(found.epochs, ends, strict=True):
        # the manifest record (base + 2) is not listed
        inside = [id_ - base for id_ in ids if base < id_ <= end]
        assert inside == [1, *range(3, len(inside) + 2)]


async def test_an_unsure_clock_is_told_in_the_start_record(tmp_path: Path) -> None:
    async with opened(tmp_path, born=birth("unsure")) as store:
        assert not store.clock_synchronised
    assert contents(tmp_path).starts()[0]["clock"] == "unsure"


async def test_a_manifest_in_the_middle_of_an_epoch_parts_the_rows_appended_before_from_those_after(
    tmp_path: Path,
) -> None:
    fresh = manifest(points=2)
    async with opened(tmp_path) as store:
        told: list[str] = []
        store.on_manifest.append(lambda: told.append(store.manifest.hash()))
        add(store, 1, at(0))
        assert store.change_manifest(fresh, at(0))
        assert store.manifest == manifest()
        add(store, 1, at(1), values=2)
        await committed(store)
        await until(lambda: store.data.top == 5, "told")
        assert told == [fresh.hash()]
        stored = await store.read(store.data, 3, 9, 9)
        assert [(one.grp, one.body if one.grp == -1 else b"") for one in stored] == [
            (1, b""),
            (-1, fresh.hash().encode()),
            (1, b""),
        ]
        assert [store.manifest_at(one.id).hash() for one in stored] == [
            manifest().hash(),
            fresh.hash(),
            fresh.hash(),
        ]
        assert [begin for begin, _ in store.data.manifests] == [1, 4]
    async with opened(tmp_path, fresh) as store:
        assert [begin for begin, _ in store.data.manifests] == [1, 4, 6]
        assert store.manifest_at(3).hash() == manifest().hash()
        assert store.manifest_at(5).hash() == fresh.hash()
        # Ticks go on over both: what came between two rows of a group is no gap.
        add(store, 1, at(2), values=2)
        await committed(store)
    assert contents(tmp_path).gaps(1) == []


async def test_a_change_of_the_manifest_waits_with_the_rows_while_the_disk_cannot_be_written(
    tmp_path: Path,
) -> None:
    fresh = manifest(points=2)
    async with opened(tmp_path) as store:
        writer = store.data.writer
        page_count = store.data.file.db.execute("PRAGMA page_count").fetchone()[0]
        store.data.file.db.execute(f"PRAGMA max_page_count={page_count}").fetchone()
        for number in range(200):
            add(store, 1, at(number))
        store.change_manifest(fresh, at(199))
        add(store, 1, at(200), values=2)
        writer.hurry()
        await until(lambda: writer.trouble is not None, "the disk is full")
        assert store.manifest == manifest()
        store.data.file.db.execute("PRAGMA max_page_count=1073741823").fetchone()
        await committed(store)
        await until(lambda: store.manifest == fresh, "committed")
        assert store.manifest_at(store.data.top).hash() == fresh.hash()
    found = contents(tmp_path)
    assert found.ticks(1) == [at(number) for number in range(201)]


async def test_what_is_dropped_behind_a_change_of_the_manifest_is_told_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        add(store, 1, at(0))
        store.change_manifest(manifest(points=2), at(0))
        for number in range(1, 10):
            add(store, 1, at(number), values=2)
        await committed(store)

        def cut(file: RecordFile) -> tuple[int, int]:
            file.db.execute("DELETE FROM record WHERE id < 4")
            file.low = 4
            return file.first_loose(), file.low

        # The first record left is the manifest in the middle: nothing behind it is held like a head.
        assert await store.call(store.data, cut) == (4, 4)
