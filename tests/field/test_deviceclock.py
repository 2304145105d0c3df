"""A device's clock that is off and runs away, in a whole Portico: measured, told, no reading's time moved."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli.process import portico, wait_until
from cli.stand import GatewayPlan, Stand, StandPlan
from tests.support.balance import wait_balanced

PPM, AHEAD_S = 200_000, 300
"""Planted: a fifth of a second each second, so that a register of seconds shows it soon."""
SCENARIO = f"""
name = "clocks"
seed = 3
[[premises]]
name = "home"
[[premises.line]]
name = "lan"
[[premises.device]]
name = "right"
type = "simulator-clock"
line = "lan"
unit_id = 1
[[premises.device]]
name = "runaway"
type = "simulator-clock"
line = "lan"
unit_id = 2
[[fault]]
device = "runaway"
kind = "clock-drift"
at = "0s"
by = {AHEAD_S}
ppm = {PPM}
"""
KNOWN_PPM = 60_000
PATIENCE_S = 60


def clocks(stand: Stand) -> dict[str, dict[str, float]]:
    found = stand.agent.status().get("clocks", {})
    assert isinstance(found, dict)
    return found


def measured(stand: Stand) -> bool:
    found = clocks(stand)
    known = [one.get("drift_within_ppm") for one in found.values()]
    return len(known) == 2 and None not in known and found["runaway"]["drift_within_ppm"] <= KNOWN_PPM


def qualities(stand: Stand) -> dict[str, set[str]]:
    """Reasons in the rows of each device in the books."""
    with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT grp.device, row.body FROM row JOIN grp ON grp.no = row.grp_no").fetchall()
    found: dict[str, set[str]] = {}
    for device, body in rows:
        quality = [*json.loads(body), {}][2]
        found.setdefault(device, set()).update(f"{key}:{one}" for key in quality for one in quality[key])
    return found


@pytest.mark.timeout(180)
def test_offset_and_drift_of_a_devices_clock_are_those_that_were_planted(tmp_path: Path) -> None:
    scenario = tmp_path / "clocks.toml"
    scenario.write_text(SCENARIO)
    plan = StandPlan(scenario=str(scenario), gateways=(GatewayPlan(every="200ms"),))
    with Stand(tmp_path / "stand", plan) as stand:
        wait_until(lambda: measured(stand), PATIENCE_S, lambda: f"{clocks(stand)}: {stand.agent.tail()}", 0.2)
        right, runaway = clocks(stand)["right"], clocks(stand)["runaway"]
        assert abs(runaway["drift_ppm"] - PPM) <= runaway["drift_within_ppm"]
        assert abs(right["drift_ppm"]) <= right["drift_within_ppm"]
        assert runaway["offset_s"] > AHEAD_S
        assert abs(right["offset_s"]) <= right["offset_within_s"]
        assert (right["beyond"], runaway["beyond"]) == (False, True)
        raised = stand.agent.status()["alarms"]
        assert isinstance(raised, list)
        assert [(one["code"], one["device"]) for one in raised] == [("device-clock", "runaway")]
        shown = subprocess.run(
            portico("agent", "status", "-c", str(stand.agent.config_path)),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "device's clock" in shown.stdout
        stand.agent.stop()
        wait_balanced(stand, 20)
        assert qualities(stand) == {"right": set(), "runaway": {"0:device-clock"}}
        with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
            ticks = db.execute(
                "SELECT min(tick), max(tick), min(tick % 200), max(tick % 200) FROM row"
            ).fetchone()
        assert ticks[2:] == (0, 0)
        assert ticks[1] - ticks[0] < 1000 * PATIENCE_S * 2
