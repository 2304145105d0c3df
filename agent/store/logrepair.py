"""Damage in the middle of a write-ahead log: finding it before SQLite passes over it, and mending a copy.

SQLite reads a log up to the first frame whose checksum does not hold and takes that for its end, without a
word; opened for writing, what lies behind is lost.  But each frame carries the checksum up to itself, so the
frames behind a bad one can be verified from what the bad one says.

What a power cut or a failed flush leaves is no damage: of the last transaction any part may be there, as no
later one begins before the drive has acknowledged it.  So the log counts as damaged only where a bad frame is
followed by an unbroken run of good ones in which a second transaction was committed, or where one flipped
bit explains a bad frame.

Source: "Database File Format", sqlite.org/fileformat2.html, section 4; "WAL-mode File Format",
sqlite.org/walformat.html, section 2.1.  Relies on the place of ``mxFrame`` in the shared memory beside the
log: checksums are computed here only where commits lie behind it.  Not here: reading records
(``agent.store.salvage``).
"""

import contextlib
import os
import sqlite3
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from agent.store.connection import PAGE_SIZE, connect, file_bytes, wal_of
from agent.store.leafpages import FRAME_HEADER, WAL_HEADER

MAGIC: Final = 0x377F0682
"""The last bit tells that checksums are over big-endian words."""
VERSION: Final = 3_007_000
FRAME: Final = FRAME_HEADER + PAGE_SIZE
_HEADER: Final = struct.Struct(">6I2I")
_FRAME: Final = struct.Struct(">2I2I2I")
_INDEX: Final = struct.Struct("=3I4xI")
"""Begin of the index: version, unused, changes, flags, and mxFrame, in the machine's order of bytes."""
WORD: Final = 0xFFFFFFFF
MAX_TRIES: Final = 64
"""Bad frames of a log in which the one flipped bit is looked for."""
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CutLog:
    """A log of which SQLite reads only the beginning."""

    log: Path
    read: int
    """Frames that SQLite reads."""
    frames: int
    """Frames up to the last one that is sure to be committed."""

    def __str__(self) -> str:
        """Return what a technician should know."""
        return (
            f"{self.log.name} is damaged in its middle: "
            f"of the {self.frames} frames that were committed SQLite reads {self.read}"
        )


class _Head(NamedTuple):
    big: bool
    checkpoints: int
    salts: Pair
    sum: Pair
    holds: bool


class _Frame(NamedTuple):
    number: int
    """From 1 on."""
    page: int
    size: int
    """Pages of the file after a commit; 0 in the middle of one, and where nothing of the log lies."""
    good: bool
    flipped: bool
    """One bit is not what was written; in a good frame it is put right."""
    content: bytes
    """Page number and size, as in the frame's header, and the page."""


@contextlib.contextmanager
def looked_at(path: Path) -> Iterator[tuple[sqlite3.Connection, CutLog | None]]:
    """Open a file that nobody uses only to look at it; yield the connection, and what is cut off its log.

    Raises ``sqlite3.Error``.  A connection that writes would fold the log back, and what is cut off is gone.
    """
    handle = -1
    db = connect(path, readonly=True)
    try:
        known = 0
        with contextlib.suppress(OSError, struct.error):
            handle = os.open(path.with_name(path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC)
            version, _, _, many = _INDEX.unpack(os.pread(handle, _INDEX.size, 0))
            known = many if version == VERSION else 0
        yield db, cut_log(path, known)
    finally:
        db.close()
        if handle >= 0:  # not earlier: to close it would take the locks that SQLite has
            os.close(handle)


def cut_log(path: Path, known: int = 0) -> CutLog | None:
    """Tell whether SQLite reads less of a file's log than was committed.

    Args:
        path: of the file, which nobody writes now.
        known: how many frames SQLite is known to read; where nobody knows, all of them are verified.
    """
    log = wal_of(path)
    if file_bytes(log) <= WAL_HEADER:
        return None
    with log.open("rb", buffering=0) as file:
        head = _head(file)
        if head.holds and not _commits_behind(file, head, known):
            return None
        read, last = _ends(file, head, known)
    return CutLog(log, read, last) if last else None


def _head(file: BinaryIO) -> _Head:
    """Return the log's header; where it does not hold, with the salts that the first frames have."""
    content = os.pread(file.fileno(), WAL_HEADER, 0)
    magic, version, size, checkpoints, *rest = _HEADER.unpack(content)
    big = bool(magic & 1) if magic | 1 == MAGIC + 1 else sys.byteorder == "big"
    salts, sum_ = (rest[0], rest[1]), (rest[2], rest[3])
    known = (magic | 1, version, size) == (MAGIC + 1, VERSION, PAGE_SIZE)
    holds = known and checksum_of(content[:24], (0, 0), big) == sum_
    if not holds:
        first = [found[2:4] for number in (1, 2, 3) if (found := _frame_header(file, number))]
        salts = next((one for one in first if first.count(one) > 1), first[0] if first else salts)
        likely = _Head(big, checkpoints, salts, _sum_of_head(big, checkpoints, salts), False)
        if next((frame.good for frame in _frames(file, likely, 0)), False):
            return likely
    return _Head(big, checkpoints, salts, sum_, holds)


def _begin_of(big: bool, checkpoints: int, salts: Pair) -> bytes:
    return struct.pack(">6I", MAGIC | big, VERSION, PAGE_SIZE, checkpoints, *salts)


def _sum_of_head(big: bool, checkpoints: int, salts: Pair) -> Pair:
    return checksum_of(_begin_of(big, checkpoints, salts), (0, 0), big)


def _frame_header(file: BinaryIO, number: int) -> tuple[int, int, int, int, int, int] | None:
    content = os.pread(file.fileno(), FRAME_HEADER, WAL_HEADER + (number - 1) * FRAME)
    return _FRAME.unpack(content) if len(content) == FRAME_HEADER else None


def _commits_behind(file: BinaryIO, head: _Head, known: int) -> bool:
    """Tell whether a frame behind the known ones says that it ends a transaction of this log."""
    number = known + 1
    while found := _frame_header(file, number):
        if found[1] and found[2:4] == head.salts:
            return True
        number += 1
    return False


def _frames(file: BinaryIO, head: _Head, known: int) -> Iterator[_Frame]:
    """Yield the frames behind the known ones, each verified from what the one before it says."""
    seeds: tuple[Pair, ...] = (head.sum,)
    if known and (found := _frame_header(file, known)):
        seeds = (found[4:6],)
    number, tries = known + 1, MAX_TRIES
    while len(content := os.pread(file.fileno(), FRAME, WAL_HEADER + (number - 1) * FRAME)) == FRAME:
        *_, one, two, three, four = _FRAME.unpack(content[:FRAME_HEADER])
        salts, told, content = (one, two), (three, four), content[:8] + content[FRAME_HEADER:]
        computed, good = seeds[0], False
        for seed in seeds:
            computed = checksum_of(content, seed, head.big)
            good = salts == head.salts and computed == told
            if good:
                break
        flipped, seeds = False, (told,)
        if not good and tries:
            tries -= 1
            aside = _bits((*salts, *told), (*head.salts, *computed)) == 1  # in the header, beside the content
            written = _one_bit_back(content, computed, told, head.big) if salts == head.salts else []
            flipped, good = aside or bool(written), aside + len(written) == 1
            content = written[0] if good and written else content
            seeds = (told, computed) if aside else seeds
        page, size = struct.unpack(">2I", content[:8])
        ours = good or salts == head.salts
        yield _Frame(number, page, size if ours else 0, good and page > 0, flipped, content)
        number += 1


def _bits(some: tuple[int, ...], others: tuple[int, ...]) -> int:
    return sum((one ^ other).bit_count() for one, other in zip(some, others, strict=True))


class _Weight(NamedTuple):
    """What adding 1 to a word of a frame adds to both halves of its checksum, and how to go back."""

    one: int
    two: int
    half: int
    """The half whose weight is odd; one of both is."""
    inverse: int
    """Of that weight, modulo 2^32."""


@cache
def _weights() -> tuple[_Weight, ...]:
    """Return the weights of the words of a frame, in order.  The checksum is linear."""
    found: list[_Weight] = []
    pair = [(0, 1), (1, 1)]  # of the last two words, backwards
    for _ in range((8 + PAGE_SIZE) // 8):
        for one, two in pair:
            half = 0 if one & 1 else 1
            found.append(_Weight(one, two, half, pow((one, two)[half], -1, 1 << 32)))
        pair = [(one + two & WORD, one + 2 * two & WORD) for one, two in pair]
    return tuple(reversed(found))


def _one_bit_back(content: bytes, computed: Pair, told: Pair, big: bool) -> list[bytes]:
    """Return what may have been written if one bit was flipped; nothing where no bit explains the checksum.

    That one explains it by chance: some 30,000 to 2^64.  Which one is sure only for the lower bits of a
    word; the checksum weighs high ones in many words alike, then two of them are returned.
    """
    lacks = told[0] - computed[0] & WORD, told[1] - computed[1] & WORD
    words = array("I", content)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    found = []
    for at, (one, two, half, inverse) in enumerate(_weights()):
        change = lacks[half] * inverse & WORD
        if (one * change & WORD, two * change & WORD) != lacks:
            continue
        right = words[at] + change & WORD
        if (words[at] ^ right).bit_count() == 1:
            place = 4 * at
            found.append(
                content[:place] + right.to_bytes(4, "big" if big else "little") + content[place + 4 :]
            )
            if len(found) > 1:
                break
    return found


def _ends(file: BinaryIO, head: _Head, known: int) -> tuple[int, int]:
    """Return where SQLite stops, and the last frame behind damage that is sure to be committed, or 0."""
    broken = not head.holds
    # A header is written before any frame of its log: behind a bad one, the first commit is sure.
    commits = 1 if broken else 0
    read, last = known, 0
    for frame in _frames(file, head, known):
        if frame.flipped:  # no power cut does that: what was begun here was written to its end
            broken, commits = True, commits if broken else 1
        elif not frame.good:
            broken, commits = True, 0
        commits += frame.size > 0
        if frame.good and frame.size and not broken:
            read = frame.number
        if (frame.good or frame.flipped) and frame.size and broken and commits > 1:
            last = frame.number
    return read, last


def checksum_of(content: bytes, seed: Pair, big: bool) -> Pair:
    """Return the checksum of a log over some bytes, a multiple of 8, going on from another.  Pure."""
    words = array("I", content)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    one, two = seed
    pairs = iter(words)
    for first, second in zip(pairs, pairs, strict=True):
        one = one + first + two & WORD
        two = two + second + one & WORD
    return one, two


def mend_log(aside: Path) -> Path:
    """Give a file that was set aside a log that SQLite reads to its end; return the log as it was.

    A bit that flipped is put right where the checksum tells which; other bad frames are left out: SQLite
    would believe them, and a record among them is found by its own checksum.
    Interrupted at any step, it goes on when called again.
    """
    log = wal_of(aside)
    kept = aside.with_name(aside.name + ".damaged-wal")
    mended = aside.with_name(aside.name + ".mended-wal")
    if not kept.exists():
        if file_bytes(log) <= WAL_HEADER:
            return log
        with log.open("rb", buffering=0) as file:
            head = _head(file)
            _, last = _ends(file, head, 0)
            if not last:
                return log
            _write_mended(file, head, last, mended)
        log.rename(kept)
    if not log.exists() and mended.exists():
        mended.rename(log)
    return kept


def _write_mended(file: BinaryIO, head: _Head, last: int, mended: Path) -> None:
    begin = _begin_of(head.big, head.checkpoints, head.salts)
    sum_ = checksum_of(begin, (0, 0), head.big)
    with mended.open("wb") as out:
        out.write(begin + struct.pack(">2I", *sum_))
        for frame in _frames(file, head, 0):
            if frame.number > last:
                break
            if not frame.good:
                continue
            sum_ = checksum_of(frame.content, sum_, head.big)
            out.write(_FRAME.pack(frame.page, frame.size, *head.salts, *sum_) + frame.content[8:])
        out.flush()
        os.fsync(out.fileno())
