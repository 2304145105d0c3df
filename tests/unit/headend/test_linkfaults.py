"""Why there is no connection: each cause has a sentence that says what to do, and none is the library's."""

import socket
import ssl
from pathlib import Path

import pytest

from headend.linkfaults import TAKEN_OVER, UNSPECIFIED, ended, unanswered, unconnected

URL = "mqtts://broker.example:8883"
CA = Path("ca.pem")


def distrust(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (distrust("self-signed certificate in certificate chain"), "put the authority that issued it"),
        (distrust("Hostname mismatch, certificate is not valid for 'b'."), "correct the host in url"),
        (distrust("certificate has expired"), "give the broker another one, or set our clock right"),
        (ssl.SSLError(1, "wrong version number"), "check that this port speaks TLS"),
        (ConnectionRefusedError(111, "Connection refused"), "start the broker, or correct url"),
        (socket.gaierror(-2, "Name or service not known"), "correct url, or check the name service"),
        (TimeoutError("timed out"), "check address, network and firewall"),
        (OSError(113, "No route to host"), "(No route to host): check address and network"),
    ],
)  # fmt: skip
def test_cause_is_told_with_what_to_do(error: Exception, advice: str) -> None:
    told = unconnected(URL, CA, error)
    assert advice in told
    assert URL in told
    assert "Errno" not in told


def test_connection_that_ended_is_told_with_its_reason_where_there_is_one() -> None:
    assert "without a word" in ended(URL, "c", UNSPECIFIED, "Unspecified error")
    assert "(Server shutting down)" in ended(URL, "c", 0x8B, "Server shutting down")
    assert "as c: start each collector with a --name of its own" in ended(URL, "c", TAKEN_OVER, "")


def test_broker_that_hangs_up_is_told_by_whether_we_showed_a_certificate() -> None:
    assert "wants TLS" in unanswered(URL, None)
    assert "does not trust the authority of c.pem" in unanswered(URL, Path("c.pem"))
