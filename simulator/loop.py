"""The event loop that the simulator runs on. Relies on uvloop where it is installed; nothing else is here."""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where there is one; the standard loop does the same at half the speed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
