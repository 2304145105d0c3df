"""Messages that a head-end must not take, one of each kind, each in an epoch of its own.

Each is right but for one thing. Pure but for keys and the clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from certs.signing import SigningKey
from cli.conformance.scripted_gateway import EVERY_MS, LENT, ScriptedGateway, manifest_record_with
from core.codec import MAX_BODY, encode_record, row_body, row_bytes
from core.records import Alarm
from core.topics import Lane

FIRST, LAST = 3, 5
"""Sequences that each bad message covers."""
GARBLED: Final = b"P1ej" + bytes(range(72)) + b"this is no body"


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad message."""

    label: str
    words: str
    gateway: ScriptedGateway
    payload: bytes
    lane: Lane = Lane.LIVE
    again: bool = False
    """The right message is sent later, in the same epoch."""


def bad_messages(
    epoch: Callable[[], ScriptedGateway], strangers: dict[str, SigningKey], over: SigningKey, other: str
) -> Iterator[Bad]:
    """Yield them.

    Args:
        epoch: makes a gateway in a new epoch.
        strangers: keys that are not the gateway's for streams, by what they are.
        over: the gateway's key of a certificate that is over.
        other: id of another gateway.
    """
    yield from _falsely_signed(epoch, strangers, over)
    yield from _of_another_form(epoch, other)
    yield from _with_faults_inside(epoch)


def _falsely_signed(
    epoch: Callable[[], ScriptedGateway], strangers: dict[str, SigningKey], over: SigningKey
) -> Iterator[Bad]:
    one = epoch()
    payload = one.sealed(one.body(FIRST, LAST))
    flipped = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
    yield Bad("bad-signature", "a bit of the signature is wrong", one, flipped, again=True)
    one = epoch()
    payload = one.sealed(one.body(FIRST, LAST))
    cut = payload[:-1] + bytes([payload[-1] ^ 1])
    yield Bad("bad-signature", "a bit of the body is wrong", one, cut)
    for what, key in strangers.items():
        one = epoch()
        one.key = key
        yield Bad("other-key", f"signed by {what}", one, one.sealed(one.body(FIRST, LAST, cert=True)))
    one = epoch()
    one.key = over
    sent = over_instant(over)
    body = one.body(FIRST, LAST, cert=True, header={"sent": sent})
    yield Bad(
        "expired", "its certificate is over, and was not when it says it was sent", one, one.sealed(body)
    )
    one = epoch()
    yield Bad(
        "moved", "made for lane backlog, sent on live", one, one.sealed(one.body(FIRST, LAST), Lane.BACKLOG)
    )


def _of_another_form(epoch: Callable[[], ScriptedGateway], other: str) -> Iterator[Bad]:
    one = epoch()
    body = one.body(FIRST, LAST, header={"gateway": other})
    yield Bad("other-header", f"its header names {other}", one, one.sealed(body))
    one = epoch()
    yield Bad("version-2", "version 2", one, one.sealed(one.body(FIRST, LAST).replace(b'"v":1', b'"v":2', 1)))
    one = epoch()
    unknown = one.body(FIRST, LAST)[:-1] + b',"later":1}'
    yield Bad("unknown-member", "a member that version 1 does not know", one, one.sealed(unknown))
    one = epoch()
    yield Bad("undecodable", "no message at all", one, GARBLED)
    one = epoch()
    yield Bad("undecodable", "signed, and no JSON", one, one.sealed(one.body(FIRST, LAST)[:-9]))
    one = epoch()
    yield Bad(
        "undecodable", "signed, with a tail behind the JSON", one, one.sealed(one.body(FIRST, LAST) + b"{}")
    )
    one = epoch()
    bomb = one.body(FIRST, LAST)[:-1] + b" " * (MAX_BODY + 1) + b"}"
    yield Bad("bomb", f"{len(bomb)} bytes when it is decompressed", one, one.sealed(bomb))


def _with_faults_inside(epoch: Callable[[], ScriptedGateway]) -> Iterator[Bad]:
    def rows_with(one: ScriptedGateway, wrong: bytes) -> bytes:
        return one.sealed(one.body(FIRST, LAST, [one.row(FIRST), wrong, one.row(LAST)]))

    middle = FIRST + 1
    one = epoch()
    short = row_bytes(middle, row_body(one.tick(middle), 1, [5, 31], [1, 2], {}))
    yield Bad("bad-row", "a row has too few values", one, rows_with(one, short), again=True)
    one = epoch()
    yield Bad(
        "bad-row",
        "a tick is not on the grid",
        one,
        rows_with(one, one.row(middle, tick=one.tick(middle) + 1)),
    )
    one = epoch()
    text = row_bytes(middle, row_body(one.tick(middle), 1, [5, 31], ["x", 1, 2, 3, "y", True], {}))
    yield Bad("bad-row", "a text stands for an integer", one, rows_with(one, text))
    one = epoch()
    outside = one.body(FIRST, LAST, [*one.rows(FIRST, LAST), one.row(LAST + 1)])
    yield Bad("bad-row", "a row lies outside the coverage", one, one.sealed(outside))
    one = epoch()
    tick = one.lent_until + 5 * EVERY_MS
    yield Bad(
        "not-owned", "a tick after the entity's ownership", one, rows_with(one, one.row(middle, LENT, tick))
    )
    one = epoch()
    yield Bad(
        "wrong-lane",
        "rows on lane control",
        one,
        one.sealed(one.body(FIRST, LAST), Lane.CONTROL),
        Lane.CONTROL,
    )
    one = epoch()
    alarm = Alarm(seq=middle, at=one.tick(middle), code="test", raised=True, text="on the wrong lane")
    yield Bad(
        "wrong-lane",
        "an alarm on lane live",
        one,
        one.sealed(one.body(FIRST, LAST, [], [encode_record(alarm)])),
    )
    one = epoch()
    named = manifest_record_with("0" * 32, one)
    body = one.body(1, 5, one.rows(3, 5), [one.start("crash"), named])
    yield Bad("bad-manifest", "a manifest bears another name", one, one.sealed(body))


def over_instant(key: SigningKey) -> int:
    """Return an instant at which a certificate was valid, ms since 1970."""
    return int(key.not_after.timestamp() * 1000) - 3_600_000
