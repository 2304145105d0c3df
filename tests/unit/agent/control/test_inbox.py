"""Commands that wait: bounded for each entity, at a bounded rate, cancellations first in a crowd."""

import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from agent.control.inbox import A_SECOND, CANCELS, CROWD, ENTITIES, WAITING, Arrival, Inbox
from core.topics import command_topic
from policies.envelope import sign_command
from policies.grant import Verb
from tests.support.controlrig import GATEWAY, KEY, command, signed

OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
CANCEL = command(id="c-9", verb=Verb.CANCEL, cancels="c-1", value=None, duration=None, purpose=None)
LATER_S = 1e9
"""So late that every bucket is full, whatever the clock of this machine says."""


def heard(inbox: Inbox, raw: bytes, entity: str = "esco1") -> None:
    inbox.heard(command_topic(GATEWAY, entity, "heater-relay"), raw, False)


def all_of(inbox: Inbox, now_s: float = LATER_S) -> list[bytes]:
    found = []
    while isinstance(one := inbox.take(now_s), Arrival):
        found.append(one.payload)
    return found


def test_no_more_than_a_rate_is_handed_out_and_another_entity_does_not_wait_for_it() -> None:
    inbox = Inbox(GATEWAY)
    for number in range(WAITING):
        heard(inbox, b"%d" % number)
    assert len(all_of(inbox)) == WAITING
    for number in range(WAITING):
        heard(inbox, b"%d" % number)
    assert inbox.take(LATER_S) == pytest.approx(1 / A_SECOND)
    heard(inbox, b"x", "esco2")
    assert all_of(inbox) == [b"x"]
    assert len(all_of(inbox, LATER_S + 0.11)) == int(A_SECOND / 10)


@pytest.mark.parametrize("raw", [signed(CANCEL), sign_command(CANCEL, [("k1", KEY), ("k2", OTHER)])])
def test_a_flood_of_commands_neither_drops_a_cancellation_nor_delays_it(raw: bytes) -> None:
    inbox = Inbox(GATEWAY)
    for number in range(1000):
        heard(inbox, b"a.b%d.c" % number)
        if number == 500:
            heard(inbox, raw)
    assert inbox.dropped == 1000 - WAITING
    one = inbox.take(LATER_S)
    assert isinstance(one, Arrival)
    assert one.payload == raw


def test_a_flood_of_cancellations_leaves_commands_their_turns() -> None:
    inbox = Inbox(GATEWAY)
    raw = signed(CANCEL)
    for _ in range(CANCELS + 100):
        heard(inbox, raw)
    for number in range(CROWD + 2):
        heard(inbox, b"%d" % number)
    assert inbox.dropped == 100
    assert [one == raw for one in all_of(inbox)[:4]] == [True, True, True, False]


def test_without_a_crowd_a_cancellation_stays_behind_its_command() -> None:
    inbox = Inbox(GATEWAY)
    shed, cancel = signed(command()), signed(CANCEL)
    heard(inbox, shed)
    heard(inbox, cancel)
    assert all_of(inbox) == [shed, cancel]


def test_the_last_of_a_burst_has_a_place_in_it() -> None:
    inbox = Inbox(GATEWAY, random.Random(1))
    for number in range(WAITING + 5):
        heard(inbox, b"%d" % number)
    found = all_of(inbox)
    assert (len(found), found[-1], inbox.dropped) == (WAITING, b"%d" % (WAITING + 4), 5)


def test_entities_of_whom_nothing_waits_leave_their_places_to_others() -> None:
    now = 0.0
    inbox = Inbox(GATEWAY, mono=lambda: now)
    for number in range(ENTITIES):
        heard(inbox, b"x", f"e{number}")
    now = 10.0
    heard(inbox, b"x", "late")
    assert inbox.dropped == 1
    assert len(all_of(inbox, now)) == ENTITIES
    heard(inbox, b"x", "late")
    assert inbox.dropped == 2
    now = 20.0
    heard(inbox, b"x", "late")
    assert (inbox.dropped, all_of(inbox, now)) == (2, [b"x"])
    assert not inbox.waiting
