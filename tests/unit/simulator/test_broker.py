"""Ports for servers that are started beside each other."""

import socket

import pytest

from core.errors import ConfigError
from simulator.broker import PORTS_SETTING, BrokerFailed, free_port, free_ports, free_range


def test_ports_are_chosen_from_those_that_the_setting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv(PORTS_SETTING, f"{port}-{port}")
    assert free_range() == range(port, port + 1)
    assert free_port() == port


def test_port_that_somebody_holds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv(PORTS_SETTING, f"{port}-{port}")
    with socket.create_server(("127.0.0.1", port)):
        assert free_port() not in (0, port)


def test_ports_in_a_row_are_all_free_and_all_in_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_ports(5)
    monkeypatch.setenv(PORTS_SETTING, f"{first}-{first + 4}")
    assert free_ports(5) == first
    with socket.create_server(("127.0.0.1", first + 1)):
        assert free_ports(3) == first + 2
        with pytest.raises(BrokerFailed, match=r"no 4 ports of 127\.0\.0\.1 in a row are free"):
            free_ports(4)
    with pytest.raises(BrokerFailed, match="in a row are free"):
        free_ports(6)


def test_ports_begin_at_12000_when_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORTS_SETTING, raising=False)
    assert free_range().start == 12_000
    assert len(free_range()) >= 100


@pytest.mark.parametrize("text", ["", "12000", "-12000", "12000-", "12000-11999", "80-90", "1-99999", "a-b"])
def test_setting_that_names_no_ports_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PORTS_SETTING, text)
    with pytest.raises(ConfigError, match="names no ports: write FIRST-LAST"):
        free_port()
