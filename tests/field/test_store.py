"""The store on real disks: full ones, slow ones, and under kill -9."""

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.store import writer as writers
from agent.store.room import Floor
from agent.store.store import Store
from core.errors import StoreFull
from core.records import Alarm
from tests.support.cbuild import BuildUnavailable, build
from tests.unit.agent.store.store_made import (
    add,
    at,
    beaten,
    committed,
    contents,
    files_of,
    manifest,
    opened,
    put_back,
    until,
)

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "tests" / "peers"
DISK = 8 << 20
BIG = 60
DEADLINE_S = 60.0

CHILD = """
import asyncio, json, os, signal, sys
from pathlib import Path
from tests.unit.agent.store.store_made import add, at, opened

async def main(directory, window_s, pause_s, begin):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    number = begin
    async with opened(Path(directory), window_s=window_s) as store:
        store.data.listeners.append(lambda top: os.write(1, b"%d\\n" % top))
        os.write(1, b"%d\\n" % store.data.top)
        while not stop.is_set():
            for grp in (1, 2):
                add(store, grp, at(number), values=20)
            number += 1
            await asyncio.sleep(pause_s)
    counts = store.data.writer.counts
    os.write(1, json.dumps({"ticks": number - begin, "rows": counts.rows, "refused": counts.refused_rows,
        "longest_durable_s": counts.longest_durable_s, "longest_commit_s": counts.longest_commit_s,
        "commits": counts.commits, "p99_s": counts.durable_p99_s()}).encode() + b"\\n")

asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
"""


class Child:
    """A process that appends to a store and tells each id that is committed."""

    def __init__(
        self, directory: Path, *, window_s: float, pause_s: float, begin: int = 0, **environment: str
    ) -> None:
        command = [sys.executable, "-c", CHILD, str(directory), str(window_s), str(pause_s), str(begin)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, **environment}
        )
        self._told = b""

    @property
    def told(self) -> int:
        """The largest id announced."""
        lines = self._told[: self._told.rfind(b"\n") + 1].split(b"\n")[:-1]
        return int(lines[-1]) if lines and lines[-1].isdigit() else 0

    def read_until(self, enough: int) -> None:
        """Read until an id was announced."""
        assert self.process.stdout is not None
        end = time.monotonic() + DEADLINE_S
        while self.told < enough:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"only {self.told} of {enough} announced"
            self._told += chunk

    def kill(self) -> int:
        """Kill -9; return the largest id announced before."""
        assert self.process.stdout is not None
        self.process.kill()
        self._told += self.process.stdout.read()
        self.process.wait(10)
        self.process.stdout.close()
        return self.told

    def stop(self) -> dict[str, float]:
        """End it in order; return what it counted."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        rest = self.process.stdout.read()
        assert self.process.wait(DEADLINE_S) == 0
        self.process.stdout.close()
        counted: dict[str, float] = json.loads(rest.splitlines()[-1])
        return counted


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here: a full disk was not tried")
    if mounted.returncode != 0:
        pytest.skip(f"a full disk was not tried, it needs root: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "RETRY_S", 0.05)
    monkeypatch.setattr(writers, "MAX_PENDING_ROWS", 200)
    monkeypatch.setattr("agent.store.housekeeping.CHECK_ROOM_S", 0.05)


@contextlib.asynccontextmanager
async def on_disk(disk: Path) -> AsyncIterator[Store]:
    async with opened(disk / "store", window_s=0.01, reserve_bytes=512 << 10) as store:
        store.floors = (Floor(0, 1),)
        yield store


def fill_up(disk: Path) -> Path:
    """Something else takes all that is left of the disk."""
    path = disk / "something-else"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return path


async def fill_by_rows(store: Store, first: int) -> int:
    """Append rows until one is refused although the reserve was given; return the first that was."""
    number = first
    end = time.monotonic() + DEADLINE_S
    failed = 0
    while True:
        assert time.monotonic() < end
        if add(store, 1, at(number), values=BIG):
            number += 1
            if number % 50 == 0:
                await asyncio.sleep(0.01)
            failed = store.data.writer.counts.failed_commits
        elif not store.room.reserve.exists() and store.data.writer.counts.failed_commits > failed + 5:
            return number
        else:
            await asyncio.sleep(0.01)


async def test_a_disk_filled_by_the_readings_themselves_becomes_a_gap_and_goes_on(disk: Path) -> None:
    async with on_disk(disk) as store:
        alarms: list[tuple[str, bool]] = []
        store.on_alarm = lambda code, raised, text: alarms.append((code, raised))
        refused = await fill_by_rows(store, 0)
        assert isinstance(store.data.writer.trouble, StoreFull)
        assert not store.room.reserve.exists()  # it was given back, and used
        assert not add(store, 1, at(refused + 3))
        # the other end confirms: there is room again without a byte more of disk
        store.floors = (Floor(0, store.data.top - 100),)
        await until(lambda: store.data.writer.trouble is None, "written again")
        assert add(store, 1, at(refused + 10), values=BIG)
        await committed(store)
        await until(lambda: ("store-unwritable", False) in alarms, "told")
        assert store.room.counts.pruned > 0
        assert store.room.counts.dropped == 0
    found = contents(disk / "store")
    (gap,) = found.gaps()
    assert (gap["first_tick"], gap["last_tick"], gap["reason"]) == (at(refused), at(refused + 9), "disk-full")
    assert found.ticks(1)[-2:] == [at(refused - 1), at(refused + 10)]
    assert alarms[0] == ("store-unwritable", True)


async def test_a_disk_filled_by_something_else_is_survived_until_it_leaves(disk: Path) -> None:
    async with on_disk(disk) as store:
        for number in range(100):
            add(store, 1, at(number), values=BIG)
        await committed(store)
        other = fill_up(disk)
        refused = await fill_by_rows(store, 100)
        fill_up(disk)  # it also takes what the reserve gave
        assert not add(store, 1, at(refused), values=BIG)
        other.unlink()
        await until(lambda: store.data.writer.trouble is None, "written again")
        assert add(store, 1, at(refused + 5), values=BIG)
        await committed(store)
        await until(store.room.reserve.exists, "the reserve is held again")
    found = contents(disk / "store")
    (gap,) = found.gaps()
    assert (gap["first_tick"], gap["last_tick"], gap["reason"]) == (at(refused), at(refused + 4), "disk-full")
    assert len(found.ticks(1)) == refused + 1


async def lived_on_a_full_disk(disk: Path) -> tuple[int, dict[Path, bytes]]:
    """A life that ends while the disk is full; return the last tick polled, and the files before the end."""
    async with on_disk(disk) as store:
        for number in range(100):
            add(store, 1, at(number), values=BIG)
        await committed(store)
        fill_up(disk)
        refused = await fill_by_rows(store, 100)
        fill_up(disk)
        assert not add(store, 1, at(refused + 3), values=BIG)
        await beaten(store)
        return refused + 3, await files_of(store)


@pytest.mark.parametrize(
    ("killed", "ended", "reason"), [(False, "stop", "stopped"), (True, "crash", "crashed")]
)
async def test_what_a_life_could_not_write_when_it_ended_on_a_full_disk_lies_in_a_gap_that_says_so(
    disk: Path, killed: bool, ended: str, reason: str
) -> None:
    polled, files = await lived_on_a_full_disk(disk)
    (disk / "something-else").unlink()
    if killed:
        put_back(files)
    last = contents(disk / "store").ticks(1)[-1]
    assert last < at(polled)
    async with on_disk(disk) as store:
        assert store.ended_before == ended
        assert store.data.writer.ticks[1] == at(polled)
        add(store, 1, at(polled + 10), values=BIG)
        await committed(store)
    found = contents(disk / "store")
    assert found.starts()[-1]["ended"] == ended
    assert found.starts()[-1]["ticks"]["meter-1/1000/p0"] == last
    assert [(gap["first_tick"], gap["last_tick"], gap["reason"]) for gap in found.gaps(1)] == [
        (last + 1000, at(polled), "disk-full"),
        (at(polled + 1), at(polled + 9), reason),
    ]
    assert sorted(found.ticks(1) + found.gap_ticks(1)) == [at(number) for number in range(polled + 11)]


async def test_a_third_life_tells_nothing_of_the_full_disk_again(disk: Path) -> None:
    polled, _ = await lived_on_a_full_disk(disk)
    (disk / "something-else").unlink()
    for _ in range(2):
        async with on_disk(disk) as store:
            assert store.data.writer.ticks[1] == at(polled)
    found = contents(disk / "store")
    assert [gap["reason"] for gap in found.gaps(1)] == ["disk-full"]


async def test_alarms_are_kept_while_the_disk_is_full(disk: Path) -> None:
    async with on_disk(disk) as store:
        fill_up(disk)
        refused = await fill_by_rows(store, 0)
        fill_up(disk)
        before = store.control.top
        for number in range(150):
            store.append_control(at(number), lambda seq: Alarm(seq, 0, "x", True, "t" * 100))
        await until(lambda: store.control.top == before + 150, "the alarms are committed")
        store.audit("looked", {"refused": refused}, at(0))
        await store.call(store.control, lambda file: None)
        assert store.audit_file.waiting == 0
        assert isinstance(store.data.writer.trouble, StoreFull)
        (disk / "something-else").unlink()


async def test_a_start_on_a_full_disk_uses_the_reserve(disk: Path) -> None:
    async with on_disk(disk) as store:
        add(store, 1, at(0), values=BIG)
    fill_up(disk)
    async with on_disk(disk) as store:
        assert store.ended_before == "stop"
        assert not store.room.reserve.exists()
        add(store, 1, at(1), values=BIG)
        await committed(store)


async def test_a_start_without_any_room_says_so_and_harms_nothing(disk: Path) -> None:
    async with on_disk(disk) as store:
        add(store, 1, at(0), values=BIG)
        await committed(store)
    (disk / "store" / "readings.reserve").unlink()
    other = fill_up(disk)
    with pytest.raises(StoreFull, match="no room on the disk"):
        async with on_disk(disk):
            pass
    other.unlink()
    async with on_disk(disk) as store:
        assert store.ended_before == "stop"
        assert store.data.writer.ticks[1] == at(0)


async def test_a_damaged_file_is_salvaged_although_the_disk_has_no_room_for_a_second_copy(
    disk: Path,
) -> None:
    async with on_disk(disk) as store:
        for number in range(5000):
            assert add(store, 1, at(number), values=BIG)
            if number % 150 == 0:
                await committed(store)
        await committed(store)
        floor = store.data.top - 1000
        from agent.store.recordfile import RouteState

        store.save_route(store.data, RouteState("dso", "dso.example", "b", 1, ((1, floor - 1),)))
        await committed(store)
    (disk / "store" / "readings.db.damaged").touch()
    (disk / "store" / "readings.reserve").unlink()
    size = (disk / "store" / "readings.db").stat().st_size
    other = fill_up(disk)
    os.truncate(other, other.stat().st_size - size // 2)
    async with on_disk(disk) as store:
        assert store.ended_before == "set-aside"
        found = await store.read(store.data, floor, store.data.top, 9999)
        assert sum(record.grp > 0 for record in found) >= 1000


@pytest.mark.parametrize("window_s", [0.0, 0.05])
def test_every_id_announced_before_a_kill_is_there_after_it(tmp_path: Path, window_s: float) -> None:
    rng = random.Random(7)
    begin = 0
    for _ in range(4):
        child = Child(tmp_path, window_s=window_s, pause_s=0.001, begin=begin)
        child.read_until(1)
        child.read_until(child.told + rng.randint(1, 300))
        announced = child.kill()
        found = contents(tmp_path)
        ids = sorted([id_ for id_, _, _ in found.rows] + [id_ for id_, _ in found.records])
        assert ids[-1] >= announced
        heads = {base + 2 for _, base in found.epochs}
        assert sorted({*ids, *heads}) == list(range(1, ids[-1] + 1))
        begin = (max(tick for _, _, tick in found.rows) - at(0)) // 1000 + 5
    ended = [start["ended"] for start in contents(tmp_path).starts()]
    assert ended == ["first", "crash", "crash", "crash"]
    for grp in (1, 2):
        found = contents(tmp_path)
        covered = [*found.ticks(grp), *found.gap_ticks(grp)]
        assert sorted(covered) == [at(number) for number in range(len(covered))]


def test_a_disk_that_takes_a_second_a_flush_loses_nothing_and_is_measured(tmp_path: Path) -> None:
    try:
        slow = build(PEERS / "slowsync.c", shared=True)
    except BuildUnavailable as error:
        pytest.skip(f"a slow disk was not tried: {error}")
    delay = tmp_path / "delay"
    delay.write_text("0")
    child = Child(
        tmp_path / "store",
        window_s=0.02,
        pause_s=0.01,
        LD_PRELOAD=str(slow),
        PORTICO_SLOWSYNC_FILE=str(delay),
    )
    child.read_until(20)
    delay.write_text("1000")
    child.read_until(child.told + 200)
    delay.write_text("0")
    child.read_until(child.told + 200)
    counted = child.stop()
    assert counted["refused"] == 0
    assert counted["rows"] == 2 * counted["ticks"]
    assert counted["longest_commit_s"] >= 1.0
    assert counted["longest_durable_s"] >= counted["longest_commit_s"]
    found = contents(tmp_path / "store")
    assert found.gaps() == []
    assert found.ticks(1) == [at(number) for number in range(int(counted["ticks"]))]


async def test_a_reader_that_drains_never_stops_the_writer(tmp_path: Path) -> None:
    async with opened(tmp_path, manifest(1, 2), window_s=0.02) as store:
        for number in range(30_000):
            if not add(store, 1, at(number), values=10):
                await committed(store)
                assert add(store, 1, at(number), values=10)
        await committed(store)
        read = 0
        number = 30_000
        at_id = 1
        while at_id <= 30_000:
            stored = await store.read(store.data, at_id, 1 << 40, 1000)
            read += len(stored)
            at_id = stored[-1].id + 1
            assert add(store, 1, at(number), values=10)
            number += 1
        await committed(store)
        wal = tmp_path / "readings.db-wal"
        assert wal.stat().st_size < 8 << 20  # nobody kept a read open
        assert store.data.writer.counts.rows == number
        assert read >= 30_000
