"""Commands on a simulated relay over a real socket: taken once, obeyed, shown, put back whatever happens."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Clock
from agent.control.desk import Desk, Step
from agent.control.life import Control
from agent.control.optouts import write as write_opt_outs
from agent.control.repeats import AT_ONCE
from core.errors import StoreError
from drivers.modbus.link import ControlLink
from policies.command import Issuer
from policies.facts import Freshness
from policies.forms import instant_text
from policies.grant import Verb
from simulator.pytest_plugin import Premises, Starter
from tests.support.controlrig import (
    DEVICE,
    HOUR_MS,
    OTHER_KEY,
    Documents,
    command,
    now_ms,
    rig,
    rulebook,
    signed,
)

PAST = instant_text(now_ms() - 180_000)
pytestmark = [pytest.mark.field, pytest.mark.timeout(60)]


@pytest.fixture
def home(portico_premises: Starter) -> Premises:
    return portico_premises("household")


async def test_a_permitted_shed_is_executed_read_back_and_restored(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="3s"))
        shown = await gateway.until("confirmed")
        assert (shown.value, shown.entity, gateway.shed()) == ("1", "esco1", True)
        await gateway.until("restored")
        assert gateway.shed() is False
        assert await gateway.states() == ["accepted", "dispatched", "confirmed", "restoring", "restored"]


async def test_a_command_is_ready_to_be_written_before_its_busy_line_is_free(
    home: Premises, tmp_path: Path
) -> None:
    free = asyncio.Event()

    async def occupy(link: ControlLink) -> None:
        await free.wait()

    async with rig(home, tmp_path) as gateway, asyncio.TaskGroup() as group:
        group.create_task(gateway.lane.take(occupy))
        gateway.send(command())
        await gateway.until("dispatched")
        assert gateway.shed() is False
        free.set()
        await gateway.until("confirmed")


async def test_the_device_gets_its_own_hold_first_and_for_no_longer_than_the_control(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="100s"))
        await gateway.until("confirmed")
        assert 90 <= home.values(DEVICE)["HoldSeconds"] <= 100


async def test_a_device_obeys_its_own_timer_when_the_gateway_is_gone(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="3s"))
        await gateway.until("confirmed")
    home.until(lambda: home.values(DEVICE)["LoadState"] in (0, False), "the relay fell back by itself")


async def test_a_command_that_comes_before_the_policy_is_proved_again_waits_for_it(
    home: Premises, tmp_path: Path
) -> None:
    documents = Documents(rulebook=None, found=asyncio.Event())
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command(duration="1s"))
        for _ in range(20):  # turns enough for it to be taken, if it did not wait
            await asyncio.sleep(0)
        documents.rulebook = rulebook()
        assert documents.found is not None
        documents.found.set()
        await gateway.until("restored")
        assert not gateway.commander.taker.counts


async def test_a_control_whose_time_comes_before_the_policy_is_proved_again_waits_for_it(
    home: Premises, tmp_path: Path
) -> None:
    begin = now_ms() + 5_000
    before = Documents(rulebook=rulebook(on_comm_loss="hold_to_end"))
    async with rig(home, tmp_path, before, orderly=False) as gateway:
        gateway.send(command(start=instant_text(begin), duration="10s"))
        await gateway.until("accepted")
    documents = Documents(rulebook=None, found=asyncio.Event())
    async with rig(home, tmp_path, documents) as gateway:
        async with asyncio.timeout(20):
            while now_ms() < begin + 500:  # noqa: ASYNC110  # the clock on the wall is waited for
                await asyncio.sleep(0.05)
        documents.rulebook = before.rulebook
        assert documents.found is not None
        documents.found.set()
        await gateway.until("confirmed")


async def test_the_same_command_again_is_answered_and_not_done_again(home: Premises, tmp_path: Path) -> None:
    raw = signed(command(duration="1s"))
    async with rig(home, tmp_path) as gateway:
        gateway.send(raw)
        await gateway.until("restored")
        gateway.send(raw)
        await gateway.told_so_often(6)
        assert (await gateway.states())[-1] == "restored"
        assert (await gateway.states()).count("dispatched") == 1
        assert [one.reasons for one in await gateway.outcomes()][-2:] == [[], ["replayed", "ended"]]
    async with rig(home, tmp_path) as gateway:
        gateway.send(raw)
        await gateway.told_so_often(2)
        assert await gateway.states() == ["restored", "restored"]
        again = (await gateway.outcomes())[-1]
        assert again.text == "it came before; this is where it stands"
        assert "replayed" in again.reasons


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (
            {"expires": instant_text(now_ms() - 120_000), "issued": instant_text(now_ms() - 180_000)},
            "command-expired",
        ),
        ({"duration": "2h"}, "duration"),
        ({"value": "2"}, "value-range"),
        ({"purpose": "fun"}, "purpose"),
        ({"gateway": "gw-0002"}, "wrong-gateway"),
        ({"issuer": Issuer(entity="esco1", application="other", individual="op-17")}, "unknown-application"),
        ({"issuer": Issuer(entity="esco1", application="hub", individual="op-99")}, "unknown-individual"),
    ],
)
async def test_what_the_policy_does_not_allow_is_refused_with_its_code_and_the_device_left_alone(
    home: Premises, tmp_path: Path, changed: dict[str, object], code: str
) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(**changed))
        assert code in (await gateway.until("refused")).reasons
        assert gateway.shed() is False


async def test_another_entity_may_not_and_is_told_so(home: Premises, tmp_path: Path) -> None:
    issuer = Issuer(entity="esco2", application="hub", individual="op-17")
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(issuer=issuer), entity="esco2", key=OTHER_KEY)
        assert "no-grant" in (await gateway.until("refused")).reasons
        assert gateway.shed() is False


async def test_what_nobody_signed_is_counted_and_nothing_else(home: Premises, tmp_path: Path) -> None:
    good = signed(command())
    async with rig(home, tmp_path) as gateway:
        for raw in (b"", b"\xff" * 10, b"a.b.c", good[:-4] + b"AAAA", signed(command(id="c-2"), OTHER_KEY)):
            gateway.send(raw)
        gateway.send(good, entity="esco2")
        gateway.send(good, device="other")
        gateway.send(command(id="last"))
        await gateway.until("confirmed", "last")
        assert sum(gateway.commander.taker.counts.values()) == 7
        assert {one.command for one in await gateway.told()} == {"last"}


async def test_a_retained_command_is_refused(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(), retained=True)
        assert (await gateway.until("refused")).reasons == ["retained"]
        assert gateway.shed() is False


async def test_an_id_with_other_content_is_refused_and_an_older_command(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="30s"))
        await gateway.until("confirmed")
        gateway.send(command(duration="40s"))
        await gateway.until("refused")
        assert (await gateway.outcomes())[-1].reasons == ["id-reused"]
        gateway.send(command(id="old", issued=instant_text(now_ms() - 30_000)))
        assert (await gateway.until("refused", "old")).reasons == ["out-of-order"]


async def test_its_issuer_may_cancel_and_the_device_goes_back_at_once(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        cancel = {"id": "c-2", "verb": Verb.CANCEL, "value": None, "duration": None, "cancels": "c-1"}
        issuer = Issuer(entity="esco2", application="hub", individual="op-17")
        gateway.send(command(**{**cancel, "id": "c-3", "issuer": issuer}), entity="esco2", key=OTHER_KEY)
        assert (await gateway.until("refused", "c-3")).reasons == ["not-yours"]
        assert gateway.shed() is True
        gateway.send(command(**cancel))
        await gateway.until("done", "c-2")
        restored = await gateway.until("restored")
        assert restored is not None
        assert gateway.shed() is False


async def test_a_cancel_needs_no_fresh_policy_and_a_shed_does(home: Premises, tmp_path: Path) -> None:
    documents = Documents()
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        documents.freshness = Freshness.EXPIRED
        gateway.send(command(id="c-2"))
        assert "policy-expired" in (await gateway.until("refused", "c-2")).reasons
        gateway.send(command(id="c-3", verb=Verb.CANCEL, value=None, duration=None, cancels="c-1"))
        await gateway.until("restored")


async def test_the_customers_no_ends_a_control_within_a_second_and_refuses_the_next(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        write_opt_outs(tmp_path, [DEVICE])
        assert (await gateway.until("restoring")).reasons == ["opted-out"]
        await gateway.until("restored")
        gateway.send(command(id="c-2"))
        assert "opted-out" in (await gateway.until("refused", "c-2")).reasons
        write_opt_outs(tmp_path, [])
        gateway.send(command(id="c-3"))
        await gateway.until("confirmed", "c-3")


@pytest.mark.parametrize("speaks_of", [{}, {"device": DEVICE}, {"entity": "esco1"}, {"grant": "shed"}])
async def test_the_customers_no_in_the_assignment_ends_what_runs_and_what_waits(
    home: Premises, tmp_path: Path, speaks_of: dict[str, str]
) -> None:
    documents = Documents(rulebook(lead={"max": "1h"}))
    async with rig(home, tmp_path, documents) as gateway:
        later = instant_text(now_ms() + 600_000)
        gateway.send(command(id="c-2", start=later))
        await gateway.until("accepted", "c-2")
        gateway.send(command())
        await gateway.until("confirmed")
        documents.rulebook = rulebook(opt_outs=[speaks_of])
        assert (await gateway.until("restoring")).reasons == ["opted-out"]
        assert (await gateway.until("cancelled", "c-2")).reasons == ["opted-out"]
        await gateway.until("restored")


async def test_a_no_in_the_assignment_of_another_device_or_time_or_to_what_is_mandatory_ends_nothing(
    home: Premises, tmp_path: Path
) -> None:
    past, future = instant_text(now_ms() - HOUR_MS), instant_text(now_ms() + HOUR_MS)
    others = [{"device": "ev"}, {"valid": {"until": past}}, {"valid": {"from": future}}]
    documents = Documents(rulebook())
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command(duration="3s"))
        await gateway.until("confirmed")
        documents.rulebook = rulebook(opt_outs=others)
        assert (await gateway.until("restoring")).reasons == ["ended"]
        await gateway.until("restored")
        documents.rulebook = rulebook(opt_out="none")
        gateway.send(command(id="c-2", duration="3s"))
        await gateway.until("confirmed", "c-2")
        documents.rulebook = rulebook(opt_out="none", opt_outs=[{}])
        assert (await gateway.until("restoring", "c-2")).reasons == ["ended"]


async def test_without_a_policy_any_more_what_runs_is_put_back_whatever_its_grant_says(
    home: Premises, tmp_path: Path
) -> None:
    documents = Documents(rulebook(on_comm_loss="hold_to_end", opt_out="none"))
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        documents.rulebook = None
        assert (await gateway.until("restoring")).reasons == ["no-policy"]
        await gateway.until("restored")
        assert gateway.shed() is False


async def test_without_an_assignment_that_counts_what_runs_is_put_back(
    home: Premises, tmp_path: Path
) -> None:
    documents = Documents()
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        documents.freshness = Freshness.NO_POLICY
        assert (await gateway.until("restoring")).reasons == ["no-policy"]


async def test_a_policy_that_ran_out_lets_a_control_run_to_its_end(home: Premises, tmp_path: Path) -> None:
    documents = Documents()
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command(duration="3s"))
        await gateway.until("confirmed")
        documents.freshness = Freshness.ROOT_EXPIRED
        assert (await gateway.until("restoring")).reasons == ["ended"]


async def test_a_control_goes_on_after_a_start_before_the_policy_was_looked_for(
    home: Premises, tmp_path: Path
) -> None:
    before = Documents(rulebook(on_comm_loss="hold_to_end"))
    async with rig(home, tmp_path, before, orderly=False) as gateway:
        gateway.send(command(duration="6s"))
        await gateway.until("confirmed")
    documents = Documents(rulebook=None, freshness=Freshness.NO_POLICY, found=asyncio.Event())
    async with rig(home, tmp_path, documents) as gateway:
        begun = now_ms()
        async with asyncio.timeout(20):
            while now_ms() < begun + 1_500:  # noqa: ASYNC110  # the clock on the wall is waited for
                await asyncio.sleep(0.05)
        documents.rulebook, documents.freshness = before.rulebook, Freshness.FRESH
        assert documents.found is not None
        documents.found.set()
        assert (await gateway.until("restoring")).reasons == ["ended"]


class Drawing(random.Random):
    """Draws always the same part of what it may draw."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part, self.uniforms = part, 0

    def uniform(self, a: float, b: float) -> float:
        self.uniforms += 1
        return a + (b - a) * self.part

    def randint(self, a: int, b: int) -> int:
        return round(a + (b - a) * self.part)


async def test_lost_contact_puts_back_within_the_grants_random_end_and_the_customers_no_at_once(
    home: Premises, tmp_path: Path
) -> None:
    documents, rng = Documents(rulebook(randomise={"end": "30min"})), Drawing(0.9)
    async with rig(home, tmp_path, documents, rng=rng) as gateway:
        gateway.send(command(duration="30min"))
        await gateway.until("confirmed")
        gateway.commander.taker.contacts.silent_s = lambda entity: 1e6  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            while rng.uniforms < 3:  # noqa: ASYNC110  # that it was drawn shows nowhere else
                await asyncio.sleep(0.02)
        assert (await gateway.states())[-1] == "confirmed"
        assert gateway.shed() is True
        write_opt_outs(tmp_path, [DEVICE])
        assert (await gateway.until("restoring")).reasons == ["opted-out"]
        await gateway.until("restored")


async def test_lost_contact_puts_back_when_the_drawn_instant_comes(home: Premises, tmp_path: Path) -> None:
    documents, rng = Documents(rulebook(randomise={"end": "10min"})), Drawing(0.002)
    async with rig(home, tmp_path, documents, rng=rng) as gateway:
        gateway.send(command(duration="30min"))
        await gateway.until("confirmed")
        gateway.commander.taker.contacts.silent_s = lambda entity: 1e6  # type: ignore[method-assign]
        assert (await gateway.until("restoring")).reasons == ["contact-lost"]
        await gateway.until("restored")


async def test_lost_contact_never_prolongs_a_control(home: Premises, tmp_path: Path) -> None:
    documents, rng = Documents(rulebook(randomise={"end": "50min"})), Drawing(0.0)
    async with rig(home, tmp_path, documents, rng=rng) as gateway:
        gateway.send(command(duration="4s"))
        await gateway.until("confirmed")
        rng.part = 1.0
        gateway.commander.taker.contacts.silent_s = lambda entity: 1e6  # type: ignore[method-assign]
        assert (await gateway.until("restoring")).reasons == ["ended"]
        await gateway.until("restored")


async def test_the_same_command_at_two_gateways_ends_at_two_instants(home: Premises, tmp_path: Path) -> None:
    ends = []
    for name, part in (("a", 0.1), ("b", 0.7)):
        (tmp_path / name).mkdir()
        documents = Documents(rulebook(randomise={"end": "100s"}))
        async with rig(home, tmp_path / name, documents, rng=Drawing(part)) as gateway:
            gateway.send(command(duration="60s"))
            told = await gateway.until("accepted")
            ends.append(int(told.x["end"]) - int(told.x["begin"]))
    assert ends == [70_000, 130_000]


async def test_a_later_command_takes_over_without_letting_go_between(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="30s"))
        await gateway.until("confirmed")
        gateway.send(command(id="c-2", duration="2s"))
        await gateway.until("superseded")
        await gateway.until("restored", "c-2")
        assert "restoring" not in await gateway.states("c-1")
        assert gateway.shed() is False


class Refusing(Desk):
    """Cannot write down that one control takes over from another."""

    async def steps(self, *wanted: Step) -> list[Control]:
        if len(wanted) > 1:
            raise StoreError("the disk is full")
        return await super().steps(*wanted)


async def test_a_control_that_nobody_could_take_over_goes_on_and_is_put_back(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, desk_type=Refusing) as gateway:
        gateway.send(command(duration="4s"))
        await gateway.until("confirmed")
        gateway.send(command(id="c-2", duration="30s"))
        await gateway.until("accepted", "c-2")
        assert (await gateway.until("restored")).reasons == []
        assert await gateway.states() == ["accepted", "dispatched", "confirmed", "restoring", "restored"]
        assert gateway.shed() is False


async def test_a_control_that_waited_over_a_restart_takes_over_as_it_was_going_to(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="60s"))
        await gateway.until("confirmed")
        later = instant_text(now_ms() + 8_000)
        gateway.send(command(id="c-2", start=later, duration="2s"))
        await gateway.until("accepted", "c-2")
    async with rig(home, tmp_path) as gateway:
        gateway.commander.taker.contacts.heard("esco1", now_ms())
        await gateway.until("superseded")
        await gateway.until("restored", "c-2")
        assert gateway.shed() is False


async def test_a_stop_begins_no_control_that_waits(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(start=instant_text(now_ms() + 1_500), duration="60s"))
        await gateway.until("accepted")
        home.fault(DEVICE, "silent")
        gateway.commander.courses.close()
        await gateway.commander.courses.get("esco1", "c-1").over.wait()  # type: ignore[union-attr]
        assert await gateway.states() == ["accepted"]


async def test_a_cancellation_ends_its_issuer_s_control_and_not_another_s_of_the_same_id(
    home: Premises, tmp_path: Path
) -> None:
    both = Documents(rulebook(also={"id": "shed-2", "from": "esco2"}))
    tomorrow = instant_text(now_ms() + 3_600_000)
    async with rig(home, tmp_path, both) as gateway:
        gateway.send(command(duration="60s"))
        await gateway.until("confirmed")
        esco2 = Issuer(entity="esco2", application="hub", individual="op-17")
        gateway.send(command(issuer=esco2, start=tomorrow), entity="esco2", key=OTHER_KEY)
        await gateway.told_so_often(4)
        ends = command(
            id="c-9", issuer=esco2, verb=Verb.CANCEL, cancels="c-1", value=None, duration=None, purpose=None
        )
        gateway.send(ends, entity="esco2", key=OTHER_KEY)
        await gateway.until("cancelled")
        assert [one.entity for one in await gateway.outcomes() if one.state == "cancelled"] == ["esco2"]
        assert gateway.shed() is True


async def test_what_was_not_obeyed_is_put_back_for_that_reason_and_not_because_its_time_was_over(
    home: Premises, tmp_path: Path
) -> None:
    home.fault(DEVICE, "ignored-writes")
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        assert (await gateway.until("failed")).reasons == ["not-obeyed"]
        assert (await gateway.until("restoring")).reasons == ["not-obeyed"]
        await gateway.until("restored")


async def test_a_device_that_does_not_obey_is_put_back_and_told(home: Premises, tmp_path: Path) -> None:
    home.fault(DEVICE, "silent", for_s=4)
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        failed = await gateway.until("failed")
        assert failed.reasons == ["timeout"]
        assert (await gateway.until("restoring")).reasons == ["timeout"]
        await gateway.until("restored")
        assert gateway.shed() is False
        assert (await gateway.states()).count("dispatched") == 1


async def test_after_a_kill_a_control_goes_on_when_its_end_lies_ahead_and_its_value_reads_back(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="8s"))
        await gateway.until("confirmed")
    async with rig(home, tmp_path) as gateway:
        assert gateway.shed() is True
        await gateway.until("restored")
        assert await gateway.states() == ["confirmed", "restoring", "restored"]
        assert (await gateway.until("restoring")).reasons == ["ended"]
        assert gateway.shed() is False


async def test_after_a_kill_what_does_not_read_back_is_put_back_at_once(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="60s"))
        await gateway.until("confirmed")
    home.set(DEVICE, "LoadShed", 0)
    async with rig(home, tmp_path) as gateway:
        back = await gateway.until("restoring")
        assert back.reasons == ["restarted"]
        await gateway.until("restored")


async def test_with_an_unsure_clock_nothing_goes_on_after_a_restart(home: Premises, tmp_path: Path) -> None:
    class Unsure(Clock):
        def state(self) -> str:
            return "unsure"

    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(duration="60s"))
        await gateway.until("confirmed")
    async with rig(home, tmp_path, clock=Unsure()) as gateway:
        await gateway.until("restored")
        assert gateway.shed() is False
        gateway.send(command(id="c-2"))
        assert "clock-unsure" in (await gateway.until("refused", "c-2")).reasons


async def test_an_orderly_stop_leaves_what_the_devices_own_timer_ends(home: Premises, tmp_path: Path) -> None:
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="5s"))
        await gateway.until("confirmed")
    assert home.values(DEVICE)["LoadState"] in (1, True)
    home.until(lambda: home.values(DEVICE)["LoadState"] in (0, False), "its own timer ended it")
    async with rig(home, tmp_path) as gateway:
        await gateway.until("restored")


async def test_a_budget_holds_over_a_restart(home: Premises, tmp_path: Path) -> None:
    documents = Documents(rulebook(budget={"count_day": 1}))
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command(duration="1s"))
        await gateway.until("restored")
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(command(id="c-2"))
        assert "budget" in (await gateway.until("refused", "c-2")).reasons


class SlowAudit(Desk):
    """Waits with each decision for others to be made meanwhile, if they are."""

    decided = 0

    async def noted(self, kind: str, body: dict[str, object]) -> None:
        self.decided += 1
        if self.decided == 1:
            self.second = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.second.wait()
        self.second.set()
        await super().noted(kind, body)


async def test_a_cancellation_that_comes_while_its_command_is_being_decided_ends_it(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, desk_type=SlowAudit) as gateway:
        gateway.send(command(duration="60s"))
        gateway.send(
            command(id="c-9", verb=Verb.CANCEL, cancels="c-1", value=None, duration=None, purpose=None)
        )
        assert (await gateway.until("done", "c-9")).reasons == []
        states = await gateway.states()
        if "dispatched" in states:
            await gateway.until("restored")
        else:
            await gateway.until("cancelled")
        assert gateway.shed() is False


async def test_commands_that_come_together_do_not_share_one_budget(home: Premises, tmp_path: Path) -> None:
    documents = Documents(rulebook(budget={"count_day": 1}))
    ids = [f"c-{number}" for number in range(4)]
    issued = now_ms()
    async with rig(home, tmp_path, documents, desk_type=SlowAudit) as gateway:
        for later, id_ in enumerate(ids):
            gateway.send(command(id=id_, issued=instant_text(issued + later), duration="2s"))
        for id_ in ids:
            await gateway.told_so_often(1, id_)
        found = {id_: await gateway.states(id_) for id_ in ids}
        assert sum("accepted" in states for states in found.values()) == 1, found
        assert [(await gateway.outcomes(id_))[0].reasons for id_ in ids[1:]] == [["budget"]] * 3


async def test_a_flood_of_one_true_command_is_answered_a_few_times_and_counted(
    home: Premises, tmp_path: Path
) -> None:
    raw, retained = signed(command(duration="1s")), signed(command(id="c-2"))
    async with rig(home, tmp_path) as gateway:
        gateway.send(raw)
        await gateway.until("restored")
        before = len(await gateway.told())
        for _ in range(100):
            gateway.send(raw)
            gateway.send(retained, retained=True)
            await gateway.taken()
        gateway.send(command(id="c-3", duration="1s"))
        await gateway.until("restored", "c-3")
        counts = gateway.commander.taker.counts
        assert (counts["replayed"], counts["retained"]) == (100, 100)
        mine = len(await gateway.outcomes("c-3"))
        assert AT_ONCE <= len(await gateway.told()) - before - mine < AT_ONCE + 10


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ahead_s": 24 * 3600}, "issued-ahead"),
        ({"ahead_s": 55}, "issued-ahead"),
        ({"gateway": "gw-0002"}, "wrong-gateway"),
        ({"issuer": Issuer(entity="esco1", application="hub", individual="op-99")}, "unknown-individual"),
    ],
)
async def test_a_command_that_is_refused_shuts_out_none_that_was_issued_before_it(
    home: Premises, tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    issued = now_ms() + changed.pop("ahead_s", 0) * 1000
    changed = {"issued": instant_text(issued), "expires": instant_text(issued + 60_000), **changed}
    async with rig(home, tmp_path) as gateway:
        before = instant_text(now_ms() - 2_000)
        gateway.send(command(**changed))
        assert code in (await gateway.until("refused")).reasons
        gateway.send(command(id="c-2", duration="1s", issued=before))
        await gateway.until("restored", "c-2")


async def test_a_command_that_is_decided_after_a_later_one_was_accepted_comes_too_late(
    home: Premises, tmp_path: Path
) -> None:
    earlier = instant_text(now_ms() - 5_000)
    async with rig(home, tmp_path, desk_type=SlowAudit) as gateway:
        gateway.send(command())
        gateway.send(command(id="c-2", issued=earlier))
        assert (await gateway.until("refused", "c-2")).reasons == ["out-of-order"]
        assert (await gateway.until("confirmed")).value == "1"
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(id="c-3", issued=earlier))
        assert (await gateway.until("refused", "c-3")).reasons == ["out-of-order"]


CANCEL: dict[str, Any] = {
    "id": "c-9",
    "verb": Verb.CANCEL,
    "cancels": "c-1",
    "value": None,
    "duration": None,
    "purpose": None,
}


async def test_a_command_that_comes_after_its_cancellation_is_refused_also_after_a_start(
    home: Premises, tmp_path: Path
) -> None:
    async with rig(home, tmp_path, orderly=False) as gateway:
        gateway.send(command(**CANCEL))
        told = await gateway.until("done", "c-9")
        assert (told.reasons, "is refused" in told.text) == (["nothing-runs"], True)
        gateway.send(command())
        assert (await gateway.until("refused")).reasons == ["cancelled"]
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(duration="30s"))
        assert (await gateway.until("refused")).reasons == ["cancelled"]
        gateway.send(command(id="c-2", duration="1s"))
        await gateway.until("restored", "c-2")
        assert await gateway.states() == ["refused"]


async def test_an_early_cancellation_is_of_its_own_entitys_command_and_by_somebody_who_may(
    home: Premises, tmp_path: Path
) -> None:
    nobody = Issuer(entity="esco1", application="hub", individual="op-99")
    other = Issuer(entity="esco2", application="hub", individual="op-17")
    async with rig(home, tmp_path) as gateway:
        gateway.send(command(**CANCEL, issuer=nobody))
        await gateway.until("refused", "c-9")
        gateway.send(command(**{**CANCEL, "id": "c-8"}, issuer=other), entity="esco2", key=OTHER_KEY)
        assert "is refused" in (await gateway.until("refused", "c-8")).text
        gateway.send(command(duration="1s"))
        await gateway.until("restored")
        gateway.send(command(issuer=other), entity="esco2", key=OTHER_KEY)
        assert (await gateway.until("refused")).reasons == ["cancelled"]


async def test_a_cancellation_that_has_expired_is_refused(home: Premises, tmp_path: Path) -> None:
    past = {"issued": PAST, "expires": instant_text(now_ms() - 120_000)}
    async with rig(home, tmp_path) as gateway:
        gateway.send(command())
        await gateway.until("confirmed")
        gateway.send(command(**{**CANCEL, **past}))
        assert (await gateway.until("refused", "c-9")).reasons == ["command-expired"]
        assert await gateway.states() == ["accepted", "dispatched", "confirmed"]
        gateway.send(command(**{**CANCEL, "id": "c-10"}))
        await gateway.until("restored")


async def test_after_the_loss_of_the_journal_older_commands_and_budgets_are_not_believed(
    home: Premises, tmp_path: Path
) -> None:
    old = signed(command())
    async with rig(home, tmp_path):
        pass
    home.set(DEVICE, "HoldSeconds", 600)
    home.set(DEVICE, "LoadShed", 1)
    for part in tmp_path.glob("control.db*"):
        part.unlink()
    documents = Documents(rulebook(budget={"count_day": 5}))
    async with rig(home, tmp_path, documents) as gateway:
        gateway.send(old)
        assert (await gateway.until("refused")).reasons == ["journal-lost"]
        gateway.send(command(id="c-2"))
        assert "budget" in (await gateway.until("refused", "c-2")).reasons
        assert ("control-unknown", DEVICE) in gateway.alarms
