"""The broker's configuration and access rules, as text; what the broker makes of them is a field test."""

import os
import stat
from pathlib import Path

import pytest

from certs.broker import access_rules, write_broker_config
from core.errors import ConfigError


def block(acl: str, user: str) -> list[str]:
    """The rules between `user <user>` and the next user."""
    return acl.split(f"user {user}\n")[1].split("\nuser ")[0].split("\n\n")[0].strip().splitlines()


def test_every_rule_of_a_gateway_names_it_or_only_reads() -> None:
    rules = block(access_rules(["gw-0001", "gw-0002"], ["dso.example"]), "gw-0001")
    written = [rule for rule in rules if not rule.startswith("topic read ")]
    assert written == [
        "topic readwrite portico/v1/gw-0001/state",  # it also reads it, to notice a twin
        "topic write portico/v1/gw-0001/stream/#",
        "topic write portico/v1/gw-0001/manifest/#",
        "topic write portico/v1/gw-0001/evt/#",
    ]
    assert not any("gw-0002" in rule for rule in rules)
    assert all(rule.startswith(("topic write ", "topic read ", "topic readwrite ")) for rule in rules)


def test_every_rule_of_an_entity_names_it_but_for_what_gateways_say_to_all() -> None:
    rules = block(access_rules(["gw-0001"], ["dso.example", "esco.example"]), "esco.example")
    assert [rule for rule in rules if "esco.example" not in rule] == [
        "topic read portico/v1/+/state",
        "topic read portico/v1/+/evt/audit",
    ]
    assert "topic read portico/v1/+/stream/esco.example/#" in rules
    assert "topic write portico/v1/+/confirm/esco.example" in rules


def test_gateways_that_are_not_named_get_patterns_of_their_user_name() -> None:
    lines = access_rules(None, ["dso.example"]).splitlines()
    patterns = [line for line in lines if line.startswith("pattern ")]
    assert "pattern write portico/v1/%u/stream/#" in patterns
    assert all("%u" in line for line in patterns if line.startswith("pattern write"))
    assert not any(line.startswith("pattern ") for line in access_rules([], ["dso.example"]).splitlines())


@pytest.mark.parametrize("identity", ["+", "#", "a/b", "gw 1", "", "gw\nuser root", "grp"])
def test_identity_that_would_widen_a_rule_is_refused(identity: str) -> None:
    with pytest.raises(ConfigError):
        access_rules([identity], [])
    with pytest.raises(ConfigError):
        access_rules(None, [identity])


def test_one_id_in_two_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="gateway and as entity"):
        access_rules(["same"], ["same"])


def test_listener_is_on_loopback_and_asks_for_certificates(tmp_path: Path) -> None:
    path = write_broker_config(
        tmp_path / "broker",
        port=18883,
        ca=tmp_path / "ca.pem",
        cert=tmp_path / "broker.pem",
        key=tmp_path / "broker.key",
        gateways=["gw-0001"],
        entities=["dso.example"],
        autosave_s=7,
        max_queued_messages=11,
    )
    lines = path.read_text().splitlines()
    assert [line for line in lines if line.startswith("listener")] == ["listener 18883 127.0.0.1"]
    for line in (
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        "tls_version tlsv1.2",
        "autosave_interval 7",
        "max_queued_messages 11",
        "max_inflight_messages 100",
        f"cafile {tmp_path / 'ca.pem'}",
        f"acl_file {tmp_path / 'broker' / 'acl'}",
    ):
        assert line in lines
    assert ("user root" in lines) == (os.geteuid() == 0)
    assert stat.S_IMODE((tmp_path / "broker" / "acl").stat().st_mode) == 0o600


def test_without_persistence_no_session_is_written(tmp_path: Path) -> None:
    path = write_broker_config(
        tmp_path, port=1, ca=Path("ca"), cert=Path("c"), key=Path("k"), persistence=False
    )
    lines = path.read_text().splitlines()
    assert "persistence false" in lines
    assert not any(line.startswith(("persistence_location", "autosave")) for line in lines)


def test_paths_do_not_depend_on_where_the_broker_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_broker_config(Path("b"), port=1, ca=Path("ca"), cert=Path("c"), key=Path("k"))
    named = {line.split()[0]: line.split()[-1] for line in path.read_text().splitlines()}
    for setting in ("cafile", "certfile", "keyfile", "acl_file", "persistence_location"):
        assert named[setting].startswith(str(tmp_path))


def test_the_policy_service_writes_policies_and_assignments_and_nothing_else() -> None:
    rules = block(access_rules(["gw-0001"], ["dso.example"], "policy.example"), "policy.example")
    assert rules == [
        "topic write portico/v1/policy/+/bundle",
        "topic write portico/v1/policy/+/timestamp",
        "topic write portico/v1/+/assign",
    ]
    others = access_rules(["gw-0001"], ["dso.example"], "policy.example").split("user policy.example")[0]
    assert "write portico/v1/policy" not in others
    assert "write portico/v1/gw-0001/assign" not in others


@pytest.mark.parametrize("identity", ["gw-0001", "dso.example"])
def test_the_policy_service_is_nobody_else(identity: str) -> None:
    with pytest.raises(ConfigError, match="policy service and something else"):
        access_rules(["gw-0001"], ["dso.example"], identity)
