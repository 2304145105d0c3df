"""Heads of audit logs: what continues, what was cut, what was rewritten, and what cannot be known."""

import base64

import pytest

from core.checkpoint import Checkpoint
from core.merkle import Tree, leaf_hash
from core.records import AuditHead, AuditProof
from headend.auditheads import Held, Verdict, judged

ORIGIN = "portico/v1/gw-0001/evt/audit"


def leaves(count: int, changed: int = -1) -> list[bytes]:
    return [leaf_hash(b"%d" % (number if number != changed else 1000)) for number in range(count)]


def message(log: list[bytes], *proved: int, at: int = 2_000) -> tuple[AuditHead, Checkpoint]:
    tree = Tree(lambda begin, end: log[begin:end])
    size = len(log)
    found = Checkpoint(ORIGIN, size, tree.root(size))
    proofs = [
        AuditProof(old, [base64.b64encode(one).decode() for one in tree.consistency(old, size)])
        for old in proved
    ]
    return AuditHead(1, "gw-0001", found.text(), at, proofs), found


def held(log: list[bytes], at_ms: int = 1_000) -> Held:
    return Held(len(log), Tree(lambda begin, end: log[begin:end]).root(len(log)), at_ms)


def test_the_first_head_is_taken_as_it_is() -> None:
    assert judged(None, *message(leaves(3))) is Verdict.FIRST


def test_a_log_that_grew_continues_by_its_proof() -> None:
    assert judged(held(leaves(3)), *message(leaves(9), 5, 3)) is Verdict.CONTINUES
    assert judged(held([]), *message(leaves(2))) is Verdict.CONTINUES


def test_the_same_head_again_is_nothing_new() -> None:
    assert judged(held(leaves(3)), *message(leaves(3))) is Verdict.SAME


@pytest.mark.parametrize("changed", [0, 2])
def test_a_rewritten_log_cannot_prove_that_it_continues(changed: int) -> None:
    assert judged(held(leaves(3)), *message(leaves(9, changed), 3)) is Verdict.REWRITTEN
    assert judged(held(leaves(3)), *message(leaves(3, changed))) is Verdict.REWRITTEN


def test_a_proof_that_is_none_is_a_rewritten_log() -> None:
    head, found = message(leaves(9), 3)
    forged = AuditHead(1, "gw-0001", head.note, 2_000, [AuditProof(3, ["!"])])
    assert judged(held(leaves(3)), forged, found) is Verdict.REWRITTEN


def test_a_shorter_log_that_was_signed_later_was_cut() -> None:
    assert judged(held(leaves(9)), *message(leaves(4), at=5_000)) is Verdict.CUT


def test_an_older_head_that_a_broker_brings_back_is_nothing_new() -> None:
    assert judged(held(leaves(9), at_ms=9_000), *message(leaves(4), at=5_000)) is Verdict.SAME


def test_too_many_missed_heads_are_not_taken_for_a_proof() -> None:
    assert judged(held(leaves(3)), *message(leaves(9), 5, 7)) is Verdict.UNPROVEN
