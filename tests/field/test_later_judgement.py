"""A register that freezes, in a whole Portico: judged back over a kill, in books, readings and intervals."""

import json
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.process import portico, wait_until
from cli.stand import SIMULATOR_TYPES, GatewayPlan, Stand, StandPlan
from tests.support.balance import wait_balanced

SCENARIO = """
name = "freezing"
seed = 3
speed = 900
[[premises]]
name = "home"
[[premises.device]]
name = "meter"
type = "simulator-clock"
"""
FROZEN_S = 5
PATIENCE_S = 40


def freezing_type(directory: Path) -> Path:
    """The simulator's clock meter with a limit for its counter."""
    directory.mkdir()
    text = (SIMULATOR_TYPES / "simulator-clock.toml").read_text()
    text = text.replace('name = "simulator-clock"', 'name = "freezing"').rstrip()
    (directory / "freezing.toml").write_text(f'{text}\n\n[point.sense]\nfrozen = "{FROZEN_S}s"\n')
    return directory


def told(*arguments: str) -> str:
    done = subprocess.run(portico(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(stand: Stand, query: str) -> list[tuple[Any, ...]]:
    """Ask the books; nothing as long as they are not there yet."""
    try:
        with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []


def rows(stand: Stand) -> list[tuple[int, int]]:
    """Epoch and TotWhImp of every row in the books that has one."""
    found = asked(stand, "SELECT epoch_no, body FROM row ORDER BY tick, seq")
    values = [(epoch, json.loads(body)[1][2]) for epoch, body in found]
    return [(epoch, value) for epoch, value in values if value is not None]


def journal(stand: Stand) -> list[tuple[str, str, str]]:
    """Epoch, reasons and rule of every entry of a gateway."""
    return asked(stand, "SELECT epoch, reasons, rule FROM quality_entry ORDER BY id")


@pytest.mark.timeout(180)
def test_a_freeze_over_a_kill_is_in_readings_and_intervals_since_the_row_in_which_it_froze(
    tmp_path: Path,
) -> None:
    scenario = tmp_path / "freezing.toml"
    scenario.write_text(SCENARIO)
    gateway = GatewayPlan(
        every="200ms",
        keys={"types": [str(SIMULATOR_TYPES), str(freezing_type(tmp_path / "types"))]},
        device_keys={"meter": {"type": "freezing"}},
    )
    with Stand(tmp_path / "stand", StandPlan(scenario=str(scenario), gateways=(gateway,))) as stand:
        wait_until(lambda: len(rows(stand)) > 10, PATIENCE_S, lambda: f"no rows: {stand.agent.tail()}", 0.1)
        told(
            "simulate", "ctl", "fault", "meter", "frozen", "--point", "TotWhImp",
            "--log", str(stand.plant_log.parent),
        )  # fmt: skip
        wait_until(
            lambda: len({value for _, value in rows(stand)[-6:]}) == 1,
            PATIENCE_S,
            lambda: f"the counter goes on: {rows(stand)[-6:]}",
            0.1,
        )
        stand.agent.kill9()
        stand.agent.start()
        wait_until(lambda: len(journal(stand)) == 2, PATIENCE_S, lambda: f"told was {journal(stand)}", 0.2)
        stand.agent.stop()
        wait_balanced(stand, 20)
        assert {(reasons, rule) for _, reasons, rule in journal(stand)} == {
            ('["frozen"]', f"frozen {FROZEN_S} s")
        }
        assert len({epoch for epoch, _, _ in journal(stand)}) == 2

        value = rows(stand)[-1][1]
        books = (
            "--books",
            str(stand.collector.books_path),
            "--device",
            "meter",
            "--point",
            "TotWhImp",
            "--json",
        )
        found = [
            json.loads(line) for line in told("headend", "readings", *books, "--limit", "100000").splitlines()
        ]
        carried = [one for one in found if one["value"] is not None]
        assert len(carried) == len(rows(stand))
        wrong = [one for one in carried if ("frozen" in one["reasons"]) != (int(one["value"]) == value)]
        assert wrong == []

        every = ("--every", "5min")
        head = [
            json.loads(line)
            for line in told("headend", "intervals", *books, *every, *span(found)).splitlines()
        ]
        edge = [
            json.loads(line)
            for line in told(
                "store", "intervals", str(stand.agent.data_dir), "--device", "meter", "--point", "TotWhImp",
                "--json", *every, *span(found),
            ).splitlines()
        ]  # fmt: skip
        for one in edge:
            assert (one.pop("device"), one.pop("point")) == ("meter", "TotWhImp")
        assert edge == head
        assert "frozen" in {reason for one in head for reason in one["reasons"]}
        assert sum(one["samples"] for one in head) == sum(int(one["value"]) != value for one in carried)


def span(found: list[dict[str, str]]) -> tuple[str, ...]:
    """Whole hours around some readings."""
    hours = [datetime.fromisoformat(one["tick"]).replace(minute=0, second=0, microsecond=0) for one in found]
    return ("--from", min(hours).isoformat(), "--to", (max(hours) + timedelta(hours=1)).isoformat())
