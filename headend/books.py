"""The books: one connection that writes, its transactions, and what is remembered between them.

Several collectors may share a file. What is kept in memory is good only while nobody else wrote, so
each transaction takes the write lock first and then asks `PRAGMA data_version`. A transaction that
fails leaves nothing behind, in the file or in memory, and may be tried again with the same messages.

Whether the books went back in time is judged by `headend.identity`.

Not here: the tables (`headend.schema`), how a message is stored (`headend.arrival`), looking into the
books (`headend.readings` and beside it).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from certs.signing import Signer
from core.errors import StoreError, WireError
from core.manifest import decode_manifest
from core.ranges import RangeSet
from core.records import StreamMessage
from headend.alarms import Alarms, Code
from headend.identity import Identity
from headend.known import KnownManifest
from headend.ledger import Ledger, Space
from headend.schema import BooksReplaced, open_writer, translated
from headend.terms import learn_ownership, learn_usage_points

REMEMBERED: Final = 50_000
"""Epochs, groups and gateways kept in memory; with more, all are read again."""


@dataclass(slots=True)
class Epoch:
    """What decides about an epoch: how it was closed, if it was."""

    no: int
    gateway: str
    epoch: str
    closed_last: int | None
    control_last: int | None
    low: int


class Books:
    """Books open for writing. One thread owns them."""

    def __init__(self, path: Path, now_ms: int) -> None:
        """Open the file, or make it. Raises ConfigError and StoreError."""
        self.path: Final = path
        self.connection = open_writer(path, now_ms)
        self.ledger = Ledger(self.connection)
        self.identity = Identity(self.connection, path)
        self.alarms = Alarms()
        self.now_ms = now_ms
        self._file = _identity(path)
        self._version = -1
        self._counts: Counter[tuple[str, str]] = Counter()
        self._epochs: dict[tuple[str, str], Epoch] = {}
        self._groups: dict[tuple[str, int], int] = {}
        self._gateways: set[str] = set()
        try:
            with self.transaction(now_ms):
                self._begin()
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self.connection.close()

    @contextmanager
    def transaction(self, now_ms: int) -> Iterator[None]:
        """All that is done inside is committed at the end, durably, or nothing of it.

        Raises BooksReplaced when the file at the path is another one now, and StoreError.
        """
        with translated(self.path):
            if _identity(self.path) != self._file:
                raise BooksReplaced(f"the books {self.path} were replaced under the collector")
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                self.now_ms = now_ms
                self._refresh()
                yield
                self._save()
                self.connection.execute("COMMIT")
            except BaseException:
                self._forget()
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self.identity.committed()
            self.alarms.clear()
            self._counts.clear()

    @property
    def books_id(self) -> str:
        """The id of these books, as of this transaction."""
        return self.identity.books_id

    def next_n(self, gateway: str, entity: str) -> int:
        """Return the number of the next confirmation or question, and note that this gateway gets it."""
        return self.identity.next_n(gateway, entity)

    def count(self, name: str, gateway: str, number: int = 1) -> None:
        """Count something, durably."""
        self._counts[name, gateway] += number

    def alarm(self, code: str, gateway: str, text: str) -> None:
        """Raise an alarm of the head-end."""
        self.alarms.add(code, gateway, text, self.now_ms)

    def epoch(self, gateway: str, epoch: str) -> Epoch:
        """Return an epoch; one that was never heard of is entered."""
        known = self._epochs.get((gateway, epoch))
        if known is not None:
            return known
        found = self.connection.execute(
            "SELECT no, closed_last, control_last, low FROM epoch WHERE gateway=? AND epoch=?",
            (gateway, epoch),
        ).fetchone()
        if found is None:
            cursor = self.connection.execute(
                "INSERT INTO epoch (gateway, epoch, first_seen_ms) VALUES (?, ?, ?)",
                (gateway, epoch, self.now_ms),
            )
            if cursor.lastrowid is None:
                raise StoreError(f"the books {self.path} gave no number to a new epoch")
            known = Epoch(cursor.lastrowid, gateway, epoch, None, None, 1)
        else:
            known = Epoch(found[0], gateway, epoch, found[1], found[2], found[3])
        self._epochs[gateway, epoch] = known
        return known

    def group(self, known: KnownManifest, number: int) -> int:
        """Return the number in the books of a group of a manifest, which is entered when it is new."""
        no = self._groups.get((known.hash, number))
        if no is None:
            self.enter_manifest(known)
            for grp_no, each in self.connection.execute(
                "SELECT no, number FROM grp WHERE manifest=?", (known.hash,)
            ):
                self._groups[known.hash, each] = grp_no
            no = self._groups[known.hash, number]
        return no

    def enter_manifest(self, known: KnownManifest) -> None:
        """Keep a manifest, its groups, and what it says about usage points and ownership."""
        manifest = known.manifest
        if self.connection.execute("SELECT 1 FROM manifest WHERE hash=?", (known.hash,)).fetchone():
            return
        self.connection.execute(
            "INSERT INTO manifest (hash, gateway, first_seen_ms, body) VALUES (?, ?, ?, ?)",
            (known.hash, manifest.gateway, self.now_ms, manifest.encode().decode()),
        )
        self.connection.executemany(
            "INSERT INTO grp (manifest, number, gateway, key, device, device_type, every_ms, phase_ms, "
            "usage_point, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    known.hash,
                    group.group,
                    manifest.gateway,
                    group.key,
                    group.device,
                    group.device_type,
                    group.every_ms,
                    group.phase_ms,
                    group.usage_point,
                    msgspec.json.encode(group).decode(),
                )
                for group in manifest.groups
            ],
        )
        learn_usage_points(self.connection, manifest, self.now_ms)
        learn_ownership(self.connection, manifest, self.now_ms)

    def seen(self, gateway: str) -> None:
        """Note that a gateway was heard of now."""
        self.connection.execute(
            "INSERT INTO gateway (gateway, first_seen_ms, last_seen_ms) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last_seen_ms = excluded.last_seen_ms",
            (gateway, self.now_ms, self.now_ms),
        )
        self._gateways.add(gateway)

    def knows(self, gateway: str) -> bool:
        """Tell whether something of a gateway was ever taken."""
        if gateway not in self._gateways:
            found = self.connection.execute("SELECT 1 FROM gateway WHERE gateway=?", (gateway,)).fetchone()
            if found is None:
                return False
            self._gateways.add(gateway)
        return True

    def note_state(self, gateway: str, state: str) -> None:
        """Keep the last state that a gateway claimed."""
        self.connection.execute("UPDATE gateway SET state=? WHERE gateway=?", (state, gateway))

    def check_identity(self, message: StreamMessage, entity: str, may_renew: bool) -> bool:
        """Take a new id when a gateway has heard of a later state of these books; True when they did.

        `may_renew` False: only raise the alarm (one gateway must not make all others send again and
        again).
        """
        evidence = self.identity.evidence(message, entity, self.now_ms)
        if evidence is None:
            return False
        if not evidence.credible:
            self.alarm(Code.BOOKS_AHEAD, message.gateway, evidence.text)
            return False
        if not may_renew:
            self.alarm(Code.BOOKS_RESTORED, message.gateway, f"{evidence.text}; not acted upon again so soon")
            return False
        self.identity.renew(self.now_ms, evidence.later_id, evidence.later_n, evidence.text)
        self._alarm_restored(message.gateway, evidence.text)
        return True

    def held_of(self, gateway: str, entity: str, limit: int) -> list[str]:
        """Return the latest epochs of a gateway of which something is held, at most `limit`."""
        return [
            epoch
            for (epoch,) in self.connection.execute(
                "SELECT epoch FROM epoch WHERE gateway=? AND EXISTS (SELECT 1 FROM coverage "
                "WHERE epoch_no = no AND entity=?) ORDER BY no DESC LIMIT ?",
                (gateway, entity, limit),
            )
        ]

    def held(self, gateway: str, epoch: str, entity: str, space: Space) -> RangeSet:
        """Return what is covered of an epoch; not to be changed."""
        return self.ledger.held(self.epoch(gateway, epoch).no, entity, space)

    def manifest(self, digest: str, entity: str) -> KnownManifest | None:
        """Return a manifest that was kept earlier (`intake.Library`)."""
        with translated(self.path):
            found = self.connection.execute("SELECT body FROM manifest WHERE hash=?", (digest,)).fetchone()
        if found is None:
            return None
        try:
            return KnownManifest(digest, decode_manifest(found[0].encode()), entity)
        except WireError:
            return None

    def certificates(self, kid: bytes, subject: str) -> list[bytes]:
        """Return the certificates kept for a key and its subject (`intake.Library`)."""
        with translated(self.path):
            return [
                der
                for (der,) in self.connection.execute(
                    "SELECT der FROM certificate WHERE kid=? AND subject=? "
                    "ORDER BY not_after_ms DESC LIMIT 8",
                    (kid.hex(), subject),
                )
            ]

    def enter_certificate(self, signer: Signer, fingerprint: str) -> None:
        """Keep a certificate, so that what it signed can be judged in later years."""
        if self.connection.execute(
            "SELECT 1 FROM certificate WHERE fingerprint=?", (fingerprint,)
        ).fetchone():
            return
        self.connection.execute(
            "INSERT INTO certificate (fingerprint, kid, subject, role, not_before_ms, not_after_ms, "
            "first_seen_ms, der) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fingerprint,
                signer.kid.hex(),
                signer.subject,
                signer.role,
                int(signer.not_before.timestamp() * 1000),
                int(signer.not_after.timestamp() * 1000),
                self.now_ms,
                signer.der,
            ),
        )

    def _begin(self) -> None:
        found = self.identity.begin(self.now_ms)
        if found:
            self._alarm_restored("", found)

    def _alarm_restored(self, gateway: str, proof: str) -> None:
        self.alarm(
            Code.BOOKS_RESTORED,
            gateway,
            f"{proof}: they were put back to an older state; all gateways send again what they still hold",
        )

    def _refresh(self) -> None:
        version: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or not self.identity.books_id:
            self._forget()
            self._version = version
            self.identity.read()
        elif len(self._epochs) + len(self._groups) + len(self._gateways) > REMEMBERED:
            self._epochs.clear()
            self._groups.clear()
            self._gateways.clear()

    def _save(self) -> None:
        self.ledger.save()
        self.identity.save()
        self.alarms.save(self.connection)
        self.connection.executemany(
            "INSERT INTO counter (name, gateway, n) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(name, gateway, number) for (name, gateway), number in self._counts.items()],
        )

    def _forget(self) -> None:
        self.ledger.forget()
        self.alarms.clear()
        self._counts.clear()
        self._epochs.clear()
        self._groups.clear()
        self._gateways.clear()
        self.identity.forget()


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise BooksReplaced(f"the books {path} are gone ({error.strerror})") from error
    return status.st_dev, status.st_ino
