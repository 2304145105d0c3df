"""The page about the books names everything that is in them."""

import re
from pathlib import Path

from headend.alarms import Code
from headend.books import Books
from headend.intake import Refusal
from headend.schema import APPLICATION, VERSION

PAGE = (Path(__file__).parents[3] / "docs" / "books.md").read_text("utf-8")
WORDS = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))


def test_every_table_view_and_column_is_on_the_page(books: Books) -> None:
    found = books.connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    ).fetchall()
    names = {name for (name,) in found}
    assert names
    columns = {
        column
        for name in names
        for (column,) in books.connection.execute("SELECT name FROM pragma_table_info(?)", (name,))
    }
    assert (names | columns) - WORDS == set()


def test_every_alarm_is_on_the_page() -> None:
    assert {one.value for one in [*Code, *Refusal]} - WORDS == set()


def test_example_query_runs(books: Books) -> None:
    query = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert query is not None
    assert books.connection.execute(query[1]).fetchall() == []


def test_file_says_what_it_is(books: Books) -> None:
    assert books.connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    assert books.connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert f"0x{APPLICATION:08X}" in PAGE
