"""Every line of a plant, opened as its kind wants it, with the address that a gateway's configuration writes.

Relies on the modules of each kind. Not here: what a scenario may say of a line (`simulator.scenario`).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from core.errors import ConfigError
from simulator import credentials
from simulator.bus import Bus, Disorder, Pace
from simulator.dialin import DialIn
from simulator.exchange import Cut
from simulator.gate import Gate
from simulator.log import PlantLog
from simulator.notes import Notes
from simulator.parts import LinePart, Scenario
from simulator.plant import Listener
from simulator.security import Role, client_context, server_context
from simulator.serialserver import RawConnection, SerialServer
from simulator.server import Connection, Port, Units
from simulator.terminal import Terminal

LINES: Final = "lines"
"""Directory, beside the log, of the links to serial lines."""
TLS: Final = "tls"
"""Directory, beside the log, of certificates that were made."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where lines are opened."""

    host: str
    directory: Path
    """Of the log."""
    log: PlantLog


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that is open."""

    listener: Listener = field(kw_only=False)
    url: str
    """The line's address as a gateway's configuration writes it."""
    host: str = ""
    port: int = 0
    """0 where it has none."""
    path: str = ""
    """Of a serial line: where a client opens it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Of a line with TLS: what a gateway needs to speak with it."""
    cut: Callable[[Cut], None]
    close: Callable[[], Awaitable[None]]
    live: Callable[[], Coroutine[None, None, None]] = _nothing
    """What it does all the time: a line that dials."""
    refused: Callable[[], int] = int
    """Connections that were too many."""
    disorder: Disorder | None = None
    """Of a serial line: what its clients did wrong."""


def make_credentials(scenario: Scenario, site_host: str, directory: Path) -> None:
    """Make certificates for every line of a scenario that wants some and brings none. ConfigError if not."""
    lines = [line for part in scenario.premises for line in part.line if line.wants_credentials]
    if not lines:
        return
    dialling = [line for line in lines if line.kind == "dial-in"]
    names = {line.name for line in dialling}
    where = directory.resolve() / TLS
    try:
        credentials.make(
            where,
            {site_host, "localhost", *(line.address[0] for line in dialling)},
            {role for line in lines for role in line.roles or ()},
            {one.name for part in scenario.premises for one in part.device if one.line in names},
        )
    except OSError as error:
        raise ConfigError(f"certificates cannot be made in {where}: {error.strerror}.") from error


async def open_line(listener: Listener, site: Site) -> Line:
    """Open a line. ConfigError when that is not possible."""
    part = listener.part
    notes = Notes(site.log, f"{listener.premises}/{listener.line}")
    match part.kind:
        case "tcp":
            gate = Gate(part.patience, part.exchange) if part.one_at_a_time else None
            return await _listening(listener, site, Units(listener.devices, notes, gate), "modbus+tcp")
        case "tls":
            files, context = _server_side(listener, site)
            units = Units(listener.devices, notes)
            if part.roles is not None:
                units.roles = {name: Role(may) for name, may in part.roles.items()}
            return await _listening(listener, site, units, "modbus+tls", context, files)
        case "rtu":
            return await _serial(listener, site, Bus(listener.devices, notes, pace(part), queues=False))
        case "rtu-tcp":
            bus = Bus(listener.devices, notes, pace(part), queues=True)
            return await _serial_server(listener, site, bus)
        case "dial-in":
            return _dialling(listener, site, notes)


def pace(part: LinePart) -> Pace:
    """Return how fast a serial line is."""
    return Pace(part.baud, part.bits, part.turnaround)


async def _listening(
    listener: Listener,
    site: Site,
    units: Units,
    scheme: str,
    context: ssl.SSLContext | None = None,
    files: dict[str, str] | None = None,
) -> Line:
    port = Port(site.host, listener.part.port, units, context)
    await port.open()
    return Line(
        listener,
        url=f"{scheme}://{bracketed(site.host)}:{port.number}",
        host=site.host,
        port=port.number,
        files=files or {},
        cut=units.cut,
        close=port.close,
        refused=lambda: units.refused_connections,
    )


async def _serial(listener: Listener, site: Site, bus: Bus) -> Line:
    link = site.directory.resolve() / LINES / f"{listener.premises}.{listener.line}"
    terminal = Terminal(link, bus)
    await terminal.open()
    return Line(
        listener,
        url=f"modbus+rtu://{link}",
        path=str(link),
        cut=terminal.cut,
        close=terminal.close,
        disorder=bus.disorder,
    )


async def _serial_server(listener: Listener, site: Site, bus: Bus) -> Line:
    server = SerialServer(site.host, listener.part.port, bus)
    await server.open()
    return Line(
        listener,
        url=f"modbus+rtu+tcp://{bracketed(site.host)}:{server.number}",
        host=site.host,
        port=server.number,
        cut=server.cut,
        close=server.close,
        refused=lambda: server.refused_connections,
        disorder=bus.disorder,
    )


def _dialling(listener: Listener, site: Site, notes: Notes) -> Line:
    part = listener.part
    host, number = part.address
    hello = part.hello.encode()
    if part.tls:
        return _dialling_by_certificate(listener, site, notes)
    if part.framing == "rtu":
        bus = Bus(listener.devices, notes, pace(part), queues=True)
        server = SerialServer(host, number, bus)
        dialling = DialIn(
            host,
            number,
            lambda fallen: RawConnection(server, hello=hello, fallen=fallen),
            server.cut,
        )
        close, disorder = server.close, bus.disorder
    else:
        units = Units(listener.devices, notes)
        dialling = DialIn(
            host, number, lambda fallen: Connection(units, hello=hello, fallen=fallen), units.cut
        )
        close, disorder = partial(_cut, units), None
    return Line(
        listener,
        url=f"modbus+listen://{bracketed(host)}:{number}",
        host=host,
        port=number,
        cut=dialling.cut,
        close=close,
        live=dialling.live,
        disorder=disorder,
    )


def _dialling_by_certificate(listener: Listener, site: Site, notes: Notes) -> Line:
    """Let each device of a line dial for itself, with a certificate by which a gateway knows it."""
    part = listener.part
    host, number = part.address
    units = {device.name: Units({unit: device}, notes) for unit, device in listener.devices.items()}
    files: dict[str, str] = {}

    def dialling(name: str, one: Units) -> DialIn:
        own, context = _device_side(part, name, site)
        files.update(own)
        hello = part.hello.encode()
        return DialIn(
            host, number, lambda fallen: Connection(one, hello=hello, fallen=fallen), one.cut, context
        )

    lines = [dialling(name, one) for name, one in units.items()]

    def cut(how: Cut) -> None:
        for one in units.values():
            one.cut(how)

    async def close() -> None:
        cut(Cut.CLOSE)

    async def live() -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, line in zip(units, lines, strict=True):
                tasks.create_task(line.live(), name=f"dial {name}")

    return Line(
        listener,
        url=f"modbus+listen://{bracketed(host)}:{number}",
        host=host,
        port=number,
        files=files,
        cut=cut,
        close=close,
        live=live,
    )


async def _cut(units: Units) -> None:
    units.cut(Cut.CLOSE)
    await asyncio.sleep(0)


def _server_side(listener: Listener, site: Site) -> tuple[dict[str, str], ssl.SSLContext]:
    """Return what a gateway needs to speak with a server, and the server's own context."""
    part = listener.part
    if part.ca and part.cert and part.key:
        return {"ca": part.ca}, _context(server_context, part.ca, part.cert, part.key)
    # Of several roles the gateway's is one that may write, if there is one.
    roles = sorted((part.roles or {}).items(), key=lambda one: (one[1] != "write", one[0]))
    stem = f"{credentials.CLIENT}-{roles[0][0]}" if roles else credentials.CLIENT
    files, made = _made(site, stem), _made(site, credentials.SERVER)
    return files, _context(server_context, made["ca"], made["cert"], made["key"])


def _device_side(part: LinePart, name: str, site: Site) -> tuple[dict[str, str], ssl.SSLContext]:
    """Return what a gateway needs to take a device in, and the device's own context."""
    if part.ca and part.cert and part.key:
        return {"ca": part.ca}, _context(client_context, part.ca, part.cert, part.key)
    files, made = _made(site, credentials.SERVER), _made(site, f"device-{name}")
    return files, _context(client_context, made["ca"], made["cert"], made["key"])


def _made(site: Site, stem: str) -> dict[str, str]:
    directory = site.directory.resolve() / TLS
    return {
        "ca": str(directory / credentials.AUTHORITY),
        "cert": str(directory / f"{stem}.pem"),
        "key": str(directory / f"{stem}.key"),
    }


def _context(
    build: Callable[[str, str, str], ssl.SSLContext], ca: str, cert: str, key: str
) -> ssl.SSLContext:
    try:
        return build(ca, cert, key)
    except OSError as error:
        raise ConfigError(
            f"certificate {cert} cannot be used ({error}): correct the line's files."
        ) from error


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
