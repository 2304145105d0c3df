"""Beats at a gateway: contact is as old as the word itself, whatever becomes of it and of the clock."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.clock import Clock
from agent.control.beats import WAITING, Beats
from agent.control.contacts import Contacts
from core.topics import beat_topic
from policies.beat import FRESH_MS
from simulator.peers.esco import Esco
from tests.support.controlrig import KEY, OTHER_KEY, Documents, now_ms

HUB = Esco("esco1", "hub", "op-17", "k1", KEY)
MINUTE = 60.0


class Watch(Clock):
    """Two clocks that a test turns."""

    def __init__(self) -> None:
        super().__init__(trusted=True)
        self.wall_ms = now_ms()
        self.monotonic = 1000.0

    def now_ms(self) -> int:
        return self.wall_ms

    def mono(self) -> float:
        return self.monotonic

    def pass_s(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall_ms += round(seconds * 1000)


class Ear:
    """What hears beats, with a clock, and a hub that is on time."""

    def __init__(self) -> None:
        self.clock = Watch()
        self.documents = Documents()
        self.contacts = Contacts(self.clock)
        self.beats = Beats("main", self.documents, self.contacts, self.clock)

    def beat(self, hub: Esco = HUB, segment: str = "main", **more: Any) -> bytes:
        return hub.beat(segment, datetime.fromtimestamp(self.clock.wall_ms / 1000, UTC), **more)

    async def hears(
        self, raw: bytes, *, entity: str = "esco1", segment: str = "main", retained: bool = False
    ) -> str:
        before = self.beats.counts.copy()
        self.beats.heard(beat_topic(segment, entity), raw, retained)
        running = asyncio.create_task(self.beats.run())
        for _ in range(20):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        new = self.beats.counts - before
        return next(iter(new), "")

    @property
    def silent_s(self) -> int:
        return round(self.contacts.silent_s("esco1"))


@pytest.fixture
def ear() -> Ear:
    return Ear()


async def test_a_beat_is_contact_from_the_instant_at_which_it_was_issued(ear: Ear) -> None:
    raw = ear.beat()
    ear.clock.pass_s(100)
    assert await ear.hears(raw) == "taken"
    assert ear.silent_s == 100
    ear.clock.pass_s(MINUTE)
    assert ear.silent_s == 160


async def test_beats_that_come_in_time_keep_contact(ear: Ear) -> None:
    for _ in range(30):
        ear.clock.pass_s(MINUTE)
        assert await ear.hears(ear.beat()) == "taken"
        assert ear.silent_s == 0


async def test_a_broker_that_repeats_beats_keeps_no_contact(ear: Ear) -> None:
    raw = ear.beat()
    assert await ear.hears(raw) == "taken"
    for passed in (60, 120, 180, 240):
        ear.clock.pass_s(MINUTE)
        assert await ear.hears(raw) in ("again", "old")
        assert ear.silent_s == passed


async def test_a_broker_that_keeps_beats_and_hands_them_out_one_by_one_keeps_no_contact(ear: Ear) -> None:
    kept = []
    for _ in range(20):
        ear.clock.pass_s(MINUTE)
        kept.append(ear.beat())
    silent = ear.silent_s
    for raw in kept[-2:]:
        await ear.hears(raw)
    assert ear.silent_s == 0  # the last of them is of now
    for passed, raw in enumerate(kept, 1):
        ear.clock.pass_s(MINUTE)
        assert await ear.hears(raw) in ("again", "old")
        assert ear.silent_s == passed * 60
    assert silent == 20 * 60


async def test_a_clock_that_is_put_back_makes_no_kept_beat_young(ear: Ear) -> None:
    assert await ear.hears(ear.beat()) == "taken"
    ear.clock.pass_s(MINUTE)
    kept = ear.beat()
    ear.clock.pass_s(10 * MINUTE)
    ear.clock.wall_ms -= round(10 * MINUTE * 1000)
    assert await ear.hears(kept) == "old"
    assert ear.silent_s == 11 * 60


async def test_clocks_that_were_ahead_on_both_sides_do_not_shut_a_hub_out_for_ever(ear: Ear) -> None:
    right_ms = ear.clock.wall_ms
    ear.clock.wall_ms += 86_400_000 // 2
    assert await ear.hears(ear.beat()) == "taken"
    ear.clock.wall_ms = right_ms
    assert await ear.hears(ear.beat()) == "old"
    ear.clock.pass_s(3600)
    assert await ear.hears(ear.beat()) == "again"
    ear.clock.pass_s(12 * 3600)
    assert await ear.hears(ear.beat()) == "taken"


async def test_what_was_retained_is_none(ear: Ear) -> None:
    assert await ear.hears(ear.beat(), retained=True) == "retained"
    assert not ear.contacts.knows("esco1")


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"entity": "esco2"}, "elsewhere"),
        ({"segment": "north"}, ""),
    ],
)
async def test_a_beat_counts_on_its_own_topic_alone(ear: Ear, case: dict[str, str], why: str) -> None:
    assert await ear.hears(ear.beat(), **case) == why
    assert not ear.contacts.knows("esco1")


async def test_a_beat_for_another_segment_does_not_count_here(ear: Ear) -> None:
    assert await ear.hears(ear.beat(segment="north")) == "elsewhere"


async def test_forgeries_are_counted_and_no_contact(ear: Ear) -> None:
    forger = Esco("esco1", "hub", "op-17", "k1", OTHER_KEY)
    assert await ear.hears(ear.beat(hub=forger)) == "bad-signature"
    assert await ear.hears(b"\xff\x00") == "malformed"
    assert await ear.hears(b"A" * 5000) == "dropped"
    assert not ear.contacts.knows("esco1")


async def test_without_a_policy_nobody_is_believed(ear: Ear) -> None:
    ear.documents.rulebook = None
    assert await ear.hears(ear.beat()) == "no-policy"


async def test_a_flood_is_dropped_and_does_not_keep_another_entity_from_being_heard(ear: Ear) -> None:
    other = Esco("esco2", "hub", "op-17", "k1", OTHER_KEY)
    for _ in range(1000):
        ear.beats.heard(beat_topic("main", "esco1"), b"forged", False)
    ear.beats.heard(beat_topic("main", "esco2"), ear.beat(hub=other), False)
    assert ear.beats.counts == {"dropped": 1000 - WAITING}
    running = asyncio.create_task(ear.beats.run())
    async with asyncio.timeout(10):
        while not ear.contacts.knows("esco2"):  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0)
    assert ear.beats.counts["malformed"] <= 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_no_more_entities_wait_than_there_is_room_for(ear: Ear) -> None:
    for number in range(100):
        ear.beats.heard(beat_topic("main", f"e-{number}"), b"x", False)
    assert ear.beats.counts["dropped"] == 36


def test_a_word_that_was_kept_does_not_take_contact_away_that_there_is(ear: Ear) -> None:
    ear.contacts.heard("esco1", ear.clock.wall_ms)
    ear.contacts.heard("esco1", ear.clock.wall_ms - FRESH_MS)
    assert ear.silent_s == 0


def test_a_word_from_ahead_is_one_of_now(ear: Ear) -> None:
    ear.contacts.heard("esco1", ear.clock.wall_ms + 3_600_000)
    ear.clock.pass_s(MINUTE)
    assert ear.silent_s == 60
