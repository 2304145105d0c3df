"""A serial line to the tenth of a millisecond, in virtual time: pace, silence, turn-around, collisions."""

import asyncio
import struct
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulator.bus import MOST_WAITING, PATIENCE_S, Bus, Ear, Pace
from simulator.exchange import Cut
from simulator.faults import Fault, FaultKind
from simulator.frames import checked, is_checked
from simulator.log import PlantLog
from simulator.notes import Notes
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.simulator.test_device import COUNTER, RELAY, Bench

READ = checked(bytes.fromhex("01 03 0000 0002"))
ANSWER_BYTES = 9


class Wire:
    """A channel that remembers what came when."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.cuts: list[Cut] = []

    def send(self, part: bytes) -> None:
        self.pieces.append((asyncio.get_running_loop().time(), part))

    def cut(self, cut: Cut) -> None:
        self.cuts.append(cut)

    @property
    def received(self) -> bytes:
        return b"".join(part for _, part in self.pieces)

    @property
    def ended_s(self) -> float:
        return self.pieces[-1][0]


class Scene:
    """A bus with a counter as unit 1 and a relay as unit 2."""

    def __init__(self, log: PlantLog, pace: Pace, *, queues: bool = False) -> None:
        self.log = log
        self.counter, self.relay = Bench(COUNTER), Bench(RELAY)
        self.bus = Bus(
            {1: self.counter.device, 2: self.relay.device}, Notes(log, "home/bus"), pace, queues=queues
        )
        self.wire = Wire()
        self.ear = Ear(self.wire)

    def put(self, part: bytes) -> None:
        self.bus.hear(self.ear, part)

    def outcomes(self) -> dict[str, int]:
        self.log.flush()
        return {name: n for name, n in self.log.totals.items() if name != "points"}


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(coroutine)


@pytest.fixture
def log(tmp_path: Path) -> PlantLog:
    return PlantLog(tmp_path / "log")


@pytest.mark.parametrize(
    ("baud", "bits", "silence_s"),
    [(9600, 10, 3.5 * 10 / 9600), (19_200, 11, 3.5 * 11 / 19_200), (115_200, 10, 0.00175)],
)
def test_an_answer_ends_when_its_last_bit_would_have(
    log: PlantLog, baud: int, bits: int, silence_s: float
) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(baud, bits, turnaround_s=0.005))
        scene.put(READ)
        await asyncio.sleep(1)
        assert scene.wire.received == checked(b"\x01\x03\x04\0\0\0\x01")
        wanted_s = (len(READ) + ANSWER_BYTES) * bits / baud + silence_s + 0.005
        assert scene.wire.ended_s == pytest.approx(wanted_s, abs=1e-6)

    play(main())


def test_bytes_come_in_pieces_of_about_two_milliseconds_and_never_a_silence_apart(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(READ)
        await asyncio.sleep(1)
        times = [at for at, _ in scene.wire.pieces]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) < scene.bus.pace.silence_s
        assert {len(part) for _, part in scene.wire.pieces} == {1}

    play(main())


class BusyLoop(VirtualTimeLoop):
    """Is late with every second timer, as a loop of a machine with other work."""

    late = False

    def call_at(self, when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        self.late = not self.late
        return super().call_at(when + 0.01 * self.late, *rest, **more)


def test_pieces_keep_their_order_however_late_a_timer_is(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(READ)
        await asyncio.sleep(1)
        assert scene.wire.received == checked(b"\x01\x03\x04\0\0\0\x01")

    with asyncio.Runner(loop_factory=BusyLoop) as runner:
        runner.run(main())


def test_without_a_pace_only_the_turnaround_passes(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(0, turnaround_s=0.002))
        scene.put(READ)
        await asyncio.sleep(1)
        assert [at for at, _ in scene.wire.pieces] == [pytest.approx(0.002)]

    play(main())


def test_a_request_before_the_silence_is_over_is_counted_and_one_after_it_is_not(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        exchange_s = (len(READ) + ANSWER_BYTES) * 10 / 9600 + scene.bus.pace.silence_s + 0.005
        early = []
        for quiet_s in (0.001, 0.0037, 0.001, 0.1):
            scene.put(READ)
            await asyncio.sleep(exchange_s + quiet_s)
            scene.put(READ)
            early.append(scene.bus.disorder.early)
            await asyncio.sleep(1)
        assert early == [1, 1, 2, 2]
        assert len(scene.wire.received) == 8 * ANSWER_BYTES

    play(main())


def test_two_requests_at_once_are_both_lost(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(READ + READ)
        await asyncio.sleep(1)
        assert scene.wire.received == b""
        assert scene.bus.disorder.collisions == 1
        assert scene.outcomes() == {"collision": 2}
        assert scene.counter.diary.lines == []

    play(main())


def test_a_serial_server_lets_requests_wait_and_gives_answers_in_one_piece(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600), queues=True)
        for _ in range(MOST_WAITING + 3):
            scene.put(READ)
        await asyncio.sleep(10)
        # One is on the line at once, the others that fit wait.
        assert [len(part) for _, part in scene.wire.pieces] == [ANSWER_BYTES] * (MOST_WAITING + 1)
        assert scene.bus.disorder.collisions == 0

    play(main())


def test_who_has_gone_waits_no_more(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600), queues=True)
        for _ in range(4):
            scene.put(READ)
        scene.bus.forget(scene.ear)
        await asyncio.sleep(10)
        assert len(scene.counter.diary.lines) == 1

    play(main())


def test_what_is_not_whole_is_given_up_after_a_silence(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(READ[:5])
        await asyncio.sleep(PATIENCE_S * 0.9)
        scene.put(READ[5:])
        await asyncio.sleep(1)
        assert len(scene.wire.received) == ANSWER_BYTES
        scene.put(READ[:5])
        await asyncio.sleep(PATIENCE_S * 1.1)
        scene.put(READ[5:])
        await asyncio.sleep(1)
        assert len(scene.wire.received) == ANSWER_BYTES
        assert scene.bus.disorder.broken == 2

    play(main())


def test_a_function_that_nobody_knows_is_refused_after_the_silence_that_ends_it(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(checked(bytes.fromhex("01 2b 0e 01 00")))
        await asyncio.sleep(1)
        assert scene.wire.received == checked(b"\x01\xab\x01")

    play(main())


def test_noise_without_end_is_not_kept(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        for _ in range(100):
            scene.put(b"\xff" * 100)
        assert len(scene.ear.received) <= 300
        await asyncio.sleep(1)
        scene.put(READ)
        await asyncio.sleep(1)
        assert is_checked(scene.wire.received)

    play(main())


def test_a_late_answer_into_somebody_elses_is_lost(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        late = Fault(FaultKind.LATE, ms=100)
        scene.counter.device.begin(1, late)
        scene.put(READ)
        await asyncio.sleep(0.105)
        scene.put(checked(struct.pack(">BBHH", 2, 4, 0, 6)))
        await asyncio.sleep(1)
        assert scene.wire.received[0] == 2
        assert is_checked(scene.wire.received)
        assert scene.outcomes() == {"ok": 1, "collision": 1}

    play(main())


def test_a_broadcast_is_done_by_all_and_answered_by_none(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600))
        scene.put(checked(struct.pack(">BBHH", 0, 6, 0, 60)))
        await asyncio.sleep(1)
        scene.put(checked(struct.pack(">BBHH", 0, 5, 0, 0xFF00)))
        await asyncio.sleep(1)
        assert scene.wire.received == b""
        assert scene.relay.shed == [True]

    play(main())


def test_closing_takes_away_all_that_would_still_come(log: PlantLog) -> None:
    async def main() -> None:
        scene = Scene(log, Pace(9600), queues=True)
        for _ in range(3):
            scene.put(READ)
        scene.bus.close()
        await asyncio.sleep(1)
        assert scene.wire.received == b""

    play(main())
