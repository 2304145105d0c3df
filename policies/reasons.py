"""The closed list of reasons for which a command is refused, with the codes of two standards.

The list is data (``reasons.toml``), read once.  ``python -m policies.reasons`` prints it as the table that
stands in ``docs/policy.md``; a test compares.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry of the list."""

    code: str
    text: str
    addcause: int
    """AddCause of IEC 61850-7-2."""
    response: int
    """Response status of IEEE 2030.5."""
    guessed: tuple[str, ...]
    """Which of the two is our reading, because the standard names no such case."""


@cache
def reasons() -> dict[str, Reason]:
    """Return the list by code."""
    document = tomllib.loads(resources.files("policies").joinpath("reasons.toml").read_text("utf-8"))
    return {
        entry["code"]: Reason(
            code=entry["code"],
            text=entry["text"],
            addcause=entry["addcause"],
            response=entry["response"],
            guessed=tuple(entry.get("guessed", ())),
        )
        for entry in document["reason"]
    }


def reason_of(code: str) -> Reason:
    """Return the entry of a code; a code that is not in the list is a mistake of ours."""
    return reasons()[code]


def table() -> str:
    """Return the list as a Markdown table."""
    rows = ["| code | what it says | AddCause | 2030.5 |", "|---|---|---|---|"]
    rows += [
        f"| `{one.code}` | {one.text} | {_marked(one, 'addcause')} | {_marked(one, 'response')} |"
        for one in reasons().values()
    ]
    return "\n".join(rows) + "\n"


def _marked(reason: Reason, which: str) -> str:
    number = reason.addcause if which == "addcause" else reason.response
    return f"{number} (guessed)" if which in reason.guessed else str(number)


if __name__ == "__main__":
    print(table(), end="")
