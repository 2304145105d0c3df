"""The benchmark runs, and its books balance: no judgement of speed here, the machine is everybody's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "points_per_s",
    "collector_points_per_s",
    "cpu_s_per_100k",
    "pss_mib",
    "p99_ms",
    "wire_bytes_per_reading",
    "household_wire_bytes_per_reading",
    "disk_bytes_per_reading",
    "start_s",
    "backlog_insert_ratio",
    "backlog_drain_ratio",
    "monthly_mb",
}
DEVICES = 50
OPTIONS = ("--json", "--every-ms", "1000", "--seconds", "4", "--rounds", "1")


def test_a_few_seconds_at_2500_points_a_second_are_counted_whole(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: run apt-get install gcc libc6-dev")
    run = subprocess.run(
        [sys.executable, "-m", "bench", *OPTIONS, "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert set(found) >= KEYS
    checked = found["checked"]
    assert checked["rows"] > 0
    # Two ticks may be on their way at the beginning of the window, and at its end.
    assert abs(checked["rows"] - checked["polled_rows"]) <= 2 * DEVICES
    assert checked["holes"] == 0
    assert checked["doubled"] == 0
    assert found["pss_mib"] > 1
    assert found["disk_bytes_per_reading_at_2500"] > 1
    assert not list(tmp_path.iterdir()), "a run leaves nothing behind"
