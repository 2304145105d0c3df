"""Lines over TCP against foreign peers: RTU through it, TLS, devices that dial in."""

import asyncio
import contextlib
import ssl
import struct
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer

from certs.authority import DevAuthority
from certs.contexts import client_context, server_context
from core.errors import LinkDown
from drivers.modbus.dialin import Callers
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.points import Table
from simulator.broker import free_port
from tests.support.foreign import (
    FLOATS,
    FOUR,
    PEER,
    SHORT_S,
    eventually,
    held,
    linked,
    program,
    running,
    said,
    serving,
    tool,
    until,
)
from tests.support.rolecert import issue_with_role


async def test_rtu_over_tcp_is_understood_by_the_server_of_pymodbus() -> None:
    server = ModbusTcpServer(held(), framer=FramerType.RTU, address=("127.0.0.1", 0))
    async with serving(server) as port, linked(LinkUrl.parse(f"modbus+rtu+tcp://127.0.0.1:{port}")) as link:
        for _ in range(3):
            octets = await link.read(1, Request(Table.HOLDING, 2, 3, ()), SHORT_S)
            assert struct.unpack(">3H", octets) == (1002, 1003, 1004)
        await link.write_register(1, 4, 7, SHORT_S)
        assert await link.read(1, Request(Table.HOLDING, 4, 1, ()), SHORT_S) == b"\0\7"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an authority, a device's server certificate and our certificate with a role."""
    authority = DevAuthority.create(tmp_path)
    authority.issue_server(["127.0.0.1"], name="device")
    authority.issue_server(["meter.example"], name="elsewhere")
    authority.issue_client("meter-7")
    authority.issue_client("stranger")
    issue_with_role(tmp_path, "gw-0001", b"\x0c\x08Operator")
    return tmp_path


def tls_options(site: Path, server_name: str | None = None) -> LineOptions:
    return LineOptions(
        tls=lambda: client_context(site / "ca.pem", site / "gw-0001.pem", site / "gw-0001.key"),
        server_name=server_name,
    )


async def test_modbus_security_is_understood_by_the_server_of_pymodbus(site: Path) -> None:
    context = server_context(site / "ca.pem", site / "device.pem", site / "device.key")
    server = ModbusTlsServer(held(), address=("127.0.0.1", 0), sslctx=context)
    async with serving(server) as port:
        url = LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}")
        async with linked(url, tls_options(site)) as link:
            assert await link.read(1, Request(Table.HOLDING, 2, 1, ()), SHORT_S) == b"\x03\xea"
            await link.write_register(1, 4, 7, SHORT_S)
            assert await link.read(1, Request(Table.HOLDING, 4, 1, ()), SHORT_S) == b"\0\7"


async def test_modbus_security_is_modbus_tcp_inside_tls(site: Path, tmp_path: Path) -> None:
    """socat takes TLS off, libmodbus answers: no framing of our own make is between."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner, outer = said(peer).split()[1], free_port()
        listen = f"OPENSSL-LISTEN:{outer},bind=127.0.0.1,reuseaddr,fork,verify=1,cafile={site / 'ca.pem'}"
        files = f",cert={site / 'device.pem'},key={site / 'device.key'}"
        command = [tool("socat"), listen + files, f"TCP:127.0.0.1:{inner}"]
        stack.enter_context(running(command, tmp_path / "socat"))
        link = open_link(LinkUrl.parse(f"modbus+tls://127.0.0.1:{outer}"), tls_options(site))
        await eventually(link.connect)
        try:
            assert await link.read(1, FOUR, SHORT_S) == FLOATS
        finally:
            await link.close()


async def test_device_with_a_certificate_of_another_name_is_not_asked(site: Path) -> None:
    context = server_context(site / "ca.pem", site / "elsewhere.pem", site / "elsewhere.key")
    async with serving(ModbusTlsServer(held(), address=("127.0.0.1", 0), sslctx=context)) as port:
        url = LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}")
        with pytest.raises(LinkDown, match="its certificate does not hold"):
            await open_link(url, tls_options(site)).connect()
        async with linked(url, tls_options(site, "meter.example")) as link:
            assert await link.read(1, Request(Table.HOLDING, 2, 1, ()), SHORT_S) == b"\x03\xea"


async def test_plain_server_where_tls_is_expected_is_told() -> None:
    async with serving(ModbusTcpServer(held(), address=("127.0.0.1", 0))) as port:
        options = LineOptions(tls=ssl.create_default_context, connect_timeout_s=SHORT_S)
        with pytest.raises(LinkDown):
            await open_link(LinkUrl.parse(f"modbus+tls://127.0.0.1:{port}"), options).connect()


async def test_device_that_dials_in_from_a_trusted_address_is_asked(tmp_path: Path) -> None:
    port = free_port()
    url = LinkUrl.parse(f"modbus+listen://127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner = said(peer).split()[1]
        trusted = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.1"})))
        async with linked(url, trusted) as link:
            with pytest.raises(LinkDown, match="has not dialled in"):
                await link.read(1, FOUR, SHORT_S)
            dial = [tool("socat"), f"TCP:127.0.0.1:{port}", f"TCP:127.0.0.1:{inner}"]
            first = stack.enter_context(running(dial, tmp_path / "socat"))
            assert await eventually(lambda: link.read(1, FOUR, SHORT_S)) == FLOATS
            stack.enter_context(running(dial, tmp_path / "socat"))  # dials while the first still holds
            await until(lambda: first.poll() is not None)
            assert await link.read(1, FOUR, SHORT_S) == FLOATS
            await link.write_register(1, 9, 4711, SHORT_S)
            assert link.connected
        stranger = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.2"})))
        async with linked(url, stranger) as link:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await _.read() == b""
            writer.close()
            with pytest.raises(LinkDown, match="has not dialled in"):
                await link.read(1, FOUR, SHORT_S)


async def test_device_that_dials_in_is_what_its_certificate_says(site: Path, tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(running([program(PEER, "modbus"), "0"], tmp_path / "peer"))
        inner = said(peer).split()[1]
        options = LineOptions(
            tls=lambda: server_context(site / "ca.pem", site / "device.pem", site / "device.key"),
            callers=Callers(units={"meter-7": 7, "meter-8": 8}),
        )

        def dial(name: str) -> None:
            files = f"cert={site / f'{name}.pem'},key={site / f'{name}.key'},cafile={site / 'ca.pem'}"
            command = [tool("socat"), f"OPENSSL:127.0.0.1:{port},{files}", f"TCP:127.0.0.1:{inner}"]
            stack.enter_context(running(command, tmp_path / f"socat-{name}"))

        async with linked(LinkUrl.parse(f"modbus+listen://127.0.0.1:{port}"), options) as link:
            dial("stranger")
            dial("meter-7")
            assert await eventually(lambda: link.read(7, FOUR, SHORT_S)) == FLOATS
            with pytest.raises(LinkDown, match="unit 8 has not dialled in"):
                await link.read(8, FOUR, SHORT_S)  # the peer would answer any unit: it is not asked
            with pytest.raises(LinkDown, match="unit 1 has not dialled in"):
                await link.read(1, FOUR, SHORT_S)
            await until(lambda: getattr(link, "refused", 0) == 1)
