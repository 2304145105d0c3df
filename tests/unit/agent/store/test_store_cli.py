"""`portico store`: what a person and a program see, while the agent runs and when something is wrong."""

import contextlib
import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.store.look import Look
from agent.store.recordfile import RouteState, checksum
from agent.store.verify import verify
from agent.store_cli import app, instant, parse_instant
from core.codec import row_body
from core.errors import ConfigError, StoreCorrupt, StoreError
from core.manifest import Group, Manifest, Point, ValueKind
from tests.support.gateway_double import owned
from tests.unit.agent.store.store_made import add, at, committed, contents, manifest, opened, settled_rows

ROWS = 30


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def lines(*arguments: object) -> list[dict[str, object]]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """Two lives of two devices with a gap, and a route that is half confirmed."""
    async with opened(tmp_path) as one:
        for number in range(ROWS):
            add(one, 1, at(number))
            add(one, 2, at(number))
        one.save_route(one.data, RouteState("dso", "dso.example", "0" * 16, 4, ((1, 22),)))
    async with opened(tmp_path) as one:
        add(one, 1, at(ROWS + 5))
    return tmp_path


VALUES = Manifest(
    "gw-0001",
    (
        Group(
            group=1,
            device="meter",
            device_type="t",
            every_ms=1000,
            points=(
                Point("energy", "TotWhImp", "Wh", ValueKind.INTEGER, exp=2, cumulative=True),
                Point("voltage", "PhVphA", "V", ValueKind.INTEGER, exp=-1, request=1),
                Point("pf", "PF", "1", ValueKind.DECIMAL),
                Point("serial", "SN", "", ValueKind.TEXT),
                Point("closed", "On", "", ValueKind.BOOLEAN),
                Point("count", "N", "1", ValueKind.INTEGER),
            ),
            owners=(owned("dso.example", "owner.example"),),
            requests=2,
        ),
    ),
)


@pytest.fixture
async def values(tmp_path: Path) -> Path:
    async with opened(tmp_path, VALUES) as one:
        given: list[int | float | str | bool | None] = [12345, 2301, 0.1, "A,1", True, str(2**60)]
        body = row_body(at(0), 1, [5, 250], given, {})
        one.append_row(1, at(0), 6, body, 0.0, "overrun")
        body = row_body(at(1), 1, [5, 1000], [None] * 6, {"*": ["clock-back"], "1": ["timeout"]})
        one.append_row(1, at(1), 6, body, 0.0, "overrun")
    return tmp_path


async def test_stats_count_rows_by_group_and_what_routes_wait_for(store: Path) -> None:
    (found,) = lines("stats", store, "--json")
    groups = found["groups"]
    assert isinstance(groups, list)
    assert [(one["device"], one["rows"]) for one in groups] == [("meter-1", ROWS + 1), ("meter-2", ROWS)]
    assert (found["rows"], found["epochs"], found["agent_runs"]) == (2 * ROWS + 1, 2, False)
    (route,) = found["routes"]  # type: ignore[misc]
    assert route["unconfirmed"] == found["ids"][1] - 22  # type: ignore[index]
    sizes = found["bytes"]
    assert isinstance(sizes, dict)
    assert sizes["readings"] > 0 < sizes["control"]


async def test_stats_for_a_person_name_devices_and_routes(store: Path) -> None:
    result = run("stats", store)
    assert result.exit_code == 0
    assert "61 rows" in result.output
    assert "no agent" not in result.output
    assert {"meter-1", "meter-2", "dso.example"} <= set(result.output.split())


async def test_stats_say_that_an_agent_is_running_and_do_not_disturb_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        add(one, 1, at(0))
        await committed(one)
        (found,) = lines("stats", tmp_path, "--json")
        assert found["agent_runs"] is True
        assert run("verify", tmp_path).exit_code == 0
        add(one, 1, at(1))
        await committed(one)
        assert len(lines("export", tmp_path, "--json")) == 6


async def test_tail_shows_the_latest_rows_last(store: Path) -> None:
    found = lines("tail", store, "-n", 3, "--json")
    assert [one["device"] for one in found] == ["meter-1", "meter-2", "meter-1"]
    assert found[-1]["time"] == instant(at(ROWS + 5))
    assert found[-1]["values"] == {f"p{index}": value for index, value in enumerate(_tenths(ROWS + 5))}


def _tenths(number: int) -> list[str]:
    first = at(number) % 1_000_003
    return [f"{(first + index) // 10}.{(first + index) % 10}" for index in range(3)]


async def test_tail_of_one_device_looks_back_as_far_as_needed(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        add(one, 2, at(0))
        for number in range(3000):
            add(one, 1, at(number))
    (found,) = lines("tail", tmp_path, "-n", 5, "--device", "meter-2", "--json")
    assert found["device"] == "meter-2"


async def test_tail_for_a_person_has_units(values: Path) -> None:
    result = run("tail", values)
    assert "voltage 230.1 V" in result.output
    assert "voltage - [clock-back timeout]" in result.output


async def test_tail_follows_what_is_committed_later(tmp_path: Path) -> None:
    program = (
        "import agent.store_cli as cli; cli.FOLLOW_S = 0.01; "
        f"cli.app(['tail', {str(tmp_path)!r}, '--follow', '--json'])"
    )
    async with opened(tmp_path) as one:
        add(one, 1, at(0))
        await committed(one)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            add(one, 2, at(9))
            await committed(one)
            second = json.loads(process.stdout.readline())
            process.send_signal(2)
            assert process.wait(30) == 0
    assert (first["device"], second["device"]) == ("meter-1", "meter-2")


@pytest.mark.parametrize("only", [(), ("--device", "meter-1")])
async def test_tail_follows_across_a_manifest_that_changes_in_the_middle_of_an_epoch_and_a_restart(
    tmp_path: Path, only: tuple[str, ...]
) -> None:
    program = (
        "import agent.store_cli as cli; cli.FOLLOW_S = 0.01; "
        f"cli.app(['tail', {str(tmp_path)!r}, '--follow', '--json', *{only!r}])"
    )
    lines: list[dict[str, dict[str, object]]] = []
    with contextlib.ExitStack() as ended:
        async with opened(tmp_path) as one:
            add(one, 1, at(0))
            await committed(one)
            process = ended.enter_context(
                subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            )
            assert process.stdout is not None
            lines.append(json.loads(process.stdout.readline()))
            assert one.change_manifest(manifest(points=2), at(0))
            add(one, 1, at(1), values=2)
            await committed(one)
            lines.append(json.loads(process.stdout.readline()))
        async with opened(tmp_path, manifest(1, points=1)) as one:
            add(one, 1, at(2), values=1)
            await committed(one)
            lines.append(json.loads(process.stdout.readline()))
            assert one.change_manifest(manifest(1, points=4), at(2))
            add(one, 1, at(3), values=4)
            await committed(one)
            lines.append(json.loads(process.stdout.readline()))
        process.send_signal(2)
        assert process.wait(30) == 0
    assert [len(line["values"]) for line in lines] == [3, 2, 1, 4]


async def test_verify_follows_a_manifest_that_changes_after_it_opened_the_store(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        add(one, 1, at(0))
        await committed(one)
        with Look(tmp_path) as look:
            assert one.change_manifest(manifest(points=2), at(0))
            add(one, 1, at(1), values=2)
            await committed(one)
            assert verify(look).faults == []


async def test_export_writes_values_exactly(values: Path) -> None:
    result = run("export", values)
    rows = list(csv.DictReader(io.StringIO(result.output)))
    assert [row["value"] for row in rows[:6]] == [
        "1234500",
        "230.1",
        "0.1",
        "A,1",
        "True",
        "1152921504606846976",
    ]
    assert rows[1]["answered"].endswith(".250Z")
    assert rows[0]["owners"] == "dso.example owner.example"
    assert [row["value"] for row in rows[6:]] == [""] * 6
    assert rows[7]["quality"] == "clock-back timeout"


async def test_export_as_json_is_one_reading_a_line(values: Path) -> None:
    found = lines("export", values, "--json")
    assert [one["value"] for one in found[:6]] == ["1234500", "230.1", "0.1", "A,1", True, str(2**60)]
    assert found[7]["quality"] == ["clock-back", "timeout"]


async def test_export_of_a_time_is_half_open(store: Path) -> None:
    found = lines(
        "export", store, "--json", "--from", instant(at(3)), "--to", instant(at(5)), "--device", "meter-2"
    )
    assert {one["time"] for one in found} == {instant(at(3)), instant(at(4))}
    assert {one["device"] for one in found} == {"meter-2"}


async def test_export_into_a_file_gets_its_name_when_it_is_whole(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "day.csv"
    assert run("export", store, "-o", out).exit_code == 0
    assert len(out.read_text().splitlines()) == 1 + 3 * (2 * ROWS + 1)
    assert not list(tmp_path.glob("*.part"))


async def test_export_into_a_pipe_that_closes_ends_quietly(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        for number in range(5000):
            add(one, 1, at(number))
    command = f"{sys.executable} -m cli.main store export {tmp_path} | head -2; exit ${{PIPESTATUS[0]}}"
    program = command.replace("-m cli.main", "-c 'from cli.main import main; main()'")
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 2


async def test_export_onto_a_link_a_device_or_a_directory_is_refused(store: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("kept")
    link, pipe, folder = tmp_path / "link.csv", tmp_path / "pipe.csv", tmp_path / "folder"
    link.symlink_to(kept)
    os.mkfifo(pipe)
    folder.mkdir()
    for path, kind in ((link, "a link"), (pipe, "a device or pipe"), (folder, "a directory")):
        error = run("export", store, "-o", path).exception
        assert isinstance(error, ConfigError), path
        assert str(error).startswith(f"{path} is {kind}")
    assert (link.is_symlink(), pipe.is_fifo(), folder.is_dir()) == (True, True, True)
    assert kept.read_text() == "kept"


async def test_export_leaves_a_file_alone_that_looks_like_its_own_half(store: Path, tmp_path: Path) -> None:
    bystander = tmp_path / "day.csv.part"
    bystander.write_text("somebody's")
    assert run("export", store, "-o", tmp_path / "day.csv").exit_code == 0
    assert bystander.read_text() == "somebody's"


async def test_export_over_an_ordinary_file_keeps_its_permissions(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "day.csv"
    out.write_text("yesterday")
    out.chmod(0o640)
    assert run("export", store, "-o", out).exit_code == 0
    assert out.read_text().startswith("time,")
    assert out.stat().st_mode & 0o777 == 0o640


async def test_export_into_a_directory_that_does_not_exist_is_told(store: Path, tmp_path: Path) -> None:
    error = run("export", store, "-o", tmp_path / "none" / "day.csv").exception
    assert isinstance(error, StoreError)
    assert str(error).endswith("day.csv cannot be written: No such file or directory")


async def test_export_into_a_dash_is_standard_output(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", store, "-o", "-").output == run("export", store).output
    assert not (tmp_path / "-").exists()


async def test_export_of_an_unknown_device_or_two_forms_is_refused(store: Path) -> None:
    for arguments, sentence in (
        (("--device", "nobody"), "no device 'nobody'"),
        (("--csv", "--json"), "exclude each other"),
        (("--from", "yesterday"), "is no instant"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            raise run("export", store, *arguments).exception  # type: ignore[misc]


@pytest.mark.parametrize("command", ["stats", "tail", "export", "verify"])
def test_a_directory_that_is_no_store_is_refused_with_a_sentence(tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert "is no store: there is no readings.db in it" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["stats", "tail", "export"])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "readings.db").write_text("something else entirely, and long enough for a header" * 50)
    result = run(command, tmp_path)
    assert isinstance(result.exception, StoreCorrupt)


async def test_verify_finds_a_store_whole(store: Path) -> None:
    result = run("verify", store)
    assert result.exit_code == 0
    many = _records(store)
    assert result.output == f"{many} records, 61 rows, 5 ticks in gaps: all is well\n"


def _records(directory: Path) -> int:
    db = sqlite3.connect(directory / "readings.db")
    (many,) = db.execute("SELECT count(*) FROM record").fetchone()
    db.close()
    return int(many)


def changed(sql: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        db = sqlite3.connect(directory / "readings.db")
        db.create_function("checksum", 4, checksum)
        db.executescript(sql)
        db.close()

    return change


def a_page(directory: Path) -> None:
    path = directory / "readings.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 // 2 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)


FAULTS = {
    "a digit": (
        changed(
            "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), '[7]', '[8]') AS BLOB) WHERE id = 9"
        ),
        "record 9 is not what was written",
    ),
    "a row is gone": (changed("DELETE FROM record WHERE id = 9"), "sequences 9..9 of epoch .* missing"),
    "another group": (
        changed("UPDATE record SET grp = 2, crc = checksum(id, 2, tick, body) WHERE id = 9"),
        "row 9 is filed under another group",
    ),
    "a group nobody knows": (
        changed("UPDATE record SET grp = 7, crc = checksum(id, 7, tick, body) WHERE id = 9"),
        "row 9 is of group 7, which its manifest does not have",
    ),
    "a value too many": (
        changed(
            "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), ']]', ',1]]') AS BLOB) WHERE id = 9;"
            "UPDATE record SET crc = checksum(id, grp, tick, body) WHERE id = 9"
        ),
        "row 9 of meter-1 does not fit its manifest: 4 values for 3 points",
    ),
    "not JSON": (
        changed("UPDATE record SET body = x'31', crc = checksum(id, grp, tick, x'31') WHERE id = 9"),
        "row 9 cannot be read",
    ),
    "no gap": (
        changed(
            "DELETE FROM record WHERE id = 65;"
            "UPDATE record SET id = 65, crc = checksum(65, grp, tick, body) WHERE id = 66"
        ),
        "row 65 of meter-1: 5 ticks before it, from .* on, are no row and lie in no gap",
    ),
    "held beyond": (
        changed("UPDATE route SET held = '[[1, 999]]'"),
        "route dso: what its books hold was changed by the disk",
    ),
    "no manifest": (changed("DELETE FROM manifest"), "which its manifest does not have"),
    "an epoch too late": (
        changed("UPDATE epoch SET base = base + 1 WHERE base > 0"),
        "has sequence|says it has",
    ),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_verify_finds_what_is_wrong(store: Path, name: str) -> None:
    change, sentence = FAULTS[name]
    change(store)
    result = run("verify", store, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert found["ok"] is False
    assert any(re.search(sentence, fault) for fault in found["faults"]), found["faults"]


async def test_verify_judges_impossible_ranges(store: Path) -> None:
    async with opened(store) as one:
        one.save_route(one.data, RouteState("x", "x.example", "b", 1, ((5, 9), (7, 12), (20, 99999))))
    result = run("verify", store)
    assert result.exit_code == 1
    assert result.output.count("route x of x.example: its books are said to hold") == 2


async def test_verify_reads_past_a_damaged_page(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        for number in range(3000):
            add(one, 1, at(number))
    a_page(tmp_path)
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert "faults" in result.output


async def test_verify_accepts_what_the_quota_dropped_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.store.room import Floor

    monkeypatch.setattr("agent.store.housekeeping.CHECK_ROOM_S", 0.0)
    async with opened(tmp_path, quota_bytes=300_000) as one:
        one.floors = (Floor(0, 1),)
        for number in range(6000):
            add(one, 1, at(number + number // 7))
            if number % 100 == 0:
                await settled_rows(one)
        await settled_rows(one)
        assert one.room.counts.dropped > 0
    result = run("verify", tmp_path)
    assert (result.exit_code, result.output.split(": ")[-1]) == (0, "all is well\n"), result.output
    assert {gap["reason"] for gap in contents(tmp_path).gaps()} == {"quota", "overrun"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-02", 86_400_000),
        ("-2h", -7_200_000),
        ("-15min", -900_000),
        ("-30s", -30_000),
        ("-7d", -604_800_000),
        ("1970-01-01T01:00+01:00", 0),
    ],
)
def test_instants_are_read(given: str, found: int) -> None:
    assert parse_instant(given, 0, "--from") == found


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="states no time zone"):
        parse_instant("2026-01-01T00:00:00", 0, "--from")


def test_every_command_ends_its_help_with_an_example() -> None:
    for command in ("stats", "tail", "export", "verify"):
        assert f"Example: portico store {command}" in " ".join(run(command, "--help").output.split())
