"""A gateway that takes one request at a time, in virtual time."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from simulator.faults import Fault, FaultKind
from simulator.gate import MOST_WAITING, Gate
from tests.support.virtual_time import VirtualTimeLoop

Told = list[tuple[str, float]]


def run(scene: Callable[[Callable[[str, Fault | None], bool]], None], *, exchange_s: float = 0.0) -> Told:
    """Play a scene that asks the gate for turns; return what came of each, and when."""
    told: Told = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = Gate(1.0, exchange_s)

        def finish(name: str, fault: Fault | None) -> None:
            told.append((name, round(loop.time(), 3)))

        def turn(name: str, fault: Fault | None) -> bool:
            gave_up = partial(finish, f"{name} gave up", None)
            return gate.turn(fault, partial(finish, name), gave_up)

        scene(turn)
        await asyncio.sleep(100)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    return told


SLOW = Fault(FaultKind.SLOW, ms=300)


def test_who_is_slow_holds_up_who_comes_after() -> None:
    def scene(turn: Callable[[str, Fault | None], bool]) -> None:
        turn("first", SLOW)
        turn("second", None)
        turn("third", SLOW)

    assert run(scene) == [("first", 0.3), ("second", 0.3), ("third", 0.6)]


@pytest.mark.parametrize(
    "fault", [Fault(FaultKind.SILENT), Fault(FaultKind.REBOOT), Fault(FaultKind.LATE, ms=1001)]
)
def test_who_does_not_answer_in_time_costs_the_gateways_patience(fault: Fault) -> None:
    def scene(turn: Callable[[str, Fault | None], bool]) -> None:
        turn("first", fault)
        turn("second", None)

    assert run(scene) == [("first gave up", 1.0), ("second", 1.0)]


def test_every_request_takes_its_time_on_the_bus_behind() -> None:
    def scene(turn: Callable[[str, Fault | None], bool]) -> None:
        for name in "abc":
            turn(name, None)

    assert run(scene, exchange_s=0.1) == [("a", 0.1), ("b", 0.2), ("c", 0.3)]


def test_more_than_can_wait_are_turned_away() -> None:
    turns: list[bool] = []

    def scene(turn: Callable[[str, Fault | None], bool]) -> None:
        turns.extend(turn(str(number), SLOW) for number in range(MOST_WAITING + 2))

    assert len(run(scene)) == MOST_WAITING + 1
    assert turns == [True] * (MOST_WAITING + 1) + [False]
