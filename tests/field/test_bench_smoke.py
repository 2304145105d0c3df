"""The benchmark runs, and its books balance: no judgement of speed here, the machine is everybody's."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.plans import plan_use
from bench.serialline import LineUse, told
from drivers.modbus.plan import plan
from drivers.types import Block, known_types, load_type

ROOT = Path(__file__).resolve().parents[2]
CHAIN_KEYS = {
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
FIELD_KEYS = {
    "serial_use_9600",
    "serial_use_19200",
    "serial_beside_c",
    "plan_over_optimum",
    "requests_per_s_1",
    "requests_per_s_50",
    "requests_ratio_1",
    "requests_ratio_50",
    "fleet_jitter_p99_ms",
    "fleet_shared_jitter_p99_ms",
    "fleet_phased_jitter_p99_ms",
    "fleet_pss_mib",
}
CONTROL_KEYS = {
    "decision_allowed_p99_us",
    "decision_refused_p99_us",
    "decisions_per_s",
    "command_idle_p50_ms",
    "command_idle_p99_ms",
    "command_busy_p50_ms",
    "command_busy_p99_ms",
    "refresh_first_ms",
    "refresh_one_row_ms",
    "refresh_one_roster_ms",
    "refresh_held_mib",
}
DEVICES = 50

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None or not Path("/usr/include/modbus/modbus.h").exists(),
    reason="gcc or libmodbus is missing: run apt-get install gcc libc6-dev libmodbus-dev",
)


def bench(directory: Path, *options: str) -> dict[str, Any]:
    """Run the benchmark; return the object of its last line."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--json", "--rounds", "1", *options, "--directory", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert not list(directory.iterdir()), "a run leaves nothing behind"
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert set(found) >= CHAIN_KEYS | FIELD_KEYS | CONTROL_KEYS
    return found


@needs_compiler
def test_a_few_seconds_at_2500_points_a_second_are_counted_whole(tmp_path: Path) -> None:
    found = bench(tmp_path, "--every-ms", "1000", "--seconds", "4")
    checked = found["checked"]
    assert checked["rows"] > 0
    # Two ticks may be on their way at the beginning of the window, and at its end.
    assert abs(checked["rows"] - checked["polled_rows"]) <= 2 * DEVICES
    assert checked["holes"] == 0
    assert checked["doubled"] == 0
    assert found["pss_mib"] > 1
    assert found["disk_bytes_per_reading_at_2500"] > 1


@needs_compiler
def test_a_serial_line_is_used_without_an_error(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "serial", "--seconds", "1")
    assert found["field_checked"]["serial_errors"] == 0
    for baud in (9600, 19200):
        # More than the arithmetic would be a fault of the measurement.
        assert 0 < found[f"serial_use_{baud}"] < 1.05
    assert 0 < found["serial_beside_c"] < math.inf


@needs_compiler
def test_requests_are_counted_beside_libmodbus_without_an_error(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "requests", "--seconds", "3")
    assert found["field_checked"]["request_errors"] == 0
    for connections in (1, 50):
        assert found[f"requests_per_s_{connections}"] > 0
        assert 0 < found[f"requests_ratio_{connections}"] < math.inf


@needs_compiler
def test_every_poll_of_500_devices_arrives_and_tells_how_late_its_request_was(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "fleet", "--seconds", "6")
    checked = found["field_checked"]
    assert checked["fleet_rows"] >= 3 * 500
    assert checked["fleet_holes"] == 0
    assert checked["fleet_doubled"] == 0
    for way in ("", "shared_", "phased_"):
        assert 0 < found[f"fleet_{way}jitter_p99_ms"] < math.inf
    assert found["fleet_pss_mib"] > 1


def test_decisions_with_a_thousand_grants_look_into_all_that_speak_of_a_command(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "decisions", "--seconds", "1")
    checked = found["control_checked"]
    assert checked["decisions"] > 0
    assert checked["judged"] > 10
    for kind in ("allowed", "refused"):
        assert 0 < found[f"decision_{kind}_p99_us"] < math.inf


@needs_compiler
def test_commands_are_timed_to_the_wire_with_ten_days_waiting(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "command", "--seconds", "0.5")
    checked = found["control_checked"]
    assert checked["commands_idle"] == checked["commands_busy"] == 3
    assert checked["waiting"] >= 4_000_000
    assert 0 < found["command_idle_p50_ms"] <= found["command_idle_p99_ms"] < math.inf
    assert 0 < found["command_busy_p50_ms"] <= found["command_busy_p99_ms"] < math.inf


def test_a_published_policy_is_taken_whole_and_every_grant_is_agreed(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "refresh", "--seconds", "1")
    assert found["control_checked"]["refresh_grants"] == 500
    assert found["refresh_first_ms"] > 0
    assert found["refresh_held_mib"] > 0


def test_every_shipped_type_is_planned_with_the_fewest_requests(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "plans")
    assert found["plan_over_optimum"] == 1.0
    assert found["field_checked"]["types"] == len(known_types()) >= 15


def test_a_plan_with_requests_to_spare_is_told_as_such() -> None:
    kind = load_type("eastron-sdm630")
    first, *_ = plan([point for point in kind.points if point.readable], kind.limits)
    half = first.count // 2
    by_hand = (
        Block(table=first.table, address=first.address, count=half),
        Block(table=first.table, address=first.address + half, count=first.count - half),
    )
    spoilt = plan_use(kind.model_copy(update={"blocks": by_hand}))
    assert spoilt.fewest == plan_use(kind).fewest
    assert spoilt.over > 1.0


def test_every_figure_of_a_serial_line_has_its_name() -> None:
    words = told(LineUse(9600, 2, 33.33, 0.963, 0.961, 0.978, 0.981, 0.052, 0))
    assert words.split(": ") == [
        "  9600 baud,   2 registers, ideal  33.33 reads/s",
        "ours 96.3% of it (lowest 96.1%), C 97.8%, C without silence 98.1%, cpu 5.2% of a core, errors 0",
    ]
