"""Modems that name themselves by their first frame, in a whole agent: each meter's rows are its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from certs.authority import DevAuthority
from certs.contexts import client_context, server_context
from cli.process import wait_until
from core.errors import LinkDown
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from simulator.broker import free_port
from simulator.pytest_plugin import Starter
from tests.support.caller import LONG_S, SHORT_S, TWO, Device, right
from tests.support.foreign import running

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
SCENARIO = 'name = "modems"\nseed = 7\n[[premises]]\nname = "home"\n'
MODEM = """
[[premises.line]]
name = "{name}"
kind = "dial-in"
connect = "127.0.0.1:{port}"
hello = "{hello}"
[[premises.device]]
name = "{name}-counter"
type = "simulator-counter"
line = "{name}"
unit_id = {unit}
"""
AGENT = """\
[gateway]
id = "gw-0001"
data_dir = "var"
setting = "development"
clock = "trusted"
types = ["{types}"]
[[line]]
name = "modems"
url = "modbus+listen://127.0.0.1:{port}"
trust_address = ["127.0.0.1"]
first_frame = {{ one = "MODEM-1", two = "MODEM-2", three = "MODEM-3" }}
"""
DEVICE = """
[[device]]
name = "{name}"
type = "simulator-counter"
line = "modems"
unit_id = {unit}
every = "1s"
owner = "dso.example"
"""
UNITS = {"one": 1, "two": 2, "three": 3}


@pytest.mark.timeout(120)
def test_agent_reads_each_meter_through_the_modem_that_names_it(
    portico_premises: Starter, tmp_path: Path
) -> None:
    port = free_port()
    said = {"one": "MODEM-1", "two": "MODEM-2", "three": "MODEM-9"}  # the third is none that is expected
    modems = [
        MODEM.format(name=name, port=port, hello=hello, unit=UNITS[name]) for name, hello in said.items()
    ]
    home = portico_premises(SCENARIO + "".join(modems))
    DevAuthority.create(tmp_path).issue_all(gateways=["gw-0001"])
    config = tmp_path / "gateway.toml"
    devices = [DEVICE.format(name=name, unit=unit) for name, unit in UNITS.items()]
    text = AGENT.format(port=port, types=ROOT / "simulator" / "types") + "".join(devices)
    config.write_text(text)
    command: list[str | Path] = [sys.executable, "-c", "from cli.main import main; main()"]
    rows: list[dict[str, object]] = []

    def stored() -> bool:
        ran = subprocess.run(
            [*command, "store", "tail", tmp_path / "var", "--json", "-n", "60"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=ROOT,
        )
        rows[:] = [json.loads(line) for line in ran.stdout.splitlines()]
        good = [row for row in rows if '"line-down"' not in json.dumps(row)]
        return all(sum(f'"{name}"' in json.dumps(row) for row in good) >= 3 for name in ("one", "two"))

    with running([*command, "agent", "run", "-c", config], tmp_path / "agent"):
        wait_until(stored, PATIENCE_S, lambda: f"not read: {rows[-5:]} {(tmp_path / 'agent').read_text()}")
    home.stop()
    given = {(one["device"], one["count"]) for one in home.log("count")}
    assert {device for device, _ in given} == {"one-counter", "two-counter"}  # the third was never asked
    third = [row for row in rows if '"three"' in json.dumps(row)]
    assert third
    assert all('"line-down"' in json.dumps(row) for row in third)


async def test_first_frame_beside_a_certificate_must_be_that_of_its_device(tmp_path: Path) -> None:
    authority = DevAuthority.create(tmp_path)
    authority.issue_server(["127.0.0.1"], name="gateway")
    for name in ("meter-5", "meter-7"):
        authority.issue_client(name)
    ca = tmp_path / "ca.pem"
    url = LinkUrl("127.0.0.1", free_port(), LineScheme.LISTEN)
    callers = Callers({"meter-5": 5, "meter-7": 7}, frozenset(), {5: b"FIVE", 7: b"SEVEN"})
    link = DialInLink(
        url, callers, lambda: server_context(ca, tmp_path / "gateway.pem", tmp_path / "gateway.key")
    )
    await link.connect()
    five = client_context(ca, tmp_path / "meter-5.pem", tmp_path / "meter-5.key")
    try:
        async with Device(link, right, (b"SEVEN",), five) as liar:
            await liar.until_ended()
            assert link.refused == 1
        async with Device(link, right, (b"FIVE",), five):
            assert await link.read(5, TWO, LONG_S) == b"\0\x64\0\x65"
            with pytest.raises(LinkDown, match="unit 7 has not dialled in"):
                await link.read(7, TWO, SHORT_S)
    finally:
        await link.close()
