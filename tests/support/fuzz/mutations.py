"""What a device may make of an answer: every way that was seen or can be thought of, drawn by a seed.

A mutation gets the scene and returns what is sent and when.  Deliberately not here: who sends it
(`tests.support.fuzz.peers`), and what must become of it (`tests.support.fuzz.judge`).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.fuzz.answers import ERROR, READS, Asked, Framing

TIMEOUT_S: Final = 0.2
"""Of every request, in virtual time."""
LATEST: Final = 3.0
"""Deadlines that a late answer takes: on a serial line one from a device that is always late, each time by
another time and by more than this, may be taken for the next (docs/faults.md).
"""
BIT_FLIPS: Final = 4
ENDLESS_CHUNK: Final = 1024
ENDLESS_CHUNKS: Final = 400
PACE_S: Final = 0.001


@dataclass(frozen=True)
class Step:
    """Something that the peer does."""

    after_s: float = 0.0
    """Since the step before."""
    octets: bytes = b""
    end: str = ""
    """`close` or `reset`: the connection ends with it."""
    beneath: bool = False
    """Sent below TLS, where there is TLS."""
    busy: bool = False
    """The device does nothing else meanwhile: later requests wait."""
    handed_on: bool = False
    """Sent on the connection after this one, as serial servers do."""


@dataclass(frozen=True)
class Scene:
    """A request that is to be answered."""

    draw: random.Random
    asked: Asked
    before: tuple[Asked, ...]
    """Requests answered earlier."""

    @property
    def frame(self) -> bytes:
        """The right answer."""
        return self.asked.framed(self.asked.right)

    @property
    def earlier(self) -> bytes:
        """A right answer to an earlier request, of the same kind if there is one."""
        same = [
            one for one in self.before if one.pdu[:1] + one.pdu[3:] == self.asked.pdu[:1] + self.asked.pdu[3:]
        ]
        known = same or list(self.before)
        if known:
            return known[-1].framed(known[-1].right)
        return self.asked.framed(b"\x03\x02\x12\x34", transaction=self.asked.transaction ^ 0x0101)


Mutation = Callable[[Scene], list[Step]]


def one_behind(scene: Scene) -> list[Step]:
    """The answer to the request before, each time: the device lost its place for good."""
    last = scene.before[-1:]
    return [Step(octets=one.framed(one.right)) for one in last]


def _sent(octets: bytes) -> list[Step]:
    return [Step(octets=octets)]


def right(scene: Scene) -> list[Step]:
    """The right answer."""
    return _sent(scene.frame)


def flips(scene: Scene) -> list[Step]:
    """Some bits are turned over."""
    octets = bytearray(scene.frame)
    for _ in range(scene.draw.randint(1, BIT_FLIPS)):
        octets[scene.draw.randrange(len(octets))] ^= 1 << scene.draw.randrange(8)
    return _sent(bytes(octets))


def cut(scene: Scene) -> list[Step]:
    """The end is missing."""
    return _sent(scene.frame[: scene.draw.randrange(len(scene.frame))])


def beheaded(scene: Scene) -> list[Step]:
    """The beginning is missing."""
    return _sent(scene.frame[scene.draw.randrange(1, len(scene.frame)) :])


def inserted(scene: Scene) -> list[Step]:
    """Bytes came in between."""
    at = scene.draw.randrange(len(scene.frame) + 1)
    return _sent(scene.frame[:at] + scene.draw.randbytes(scene.draw.randint(1, 4)) + scene.frame[at:])


def removed(scene: Scene) -> list[Step]:
    """Bytes in the middle are missing."""
    at = scene.draw.randrange(len(scene.frame))
    return _sent(scene.frame[:at] + scene.frame[at + scene.draw.randint(1, 3) :])


def stuttered(scene: Scene) -> list[Step]:
    """A piece came twice."""
    at = scene.draw.randrange(len(scene.frame))
    end = scene.draw.randint(at + 1, len(scene.frame))
    return _sent(scene.frame[:end] + scene.frame[at:])


def twice(scene: Scene) -> list[Step]:
    """The answer comes twice, at once or a little later."""
    pause = scene.draw.choice([0.0, 0.0, 0.002, 0.02])
    return [Step(octets=scene.frame), Step(pause, scene.frame)]


def spliced(scene: Scene) -> list[Step]:
    """The beginning of one answer and the end of another."""
    one, two = scene.draw.sample([scene.frame, scene.earlier], 2)
    return _sent(one[: scene.draw.randint(1, len(one))] + two[scene.draw.randrange(len(two)) :])


def joined(scene: Scene) -> list[Step]:
    """Two answers without a pause."""
    return _sent(b"".join(scene.draw.sample([scene.frame, scene.earlier], 2)))


def replayed(scene: Scene) -> list[Step]:
    """An earlier answer in place of this one."""
    return _sent(scene.earlier)


def other_transaction(scene: Scene) -> list[Step]:
    """Right but for its number."""
    number = scene.draw.choice([0, scene.asked.transaction - 1, scene.asked.transaction + 1, 0xFFFF, 0x0100])
    return _sent(scene.asked.framed(scene.asked.right, transaction=number & 0xFFFF))


def other_unit(scene: Scene) -> list[Step]:
    """Right but for the unit."""
    unit = scene.draw.choice([0, 255, scene.asked.unit ^ 1, scene.draw.randrange(256)])
    return _sent(scene.asked.framed(scene.asked.right, unit=unit))


def other_function(scene: Scene) -> list[Step]:
    """Right but for the function."""
    function = scene.draw.choice([1, 2, 3, 4, 5, 6, 16, 0, 0x2B, scene.draw.randrange(256)])
    return _sent(scene.asked.framed(bytes([function]) + scene.asked.right[1:]))


def other_count(scene: Scene) -> list[Step]:
    """The byte count, or the echo of a write, says something else."""
    pdu = bytearray(scene.asked.right)
    at = 1 if scene.asked.function in READS else scene.draw.randrange(1, len(pdu))
    pdu[at] = scene.draw.choice([0, 1, pdu[at] ^ 1, (pdu[at] + 2) & 0xFF, 255])
    return _sent(scene.asked.framed(bytes(pdu)))


def other_size(scene: Scene) -> list[Step]:
    """More or fewer registers than were asked for, consistently."""
    if scene.asked.function not in READS:
        return _sent(scene.asked.framed(scene.asked.right + b"\0\1"))
    asked = len(scene.asked.right) - 2
    payload = scene.draw.randbytes(scene.draw.choice([one for one in (0, 1, 2, 4, 6, 250) if one != asked]))
    return _sent(scene.asked.framed(bytes([scene.asked.function, len(payload)]) + payload))


def other_head(scene: Scene) -> list[Step]:
    """The length or the protocol in the head is wrong; on a serial line the checksum."""
    octets = bytearray(scene.frame)
    if scene.asked.framing is Framing.RTU:
        octets[-2:] = scene.draw.choice([b"\0\0", b"\xff\xff", octets[:-3:-1]])
    else:
        at = scene.draw.choice([2, 3, 4, 5])
        octets[at] = scene.draw.choice([0, 1, 2, 3, 255, octets[at] ^ 1])
    return _sent(bytes(octets))


def other_payload(scene: Scene) -> list[Step]:
    """Wrong registers in a frame that is right in all else: nobody can know."""
    pdu = scene.asked.right
    if scene.asked.function not in READS:
        return _sent(scene.frame)
    return _sent(scene.asked.framed(pdu[:2] + scene.draw.randbytes(len(pdu) - 2)))


def pieces(scene: Scene) -> list[Step]:
    """The answer comes in pieces, in time."""
    edges = sorted(scene.draw.randrange(len(scene.frame) + 1) for _ in range(scene.draw.randint(1, 6)))
    steps, begin = [], 0
    for edge in [*edges, len(scene.frame)]:
        steps.append(Step(scene.draw.choice([0.0, 0.001, 0.01]), scene.frame[begin:edge]))
        begin = edge
    return steps


def slow_pieces(scene: Scene) -> list[Step]:
    """The answer begins in time and ends after it."""
    at = scene.draw.randrange(1, len(scene.frame))
    pause = TIMEOUT_S * scene.draw.choice([0.9, 1.1, 1.5, 2.5])
    return [Step(TIMEOUT_S * 0.5, scene.frame[:at]), Step(pause, scene.frame[at:])]


def late(scene: Scene) -> list[Step]:
    """The device is busy, and answers after the deadline; what is asked meanwhile waits for it."""
    return [Step(TIMEOUT_S * scene.draw.uniform(1.02, LATEST), scene.frame, busy=True)]


def handed_on(scene: Scene) -> list[Step]:
    """The answer comes after the deadline, and on the connection that was made after this one."""
    return [Step(TIMEOUT_S * 1.05, scene.frame, handed_on=True)]


def silent(scene: Scene) -> list[Step]:
    """Nothing."""
    return []


def hung_up(scene: Scene) -> list[Step]:
    """The connection ends somewhere in the answer."""
    octets = scene.frame[: scene.draw.randrange(len(scene.frame) + 1)]
    return [
        Step(octets=octets),
        Step(scene.draw.choice([0.0, 0.01]), end=scene.draw.choice(["close", "reset"])),
    ]


def refused(scene: Scene) -> list[Step]:
    """An exception response with any code."""
    code = scene.draw.choice([1, 2, 3, 4, 5, 6, 8, 10, 11, 0, 7, 9, 12, 127, 128, 255])
    return _sent(scene.asked.framed(bytes([scene.asked.function | ERROR, code])))


def refused_oddly(scene: Scene) -> list[Step]:
    """An exception response that is none: too long, too short, of another function."""
    function = scene.asked.function | ERROR
    pdu = scene.draw.choice(
        [
            bytes([function]),
            bytes([function, 2, 0]),
            bytes([function ^ 1, 2]),
            bytes([function, 2]) * 2,
            b"\x80\1",
        ]
    )
    return _sent(scene.asked.framed(pdu))


def echoed(scene: Scene) -> list[Step]:
    """The request comes back, alone or before the answer."""
    return _sent(scene.asked.octets + scene.draw.choice([b"", b"", scene.frame]))


def noise(scene: Scene) -> list[Step]:
    """Bytes without a meaning, perhaps with the answer in them."""
    draw = scene.draw
    sizes = draw.choice([1, 2, 4, 8, 30, 300])
    before, behind = draw.randbytes(draw.randint(0, sizes)), draw.randbytes(draw.randint(0, sizes))
    return _sent(before + draw.choice([b"", scene.frame]) + behind)


def dribbled(scene: Scene) -> list[Step]:
    """Noise byte by byte, for longer than the deadline."""
    return [Step(0.004, scene.draw.randbytes(1)) for _ in range(80)]


def words(scene: Scene) -> list[Step]:
    """What something that is no Modbus device says."""
    said = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"REGISTER 4711\r\n",
        b"\r\nlogin: ",
        b"\x15\x03\x01\0\2\2\x28",
    ]
    return _sent(
        scene.draw.choice([*said, bytes(64), b"\xff" * 64, b"\0"]) + scene.draw.choice([b"", scene.frame])
    )


def beneath(scene: Scene) -> list[Step]:
    """Bytes on the connection itself, below TLS."""
    return [
        Step(octets=scene.draw.randbytes(scene.draw.randint(1, 60)), beneath=True),
        Step(0.001, scene.frame),
    ]


def endless(scene: Scene) -> list[Step]:
    """It never stops: noise, one byte, whole frames of others, or the same answer again and again."""
    asked, draw = scene.asked, scene.draw
    other = asked.framed(b"\x03\x02\0\1", unit=asked.unit ^ 2, transaction=asked.transaction ^ 0x55)
    chunk = draw.choice([draw.randbytes(ENDLESS_CHUNK), b"\x55", b"\0", b"\xff", other, scene.frame])
    chunk = (chunk * (ENDLESS_CHUNK // len(chunk) + 1))[:ENDLESS_CHUNK]
    return [Step(PACE_S, chunk) for _ in range(ENDLESS_CHUNKS)]


ALL: Final[tuple[Mutation, ...]] = (
    right,
    flips,
    cut,
    beheaded,
    inserted,
    removed,
    stuttered,
    twice,
    spliced,
    joined,
    replayed,
    other_transaction,
    other_unit,
    other_function,
    other_count,
    other_size,
    other_head,
    other_payload,
    pieces,
    slow_pieces,
    late,
    handed_on,
    silent,
    hung_up,
    refused,
    refused_oddly,
    echoed,
    noise,
    dribbled,
    words,
    beneath,
)
"""Drawn alike; `endless` costs more than all of them and is drawn seldom."""
BY_NAME: Final = {one.__name__: one for one in (*ALL, endless, one_behind)}
SELDOM: Final = 150
"""One request in so many is answered without end."""


def drawn(draw: random.Random) -> Mutation:
    """Return one of them."""
    return endless if draw.randrange(SELDOM) == 0 else draw.choice(ALL)
