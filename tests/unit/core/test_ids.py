"""Names, epochs, hashes and books ids: what is well formed, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import (
    books_born_ms,
    checked_name,
    is_epoch,
    is_hash,
    name_fault,
    new_books_id,
    new_epoch,
)
from tests.unit.core.wire_made import books_ids, names


@given(names)
def test_well_formed_name_is_taken(name: str) -> None:
    assert name_fault(name) is None
    assert checked_name(name, "gateway") == name


@pytest.mark.parametrize(
    "bad",
    ["", ".", "-a", "_a", "a/b", "a+", "#", "a b", "ä", "a\n", "\na", "a\0", "١", "x" * 65, "a$b", "Ａ"],
)
def test_malformed_name_is_refused_with_the_word_that_it_stands_for(bad: str) -> None:
    assert name_fault(bad) is not None
    with pytest.raises(ValueError, match="gateway "):
        checked_name(bad, "gateway")


@given(st.text(max_size=70))
def test_no_name_holds_what_mqtt_gives_a_meaning_to(text: str) -> None:
    if name_fault(text) is None:
        assert not set(text) & set("/+#$\0 ")
        assert text.isascii()
        assert 1 <= len(text) <= 64


def test_new_epochs_are_epochs_and_differ() -> None:
    made = {new_epoch() for _ in range(100)}
    assert len(made) == 100
    assert all(is_epoch(one) for one in made)


@pytest.mark.parametrize("bad", ["", "0" * 15, "0" * 17, "0" * 15 + "G", "A" * 16, "0" * 16 + "\n", "٠" * 16])
def test_malformed_epoch_is_none(bad: str) -> None:
    assert not is_epoch(bad)
    assert not is_hash(bad * 2)


@given(st.integers(0, 10**13 - 1))
def test_books_id_tells_when_the_books_were_made(born_ms: int) -> None:
    assert books_born_ms(new_books_id(born_ms)) == born_ms


@given(books_ids, books_ids)
def test_books_ids_order_as_their_instants(one: str, two: str) -> None:
    if books_born_ms(one) != books_born_ms(two):
        assert (one < two) is (books_born_ms(one) < books_born_ms(two))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "-",
        "1" * 13,
        "1" * 12 + "-00000000",
        "1" * 13 + "-0000000",
        "1" * 13 + "-0000000G",
        "²" * 13 + "-" + "0" * 8,
    ],
)
def test_malformed_books_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="books id"):
        books_born_ms(bad)
