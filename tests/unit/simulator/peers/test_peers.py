"""The parts of the thin programs: a careful Modbus client, exact values, keys that are judged, books once."""

import socket
import sqlite3
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from core.codec import Verifier, seal, unseal
from core.errors import TrustError, UnknownKey
from core.records import Row
from simulator.peers.collectorbooks import CollectorBooks
from simulator.peers.gatewaystore import GatewayStore
from simulator.peers.modbusread import Device, NoAnswer, value_of
from simulator.peers.trust import Key, Trust
from tests.support.gateway_double import Keys

ENTITY = "dso.example"


def serve(answers: list[Callable[[int], bytes]]) -> tuple[socket.socket, int]:
    """Answer requests one after another, each by a function of its transaction."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        link, _ = server.accept()
        with link:
            for answer in answers:
                request = link.recv(64)
                if len(request) < 12:
                    return
                link.sendall(answer(struct.unpack(">H", request[:2])[0]))
            link.recv(64)

    threading.Thread(target=run, daemon=True).start()
    return server, server.getsockname()[1]


def frame(transaction: int, value: int, unit: int = 1) -> bytes:
    return struct.pack(">HHHBBBH", transaction & 0xFFFF, 0, 5, unit, 3, 2, value)


def test_only_the_answer_to_the_request_is_taken() -> None:
    answers: list[Callable[[int], bytes]] = [
        lambda t: frame(t - 1, 1) + frame(t, 9, unit=7) + frame(t, 42),
        lambda t: struct.pack(">HHHBBB", t, 0, 3, 1, 0x83, 4),
        lambda t: frame(t + 5, 3),
    ]
    server, port = serve(answers)
    with server:
        device = Device("127.0.0.1", port, 1, 0.5)
        assert device.read(0, 1) == b"\x00\x2a"
        with pytest.raises(NoAnswer, match="exception-4"):
            device.read(0, 1)
        with pytest.raises(NoAnswer, match="timeout"):
            device.read(0, 1)
        device.close()


def test_trusting_device_takes_the_next_frame_whatever_it_answers() -> None:
    server, port = serve([lambda t: frame(t + 5, 3)])
    with server:
        device = Device("127.0.0.1", port, 1, 0.5, trusting=True)
        assert device.read(0, 1) == b"\x00\x03"
        device.close()


def test_line_where_nobody_listens_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NoAnswer, match="line-down"):
        Device("127.0.0.1", port, 1, 0.5).read(0, 1)


@pytest.mark.parametrize(
    ("kind", "registers", "value"),
    [
        ("int32", struct.pack(">i", -73), -73),
        ("uint64", struct.pack(">Q", 9007199254740992), 9007199254740992),
        ("uint64", struct.pack(">Q", 9007199254740993), "9007199254740993"),
        ("float32", struct.pack(">f", 230.1), 230.1),
        ("float32", struct.pack(">f", float("nan")), None),
        ("string", b"steady\0\0", "steady"),
    ],
)
def test_values_are_exact(kind: str, registers: bytes, value: object) -> None:
    assert value_of({"type": kind}, registers) == value


# --- keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.create(tmp_path_factory.mktemp("keys"))


def key_of(keys: Keys, identity: str) -> Key:
    directory = keys.authority.directory
    return Key(directory / f"{identity}.sign.pem", directory / f"{identity}.sign.key")


def verifier(trust: Trust, subject: str) -> Verifier:
    def verify(kid: bytes, alg: str, signature: bytes, message: bytes) -> None:
        trust.verify(subject, kid, alg, signature, message)

    return verify


def test_signature_holds_for_its_own_topic_subject_and_role_alone(keys: Keys) -> None:
    certificate = keys.stream("gw-0001").certificate_der
    key, trust = key_of(keys, "gw-0001"), Trust(keys.ca, "stream")
    sealed = seal("portico/v1/a", b"{}", key)
    with pytest.raises(UnknownKey):
        unseal("portico/v1/a", sealed, verifier(trust, "gw-0001"))
    trust.learn(certificate, "gw-0001")
    assert unseal("portico/v1/a", sealed, verifier(trust, "gw-0001")) == b"{}"
    with pytest.raises(TrustError, match="not by gw-0001"):
        unseal("portico/v1/b", sealed, verifier(trust, "gw-0001"))
    with pytest.raises(UnknownKey):
        unseal("portico/v1/a", sealed, verifier(trust, "gw-0002"))


def test_certificate_of_another_name_role_or_authority_is_not_learned(keys: Keys, tmp_path: Path) -> None:
    certificate = keys.stream("gw-0001").certificate_der
    with pytest.raises(TrustError):
        Trust(keys.ca, "stream").learn(certificate, "gw-0002")
    with pytest.raises(TrustError):
        Trust(keys.ca, "collector").learn(certificate, "gw-0001")
    with pytest.raises(TrustError):
        Trust(Keys.create(tmp_path).ca, "stream").learn(certificate, "gw-0001")
    with pytest.raises(TrustError):
        Trust(keys.ca, "stream").learn(b"no certificate", "gw-0001")


# --- what outlives them


def test_row_that_comes_again_is_there_once_and_other_content_beside_it(tmp_path: Path) -> None:
    books = CollectorBooks(tmp_path / "books.db")
    row = Row(3, 1, 1000, [5], [1])
    for one in (row, row, Row(3, 1, 1000, [5], [2])):
        books.add_row("gw-0001", "0" * 16, "m", one)
    assert _rows(tmp_path) == 1
    books.add_row("gw-0001", "0" * 16, "m", row, careless=True)
    assert _rows(tmp_path) == 2
    books.close()


def _rows(place: Path) -> int:
    with closing(sqlite3.connect(place / "books.db")) as look:
        return int(look.execute("SELECT count(*) FROM row").fetchone()[0])


def test_number_of_a_confirmation_ascends_over_lives(tmp_path: Path) -> None:
    given = []
    for _ in range(3):
        books = CollectorBooks(tmp_path / "books.db")
        given += [books.next_n("gw-0001"), books.next_n("gw-0001")]
        books.close()
    assert given == sorted(set(given))


def test_store_of_the_thin_gateway_keeps_what_was_committed(tmp_path: Path) -> None:
    store = GatewayStore(tmp_path / "gateway.db")
    store.begin("0" * 16)
    store.append("0" * 16, [(1, False, b"{}"), (2, True, b"[]")], {"a/1000/p": 5000})
    store.note_stop()
    store.close()
    again = GatewayStore(tmp_path / "gateway.db")
    assert again.epochs() == ["0" * 16]
    assert again.last("0" * 16) == 2
    assert again.between("0" * 16, 2, 9) == [(2, True, b"[]")]
    assert again.ticks() == {"a/1000/p": 5000}
    assert again.stopped() is True
    assert again.stopped() is False
    again.close()
