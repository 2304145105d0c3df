"""Where a line is reached, as one text: ``modbus+tcp://host``, ``modbus+rtu:///dev/ttyUSB0`` and others.

Pure.  Deliberately not here: baud rate and certificates, which are keys of the line and not of its address
(``drivers.modbus.links``).
"""

import ipaddress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from core.errors import ConfigError


class LineScheme(Enum):
    """How a line is spoken to."""

    TCP = "modbus+tcp"
    """Modbus TCP."""
    TLS = "modbus+tls"
    """Modbus/TCP Security: the same inside TLS, with certificates on both sides."""
    RTU = "modbus+rtu"
    """RTU frames on a serial port of this box."""
    RTU_TCP = "modbus+rtu+tcp"
    """RTU frames through the TCP port of a serial server."""
    LISTEN = "modbus+listen"
    """Modbus TCP on connections that the devices open; the address is one of this box."""

    @property
    def is_serial(self) -> bool:
        """Whether RTU frames travel on it, and wires and silence count."""
        return self in (LineScheme.RTU, LineScheme.RTU_TCP)


_PORTS = {LineScheme.TCP: 502, LineScheme.TLS: 802}
"""IANA ``mbap`` and ``mbap-s``; the others have no port of their own, so it is asked for."""
_SCHEMES = {scheme.value: scheme for scheme in LineScheme}
_EXAMPLES = {
    LineScheme.TCP: "modbus+tcp://192.168.1.50:502",
    LineScheme.TLS: "modbus+tls://meter.example:802",
    LineScheme.RTU: "modbus+rtu:///dev/ttyUSB0",
    LineScheme.RTU_TCP: "modbus+rtu+tcp://192.168.1.60:4001",
    LineScheme.LISTEN: "modbus+listen://192.168.1.2:5502",
}


@dataclass(frozen=True, slots=True)
class LinkUrl:
    """Where a line is reached: host and port, or for a serial port the path of its device file."""

    host: str
    port: int
    scheme: LineScheme = LineScheme.TCP
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "LinkUrl":
        """Return the parts of an address; ``ConfigError`` shows one of the right form."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f'"{text}" is no address ({error}): {_example(LineScheme.TCP)}') from error
        scheme = _SCHEMES.get(parts.scheme)
        if scheme is None:
            known = ", ".join(f"{one}://" for one in _SCHEMES)
            raise ConfigError(f'"{text}" does not begin with one of {known}: {_example(LineScheme.TCP)}')
        if "@" in parts.netloc:
            raise ConfigError(f"the address of {host} holds a user name, which Modbus does not know")
        if parts.query or parts.fragment:
            raise ConfigError(f'"{text}" has something behind the address: {_example(scheme)}')
        if scheme is LineScheme.RTU:
            if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
                raise ConfigError(f'"{text}" is no device file with three slashes: {_example(scheme)}')
            return cls("", 0, scheme, parts.path)
        if not host or port == 0 or parts.path.strip("/"):
            raise ConfigError(f'"{text}" is not host and port: {_example(scheme)}')
        port = _PORTS.get(scheme) if port is None else port
        if port is None:
            raise ConfigError(f'"{text}" has no port: {_example(scheme)}')
        if scheme is LineScheme.LISTEN:
            _check_own(text, host)
        return cls(host, port, scheme)

    @property
    def end(self) -> str:
        """What two lines may not share: the far end of this one in one spelling."""
        return self.path or f"{self.host.lower()}:{self.port}"

    def __str__(self) -> str:
        if self.scheme is LineScheme.RTU:
            return f"{self.scheme.value}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme.value}://{host}:{self.port}"


def _check_own(text: str, host: str) -> None:
    """Devices dial in at one address that was chosen, never at all that the box has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigError(
            f'"{text}" names no address of this box in numbers: {_example(LineScheme.LISTEN)}'
        ) from error
    if address.is_unspecified:
        raise ConfigError(
            f'"{text}" would listen at every address of this box: name the one that the devices dial'
        )


def _example(scheme: LineScheme) -> str:
    return f'write for example "{_EXAMPLES[scheme]}"'
