"""The foreign Modbus server does what its header says: later tests rely on it without looking."""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cbuild import BuildUnavailable, build
from tests.support.rawmodbus import RawModbus

PEER = Path(__file__).parents[1] / "peers" / "modbus_peer.c"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RawModbus]:
    try:
        program = build(PEER, "modbus")
    except BuildUnavailable as error:
        pytest.skip(str(error))
    command: list[str | Path] = [program, "0", "--counter", tmp_path / "counts"]
    with (
        (tmp_path / "requests").open("wb") as requests,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=requests, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split()[1])
            with RawModbus(port) as client:
                yield client
        finally:
            process.terminate()
            assert process.wait(5) == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (100, "4366199a"),  # ABCD
        (102, "199a4366"),  # CDAB
        (104, "66439a19"),  # BADC
        (106, "9a196643"),  # DCBA
        (120, "fffe1dc0"),
        (122, "1dc0fffe"),
        (130, (2**53 + 1).to_bytes(8, "big").hex()),
        (140, struct.pack(">d", 123456.789).hex()),
        (150, b"PORTICO".ljust(16, b"\0").hex()),
        (160, "8000ffff7fc00000"),
        (7, "0707"),
    ],
)
def test_holding_registers_hold_the_documented_bytes(peer: RawModbus, address: int, expected: str) -> None:
    assert peer.read(3, address, len(expected) // 4).hex() == expected


def test_other_tables_hold_the_documented_pattern(peer: RawModbus) -> None:
    assert peer.read(4, 7, 2).hex() == "07160819"
    assert peer.read(1, 0, 8) == bytes([0b01001001])
    assert peer.read(2, 0, 8) == bytes([0b00100001])


@pytest.mark.parametrize(
    ("address", "count", "exception"),
    [
        (499, 1, 0),
        (499, 2, 2),
        (509, 1, 2),
        (510, 90, 0),
        (510, 91, 3),
        (600, 40, 0),
        (600, 41, 3),
        (1199, 2, 2),
        (0, 125, 0),
        (0, 126, 3),
    ],
)
def test_reads_are_refused_at_the_documented_limits(
    peer: RawModbus, address: int, count: int, exception: int
) -> None:
    assert peer.exception(struct.pack(">BHH", 3, address, count)) == exception


def test_an_unknown_function_is_refused_and_the_next_request_answered(peer: RawModbus) -> None:
    assert peer.exception(b"\x2b\x0e\x01\x00") == 1
    assert peer.read(3, 0, 1) == b"\0\0"


def test_what_is_written_is_read_back(peer: RawModbus) -> None:
    assert peer.exception(struct.pack(">BHH", 6, 5, 4711)) == 0
    assert peer.exception(struct.pack(">BHHB2H", 16, 20, 2, 4, 1, 2)) == 0
    assert peer.exception(struct.pack(">BHH", 5, 4, 0xFF00)) == 0
    assert peer.exception(struct.pack(">BHHBB", 15, 16, 3, 1, 0b101)) == 0
    assert struct.unpack(">H", peer.read(3, 5, 1)) == (4711,)
    assert struct.unpack(">2H", peer.read(3, 20, 2)) == (1, 2)
    assert peer.read(1, 4, 1) == b"\x01"
    assert peer.read(1, 16, 3) == bytes([0b101])


def test_every_count_a_client_saw_is_in_the_log(peer: RawModbus, tmp_path: Path) -> None:
    with RawModbus(peer.port) as other:
        seen = [struct.unpack(">I", client.read(3, 1000, 2))[0] for client in (peer, other, peer)]
    assert seen == [1, 2, 3]
    assert [int(line.split()[0]) for line in (tmp_path / "counts").read_text().splitlines()] == seen


def test_each_request_is_logged(peer: RawModbus, tmp_path: Path) -> None:
    peer.read(3, 100, 2)
    peer.exception(struct.pack(">BHH", 6, 5, 4711))
    assert (tmp_path / "requests").read_text().splitlines() == ["3 100 2", "6 5 1"]
