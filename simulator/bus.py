"""A serial line with several units: one exchange at a time, paced by the baud rate, half-duplex.

*MODBUS over Serial Line V1.02* §2.5.1: a frame ends with a silence of 3.5 characters (1.75 ms from 19,200
baud on); a unit that finds a wrong check, or another unit's number, stays silent; unit 0 is for all and
nobody answers. Who speaks while somebody else does destroys both.

What the client writes is taken as if it needed its time on the line: an answer begins when the request
would have been heard, after the turn-around of the unit, and its last byte comes when it would have.

Relies on an event loop's timers and on channels that carry bytes. Not here: terminals, sockets.
"""

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from simulator.device import Device
from simulator.exchange import SILENCE, Asking, Cut, Result, result
from simulator.faults import FaultKind
from simulator.frames import LONGEST_RTU, RtuFraming, is_checked, request_length
from simulator.notes import Notes

FRAMING: Final = RtuFraming()
SHORTEST_SILENCE_S: Final = 0.00175
"""§2.5.1.1: beyond 19,200 baud."""
FEW_S: Final = 0.002
"""Bytes of an answer leave in pieces of about that long."""
PATIENCE_S: Final = 0.02
"""Silence after which a frame that is not whole is given up: more than 3.5 characters, for the bytes of one
frame need not come out of a busy machine in one piece."""
MOST_WAITING: Final = 16
"""Requests that a serial server keeps for their turn."""


class Channel(Protocol):
    """What carries bytes to a client."""

    def send(self, part: bytes) -> None: ...

    def cut(self, cut: Cut) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a line is."""

    baud: int
    """0: no pacing."""
    bits: int = 10
    """A character with start, parity and stop: 10 for 8N1, 11 for 8E1 and 8N2."""
    turnaround_s: float = 0.005
    """From the end of a request to the beginning of its answer, beyond the silence."""

    @property
    def character_s(self) -> float:
        """How long a character takes."""
        return self.bits / self.baud if self.baud else 0.0

    @property
    def silence_s(self) -> float:
        """How long the silence between frames is."""
        if not self.baud:
            return 0.0
        return 3.5 * self.character_s if self.baud <= 19_200 else SHORTEST_SILENCE_S


@dataclass(slots=True)
class Disorder:
    """What a client did that a bus does not forgive, counted."""

    early: int = 0
    """Requests that began before 3.5 characters of silence had passed since the last answer."""
    collisions: int = 0
    """Requests that came while another frame was on the line."""
    broken: int = 0
    """Bytes that were no whole frame with a right check."""


@dataclass(slots=True)
class Ear:
    """What came from one channel and is no whole frame yet."""

    channel: Channel
    received: bytearray = field(default_factory=bytearray)
    timer: asyncio.TimerHandle | None = None


class Bus:
    """One line and the units on it; an exchange belongs to the bus, not to a channel."""

    def __init__(self, devices: Mapping[int, Device], notes: Notes, pace: Pace, *, queues: bool) -> None:
        """`queues`: a serial server stands before it, so that requests wait and answers come in one piece."""
        self.devices: Final = dict(devices)
        self.notes: Final = notes
        self.pace: Final = pace
        self.disorder: Final = Disorder()
        self._queues: Final = queues
        self._waiting: deque[tuple[Channel, bytes]] = deque()
        self._next: asyncio.TimerHandle | None = None
        self._busy_until_s = 0.0
        self._sent_s = -math.inf
        self._asked: tuple[Device, Asking] | None = None
        """What is being answered and was not noted yet."""
        self._speaking: set[asyncio.TimerHandle] = set()
        """What is on the line."""
        self._late: set[asyncio.TimerHandle] = set()
        self._slow: dict[asyncio.TimerHandle, tuple[Device, Asking]] = {}

    def hear(self, ear: Ear, part: bytes) -> None:
        """Take bytes from a channel, and answer every frame that is whole."""
        if ear.timer is not None:
            ear.timer.cancel()
            ear.timer = None
        ear.received += part
        while ear.received:
            length = request_length(ear.received)
            if length and len(ear.received) >= length:
                self._frame(ear.channel, bytes(ear.received[:length]))
                del ear.received[:length]
            elif len(ear.received) > LONGEST_RTU:
                self.disorder.broken += 1
                ear.received.clear()
            else:
                silence_s = max(PATIENCE_S, self.pace.silence_s)
                ear.timer = asyncio.get_running_loop().call_later(silence_s, self._silence, ear)
                return

    def forget(self, ear: Ear) -> None:
        """Note that a channel is gone."""
        if ear.timer is not None:
            ear.timer.cancel()
        self._waiting = deque(one for one in self._waiting if one[0] is not ear.channel)

    def close(self) -> None:
        """Let nothing happen any more."""
        self._waiting.clear()
        for timer in (*self._speaking, *self._late, *self._slow, *filter(None, [self._next])):
            timer.cancel()

    def _silence(self, ear: Ear) -> None:
        """End what is not whole: a function of unknown length may be whole all the same."""
        ear.timer = None
        received = bytes(ear.received)
        ear.received.clear()
        if request_length(received) is None and is_checked(received):
            self._frame(ear.channel, received)
        else:
            self.disorder.broken += 1

    def _frame(self, channel: Channel, frame: bytes) -> None:
        if not is_checked(frame):
            self.disorder.broken += 1
        elif not self._queues:
            self._exchange(channel, frame)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.append((channel, frame))
            self._pump()

    def _pump(self) -> None:
        """Let the next request of a serial server on the line when that is free."""
        self._next = None
        loop = asyncio.get_running_loop()
        while self._waiting and loop.time() >= self._busy_until_s:
            self._exchange(*self._waiting.popleft())
        if self._waiting:
            self._next = loop.call_at(self._busy_until_s, self._pump)

    def _exchange(self, channel: Channel, frame: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        asking = Asking(0, frame[0], frame[1:-2])
        device = self.devices.get(asking.unit_id)
        self._give_up_slow()
        if now_s < self._busy_until_s:
            self._collide(device, asking)
            return
        self.disorder.early += now_s < self._sent_s + self.pace.silence_s
        self._busy_until_s = now_s + len(frame) * self.pace.character_s
        if asking.unit_id == 0:
            self._broadcast(asking)
        elif device is None:
            self.notes.note(None, asking, SILENCE.outcome)
        else:
            self._hear_out(channel, device, asking)

    def _hear_out(self, channel: Channel, device: Device, asking: Asking) -> None:
        """Answer when the request would have been heard."""
        fault = device.condition.now
        at_s = self._busy_until_s + self.pace.silence_s + self.pace.turnaround_s

        def answer() -> None:
            self._speaking.discard(timer)
            self._asked = None
            self._do(channel, device, asking, result(device, FRAMING, asking, fault))

        def answer_late() -> None:
            self._late.discard(timer)
            self._slow.pop(timer, None)
            if asyncio.get_running_loop().time() < self._busy_until_s:
                # Somebody else has the line: what the unit says now is lost.
                self.notes.note(device, asking, "collision")
            else:
                self._do(channel, device, asking, result(device, FRAMING, asking, fault))

        loop = asyncio.get_running_loop()
        if fault is None or not fault.wait_s:
            self._busy_until_s, self._asked = at_s, (device, asking)
            timer = loop.call_at(at_s, answer)
            self._speaking.add(timer)
        else:
            timer = loop.call_at(at_s + fault.wait_s, answer_late)
            if fault.kind is FaultKind.SLOW:
                self._slow[timer] = (device, asking)
            elif len(self._late) < MOST_WAITING:
                self._late.add(timer)
            else:
                timer.cancel()
                self.notes.note(device, asking, SILENCE.outcome)

    def _do(self, channel: Channel, device: Device, asking: Asking, found: Result) -> None:
        self.notes.note(device, asking, found.outcome)
        if found.cut is not Cut.NO:
            channel.cut(found.cut)
        elif found.frame:
            self._speak(channel, found.frame)

    def _speak(self, channel: Channel, frame: bytes) -> None:
        """Send a frame at the line's pace."""
        begin_s, character_s = asyncio.get_running_loop().time(), self.pace.character_s
        end_s = begin_s + len(frame) * character_s
        self._busy_until_s = self._sent_s = end_s
        if not character_s:
            channel.send(frame)
        elif self._queues:
            self._send_next(channel, iter([(end_s, frame)]))
        else:
            few = max(1, int(FEW_S / character_s))
            parts = [frame[at : at + few] for at in range(0, len(frame), few)]
            heard = itertools.accumulate(len(part) for part in parts)
            times = (begin_s + at * character_s for at in heard)
            self._send_next(channel, zip(times, parts, strict=True))

    def _send_next(self, channel: Channel, row: Iterator[tuple[float, bytes]]) -> None:
        """Send pieces at their times, each after the one before: timers of a busy loop keep no order."""
        at_s, part = next(row, (0.0, b""))
        if not part:
            return

        def send() -> None:
            self._speaking.discard(timer)
            channel.send(part)
            self._send_next(channel, row)

        timer = asyncio.get_running_loop().call_at(at_s, send)
        self._speaking.add(timer)

    def _broadcast(self, asking: Asking) -> None:
        for device in self.devices.values():
            if device.condition.now is None:
                device.answer(asking.request)
            self.notes.note(device, asking, "broadcast")

    def _give_up_slow(self) -> None:
        """Forget answers of slow units: the client has given up, for it asks anew."""
        for timer, (device, asking) in self._slow.items():
            timer.cancel()
            self.notes.note(device, asking, SILENCE.outcome)
        self._slow.clear()

    def _collide(self, device: Device | None, asking: Asking) -> None:
        """Lose both what is on the line and what came into it."""
        self.disorder.collisions += 1
        for timer in self._speaking:
            timer.cancel()
        self._speaking.clear()
        if self._asked is not None:
            self.notes.note(*self._asked, "collision")
            self._asked = None
        self.notes.note(device, asking, "collision")
