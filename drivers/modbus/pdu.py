"""Requests as PDUs: a function code and what it wants, without what a kind of line puts around it.

Source: Modbus Application Protocol V1.1b3 §6.  Pure.  Deliberately not here: frames (``drivers.modbus.rtu``,
``drivers.modbus.frames``).
"""

from collections.abc import Sequence
from typing import Final

ERROR: Final = 0x80
"""Added to the function code in an exception response."""
READS: Final = (1, 2, 3, 4)
SINGLE_WRITES: Final = (5, 6)
"""Functions whose answer is the request again."""


def read_pdu(function: int, address: int, count: int) -> bytes:
    """Return the request of a read."""
    return bytes((function,)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")


def shorter(pdu: bytes, size: int) -> dict[tuple[int, int], bytes]:
    """Return a read of the first half of a range by function and bytes of payload, if it has a half.

    Of registers whole pairs, but of one pair the first; of bits whole bytes.
    """
    address, bits = int.from_bytes(pdu[1:3], "big"), pdu[0] in (1, 2)
    half = size // 2 if bits else (size // 2) & ~3 or (size // 2) & ~1
    if pdu[0] not in READS or not half:
        return {}
    return {(pdu[0], half): read_pdu(pdu[0], address, half * 8 if bits else half // 2)}


def wider(wanted: bytes, size: int) -> dict[tuple[int, int], bytes]:
    """Return a read of one register more, or of eight bits more, by function and bytes of payload."""
    if wanted[0] not in READS:
        return {}
    bits = wanted[0] in (1, 2)
    more, most = (8, 2000) if bits else (1, 125)
    address, count = span(wanted)
    count += more
    if count > most:
        return {}
    address = min(address, 0x10000 - count)
    return {(wanted[0], (count + 7) // 8 if bits else 2 * count): read_pdu(wanted[0], address, count)}


def coil_pdu(address: int, on: bool) -> bytes:
    """Return the request that sets one coil."""
    return read_pdu(5, address, 0xFF00 if on else 0)


def timed_coil_pdu(address: int, word: int) -> bytes:
    """Return the request that switches one coil for a time, which stands where others have on and off."""
    return read_pdu(5, address, word)


def register_pdu(address: int, register: int) -> bytes:
    """Return the request that sets one register."""
    return read_pdu(6, address, register)


def coils_pdu(address: int, states: Sequence[bool]) -> bytes:
    """Return the request that sets coils in a row."""
    size = (len(states) + 7) // 8
    bits = sum(1 << number for number, on in enumerate(states) if on)
    return read_pdu(15, address, len(states)) + bytes((size,)) + bits.to_bytes(size, "little")


def registers_pdu(address: int, registers: Sequence[int]) -> bytes:
    """Return the request that sets registers in a row."""
    octets = b"".join(register.to_bytes(2, "big") for register in registers)
    return read_pdu(16, address, len(registers)) + bytes((len(octets),)) + octets


def span(pdu: bytes) -> tuple[int, int]:
    """Return the first address that a request names, and how many."""
    address, second = (int.from_bytes(pdu[at : at + 2], "big") for at in (1, 3))
    return address, 1 if pdu[0] in SINGLE_WRITES else second
