"""`portico probe` before real sockets: our simulator, libmodbus and pymodbus answer, and nobody does."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.types import load_type
from tests.support import mappeer
from tests.support.cbuild import BuildUnavailable, build
from tests.support.ptyline import PtyLine, right
from tests.support.sunspec import chain, common, controls_123, inverter_103, meter_203, mppt_160

pytestmark = pytest.mark.field
ROOT = Path(__file__).parents[2]
PORTICO = (sys.executable, "-c", "from cli.main import main; main()")
DEADLINE_S = 60
MODELS = (common(), inverter_103(), controls_123(), mppt_160(), meter_203())

SCENARIO = """
name = "probe"
seed = 7
start = 2026-11-22T18:00:00+01:00
[[premises]]
name = "home"
[[premises.line]]
name = "lan"
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
unit_id = 1
[[premises.device]]
name = "sub"
type = "schneider-iem3255"
line = "lan"
unit_id = 7
measures = ["ev", "water-heater"]
"""


def portico(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PORTICO, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=ROOT,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def serving(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        for pipe in (process.stdout, process.stdin):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="module")
def premises(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a simulated line with a meter at unit 1 and another at 7."""
    place = tmp_path_factory.mktemp("plant")
    (place / "scenario.toml").write_text(SCENARIO)
    command = [*PORTICO, "simulate", "-s", place / "scenario.toml", "--log", place / "log", "--json"]
    with serving(command) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield str(ready["devices"][0]["url"])


@pytest.fixture(scope="module")
def inverter() -> Iterator[str]:
    """The address of a SunSpec inverter behind pymodbus's own server."""
    command = [sys.executable, "-m", "tests.support.pymodbus_server"]
    with serving(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"unit_id": 1, "registers": chain(MODELS)}) + "\n")
        process.stdin.flush()
        yield f"modbus+tcp://127.0.0.1:{process.stdout.readline().split()[1]}"


@pytest.fixture
def libmodbus() -> Iterator[str]:
    try:
        program = build(ROOT / "tests" / "peers" / "modbus_peer.c", "modbus")
    except BuildUnavailable as error:
        pytest.skip(str(error))
    with serving([program, "0"], stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        yield f"modbus+tcp://127.0.0.1:{process.stdout.readline().split()[1]}"


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"modbus+tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_meter_is_read_once_with_its_registers(premises: str) -> None:
    done = portico("probe", premises, "--type", "eastron-sdm630", "--json")
    found = told(done)
    points = {point["point"]: point for point in found["points"]}
    assert done.returncode == 0
    assert found["complete"]
    assert found["source"]["verified"]
    assert len(points) == sum(point.default for point in load_type("eastron-sdm630").points)
    volt = points["PhVphA"]
    assert (volt["quality"], volt["table"], volt["address"], volt["count"]) == ("good", "input", 0, 2)
    assert 200 < float(volt["value"]) < 260
    assert len(volt["raw"]) == len("4364 7d90")


def test_table_for_people_marks_what_no_source_confirmed(premises: str) -> None:
    done = portico("probe", premises, "-t", "eastron-sdm630", "-p", "W", "-p", "MaxWDmd", "--raw")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    row = next(line for line in lines if line[:1] == ["W"])
    assert row[2:6] == ["W", "good", "input", "52-53"]
    assert any(line[:2] == ["MaxWDmd", "?"] for line in lines)
    assert "no source confirmed these points: MaxWDmd" in done.stdout
    assert "nmakel/sdm_modbus" in done.stdout


def test_wrong_type_shows_what_the_device_refuses_and_fails(premises: str) -> None:
    done = portico("probe", premises, "--type", "abb-b23", "--json")
    found = told(done)
    assert done.returncode == 1
    assert not found["complete"]
    assert {point["quality"] for point in found["points"]} == {"exception-2"}
    assert "it has no such address (exception 2)" in found["requests"][0]["failure"]


def test_scan_finds_units_and_what_they_may_be(premises: str) -> None:
    done = portico("probe", premises, "--scan", "--units", "1-8", "--json")
    found = told(done)
    assert done.returncode == 0
    assert [unit["unit_id"] for unit in found["units"]] == [1, 7]
    first, second = (unit["types"] for unit in found["units"])
    assert first[0]["type"] == "eastron-sdm630"
    assert (second[0]["type"], second[0]["recognised"]) == ("schneider-iem3255", True)
    assert not found["ignores_unit_ids"]


def test_scan_for_people_is_never_certain(premises: str) -> None:
    done = portico("probe", premises, "--scan", "--units", "1-2")
    assert done.returncode == 0
    assert "A guess, not a proof" in done.stdout
    assert done.stderr == ""


def test_device_without_a_type_is_guessed(premises: str) -> None:
    done = portico("probe", premises, "--unit", "7")
    assert done.returncode == 0
    assert "schneider-iem3255 (recognised)" in done.stdout
    assert "says 'iEM3255'" in done.stdout


def test_unit_that_is_not_there_is_one_sentence(premises: str) -> None:
    done = portico("probe", premises, "--unit", "99", "--timeout", "300ms")
    assert done.returncode == 1
    assert "error: unit 99 at " in done.stderr


def test_inverter_is_discovered_and_its_type_polled(inverter: str, tmp_path: Path) -> None:
    path = tmp_path / "types" / "site-inverter.toml"
    done = portico("probe", inverter, "--sunspec", "--write", path, "--json")
    found = told(done)
    assert done.returncode == 0, done.stderr
    assert [model["id"] for model in found["models"]] == [1, 103, 123, 160, 203]
    assert (found["manufacturer"], found["model"], found["base"]) == ("Sunny", "S-8000", 40000)
    assert "WMaxLimPct" in found["writable"]
    kind = load_type("site-inverter", [path.parent])
    assert len(kind.points) == found["points"]
    read = told(portico("probe", inverter, "--type", path, "--json"))
    points = {point["point"]: (point["value"], point["quality"]) for point in read["points"]}
    assert read["complete"]
    assert {name: points[name] for name in ("W", "Hz", "PhVphB", "TotWhImp", "W_203", "DCW_2")} == {
        "W": ("5230", "good"),
        "Hz": ("49.98", "good"),
        "PhVphB": ("230.2", "good"),
        "TotWhImp": ("20000020", "good"),
        "W_203": ("-1500", "good"),
        "DCW_2": ("2600", "good"),
    }
    assert portico("probe", inverter, "--sunspec", "--write", path).returncode == 2


def test_type_of_a_discovered_inverter_is_planned_by_the_agent(inverter: str, tmp_path: Path) -> None:
    assert portico("probe", inverter, "--sunspec", "--write", tmp_path / "site-inverter.toml").returncode == 0
    (tmp_path / "gateway.toml").write_text(
        f"""
[gateway]
id = "gw-0001"
data_dir = "data"
types = ["."]
[[line]]
name = "lan"
url = "{inverter}"
[[device]]
name = "pv"
type = "site-inverter"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
"""
    )
    done = portico("agent", "check", "-c", tmp_path / "gateway.toml")
    assert "pv (site-inverter), unit id 1" in done.stdout, done.stderr


def test_inverter_is_recognised_as_sunspec(inverter: str) -> None:
    done = portico("probe", inverter, "--json")
    assert told(done)["types"][0]["type"] == "SunSpec"


def test_device_without_a_map_says_so(premises: str) -> None:
    done = portico("probe", premises, "--sunspec")
    assert done.returncode == 1
    assert "has no SunSpec map" in done.stderr
    assert "is SunSpec switched on in the device?" in done.stderr


def test_libmodbus_server_is_read_and_found_under_every_id(libmodbus: str, tmp_path: Path) -> None:
    toy = ROOT / "tests" / "support" / "types" / "modbus-peer.toml"
    done = portico("probe", libmodbus, "--type", toy, "--all", "--json")
    assert done.returncode == 0, done.stderr
    values = {point["point"]: point["value"] for point in told(done)["points"]}
    assert "230.1" in values.values()
    scanned = told(portico("probe", libmodbus, "--scan", "--units", "1-6", "--json"))
    assert scanned["ignores_unit_ids"]
    assert len(scanned["units"]) == 6


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    """The address of a foreign server whose registers all hold 0."""
    try:
        with mappeer.libmodbus() as peer:
            yield f"modbus+tcp://127.0.0.1:{peer.place}"
    except BuildUnavailable as error:
        pytest.skip(str(error))


def test_relay_that_is_not_set_to_fall_back_is_warned_of(board: str) -> None:
    done = portico("probe", board, "--type", "sg-ready-relay")
    assert done.returncode == 0, done.stderr
    assert "SG1 does not fall back: FallsSG1 is 0, set it to 1 at commissioning" in done.stdout
    assert "SG2 does not fall back: its watchdog is switched off, SafetyS is 0" in done.stdout
    assert "order SG1: no source states min_on_s, min_off_s" in done.stdout
    found = told(portico("probe", board, "--type", "sg-ready-relay", "--json"))
    assert len(found["hold_warnings"]) == 4
    assert found["guessed_in_orders"] == {name: ["min_on_s", "min_off_s"] for name in ("SG1", "SG2")}


def test_what_a_device_only_takes_is_not_asked_for(board: str) -> None:
    found = told(portico("probe", board, "--type", "keba-p40", "--all", "--json"))
    names = [point["point"] for point in found["points"]]
    assert "ALimitSet" not in names
    assert {"AFailsafe", "FailsafeS"} <= set(names)
    refused = portico("probe", board, "--type", "keba-p40", "-p", "ALimitSet")
    assert refused.returncode == 2
    assert "keba-p40 only takes ALimitSet and never tells it" in refused.stderr


def test_line_at_which_nobody_listens_is_one_sentence(nobody: str) -> None:
    for arguments in (["--type", "abb-b21"], ["--scan"], ["--sunspec"], []):
        done = portico("probe", nobody, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {nobody} cannot be reached")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--type", "abb-b21", "--scan"], "--type and --scan do not go together"),
        (["--write", "x.toml"], "--write goes with --sunspec"),
        (["--sunspec", "--write", "x.txt"], "does not end in .toml"),
        (["--sunspec", "--write", "x y.toml"], "letters, digits"),
        (["--scan", "--units", "0-300"], "unit ids from 1 to 247"),
        (["--point", "W"], "need --type"),
        (["--type", "abb-b21", "-p", "Nope"], "abb-b21 has no point Nope"),
        (["--type", "abb-b99"], "did you mean"),
        (["--timeout", "soon"], "is no duration"),
        (["--parity", "mark"], "none, even or odd"),
    ],
)
def test_wrong_use_is_one_sentence_and_asks_nobody(nobody: str, arguments: list[str], sentence: str) -> None:
    done = portico("probe", nobody, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_line_that_is_none_shows_one_of_the_right_form() -> None:
    done = portico("probe", "192.168.1.20")
    assert done.returncode == 2
    assert "modbus+tcp://" in done.stderr


def test_serial_line_is_scanned_too() -> None:
    async def scanned() -> tuple[int, str]:
        with PtyLine(lambda request: [(0, right(request))] if request[0] == 2 else []) as line:
            process = await asyncio.create_subprocess_exec(
                *PORTICO,
                *("probe", f"modbus+rtu://{line.path}", "--scan", "--units", "1-3", "--json"),
                *("--baud", "19200", "--parity", "even", "--timeout", "100ms"),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
                env=dict(os.environ),
            )
            out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
            return process.returncode or 0, out.decode()

    code, out = asyncio.run(scanned())
    assert code == 0
    assert [unit["unit_id"] for unit in json.loads(out)["units"]] == [2]
