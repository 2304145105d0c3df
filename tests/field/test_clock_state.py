"""A gateway whose kernel loses its synchronisation: holdover is told, and an unsure clock marks and counts.

The kernel is `tests/peers/unsync.c`: nobody here may touch the machine's clock.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.clock import STA_UNSYNC
from cli.process import wait_until
from cli.stand import GatewayPlan, Stand, StandPlan
from tests.support.balance import wait_balanced, wait_rows
from tests.support.cbuild import BuildUnavailable, build

PEER = Path(__file__).parents[1] / "peers" / "unsync.c"
PATIENCE_S = 20


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """The file with the kernel's status."""
    path = tmp_path / "status"
    path.write_text("0")
    return path


@pytest.fixture
def stand(tmp_path: Path, kernel: Path) -> Iterator[Stand]:
    try:
        shim = build(PEER, shared=True)
    except BuildUnavailable as error:
        pytest.skip(str(error))
    gateway = GatewayPlan(
        every="200ms",
        keys={"clock": "kernel"},
        env={"LD_PRELOAD": str(shim), "PORTICO_ADJTIMEX_FILE": str(kernel)},
    )
    laid = Stand(tmp_path / "stand", StandPlan(gateways=(gateway,)))
    try:
        laid.start()
        yield laid
    finally:
        laid.kill()


def says(kernel: Path, status: int) -> None:
    """Let the kernel say another status, whole at once."""
    fresh = kernel.with_suffix(".new")
    fresh.write_text(str(status))
    fresh.replace(kernel)


def asked(stand: Stand, query: str) -> list[tuple[str, ...]]:
    try:
        with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []  # not there yet


def clock_states(stand: Stand) -> list[str]:
    """What the books were told of the clock, in order."""
    rows = asked(
        stand, "SELECT body FROM record WHERE type IN ('clock', 'start') ORDER BY received_ms, epoch_no, seq"
    )
    told = [json.loads(body) for (body,) in rows]
    return [one["clock"] if one["type"] == "start" else one["state"] for one in told]


def reasons(stand: Stand) -> list[set[str]]:
    """Reasons for all points of each row, by epoch."""
    found: dict[str, set[str]] = {}
    for epoch, body in asked(stand, "SELECT epoch_no, body FROM row ORDER BY epoch_no"):
        content = json.loads(body)
        found.setdefault(epoch, set()).update(content[2].get("*", []) if len(content) > 2 else [])
    return list(found.values())


@pytest.mark.timeout(120)
def test_holdover_is_told_and_good_and_a_clock_that_was_never_synchronised_is_neither(
    stand: Stand, kernel: Path
) -> None:
    def told(*states: str) -> None:
        wait_until(
            lambda: clock_states(stand) == list(states),
            PATIENCE_S,
            lambda: f"told {clock_states(stand)}: {stand.agent.tail()}",
            0.1,
        )

    wait_rows(stand, 5)
    told("synchronised")
    says(kernel, STA_UNSYNC)
    told("synchronised", "holdover")
    wait_until(
        lambda: stand.agent.status().get("clock_synchronised") is False,
        PATIENCE_S,
        lambda: "the status is old",
        0.1,
    )
    rows = wait_balanced(stand, 5)
    wait_balanced(stand, rows + 20)
    says(kernel, 0)
    told("synchronised", "holdover", "synchronised")
    stand.agent.kill9()
    says(kernel, STA_UNSYNC)
    stand.agent.start()  # who begins without it does not know how long ago it was right
    wait_until(lambda: len(reasons(stand)) == 2, PATIENCE_S, lambda: f"no rows: {stand.agent.tail()}", 0.1)
    stand.agent.stop()
    wait_balanced(stand, rows)
    assert clock_states(stand)[3:4] == ["unsure"]
    assert reasons(stand) == [set(), {"clock-unsure"}]
