"""`portico agent check`: the plan that is shown, and what is refused before anything starts."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from agent.check import Checked, check, run_check
from agent.learned import Shown
from agent.learnednote import KEY, Known, ask_to_forget, encode, version_of
from certs.authority import DevAuthority
from certs.pem import read_certificates
from drivers.modbus.learned import Largest, Learned, Refusal
from drivers.points import Table
from drivers.types import load_type
from tests.support.rolecert import issue_with_role
from tests.unit.agent.store.store_made import opened

CONFIG = """\
[gateway]
id = "gw-0001"
data_dir = "var"
setting = "development"

[[line]]
name = "lan"
url = "modbus+tcp://127.0.0.1:5020"

[[device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"

[[device.override]]
points = ["PhVphA", "PhVphC"]
every = "60s"
data_owners = ["dso.example", "customer.example"]

[[device]]
name = "relay"
type = "generic-load-relay"
line = "lan"
unit_id = 2
every = "1s"
owner = "dso.example"
valid_from = 2026-06-01T00:00:00+02:00
points = ["LoadState", "W"]

[[route]]
name = "dso"
entity = "dso.example"
url = "mqtts://127.0.0.1:8883"
ca = "ca.pem"
cert = "gw-0001.pem"
key = "gw-0001.key"
"""

NO_ROUTE = "customer.example owns data of meter and has no [[route]]: it receives nothing from here"
UNCONFIRMED = (
    'device "relay": no source confirmed LoadState, W of type generic-load-relay; '
    "compare the values with the device's own display"
)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a configuration, and the identities that it names."""
    authority = DevAuthority.create(tmp_path)
    authority.issue_all(gateways=["gw-0001", "gw-0002"])
    (tmp_path / "gateway.toml").write_text(CONFIG)
    return tmp_path


def rewrite(desk: Path, before: str, after: str) -> Path:
    path = desk / "gateway.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return path


def test_the_plan_names_each_request_with_what_it_reads_for_nothing(desk: Path) -> None:
    checked = check(desk / "gateway.toml")
    assert checked.ok
    (line,) = checked.lines
    assert line.devices == 2
    voltages = line.groups[0]
    assert (voltages.device, voltages.every, voltages.owners) == (
        "meter",
        "1min",
        ("dso.example and customer.example",),
    )
    (request,) = voltages.requests
    # PhVphA is at 0-1 and PhVphC at 4-5 (drivers/types/eastron-sdm630.toml): 2-3 is a hole bridged.
    assert (request.table, request.first, request.last, request.count) == ("input", 0, 5, 6)
    assert (request.points, request.unused) == (("PhVphA", "PhVphC"), 2)
    assert line.groups[2].owners == ("dso.example from 2026-05-31T22:00:00Z",)


def test_the_rates_of_a_line_add_up(desk: Path) -> None:
    (line,) = check(desk / "gateway.toml").lines
    requests = registers = bits = points = 0.0
    for group in line.groups:
        each_s = {"1min": 1 / 60, "10s": 1 / 10, "1s": 1.0}[group.every]
        for request in group.requests:
            requests += each_s
            points += each_s * len(request.points)
            if request.table in ("coil", "discrete"):
                bits += each_s * request.count
            else:
                registers += each_s * request.count
    assert line.requests_per_s == pytest.approx(requests, abs=0.001)
    assert line.registers_per_s == pytest.approx(registers, abs=0.001)
    assert line.bits_per_s == pytest.approx(bits, abs=0.001) == 1.0
    assert line.points_per_s == pytest.approx(points, abs=0.001)


def test_a_usable_file_is_exit_code_0_and_shows_its_plan(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_check(desk / "gateway.toml", as_json=False) == 0
    out, err = capsys.readouterr()
    assert "line lan" in out
    assert "0-5" in out
    assert "customer.example owns data of meter and has no [[route]]" in out
    assert err == ""


def test_a_faulty_file_is_exit_code_2_with_the_faults_on_stderr(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewrite(desk, 'every = "1s"', "every = 1")
    assert run_check(path, as_json=False) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == f"error: {path} has 1 fault:"
    assert err.splitlines()[1].startswith('  gateway.toml: device[2] "relay" every: 1 is no duration')


def test_the_json_of_a_check_says_ok_or_the_faults(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_check(desk / "gateway.toml", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["lines"][0]["groups"][0]["requests"][0]["unused"] == 2
    assert told["connections"] == [
        {
            "client_id": "gw-0001",
            "url": "mqtts://127.0.0.1:8883",
            "routes": ["dso"],
            "entities": ["dso.example"],
        }
    ]
    path = rewrite(desk, "unit_id = 2", "unit_id = 1")
    assert run_check(path, as_json=True) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["faults"] == [
        'gateway.toml: device[2] "relay" unit_id: unit id 1 on line "lan" is already device[1] "meter"'
    ]


def test_points_that_no_read_can_bring_are_a_fault(desk: Path) -> None:
    checked = check(rewrite(desk, "unit_id = 1\n", "unit_id = 1\nmax_registers = 1\n"))
    assert not checked.ok
    assert checked.faults[0].startswith('device "meter": point ')


def test_files_that_do_not_exist_are_each_told_once(desk: Path) -> None:
    for name in ("ca.pem", "gw-0001.sign.pem"):
        (desk / name).unlink()
    checked = check(desk / "gateway.toml")
    assert [fault.split(" does not exist")[0] for fault in checked.faults] == [
        f"signing certificate {desk / 'gw-0001.sign.pem'}",
        f"CA bundle {desk / 'ca.pem'}",
    ]


def test_a_certificate_of_another_gateway_is_a_fault(desk: Path) -> None:
    path = rewrite(desk, '"gw-0001.pem"', '"gw-0002.pem"')
    checked = check(rewrite(desk, '"gw-0001.key"', '"gw-0002.key"'))
    assert path.exists()
    (fault,) = checked.faults
    assert "is issued to gw-0002 and the gateway is gw-0001" in fault


def test_a_signing_certificate_of_another_gateway_is_a_fault(desk: Path) -> None:
    keys = 'signing_cert = "gw-0002.sign.pem"\nsigning_key = "gw-0002.sign.key"\n'
    (fault,) = check(rewrite(desk, 'data_dir = "var"\n', f'data_dir = "var"\n{keys}')).faults
    assert "gw-0002.sign.pem is issued to gw-0002" in fault


def test_a_key_that_belongs_to_another_certificate_is_a_fault(desk: Path) -> None:
    (fault,) = check(rewrite(desk, '"gw-0001.key"', '"gw-0002.key"')).faults
    assert "does not belong to certificate" in fault


def test_production_refuses_the_development_authority(desk: Path) -> None:
    (fault,) = check(rewrite(desk, '"development"', '"production"')).faults
    assert "development authority" in fault


def test_production_refuses_the_development_authority_also_as_trust(desk: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.pem").write_text((desk / "ca.pem").read_text())
    rewrite(desk, '"development"', '"production"')
    checked = check(rewrite(desk, 'ca = "ca.pem"\n', 'ca = "ca.pem"\ntrust = "trust.pem"\n'))
    assert sum("trust.pem holds a development authority" in fault for fault in checked.faults) == 1


def test_an_expired_certificate_is_a_fault_and_one_that_ends_soon_a_warning(desk: Path) -> None:
    end = read_certificates(desk / "gw-0001.pem")[0].not_valid_after_utc
    assert check(desk / "gateway.toml", at=end - timedelta(days=60)).warnings == (UNCONFIRMED, NO_ROUTE)
    soon = check(desk / "gateway.toml", at=end - timedelta(days=10))
    assert soon.ok
    assert [text for text in soon.warnings if text.startswith("certificate")] == [
        f"certificate {desk / name} ends on {end:%Y-%m-%d}, in {days} days: issue the next one"
        for name, days in (("gw-0001.sign.pem", 10), ("gw-0001.pem", 10))
    ]
    late = check(desk / "gateway.toml", at=end + timedelta(days=1))
    assert any(str(desk / "gw-0001.pem") in fault for fault in late.faults)


def test_faults_of_tables_and_of_certificates_are_told_together(desk: Path) -> None:
    (desk / "gw-0001.key").unlink()
    path = rewrite(desk, 'every = "60s"', 'every = "60"')
    checked = check(path)
    assert checked.problem == f"{path} has 2 faults:"
    assert 'device[1] "meter" override[1] every' in checked.faults[0]
    assert "gw-0001.key" in checked.faults[1]


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ('data_dir = "var"', "data_dir = 7", "gateway data_dir"),
        ('setting = "development"', 'setting = "desk"', "gateway setting"),
        ('entity = "dso.example"', 'entity = "d/so"', 'route[1] "dso" entity'),
        ('id = "gw-0001"', 'id = "gw/1"', "gateway id"),
    ],
)
def test_certificates_are_looked_at_whichever_table_has_a_fault(
    desk: Path, right: str, wrong: str, where: str
) -> None:
    (desk / "gw-0001.key").unlink()
    checked = check(rewrite(desk, right, wrong))
    assert any(where in fault for fault in checked.faults)
    assert sum(str(desk / "gw-0001.key") in fault for fault in checked.faults) == 1
    signed = not where.endswith(" id")  # whose name its signing files bear, nobody can tell then
    (desk / "gw-0001.sign.pem").unlink()
    told = check(desk / "gateway.toml").faults
    assert any("gw-0001.sign.pem" in fault for fault in told) is signed


def test_certificate_of_another_is_told_in_a_file_without_a_usable_gateway_table(desk: Path) -> None:
    rewrite(desk, 'data_dir = "var"', "data_dir = 7")
    rewrite(desk, '"gw-0001.pem"', '"gw-0002.pem"')
    told = check(rewrite(desk, '"gw-0001.key"', '"gw-0002.key"')).faults
    assert any("is issued to gw-0002 and the gateway is gw-0001" in fault for fault in told)


def test_files_of_a_route_that_names_no_key_are_looked_at_one_by_one(desk: Path) -> None:
    (desk / "ca.pem").write_text("no certificate")
    told = check(rewrite(desk, 'key = "gw-0001.key"\n', "")).faults
    assert any("mqtts:// needs key" in fault for fault in told)
    assert any(str(desk / "ca.pem") in fault for fault in told)


def test_production_without_a_usable_gateway_table_refuses_the_development_authority(desk: Path) -> None:
    rewrite(desk, '"development"', '"production"')
    told = check(rewrite(desk, 'data_dir = "var"', "data_dir = 7")).faults
    assert any("development authority" in fault for fault in told)


RTU = 'url = "modbus+rtu:///dev/ttyUSB0"\ntimeout = "300ms"'
TCP = 'url = "modbus+tcp://127.0.0.1:5020"'


def test_the_bus_time_of_a_serial_line_is_reckoned_from_its_requests(desk: Path) -> None:
    (line,) = check(rewrite(desk, TCP, RTU + "\nbaud = 19200")).lines
    shares: dict[str, float] = {}
    for group in line.groups:
        every_s = {"1min": 60.0, "10s": 10.0, "1s": 1.0}[group.every]
        for request in group.requests:
            size = (request.count + 7) // 8 if request.table in ("coil", "discrete") else 2 * request.count
            # performance: 8 + 5 + 2n characters of 10 bits, twice 3.5 characters, 5 ms turn-around
            taken = (8 + 5 + size + 7) * 10 / 19200 + 0.005
            shares[group.device] = shares.get(group.device, 0.0) + taken / every_s
    assert line.bus_time == pytest.approx(sum(shares.values()), abs=0.001)
    assert dict(line.bus_time_of) == pytest.approx(shares, abs=0.001)
    assert 0.01 < line.bus_time < 0.2
    assert f"most of it {max(shares, key=shares.__getitem__)}" in line.bus_time_told


def test_a_line_that_cannot_keep_up_is_warned_of_with_its_worst_device(desk: Path) -> None:
    rewrite(desk, TCP, RTU + "\nbaud = 1200")
    checked = check(rewrite(desk, 'unit_id = 1\nevery = "10s"', 'unit_id = 1\nevery = "1s"'))
    assert checked.ok
    (line,) = checked.lines
    assert line.bus_time is not None
    assert line.bus_time > 1
    (warning,) = [one for one in checked.warnings if "cannot keep up" in one]
    assert re.search(r'line "lan" cannot keep up: the line needs \d{3} % of its time at 1200 baud', warning)
    assert "most of it meter: " in warning


def test_a_crowded_line_is_warned_of_before_it_is_full(desk: Path) -> None:
    rewrite(desk, TCP, RTU + "\nbaud = 1200")
    checked = check(rewrite(desk, 'unit_id = 1\nevery = "10s"', 'unit_id = 1\nevery = "4s"'))
    (line,) = checked.lines
    assert line.bus_time is not None
    assert 0.8 < line.bus_time <= 1, line.bus_time
    assert any("little room for retries" in one for one in checked.warnings)


def test_the_bus_time_behind_a_serial_server_is_reckoned_when_its_speed_is_told(desk: Path) -> None:
    (line,) = check(rewrite(desk, TCP, 'url = "modbus+rtu+tcp://127.0.0.1:4001"')).lines
    assert (line.bus_time, line.bus_time_of) == (None, ())
    assert "give baud" in line.bus_time_told
    (line,) = check(rewrite(desk, ':4001"', ':4001"\nbaud = 9600')).lines
    assert line.bus_time is not None


def test_the_bus_time_of_a_network_line_is_not_reckoned(desk: Path) -> None:
    (line,) = check(desk / "gateway.toml").lines
    assert line.bus_time is None
    assert "serial lines alone" in line.bus_time_told


def test_the_files_of_a_line_in_tls_are_looked_at_and_a_missing_role_is_warned_of(desk: Path) -> None:
    files = 'ca = "ca.pem"\ncert = "gw-0001.pem"\nkey = "gw-0001.key"'
    checked = check(rewrite(desk, TCP, f'url = "modbus+tls://127.0.0.1"\n{files}'))
    assert checked.ok
    assert any("holds no role (1.3.6.1.4.1.50316.802.1)" in one for one in checked.warnings)
    issue_with_role(desk, "modbus", b"\x0c\x08Operator")
    (desk / "gateway.toml").write_text(
        (desk / "gateway.toml").read_text().replace(files, files.replace("gw-0001", "modbus"))
    )
    assert not any("holds no role" in one for one in check(desk / "gateway.toml").warnings)
    (desk / "modbus.key").unlink()
    assert any("modbus.key" in fault for fault in check(desk / "gateway.toml").faults)


async def keep(directory: Path, learned: Learned, version: str | None = None) -> None:
    """Leave a data directory in which an agent learned something of the meter."""
    known = Known("eastron-sdm630", version or version_of(load_type("eastron-sdm630")), learned)
    async with opened(directory) as store:
        await store.call(store.control, lambda file: file.set_meta(KEY, encode({"meter": known})))


def meter_requests(checked: Checked) -> dict[tuple[int, int], str]:
    """Return spans of the meter's requests, with why they are refused."""
    groups = [group for line in checked.lines for group in line.groups if group.device == "meter"]
    return {(one.first, one.last): one.refused for group in groups for one in group.requests}


async def test_the_plan_is_the_learned_one_where_there_is_one_and_says_so(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewrite(desk, TCP, RTU)
    fresh = check(path)
    assert fresh.learned == {}
    learned = Learned((Refusal(Table.INPUT, 4, 5, "exception-2"),), (Largest(Table.INPUT, 10),))
    await keep(desk / "var", learned)
    checked = check(path)
    assert checked.learned == {"meter": Shown(("input 4-5 (exception-2)",), {"input": 10})}
    reads = meter_requests(checked)
    # PhVphA is at 0-1 and PhVphC at 4-5, one read by the type; what is refused has one of its own.
    assert (0, 5) in meter_requests(fresh)
    assert {(0, 1), (4, 5)} <= reads.keys()
    assert [span for span, refused in reads.items() if refused] == [(4, 5)]
    assert max(last - first + 1 for first, last in reads) <= 10

    [line] = checked.lines
    assert line.bus_time is not None
    assert fresh.lines[0].bus_time is not None
    assert line.bus_time > fresh.lines[0].bus_time  # shorter reads are more of them
    each_s = {"1min": 60.0, "10s": 10.0, "1s": 1.0}
    asked = [
        1 / each_s[group.every]
        for group in line.groups
        for request in group.requests
        if not request.refused  # that one is asked now and then
    ]
    assert line.requests_per_s == pytest.approx(sum(asked), abs=0.001)

    assert run_check(path, as_json=False) == 0
    out = " ".join(capsys.readouterr().out.replace("\u2502", "").split())
    sentence = (
        "planned as learned, not as its type says: reads at most 10 of input at once; refuses input 4-5"
    )
    assert sentence in out
    assert "refused (exception-2): asked now and then" in out
    assert run_check(path, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["learned"]
    assert told == {"meter": {"holes": ["input 4-5 (exception-2)"], "largest": {"input": 10}}}


async def test_what_was_learned_of_another_version_or_is_to_be_forgotten_plans_nothing(desk: Path) -> None:
    learned = Learned((Refusal(Table.INPUT, 4, 5, "exception-2"),))
    await keep(desk / "var", learned, "another")
    assert check(desk / "gateway.toml").learned == {}
    await keep(desk / "var", learned)
    assert check(desk / "gateway.toml").learned.keys() == {"meter"}
    ask_to_forget(desk / "var", "meter")
    assert check(desk / "gateway.toml").learned == {}


def test_data_directory_that_may_not_be_read_is_a_warning(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(directory: Path, types: object) -> dict[str, Known]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("agent.check.read_note", denied)
    checked = check(desk / "gateway.toml")
    assert checked.ok
    assert any("is not shown: " in text and "(permission denied)" in text for text in checked.warnings)


def test_a_root_of_the_policy_that_is_none_is_a_fault(desk: Path) -> None:
    path = desk / "gateway.toml"
    path.write_text(path.read_text() + '\n[policy]\nroot = "root.json"\n')
    (fault,) = check(path).faults
    assert "root.json is not there" in fault
    (desk / "root.json").write_text("{}")
    (fault,) = check(path).faults
    assert "is no root.json of a policy" in fault


@pytest.mark.parametrize(
    ("data_dir", "fault"),
    [
        ("file", "it is no folder"),
        ("file/below/it", "file is no folder"),
        ("/proc/nothing", "no folder can be made there"),
    ],
)
def test_data_directory_that_the_start_would_refuse_is_a_fault(desk: Path, data_dir: str, fault: str) -> None:
    (desk / "file").write_text("")
    found = check(rewrite(desk, 'data_dir = "var"', f'data_dir = "{data_dir}"'))
    (told,) = [one for one in found.faults if "data_dir" in one]
    assert told.startswith("gateway.toml: gateway data_dir: ")
    assert f"{fault}): name a folder that the agent may make and write" in told
    assert not found.ok


def test_check_leaves_nothing_in_a_data_directory_and_makes_none(desk: Path) -> None:
    before = sorted(desk.rglob("*"))
    assert check(desk / "gateway.toml").ok
    assert sorted(desk.rglob("*")) == before


def ports_told(desk: Path, first: str, second: str) -> list[str]:
    """What is said of one port that two lines name."""
    twice = f'url = "modbus+rtu://{first}"\n\n[[line]]\nname = "again"\nurl = "modbus+rtu://{second}"'
    path = rewrite(desk, 'url = "modbus+tcp://127.0.0.1:5020"', twice)
    checked = check(path)
    assert checked.ok, checked
    return [one for one in checked.warnings if '"lan" and "again"' in one]


def test_one_serial_port_under_two_names_is_warned_of(desk: Path) -> None:
    (told,) = ports_told(desk, "/dev/ttyUSB7", "/dev/../dev/ttyUSB7")
    assert "the same serial port /dev/ttyUSB7" in told


def test_a_link_to_a_serial_port_of_another_line_is_warned_of(desk: Path) -> None:
    (desk / "by-id").symlink_to(desk / "port")
    assert len(ports_told(desk, str(desk / "port"), str(desk / "by-id"))) == 1


def test_two_serial_ports_are_no_reason_for_a_warning_and_one_name_twice_is_told_once(desk: Path) -> None:
    config = (desk / "gateway.toml").read_text()
    assert ports_told(desk, "/dev/ttyUSB7", "/dev/ttyUSB8") == []
    (desk / "gateway.toml").write_text(config)
    assert len(ports_told(desk, "/dev/ttyUSB7", "/dev/ttyUSB7")) == 1
