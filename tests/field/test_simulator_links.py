"""Our own links meet every kind of line of the simulator, by the addresses that it tells."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certs.contexts import client_context, server_context
from core.errors import LinkDown, NoAnswer, Refused
from drivers.modbus.dialin import Callers
from drivers.modbus.lineurl import LinkUrl
from drivers.modbus.link import ControlLink
from drivers.modbus.links import LineOptions, open_link
from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings
from drivers.types import Table
from simulator.broker import free_port
from simulator.pytest_plugin import Premises, Starter

LINE = """
name = "one-line"
seed = 7
[[premises]]
name = "home"
[[premises.line]]
name = "line"
{line}
[[premises.device]]
name = "meter"
type = "eastron-sdm630"
line = "line"
[[premises.device]]
name = "counter"
type = "simulator-counter"
line = "line"
unit_id = 2
"""
COUNT = Request(Table.HOLDING, 0, 2, ())
VOLTAGES = Request(Table.INPUT, 0, 6, ())


@asynccontextmanager
async def linked(home: Premises, options: LineOptions) -> AsyncIterator[ControlLink]:
    link = open_link(LinkUrl.parse(home.url("meter")), options)
    try:
        await link.connect()
        yield link
    finally:
        await link.close()


async def answered(link: ControlLink, home: Premises, unit_id: int, request: Request) -> bytes:
    """Read as soon as the device is there: one that dials in may come a moment later."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await link.read(unit_id, request, timeout_s=1.0)
            except (NoAnswer, LinkDown):
                assert home.process.poll() is None
                await asyncio.sleep(0.05)


def files(home: Premises) -> tuple[Path, Path, Path]:
    told = home.devices["meter"].tls
    return Path(told["ca"]), Path(told["cert"]), Path(told["key"])


@pytest.mark.parametrize("kind", ["tcp", "rtu", "rtu-tcp", "tls", "dial-in", "dial-in-tls"])
async def test_our_link_reads_two_devices_on_a_line_of_every_kind(
    portico_premises: Starter, kind: str
) -> None:
    line = f'kind = "{kind}"'
    if kind.startswith("dial-in"):
        line = (
            f'kind = "dial-in"\nconnect = "127.0.0.1:{free_port()}"\ntls = {str(kind != "dial-in").lower()}'
        )
    elif kind.startswith("rtu"):
        line += "\nbaud = 19_200"
    home = portico_premises(LINE.format(line=line))
    options = LineOptions(serial=SerialSettings(19_200))
    if kind == "tls":
        options = LineOptions(tls=lambda: client_context(*files(home)))
    elif kind == "dial-in":
        options = LineOptions(callers=Callers(addresses=frozenset({"127.0.0.1"})))
    elif kind == "dial-in-tls":
        units = {"meter": 1, "counter": 2}
        options = LineOptions(tls=lambda: server_context(*files(home)), callers=Callers(units=units))
    async with linked(home, options) as link:
        assert len(await answered(link, home, 1, VOLTAGES)) == 12
        for count in (1, 2):
            assert int.from_bytes(await answered(link, home, 2, COUNT), "big") == count
        with pytest.raises(Refused):
            await link.read(1, Request(Table.INPUT, 9000, 1, ()), timeout_s=1.0)
    home.stop()
    disorder = home.log("stop")[0]["disorder"].get("home/line", {})
    assert not any(disorder.values()), f"our link does not keep to the bus: {disorder}"
