"""gateway.toml: what is read, what follows, and what is refused with which sentence."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.amounts import DAY_MS, Duration, Size, parse_duration, parse_interval, parse_size
from agent.config import (
    DeviceConfig,
    Endpoint,
    GatewayConfig,
    LineConfig,
    OverrideConfig,
    OwnershipConfig,
    PolicyConfig,
    RouteConfig,
    Scheme,
    Setting,
    TransformerConfig,
    connections,
    load_config,
    parse_config,
    types_of,
)
from agent.owners import ownership_terms
from core.errors import ConfigError
from drivers.modbus.lineurl import LinkUrl
from tests.support.config_text import DEVICE, GATEWAY, LINE, ROUTE, WHOLE, faults, parsed, warned

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_a_bad_file_is_refused_with_every_fault_and_its_place(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CASES / case)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("gateway.toml"))
    told = [str(caught.value), *(f"  {fault}" for fault in caught.value.faults)]
    assert told == (CASES / case / "expected.err").read_text("utf-8").splitlines()


def test_the_example_of_the_issue_is_read() -> None:
    config = parsed(WHOLE)
    assert config.gateway == GatewayConfig(
        id="gw-0001",
        data_dir=Path("/etc/portico/var/gw-0001"),
        signing_cert=Path("/etc/portico/gw-0001.sign.pem"),
        signing_key=Path("/etc/portico/gw-0001.sign.key"),
    )
    assert config.lines == (LineConfig(name="lan", url=LinkUrl("127.0.0.1", 5020)),)
    assert config.devices[0].every == Duration(10_000)
    assert config.routes[0].ca == config.routes[0].trust == Path("/etc/portico/ca.pem")
    assert warned(WHOLE) == ()


def test_production_is_the_default_setting() -> None:
    assert parsed(WHOLE).gateway.setting is Setting.PRODUCTION


def test_an_absolute_path_stays_where_it_is() -> None:
    text = WHOLE.replace('"var/gw-0001"', '"/var/lib/portico"')
    assert parsed(text).gateway.data_dir == Path("/var/lib/portico")


@pytest.mark.parametrize(
    ("every", "within_ms"), [("0s", 1000), ("100ms", 1000), ("1s", 5000), ("60s", 300_000)]
)
def test_a_confirmation_is_wished_within_five_intervals_and_at_least_a_second(
    every: str, within_ms: int
) -> None:
    assert parsed(f'{WHOLE}every = "{every}"\n').routes[0].within == Duration(within_ms)


def test_a_wish_for_confirmation_that_is_given_stands() -> None:
    assert parsed(f'{WHOLE}every = "60s"\nwithin = "90s"\n').routes[0].within == Duration(90_000)


def test_the_port_of_an_address_may_be_left_out() -> None:
    text = WHOLE.replace("127.0.0.1:5020", "[::1]").replace("127.0.0.1:8883", "broker.example")
    config = parsed(text)
    assert config.lines[0].url == LinkUrl("::1", 502)
    assert str(config.lines[0].url) == "modbus+tcp://[::1]:502"
    assert config.routes[0].url == Endpoint(Scheme.MQTTS, "broker.example", 8883)


@pytest.mark.parametrize(
    "url",
    [
        "modbus+tcp://",
        "modbus+tcp://h:70000",
        "modbus+tcp://h:0",
        "modbus+tcp://h/1",
        "modbus+tcp://h?unit=1",
        "modbus+tcp://u@h",
        "modbus+tcp://[::1",
        "modbus+rtu://dev/ttyUSB0",
        "192.168.1.5",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    (fault,) = faults(WHOLE.replace("modbus+tcp://127.0.0.1:5020", url))
    assert fault.startswith('gateway.toml: line[1] "lan" url: ')


def test_a_file_that_is_missing_or_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\): give the path"):
        load_config(tmp_path / "gateway.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[gateway]\nid = '\xff'\n")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(line 2\)"):
        load_config(binary)


def test_a_config_is_frozen() -> None:
    config = parsed(WHOLE)
    with pytest.raises(ValueError, match="frozen"):
        config.gateway.id = "gw-0002"  # type: ignore[misc]


# Durations and sizes


@given(st.integers(0, 10**12))
def test_a_duration_reads_back_as_it_is_shown(ms: int) -> None:
    shown = str(Duration(ms))
    if len(shown.rstrip("msinhd")) <= 9:
        assert parse_duration(shown) == Duration(ms)


@given(st.integers(0, 10**9 - 1))
def test_a_size_reads_back_as_it_is_shown(octets: int) -> None:
    assert parse_size(str(Size(octets))) == Size(octets)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("500ms", 500), ("1.5s", 1500), ("5min", 300_000), ("1h", 3_600_000), ("30d", 30 * DAY_MS)],
)
def test_a_duration_has_its_unit(text: str, ms: int) -> None:
    assert parse_duration(text) == Duration(ms)


@pytest.mark.parametrize(
    "value", ["10", 10, 10.0, "10 s", "-1s", "1m", "", None, True, "1e3s", "٣s", "0.5ms"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "octets"), [("512B", 512), ("64KiB", 65_536), ("1.5MiB", 1_572_864), ("1GB", 10**9)]
)
def test_a_size_has_its_unit(text: str, octets: int) -> None:
    assert parse_size(text) == Size(octets)


@pytest.mark.parametrize("value", ["1024", 1024, "1 GiB", "1gib", "-1B", "0.5B", None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        parse_size(value)


@given(st.integers(0, 2 * DAY_MS))
def test_an_interval_is_refused_unless_its_grid_meets_midnight(ms: int) -> None:
    if 10 <= ms <= DAY_MS and DAY_MS % ms == 0:
        assert parse_interval(Duration(ms)) == Duration(ms)
    else:
        with pytest.raises(ValueError):
            parse_interval(Duration(ms))


def test_an_interval_beside_the_grid_is_answered_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match='take "6s" or "8s"'):
        parse_interval("7s")


# Rules between tables


def test_one_fault_in_a_line_is_not_told_again_by_its_devices() -> None:
    found = faults(WHOLE.replace("modbus+tcp://", "tcp://"))
    assert len(found) == 1


def test_a_fault_in_one_table_hides_none_in_another() -> None:
    found = faults(WHOLE.replace('every = "10s"', "every = 10") + "window = 0\n")
    assert [fault.split(": ")[1] for fault in found] == [
        'device[1] "meter" every',
        'route[1] "dso" window',
    ]


def test_plain_mqtt_is_for_development_and_is_warned_of() -> None:
    development = GATEWAY + 'setting = "development"\n'
    route = '[[route]]\nname = "dso"\nentity = "dso.example"\nurl = "mqtt://127.0.0.1"\ntrust = "ca.pem"\n'
    assert any("NOT ENCRYPTED" in text for text in warned(development + LINE + DEVICE + route))
    (fault,) = faults(GATEWAY + LINE + DEVICE + route)
    assert "production refuses" in fault


def test_a_route_needs_somebody_to_trust() -> None:
    route = '[[route]]\nname = "dso"\nentity = "dso.example"\nurl = "mqtt://127.0.0.1"\n'
    (fault,) = faults(GATEWAY + 'setting = "development"\n' + LINE + DEVICE + route)
    assert "needs trust" in fault


def test_an_owner_without_a_route_and_a_route_without_an_owner_are_warned_of() -> None:
    text = WHOLE.replace('entity = "dso.example"', 'entity = "dso.exmaple"')
    assert warned(text) == (
        'dso.example owns data of meter and has no [[route]]: did you mean "dso.exmaple"?',
        'route "dso": dso.exmaple owns no data here, nothing will be sent',
    )


def test_two_lines_to_one_address_are_warned_of() -> None:
    second = LINE.replace('"lan"', '"lan-2"')
    told = warned(GATEWAY + LINE + second + DEVICE + ROUTE)
    assert any("lead to the same address" in text for text in told)
    assert 'line "lan-2" has no device' in told


def test_a_time_without_an_owner_is_warned_of() -> None:
    device = DEVICE + "valid_from = 2026-01-01T00:00:00Z\nvalid_to = 2027-01-01T00:00:00Z\n"
    (told,) = warned(GATEWAY + LINE + device + ROUTE)
    assert "its last ownership ends" in told


def test_registers_that_no_source_confirmed_are_warned_of() -> None:
    (told,) = warned(WHOLE.replace("eastron-sdm630", "generic-load-relay"))
    assert "no source confirmed LoadShed, LoadState" in told


def test_types_of_a_folder_of_the_site_are_found(tmp_path: Path) -> None:
    own = (ROOT / "drivers" / "types" / "generic-load-relay.toml").read_text("utf-8")
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "our-relay.toml").write_text(own.replace('"generic-load-relay"', '"our-relay"'))
    file = tmp_path / "gateway.toml"
    file.write_text((GATEWAY + 'types = ["types"]\n' + LINE + DEVICE).replace("eastron-sdm630", "our-relay"))
    config = load_config(file)
    assert types_of(config.gateway)("our-relay").name == "our-relay"


# Owners


def device(keys: str) -> DeviceConfig:
    return parsed(GATEWAY + LINE + DEVICE + keys).devices[0]


def test_who_is_left_out_follows_from_who_is_named() -> None:
    (term,) = ownership_terms(device(""))
    assert (term.device_owner, term.data_owners) == ("dso.example", ("dso.example",))
    assert (term.steward, term.validator) == ("dso.example", "dso.example")
    (term,) = ownership_terms(device('data_owners = ["customer.example", "dso.example"]\n'))
    assert (term.device_owner, term.steward) == ("dso.example", "customer.example")
    assert term.validator == "customer.example"
    (term,) = ownership_terms(device('steward = "mdm.example"\n'))
    assert (term.steward, term.validator) == ("mdm.example", "mdm.example")


def test_an_override_changes_only_what_it_names() -> None:
    table = device(
        'steward = "mdm.example"\npurpose = "billing"\n'
        '[[device.override]]\npoints = ["PhVphA"]\ndata_owners = ["customer.example"]\n'
    )
    (term,) = ownership_terms(table, table.override[0])
    assert (term.device_owner, term.data_owners) == ("dso.example", ("customer.example",))
    assert (term.steward, term.purpose) == ("mdm.example", "billing")


def test_an_override_applies_to_every_term_of_a_history() -> None:
    text = (GATEWAY + LINE + DEVICE).replace('owner = "dso.example"\n', "") + (
        '[[device.ownership]]\nowner = "a.example"\nvalid_to = 2026-06-01T00:00:00+02:00\n'
        '[[device.ownership]]\nowner = "b.example"\nvalid_from = 2026-06-01T00:00:00+02:00\n'
        '[[device.override]]\npoints = ["PhVphA"]\nsteward = "mdm.example"\n'
    )
    (table,) = parsed(text).devices
    terms = ownership_terms(table, table.override[0])
    instant = int(datetime(2026, 5, 31, 22, tzinfo=UTC).timestamp() * 1000)
    assert [(term.data_owners, term.steward) for term in terms] == [
        (("a.example",), "mdm.example"),
        (("b.example",), "mdm.example"),
    ]
    assert (terms[0].valid_to_ms, terms[1].valid_from_ms) == (instant, instant)


# Connections


def route(name: str, entity: str, broker: str = "127.0.0.1:8883", cert: str = "gw-0001") -> str:
    return (
        f'[[route]]\nname = "{name}"\nentity = "{entity}"\nurl = "mqtts://{broker}"\n'
        f'ca = "ca.pem"\ncert = "{cert}.pem"\nkey = "{cert}.key"\n'
    )


def test_routes_with_one_broker_and_certificate_share_a_connection() -> None:
    text = GATEWAY + LINE + DEVICE + route("dso", "dso.example") + route("esco", "esco.example")
    (connection,) = connections(parsed(text + 'keepalive = "10s"\n'))
    assert connection.client_id == "gw-0001"
    assert [one.name for one in connection.routes] == ["dso", "esco"]
    assert connection.keepalive == Duration(10_000)


@pytest.mark.parametrize(
    ("every", "keepalive_s"),
    [(None, 30), ("0s", 30), ("15s", 30), ("16s", 32), ("60s", 120), ("1h", 3600), ("1d", 3600)],
)
def test_keep_alive_is_two_messages_long_within_its_limits(every: str | None, keepalive_s: int) -> None:
    text = GATEWAY + LINE + DEVICE + route("dso", "dso.example")
    (connection,) = connections(parsed(text + (f'every = "{every}"\n' if every else "")))
    assert connection.keepalive == Duration(keepalive_s * 1000)


def test_shortest_keep_alive_of_the_routes_of_a_connection_holds() -> None:
    slow = route("dso", "dso.example") + 'every = "60s"\n'
    (connection,) = connections(parsed(GATEWAY + LINE + DEVICE + slow + route("esco", "esco.example")))
    assert connection.keepalive == Duration(30_000)
    own = slow + 'keepalive = "5s"\n'
    (connection,) = connections(parsed(GATEWAY + LINE + DEVICE + own))
    assert connection.keepalive == Duration(5_000)


@pytest.mark.parametrize("keepalive", ["4s", "2h"])
def test_keep_alive_beyond_its_limits_is_refused(keepalive: str) -> None:
    text = GATEWAY + LINE + DEVICE + route("dso", "dso.example") + f'keepalive = "{keepalive}"\n'
    (told,) = faults(text)
    assert "keepalive" in told


names = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.lists(
        st.tuples(names, st.sampled_from(["h1", "h2", "H1"]), st.sampled_from(["c1", "c2"])),
        unique_by=(lambda one: (one[0], one[1].lower())),
        max_size=6,
    )
)
def test_no_two_connections_have_one_client_id(drawn: list[tuple[str, str, str]]) -> None:
    text = GATEWAY + LINE + DEVICE
    for number, (entity, host, cert) in enumerate(drawn):
        text += route(f"r{number}", entity, host, cert)
    found = connections(parsed(text))
    ids = [connection.client_id for connection in found]
    assert len(set(ids)) == len(ids)
    assert ids[:1] == ["gw-0001"][: len(ids)]
    assert all(one.startswith("gw-0001:r") for one in ids[1:])
    assert sorted(one.name for connection in found for one in connection.routes) == [
        f"r{number}" for number in range(len(drawn))
    ]
    ends = {(one.url.host.lower(), one.cert) for one in found}
    assert len(ends) == len(found), "same broker and certificate share one"


# The page for people


TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[gateway]", GatewayConfig),
    ("[[line]]", LineConfig),
    ("[[device]]", DeviceConfig),
    ("[[device.override]]", OverrideConfig),
    ("[[device.ownership]]", OwnershipConfig),
    ("[[device.transformer]]", TransformerConfig),
    ("[[route]]", RouteConfig),
    ("[policy]", PolicyConfig),
)


@pytest.mark.parametrize(("heading", "model"), TABLES, ids=[heading for heading, _ in TABLES])
def test_every_key_stands_in_the_page_on_configuration(heading: str, model: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    section = re.split(r"^## ", page.split(f"## `{heading}`", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    told = set(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE))
    assert told == {field.alias or name for name, field in model.model_fields.items()}


def test_the_examples_of_the_page_on_configuration_are_valid() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    whole = [block for block in blocks if block.startswith("[gateway]")]
    assert whole
    for block in whole:
        parsed(block)


def test_a_device_with_a_fault_is_still_the_one_that_a_line_lists() -> None:
    listening = (
        '[[line]]\nname = "lan"\nurl = "modbus+listen://127.0.0.1:5020"\ndevices = ["meter"]\n'
        'ca = "ca.pem"\ncert = "c.pem"\nkey = "c.key"\n'
    )
    (told,) = faults(GATEWAY + listening + DEVICE.replace('"10s"', '"10"') + ROUTE)
    assert "every" in told


def test_types_folder_that_cannot_be_read_leaves_types_unjudged() -> None:
    told = faults(WHOLE.replace("[gateway]\n", "[gateway]\ntypes = 7\n").replace("eastron-sdm630", "mine"))
    assert len(told) == 1
    assert "gateway types" in told[0]


def test_a_policy_is_read_with_its_defaults() -> None:
    config = parsed(WHOLE + '\n[policy]\nroot = "root.json"\n')
    assert config.policy is not None
    assert (config.policy.segment, config.policy.route, config.policy.folder) == ("main", None, None)
    assert parsed(WHOLE).policy is None


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("[policy]\n", "root"),
        ('[policy]\nroot = "root.json"\nroute = "nowhere"\n', 'no [[route]] is named "nowhere"'),
        ('[policy]\nroot = "root.json"\nsegment = "a/b"\n', "segment"),
        ('[[policy]]\nroot = "root.json"\n', "write [policy] with one bracket"),
        ('[policy]\nroot = "root.json"\nmode = "strict"\n', "mode"),
    ],
)
def test_a_policy_with_a_fault_is_told(table: str, sentence: str) -> None:
    (told,) = faults(f"{WHOLE}\n{table}")
    assert sentence in told


def test_a_policy_that_comes_from_nowhere_is_told() -> None:
    (told,) = faults(GATEWAY + '[policy]\nroot = "root.json"\n')
    assert "comes from nowhere" in told
    config = parsed(GATEWAY + '[policy]\nroot = "root.json"\nfolder = "/media/stick"\n')
    assert config.policy is not None
    assert config.policy.folder == Path("/media/stick")


def test_file_of_a_head_end_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file of a head-end, .*: give a gateway\.toml") as raised:
        parse_config('[headend]\nentity = "dso.example"\n', tmp_path / "headend.toml")
    assert raised.value.faults == ()


def test_place_of_a_file_without_a_usual_name_is_its_path() -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(Path("/dev/null"))
    assert raised.value.faults[0].startswith("/dev/null: gateway: is missing")
