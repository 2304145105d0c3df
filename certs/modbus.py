"""The role in a certificate by which a Modbus/TCP Security device decides what its client may do.

*MODBUS/TCP Security Protocol Specification* (MB-TCP-Security-v36) §8.4, R-21 and R-22: an extension with the
identifier below, holding one ASN.1 UTF8String; which role may do what is a matter of the device. The
specification itself was not at hand: identifier and type are as four independent implementations write them.

Pure. Not here: issuing such certificates, which is for a site's own authority.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

ROLE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
_UTF8_STRING: Final = 0x0C
_LONGEST: Final = 0x7F
"""The DER length of one byte; a role is a word."""


def modbus_role(certificate: x509.Certificate) -> str | None:
    """Return the role in a certificate; None when there is none, or none that can be read."""
    try:
        value = certificate.extensions.get_extension_for_oid(ROLE).value
    except x509.ExtensionNotFound:
        return None
    if not isinstance(value, x509.UnrecognizedExtension):
        return None
    octets = value.value
    if len(octets) < 3 or octets[0] != _UTF8_STRING or octets[1] != len(octets) - 2 or octets[1] > _LONGEST:
        return None
    try:
        return octets[2:].decode()
    except UnicodeDecodeError:
        return None
