"""The first frame of a device that dials in: fixed bytes by which modems and serial servers name themselves.

Makers call it registration packet, up to 40 bytes of text or hexadecimal digits, sent once when the
connection is made (USR IOT USR-M100, user manual §7.3; Roltek RLTK421, "Registry Packet").  It proves
nothing, since anybody can send it: it tells devices apart that are trusted already, by address or by
certificate.

Pure.  Deliberately not here: time and sockets (``drivers.modbus.dialin``); frames that such modems send later
(heartbeats), or before every answer, which no answer can be told from.
"""

from collections.abc import Collection, Iterable
from itertools import permutations
from typing import Final

from core.errors import ConfigError

LONGEST: Final = 64
"""Bytes of a first frame."""
HEX: Final = "hex:"


def parse_frame(text: str) -> bytes:
    """Return the bytes of a frame given as text, or in hexadecimal digits behind ``hex:``."""
    if text.startswith(HEX):
        try:
            frame = bytes.fromhex(text.removeprefix(HEX))
        except ValueError as error:
            raise ConfigError(
                f'"{text}" is not in hexadecimal digits: write for example "hex:01 a7"'
            ) from error
    elif text.isascii() and text.isprintable():
        frame = text.encode()
    else:
        raise ConfigError(f"{text!r} is no text of printable ASCII: write its bytes behind hex:")
    if not 1 <= len(frame) <= LONGEST:
        raise ConfigError(f'"{text}" has {len(frame)} bytes: a first frame has 1 to {LONGEST}')
    return frame


def shown(frame: bytes) -> str:
    """Return a frame as it is given."""
    text = frame.decode("ascii", "replace")
    plain = text.isascii() and text.isprintable() and not text.startswith(HEX)
    return text if plain else HEX + frame.hex()


def doubtful(frames: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """Return two of different frames of which the first begins the second: nobody could tell them apart."""
    return next(((one, two) for one, two in permutations(set(frames), 2) if two.startswith(one)), None)


class FirstFrame:
    """What a caller has said so far."""

    def __init__(self, expected: Collection[bytes]) -> None:
        """``expected`` are the frames of those who may call; none begins another."""
        self._expected = expected
        self._said = b""

    def feed(self, chunk: bytes) -> bool:
        """Take what came; tell whether it is, or may become, one of those expected."""
        self._said = (self._said + chunk)[: LONGEST + 1]
        return any(frame.startswith(self._said) for frame in self._expected)

    @property
    def whole(self) -> bytes | None:
        """The frame, once it is there."""
        return self._said if self._said in self._expected else None
