"""The audit of a running gateway: published to the head-end, and a log that was rewritten is found there."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.plans import GatewayPlan, StandPlan
from cli.process import portico, wait_until
from cli.stand import Stand

pytestmark = pytest.mark.field


def asked(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = portico(*(str(one) for one in arguments))
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def heads(stand: Stand) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(f"file:{stand.collector.books_path}?mode=ro", uri=True)) as books:
        return books.execute("SELECT size, verdict FROM audit_head ORDER BY no").fetchall()


@pytest.mark.timeout(90)
def test_head_end_follows_the_log_over_restarts_and_finds_that_it_was_rewritten(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:

        def wait_for_heads(count: int) -> list[tuple[int, str]]:
            wait_until(lambda: len(heads(stand)) >= count, 30, lambda: f"{heads(stand)} {stand.agent.tail()}")
            return heads(stand)

        assert [verdict for _, verdict in wait_for_heads(1)] == ["first"]
        stand.agent.stop()
        stand.agent.start()
        assert [verdict for _, verdict in wait_for_heads(2)] == ["first", "continues"]

        note = asked("headend", "audit", "-c", stand.collector.config_path, "--gateway", "gw-0001", "--note")
        head = tmp_path / "head.txt"
        head.write_text(note.stdout)
        verified = asked("audit", "verify", stand.agent.store_path.parent, "--head", head, "--json")
        assert json.loads(verified.stdout)["ok"] is True
        assert json.loads(verified.stdout)["against"] == heads(stand)[-1][0]

        stand.agent.stop()
        log = stand.agent.store_path.parent / "audit.db"
        for part in log.parent.glob("audit.db*"):
            part.unlink()
        stand.agent.start()
        assert wait_for_heads(3)[-1][1] == "cut"
        stand.agent.stop()
        verified = asked("audit", "verify", log.parent, "--head", head)
        assert (verified.returncode, "was cut" in verified.stderr) == (1, True)
        listed = asked("headend", "audit", "-c", stand.collector.config_path)
        assert listed.returncode == 1
        alarms = asked("headend", "alarms", "-c", stand.collector.config_path, "--json")
        assert "audit-cut" in alarms.stdout


@pytest.mark.timeout(120)
def test_what_is_changed_on_the_box_is_in_its_audit_over_a_restart(tmp_path: Path) -> None:
    root = tmp_path / "policy"
    assert asked("policy", "init", root, "--utility", "dso.example", "--zone", "UTC").returncode == 0
    tables = f'[policy]\nroot = "{root / "root.json"}"\nfolder = "{tmp_path}"\n'
    with Stand(tmp_path / "stand", StandPlan(gateways=(GatewayPlan(tables=tables),))) as stand:
        store, config = stand.agent.store_path.parent, stand.agent.config_path

        def entries(kind: str) -> list[dict[str, Any]]:
            lines = asked("audit", "tail", store, "-n", "1000", "--json").stdout.splitlines()
            return [one["body"] for one in map(json.loads, lines) if one["kind"] == kind]

        def wait_for(kind: str, count: int) -> list[dict[str, Any]]:
            wait_until(lambda: len(entries(kind)) >= count, 30, lambda: f"{kind} {stand.agent.tail()}")
            return entries(kind)

        (first,) = wait_for("configuration", 1)
        assert (first["before"], first["differs"]) == (None, [])
        wait_for("opt-outs", 1)
        assert asked("optout", "-c", config, "--device", "heater-relay").returncode == 0
        no = {"what": "heater-relay", "was": None, "is": "no"}
        assert wait_for("opt-outs", 2)[-1]["differs"] == [no]
        assert asked("agent", "forget", "heater-relay", "-c", config).returncode == 0
        assert wait_for("forgot", 1) == [{"device": "heater-relay"}]
        assert [one["act"] for one in wait_for("act", 2)] == ["optout", "forget"]
        stand.authority.issue_client("gw-0001", force=True)
        (renewed,) = wait_for("keys", 2)[-1]["differs"]
        assert renewed["what"].endswith("gw-0001.pem")

        stand.agent.stop()
        assert asked("optout", "-c", config, "--clear").returncode == 0
        config.write_text(config.read_text() + '[[line]]\nname = "new"\nurl = "modbus+tcp://127.0.0.1:1"\n')
        stand.agent.start()
        assert wait_for("opt-outs", 3)[-1]["differs"] == [{**no, "was": "no", "is": None}]
        last = wait_for("configuration", 2)[-1]
        assert last["before"] == first["sha256"] != last["sha256"]
        assert {one["what"] for one in last["differs"]} == {"line/new/name", "line/new/url"}
        assert [one["act"] for one in wait_for("act", 3)][2:] == ["optout --clear"]
        started = entries("start")
        assert [one["control_lost"] for one in started] == [False, False]
        stand.agent.stop()
        assert asked("audit", "verify", store).returncode == 0
