"""The broker as a process: started, refused, killed, frozen, and what it keeps over its lives."""

import os
import socket
import ssl
from pathlib import Path

import pytest

from certs.authority import DevAuthority
from certs.broker import write_broker_config
from certs.contexts import client_context
from core.errors import ConfigError
from simulator.broker import BrokerFailed, Mosquitto, free_port

# MQTT 5 packets as they stand on the wire (MQTT 5.0 §3): session kept for 60 s, client id "c".
CONNECT = b"\x10\x13\x00\x04MQTT\x05\x00\x00\x1e\x05\x11\x00\x00\x00\x3c\x00\x01c"
PING, PONG = b"\xc0\x00", b"\xd0\x00"
DEADLINE_S = 10.0


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority.create(tmp_path / "ca")


def config(authority: DevAuthority, directory: Path, port: int, *, persistence: bool = True) -> Path:
    server = authority.issue_server(["127.0.0.1"])
    return write_broker_config(
        directory,
        port=port,
        ca=authority.ca_path,
        cert=server.cert_path,
        key=server.key_path,
        persistence=persistence,
    )


def connected(authority: DevAuthority, broker: Mosquitto) -> ssl.SSLSocket:
    pair = authority.issue_client("gw-0001")
    plain = socket.create_connection((broker.host, broker.port), timeout=DEADLINE_S)
    context = client_context(authority.ca_path, pair.cert_path, pair.key_path)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def session_present(authority: DevAuthority, broker: Mosquitto) -> bool:
    """Connect as client "c" and leave; tell whether the broker still knew the session."""
    with connected(authority, broker) as link:
        link.sendall(CONNECT)
        answer = link.recv(64)
        assert answer[:1] == b"\x20"
        assert answer[3] == 0
        link.sendall(b"\xe0\x00")
        return bool(answer[2] & 1)


def test_started_broker_accepts_at_once(authority: DevAuthority, tmp_path: Path) -> None:
    broker = Mosquitto(config(authority, tmp_path / "b", free_port()))
    with broker:
        assert not session_present(authority, broker)
        pid = broker.pid
        assert pid is not None
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_port_that_is_taken_is_told_with_the_end_of_the_log(authority: DevAuthority, tmp_path: Path) -> None:
    port = free_port()
    second = Mosquitto(config(authority, tmp_path / "two", port))
    with Mosquitto(config(authority, tmp_path / "one", port)), pytest.raises(BrokerFailed, match="in use"):
        second.start()
    assert not second.running
    with second:
        assert second.running


def test_configuration_that_mosquitto_refuses_is_told(authority: DevAuthority, tmp_path: Path) -> None:
    path = config(authority, tmp_path / "b", free_port())
    path.write_text(path.read_text() + "no_such_setting true\n")
    with pytest.raises(BrokerFailed, match="no_such_setting"):
        Mosquitto(path).start()


def test_session_survives_an_orderly_restart_and_a_new_process_serves(
    authority: DevAuthority, tmp_path: Path
) -> None:
    with Mosquitto(config(authority, tmp_path / "b", free_port())) as broker:
        assert not session_present(authority, broker)
        before = broker.pid
        broker.restart()
        assert broker.pid != before
        assert session_present(authority, broker)


def test_session_is_lost_by_kill_9_before_it_was_saved(authority: DevAuthority, tmp_path: Path) -> None:
    with Mosquitto(config(authority, tmp_path / "b", free_port())) as broker:
        assert not session_present(authority, broker)
        broker.kill9()
        assert not broker.running
        broker.start()
        assert not session_present(authority, broker)


def test_session_is_lost_without_persistence(authority: DevAuthority, tmp_path: Path) -> None:
    with Mosquitto(config(authority, tmp_path / "b", free_port(), persistence=False)) as broker:
        assert not session_present(authority, broker)
        broker.restart()
        assert not session_present(authority, broker)


def test_frozen_broker_is_silent_and_answers_after_the_thaw(authority: DevAuthority, tmp_path: Path) -> None:
    with Mosquitto(config(authority, tmp_path / "b", free_port())) as broker:
        with connected(authority, broker) as link:
            link.sendall(CONNECT)
            link.recv(64)
            broker.freeze()
            assert broker.running
            link.sendall(PING)
            link.settimeout(0.2)
            with pytest.raises(TimeoutError):
                link.recv(64)
            broker.thaw()
            link.settimeout(DEADLINE_S)
            assert link.recv(64) == PONG
        broker.freeze()
        broker.stop()
        assert not broker.running


def test_start_of_a_running_broker_is_refused(authority: DevAuthority, tmp_path: Path) -> None:
    with (
        Mosquitto(config(authority, tmp_path / "b", free_port())) as broker,
        pytest.raises(BrokerFailed, match="already"),
    ):
        broker.start()


def test_log_tells_of_every_life(authority: DevAuthority, tmp_path: Path) -> None:
    with Mosquitto(config(authority, tmp_path / "b", free_port())) as broker:
        broker.restart()
    assert broker.log_text().count(" running") == 2


def test_missing_mosquitto_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda _name, path=None: None)
    with pytest.raises(ConfigError, match="apt-get install mosquitto"):
        Mosquitto(tmp_path / "mosquitto.conf")


def test_configuration_without_a_listener_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.conf"
    with pytest.raises(ConfigError, match="cannot be read"):
        Mosquitto(path)
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="names no listener"):
        Mosquitto(path)
