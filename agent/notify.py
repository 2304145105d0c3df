"""Tells systemd how the agent is: ready, alive, stopping (sd_notify(3), sd_watchdog_enabled(3)).

One datagram to the socket that the environment names, nothing when it names none:
the agent runs the same under systemd and in a terminal.  Not here: when to say what.
"""

import os
import socket
from collections.abc import Mapping

READY = "READY=1"
WATCHDOG = "WATCHDOG=1"
STOPPING = "STOPPING=1"


def status(text: str) -> str:
    """Return the message that ``systemctl status`` shows; one line."""
    return "STATUS=" + " ".join(text.split())


class Notifier:
    """The socket of the service manager, or none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # Systemd writes the zero byte that begins an abstract address as "@".
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environment)
        """Seconds within which WATCHDOG is expected again (tell it at half of that); None: no watchdog."""

    def tell(self, *messages: str) -> bool:
        """Send messages in one datagram; False when nobody listens, which is no fault of ours."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            # A full socket of a busy service manager must not stop the event loop.
            client.setblocking(False)
            try:
                client.sendto("\n".join(messages).encode(), self._address)
            except OSError:
                return False
        return True


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    text = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000
