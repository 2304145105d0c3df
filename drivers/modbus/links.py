"""From the address of a line to its link, whatever its kind: the one place that knows them all.

    link = open_link(LinkUrl.parse("modbus+rtu:///dev/ttyUSB0"), LineOptions(serial=SerialSettings(19200)))

Nothing is opened here; the owner of the line connects.  Deliberately not here: where certificates come
from (the caller hands in what makes a TLS context).
"""

from dataclasses import dataclass
from typing import assert_never

from core.errors import ConfigError
from drivers.modbus.dialin import Callers, DialInLink
from drivers.modbus.lineurl import LineScheme, LinkUrl
from drivers.modbus.link import CONNECT_TIMEOUT_S, ContextMaker, ControlLink, ModbusTcpLink
from drivers.modbus.rtulink import RtuLink
from drivers.modbus.wires import SerialSettings, SerialWire, TcpWire


@dataclass(frozen=True, slots=True)
class LineOptions:
    """What is said of a line besides its address; each kind uses what concerns it."""

    connect_timeout_s: float = CONNECT_TIMEOUT_S
    serial: SerialSettings | None = None
    """Of the serial line; behind a serial server, which has its own, for silence and reckoning."""
    echo: bool = False
    """The adapter returns what is sent."""
    tls: ContextMaker | None = None
    """For a client; on a line where devices dial in, for a server."""
    server_name: str | None = None
    """What the device's certificate must bear, if that is not the host."""
    callers: Callers = Callers()  # noqa: RUF009  # frozen
    """Who may dial in."""


def open_link(url: LinkUrl, options: LineOptions | None = None) -> ControlLink:
    """Return the link of a line, not connected yet; ``ConfigError`` where something needed is missing."""
    options = options or LineOptions()
    match url.scheme:
        case LineScheme.TCP:
            return ModbusTcpLink(url, options.connect_timeout_s)
        case LineScheme.TLS:
            if options.tls is None:
                raise ConfigError(f"{url} needs certificates: ca, cert and key")
            return ModbusTcpLink(url, options.connect_timeout_s, options.tls, options.server_name)
        case LineScheme.RTU:
            settings = options.serial or SerialSettings()
            return RtuLink(url, SerialWire(url, settings), settings, options.echo)
        case LineScheme.RTU_TCP:
            return RtuLink(url, TcpWire(url, options.connect_timeout_s), options.serial, options.echo)
        case LineScheme.LISTEN:
            if not (options.callers.units if options.tls else options.callers.addresses):
                raise ConfigError(f"{url} expects nobody: name who may dial in, by certificate or address")
            return DialInLink(url, options.callers, options.tls)
    assert_never(url.scheme)
