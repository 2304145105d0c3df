"""How long requests take on a serial line: what its speed allows, and nothing a program could gain.

A read of n registers takes (8 + 5 + 2n) characters, the silence before and behind the answer, and the time
that the device takes to begin (Modbus over Serial Line V1.02 §2.5.1).

Pure.  Deliberately not here: what lost answers cost.
"""

from typing import Final

from drivers.modbus.plan import Request
from drivers.modbus.wires import SerialSettings

TURN_AROUND_S: Final = 0.005
"""Until a device begins its answer; a guess that many meters keep, slow ones take 20 ms and more."""
REQUEST_CHARACTERS: Final = 8
ANSWER_CHARACTERS: Final = 5
"""Unit id, function, byte count and checksum around what was read."""


def read_s(
    request: Request, settings: SerialSettings, pause_s: float = 0.0, turn_around_s: float = TURN_AROUND_S
) -> float:
    """Return the time of one read, from its first character to the first of the next request."""
    characters = REQUEST_CHARACTERS + ANSWER_CHARACTERS + request.size
    silence_s = settings.silence_s + max(settings.silence_s, pause_s)
    return characters * settings.character_s + silence_s + turn_around_s
