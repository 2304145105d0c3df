"""Which meter stood at which usage point, and who owned what, since when, and since when we know.

A term has a validity and the instant at which it became known. For a given tick, of the terms that
hold then, the one known latest counts: a correction adds a term and changes none. Manifests bring
terms; people add them (`portico headend usage-point add`), and theirs come first.

A row carries its manifest and with it the usage point and the owners as the gateway knew them then:
that stands unless a person corrected it. So a change that a manifest brings today does not re-tag the
readings of yesterday that are still on their way.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class UsagePointTerm:
    """A device of a gateway measured a usage point in [from, to)."""

    usage_point: str
    gateway: str
    device: str
    valid_from_ms: int | None
    valid_to_ms: int | None
    known_ms: int
    source: str

    def holds_at(self, at_ms: int) -> bool:
        """Tell whether the term holds at an instant."""
        return (self.valid_from_ms is None or self.valid_from_ms <= at_ms) and (
            self.valid_to_ms is None or at_ms < self.valid_to_ms
        )


@dataclass(frozen=True, slots=True)
class OwnershipTerm:
    """Who owned a group's data in [from, to)."""

    grp_key: str
    device_owner: str
    data_owners: tuple[str, ...]
    steward: str
    validator: str
    purpose: str
    valid_from_ms: int | None
    valid_to_ms: int | None
    known_ms: int

    def holds_at(self, at_ms: int) -> bool:
        """Tell whether the term holds at an instant."""
        return (self.valid_from_ms is None or self.valid_from_ms <= at_ms) and (
            self.valid_to_ms is None or at_ms < self.valid_to_ms
        )


_TERM = "usage_point, gateway, device, valid_from_ms, valid_to_ms, known_ms, source"


def usage_point_terms(
    connection: sqlite3.Connection, gateway: str | None = None, device: str | None = None
) -> list[UsagePointTerm]:
    """Return terms, latest known first; of one gateway, of one device of it, or all."""
    return [
        UsagePointTerm(*found)
        for found in connection.execute(
            f"SELECT {_TERM} FROM usage_point_term WHERE (?1 IS NULL OR gateway = ?1) "
            "AND (?2 IS NULL OR device = ?2) ORDER BY known_ms DESC, rowid DESC",
            (gateway, device),
        )
    ]


def usage_point_at(terms: list[UsagePointTerm], at_ms: int, carried: str) -> str:
    """Return the usage point of a reading; empty when nobody knows it.

    `terms` are those of its device, latest known first; `carried` is what its manifest says.
    """
    holding = [term for term in terms if term.holds_at(at_ms)]
    for term in holding:
        if term.source == "person":
            return term.usage_point
    return carried or (holding[0].usage_point if holding else "")


def add_usage_point(connection: sqlite3.Connection, term: UsagePointTerm) -> None:
    """Add a term, inside a transaction."""
    connection.execute(
        f"INSERT INTO usage_point_term ({_TERM}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            term.usage_point,
            term.gateway,
            term.device,
            term.valid_from_ms,
            term.valid_to_ms,
            term.known_ms,
            term.source,
        ),
    )


def learn_usage_points(connection: sqlite3.Connection, manifest: Manifest, now_ms: int) -> None:
    """Add what a manifest, seen for the first time, says about usage points.

    The first that is heard of a device holds since ever; another usage point later holds from now on,
    and so does a device's return from one that a manifest had named. What a person added is not
    overruled by a manifest that repeats itself.
    """
    for device, usage_point in {group.device: group.usage_point for group in manifest.groups}.items():
        if not usage_point:
            continue
        terms = usage_point_terms(connection, manifest.gateway, device)
        last = next((term for term in terms if term.source == "manifest"), None)
        if last is not None and last.usage_point == usage_point:
            continue
        add_usage_point(
            connection,
            UsagePointTerm(
                usage_point,
                manifest.gateway,
                device,
                None if last is None and not terms else now_ms,
                None,
                now_ms,
                "manifest",
            ),
        )


_OWNED = "device_owner, data_owners, steward, validator, purpose, valid_from_ms, valid_to_ms, known_ms"


def ownership_corrections(connection: sqlite3.Connection, gateway: str, grp_key: str) -> list[OwnershipTerm]:
    """Return the corrections of a group's ownership, latest known first."""
    return [
        OwnershipTerm(grp_key, found[0], tuple(json.loads(found[1])), *found[2:])
        for found in connection.execute(
            f"SELECT {_OWNED} FROM ownership_term WHERE gateway=? AND grp_key=? "
            "AND source = 'person' ORDER BY known_ms DESC, rowid DESC",
            (gateway, grp_key),
        )
    ]


def add_ownership(connection: sqlite3.Connection, gateway: str, device: str, term: OwnershipTerm) -> None:
    """Add a correction of a group's ownership, inside a transaction."""
    connection.execute(
        f"INSERT INTO ownership_term (gateway, device, grp_key, {_OWNED}, source) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'person')",
        (
            gateway,
            device,
            term.grp_key,
            term.device_owner,
            json.dumps(term.data_owners),
            term.steward,
            term.validator,
            term.purpose,
            term.valid_from_ms,
            term.valid_to_ms,
            term.known_ms,
        ),
    )


def learn_ownership(connection: sqlite3.Connection, manifest: Manifest, now_ms: int) -> None:
    """Add what a manifest, seen for the first time, says about ownership and is not known yet.

    A term that states no beginning, and is not the first of its group, began when we heard of it.
    """
    for group in manifest.groups:
        known = connection.execute(
            "SELECT device_owner, data_owners, steward, validator, purpose, valid_from_ms, valid_to_ms "
            "FROM ownership_term WHERE gateway=? AND grp_key=? AND source = 'manifest' ORDER BY rowid",
            (manifest.gateway, group.key),
        ).fetchall()
        for term in group.owners:
            owners = (
                term.device_owner,
                json.dumps(term.data_owners),
                term.steward,
                term.validator,
                term.purpose,
            )
            dated = (*owners, term.valid_from_ms, term.valid_to_ms)
            if dated in known or (term.valid_from_ms is None and known and known[-1][:5] == owners):
                continue
            begins = now_ms if term.valid_from_ms is None and known else term.valid_from_ms
            connection.execute(
                f"INSERT INTO ownership_term (gateway, device, grp_key, {_OWNED}, source) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'manifest')",
                (manifest.gateway, group.device, group.key, *owners, begins, term.valid_to_ms, now_ms),
            )
