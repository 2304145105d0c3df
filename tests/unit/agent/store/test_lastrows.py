"""The last row with a value is found over restarts; and a freeze is judged back to where it began."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.sense import Later, Ticket
from agent.store.lastrows import LastRow
from agent.store.store import Store
from core.codec import row_body
from core.manifest import Value
from tests.unit.agent.store.store_made import (
    at,
    beaten,
    committed,
    contents,
    files_of,
    manifest,
    opened,
    put_back,
)

GROUP = manifest(1, points=2)


def put(store: Store, number: int, values: Sequence[Value]) -> Ticket:
    """Append a row as a worker does."""
    ticket = Ticket(valued=any(value is not None for value in values))
    body = row_body(at(number), 1, [5], list(values), {} if ticket.valued else {"*": ["timeout"]})
    assert store.append_row(1, at(number), 2, body, 0.0, "overrun", ticket)
    return ticket


def values(last: LastRow) -> tuple[int, list[Value]]:
    return (last.row.tick, last.row.values)


@pytest.mark.parametrize("killed", [True, False])
async def test_the_last_row_with_a_value_is_known_after_a_restart(tmp_path: Path, killed: bool) -> None:
    async with opened(tmp_path, GROUP) as store:
        assert store.last_rows == {}
        put(store, 0, [1, 2])
        put(store, 1, [3, None])
        put(store, 2, [None, None])
        await committed(store)
        epoch, files = store.epoch, await files_of(store)
    if killed:
        put_back(files)
    async with opened(tmp_path, GROUP) as store:
        assert values(store.last_rows[1]) == (at(1), [3, None])
        assert (store.last_rows[1].epoch, store.last_rows[1].group.device) == (epoch, "meter-1")


async def test_a_row_from_before_a_long_silence_and_several_restarts_is_known(tmp_path: Path) -> None:
    async with opened(tmp_path, GROUP) as store:
        put(store, 0, [1, 2])
        await committed(store)
        await beaten(store)
        for number in range(1, 9):
            put(store, number, [None, None])
        await committed(store)
        files = await files_of(store)
    put_back(files)
    for number in range(2):
        async with opened(tmp_path, GROUP) as store:
            assert values(store.last_rows[1]) == (at(0), [1, 2])
            put(store, 10 + number, [None, None])
            await committed(store)
            files = await files_of(store)
        put_back(files)


async def test_a_group_that_is_no_longer_the_same_has_no_last_row(tmp_path: Path) -> None:
    async with opened(tmp_path, GROUP) as store:
        put(store, 0, [1, 2])
    async with opened(tmp_path, manifest(1, points=2, every_ms=2000)) as store:
        assert store.last_rows == {}


async def test_a_damaged_last_row_is_not_taken(tmp_path: Path) -> None:
    async with opened(tmp_path, GROUP) as store:
        put(store, 0, [1, 2])
        put(store, 1, [3, 4])
        await committed(store)
        flip = "UPDATE record SET body = CAST(replace(body, '3', '9') AS BLOB) WHERE id = ?"
        await store.call(store.data, lambda file: file.db.execute(flip, (file.top,)))
        files = await files_of(store)
    put_back(files)
    async with opened(tmp_path, GROUP) as store:
        assert values(store.last_rows[1]) == (at(0), [1, 2])


def judgements(directory: Path) -> list[tuple[str, int, int]]:
    return [
        (str(record["epoch"]), int(str(record["first"])), int(str(record["last"])))
        for _, record in contents(directory).records
        if record["type"] == "quality"
    ]


async def test_a_freeze_is_judged_back_to_the_row_of_the_earlier_life_since_which_the_value_stands(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, GROUP) as store:
        put(store, 0, [1, 7])
        since = put(store, 1, [2, 8])
        put(store, 2, [None, None])
        put(store, 3, [3, 8])
        last = put(store, 4, [3, 8])
        await committed(store)
        before, end = store.epoch, store.data.file.top - store.data.epoch.base
    async with opened(tmp_path, GROUP) as store:
        put(store, 5, [4, 8])
        told = put(store, 6, [5, 8])
        assert store.append_judgement(
            1, Later(1, "frozen", "frozen 5 s", Ticket(last.seq, epoch=before)), at(6)
        )
        await committed(store)
        now = store.epoch
    found = sorted(judgements(tmp_path), key=lambda one: one[0] == now)
    assert since.seq is not None
    assert told.seq is not None
    assert [one[0] for one in found] == [before, now]
    assert found[0][1:] == (since.seq, end)
    assert found[1][1] == 1
    assert found[1][2] >= told.seq
    rules = [json.dumps(record) for _, record in contents(tmp_path).records if record["type"] == "quality"]
    assert all('"points": [1]' in rule for rule in rules)
