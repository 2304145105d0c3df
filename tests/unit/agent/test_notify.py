"""What systemd would receive, on a real datagram socket."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.notify import READY, STOPPING, WATCHDOG, Notifier, status


@contextmanager
def service_manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(5)
        server.bind(address)
        yield server


def test_messages_arrive_as_one_datagram_at_a_path(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with service_manager(address) as server:
        notifier = Notifier({"NOTIFY_SOCKET": address})
        assert notifier.tell(READY, status("polling\n50 devices"))
        assert server.recv(1000) == b"READY=1\nSTATUS=polling 50 devices"
        assert notifier.tell(WATCHDOG)
        assert server.recv(1000) == b"WATCHDOG=1"
        assert notifier.tell(STOPPING)
        assert server.recv(1000) == b"STOPPING=1"


def test_an_abstract_address_is_reached() -> None:
    name = f"portico-{secrets.token_hex(8)}"
    with service_manager("\0" + name) as server:
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).tell(READY)
        assert server.recv(1000) == b"READY=1"


def test_without_a_service_manager_nothing_is_told() -> None:
    assert not Notifier({}).tell(READY)


def test_a_service_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(WATCHDOG)


def test_watchdog_interval_is_read_in_seconds() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_s == 60.0
    assert Notifier({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.5


def test_no_watchdog_when_it_is_off_unreadable_or_for_another_process() -> None:
    assert Notifier({}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "0"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_s is None
