"""One worker owns one line: it polls what is due, and nobody else speaks on the line.

A sample is made for every point of a group at every tick that is polled, also when
it failed, with the reason.  A device that is silent is asked at growing intervals
and costs the others nothing but that.  What could not be polled in time is not
caught up: its ticks lie in the Gap that the store derives.  Commands go before polls,
and between the tries of a request (``agent.commandlane``).

Relies on ``drivers`` for requests and decoding, on ``agent.pollround`` for when a
poll is given up, on the store for committing.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.answeredtwice import CODE, AnsweredTwice, CountsSurplus
from agent.bell import Bell
from agent.clock import Clock
from agent.commandlane import CommandLane
from agent.deviceclock import REASON, DeviceClock
from agent.groupmemory import GroupMemory, LeftOut
from agent.learned import Learning
from agent.lived import Lived
from agent.pollround import PollRound, any_answer
from agent.refusing import Refusing
from agent.schedule import LineSchedule
from agent.sense import Later, Recalled, Ticket
from agent.site import PollGroup
from core.codec import row_body
from core.errors import BadFrame, FieldError, LinkDown, NoAnswer, Refused
from drivers.modbus.learned import NOTHING, Learned
from drivers.modbus.link import ControlLink, reason_of
from drivers.modbus.plan import Request

log = logging.getLogger(__name__)

IDLE_MS: Final = 1000
"""How often a worker that has nothing to poll looks again."""
FIRST_PAUSE_S: Final = 1.0
PROBE: Final = -1
"""Stands for a read that is none of the plan."""
LONGEST_PAUSE_S: Final = 300.0
"""A silent device is probed at least this often."""


class RowSink(Protocol):
    """Where rows go; see ``agent.store.store.Store``."""

    def append_row(
        self,
        grp: int,
        tick: int,
        points: int,
        body: bytes,
        sampled: float,
        reason: str,
        ticket: Ticket | None = None,
    ) -> bool: ...

    def append_judgement(self, grp: int, later: Later, at_ms: int) -> bool: ...

    def left_out(self, grp: int, left_out: LeftOut) -> None: ...


@dataclass(slots=True)
class Silence:
    """A device, or a line, that does not answer: when it is asked again."""

    since: float
    pause_s: float
    until: float
    deferred: bool = False
    """One request was passed over in favour of another one of the device."""

    def longer(self, now: float) -> None:
        """Note one more failure."""
        self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)
        self.until = now + self.pause_s


@dataclass(slots=True)
class LineCounts:
    """What happened on a line."""

    rows: int = 0
    readings: int = 0
    refused_rows: int = 0
    overruns: int = 0
    left_out: int = 0
    """Polls without a row, on purpose: nothing changed, or a device went on giving no answer."""
    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)
    """Devices that do not answer, with the monotonic instant since when."""


Adopt = Callable[[str, Learned, tuple[PollGroup, ...]], bool]
"""Takes what was learned of a device, and its groups as planned anew; False: not now."""


class LineWorker:
    """Polls the groups of one line until cancelled."""

    def __init__(
        self,
        name: str,
        link: ControlLink,
        groups: tuple[PollGroup, ...],
        retries: int,
        clock: Clock,
        sink: RowSink,
        lived: Mapping[int, Lived],
        on_alarm: Callable[[str, bool, str, str], None],
        unsure: Callable[[], bool] = lambda: False,
        learned: Mapping[str, Learned] | None = None,
        adopt: Adopt = lambda device, learned, groups: True,
        bell: Bell | None = None,
        recalled: Mapping[int, Recalled] | None = None,
    ) -> None:
        """Prepare.

        Args:
            name: of the line.
            link: the connection; this worker alone uses it.
            groups: polled on this line.
            retries: how often a request without an answer is repeated.
            clock: wall and monotonic time.
            sink: takes the rows.
            lived: by group number, the ticks that lives before polled.
            on_alarm: (code, raised, sentence, device).
            unsure: tells whether the wall clock is not synchronised now.
            learned: what is known of the devices by name; ``groups`` are planned with it.
            adopt: makes the rows that follow those of the groups as planned anew.
            bell: wakes the workers of all lines; one of its own where none is given.
            recalled: by group number, the last row before this life.
        """
        self.name = name
        self.counts = LineCounts()
        self.twice = AnsweredTwice(name)
        self.commands = CommandLane()
        """What goes before the polls of the line."""
        self._link = link
        self._groups = groups
        self._retries = retries
        self._clock = clock
        self._bell = bell or Bell(clock)
        self._sink = sink
        self._memory = {
            group.group.group: GroupMemory(
                group.points,
                group.exps,
                group.every_ms,
                lived.get(group.group.group, Lived()),
                clock.steps,
                group.by_exception,
                (recalled or {}).get(group.group.group),
            )
            for group in groups
        }
        self._unsure = unsure
        self._adopt_plan = adopt
        self._planned = {group.group.group: group for group in groups}
        """The groups as they are planned now, by number."""
        self.learning: dict[str, Learning] = {}
        """By device."""
        for device in dict.fromkeys(group.group.device for group in groups):
            known = (learned or {}).get(device, NOTHING)
            self.learning[device] = Learning(self._groups_of(device), known, clock.mono())
        self._refusing = {device: Refusing() for device in self.learning}
        self._on_alarm = on_alarm
        self._silent: dict[int, Silence] = {}
        self._asked_at = 0.0
        """Monotonic instant of the latest request."""
        self._line_down: Silence | None = None

    async def run(self) -> None:
        """Poll for ever."""
        clock = self._clock
        schedule = LineSchedule(self._groups, clock.now_ms())
        steps = clock.steps
        try:
            while True:
                now = clock.now_ms()
                if clock.steps != steps:
                    steps = clock.steps
                    schedule.resync(now)
                    continue
                if self.commands:
                    await self._give_way()
                    continue
                next_ms = schedule.next_ms()
                if next_ms is None or next_ms > now:
                    tick = now + IDLE_MS if next_ms is None else next_ms
                    await self.commands.pause(self._bell.at(tick, self.name))
                    continue
                for tick, group in schedule.due(now):
                    if clock.steps != steps:
                        break
                    if now - tick < group.every_ms:
                        await self._poll(group, tick, now)
                    else:
                        self.counts.overruns += 1
                    now = clock.now_ms()
        finally:
            self.commands.close()
            await self._link.close()

    async def _give_way(self) -> None:
        """Let commands have their turn."""
        await self.commands.give_turns(self._link, self._connected)

    async def _poll(self, group: PollGroup, tick: int, now_ms: int) -> None:
        # A step that somebody notices while this poll is under way comes after its tick.
        steps = self._clock.steps
        mono_at_tick = self._clock.mono() - (now_ms - tick) / 1000
        group = self._planned[group.group.group]
        deadline = mono_at_tick + group.every_ms / 1000
        answers, offsets, exchanges = await self._answers(group, deadline, mono_at_tick)
        values, quality = group.decoder.decode(answers)
        number, memory, counts = group.group.group, self._memory[group.group.group], self.counts
        clocks = {index: exchanges[group.group.points[index].request] for index in memory.clocks.by_point}
        judged = memory.judge(tick, steps, values, quality, self._unsure(), clocks)
        for raised, sentence in memory.clocks.news():
            device = group.group.device
            self._on_alarm(REASON, raised, f"device {device}: {sentence}", device)
        if not judged.write:
            left_out = memory.left_out(tick, judged.silent)
            if left_out is not None:
                self._sink.left_out(number, left_out)
            counts.left_out += 1
            return
        primary = values
        if group.multiplier is not None:
            primary = group.multiplier.primary(tick, values, judged.quality)
        body = row_body(tick, number, offsets, primary, judged.quality)
        taken = self._sink.append_row(
            number, tick, len(values), body, self._clock.mono(), judged.reason, judged.row
        )
        if not taken:
            counts.refused_rows += 1
            memory.refused(judged)
            return
        memory.written(tick, steps, values, judged.silent)
        counts.rows += 1
        counts.readings += len(values)
        for later in judged.later:
            if not self._sink.append_judgement(number, later, self._clock.now_ms()):
                memory.sense.tell_again(later)

        self._replan(group.group.device)

    async def _answers(
        self, group: PollGroup, deadline: float, mono_at_tick: float
    ) -> tuple[list[bytes | str], list[int], list[tuple[float, float]]]:
        """Ask what the plan wants, and one read more where something is to be learned.

        Returns the answers, their offsets, and when each was asked for and there, in ms from the tick.
        """
        learning, mono = self.learning[group.group.device], self._clock.mono
        calm = learning.calm(group)
        if not calm:
            learning.begin(group, mono())
        answers: list[bytes | str] = [""] * len(group.requests)
        exchanges = [(0.0, 0.0)] * len(group.requests)
        done = PollRound(group.unit_id in self._silent)
        for index in range(len(answers)) if calm else learning.order(group):
            request = group.requests[index]
            instead = None if calm else learning.instead(request)
            if instead is None:
                tries = 1 if not calm and learning.once(request) else 1 + self._retries
                answers[index] = await self._answer(group, request, deadline, done, index, tries)
            else:
                answers[index] = instead
            exchanges[index] = ((self._asked_at - mono_at_tick) * 1000, (mono() - mono_at_tick) * 1000)
        probe = None if calm else learning.probe(group)
        if probe is not None and done.instead is None:
            answer = await self._answer(group, probe, deadline, done, PROBE, 1)
            if PROBE in done.answers:
                learning.told(group, answer, mono())
        self._judge(group, done)
        if done.answers and isinstance(self._link, CountsSurplus):
            frames = self._link.surplus(group.unit_id)
            if (news := self.twice.polled(group.unit_id, group.group.device, frames)) is not None:
                log.warning("%s", news[1])
                self._on_alarm(CODE, *news)
        done.answers.pop(PROBE, None)
        learning.note(group, done.answers, mono())
        return answers, [round(answered) for _, answered in exchanges], exchanges

    async def _answer(
        self,
        group: PollGroup,
        request: Request,
        deadline: float,
        done: PollRound,
        index: int,
        tries: int,
    ) -> bytes | str:
        """Return the payload of one request, or the reason why there is none; note what was really asked."""
        mono = self._clock.mono
        if (instead := done.instead) is not None:
            return instead
        silence = self._silent.get(group.unit_id)
        if self._line_down is not None and mono() < self._line_down.until:
            return "line-down"
        if silence is not None and not done.answers:  # else it answered just now
            if mono() < silence.until:
                return "backoff"
            if not silence.deferred and self.learning[group.group.device].tell_less(request):
                silence.deferred = True
                return "backoff"
            silence.deferred = False
            tries = 1
        reason = "skipped"
        for _ in range(tries):
            if self.commands:
                await self._give_way()
            if mono() >= deadline:
                return reason
            try:
                answer = await self._ask(group, request)
            except FieldError as error:
                failed = reason_of(error)
                self.counts.failures[failed] = self.counts.failures.get(failed, 0) + 1
                if isinstance(error, LinkDown) and index in done.answers:
                    break  # the device failed first; that its connection went with it comes after
                reason = failed
                done.note(index, reason, error.code if isinstance(error, Refused) else None)
                if done.too_bad or not isinstance(error, NoAnswer | BadFrame):
                    break
            else:
                done.note(index, answer)
                return answer
        return reason

    def _groups_of(self, device: str) -> tuple[PollGroup, ...]:
        return tuple(group for group in self._planned.values() if group.group.device == device)

    def _replan(self, device: str) -> None:
        """Plan a device anew when enough was learned; the rows from now on are of the new plan."""
        learning, now = self.learning[device], self._clock.mono()
        if not learning.ready(now):
            return
        groups = tuple(group.planned(learning.learned) for group in self._groups_of(device))
        if self._adopt_plan(device, learning.learned, groups):
            self._planned |= {group.group.group: group for group in groups}
            learning.adopted(groups, now)
            log.warning("device %s is planned anew: %s", device, learning.sentence)

    def clocks(self) -> Iterator[tuple[str, DeviceClock]]:
        """Yield the clock of each device that has one and was compared, by the device's name."""
        for number, memory in self._memory.items():
            for clock in memory.clocks.by_point.values():
                if clock.last is not None:
                    yield self._planned[number].group.device, clock

    def forget(self, device: str) -> None:
        """Forget what was learned of a device; its next poll goes by its type alone."""
        self.learning[device].forget(self._clock.mono())

    async def _ask(self, group: PollGroup, request: Request) -> bytes:
        link = self._link
        if not link.connected:
            await self._connected()
        self.counts.requests += 1
        self._asked_at = self._clock.mono()
        try:
            return await link.read(group.unit_id, request, group.timeout_s, group.pause_s)
        except LinkDown as error:
            if link.connected:  # the line is there; this device has not dialled in
                self._device_alarm(group, True, f"is away: {error}")
            raise

    async def _connected(self) -> None:
        """Connect where that is needed."""
        if self._link.connected:
            return
        try:
            await self._link.connect()
        except LinkDown as error:
            self._line_failed(error)
            raise
        self._line_works()

    def _line_failed(self, error: LinkDown) -> None:
        now = self._clock.mono()
        if self._line_down is None:
            self._line_down = Silence(now, FIRST_PAUSE_S, now + FIRST_PAUSE_S)
            log.warning("line %s is down: %s", self.name, error)
            self._on_alarm("line-down", True, f"line {self.name}: {error}", self.name)
        else:
            self._line_down.longer(now)

    def _line_works(self) -> None:
        if self._line_down is not None:
            seconds = self._clock.mono() - self._line_down.since
            log.warning("line %s is back after %.0f s", self.name, seconds)
            self._on_alarm("line-down", False, f"line {self.name} is back after {seconds:.0f} s", self.name)
            self._line_down = None

    def _judge(self, group: PollGroup, done: PollRound) -> None:
        """Note whether the device answered at all, and for how long to leave it alone if not."""
        asked, answers, refusing = done.answers, done.answers.values(), self._refusing[group.group.device]
        refusing.judge(group.group.group, asked, done.codes)
        if (news := refusing.news()) is not None:
            self._device_says(group, "device-refuses", *news)
        if any_answer(answers):
            self._silent.pop(group.unit_id, None)
            since = self.counts.silent.get(group.group.device)
            if refusing.absent:
                self._device_alarm(group, True, refusing.absence)
            elif since is not None and not done.by_gateway:
                seconds = self._clock.mono() - since
                self._device_alarm(group, False, f"answers again after {seconds:.0f} s")
            return
        if not any(answer in ("timeout", "bad-frame") for answer in answers):
            return
        now = self._clock.mono()
        silence = self._silent.get(group.unit_id)
        if silence is None:
            if self.learning[group.group.device].suspected(group, asked, now):
                return
            pause = max(FIRST_PAUSE_S, group.every_ms / 1000)
            self._silent[group.unit_id] = Silence(now, pause, now + pause * 0.9)
            wrong = "bad-frame" in answers and "timeout" not in answers
            self._device_alarm(group, True, "gives no right answer" if wrong else "gives no answer")
        else:
            silence.longer(now)

    def _device_alarm(self, group: PollGroup, raised: bool, what: str) -> None:
        """Say once that a device does not answer, and once that it does."""
        device = group.group.device
        if raised == (device in self.counts.silent):
            return
        if raised:
            self.counts.silent[device] = self._clock.mono()
        else:
            self.counts.silent.pop(device, None)
        self._device_says(group, "device-silent", raised, what)

    def _device_says(self, group: PollGroup, code: str, raised: bool, what: str) -> None:
        device = group.group.device
        sentence = f"device {device} (unit {group.unit_id} on line {self.name}) {what}"
        log.warning("%s", sentence)
        self._on_alarm(code, raised, sentence, device)
