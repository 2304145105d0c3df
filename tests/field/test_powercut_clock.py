"""A power cut of hours on a box without a clock of its own, in the middle of a control.

The box comes back and does not know what time it is: libfaketime gives the agent a wrong clock, and
`tests/peers/unsync.c` a kernel that says so.  The plant and everybody else keep the right time.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.clock import STA_UNSYNC
from cli.plans import CollectorPlan, GatewayPlan, RoutePlan, StandPlan
from cli.process import wait_until
from cli.stand import Stand
from tests.field.test_command_stand import GATEWAY, Operator, lay_policy, outcomes
from tests.support.balance import wait_balanced
from tests.support.cbuild import BuildUnavailable, build

pytestmark = [pytest.mark.field, pytest.mark.timeout(240)]
PEER = Path(__file__).parents[1] / "peers" / "unsync.c"
PATIENCE_S = 90.0
SIX_HOURS_S = 6 * 3600
Row = tuple[str, int, int, str]


class Box:
    """A gateway whose clock and kernel a test turns."""

    def __init__(self, stand: Stand, directory: Path, operator: Operator) -> None:
        self.stand = stand
        self.operator = operator
        self._clock, self._kernel = directory / "clock", directory / "kernel"

    def says(self, status: int, offset_s: int) -> None:
        """Set what the kernel says of its clock, and how far the clock is from the right time."""
        for path, text in ((self._kernel, str(status)), (self._clock, f"{offset_s:+d}")):
            fresh = path.with_name(path.name + ".new")
            fresh.write_text(text)
            fresh.replace(path)

    def policy(self) -> dict[str, object]:
        found = self.stand.agent.status().get("policy")
        return found if isinstance(found, dict) else {}

    def controls(self) -> list[object] | None:
        found = self.stand.agent.status().get("control")
        return found["controls"] if isinstance(found, dict) else None

    def rows(self) -> list[Row]:
        """The rows in the books: epoch, sequence, tick, body."""
        with closing(
            sqlite3.connect(f"{self.stand.books()['dso.example'].as_uri()}?mode=ro", uri=True)
        ) as db:
            return db.execute(
                "SELECT epoch.epoch, seq, tick, body FROM row JOIN epoch ON epoch.no = row.epoch_no"
            ).fetchall()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    faketime = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if faketime is None:
        pytest.skip("a wrong clock needs libfaketime: apt-get install libfaketime")
    try:
        shim = build(PEER, shared=True)
    except BuildUnavailable as error:
        pytest.skip(str(error))
    (tmp_path / "clock").write_text("+0")
    (tmp_path / "kernel").write_text("0")
    base = lay_policy(tmp_path)
    gateway = GatewayPlan(
        routes=(RoutePlan(), RoutePlan("esco1")),
        keys={"clock": "kernel"},
        tables=f'[policy]\nroot = "{base / "root.json"}"\nfolder = "{base / "out"}"\n',
        env={
            "LD_PRELOAD": f"{shim}:{faketime}",
            "PORTICO_ADJTIMEX_FILE": str(tmp_path / "kernel"),
            "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        },
    )
    plan = StandPlan(gateways=(gateway,), collectors=(CollectorPlan(), CollectorPlan("esco1")))
    laid = Stand(tmp_path / "stand", plan)
    try:
        laid.start()
        yield Box(laid, tmp_path, Operator(laid, tmp_path))
    finally:
        laid.kill()


@pytest.mark.parametrize(
    "offset_s",
    [-SIX_HOURS_S, 86_400 - int(time.time())],
    ids=["six-hours-behind", "1970"],
)
def test_after_a_cut_without_a_clock_all_is_put_back_at_once_and_no_reading_gets_another_time(
    box: Box, offset_s: int
) -> None:
    stand, agent = box.stand, box.stand.agent
    wait_until(lambda: box.policy().get("freshness") == "fresh", PATIENCE_S, agent.tail)
    sent = box.operator.shed("600s", "peak", "--no-wait")
    id_ = str(sent.steps[0]["command"])
    wait_until(lambda: "confirmed" in outcomes(box.operator, id_), PATIENCE_S, agent.tail)
    before = wait_before(box)
    floor_ms = box.policy()["floor_ms"]
    agent.kill9()
    cut_ms = time.time_ns() // 1_000_000
    box.says(STA_UNSYNC, offset_s)
    agent.start()

    # Nothing goes on by a clock that nobody vouches for: not the control, not the policy.
    wait_until(lambda: box.controls() == [], PATIENCE_S, agent.tail)
    wait_until(lambda: box.policy().get("freshness") == "clock_unsure", PATIENCE_S, agent.tail)
    assert box.policy()["floor_ms"] == floor_ms
    epoch = str(agent.status()["epoch"])

    # The time is known again, six hours or decades later: it goes on as if nothing had been.
    box.says(0, 0)
    wait_until(lambda: box.policy().get("freshness") == "fresh", PATIENCE_S, agent.tail)
    wait_until(lambda: "restored" in outcomes(box.operator, id_), PATIENCE_S, agent.tail)
    told = box.operator.types("status", id_, "--gateway", GATEWAY)
    assert (told.states.count("restoring"), told.codes) == (1, ["restarted"])
    told = box.operator.shed("10s")
    assert (told.code, told.states[-1]) == (0, "restored"), (told.codes, told.err)
    agent.stop()
    wait_balanced(stand, len(before))

    rows = box.rows()
    assert before <= set(rows)
    since = {row for row in rows if row[0] == epoch}
    behind = {row for row in since if row[2] < cut_ms}
    assert behind
    assert all("clock-unsure" in everywhere(row) for row in behind)
    right = [row for row in since if row[2] >= cut_ms]
    assert any(not everywhere(row) for row in right)
    assert all(abs(row[2] - cut_ms) < PATIENCE_S * 4000 for row in right)
    assert {row for row in rows if row[0] != epoch and row[2] > cut_ms} == set()


def everywhere(row: Row) -> list[str]:
    """The reasons that a row has for all of its points."""
    body = json.loads(row[3])
    return body[2].get("*", []) if len(body) > 2 else []


def wait_before(box: Box) -> set[Row]:
    """Return the rows that have arrived, at least some."""
    wait_until(lambda: len(box.rows()) > 20, PATIENCE_S, box.stand.agent.tail)
    return set(box.rows())
