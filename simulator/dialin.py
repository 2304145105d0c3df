"""A device behind a router that nobody can reach: it dials in, and then answers as a server does.

It connects to the address that a gateway listens on, sends its first words if it has any (as modems that
register do), and dials again at growing intervals when the connection falls.

Relies on connections of `simulator.server` and `simulator.serialserver`. Not here: frames, certificates.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from simulator.exchange import Cut

SOONEST_S: Final = 0.2
LATEST_S: Final = 5.0
DIAL_TIMEOUT_S: Final = 10.0


class DialIn:
    """One line that dials."""

    def __init__(
        self,
        host: str,
        number: int,
        protocol: Callable[[Callable[[], None]], asyncio.Protocol],
        cut: Callable[[Cut], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`protocol` makes that of a connection, which calls what it is given when the connection falls."""
        self.host: Final = host
        self.number: Final = number
        self.dialled = 0
        """Connections that came about."""
        self._protocol: Final = protocol
        self.cut: Final = cut
        """Drops the connection, which is dialled anew."""
        self._context: Final = context

    async def live(self) -> None:
        """Dial for ever."""
        loop = asyncio.get_running_loop()
        pause_s = SOONEST_S
        while True:
            fallen = asyncio.Event()
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    await loop.create_connection(
                        lambda fallen=fallen: self._protocol(fallen.set),
                        self.host,
                        self.number,
                        ssl=self._context,
                        server_hostname=self.host if self._context is not None else None,
                    )
            except (OSError, TimeoutError):
                # Nobody listens, or whoever does has another authority: try again, as a modem would.
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LATEST_S)
                continue
            self.dialled += 1
            began_s = loop.time()
            await fallen.wait()
            lasted = loop.time() - began_s > LATEST_S
            # Who hangs up at once, as after a certificate that it refuses, is dialled ever more seldom.
            pause_s = SOONEST_S if lasted else min(2 * pause_s, LATEST_S)
            await asyncio.sleep(pause_s)
