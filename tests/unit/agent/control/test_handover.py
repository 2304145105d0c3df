"""One control takes over from others: all of it or nothing, and who has to end takes his consent back."""

import asyncio
from dataclasses import replace
from decimal import Decimal

from agent.control.handover import Claim, Handover
from agent.control.life import Control, State

CONFIRMED = Control(
    entity="esco1",
    id="c-1",
    device="wh-01",
    point="LoadShed",
    verb="shed",
    grant="g",
    revision=1,
    level=10,
    preemptible="always",
    value=Decimal(1),
    restore_to=None,
    hold="timer",
    on_comm_loss="restore",
    comm_loss_after_s=600,
    opt_out="any_time",
    begin_ms=0,
    end_ms=1000,
    state=State.CONFIRMED,
    changed_ms=0,
    spread_s=0,
)


class Holding:
    """A control that stands still as soon as it is asked to, if it does."""

    def __init__(self, control: Control, stands: bool = True) -> None:
        self.control = control
        self.asked: Claim | None = None
        self.reached = asyncio.Event()
        self._stands = stands

    def claim(self, claim: Claim) -> bool:
        if self.asked is not None:
            return False
        self.asked = claim
        self.reached.set()
        if self._stands:
            claim.stands(True)
        return True


async def test_all_that_stand_still_are_superseded_and_what_had_not_begun_is_cancelled() -> None:
    running = Holding(CONFIRMED)
    waiting = Holding(replace(CONFIRMED, id="c-2", state=State.ACCEPTED))
    handover = Handover((running, waiting))
    assert await handover.agreed()
    assert handover.close() == [(running.control, State.SUPERSEDED), (waiting.control, State.CANCELLED)]
    after = replace(CONFIRMED, state=State.SUPERSEDED)
    handover.done([after])
    assert running.asked is not None
    assert running.asked.closing
    assert await running.asked.verdict is after


async def test_holder_that_has_to_end_takes_its_consent_back() -> None:
    running, other = Holding(CONFIRMED), Holding(replace(CONFIRMED, id="c-2"))
    handover = Handover((running, other))
    assert await handover.agreed()
    assert running.asked is not None
    running.asked.stands(False)
    assert handover.close() is None
    assert not running.asked.closing
    handover.give_up()
    assert await running.asked.verdict is None
    assert running.asked.turn.is_set()


async def test_nothing_is_agreed_while_another_control_takes_over() -> None:
    running = Holding(CONFIRMED)
    assert await Handover((running,)).agreed()
    assert not await Handover((running,)).agreed()


async def test_it_waits_until_the_last_one_stands_still_or_is_over() -> None:
    running, late = Holding(CONFIRMED), Holding(replace(CONFIRMED, id="c-2"), stands=False)
    handover = Handover((running, late))
    async with asyncio.TaskGroup() as group:
        agreed = group.create_task(handover.agreed(), name="agreed")
        await late.reached.wait()
        assert late.asked is not None
        assert not agreed.done()
        late.control = replace(late.control, state=State.RESTORED)
        late.asked.stands(True)
    assert agreed.result()
    assert handover.close() == [(running.control, State.SUPERSEDED)]
