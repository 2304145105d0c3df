"""Scenario files: every fault at once with its place, copies, ports, and the shipped ones."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from simulator.faults import Fault, FaultKind
from simulator.parts import LinePart
from simulator.run import load_types
from simulator.scenario import (
    SCENARIOS,
    Scenario,
    fleet,
    load_scenario,
    seconds,
    with_free_ports,
    with_port_base,
)

SHIPPED = sorted(path.stem for path in SCENARIOS.glob("*.toml"))

GOOD = """
name = "good"
seed = 3
speed = 60
start = 2026-11-22T18:00:00+01:00
[mains]
hz = 60
v = 120
[[premises]]
name = "home"
copies = 3
[[premises.line]]
name = "lan"
port = 6000
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
[[premises.device]]
name = "relay"
type = "generic-load-relay"
port = 6001
[[fault]]
device = "meter-02"
kind = "slow"
at = "1.5min"
for = "500ms"
ms = 250
"""


def loaded(directory: Path, text: str) -> Scenario:
    path = directory / "scenario.toml"
    path.write_text(text)
    return load_scenario(path)


def faults(directory: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError, match="correct what is listed") as raised:
        loaded(directory, text)
    return raised.value.faults


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_scenario_loads_with_all_its_types(name: str) -> None:
    scenario = load_scenario(SCENARIOS / f"{name}.toml")
    assert scenario.name == name
    types = load_types(scenario)
    assert {device.type for part in scenario.premises for device in part.device} == set(types)


def test_what_is_shipped_is_what_the_documents_promise() -> None:
    assert SHIPPED == ["fleet", "household", "lines", "street"]
    household = load_scenario(SCENARIOS / "household.toml")
    assert [device.type for device in household.premises[0].device] == [
        "eastron-sdm630",
        "schneider-iem3155",
        "generic-load-relay",
        "simulator-counter",
    ]
    street = load_scenario(SCENARIOS / "street.toml")
    assert [part.line[0].port for part in street.premises] == list(range(5101, 5111))


def test_copies_have_numbered_names_and_ports_one_block_after_another(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, GOOD)
    assert [part.name for part in scenario.premises] == ["home-01", "home-02", "home-03"]
    second = scenario.premises[1]
    assert [(line.name, line.port) for line in second.line] == [("lan-02", 6002)]
    assert [(one.name, one.line, one.port) for one in second.device] == [
        ("meter-02", "lan-02", 0),
        ("relay-02", None, 6003),
    ]


def test_a_port_base_numbers_lines_and_lone_devices_in_the_order_of_the_file(tmp_path: Path) -> None:
    scenario = with_port_base(loaded(tmp_path, GOOD), 7000)
    ports = [
        port
        for part in scenario.premises
        for port in (
            *(line.port for line in part.line),
            *(one.port for one in part.device if one.line is None),
        )
    ]
    assert ports == [7000, 7001, 7002, 7003, 7004, 7005]


def test_a_port_base_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose a lower --port-base"):
        with_port_base(loaded(tmp_path, GOOD), 65_533)


def test_a_fault_has_its_times_in_seconds(tmp_path: Path) -> None:
    (fault,) = loaded(tmp_path, GOOD).fault
    assert (fault.at, fault.lasts) == (90.0, 0.5)
    assert fault.fault() == Fault(FaultKind.SLOW, ms=250)


@pytest.mark.parametrize(("text", "found"), [("10s", 10), ("500ms", 0.5), ("2h", 7200), ("1.5min", 90)])
def test_a_duration_is_a_number_and_a_unit(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["10", "s", "-1s", "1 s", "1d", 10, None, ""], ids=str)
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)


def test_every_fault_of_form_is_told_with_its_place(tmp_path: Path) -> None:
    text = GOOD.replace("seed = 3", 'seed = "3"').replace("hz = 60", "hz = 16.7")
    text = text.replace('name = "relay"', 'name = "the relay"').replace('at = "1.5min"', 'at = "soon"')
    text = text.replace("+01:00", "").replace("ms = 250", "ms = 250\nhow = 1")
    found = faults(tmp_path, text)
    places = [fault.partition(":")[0] for fault in found]
    assert places == ["seed", "start", "mains.hz", "premises.0.device.1.name", "fault.0.at", "fault.0.how"]
    assert "'soon' is no duration" in found[4]


def test_a_scenario_needs_premises_and_premises_a_device(tmp_path: Path) -> None:
    assert faults(tmp_path, 'name = "bad"\npremises = []') == ("premises: needs at least one",)
    without = 'name = "bad"\n[[premises]]\nname = "home"\ndevice = []'
    assert faults(tmp_path, without) == ("premises.0.device: needs at least one",)


def test_every_contradiction_is_told_with_its_place(tmp_path: Path) -> None:
    text = """
name = "bad"
[[premises]]
name = "home"
line = [{ name = "lan", port = 6000 }, { name = "lan", port = 6000 }]
device = [
    { name = "a", type = "t", line = "lan" },
    { name = "a", type = "t", line = "lan" },
    { name = "b", type = "t", line = "wan", port = 3 },
]
[[fault]]
device = "c"
kind = "silent"
"""
    assert faults(tmp_path, text) == (
        "premises home: two lines have the same name",
        "premises home, device a: the name is taken by another device",
        "premises home, device a: unit id 1 is taken on line lan",
        "premises home, device b: has a line and a port; the line's port is meant, so leave the other out",
        "premises home, device b: line wan is not among the premises' lines",
        "premises home, line lan: port 6000 is that of premises home, line lan",
        "fault.0.device: no device is called c",
    )


LINES = """
name = "lines"
[[premises]]
name = "home"
line = [
    { name = "a", kind = "rtu", baud = 19_200, parity = "even", turnaround = "2ms" },
    { name = "b", kind = "rtu-tcp", port = 6000 },
    { name = "c", kind = "tls", ca = "ca.pem", cert = "/etc/c.pem", key = "c.key", roles = { op = "write" } },
    { name = "d", kind = "dial-in", connect = "[::1]:5502", framing = "rtu", hello = "meter 17" },
    { name = "e", kind = "tcp", one_at_a_time = true, patience = "2s" },
]
device = [{ name = "meter", type = "eastron-sdm630", line = "a", behaviour = { delay = "2s", warm_c = 45 } }]
"""


def test_a_line_has_its_kind_and_what_belongs_to_it(tmp_path: Path) -> None:
    (home,) = loaded(tmp_path, LINES).premises
    a, b, c, d, _ = home.line
    assert (a.bits, a.turnaround, a.has_port) == (11, 0.002, False)
    assert (b.bits, b.baud, b.has_port) == (10, 9600, True)
    assert (c.ca, c.cert, c.key) == (str(tmp_path / "ca.pem"), "/etc/c.pem", str(tmp_path / "c.key"))
    assert (d.address, d.has_port) == (("::1", 5502), False)
    assert home.device[0].behaviour.behaviour().warm_c == 45


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('kind = "rtu", port = 5', "port: not for a line of kind rtu"),
        ('kind = "tcp", baud = 9600', "baud: not for a line of kind tcp"),
        ('kind = "dial-in"', 'connect is missing: a device that dials in needs "host:port" to dial'),
        ('kind = "tls", ca = "x"', "ca, cert and key belong together: give all of them, or none"),
        ('kind = "canbus"', 'must be "tcp", "rtu", "rtu-tcp", "tls" or "dial-in", is "canbus"'),
    ],
)
def test_what_does_not_belong_to_a_kind_of_line_is_told(tmp_path: Path, line: str, fault: str) -> None:
    text = f"""
name = "bad"
[[premises]]
name = "home"
line = [{{ name = "a", {line} }}]
device = [{{ name = "b", type = "eastron-sdm630", line = "a" }}]
"""
    (found,) = faults(tmp_path, text)
    assert found.startswith("premises.0.line.0")
    assert fault in found


def test_a_fault_of_a_kind_that_is_not_known_names_a_near_one(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, GOOD.replace('kind = "slow"', 'kind = "frosen"'))
    assert found.startswith("fault.0.kind: 'frosen' is none of silent, slow, late")
    assert found.endswith("; frozen?")


def test_every_kind_of_fault_can_be_scripted(tmp_path: Path) -> None:
    for kind in FaultKind:
        text = GOOD.replace('kind = "slow"', f'kind = "{kind.value}"').replace("ms = 250", "")
        assert loaded(tmp_path, text).fault[0].fault().kind is kind


def test_a_late_answer_is_later_than_a_slow_one_when_nobody_says(tmp_path: Path) -> None:
    text = GOOD.replace("ms = 250", "")
    slow, late = text, text.replace('kind = "slow"', 'kind = "late"')
    assert loaded(tmp_path, slow).fault[0].fault().ms < loaded(tmp_path, late).fault[0].fault().ms


def test_a_fleet_has_as_many_devices_as_were_asked_for_on_free_ports(tmp_path: Path) -> None:
    made = fleet(loaded(tmp_path, GOOD), 8)
    names = [device.name for part in made.premises for device in part.device]
    assert len(names) == len(set(names)) == 8
    assert names[:2] == ["meter-01-01", "relay-01-01"]
    assert {line.port for part in made.premises for line in part.line} == {0}
    assert [fault.device for fault in made.fault] == ["meter-02-01"]
    assert sum(len(part.device) for part in fleet(loaded(tmp_path, GOOD), 7).premises) == 7


def test_free_ports_are_left_to_the_system(tmp_path: Path) -> None:
    free = with_free_ports(loaded(tmp_path, GOOD))
    assert {device.port for part in free.premises for device in part.device} == {0}


@pytest.mark.parametrize("text", [GOOD, LINES], ids=["good", "lines"])
def test_a_scenario_goes_through_json_and_back(tmp_path: Path, text: str) -> None:
    whole = loaded(tmp_path, text)
    document = whole.model_dump_json(by_alias=True, exclude_defaults=True)
    assert Scenario.model_validate_json(document) == whole


def test_a_line_is_tcp_on_a_free_port_when_nobody_says() -> None:
    line = LinePart(name="lan")
    assert (line.kind, line.port, line.one_at_a_time) == ("tcp", 0, False)


def test_unknown_types_are_told_all_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("eastron-sdm630", "eastron-sdm631").replace("generic-load-relay", "relay")
    with pytest.raises(ConfigError, match="needs device types that cannot be used") as raised:
        load_types(loaded(tmp_path, text))
    assert [fault.split("'")[1] for fault in raised.value.faults] == ["eastron-sdm631", "relay"]


def test_what_is_not_toml_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        loaded(tmp_path, "name =")
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load_scenario(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "Straße"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 12\): save it as UTF-8"):
        load_scenario(path)


def test_file_of_another_program_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text('[gateway]\nid = "gw-0001"\n')
    with pytest.raises(ConfigError, match=r"file of a gateway, .*: give a scenario\.toml") as raised:
        load_scenario(path)
    assert raised.value.faults == ()


def test_keys_that_are_unknown_or_missing_lead_to_what_was_meant(tmp_path: Path) -> None:
    text = 'name = "x"\nsede = 1\n[[premises]]\nname = "a"\n[[premises.device]]\nname = "m"\n'
    assert faults(tmp_path, text) == (
        'premises.0.device.0.type: is missing: write for example type = "eastron-sdm630"',
        'sede: no such key: did you mean "seed"?',
    )
