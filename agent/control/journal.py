"""What must survive of commands: which came, in what order, what they reserved, and which controls run.

Tables of ``control.db``.  Every function runs in the control writer's thread, in a transaction of its own,
and returns when it is on the disk; what it announces is done after that.  Relies on `agent.control.life`
for which step may follow.  Not here: deciding, and writing to devices.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from agent.control.life import ENDED, Control, State, WrongStep, may_follow
from agent.store.carried import unmark_lost
from policies.command import Command
from policies.decision import Reservation
from policies.facts import Period, Used

KEPT_MS: Final = 2 * 3_600_000
"""A command is remembered for so long after it has expired: nobody takes it any more then."""
RECENT_MS: Final = 60_000
"""So far back answers are told again at a start: they may have been written down and not told."""
TOMBSTONE_MS: Final = 24 * 3_600_000
"""A cancellation that came before its command is remembered for so long: when that expires is not known."""
TOMBSTONES: Final = 64
"""So many of one entity, the latest; what was issued for longer waits nowhere."""
BORN: Final = "control-born"
"""Note: when the journal began, in a store that was there before."""

_COLUMNS: Final = (
    "entity, id, device, point, verb, grant_id, revision, level, preemptible, value, restore_to, hold, "
    "on_comm_loss, comm_loss_after_s, opt_out, begin_ms, end_ms, state, changed_ms, why, "
    "spread_s, least_s, written_ms"
)


@dataclass(frozen=True, slots=True)
class Known:
    """A command that came before."""

    digest: str
    state: State
    code: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a command stands, to be told."""

    entity: str
    id: str
    state: State
    code: str
    device: str
    point: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What the journal holds when the agent starts."""

    controls: tuple[Control, ...]
    """Those that are not ended."""
    used: dict[Period, Used]
    changed: dict[tuple[str, str], int]
    """When the gateway last wrote to a (device, point)."""
    recent: tuple[Answer, ...]
    """What was written down last, and perhaps not told any more."""
    born_ms: int
    """Commands issued before, and budgets of periods begun before, are not known; 0: all are."""


def admit(
    db: sqlite3.Connection, command: Command, digest: str, body: bytes, now_ms: int, born_ms: int
) -> Known | str:
    """Take a command in, once: return what is known of it, a code why not, or ``""``.

    The same id with the same content is the same command; a command older than another one of the entity that
    was accepted for the point comes too late, save a cancellation.  One that was cancelled before it came is
    ``cancelled``.
    """
    entity = command.issuer.entity
    row = db.execute(
        "SELECT digest, state, code FROM command WHERE entity = ? AND id = ?", (entity, command.id)
    ).fetchone()
    if row is not None and not row[0]:
        return "cancelled"
    if row is not None:
        return Known(row[0], State(row[1]), row[2]) if row[0] == digest else "id-reused"
    if command.issued_ms < born_ms:
        return "journal-lost"
    if command.cancels is None and _overtaken(db, command):
        return "out-of-order"
    db.execute(
        "INSERT INTO command (entity, id, digest, expires_ms, state, code, at_ms, device, point, body) "
        "VALUES (?, ?, ?, ?, ?, '', ?, ?, ?, ?)",
        (
            entity,
            command.id,
            digest,
            command.expires_ms,
            State.ACCEPTED.value,
            now_ms,
            command.device,
            command.point,
            body,
        ),
    )
    db.execute(
        "DELETE FROM command WHERE expires_ms < ? AND (entity, id) NOT IN (SELECT entity, id FROM control)",
        (now_ms - KEPT_MS,),
    )
    return ""


def _overtaken(db: sqlite3.Connection, command: Command) -> bool:
    last = db.execute(
        "SELECT issued_ms FROM last_issued WHERE entity = ? AND device = ? AND point = ?",
        (command.issuer.entity, command.device, command.point),
    ).fetchone()
    return last is not None and command.issued_ms < last[0]


def in_order(db: sqlite3.Connection, command: Command) -> bool:
    """Note that a command is accepted: what was issued before it comes too late now.

    False when it comes too late itself: a later one was accepted while it was being decided.  What is refused
    moves the order nowhere, else a key that may command nothing could shut out its whole entity.
    """
    if _overtaken(db, command):
        return False
    key = (command.issuer.entity, command.device, command.point)
    db.execute("INSERT OR REPLACE INTO last_issued VALUES (?, ?, ?, ?)", (*key, command.issued_ms))
    return True


def cancel_unknown(db: sqlite3.Connection, cancel: Command, now_ms: int) -> bool:
    """Remember that a command was cancelled that has not come yet; False when the entity's id is known."""
    entity = cancel.issuer.entity
    new = db.execute(
        "INSERT OR IGNORE INTO command "
        "(entity, id, digest, expires_ms, state, code, at_ms, device, point, body) "
        "VALUES (?, ?, '', ?, ?, 'cancelled', ?, ?, ?, x'')",
        (
            entity,
            cancel.cancels,
            now_ms + TOMBSTONE_MS - KEPT_MS,
            State.CANCELLED.value,
            now_ms,
            cancel.device,
            cancel.point,
        ),
    ).rowcount
    db.execute(
        "DELETE FROM command WHERE entity = ?1 AND digest = '' AND id NOT IN "
        "(SELECT id FROM command WHERE entity = ?1 AND digest = '' ORDER BY at_ms DESC, id DESC LIMIT ?2)",
        (entity, TOMBSTONES),
    )
    return new > 0


def envelope(db: sqlite3.Connection, key: tuple[str, str]) -> bytes:
    """Return a command as it was signed; empty when it is not known any more."""
    row = db.execute("SELECT body FROM command WHERE entity = ? AND id = ?", key).fetchone()
    return b"" if row is None else bytes(row[0])


def note_answer(db: sqlite3.Connection, entity: str, id_: str, state: State, code: str, now_ms: int) -> None:
    """Keep what was answered to a command."""
    db.execute(
        "UPDATE command SET state = ?, code = ?, at_ms = ? WHERE entity = ? AND id = ?",
        (state.value, code, now_ms, entity, id_),
    )


def close_unfinished(db: sqlite3.Connection, now_ms: int) -> tuple[Answer, ...]:
    """End what an agent before this one left unanswered, and is no control; return how each stood.

    What was not decided was not done.  What was dispatched, a clock to be set, may have been written: that it
    is over is all that can be said.
    """
    rows = db.execute(
        "SELECT entity, id, state, code, device, point FROM command WHERE state IN (?, ?) "
        "AND (entity, id) NOT IN (SELECT entity, id FROM control) ORDER BY at_ms",
        (State.ACCEPTED.value, State.DISPATCHED.value),
    ).fetchall()
    found = tuple(Answer(one[0], one[1], State(one[2]), *one[3:]) for one in rows)
    for one in found:
        state = State.REFUSED if one.state is State.ACCEPTED else State.DONE
        note_answer(db, one.entity, one.id, state, "restarted", now_ms)
    return found


def accept(
    db: sqlite3.Connection, command: Command, control: Control, reserve: Iterable[Reservation]
) -> bool:
    """Write a control down, its place in the order and what it takes of its budgets: all, or nothing.

    False when a later command of the entity was accepted meanwhile.
    """
    if not in_order(db, command):
        return False
    for one in reserve:
        db.execute(
            "INSERT INTO budget VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "controls = controls + excluded.controls, seconds = seconds + excluded.seconds",
            (*one.period, one.count, one.seconds),
        )
    db.execute(f"INSERT INTO control ({_COLUMNS}) VALUES ({','.join('?' * 23)})", _row(control))
    note_answer(db, control.entity, control.id, control.state, "", control.changed_ms)
    return True


def step(db: sqlite3.Connection, control: Control, state: State, now_ms: int, why: str = "") -> Control:
    """Take the next step and return the control; `WrongStep` when the table does not allow it."""
    row = db.execute("SELECT state FROM control WHERE entity = ? AND id = ?", control.key).fetchone()
    if row is None or not may_follow(State(row[0]), state):
        raise WrongStep(f"control {control.id} of {control.entity}: {row and row[0]} -> {state.value}")
    after = replace(control, state=state, changed_ms=now_ms, why=why or control.why)
    if state is State.DISPATCHED:
        after = replace(after, written_ms=now_ms)
    db.execute(
        "UPDATE control SET state = ?, changed_ms = ?, why = ?, end_ms = ?, written_ms = ? "
        "WHERE entity = ? AND id = ?",
        (state.value, now_ms, after.why, after.end_ms, after.written_ms, *control.key),
    )
    note_answer(db, control.entity, control.id, state, after.why, now_ms)
    if state is State.DISPATCHED or state is State.RESTORING:
        note_change(db, control.device, control.point, now_ms)
    if state in ENDED:
        db.execute("DELETE FROM control WHERE entity = ? AND id = ?", control.key)
        db.execute("DELETE FROM armed WHERE entity = ? AND id = ?", control.key)
    return after


def note_watchdog(db: sqlite3.Connection, control: Control, register: str, before: int | None) -> None:
    """Keep what a watchdog's register held before a control sets it.

    Where another control has set it already, that is what it held before that one.
    """
    row = db.execute(
        "SELECT before FROM armed JOIN control USING (entity, id) WHERE armed.device = ? AND register = ?",
        (control.device, register),
    ).fetchone()
    db.execute(
        "INSERT OR REPLACE INTO armed VALUES (?, ?, ?, ?, ?)",
        (*control.key, control.device, register, before if row is None else row[0]),
    )


def note_change(db: sqlite3.Connection, device: str, point: str, now_ms: int) -> None:
    """Keep when the gateway wrote to a point."""
    db.execute("INSERT OR REPLACE INTO written VALUES (?, ?, ?)", (device, point, now_ms))


def remember(db: sqlite3.Connection) -> Memory:
    """Return what is to be known at the start."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM control ORDER BY begin_ms").fetchall()
    used = {
        Period(grant, device, unit, first): Used(controls, seconds)
        for grant, device, unit, first, controls, seconds in db.execute("SELECT * FROM budget")
    }
    changed = {(device, point): at for device, point, at in db.execute("SELECT * FROM written")}
    recent = db.execute(
        "SELECT entity, id, state, code, device, point FROM command "
        "WHERE at_ms >= (SELECT max(at_ms) FROM command) - ? AND digest != '' ORDER BY at_ms",
        (RECENT_MS,),
    ).fetchall()
    told = tuple(Answer(one[0], one[1], State(one[2]), *one[3:]) for one in recent)
    note = db.execute("SELECT value FROM meta WHERE key = ?", (BORN,)).fetchone()
    return Memory(tuple(map(_control, rows)), used, changed, told, int(note[0]) if note else 0)


def begin(db: sqlite3.Connection, now_ms: int, *, lost: bool) -> None:
    """Note when the journal began anew, because the one before was lost."""
    if lost:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BORN, str(now_ms)))
        db.execute("UPDATE armed SET before = NULL")  # what is left of it is not sure


def dealt_with(db: sqlite3.Connection) -> None:
    """Note that every point was looked at after the loss of the journal: the next start need not."""
    unmark_lost(db)


def _row(control: Control) -> tuple[object, ...]:
    restore = None if control.restore_to is None else str(control.restore_to)
    return (
        *control.key,
        control.device,
        control.point,
        control.verb,
        control.grant,
        control.revision,
        control.level,
        control.preemptible,
        str(control.value),
        restore,
        control.hold,
        control.on_comm_loss,
        control.comm_loss_after_s,
        control.opt_out,
        control.begin_ms,
        control.end_ms,
        control.state.value,
        control.changed_ms,
        control.why,
        control.spread_s,
        control.least_s,
        control.written_ms,
    )


def _control(row: tuple[object, ...]) -> Control:
    values = list(row)
    values[9] = Decimal(str(row[9]))
    values[10] = None if row[10] is None else Decimal(str(row[10]))
    values[17] = State(row[17])
    return Control(*values)  # type: ignore[arg-type]  # the columns' types are the table's
