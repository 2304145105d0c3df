"""The hash tree of RFC 6962 (and RFC 9162 section 2.1): roots, proofs, and their judgement.

Leaves are hashes made by :func:`leaf_hash`.  A log that dropped its oldest leaves still proves
everything about the others: of what went before, the roots of the perfect subtrees stay
(:class:`Peaks`).  Pure.  Deliberately not here: what a leaf stands for, and who signs a root.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
BLOCK: Final = 128
"""Leaves that are hashed again rather than remembered."""
EMPTY_ROOT: Final = sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"

Leaves = Callable[[int, int], Sequence[bytes]]
"""Returns the leaf hashes from one index up to, not including, another."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Peaks:
    """A tree of ``size`` leaves, as the roots of its perfect subtrees, largest (and oldest) first."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def with_leaf(self, leaf: bytes) -> "Peaks":
        """Return the tree with one leaf more."""
        roots, rest = list(self.roots), self.size
        while rest & 1:
            leaf = node_hash(roots.pop(), leaf)
            rest >>= 1
        return Peaks(self.size + 1, (*roots, leaf))

    @property
    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self.roots:
            return EMPTY_ROOT
        *before, found = self.roots
        for left in reversed(before):
            found = node_hash(left, found)
        return found

    def encode(self) -> bytes:
        """Return the roots one after another; with the size they are the whole."""
        return b"".join(self.roots)

    @classmethod
    def decode(cls, size: int, encoded: bytes) -> "Peaks":
        """Return what :meth:`encode` wrote; ``ValueError`` when it is not of a tree of that size."""
        if size < 0 or len(encoded) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"{len(encoded)} bytes are no tree of {size} leaves")
        return cls(size, tuple(encoded[i : i + HASH_BYTES] for i in range(0, len(encoded), HASH_BYTES)))

    def subtree(self, begin: int, end: int) -> bytes | None:
        """Return the hash of the perfect subtree over leaves ``begin..end-1`` when it is a peak."""
        at = 0
        for root, bit in zip(self.roots, _bits(self.size), strict=True):
            if (at, at + bit) == (begin, end):
                return root
            at += bit
        return None


class Tree:
    """A log from which proofs are made: its peaks where leaves were dropped, and the leaves since."""

    def __init__(self, leaves: Leaves, dropped: Peaks | None = None) -> None:
        """Take what reads leaf hashes; none is read below the size of ``dropped``."""
        self._leaves = leaves
        self._dropped = dropped or Peaks()
        self._blocks: dict[tuple[int, int], bytes] = {}
        """Hashes of perfect subtrees of a block and more, which never change."""

    def root(self, size: int) -> bytes:
        """Return the hash over the first ``size`` leaves; ``ValueError`` where too much was dropped."""
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that a leaf is in the tree of a size (RFC 9162 2.1.3.1); ``ValueError``."""
        if not self._dropped.size <= index < size:
            raise ValueError(f"entry {index} is not in the log of {self._dropped.size} to {size}")
        return self._path(index, 0, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that a tree is a prefix of another (RFC 9162 2.1.4.1); ``ValueError``."""
        if not 0 < old <= new:
            raise ValueError(f"there is no proof from size {old} to {new}")
        return [] if old == new else self._subproof(old, 0, new, whole=True)

    def _hash(self, begin: int, end: int) -> bytes:
        if end <= self._dropped.size:
            peak = self._dropped.subtree(begin, end)
            if peak is None:
                raise ValueError(f"entries before {self._dropped.size} were dropped")
            return peak
        if end - begin == 1:
            return self._leaves(begin, end)[0]
        length = end - begin
        if length <= BLOCK and begin >= self._dropped.size:
            return _root_of(self._leaves(begin, end))
        known = self._blocks.get((begin, end))
        if known is not None:
            return known
        middle = begin + _split(length)
        found = node_hash(self._hash(begin, middle), self._hash(middle, end))
        if length & (length - 1) == 0:
            self._blocks[begin, end] = found
        return found

    def _path(self, index: int, begin: int, end: int) -> list[bytes]:
        if end - begin == 1:
            return []
        middle = begin + _split(end - begin)
        if index < middle:
            return [*self._path(index, begin, middle), self._hash(middle, end)]
        return [*self._path(index, middle, end), self._hash(begin, middle)]

    def _subproof(self, old: int, begin: int, end: int, *, whole: bool) -> list[bytes]:
        if old == end:
            return [] if whole else [self._hash(begin, end)]
        middle = begin + _split(end - begin)
        if old <= middle:
            return [*self._subproof(old, begin, middle, whole=whole), self._hash(middle, end)]
        return [*self._subproof(old, middle, end, whole=False), self._hash(begin, middle)]


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Judge a proof of inclusion (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(step, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, step)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def consistent(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Judge a proof of consistency (RFC 9162 2.1.4.2); an empty tree is the beginning of every one."""
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if not 0 < old < new or not proof:
        return False
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, step)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _root_of(leaves: Sequence[bytes]) -> bytes:
    peaks = Peaks()
    for leaf in leaves:
        peaks = peaks.with_leaf(leaf)
    return peaks.root


def _split(count: int) -> int:
    """Return the largest power of two below a count of two or more."""
    return int(1 << (count - 1).bit_length() - 1)


def _bits(number: int) -> list[int]:
    return [1 << i for i in reversed(range(number.bit_length())) if number >> i & 1]
