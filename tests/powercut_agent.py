"""The power-cut scenario of the real agent: its store on the disk, everything else outside.

Plant, mosquitto and collector run beside (`cli.stand`), and a second reader with the entity's certificate
keeps what the broker received (`cli.witness`). The agent publishes only what it has committed, so
after the cut every row that the reader has must be in the store (`lost`). What was committed last may not be
older than the agent's own measured bound (status.json, `store.durable_max_ms`: the longest time from a sample
to its commit), counted from the tick after the newest row that is kept, with an allowance for the poll itself
and for a commit under way that is slower than any before. Then the agent starts on what is left: its start
record says *crash*, a Gap says *crashed*, and judge and books agree on every poll.

With `NORMAL` in place of `FULL` the same agent must lose rows that the broker had: the proof's teeth.
"""

import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.evidence import Identity, NoEvidence, Row
from cli.gathered import Evidence
from cli.judge import judge
from cli.plans import BrokerPlan, GatewayPlan, RoutePlan, StandPlan
from cli.process import wait_until
from cli.stand import Stand
from cli.witness import Witness
from tests.support.balance import wait_balanced, wait_rows
from tests.support.power_cut import Outcome
from tests.support.power_disk import Cut, PowerCutDisk

GATEWAY: Final = "gw-0001"
ENTITY: Final = "dso.example"
EVERY_MS: Final = 200
ALLOWANCE_MS: Final = 500
"""For the poll (a tick's answer comes some ms later), and a last commit slower than any measured before."""
ROWS: Final = (30, 200)
"""From before the first checkpoint's worth of pages to some seconds of life."""
QUIET_S: Final = 0.5
WEAKENED: Final = """
import agent.store.connection
agent.store.connection.SYNCHRONOUS = "NORMAL"
from pathlib import Path
from agent.__main__ import main
main(Path({config!r}), "INFO")
"""
"""What `portico agent run` becomes; through the command the change would stay behind in the first process."""


@dataclass(frozen=True)
class AgentOnDisk:
    """A whole Portico with the gateway's store on the disk that loses its power."""

    synchronous: str

    @property
    def name(self) -> str:
        return f"agent-{self.synchronous.lower()}"

    @property
    def must_survive(self) -> bool:
        return self.synchronous == "FULL"

    def play(self, disk: PowerCutDisk, number: int, rng: random.Random) -> Outcome:
        directory = Path(tempfile.mkdtemp(prefix="portico-powercut-stand-"))
        stand = Stand(directory, _plan(disk.path / f"gw-{number}"))
        if not self.must_survive:
            program = WEAKENED.format(config=str(stand.agent.config_path))
            stand.agent.command[:] = [sys.executable, "-c", program]
        try:
            return self._play(disk, stand, rng.randint(*ROWS), rng.uniform(0, 2 * EVERY_MS / 1000))
        finally:
            stand.kill()
            shutil.rmtree(stand.agent.data_dir, ignore_errors=True)
            shutil.rmtree(directory, ignore_errors=True)

    def _play(self, disk: PowerCutDisk, stand: Stand, enough: int, rest_s: float) -> Outcome:
        with Witness(ENTITY, "127.0.0.1", stand.broker_port, stand.authority.directory) as witness:
            stand.start()
            wait_until(
                lambda: len(witness.rows()) >= enough and bool(_bound_ms(stand)),
                60,
                lambda: f"only {len(witness.rows())} of {enough} rows came: {stand.agent.tail()}",
            )
            bound_ms = _bound_ms(stand)
            time.sleep(rest_s)  # at any instant between two commits, not just behind one
            cut = disk.cut([stand.agent.pid])
            stand.agent.wait_end()
            received = _received(witness, stand)
            disk.remount()
            evidence = Evidence()
            try:
                rows = evidence.observe(GATEWAY, stand.agent.store_path).rows
            except NoEvidence:  # not even its tables are left
                rows = ()
            missing = received - {row.id for row in rows}
            age_ms = _age_ms(rows, cut)
            wrong = _broken(stand.agent.data_dir)
            if wrong is None and self.must_survive:
                wrong = _too_old(age_ms, bound_ms) or _aftermath(stand, evidence, witness)
        return Outcome(len(received), len(received) - len(missing), len(missing), wrong, age_ms, bound_ms)


def _plan(data_dir: Path) -> StandPlan:
    gateway = GatewayPlan(
        id=GATEWAY,
        every=f"{EVERY_MS}ms",
        routes=(RoutePlan(entity=ENTITY, keys={"resend_after": "2s"}),),
        data_dir=data_dir,
    )
    return StandPlan(gateways=(gateway,), broker=BrokerPlan())


def _bound_ms(stand: Stand) -> float:
    store = stand.agent.status().get("store")
    return float(store["durable_max_ms"]) if isinstance(store, dict) else 0.0


def _received(witness: Witness, stand: Stand) -> frozenset[Identity]:
    """Return the rows that the broker got, once it has read what the dead agent's connection still held."""
    log = stand.directory / "broker" / "mosquitto.log"
    wait_until(
        lambda: any("gw-0001" in line and _is_farewell(line) for line in log.read_text().splitlines()),
        20,
        lambda: f"the broker does not notice that the agent is gone: {stand.broker.log_text()[-500:]}",
    )
    last: list[int] = []

    def quiet() -> bool:
        last.append(len(witness.rows()))
        span = round(QUIET_S / 0.05)
        return len(last) > span and last[-1] == last[-1 - span]

    wait_until(quiet, 20, lambda: "the broker goes on delivering", 0.05)
    return witness.rows()


def _is_farewell(line: str) -> bool:
    return "disconnected" in line or "closed" in line or "connection lost" in line.lower()


def _age_ms(kept: Sequence[Row], cut: Cut) -> float:
    """Return how long before the cut the next row after those kept was due; 0 when it was not due yet."""
    newest = max((row.tick for row in kept), default=cut.stop_ms)
    return max(float(cut.stop_ms - newest - EVERY_MS), 0.0)


def _too_old(age_ms: float, bound_ms: float) -> str | None:
    if age_ms <= bound_ms + ALLOWANCE_MS:
        return None
    return f"the cut took {age_ms:.0f} ms of rows, the agent had measured {bound_ms:.0f} ms"


def _broken(data_dir: Path) -> str | None:
    for file in sorted(data_dir.glob("*.db")):
        try:
            with closing(sqlite3.connect(file, timeout=10)) as db:
                (found,) = db.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.DatabaseError as error:
            return f"{file.name}: {error}"
        if found != "ok":
            return f"{file.name}: {found}"
    return None


def _aftermath(stand: Stand, evidence: Evidence, witness: Witness) -> str | None:
    """Start the agent on what is left, and return what then does not hold."""
    before = len(evidence.rows)
    stand.agent.start()
    wait_rows(stand, before + 20)
    wait_balanced(stand, before + 10)
    code = stand.agent.stop()
    if code:
        return f"the agent left an orderly stop with exit {code}"
    wait_balanced(stand)
    ended = _last_start(stand.agent.store_path)
    if ended != "crash":
        return f'the start record after the cut says "{ended}"'
    told = evidence.observe(GATEWAY, stand.agent.store_path).told
    if not any(gap.reason == "crashed" for gap in told.gaps):
        return "no Gap says that the agent crashed"
    verdict = judge(
        {GATEWAY: stand.agent.store_path},
        stand.books(),
        stand.plant_log,
        evidence=evidence,
        delivered={ENTITY: witness.rows()},
    )
    if verdict.unseen:
        return f"{verdict.unseen} readings are in the books and were in no store after the cut"
    return verdict.faults[0] if verdict.faults else None


def _last_start(store: Path) -> str:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        bodies = db.execute("SELECT body FROM record WHERE grp = 0 ORDER BY id").fetchall()
    starts = [record for (body,) in bodies if (record := json.loads(body)).get("type") == "start"]
    return str(starts[-1]["ended"]) if starts else "nothing"
