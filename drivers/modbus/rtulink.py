"""The link to devices on an RTU line: one request at a time, silence kept, no late answer believed.

An answer on a serial line carries no number: one that comes late looks like the answer to the request
after it.  Hence, in this order:

1. Nothing is sent before the line was silent for t3.5, or for the pause that a device wants, and what
   came meanwhile is thrown away at the very moment before the request.
2. After a deadline the line is listened to for as long as that deadline again.  A line that was just
   opened is treated so too: a program that died may have asked before.
3. A device that owes an answer, or that gave one to something else, is first asked for something of another
   length (``drivers.modbus.unit``).  Devices answer in order, so once that is back, all that was owed came
   before it (``drivers.modbus.owed``).  One that is behind by some requests never brings it in its place, and
   is not believed for as long as that lasts.  Only where the device is silent to all that has another length,
   and answers the rest, an answer counts when no second one follows within three deadlines.
4. What comes unasked behind an answer makes its device owe one.

No function is sent that nobody asked for: on a diagnostic loopback, which would be the simplest proof,
libmodbus loses its place for several requests.

A request takes its deadline and the time that its characters need at the line's speed.

Relies on ``drivers.modbus.rtu`` for frames and on ``drivers.modbus.wires`` for the wire.  Deliberately not
here: broadcasts, when to ask and when to try again (``agent``).
"""

import asyncio
from enum import Enum, auto
from typing import Final, Protocol

from core.errors import BadFrame, LinkDown, NoAnswer, Refused
from drivers.modbus import pdu, rtu
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.owed import Kind
from drivers.modbus.pdulink import PduLink, accepted
from drivers.modbus.plan import Request
from drivers.modbus.precise import PreciseSleep
from drivers.modbus.surplus import Surplus
from drivers.modbus.unit import Unit, is_firm
from drivers.modbus.wires import SerialSettings, Wire
from drivers.points import Table

SETTLE_S: Final = 0.05
"""Silence after an answer that was none: chunks of USB adapters and serial servers come 16 ms apart."""
LONGEST_BABBLE_S: Final = 5.0
"""A line that is not silent for so long cannot be used."""
ALONE: Final = 3
"""Deadlines for which a doubtful answer must stay alone.  Requests in a row are two deadlines apart, so from
a device that is always late by the same time the next answer comes before.
"""
STEPS: Final = 9
"""Reads that may be spent at once on finding out whether a unit is behind."""


class Ground(Enum):
    """Why the answer to the request that comes next may be believed, if it is of a kind that is owed."""

    NONE = auto()
    """It may not."""
    REFUSED = auto()
    """What was asked first was refused; so may this be."""
    ALONE = auto()
    """Nothing else is answered: it must stay alone."""


class Timer(Protocol):
    """Tells the time and waits, more exactly than an event loop; for one task at a time."""

    def now(self) -> float:
        """Return the instant in seconds."""

    async def until(self, instant: float) -> None:
        """Return at an instant, not before it."""

    def close(self) -> None:
        """End what it holds."""


class RtuLink(PduLink):
    """A ``ControlLink`` over RTU."""

    def __init__(
        self,
        url: LinkUrl,
        wire: Wire,
        settings: SerialSettings | None = None,
        echo: bool = False,
        timer: Timer | None = None,
    ) -> None:
        """Prepare.

        Args:
            url: where the line is, for sentences.
            wire: carries the bytes; this link alone uses it.
            settings: of the serial line; without, silence and speed are left to a serial server.
            echo: the adapter returns what is sent.
            timer: tells the time and waits; without, the machine's own.
        """
        self.url = url
        self._wire = wire
        self._character_s = settings.character_s if settings is not None else 0.0
        self._silence_s = settings.silence_s if settings is not None else 0.0
        self._echo = echo
        self._timer: Timer = timer or PreciseSleep()
        self._open = False
        self._busy = False
        self._exchange: rtu.RtuExchange | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._active_at = 0.0
        """When the last byte went over the line, as far as known."""
        self._free_at = 0.0
        """Before this, what comes is thrown away and nothing is sent."""
        self._settle_s = 0.0
        self._pause_s = 0.0
        """Silence wanted by the device spoken to last."""
        self._fresh = True
        self._unasked = b""
        self._last: tuple[int, Kind] = (0, (0, 0))
        """Unit and kind asked last."""
        self._units: dict[int, Unit] = {}
        self._surplus = Surplus()
        self._echo_free = False
        """An answer came that differs from its request: the adapter does not echo."""

    @property
    def connected(self) -> bool:
        return self._open

    def surplus(self, unit_id: int) -> int:
        """Return how many frames of a unit went beyond its requests so far: two devices may have its id."""
        return self._surplus.of(unit_id)

    async def connect(self) -> None:
        self._drop("was closed on our side")
        await self._wire.open()
        self._open = self._fresh = True
        self._echo_free = False
        self._active_at = self._timer.now()
        asyncio.get_running_loop().add_reader(self._wire.fileno(), self._readable)

    async def close(self) -> None:
        self._drop("was closed on our side")
        self._timer.close()

    async def _before_single(
        self, unit_id: int, table: Table, address: int, timeout_s: float, pause_s: float
    ) -> None:
        """Read once before the first single write: an echo would look like its confirmation."""
        if self._echo or self._echo_free:
            return
        try:
            await self.read(unit_id, Request(table, address, 1, ()), timeout_s, pause_s)
        except Refused:
            pass  # a refusal is no echo either

    async def _ask(self, unit_id: int, wanted: bytes, size: int, timeout_s: float, pause_s: float) -> bytes:
        """Send one request and return the PDU that answers it."""
        if self._busy:
            raise RuntimeError("a link is owned by one task: a second request began before the first ended")
        self._busy = True
        try:
            await self._silent(timeout_s, pause_s)
            ground = await self._settled(unit_id, wanted, size, timeout_s, pause_s)
            answer, sure = await self._exchanged(unit_id, wanted, size, timeout_s, pause_s)
            if not sure:
                await self._judge(unit_id, ground, answer, (wanted[0], size), timeout_s)
        finally:
            self._busy = False
        return accepted(self._unit(unit_id), wanted, answer)

    async def _settled(
        self, unit_id: int, wanted: bytes, size: int, timeout_s: float, pause_s: float
    ) -> Ground:
        """Let a device that owes an answer of the kind asked for bring one of another kind first."""
        kind, unit, ground = (wanted[0], size), self._at(unit_id), Ground.NONE
        if unit.owed.place(kind) is None:
            return ground
        others = unit.others(wanted, size)
        if not others:
            return Ground.ALONE
        if unit.alternate:
            unit.alternate = False
            return ground
        for _ in range(STEPS):
            other = unit.owed.clearest([*others, kind])
            try:
                answer, _ = await self._exchanged(
                    unit_id, others.get(other, wanted), other[1], timeout_s, pause_s
                )
            except NoAnswer:
                unit.told_nothing(other)
                raise
            if answer[0] & pdu.ERROR:
                if not is_firm(answer):
                    unit.told_nothing(other, answer[1])
                    accepted(self._unit(unit_id), wanted, answer)
                ground = Ground.REFUSED
            if unit.owed.place(kind) is None:
                return ground
        raise BadFrame(f"{self._unit(unit_id)} answers, but nothing tells which request")

    def _at(self, unit_id: int) -> Unit:
        return self._units.setdefault(unit_id, Unit())

    async def _judge(self, unit_id: int, ground: Ground, answer: bytes, kind: Kind, timeout_s: float) -> None:
        """Return when an answer that may be an earlier one's is to be believed; ``BadFrame`` when not."""
        if answer[0] & pdu.ERROR:
            if is_firm(answer) and ground is Ground.NONE:
                raise BadFrame(f"{self._unit(unit_id)} refused something: this request or an earlier one")
        elif ground is not Ground.ALONE:
            raise BadFrame(f"{self._unit(unit_id)} answers, but nothing tells which request")
        else:
            await self._timer.until(self._timer.now() + ALONE * timeout_s)
            self._empty()
            if not rtu.is_glitch(self._unasked):
                raise BadFrame(f"{self._unit(unit_id)} answered twice: one of the answers came late")
            self._at(unit_id).owed.sure(kind)

    async def _exchanged(
        self, unit_id: int, wanted: bytes, size: int, timeout_s: float, pause_s: float
    ) -> tuple[bytes, bool]:
        """Send one frame into silence; return the PDU that comes back, and whether it surely answers it."""
        loop = asyncio.get_running_loop()
        await self._silent(timeout_s, pause_s)
        frame = rtu.framed(unit_id, wanted)
        exchange = self._exchange = rtu.RtuExchange(frame, size, self._echo)
        answer = self._answer = loop.create_future()
        self._last, self._pause_s = (unit_id, (wanted[0], size)), pause_s
        self._at(unit_id).asked(wanted, size)
        expiry: asyncio.TimerHandle | None = None
        try:
            self._wire.write(frame)
            self._surplus.asked(unit_id)
            sent_s = len(frame) * self._character_s
            self._active_at = self._timer.now() + sent_s
            expiry = loop.call_later(sent_s + timeout_s, self._expire, exchange, timeout_s)
            found: bytes = await answer
        except LinkDown as error:
            self._drop(str(error))
            self._owe()
            raise
        except BadFrame as error:
            self._owe()
            raise BadFrame(f"{self._unit(unit_id)}: {error}") from error
        except NoAnswer as error:
            self._owe()
            raise NoAnswer(f"{self._unit(unit_id)} {error}") from error
        except BaseException:  # given up by whoever asked: the answer may still come
            self._owe()
            self._free_at = self._timer.now() + timeout_s
            raise
        finally:
            if expiry is not None:
                expiry.cancel()
            self._exchange = self._answer = None
        self._strayed(exchange)
        self._surplus.came(unit_id)
        self._settle_s = 0.0
        if found[0] not in pdu.SINGLE_WRITES:
            self._echo_free = True
        return found, self._at(unit_id).answered(wanted, size, found)

    def _owe(self) -> None:
        """Note that the answer asked for last is missing, or that it was none."""
        self._settle_s = SETTLE_S
        if self._exchange is not None:
            self._strayed(self._exchange)
            for frame in rtu.frames(self._exchange.held)[0]:
                self._surplus.came(frame[0])
        unit_id, kind = self._last
        self._at(unit_id).owed.missing(kind)

    def _strayed(self, exchange: rtu.RtuExchange) -> None:
        """Note the frames that came in the place of an answer, or before it."""
        for frame in exchange.strays:
            self._surplus.came(frame[0])
            if frame[0] in self._units:
                self._units[frame[0]].strayed(frame[1:-2])

    async def _silent(self, timeout_s: float, pause_s: float) -> None:
        """Wait until a request may be sent, and throw away what has come.

        What comes unasked makes the last answer doubtful, and its device owe another.
        """
        if not self._open:
            raise LinkDown(f"{self.url} is not connected")
        if self._fresh:
            self._free_at = self._active_at + timeout_s
            self._fresh = False
        silence_s = max(self._silence_s, self._settle_s, self._pause_s, pause_s)
        patience = max(self._free_at, self._timer.now()) + silence_s + LONGEST_BABBLE_S
        while True:
            self._empty()
            now = self._timer.now()
            ready = max(self._free_at, self._active_at + silence_s)
            if now >= ready:
                break
            if now > patience:
                raise BadFrame(f"{self.url} is never silent: does another master speak on the line?")
            await self._timer.until(ready)
        if not (rtu.is_glitch(self._unasked) or self._was_owed()):
            unit_id, kind = self._last
            self._at(unit_id).owed.missing(kind)
        self._unasked = b""

    def _was_owed(self) -> bool:
        """Note what came unasked; tell whether it was nothing but frames that were owed."""
        frames, rest = rtu.frames(self._unasked)
        owed = not rest
        for frame in frames:
            self._surplus.came(frame[0])
            unit = self._units.get(frame[0])
            owed = unit is not None and unit.late(frame[1:-2]) and owed
        return owed

    def _readable(self) -> None:
        """Take what has come."""
        try:
            chunk = self._wire.read()
        except LinkDown as error:
            self._drop(str(error))
            return
        if chunk:
            self._take(chunk)

    def _empty(self) -> None:
        """Read what waits in the kernel; ``LinkDown`` when the wire is gone."""
        while self._open:
            try:
                chunk = self._wire.read()
            except LinkDown as error:
                self._drop(str(error))
                raise
            if not chunk:
                return
            self._take(chunk)
        raise LinkDown(f"{self.url} is not connected")

    def _take(self, chunk: bytes) -> None:
        self._active_at = self._timer.now()
        exchange, answer = self._exchange, self._answer
        if exchange is None or answer is None or answer.done():
            self._unasked = (self._unasked + chunk)[-rtu.LONGEST :]
            return
        try:
            found = exchange.feed(chunk)
        except BadFrame as error:
            answer.set_exception(error)
            return
        if found is not None:
            answer.set_result(found)

    def _expire(self, exchange: rtu.RtuExchange, timeout_s: float, last: bool = False) -> None:
        """End a request without an answer; one that has begun may take the time of its characters."""
        answer = self._answer
        if self._exchange is not exchange or answer is None or answer.done():
            return
        if exchange.heard and not last:
            more_s = exchange.length * self._character_s + SETTLE_S
            asyncio.get_running_loop().call_later(more_s, self._expire, exchange, timeout_s, True)
            return
        self._free_at = self._timer.now() + timeout_s
        if exchange.heard:
            answer.set_exception(BadFrame(f"no answer within {timeout_s:g} s, only {_only(exchange)}"))
        else:
            answer.set_exception(NoAnswer(f"gave no answer within {timeout_s:g} s"))

    def _unit(self, unit_id: int) -> str:
        return f"unit {unit_id} at {self.url}"

    def _drop(self, why: str) -> None:
        """Close the wire, and end the request that waits on it."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._wire.fileno())
            self._wire.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkDown(why if str(self.url) in why else f"{self.url} {why}"))


def _only(exchange: rtu.RtuExchange) -> str:
    """Return what came instead of an answer."""
    if not exchange.strays:
        return "part of a frame, or noise"
    stray = exchange.strays[-1]
    return f"a frame of unit {stray[0]}, function {stray[1] & ~pdu.ERROR}, {len(stray)} bytes"
