"""The closed list of reasons as a table for people: ``python -m core.quality_doc`` prints it.

Relies on the list in ``quality.toml``.  The table stands in ``docs/quality.md``; a test compares.
"""

from core.quality import Reason, reasons


def table() -> str:
    """Return the reasons as a Markdown table, the worst first."""
    rows = ["| reason | what it says | value | IEC 61968-9 | rank |", "|---|---|---|---|---|"]
    ordered = sorted(reasons().values(), key=lambda reason: (-reason.rank, reason.name))
    return "\n".join([*rows, *map(_row, ordered)]) + "\n"


def _row(reason: Reason) -> str:
    code = f"{reason.code} (guessed)" if reason.guessed else reason.code
    value = "yes" if reason.carries_value else "no"
    return f"| `{reason.name}` | {reason.text} | {value} | {code} | {reason.rank} |"


if __name__ == "__main__":
    print(table(), end="")
