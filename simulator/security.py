"""Modbus/TCP Security: the role in a client's certificate, and what it may do.

*MODBUS/TCP Security Protocol Specification* (MB-TCP-Security V36, R-21 and R-22): the role is a UTF8String
in an extension of the client's X.509v3 certificate, OID 1.3.6.1.4.1.50316.802.1; which role may do what is
the server's own matter. What a role may not do is refused as an illegal function (exception 1).

Relies on a transport that has done its handshake. Not here: making certificates (`simulator.credentials`).
"""

import asyncio
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import Final

from cryptography import x509

from simulator.pdu import READS, WRITES

ROLE_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
_UTF8_STRING: Final = 0x0C


class Role(Enum):
    """What a client may do."""

    NOTHING = "nothing"
    READ = "read"
    WRITE = "write"

    def may(self, function: int) -> bool:
        """Tell whether a function code is allowed."""
        match self:
            case Role.WRITE:
                return True
            case Role.READ:
                return function in READS or function not in WRITES
            case _:
                return False


MAY_ALL: Final = Role.WRITE


def role_of(transport: asyncio.BaseTransport, roles: Mapping[str, Role]) -> Role:
    """Return what the client of a connection may do; nothing without a role that is known."""
    connection = transport.get_extra_info("ssl_object")
    shown = None if connection is None else connection.getpeercert(binary_form=True)
    if not isinstance(shown, bytes):
        return Role.NOTHING
    return roles.get(role_in(x509.load_der_x509_certificate(shown)) or "", Role.NOTHING)


def role_in(certificate: x509.Certificate) -> str | None:
    """Return the role that a certificate names, None when it names none."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ROLE_OID).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    if not isinstance(extension, x509.UnrecognizedExtension):
        return None
    return utf8_string(extension.value)


def utf8_string(der: bytes) -> str | None:
    """Return the text of a DER UTF8String of less than 128 bytes, None when it is something else."""
    if len(der) < 2 or der[0] != _UTF8_STRING or der[1] != len(der) - 2 or der[1] > 127:
        return None
    try:
        return der[2:].decode()
    except UnicodeDecodeError:
        return None


def der_utf8_string(text: str) -> bytes:
    """Return the DER UTF8String of a text of less than 128 bytes."""
    body = text.encode()
    if len(body) > 127:
        raise ValueError(f"{text!r} is too long for a role")
    return bytes((_UTF8_STRING, len(body))) + body


def server_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a server that requires a client certificate: TLS 1.2 or later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _equipped(context, ca, cert, key)


def client_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a device that dials in and shows its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _equipped(context, ca, cert, key)


def _equipped(context: ssl.SSLContext, ca: str, cert: str, key: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(cert, key)
    return context
