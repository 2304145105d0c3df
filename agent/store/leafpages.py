"""Reading records straight out of the pages of a damaged file, past what SQLite can still follow.

A page of the table ``record`` that is whole can be read although the pages above it,
or the first page of the file, are not.  What is found is believed only when the
record's own checksum holds, so a page of anything else, or an old one, yields nothing
that was never written.

Source: "Database File Format", sqlite.org/fileformat2.html, sections 1.6 (B-tree
pages), 2.1 (record format), 4.1 (WAL).  Pure over bytes; not here: what to do with it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.store.connection import PAGE_SIZE
from agent.store.recordfile import Stored, checksum
from core.ranges import RangeSet

LEAF: Final = 0x0D
FIRST_PAGE_HEADER: Final = 100
WAL_HEADER: Final = 32
FRAME_HEADER: Final = 24
_MAX_LOCAL: Final = PAGE_SIZE - 35
_MIN_LOCAL: Final = (PAGE_SIZE - 12) * 32 // 255 - 23
_SIZES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def records_in(path: Path, wal: Path, have: RangeSet) -> Iterator[Stored]:
    """Yield every whole record in the pages of a file, then of its write-ahead log, save ids we have."""
    if path.exists():
        with path.open("rb") as file:
            size = path.stat().st_size
            for number in range(-(-size // PAGE_SIZE)):
                file.seek(number * PAGE_SIZE)
                page = file.read(PAGE_SIZE)
                for cell in _cells(page, FIRST_PAGE_HEADER if number == 0 else 0):
                    yield from _record(page, cell, have, file.fileno(), size)
    if wal.exists():
        with wal.open("rb") as file:
            file.seek(WAL_HEADER)
            while len(frame := file.read(FRAME_HEADER + PAGE_SIZE)) == FRAME_HEADER + PAGE_SIZE:
                page = frame[FRAME_HEADER:]
                for cell in _cells(page, 0):
                    yield from _record(page, cell, have, None, 0)


def _cells(page: bytes, header: int) -> list[int]:
    if len(page) < header + 8 or page[header] != LEAF:
        return []
    many = int.from_bytes(page[header + 3 : header + 5], "big")
    first = header + 8
    if first + 2 * many > len(page):
        return []
    return [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * many, 2)]


def _record(page: bytes, cell: int, have: RangeSet, file: int | None, size: int) -> Iterator[Stored]:
    try:
        length, at = _varint(page, cell)
        id_, at = _varint(page, at)
        if id_ in have:
            return
        payload = _payload(page, at, length, file, size)
        if payload is None:
            return
        values = _columns(payload)
    except (IndexError, ValueError, OSError):
        return
    if values is None:
        return
    grp, tick, body, crc = values
    if checksum(id_, grp, tick, body) == crc:
        yield Stored(id_, grp, tick, body)


def _payload(page: bytes, at: int, length: int, file: int | None, size: int) -> bytes | None:
    if length <= _MAX_LOCAL:
        return page[at : at + length] if at + length <= len(page) else None
    if file is None or length > size:
        return None
    local = _MIN_LOCAL + (length - _MIN_LOCAL) % (PAGE_SIZE - 4)
    if local > _MAX_LOCAL:
        local = _MIN_LOCAL
    parts, have = [page[at : at + local]], local
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while have < length and following:
        more = _page(file, following)
        following = int.from_bytes(more[:4], "big")
        parts.append(more[4 : 4 + length - have])
        have += len(parts[-1])
        if len(more) < PAGE_SIZE:
            break
    return b"".join(parts) if have == length else None


def _page(file: int, number: int) -> bytes:
    return os.pread(file, PAGE_SIZE, (number - 1) * PAGE_SIZE)


def _columns(payload: bytes) -> tuple[int, int, bytes, int] | None:
    """Return grp, tick, body and crc of a row of the table ``record``; None for any other row."""
    length, at = _varint(payload, 0)
    types = []
    while at < length:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != 5 or types[0] != 0 or types[3] < 12 or types[3] % 2:
        return None
    numbers: list[int] = []
    body = b""
    for index, kind in enumerate(types[1:], 1):
        if index == 3:
            body, at = payload[at : at + (kind - 12) // 2], at + (kind - 12) // 2
        elif kind in (8, 9):
            numbers.append(kind - 8)
        elif kind in _SIZES:
            end = at + _SIZES[kind]
            numbers.append(int.from_bytes(payload[at:end], "big", signed=True))
            at = end
        else:
            return None
    grp, tick, crc = numbers
    return (grp, tick, body, crc) if at == len(payload) else None


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for taken in range(8):
        byte = page[at + taken]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + taken + 1
    return value << 8 | page[at + 8], at + 9
