"""The hash tree: values that others published, proofs over every size, and what a forged one is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.merkle import EMPTY_ROOT, Peaks, Tree, consistent, included, leaf_hash, node_hash

ENTRIES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")] + [
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
"""The eight entries of Certificate Transparency's own tests (google/certificate-transparency,
cpp/merkletree/merkle_tree_test.cc), with the roots of their trees."""
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_of(leaves: list[bytes], dropped: int = 0) -> Tree:
    peaks = Peaks()
    for leaf in leaves[:dropped]:
        peaks = peaks.with_leaf(leaf)

    def read(begin: int, end: int) -> list[bytes]:
        assert begin >= dropped, "a dropped leaf was asked for"
        return leaves[begin:end]

    return Tree(read, peaks)


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962 2.1, word by word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_that_others_published(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]
    peaks = Peaks()
    for leaf in leaves:
        peaks = peaks.with_leaf(leaf)
    assert peaks.root.hex() == tree_of(leaves).root(size).hex() == ROOTS[size - 1]


@pytest.mark.parametrize("size", [*range(1, 40), 64, 65, 100])
def test_every_leaf_and_every_earlier_size_is_proved(size: int) -> None:
    leaves = leaves_of(size)
    tree = tree_of(leaves)
    root = naive_root(leaves)
    for index, leaf in enumerate(leaves):
        assert included(leaf, index, size, tree.inclusion(index, size), root)
    for old in range(1, size + 1):
        assert consistent(old, size, naive_root(leaves[:old]), root, tree.consistency(old, size))


@given(st.integers(1, 70), st.data())
def test_a_log_that_dropped_its_oldest_entries_proves_the_others_alike(
    size: int, data: st.DataObject
) -> None:
    leaves = leaves_of(size)
    dropped = data.draw(st.integers(0, size - 1))
    whole, rest = tree_of(leaves), tree_of(leaves, dropped)
    assert rest.root(size) == whole.root(size)
    index = data.draw(st.integers(dropped, size - 1))
    assert rest.inclusion(index, size) == whole.inclusion(index, size)
    old = data.draw(st.integers(max(dropped, 1), size))
    assert rest.consistency(old, size) == whole.consistency(old, size)


@given(st.integers(2, 60), st.data())
def test_a_proof_of_something_else_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree, root = tree_of(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index, size)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index))
    assert not included(leaves[other], index, size, proof, root)
    assert not included(leaves[index], other, size, proof, root)
    assert not included(leaves[index], index, size, proof[:-1], root)
    assert not included(leaves[index], index, size, [*proof, root], root)
    old = data.draw(st.integers(1, size - 1))
    path, old_root = tree.consistency(old, size), naive_root(leaves[:old])
    rewritten = [leaf_hash(b"x"), *leaves[1:]]
    assert not consistent(old, size, naive_root(rewritten[:old]), root, path)
    assert not consistent(old, size, old_root, naive_root(rewritten), path)
    assert not consistent(old, size, old_root, root, path[:-1])
    assert not consistent(old, size, old_root, root, [*path, root])


def test_an_empty_log_is_the_beginning_of_every_one() -> None:
    assert consistent(0, 3, EMPTY_ROOT, naive_root(leaves_of(3)), [])
    assert not consistent(0, 3, naive_root(leaves_of(1)), naive_root(leaves_of(3)), [])
    assert Peaks().root == EMPTY_ROOT


def test_peaks_that_are_not_of_a_size_are_refused() -> None:
    peaks = Peaks()
    for leaf in leaves_of(5):
        peaks = peaks.with_leaf(leaf)
    assert Peaks.decode(5, peaks.encode()) == peaks
    with pytest.raises(ValueError, match="no tree of 6"):
        Peaks.decode(6, peaks.encode() + b"x")
