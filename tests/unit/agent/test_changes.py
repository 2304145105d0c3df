"""What is not as it was when last seen is told in the audit: once, with what differs, over any restarts."""

import json
import sqlite3
import ssl
import zlib
from base64 import b64encode
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from agent.changes import (
    LONGEST,
    TOLD,
    Changes,
    ConnectionKeys,
    configuration,
    decoded,
    differences,
    digest,
    encoded,
    entry,
    own_keys,
)
from agent.config import Config, connections, parse_config
from certs.authority import DevAuthority
from certs.signing import SigningKey
from tests.unit.agent.store.store_made import opened

FILE = """
[gateway]
id = "gw-0001"
data_dir = "var"
signing_key = "gw.sign.key"
signing_cert = "gw.sign.pem"
[[line]]
name = "lan"
url = "modbus+tcp://192.168.1.50"
[[device]]
name = "meter"
type = "eastron-sdm630"
line = "lan"
unit_id = 1
every = "10s"
owner = "dso.example"
data_owners = ["dso.example", "esco1"]
deadband = { W = "5" }
report = "changes"
[[device.override]]
points = ["PhVphA"]
every = "1min"
[[route]]
name = "dso"
entity = "dso.example"
url = "mqtts://broker.example"
ca = "ca.pem"
cert = "gw.pem"
key = "gw.key"
"""


def parsed(text: str = FILE) -> Config:
    return parse_config(text, Path("/etc/portico/gateway.toml"))


def entries(directory: Path, kind: str) -> list[dict[str, object]]:
    with closing(sqlite3.connect(directory / "audit.db")) as db:
        found = db.execute("SELECT body FROM event WHERE kind = ? ORDER BY id", (kind,)).fetchall()
    return [json.loads(body) for (body,) in found]


async def seen(directory: Path, *maps: dict[str, str], always: bool = False) -> None:
    """A life in which these were seen, one after the other."""
    async with opened(directory) as store:
        changes = Changes(store, lambda: 1)
        for one in maps:
            changes.see("configuration", one, always=always)


def test_every_key_of_the_file_has_its_place() -> None:
    said = configuration(parsed(), {"meter": ("eastron-sdm630", "0badcafe")})
    assert said["gateway/id"] == "gw-0001"
    assert said["line/lan/url"].startswith("modbus+tcp://192.168.1.50")
    assert said["device/meter/every"] == "10s"
    assert said["device/meter/data_owners"] == "dso.example, esco1"
    assert said["device/meter/deadband/W"] == "5"
    assert said["device/meter/override/1/points"] == "PhVphA"
    assert said["route/dso/cert"] == "/etc/portico/gw.pem"
    assert said["type/eastron-sdm630"] == "0badcafe"


@pytest.mark.parametrize(
    ("was", "is_", "place"),
    [
        ('owner = "dso.example"', 'owner = "esco1"', "device/meter/owner"),
        ('every = "10s"', 'every = "20s"', "device/meter/every"),
        ("192.168.1.50", "192.168.1.51", "line/lan/url"),
        ('"esco1"]', '"esco2"]', "device/meter/data_owners"),
        ('"1min"', '"2min"', "device/meter/override/1/every"),
        ('W = "5"', 'W = "6"', "device/meter/deadband/W"),
        ('signing_cert = "gw.sign.pem"\n', "", "gateway/signing_cert"),
    ],
)
def test_a_change_of_the_file_is_told_with_its_place(was: str, is_: str, place: str) -> None:
    assert was in FILE
    before, now = configuration(parsed(), {}), configuration(parsed(FILE.replace(was, is_)), {})
    assert [one["what"] for one in differences(before, now)] == [place]


async def test_each_start_says_which_configuration_it_has_and_what_is_not_as_before(tmp_path: Path) -> None:
    before, now = {"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}
    for one in (before, before, now):
        await seen(tmp_path, one, always=True)
    differs = [{"what": "b", "was": "2", "is": "3"}, {"what": "c", "was": None, "is": "4"}]
    assert entries(tmp_path, "configuration") == [
        {"sha256": digest(before), "before": None, "differs": []},
        {"sha256": digest(before), "before": digest(before), "differs": []},
        {"sha256": digest(now), "before": digest(before), "differs": differs},
    ]


async def test_what_changed_while_no_agent_ran_is_told_by_the_next_start_and_once(tmp_path: Path) -> None:
    await seen(tmp_path, {"signing/kid": "old"})
    await seen(tmp_path, {"signing/kid": "new"}, {"signing/kid": "new"})
    await seen(tmp_path, {"signing/kid": "new"})
    assert [one["differs"] for one in entries(tmp_path, "configuration")] == [
        [],
        [{"what": "signing/kid", "was": "old", "is": "new"}],
    ]


async def test_each_change_of_a_running_agent_is_told(tmp_path: Path) -> None:
    await seen(tmp_path, {}, {"wh-01": "no"}, {"wh-01": "no"}, {})
    assert [one["differs"] for one in entries(tmp_path, "configuration")] == [
        [],
        [{"what": "wh-01", "was": None, "is": "no"}],
        [{"what": "wh-01", "was": "no", "is": None}],
    ]


async def test_after_the_loss_of_what_was_kept_nothing_is_said_to_differ(tmp_path: Path) -> None:
    await seen(tmp_path, {"a": "1"})
    for part in tmp_path.glob("control.db*"):
        part.unlink()
    await seen(tmp_path, {"a": "2"})
    assert entries(tmp_path, "configuration")[-1] == {
        "sha256": digest({"a": "2"}),
        "before": None,
        "differs": [],
    }


def test_an_entry_has_a_bound() -> None:
    body = entry({}, {str(number): "x" * 10_000 for number in range(TOLD + 7)})
    assert body["more"] == 7
    assert len(json.dumps(body)) < TOLD * (LONGEST + 100)


@pytest.mark.parametrize(
    "note", ["", "=", "AAAA", encoded({"a": "1"})[:-6], b64encode(zlib.compress(b"[1]")).decode()]
)
def test_a_note_that_cannot_be_read_is_none(note: str) -> None:
    assert decoded(encoded({"a": "ä", "b": ""})) == {"a": "ä", "b": ""}
    assert decoded(note) is None


def test_keys_and_those_who_are_trusted_are_told_by_their_fingerprints(tmp_path: Path) -> None:
    authority = DevAuthority.create(tmp_path)
    authority.issue_all(gateways=["gw"])
    config = parse_config(FILE.replace("gw-0001", "gw"), tmp_path / "gateway.toml")

    def in_force() -> dict[str, str]:
        key = SigningKey.load(tmp_path / "gw.sign.key", tmp_path / "gw.sign.pem")
        return own_keys(config, key)

    def changed(before: dict[str, str], now: dict[str, str]) -> set[str | None]:
        return {one["what"] for one in differences(before, now)}

    connection = ConnectionKeys(connections(config))
    first, own = connection.now(), in_force()
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "gw.pem").read_text())
    assert first == {
        f"certificate/{tmp_path / 'gw.pem'}": sha256(der).hexdigest(),
        f"authorities/{tmp_path / 'ca.pem'}": sha256((tmp_path / "ca.pem").read_bytes()).hexdigest(),
    }
    assert connection.now() == first
    authority.issue_all(gateways=["gw"], force=True)
    assert changed(first, connection.now()) == {f"certificate/{tmp_path / 'gw.pem'}"}
    assert {"signing/kid", "signing/certificate"} <= changed(own, in_force())
    with (tmp_path / "ca.pem").open("a") as bundle:
        bundle.write((tmp_path / "ca.pem").read_text())
    assert changed(own, in_force()) >= {"route/dso/trust"}
    (tmp_path / "gw.pem").write_text("nothing")
    (tmp_path / "ca.pem").unlink()
    assert set(connection.now().values()) == {"unreadable"}
