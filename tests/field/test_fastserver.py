"""The benchmark's field tells no lies: its values move, its counters count, its input is bounded."""

import itertools
import json
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cbuild import BuildUnavailable, build
from tests.support.rawmodbus import RawModbus, frame

SOURCE = Path(__file__).parents[2] / "bench" / "fastserver.c"
ALL = struct.Struct(">50fQI")


@contextmanager
def server(*options: str) -> Iterator[tuple[list[int], subprocess.Popen[str]]]:
    try:
        program = build(SOURCE)
    except BuildUnavailable as error:
        pytest.skip(str(error))
    with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["ports"], process
        finally:
            process.terminate()
            process.wait(5)


def totals(process: subprocess.Popen[str]) -> dict[str, float]:
    process.terminate()
    assert process.stdout is not None
    found: dict[str, float] = json.loads(process.stdout.readlines()[-1])
    return found


def test_every_point_moves_by_itself_and_finer_than_its_resolution() -> None:
    described = subprocess.run([build(SOURCE), "--describe"], capture_output=True, check=True)
    points = json.loads(described.stdout)["points"]
    with server() as ((port,), _), RawModbus(port) as client:
        reads = [ALL.unpack(client.read(3, 0, 106))[:50] for _ in range(200)]
    steps = set()
    for point, column in zip(points, zip(*reads, strict=True), strict=True):
        resolution = float(point["resolution"])
        assert all(point["min"] <= value <= point["max"] for value in column)
        assert any(abs(value / resolution - round(value / resolution)) > 0.1 for value in column)
        rounded = [round(value / resolution) for value in column]
        assert len(set(rounded)) > 10, point
        steps.add(tuple(b - a for a, b in itertools.pairwise(rounded)))
    assert len(steps) == 50  # no two points share their noise


def test_values_follow_from_the_seed_alone() -> None:
    runs = []
    for seed in ("7", "7", "8"):
        with server("--seed", seed) as ((port,), _), RawModbus(port) as client:
            runs.append([client.read(4, 0, 100) for _ in range(3)])
    assert runs[0] == runs[1] != runs[2]


def test_answered_reads_are_counted_for_each_device_also_when_pipelined() -> None:
    with server("--ports", "2") as (ports, process):
        with RawModbus(ports[0]) as one, RawModbus(ports[1]) as two:
            request = struct.pack(">BHH", 3, 104, 2)
            one.send(b"".join(frame(request, transaction=n) for n in range(1, 1001)))
            answers = [one.receive() for _ in range(1000)]
            assert [(n, struct.unpack(">I", pdu[2:])[0]) for n, pdu in answers] == [
                (n, n) for n in range(1, 1001)
            ]
            assert two.read(3, 104, 2) == struct.pack(">I", 1)
        assert totals(process)["answered"] == 1001


def test_unit_ids_are_devices_of_their_own() -> None:
    with server("--units", "2") as ((port,), _), RawModbus(port) as client:
        first, second = (client.read(3, 0, 2, unit_id=unit) for unit in (1, 2))
        assert first != second
        assert client.exception(struct.pack(">BHH", 3, 0, 2), unit_id=3) == 11


@pytest.mark.parametrize(
    ("pdu", "exception"),
    [
        (struct.pack(">BHH", 3, 105, 1), 0),
        (struct.pack(">BHH", 3, 105, 2), 2),
        (struct.pack(">BHH", 3, 65535, 125), 2),
        (struct.pack(">BHH", 3, 0, 0), 3),
        (struct.pack(">BHH", 3, 0, 126), 3),
        (b"\x03", 3),
        (struct.pack(">BHH", 6, 0, 1), 1),
    ],
)
def test_requests_are_refused_at_the_limits(pdu: bytes, exception: int) -> None:
    with server() as ((port,), _), RawModbus(port) as client:
        assert client.exception(pdu) == exception


def test_a_connection_that_does_not_speak_modbus_is_closed() -> None:
    with server() as ((port,), _), RawModbus(port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.receive()


def test_the_log_may_be_read_while_the_server_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server("--ports", "2", "--log", str(log)) as (ports, _), RawModbus(ports[1]) as client:
        client.read(3, 0, 10)
        client.exception(struct.pack(">BHH", 3, 0, 0))
        magic, port_count, units, _ = struct.unpack_from("8s3Q", log.read_bytes())
        requests, answered, registers, exceptions, connections, live, *_ = struct.unpack_from(
            "8Q", log.read_bytes(), 32 + 64
        )
    assert (magic, port_count, units) == (b"PFSLOG1\0", 2, 0)
    assert (requests, answered, registers, exceptions, connections, live) == (2, 1, 10, 1, 1, 1)
