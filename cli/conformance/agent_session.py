"""What goes on between us and an agent under test: everything it says is opened, noted and confirmed.

One thread plays the scenario and, whenever it waits, opens what came and confirms it; paho's thread only
hands over. Every wait has a deadline. Relies on `bookkeeper` for confirmations, on the plant's log for what
devices really gave. Not here: what is done to the agent (`agent_run`), any judgement.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cli.conformance.agent_evidence import AgentEvidence, Hole, Life, Mark, Told, Trouble, header
from cli.conformance.agent_ground import ENTITY, EVERY_MS, GATEWAY, SET_BY_HAND, AgentGround
from cli.conformance.bookkeeper import Bookkeeper, Letter
from cli.conformance.opened import Heard, Kind, Opener
from cli.conformance.peer import Arrival, Peer
from cli.process import ProcessFailed
from core.manifest import Manifest
from core.ranges import Range, RangeSet
from core.records import ManifestRecord, Start
from core.topics import manifest_topic, state_topic, stream_filter
from simulator.ctlsocket import Ctl

READY_S: Final = 30.0
ANSWER_S: Final = 12.0
"""Longest wait for something to be sent again; its own time is 2 s, and a busy machine takes longer."""
CONFIRM_S: Final = 0.2
LOOK_S: Final = 0.02
LASTS: Final = 1 << 60


class AgentSession:
    """One run's conversation. One owner."""

    def __init__(self, ground: AgentGround, say: Callable[[str], None]) -> None:
        self.ground: Final = ground
        self.say: Final = say
        self.books: Final = Bookkeeper(GATEWAY, ENTITY, ground.key_of(ENTITY))
        self.muted = True
        """Nothing is confirmed by itself."""
        self.first_good: Letter | None = None
        """The first confirmation of these books that was a good one."""
        self.lives: Final[list[Life]] = []
        self.holes: Final[list[Hole]] = []
        self.troubles: list[Trouble] = []
        self.marks: Final[dict[str, Mark]] = {}
        self.asked: dict[str, Range] = {}
        self.asked_manifest = ""
        self.starts: Final[list[tuple[int, str, Start]]] = []
        """Start records with the message's number and the epoch, as they came."""
        self.value_ticks: Final[dict[str, int]] = {}
        """Latest tick with a value, by device."""
        self._told: list[Told] = []
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._heard: list[Heard] = []
        self._opener: Final = Opener(GATEWAY, ENTITY, ground.certs / "ca.pem")
        self._devices: dict[str, dict[int, str]] = {}
        self._confirmed_s = 0.0
        self._peer: Peer | None = None

    # --- the connection

    def peer(self) -> Peer:
        """Return our own client, made at the first call; it is a context manager."""
        if self._peer is None:
            filters = [stream_filter(ENTITY), state_topic(GATEWAY), manifest_topic(GATEWAY, ENTITY)]
            self._peer = Peer(
                ENTITY, "conformance", self.ground.broker, self.ground.certs, filters, self._hear
            )
        return self._peer

    def send(self, letter: Letter, *, retain: bool = False) -> None:
        """Publish a confirmation or question, and note it: one that nobody acknowledged may have come too."""
        mark = self.now()
        taken = self.peer().publish(letter.topic, letter.payload, retain=retain)
        self._told.append(Told(letter.kind, mark, letter.books, letter.n, letter.words, acknowledged=taken))
        if taken and letter.kind == "good" and self.first_good is None:
            self.first_good = letter

    def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Open and confirm what comes until a condition holds; False at the deadline, or when it died."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._pump()
            if holds():
                return True
            if time.monotonic() >= deadline or self.died():
                return False
            time.sleep(LOOK_S)

    def pause(self, seconds: float) -> None:
        """Go on for a while."""
        self.until(lambda: False, seconds)

    # --- what was heard

    def messages(self) -> list[Heard]:
        """Return every message so far."""
        self._take()
        return self._heard

    def streams(self, since: int = 0) -> list[Heard]:
        """Return messages of the stream from a number on."""
        return [one for one in self.messages()[since:] if one.kind is Kind.STREAM and one.good]

    def epoch(self) -> str:
        """Return the epoch that runs: that of the latest start record."""
        return max(self.starts, key=lambda one: one[2].at)[1] if self.starts else ""

    def names(self, letter: Letter, since: int) -> bool:
        """Tell whether a message since then names a confirmation as the last one taken."""
        return any(
            (header(one).books, header(one).n) == (letter.books, letter.n) for one in self.streams(since)
        )

    def covered(self, since: int, epoch: str) -> RangeSet:
        """Return what messages from a number on cover of the data of an epoch."""
        found = RangeSet()
        for one in self.streams(since):
            stream = header(one)
            if stream.epoch == epoch and one.is_data:
                found.add(stream.first, stream.last)
        return found

    def fresh(self, since: int) -> list[Heard]:
        """Return messages with rows of the running epoch that came since, of sequences not heard before."""
        epoch = self.epoch()
        before = [
            header(one).last
            for one in self.streams()[:]
            if one.number < since and one.is_data and header(one).epoch == epoch
        ]
        known = max(before, default=0)
        return [
            one
            for one in self.streams(since)
            if header(one).rows and header(one).epoch == epoch and header(one).first > known
        ]

    def offline(self) -> bool:
        """Tell whether the last state says off line."""
        states = [one.state for one in self.messages() if one.state is not None and one.good]
        return bool(states) and not states[-1].online

    def whole(self) -> bool:
        """Tell whether nothing is missing of the epochs that are known."""
        ends: dict[str, int] = {}
        gone: dict[str, RangeSet] = {}
        for _, _, start in self.starts:
            for before in start.before:
                ends[before.epoch] = before.last
                gone.setdefault(before.epoch, RangeSet()).update(RangeSet(before.lost))
        for epoch in {header(one).epoch for one in self.streams()}:
            there = self.covered(0, epoch)
            last = max([ends.get(epoch, 0), *(end for _, end in there)])
            there.update(gone.get(epoch, RangeSet()))
            if there.first_missing(1, last) is not None:
                return False
        return True

    # --- lives, marks, faults

    def now(self) -> Mark:
        """Return this instant."""
        return Mark(now_ms(), len(self.messages()))

    def mark(self, name: str) -> Mark:
        """Remember this instant under a name."""
        self.marks[name] = self.now()
        return self.marks[name]

    def begin_life(self) -> None:
        """Start the program, when it is ours to start."""
        self.lives.append(Life(self.now()))
        if self.ground.program is not None:
            self.ground.program.start(wait=False)

    def end_life(self, how: str, code: int | None) -> None:
        """Note that a life is over."""
        program = self.ground.program
        words = program.tail() if program is not None and not how else ""
        self.lives[-1] = Life(self.lives[-1].begun, self.now(), how, code, words)

    def died(self) -> bool:
        """Tell whether the program ended although nobody ended it."""
        program = self.ground.program
        alive = program is None or program.running or not self.lives
        return not alive and self.lives[-1].ended is None

    def ctl(self, **request: object) -> None:
        """Interfere with the plant."""
        with Ctl(self.ground.plant_dir) as ctl:
            ctl.ask(**request)

    def trouble(self, device: str, fault: dict[str, object]) -> None:
        """Let a fault of a device begin."""
        self.ctl(do="fault", device=device, **fault)
        self.troubles.append(Trouble(device, str(fault["kind"]), now_ms(), LASTS))

    def well(self, device: str) -> None:
        """Let the faults of a device end."""
        end_ms = now_ms()
        self.ctl(do="clear", device=device)
        self.troubles = [
            Trouble(one.device, one.kind, one.begin_ms, end_ms)
            if one.device == device and one.end_ms == LASTS
            else one
            for one in self.troubles
        ]

    def polled_after(self, at_ms: int) -> set[str]:
        """Return the devices that have a value at a tick after an instant."""
        self._take()
        return {device for device, tick in self.value_ticks.items() if tick > at_ms}

    def evidence(self) -> AgentEvidence:
        """Return all that was seen."""
        return AgentEvidence(
            gateway=GATEWAY,
            entity=ENTITY,
            every_ms=EVERY_MS,
            heard=tuple(self.messages()),
            told=tuple(self._told),
            lives=tuple(self.lives),
            troubles=tuple(self.troubles),
            holes=tuple(self.holes),
            counts=counts(self.ground.stand.plant_log, self.ground.devices),
            values=SET_BY_HAND,
            marks=dict(self.marks),
            asked=dict(self.asked),
            asked_manifest=self.asked_manifest,
            ready_s=READY_S,
            resend_s=ANSWER_S,
        )

    # --- inside

    def _hear(self, arrival: Arrival) -> None:
        with self._lock:
            self._arrivals.append(arrival)

    def _take(self) -> None:
        """Open what came; with a new certificate also what could not be verified before."""
        with self._lock:
            new = self._arrivals[len(self._heard) :]
        for arrival in new:
            admitted = self._opener.admitted
            self._heard.append(self._opener.open(len(self._heard), arrival))
            self._note(self._heard[-1])
            if self._opener.admitted != admitted:
                for number, one in enumerate(self._heard):
                    if one.signature_fault:
                        self._heard[number] = self._opener.open(number, self._arrivals[number])
                        self._note(self._heard[number])

    def _note(self, heard: Heard) -> None:
        """Remember what waits ask for."""
        if not heard.good or heard.stream is None:
            return
        self.books.take(heard)
        stream = header(heard)
        for record in stream.records:
            if isinstance(record, ManifestRecord):
                self._devices[record.hash] = _devices_of(record.manifest)
            if isinstance(record, Start):
                self.starts.append((heard.number, stream.epoch, record))
        groups = self._devices.get(stream.manifest, {})
        for row in stream.rows:
            device = groups.get(row.group)
            if device is not None and any(value is not None for value in row.values):
                self.value_ticks[device] = max(row.tick, self.value_ticks.get(device, 0))

    def _pump(self) -> None:
        """Confirm what came, when it is time to."""
        self._take()
        now_s = time.monotonic()
        if (
            self.books.dirty
            and not self.muted
            and now_s - self._confirmed_s >= CONFIRM_S
            and self.peer().ready
        ):
            self._confirmed_s = now_s
            self.send(self.books.confirmation())


def _devices_of(manifest: Manifest) -> dict[int, str]:
    return {group.group: group.device for group in manifest.groups}


def counts(plant_log: Path, devices: list[str]) -> dict[str, dict[int, int]]:
    """Return by device each count that it gave and when, from the plant's log."""
    found: dict[str, dict[int, int]] = {device: {} for device in devices}
    try:
        with plant_log.open("rb") as lines:
            for line in lines:
                if line.startswith(b'{"kind":"count"') and line.endswith(b"}\n"):
                    entry = json.loads(line)
                    found.setdefault(entry["device"], {})[entry["count"]] = entry["ms"]
    except OSError as error:
        raise ProcessFailed(f"the plant's log {plant_log} cannot be read: {error.strerror}") from error
    return found


def now_ms() -> int:
    """Return the wall clock: UTC, ms since 1970."""
    return time.time_ns() // 1_000_000
