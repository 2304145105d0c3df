"""Why there is no connection to a broker, in one sentence that says what to do.

Pure. Not here: when it is said (`headend.link`); the agent has sentences of its own, which name the keys
of its own configuration.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final

UNSPECIFIED: Final = 0x80
"""The connection ended without a reason code."""
TAKEN_OVER: Final = 0x8E
"""Another client connected with our id; mosquitto 2.0 ends the connection without this word."""


def unanswered(url: str, cert: Path | None) -> str:
    """Say what a broker probably means that closes a connection before it answers.

    With TLS 1.3 we may speak before the broker has judged our certificate, and MQTT has no word for it.
    """
    if cert is None:
        causes = "it probably speaks no MQTT 5 here, wants TLS (mqtts://), or refuses this address"
    else:
        causes = (
            f"it probably does not trust the authority of {cert}, or holds that certificate for ended, "
            "revoked or of another role; check cert, and the broker's clock and authorities"
        )
    return f"broker {url} closed the connection before it answered: {causes}; its log says which"


def ended(url: str, client_id: str, code: int, reason: str) -> str:
    """Say that the broker, or the network, ended a connection that stood (reason codes: MQTT 5 §2.4)."""
    if code == TAKEN_OVER:
        whom = f"another client connected to broker {url} as {client_id}"
        return f"{whom}: start each collector with a --name of its own"
    why = "without a word" if code == UNSPECIFIED else f"({reason})"
    return f"broker {url} ended the connection {why}; trying again"


def brief(url: str, client_id: str) -> str:
    """Say that connections come about and do not last."""
    return (
        f"broker {url} ends the connection of {client_id} again and again: look for another collector with "
        "this --name, or into the broker's log; it is tried on, ever more rarely and without a word"
    )


def unconnected(url: str, ca: Path | None, error: Exception) -> str:
    """Say why a connection could not be made."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"broker {url} shows a certificate that is not trusted: {_untrusted(ca, error)}"
        case ssl.SSLError():
            reason = getattr(error, "reason", "") or str(error)  # some have none
            return (
                f"broker {url} and we agree on no TLS session ({reason}): check that this port speaks TLS, "
                "and the certificates on both sides"
            )
        case ConnectionRefusedError():
            return f"nothing listens at {url}: start the broker, or correct url"
        case socket.gaierror():
            return f"the host of {url} has no address: correct url, or check the name service"
        case TimeoutError():
            return f"no answer from {url}: check address, network and firewall"
        case OSError():
            return f"no connection to {url} ({error.strerror or error}): check address and network"
        case _:
            return f"no connection to {url}: {error}"


def _untrusted(ca: Path | None, error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    if "mismatch" in said:
        return f"{said}; correct the host in url, or give the broker a certificate for it"
    if "expired" in said or "not yet valid" in said:
        return f"{said}; give the broker another one, or set our clock right"
    return f"{said}; put the authority that issued it into {ca}, or find out who answers there"
