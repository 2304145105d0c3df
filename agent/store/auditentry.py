"""An entry of the audit as the bytes that are hashed, and the chain that entries make.  Pure."""

import json
from dataclasses import dataclass
from typing import Final

from core.merkle import HASH_BYTES, Peaks, leaf_hash

NOTHING_BEFORE: Final = bytes(HASH_BYTES)
"""What the first entry names as the hash before it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The entries so far: their tree and the hash of the last."""

    peaks: Peaks
    last: bytes


def canonical(number: int, at_ms: int, kind: str, body: str) -> bytes:
    """Return an entry as bytes: number (from 1), milliseconds of Unix time, kind, its JSON as stored."""
    return f'{{"at":{at_ms},"body":{body},"kind":{json.dumps(kind)},"n":{number}}}'.encode()


def chained(chain: Chain, entry: bytes) -> Chain:
    """Return the chain with one entry more: a leaf is the hash of the leaf before and the entry."""
    leaf = leaf_hash(chain.last + entry)
    return Chain(chain.peaks.with_leaf(leaf), leaf)
