"""What a whole Portico keeps when its parts end, in order or not."""

from pathlib import Path

import pytest

from cli.evidence import NoEvidence, read_books, read_store
from cli.judge import Verdict, judge
from cli.process import wait_until
from cli.stand import PORTS_WANTED, BrokerPlan, GatewayPlan, RoutePlan, Stand, StandPlan
from simulator.broker import PORTS_SETTING, free_ports, free_range

PATIENCE_S = 30.0


def rows_in_books(stand: Stand) -> int:
    try:
        return len(read_books("dso.example", stand.collector.books_path).rows)
    except NoEvidence:
        return 0


def wait_for_rows(stand: Stand, more_than: int) -> None:
    wait_until(
        lambda: rows_in_books(stand) > more_than, PATIENCE_S, lambda: f"no row came: {stand.agent.tail()}"
    )


def wait_for_commits(stand: Stand, more_than: int) -> None:
    """Wait until the store holds more rows than so many."""
    wait_until(
        lambda: len(read_store(stand.agent.plan.id, stand.agent.store_path).rows) > more_than,
        PATIENCE_S,
        lambda: f"no row was committed: {stand.agent.tail()}",
    )


def verdict_of(stand: Stand) -> Verdict:
    return judge({stand.agent.plan.id: stand.agent.store_path}, stand.books(), stand.plant_log)


def test_broker_and_devices_never_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_ports(1 + PORTS_WANTED)
    monkeypatch.setenv(PORTS_SETTING, f"{first}-{first + PORTS_WANTED}")
    stand = Stand(tmp_path)
    base = int(stand.plant.command[stand.plant.command.index("--port-base") + 1])
    assert {stand.broker_port, *range(base, base + PORTS_WANTED)} == set(free_range())


@pytest.mark.timeout(90)
def test_agent_that_ends_in_order_leaves_nothing_unconfirmed(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:
        wait_for_rows(stand, 0)
        for _ in range(3):
            # Just after arrivals: their confirmation is not back yet.
            wait_for_rows(stand, rows_in_books(stand))
            stand.agent.stop()
            verdict = verdict_of(stand)
            assert verdict.confirmed == verdict.committed > 0
            stand.agent.start()
    verdict = verdict_of(stand)
    assert verdict.faults == ()
    assert verdict.redelivered == 0


@pytest.mark.timeout(90)
def test_broker_that_forgets_what_it_acknowledged_loses_nothing(tmp_path: Path) -> None:
    plan = StandPlan(
        gateways=(GatewayPlan(every="500ms", routes=(RoutePlan(keys={"resend_after": "2s"}),)),),
        broker=BrokerPlan(persistence=False),
    )
    with Stand(tmp_path, plan) as stand:
        wait_for_rows(stand, 0)
        # The collector is away, so the broker alone holds what it acknowledged; then it forgets it.
        stand.collector.kill9()
        there = rows_in_books(stand)
        wait_for_commits(stand, there + 4)
        committed = {row.id for row in read_store("gw-0001", stand.agent.store_path).rows}
        stand.broker.kill9()
        stand.broker.start()
        stand.collector.start()
        wait_until(
            lambda: (
                committed <= {row.id for row in read_books("dso.example", stand.collector.books_path).rows}
            ),
            PATIENCE_S,
            lambda: f"what the broker forgot was not sent again: {stand.agent.tail()}",
        )
        stand.agent.stop()
    assert verdict_of(stand).faults == ()
