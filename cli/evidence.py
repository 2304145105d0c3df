"""What a judge can see from outside: a gateway's store, an entity's books, the plant's log, as nouns.

Read with SQLite and JSON alone, by the documented layout of each file, never through the code that
writes them: a mistake there must not hide itself here. Files are opened to look only, also while their
owner runs or after it was killed.

Relies on `core` for the nouns of the wire (manifest, ownership, ranges). Deliberately imports nothing
of `agent` or `headend`. Not here: any judgement (`cli.judge`).
"""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import PorticoError, WireError
from core.manifest import Group, decode_manifest
from core.ranges import RangeSet

COUNTER: Final = "PollCount"
"""Quantity of a point that counts the answers of its device (simulator/README.md)."""
TABLES: Final = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
"""Modbus read functions and the table that each reads (Modbus Application Protocol V1.1b3 §6.1-6.4)."""


class NoEvidence(PorticoError):
    """A file that is to be judged cannot be read."""


class Identity(NamedTuple):
    """What names one row for ever."""

    gateway: str
    epoch: str
    seq: int


class SeriesKey(NamedTuple):
    """A group of points over all manifests and numberings."""

    gateway: str
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One poll of one group, as it lies somewhere."""

    id: Identity
    series: SeriesKey
    group: Group
    tick: int
    digest: bytes
    """Of tick, answer offsets, values and quality: equal when nothing differs."""
    count: int | None
    """Value of the counter point, where the group has one that was read."""

    @property
    def values(self) -> int:
        """Readings in it."""
        return len(self.group.points)


@dataclass(frozen=True, slots=True)
class GapRecord:
    """One Gap record of a group."""

    id: Identity
    series: SeriesKey
    group: Group
    first: int
    last: int
    ticks: int
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the gateway says of itself besides rows: Gaps, clock steps, starts, what it lost."""

    gaps: tuple[GapRecord, ...]
    steps: frozenset[Identity]
    """Clock records by which the wall clock was stepped."""
    starts: dict[tuple[str, str], int]
    """Instant by the gateway's clock at which an epoch began, by (gateway, epoch)."""
    gone: dict[tuple[str, str], RangeSet]
    """Sequences that the gateway says it no longer has, by (gateway, epoch)."""


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """A gateway's readings file at one moment."""

    gateway: str
    epochs: tuple[str, ...]
    rows: tuple[Row, ...]
    told: Told
    held: dict[str, dict[str, RangeSet]] = field(default_factory=dict)
    """What the routes remember as confirmed: by entity, by epoch, sequences."""


@dataclass(frozen=True, slots=True)
class BooksSeen:
    """An entity's books at one moment. Rows as often as they stand there."""

    entity: str
    rows: tuple[Row, ...]
    told: Told
    redelivered: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that the plant answered, or not, of one kind."""

    device: str
    type: str
    table: str
    first: int
    count: int
    points: int
    """Points of the type that lie inside, as the plant counted them."""
    times: int


@dataclass(frozen=True, slots=True)
class PlantSeen:
    """The plant's log."""

    requests: tuple[Requests, ...]
    counts: dict[str, dict[int, int]]
    """By counter device: each answered count, with the instant of the answer."""
    registers: dict[str, dict[str, tuple[str, int, int]]]
    """By device type, by point: table, address, registers."""


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to look at one state of it; NoEvidence when it cannot be read."""
    if not path.is_file():
        raise NoEvidence(f"there is no file {path} to judge: was it ever written?")
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
        ) as db:
            db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise NoEvidence(f"{path} cannot be judged: {error}") from error


def read_store(gateway: str, path: Path) -> StoreSeen:
    """Read the readings file of a gateway. Raises NoEvidence."""
    rows: list[Row] = []
    teller = _Teller()
    with looking(path) as db:
        epochs = db.execute("SELECT base, epoch FROM epoch ORDER BY base").fetchall()
        bases = [base for base, _ in epochs]
        manifests = {
            hash_: decode_groups(body, path) for hash_, body in db.execute("SELECT hash, body FROM manifest")
        }
        spans = db.execute("SELECT from_id, hash FROM manifest_span ORDER BY from_id").fetchall()
        begins = [begin for begin, _ in spans]
        for id_, grp, _, body in db.execute("SELECT id, grp, tick, body FROM record ORDER BY id"):
            at, span = bisect_right(bases, id_ - 1) - 1, bisect_right(begins, id_) - 1
            if at < 0:
                raise NoEvidence(f"{path}: record {id_} belongs to no epoch")
            identity = Identity(gateway, epochs[at][1], id_ - bases[at])
            groups = manifests.get(spans[span][1], {}) if span >= 0 else {}
            if grp > 0:
                number, tick, *content = json.loads(b"[" + bytes(body))
                if number not in groups:
                    raise NoEvidence(f"{path}: group {number} of record {id_} stands in no manifest")
                rows.append(row_of(identity, groups[number], tick, content))
            elif grp == 0:
                teller.hear(identity, json.loads(bytes(body)), groups)
        held: dict[str, dict[str, RangeSet]] = {}
        for entity, ranges in db.execute("SELECT entity, held FROM route"):
            by_epoch = held.setdefault(entity, {})
            for first, last in json.loads(ranges):
                _spread(by_epoch, epochs, first, last)
    return StoreSeen(gateway, tuple(epoch for _, epoch in epochs), tuple(rows), teller.told(), held)


def _spread(by_epoch: dict[str, RangeSet], epochs: list[tuple[int, str]], first: int, last: int) -> None:
    """Enter ids first..last as sequences of their epochs."""
    for number, (base, epoch) in enumerate(epochs):
        end = epochs[number + 1][0] if number + 1 < len(epochs) else last
        low, high = max(first, base + 1), min(last, end)
        if low <= high:
            by_epoch.setdefault(epoch, RangeSet()).add(low - base, high - base)


def read_books(entity: str, path: Path) -> BooksSeen:
    """Read the books of an entity; every row counts, whatever keys the tables have. Raises NoEvidence."""
    rows: list[Row] = []
    teller = _Teller()
    with looking(path) as db:
        epochs = {
            no: (gateway, epoch) for no, gateway, epoch in db.execute("SELECT no, gateway, epoch FROM epoch")
        }
        manifests = {
            hash_: decode_groups(body.encode(), path)
            for hash_, body in db.execute("SELECT hash, body FROM manifest")
        }
        latest = {
            gateway: manifests[hash_]
            for gateway, hash_ in db.execute("SELECT gateway, hash FROM manifest ORDER BY first_seen_ms")
        }
        groups = {
            no: manifests.get(manifest, {}).get(number)
            for no, manifest, number in db.execute("SELECT no, manifest, number FROM grp")
        }
        for epoch_no, seq, grp_no, tick, body in db.execute(
            "SELECT epoch_no, seq, grp_no, tick, body FROM row"
        ):
            group = groups.get(grp_no)
            if group is None or epoch_no not in epochs:
                raise NoEvidence(f"{path}: row {epoch_no}/{seq} belongs to no known group or epoch")
            rows.append(row_of(Identity(*epochs[epoch_no], seq), group, tick, json.loads(body)))
        current: dict[int, dict[int, Group]] = {}
        records = db.execute(
            "SELECT epoch_no, seq, body FROM record WHERE space = 'data' ORDER BY epoch_no, seq"
        ).fetchall()
        for epoch_no, seq, body in records:
            record = json.loads(body)
            if record.get("type") == "manifest":
                current[epoch_no] = manifests.get(record["hash"], {})
            else:
                known = current.get(epoch_no) or latest.get(epochs[epoch_no][0], {})
                teller.hear(Identity(*epochs[epoch_no], seq), record, known)
        redelivered = db.execute("SELECT sum(n) FROM counter WHERE name = 'readings.redelivered'").fetchone()[
            0
        ]
        conflicts = db.execute("SELECT count(*) FROM conflict").fetchone()[0]
    return BooksSeen(entity, tuple(rows), teller.told(), redelivered or 0, conflicts)


def read_plant(path: Path) -> PlantSeen:
    """Read the plant's log over all its lives. Raises NoEvidence."""
    requests: dict[tuple[str, str, str, int, int, int], int] = {}
    counts: dict[str, dict[int, int]] = {}
    types: dict[str, str] = {}
    registers: dict[str, dict[str, tuple[str, int, int]]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise NoEvidence(f"the plant's log {path} cannot be read: {error.strerror}") from error
    for line in lines:
        if not line.startswith(b"{") or not line.endswith(b"}"):
            continue  # torn by a kill
        entry = json.loads(line)
        match entry["kind"]:
            case "start":
                types.update({one["device"]: one["type"] for one in entry["devices"]})
                for name, points in entry["types"].items():
                    registers[name] = {
                        one["name"]: (one["table"], one["address"], one["registers"]) for one in points
                    }
            case "requests" if entry["function"] in TABLES and entry["device"]:
                table = TABLES[entry["function"]]
                key = (
                    entry["device"],
                    types.get(entry["device"], ""),
                    table,
                    entry["address"],
                    entry["count"],
                    entry["points"],
                )
                requests[key] = requests.get(key, 0) + entry["n"]
            case "count":
                counts.setdefault(entry["device"], {})[entry["count"]] = entry["ms"]
            case _:
                pass
    return PlantSeen(tuple(Requests(*key, times) for key, times in requests.items()), counts, registers)


def decode_groups(body: bytes, path: Path) -> dict[int, Group]:
    """Return the groups of a manifest by their number."""
    try:
        return decode_manifest(body).group_by_number()
    except WireError as error:
        raise NoEvidence(f"{path} holds a manifest that is none: {error}") from error


def row_of(identity: Identity, group: Group, tick: int, content: list[object]) -> Row:
    """Return a row from its parts; `content` is [offsets, values] or [offsets, values, quality]."""
    # Canonical text: a value that became another type (1, 1.0, true, "1") differs.
    digest = blake2b(json.dumps([tick, *content]).encode(), digest_size=16).digest()
    count = None
    values = content[1]
    for point, value in zip(group.points, values if isinstance(values, list) else [], strict=False):
        if point.quantity == COUNTER and isinstance(value, int):
            count = value
    return Row(identity, SeriesKey(identity.gateway, group.key), group, tick, digest, count)


class _Teller:
    """Gathers what records say."""

    def __init__(self) -> None:
        self._gaps: list[GapRecord] = []
        self._steps: set[Identity] = set()
        self._starts: dict[tuple[str, str], int] = {}
        self._gone: dict[tuple[str, str], RangeSet] = {}

    def hear(self, identity: Identity, record: dict[str, object], groups: dict[int, Group]) -> None:
        """Take one record as its JSON has it."""
        match record:
            case {"type": "gap", "group": 0, "epoch": str(epoch)}:
                self._lose(identity.gateway, epoch, record.get("dropped", []))
            case {"type": "gap", "group": int(number), "first_tick": int(first), "last_tick": int(last)}:
                if number in groups:
                    group, ticks = groups[number], record.get("ticks", 0)
                    series = SeriesKey(identity.gateway, group.key)
                    many = ticks if isinstance(ticks, int) else 0
                    reason = str(record.get("reason", ""))
                    self._gaps.append(GapRecord(identity, series, group, first, last, many, reason))
            case {"type": "clock", "step_ms": int(step)} if step:
                self._steps.add(identity)
            case {"type": "start", "at": int(at)}:
                self._starts[identity.gateway, identity.epoch] = at
                before = record.get("before", [])
                for one in before if isinstance(before, list) else []:
                    self._lose(identity.gateway, one["epoch"], one.get("lost", []))
            case _:
                pass

    def told(self) -> Told:
        """Return all that was said."""
        return Told(tuple(self._gaps), frozenset(self._steps), self._starts, self._gone)

    def _lose(self, gateway: str, epoch: str, ranges: object) -> None:
        for first, last in ranges if isinstance(ranges, list) else []:
            self._gone.setdefault((gateway, epoch), RangeSet()).add(first, last)
