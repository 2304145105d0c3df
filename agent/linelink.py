"""The link of a line as its table says: serial settings, certificates, who may dial in.

Relies on `certs` for TLS contexts, made afresh for each connection, and on `drivers.modbus.links`, which
knows the kinds of lines.  Not here: when to connect (`agent.lineworker`).
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from agent.config_models import Config, LineConfig
from certs.contexts import client_context, refuse_development_authority, server_context
from certs.modbus import ROLE, modbus_role
from certs.pem import read_certificates
from drivers.modbus.dialin import Callers
from drivers.modbus.lineurl import LineScheme
from drivers.modbus.link import CONNECT_TIMEOUT_S, ContextMaker, ControlLink
from drivers.modbus.links import LineOptions, open_link


def line_link(config: Config, line: LineConfig) -> ControlLink:
    """Return the link of a line, not connected yet."""
    units = {one.name: one.unit_id for one in config.devices if one.line == line.name}
    tls = line_context(config, line)
    return open_link(
        line.url,
        LineOptions(
            # A handshake takes a small device longer than any answer.
            connect_timeout_s=line.timeout.s if tls is None else max(line.timeout.s, CONNECT_TIMEOUT_S),
            serial=line.serial,
            echo=line.echo,
            tls=tls,
            server_name=line.server_name,
            callers=Callers(
                {name: units[name] for name in line.devices or ()},
                frozenset(line.trust_address or ()),
                {units[name]: frame for name, frame in (line.first_frame or {}).items()},
            ),
        ),
    )


def line_context(config: Config, line: LineConfig, now: datetime | None = None) -> ContextMaker | None:
    """Return what makes the TLS context of a line at each connection; None for a line without TLS.

    Raises as `certs.contexts.refuse_development_authority` does.
    """
    ca, cert, key = line.ca, line.cert, line.key
    if ca is None or cert is None or key is None:
        return None
    refuse_development_authority(ca, config.gateway.setting.value)
    make = server_context if line.url.scheme is LineScheme.LISTEN else client_context
    return lambda: make(ca, cert, key, now=now)


def port_warnings(config: Config) -> Iterator[str]:
    """Yield the lines on a serial port that another line has too by another name.

    One name twice is told from the table alone (`agent.config_rules`).
    """
    ports: dict[Path, LineConfig] = {}
    for line in config.lines:
        if line.url.scheme is not LineScheme.RTU:
            continue
        port = Path(line.url.path).resolve()
        other = ports.setdefault(port, line)
        if other.url.path != line.url.path:
            yield (
                f'lines "{other.name}" and "{line.name}" lead to the same serial port {port}: only one '
                "of them can use it, so give their devices one line"
            )


def role_warnings(config: Config) -> Iterator[str]:
    """Yield the lines whose certificate tells a device no role: it may refuse every request."""
    for line in config.lines:
        if line.url.scheme is not LineScheme.TLS or line.cert is None:
            continue
        if modbus_role(read_certificates(line.cert)[0]) is None:
            yield (
                f'line "{line.name}": certificate {line.cert} holds no role ({ROLE.dotted_string}); a '
                "device with roles (Modbus/TCP Security) refuses what it asks"
            )
