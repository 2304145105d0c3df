"""The audit file: what is cut, changed or rewritten is found, and what cannot be written is not done."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.store.audit import MAX_WAITING, AuditFile
from agent.store.auditlook import AuditLook, proof_as_json, proof_from_json
from agent.store.schema import AUDIT_TABLES, ROOM_TABLE
from core.checkpoint import Checkpoint
from core.errors import AuditUnavailable, ConfigError, StoreCorrupt
from core.merkle import consistent

ORIGIN = "portico/v1/gw-0001/evt/audit"


@contextmanager
def log(path: Path, entries: int = 0) -> Iterator[AuditFile]:
    file = AuditFile(path)
    try:
        for number in range(entries):
            file.append(1_000 + number, "decision", {"id": f"c-{number}", "allow": number % 2 == 0})
        yield file
    finally:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def change(path: Path, *statements: str) -> None:
    """Do what somebody who owns the box does: the trigger is no obstacle to them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TRIGGER event_stays")
        for statement in statements:
            db.execute(statement)


def faults(path: Path) -> tuple[str, ...]:
    with AuditLook(path) as look:
        return look.verify().faults


def head_of(path: Path) -> Checkpoint:
    with AuditLook(path) as look:
        return look.checkpoint(ORIGIN)


def test_a_log_that_nobody_touched_has_no_fault_also_after_it_was_opened_again(path: Path) -> None:
    with log(path, 5):
        pass
    with log(path, 300):
        pass
    with AuditLook(path) as look:
        verdict = look.verify()
        assert (verdict.faults, verdict.entries, verdict.size) == ((), 305, 305)
        assert [entry.number for entry in look.last(3)] == [303, 304, 305]


def test_an_empty_log_has_no_fault(path: Path) -> None:
    with log(path):
        pass
    assert faults(path) == ()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE event SET body = replace(body, 'true', 'false') WHERE id = 7", "entry 7 is not what"),
        ("UPDATE event SET at_ms = at_ms - 1 WHERE id = 7", "entry 7 is not what"),
        ("UPDATE event SET kind = 'clock' WHERE id = 7", "entry 7 is not what"),
        ("UPDATE event SET leaf = zeroblob(32) WHERE id = 7", "entry 7 is not what"),
        ("DELETE FROM event WHERE id = 7", "entries 7 to 7 are missing"),
        ("DELETE FROM event WHERE id > 7", "the tree is of 20 entries, the log has 7"),
        ("DELETE FROM event WHERE id < 7", "entries 1 to 6 are missing"),
        ("UPDATE tree SET last = zeroblob(32)", "the tree is of 20 entries"),
    ],
)
def test_what_was_changed_inside_is_found(path: Path, statement: str, told: str) -> None:
    with log(path, 20):
        pass
    change(path, statement)
    assert [fault for fault in faults(path) if told in fault]


def test_a_rewritten_log_is_consistent_in_itself_and_not_with_a_head_that_was_published(path: Path) -> None:
    with log(path, 20):
        pass
    published = head_of(path)
    path.unlink()
    with log(path) as again:
        for number in range(25):
            again.append(1_000 + number, "decision", {"id": f"c-{number}", "allow": False})
    assert faults(path) == ()
    with AuditLook(path) as look:
        assert "was rewritten" in str(look.continues(published))


def test_a_cut_log_is_found_by_a_head_that_was_published(path: Path) -> None:
    with log(path, 20):
        pass
    published = head_of(path)
    path.unlink()
    with log(path, 15):
        pass
    with AuditLook(path) as look:
        assert "was cut" in str(look.continues(published))


def test_a_log_that_went_on_continues_every_head(path: Path) -> None:
    heads = []
    with log(path) as file:
        for number in range(40):
            file.append(number, "clock", {})
            head = file.head()
            heads.append(Checkpoint(ORIGIN, head.size, head.root))
    with AuditLook(path) as look:
        assert [look.continues(head) for head in heads] == [None] * 40


def test_a_head_proves_that_it_continues_the_last_ones_published(path: Path) -> None:
    with log(path) as file:
        published = {}
        for round_ in range(12):
            for number in range(round_ + 1):
                file.append(number, "clock", {"n": number})
            head = file.head()
            published[head.size] = head.root
            file.note_head(head.size, 0, Checkpoint(ORIGIN, head.size, head.root).text())
        file.append(99, "clock", {})
        head = file.head()
    assert [size for size, _ in head.proofs] == sorted(published, reverse=True)[:8]
    for size, proof in head.proofs:
        assert consistent(size, head.size, published[size], head.root, proof)


def test_an_entry_is_proved_without_the_others_and_no_other_entry_by_that_proof(path: Path) -> None:
    with log(path, 33):
        pass
    head = head_of(path)
    with AuditLook(path) as look:
        for number in (1, 2, 17, 32, 33):
            proof = proof_from_json(json.loads(json.dumps(proof_as_json(look.prove(number)))))
            assert proof.holds(head)
            assert json.loads(proof.entry)["body"]["id"] == f"c-{number - 1}"
            assert not replace(proof, entry=proof.entry.replace(b"c-", b"d-")).holds(head)
            assert not replace(proof, number=number % 33 + 1).holds(head)
        with pytest.raises(ConfigError, match="there is no entry 34: the log holds 1 to 33"):
            look.prove(34)


def test_dropping_the_oldest_leaves_everything_provable_that_stays(path: Path) -> None:
    with log(path, 400) as file:
        before = file.head()
        file.note_head(before.size, 0, Checkpoint(ORIGIN, before.size, before.root).text())
        assert file.drop_old(keep=300) == 100
        assert file.drop_old(keep=300) == 0
        file.append(9, "clock", {})
        head = file.head()
        assert consistent(400, 401, before.root, head.root, dict(head.proofs)[400])
    with AuditLook(path) as look:
        verdict = look.verify()
        assert (verdict.faults, verdict.entries, verdict.dropped) == ((), 301, 100)
        assert look.prove(101).holds(head_of(path))
        assert look.continues(Checkpoint(ORIGIN, 400, before.root)) is None
        with pytest.raises(ConfigError, match="holds 101 to 401"):
            look.prove(100)
    with log(path, 1) as file:
        assert file.head().size == 402


def test_a_file_of_the_first_version_gets_its_hashes_at_opening(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in (*AUDIT_TABLES, ROOM_TABLE, "PRAGMA user_version = 1"):
            db.execute(statement)
        db.execute("INSERT INTO event (at_ms, kind, body) VALUES (5, 'start', '{\"epoch\": \"x\"}')")
        db.execute("INSERT INTO event (at_ms, kind, body) VALUES (6, 'stop', '{}')")
    with log(path, 1):
        pass
    with AuditLook(path) as look:
        assert look.verify().faults == ()
        assert [entry.kind for entry in look.entries()] == ["start", "stop", "decision"]


def test_entries_that_were_put_in_by_another_hand_stop_the_file_from_being_used(path: Path) -> None:
    with log(path, 3):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO event VALUES (4, 1, 'decision', '{}', zeroblob(32))")
    with pytest.raises(StoreCorrupt, match="entries that its tree does not know"):
        AuditFile(path)


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Keep the file locked, as a disk that takes nothing does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("ROLLBACK")


def test_what_cannot_be_written_now_raises_and_is_never_written(path: Path) -> None:
    with log(path, 2) as file:
        file._db.execute("PRAGMA busy_timeout = 10")
        with unwritable(path), pytest.raises(AuditUnavailable, match="cannot be written"):
            file.append_now(5, "decision", {"id": "never"})
        assert file.append_now(6, "decision", {"id": "later"}) == 3
    with AuditLook(path) as look:
        assert look.verify().faults == ()
        assert [json.loads(entry.body)["id"] for entry in look.entries()] == ["c-0", "c-1", "later"]


def test_what_may_wait_waits_in_order_and_what_was_too_much_is_told(path: Path) -> None:
    with log(path, 1) as file:
        file._db.execute("PRAGMA busy_timeout = 1")
        with unwritable(path):
            for number in range(MAX_WAITING + 7):
                file.append(number, "clock", {"n": number})
            with pytest.raises(AuditUnavailable):
                file.append_now(0, "decision", {})
        assert (file.waiting, file.refused) == (MAX_WAITING, 7)
        file.retry()
        assert file.waiting == 0
        assert file.append_now(0, "decision", {}) == 1 + MAX_WAITING + 2
    with AuditLook(path) as look:
        entries = list(look.entries(1))
        assert [json.loads(entry.body)["n"] for entry in entries[:MAX_WAITING]] == list(range(MAX_WAITING))
        assert (entries[MAX_WAITING].kind, entries[MAX_WAITING].body) == ("lost", '{"entries":7}')
        assert look.verify().faults == ()


def test_no_bit_of_an_entry_can_change_unseen(path: Path) -> None:
    with log(path, 30):
        pass
    rng = random.Random(4)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TRIGGER event_stays")
        for _ in range(60):
            id_ = rng.randint(1, 30)
            (body,) = db.execute("SELECT body FROM event WHERE id = ?", (id_,)).fetchone()
            at = rng.randrange(len(body))
            changed = body[:at] + chr(ord(body[at]) ^ (1 << rng.randrange(6))) + body[at + 1 :]
            db.execute("UPDATE event SET body = ? WHERE id = ?", (changed, id_))
            assert faults(path) == (f"entry {id_} is not what was written",)
            db.execute("UPDATE event SET body = ? WHERE id = ?", (body, id_))
    assert faults(path) == ()
