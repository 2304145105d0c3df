"""Edge and head-end make the same intervals of one run in which everything happens to a register.

The agent's own worker polls a register in virtual time and judges it, its store keeps the rows over a kill,
and the books get them as a route would bring them. The truth is the register's own course.
"""

import asyncio
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from agent.clock import HOLDOVER_S, STA_UNSYNC
from agent.config import parse_config
from agent.lineworker import LineWorker
from agent.recall import recalled
from agent.site import Site, build_site
from agent.store.store import Store
from core.errors import NoAnswer
from core.intervals import LENGTHS, TRANSFORMER_CHANGE, Completeness, Interval
from drivers.modbus.plan import Request
from drivers.types import load_type
from headend.arrival import Stored
from headend.books import Books
from tests.support.gateway_double import Keys
from tests.support.linebench import ScriptedLink, for_seconds
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_virtually
from tests.unit.agent.store.store_made import birth, committed, files_of, opened, put_back
from tests.unit.headend.test_intervals import START, at_the_edge, billed, sent

MODULUS = 100_000
TYPE = f"""
[type]
name = "register"
manufacturer = "Portico"
model = "register"
description = "A register for tests"
kind = "meter"
[source]
title = "Portico convention"
edition = "1"
where = "tests/unit/headend/test_intervals_agree.py"
read = 2026-11-22
verified = true
[defaults]
table = "holding"
[[point]]
name = "TotWhImp"
type = "uint32"
address = 0
unit = "Wh"
scale = "0.1"
cumulative = true
ratio = "ct"
[point.sense]
modulus = {MODULUS // 10}
max_rate = 1
"""
CONFIG = """
[gateway]
id = "gw-0001"
data_dir = "var"
types = ["{types}"]
[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1"
retries = 0
[[device]]
name = "meter"
type = "register"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
{terms}
"""
FIRST_TERM = '[[device.transformer]]\nct = "100/5"\n'
MINUTE_S, QUARTER_S = 60, 900
RESET_S, CHANGE_S = 72 * MINUTE_S, 100 * MINUTE_S
SILENT = range(40 * MINUTE_S, 52 * MINUTE_S)
LIVES = ((0, 70 * MINUTE_S), (75 * MINUTE_S, 136 * MINUTE_S))
"""Seconds from START; the gateway is killed at the end of the first."""
STEPS_A_S = 1
BEGIN = MODULUS - 20 * MINUTE_S * STEPS_A_S - 5
"""So that it rolls over after twenty minutes."""


def shown(at_s: float) -> int:
    """What the register shows: it counts evenly, rolls over, and is set to zero while nobody reads it."""
    if at_s < RESET_S:
        return int(BEGIN + at_s * STEPS_A_S) % MODULUS
    return int((at_s - RESET_S) * STEPS_A_S)


def site(directory: Path, terms: str) -> Site:
    directory.mkdir(exist_ok=True)
    (directory / "register.toml").write_text(TYPE)
    config = CONFIG.format(types=directory, terms=terms)
    return build_site(
        parse_config(config, Path("/etc/gateway.toml")), lambda name: load_type(name, (directory,))
    )


def poll(store: Store, polled: Site, begin_s: int, end_s: int, lost_s: float = float("inf")) -> None:
    """Poll for a time, both ends in seconds from START; after ``lost_s`` the clock is not synchronised."""

    async def main(loop: VirtualTimeLoop, clock: VirtualClock) -> None:
        clock.offset_ms = START + begin_s * 1000 - 1
        clock.now_ms()
        clock.steps = 0

        async def answer(unit_id: int, request: Request) -> bytes:
            now_s = begin_s + loop.now
            if int(now_s) in SILENT:
                await asyncio.sleep(0.5)
                raise NoAnswer("silent")
            return struct.pack(">I", shown(now_s))

        def unsure() -> bool:
            clock.status = STA_UNSYNC if begin_s + loop.now > lost_s else 0
            return clock.state() == "unsure"

        worker = LineWorker(
            "lan", ScriptedLink(answer), polled.groups, 0, clock, store, store.lived, lambda *alarm: None,
            unsure,
            recalled=recalled(polled.groups, store.last_rows),
        )  # fmt: skip
        await for_seconds(worker, end_s - begin_s)

    run_virtually(main)


async def run(directory: Path, types: Path) -> None:
    """Live twice, the first life ended by kill -9; before the second one a term was added to the file."""
    change = datetime.fromtimestamp((START / 1000) + CHANGE_S, UTC).isoformat()
    second = FIRST_TERM + f'[[device.transformer]]\nfrom = {change}\nct = "150/5"\n'
    for (begin_s, end_s), terms in zip(LIVES, (FIRST_TERM, second), strict=True):
        polled = site(types, terms)
        born = birth(now_ms=START + begin_s * 1000 - 1)
        async with opened(directory, polled.manifest, born=born) as store:
            await asyncio.to_thread(poll, store, polled, begin_s, end_s)
            await committed(store)
            files = await files_of(store)
        put_back(files)


def of_minute(found: list[Interval], minute: int) -> Interval:
    [one] = [one for one in found if one.start_ms == START + minute * 60_000]
    return one


@pytest.mark.timeout(120)
async def test_edge_and_headend_agree_on_a_run_with_everything_and_never_bill_what_was_not_counted(
    tmp_path: Path, books: Books, take: Callable[..., list[Stored]], keys: Keys
) -> None:
    await run(tmp_path / "store", tmp_path / "types")
    sent(tmp_path / "store", keys, take)
    found: dict[int, list[Interval]] = {}
    for every_ms in sorted(set(LENGTHS.values())):
        edge = at_the_edge(tmp_path / "store", every_ms)
        assert edge == billed(books, every_ms)
        found[every_ms] = edge
    quarters = found[QUARTER_S * 1000]
    # At 0, 15, 60, 75, 105 and 120 minutes nothing happens to the register that its differences do not tell.
    kinds = [(one.start_ms - START) // 60_000 for one in quarters if one.completeness is Completeness.ACTUAL]
    assert kinds == [0, 15, 75, 105, 120]
    rolled = of_minute(quarters, 15)
    assert rolled.reasons == ("rollover",)
    ratios = {0: 20, 15: 20, 75: 20, 105: 30, 120: 30}
    for minute, ratio in ratios.items():
        assert of_minute(quarters, minute).steps == QUARTER_S * STEPS_A_S * ratio
    for minute in (30, 45):  # silent over the boundary between them
        assert of_minute(quarters, minute).completeness is Completeness.PARTIAL
        assert {"timeout", "backoff"} & set(of_minute(quarters, minute).reasons)
    restarted = of_minute(quarters, 60)  # killed at 70, and the register was reset at 72
    assert restarted.completeness is Completeness.PARTIAL
    assert "reset" in restarted.reasons
    changed = of_minute(quarters, 90)
    assert changed.completeness is Completeness.PARTIAL
    assert TRANSFORMER_CHANGE in changed.reasons
    # Partial ones are never more than what was counted.
    for one in quarters:
        begin_s, end_s = (one.start_ms - START) // 1000, (one.end_ms - START) // 1000
        counted = sum(STEPS_A_S * (30 if at_s >= CHANGE_S else 20) for at_s in range(begin_s, end_s))
        assert one.steps is not None
        assert Decimal(0) < one.steps <= counted


@pytest.mark.timeout(120)
async def test_intervals_of_a_clock_in_holdover_are_actual_and_of_an_unsure_one_partial_with_their_amount(
    tmp_path: Path, books: Books, take: Callable[..., list[Stored]], keys: Keys
) -> None:
    begin_s, polled = 75 * MINUTE_S, site(tmp_path / "types", FIRST_TERM)
    end_s = int(begin_s + HOLDOVER_S + 61 * MINUTE_S)
    async with opened(
        tmp_path / "store", polled.manifest, born=birth(now_ms=START + begin_s * 1000 - 1)
    ) as store:
        await asyncio.to_thread(poll, store, polled, begin_s, end_s, begin_s + 10 * MINUTE_S)
        await committed(store)
    sent(tmp_path / "store", keys, take)
    edge = at_the_edge(tmp_path / "store", QUARTER_S * 1000)
    assert edge == billed(books, QUARTER_S * 1000)
    assert {one.steps for one in edge[1:]} == {QUARTER_S * STEPS_A_S * 20}
    kinds = [one.completeness is Completeness.ACTUAL for one in edge]
    # Unsure ten minutes after a day of holdover began: the edge at a quarter past is the first in doubt.
    sure = int(HOLDOVER_S) // QUARTER_S
    assert kinds == [True] * sure + [False] * (len(edge) - sure)
    assert len(edge) - sure == 4
    assert {one.reasons for one in edge[sure:]} == {("clock-unsure",)}
