"""Books that contradict themselves are found out."""

from collections.abc import Callable

import pytest

from headend.arrival import Stored
from headend.books import Books
from headend.verify import verify
from tests.support.gateway_double import GatewayDouble

Take = Callable[..., list[Stored]]

DAMAGE = {
    "outside the data coverage": "UPDATE coverage SET ranges = '[[1,4]]'",
    "overlap, touch": "UPDATE coverage SET ranges = '[[1,3],[4,5]]'",
    "cannot be read": "UPDATE coverage SET ranges = 'x'",
    "rows of no known group": "UPDATE grp SET no = 99",
    "rows of no known epoch": "UPDATE epoch SET no = 99",
    "a row and a record": "INSERT INTO record VALUES (1, 'data', 5, 'gap', 0, '{}')",
    "no known manifest": "UPDATE grp SET manifest = 'x'",
    "beyond the count": "INSERT INTO given VALUES ('g', 'e', 9007199254740992)",
}


def test_sound_books_have_no_fault(books: Books, take: Take, double: GatewayDouble) -> None:
    take(double.hello(), double.more(9, 12))
    assert list(verify(books.connection)) == []


@pytest.mark.parametrize("sentence", DAMAGE)
def test_damage_is_told(books: Books, take: Take, double: GatewayDouble, sentence: str) -> None:
    take(double.hello())
    books.connection.execute(DAMAGE[sentence])
    assert any(sentence in fault for fault in verify(books.connection))
