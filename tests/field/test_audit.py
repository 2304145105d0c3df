"""The audit of a running gateway: published to the head-end, and a log that was rewritten is found there."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

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
