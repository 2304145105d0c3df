"""The page on the audit names every kind of entry that the agent writes, and no other."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
WRITTEN: Final = re.compile(
    r"""(?:\baudit|\baudited|noted|desk\.note|self\.note|changes\.see)\(\s*"([a-z-]+)",  # the parts
    |(?:audit_file|anew)\.append\([^"]*"([a-z-]+)", # the store
    |batch\.append\([^"]*"([a-z-]+)", # the file itself
    """,
    re.VERBOSE,
)


def written() -> set[str]:
    text = "".join(path.read_text() for path in sorted((ROOT / "agent").rglob("*.py")))
    return {kind for found in WRITTEN.findall(text) for kind in found if kind}


def test_every_kind_of_entry_is_on_the_page() -> None:
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    table = page.partition("| kind |")[2].partition("\n\n")[0]
    named = {
        kind for line in table.splitlines()[2:] for kind in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }
    assert {
        "start",
        "keys",
        "act",
        "policy",
        "decision",
        "refusal",
        "control",
        "lost",
        "dropped",
    } <= written()
    assert named == written()
