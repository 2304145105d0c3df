"""Sizes and numbers against which everything that arrives is held."""

import pytest

from policies.trust import bounds
from policies.trust.assignment import MOST_CONSENTS
from policies.trust.dsse import MOST_SIGNATURES
from policies.trust.held import Versions
from policies.trust.refusals import PolicyRefused, Why, translated
from policies.trust.spool import MOST_SOURCES

KIB, MIB = 1024, 1024 * 1024


def test_bounds_are_what_was_agreed() -> None:
    assert bounds.LONGEST_BUNDLE == 4 * MIB - 4 * KIB
    assert bounds.LONGEST_TIMESTAMP == 4 * KIB
    assert bounds.LONGEST_ASSIGNMENT == bounds.LONGEST_ROOT == 64 * KIB
    assert bounds.LONGEST_SNAPSHOT == 256 * KIB
    assert bounds.LONGEST_ROLE == MIB
    assert bounds.LONGEST_DOCUMENT == 4 * MIB
    assert bounds.LONGEST_TOTAL == 16 * MIB
    assert (bounds.MOST_FILES, bounds.MOST_DOCUMENTS) == (1024, 512)
    assert (MOST_CONSENTS, MOST_SIGNATURES, MOST_SOURCES) == (64, 8, 4)
    assert (bounds.MOST_ENTITIES, bounds.MOST_ROTATIONS) == (256, 256)


def test_who_holds_nothing_holds_the_versions_zero() -> None:
    assert Versions() == Versions(root=0, policy=0, snapshot=0, timestamp=0, assignment=0)


def test_what_a_library_says_of_garbage_is_cut_before_it_is_told() -> None:
    with pytest.raises(PolicyRefused) as caught, translated("it"):
        raise ValueError("x" * 5000)
    assert caught.value.why is Why.MALFORMED
    assert str(caught.value).count("x") == 200 + "it has not the expected form".count("x")
    with pytest.raises(PolicyRefused, match="KeyError"), translated("it"):
        raise KeyError
